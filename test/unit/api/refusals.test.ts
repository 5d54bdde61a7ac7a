/**
 * Goal: each refusal of the API is problem+json with its status, a stable type and a way out.
 * Method: one request per kind of error over the real services on simulated drives; bad values are
 * enumerated by field.
 */
import { expect, test } from "bun:test";
import { problemResponse } from "../../../src/api/problem.ts";
import type { CommandError } from "../../../src/array/protocol.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";

interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly { pointer?: string; parameter?: string; detail: string }[];
}

async function problem(answer: Response | Promise<Response>): Promise<Problem> {
  const response = await answer;
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  const body = (await response.json()) as Problem;
  expect(body.status).toBe(response.status);
  expect(body.type).toStartWith("urn:parityd:problem:");
  expect(body.title.length).toBeGreaterThan(3);
  expect(body.detail.length).toBeGreaterThan(10);
  return body;
}

test("problem: every kind of the reactor's errors: its own status, code and detail", async () => {
  const statuses: Record<CommandError["kind"], number> = {
    "not-found": 404,
    conflict: 409,
    busy: 423,
    invalid: 422,
    unsupported: 422,
    io: 500,
    stopping: 503,
    unrecorded: 507,
    unimplemented: 501,
  };
  const { call, reactor } = await startSimAppliance();
  for (const [kind, status] of Object.entries(statuses)) {
    const detail = "do this and that instead";
    const error = { kind: kind as CommandError["kind"], code: "some-code", detail };
    reactor.refusals.set("list-arrays", error);
    const answer = await problem(call("GET", "/v1/arrays"));
    expect(answer).toMatchObject({ status, detail, type: "urn:parityd:problem:some-code" });
    expect(problemResponse(error).status).toBe(status);
  }
});

test("api: a broken escape in a URL: 400, in path and query, with and without If-Match", async () => {
  const { call } = await startSimAppliance();
  for (const bad of ["%zz", "%", "%c3%28", "%ff"]) {
    for (const [method, path] of [
      ["GET", `/v1/arrays/${bad}`],
      ["POST", `/v1/arrays/${bad}/stop`],
      ["GET", `/v1/drives/x${bad}`],
      ["GET", `/v1/events?since=${bad}`],
      ["GET", `/${bad}`],
    ] as const) {
      const answer = await problem(call(method, path, undefined, { "If-Match": "1" }));
      expect(answer).toMatchObject({ status: 400, type: "urn:parityd:problem:bad-escape" });
    }
  }
  // An escaped percent sign is one, and is taken for one only once.
  for (const name of ["%2525", "a%25zz"]) {
    const stale = call("POST", `/v1/arrays/${name}/stop`, undefined, { "If-Match": "1" });
    expect((await stale).status).toBeOneOf([404, 422]);
  }
});

test("api: a path that is not there: 404, also with a body that nobody reads", async () => {
  const { call } = await startSimAppliance();
  for (const [method, path] of [
    ["GET", "/"],
    ["GET", "/v1"],
    ["GET", "/v1/nothing"],
    ["POST", "/v1/arrays/x/scrub/nothing"],
    ["POST", "/v1/schedules/x/windows"],
    ["POST", "/v1/arrays/x/members/a/exchange"],
  ] as const) {
    const answer = await problem(call(method, path, method === "POST" ? "{" : undefined));
    expect(answer).toMatchObject({ status: 404, type: "urn:parityd:problem:no-route" });
  }
});

test("api: a method that is not offered: 405 with Allow", async () => {
  const { call } = await startSimAppliance();
  for (const [method, path, allow] of [
    ["PUT", "/v1/drives", "GET, HEAD, POST"],
    ["POST", "/v1/drives/a", "DELETE, GET, HEAD"],
    ["DELETE", "/v1/arrays", "GET, HEAD, POST"],
    ["GET", "/v1/arrays/x/stop", "POST"],
    ["POST", "/metrics", "GET, HEAD"],
    ["OPTIONS", "/v1/jobs", "GET, HEAD"],
    ["POST", "/v1/exports/e", "DELETE, PUT"],
  ] as const) {
    const response = await call(method, path);
    expect([response.status, response.headers.get("allow")]).toEqual([405, allow]);
    await problem(response);
  }
});

test("api: a body that is no JSON: 400", async () => {
  const { call } = await startSimAppliance();
  for (const text of ["{", "name=x", "\u0000", "{'a':1}"]) {
    const answer = await problem(call("POST", "/v1/drives", text));
    expect(answer).toMatchObject({ status: 400, type: "urn:parityd:problem:bad-json" });
  }
});

