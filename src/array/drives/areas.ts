/**
 * Where on a member an array may write. The codecs refuse a superblock whose areas overlap or leave
 * the device (md/superblock-areas.ts); what is asked here is whether a request keeps to that.
 *
 *   | superblock | bitmap or partial parity log, bad-block log | data of the array | rest |
 */
import { ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import { firstDataSector } from "../../md/reshape.ts";
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES, type Superblock } from "../../md/superblock.ts";

/** A drive, as far as this is concerned. */
interface Sized {
  readonly info: { readonly sizeBytes: number };
}

/** Bytes of the device. */
export interface DriveRange {
  readonly offset: number;
  readonly bytes: number;
}

/** The data region; during a reshape where it was and where it will be. */
function dataOf(superblock: Superblock): { readonly start: number; readonly end: number } {
  const { dataOffsetSectors, dataSizeSectors } = superblock;
  return {
    start: firstDataSector(superblock) * SECTOR_BYTES,
    end: (dataOffsetSectors + dataSizeSectors) * SECTOR_BYTES,
  };
}

/** Whole rows of the data region: also of the part that an array is about to grow into. */
export function isInData(superblock: Superblock, { offset, bytes }: DriveRange): boolean {
  const { start, end } = dataOf(superblock);
  const isWhole = bytes > 0 && bytes % ROW_BYTES === 0 && (offset - start) % ROW_BYTES === 0;
  return isWhole && offset >= start && offset + bytes <= end;
}

/** On the drive, and neither in the data region nor in the superblock. */
export function isBesideData(
  { info }: Sized,
  superblock: Superblock,
  { offset, bytes }: DriveRange,
): boolean {
  const { start, end } = dataOf(superblock);
  const isBesideSuperblock =
    offset >= SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES ||
    offset + bytes <= SUPERBLOCK_OFFSET_BYTES;
  const isOnDrive = offset >= 0 && bytes >= 0 && offset + bytes <= info.sizeBytes;
  return isOnDrive && isBesideSuperblock && (offset + bytes <= start || offset >= end);
}

/** The data region ends on the drive, and has room for the member's part of the array. */
export function hasRoomForData({ info }: Sized, superblock: Superblock): boolean {
  const { dataOffsetSectors, dataSizeSectors, sizeSectors } = superblock;
  const end = (dataOffsetSectors + dataSizeSectors) * SECTOR_BYTES;
  return end <= info.sizeBytes && sizeSectors <= dataSizeSectors;
}
