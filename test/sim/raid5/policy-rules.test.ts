/**
 * Goal: the write rules of the consistency policies, each as the shortest story in which breaking
 * it loses data.
 * Method: three drives in the simulator, chunks of one row; the power is cut at a chosen point, the
 * array starts again, and its parity is checked.
 *
 *   stripe 0   a: chunk 0   b: chunk 1   c: parity
 *   stripe 1   a: chunk 3   b: parity    c: chunk 2
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { EIO, ENXIO } from "../../../src/base/errno.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { DeviceTrace } from "../world/device-trace.ts";
import { withFineBitmap } from "../world/fine-bitmap.ts";
import { blankImage, type DeviceImage, patchImage } from "../world/media.ts";
import { areasOf, parityMismatches, viewMembers } from "../world/member-oracle.ts";
import type { SimClient } from "../world/sim-clients.ts";
import type { CrashPolicy } from "../world/sim-device.ts";
import type { FaultPlan } from "../world/sim-faults.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const DRIVES = ["a", "b", "c"];
const STRIPES = 8;

function make(
  consistencyPolicy: ConsistencyPolicy,
  trace = new DeviceTrace(),
  hasCache = true,
): SimWorld {
  const world = new SimWorld({ seed: 1 });
  for (const name of DRIVES) world.addDrive({ name, sizeBytes: 4 * MIB });
  const memberSizeBytes = STRIPES * ROW_BYTES;
  world.createArray({ drives: DRIVES, chunkBytes: 4 * KIB, memberSizeBytes, consistencyPolicy });
  world.settle();
  // The clean mark is durable.
  world.simulation.runFor(1000);
  // A bit of the bitmap stands for one stripe.
  const images = world.images().map((image) => withFineBitmap(image));
  const again = SimWorld.restart(images, { seed: 2, trace, hasCache: () => hasCache });
  again.settle();
  return again;
}

/** What lies on it is no superblock, and its parity does not hold with that of the others. */
function noisyImage(name: string): DeviceImage {
  const noise = new Uint8Array(2 * MIB).fill(name.charCodeAt(0));
  return patchImage(blankImage({ name, sizeBytes: 4 * MIB }), MIB, noise);
}

function write(client: SimClient, chunk: number, fill: number): Promise<number> {
  return client.write(chunk * ROW_BYTES, new Uint8Array(ROW_BYTES).fill(fill));
}

function writeAll(world: SimWorld, writes: readonly (readonly [chunk: number, fill: number])[]) {
  const client = world.client();
  for (const [chunk, fill] of writes) {
    expect(world.run(write(client, chunk, fill))).toBe(0);
    expect(world.run(client.flush())).toBe(0);
  }
}

/** Requests of this kind in an area of a drive are answered like this from now on. */
function disturb(
  world: SimWorld,
  drive: string,
  areaName: string,
  plan: Omit<FaultPlan, "offset">,
) {
  const { faults } = world.device(drive);
  const { offset, bytes } = areasOf(world.device(drive).image()).find(
    ({ name }) => name === areaName,
  )!;
  faults.plan({ offset, bytes, ...plan });
}

const GONE = { kind: "result", result: -ENXIO } as const;

/** A write that is durable on each member that has completed it. */
function writeThrough(world: SimWorld, offset: number, bytes: number): Promise<number> {
  return world.client().write(offset, new Uint8Array(bytes).fill(9), { fua: true });
}

/** Starts from what the drives hold after a cut: parity is right, and the chunks hold this. */
function expectAfterCut(
  world: SimWorld,
  chunks: readonly number[],
  policyOf: (name: string) => CrashPolicy = () => "keep",
): void {
  const after = SimWorld.restart(world.crash(policyOf), { seed: 3 });
  after.startArrays();
  expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
  expectHolds(after, chunks);
}

function expectHolds(world: SimWorld, chunks: readonly number[]): void {
  expect(world.check()).toBe(0);
  const read = world.run(world.client().read(0, chunks.length * ROW_BYTES));
  expect(read.status).toBe(0);
  expect(chunks.map((_, chunk) => read.data[chunk * ROW_BYTES])).toEqual([...chunks]);
}

function fail(world: SimWorld, drive: string): void {
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive });
  world.simulation.runFor(1000);
}

function addAndSettle(world: SimWorld, drive: string): void {
  world.must({ kind: "add-member", array: ARRAY_NAME, drive, force: true });
  expect(world.settle()).toMatchObject({ state: "clean", degraded: 0 });
}

