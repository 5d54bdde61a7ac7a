/**
 * Goal: what a drive answers badly is tried again from the right place, so often and no more, and
 * the owner gets exactly one outcome and its request as it submitted it.
 * Method: the filter over a device that answers by script, on a clock that the test moves. The
 * device itself fails the test when a request is submitted twice at the same time.
 */
import { expect, test } from "bun:test";
import {
  EAGAIN,
  EBADE,
  EBUSY,
  EINTR,
  EIO,
  ENODATA,
  ENOMEM,
  ENOSPC,
  ENXIO,
} from "../../../src/base/errno.ts";
import { Outcome, type OutcomeCode, submitFailure } from "../../../src/block/io-error.ts";
import { OutcomeRouter } from "../../../src/block/outcome-router.ts";
import { SLAB_BYTES, SlabPool } from "../../../src/block/pool.ts";
import { RetryFilter, type RetryLimits } from "../../../src/block/retry-filter.ts";
import { IoTable, OP_NAMES, Op, type OpCode } from "../../../src/reactor/io-table.ts";
import { Timers } from "../../../src/reactor/timers.ts";
import { ManualClock } from "../../helpers/manual-clock.ts";
import { ScriptedDevice } from "../../helpers/scripted-device.ts";

const OFFSET = 40_960;
const ADDRESS = 8_388_608;
const BYTES = 16_384;
const LIMITS: RetryLimits = { transientLimit: 5, mediaLimit: 2, backOffMsMax: 8 };
const TRANSIENT = [EAGAIN, EINTR, EBUSY, ENOMEM];

interface Answer {
  readonly outcome: OutcomeCode;
  readonly errno: number;
}

class Bench {
  readonly clock = new ManualClock();
  readonly timers = new Timers(this.clock);
  readonly table = new IoTable(8);
  readonly device = new ScriptedDevice(this.table);
  readonly answers: Answer[] = [];
  readonly filter: RetryFilter;
  readonly request: number;

  constructor(op: OpCode, limits: RetryLimits = LIMITS) {
    const { table, timers, device } = this;
    const router = new OutcomeRouter(table);
    this.filter = new RetryFilter({ next: device, table, timers, router, limits });
    this.request = table.allocate();
    table.owner[this.request] = router.register((request, outcome, errno) => {
      expect(request).toBe(this.request);
      this.expectAsSubmitted(op);
      this.answers.push({ outcome, errno });
    });
    table.op[this.request] = op;
    table.isFua[this.request] = 1;
    table.offset[this.request] = op === Op.flush ? 0 : OFFSET;
    table.bytes[this.request] = op === Op.flush ? 0 : BYTES;
    table.address[this.request] = op === Op.flush ? 0 : ADDRESS;
    table.context[this.request] = 77;
    this.filter.submit(this.request);
  }

  get submissionCount(): number {
    return this.device.submissions.length;
  }

  /** Answers what is outstanding; then waits until the filter has submitted again, or is done. */
  answer(result: number): void {
    this.device.answerLast(result);
    while (this.device.outstandingCount === 0 && this.clock.runNextTimer(this.timers));
  }

  private expectAsSubmitted(op: OpCode): void {
    const { table, request } = this;
    expect(table.op[request]).toBe(op);
    expect(table.isFua[request]).toBe(1);
    expect(table.offset[request]).toBe(op === Op.flush ? 0 : OFFSET);
    expect(table.bytes[request]).toBe(op === Op.flush ? 0 : BYTES);
    expect(table.address[request]).toBe(op === Op.flush ? 0 : ADDRESS);
    expect(table.context[request]).toBe(77);
  }
}

