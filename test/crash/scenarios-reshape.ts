/**
 * Crash scenarios of a growth in members: writes behind the position, across it and ahead of it,
 * stops, and a member that dies.
 */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { KIB, SECTOR_BYTES } from "../../src/base/units.ts";
import { ARRAY_NAME, type SimWorld } from "../sim/world/sim-world.ts";
import { driveNames, reshapeBase, type Shape, sectorCountOf } from "./bases.ts";
import type { CrashLoad } from "./crash-load.ts";
import type { Base, Scenario } from "./matrix.ts";
import { rest } from "./scenarios-write.ts";

const ADDED = ["new0", "new1"];
const SLOW = 16 * KIB;

function set(
  world: SimWorld,
  settings: { syncSpeedMax?: number; consistencyPolicy?: ConsistencyPolicy },
): void {
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...settings });
}

/** Begins the growth; a log is left first. */
function begin(load: CrashLoad, drives: readonly string[], policyAfter: ConsistencyPolicy): void {
  const { world } = load;
  if (policyAfter !== "resync") set(world, { consistencyPolicy: "resync" });
  world.must<"add-members">({
    ...{ kind: "add-members", array: ARRAY_NAME, drives, force: false, policyAfter },
  });
}

/** The sector up to which all has been moved; null: nothing is being moved. */
function positionOf(world: SimWorld): number | null {
  const { geometry } = world.service.registry.byName(ARRAY_NAME)!.running!.core;
  return geometry.isReshaping ? geometry.positionBytes / SECTOR_BYTES : null;
}

/** Until it is through: writes behind the position, across it and ahead of it. */
function writeAround(load: CrashLoad, shape: Shape): void {
  const { world } = load;
  const end = sectorCountOf(shape);
  for (let round = 0; ; round += 1) {
    const at = positionOf(world);
    if (at === null) return;
    const across = Math.min(Math.max(0, at - 3), end - 12);
    const isBehind = round % 2 === 0;
    const all = [
      load.write(across, 7 + (round % 6)),
      load.write(isBehind ? Math.floor(across / 2) : end - 9 - (round % 40), 3, { fua: isBehind }),
    ];
    if (round % 3 === 2) all.push(load.flush());
    world.run(Promise.all(all));
    world.simulation.runFor(0.3 * (round % 4));
  }
}

/** Whoever has its new size has its policy back, and is written to up to its end. */
function end(load: CrashLoad, shape: Shape, policyAfter: ConsistencyPolicy): void {
  const { world, sectorCount } = load;
  if (positionOf(world) !== null) world.simulation.fail("the growth does not end");
  if (sectorCount <= sectorCountOf(shape)) world.simulation.fail("it has its old size");
  if (policyAfter !== "resync") set(world, { consistencyPolicy: policyAfter });
  const across = load.write(sectorCountOf(shape) - 2, 5);
  world.run(Promise.all([across, load.write(sectorCount - 3, 3, { fua: true })]));
  world.run(load.flush());
  rest(load);
}

export function reshapeScenarios(policy: ConsistencyPolicy): readonly Scenario[] {
  // Rows as sectors: a step leaves many of them open at a time.
  const rows = { chunkKib: 4, sectorBytes: 4096, policy } as const;
  const three: Shape = { ...rows, memberCount: 3, stripes: 8 };
  const four: Shape = { ...rows, memberCount: 4, stripes: 9 };
  const one = ADDED.slice(0, 1);
  // The tightest: the first step moves one stripe. A log has no room there.
  const tight = (): Base => {
    return reshapeBase(three, { names: one, ...(policy === "resync" ? { gapChunks: 1 } : {}) });
  };
  const scenarios: Scenario[] = [
    {
      name: "growth in members under writes",
      base: tight,
      body: (load, seed) => {
        const before = load.write((seed % 4) * 9 + 3, 6);
        begin(load, one, policy);
        writeAround(load, three);
        load.world.run(before);
        end(load, three, policy);
      },
    },
    {
      name: "growth in members: a stop in the middle, then it goes on",
      base: tight,
      body: (load, seed) => {
        const { world } = load;
        set(world, { syncSpeedMax: SLOW });
        begin(load, one, policy);
        // Between two of its steps, each time others.
        world.simulation.runFor(100 + 300 * (seed % 4));
        const written = load.write((seed % 5) * 13, 8);
        world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
        world.run(written);
        world.startArray();
        set(world, { syncSpeedMax: Number.MAX_SAFE_INTEGER });
        writeAround(load, three);
        end(load, three, policy);
      },
    },
  ];
  // Between leaving its log and having it back an array has the policy resync.
  if (policy !== "resync") return scenarios;
  return [
    ...scenarios,
    {
      name: "growth in members under writes, by two",
      base: () => reshapeBase(four, { names: ADDED }),
      body: (load, seed) => {
        begin(load, ADDED, policy);
        load.world.simulation.runFor(0.3 * (seed % 8));
        writeAround(load, four);
        end(load, four, policy);
      },
    },
    {
      name: "growth in members: one of them dies under writes",
      base: () => reshapeBase(three, { names: one }),
      body: (load, seed) => {
        const { world } = load;
        begin(load, one, policy);
        const before = [load.write((seed % 5) * 17, 8, { fua: true }), load.write(100, 12)];
        world.simulation.runFor(0.4 * (seed % 8));
        load.fact({ isHealthy: false });
        world.device([...driveNames(three), ...one][seed % 4]!).vanish("random");
        world.run(Promise.all([...before, load.write(70, 9)]));
        writeAround(load, three);
        end(load, three, policy);
      },
    },
  ];
}
