/**
 * Goal: what is written over an overlay is read back, the drive below never gets a write, and what
 * has no room there is kept nowhere.
 * Method: the filter over a device that answers by script and has a pattern of its own; one extent
 * and every range of rows around it, written and read.
 */
import { expect, test } from "bun:test";
import { EIO, ENOSPC, EOPNOTSUPP } from "../../../src/base/errno.ts";
import { ROW_BYTES } from "../../../src/base/units.ts";
import { NoDevice, OverlayFilter } from "../../../src/block/overlay-filter.ts";
import { IoTable, Op, type OpCode } from "../../../src/reactor/io-table.ts";
import { testMemory } from "../../helpers/memory.ts";
import { ScriptedDevice } from "../../helpers/scripted-device.ts";

const BUFFER = 20 * 1024 * 1024;
const KEPT = BUFFER + 64 * ROW_BYTES;
const ROWS = 6;
/** On a sector, but on no row: as arrays of mdadm may have their data. */
const DATA = 3 * 512;
const BELOW = 0x11;

class Bench {
  /** What is to run as soon as the code that runs now has ended. */
  private readonly queue: (() => void)[] = [];
  readonly soon = (run: () => void): void => void this.queue.push(run);
  readonly table = new IoTable(64);
  readonly memory = testMemory();
  readonly device = new ScriptedDevice(this.table);
  readonly filter: OverlayFilter;
  readonly results = new Map<number, number>();

  constructor() {
    const { device, table, soon, memory } = this;
    this.filter = new OverlayFilter({ next: device, table, soon, memory });
    this.filter.onComplete = (request, result) => this.results.set(request, result);
    memory.bytes.fill(0xee, KEPT, KEPT + ROWS * ROW_BYTES);
  }

  /** Rows from `first` on, as a drive below would: full of its own byte. */
  run(op: OpCode, first = 0, rows = 1, answerBelow?: number): number {
    const { table, device, memory } = this;
    const request = table.allocate();
    table.op[request] = op;
    table.offset[request] = op === Op.flush ? 0 : DATA + first * ROW_BYTES;
    table.bytes[request] = op === Op.flush ? 0 : rows * ROW_BYTES;
    table.address[request] = BUFFER;
    this.filter.submit(request);
    expect(this.results.has(request)).toBe(false);
    if (device.outstandingCount > 0) {
      const bytes = answerBelow ?? rows * ROW_BYTES;
      if (bytes > 0) memory.bytes.fill(BELOW, BUFFER, BUFFER + bytes);
      device.answerLast(bytes);
    }
    this.runDue();
    const result = this.results.get(request);
    expect(result).toBeDefined();
    this.results.delete(request);
    table.free(request);
    return result!;
  }

  runDue(): void {
    for (const run of this.queue.splice(0)) run();
  }

  write(first: number, rows: number, byte: number): number {
    this.memory.bytes.fill(byte, BUFFER, BUFFER + rows * ROW_BYTES);
    return this.run(Op.write, first, rows);
  }

  /** The first and last byte of each row. */
  read(first: number, rows: number): number[] {
    this.memory.bytes.fill(0, BUFFER, BUFFER + rows * ROW_BYTES);
    expect(this.run(Op.read, first, rows)).toBe(rows * ROW_BYTES);
    return Array.from({ length: rows }, (_, row) => {
      const from = BUFFER + row * ROW_BYTES;
      expect(this.memory.bytes[from + ROW_BYTES - 1]).toBe(this.memory.bytes[from]!);
      return this.memory.bytes[from]!;
    });
  }
}

test("overlay-filter: each range written, each read: what was written covers the drive's", () => {
  for (let first = 0; first < ROWS; first += 1) {
    for (let rows = 1; first + rows <= ROWS; rows += 1) {
      const bench = new Bench();
      bench.filter.open(DATA + 2 * ROW_BYTES, ROWS * ROW_BYTES, KEPT);
      expect(bench.write(2 + first, rows, 0x77)).toBe(rows * ROW_BYTES);
      const isWritten = (row: number): boolean => row >= 2 + first && row < 2 + first + rows;
      for (let from = 0; from < ROWS + 4; from += 1) {
        const count = ROWS + 4 - from;
        const expected = Array.from({ length: count }, (_, row) =>
          isWritten(from + row) ? 0x77 : BELOW,
        );
        expect(bench.read(from, count)).toEqual(expected);
      }
      expect(bench.device.submissions.every(({ op }) => op === Op.read)).toBe(true);
    }
  }
});

test("overlay-filter: all of a read is covered: the drive is not asked", () => {
  const bench = new Bench();
  bench.filter.open(DATA, 2 * ROW_BYTES, KEPT);
  bench.filter.open(DATA + 2 * ROW_BYTES, 2 * ROW_BYTES, KEPT + 2 * ROW_BYTES);
  bench.write(1, 2, 0x55);
  expect(bench.read(1, 2)).toEqual([0x55, 0x55]);
  expect(bench.device.submissions).toEqual([]);
});

test("overlay-filter: a write past the extents: no room, and no row of it is kept", () => {
  const bench = new Bench();
  bench.filter.open(DATA, 2 * ROW_BYTES, KEPT);
  expect(bench.write(1, 2, 0x55)).toBe(-ENOSPC);
  expect(bench.write(7, 1, 0x55)).toBe(-ENOSPC);
  expect(bench.read(0, 8)).toEqual(new Array(8).fill(BELOW));
  expect(bench.memory.bytes[KEPT]).toBe(0xee);
  expect(bench.device.submissions.map(({ op }) => op)).toEqual([Op.read]);
});

test("overlay-filter: an extent that was closed: forgotten, and its place can be opened anew", () => {
  const bench = new Bench();
  bench.filter.open(DATA, 2 * ROW_BYTES, KEPT);
  bench.write(0, 2, 0x55);
  bench.filter.close(DATA);
  expect(bench.read(0, 2)).toEqual([BELOW, BELOW]);
  bench.filter.open(DATA, 2 * ROW_BYTES, KEPT);
  expect(bench.read(0, 2)).toEqual([BELOW, BELOW]);
});

test("overlay-filter: a short or failed read below: passed on, with what was written", () => {
  const bench = new Bench();
  bench.filter.open(DATA, 2 * ROW_BYTES, KEPT);
  bench.write(0, 1, 0x55);
  expect(bench.run(Op.read, 0, 2, ROW_BYTES)).toBe(ROW_BYTES);
  expect(bench.memory.bytes[BUFFER]).toBe(0x55);
  expect(bench.run(Op.read, 0, 2, -EIO)).toBe(-EIO);
});

test("overlay-filter: flushes and discards: answered here", () => {
  const bench = new Bench();
  expect(bench.run(Op.flush)).toBe(0);
  for (const op of [Op.discard, Op.writeZeroes]) expect(bench.run(op)).toBe(-EOPNOTSUPP);
  expect(bench.device.submissions).toEqual([]);
});

test("overlay-filter: nothing below: what was not written cannot be read", () => {
  const bench = new Bench();
  const { table, soon, memory } = bench;
  const next = new NoDevice({ name: "nothing", sizeBytes: 2 ** 20, soon });
  const filter = new OverlayFilter({ next, table, soon, memory });
  const results: number[] = [];
  filter.onComplete = (_, result) => results.push(result);
  const request = table.allocate();
  table.op[request] = Op.read;
  table.bytes[request] = ROW_BYTES;
  filter.submit(request);
  bench.runDue();
  expect(results).toEqual([-EIO]);
});
