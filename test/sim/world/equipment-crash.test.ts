/**
 * Goal: crash images are all of what a power cut may leave, and nothing that it cannot; and the
 * whole equipment together finds a lost write, and finds none where none was lost.
 * Method: images of small traces are counted by hand; then the block layer's own stack, with
 * faults, crashes and the oracle, from seeds: `SEED=… bun test test/sim` repeats one.
 */
import { expect, test } from "bun:test";
import { CONTROL_BYTES } from "../../../src/base/memory.ts";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { AsyncIo, isDone } from "../../../src/block/async-io.ts";
import { OutcomeRouter } from "../../../src/block/outcome-router.ts";
import { IoTable, Op } from "../../../src/reactor/io-table.ts";
import { testMemory } from "../../helpers/memory.ts";
import { Share } from "../../helpers/share.ts";
import { crashImages } from "./crash-images.ts";
import { DeviceTrace } from "./device-trace.ts";
import { buildDriveStack, type DriveStack } from "./drive-stack.ts";
import { HandDrive, ROW } from "./equipment-helpers.ts";
import { blankImage, type DeviceImage, readImage } from "./media.ts";
import { type OracleMark, SectorOracle, type Violation } from "./oracle.ts";
import { NO_FAULTS } from "./sim-faults.ts";
import { Simulation } from "./simulation.ts";

function imagesOf(trace: DeviceTrace, boundary: number, withGarbage = false) {
  const isWanted = (each: number) => each === boundary;
  return [...crashImages({ trace, seed: 1, withGarbage, isWanted })];
}

function valuesOf(trace: DeviceTrace, boundary: number): string[] {
  return imagesOf(trace, boundary)
    .map(({ images }) => images.map((image) => HandDrive.valueIn(image, 0)).join(","))
    .sort();
}

test("crash-images: write, write again, flush: at each event what may be there", () => {
  const drive = new HandDrive({ sectorBytes: 4096 });
  drive.write(0, 1);
  drive.write(0, 2);
  drive.flush();
  const values = Array.from({ length: 7 }, (_, boundary) => valuesOf(drive.trace, boundary));
  expect(values).toEqual([
    ["0"],
    ["0", "1"],
    ["0", "1"],
    ["0", "1", "2"],
    ["0", "1", "2"],
    ["0", "1", "2"],
    ["2"],
  ]);
});

test("crash-images: the same bytes written again: no state of its own", () => {
  const drive = new HandDrive({ sectorBytes: 4096 });
  drive.write(0, 1, { fua: true });
  drive.write(0, 1);
  drive.write(0, 2);
  drive.write(0, 1);
  expect(valuesOf(drive.trace, drive.trace.events.length)).toEqual(["1", "2"]);
});

test("crash-images: ten open sectors: all 1024 combinations, each once", () => {
  const drive = new HandDrive();
  drive.write(0, 1);
  drive.write(2 * ROW, 1);
  drive.device.faults.plan({ op: Op.write, fault: { kind: "result", result: 1024 } });
  drive.run(Op.write, { offset: ROW, fill: 1 });
  drive.flush();
  // Eight sectors of one row and two of another.
  const booted = new HandDrive({ image: drive.device.crash("drop") });
  booted.write(0, 2);
  booted.device.faults.plan({ op: Op.write, fault: { kind: "result", result: 1024 } });
  booted.run(Op.write, { offset: ROW, fill: 2 });
  const images = imagesOf(booted.trace, booted.trace.events.length);
  expect(images).toHaveLength(1024);
  const contents = new Set(
    images.map(({ images: [image] }) => readImage(image!, 0, 2 * ROW).join()),
  );
  expect(contents.size).toBe(1024);
});

test("crash-images: sixteen open sectors: kept, dropped, one by one, and eight at random", () => {
  const drive = new HandDrive();
  drive.write(0, 1, { bytes: 2 * ROW });
  const boundary = drive.trace.events.length;
  const plain = imagesOf(drive.trace, boundary);
  expect(plain).toHaveLength(2 + 16 + 16 + 8);
  const counts = plain.map(({ images: [image] }) => {
    const sectors = Array.from({ length: 16 }, (_, at) => HandDrive.valueIn(image!, at * 512, 512));
    return sectors.reduce((sum, value) => sum + value, 0);
  });
  expect(counts.slice(0, 2)).toEqual([16, 0]);
  expect(new Set(counts.slice(2, 18))).toEqual(new Set([15]));
  expect(new Set(counts.slice(18, 34))).toEqual(new Set([1]));
  expect(imagesOf(drive.trace, boundary, true)).toHaveLength(42 + 32);
});

test("crash-images: torn sectors: garbage there, and nowhere else", () => {
  const drive = new HandDrive({ sectorBytes: 4096 });
  drive.write(0, 1);
  drive.write(ROW, 2);
  const torn = imagesOf(drive.trace, drive.trace.events.length, true).slice(4);
  const values = torn.map(({ images: [image] }) =>
    [0, ROW].map((offset) => HandDrive.valueIn(image!, offset)),
  );
  expect(values).toEqual([
    [-1, 2],
    [-1, 0],
    [1, -1],
    [0, -1],
  ]);
});