test("rule 5: a start: no unit of the run before it is replayed behind a new one", () => {
  const world = make("ppl");
  // Two units one behind the other in the log of "c", whose first unit after the start takes the
  // place of the first; and one in each other log.
  writeAll(world, [
    [2, 5],
    [4, 6],
    [0, 1],
    [0, 2],
  ]);
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  world.startArray();
  writeAll(world, [[1, 3]]);
  expectAfterCut(world, [2, 3, 5]);
});

test("rule 5: a member with an old log is added again: no unit of that is replayed", () => {
  const world = make("ppl");
  writeAll(world, [
    [1, 1],
    [0, 2],
  ]);
  fail(world, "c");
  writeAll(world, [[1, 3]]);
  addAndSettle(world, "c");
  writeAll(world, [[2, 4]]); // Parity is on b, whose log is another.
  expectAfterCut(world, [2, 3, 4]);
});

test("rule 5: a change back to the log: no unit from before is replayed", () => {
  const world = make("ppl");
  writeAll(world, [
    [0, 1],
    [0, 2],
  ]);
  const change = { kind: "set-array", array: ARRAY_NAME } as const;
  world.must<"set-array">({ ...change, consistencyPolicy: "resync" });
  writeAll(world, [[1, 3]]);
  world.must<"set-array">({ ...change, consistencyPolicy: "ppl" });
  writeAll(world, [[2, 4]]);
  expectAfterCut(world, [2, 3, 4]);
});

test("rule 6: a dirty array whose first resync goes on: it goes on after a cut too", () => {
  const world = new SimWorld({ seed: 1 });
  for (const name of DRIVES) world.plug(noisyImage(name));
  for (const name of DRIVES) world.attach(name);
  const memberSizeBytes = 100 * ROW_BYTES;
  const shape = { chunkBytes: 4 * KIB, memberSizeBytes, consistencyPolicy: "ppl" } as const;
  world.createArray({ drives: DRIVES, ...shape, force: true });
  const slowly = { syncSpeedMax: 4 * KIB, syncSpeedMin: 4 * KIB };
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...slowly });
  writeAll(world, [[0, 1]]);
  expect(world.status().sync.action).toBe("resync");
  expectAfterCut(world, [1]);
});

test("rule 1: a small write under a bit that is needed: its parity is right at once", () => {
  const drives = ["a", "b", "c", "d", "e"];
  const world = new SimWorld({ seed: 1 });
  for (const name of drives) world.addDrive({ name, sizeBytes: 4 * MIB });
  const stripes = 200;
  const shape = { chunkBytes: 4 * KIB, memberSizeBytes: stripes * ROW_BYTES };
  world.createArray({ drives, ...shape, consistencyPolicy: "bitmap" });
  world.settle();
  const images = world.images().map((image) => withFineBitmap(image));
  const torn = SimWorld.restart(images, { seed: 2 });
  torn.settle();
  const client = torn.client();
  // Their parity is lost in the cut, a fifth of it on "a".
  const writes = Array.from({ length: stripes }, (_, stripe) => write(client, stripe * 4 + 1, 7));
  torn.run(Promise.all(writes));
  const after = SimWorld.restart(
    torn.crash((name) => (name === "a" ? "drop" : "keep")),
    { seed: 3 },
  );
  // Parity of the last but one of each five stripes is on "b": the last on "a".
  const stripe = stripes - 1;
  const wrongBefore = parityMismatches(viewMembers(after.images()));
  expect(wrongBefore).toContain(stripe * ROW_BYTES);
  expect(after.run(write(after.client(), stripe * 4 + 2, 8))).toBe(0);
  expect(after.status().sync.action).toBe("resync");
  const wrong = parityMismatches(viewMembers(after.images()));
  expect(wrong).not.toContain(stripe * ROW_BYTES);
  expect(wrong.length).toBeGreaterThan(0);
});

test("rule 7: bits of a write that nobody flushed: cleared after a flush of every member", () => {
  const world = make("bitmap");
  const client = world.client();
  writeAll(world, [[1, 1]]);
  expect(world.run(write(client, 0, 2))).toBe(0);
  // Others go on, so that the array does not become clean; the first bit rests long enough.
  for (let turn = 0; turn < 250; turn += 1) {
    expect(world.run(write(client, 10, turn & 127))).toBe(0);
    world.simulation.runFor(100);
  }
  const images = world.crash((name) => (name === "a" ? "drop" : "keep"));
  const after = SimWorld.restart(images, { seed: 3 });
  expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
  expect(after.check()).toBe(0);
});

