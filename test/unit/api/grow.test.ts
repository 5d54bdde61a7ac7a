/**
 * Goal: an array gets more members over HTTP and by `parityd array grow`, whatever its policy, and
 * has that policy again afterwards, also where the daemon ends at any step of it; a call that is
 * refused is a problem that says the way out, and has changed nothing.
 * Method: the real services on simulated drives; every answer by its status and values. A daemon
 * that ends is a second one over the same state and disks.
 */
import { expect, test } from "bun:test";
import type {
  ArrayStatus,
  CommandKind,
  DriveStatus,
  JobStatus,
} from "../../../src/array/protocol.ts";
import { ENXIO } from "../../../src/base/errno.ts";
import { err, ok } from "../../../src/base/result.ts";
import { MIB } from "../../../src/base/units.ts";
import { atRest } from "../../helpers/dry-run-ground.ts";
import { runCli } from "../../helpers/fake-host.ts";
import {
  addTestArray,
  memoryStore,
  type SimAppliance,
  startSimAppliance,
} from "../../helpers/sim-appliance.ts";
import { withBitmap } from "../../helpers/sim-members.ts";
import { type AnyCommand, diskAt, TEST_ARRAY, testUuid } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

const ARRAY = `/v1/arrays/${TEST_ARRAY}`;
const PATH = `${ARRAY}/grow`;
const JSON_ONLY = { Accept: "application/json" };
const NOT_PUT_BACK =
  "info: array raid_test keeps the policy resync, as was asked for meanwhile: ppl is not put back " +
  "when it has grown";
/** So slow that it is under way whenever it is looked at. */
const SLOW = { syncSpeedMin: 4096, syncSpeedMax: 4096 };

type Policy = ArrayStatus["consistencyPolicy"];

async function withArray(policy: Policy = "ppl"): Promise<SimAppliance> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  if (policy !== "ppl") await patch(daemon, { consistencyPolicy: policy });
  return daemon;
}

async function ask(answer: Promise<Response>): Promise<{ status: number; body: unknown }> {
  const response = await answer;
  return { status: response.status, body: await response.json() };
}

async function patch({ call }: SimAppliance, body: object): Promise<void> {
  expect((await call("PATCH", ARRAY, body)).status).toBe(200);
}

async function statusOf({ call }: SimAppliance): Promise<ArrayStatus> {
  return (await ask(call("GET", ARRAY))).body as ArrayStatus;
}

async function policyEvents({ call }: SimAppliance): Promise<string[]> {
  const { body } = await ask(call("GET", "/v1/events?since=0", undefined, JSON_ONLY));
  const events = body as { kind: string; severity: string; message: string }[];
  return events
    .filter(({ kind, message }) => kind === "array.policy" && message.startsWith("array "))
    .map(({ severity, message }) => `${severity}: ${message}`);
}

async function begin({ call }: SimAppliance, drives: readonly string[] = ["d"]) {
  const begun = await ask(call("POST", PATH, { drives, force: true }));
  expect([begun.status, begun.body]).toEqual([202, expect.objectContaining({ kind: "reshape" })]);
  return begun.body as JobStatus;
}

async function untilPolicy(daemon: SimAppliance, policy: Policy): Promise<void> {
  const row = () => daemon.store.state.arrays.get(testUuid(TEST_ARRAY));
  await until(`the policy is ${policy}, and on record no more`, () => {
    daemon.reactor.world.simulation.runFor(1);
    const now = daemon.reactor.array(TEST_ARRAY)?.consistencyPolicy;
    return now === policy && row()?.policyAfterGrowth === undefined;
  });
}

