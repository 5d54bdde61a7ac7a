/**
 * Goal: shared spares over HTTP and on the command line: put, listed, taken, withdrawn; each
 * refusal is a problem that says the way out, and changes nothing.
 * Method: the real services on simulated drives; every answer by its status and values.
 */
import { expect, test } from "bun:test";
import type { ArrayStatus } from "../../../src/array/protocol.ts";
import { renderSpares } from "../../../src/cli/status-text.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { TEST_ARRAY } from "../../helpers/sim-reactor.ts";

async function withArray(): Promise<SimAppliance> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  return daemon;
}

async function ask(answer: Promise<Response>): Promise<{ status: number; body: unknown }> {
  const response = await answer;
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
}

const SHARED = { drive: "d", arrays: null, fits: [TEST_ARRAY], state: "ready", readAt: null };

test("api: a spare is put: 201, 200 the same again, listed, and 204 when it is withdrawn", async () => {
  const { call } = await withArray();
  expect(await ask(call("GET", "/v1/spares"))).toEqual({ status: 200, body: [] });
  for (const status of [201, 200]) {
    const put = await ask(call("PUT", "/v1/spares/d", {}));
    expect(put).toMatchObject({ status, body: SHARED });
  }
  expect(await ask(call("GET", "/v1/spares"))).toMatchObject({ status: 200, body: [SHARED] });
  expect((await ask(call("GET", "/v1/arrays/raid_test"))).body).toMatchObject({
    spares: [],
    sharedSpares: ["d"],
  });
  expect((await ask(call("GET", "/v1/drives/d"))).body).toMatchObject({ state: "spare" });
  const metrics = await (await call("GET", "/metrics")).text();
  expect(metrics).toContain('parityd_spares{state="ready"} 1');
  expect(metrics).toContain(`parityd_array_spares{array="${TEST_ARRAY}"} 1`);
  expect((await ask(call("DELETE", "/v1/spares/d"))).status).toBe(204);
  expect(await ask(call("DELETE", "/v1/spares/d"))).toMatchObject({ status: 404 });
  expect((await ask(call("GET", "/v1/drives/d"))).body).toMatchObject({ state: "available" });
});

test("api: bad values of a spare: 422 that points at them, and nothing is shared", async () => {
  const { call } = await withArray();
  for (const [body, pointer] of [
    [{ arrays: [] }, "#/arrays"],
    [{ arrays: ["a/b"] }, "#/arrays/0"],
    [{ arrays: "tank" }, "#/arrays"],
    [{ allocate: 1 }, "#/allocate"],
    [{ array: "tank" }, "#/array"],
  ] as const) {
    const answer = await ask(call("PUT", "/v1/spares/d", body));
    expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer }] } });
  }
  expect((await ask(call("PUT", "/v1/spares/a%20b", {}))).status).toBe(422);
  expect((await ask(call("GET", "/v1/spares"))).body).toEqual([]);
});

test("api: a drive that is in use: 409 by its kind, for other arrays than before too", async () => {
  const { call } = await withArray();
  await ask(call("PUT", "/v1/spares/d", { arrays: [TEST_ARRAY] }));
  for (const [drive, code] of [
    ["a", "drive-in-use"],
    ["d", "spare-exists"],
  ] as const) {
    const answer = await ask(call("PUT", `/v1/spares/${drive}`, {}));
    expect(answer).toMatchObject({ status: 409, body: { type: `urn:parityd:problem:${code}` } });
  }
  expect((await ask(call("GET", "/v1/spares"))).body).toMatchObject([{ arrays: [TEST_ARRAY] }]);
});

test("spare: add, list, remove on the command line; a refusal is the API's own sentence", async () => {
  const daemon = await withArray();
  const added = await runCli(`spare add d --array ${TEST_ARRAY}`, { daemon });
  expect(added).toMatchObject({
    exitCode: 0,
    stdout: `d is a shared spare for ${TEST_ARRAY}; large enough for ${TEST_ARRAY}`,
  });
  const listed = await runCli("spare list", { daemon });
  expect(listed.stdout).toMatch(/drive\s+for\s+fits\s+state\s+size\s+read/);
  expect(listed.stdout).toMatch(/d\s+raid_test\s+raid_test\s+ready\s+3\.0 MiB\s+-/);
  const [first] = JSON.parse((await runCli("spare list --json", { daemon })).stdout).spares;
  expect(first).toMatchObject({ drive: "d", arrays: [TEST_ARRAY] });
  const status = await runCli("status", { daemon });
  expect(status.stdout).toContain(
    "  spare: d (shared, for raid_test) is ready; large enough for raid_test",
  );
  expect(JSON.parse((await runCli("status --json", { daemon })).stdout).spares).toHaveLength(1);
  const refused = await runCli("spare add a", { daemon });
  expect([refused.exitCode, refused.stderr]).toEqual([
    1,
    expect.stringContaining("is a member of"),
  ]);
  expect((await runCli("spare remove d", { daemon })).exitCode).toBe(0);
  expect((await runCli("spare remove d", { daemon })).exitCode).toBe(1);
  expect((await runCli("spare add", { daemon })).exitCode).toBe(64);
});

test("a member fails: the spare is rebuilt onto, and the job is listed", async () => {
  const daemon = await withArray();
  const { call } = daemon;
  const taken = Promise.withResolvers<void>();
  daemon.appliance.events.subscribe(({ kind }) => {
    if (kind === "spare.taken") taken.resolve();
  });
  await ask(call("PUT", "/v1/spares/d", {}));
  await ask(call("POST", "/v1/arrays/raid_test/members/b/fail"));
  await taken.promise;
  daemon.reactor.world.settle({ array: TEST_ARRAY });
  const array = (await ask(call("GET", "/v1/arrays/raid_test"))).body as ArrayStatus;
  expect(array.members.map(({ drive }) => drive)).toEqual(["a", "d", "c"]);
  expect(array.degraded).toBe(0);
  expect((await ask(call("GET", "/v1/spares"))).body).toEqual([]);
  const jobs = (await ask(call("GET", "/v1/jobs"))).body as { kind: string; state: string }[];
  const [job] = jobs;
  expect(job).toMatchObject({ kind: "rebuild", state: "done" });
});

test("status: a shared spare in each state, with what to do where no array can take it", () => {
  const spare = { ...SHARED, sizeBytes: 1 };
  const lines = renderSpares([
    { ...spare, state: "ready", fits: [] },
    { ...spare, drive: "e", arrays: ["x", "y"], state: "seating", fits: ["x"] },
    { ...spare, drive: "f", state: "missing", detail: "ENOENT", fits: [] },
    { ...spare, drive: "g", state: "foreign", detail: "it holds data", fits: [] },
    { ...spare, drive: "h", state: "failed", detail: "EIO", fits: [] },
  ]);
  expect(lines).toEqual([
    "  spare: d (shared, for all arrays) is ready",
    "  spare: e (shared, for x, y) is seating; large enough for x",
    "  spare: f (shared, for all arrays) is missing",
    "  spare: g (shared, for all arrays) is foreign",
    "  spare: h (shared, for all arrays) is failed",
    " status: no array can take the shared spare f: ENOENT.",
    " action: connect it, or share it no more: parityd spare remove f",
    " status: no array can take the shared spare g: it holds data.",
    " action: share it no more: parityd spare remove g",
    " status: no array can take the shared spare h: EIO.",
    " action: share it no more: parityd spare remove h",
  ]);
});
