/**
 * Goal: before a drive is pulled it is told what a rebuild would take and meet, and what nobody
 * could read meanwhile; from what was measured, and without changing anything.
 * Method: arrays in the simulator. Times against the virtual clock; what is said to be unreadable
 * against every row read after the member has really been failed; refusals against those of the
 * real thing; the bytes of all drives before and after.
 */
import { expect, test } from "bun:test";
import type { CommandError, FailPlan, SyncRate } from "../../../src/array/protocol.ts";
import { EIO } from "../../../src/base/errno.ts";
import type { Result } from "../../../src/base/result.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { isEqual, readImage } from "../world/media.ts";
import { areasOf } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c", "d"];
const CHUNK_BYTES = 8 * KIB;
const STRIPES = 6;
const DATA_BYTES = STRIPES * CHUNK_BYTES;
const ARRAY_BYTES = 3 * DATA_BYTES;
const SPEED = 16 * KIB;

function make(spares: readonly string[] = []): SimWorld {
  const world = new SimWorld({ seed: 12 });
  for (const name of [...NAMES, "new", "other"]) world.addDrive({ name, sizeBytes: 3 * MIB });
  const shape = { chunkBytes: CHUNK_BYTES, memberSizeBytes: DATA_BYTES };
  world.createArray({ drives: NAMES, spares, ...shape });
  world.settle();
  const bytes = new Uint8Array(ARRAY_BYTES).fill(7);
  expect(world.run(world.client().write(0, bytes))).toBe(0);
  world.settle();
  return world;
}

function setSpeed(world: SimWorld, speed: { syncSpeedMin?: number; syncSpeedMax?: number }): void {
  world.must({ kind: "set-array", array: ARRAY_NAME, ...speed });
}

function plan(world: SimWorld, drive: string): Result<FailPlan, CommandError> {
  return world.call<"check-fail">({ kind: "check-fail", array: ARRAY_NAME, drive });
}

function mustPlan(world: SimWorld, drive: string): FailPlan {
  return world.must<"check-fail">({ kind: "check-fail", array: ARRAY_NAME, drive });
}

/** Each drive's bytes are what they were. */
function expectUntouched(world: SimWorld, work: () => void): void {
  const [before, events] = [world.images(), world.status().eventCount];
  work();
  expect(world.status().eventCount).toBe(events);
  for (const [index, image] of world.images().entries()) {
    const bytes = (of: typeof image) => readImage(of, 0, 3 * MIB);
    expect(isEqual(bytes(image), bytes(before[index]!))).toBe(true);
  }
}

/** "d" is replaced by "new" while reads of member rows [from, to) of `survivor` fail. */
function rebuildOverFault(world: SimWorld, survivor: string, from: number, to: number): void {
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "d" });
  const device = world.device(survivor);
  const data = areasOf(device.image()).find(({ name }) => name === "data")!;
  device.faults.plan({
    op: Op.read,
    fault: { kind: "result", result: -EIO },
    offset: data.offset + from * ROW_BYTES,
    bytes: (to - from) * ROW_BYTES,
    count: Number.POSITIVE_INFINITY,
  });
  world.must({ kind: "add-member", array: ARRAY_NAME, drive: "new", force: false });
  world.settle();
  expect(world.status()).toMatchObject({ state: "clean", degraded: 0 });
}

/** Rows of the array that are answered with an error. */
function unreadableRows(world: SimWorld): number[] {
  const rows: number[] = [];
  for (let row = 0; row < ARRAY_BYTES / ROW_BYTES; row += 1) {
    const { status } = world.run(world.client().read(row * ROW_BYTES, ROW_BYTES));
    if (status !== 0) rows.push(row);
  }
  return rows;
}

function rowsIn({ unreadable }: FailPlan): number[] {
  return unreadable.ranges.flatMap(({ offset, bytes }) =>
    Array.from({ length: bytes / ROW_BYTES }, (_, index) => offset / ROW_BYTES + index),
  );
}

function scrub(world: SimWorld, limitBytesPerSecond: number | null = null): void {
  const start = { kind: "start-scrub", array: ARRAY_NAME, mode: "check", restart: true } as const;
  const job = world.waitJob(world.must<"start-scrub">({ ...start, limitBytesPerSecond }).id);
  expect(job.state).toBe("done");
}

function rateOf(world: SimWorld, kind: string, load: string): SyncRate | undefined {
  return world.status().syncRates.find((rate) => rate.kind === kind && rate.load === load);
}