for (const op of [Op.read, Op.write]) {
  const name = OP_NAMES[op];

  test(`retry-filter: a ${name} falls short at each 512 bytes: goes on from the whole row`, () => {
    for (let moved = 512; moved < BYTES; moved += 512) {
      const bench = new Bench(op);
      bench.answer(moved);
      const wholeBytes = moved - (moved % 4096);
      expect(bench.submissionCount).toBe(2);
      expect(bench.device.last).toEqual({
        request: bench.request,
        op,
        offset: OFFSET + wholeBytes,
        bytes: BYTES - wholeBytes,
        address: ADDRESS + wholeBytes,
        isFua: true,
      });
      bench.answer(BYTES - wholeBytes);
      expect(bench.answers).toEqual([{ outcome: Outcome.done, errno: 0 }]);
    }
  });

  test(`retry-filter: a ${name} falls short at each pair of rows: all bytes exactly once`, () => {
    for (let first = 4096; first < BYTES; first += 4096) {
      for (let second = 4096; first + second < BYTES; second += 4096) {
        const bench = new Bench(op);
        bench.answer(first);
        bench.answer(second);
        expect(bench.device.last.offset).toBe(OFFSET + first + second);
        bench.answer(BYTES - first - second);
        expect(bench.answers).toEqual([{ outcome: Outcome.done, errno: 0 }]);
      }
    }
  });

  test(`retry-filter: a ${name} never moves a whole row: lost after the limit`, () => {
    const bench = new Bench(op);
    while (bench.answers.length === 0) bench.answer(2048);
    expect(bench.submissionCount).toBe(LIMITS.transientLimit + 1);
    expect(bench.answers).toEqual([{ outcome: Outcome.memberLost, errno: 0 }]);
  });

  test(`retry-filter: a ${name} passes after 1 to limit+1 tries: done up to the limit`, () => {
    for (const errno of TRANSIENT) {
      for (const result of [-errno, submitFailure(errno)]) {
        for (let times = 1; times <= LIMITS.transientLimit + 1; times += 1) {
          const bench = new Bench(op);
          for (let count = 0; count < times; count += 1) bench.answer(result);
          if (times <= LIMITS.transientLimit) {
            expect(bench.answers).toEqual([]);
            bench.answer(BYTES);
            expect(bench.answers).toEqual([{ outcome: Outcome.done, errno: 0 }]);
          }
          expect(bench.submissionCount).toBe(Math.min(times, LIMITS.transientLimit) + 1);
          if (times > LIMITS.transientLimit) {
            expect(bench.answers).toEqual([{ outcome: Outcome.memberLost, errno }]);
          }
        }
      }
    }
  });

  test(`retry-filter: a ${name} is bad 1 to limit+1 times: done up to the limit`, () => {
    for (const errno of [EIO, ENODATA]) {
      for (let times = 1; times <= LIMITS.mediaLimit + 1; times += 1) {
        const bench = new Bench(op);
        for (let count = 0; count < times; count += 1) bench.answer(-errno);
        const isCured = times <= LIMITS.mediaLimit;
        if (isCured) bench.answer(BYTES);
        const outcome = isCured ? Outcome.done : Outcome.mediaError;
        expect(bench.answers).toEqual([{ outcome, errno: isCured ? 0 : errno }]);
        expect(bench.submissionCount).toBe(Math.min(times, LIMITS.mediaLimit) + 1);
      }
    }
  });

  test(`retry-filter: a ${name} is interrupted, then bad: counted apart`, () => {
    const bench = new Bench(op);
    for (let count = 0; count < LIMITS.transientLimit; count += 1) bench.answer(-EINTR);
    for (let count = 0; count < LIMITS.mediaLimit; count += 1) bench.answer(-EIO);
    expect(bench.answers).toEqual([]);
    bench.answer(-EIO);
    expect(bench.answers).toEqual([{ outcome: Outcome.mediaError, errno: EIO }]);
  });

  test(`retry-filter: a ${name} makes progress between errors: counts from none`, () => {
    const bench = new Bench(op);
    for (let row = 0; row < 3; row += 1) {
      for (let count = 0; count < LIMITS.transientLimit; count += 1) bench.answer(-EAGAIN);
      for (let count = 0; count < LIMITS.mediaLimit; count += 1) bench.answer(-EIO);
      bench.answer(4096);
    }
    expect(bench.answers).toEqual([]);
    bench.answer(4096);
    expect(bench.answers).toEqual([{ outcome: Outcome.done, errno: 0 }]);
  });

  test(`retry-filter: a ${name} fails after a short transfer: whole again`, () => {
    for (const result of [0, -ENXIO, -EIO, -EAGAIN]) {
      const bench = new Bench(op);
      bench.answer(8192);
      while (bench.answers.length === 0) bench.answer(result);
      expect(bench.answers).toHaveLength(1);
      expect(bench.device.outstandingCount).toBe(0);
    }
  });
}