for (const policy of ["ppl", "bitmap", "resync"] as const) {
  test(`grow: an array of policy ${policy}: 202, its job, larger, and its policy again`, async () => {
    const daemon = await withArray(policy);
    const before = await statusOf(daemon);
    await patch(daemon, SLOW);
    const job = await begin(daemon);
    const during = await statusOf(daemon);
    expect(during).toMatchObject({ consistencyPolicy: "resync", sync: { action: "reshape" } });
    expect(during.policyAfterGrowth).toBe(policy === "resync" ? undefined : policy);
    await patch(daemon, { syncSpeedMax: 100 * MIB });
    expect(daemon.reactor.world.waitJob(job.id).state).toBe("done");
    await untilPolicy(daemon, policy);
    const after = await statusOf(daemon);
    expect(after.members.map(({ drive, state }) => `${drive} ${state}`)).toEqual([
      "a in-sync",
      "b in-sync",
      "c in-sync",
      "d in-sync",
    ]);
    expect(after.sizeBytes).toBe(before.sizeBytes * 1.5);
    expect(after.policyAfterGrowth).toBeUndefined();
    const [told, put] = await policyEvents(daemon);
    if (policy === "resync") expect(told).toBeUndefined();
    else {
      expect(told).toContain(`info: array raid_test has the policy resync while it gets more`);
      expect(put).toBe(`info: array raid_test has its policy ${policy} back`);
    }
    const scrubbed = await daemon.call("POST", `${ARRAY}/scrub`);
    const scrub = daemon.reactor.world.waitJob(((await scrubbed.json()) as JobStatus).id);
    expect(scrub).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
  });
}

test("grow: ?wait=: 200 with the job at its end", async () => {
  const daemon = await withArray();
  const asked = ask(daemon.call("POST", `${PATH}?wait=60`, { drives: ["d"], force: true }));
  const { reactor } = daemon;
  await until("it has begun", () => reactor.jobs().some(({ kind }) => kind === "reshape"));
  reactor.world.waitJob(reactor.jobs().find(({ kind }) => kind === "reshape")!.id);
  const { sizeBytes } = await statusOf(daemon);
  expect(await asked).toMatchObject({
    status: 200,
    body: { kind: "reshape", state: "done", result: { members: 4, sizeBytes } },
  });
});

test("grow: a spare of the array's own becomes a member", async () => {
  const daemon = await withArray();
  const spare = await daemon.call("POST", `${ARRAY}/members`, { drive: "d", force: true });
  expect(spare.status).toBe(201);
  const begun = await ask(daemon.call("POST", PATH, { drives: ["d"] }));
  expect(begun.status).toBe(202);
  daemon.reactor.world.waitJob((begun.body as JobStatus).id);
  await untilPolicy(daemon, "ppl");
  expect(await statusOf(daemon)).toMatchObject({ degraded: 0, spares: [] });
});

test("grow: a shared spare is one no more", async () => {
  const daemon = await withArray();
  expect((await daemon.call("PUT", "/v1/spares/d", {})).status).toBe(201);
  await begin(daemon);
  expect(daemon.store.state.spares.size).toBe(0);
});

test("grow: cancelled: refused, and it goes on", async () => {
  const daemon = await withArray();
  await patch(daemon, SLOW);
  const { id } = await begin(daemon);
  const refused = await ask(daemon.call("DELETE", `/v1/jobs/${id}`));
  expect(refused).toMatchObject({
    status: 409,
    body: {
      type: "urn:parityd:problem:reshape-goes-on",
      detail: expect.stringContaining("stop the array"),
    },
  });
  expect((await statusOf(daemon)).sync.action).toBe("reshape");
});

