/**
 * Goal: injected faults hit exactly the requests that their rule names, so often as it says, and
 * reach the layer above as a drive's own would.
 * Method: the filter over a device that answers by script; rules of each kind one by one.
 */
import { expect, test } from "bun:test";
import { EAGAIN, EIO, ENODATA } from "../../../src/base/errno.ts";
import { FaultFilter, type FaultRule } from "../../../src/block/fault-filter.ts";
import { submitFailure } from "../../../src/block/io-error.ts";
import { IoTable, Op, type OpCode } from "../../../src/reactor/io-table.ts";
import { Timers } from "../../../src/reactor/timers.ts";
import { ManualClock } from "../../helpers/manual-clock.ts";
import { testMemory } from "../../helpers/memory.ts";
import { ScriptedDevice } from "../../helpers/scripted-device.ts";

const ADDRESS = 20 * 1024 * 1024;
const POISON = 0xdb;

const RULE: FaultRule = {
  op: "any",
  at: "completion",
  errno: EIO,
  offset: 0,
  bytes: Number.POSITIVE_INFINITY,
  count: Number.POSITIVE_INFINITY,
  every: 1,
  untilWritten: false,
  delayMs: 0,
  resultBytes: null,
};

class Bench {
  readonly clock = new ManualClock();
  readonly timers = new Timers(this.clock);
  readonly table = new IoTable(64);
  readonly memory = testMemory();
  readonly device = new ScriptedDevice(this.table);
  readonly filter: FaultFilter;
  readonly results = new Map<number, number>();

  constructor(...rules: Partial<FaultRule>[]) {
    const { device, table, timers, memory } = this;
    this.filter = new FaultFilter({ next: device, table, timers, memory });
    this.filter.onComplete = (request, result) => {
      expect(this.results.has(request)).toBe(false);
      this.results.set(request, result);
    };
    rules.forEach((rule, index) => {
      this.filter.add(index, { ...RULE, ...rule });
    });
  }

  submit(op: OpCode, offset = 0, bytes = 4096): number {
    const request = this.table.allocate();
    this.table.op[request] = op;
    this.table.offset[request] = op === Op.flush ? 0 : offset;
    this.table.bytes[request] = op === Op.flush ? 0 : bytes;
    this.table.address[request] = ADDRESS;
    this.filter.submit(request);
    return request;
  }

  /** The result of a request that the device below carries out in full, if it gets it. */
  run(op: OpCode, offset = 0, bytes = 4096): number {
    const request = this.submit(op, offset, bytes);
    while (!this.results.has(request)) {
      if (this.device.outstandingCount > 0) this.device.answerLast();
      else if (!this.clock.runNextTimer(this.timers)) break;
      this.timers.runDue();
    }
    const result = this.results.get(request);
    expect(result).toBeDefined();
    this.results.delete(request);
    this.table.free(request);
    return result!;
  }
}

test("fault-filter: no rule: everything passes", () => {
  const bench = new Bench();
  for (const op of [Op.read, Op.write, Op.discard, Op.writeZeroes]) {
    expect(bench.run(op)).toBe(4096);
  }
  expect(bench.run(Op.flush)).toBe(0);
});

test("fault-filter: a rule for each operation: hits that one, zeros and discards as writes", () => {
  const hits = {
    read: [Op.read],
    write: [Op.write, Op.discard, Op.writeZeroes],
    flush: [Op.flush],
    any: [Op.read, Op.write, Op.flush, Op.discard, Op.writeZeroes],
  } as const;
  for (const name of ["read", "write", "flush", "any"] as const) {
    const bench = new Bench({ op: name });
    for (const op of hits.any) {
      const isHit = (hits[name] as readonly OpCode[]).includes(op);
      expect(bench.run(op)).toBe(isHit ? -EIO : op === Op.flush ? 0 : 4096);
    }
    expect(bench.filter.injectedBy(0)).toBe(hits[name].length);
  }
});

test("fault-filter: at completion: the request runs below", () => {
  const bench = new Bench({ op: "write" });
  expect(bench.run(Op.write)).toBe(-EIO);
  expect(bench.device.submissions).toHaveLength(1);
});

test("fault-filter: at submit: never runs below, and is told as refused by io_submit", () => {
  const bench = new Bench({ at: "submit", errno: EAGAIN, count: 1 });
  const request = bench.submit(Op.flush);
  expect(bench.results.size).toBe(0); // Never completes before submit returns.
  bench.timers.runDue();
  expect(bench.results.get(request)).toBe(submitFailure(EAGAIN));
  expect(bench.device.submissions).toHaveLength(0);
  expect(bench.run(Op.flush)).toBe(0);
});

test("fault-filter: ranges next to each other: only requests that overlap are hit", () => {
  const bench = new Bench({ offset: 8192, bytes: 8192 });
  expect(bench.run(Op.read, 4096, 4096)).toBe(4096);
  expect(bench.run(Op.read, 4096, 8192)).toBe(-EIO);
  expect(bench.run(Op.read, 8192, 4096)).toBe(-EIO);
  expect(bench.run(Op.read, 12_288, 8192)).toBe(-EIO);
  expect(bench.run(Op.read, 0, 65_536)).toBe(-EIO);
  expect(bench.run(Op.read, 16_384, 4096)).toBe(4096);
  expect(bench.run(Op.flush)).toBe(0);
});

