/** What an array can grow to: the decision, from the superblocks of its drives. */
import { assert } from "../base/assert.ts";
import { type ErrorOf, err, ok, type Result } from "../base/result.ts";
import { formatBytes, KIB, roundDown, SECTOR_BYTES } from "../base/units.ts";
import type { Superblock } from "./superblock.ts";
import { dataRoomSectors } from "./superblock-areas.ts";

/** A member or spare of an array. */
export interface GrowthCandidate {
  readonly drive: string;
  readonly superblock: Superblock;
  readonly deviceBytes: number;
  readonly isSpare: boolean;
}

export type GrowthRefusal = ErrorOf<"shrink" | "no-room" | "small-spare" | "too-large">;

/**
 * The sectors that the array is to use of each member, in whole chunks; as many as now: there is
 * nothing to do. "max" is what the smallest member has room for.
 */
export function judgeGrowth(
  wanted: number | "max",
  array: Pick<Superblock, "sizeSectors" | "chunkSectors" | "memberCount">,
  candidates: readonly GrowthCandidate[],
): Result<number, GrowthRefusal> {
  const { sizeSectors, chunkSectors, memberCount } = array;
  const members = candidates.filter(({ isSpare }) => !isSpare);
  assert(members.length === memberCount, "an array that grows is whole");
  const smallest = members.reduce((one, other) => (roomOf(other) < roomOf(one) ? other : one));
  const room = roundDown(roomOf(smallest), chunkSectors);
  const used = roundDown(sizeSectors, chunkSectors);
  const asked = wanted === "max" ? room : roundDown(wanted, chunkSectors);
  if (asked < used) {
    const now = `${kibOf(used)} KiB of each member`;
    const detail =
      wanted === "max"
        ? `drive ${smallest.drive} has room for less than the array uses, which is ${now}`
        : `the array uses ${now}, and an array cannot shrink: name ${kibOf(used)} or more, or "max"`;
    return err({ kind: "shrink", detail });
  }
  if (asked > room) {
    const detail =
      `drive ${smallest.drive} has room for ${kibOf(room)} KiB ` +
      `(${formatBytes(room * SECTOR_BYTES)}) of data: replace it by a larger one first, or name ` +
      "that size at most";
    return err({ kind: "no-room", detail });
  }
  if (asked === used) return ok(sizeSectors);
  const spare = candidates.find((each) => each.isSpare && roomOf(each) < asked);
  if (spare !== undefined) {
    const detail =
      `spare ${spare.drive} has room for ${kibOf(roomOf(spare))} KiB of data and could not take a ` +
      "role any more: remove it first, or name that size at most";
    return err({ kind: "small-spare", detail });
  }
  if (!Number.isSafeInteger(asked * SECTOR_BYTES * (memberCount - 1))) {
    return err({ kind: "too-large", detail: "no array has so many bytes: name a smaller size" });
  }
  return ok(asked);
}

function roomOf({ superblock, deviceBytes }: GrowthCandidate): number {
  return dataRoomSectors(superblock, Math.floor(deviceBytes / SECTOR_BYTES));
}

function kibOf(sectors: number): number {
  return Math.floor((sectors * SECTOR_BYTES) / KIB);
}