test("rule 8: parity is cured: with an entry, or an older unit would undo that", () => {
  const world = make("ppl");
  // The last unit of c's log: chunk 0, with what chunk 1 is now.
  writeAll(world, [
    [1, 1],
    [0, 2],
  ]);
  // Neither chunk 0 nor parity can be read for a while: chunk 1 is written without either.
  const { offset } = areasOf(world.device("a").image()).find(({ name }) => name === "data")!;
  for (const name of ["a", "c"]) {
    const fault = { kind: "result", result: -EIO } as const;
    world.device(name).faults.plan({ op: Op.read, offset, bytes: ROW_BYTES, fault, count: 1000 });
  }
  writeAll(world, [[1, 3]]);
  for (const name of ["a", "c"]) world.device(name).faults.quiet();
  const scrub = { kind: "start-scrub", array: ARRAY_NAME, mode: "repair", restart: true } as const;
  world.waitJob(world.must<"start-scrub">({ ...scrub, limitBytesPerSecond: null }).id);
  writeAll(world, [[2, 4]]);
  expectAfterCut(world, [2, 3, 4]);
});

/** Rows of data that were written to a drive since event `from`. */
function rowsWritten(world: SimWorld, trace: DeviceTrace, drive: string, from: number): number[] {
  const { offset, bytes } = areasOf(world.device(drive).image()).find(
    ({ name }) => name === "data",
  )!;
  const rows = new Set<number>();
  for (const each of trace.events.slice(from)) {
    if (each.kind !== "device" || each.device !== DRIVES.indexOf(drive)) continue;
    const { event } = each;
    if (event.kind !== "submit" || event.offset < offset) continue;
    if (event.offset < offset + bytes) rows.add((event.offset - offset) / ROW_BYTES);
  }
  return [...rows].sort((one, other) => one - other);
}

for (const isRestarted of [false, true]) {
  const when = isRestarted ? ", after a stop and a start" : "";
  test(`re-add under a bitmap${when}: only what was written since is rebuilt`, () => {
    const trace = new DeviceTrace();
    const world = make("bitmap", trace);
    writeAll(world, [
      [0, 1],
      [1, 2],
    ]);
    // The bits of these are cleared.
    world.simulation.runFor(60_000);
    fail(world, "c");
    writeAll(world, [[2, 3]]);
    if (isRestarted) {
      world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
      expect(world.startArray().ok).toBe(true);
    }
    const from = trace.events.length;
    addAndSettle(world, "c");
    expect(rowsWritten(world, trace, "c", from)).toEqual([1]);
    expectHolds(world, [1, 2, 3]);
  });
}

/**
 * A drive without a volatile cache fails once, and the others are slow to take that down: the power
 * is cut, what was not durable is gone, and the drive comes back as current. Chunks 0 and 1 hold
 * `wanted`.
 */
function expectUnrecordedLoss(
  fails: { readonly drive: string; readonly area: string },
  work: (world: SimWorld) => void,
  wanted: readonly (number | readonly number[])[],
): void {
  const world = make("ppl", new DeviceTrace(), false);
  writeAll(world, [
    [0, 1],
    [1, 2],
  ]);
  disturb(world, fails.drive, fails.area, { fault: GONE, op: Op.write });
  for (const name of DRIVES) {
    disturb(world, name, "superblock", { fault: { kind: "slow", delayMs: 50 }, op: Op.write });
  }
  work(world);
  world.simulation.runFor(20);
  expect(world.events.at(-1)?.kind).toBe("array.degraded");
  const after = SimWorld.restart(world.crash("drop"), { seed: 3 });
  after.startArrays();
  expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
  expect(after.check()).toBe(0);
  const read = after.run(after.client().read(0, 2 * ROW_BYTES));
  expect(read.status).toBe(0);
  for (const [chunk, may] of wanted.entries()) {
    expect([may].flat()).toContain(read.data[chunk * ROW_BYTES]!);
  }
}

test("ppl: the log's member fails and comes back: nothing was written without log and record", () => {
  const work = (world: SimWorld) => void writeThrough(world, 0, ROW_BYTES);
  expectUnrecordedLoss({ drive: "c", area: "ppl" }, work, [1, 2]);
});