test("fault-filter: every third, twice: the first and the fourth match, then no more", () => {
  const bench = new Bench({ every: 3, count: 2 });
  const results = Array.from({ length: 9 }, () => bench.run(Op.read));
  expect(results).toEqual([-EIO, 4096, 4096, -EIO, 4096, 4096, 4096, 4096, 4096]);
  expect(bench.filter.injectedBy(0)).toBe(2);
});

test("fault-filter: a rule is used up: the next one takes over", () => {
  const bench = new Bench({ count: 1 }, { count: 1, errno: ENODATA });
  expect([1, 2, 3].map(() => bench.run(Op.read))).toEqual([-EIO, -ENODATA, 4096]);
});

test("fault-filter: a rule is removed: nothing is hit, what is under way still is", () => {
  const bench = new Bench({});
  const request = bench.submit(Op.read);
  bench.filter.remove(0);
  bench.device.answerLast();
  expect(bench.results.get(request)).toBe(-EIO);
  expect(bench.run(Op.read)).toBe(4096);
  expect(bench.filter.injectedBy(0)).toBe(0);
});

test("fault-filter: until written: each row reads again once it is written, and not before", () => {
  const bench = new Bench({ op: "read", offset: 4096, bytes: 8192, untilWritten: true });
  expect(bench.run(Op.read, 0, 16_384)).toBe(-EIO);
  expect(bench.run(Op.write, 4096, 4096)).toBe(4096);
  expect(bench.run(Op.read, 4096, 4096)).toBe(4096);
  expect(bench.run(Op.read, 8192, 4096)).toBe(-EIO);
  expect(bench.run(Op.read, 0, 16_384)).toBe(-EIO);
  expect(bench.run(Op.writeZeroes, 8192, 4096)).toBe(4096);
  expect(bench.run(Op.read, 0, 16_384)).toBe(16_384);
});

test("fault-filter: until written, a short write: only the rows that were moved are good", () => {
  const bench = new Bench({ op: "read", bytes: 8192, untilWritten: true });
  const request = bench.submit(Op.write, 0, 8192);
  bench.device.answer(request, 6144);
  expect(bench.run(Op.read, 0, 4096)).toBe(4096);
  expect(bench.run(Op.read, 4096, 4096)).toBe(-EIO);
});

test("fault-filter: until written, a rule within a row and one to the end: by whole rows", () => {
  const inRow = new Bench({ op: "read", offset: 6144, bytes: 512, untilWritten: true });
  expect(inRow.run(Op.read, 4096, 4096)).toBe(-EIO);
  expect(inRow.run(Op.write, 4096, 4096)).toBe(4096);
  expect(inRow.run(Op.read, 4096, 4096)).toBe(4096);
  const toTheEnd = new Bench({ op: "read", untilWritten: true });
  expect(toTheEnd.run(Op.write, 409_600, 4096)).toBe(4096);
  expect(toTheEnd.run(Op.read, 409_600, 4096)).toBe(4096);
  expect(toTheEnd.run(Op.read, 413_696, 4096)).toBe(-EIO);
});

test("fault-filter: a short result: only where more was asked for", () => {
  const bench = new Bench({ errno: null, resultBytes: 4096 });
  expect(bench.run(Op.read, 0, 16_384)).toBe(4096);
  expect(bench.run(Op.write, 0, 16_384)).toBe(4096);
  expect(bench.run(Op.read, 0, 4096)).toBe(4096);
  expect(bench.run(Op.flush)).toBe(0);
  expect(bench.filter.injectedBy(0)).toBe(2);
});

test("fault-filter: the drive fails by itself: its own error stays", () => {
  const bench = new Bench({ errno: EIO });
  const request = bench.submit(Op.read);
  bench.device.answerLast(-ENODATA);
  expect(bench.results.get(request)).toBe(-ENODATA);
});

test("fault-filter: a read's answer is changed: the bytes of no use are overwritten", () => {
  const { memory } = new Bench();
  for (const [rule, goodBytes] of [
    [{ errno: EIO }, 0],
    [{ errno: null, resultBytes: 2048 }, 2048],
  ] as const) {
    const bench = new Bench(rule);
    memory.bytes.fill(1, ADDRESS, ADDRESS + 16_384);
    bench.run(Op.read, 0, 8192);
    for (let index = 0; index < 16_384; index += 1) {
      const expected = index >= goodBytes && index < 8192 ? POISON : 1;
      if (memory.bytes[ADDRESS + index] !== expected) throw new Error(`byte ${index} is wrong`);
    }
    memory.bytes.fill(1, ADDRESS, ADDRESS + 16_384);
    bench.run(Op.write, 0, 8192);
    expect(memory.bytes[ADDRESS]).toBe(1); // A write's buffer is its owner's.
  }
});

test("fault-filter: a delay: the answer is held back so long, before or after it runs", () => {
  const after = new Bench({ errno: null, delayMs: 250 });
  const request = after.submit(Op.read);
  expect(after.device.submissions).toHaveLength(1);
  after.device.answerLast();
  expect(after.results.size).toBe(0);
  after.clock.runNextTimer(after.timers);
  expect(after.clock.nowMs()).toBe(250);
  expect(after.results.get(request)).toBe(4096);

  const before = new Bench({ errno: null, at: "submit", delayMs: 250 });
  before.submit(Op.read);
  expect(before.device.submissions).toHaveLength(0);
  before.clock.runNextTimer(before.timers);
  expect(before.clock.nowMs()).toBe(250);
  expect(before.device.submissions).toHaveLength(1);
});
