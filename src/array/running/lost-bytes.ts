/**
 * How much of an array is lost: data in rows of which two or more roles are unknown; and how much
 * would be without one member more.
 *
 * It follows from the bad-block logs and the missing members alone, so it is right after a restart,
 * and a write that cures a row takes it out.
 */
import { assert } from "../../base/assert.ts";
import { countBits, hasBit, withBit } from "../../base/bit-set.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import { lostDataBytes } from "../../raid5/rows/row-cure.ts";
import type { ExportRange } from "../../raid5/sync/export-ranges.ts";
import type { FailPlan } from "../protocol.ts";
import type { ArrayCore } from "./array-core.ts";

/** Ranges of the array that are listed at most; the first ones by place. */
const UNREADABLE_RANGES_MAX = 64;

interface BadRow {
  readonly stripe: number;
  /** Of its chunks. */
  readonly row: number;
  readonly unknownRoles: number;
}

/** Each row that a member which is there cannot give, once. */
function* badRows(core: ArrayCore): Generator<BadRow> {
  const { members, geometry, engine } = core;
  if (!members.hasBadRows) return;
  const rowsPerChunk = geometry.chunkBytes / ROW_BYTES;
  const seen = new Set<number>();
  for (const { role, drive } of core.presentMembers()) {
    for (const { sector, lengthSectors } of drive.badBlocks.ranges) {
      const from = sector * SECTOR_BYTES - members.dataOffset[role]!;
      const first = Math.floor(from / ROW_BYTES);
      const end = Math.ceil((from + lengthSectors * SECTOR_BYTES) / ROW_BYTES);
      for (let memberRow = Math.max(0, first); memberRow < end; memberRow += 1) {
        const stripe = Math.floor(memberRow / rowsPerChunk);
        if (stripe >= geometry.rowCount || seen.has(memberRow)) continue;
        if (geometry.isUnused(stripe)) continue;
        seen.add(memberRow);
        const place = { stripe, row: memberRow % rowsPerChunk };
        yield { ...place, unknownRoles: engine.rows.record.unknownRoles(place) };
      }
    }
  }
}

/** Bytes of the array that no member can give: rows with two unknown roles. */
export function lostBytesOf(core: ArrayCore): number {
  const { geometry } = core;
  let bytes = 0;
  for (const { stripe, unknownRoles } of badRows(core)) {
    bytes += lostDataBytes(unknownRoles, geometry.parityRole(stripe));
  }
  assert(bytes <= geometry.sizeBytes, "no more is lost than there is");
  return bytes;
}

/** By role: the bytes that could not be given if that member were missing, too. */
export function unreadableBytesByRole(core: ArrayCore): number[] {
  const { geometry, roster } = core;
  const bytes = new Array<number>(roster.memberCount).fill(0);
  for (const { stripe, unknownRoles } of badRows(core)) {
    const parityRole = geometry.parityRole(stripe);
    for (let role = 0; role < geometry.memberCountOf(stripe); role += 1) {
      bytes[role]! += lostDataBytes(withBit(unknownRoles, role), parityRole);
    }
  }
  return bytes;
}

/** Which bytes of the array could not be given without the member of this role, in order. */
export function unreadableWithout(core: ArrayCore, role: number): FailPlan["unreadable"] {
  const { geometry } = core;
  assert(role >= 0 && role < geometry.memberCount, "a member has one of the roles");
  const offsets: number[] = [];
  for (const { stripe, row, unknownRoles } of badRows(core)) {
    const isPartOfIt = role < geometry.memberCountOf(stripe);
    const unknown = isPartOfIt ? withBit(unknownRoles, role) : unknownRoles;
    if (countBits(unknown) < 2) continue;
    for (let index = 0; index < geometry.dataCountOf(stripe); index += 1) {
      if (!hasBit(unknown, geometry.dataRole(stripe, index))) continue;
      offsets.push(geometry.arrayOffsetOf(stripe, index) + row * ROW_BYTES);
    }
  }
  offsets.sort((one, other) => one - other);
  const ranges = merged(offsets);
  const truncated = ranges.length > UNREADABLE_RANGES_MAX;
  const bytes = offsets.length * ROW_BYTES;
  return { bytes, ranges: ranges.slice(0, UNREADABLE_RANGES_MAX), truncated };
}

/** Rows of the array that follow each other are one range. */
function merged(offsets: readonly number[]): ExportRange[] {
  const ranges: { offset: number; bytes: number }[] = [];
  for (const offset of offsets) {
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.bytes === offset) last.bytes += ROW_BYTES;
    else ranges.push({ offset, bytes: ROW_BYTES });
  }
  return ranges;
}