test("retry-filter: transient errors: back off from 1 ms, doubled up to the longest", () => {
  const bench = new Bench(Op.read);
  const waitsMs: number[] = [];
  for (let count = 0; count < LIMITS.transientLimit; count += 1) {
    const beforeMs = bench.clock.nowMs();
    bench.answer(-EAGAIN);
    waitsMs.push(bench.clock.nowMs() - beforeMs);
  }
  expect(waitsMs).toEqual([1, 2, 4, 8, 8]);
});

test("retry-filter: while it waits to try again: nothing is outstanding below", () => {
  const bench = new Bench(Op.write);
  bench.device.answerLast(-EAGAIN);
  expect(bench.device.outstandingCount).toBe(0);
  expect(bench.submissionCount).toBe(1);
  bench.clock.advance(0.9);
  bench.timers.runDue();
  expect(bench.submissionCount).toBe(1);
});

test("retry-filter: a flush fails at completion, with any errno: lost at the first answer", () => {
  for (let errno = 1; errno <= 133; errno += 1) {
    if (errno === EBADE) continue; // The drive is another host's: see below.
    const bench = new Bench(Op.flush);
    bench.answer(-errno);
    expect(bench.submissionCount).toBe(1);
    expect(bench.answers).toEqual([{ outcome: Outcome.memberLost, errno }]);
  }
});

test("retry-filter: io_submit refuses a flush 1 to limit+1 times: it never ran, retried", () => {
  for (const errno of TRANSIENT) {
    for (let times = 1; times <= LIMITS.transientLimit + 1; times += 1) {
      const bench = new Bench(Op.flush);
      for (let count = 0; count < times; count += 1) bench.answer(submitFailure(errno));
      const isDone = times <= LIMITS.transientLimit;
      if (isDone) bench.answer(0);
      const outcome = isDone ? Outcome.done : Outcome.memberLost;
      expect(bench.answers).toEqual([{ outcome, errno: isDone ? 0 : errno }]);
      expect(bench.submissionCount).toBe(Math.min(times, LIMITS.transientLimit) + 1);
    }
  }
});

test("retry-filter: io_submit refuses a flush for good: lost, without a retry", () => {
  for (const errno of [EIO, ENOSPC, ENXIO]) {
    const bench = new Bench(Op.flush);
    bench.answer(submitFailure(errno));
    expect(bench.submissionCount).toBe(1);
    expect(bench.answers).toEqual([{ outcome: Outcome.memberLost, errno }]);
  }
});

test("retry-filter: the file system is full, or the drive is gone: told at once", () => {
  for (const [errno, outcome] of [
    [ENOSPC, Outcome.noSpace],
    [ENXIO, Outcome.memberLost],
  ] as const) {
    const bench = new Bench(Op.write);
    bench.answer(-errno);
    expect(bench.submissionCount).toBe(1);
    expect(bench.answers).toEqual([{ outcome, errno }]);
  }
});

