/**
 * Goal: timers run once, in the order of their time (then of scheduling), never early, and a
 * cancelled one never. Method: a clock that the test moves; a model with a sorted list.
 */
import { expect, test } from "bun:test";
import { SeededRandom } from "../../../src/base/random.ts";
import { Timers } from "../../../src/reactor/timers.ts";

function setUp() {
  const clock = { now: 0, nowMs: () => clock.now, wallMs: () => 0 };
  const timers = new Timers(clock);
  const fired: string[] = [];
  const at = (atMs: number, name: string) => timers.schedule(atMs, () => fired.push(name));
  return { clock, timers, fired, at };
}

test("timers: none scheduled: there is nothing to wait for", () => {
  const { timers } = setUp();
  expect(timers.nextDelayMs()).toBe(-1);
  expect(timers.runDue()).toBe(0);
});

test("timers: before, at and after its time: runs once, not early", () => {
  const { clock, timers, fired, at } = setUp();
  at(10, "a");
  clock.now = 9.9;
  expect(timers.runDue()).toBe(0);
  expect(timers.nextDelayMs()).toBeCloseTo(0.1);
  clock.now = 10;
  expect(timers.nextDelayMs()).toBe(0);
  expect(timers.runDue()).toBe(1);
  expect(timers.runDue()).toBe(0);
  expect(fired).toEqual(["a"]);
  expect(timers.nextDelayMs()).toBe(-1);
});

test("timers: equal times: run in the order of scheduling", () => {
  const { clock, timers, fired, at } = setUp();
  for (const name of ["a", "b", "c", "d", "e"]) at(5, name);
  clock.now = 5;
  timers.runDue();
  expect(fired).toEqual(["a", "b", "c", "d", "e"]);
});

test("timers: cancelled at the top, in the middle, twice and too late: only the others run", () => {
  const { clock, timers, fired, at } = setUp();
  const top = at(1, "top");
  const middle = at(2, "middle");
  const last = at(3, "last");
  timers.cancel(middle);
  timers.cancel(top);
  timers.cancel(top);
  expect(timers.nextDelayMs()).toBe(3);
  clock.now = 5;
  timers.runDue();
  timers.cancel(last);
  expect(fired).toEqual(["last"]);
  expect(timers.nextDelayMs()).toBe(-1);
});

test("timers: one scheduled by a callback: runs in a later call, even when due at once", () => {
  const { timers, fired } = setUp();
  timers.scheduleAfter(0, () => {
    fired.push("first");
    timers.scheduleAfter(0, () => fired.push("second"));
  });
  expect(timers.runDue()).toBe(1);
  expect(timers.nextDelayMs()).toBe(0);
  expect(timers.runDue()).toBe(1);
  expect(fired).toEqual(["first", "second"]);
});

test("timers: a callback cancels one that is due in the same call: it does not run", () => {
  const { clock, timers, fired, at } = setUp();
  timers.schedule(1, () => timers.cancel(second));
  const second = at(2, "second");
  clock.now = 3;
  expect(timers.runDue()).toBe(1);
  expect(fired).toEqual([]);
});

test("timers: sleep: resolves after its time", async () => {
  const { clock, timers, fired } = setUp();
  const sleeping = timers.sleep(7).then(() => fired.push("awake"));
  clock.now = 7;
  timers.runDue();
  await sleeping;
  expect(fired).toEqual(["awake"]);
});

test("timers: many, with cancellations: the same order as a sorted list", () => {
  const random = new SeededRandom(7);
  const { clock, timers, fired, at } = setUp();
  const model: { atMs: number; name: string; handle: number }[] = [];
  for (let index = 0; index < 2000; index += 1) {
    const atMs = random.nextU32() % 500;
    model.push({ atMs, name: `${index}`, handle: at(atMs, `${index}`) });
    if (random.nextU32() % 3 === 0) {
      const [gone] = model.splice(random.nextU32() % model.length, 1);
      timers.cancel(gone!.handle);
    }
  }
  model.sort((left, right) => left.atMs - right.atMs || left.handle - right.handle);
  for (clock.now = 0; clock.now < 500; clock.now += 13) timers.runDue();
  clock.now = 500;
  timers.runDue();
  expect(fired).toEqual(model.map(({ name }) => name));
});

test("timers: every: again and again, until its end, also where that is told in its own call", () => {
  const { clock, timers } = setUp();
  const calls: number[] = [];
  const end = timers.every(10, () => {
    calls.push(clock.nowMs());
    if (calls.length === 3) end();
  });
  for (let step = 0; step < 8; step += 1) {
    clock.now += 5;
    timers.runDue();
  }
  expect(calls).toEqual([10, 20, 30]);
  const endOther = timers.every(10, () => calls.push(0));
  endOther();
  clock.now += 50;
  timers.runDue();
  expect([calls.length, timers.nextDelayMs()]).toEqual([3, -1]);
});
