/**
 * Goal: what a trim and a zeroing do in each case is what `raid5/zero/stripes.ts` says: holes or
 * zeros, fast or not, with members that fail, and without ever leaving parity wrong.
 * Method: arrays on real files; the test plays the control thread that punches the holes, and
 * injects faults into members. Rule numbers are those of the write rules.
 */
import { afterEach, expect, test } from "bun:test";
import { fstatSync, writeSync } from "node:fs";
import { FrontFlag } from "../../src/array/front.ts";
import type { CommandError, FaultSpec, OpenDrive } from "../../src/array/protocol.ts";
import { EIO, ENODEV, EOPNOTSUPP, EPERM } from "../../src/base/errno.ts";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";
import { HolePunching } from "../helpers/hole-punching.ts";

const CHUNK = 64 * KIB;
const STRIPE = 2 * CHUNK;
const DATA_OFFSET = MIB;
const ARRAY = "raid_test";
let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

interface Bench {
  readonly harness: ArrayHarness;
  readonly punching: HolePunching;
  readonly drives: readonly OpenDrive[];
  /** What the array holds: random bytes unless it was to be new. */
  readonly content: Uint8Array;
  run(promise: Promise<number>): number;
}

function setUp(
  options: {
    memberBytes?: number;
    isNew?: boolean;
    drive?: Partial<OpenDrive>;
    chunkBytes?: number;
  } = {},
): Bench {
  const { memberBytes = 4 * MIB, isNew = false, chunkBytes = CHUNK } = options;
  harness = new ArrayHarness();
  const punching = new HolePunching(harness);
  const names = ["drive0", "drive1", "drive2"];
  const drives = names.map((name) => punching.addDrive(name, memberBytes, options.drive));
  const { sizeBytes } = harness.createArray({ drives: names, chunkBytes });
  const content = new Uint8Array(sizeBytes);
  const { reactor } = harness;
  const run = (promise: Promise<number>): number => reactor.pump(promise);
  if (!isNew) {
    fillRandom(new SeededRandom(7), content);
    expect(run(harness.write(0, content))).toBe(0);
  }
  harness.settle();
  return { harness, punching, drives, content, run };
}

function expectContent({ harness: target, content }: Bench): void {
  const { status, data } = target.reactor.pump(target.read(0, content.length));
  expect(status).toBe(0);
  expect(Buffer.compare(data, content)).toBe(0);
}

function expectNoMismatch({ harness: target }: Bench): void {
  expect(target.mismatchBytes()).toBe(0);
}

function inject(target: ArrayHarness, fault: Partial<FaultSpec> & { drive: string }): void {
  const full: FaultSpec = { op: "write", at: "completion", errno: EIO, ...fault };
  target.must({ kind: "add-fault", fault: full });
}

/** KiB on disk of all members. */
function storedKib(drives: readonly OpenDrive[]): number {
  return drives.reduce((sum, { fd }) => sum + fstatSync(fd).blocks / 2, 0);
}

/** [from, end, state] of the stretches of the array. */
function allocation({ harness: target, content }: Bench): [number, number, number][] {
  const list: [number, number, number][] = [];
  for (let from = 0; from < content.length; from += STRIPE) {
    const state = target.allocationAt(from);
    const last = list.at(-1);
    if (last !== undefined && last[2] === state) last[1] = from + STRIPE;
    else list.push([from, from + STRIPE, state]);
  }
  return list;
}

test("zeroing: holes: whole stripes take no room on any member, edges are written", () => {
  const bench = setUp();
  const before = storedKib(bench.drives);
  const [from, bytes] = [STRIPE - 1000, 9 * STRIPE + 1500];
  expect(bench.run(bench.harness.writeZeroes(from, bytes))).toBe(0);
  bench.content.fill(0, from, from + bytes);
  expect(bench.punching.asked.map(({ offset, bytes: length }) => [offset, length])).toEqual(
    new Array(3).fill([DATA_OFFSET + CHUNK, 9 * CHUNK]),
  );
  // The file system's own lists of extents grow a little.
  expect(before - storedKib(bench.drives)).toBeGreaterThan((3 * 9 * CHUNK) / KIB - 64);
  expectContent(bench);
  expect(allocation(bench)).toEqual([
    [0, STRIPE, 0],
    [STRIPE, 10 * STRIPE, 3],
    [10 * STRIPE, bench.content.length, 0],
  ]);
  expectNoMismatch(bench);
});

