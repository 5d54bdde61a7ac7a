/**
 * Goal: whatever is wrong with a call, it is refused as the document says, it is told what is
 * wrong, and nothing has changed.
 * Method: every operation of /openapi.json over the real services on simulated drives, with each
 * fault that its schemas allow, one at a time beside a call that is good: bodies, values at the
 * edge of their bounds, parameters, resources, methods, scopes, tokens, pages, tags. Each operation
 * has a good call of its own in GOOD; a new one without is a failure, and so is a kind of problem
 * that no call reaches.
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ApiError } from "../../../src/api/problem.ts";
import { listenUnix } from "../../../src/api/server.ts";
import type { CommandError } from "../../../src/array/protocol.ts";
import { AssertionError } from "../../../src/base/assert.ts";
import { silentLog } from "../../../src/base/log.ts";
import { err, ok } from "../../../src/base/result.ts";
import { type JsonSchema, SchemaReader, type Schemas } from "../../helpers/json-schema.ts";
import {
  addTestArray,
  memoryStore,
  type SimAppliance,
  startSimAppliance,
} from "../../helpers/sim-appliance.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const ADMIN = "admin-token-0123456789";
const READ = "read-token-0123456789";
const CHANGING = ["POST", "PUT", "PATCH", "DELETE"];
const METHODS = ["GET", ...CHANGING, "OPTIONS", "TRACE"];

interface Parameter {
  readonly in: "path" | "query";
  readonly name: string;
  readonly schema: JsonSchema;
}

interface Operation {
  readonly operationId: string;
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly Parameter[];
  /** Null: it takes no body. */
  readonly body: JsonSchema | null;
  readonly responses: Readonly<
    Record<string, { content?: Record<string, { schema: JsonSchema }> }>
  >;
}

interface Good {
  readonly params?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** What a call answers whose path names nothing; absent: 404. */
  readonly unknown?: number;
}

const ARRAY = { params: { name: "raid_test" } };
const MEMBER = { params: { name: "raid_test", drive: "a" } };

/** Of each operation one call in which nothing is wrong with the values. */
const GOOD: Readonly<Record<string, Good>> = {
  getConfiguration: {},
  putConfiguration: {
    body: {
      schema: "parityd.configuration/1",
      drives: [{ name: "a", path: "/dev/a" }],
      arrays: [{ uuid: "u", name: "x", settings: {} }],
      exports: [{ name: "e", array: "u" }],
      spares: [{ drive: "d", arrays: ["u"] }],
      // To judge a good one takes long, each time.
      schedules: [],
    },
  },
  getLog: {},
  putLog: { body: { level: "info" } },
  postDrives: { body: { name: "e", path: "/dev/e" } },
  getDrives: {},
  postDrivesScan: { body: { folders: ["/srv"] } },
  postDrivesAppeared: { body: { path: "/dev/a" } },
  postDrivesByNameLocate: { params: { name: "d" } },
  getDrivesByName: { params: { name: "d" } },
  deleteDrivesByName: { params: { name: "d" } },
  postArrays: { body: { name: "x", drives: ["a", "b", "c"], spares: ["d"] } },
  getArrays: {},
  getArraysByName: ARRAY,
  patchArraysByName: { ...ARRAY, body: { readDeadlineMs: 900 } },
  deleteArraysByName: ARRAY,
  postArraysByNameStart: ARRAY,
  postArraysByNameStop: ARRAY,
  postArraysByNameGrow: { ...ARRAY, body: { drives: ["d"] } },
  postArraysByNameMembers: { ...ARRAY, body: { drive: "d" } },
  postArraysByNameMembersByDriveReplace: { ...MEMBER, body: { with: "d" } },
  postArraysByNameMembersByDriveFail: MEMBER,
  deleteArraysByNameMembersByDrive: MEMBER,
  postArraysByNameScrub: ARRAY,
  deleteArraysByNameScrub: ARRAY,
  postArraysByNameScrubPause: ARRAY,
  postArraysByNameRehearsal: ARRAY,
  postArraysByNameRehearsalPause: ARRAY,
  getSpares: {},
  putSparesByDrive: { params: { drive: "d" }, body: { arrays: ["raid_test"] } },
  deleteSparesByDrive: { params: { drive: "d" } },
  putSchedulesByArray: { params: { array: "raid_test" }, body: { cron: "0 1 * * *" } },
  getSchedulesByArray: { params: { array: "raid_test" } },
  deleteSchedulesByArray: { params: { array: "raid_test" } },
  getSchedules: {},
  putExportsByName: {
    params: { name: "e" },
    body: { array: "raid_test", allow: { addresses: ["::1"], certificates: ["backup"] } },
    // Its name is a new one.
    unknown: 201,
  },
  deleteExportsByName: { params: { name: "e" } },
  postExportsByNameAttach: { params: { name: "e" }, body: { device: "/dev/nbd0" } },
  deleteExportsByNameAttach: { params: { name: "e" } },
  getExports: {},
  getJobs: {},
  getJobsById: { params: { id: "1" } },
  deleteJobsById: { params: { id: "1" } },
  postFaults: { body: { drive: "a", op: "read", errno: "EIO" } },
  getFaults: {},
  deleteFaults: {},
  deleteFaultsById: { params: { id: "1" } },
  getEvents: {},
  postEventsTest: {},
  getStatus: {},
};

