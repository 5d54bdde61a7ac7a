/**
 * Goal: a member that does not answer costs its deadline once, and not with each read (write-rules
 * 14): reads and scrubs go around it while it is probed, and it is used again when it answers.
 * Where another member is missing nothing goes around: then all wait, and go on with it.
 *
 * Method: an array in virtual time, one member of which answers nothing for a while; what the
 * clients wait for in all is measured, and everything that they read is looked at.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy, MemberStatus } from "../../../src/array/protocol.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c", "d"];
const HUNG = "b";
const STRIPES = 24;
/** Of a sweep (array/sync/sweep.ts). */
const LANES_MAX = 64;
const CHUNK_BYTES = 8 * KIB;
const ROWS = (STRIPES * 3 * CHUNK_BYTES) / ROW_BYTES;
const READ_DEADLINE_MS = 2000;
/** The watch looks every half second; and the reads themselves. */
const SLACK_MS = 3000;

function make(policy: ConsistencyPolicy = "resync", stripes = STRIPES): SimWorld {
  const world = new SimWorld({ seed: 1, latency: { minMs: 0.1, tailMs: 0 } });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  const shape = { chunkBytes: CHUNK_BYTES, memberSizeBytes: stripes * CHUNK_BYTES };
  world.createArray({ drives: NAMES, ...shape, consistencyPolicy: policy });
  world.must<"set-array">({
    ...{ kind: "set-array", array: ARRAY_NAME },
    ...{ readDeadlineMs: READ_DEADLINE_MS, writeDeadlineMs: 60_000 },
  });
  world.settle();
  for (let row = 0; row < ROWS; row += 1) write(world, row, byteOf(row));
  // Until the bitmap has rested: a write to it that hangs would cost the member.
  world.simulation.runFor(60_000);
  return world;
}

function byteOf(row: number): number {
  return (row % 251) + 1;
}

function write(world: SimWorld, row: number, byte: number): void {
  const data = new Uint8Array(ROW_BYTES).fill(byte);
  expect(world.run(world.client().write(row * ROW_BYTES, data))).toBe(0);
}

function readRow(world: SimWorld, row: number): void {
  const { status, data } = world.run(world.client().read(row * ROW_BYTES, ROW_BYTES));
  expect([row, status, data.every((byte) => byte === byteOf(row))]).toEqual([row, 0, true]);
}

/** One client, one read after the other; how long all of them took. */
function readAll(world: SimWorld, count: number): number {
  const startMs = world.nowMs;
  for (let turn = 0; turn < count; turn += 1) readRow(world, (turn * 7) % ROWS);
  return world.nowMs - startMs;
}

function memberOf(world: SimWorld, name: string): MemberStatus {
  return world.status().members.find(({ drive }) => drive === name)!;
}

for (const policy of POLICIES) {
  test(`rule 14: ${policy}: 1,000 reads by one client beside a hung member: two deadlines in all`, () => {
    const world = make(policy);
    world.device(HUNG).hang();
    expect(readAll(world, 1000)).toBeLessThan(2 * READ_DEADLINE_MS + SLACK_MS);
    expect(world.status()).toMatchObject({ degraded: 0, state: "clean" });
    world.device(HUNG).checkBuffers();
    expect(world.device(HUNG).outstandingCount).toBeLessThan(8);
  });

  test(`rule 14: ${policy}: it answers again: it is read from again`, () => {
    const world = make(policy);
    world.device(HUNG).hang();
    readAll(world, 100);
    const before = memberOf(world, HUNG).io.reads;
    world.device(HUNG).release();
    world.simulation.runFor(3 * READ_DEADLINE_MS + SLACK_MS);
    readAll(world, 100);
    expect(memberOf(world, HUNG).io.reads).toBeGreaterThan(before + 20);
    expect(world.events.some(({ message }) => message.includes("answers again"))).toBe(true);
    expect(world.check()).toBe(0);
  });
}

test("rule 14: it hangs for hours: what is outstanding on it stays bounded, and it comes back", () => {
  const world = make();
  world.device(HUNG).hang();
  readAll(world, 50);
  for (let hour = 0; hour < 3; hour += 1) {
    world.simulation.runFor(3_600_000);
    readRow(world, hour);
  }
  expect(world.device(HUNG).outstandingCount).toBeLessThan(24);
  world.device(HUNG).release();
  world.simulation.runFor(10_000);
  expect(readAll(world, 100)).toBeLessThan(1000);
  expect(world.device(HUNG).outstandingCount).toBe(0);
});

