/** How the members of an array begin, and what of it is out of sync, by the plan of its start. */
import { SECTOR_BYTES } from "../../base/units.ts";
import { watchBadBlocks } from "../drives/bad-blocks.ts";
import { stripesOf } from "../policy/array-policy.ts";
import type { RaidArray } from "../raid-array.ts";
import type { RoleSlot, StartPlan } from "../start-plan.ts";

/** Puts the drive of a role into the member set. */
export function seatAtStart(array: RaidArray, plan: StartPlan, role: number): RoleSlot {
  const entry = plan.roles[role];
  if (entry === null || entry === undefined) return { drive: null, state: "missing" };
  const { drive, recoveryOffsetSectors } = entry;
  const { members } = array;
  const seat = {
    device: drive.io,
    dataOffset: drive.superblock!.dataOffsetSectors * SECTOR_BYTES,
    isVolatile: drive.info.hasVolatileCache,
  };
  watchBadBlocks(array, role, drive);
  if (recoveryOffsetSectors === null) {
    members.set(role, seat);
    return { drive, state: "in-sync" };
  }
  const fromStripe = Math.floor(recoveryOffsetSectors / plan.superblock.chunkSectors);
  members.setRebuilding(role, { ...seat, fromStripe });
  return { drive, state: "rebuilding" };
}

export function beginResync(
  { members, geometry }: RaidArray,
  { resyncFromSector, isFirstResync, superblock, bitmap }: StartPlan,
): void {
  if (resyncFromSector === null) return;
  // A degraded array has no redundancy to compare: with force its rows are taken as they are. But
  // those that a rebuild had filled have all their members, and parity that may be torn.
  if (members.degradedCount > 0) {
    const filled = members.rebuild?.cursor ?? 0;
    if (filled === 0) return;
    members.beginResync({ fromStripe: 0, toStripe: filled, isFirst: false });
    return;
  }
  const fromStripe = Math.floor(resyncFromSector / superblock.chunkSectors);
  const ranges = bitmap === null ? null : stripesOf(bitmap.dirtyRanges("needed"), geometry);
  if (fromStripe >= geometry.stripeCount || ranges?.isEmpty === true) return;
  members.beginResync({ fromStripe, isFirst: isFirstResync, ranges });
}