interface Ask {
  readonly path: string;
  readonly method: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Over TCP, from an address of its own where limits count. */
  readonly tcp?: string;
}

interface Refusal {
  readonly status: number;
  readonly type: string;
  readonly pointer?: string;
  readonly parameter?: string;
}

const JSON_TYPE = { "Content-Type": "application/json" };
const OPERATIONS = await operations();

async function operations(): Promise<Operation[]> {
  const document = await documentOf(await startSimAppliance());
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, call]) => ({
      operationId: call.operationId,
      method: method.toUpperCase(),
      path,
      parameters: call.parameters ?? [],
      body: call.requestBody?.content["application/json"].schema ?? null,
      responses: call.responses,
    })),
  );
}

interface Document {
  readonly components: { readonly schemas: Schemas };
  readonly paths: Record<
    string,
    Record<
      string,
      {
        readonly operationId: string;
        readonly parameters?: readonly Parameter[];
        readonly requestBody?: { content: { "application/json": { schema: JsonSchema } } };
        readonly responses: Operation["responses"];
      }
    >
  >;
}

async function documentOf({ call }: SimAppliance): Promise<Document> {
  return (await (await call("GET", "/openapi.json")).json()) as Document;
}

/** The appliance that is asked, with all that a call may name: nothing of it may change. */
class Bench {
  readonly sim: SimAppliance;
  readonly reader: SchemaReader;
  private readonly schemas: Schemas;

  private constructor(sim: SimAppliance, schemas: Schemas) {
    this.sim = sim;
    this.schemas = schemas;
    this.reader = new SchemaReader(schemas);
  }

  static async start(): Promise<Bench> {
    const grants = { [ADMIN]: "admin", [READ]: "read" } as const;
    const sim = await startSimAppliance({
      tcpGuard: {
        grantOf: (token) =>
          token === ADMIN || token === READ ? { scope: grants[token], name: token } : null,
        hosts: [],
      },
    });
    await addTestArray(sim);
    const { schemas } = (await documentOf(sim)).components;
    const bench = new Bench(sim, schemas);
    for (const [method, path, body] of [
      ["PUT", "/v1/exports/e", { array: "raid_test" }],
      ["PUT", "/v1/schedules/raid_test", { cron: "0 0 1 1 *" }],
      ["POST", "/v1/faults", { drive: "d", op: "flush", errno: "EIO", every: 1_000_000 }],
      ["POST", "/v1/arrays/raid_test/scrub", {}],
      ["POST", "/v1/arrays/raid_test/scrub/pause", {}],
      // After the scrub, which would read it.
      ["PUT", "/v1/spares/d", {}],
    ] as const) {
      expect((await sim.call(method, path, body)).status).toBeLessThan(300);
    }
    return bench;
  }

  ask({ path, method, body, headers = {}, tcp }: Ask): Promise<Response> {
    const init = {
      method,
      headers: { ...(body === undefined ? {} : JSON_TYPE), ...headers },
      ...(body === undefined ? {} : { body }),
    };
    const caller = tcp === undefined ? { transport: "unix" } : { transport: "tcp", peer: tcp };
    return Promise.resolve(this.sim.app.request(path, init, caller));
  }

