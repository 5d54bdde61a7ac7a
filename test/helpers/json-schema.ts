/**
 * The part of JSON Schema that /openapi.json uses: whether a value holds to a schema, and every
 * value that is wrong in one way beside a good one.
 */

export interface JsonSchema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly allOf?: readonly JsonSchema[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | JsonSchema;
}

export type Schemas = Readonly<Record<string, JsonSchema>>;

/** A value that is wrong in one place. */
export interface WrongValue {
  readonly what: string;
  readonly value: unknown;
  /** Where it is wrong: "#/drives/1". */
  readonly pointer: string;
}

type Json = Record<string, unknown>;

const SCALARS: readonly unknown[] = ["", "a b", "\u0000", "nonsense", -1, 0, 1, 1.5, 1e300, true];
const WRONG_CANDIDATES: readonly unknown[] = [...SCALARS, null, [], {}, "x".repeat(5_000)];
/** No property of any body; the second one is of every object. */
const UNKNOWN_KEYS = ["nosuchvalue", "constructor"];

export class SchemaReader {
  private readonly schemas: Schemas;

  /** `schemas`: the components of the document. */
  constructor(schemas: Schemas) {
    this.schemas = schemas;
  }

  resolve(schema: JsonSchema): JsonSchema {
    if (schema.$ref === undefined) return schema;
    const named = this.schemas[schema.$ref.replace("#/components/schemas/", "")];
    if (named === undefined) throw new Error(`there is no ${schema.$ref}`);
    return this.resolve(named);
  }

  /** Why the value does not hold to the schema, or null. */
  problemOf(given: JsonSchema, value: unknown, at = "#"): string | null {
    const schema = this.resolve(given);
    const { anyOf = schema.oneOf, allOf = [], type } = schema;
    if (anyOf?.every((one) => this.problemOf(one, value) !== null)) {
      return `${at} is none of the shapes`;
    }
    for (const one of allOf) {
      const problem = this.problemOf(one, value, at);
      if (problem !== null) return problem;
    }
    if (type !== undefined && ![type].flat().some((name) => isOfType(name, value))) {
      return `${at} is no ${type}`;
    }
    if (schema.enum !== undefined && !schema.enum.includes(value))
      return `${at} is not one of them`;
    if ("const" in schema && schema.const !== value) return `${at} is another value`;
    if (!isWithin(schema, value)) return `${at} is out of bounds`;
    if (Array.isArray(value)) return this.problemOfItems(schema, value, at);
    if (typeof value !== "object" || value === null) return null;
    return this.problemOfObject(schema, value as Json, at);
  }

  private problemOfItems({ items }: JsonSchema, values: unknown[], at: string): string | null {
    if (items === undefined) return null;
    for (const [index, value] of values.entries()) {
      const problem = this.problemOf(items, value, `${at}/${index}`);
      if (problem !== null) return problem;
    }
    return null;
  }

  private problemOfObject(schema: JsonSchema, value: Json, at: string): string | null {
    const { properties = {}, required = [], additionalProperties } = schema;
    for (const key of required) if (!Object.hasOwn(value, key)) return `${at}/${key} is not there`;
    for (const [key, item] of Object.entries(value)) {
      const known = Object.hasOwn(properties, key) ? properties[key] : additionalProperties;
      if (known === false) return `${at}/${key} is not known`;
      if (known === undefined || known === true) continue;
      const problem = this.problemOf(known, item, `${at}/${key}`);
      if (problem !== null) return problem;
    }
    return null;
  }

  /** Where the schema takes any property: "#/allow". */
  openObjects(given: JsonSchema, at = "#"): string[] {
    const { properties = {}, items, additionalProperties, type } = this.resolve(given);
    const isObject = [type].flat().includes("object");
    const parts = Object.entries(properties).map(([key, part]) => [part, `${at}/${key}`] as const);
    const inner = items === undefined ? parts : [...parts, [items, `${at}/0`] as const];
    const open = inner.flatMap(([part, where]) => this.openObjects(part, where));
    return isObject && additionalProperties !== false ? [at, ...open] : open;
  }