test("crash-images: the shares of all days: together all images, byte for byte", () => {
  const drive = new HandDrive();
  drive.write(0, 1, { bytes: 2 * ROW });
  drive.write(0, 2);
  drive.flush();
  drive.write(2 * ROW, 3);
  const { trace } = drive;
  const seen = (takes?: (number: number) => boolean) =>
    [
      ...crashImages({
        trace,
        seed: 1,
        withGarbage: true,
        ...(takes === undefined ? {} : { takes }),
      }),
    ]
      .map(({ number, boundary, label, images: [image] }) => {
        const sum = Bun.hash(readImage(image!, 0, 3 * ROW));
        return { number, text: `${number} ${boundary} ${label} ${sum}` };
      })
      .sort((one, other) => one.number - other.number)
      .map(({ text }) => text);
  const whole = seen();
  const parts = [0, 1, 2, 3, 4].map((day) => {
    const share = new Share("images", 5, { day, takesAll: false });
    return seen((number) => share.takes(number));
  });
  expect(parts.map((part) => Math.abs(part.length - whole.length / 5) < 1)).toEqual(
    new Array(5).fill(true),
  );
  const numberOf = (text: string) => Number.parseInt(text, 10);
  expect(parts.flat().sort((one, other) => numberOf(one) - numberOf(other))).toEqual(whole);
});

test("crash-images: two drives in one trace: every pair of fates", () => {
  const simulation = new Simulation({ seed: 1 });
  const table = new IoTable(4);
  const memory = testMemory();
  const router = new OutcomeRouter(table);
  const trace = new DeviceTrace();
  const stacks = ["a", "b"].map((name) =>
    buildDriveStack({
      simulation,
      table,
      memory,
      router,
      trace,
      image: blankImage({ name, sizeBytes: 16 * ROW, sectorBytes: 4096 }),
    }),
  );
  const io = new AsyncIo({ table, router });
  memory.bytes.fill(9, CONTROL_BYTES, CONTROL_BYTES + ROW);
  const range = { offset: 0, bytes: ROW, address: CONTROL_BYTES };
  const writes = stacks.map(({ retry }) => io.write(retry, range, { isFua: false }));
  simulation.settle(Promise.all(writes), { limitMs: 100 });
  expect(valuesOf(trace, trace.events.length)).toEqual(["0,0", "0,9", "9,0", "9,9"]);
  expect(valuesOf(trace, 1)).toHaveLength(2);
});

/** Rows of one drive are written, read and flushed at random by several tasks. */
class Workload {
  readonly simulation: Simulation;
  readonly stack: DriveStack;
  readonly oracle: SectorOracle;
  readonly trace = new DeviceTrace<OracleMark>();
  readonly violations: Violation[] = [];
  readonly tasks: Promise<unknown>;
  private readonly random: SeededRandom;
  private readonly io: AsyncIo;
  private readonly lockedRows = new Set<number>();

  constructor(options: { seed: number; tasks: number; turns: number; image?: DeviceImage }) {
    const { seed } = options;
    this.simulation = new Simulation({ seed, batchChance: seed % 2 === 0 ? 0.3 : 0 });
    this.random = this.simulation.splitRandom();
    const table = new IoTable(16);
    const router = new OutcomeRouter(table);
    this.stack = buildDriveStack({
      simulation: this.simulation,
      table,
      memory: testMemory(),
      router,
      image: blankImage({
        name: "drive",
        sizeBytes: 32 * ROW,
        sectorBytes: seed % 3 === 0 ? 4096 : 512,
      }),
      trace: this.trace as DeviceTrace,
    });
    this.io = new AsyncIo({ table, router });
    this.oracle = new SectorOracle({
      seed,
      sectorCount: 32 * 8,
      onMark: (mark) => this.trace.mark(mark),
    });
    this.tasks = Promise.all(
      Array.from({ length: options.tasks }, (_, task) => this.run(task, options.turns)),
    );
  }

  private async run(task: number, turns: number): Promise<void> {
    const address = CONTROL_BYTES + task * 16 * ROW;
    for (let turn = 0; turn < turns; turn += 1) {
      const rows = 1 + nextBelow(this.random, 4);
      const row = nextBelow(this.random, 32 - rows);
      const kind = nextBelow(this.random, 10);
      if (kind === 0) await this.flush();
      else if (kind < 4) await this.read(row, rows, address);
      else await this.write(row, rows, address, kind === 9);
    }
  }

  private async flush(): Promise<void> {
    const flush = this.oracle.beginFlush();
    const answer = await this.io.flush(this.stack.retry);
    this.oracle.endFlush(flush, { isDone: isDone(answer) });
  }

  private async read(row: number, rows: number, address: number): Promise<void> {
    const token = this.oracle.beginRead(row * 8, rows * 8);
    const range = { offset: row * ROW, bytes: rows * ROW, address };
    const answer = await this.io.read(this.stack.retry, range);
    if (!isDone(answer)) this.oracle.dropRead(token);
    else {
      const bytes = testMemory().bytes.slice(address, address + rows * ROW);
      const violation = this.oracle.endRead(token, bytes);
      if (violation !== null) this.violations.push(violation);
    }
  }