  /** Asks what has to be refused, by this operation or in front of it. */
  async refuse(ask: Ask, wanted: Refusal, operation: Operation): Promise<Response> {
    // Whatever the client would rather have: a refusal is a problem.
    const headers = { Accept: "text/html, application/json;q=0.1", ...ask.headers };
    const answer = await this.ask({ ...ask, headers });
    const text = await answer.clone().text();
    const what = `${ask.method} ${ask.path.slice(0, 120)} ${(ask.body ?? "").slice(0, 300)}: ${text}`;
    expect([what, answer.status]).toEqual([what, wanted.status]);
    expect([what, answer.headers.get("content-type")]).toEqual([what, "application/problem+json"]);
    const body = JSON.parse(text);
    expect([what, body.status, body.type]).toEqual([
      ...[what, wanted.status, `urn:parityd:problem:${wanted.type}`],
    ]);
    expect([what, body.title.length > 3, body.detail.length > 10]).toEqual([what, true, true]);
    expect([what, this.problemOf(operation, answer.status, body)]).toEqual([what, null]);
    const { pointer, parameter } = wanted;
    const found = (body.errors ?? []) as { pointer?: string; parameter?: string }[];
    if (pointer !== undefined) {
      expect([what, found.map((issue) => issue.pointer)]).toEqual([
        ...[what, expect.arrayContaining([pointer])],
      ]);
    }
    if (parameter !== undefined) {
      expect([what, found.map((issue) => issue.parameter)]).toEqual([
        ...[what, expect.arrayContaining([parameter])],
      ]);
    }
    return answer;
  }

  /** Why this is not what the document says of an answer of this status. */
  private problemOf({ responses }: Operation, status: number, body: unknown): string | null {
    const response = responses[status] ?? responses[`${Math.floor(status / 100)}XX`];
    const { schema } =
      (response ?? responses["default"])?.content?.["application/problem+json"] ?? {};
    if (schema === undefined) return `${status} is not documented`;
    return new SchemaReader(this.schemas).problemOf(schema, body);
  }

  /** All that a call could have changed. */
  async state(): Promise<object> {
    const paths = ["configuration", "arrays", "drives", "exports", "jobs", "faults", "spares"];
    const read = [...paths, "schedules", "log"].map(async (name) => {
      const answer = await this.sim.call("GET", `/v1/${name}`);
      return [name, await answer.json()] as const;
    });
    const { lastId } = this.sim.appliance.events;
    return { ...Object.fromEntries(await Promise.all(read)), lastId };
  }
}

function goodOf({ operationId }: Operation): Good {
  const good = GOOD[operationId];
  if (good === undefined) throw new Error(`GOOD has a call of ${operationId}`);
  return good;
}

/** The call of GOOD, with some of it otherwise. */
function askOf(operation: Operation, params: Readonly<Record<string, string>> = {}): Ask {
  const good = goodOf(operation);
  const values = { ...good.params, ...params };
  const path = operation.path.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(values[name] ?? ""),
  );
  const body = operation.body === null ? {} : { body: JSON.stringify(good.body ?? {}) };
  return { method: operation.method, path, ...body };
}

function isChanging({ method }: Operation): boolean {
  return CHANGING.includes(method);
}

const BAD_VALUES = { status: 422, type: "bad-values" };

/** A test of each operation that it is about; nothing may have changed behind it. */
function forEach(
  isMeant: (operation: Operation) => boolean,
  body: (bench: Bench, operation: Operation) => Promise<void>,
): () => Promise<void> {
  return async () => {
    const bench = await Bench.start();
    const meant = OPERATIONS.filter(isMeant);
    expect(meant.length).toBeGreaterThan(5);
    for (const operation of meant) {
      const before = await bench.state();
      await body(bench, operation);
      expect([operation.operationId, await bench.state()]).toEqual([operation.operationId, before]);
    }
  };
}

const hasBody = ({ body }: Operation): boolean => body !== null;

test("refusals: every operation has a good call, and in none of them a value is wrong", async () => {
  expect(Object.keys(GOOD).sort()).toEqual(OPERATIONS.map((one) => one.operationId).sort());
  for (const operation of OPERATIONS) {
    const bench = await Bench.start();
    const { body } = operation;
    if (body !== null) {
      // Or a name that is spelled wrong would be passed over.
      expect([operation.operationId, bench.reader.openObjects(body)]).toEqual([
        ...[operation.operationId, []],
      ]);
      const good = goodOf(operation).body ?? {};
      expect([operation.operationId, bench.reader.problemOf(body, good)]).toEqual([
        ...[operation.operationId, null],
      ]);
    }
    const answer = await bench.ask(askOf(operation));
    const text = operation.operationId === "getEvents" ? "" : await answer.text();
    if (operation.operationId === "getEvents") await answer.body?.cancel();
    expect([operation.operationId, text.includes("bad-values")]).toEqual([
      ...[operation.operationId, false],
    ]);
  }
});

