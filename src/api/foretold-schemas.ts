/**
 * What `/openapi.json` says of answers of dry runs: the shape of the call's own answer or, where
 * that has keys that only the doing gives, the same shape with those optional ("JobForetold").
 */

/** A part of an OpenAPI document, as JSON. */
type Json = { [key: string]: unknown };

interface DocumentOfCalls {
  paths?: Json;
  components?: { schemas?: Json };
}

const REF = "#/components/schemas/";

/** Changes the document. `keys`: those that only the doing gives. */
export function documentDryRuns(document: DocumentOfCalls, keys: ReadonlySet<string>): void {
  const schemas = document.components?.schemas ?? {};
  for (const calls of Object.values(document.paths ?? {}) as Json[]) {
    for (const call of Object.values(calls) as Json[]) {
      const parameters = (call["parameters"] ?? []) as { name: string }[];
      if (!parameters.some(({ name }) => name === "dryRun")) continue;
      for (const response of Object.values(call["responses"] as Json)) {
        const content = (response as { content?: Json }).content?.["application/json"];
        if (content === undefined) continue;
        const media = content as { schema: unknown };
        const foretold = foretoldOf(media.schema, keys, schemas);
        if (foretold !== media.schema) media.schema = { anyOf: [media.schema, foretold] };
      }
    }
  }
}

/** The schema itself, where a dry run leaves nothing of it out. */
function foretoldOf(schema: unknown, keys: ReadonlySet<string>, schemas: Json): unknown {
  if (Array.isArray(schema)) {
    const parts = schema.map((part) => foretoldOf(part, keys, schemas));
    return parts.some((part, index) => part !== schema[index]) ? parts : schema;
  }
  if (typeof schema !== "object" || schema === null) return schema;
  const given = schema as Json;
  const ref = given["$ref"];
  if (typeof ref === "string") {
    const name = ref.slice(REF.length);
    const foretold = foretoldOf(schemas[name], keys, schemas);
    if (foretold === schemas[name]) return schema;
    schemas[`${name}Foretold`] = foretold;
    return { $ref: `${REF}${name}Foretold` };
  }
  const entries = Object.entries(given).map(([key, value]): [string, unknown] => {
    if (key !== "required") return [key, foretoldOf(value, keys, schemas)];
    const required = (value as string[]).filter((name) => !keys.has(name));
    return [key, required.length === (value as string[]).length ? value : required];
  });
  return entries.some(([key, value]) => value !== given[key])
    ? Object.fromEntries(entries)
    : schema;
}
