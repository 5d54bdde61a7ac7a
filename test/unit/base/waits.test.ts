/**
 * Goal: what waits is woken by the change that it waits for, in the order of asking, and by nothing
 * else; free indexes are each given once.
 *
 * Method: signals and lists by hand, and a list against a set over random steps.
 */
import { expect, test } from "bun:test";
import { FreeList } from "../../../src/base/free-list.ts";
import { IndexQueue } from "../../../src/base/index-queue.ts";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { Signal } from "../../../src/base/signal.ts";

test("signal: until: looked at now and after each change, and ends with the first that holds", async () => {
  const signal = new Signal();
  let value = 0;
  let isThrough = false;
  const waiting = signal.until(() => value === 2).then(() => (isThrough = true));
  for (const [next, expected] of [
    [1, false],
    [2, true],
  ] as const) {
    value = next;
    await Promise.resolve();
    expect(isThrough).toBe(false);
    signal.raise();
    await Bun.sleep(0);
    expect(isThrough).toBe(expected);
  }
  await waiting;
  await signal.until(() => true);
});

test("signal: raise: wakes each once, those that wait again only at the next", async () => {
  const signal = new Signal();
  let wakes = 0;
  const again = (): Promise<void> =>
    signal.wait().then(() => {
      wakes += 1;
      return wakes < 4 ? again() : undefined;
    });
  const done = again();
  signal.raise();
  signal.raise();
  await Bun.sleep(0);
  expect(wakes).toBe(1);
  for (let count = 2; count <= 4; count += 1) {
    signal.raise();
    await Bun.sleep(0);
    expect(wakes).toBe(count);
  }
  await done;
});

test("free list: random steps: each index once, none when dry, one too many throws", () => {
  const random = new SeededRandom(7);
  const list = new FreeList(16);
  const taken = new Set<number>();
  for (let step = 0; step < 5000; step += 1) {
    if (nextBelow(random, 2) === 0) {
      const index = list.take();
      expect(index < 0).toBe(taken.size === 16);
      if (index < 0) continue;
      expect(taken.has(index)).toBe(false);
      taken.add(index);
    } else if (taken.size > 0) {
      const [index] = taken;
      taken.delete(index!);
      list.give(index!);
    }
    expect([list.inUse, list.available]).toEqual([taken.size, 16 - taken.size]);
  }
  for (const index of taken) list.give(index);
  expect(() => list.give(0)).toThrow("given back once");
});

test("index queue: round the ring: first in first out; full and empty throw", () => {
  const queue = new IndexQueue(3);
  for (let round = 0; round < 5; round += 1) {
    for (const index of [7, 8, 9]) queue.push(index + round);
    expect(() => queue.push(1)).toThrow("as large as the table");
    expect(queue.peek()).toBe(7 + round);
    expect([queue.shift(), queue.shift()]).toEqual([7 + round, 8 + round]);
    queue.push(5);
    expect([queue.length, queue.shift(), queue.shift(), queue.peek()]).toEqual([
      2,
      9 + round,
      5,
      -1,
    ]);
  }
  expect(() => queue.shift()).toThrow("not empty");
});

test("index queue: random pushes at both ends, shifts and removals: as an array does it", () => {
  const random = new SeededRandom(5);
  const queue = new IndexQueue(8);
  let model: number[] = [];
  for (let step = 0; step < 20_000; step += 1) {
    const index = nextBelow(random, 5);
    const choice = nextBelow(random, 4);
    if (choice === 0 && model.length < 8) {
      queue.push(index);
      model.push(index);
    } else if (choice === 1 && model.length < 8) {
      queue.unshift(index);
      model.unshift(index);
    } else if (choice === 2 && model.length > 0) {
      expect(queue.shift()).toBe(model.shift()!);
    } else if (choice === 3 && step % 5 === 0) {
      const kept = model.filter((other) => other !== index);
      expect(queue.remove(index)).toBe(model.length - kept.length);
      model = kept;
    }
    expect(queue.length).toBe(model.length);
    expect(queue.peek()).toBe(model[0] ?? -1);
    expect(model.map((_, place) => queue.at(place))).toEqual(model);
  }
  while (queue.length < 8) queue.push(1);
  for (const add of [() => queue.push(1), () => queue.unshift(1), () => queue.at(8)]) {
    expect(add).toThrow(/the queue/);
  }
});
