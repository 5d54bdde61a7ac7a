/** Arrays at rest on which crash scenarios stand: every sector written, every write durable. */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../src/base/units.ts";
import { withFineBitmap } from "../sim/world/fine-bitmap.ts";
import { withGarbageBehind } from "../sim/world/garbage-behind.ts";
import { blankImage, type DeviceImage, type SectorBytes } from "../sim/world/media.ts";
import { SectorOracle } from "../sim/world/oracle.ts";
import { ARRAY_NAME, SimWorld } from "../sim/world/sim-world.ts";
import { CrashLoad } from "./crash-load.ts";
import { Promises } from "./light-check.ts";
import type { Base } from "./matrix.ts";

export interface Shape {
  readonly memberCount: number;
  readonly chunkKib: number;
  readonly stripes: number;
  readonly sectorBytes?: SectorBytes;
  /** Default `resync`. */
  readonly policy?: ConsistencyPolicy;
}

export const DRIVE_BYTES = 4 * MIB;
const ORACLE_SEED = 7;

export function driveNames({ memberCount }: Shape): string[] {
  return Array.from({ length: memberCount }, (_, role) => `drive${role}`);
}

export function sectorCountOf({ memberCount, chunkKib, stripes }: Shape): number {
  return ((memberCount - 1) * stripes * chunkKib * KIB) / SECTOR_BYTES;
}

export function blankDrive(name: string, { sectorBytes = 512 }: Shape): DeviceImage {
  return blankImage({ name, sizeBytes: DRIVE_BYTES, sectorBytes });
}

export function create(world: SimWorld, shape: Shape): void {
  world.createArray({
    drives: driveNames(shape),
    chunkBytes: shape.chunkKib * KIB,
    memberSizeBytes: shape.stripes * shape.chunkKib * KIB,
    consistencyPolicy: shape.policy ?? "resync",
  });
}

/** Drives that no array has been made of. */
export function blankBase(shape: Shape): Base {
  return {
    images: driveNames(shape).map((name) => blankDrive(name, shape)),
    oracle: new SectorOracle({ seed: ORACLE_SEED, sectorCount: sectorCountOf(shape) }),
    facts: { doesExist: false, isHealthy: true },
  };
}

/** Runs `work` on what a base has become; all drives as they are at its end. */
function prolong(base: Base, work: (load: CrashLoad) => void): Base {
  const world = SimWorld.restart(base.images, { seed: 3 });
  const oracle = base.oracle.clone();
  work(new CrashLoad({ world, oracle, trace: null }));
  return { ...base, images: world.images(), oracle };
}

const cleanBases = new Map<string, Base>();

/** Full of data, and clean. */
export function cleanBase(shape: Shape): Base {
  const key = JSON.stringify(shape);
  const known = cleanBases.get(key);
  if (known !== undefined) return known;
  const made = prolong(blankBase(shape), (load) => {
    const { world } = load;
    create(world, shape);
    world.settle();
    world.run(load.write(0, load.oracle.sectorCount));
    world.run(load.flush());
    world.settle();
    // All bits are cleared.
    if (shape.policy === "bitmap") world.simulation.runFor(60_000);
  });
  const images = made.images.map((image) => withFineBitmap(image));
  const base = { ...made, images, facts: { doesExist: true, isHealthy: true } };
  cleanBases.set(key, base);
  return base;
}

/**
 * Full of data and clean, on drives that have room for more stripes, and that hold something else
 * there. The oracle knows those too: nothing is promised of them before they are written.
 */
export function growBase(shape: Shape, stripes: number): Base {
  const blank = blankBase(shape);
  const sectorCount = sectorCountOf({ ...shape, stripes });
  const oracle = new SectorOracle({ seed: ORACLE_SEED, sectorCount, isInitial: () => true });
  const usedCount = sectorCountOf(shape);
  const made = prolong({ ...blank, oracle }, (load) => {
    const { world } = load;
    create(world, shape);
    world.settle();
    world.run(load.write(0, usedCount));
    world.run(load.flush());
    world.settle();
    if (shape.policy === "bitmap") world.simulation.runFor(60_000);
  });
  const images = made.images.map((image) => withGarbageBehind(withFineBitmap(image)));
  const behind = Array.from({ length: sectorCount - usedCount }, (_, index) => usedCount + index);
  const hole = { sectors: new Set(behind), lastVersion: made.oracle.lastVersion };
  return { ...made, images, facts: { doesExist: true, isHealthy: true }, hole };
}

/** One member is gone for good, on record; clean. Its drive is left out, unless it is wanted. */
export function degradedBase(shape: Shape, { role, keepDrive = false }: DegradedOptions): Base {
  const base = prolong(cleanBase(shape), ({ world }) => {
    const drive = driveNames(shape)[role]!;
    world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive });
    world.simulation.runFor(1000);
  });
  const images = base.images.filter((_, device) => keepDrive || device !== role);
  return { images, oracle: base.oracle, facts: { doesExist: true, isHealthy: false } };
}

export interface DegradedOptions {
  readonly role: number;
  readonly keepDrive?: boolean;
}

/** Power was cut in the middle of writes: dirty, with parity that does not hold everywhere. */
export function dirtyBase(shape: Shape, seed: number): Base {
  const clean = cleanBase(shape);
  const world = SimWorld.restart(clean.images, { seed });
  const oracle = clean.oracle.clone();
  const load = new CrashLoad({ world, oracle, trace: null });
  for (let lba = 0; lba + 8 <= oracle.sectorCount; lba += 24) void load.write(lba, 8);
  // Past the dirty mark, with the data and parity of the writes under way.
  world.simulation.runFor(0.9 + (seed % 5) * 0.2);
  const images = world.crash("random");
  oracle.crash();
  return { images, oracle, facts: clean.facts, earlier: new Promises(oracle.clone()) };
}