  private async write(row: number, rows: number, address: number, isFua: boolean): Promise<void> {
    const locked = Array.from({ length: rows }, (_, index) => row + index);
    if (locked.some((each) => this.lockedRows.has(each))) {
      await this.simulation.timers.sleep(0.5);
      return;
    }
    for (const each of locked) this.lockedRows.add(each);
    const version = this.oracle.beginWrite(row * 8, rows * 8);
    const bytes = new Uint8Array(rows * ROW);
    this.oracle.fill(bytes, row * 8, version);
    testMemory().bytes.set(bytes, address);
    const range = { offset: row * ROW, bytes: rows * ROW, address };
    const answer = await this.io.write(this.stack.retry, range, { isFua });
    const how = !isDone(answer) ? "failed" : isFua ? "done-fua" : "done";
    this.oracle.endWrite(version, how);
    for (const each of locked) this.lockedRows.delete(each);
  }
}

function firstViolation(oracle: SectorOracle, image: DeviceImage): Violation | null {
  return oracle.check(0, readImage(image, 0, image.sizeBytes));
}

const SEEDS = process.env["SEED"]
  ? [Number(process.env["SEED"])]
  : Array.from({ length: 100 }, (_, index) => index + 1);

const RATES = { ...NO_FAULTS, transient: 0.05, refused: 0.05, short: 0.1, readMedia: 0.02 };

test("the block layer: faults, then a crash at any time: what was promised is there", () => {
  let crashedEarly = 0;
  for (const seed of SEEDS) {
    const run = new Workload({ seed, tasks: 6, turns: 20 });
    run.stack.device.faults.rates = { ...RATES, writeMedia: seed % 2 === 0 ? 0.02 : 0 };
    let isOver = false;
    void run.tasks.then(() => {
      isOver = true;
    });
    const endTurn = nextBelow(new SeededRandom(seed), 300);
    while (!isOver && run.simulation.turnCount < endTurn) run.simulation.step();
    if (!isOver) crashedEarly += 1;
    run.oracle.crash();
    const violation =
      run.violations[0] ?? firstViolation(run.oracle, run.stack.device.crash("random"));
    if (violation !== null) run.simulation.fail(violation.message);
  }
  if (SEEDS.length > 1) expect(crashedEarly).toBeGreaterThan(10);
});

test("the block layer: passing faults: every request ends, reads give the last write", () => {
  for (const seed of SEEDS) {
    const run = new Workload({ seed, tasks: 6, turns: 20 });
    run.stack.device.faults.rates = RATES;
    run.simulation.settle(run.tasks, { limitMs: 600_000 });
    const violation = run.violations[0] ?? firstViolation(run.oracle, run.stack.device.image());
    if (violation !== null) run.simulation.fail(violation.message);
  }
});

/** Violations of the crash images of a run, each against the oracle of its moment. */
function countViolations(
  run: Workload,
  { most = Number.POSITIVE_INFINITY } = {},
): { images: number; violations: number } {
  let images = 0;
  let violations = 0;
  const { seed, sectorCount } = run.oracle;
  const oracle = new SectorOracle({ seed, sectorCount });
  const trace = run.trace;
  let boundary = -1;
  let crashed = oracle;
  for (const crash of crashImages({ trace, seed, onMark: (mark) => oracle.applyMark(mark) })) {
    if (crash.boundary !== boundary) {
      crashed = oracle.clone();
      crashed.crash();
      boundary = crash.boundary;
    }
    images += 1;
    const image = crash.images[0]!;
    if (crashed.peek(0, readImage(image, 0, image.sizeBytes)) !== null) violations += 1;
    if (violations >= most) break;
  }
  return { images, violations };
}

test("crash-images and oracle: every image of honest runs: no violation", () => {
  for (const seed of new Share("honest runs", 3).of([3, 9, 12])) {
    const run = new Workload({ seed, tasks: 2, turns: 6 });
    run.simulation.settle(run.tasks, { limitMs: 10_000 });
    const { images, violations } = countViolations(run);
    expect(images).toBeGreaterThan(100);
    expect(violations).toBe(0);
  }
});

test("crash-images and oracle: a flush that lies: found", () => {
  const run = new Workload({ seed: 9, tasks: 2, turns: 20 });
  run.stack.device.doesFlushLie = true;
  run.simulation.settle(run.tasks, { limitMs: 10_000 });
  expect(countViolations(run, { most: 1 }).violations).toBe(1);
});

test("the whole equipment: one seed, two runs: one trace hash", () => {
  const hashes = [1, 2].map(() => {
    const run = new Workload({ seed: 77, tasks: 6, turns: 30 });
    run.stack.device.faults.rates = RATES;
    run.simulation.settle(run.tasks, { limitMs: 600_000 });
    return run.simulation.traceHash;
  });
  expect(hashes[0]).toBe(hashes[1]!);
});
