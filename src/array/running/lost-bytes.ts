/**
 * How much of an array is lost: data in rows of which two or more roles are unknown.
 *
 * It follows from the bad-block logs and the missing members alone, so it is right after a restart,
 * and a write that cures a row takes it out.
 */
import { assert } from "../../base/assert.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import { lostDataBytes } from "../../raid5/rows/row-cure.ts";
import type { ArrayCore } from "./array-core.ts";

/** Bytes of the array that no member can give: rows with two unknown roles. */
export function lostBytesOf({ members, geometry, engine, roster }: ArrayCore): number {
  if (!members.hasBadRows) return 0;
  const rowsPerChunk = geometry.chunkBytes / ROW_BYTES;
  const seen = new Set<number>();
  let bytes = 0;
  for (let role = 0; role < roster.memberCount; role += 1) {
    const drive = roster.driveAt(role);
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
        bytes += lostDataBytes(engine.rows.record.unknownRoles(place), geometry.parityRole(stripe));
      }
    }
  }
  assert(bytes <= geometry.sizeBytes, "no more is lost than there is");
  return bytes;
}
