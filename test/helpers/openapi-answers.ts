/**
 * Holds answers of the API against /openapi.json, with a validator of JSON Schema that is not ours.
 */
import Ajv2020, { type ValidateFunction } from "@redocly/ajv/dist/2020.js";
import type { ApiApp } from "../../src/api/route.ts";

interface Content {
  readonly schema: object;
}

type Responses = Record<string, { readonly content?: Record<string, Content> }>;

interface Described {
  readonly paths: Record<string, Record<string, { readonly responses: Responses }>>;
  readonly components: object;
}

interface Call {
  readonly matches: RegExp;
  readonly method: string;
  readonly path: string;
  readonly responses: Responses;
}

const ajv = new Ajv2020({ strict: false, allErrors: true });
const compiled = new Map<string, ValidateFunction>();
let calls: Promise<Call[]> | null = null;

/** Throws where the answer is not what the document says; the answer can still be read. */
export async function judgeAnswer(
  app: ApiApp,
  { method, path, answer }: { method: string; path: string; answer: Response },
): Promise<void> {
  const type = answer.headers.get("content-type") ?? "";
  if (type !== "application/json" && type !== "application/problem+json") return;
  calls ??= describe(app);
  const asked = new URL(path, "http://parityd").pathname;
  const call = (await calls).find((one) => one.method === method && one.matches.test(asked));
  // What stands in front of the calls: no such path, no such method.
  if (call === undefined) return;
  const { responses } = call;
  const status = String(answer.status);
  const key = status in responses ? status : status.startsWith("4") ? "4XX" : "default";
  const what = `${method} ${call.path} ${key}`;
  const content = responses[key]?.content?.[type];
  if (content === undefined) throw new Error(`${what}: /openapi.json tells of no ${type}`);
  let validate = compiled.get(`${what} ${type}`);
  if (validate === undefined) {
    validate = ajv.compile(pointed(content.schema));
    compiled.set(`${what} ${type}`, validate);
  }
  const text = await answer.clone().text();
  if (validate(JSON.parse(text))) return;
  throw new Error(
    `${what}: not as /openapi.json says: ${ajv.errorsText(validate.errors)}: ${text}`,
  );
}

async function describe(app: ApiApp): Promise<Call[]> {
  const answer = await app.request("/openapi.json", {}, { transport: "unix" });
  const { paths, components } = (await answer.json()) as Described;
  ajv.addSchema({ $id: "http://parityd/openapi.json", components });
  const found = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { responses }]) => ({
      matches: new RegExp(`^${path.replace(/\{\w+\}/g, "[^/]+")}$`),
      ...{ method: method.toUpperCase(), path, responses },
    })),
  );
  // /v1/drives/scan is no name of a drive.
  const names = (path: string): number => path.split("{").length;
  return found.sort((one, other) => names(one.path) - names(other.path));
}

/** Its references lead into the document. */
function pointed(schema: object): object {
  return JSON.parse(
    JSON.stringify(schema).replaceAll('"$ref":"#/', '"$ref":"http://parityd/openapi.json#/'),
  ) as object;
}
