/**
 * Goal: a run of stripes is locked as a whole, in its turn, however busy its stripes are, and it
 * never waits for operations while it holds locks.
 * Method: the real lock table with writers of the test's own.
 */
import { expect, test } from "bun:test";
import { OpKind, StripeOps } from "../../../src/raid5/stripe/ops.ts";
import { RangeLock } from "../../../src/raid5/stripe/range-lock.ts";

function setUp(capacity: number) {
  const ops = new StripeOps(capacity);
  const granted = new Map<number, () => void>();
  const writersReady: number[] = [];
  const ready = (op: number): void => {
    const hold = granted.get(op);
    granted.delete(op);
    if (hold === undefined) writersReady.push(op);
    else hold();
  };
  const leave = (op: number): void => {
    const next = ops.giveUp(op);
    ops.free(op);
    if (next >= 0) ready(next);
  };
  const range = new RangeLock({
    ops,
    enter: (op, onGranted) => {
      granted.set(op, onGranted);
      if (ops.hold(op)) ready(op);
    },
    leave,
  });
  const write = (stripe: number): number => {
    const op = ops.allocate(OpKind.write, stripe);
    expect(op).toBeGreaterThanOrEqual(0);
    if (ops.hold(op)) ready(op);
    return op;
  };
  return { ops, range, write, leave, writersReady };
}

async function settled(promise: Promise<void>): Promise<boolean> {
  let isDone = false;
  void promise.then(() => {
    isDone = true;
  });
  await Promise.resolve();
  await Promise.resolve();
  return isDone;
}

test("range lock: stripes in use: granted when the last owner leaves, writers behind it wait", async () => {
  const { range, write, leave, writersReady } = setUp(16);
  const before = [write(11), write(13)];
  const taken = range.take(10, 5);
  expect(await settled(taken)).toBe(false);
  const behind = write(12);
  const apart = write(15);
  expect(writersReady).toEqual([...before, apart]);
  leave(before[0]!);
  expect(await settled(taken)).toBe(false);
  leave(before[1]!);
  expect(await settled(taken)).toBe(true);
  expect(writersReady).not.toContain(behind);
  range.release();
  expect(writersReady).toContain(behind);
});

test("range lock: too few operations: takes none, keeps others back, and comes to its turn", async () => {
  const { ops, range, write, leave } = setUp(8);
  const writers = [0, 1, 2, 3, 4].map(write);
  const taken = range.take(4, 4);
  expect([ops.inUse, range.isStarved]).toEqual([5, true]);
  leave(writers[0]!);
  range.start();
  expect([ops.inUse, range.isStarved]).toEqual([8, false]);
  expect(await settled(taken)).toBe(false);
  leave(writers[4]!);
  expect(await settled(taken)).toBe(true);
});

test("range lock: two runs that overlap: one after the other, in order", async () => {
  const { ops, range } = setUp(16);
  const first = range.take(0, 4);
  const second = range.take(2, 4);
  expect([await settled(first), await settled(second)]).toEqual([true, false]);
  range.release();
  expect(await settled(second)).toBe(true);
  range.release();
  expect(ops.inUse).toBe(0);
});
