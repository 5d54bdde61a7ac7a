/** Ways to break what the API takes, and what it serves many clients with. */
import type { Mutation } from "./mutations.ts";

const SHARED = ["./test/unit/api/shared-answer.test.ts"];
const REFUSALS = ["./test/unit/api/every-refusal.test.ts"];

export const API_MUTATIONS: readonly Mutation[] = [
  {
    name: "json: a refusal is text all the same",
    rule: null,
    file: "src/cli/client.ts",
    find: "host.saysJson === true ? refusalText(error)",
    replace: "host.exit === undefined ? refusalText(error)",
    test: ["./test/unit/cli/json.test.ts", "-t", "refused"],
  },
  {
    name: "json: a line that cannot be read is refused as text",
    rule: null,
    file: "src/cli/run.ts",
    find: 'arguments_.includes("--json") ? withJson(host) : host',
    replace: "host",
    test: ["./test/unit/cli/json.test.ts", "-t", "refused"],
  },
  {
    name: "api: the document says that a key is required which answers leave out",
    rule: null,
    file: "src/api/may-lack.ts",
    find: "z.optional(schema) as unknown as z.ZodExactOptional<T>",
    replace: "z.exactOptional(schema)",
    test: ["./test/unit/api/openapi.test.ts"],
  },
  {
    name: "api: a query that a call does not know is overlooked",
    rule: null,
    file: "src/api/route.ts",
    find: "query: spec.query ?? z.strictObject({}),",
    replace: "query: spec.query ?? z.object({}),",
    test: REFUSALS,
  },
  {
    name: "api: a number in a URL that is none is taken for one",
    rule: null,
    file: "src/api/schemas.ts",
    find: "(/^\\d{1,16}$/.test(String(text)) ? Number(text) : text)",
    replace: "Number(text)",
    test: REFUSALS,
  },
  {
    name: "api: a stale tag is overlooked below an array",
    rule: null,
    file: "src/api/app.ts",
    find: 'if (given === undefined || name === "") return null;',
    replace: 'if (given === undefined || context.req.path.split("/").length > 4) return null;',
    test: REFUSALS,
  },
  {
    name: "api: an unknown value beside an array is overlooked",
    rule: null,
    file: "src/api/schemas.ts",
    find: "export const addMemberBody = z.strictObject({",
    replace: "export const addMemberBody = z.object({",
    test: REFUSALS,
  },
  {
    name: "api: a page of elsewhere may call over the Unix socket",
    rule: null,
    file: "src/api/app.ts",
    find: "MUTATING.has(method) ? refuseForeignPage(context.req.raw, []) : null",
    replace: 'method === "POST" ? refuseForeignPage(context.req.raw, []) : null',
    test: REFUSALS,
  },
  {
    name: "api: who asks for the status beside one that is made gets that one",
    rule: null,
    file: "src/api/shared-answer.ts",
    find: "    this.next = null;\n    const beganMs = this.alarms.nowMs();\n    const made = this.make();\n",
    replace:
      "    const beganMs = this.alarms.nowMs();\n    const made = this.make().finally(() => {\n      this.next = null;\n    });\n",
    test: SHARED,
  },
  {
    name: "api: a status is made for each who asks",
    rule: null,
    file: "src/api/shared-answer.ts",
    find: "    this.next ??= this.begin();\n",
    replace: "    this.next = this.begin();\n",
    test: SHARED,
  },
  {
    name: "api: nothing rests between two statuses",
    rule: null,
    file: "src/api/shared-answer.ts",
    find: "if (leftMs > 0) await sleep(this.alarms, leftMs);",
    replace: "void leftMs;",
    test: SHARED,
  },
  {
    name: "api: a thousand clients have no places",
    rule: null,
    file: "src/api/connection-budget.ts",
    find: "short: 2_048, long: 512,",
    replace: "short: 48, long: 48,",
    test: ["./test/unit/api/connection-budget.test.ts"],
  },
  {
    name: "api: work may be held at 0 for ever",
    rule: null,
    file: "src/api/schemas.ts",
    find: '1,\n    "0 would stop the work for good',
    replace: '0,\n    "0 would stop the work for good',
    test: ["./test/unit/api/refusals.test.ts", "-t", "a maximum of 0"],
  },
];
