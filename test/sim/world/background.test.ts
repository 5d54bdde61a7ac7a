/**
 * Goal: an exception in work that nobody waits for ends a simulated run at once, with its error.
 * Otherwise the run would show it as a hang at most.
 * Method: such work throws in the middle of a run; and no source that runs simulated starts work
 * in any other way than `inBackground`.
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { inBackground } from "../../../src/base/background.ts";
import { Simulation } from "./simulation.ts";

const SOURCES = [..."array base block md nbd parity raid5 wiring".split(" ")];

test("simulation: an exception where nobody waits: thrown at once by who turned", () => {
  const simulation = new Simulation({ seed: 1 });
  const work = async (): Promise<void> => {
    await simulation.timers.sleep(5);
    throw new TypeError("the bug");
  };
  inBackground(work(), null);
  expect(() => simulation.runFor(1_000_000)).toThrow("the bug");
  expect(simulation.nowMs()).toBeLessThan(6);
});

test("simulation: work that nobody waits for: always told of, never only void", () => {
  const found: string[] = [];
  for (const folder of SOURCES) {
    for (const path of new Bun.Glob(`src/${folder}/**/*.ts`).scanSync(".")) {
      for (const line of readFileSync(path, "utf8").split("\n")) {
        const isVoid = /(^|=> |else |\) )\s*void [\w.]+\(/.test(line);
        if (isVoid && !path.endsWith("background.ts")) found.push(`${path}: ${line.trim()}`);
      }
    }
  }
  expect(found).toEqual([]);
});
