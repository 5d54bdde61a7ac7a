/**
 * Goal: no order of commands, however mistaken, throws anything, breaks an array, or leaves anybody
 * without an answer (goal R27). Method: command-storm.ts, ten clients with twenty commands each, on
 * simulated drives and a virtual clock, with a quarter of 200 seeds each day; and by name what was
 * found to end the process.
 */
import { expect, test } from "bun:test";
import { MIB } from "../../../src/base/units.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { storm } from "../workload/command-storm.ts";
import { SimWorld } from "../world/sim-world.ts";

const SEEDS = 200;
const COMMANDS_PER_SEED = 100;
/** A change of the commands gives them another story. */
const FOUND = [309, 339, 466, 486, 678, 776, 806, 1673, 2429, 3512];

test("command storm: commands of every kind: each is answered, nothing breaks", () => {
  const seeds = Array.from({ length: SEEDS }, (_, index) => index + 1);
  withShare(() => {
    for (const seed of new Share("command storm", 4).of(seeds)) expectCalm(seed);
  });
});

test("command storm: the seeds that found something: nothing breaks any more", () => {
  for (const seed of FOUND) expectCalm(seed);
});

function expectCalm(seed: number): void {
  const { defects, answered } = storm({ seed });
  expect({ seed, defects }).toEqual({ seed, defects: [] });
  expect(answered).toBeGreaterThan(COMMANDS_PER_SEED);
}

test("array: all its drives are removed by force, then it is stopped: it is gone, another goes on", () => {
  const world = new SimWorld({ seed: 1 });
  for (const array of ["a", "b"]) {
    const drives = ["0", "1", "2"].map((index) => `${array}${index}`);
    for (const name of drives) world.addDrive({ name, sizeBytes: 4 * MIB });
    world.createArray({ name: array, drives, assumeClean: true, force: true });
  }
  for (const name of ["a0", "a1", "a2"]) world.must({ kind: "detach-drive", name, force: true });
  const stopped = world.must<"stop-array">({ kind: "stop-array", array: "a" });
  expect(stopped).toMatchObject({ state: "absent", degraded: 3 });
  expect(world.must<"list-arrays">({ kind: "list-arrays" }).map(({ name }) => name)).toEqual(["b"]);
  expect(world.run(world.client("b").write(0, new Uint8Array(4096)))).toBe(0);
  world.must({ kind: "shutdown" });
});