test("rule 14: one late answer between good ones: nothing goes around", () => {
  const world = make();
  for (let turn = 0; turn < 4; turn += 1) {
    world.device(HUNG).faults.plan({ op: Op.read, fault: { kind: "slow", delayMs: 5000 } });
    readAll(world, 60);
  }
  expect(world.events.filter(({ message }) => message.includes("go around"))).toEqual([]);
});

test("rule 14: it answers every read, but late: it stays out of the way", () => {
  const world = make();
  const fault = { kind: "slow", delayMs: 3000 } as const;
  world.device(HUNG).faults.plan({ op: Op.read, fault, count: Number.POSITIVE_INFINITY });
  expect(readAll(world, 300)).toBeLessThan(2 * READ_DEADLINE_MS + SLACK_MS);
  world.simulation.runFor(60_000);
  expect(readAll(world, 300)).toBeLessThan(SLACK_MS);
});

test("rule 14: reads of a stripe in which a write waits for the hung member: beside it", () => {
  const world = make();
  const hang = { fault: { kind: "hang" }, count: Number.POSITIVE_INFINITY } as const;
  world.device(HUNG).faults.plan({ ...hang, op: Op.read });
  readAll(world, 50);
  // Not its superblock: the array is marked dirty, and the data do not come down.
  world.device(HUNG).faults.plan({ ...hang, op: Op.write, offset: MIB, bytes: MIB });
  const written = world.client().write(0, new Uint8Array(6 * ROW_BYTES).fill(7));
  world.simulation.runFor(200);
  const startMs = world.nowMs;
  const { status, data } = world.run(world.client().read(0, 6 * ROW_BYTES));
  expect([status, data.every((byte) => byte === 7)]).toEqual([0, true]);
  expect(world.nowMs - startMs).toBeLessThan(1000);
  world.device(HUNG).faults.quiet();
  world.device(HUNG).release();
  expect(world.run(written)).toBe(0);
  world.simulation.runFor(10_000);
  expect(world.check()).toBe(0);
});

test("rule 14: writes that only read from the hung member: they do not wait for it", () => {
  const world = make();
  const fault = { kind: "hang" } as const;
  world.device(HUNG).faults.plan({ op: Op.read, fault, count: Number.POSITIVE_INFINITY });
  readAll(world, 50);
  const startMs = world.nowMs;
  // One row, two chunks, parts of rows: every strategy, with b in every part.
  for (let row = 0; row < ROWS; row += 1) write(world, row, byteOf(row));
  for (let row = 0; row + 4 < ROWS; row += 3) {
    const bytes = new Uint8Array(3 * ROW_BYTES + 1024);
    for (let at = 0; at < bytes.length; at += 512) {
      bytes.fill(byteOf(row + Math.floor((at + 512) / ROW_BYTES)), at, at + 512);
    }
    expect(world.run(world.client().write(row * ROW_BYTES + 512, bytes))).toBe(0);
  }
  expect(world.nowMs - startMs).toBeLessThan(2000);
  readAll(world, ROWS);
  expect(world.status().degraded).toBe(0);
  world.device(HUNG).faults.quiet();
  world.device(HUNG).release();
  world.simulation.runFor(10_000);
  readAll(world, ROWS);
  expect(world.check()).toBe(0);
});

test("rule 14: a scrub beside a hung member: it goes past it, and says that it did", () => {
  const world = make();
  world.device(HUNG).hang();
  const scrub = { kind: "start-scrub", array: ARRAY_NAME, restart: true } as const;
  const start = { ...scrub, mode: "check", limitBytesPerSecond: null } as const;
  const startMs = world.nowMs;
  const job = world.waitJob(world.must<"start-scrub">(start).id);
  expect(world.nowMs - startMs).toBeLessThan(2 * READ_DEADLINE_MS + SLACK_MS);
  expect([job.state, job.result["uncheckedBytes"]]).toEqual(["failed", STRIPES * CHUNK_BYTES]);
  expect(job.error).toMatch(/did not answer.*passed over: run it again/);
  expect(world.status()).toMatchObject({ degraded: 0, lastScrub: null });
  world.device(HUNG).release();
  world.simulation.runFor(3 * READ_DEADLINE_MS + SLACK_MS);
  expect(world.check()).toBe(0);
});

