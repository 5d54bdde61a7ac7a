/** Runs crash scenarios as tests, each with seeds until enough images were judged. */
import { afterAll, expect, test } from "bun:test";
import { Counts, Matrix, type Sampling, type Scenario } from "./matrix.ts";

const SEEDS_MAX = 8;
/** CRASH_FACTOR=100 for a long run: so many times the images. A fraction for a quick look. */
const FACTOR = Number(process.env["CRASH_FACTOR"] ?? 1);
const SAMPLING: Sampling = { realEvery: 8, againEvery: 160, againBoundaryEvery: 9 };

export function runScenarios(options: {
  title: string;
  scenarios: readonly Scenario[];
  /** Of each scenario, if its seeds give so many. */
  imagesEach: number;
  /** Of all together. */
  imagesWanted: number;
  realWanted: number;
}): void {
  const { title, scenarios, imagesEach, imagesWanted, realWanted } = options;
  const total = new Counts();
  for (const scenario of scenarios) {
    test(`crash matrix: ${scenario.name}: what was promised is there`, () => {
      const counts = new Counts();
      const wanted = imagesEach * FACTOR;
      for (
        let seed = 1;
        seed <= SEEDS_MAX * Math.max(1, FACTOR) && counts.images < wanted;
        seed += 1
      ) {
        const matrix = new Matrix({ scenario, seed, sampling: SAMPLING }).run();
        counts.add(matrix.counts);
        expect(matrix.violations).toEqual([]);
      }
      total.add(counts);
    });
  }

  test(`crash matrix: ${title}: enough images of every kind were judged`, () => {
    expect(total.allImages).toBeGreaterThanOrEqual(imagesWanted * Math.min(1, FACTOR));
    expect(total.real + total.againReal).toBeGreaterThanOrEqual(realWanted * Math.min(1, FACTOR));
    expect(total.forcedRecoveries).toBeGreaterThan(0);
    for (const kind of ["whole", "degraded", "refused", "too-few"]) {
      expect(total.kinds.get(kind) ?? 0).toBeGreaterThan(0);
    }
  });

  afterAll(() => console.log(`crash matrix, ${title}: ${total.text()}`));
}