test("api: a body as plain curl -d sends it: 415 that names the header", async () => {
  const { app } = await startSimAppliance();
  const request = (type: string | null): Promise<Response> =>
    Promise.resolve(
      app.request(
        "/v1/drives",
        {
          method: "POST",
          body: new TextEncoder().encode('{"name":"a","path":"/dev/a"}'),
          headers: type === null ? {} : { "Content-Type": type },
        },
        { transport: "unix" },
      ),
    );
  for (const type of ["application/x-www-form-urlencoded", "text/plain", null]) {
    const answer = await problem(request(type));
    expect(answer.status).toBe(415);
    expect(answer.detail).toContain("-H 'Content-Type: application/json'");
  }
  expect((await request("application/json; charset=utf-8")).status).toBe(201);
});

test("api: a body above 64 KiB: 413, whether its length is told or not", async () => {
  const { app, call } = await startSimAppliance();
  const large = JSON.stringify({ name: "a", path: `/${"x".repeat(70_000)}` });
  expect((await problem(call("POST", "/v1/drives", large))).status).toBe(413);
  const told = { "Content-Length": "70000" };
  expect((await problem(call("POST", "/v1/drives", "{}", told))).status).toBe(413);
  const stream = new ReadableStream({
    pull: (controller) => controller.enqueue(new Uint8Array(16_384)),
  });
  const init = { method: "POST", body: stream, headers: { "Content-Type": "application/json" } };
  const answer = app.request("/v1/drives", init, { transport: "unix" });
  expect((await problem(answer)).status).toBe(413);
});

const FOUR = ["a", "b", "c", "d"];
const BAD_VALUES: readonly (readonly [
  method: string,
  path: string,
  body: object,
  pointer: string,
])[] = [
  ["POST", "/v1/drives", { path: "/dev/a" }, "#/name"],
  ["POST", "/v1/drives", { name: "", path: "/dev/a" }, "#/name"],
  ["POST", "/v1/drives", { name: "a b", path: "/dev/a" }, "#/name"],
  ["POST", "/v1/drives", { name: "..", path: "/dev/a" }, "#/name"],
  ["POST", "/v1/drives", { name: "x".repeat(65), path: "/dev/a" }, "#/name"],
  ["POST", "/v1/drives", { name: "a", path: "dev/a" }, "#/path"],
  ["POST", "/v1/drives", { name: "a", path: "/dev/a\u0000" }, "#/path"],
  ["POST", "/v1/drives", { name: "a", path: "/dev/a", direct: 1 }, "#/direct"],
  ["POST", "/v1/drives", { name: "a", path: "/dev/a", "x/y": 1 }, "#/x~1y"],
  ["POST", "/v1/arrays", { name: "x".repeat(33), drives: FOUR }, "#/name"],
  ["POST", "/v1/arrays", { name: "x", drives: ["a", "b"] }, "#/drives"],
  ["POST", "/v1/arrays", { name: "x", drives: Array.from({ length: 17 }, String) }, "#/drives"],
  ["POST", "/v1/arrays", { name: "x", drives: ["a", "b", "a"] }, "#/drives/2"],
  ["POST", "/v1/arrays", { name: "x", drives: FOUR, spares: ["e", "b"] }, "#/spares/1"],
  ["POST", "/v1/arrays", { name: "x", drives: ["a", "b", ""] }, "#/drives/2"],
  ["POST", "/v1/arrays", { name: "x", drives: FOUR, chunkKiB: 2 }, "#/chunkKiB"],
  ["POST", "/v1/arrays", { name: "x", drives: FOUR, chunkKiB: 2048 }, "#/chunkKiB"],
  ["POST", "/v1/arrays", { name: "x", drives: FOUR, chunkKiB: 96 }, "#/chunkKiB"],
  ["POST", "/v1/arrays", { name: "x", drives: FOUR, chunkKiB: "64" }, "#/chunkKiB"],
  ["POST", "/v1/arrays", { name: "x", drives: FOUR, sizeKiB: 0 }, "#/sizeKiB"],
  [
    "POST",
    "/v1/arrays",
    { name: "x", drives: FOUR, consistencyPolicy: "journal" },
    "#/consistencyPolicy",
  ],
  ["POST", "/v1/arrays/x/start", { force: "yes" }, "#/force"],
  ["PATCH", "/v1/arrays/x", { readDeadlineMs: 1 }, "#/readDeadlineMs"],
  ["PATCH", "/v1/arrays/x", { consistencyPolicy: "none" }, "#/consistencyPolicy"],
  ["PATCH", "/v1/arrays/x", { sizeKiB: 0 }, "#/sizeKiB"],
  ["PATCH", "/v1/arrays/x", { sizeKiB: "all" }, "#/sizeKiB"],
  ["PATCH", "/v1/arrays/x", { sizeKb: 1 }, "#/sizeKb"],
  ["PATCH", "/v1/arrays/x", { syncSpeedMax: 0 }, "#/syncSpeedMax"],
  ["PATCH", "/v1/arrays/x", {}, "#"],
  ["POST", "/v1/arrays/x/members", {}, "#/drive"],
  ["POST", "/v1/arrays/x/scrub", { mode: "fix" }, "#/mode"],
  ["POST", "/v1/arrays/x/scrub", { limitBytesPerSecond: 0 }, "#/limitBytesPerSecond"],
  ["PUT", "/v1/exports/e", {}, "#/array"],
  ["PUT", "/v1/exports/e", { array: "x", allow: {} }, "#/allow"],
  ["PUT", "/v1/exports/e", { array: "x", allow: [] }, "#/allow"],
  ["PUT", "/v1/exports/e", { array: "x", allow: { hosts: [] } }, "#/allow/hosts"],
  ["PUT", "/v1/exports/e", { array: "x", allow: { addresses: "::1" } }, "#/allow/addresses"],
  ...["10.0.0.0/33", "10.0.0.1/8", "nas", "", "fe80::1%eth0", "::/129"].map(
    (bad) =>
      [
        ...["PUT", "/v1/exports/e"],
        { array: "x", allow: { addresses: ["::1", bad] } },
        "#/allow/addresses/1",
      ] as [string, string, object, string],
  ),
  ...["", "a\nb", "ü", "n".repeat(256)].map(
    (bad) =>
      [
        ...["PUT", "/v1/exports/e"],
        { array: "x", allow: { certificates: [bad] } },
        "#/allow/certificates/0",
      ] as [string, string, object, string],
  ),
  ["POST", "/v1/faults", { drive: "a", op: "read", errno: "EWHAT" }, "#/errno"],
  ["POST", "/v1/faults", { drive: "a", op: "scan", errno: "EIO" }, "#/op"],
  ["POST", "/v1/faults", { drive: "a", op: "read" }, "#"],
];

