/**
 * Goal: a rehearsal over HTTP and by `parityd drill --on`: its job, its report, its exit codes; each
 * refusal is a problem that says the way out.
 * Method: the real services on simulated drives; every answer by its status and values.
 */
import { expect, test } from "bun:test";
import type { JobStatus } from "../../../src/array/protocol.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { judgeRehearsal, renderRehearsal } from "../../../src/cli/drill/rehearsal-report.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { diskAt, TEST_ARRAY } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";
import { superblockOf } from "../../sim/world/member-oracle.ts";

const JSON_ONLY = { Accept: "application/json" };
const PATH = `/v1/arrays/${TEST_ARRAY}/rehearsal`;

async function withArray({ isShared = true } = {}): Promise<SimAppliance> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  if (isShared) expect((await daemon.call("PUT", "/v1/spares/d", {})).status).toBe(201);
  return daemon;
}

async function ask(answer: Promise<Response>): Promise<{ status: number; body: unknown }> {
  const response = await answer;
  return { status: response.status, body: await response.json() };
}

/** Virtual time passes until the nth rehearsal has ended. */
async function untilEnded<T>({ reactor }: SimAppliance, asked: Promise<T>, nth = 1): Promise<T> {
  const begun = (): JobStatus[] => reactor.jobs().filter(({ kind }) => kind === "rehearsal");
  await until("the rehearsal has begun", () => begun().length === nth);
  reactor.world.waitJob(begun()[nth - 1]!.id);
  return asked;
}

/** A row of drive a's data that cannot be read: where it is. */
function spoil({ host }: SimAppliance): number {
  const { device } = diskAt(host, "/dev/a");
  if (device === null) throw new Error("the disk is plugged in");
  const superblock = superblockOf(device.image());
  if (typeof superblock === "string") throw new Error(superblock);
  const offset = superblock.dataOffsetSectors * SECTOR_BYTES + ROW_BYTES;
  device.addLatent(offset);
  return offset;
}

test("api: a rehearsal: 202 with its job, 200 at its end, and the spare that was picked", async () => {
  const daemon = await withArray();
  const { call } = daemon;
  const begun = await call("POST", PATH, { drive: "b" });
  expect(begun.status).toBe(202);
  const { id } = (await begun.json()) as JobStatus;
  expect(begun.headers.get("Location")).toBe(`/v1/jobs/${id}`);
  const ended = await untilEnded(daemon, ask(call("GET", `/v1/jobs/${id}?wait=60`)));
  const result = { verdict: "rebuilt", fails: "b", spare: "d", lostBytes: 0 };
  expect(ended).toMatchObject({ status: 200, body: { kind: "rehearsal", state: "done", result } });
  const waited = await untilEnded(daemon, ask(call("POST", `${PATH}?wait=60&strict=true`, {})), 2);
  expect(waited).toMatchObject({ status: 200, body: { result: { fails: "a", spare: "d" } } });
  const events = await ask(call("GET", "/v1/events?since=0", undefined, JSON_ONLY));
  const kinds = (events.body as { kind: string }[]).map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind.startsWith("rehearsal."))).toEqual([
    "rehearsal.started",
    "rehearsal.finished",
    "rehearsal.started",
    "rehearsal.finished",
  ]);
});

test("api: a strict rehearsal: what would have gone wrong is a problem", async () => {
  const daemon = await withArray({ isShared: false });
  const asked = ask(daemon.call("POST", `${PATH}?wait=60&strict=true`, { drive: "b" }));
  const refused = await untilEnded(daemon, asked);
  expect(refused).toMatchObject({
    status: 409,
    body: {
      type: "urn:parityd:problem:rehearsal-failed",
      detail: expect.stringContaining('ends "not-rebuilt" without drive b: array raid_test has no'),
    },
  });
});