test("forecast: nothing was measured: null; a dry run says what it knows all the same", () => {
  const world = make();
  world.simulation.runFor(1_500);
  const { forecast, syncRates } = world.status();
  expect(syncRates).toEqual([]);
  const rebuild = { idle: null, busy: null };
  const member = { rebuildBytes: DATA_BYTES, rebuild, meets: [], unreadableBytes: 0 };
  expect(forecast?.members).toEqual(NAMES.map((drive, role) => ({ role, drive, ...member })));
  expectUntouched(world, () =>
    expect(mustPlan(world, "b")).toMatchObject({
      ...{ array: ARRAY_NAME, drive: "b", role: 1, state: "degraded", degraded: 1 },
      ...{ rebuildBytes: DATA_BYTES, rebuild, meets: [], spare: null, load: "idle" },
      unreadable: { bytes: 0, ranges: [], truncated: false },
    }),
  );
});

test("forecast: a scrub that was measured: its rate, and after a rebuild that of the rebuild", () => {
  const world = make();
  setSpeed(world, { syncSpeedMax: SPEED });
  const begunMs = world.nowMs;
  scrub(world);
  const seconds = (world.nowMs - begunMs) / 1_000;
  expect(seconds).toBeGreaterThan(1);
  const byScrub = world.status().forecast!.members[1]!.rebuild;
  expect(byScrub).toMatchObject({ idle: { measuredBy: "check" }, busy: null });
  expect(Math.abs(byScrub.idle!.seconds - seconds)).toBeLessThan(1.5);
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
  world.must({ kind: "add-member", array: ARRAY_NAME, drive: "new", force: false });
  // What is left of one that is under way.
  while (world.status().sync.doneBytes < DATA_BYTES / 2) world.simulation.runFor(5);
  const { members } = world.status().forecast!;
  const left = members.map(({ rebuildBytes }) => rebuildBytes);
  expect([left[0], left[2]]).toEqual([DATA_BYTES, DATA_BYTES]);
  expect(left[1]).toBeLessThanOrEqual(DATA_BYTES / 2);
  world.settle();
  const after = world.status().forecast!.members[1]!;
  expect(after).toMatchObject({ drive: "new", rebuild: { idle: { measuredBy: "rebuild" } } });
  expect(rateOf(world, "check", "idle")).toMatchObject({ limitBytesPerSecond: SPEED });
  // It was held back: nobody knows how fast it is without that.
  setSpeed(world, { syncSpeedMax: Number.MAX_SAFE_INTEGER });
  expect(world.status().forecast!.members[1]!.rebuild.idle).toBeNull();
  setSpeed(world, { syncSpeedMax: SPEED / 4 });
  const slower = world.status().forecast!.members[1]!.rebuild.idle!;
  expect(slower).toMatchObject({ bytesPerSecond: SPEED / 4, seconds: DATA_BYTES / (SPEED / 4) });
});

test("forecast: beside clients it is measured apart, and which of the two holds now is told", () => {
  const world = make();
  setSpeed(world, { syncSpeedMin: SPEED, syncSpeedMax: 4 * SPEED });
  const start = { kind: "start-scrub", array: ARRAY_NAME, mode: "check", restart: true } as const;
  const { id } = world.must<"start-scrub">({ ...start, limitBytesPerSecond: null });
  while (world.job(id).state === "running") {
    world.run(world.client().read(0, ROW_BYTES));
    world.simulation.runFor(20);
  }
  const { forecast } = world.status();
  expect(forecast?.load).toBe("busy");
  expect(forecast?.members[0]?.rebuild).toMatchObject({
    idle: null,
    busy: { measuredBy: "check" },
  });
  const rate = rateOf(world, "check", "busy")!;
  expect(rate.limitBytesPerSecond).toBe(SPEED);
  expect(Math.abs(rate.bytesPerSecond / SPEED - 1)).toBeLessThan(0.5);
  world.simulation.runFor(1_500);
  expect(world.status().forecast?.load).toBe("idle");
});

test("forecast: a scrub that was asked to be slow measures nothing", () => {
  const world = make();
  scrub(world, SPEED);
  expect(world.status().syncRates).toEqual([]);
});

test("forecast: rates stay over a stop of the array, and come back with its introduction", () => {
  const world = make();
  setSpeed(world, { syncSpeedMax: SPEED });
  scrub(world);
  const { syncRates, uuid } = world.status();
  expect(syncRates).toHaveLength(1);
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  expect(world.status()).toMatchObject({ syncRates, forecast: null });
  const after = SimWorld.restart(world.crash("keep"), { seed: 13 });
  expect(after.status().syncRates).toEqual([]);
  const scrubs = { mismatchBytes: 0, last: null, paused: null };
  after.must({
    kind: "introduce-array",
    ...{ array: uuid, name: ARRAY_NAME, mayStart: true, tuning: { syncSpeedMax: SPEED } },
    ...{ scrub: scrubs, rates: syncRates },
  });
  const [rate] = after.status().syncRates;
  expect(rate).toEqual(syncRates[0]);
  expect(after.status().forecast?.members[0]?.rebuild.idle?.measuredBy).toBe("check");
});