test(
  "refusals: a body that is no JSON: 400",
  forEach(isChanging, async (bench, operation) => {
    for (const body of ["{", "name=x", '{"a":1}}', "\u0000", "{'a':1}", "\ufeff\ufeff{}"]) {
      await bench.refuse(
        { ...askOf(operation), body },
        { status: 400, type: "bad-json" },
        operation,
      );
    }
  }),
);

test(
  "refusals: a body of another media type: 415",
  forEach(isChanging, async (bench, operation) => {
    for (const type of [
      "text/plain",
      "application/x-www-form-urlencoded",
      "application/jsonp",
      "",
    ]) {
      const headers = { "Content-Type": type };
      const ask = { ...askOf(operation), body: "{}", headers };
      await bench.refuse(ask, { status: 415, type: "media-type" }, operation);
    }
  }),
);

test(
  "refusals: a body too large: 413",
  forEach(isChanging, async (bench, operation) => {
    const body = `{"x":"${"x".repeat(64 * 1024)}"}`;
    await bench.refuse(
      { ...askOf(operation), body },
      { status: 413, type: "too-large" },
      operation,
    );
  }),
);

let wrongValues = 0;
test(
  "refusals: each wrong value of a body: 422 that points at it",
  forEach(hasBody, async (bench, operation) => {
    const good = goodOf(operation).body ?? {};
    for (const { value, pointer } of bench.reader.wrongValues(operation.body!, good)) {
      wrongValues += 1;
      const ask = { ...askOf(operation), body: JSON.stringify(value) };
      await bench.refuse(ask, { ...BAD_VALUES, pointer }, operation);
    }
  }),
);

test("refusals: the wrong values were many", () => {
  expect(wrongValues).toBeGreaterThan(1_500);
});

test(
  "refusals: a query that it does not know: 422 that names it",
  forEach(
    () => true,
    async (bench, operation) => {
      for (const name of ["nosuchparameter", "constructor", "Force"]) {
        const ask = askOf(operation);
        const wanted = { ...BAD_VALUES, parameter: name };
        await bench.refuse({ ...ask, path: `${ask.path}?${name}=1` }, wanted, operation);
      }
    },
  ),
);

test(
  "refusals: each wrong value of path and query: 422 that names the parameter",
  forEach(
    ({ parameters }) => parameters.length > 0,
    async (bench, operation) => {
      for (const { in: place, name: parameter, schema } of operation.parameters) {
        for (const value of [...wrongTexts(bench.reader, schema)]) {
          // An empty part of a path is another path.
          if (place === "path" && value === "") continue;
          const text = encodeURIComponent(String(value));
          const isPath = place === "path";
          const ask = askOf(operation, isPath ? { [parameter]: String(value) } : {});
          const path = isPath ? ask.path : `${ask.path}?${parameter}=${text}`;
          await bench.refuse({ ...ask, path }, { ...BAD_VALUES, parameter }, operation);
        }
      }
    },
  ),
);

/** In a URL numbers are text, of digits alone. */
function* wrongTexts(reader: SchemaReader, schema: JsonSchema): Generator<string> {
  for (const { value } of reader.wrongValues(schema, undefined)) {
    if (typeof value !== "string" && typeof value !== "number") continue;
    const isGood = reader.problemOf(schema, String(value)) === null;
    if (!isGood) yield String(value);
  }
  if (schema.type === "integer") yield* [" 7", "7 ", "0x10", "1e1", "+7", "7.0", "٧", "Infinity"];
}

