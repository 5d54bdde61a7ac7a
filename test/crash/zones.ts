/**
 * Where the sectors of an array lie, by a superblock of it, with arithmetic of this file. Usually
 * that is one zone; while the array grows in members it is two, and what lies between them is
 * needed by nobody:
 *
 *   stripe s of n members, left-symmetric: parity on role n - 1 - s mod n, data chunk i on the role
 *   that follows it by 1 + i
 *
 *   zone of n + delta members   array sectors below the position; stripe s in chunk s
 *   zone of n members           the others up to the old end; stripe s in chunk gap + s
 *
 * Chunks are counted from where the data of a member begins, which is before its data offset by the
 * gap while the array grows. A zone of n members may begin in the middle of a stripe: what was
 * moved of that stripe stays there as it was, and its parity counts it.
 *
 * Source: reshape_position, delta_disks and new_offset of md (md-format B; Linux 6.1, raid5.c).
 */

import { SECTOR_BYTES } from "../../src/base/units.ts";
import { reshapeOf } from "../../src/md/reshape.ts";
import type { Superblock } from "../../src/md/superblock.ts";
import { PAGE_BYTES } from "../sim/world/media.ts";

const SECTORS_PER_ROW = PAGE_BYTES / SECTOR_BYTES;

/** A part of an array with one layout. */
export interface Zone {
  readonly memberCount: number;
  readonly chunkSectors: number;
  /** The chunk of each member at which its stripe 0 would lie. */
  readonly firstChunk: number;
  /** Stripes with anything of the array in them. */
  readonly fromStripe: number;
  readonly toStripe: number;
  /** Sectors of the array that are found in it. */
  readonly fromSector: number;
  readonly toSector: number;
}

/** In the order of the array's sectors; an empty one may be among them. */
export function zonesOf(superblock: Superblock): Zone[] {
  const { memberCount, chunkSectors, sizeSectors } = superblock;
  const stripes = Math.floor(sizeSectors / chunkSectors);
  const reshape = reshapeOf(superblock);
  const whole = { memberCount, chunkSectors, firstChunk: 0, fromStripe: 0, fromSector: 0 };
  const stripeSectors = (memberCount - 1) * chunkSectors;
  if (reshape === null) {
    return [{ ...whole, toStripe: stripes, toSector: stripes * stripeSectors }];
  }
  const { positionSectors, deltaMembers, newOffsetSectors } = reshape;
  const oldCount = memberCount - deltaMembers;
  const oldStripeSectors = (oldCount - 1) * chunkSectors;
  const oldEnd = stripes * oldStripeSectors;
  const before = {
    memberCount: oldCount,
    chunkSectors,
    firstChunk: -newOffsetSectors / chunkSectors,
    fromStripe: Math.floor(Math.min(positionSectors, oldEnd) / oldStripeSectors),
    toStripe: stripes,
    fromSector: Math.min(positionSectors, oldEnd),
    toSector: oldEnd,
  };
  return [
    { ...whole, toStripe: positionSectors / stripeSectors, toSector: positionSectors },
    before,
  ];
}

/** The sector of a member's drive at which its chunk 0 lies. */
export function firstSectorOf(superblock: Superblock): number {
  return superblock.dataOffsetSectors + (reshapeOf(superblock)?.newOffsetSectors ?? 0);
}

/** The role that holds data chunk `dataIndex` of a stripe. */
export function roleOf({ memberCount }: Zone, stripe: number, dataIndex: number): number {
  const parityRole = memberCount - 1 - (stripe % memberCount);
  return (parityRole + 1 + dataIndex) % memberCount;
}

/** The sector of the array with which data chunk `dataIndex` of a stripe begins. */
export function sectorOf(zone: Zone, stripe: number, dataIndex: number): number {
  return (stripe * (zone.memberCount - 1) + dataIndex) * zone.chunkSectors;
}

/** The row, of 4 KiB, of each member with which a stripe begins. */
export function firstRowOf({ firstChunk, chunkSectors }: Zone, stripe: number): number {
  return ((firstChunk + stripe) * chunkSectors) / SECTORS_PER_ROW;
}

/** Where one sector of an array lies. */
export interface Place {
  readonly role: number;
  readonly memberRow: number;
  /** The sector's like in each data chunk of its stripe. */
  readonly column: readonly number[];
}

/** Null: the array has no such sector. */
export function placeOf(superblock: Superblock, lba: number): Place | null {
  const zone = zonesOf(superblock).find((each) => lba >= each.fromSector && lba < each.toSector);
  if (zone === undefined) return null;
  const { memberCount, chunkSectors } = zone;
  const stripe = Math.floor(lba / (chunkSectors * (memberCount - 1)));
  const within = lba % chunkSectors;
  const dataIndex = (lba - within - sectorOf(zone, stripe, 0)) / chunkSectors;
  const column = Array.from({ length: memberCount - 1 }, (_, index) => {
    return sectorOf(zone, stripe, index) + within;
  });
  const memberRow = firstRowOf(zone, stripe) + Math.floor(within / SECTORS_PER_ROW);
  return { role: roleOf(zone, stripe, dataIndex), memberRow, column };
}