test("grow: a call that is refused: a problem that says the way out, and nothing changed", async () => {
  const daemon = await withArray();
  const { call, store, reactor } = daemon;
  const before = await statusOf(daemon);
  const row = store.state.arrays.get(before.uuid);
  reactor.commands.length = 0;
  for (const [body, status, code, way] of [
    [{}, 422, "bad-values", "#/drives"],
    [{ drives: [] }, 422, "bad-values", "name at least one drive"],
    [{ drives: ["d", "d"] }, 422, "bad-values", "d is named twice"],
    [{ drives: "d" }, 422, "bad-values", "#/drives"],
    [{ drives: ["d"], member: 1 }, 422, "bad-values", "member"],
    [{ drives: ["no body"] }, 422, "bad-values", "#/drives/0"],
    [{ drives: ["nobody"] }, 404, "unknown-drive", "POST /v1/drives"],
    [{ drives: ["a"], force: true }, 409, "drive-in-use", "take another one"],
    [{ drives: ["d", "a"], force: true }, 409, "drive-in-use", "take another one"],
  ] as const) {
    const refused = await ask(call("POST", PATH, body));
    expect(refused).toMatchObject({
      status,
      body: {
        type: `urn:parityd:problem:${code}`,
        detail: expect.stringContaining(way),
      },
    });
  }
  expect((await call("POST", "/v1/arrays/none/grow", { drives: ["d"] })).status).toBe(404);
  expect(await statusOf(daemon)).toEqual(before);
  expect(store.state.arrays.get(before.uuid)).toEqual(row!);
  const changing: readonly CommandKind[] = ["set-array", "add-members", "add-member"];
  const done = reactor.commands.filter((command) => {
    return changing.includes(command.kind) && !("dryRun" in command);
  });
  expect(done).toEqual([]);
  expect(await policyEvents(daemon)).toEqual([]);
});

test("grow: array grow: begun, or followed to its end; the wrong line is usage", async () => {
  const daemon = await withArray();
  const { reactor } = daemon;
  for (const line of ["array grow", `array grow ${TEST_ARRAY}`]) {
    expect((await runCli(line, { daemon })).exitCode).toBe(64);
  }
  const refused = await runCli(`array grow ${TEST_ARRAY} a`, { daemon });
  expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining("in use")]);
  await patch(daemon, SLOW);
  const begun = await runCli(`array grow ${TEST_ARRAY} d --force`, { daemon });
  expect(begun).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^reshape job \d+ has/),
  });
  const shown = await runCli(`array show ${TEST_ARRAY}`, { daemon });
  expect(shown.stdout).toContain("policy: resync (ppl when it has grown)");
  expect(shown.stdout).toMatch(/reshape: \d/);
  expect((await runCli("status", { daemon })).stdout).toMatch(/reshape: \d/);
  await patch(daemon, { syncSpeedMax: 100 * MIB });
  const job = reactor.jobs().find(({ kind }) => kind === "reshape")!;
  reactor.world.waitJob(job.id);
  const ended = await runCli(`job wait ${job.id}`, { daemon });
  expect(ended.stdout).toContain("done");
  await untilPolicy(daemon, "ppl");
});

/** A process that starts behind this one, with its disks and its state. */
function nextRun({ store, host }: SimAppliance): Promise<SimAppliance> {
  return startSimAppliance({ store, host });
}

/** As if the daemon had ended when it had recorded that, and no more. */
function record({ store }: SimAppliance, policyAfterGrowth: Policy): void {
  const array = store.state.arrays.get(testUuid(TEST_ARRAY))!;
  store.note({ kind: "put-array", array: { ...array, policyAfterGrowth } });
}

test("grow: the daemon ends in the middle: it goes on, and the policy is put back", async () => {
  const first = await withArray();
  await patch(first, SLOW);
  await begin(first);
  first.reactor.world.simulation.runFor(1_000);
  const second = await nextRun(first);
  expect((await statusOf(second)).sync.action).toBe("reshape");
  await patch(second, { syncSpeedMax: 100 * MIB });
  await untilPolicy(second, "ppl");
  const { members, sync } = await statusOf(second);
  expect([members.length, sync.action]).toEqual([4, "idle"]);
});

/** Drives in the middle of a reshape of Linux's, of an array with a bitmap; nothing is known of it. */
async function begunByLinux(): Promise<SimAppliance> {
  const first = await withArray("bitmap");
  await patch(first, SLOW);
  await begin(first);
  first.reactor.world.simulation.runFor(1_000);
  expect((await first.call("POST", `${ARRAY}/stop`)).status).toBe(200);
  const { host } = first;
  host.end();
  for (const disk of host.disks.values()) disk.content = withBitmap(host.imageOf(disk), "nothing");
  const second = await startSimAppliance({ host });
  for (const name of ["a", "b", "c", "d"]) {
    const added = await second.call("POST", "/v1/drives", { name, path: `/dev/${name}` });
    expect(added.status).toBe(201);
  }
  return second;
}