test(
  "refusals: a path that names nothing: 404",
  forEach(
    ({ path, operationId }) => path.includes("{") && GOOD[operationId]?.unknown === undefined,
    async (bench, operation) => {
      for (const { in: place, name } of operation.parameters) {
        if (place !== "path") continue;
        const isNumber = name === "id";
        for (const nobody of isNumber
          ? ["999999"]
          : ["nobody", "00000000:00000000:00000000:00000001"]) {
          if (nobody.includes(":") && !isArrayName(operation, name)) continue;
          const answer = await bench.ask(askOf(operation, { [name]: nobody }));
          const { type } = (await answer.json()) as { type: string };
          const code = type.replace("urn:parityd:problem:", "");
          const wanted = { status: 404, type: code };
          await bench.refuse(askOf(operation, { [name]: nobody }), wanted, operation);
        }
      }
    },
  ),
);

function isArrayName({ path }: Operation, parameter: string): boolean {
  return parameter === "array" || (parameter === "name" && path.startsWith("/v1/arrays/"));
}

test(
  "refusals: a method that is not offered: 405 with what is",
  forEach(
    () => true,
    async (bench, operation) => {
      const ask = askOf(operation);
      const there = OPERATIONS.filter(({ path }) => path === operation.path).map(
        ({ method }) => method,
      );
      const offered = [...there, ...(there.includes("GET") ? ["HEAD"] : [])].sort();
      for (const method of METHODS.filter((one) => !offered.includes(one))) {
        // Another route may have this very path, as /v1/drives/scan is a name of a drive.
        const hasOther = OPERATIONS.some((one) => one.method === method && matches(one, ask.path));
        if (hasOther) continue;
        const wanted = { status: 405, type: "method-not-allowed" };
        const answer = await bench.refuse({ path: ask.path, method }, wanted, operation);
        const allowed = answer.headers.get("allow")?.split(", ") ?? [];
        expect([ask.path, allowed]).toEqual([ask.path, expect.arrayContaining(offered)]);
        expect(allowed).not.toContain(method);
      }
    },
  ),
);

function matches({ path }: Operation, asked: string): boolean {
  return new RegExp(`^${path.replace(/\{\w+\}/g, "[^/]+")}$`).test(asked);
}

test("refusals: over TCP: no token, a wrong one, one that may only read, other hosts and pages", async () => {
  const bench = await Bench.start();
  const configuration = await (await bench.sim.call("GET", "/v1/configuration")).json();
  for (const [index, operation] of OPERATIONS.entries()) {
    const ask = askOf(operation);
    const over = (headers: Record<string, string>): Ask => ({
      ...{ ...ask, headers, tcp: `192.0.2.${index}` },
    });
    const unauthorized = { status: 401, type: "unauthorized" };
    for (const headers of [
      ...[{}, { Authorization: "" }, { Authorization: ADMIN }, { Authorization: `Basic ${ADMIN}` }],
      ...[{ Authorization: "Bearer wrong-token-of-mine" }, { Authorization: `Bearer ${ADMIN}x` }],
    ] as Record<string, string>[]) {
      const answer = await bench.refuse(over(headers), unauthorized, operation);
      expect(answer.headers.get("www-authenticate")).toContain("Bearer");
    }
    const reader = { Authorization: `Bearer ${READ}` };
    const admin = { Authorization: `Bearer ${ADMIN}` };
    if (!isChanging(operation)) {
      const answer = await bench.ask(over(reader));
      expect([ask.path, answer.status < 300 || answer.status === 404]).toEqual([ask.path, true]);
      await answer.body?.cancel();
      continue;
    }
    const forbidden = (type: string): Refusal => ({ status: 403, type });
    await bench.refuse(over(reader), forbidden("read-only-token"), operation);
    for (const Host of ["evil.example", "127.0.0.1.evil.example", "nas"]) {
      await bench.refuse(over({ ...admin, Host }), forbidden("unknown-host"), operation);
    }
    for (const Origin of ["http://evil.example", "http://127.0.0.1:81", "null"]) {
      const headers = { ...admin, Host: "127.0.0.1:80", Origin };
      await bench.refuse(over(headers), forbidden("foreign-origin"), operation);
    }
  }
  // Failed logins are events; nothing else has become of all these.
  expect(await (await bench.sim.call("GET", "/v1/configuration")).json()).toEqual(configuration);
});

test(
  "refusals: over the Unix socket: a call of a page of elsewhere: 403",
  forEach(isChanging, async (bench, operation) => {
    const unknownHost = { Host: "evil.example", Origin: "http://evil.example" };
    const foreign = { Host: "localhost:1", Origin: "http://evil.example" };
    const ask = askOf(operation);
    const wanted = (type: string): Refusal => ({ status: 403, type });
    await bench.refuse({ ...ask, headers: unknownHost }, wanted("unknown-host"), operation);
    await bench.refuse({ ...ask, headers: foreign }, wanted("foreign-origin"), operation);
  }),
);