test("dry run: bad blocks of others: exactly what cannot be read once the member is failed", () => {
  for (const drive of ["a", "b", "c", "new"]) {
    for (const [from, to] of [
      [1, 9],
      [0, 2 * STRIPES],
    ] as const) {
      const world = make();
      rebuildOverFault(world, "b", from, to);
      const { members } = world.status().forecast!;
      const planned = mustPlan(world, drive);
      const meets = (["b", "new"] as const)
        .filter((name) => name !== drive)
        .map((name) => ({ drive: name, bytes: (to - from) * ROW_BYTES }));
      const badBlocks = [{ offset: from * ROW_BYTES, bytes: (to - from) * ROW_BYTES }];
      const told = world.status().members.filter((member) => member.badBlocks !== undefined);
      expect(told.map((member) => member.drive).sort()).toEqual(["b", "new"]);
      for (const member of told) expect(member.badBlocks).toEqual(badBlocks);
      expect(planned.meets).toMatchObject(meets.map((met) => ({ kind: "bad-blocks", ...met })));
      const own = members.find((member) => member.drive === drive)!;
      expect([own.unreadableBytes, own.meets]).toEqual([planned.unreadable.bytes, planned.meets]);
      expect(planned.unreadable.bytes).toBe(rowsIn(planned).length * ROW_BYTES);
      world.must({ kind: "fail-member", array: ARRAY_NAME, drive });
      expect(unreadableRows(world)).toEqual(rowsIn(planned));
    }
  }
});

test("dry run: it is what the failure then makes of the array, and who takes the role", () => {
  for (const spares of [[], ["new"]]) {
    const world = make(spares);
    setSpeed(world, { syncSpeedMax: SPEED });
    const planned = mustPlan(world, "c");
    const failed = world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "c" });
    expect(failed).toMatchObject({ state: planned.state, degraded: planned.degraded });
    world.simulation.runFor(200);
    const seated = world.status().members[2]!;
    const isTaken = seated.state === "rebuilding";
    expect(planned.spare).toEqual(isTaken ? { drive: seated.drive!, from: "own" } : null);
    expect(isTaken).toBe(spares.length > 0);
    if (!isTaken) continue;
    // Who is being rebuilt may be failed: the array is what it is, and another one begins anew.
    const again = mustPlan(world, "new");
    expect(again).toMatchObject({ state: "degraded", degraded: 1, rebuildBytes: DATA_BYTES });
    expect(again.spare).toBeNull();
  }
});

test("dry run: a member that is being replaced: its target takes the role, from where it is", () => {
  const world = make(["other"]);
  setSpeed(world, { syncSpeedMax: SPEED });
  world.must({
    ...{ kind: "replace-member", array: ARRAY_NAME, drive: "b", with: "new", force: false },
  });
  while (world.status().sync.doneBytes < DATA_BYTES / 2) world.simulation.runFor(5);
  const planned = mustPlan(world, "b");
  expect(planned.spare).toEqual({ drive: "new", from: "replacement" });
  expect(planned.rebuildBytes).toBeLessThanOrEqual(DATA_BYTES / 2);
  expect(mustPlan(world, "a").spare).toEqual({ drive: "other", from: "own" });
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
  const { members, sync } = world.status();
  expect([members[1]?.drive, members[1]?.state]).toEqual(["new", "rebuilding"]);
  expect(sync.totalBytes - sync.doneBytes).toBeLessThanOrEqual(DATA_BYTES / 2);
});

test("dry run: refused where the failure is, in the same words, and nothing changes", () => {
  const world = make(["other"]);
  const compare = (drive: string, array = ARRAY_NAME): CommandError => {
    const asked = world.call<"check-fail">({ kind: "check-fail", array, drive });
    const done = world.call<"fail-member">({ kind: "fail-member", array, drive });
    expect(asked).toEqual(done as typeof asked);
    return asked.ok ? { kind: "io", code: "taken", detail: "" } : asked.error;
  };
  expect(compare("new").code).toBe("not-a-member");
  expect(compare("other").code).toBe("not-a-member");
  expect(compare("nobody").code).toBe("unknown-drive");
  expect(compare("a", "nowhere").code).toBe("unknown-array");
  setSpeed(world, { syncSpeedMax: 1 });
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "d" });
  expect(compare("d").code).toBe("not-a-member");
  const needed = world.status().forecast!.members.map(({ unreadableBytes }) => unreadableBytes);
  expect(needed).toEqual([null, null, null, 0]);
  const lost = compare("a");
  expect(lost.code).toBe("would-lose-data");
  expect(lost.detail).toContain("without it the array fails");
  expect(lost.detail).not.toContain("force");
  world.simulation.runFor(500);
  expectUntouched(world, () => expect(plan(world, "b").ok).toBe(false));
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  expect(compare("a").code).toBe("not-running");
});