test("grow: begun by Linux, with a bitmap: that is on record, and put back", async () => {
  const daemon = await begunByLinux();
  await patch(daemon, SLOW);
  expect(await statusOf(daemon)).toMatchObject({
    ...{ consistencyPolicy: "resync", policyAfterGrowth: "bitmap", sync: { action: "reshape" } },
  });
  const next = await nextRun(daemon);
  expect(await statusOf(next)).toMatchObject({ policyAfterGrowth: "bitmap" });
  await patch(next, { syncSpeedMax: 100 * MIB });
  await untilPolicy(next, "bitmap");
  expect(await policyEvents(next)).toEqual(["info: array raid_test has its policy bitmap back"]);
  const { members, degraded } = await statusOf(next);
  expect([members.length, degraded]).toEqual([4, 0]);
});

test("grow: the daemon ends before the policy was changed: it is as it was", async () => {
  const first = await withArray();
  record(first, "ppl");
  const second = await nextRun(first);
  await untilPolicy(second, "ppl");
  expect(second.reactor.commands.filter(({ kind }) => kind === "set-array")).toEqual([]);
  expect(await policyEvents(second)).toEqual([]);
});

test("grow: the daemon ends before the reshape has begun: the policy is put back", async () => {
  const first = await withArray("resync");
  record(first, "bitmap");
  await untilPolicy(await nextRun(first), "bitmap");
});

test("grow: the policy cannot be put back: that is told, and tried again without an event", async () => {
  const daemon = await withArray();
  await begin(daemon);
  const { refusals, world } = daemon.reactor;
  refusals.set("set-array", { kind: "io", code: "policy-not-changed", detail: "no room" });
  await until("it has been tried", () => {
    world.simulation.runFor(1);
    return !refusals.has("set-array");
  });
  await untilPolicy(daemon, "ppl");
  const [, warning] = await policyEvents(daemon);
  expect(warning).toContain("ppl cannot be put back (no room)");
});

test("grow: begun in vain: the policy is put back at once", async () => {
  const daemon = await withArray();
  const refusal = { kind: "io", code: "superblock-write-failed", detail: "no" } as const;
  daemon.reactor.refusals.set("add-members", refusal);
  const refused = await ask(daemon.call("POST", PATH, { drives: ["d"], force: true }));
  expect(refused).toMatchObject({ status: 500, body: { detail: "no" } });
  const { consistencyPolicy, policyAfterGrowth, members } = await statusOf(daemon);
  expect([consistencyPolicy, policyAfterGrowth, members.length]).toEqual(["ppl", undefined, 3]);
});

async function driveStates({ call }: SimAppliance): Promise<string[]> {
  const drives = (await ask(call("GET", "/v1/drives"))).body as DriveStatus[];
  return drives.map(({ name, state }) => `${name} ${state}`);
}

/** All but what an update of the superblocks, and a policy that comes and goes, count. */
function whatIs({ eventCount: _raised, members, ...rest }: ArrayStatus) {
  return { ...rest, members: members.map(({ io: _counted, ...member }) => member) };
}

const STEPS: readonly AnyCommand[] = ["get-array", "dry add-members", "set-array", "add-members"];

test.each(STEPS)("grow: refused at %s: nothing changed", async (kind) => {
  for (const policy of ["ppl", "bitmap", "resync"] as const) {
    const daemon = await withArray(policy);
    if (kind === "set-array" && policy === "resync") continue;
    expect((await daemon.call("PUT", "/v1/spares/d", {})).status).toBe(201);
    const drives = await driveStates(daemon);
    const before = await statusOf(daemon);
    // What is asked by itself is not to meet the refusal.
    await atRest(daemon);
    daemon.reactor.refusals.set(kind, { kind: "io", code: "io", detail: "not now" });
    const refused = await ask(daemon.call("POST", PATH, { drives: ["d"] }));
    expect([policy, refused]).toMatchObject([policy, { status: 500, body: { detail: "not now" } }]);
    expect([policy, whatIs(await statusOf(daemon))]).toEqual([policy, whatIs(before)]);
    expect(await driveStates(daemon)).toEqual(drives);
    expect(daemon.store.state.spares.size).toBe(1);
  }
});