test(
  "refusals: a tag of the array that is old: 412 with the one that it has",
  forEach(
    (operation) => isChanging(operation) && operation.path.startsWith("/v1/arrays/{name}"),
    async (bench, operation) => {
      for (const tag of ['"0"', '"999999"', "0", 'W/"7"', "*x", '""']) {
        const ask = { ...askOf(operation), headers: { "If-Match": tag } };
        const answer = await bench.refuse(ask, { status: 412, type: "stale" }, operation);
        const { eventCount } = bench.sim.reactor.array("raid_test")!;
        expect(answer.headers.get("etag")).toBe(`"${eventCount}"`);
      }
    },
  ),
);

test("refusals: while it stops every call that changes something: 503, to be tried again", async () => {
  const bench = await Bench.start();
  await bench.sim.appliance.shutdown();
  for (const operation of OPERATIONS.filter(isChanging)) {
    const wanted = { status: 503, type: "stopping" };
    const answer = await bench.refuse(askOf(operation), wanted, operation);
    expect(answer.headers.get("retry-after")).toBe("5");
  }
});

// Every kind of problem ---------------------------------------------------------------------------

interface Reached {
  readonly status: number;
  readonly code: string;
  ask(): Promise<Response>;
}

type Way = () => Promise<Reached>;

/** A call of the appliance with the test array. */
function byCall(
  [status, code]: readonly [number, string],
  ask: Ask,
  before: (sim: SimAppliance) => unknown = () => {},
): Way {
  return async () => {
    const bench = await Bench.start();
    await before(bench.sim);
    return { status, code, ask: () => bench.ask(ask) };
  };
}

/** As a reactor answers whose drives do so. */
function byReactor(kind: CommandError["kind"], status: number): Way {
  const error = { kind, code: "some-code", detail: "do this and that instead" };
  const list = { method: "GET", path: "/v1/arrays" };
  return byCall([status, "some-code"], list, ({ reactor }) =>
    reactor.refusals.set("list-arrays", error),
  );
}

const SCRUB: Ask = { method: "POST", path: "/v1/arrays/raid_test/scrub", body: "{}" };
const KEYED: Ask = { ...SCRUB, headers: { "Idempotency-Key": "k" } };