for (const [method, path, body, pointer] of BAD_VALUES) {
  const text = JSON.stringify(body).slice(0, 70);
  test(`api: ${method} ${path} with ${text}: 422 that points at ${pointer}`, async () => {
    const { call } = await startSimAppliance();
    const answer = await problem(call(method, path, body));
    expect(answer.status).toBe(422);
    expect(answer.errors?.map((error) => error.pointer)).toContain(pointer);
  });
}

test("api: a maximum of 0 for work: refused everywhere, with the way out; a least of 0 is none", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const path = "/v1/arrays/raid_test";
  const { uuid } = (await (await daemon.call("GET", path)).json()) as { uuid: string };
  const none = { drives: [], arrays: [], exports: [], spares: [], schedules: [] };
  const settings = { uuid, name: "raid_test", settings: { syncSpeedMax: 0 } };
  const document = { schema: "parityd.configuration/1", ...none, arrays: [settings] };
  const schedule = { cron: "@daily", limitBytesPerSecond: 0 };
  for (const [method, at, body] of [
    ["PATCH", path, { syncSpeedMax: 0 }],
    ["PATCH", `${path}?dryRun=true`, { syncSpeedMin: 0, syncSpeedMax: 0 }],
    ["POST", `${path}/scrub`, { limitBytesPerSecond: 0 }],
    ["PUT", "/v1/schedules/raid_test", schedule],
    ["PUT", "/v1/configuration", document],
    [
      "PUT",
      "/v1/configuration",
      { ...document, arrays: [], schedules: [{ ...schedule, array: uuid }] },
    ],
  ] as const) {
    const { status, errors } = await problem(daemon.call(method, at, body));
    expect([at, status, errors?.map(({ detail }) => detail)]).toEqual([
      ...[at, 422],
      ["0 would stop the work for good: to halt it, pause or cancel its job; else a rate above 0"],
    ]);
  }
  expect((await daemon.call("PATCH", path, { syncSpeedMin: 0 })).status).toBe(200);
});

