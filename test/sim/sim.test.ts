/**
 * Goal: within the fault budget no acknowledged and flushed write is lost, no request fails, and
 * once faults stop the array becomes clean and whole.
 * Method: seeded runs of the whole product on simulated drives and a virtual clock (workload.ts).
 * A day takes its share of 200 seeds; eight days in a row take all. `SEED=n bun test test/sim`
 * repeats one.
 */
import { afterAll, expect, test } from "bun:test";
import { Share, withShare } from "../helpers/share.ts";
import { runSeed } from "./workload/workload.ts";
import { RunCounts } from "./world/run-counts.ts";

const SEED_COUNT = 200;
const SEEDS_PER_TEST = 20;
const DAYS = 8;
/**
 * Every one of these must have been injected, or the run has tested less than it says: where the
 * share of the day lacks one, seeds of other days are run until it has come.
 */
const MUST_HAPPEN = [
  "errno 11",
  "errno 4",
  "errno 16",
  "errno 12",
  "refuse 11",
  "refuse 4",
  "refuse 16",
  "refuse 12",
  "short",
  "errno 5",
  "errno 61",
  "errno 84",
  "errno 121",
  "errno 28",
  "errno 6",
  "errno 19",
  "errno 67",
  "errno 131",
  "errno 22",
  "slow",
  "hang",
  "vanish",
  "latent",
  "two members",
  "dead",
  "half a write",
  "disconnect",
  "clock jump",
  "rot",
  "lose",
  "misdirect",
  "flush lie",
  "reserved",
  "fenced",
  "taken over",
  "given back",
  "passes in a rebuild",
  "lost beside a write",
  "full, holes",
  "full, copy-on-write",
  "refused, holes",
  "refused, copy-on-write",
];
const counts = new RunCounts();
const chosen = process.env["SEED"];

const ran = new Set<number>();

function run(seed: number): string {
  counts.seeds += 1;
  ran.add(seed);
  return runSeed(seed, counts);
}

if (chosen !== undefined) {
  test(`simulation: seed ${chosen}: keeps the promise`, () => {
    run(Number(chosen));
  });
} else {
  for (let first = 1; first <= SEED_COUNT; first += SEEDS_PER_TEST) {
    const today = new Share(`seeds from ${first}`, DAYS);
    const last = first + SEEDS_PER_TEST - 1;
    test(`simulation: seeds ${first} to ${last}: keep the promise`, () => {
      const seeds = Array.from({ length: SEEDS_PER_TEST }, (_, index) => first + index);
      for (const seed of today.of(seeds)) run(seed);
    });
  }

  test("simulation: one seed twice: the same run, event by event", () => {
    for (const seed of new Share("twice", 3).of([7, 8, 9]))
      expect(runSeed(seed)).toBe(runSeed(seed));
  });

  test("simulation: all seeds: each kind of fault was injected", () => {
    const missing = () => MUST_HAPPEN.filter((kind) => (counts.faults.get(kind) ?? 0) === 0);
    for (let seed = 1; seed <= SEED_COUNT && missing().length > 0; seed += 1) {
      if (!ran.has(seed)) run(seed);
    }
    withShare(() => expect(missing()).toEqual([]));
  });
}

afterAll(() => {
  console.log(counts.text());
});