test("rule 15: nothing may be submitted again: retries and resumes end as a lost member", () => {
  for (const accepts of ["reads", "nothing"] as const) {
    for (const op of [Op.read, Op.write, Op.writeZeroes]) {
      for (const result of [-EAGAIN, -EIO, 4096, 512]) {
        const bench = new Bench(op);
        bench.device.answerLast(result > 0 ? result : -EAGAIN);
        bench.filter.accepts = accepts;
        // A resume is immediate, so it has gone out before; its own answer is the next chance.
        if (bench.device.outstandingCount > 0) bench.device.answerLast(result);
        while (bench.clock.runNextTimer(bench.timers));
        const isRead = op === Op.read && accepts === "reads";
        if (isRead) expect(bench.device.outstandingCount).toBe(1);
        else expect(bench.answers.map(({ outcome }) => outcome)).toEqual([Outcome.memberLost]);
      }
    }
  }
});

test("rule 15: nothing may be submitted: a new request ends as a lost member, after the call", () => {
  for (const accepts of ["reads", "nothing"] as const) {
    for (const op of [Op.read, Op.write, Op.writeZeroes, Op.flush]) {
      const bench = new Bench(op);
      bench.answer(op === Op.flush ? 0 : BYTES);
      bench.answers.length = 0;
      bench.filter.accepts = accepts;
      bench.filter.submit(bench.request);
      expect(bench.answers).toEqual([]);
      expect(bench.filter.outstanding).toBe(1);
      if (accepts === "reads" && op === Op.read) {
        expect(bench.device.outstandingCount).toBe(1);
        continue;
      }
      expect(bench.device.outstandingCount).toBe(0);
      while (bench.clock.runNextTimer(bench.timers));
      expect(bench.answers).toEqual([{ outcome: Outcome.memberLost, errno: EIO }]);
      expect(bench.filter.outstanding).toBe(0);
    }
  }
});

test("retry-filter: errors and retries: counted by operation and kind; a discard not offered is none", () => {
  const bench = new Bench(Op.read);
  bench.answer(-EAGAIN);
  bench.answer(8192);
  bench.answer(-EIO);
  bench.answer(8192);
  expect(bench.filter.counters).toEqual({
    read: 1,
    write: 0,
    retried: 3,
    readErrorsInARow: 0,
    readsLateInARow: 0,
    kinds: { read: { EAGAIN: 1, short: 1, EIO: 1 } },
  });
  const discard = new Bench(Op.discard);
  discard.answer(-95);
  expect(discard.answers).toEqual([{ outcome: Outcome.unsupported, errno: 95 }]);
  expect(discard.filter.counters.write).toBe(0);
});

test("retry-filter: a request is used again: its tries begin at none", () => {
  const bench = new Bench(Op.read);
  for (let count = 0; count < LIMITS.transientLimit; count += 1) bench.answer(-EAGAIN);
  for (let count = 0; count < LIMITS.mediaLimit; count += 1) bench.answer(-EIO);
  bench.answer(BYTES);
  bench.filter.submit(bench.request);
  for (let count = 0; count < LIMITS.transientLimit; count += 1) bench.answer(-EAGAIN);
  for (let count = 0; count < LIMITS.mediaLimit; count += 1) bench.answer(-EIO);
  bench.answer(BYTES);
  expect(bench.answers.map(({ outcome }) => outcome)).toEqual([Outcome.done, Outcome.done]);
});

for (const op of [Op.read, Op.write, Op.flush]) {
  for (const result of [-EBADE, submitFailure(EBADE)]) {
    const how = result === -EBADE ? "completes" : "is refused";
    test(`retry-filter: a ${OP_NAMES[op]} ${how} with EBADE: told first, once, never retried`, () => {
      const { filter, device, answers } = new Bench(op);
      const seen: number[] = [];
      filter.onFenced = () => seen.push(answers.length);
      device.answerLast(result);
      expect(seen).toEqual([0]);
      expect(answers).toEqual([{ outcome: Outcome.fenced, errno: EBADE }]);
      expect(filter.counters).toMatchObject({ read: 0, write: 0, retried: 0 });
      expect(filter.counters.kinds).toEqual({ [OP_NAMES[op]]: { EBADE: 1 } });
    });
  }
}