  /** All that is wrong in one place and as `good` elsewhere; `good` undefined: there is none here. */
  *wrongValues(given: JsonSchema, good: unknown, at = "#"): Generator<WrongValue> {
    const schema = this.resolve(given);
    for (const value of [...WRONG_CANDIDATES, ...beyondBounds(schema, good)]) {
      const isWrong = this.problemOf(schema, value) !== null && this.isWrongItself(schema, value);
      if (isWrong) yield { what: textOf(value), value, pointer: at };
    }
    if (schema.items !== undefined) {
      const items = Array.isArray(good) ? good : [];
      const index = Math.max(0, items.length - 1);
      for (const wrong of this.wrongValues(schema.items, items[index], `${at}/${index}`)) {
        yield { ...wrong, value: items.toSpliced(index, 1, wrong.value) };
      }
    }
    if (schema.properties !== undefined) yield* this.wrongProperties(schema, good ?? {}, at);
  }

  /** Not only by what it holds or lacks: then it is wrong further down. */
  private isWrongItself(schema: JsonSchema, value: unknown): boolean {
    const { properties: _properties, required: _required, items: _items, ...itself } = schema;
    return this.problemOf(itself, value) !== null;
  }

  private *wrongProperties(schema: JsonSchema, good: unknown, at: string): Generator<WrongValue> {
    const { properties = {}, required = [], additionalProperties } = schema;
    const object = good as Json;
    for (const key of required) {
      const { [key]: _left, ...value } = object;
      yield { what: `no ${key}`, value, pointer: `${at}/${key}` };
    }
    if (additionalProperties === false) {
      for (const key of UNKNOWN_KEYS) {
        yield { what: `with ${key}`, value: { ...object, [key]: 1 }, pointer: `${at}/${key}` };
      }
    }
    for (const [key, property] of Object.entries(properties)) {
      for (const wrong of this.wrongValues(property, object[key], `${at}/${key}`)) {
        const value = { ...object, [key]: wrong.value };
        yield { ...wrong, what: `${key}: ${wrong.what}`, value };
      }
    }
  }
}

/** Just outside of each bound. */
function* beyondBounds(schema: JsonSchema, good: unknown): Generator<unknown> {
  const { minimum, maximum, maxLength, minLength, minItems, maxItems } = schema;
  if (minimum !== undefined) yield minimum - 1;
  if (maximum !== undefined) yield maximum + 1;
  if ([schema.type].flat().includes("integer")) yield 2 ** 53;
  if (minLength !== undefined) yield "x".repeat(minLength - 1);
  if (maxLength !== undefined) yield "/".padEnd(maxLength + 1, "x");
  const [item] = Array.isArray(good) ? good : [];
  const list = (length: number): unknown[] =>
    Array.from({ length }, (_, index) => (typeof item === "string" ? `${item}${index}` : item));
  if (minItems !== undefined) yield list(minItems - 1);
  if (maxItems !== undefined) yield list(maxItems + 1);
}

function isWithin(schema: JsonSchema, value: unknown): boolean {
  const { minimum, maximum, minLength, maxLength, minItems, maxItems, pattern } = schema;
  const isBetween = (size: number, low = 0, high = Number.POSITIVE_INFINITY): boolean =>
    size >= low && size <= high;
  if (typeof value === "number") return isBetween(value, minimum ?? -Infinity, maximum);
  if (Array.isArray(value)) return isBetween(value.length, minItems, maxItems);
  if (typeof value !== "string") return true;
  return (
    isBetween(value.length, minLength, maxLength) &&
    (pattern === undefined || new RegExp(pattern).test(value))
  );
}

function isOfType(type: string, value: unknown): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "integer":
      return Number.isSafeInteger(value);
    case "array":
      return Array.isArray(value);
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    default:
      return typeof value === type;
  }
}

function textOf(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length <= 40 ? text : `${text.slice(0, 40)}... (${text.length})`;
}