test("api: a rehearsal that cannot be: a problem, and no job", async () => {
  const { call } = await withArray();
  for (const [body, status] of [
    [{ drive: "a b" }, 422],
    [{ member: "a" }, 422],
    [{ drive: "d" }, 404],
    [{ drive: "nobody" }, 404],
  ] as const) {
    expect((await call("POST", PATH, body)).status).toBe(status);
  }
  expect((await call("POST", `${PATH}/pause`)).status).toBe(409);
  expect((await call("POST", "/v1/arrays/none/rehearsal")).status).toBe(404);
  expect((await call("POST", `/v1/arrays/${TEST_ARRAY}/members/c/fail`)).status).toBe(200);
  expect(await ask(call("POST", PATH))).toMatchObject({
    status: 409,
    body: { detail: expect.stringContaining("degraded: add a drive") },
  });
  expect((await call("POST", `/v1/arrays/${TEST_ARRAY}/stop`)).status).toBe(200);
  expect((await call("POST", PATH)).status).toBe(409);
  const jobs = (await ask(call("GET", "/v1/jobs"))).body as JobStatus[];
  expect(jobs.filter(({ kind }) => kind === "rehearsal")).toEqual([]);
});

test("drill --on: it would go well: exit 0, and a report that says so", async () => {
  const daemon = await withArray();
  const ran = await untilEnded(daemon, runCli(`drill --on ${TEST_ARRAY} --fail c`, { daemon }));
  expect(ran.stderr).toMatch(/^rehearsal job \d+ runs: parityd job cancel \d+ ends it/);
  expect(ran.stdout).toContain("array: raid_test, without c: its role goes to d");
  expect(ran.stdout).toContain("verdict: PASS: c would have been rebuilt, and nothing lost");
  expect(ran.exitCode).toBe(0);
});

test("drill --on: a survivor has a bad sector: exit 1, with its place and the exports' bytes", async () => {
  const daemon = await withArray();
  for (const name of ["one", "two"]) {
    await daemon.call("PUT", `/v1/exports/${name}`, { array: TEST_ARRAY });
  }
  const offset = spoil(daemon);
  const asked = runCli(`drill --on ${TEST_ARRAY} --fail b --json`, { daemon });
  const ran = await untilEnded(daemon, asked);
  expect(ran.exitCode).toBe(1);
  const report = JSON.parse(ran.stdout);
  expect(report).toMatchObject({
    ...{ schema: "parityd.rehearsal/1", verdict: "FAIL", exports: ["one", "two"] },
    job: { result: { verdict: "lost", unreadableBytes: ROW_BYTES } },
  });
  const text = renderRehearsal(judgeRehearsal(report.job, report.exports));
  expect(text).toContain(`- a, byte ${offset}: 4.0 KiB`);
  expect(text).toContain("of the array, and so of one, two");
  expect(text).toContain("--mode repair");
});

test("drill --on: refused, unreachable, misused: 2, 69, 64, each with a sentence", async () => {
  const daemon = await withArray();
  const refused = await runCli(`drill --on ${TEST_ARRAY} --fail nobody`, { daemon });
  expect(refused).toMatchObject({ exitCode: 2, stdout: "" });
  expect(refused.stderr).toContain("name one of a, b, c");
  expect((await runCli(`drill --on ${TEST_ARRAY}`)).exitCode).toBe(69);
  for (const line of [
    `drill --on ${TEST_ARRAY} --size 1GiB`,
    `drill --on ${TEST_ARRAY} --dir /tmp`,
    "drill --fail a",
    "drill --run-dir /tmp/x",
    `drill --off ${TEST_ARRAY}`,
  ]) {
    expect([line, (await runCli(line, { daemon })).exitCode]).toEqual([line, 64]);
  }
});

test("drill --on: the job is cancelled: exit 2", async () => {
  const daemon = await withArray();
  const slow = { syncSpeedMin: 4096, syncSpeedMax: 4096 };
  expect((await daemon.call("PATCH", `/v1/arrays/${TEST_ARRAY}`, slow)).status).toBe(200);
  const asked = runCli(`drill --on ${TEST_ARRAY}`, { daemon });
  const { reactor } = daemon;
  await until("the rehearsal runs", () => reactor.jobs().some(({ kind }) => kind === "rehearsal"));
  const job = reactor.jobs().find(({ kind }) => kind === "rehearsal");
  expect((await daemon.call("DELETE", `/v1/jobs/${job!.id}`)).status).toBe(200);
  const ran = await asked;
  expect([ran.exitCode, ran.stderr]).toEqual([2, expect.stringContaining("cancelled")]);
});