test("zeroing: NO_HOLE, or members that are no files: zeros that take room", () => {
  for (const canPunchHoles of [true, false]) {
    const bench = setUp({ drive: { canPunchHoles } });
    const before = storedKib(bench.drives);
    const flags = (canPunchHoles ? FrontFlag.noHole : 0) | FrontFlag.fua;
    expect(bench.run(bench.harness.writeZeroes(STRIPE, 5 * STRIPE, flags))).toBe(0);
    bench.content.fill(0, STRIPE, 6 * STRIPE);
    expect(bench.punching.asked).toEqual([]);
    expect(storedKib(bench.drives)).toBeGreaterThanOrEqual(before);
    expectContent(bench);
    expect(allocation(bench)[1]).toEqual([STRIPE, 6 * STRIPE, 2]);
    expectNoMismatch(bench);
    bench.harness.stop();
    harness = null;
  }
});

test("trim: rounds inward to whole stripes; without holes or degraded it does nothing", () => {
  const bench = setUp();
  const { harness: target, punching, content, run } = bench;
  expect(run(target.trim(1, STRIPE + 100))).toBe(0);
  expect(run(target.trim(2 * STRIPE + 1, 2 * STRIPE - 2))).toBe(0);
  expect(punching.asked).toEqual([]);
  expect(run(target.trim(4 * STRIPE - 1, 2 * STRIPE + 2))).toBe(0);
  content.fill(0, 4 * STRIPE, 6 * STRIPE);
  expect(punching.asked.length).toBe(3);
  expectContent(bench);
  expectNoMismatch(bench);
  target.must({ kind: "fail-member", array: ARRAY, drive: "drive1" });
  expect(run(target.trim(0, content.length))).toBe(0);
  expect(punching.asked.length).toBe(3);
  expectContent(bench);
});

test("fast zeroing: whole stripes only, with holes, and none missing; else nothing changes", () => {
  const bench = setUp();
  const { harness: target, content, run } = bench;
  const { fastZero, noHole } = FrontFlag;
  const slow: [number, number, number][] = [
    [0, STRIPE - 1, fastZero],
    [1, STRIPE, fastZero],
    [512, STRIPE, fastZero],
    [0, STRIPE + 4096, fastZero],
    [0, STRIPE, fastZero | noHole],
  ];
  for (const [offset, bytes, flags] of slow) {
    expect(run(target.writeZeroes(offset, bytes, flags))).toBe(EOPNOTSUPP);
  }
  expectContent(bench);
  expect(run(target.writeZeroes(STRIPE, 3 * STRIPE, fastZero))).toBe(0);
  content.fill(0, STRIPE, 4 * STRIPE);
  expectContent(bench);
  target.must({ kind: "fail-member", array: ARRAY, drive: "drive0" });
  expect(run(target.writeZeroes(0, STRIPE, fastZero))).toBe(EOPNOTSUPP);
  expectContent(bench);
  expect(run(target.writeZeroes(0, STRIPE))).toBe(0);
  content.fill(0, 0, STRIPE);
  expectContent(bench);
});

test("holes: order: the array is marked dirty, durably, before the first is asked for", () => {
  const bench = setUp();
  const { harness: target, punching, run } = bench;
  const running = target.service.registry.byName(ARRAY)!.running!;
  target.reactor.pumpUntil(() => running.dirtyMark.state === "clean");
  const marks: [string, boolean][] = [];
  punching.onAsked = () => marks.push([running.dirtyMark.state, running.isDirty]);
  expect(run(target.trim(0, STRIPE))).toBe(0);
  expect(marks).toEqual(new Array(3).fill(["dirty", true]));
});

