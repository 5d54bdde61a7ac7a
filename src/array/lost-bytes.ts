/**
 * How much of an array is lost: data in rows of which two or more roles are unknown.
 *
 * It follows from the bad-block logs and the missing members alone, so it is right after a restart,
 * and a write that cures a row takes it out.
 */
import { ROW_BYTES, SECTOR_BYTES } from "../base/units.ts";
import type { RaidArray } from "./raid-array.ts";

export function lostBytesOf({ members, geometry, engine, roles }: RaidArray): number {
  const rowsPerChunk = geometry.chunkBytes / ROW_BYTES;
  const seen = new Set<number>();
  let bytes = 0;
  for (const [role, { drive }] of roles.entries()) {
    if (drive === null || !members.isPresent(role)) continue;
    for (const { sector, lengthSectors } of drive.badBlocks.ranges) {
      const from = sector * SECTOR_BYTES - members.dataOffset[role]!;
      const first = Math.floor(from / ROW_BYTES);
      const end = Math.ceil((from + lengthSectors * SECTOR_BYTES) / ROW_BYTES);
      for (let memberRow = Math.max(0, first); memberRow < end; memberRow += 1) {
        const stripe = Math.floor(memberRow / rowsPerChunk);
        if (stripe >= geometry.stripeCount || seen.has(memberRow)) continue;
        seen.add(memberRow);
        const place = { stripe, row: memberRow % rowsPerChunk };
        bytes += lostIn(engine.rows.unknownRoles(place), geometry.parityRole(stripe));
      }
    }
  }
  return bytes;
}

/** Of one row: the unknown data chunks, when there are too many unknown roles to have them back. */
function lostIn(unknown: number, parityRole: number): number {
  let roles = 0;
  let dataRoles = 0;
  for (let role = 0; unknown >>> role !== 0; role += 1) {
    if ((unknown & (1 << role)) === 0) continue;
    roles += 1;
    if (role !== parityRole) dataRoles += 1;
  }
  return roles > 1 ? dataRoles * ROW_BYTES : 0;
}
