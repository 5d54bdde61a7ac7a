/**
 * Runs crash scenarios as tests, each with seeds until there are enough images. A day judges its
 * share of them: 24 days in a row judge, and recover, all that a run without shares does.
 */
import { afterAll, expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { POLICIES, policySuffix } from "../helpers/policies.ts";
import { Share, TAKES_ALL, withShare } from "../helpers/share.ts";
import { Counts, Matrix, type Sampling, type Scenario } from "./matrix.ts";

const SEEDS_MAX = 8;
const DAYS = 24;
/** CRASH_FACTOR=100 for a long run: so many times the images. A fraction for a quick look. */
const FACTOR = Number(process.env["CRASH_FACTOR"] ?? 1);
const SAMPLING: Sampling = { realEvery: 12, againEvery: 400, againBoundaryEvery: 9 };
/** With a log there are more events, and as many images of each. */
const SAMPLING_WITH_LOG: Sampling = { realEvery: 24, againEvery: 1200, againBoundaryEvery: 17 };

export interface RunOptions {
  title: string;
  scenarios: (policy: ConsistencyPolicy) => readonly Scenario[];
  /** Of each scenario, if its seeds give so many; on all days together. */
  imagesEach: number;
  /** Of all scenarios, on all days together. */
  imagesWanted: number;
  realWanted: number;
}

/** With each policy. */
export function runScenarios(options: RunOptions): void {
  for (const policy of POLICIES) runPolicy(policy, options);
}

function runPolicy(policy: ConsistencyPolicy, options: RunOptions): void {
  const { scenarios, imagesEach, imagesWanted, realWanted } = options;
  const title = `${options.title}${policySuffix(policy)}`;
  // The policies share the budget.
  const share = 1 / POLICIES.length;
  const total = new Counts();
  for (const scenario of scenarios(policy)) {
    const hasLog = policy !== "resync" || scenario.withLog === true;
    const sampling = hasLog ? SAMPLING_WITH_LOG : SAMPLING;
    const name = `${scenario.name}${policySuffix(policy)}`;
    test(`crash matrix: ${name}: what was promised is there`, () => {
      const counts = new Counts();
      const wanted = imagesEach * FACTOR * share;
      const last = SEEDS_MAX * Math.max(1, FACTOR);
      for (let seed = 1; seed <= last && counts.enumerated < wanted; seed += 1) {
        const today = new Share(`${name} ${seed}`, DAYS);
        const takes = (number: number) => today.takes(number);
        const matrix = new Matrix({ scenario, seed, sampling: { ...sampling, takes } }).run();
        counts.add(matrix.counts);
        withShare(() => expect(matrix.violations).toEqual([]));
      }
      expect(counts.images).toBeGreaterThan(0);
      total.add(counts);
    });
  }

  test(`crash matrix: ${title}: enough images of every kind were judged`, () => {
    const factor = (share * Math.min(1, FACTOR)) / (TAKES_ALL ? 1 : DAYS);
    expect(total.allImages).toBeGreaterThanOrEqual(imagesWanted * factor);
    expect(total.real + total.againReal).toBeGreaterThanOrEqual(realWanted * factor);
    // With the partial parity log only the first resync leaves an array that is refused.
    const isPlain = policy !== "ppl";
    if (isPlain) expect(total.forcedRecoveries).toBeGreaterThan(0);
    for (const kind of ["whole", "degraded", ...(isPlain ? ["refused"] : []), "too-few"]) {
      expect(total.kinds.get(kind) ?? 0).toBeGreaterThan(0);
    }
  });

  afterAll(() => console.log(`crash matrix, ${title}: ${total.text()}`));
}