test("allocation: a new array on members that read zeros: a hole, but for what was written", () => {
  const bench = setUp({ isNew: true });
  const { harness: target, content, punching, run } = bench;
  const end = content.length;
  expect(allocation(bench)).toEqual([[0, end, 3]]);
  expect(run(target.write(3 * STRIPE + 5, new Uint8Array(1).fill(9)))).toBe(0);
  content[3 * STRIPE + 5] = 9;
  expect(allocation(bench)).toEqual([
    [0, 3 * STRIPE, 3],
    [3 * STRIPE, 4 * STRIPE, 0],
    [4 * STRIPE, end, 3],
  ]);
  // What is a hole already costs nothing, also at the edges.
  const stored = storedKib(bench.drives);
  expect(run(target.writeZeroes(4 * STRIPE + 77, 10 * STRIPE))).toBe(0);
  expect([punching.asked.length, storedKib(bench.drives)]).toEqual([0, stored]);
  expect(run(target.trim(3 * STRIPE, STRIPE))).toBe(0);
  content[3 * STRIPE + 5] = 0;
  expect(allocation(bench)).toEqual([[0, end, 3]]);
  expectContent(bench);
  // What a restart does not know it does not claim.
  target.must({ kind: "stop-array", array: ARRAY });
  target.must({ kind: "start-array", array: ARRAY, force: false, readOnly: false });
  target.connect(ARRAY);
  expect(allocation(bench)).toEqual([[0, end, 0]]);
  expect(run(target.trim(0, STRIPE))).toBe(0);
  expect(allocation(bench)[0]).toEqual([0, STRIPE, 3]);
});

test("allocation: members that are not known to read zeros: data", () => {
  const bench = setUp({ isNew: true, drive: { readsZeros: false } });
  expect(allocation(bench)).toEqual([[0, bench.content.length, 0]]);
});

test.each([
  ["holes", { canPunchHoles: true, readsZeros: false }],
  ["zeros", { canPunchHoles: false, readsZeros: false }],
  ["holes over holes", { canPunchHoles: true, readsZeros: true }],
])("rule 1: zeroing in rows not in sync, %s: proven, also without a member", (_, drive) => {
  harness = new ArrayHarness();
  const punching = new HolePunching(harness);
  const memberBytes = 64 * MIB;
  const noise = new Uint8Array(4 * CHUNK);
  const names = ["drive0", "drive1", "drive2"];
  for (const name of names) {
    const { fd } = punching.addDrive(name, memberBytes, drive);
    fillRandom(new SeededRandom(fd), noise);
    if (!drive.readsZeros) writeSync(fd, noise, 0, noise.length, memberBytes - noise.length);
  }
  const { sizeBytes } = harness.createArray({ drives: names, chunkBytes: CHUNK });
  harness.must({ kind: "set-array", array: ARRAY, syncSpeedMin: 1, syncSpeedMax: 1 });
  const { members, geometry } = harness.service.registry.byName(ARRAY)!.running!.core;
  const last = geometry.stripeCount - 1;
  expect(members.isInSync(last)).toBe(false);
  expect(harness.reactor.pump(harness.writeZeroes(last * STRIPE, STRIPE))).toBe(0);
  const parities = [geometry.parityRole(last), geometry.parityRole(last - 1)];
  const role = [0, 1, 2].find((candidate) => !parities.includes(candidate))!;
  harness.must({ kind: "fail-member", array: ARRAY, drive: `drive${role}` });
  const zeroed = harness.reactor.pump(harness.read(sizeBytes - STRIPE, STRIPE));
  expect([zeroed.status, zeroed.data.every((byte) => byte === 0)]).toEqual([0, true]);
  expect(harness.reactor.pump(harness.read(sizeBytes - 2 * STRIPE, STRIPE)).status).toBe(EIO);
});

function commandError(kind: CommandError["kind"], code: string): CommandError {
  return { kind, code, detail: "as the test wants it" };
}

test("holes: one member cannot: zeros are written over all, and no hole is asked for again", () => {
  const bench = setUp();
  const { harness: target, punching, content, drives, run } = bench;
  const fd = drives[1]!.fd;
  punching.failure = (request) =>
    request.fd === fd ? commandError("unsupported", "punch-hole-failed") : null;
  expect(run(target.writeZeroes(0, 2 * STRIPE))).toBe(0);
  content.fill(0, 0, 2 * STRIPE);
  expectContent(bench);
  expect(allocation(bench)[0]).toEqual([0, 2 * STRIPE, 2]);
  expect(punching.asked.length).toBe(3);
  expect(run(target.trim(4 * STRIPE, STRIPE))).toBe(0);
  expect(run(target.writeZeroes(4 * STRIPE, STRIPE, FrontFlag.fastZero))).toBe(EOPNOTSUPP);
  expect(punching.asked.length).toBe(3);
  expectContent(bench);
  expectNoMismatch(bench);
});

