/**
 * Whether the areas that a superblock describes can lie where it says.
 *
 * The kernel checks the data area and the bad-block log. Overlaps are checked here as well, since
 * we write bitmap, partial parity log and bad-block log where the superblock puts them: a wrong
 * offset must never lead a metadata write into data. An area is what is written, in whole rows.
 */
import { assert } from "../base/assert.ts";
import { ROW_BYTES, roundUp, SECTOR_BYTES } from "../base/units.ts";
import { firstDataSector } from "./reshape.ts";
import {
  superblockFault as fault,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
  type SuperblockError,
} from "./superblock-fields.ts";

/** md does not take a member with less data than this. */
const DATA_SECTORS_MIN = 10;
const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;
/** It is written in one piece, whatever part of it is in use. */
const SUPERBLOCK_END = SUPERBLOCK_OFFSET_SECTORS + SUPERBLOCK_BYTES / SECTOR_BYTES;

/** Sectors [start, end) of the device, as far as we write there. */
export interface Area {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** `deviceSectors` is the whole device. */
export function checkAreas(superblock: Superblock, deviceSectors: number): SuperblockError | null {
  assert(Number.isSafeInteger(deviceSectors) && deviceSectors >= 0, "a device has whole sectors");
  const { dataOffsetSectors, dataSizeSectors } = superblock;
  const first = firstDataSector(superblock);
  if (first < SUPERBLOCK_END || dataSizeSectors < DATA_SECTORS_MIN) {
    return fault(
      "bad-data-area",
      `The superblock puts ${dataSizeSectors} sectors of data at sector ${first}, ` +
        "which no member can have.",
    );
  }
  if (dataOffsetSectors + dataSizeSectors > deviceSectors) {
    return fault(
      "data-beyond-device",
      `The data ends at sector ${dataOffsetSectors + dataSizeSectors}, but the device has only ` +
        `${deviceSectors} sectors: it has shrunk, or this is a cut copy of a larger one.`,
    );
  }
  const bad = checkBadBlockLog(superblock);
  if (bad !== null) return bad;
  return checkOverlaps([...fixedAreas(superblock), ...logAreas(superblock)], deviceSectors);
}

/**
 * Sectors that the data of a member could take on a device of this size: up to its end, or to what
 * lies behind the data. Never less than the superblock says.
 */
export function dataRoomSectors(superblock: Superblock, deviceSectors: number): number {
  const { dataOffsetSectors, dataSizeSectors } = superblock;
  const behind = [...fixedAreas(superblock), ...logAreas(superblock)]
    .map(({ start }) => start)
    .filter((start) => start > dataOffsetSectors);
  const end = Math.min(deviceSectors, ...behind);
  return Math.max(dataSizeSectors, end - dataOffsetSectors);
}

/** Whether all that a superblock of ours describes lies on the device, each area for itself. */
export function areAreasApart(superblock: Superblock, deviceSectors: number): boolean {
  const areas = [...fixedAreas(superblock), ...logAreas(superblock)];
  return checkOverlaps(areas, deviceSectors) === null;
}

function checkBadBlockLog(superblock: Superblock): SuperblockError | null {
  const { badBlockLogSectors, badBlockLogOffsetSectors } = superblock;
  if (!superblock.hasBadBlocks || badBlockLogArea(superblock) !== null) return null;
  return fault(
    "bad-bad-block-log",
    `The superblock describes a bad-block log of ${badBlockLogSectors} sectors at offset ` +
      `${badBlockLogOffsetSectors}, which cannot be read.`,
  );
}

/** Null: the member has none. */
export function badBlockLogArea(superblock: Superblock): Area | null {
  const { badBlockLogSectors, badBlockLogOffsetSectors } = superblock;
  if (badBlockLogSectors === 0 || badBlockLogOffsetSectors === 0) return null;
  const start = SUPERBLOCK_OFFSET_SECTORS + badBlockLogOffsetSectors;
  return { name: "bad-block log", start, end: start + roundUp(badBlockLogSectors, ROW_SECTORS) };
}

/** The areas that every policy has. */
export function fixedAreas(superblock: Superblock): Area[] {
  const { dataOffsetSectors, dataSizeSectors } = superblock;
  const badBlocks = badBlockLogArea(superblock);
  return [
    { name: "superblock", start: SUPERBLOCK_OFFSET_SECTORS, end: SUPERBLOCK_END },
    // While a reshape moves it: all that it takes before or after.
    {
      name: "data",
      start: firstDataSector(superblock),
      end: dataOffsetSectors + dataSizeSectors,
    },
    ...(badBlocks === null ? [] : [badBlocks]),
  ];
}

function logAreas({ log }: Superblock): Area[] {
  if (log.kind === "none") return [];
  const start = SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors;
  if (log.kind === "ppl") {
    return [{ name: "partial parity log", start, end: start + log.sizeSectors }];
  }
  // Its length stands in its own header, which lies in its first block.
  return [{ name: "bitmap", start, end: start + ROW_SECTORS }];
}

function checkOverlaps(areas: Area[], deviceSectors: number): SuperblockError | null {
  const sorted = areas.toSorted((one, other) => one.start - other.start);
  let previous: Area = { name: "start of the device", start: 0, end: 0 };
  assert(
    areas.every(({ start, end }) => start <= end),
    "an area ends behind its start",
  );
  for (const area of [...sorted, { name: "end of the device", start: deviceSectors, end: 0 }]) {
    if (area.start < previous.end) {
      return fault(
        "areas-overlap",
        `The superblock lets the ${previous.name} and the ${area.name} overlap at sector ` +
          `${area.start}; writing there would destroy one of them.`,
      );
    }
    previous = area;
  }
  return null;
}
