/**
 * Where on a member a consistency policy keeps its log: in the room between superblock and data
 * that nothing else takes. For members that are there already, and that join (join-layout.ts).
 *
 *   | superblock | free | bad-block log | free (headroom) | data ...
 */
import { assert } from "../base/assert.ts";
import { ROW_BYTES, roundDown, roundUp, SECTOR_BYTES } from "../base/units.ts";
import { PPL_SPACE_SECTORS } from "./create.ts";
import { PPL_AREA_SECTORS_MIN, PPL_MULTIPLE_SECTORS_MIN } from "./ppl.ts";
import { firstDataSector } from "./reshape.ts";
import {
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
  type SuperblockLog,
} from "./superblock.ts";
import { badBlockLogArea } from "./superblock-areas.ts";

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;

export type WantedLog =
  | { readonly policy: "resync" }
  | { readonly policy: "ppl" }
  | { readonly policy: "bitmap"; readonly areaBytes: number };

/** The log of a member for this policy, or null where it has no room for it. */
export function placeLog(superblock: Superblock, wanted: WantedLog): SuperblockLog | null {
  if (wanted.policy === "resync") return { kind: "none", word: 0 };
  const needed = logSectorsNeeded(wanted);
  assert(needed > 0 && needed % ROW_SECTORS === 0, "a log takes whole rows");
  let best: Gap | null = null;
  for (const gap of gapsOf(superblock)) {
    const sectors = gap.end - gap.start;
    if (sectors < needed) continue;
    // The first that has all the room that is wanted, or else the largest.
    if (best === null || best.end - best.start < Math.min(sectors, PPL_SPACE_SECTORS)) best = gap;
  }
  if (best === null) return null;
  const offsetSectors = best.start - SUPERBLOCK_OFFSET_SECTORS;
  assert(best.start % ROW_SECTORS === 0, "a log begins at a whole row");
  assert(best.end <= firstDataSector(superblock), "a log ends before the data");
  if (wanted.policy === "bitmap") return { kind: "bitmap", offsetSectors };
  const sizeSectors = Math.min(PPL_SPACE_SECTORS, best.end - best.start);
  assert(sizeSectors >= needed, "the log has the room that it needs");
  const isMultiple = sizeSectors >= PPL_MULTIPLE_SECTORS_MIN;
  return { kind: "ppl", offsetSectors, sizeSectors, isMultiple };
}

/** The superblock of a member that keeps no log: policy `resync`. */
export function withoutLog(superblock: Superblock): Superblock {
  return { ...superblock, log: { kind: "none", word: 0 } };
}

/** The least that the log of this policy takes. */
export function logSectorsNeeded(wanted: WantedLog): number {
  if (wanted.policy === "resync") return 0;
  return wanted.policy === "ppl" ? PPL_AREA_SECTORS_MIN : wanted.areaBytes / SECTOR_BYTES;
}

interface Gap {
  readonly start: number;
  readonly end: number;
}

/** Free sectors of the device between superblock and data, in whole rows. */
function gapsOf(superblock: Superblock): Gap[] {
  const start = SUPERBLOCK_OFFSET_SECTORS + SUPERBLOCK_BYTES / SECTOR_BYTES;
  const end = roundDown(firstDataSector(superblock), ROW_SECTORS);
  const badBlocks = badBlockLogArea(superblock);
  if (badBlocks === null) return [{ start, end }];
  return [
    { start, end: Math.min(end, roundDown(badBlocks.start, ROW_SECTORS)) },
    { start: Math.max(start, roundUp(badBlocks.end, ROW_SECTORS)), end },
  ];
}
