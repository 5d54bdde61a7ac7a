/** What a drive that has left its array can still be to it. */
import { assert } from "../../base/assert.ts";
import { findSplitBrain } from "../../md/assemble/history.ts";
import { findUnfit } from "../../md/assemble/match.ts";
import { roleOf, type Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import { hasBitmapRoom } from "../policy/array-policy.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import type { ArrayCore } from "../running/array-core.ts";

/** A drive that was in sync, without a bad sector, in a role that is free now. */
export function isFormerMember(array: RaidArray, drive: Drive): boolean {
  const { identity, state, roster } = array.core;
  const { superblock } = drive;
  if (superblock === null) return false;
  const role = roleOf(superblock, superblock.devNumber);
  if (role >= roster.memberCount || !roster.isFree(role)) return false;
  const isSame =
    superblock.arrayUuid === identity.arrayUuid &&
    superblock.sizeSectors === identity.sizeSectors &&
    superblock.chunkSectors === identity.chunkSectors &&
    superblock.layout === identity.layout &&
    superblock.recoveryOffsetSectors === null &&
    !superblock.hasBadBlocks;
  if (!isSame || superblock.events > state.events) return false;
  return othersOf(array, drive).every(
    (other) => other.superblock!.devNumber !== superblock.devNumber,
  );
}

/**
 * Whether a drive with a superblock of this array was written to apart from it; null: no drive
 * here tells.
 */
export function hasOtherHistory(array: RaidArray, drive: Drive): boolean | null {
  const own = drive.superblock;
  assert(own !== null, "a history is told by a superblock");
  const candidates = [drive, ...othersOf(array, drive)].map(({ name, superblock, info }) => {
    assert(superblock !== null, "the others of an array carry superblocks");
    return { drive: name, superblock, deviceBytes: info.sizeBytes };
  });
  const { events } = array.core.state;
  const [candidate, ...others] = candidates;
  // An update may be on its way: what the members say now is one event older.
  const [freshest] = others
    .filter(({ superblock }) => superblock.events >= events - 1)
    .sort((one, another) => another.superblock.events - one.superblock.events);
  // The step from dirty to clean may count down by one: that says nothing.
  if (own.events > events + 1) return true;
  if (freshest === undefined) return null;
  // An update that was cut short may have reached this drive alone.
  const isAhead = own.events > freshest.superblock.events;
  return findSplitBrain(candidates, isAhead ? candidate! : freshest) !== null;
}

/**
 * Whether a drive that was a member needs only what the bitmap knows to have changed since it left
 * (write-rules 19): it was in sync in the role that is free, its superblock tells this array's own
 * history, and no bit was cleared after it had left.
 */
export function canRebuildPartially(array: RaidArray, drive: Drive): boolean {
  const { bitmap } = array.policy;
  const { superblock } = drive;
  if (bitmap === null || superblock === null || superblock.log.kind !== "bitmap") return false;
  if (!isFit(array.core, drive, superblock) || !hasBitmapRoom(bitmap, superblock, drive))
    return false;
  if (!isFormerMember(array, drive) || hasOtherHistory(array, drive) !== false) return false;
  return bitmap.allowsPartialRebuild(superblock.events);
}

/** Its superblock stays as it is: nobody has judged it yet. */
function isFit({ identity }: ArrayCore, { name, info }: Drive, superblock: Superblock): boolean {
  const candidate = { drive: name, superblock, deviceBytes: info.sizeBytes };
  return findUnfit({ ...candidate, ...info }, identity) === null;
}

/** The others of the array; one that is just being seated has no superblock of it yet. */
function othersOf(array: RaidArray, drive: Drive): Drive[] {
  return [...array.core.roster.drives()].filter(
    (other) => other !== drive && other.superblock !== null,
  );
}

/** Why a drive that says that it left this array may not be written over without being asked. */
export function staleObstacle(
  record: ArrayRecord,
  array: RaidArray,
  drive: Drive,
): CommandError | null {
  assert(drive.superblock !== null, "a drive that is stale carries a superblock");
  const { deviceUuid } = drive.superblock;
  for (const other of array.core.roster.drives()) {
    if (other === drive || other.superblock?.deviceUuid !== deviceUuid) continue;
    const detail =
      `drive ${drive.name} is a copy of drive ${other.name} of array ${record.name}: disconnect ` +
      "it, or add it with force to use it";
    return commandError("conflict", "duplicate-member", detail);
  }
  if (hasOtherHistory(array, drive) !== true) return null;
  const detail =
    `drive ${drive.name} was written to apart from array ${record.name} and may hold data that ` +
    "the array lacks: add it with force to give that up";
  return commandError("conflict", "split-brain", detail);
}
