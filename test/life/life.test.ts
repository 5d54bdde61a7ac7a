/**
 * Goal: nothing beside the data takes it down, and no name ever serves another array's data (R25).
 * Method: seeded sequences of what operators, hosts and other programs do, on the real control
 * thread, API and arrays over a simulated machine (README.md). `SEED=n bun test test/life` repeats
 * one.
 */
import { afterAll, expect, test } from "bun:test";
import { LifeCounts } from "./life-counts.ts";
import { runLife } from "./life-run.ts";

const SEED_COUNT = Number(process.env["LIFE_SEEDS"] ?? 500);
const SEEDS_PER_TEST = 25;
const counts = new LifeCounts();
const chosen = process.env["SEED"];

if (chosen !== undefined) {
  test(`life: seed ${chosen}: nothing is violated`, () => {
    runLife(Number(chosen), counts);
  }, 600_000);
} else {
  for (let first = 1; first <= SEED_COUNT; first += SEEDS_PER_TEST) {
    const last = Math.min(SEED_COUNT, first + SEEDS_PER_TEST - 1);
    test(`life: seeds ${first} to ${last}: nothing is violated`, () => {
      for (let seed = first; seed <= last; seed += 1) {
        counts.bump("run: sequences");
        runLife(seed, counts);
      }
    }, 600_000);
  }

  test("life: one seed twice: the same run, event by event", () => {
    for (const seed of [3, 4]) {
      expect(runLife(seed, new LifeCounts())).toBe(runLife(seed, new LifeCounts()));
    }
  }, 600_000);
}

afterAll(() => {
  console.log(counts.text());
});
