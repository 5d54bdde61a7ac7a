/** What a drive that has left its array can still be to it. */
import { findSplitBrain } from "../../md/assemble/history.ts";
import { roleOf } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../registry.ts";

/** A drive that was in sync, without a bad sector, in a role that is free now. */
export function isFormerMember(array: RaidArray, drive: Drive): boolean {
  const { identity, state } = array;
  const { superblock } = drive;
  if (superblock === null) return false;
  const role = roleOf(superblock, superblock.devNumber);
  const slot = array.roles[role];
  if (slot === undefined || (slot.state !== "missing" && slot.state !== "faulty")) return false;
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
  const candidates = [drive, ...othersOf(array, drive)].map((other) => ({
    drive: other.name,
    superblock: other.superblock!,
    deviceBytes: other.info.sizeBytes,
  }));
  const { events } = array.state;
  // An update may be on its way: what the members say now is one event older.
  const [freshest] = candidates
    .slice(1)
    .filter(({ superblock }) => superblock.events >= events - 1)
    .sort((one, another) => another.superblock.events - one.superblock.events);
  // The step from dirty to clean may count down by one: that says nothing.
  if (drive.superblock!.events > events + 1) return true;
  return freshest === undefined ? null : findSplitBrain(candidates, freshest) !== null;
}

/** The others of the array; one that is just being seated has no superblock of it yet. */
function othersOf(array: RaidArray, drive: Drive): Drive[] {
  return [...array.drives()].filter((other) => other !== drive && other.superblock !== null);
}

/** Why a drive that says that it left this array may not be written over without being asked. */
export function staleObstacle(
  record: ArrayRecord,
  array: RaidArray,
  drive: Drive,
): CommandError | null {
  const { deviceUuid } = drive.superblock!;
  for (const other of array.drives()) {
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
