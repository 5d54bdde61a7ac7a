/** Arrays at rest on which crash scenarios stand: every sector written, every write durable. */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { assert } from "../../src/base/assert.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../src/base/units.ts";
import { encodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../src/md/superblock.ts";
import { withFineBitmap } from "../sim/world/fine-bitmap.ts";
import { withGarbageBehind } from "../sim/world/garbage-behind.ts";
import {
  blankImage,
  type DeviceImage,
  patchImage,
  readImage,
  type SectorBytes,
} from "../sim/world/media.ts";
import { superblockOf } from "../sim/world/member-oracle.ts";
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
/** Where md lets data begin at the earliest. */
const FIRST_DATA_SECTOR = 80;
/** Behind what says that a drive is in use. */
const GARBAGE_FROM = 64 * KIB;

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

/**
 * Full of data and clean, with drives at hand that are to become members, and hold something else.
 * With `gapChunks` there are so many chunks of room before the data of each member, and not more.
 */
export function reshapeBase(shape: Shape, { names, gapChunks }: ReshapeBaseOptions): Base {
  const clean = cleanBase(shape);
  const members = clean.images.map((image) => {
    return gapChunks === undefined ? image : withRoomBefore(image, gapChunks);
  });
  const added = names.map((name) => withGarbage(blankDrive(name, shape)));
  const world = SimWorld.restart(members, { seed: 3 });
  const memberCount = shape.memberCount + names.length;
  const sectorCount = sectorCountOf({ ...shape, memberCount });
  const oracle = new SectorOracle({ seed: ORACLE_SEED, sectorCount });
  const load = new CrashLoad({ world, oracle, trace: null });
  world.run(load.write(0, sectorCountOf(shape)));
  world.run(load.flush());
  world.settle();
  if (shape.policy === "bitmap") world.simulation.runFor(60_000);
  return { ...clean, images: [...world.images(), ...added], oracle };
}

export interface ReshapeBaseOptions {
  readonly names: readonly string[];
  /** Default: what a new array has. */
  readonly gapChunks?: number;
}

/** The member, without a log, with its data near to the front of the drive. */
function withRoomBefore(image: DeviceImage, chunks: number): DeviceImage {
  const superblock = superblockOf(image);
  assert(typeof superblock !== "string", "the drive is a member");
  const { dataOffsetSectors: from, chunkSectors, sizeSectors } = superblock;
  const dataOffsetSectors = FIRST_DATA_SECTOR + chunks * chunkSectors;
  const dataSizeSectors = superblock.dataSizeSectors + from - dataOffsetSectors;
  const data = readImage(image, from * SECTOR_BYTES, sizeSectors * SECTOR_BYTES);
  const moved = patchImage(image, dataOffsetSectors * SECTOR_BYTES, data);
  const block = encodeSuperblock({ ...superblock, dataOffsetSectors, dataSizeSectors });
  return patchImage(moved, SUPERBLOCK_OFFSET_BYTES, block);
}

function withGarbage(image: DeviceImage): DeviceImage {
  const bytes = new Uint8Array(image.sizeBytes - GARBAGE_FROM).map((_, index) => index * 11 + 5);
  return patchImage(image, GARBAGE_FROM, bytes);
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