test("rule 10: a repair meets one late answer: nobody else uses its buffer", () => {
  for (let skip = 0; skip < 2; skip += 1) {
    const world = make("resync", 3 * LANES_MAX);
    const device = world.device(HUNG);
    device.faults.plan({ op: Op.read, fault: { kind: "hang" }, skip });
    const scrub = { kind: "start-scrub", array: ARRAY_NAME, restart: true } as const;
    // Each stripe takes a while, so that every lane of the sweep gets some.
    const slow = { kind: "slow", delayMs: 20 } as const;
    const { faults } = world.device("a");
    faults.plan({ op: Op.read, fault: slow, count: Number.POSITIVE_INFINITY });
    const setSpeed = (syncSpeedMax: number) =>
      world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax });
    setSpeed(40 * CHUNK_BYTES);
    const repair = { ...scrub, mode: "repair", limitBytesPerSecond: null } as const;
    const { id } = world.must<"start-scrub">(repair);
    // Given up in the middle, and there is enough left to do.
    world.simulation.runFor(READ_DEADLINE_MS + 1000);
    setSpeed(Number.MAX_SAFE_INTEGER);
    while (world.job(id).state === "running") {
      world.simulation.runFor(100);
      device.checkBuffers();
    }
    faults.quiet();
    const { state, result } = world.job(id);
    expect([state, result["uncheckedBytes"], result["mismatchBytes"]]).toEqual([
      "failed",
      CHUNK_BYTES,
      0,
    ]);
    device.release();
    world.simulation.runFor(100);
    expect(world.check()).toBe(0);
  }
});

test("rule 14: a rebuild whose source hangs: it waits, nobody fails, and it goes on", () => {
  const world = make();
  world.must<"detach-drive">({ kind: "detach-drive", name: "d", force: true });
  world.addDrive({ name: "e", sizeBytes: 4 * MIB });
  const speed = { syncSpeedMax: 64 * KIB, syncSpeedMin: 64 * KIB };
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...speed });
  world.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive: "e", force: false });
  world.simulation.runFor(1000);
  world.device(HUNG).hang();
  world.simulation.runFor(60_000);
  expect(world.status().sync.action).toBe("rebuild");
  expect(world.events.some(({ kind }) => kind === "rebuild.aborted")).toBe(false);
  world.device(HUNG).release();
  expect(world.settle()).toMatchObject({ degraded: 0, state: "clean" });
  readAll(world, ROWS);
  expect(world.check()).toBe(0);
});

test("rule 14: a member fails while reads go around another: they wait for that one, no EIO", () => {
  for (let wait = 0; wait < 20; wait += 1) {
    const world = make();
    world.device(HUNG).hang();
    readAll(world, 50);
    const reads = Array.from({ length: 24 }, (_, row) =>
      world.client().read(row * ROW_BYTES, ROW_BYTES),
    );
    world.simulation.runFor(0.05 * wait);
    world.device("a").vanish("keep");
    world.simulation.runFor(20_000);
    world.device(HUNG).release();
    for (const [row, { status, data }] of world.run(Promise.all(reads)).entries()) {
      expect([wait, row, status, data[0]]).toEqual([wait, row, 0, byteOf(row)]);
    }
  }
});

for (const policy of POLICIES) {
  test(`rule 14: ${policy}: a member fails while writes that go around another wait for it: no EIO`, () => {
    const world = make(policy);
    const slow = world.device(HUNG);
    const hang = { fault: { kind: "hang" }, count: Number.POSITIVE_INFINITY } as const;
    slow.faults.plan({ op: Op.read, ...hang });
    readAll(world, 50);
    // The array is marked dirty, and those that follow get further.
    write(world, 0, byteOf(0));
    // Also to its log, for which writes wait that have read all that they need.
    world.device("a").faults.plan({ op: Op.write, ...hang });
    const writes = Array.from({ length: ROWS }, (_, row) =>
      world.client().write(row * ROW_BYTES, new Uint8Array(ROW_BYTES).fill(byteOf(row))),
    );
    world.simulation.runFor(100);
    world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "a" });
    world.simulation.runFor(5_000);
    slow.faults.quiet();
    slow.release();
    const answers = world.run(Promise.all(writes));
    expect(answers.filter((status) => status !== 0)).toEqual([]);
    for (let row = 0; row < ROWS; row += 1) readRow(world, row);
  });
}
