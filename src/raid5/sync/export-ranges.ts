/**
 * Which bytes of the array rows of its members concern. Pure.
 *
 *   rows                  | concern
 *   ----------------------|---------------------------------------------------------------------
 *   that do not match     | all data chunks of these rows: any of them, or parity, may be wrong
 *   that these roles lost | the data chunks of the roles; parity is no byte of the array
 *
 * In a stripe rows [from, to) of its chunks are a piece of each data chunk. Whole stripes follow
 * each other in the array without a gap.
 */
import { assert } from "../../base/assert.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { Geometry } from "../geometry.ts";
import type { RowRange } from "./mismatch-ranges.ts";

/** More than two stripes of 53 members, cut at both ends, and what lies between them. */
export const EXPORT_RANGES_MAX = 128;

export interface ExportRange {
  readonly offset: number;
  readonly bytes: number;
}

export interface ExportRanges {
  /** In order; they do not touch. */
  readonly ranges: readonly ExportRange[];
  /** More lie behind the last one. */
  readonly truncated: boolean;
}

/** Where rows are, in the terms of the array. */
export interface RowPlaces {
  /** The first. */
  readonly stripe: number;
  readonly stripeCount: number;
  /** The first byte of the array that they concern. */
  readonly arrayOffset: number;
}

/**
 * Whether these are rows of such an array, lost ones with two roles or more: what was kept of an
 * earlier run may be anything.
 */
export function areRowsOf({ memberSizeBytes, memberCount }: Geometry, rows: RowRange): boolean {
  const { firstSector, sectorCount } = rows;
  const roles: unknown = rows.roles ?? null;
  if (roles !== null && !Array.isArray(roles)) return false;
  const numbers = [firstSector, sectorCount, ...(roles ?? [])];
  if (!numbers.every((number) => Number.isSafeInteger(number) && number >= 0)) return false;
  const end = (firstSector + sectorCount) * SECTOR_BYTES;
  if (sectorCount === 0 || end > memberSizeBytes) return false;
  return roles === null || (new Set(roles).size > 1 && Math.max(...roles) < memberCount);
}

export function placesOf(geometry: Geometry, rows: RowRange): RowPlaces {
  const { first, last } = stripesOf(geometry, rows);
  const [begin] = exportRangesOf(geometry, rows, 1).ranges;
  assert(begin !== undefined, "rows concern some byte of the array");
  return { stripe: first, stripeCount: last - first + 1, arrayOffset: begin.offset };
}

/** At most `most` ranges. */
export function exportRangesOf(
  geometry: Geometry,
  rows: RowRange,
  most: number = EXPORT_RANGES_MAX,
): ExportRanges {
  const { chunkBytes, stripeBytes } = geometry;
  const from = rows.firstSector * SECTOR_BYTES;
  const to = from + rows.sectorCount * SECTOR_BYTES;
  const { first, last } = stripesOf(geometry, rows);
  const ranges: { offset: number; bytes: number }[] = [];
  const add = (offset: number, bytes: number): void => {
    const before = ranges.at(-1);
    if (before !== undefined && before.offset + before.bytes === offset) before.bytes += bytes;
    else ranges.push({ offset, bytes });
  };
  for (let stripe = first; stripe <= last && ranges.length <= most; stripe += 1) {
    const begin = Math.max(from - stripe * chunkBytes, 0);
    const end = Math.min(to - stripe * chunkBytes, chunkBytes);
    if (rows.roles === null && begin === 0 && end === chunkBytes) {
      const wholeCount = Math.floor((to - stripe * chunkBytes) / chunkBytes);
      add(geometry.arrayOffsetOf(stripe, 0), wholeCount * stripeBytes);
      stripe += wholeCount - 1;
      continue;
    }
    for (let index = 0; index < geometry.dataCount; index += 1) {
      if (rows.roles?.includes(geometry.dataRole(stripe, index)) === false) continue;
      add(geometry.arrayOffsetOf(stripe, index) + begin, end - begin);
    }
  }
  return { ranges: ranges.slice(0, most), truncated: ranges.length > most };
}

function stripesOf({ chunkBytes, stripeCount }: Geometry, { firstSector, sectorCount }: RowRange) {
  const first = Math.floor((firstSector * SECTOR_BYTES) / chunkBytes);
  const last = Math.ceil(((firstSector + sectorCount) * SECTOR_BYTES) / chunkBytes) - 1;
  assert(first >= 0 && first <= last && last < stripeCount, "the rows lie in the array");
  return { first, last };
}
