/**
 * Goal: the power may be cut at any event of an array's life (create, loss of a member, rebuild,
 * rollback, resync, stop, bad sectors), and what was promised holds, as in crash-writes.test.ts.
 * Method: the same matrix over the traces of these scenarios.
 */
import { expect, test } from "bun:test";
import { EIO } from "../../src/base/errno.ts";
import { MIB, ROW_BYTES } from "../../src/base/units.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { SimWorld } from "../sim/world/sim-world.ts";
import { cleanBase, type Shape } from "./bases.ts";
import { CrashLoad } from "./crash-load.ts";
import { runScenarios } from "./run-scenarios.ts";
import { lifeScenarios } from "./scenarios-life.ts";
import { reshapeScenarios } from "./scenarios-reshape.ts";

const AT_REST: Shape = { memberCount: 4, chunkKib: 4, stripes: 5 };

runScenarios({
  title: "life of an array",
  scenarios: (policy) => [...lifeScenarios(policy), ...reshapeScenarios(policy)],
  imagesEach: 5000,
  imagesWanted: 180_000,
  realWanted: 8000,
});

test("crash matrix: a bad sector at rest, and a crash in a write elsewhere: it reads as before", () => {
  const base = cleanBase(AT_REST);
  const world = SimWorld.restart(base.images, { seed: 1 });
  const oracle = base.oracle.clone();
  const load = new CrashLoad({ world, oracle, trace: null });
  world.device("drive0").faults.plan({
    op: Op.write,
    offset: MIB,
    bytes: ROW_BYTES,
    fault: { kind: "result", result: -EIO },
    count: 100,
  });
  // The first data chunk of the first stripe: its row is entered in the bad-block log.
  expect(world.run(load.write(0, 8))).toBe(0);
  expect(world.run(load.flush())).toBe(0);
  world.settle();
  expect(world.run(load.write(3 * 24, 8))).toBe(0);
  const images = world.crash("keep");
  oracle.crash();
  const after = SimWorld.restart(images, { seed: 2 });
  after.settle();
  const reader = new CrashLoad({ world: after, oracle, trace: null });
  expect(after.run(reader.read(0, oracle.sectorCount))).toBe(0);
  expect(after.status().lostBytes).toBe(0);
});
