/**
 * Goal: a simulation repeats exactly, in the order that the real loop has, and says so when it is
 * stuck.
 * Method: hand-made events, timers and tasks; runs of one seed compared by their trace hash.
 */
import { expect, test } from "bun:test";
import { nextBelow } from "../../../src/base/random.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { HandDrive, ROW } from "./equipment-helpers.ts";
import { Simulation } from "./simulation.ts";

async function manyTasks(simulation: Simulation): Promise<void> {
  const random = simulation.splitRandom();
  const task = async (number: number) => {
    for (let wait = 0; wait < 5; wait += 1) {
      await simulation.timers.sleep(nextBelow(random, 50));
      simulation.note("task", number, wait);
    }
  };
  await Promise.all(Array.from({ length: 200 }, (_, number) => task(number)));
}

function hashOfRun(seed: number): string {
  const simulation = new Simulation({ seed, batchChance: 0.3 });
  simulation.settle(manyTasks(simulation), { limitMs: 10_000 });
  const drive = new HandDrive({ seed });
  for (let turn = 0; turn < 20; turn += 1) {
    drive.submit(Op.write, { offset: turn * ROW, fill: turn });
  }
  drive.simulation.runUntilIdle({ limitMs: 1000 });
  return `${simulation.traceHash} ${drive.simulation.traceHash}`;
}

test("simulation: one seed, ten runs: one trace hash; other seeds have others", () => {
  const hashes = new Set(Array.from({ length: 10 }, () => hashOfRun(7)));
  expect(hashes.size).toBe(1);
  expect(new Set([1, 2, 3, 4, 5].map(hashOfRun)).size).toBe(5);
});

test("simulation: events of one time: as scheduled, then timers, hooks, microtasks", () => {
  const simulation = new Simulation({ seed: 1 });
  const log: string[] = [];
  const later = async (name: string) => {
    await null;
    await null;
    log.push(name);
  };
  simulation.onTurn(() => log.push("hook"));
  simulation.timers.schedule(5, () => log.push("timer"));
  for (const name of ["a", "b"]) {
    simulation.scheduleAt(5, () => {
      log.push(name);
      void later(`${name} later`);
    });
  }
  simulation.scheduleAt(4, () => log.push("first"));
  simulation.runUntilIdle({ limitMs: 10 });
  expect(log.slice(0, 8)).toEqual(["first", "hook", "a", "timer", "hook", "a later", "b", "hook"]);
});

test("simulation: a batch: its events come one after the other, the turn after them", () => {
  const simulation = new Simulation({ seed: 1, batchChance: 1 });
  const log: string[] = [];
  simulation.onTurn(() => log.push("hook"));
  for (const atMs of [1, 1.02, 1.04, 3]) simulation.scheduleAt(atMs, () => log.push(`${atMs}`));
  simulation.step();
  simulation.step();
  expect(log).toEqual(["1", "1.02", "1.04", "hook", "3", "hook"]);
});

test("simulation: nothing left to happen, or too slow: an error that names the seed", () => {
  const simulation = new Simulation({ seed: 99 });
  expect(() => simulation.runUntil(() => false, { limitMs: 10 })).toThrow("SEED=99");
  simulation.timers.schedule(50, () => {});
  expect(() => simulation.runUntil(() => false, { limitMs: 10 })).toThrow("within 10 ms");
  expect(simulation.nowMs()).toBe(0);
});

test("simulation: a hook works off what microtasks left after the last event: still seen", () => {
  const simulation = new Simulation({ seed: 1 });
  let queued = 0;
  simulation.onTurn(() => {
    if (queued === 0) return;
    queued = 0;
    simulation.scheduleAfter(1, () => {});
  });
  simulation.scheduleAt(1, () => void Promise.resolve().then(() => (queued += 1)));
  simulation.runUntilIdle({ limitMs: 10 });
  expect(simulation.nowMs()).toBe(2);
});

test("simulation: the wall clock jumps: the monotonic one does not", () => {
  const simulation = new Simulation({ seed: 1 });
  const beforeMs = simulation.wallMs();
  simulation.jumpWall(-3_600_000);
  expect(simulation.wallMs()).toBe(beforeMs - 3_600_000);
  expect(simulation.nowMs()).toBe(0);
});
