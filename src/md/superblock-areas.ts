/**
 * Whether the areas that a superblock describes can lie where it says.
 *
 * The kernel checks the data area and the bad-block log. Overlaps are checked here as well, since
 * we write bitmap, partial parity log and bad-block log where the superblock puts them: a wrong
 * offset must never lead a metadata write into data.
 */
import { SECTOR_BYTES } from "../base/units.ts";
import {
  superblockFault as fault,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
  type SuperblockError,
  superblockBytes,
} from "./superblock-fields.ts";

/** md does not take a member with less data than this. */
const DATA_SECTORS_MIN = 10;
const BAD_BLOCK_LOG_SECTORS_MAX = 8;

interface Area {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** `deviceSectors` is the whole device. */
export function checkAreas(superblock: Superblock, deviceSectors: number): SuperblockError | null {
  const { dataOffsetSectors, dataSizeSectors } = superblock;
  const superblockEnd = SUPERBLOCK_OFFSET_SECTORS + superblockBytes(superblock) / SECTOR_BYTES;
  if (dataOffsetSectors < superblockEnd || dataSizeSectors < DATA_SECTORS_MIN) {
    return fault(
      "bad-data-area",
      `The superblock puts ${dataSizeSectors} sectors of data at sector ${dataOffsetSectors}, ` +
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
  return checkOverlaps(
    [
      { name: "superblock", start: SUPERBLOCK_OFFSET_SECTORS, end: superblockEnd },
      { name: "data", start: dataOffsetSectors, end: dataOffsetSectors + dataSizeSectors },
      ...metadataAreas(superblock),
    ],
    deviceSectors,
  );
}

function checkBadBlockLog(superblock: Superblock): SuperblockError | null {
  const { badBlockLogSectors, badBlockLogOffsetSectors, badBlockLogShift } = superblock;
  const isMissing = badBlockLogSectors === 0 || badBlockLogOffsetSectors === 0;
  const isBad =
    badBlockLogSectors > BAD_BLOCK_LOG_SECTORS_MAX ||
    badBlockLogShift !== 0 ||
    (superblock.hasBadBlocks && isMissing);
  if (!isBad) return null;
  return fault(
    "bad-bad-block-log",
    `The superblock describes a bad-block log of ${badBlockLogSectors} sectors at offset ` +
      `${badBlockLogOffsetSectors} with shift ${badBlockLogShift}, which cannot be read.`,
  );
}

/** The areas that we write beside superblock and data, in sectors of the device. */
function metadataAreas(superblock: Superblock): Area[] {
  const areas: Area[] = [];
  const { log, badBlockLogSectors, badBlockLogOffsetSectors } = superblock;
  if (badBlockLogSectors > 0 && badBlockLogOffsetSectors !== 0) {
    const start = SUPERBLOCK_OFFSET_SECTORS + badBlockLogOffsetSectors;
    areas.push({ name: "bad-block log", start, end: start + badBlockLogSectors });
  }
  if (log.kind === "bitmap") {
    // Its length stands in its own header: here only that header, which is 256 bytes.
    const start = SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors;
    areas.push({ name: "bitmap", start, end: start + 1 });
  }
  if (log.kind === "ppl") {
    const start = SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors;
    areas.push({ name: "partial parity log", start, end: start + log.sizeSectors });
  }
  return areas;
}

function checkOverlaps(areas: Area[], deviceSectors: number): SuperblockError | null {
  const sorted = areas.toSorted((one, other) => one.start - other.start);
  let previous: Area = { name: "start of the device", start: 0, end: 0 };
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