test("trim: an error on one member: zeros are written over all, parity matches", () => {
  const bench = setUp();
  const { harness: target, punching, content, drives, run } = bench;
  const fd = drives[2]!.fd;
  punching.failure = (request) =>
    request.fd === fd ? commandError("io", "punch-hole-failed") : null;
  expect(run(target.trim(0, 2 * STRIPE))).toBe(0);
  content.fill(0, 0, 2 * STRIPE);
  expectContent(bench);
  expectNoMismatch(bench);
});

test("rule 10: a hole that may still come: the member is failed, and is not taken back", () => {
  const bench = setUp();
  const { harness: target, punching, content, drives, run } = bench;
  const fd = drives[1]!.fd;
  punching.failure = (request) => (request.fd === fd ? commandError("io", "drive-timeout") : null);
  expect(run(target.writeZeroes(0, 2 * STRIPE, FrontFlag.fua))).toBe(0);
  content.fill(0, 0, 2 * STRIPE);
  expect(target.status()).toMatchObject({ degraded: 1 });
  expectContent(bench);
  const added = target.call<"add-member">({
    kind: "add-member",
    array: ARRAY,
    drive: "drive1",
    force: true,
  });
  expect(added).toMatchObject({ ok: false, error: { kind: "busy" } });
});

test("holes: their flush fails: the member is failed, the rest holds zeros", () => {
  const bench = setUp();
  const { harness: target, punching, content, drives, run } = bench;
  const fd = drives[0]!.fd;
  punching.failure = (request) => (request.fd === fd ? commandError("io", "flush-failed") : null);
  expect(run(target.writeZeroes(STRIPE, 2 * STRIPE))).toBe(0);
  content.fill(0, STRIPE, 3 * STRIPE);
  expect(target.status().members[0]!.state).toBe("faulty");
  expectContent(bench);
});

test("zeroing: a member is lost in it: answered, degraded, zeros", () => {
  const bench = setUp({ drive: { canPunchHoles: false } });
  const { harness: target, content, run } = bench;
  inject(target, { drive: "drive2", errno: ENODEV, offset: DATA_OFFSET + 3 * CHUNK, bytes: CHUNK });
  expect(run(target.writeZeroes(100, 8 * STRIPE))).toBe(0);
  content.fill(0, 100, 100 + 8 * STRIPE);
  expect(target.status()).toMatchObject({ degraded: 1 });
  expectContent(bench);
});

test("rule 15: two members are lost in it: EIO, and nothing is zeroed any more", () => {
  const bench = setUp({ drive: { canPunchHoles: false } });
  const { harness: target, run } = bench;
  for (const drive of ["drive1", "drive2"]) inject(target, { drive, errno: ENODEV });
  expect(run(target.writeZeroes(0, 8 * STRIPE))).toBe(EIO);
  expect(target.status()).toMatchObject({ state: "failed" });
  const { io } = target.status().members[0]!;
  expect(run(target.writeZeroes(0, STRIPE))).toBe(EIO);
  expect(target.status().members[0]!.io).toEqual(io);
});

test("zeroing: a sector that takes no write but can be read: its old content is not read", () => {
  const bench = setUp({ drive: { canPunchHoles: false } });
  const { harness: target, content, run } = bench;
  for (const drive of ["drive0", "drive1"]) {
    const offset = DATA_OFFSET + (drive === "drive0" ? 4 : 5) * CHUNK;
    inject(target, { drive, at: "submit", offset, bytes: 4096 });
  }
  expect(run(target.writeZeroes(3 * STRIPE, 4 * STRIPE))).toBe(0);
  content.fill(0, 3 * STRIPE, 7 * STRIPE);
  expectContent(bench);
});