test("ppl: a data member fails between two units and comes back: the second waited", () => {
  // The last sector of chunk 0 and the first of chunk 1: one unit after the other.
  const work = (world: SimWorld) => {
    void writeThrough(world, ROW_BYTES - 512, 1024);
  };
  expectUnrecordedLoss({ drive: "a", area: "data" }, work, [1, [2, 9]]);
});

test("ppl: the log's member fails beside a bad sector and comes back: that chunk is as it was", () => {
  const world = make("ppl");
  const bad = { fault: { kind: "result", result: -EIO }, op: Op.write, count: 100 } as const;
  disturb(world, "b", "data", bad);
  writeAll(world, [
    [0, 1],
    [1, 2],
  ]);
  disturb(world, "c", "ppl", { fault: GONE, op: Op.write });
  for (const name of DRIVES) {
    disturb(world, name, "superblock", { fault: { kind: "slow", delayMs: 50 }, op: Op.write });
  }
  void writeThrough(world, 0, ROW_BYTES);
  world.simulation.runFor(20);
  expect(world.events.at(-1)?.kind).toBe("array.degraded");
  const after = SimWorld.restart(world.crash("drop"), { seed: 3 });
  after.startArrays();
  expect(after.status().degraded).toBe(0);
  const read = after.run(after.client().read(ROW_BYTES, ROW_BYTES));
  expect([read.status, read.data[0]]).toEqual([0, 2]);
});

for (const how of ["written", "zeroed"] as const) {
  test(`bitmap: a member fails and comes back: no stripe that it has no bit for was ${how}`, () => {
    const world = make("bitmap");
    writeAll(world, [
      [6, 2],
      [7, 3],
    ]);
    // Only the bit of stripe 0 is set.
    world.simulation.runFor(60_000);
    writeAll(world, [[0, 1]]);
    disturb(world, "a", "data", { fault: GONE, op: Op.write });
    for (const name of DRIVES) {
      disturb(world, name, "superblock", { fault: { kind: "slow", delayMs: 50 }, op: Op.write });
    }
    void write(world.client(), 0, 9);
    world.simulation.runFor(5);
    expect(world.events.at(-1)?.kind).toBe("array.degraded");
    const stripe = { offset: 6 * ROW_BYTES, bytes: 2 * ROW_BYTES };
    if (how === "written") void writeThrough(world, stripe.offset, ROW_BYTES);
    else void world.client().zero(stripe.offset, stripe.bytes, { fua: true, noHole: true });
    world.simulation.runFor(20);
    const after = SimWorld.restart(world.crash("drop"), { seed: 3 });
    after.startArrays();
    expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
    expect(after.check()).toBe(0);
  });
}

test("rule 15: the array fails while a write waits for its bit: it is refused, and waits no more", () => {
  const world = make("bitmap");
  // No bit is set but that of one stripe; and the array is marked dirty.
  world.simulation.runFor(60_000);
  writeAll(world, [[0, 1]]);
  const fault = { kind: "slow", delayMs: 20 } as const;
  for (const name of DRIVES) disturb(world, name, "bitmap", { fault, op: Op.write });
  const client = world.client();
  // The second comes when the block with the bit of the first is on its way.
  const first = write(client, 2, 2);
  world.simulation.runFor(5);
  const second = write(client, 8, 3);
  world.simulation.runFor(1);
  for (const name of ["b", "c"]) world.device(name).vanish("keep");
  expect(world.run(Promise.all([first, second]))).toEqual([EIO, EIO]);
});

test("rule 19: bits were cleared without a member: it comes back and is rebuilt as a whole", () => {
  const trace = new DeviceTrace();
  const world = make("bitmap", trace);
  writeAll(world, [
    [0, 1],
    [2, 2],
  ]);
  // As a spare it has a number of its own; with that of "c" it would be told apart by that.
  world.addDrive({ name: "d", sizeBytes: 4 * MIB });
  world.must({ kind: "add-member", array: ARRAY_NAME, drive: "d", force: false });
  fail(world, "c");
  expect(world.settle()).toMatchObject({ state: "clean", degraded: 0 });
  writeAll(world, [
    [2, 3],
    [1, 4],
  ]);
  world.simulation.runFor(60_000);
  fail(world, "d");
  const from = trace.events.length;
  addAndSettle(world, "c");
  expect(rowsWritten(world, trace, "c", from)).toHaveLength(STRIPES);
  expectHolds(world, [1, 4, 3]);
});
