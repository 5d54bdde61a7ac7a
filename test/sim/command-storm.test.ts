/**
 * Goal: no order of commands, however mistaken, throws anything, breaks an array, or leaves anybody
 * without an answer (goal R27). Method: command-storm.ts, ten clients with twenty commands each, on
 * simulated drives and a virtual clock; and by name what was found to end the process.
 */
import { expect, test } from "bun:test";
import { MIB } from "../../src/base/units.ts";
import { storm } from "./command-storm.ts";
import { SimWorld } from "./sim-world.ts";

const SEEDS = 25;
const COMMANDS_PER_SEED = 100;
/** These need what they are about kept for as long as they run. */
const WITHOUT = ["delete-array", "detach-drive", "start-array"];

test("command storm: commands of every kind that keeps its array: each is answered, nothing breaks", () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const { defects, answered } = storm({ seed, without: WITHOUT });
    expect({ seed, defects }).toEqual({ seed, defects: [] });
    expect(answered).toBeGreaterThan(COMMANDS_PER_SEED);
  }
}, 120_000);

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