test("grow: refused when a member is lost meanwhile: what is not as it was is told", async () => {
  const daemon = await withArray();
  const { reactor, host } = daemon;
  reactor.onCommand = (command) => {
    if (command.kind !== "add-members" || command.dryRun === true) return;
    const fault = { kind: "dead", errno: ENXIO } as const;
    diskAt(host, "/dev/b").device!.faults.plan({ fault, count: Number.POSITIVE_INFINITY });
  };
  const refused = await ask(daemon.call("POST", PATH, { drives: ["d"], force: true }));
  expect(refused.status).toBe(409);
  const { detail } = refused.body as { detail: string };
  expect(detail).toContain("degraded: add a drive");
  expect(detail).toContain("ppl is put back as soon as that can be");
  expect(await driveStates(daemon)).toContain("d available");
  expect(await statusOf(daemon)).toMatchObject({ degraded: 1, spares: [] });
  const added = await ask(daemon.call("POST", `${ARRAY}/members`, { drive: "d" }));
  reactor.world.waitJob((added.body as JobStatus).id);
  await untilPolicy(daemon, "ppl");
});

test("grow: what cannot be recorded is refused, and nothing changed", async () => {
  let isFull = false;
  const full = () => err({ kind: "refused", detail: "it is full" } as const);
  const store = memoryStore({ hasRoom: () => (isFull ? full() : ok(null)) });
  const daemon = await startSimAppliance({ store });
  await addTestArray(daemon);
  isFull = true;
  const refused = await ask(daemon.call("POST", PATH, { drives: ["d"], force: true }));
  expect(refused.status).toBe(507);
  const { consistencyPolicy, members } = await statusOf(daemon);
  expect([consistencyPolicy, members.length]).toEqual(["ppl", 3]);
});

test("grow: the policy cannot be put back: told once, tried again at the next start", async () => {
  const first = await withArray("resync");
  record(first, "ppl");
  const second = await nextRun({ ...first });
  const refuse = () =>
    second.reactor.refusals.set("set-array", { kind: "io", code: "io", detail: "not now" });
  refuse();
  const told = () => policyEvents(second);
  let events: string[] = [];
  await until("it is told", async () => {
    events = await told();
    return events.length > 0;
  });
  expect(events).toEqual([expect.stringMatching(/^warning: .* keeps the policy resync .*not now/)]);
  refuse();
  const { commands } = second.reactor;
  const tries = () => commands.filter(({ kind }) => kind === "set-array").length;
  second.reactor.emit("resync.finished");
  await until("it is tried again", () => tries() === 2);
  expect(await told()).toHaveLength(1);
  await untilPolicy(await nextRun(second), "ppl");
});

test("grow: a member fails meanwhile: the policy is put back behind its rebuild", async () => {
  const daemon = await withArray();
  await patch(daemon, SLOW);
  const { id } = await begin(daemon);
  expect((await daemon.call("POST", `${ARRAY}/members/b/fail`)).status).toBe(200);
  await patch(daemon, { syncSpeedMax: 100 * MIB });
  expect(daemon.reactor.world.waitJob(id).state).toBe("done");
  await until("it is told that there is none yet", async () => {
    return (await policyEvents(daemon)).some((event) => event.startsWith("warning: "));
  });
  expect(await statusOf(daemon)).toMatchObject({ degraded: 1, policyAfterGrowth: "ppl" });
  const added = await ask(daemon.call("POST", `${ARRAY}/members`, { drive: "b" }));
  expect(added.status).toBe(202);
  daemon.reactor.world.waitJob((added.body as JobStatus).id);
  await untilPolicy(daemon, "ppl");
});

