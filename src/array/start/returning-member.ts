/**
 * A drive with a superblock of an array that runs: one that was away, or comes late.
 *
 * | it is                                      | what follows                                    |
 * |--------------------------------------------|-------------------------------------------------|
 * | a spare                                    | it joins as one                                 |
 * | a member, and nothing was written since    | it is a member again, nothing is rebuilt        |
 * | a member, and the bitmap knows what was    | that is rebuilt                                 |
 * | a member that was failed or removed by     | it stays stale: whoever did that has a reason   |
 * |  request                                   |                                                 |
 * | anything else: older, a copy, with a       | it stays stale, and is told                     |
 * |  history of its own                        |                                                 |
 *
 * Only what is safe and cheap happens by itself (write-rules 19). It goes the way of every rebuild:
 * the superblocks name the drive with recovery_offset 0, and the update that ends the rebuild makes
 * it count. A write in between makes the rebuild longer, and nothing else.
 */
import { assert } from "../../base/assert.ts";
import { roleOf, type Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { RaidArray } from "../raid-array.ts";
import type { Registry } from "../registry.ts";
import { policyOf } from "../running/array-core.ts";
import { canRebuildPartially, hasOtherHistory, isFormerMember } from "./stale-drive.ts";

/** Takes the drive back, or says why it stays out. */
export async function takeBack(registry: Registry, array: RaidArray, drive: Drive): Promise<void> {
  const { superblock } = drive;
  assert(superblock !== null, "who comes back carries a superblock");
  const role = roleOf(superblock, superblock.devNumber);
  const obstacle = obstacleTo(registry, array, drive);
  if (obstacle !== null) {
    const text = `drive ${drive.name} of role ${role} is back and stays out: ${obstacle}`;
    array.core.emit("member.returned", "info", text, { drive });
    return;
  }
  assert(array.core.roster.isFree(role), "who comes back finds its role free");
  const isSeated = await array.seating.seat(drive, role, superblock, { isPartial: true });
  if (!isSeated) return;
  const text = `drive ${drive.name} (role ${role}) is back: what it lacks is rebuilt`;
  array.core.emit("member.returned", "info", text, { drive });
}

function obstacleTo(registry: Registry, array: RaidArray, drive: Drive): string | null {
  const { superblock } = drive;
  assert(superblock?.arrayUuid === array.core.uuid, "who comes back was of this array");
  const { core } = array;
  if (core.isFailed || core.readOnlyReason !== null) return "the array is not writable";
  if (drive.info.isReadOnly) return "it is read-only";
  if (drive.outstanding > 0) return "requests of before are still outstanding on it";
  if (core.dismissed.has(superblock.deviceUuid)) {
    return "it was failed or removed by request; add it to have it rebuilt";
  }
  const copy = [...registry.drives.values()].find(
    (other) => other !== drive && other.superblock?.deviceUuid === superblock.deviceUuid,
  );
  if (copy !== undefined) return `it is a copy of drive ${copy.name}; disconnect one of the two`;
  if (core.geometry.isReshaping) {
    return "the array gets more members; add it, and it is rebuilt behind that";
  }
  const isBusy = core.roster.arriving !== null || core.members.rebuild !== null;
  if (isBusy || array.synchronizer.currentJob !== null) {
    return "another drive is being rebuilt; add it when that has ended";
  }
  if (hasOtherHistory(array, drive) !== false) {
    return "it was written to apart from the array; add it with force to give that up";
  }
  if (canRebuildPartially(array, drive) || isUnchanged(array, drive, superblock)) return null;
  return "the array was written to since it left; add it to have it rebuilt";
}

/** No data has been written since the drive was a member. */
function isUnchanged(array: RaidArray, drive: Drive, superblock: Superblock): boolean {
  const isClean = superblock.resyncOffsetSectors === null && array.core.members.resync === null;
  if (!isClean || policyOf(superblock) !== array.core.policyKind) return false;
  return isFormerMember(array, drive) && array.core.state.isUnchangedSince(superblock.events);
}