test("api: bad values of path and query: 422 that names the parameter", async () => {
  const { call } = await startSimAppliance();
  for (const [method, path, parameter] of [
    ["GET", "/v1/jobs/abc", "id"],
    ["GET", "/v1/jobs/0", "id"],
    ["GET", "/v1/jobs/1?wait=-1", "wait"],
    ["GET", "/v1/jobs/1?wait=soon", "wait"],
    ["GET", "/v1/jobs/1?wiat=1", "wiat"],
    ["DELETE", "/v1/drives/a?force=1", "force"],
    ["GET", "/v1/drives/a%20b", "name"],
    ["PUT", `/v1/exports/${"x".repeat(65)}`, "name"],
    ["GET", "/v1/events?since=now", "since"],
  ] as const) {
    const body = method === "PUT" ? { array: "x" } : undefined;
    const answer = await problem(call(method, path, body));
    expect(answer.status).toBe(422);
    expect(answer.errors?.map((error) => error.parameter)).toContain(parameter);
  }
});

test("api: If-Match: 412 with the current tag where the event count has moved on", async () => {
  const fake = await startSimAppliance();
  await addTestArray(fake);
  const { call } = fake;
  const ask = (what: "stop" | "start", tag: string): Promise<Response> =>
    call("POST", `/v1/arrays/raid_test/${what}`, undefined, { "If-Match": tag });
  const now = (): number => fake.reactor.array("raid_test")!.eventCount;
  const count = now();
  const stale = await ask("stop", `"${count - 1}"`);
  expect([stale.status, stale.headers.get("etag")]).toEqual([412, `"${count}"`]);
  await problem(stale);
  expect((await ask("stop", `"${count}"`)).status).toBe(200);
  expect((await ask("start", `"${now() + 1}", "${now()}"`)).status).toBe(200);
  expect((await ask("stop", `${now()}`)).status).toBe(200);
  expect((await ask("start", "*")).status).toBe(200);
  const headers = { "If-Match": `"${now() + 1}"` };
  const member = call("DELETE", "/v1/arrays/raid_test/members/a", undefined, headers);
  expect((await problem(member)).status).toBe(412);
  const nowhere = call("DELETE", "/v1/arrays/nowhere", undefined, headers);
  expect((await problem(nowhere)).status).toBe(404);
});

test("api: Idempotency-Key: carried out once, answered twice, not for another", async () => {
  const fake = await startSimAppliance();
  await addTestArray(fake);
  const { call, reactor } = fake;
  const key = { "Idempotency-Key": "k1" };
  const scrub = (body: object): Promise<Response> =>
    call("POST", "/v1/arrays/raid_test/scrub", body, key);
  const first = await scrub({});
  const again = await scrub({});
  for (const response of [first, again]) {
    expect([response.status, response.headers.get("location")]).toEqual([202, "/v1/jobs/1"]);
  }
  expect(await again.text()).toBe(await first.text());
  expect(reactor.jobs().length).toBe(1);
  const other = await problem(scrub({ mode: "repair" }));
  expect(other).toMatchObject({ status: 422, type: "urn:parityd:problem:key-reused" });
});

test("api: Idempotency-Key: a refusal is judged anew, one at a time", async () => {
  const fake = await startSimAppliance();
  await addTestArray(fake);
  const { call, reactor } = fake;
  const headers = { "Idempotency-Key": "k2" };
  const start = (): Promise<Response> =>
    call("POST", "/v1/arrays/raid_test/start", undefined, headers);
  reactor.refusals.set("start-array", { kind: "conflict", code: "no", detail: "not possible now" });
  expect((await start()).status).toBe(409);
  const [one, two] = await Promise.all([start(), start()]);
  expect(one?.status).toBe(200);
  expect(await problem(two!)).toMatchObject({
    status: 409,
    type: "urn:parityd:problem:key-in-use",
  });
});

test("api: a defect in a handler: 500, and the process is told of an assertion", async () => {
  const defects: unknown[] = [];
  const fake = await startSimAppliance({ onDefect: (error) => defects.push(error) });
  const { AssertionError } = await import("../../../src/base/assert.ts");
  const written: string[] = [];
  const original = console.error;
  console.error = (message: string) => written.push(message);
  try {
    fake.appliance.listArrays = () => {
      throw new AssertionError("an invariant");
    };
    expect((await problem(fake.call("GET", "/v1/arrays"))).status).toBe(500);
  } finally {
    console.error = original;
  }
  expect(defects).toHaveLength(1);
  expect(written).toEqual(["a request met a defect"]);
});
