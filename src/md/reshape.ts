/**
 * A reshape that is under way: the array is moved from n to n + delta members, with its data moved
 * to the front of each member, so that no backup is needed.
 *
 *   byte  type   field (md's name)
 *    100  s32    new_level             as the present level
 *    104  u64    reshape_position      sectors of the array
 *    112  s32    delta_disks           n + delta is raid_disks from the begin
 *    116  u32    new_layout            as the present layout
 *    120  u32    new_chunk             as the present chunk
 *    124  s32    new_offset            with bit 0x40; negative: to the front
 *
 *   member  | ... | new: data_offset + new_offset | old: data_offset                         |
 *   array   below the position: over n + delta members, at the new offset
 *           from the position on: over n members, at the old offset, up to the old size
 *
 * The position runs to the size of the larger array: what lies behind the old size is written as
 * zeros, with their parity. It stands at whole stripes of the larger array; md does not go on with
 * one that does not. At the end the data offset of each member is the new one, the room for data
 * grows by the gap, and the bits are cleared. md leaves the fields as they were then; without the
 * bit they mean nothing.
 */
import { assert } from "../base/assert.ts";
import { readU64, viewOf, writeU64 } from "./little-endian.ts";
import { Feature, type Superblock } from "./superblock-fields.ts";

const RESHAPE_BYTES = 28;
const RESHAPE_FEATURES = Feature.reshape | Feature.reshapeBackwards | Feature.newOffset;

export interface Reshape {
  /** Of the array: what lies below is laid out over all members, at their new offset. */
  readonly positionSectors: number;
  /** Members that the array had not before. Negative: it shrinks. */
  readonly deltaMembers: number;
  /** Of this member, added to its data offset: negative. 0: its data stays. */
  readonly newOffsetSectors: number;
}

/** The fields at byte 100, whatever the feature bits say of them. */
export interface ReshapeFields extends Reshape {
  readonly newLevel: number;
  readonly newLayout: number;
  readonly newChunkSectors: number;
}

type Holder = Pick<Superblock, "otherFeatures" | "reshapeBytes">;

/** Null: no reshape is under way. */
export function reshapeOf(superblock: Holder): Reshape | null {
  if ((superblock.otherFeatures & Feature.reshape) === 0) return null;
  const { positionSectors, deltaMembers, newOffsetSectors } = reshapeFieldsOf(superblock);
  return { positionSectors, deltaMembers, newOffsetSectors };
}

/** `newOffsetSectors` is 0 without its feature bit. */
export function reshapeFieldsOf({ otherFeatures, reshapeBytes }: Holder): ReshapeFields {
  assert(reshapeBytes.length === RESHAPE_BYTES, "the reshape fields take 28 bytes");
  const view = viewOf(reshapeBytes);
  const isMoving = (otherFeatures & Feature.newOffset) !== 0;
  return {
    newLevel: view.getInt32(0, true),
    positionSectors: readU64(view, 4),
    deltaMembers: view.getInt32(12, true),
    newLayout: view.getUint32(16, true),
    newChunkSectors: view.getUint32(20, true),
    newOffsetSectors: isMoving ? view.getInt32(24, true) : 0,
  };
}

/**
 * The superblock with a reshape that stands there. Its `memberCount` is the new one already: see
 * `begunReshape`.
 */
export function withReshape(superblock: Superblock, reshape: Reshape): Superblock {
  const { positionSectors, deltaMembers, newOffsetSectors } = reshape;
  assert(Number.isSafeInteger(positionSectors) && positionSectors >= 0, "a position is a sector");
  assert(Number.isInteger(deltaMembers) && deltaMembers >= 1, "an array grows by a member");
  assert(superblock.memberCount > deltaMembers, "the array had members before");
  assert(
    Number.isInteger(newOffsetSectors) && newOffsetSectors < 0 && newOffsetSectors >= -(2 ** 31),
    "the data moves to the front",
  );
  const reshapeBytes = new Uint8Array(RESHAPE_BYTES);
  const view = viewOf(reshapeBytes);
  view.setInt32(0, superblock.level, true);
  writeU64(view, 4, positionSectors);
  view.setInt32(12, deltaMembers, true);
  view.setUint32(16, superblock.layout, true);
  view.setUint32(20, superblock.chunkSectors, true);
  view.setInt32(24, newOffsetSectors, true);
  const otherFeatures =
    (superblock.otherFeatures & ~RESHAPE_FEATURES) | Feature.reshape | Feature.newOffset;
  return { ...superblock, otherFeatures, reshapeBytes };
}

/** The superblock at the begin: it counts the new members, and nothing has moved. */
export function begunReshape(
  superblock: Superblock,
  { deltaMembers, newOffsetSectors }: Omit<Reshape, "positionSectors">,
): Superblock {
  assert(reshapeOf(superblock) === null, "an array reshapes once at a time");
  const memberCount = superblock.memberCount + deltaMembers;
  return withReshape(
    { ...superblock, memberCount },
    { positionSectors: 0, deltaMembers, newOffsetSectors },
  );
}

/** The superblock at the end, as md_finish_reshape of the kernel leaves it: the data has moved. */
export function finishedReshape(superblock: Superblock): Superblock {
  const reshape = reshapeOf(superblock);
  assert(reshape !== null, "a reshape is under way");
  const { newOffsetSectors } = reshape;
  const dataOffsetSectors = superblock.dataOffsetSectors + newOffsetSectors;
  const dataSizeSectors = superblock.dataSizeSectors - newOffsetSectors;
  assert(newOffsetSectors < 0 && dataOffsetSectors > 0, "the data has moved to the front");
  return { ...withoutReshape(superblock), dataOffsetSectors, dataSizeSectors };
}

/** The superblock of a drive that holds no data, out of any reshape: its room stays where it is. */
export function withoutReshape(superblock: Superblock): Superblock {
  const otherFeatures = superblock.otherFeatures & ~RESHAPE_FEATURES;
  return { ...superblock, otherFeatures, reshapeBytes: new Uint8Array(RESHAPE_BYTES) };
}

/** Where the data of a member begins, or will: nothing else may lie from there on. */
export function firstDataSector(superblock: Superblock): number {
  const newOffset = reshapeOf(superblock)?.newOffsetSectors ?? 0;
  return superblock.dataOffsetSectors + Math.min(0, newOffset);
}

/** Of the array, in sectors, with so many members. */
export function arraySectors(
  { sizeSectors, chunkSectors }: Pick<Superblock, "sizeSectors" | "chunkSectors">,
  memberCount: number,
): number {
  assert(chunkSectors > 0 && memberCount >= 2, "an array has chunks on two members at least");
  return (sizeSectors - (sizeSectors % chunkSectors)) * (memberCount - 1);
}