/** Each kind that problem.ts maps, and how a caller comes to it: the types hold it complete. */
const WAYS: Readonly<Record<ApiError["kind"], readonly Way[]>> = {
  "not-found": [byCall([404, "unknown-array"], { method: "GET", path: "/v1/arrays/nobody" })],
  conflict: [
    byCall([409, "name-in-use"], {
      ...{ method: "POST", path: "/v1/arrays" },
      body: '{"name":"raid_test","drives":["a","b","c"]}',
    }),
  ],
  busy: [byReactor("busy", 423)],
  invalid: [
    byCall([422, "no-such-drive"], {
      ...{ method: "POST", path: "/v1/drives", body: '{"name":"e","path":"/dev/nothing"}' },
    }),
  ],
  unsupported: [byReactor("unsupported", 422)],
  io: [byReactor("io", 500)],
  stopping: [
    byCall([503, "stopping"], SCRUB, ({ appliance }) => appliance.shutdown()),
    byCall([503, "not-ready"], { method: "GET", path: "/-/ready" }, ({ appliance }) =>
      appliance.shutdown(),
    ),
  ],
  unrecorded: [
    async () => {
      const full = { kind: "full", detail: "no space left" } as const;
      const store = memoryStore({
        write: () => err(full) as never,
        hasRoom: () => err(full) as never,
      });
      const sim = await startSimAppliance({ store });
      const body = { name: "a", path: "/dev/a" };
      return { status: 507, code: "not-recorded", ask: () => sim.call("POST", "/v1/drives", body) };
    },
  ],
  unimplemented: [
    byCall(
      [501, "no-nbd-driver"],
      { method: "POST", path: "/v1/exports/e/attach", body: "{}" },
      ({ call }) => call("PUT", "/v1/exports/e", { array: "raid_test" }),
    ),
  ],
  "bad-json": [byCall([400, "bad-json"], { ...SCRUB, body: "{" })],
  "no-route": [byCall([404, "no-route"], { method: "GET", path: "/v1/nothing" })],
  "method-not-allowed": [
    byCall([405, "method-not-allowed"], { method: "PUT", path: "/v1/status", body: "{}" }),
  ],
  stale: [byCall([412, "stale"], { ...SCRUB, headers: { "If-Match": '"999"' } })],
  "too-large": [byCall([413, "too-large"], { ...SCRUB, body: `"${"x".repeat(70_000)}"` })],
  "media-type": [
    byCall([415, "media-type"], { ...SCRUB, headers: { "Content-Type": "text/plain" } }),
  ],
  "bad-request": [byCall([400, "bad-escape"], { method: "GET", path: "/v1/arrays/%zz" })],
  // Only the front of HTTP sees a head that is too large.
  "head-too-large": [
    async () => {
      const { app } = await startSimAppliance();
      const path = join(makeTempDir("head"), "api.sock");
      const server = await listenUnix(app, { path, log: silentLog, claimDirectory: () => ok() });
      if (!server.ok) throw new Error(server.error);
      const headers = { "X-Long": "x".repeat(20_000) };
      const ask = async (): Promise<Response> => {
        const init = { unix: path, headers, keepalive: false } as BunFetchRequestInit;
        const answer = await fetch("http://parityd/v1/log", init);
        await server.value.close();
        return answer;
      };
      return { status: 431, code: "head-too-large", ask };
    },
  ],
  "bad-values": [byCall([422, "bad-values"], { ...SCRUB, body: '{"mode":"fix"}' })],
  unauthorized: [
    byCall([401, "unauthorized"], { method: "GET", path: "/v1/status", tcp: "192.0.2.1" }),
  ],
  "too-many-logins": [
    byCall(
      [429, "too-many-logins"],
      {
        ...{ method: "GET", path: "/v1/status", tcp: "192.0.2.1" },
        headers: { Authorization: "Bearer wrong-token-of-mine" },
      },
      async ({ app }) => {
        const headers = { Authorization: "Bearer wrong-token-of-mine" };
        const caller = { transport: "tcp", peer: "192.0.2.1" };
        for (let count = 0; count < 10; count += 1)
          await app.request("/v1/log", { headers }, caller);
      },
    ),
  ],
  forbidden: [
    byCall([403, "foreign-origin"], {
      ...SCRUB,
      headers: { Host: "localhost", Origin: "http://evil.example" },
    }),
  ],
  "key-reused": [
    byCall([422, "key-reused"], { ...KEYED, body: '{"mode":"repair"}' }, ({ call }) =>
      call("POST", SCRUB.path, {}, { "Idempotency-Key": "k" }),
    ),
  ],
  "key-in-use": [
    byCall([409, "key-in-use"], KEYED, ({ call, reactor }) => {
      reactor.isHung = true;
      void call("POST", SCRUB.path, {}, { "Idempotency-Key": "k" });
      return Bun.sleep(1);
    }),
  ],
  internal: [
    byCall([500, "internal"], { method: "GET", path: "/v1/status" }, ({ appliance }) => {
      // What nothing in the background asks for.
      appliance.nbdStats = () => {
        throw new AssertionError("an invariant");
      };
    }),
  ],
};

test("problems: every kind of the mapping is what some call is answered, with its own type", async () => {
  const reached = new Set<string>();
  const { error } = console;
  console.error = () => {};
  try {
    for (const [kind, ways] of Object.entries(WAYS)) {
      for (const way of ways) {
        const { status, code, ask } = await way();
        const answer = await ask();
        const body = await answer.json();
        expect([kind, body]).toMatchObject([
          kind,
          { status, type: `urn:parityd:problem:${code}`, title: expect.any(String) },
        ]);
        expect(answer.headers.get("content-type")).toBe("application/problem+json");
        reached.add(code);
      }
    }
  } finally {
    console.error = error;
  }
  // Codes that the mapping itself gives: read from its source, so that a new one cannot hide.
  const source = readFileSync(join(import.meta.dir, "../../../src/api/problem.ts"), "utf8");
  const own = [...source.matchAll(/code: "([a-z-]+)"/g)].map(([, code]) => code!);
  expect(own.length).toBeGreaterThan(10);
  expect(own.filter((code) => !reached.has(code))).toEqual([]);
});