test("zeroing: bad sectors, met or known: those stripes with care, zeros, parity matches", () => {
  for (const canPunchHoles of [true, false]) {
    const bench = setUp({ drive: { canPunchHoles } });
    const { harness: target, content, run } = bench;
    const at = { offset: DATA_OFFSET + 2 * CHUNK + 8192, bytes: 4096 };
    inject(target, { drive: "drive1", ...at });
    inject(target, { drive: "drive1", op: "read", ...at });
    expect(run(target.writeZeroes(0, 6 * STRIPE, FrontFlag.noHole))).toBe(0);
    content.fill(0, 0, 6 * STRIPE);
    expectContent(bench);
    const { badBlocks } = target.service.registry.drives.get("drive1")!;
    expect(badBlocks.ranges.length).toBe(1);
    expect(run(target.write(0, content.fill(0x33, 0, 6 * STRIPE).subarray(0, 6 * STRIPE)))).toBe(0);
    target.must({ kind: "clear-faults" });
    expect(run(target.writeZeroes(0, 6 * STRIPE))).toBe(0);
    content.fill(0, 0, 6 * STRIPE);
    expect(badBlocks.ranges.length).toBe(0);
    expectContent(bench);
    expectNoMismatch(bench);
    target.stop();
    harness = null;
  }
});

test("zeroing: all stripe operations in use by writes to the same stripes: all come to an end", () => {
  const bench = setUp({ memberBytes: 16 * MIB, chunkBytes: 4 * KIB, isNew: true });
  const { harness: target, run } = bench;
  const data = new Uint8Array(MIB).fill(1);
  const all: Promise<number>[] = [];
  for (let round = 0; round < 12; round += 1) {
    all.push(target.write((round % 4) * MIB, data));
    all.push(target.writeZeroes((round % 3) * MIB + 100, 2 * MIB, round % 2 === 0 ? 2 : 0));
  }
  expect(run(Promise.all(all).then((answers) => Math.max(...answers)))).toBe(0);
  expectNoMismatch(bench);
});

test("zeroing: too few stripe operations are free: none goes to others before its turn", () => {
  const bench = setUp({ memberBytes: 16 * MIB, chunkBytes: 4 * KIB, isNew: true });
  const { harness: target, run } = bench;
  const { engine } = target.service.registry.byName(ARRAY)!.running!.core;
  const { reactor } = target;
  const stripes = Array.from({ length: 800 }, (_, index) => 1000 + index);
  const holds = reactor.pump(Promise.all(stripes.map((stripe) => engine.holdStripe(stripe))));
  // The array is dirty then: what follows does not wait for that.
  expect(run(target.write(6 * MIB, new Uint8Array(1)))).toBe(0);
  const done: string[] = [];
  const zeroing = target.writeZeroes(0, 2 * MIB, FrontFlag.noHole).then(() => done.push("zero"));
  reactor.reactor.turn(1);
  const writing = target.write(6 * MIB, new Uint8Array(1)).then(() => done.push("write"));
  reactor.pump(reactor.context.timers.sleep(100));
  const early = [...done];
  for (const hold of holds) engine.releaseStripe(hold);
  run(Promise.all([zeroing, writing]).then(() => 0));
  expect(early).toEqual([]);
  expect(done.toSorted()).toEqual(["write", "zero"]);
});

test("zeroing: an array that is stopped or read-only: refused; one under way is finished", () => {
  const bench = setUp();
  const { harness: target, content, run } = bench;
  const underWay = target.writeZeroes(0, 8 * STRIPE);
  target.must({ kind: "stop-array", array: ARRAY });
  expect(run(underWay)).toBe(0);
  content.fill(0, 0, 8 * STRIPE);
  target.must({ kind: "start-array", array: ARRAY, force: false, readOnly: true });
  target.connect(ARRAY);
  expect(run(target.writeZeroes(0, STRIPE))).toBe(EPERM);
  expect(run(target.trim(0, STRIPE))).toBe(EPERM);
  expectContent(bench);
});

test("zeroing: the shutdown comes while holes are punched: it waits for them", () => {
  const bench = setUp();
  const underWay = bench.harness.writeZeroes(0, 8 * STRIPE);
  bench.harness.must({ kind: "shutdown" });
  expect(bench.run(underWay)).toBe(0);
  expect(bench.punching.asked.length).toBe(3);
  bench.harness.reactor.stop();
  harness = null;
});