test("grow: somebody chooses a policy before it is put back: theirs holds", async () => {
  const first = await withArray("resync");
  const second = await nextRun(first);
  record(second, "ppl");
  await patch(second, { consistencyPolicy: "resync" });
  await untilPolicy(second, "resync");
  expect(await policyEvents(second)).toEqual([NOT_PUT_BACK]);
});

test("grow: resync is asked for in the middle: the later word, in the answer, and told", async () => {
  const first = await withArray();
  await patch(first, SLOW);
  const { id } = await begin(first);
  // Something else, and what is refused, leave the record alone.
  await patch(first, { syncSpeedMax: 8192 });
  expect((await first.call("PATCH", ARRAY, { consistencyPolicy: "ppl" })).status).toBe(409);
  expect((await statusOf(first)).policyAfterGrowth).toBe("ppl");
  const { body } = await ask(first.call("PATCH", ARRAY, { consistencyPolicy: "resync" }));
  expect(body).toEqual(await statusOf(first));
  expect(body).toMatchObject({ consistencyPolicy: "resync", sync: { action: "reshape" } });
  expect((body as ArrayStatus).policyAfterGrowth).toBeUndefined();
  expect((await policyEvents(first)).slice(1)).toEqual([NOT_PUT_BACK]);
  // Twice is no news.
  await patch(first, { consistencyPolicy: "resync" });
  expect(await policyEvents(first)).toHaveLength(2);
  await patch(first, { syncSpeedMax: 100 * MIB });
  expect(first.reactor.world.waitJob(id).state).toBe("done");
  const second = await nextRun(first);
  second.reactor.world.settle({ array: TEST_ARRAY });
  expect(await statusOf(second)).toMatchObject({ consistencyPolicy: "resync", degraded: 0 });
  expect(await policyEvents(second)).toHaveLength(2);
});

test("grow: a scrub that runs gives way, and goes on behind it under the old policy", async () => {
  const daemon = await withArray();
  await patch(daemon, SLOW);
  const scrub = await ask(daemon.call("POST", `${ARRAY}/scrub`));
  expect(scrub.status).toBe(202);
  const { id } = await begin(daemon);
  await patch(daemon, { syncSpeedMax: 100 * MIB });
  daemon.reactor.world.waitJob(id);
  await untilPolicy(daemon, "ppl");
  expect(daemon.reactor.world.waitJob((scrub.body as JobStatus).id).state).toBe("done");
});

test("grow: an array that cannot just now: refused, and its policy is as it was", async () => {
  const daemon = await withArray();
  const { call } = daemon;
  const growing = () => ask(call("POST", PATH, { drives: ["d"], force: true }));
  const notNow = (detail: string) => ({
    status: 409,
    body: {
      type: "urn:parityd:problem:growth-not-now",
      detail: expect.stringContaining(detail),
    },
  });
  expect((await call("POST", `${ARRAY}/members/b/fail`)).status).toBe(200);
  expect(await growing()).toMatchObject(notNow("add a drive and let it rebuild first"));
  await patch(daemon, SLOW);
  const { body } = await ask(call("POST", `${ARRAY}/members`, { drive: "b" }));
  expect(await growing()).toMatchObject(notNow("degraded"));
  await patch(daemon, { syncSpeedMax: 100 * MIB });
  daemon.reactor.world.waitJob((body as JobStatus).id);
  expect((await call("POST", `${ARRAY}/stop`)).status).toBe(200);
  const refused = await growing();
  expect(refused).toMatchObject({ status: 409, body: { type: "urn:parityd:problem:not-running" } });
  expect((await call("POST", `${ARRAY}/start`)).status).toBe(200);
  await patch(daemon, SLOW);
  await begin(daemon);
  expect(await ask(call("POST", PATH, { drives: ["d"] }))).toMatchObject(notNow("being reshaped"));
  const policy = await ask(call("PATCH", ARRAY, { consistencyPolicy: "bitmap" }));
  expect(policy).toMatchObject({ status: 409, body: { detail: expect.stringContaining("more") } });
  expect((await statusOf(daemon)).policyAfterGrowth).toBe("ppl");
});

