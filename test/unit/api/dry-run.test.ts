/**
 * Goal: a dry run of each call that changes something tells what the call would answer, and does
 * nothing; and there is no such call without one.
 * Method: the calls are those of /openapi.json. In each situation of a table, on the real services
 * and simulated drives, a dry run is held against all that there is (rows of state.db, events, each
 * byte of each drive, what the API shows, what the reactor carried out), then against the answer
 * of the call itself.
 */
import { expect, test } from "bun:test";
import { ARRAY_SITUATIONS } from "../../helpers/dry-run-arrays.ts";
import { atRest, carriedOut, sameBody, snapshot } from "../../helpers/dry-run-ground.ts";
import { OTHER_SITUATIONS } from "../../helpers/dry-run-situations.ts";
import { ARRAY, type Situation, withArray } from "../../helpers/dry-run-steps.ts";
import { startSimAppliance } from "../../helpers/sim-appliance.ts";

const SITUATIONS = { ...ARRAY_SITUATIONS, ...OTHER_SITUATIONS };

/** The calls of the API that change something: "POST /v1/drives". */
async function changingCalls(): Promise<Map<string, { query: string[]; summary: string }>> {
  const { call } = await startSimAppliance();
  const { paths } = (await (await call("GET", "/openapi.json")).json()) as {
    paths: Record<string, Record<string, { parameters?: { name: string }[]; summary: string }>>;
  };
  const calls = new Map<string, { query: string[]; summary: string }>();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, { parameters = [], summary }] of Object.entries(methods)) {
      if (method === "get") continue;
      const query = parameters.map(({ name }) => name);
      calls.set(`${method.toUpperCase()} ${path}`, { query, summary });
    }
  }
  return calls;
}

test("dry run: each call of /openapi.json that changes something has one, and situations here", async () => {
  const calls = await changingCalls();
  expect(calls.size).toBeGreaterThan(30);
  for (const [call, { query, summary }] of calls) {
    expect([call, query]).toEqual([call, expect.arrayContaining(["dryRun"])]);
    expect(summary).toContain("?dryRun=true");
  }
  expect(Object.keys(SITUATIONS).sort()).toEqual([...calls.keys()].sort());
});

for (const [operation, situations] of Object.entries(SITUATIONS)) {
  for (const situation of situations) {
    test(`dry run: ${operation}: ${situation.name}`, () => judge(operation, situation));
  }
}

test("dry run: an Idempotency-Key is not looked at, and not kept", async () => {
  const daemon = await withArray()();
  const stop = (query: string) => {
    return daemon.call("POST", `${ARRAY}/stop${query}`, {}, { "Idempotency-Key": "one" });
  };
  for (const query of ["?dryRun=true", "?dryRun=true"])
    expect((await stop(query)).status).toBe(200);
  expect(daemon.store.state.answers.size).toBe(0);
  expect((await stop("")).status).toBe(200);
  expect(daemon.reactor.arrays()).toMatchObject([{ state: "inactive" }]);
  // The call itself would be answered from what was kept; this one is judged.
  expect((await stop("?dryRun=true")).status).toBe(409);
});

test("dry run: said in the body of a scan: the same, and no event", async () => {
  const daemon = await withArray()();
  const events = daemon.store.state.lastEventId;
  const scan = await daemon.call("POST", "/v1/drives/scan", { dryRun: true });
  expect(scan.headers.get("parityd-dry-run")).toBe("true");
  expect(daemon.store.state.lastEventId).toBe(events);
});

test("dry run: a value that is none, and one of a call that reads: 422, and nothing is done", async () => {
  const daemon = await withArray()();
  for (const [method, path] of [
    ["POST", `${ARRAY}/stop?dryRun=yes`],
    ["POST", `${ARRAY}/stop?dryRun=true&dryRun=false`],
    ["DELETE", `${ARRAY}?dryrun=true`],
    ["GET", `${ARRAY}?dryRun=true`],
  ] as const) {
    expect([path, (await daemon.call(method, path)).status]).toEqual([path, 422]);
  }
  expect(daemon.reactor.arrays()).toMatchObject([{ state: "clean" }]);
});

async function judge(operation: string, situation: Situation): Promise<void> {
  const daemon = await situation.make();
  await atRest(daemon);
  const [method = ""] = operation.split(" ");
  const { path, code, same = sameBody } = situation;
  const body = situation.bodyOf?.(daemon) ?? situation.body;
  const send = async (query: string) => {
    const mark = path.includes("?") ? "&" : "?";
    const response = await daemon.call(method, query === "" ? path : path + mark + query, body);
    const text = await response.text();
    const { status, headers } = response;
    return { status, headers, body: text === "" ? null : JSON.parse(text) };
  };
  const before = await snapshot(daemon);
  const first = daemon.reactor.commands.length;
  const dry = await send("dryRun=true");
  const sent = carriedOut(daemon, first);
  expect(await snapshot(daemon)).toEqual(before);
  expect(sent).toEqual([]);
  expect(dry.headers.get("parityd-dry-run")).toBe("true");
  const real = await send("");
  expect(real.headers.get("parityd-dry-run")).toBeNull();
  expect([dry.status, dry.body?.type ?? null]).toEqual([real.status, real.body?.type ?? null]);
  if (code === undefined) expect(real.status).toBeLessThan(300);
  else expect(real.body.type).toBe(`urn:parityd:problem:${code}`);
  if (real.body !== null) same(dry.body, real.body);
}