test("retry-filter: fenced between two tries: the next one is not sent", () => {
  const { filter, device, answers, clock, timers } = new Bench(Op.write);
  device.answerLast(-EAGAIN);
  filter.accepts = "fenced";
  while (clock.runNextTimer(timers));
  expect(device.submissions.length).toBe(1);
  expect(answers).toEqual([{ outcome: Outcome.fenced, errno: EBADE }]);
});

test("retry-filter: fenced before it is sent: refused as fenced, reads too", () => {
  for (const op of [Op.read, Op.write, Op.flush]) {
    const { filter, device, answers, clock, timers, request } = new Bench(op);
    device.answerLast(op === Op.flush ? 0 : BYTES);
    filter.accepts = "fenced";
    filter.submit(request);
    while (clock.runNextTimer(timers));
    expect(device.submissions.length).toBe(1);
    expect(answers.at(-1)).toEqual({ outcome: Outcome.fenced, errno: EBADE });
  }
});

test("retry-filter: EBADE of a request that was given up: told all the same", () => {
  const table = new IoTable(8);
  const device = new ScriptedDevice(table);
  const clock = new ManualClock();
  const router = new OutcomeRouter(table);
  const filter = new RetryFilter({ next: device, table, timers: new Timers(clock), router });
  const request = table.allocate();
  table.owner[request] = router.register((copy) => table.free(copy));
  table.op[request] = Op.write;
  table.bytes[request] = BYTES;
  filter.submit(request);
  expect(filter.abandon("all", 0, Outcome.memberLost)).toBe(1);
  let told = 0;
  filter.onFenced = () => {
    told += 1;
  };
  device.answer(request, -EBADE);
  expect(told).toBe(1);
  expect(filter.outstanding).toBe(0);
});

test("rule 10: sealed with a request under way: its buffer is kept, and it ends as a lost member", () => {
  const table = new IoTable(8);
  const device = new ScriptedDevice(table);
  const router = new OutcomeRouter(table);
  const timers = new Timers(new ManualClock());
  const pool = new SlabPool({ startAddress: ADDRESS, slabCount: 4 });
  const filter = new RetryFilter({ next: device, table, timers, router, pins: pool });
  const outcomes: OutcomeCode[] = [];
  const request = table.allocate();
  table.owner[request] = router.register((_, outcome) => outcomes.push(outcome));
  table.op[request] = Op.read;
  table.bytes[request] = BYTES;
  table.address[request] = pool.allocate(BYTES);
  filter.submit(request);
  filter.seal();
  pool.free(ADDRESS, BYTES);
  // Its owner has given it back, and the drive may still write to it.
  expect(pool.allocate(4 * SLAB_BYTES)).toBe(0);
  expect(filter.outstanding).toBe(1);
  device.answerLast(BYTES);
  expect(outcomes).toEqual([Outcome.memberLost]);
  expect(pool.allocate(4 * SLAB_BYTES)).toBe(ADDRESS);
  filter.submit(request);
  expect(device.submissions.length).toBe(1);
});

test("outcome router: a handler behind a broken guard: is not called, and the request is free", () => {
  const table = new IoTable(8);
  const router = new OutcomeRouter(table);
  const caught: unknown[] = [];
  const guard = { isBroken: false, caught: (error: unknown) => void caught.push(error) };
  const owner = router.behind(guard).register(() => {
    throw new Error("planted");
  });
  const [first, second] = [table.allocate(), table.allocate()];
  table.owner[first] = owner;
  table.owner[second] = owner;
  router.dispatch(first, Outcome.done, 0);
  expect(caught.length).toBe(1);
  guard.isBroken = true;
  router.dispatch(second, Outcome.done, 0);
  expect(caught.length).toBe(1);
  expect(table.available).toBe(table.capacity - 1);
});
