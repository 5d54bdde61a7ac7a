/**
 * Goal: within the fault budget no acknowledged and flushed write is lost, no request fails, and
 * once faults stop the array becomes clean and whole.
 * Method: seeded runs of the whole product on simulated drives and a virtual clock (workload.ts).
 * `SEED=n bun test test/sim` repeats one.
 */
import { afterAll, expect, test } from "bun:test";
import { RunCounts } from "./run-counts.ts";
import { runSeed } from "./workload.ts";

const SEED_COUNT = 200;
const SEEDS_PER_TEST = 20;
/** Every one of these must have been injected, or the run has tested less than it says. */
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

function run(seed: number): string {
  counts.seeds += 1;
  return runSeed(seed, counts);
}

if (chosen !== undefined) {
  test(`simulation: seed ${chosen}: keeps the promise`, () => {
    run(Number(chosen));
  }, 600_000);
} else {
  for (let first = 1; first <= SEED_COUNT; first += SEEDS_PER_TEST) {
    const last = first + SEEDS_PER_TEST - 1;
    test(`simulation: seeds ${first} to ${last}: keep the promise`, () => {
      for (let seed = first; seed <= last; seed += 1) run(seed);
    }, 600_000);
  }

  test("simulation: one seed twice: the same run, event by event", () => {
    for (const seed of [7, 8, 9]) expect(runSeed(seed)).toBe(runSeed(seed));
  }, 600_000);

  test("simulation: all seeds: each kind of fault was injected", () => {
    const missing = MUST_HAPPEN.filter((kind) => (counts.faults.get(kind) ?? 0) === 0);
    expect(missing).toEqual([]);
  });
}

afterAll(() => {
  console.log(counts.text());
});