test("grow: a drive that holds something, is too small, or one too many: refused", async () => {
  const { host, call, ...rest } = await withArray("resync");
  const daemon = { host, call, ...rest };
  for (const [name, sizeBytes] of [
    ["small", MIB],
    ...Array.from({ length: 14 }, (_, index) => [`e${index}`, 3 * MIB] as const),
  ] as const) {
    host.addDisk({ tellsId: false, sizeBytes }).path = `/dev/${name}`;
    expect((await call("POST", "/v1/drives", { name, path: `/dev/${name}` })).status).toBe(201);
  }
  diskAt(host, "/dev/d").holds = "an ext4 file system";
  const before = await statusOf(daemon);
  const many = Array.from({ length: 14 }, (_, index) => `e${index}`);
  for (const [drives, status, code, way] of [
    [["d"], 409, "drive-has-data", "with force"],
    [["e0", "small"], 422, "drive-too-small", "take a larger drive"],
    [many, 409, "no-room-to-grow", "add 13 at most"],
    [[...many, "d"], 409, "drive-has-data", "with force"],
  ] as const) {
    const refused = await ask(call("POST", PATH, { drives }));
    expect(refused).toMatchObject({
      status,
      body: { type: `urn:parityd:problem:${code}`, detail: expect.stringContaining(way) },
    });
  }
  // What it holds was seen when it was asked for.
  const candidates = before.candidates.filter((name) => name !== "d");
  expect(await statusOf(daemon)).toEqual({ ...before, candidates });
});

test("grow: the array is stopped in the middle, and started: it goes on to the old policy", async () => {
  const daemon = await withArray();
  const { call, reactor } = daemon;
  await patch(daemon, SLOW);
  const { id } = await begin(daemon);
  expect((await call("POST", `${ARRAY}/stop`)).status).toBe(200);
  expect(reactor.jobs().find((job) => job.id === id)).toMatchObject({
    state: "cancelled",
    error: expect.stringContaining("goes on when it starts"),
  });
  await patch(daemon, { syncSpeedMax: 100 * MIB });
  expect((await call("POST", `${ARRAY}/start`)).status).toBe(200);
  await untilPolicy(daemon, "ppl");
  expect((await statusOf(daemon)).members).toHaveLength(4);
});

test("grow: a schedule waits for the end of it", async () => {
  const daemon = await withArray();
  await patch(daemon, SLOW);
  await begin(daemon);
  const always = { cron: "* * * * *", windowMinutes: 1 };
  const put = await daemon.call("PUT", `/v1/schedules/${TEST_ARRAY}`, always);
  expect(await put.json()).toMatchObject({ isDue: true, waitsFor: "the end of the reshape" });
});

test("grow: by two at once, one of them its last spare: in the order of the call, and told", async () => {
  const daemon = await withArray("bitmap");
  const { host, call, reactor } = daemon;
  host.addDisk({ tellsId: false }).path = "/dev/e";
  expect((await call("POST", "/v1/drives", { name: "e", path: "/dev/e" })).status).toBe(201);
  expect((await call("POST", `${ARRAY}/members`, { drive: "d" })).status).toBe(201);
  const row = () => daemon.store.state.arrays.get(testUuid(TEST_ARRAY));
  await until("it is known to have a spare", () => row()?.hasSpare === true);
  const { sizeBytes } = await statusOf(daemon);
  reactor.world.waitJob((await begin(daemon, ["e", "d"])).id);
  await untilPolicy(daemon, "bitmap");
  const after = await statusOf(daemon);
  expect(after.members.map(({ drive }) => drive)).toEqual(["a", "b", "c", "e", "d"]);
  expect([after.sizeBytes, after.spares]).toEqual([sizeBytes * 2, []]);
  await until("it is known to have none", () => row()?.hasSpare === false);
  const scrub = (await ask(call("POST", `${ARRAY}/scrub`))).body as JobStatus;
  expect(reactor.world.waitJob(scrub.id).result["mismatchBytes"]).toBe(0);
});
