/**
 * How a drive that joins an array is laid out: as the members that the array has, not as a new
 * array would be. An array whose policy has changed, or that was made with a small data offset, has
 * members that use nearly all of their drives; a replacement of the same model must fit.
 *
 *   | superblock | log that the policy needs | bad-block log | free | data, size_sectors of it ...
 *
 * Only what the array needs must fit: the data, and the log of its policy. The data begins where a
 * member has it, else as far behind as the drive allows, which leaves room to reshape. The
 * bad-block log lies as on that member, else at the end of the room before the data, else there is
 * none, and the first bad sector costs the drive, as with md. In a reshape the room before the data
 * ends where the data moves to.
 */
import { assert } from "../base/assert.ts";
import { err, ok, type Result } from "../base/result.ts";
import { ROW_BYTES, roundDown, SECTOR_BYTES } from "../base/units.ts";
import { BAD_BLOCK_LOG_SECTORS, DATA_ALIGNMENT_SECTORS } from "./create.ts";
import { logSectorsNeeded, placeLog, type WantedLog } from "./log-place.ts";
import { firstDataSector } from "./reshape.ts";
import {
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
  type SuperblockLog,
} from "./superblock.ts";
import { areAreasApart } from "./superblock-areas.ts";

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;

export interface JoinOptions {
  readonly deviceBytes: number;
  readonly logicalBlockBytes: number;
  /** What the array is: its size, its dev_roles. */
  readonly array: Superblock;
  /** Whose layout is taken, the best first. */
  readonly models: readonly Superblock[];
  readonly wanted: WantedLog;
}

/** Fields of a superblock. */
export interface JoinLayout {
  readonly dataOffsetSectors: number;
  readonly dataSizeSectors: number;
  readonly badBlockLogSectors: number;
  readonly badBlockLogOffsetSectors: number;
  readonly log: SuperblockLog;
}

/** The error is how many bytes the drive would have to have, at least. */
export function layOutForJoining(options: JoinOptions): Result<JoinLayout, number> {
  assert(options.array.sizeSectors > 0, "the array has a size");
  assert(options.logicalBlockBytes >= SECTOR_BYTES, "a drive takes sectors or larger blocks");
  const offsets = dataOffsetsOf(options);
  for (const hasBadBlockLog of [true, false]) {
    for (const dataOffsetSectors of offsets) {
      for (const place of badBlockLogPlaces(options, dataOffsetSectors, hasBadBlockLog)) {
        const layout = layOut(options, dataOffsetSectors, place);
        if (layout !== null) return ok(layout);
      }
    }
  }
  const { array, wanted } = options;
  const leastSectors = superblockEnd() + logSectorsNeeded(wanted) + gapSectors(array);
  return err((leastSectors + array.sizeSectors) * SECTOR_BYTES);
}

/** Where the data can begin, the best first. */
function dataOffsetsOf(options: JoinOptions): number[] {
  const { deviceBytes, logicalBlockBytes, array, models } = options;
  const last = Math.floor(deviceBytes / SECTOR_BYTES) - array.sizeSectors;
  // In whole rows, or a write of a row would tear its neighbours (write-rules 17).
  const wanted = models.map(({ dataOffsetSectors }) => roundDown(dataOffsetSectors, ROW_SECTORS));
  wanted.push(roundDown(last, DATA_ALIGNMENT_SECTORS), roundDown(last, ROW_SECTORS));
  if (logicalBlockBytes === SECTOR_BYTES) wanted.push(last);
  const first = superblockEnd() + gapSectors(array);
  return wanted.filter((offset) => offset >= first && offset <= last);
}

interface Place {
  readonly offsetSectors: number;
  readonly sectors: number;
}

const NOWHERE: Place = { offsetSectors: 0, sectors: 0 };

function badBlockLogPlaces(
  { models, array }: JoinOptions,
  dataOffsetSectors: number,
  hasBadBlockLog: boolean,
): Place[] {
  if (!hasBadBlockLog) return [NOWHERE];
  const places = models
    .filter(({ badBlockLogSectors }) => badBlockLogSectors === BAD_BLOCK_LOG_SECTORS)
    .map(({ badBlockLogOffsetSectors }) => badBlockLogOffsetSectors);
  const firstData = roundDown(dataOffsetSectors - gapSectors(array), ROW_SECTORS);
  const end = firstData - SUPERBLOCK_OFFSET_SECTORS;
  places.push(end - BAD_BLOCK_LOG_SECTORS);
  const first = superblockEnd() - SUPERBLOCK_OFFSET_SECTORS;
  return places
    .filter((place) => place >= first && place % ROW_SECTORS === 0)
    .filter((place) => place + BAD_BLOCK_LOG_SECTORS <= end)
    .map((offsetSectors) => ({ offsetSectors, sectors: BAD_BLOCK_LOG_SECTORS }));
}

/** Null: no room for the log that the policy needs. */
function layOut(
  { deviceBytes, array, wanted }: JoinOptions,
  dataOffsetSectors: number,
  place: Place,
): JoinLayout | null {
  const layout = {
    dataOffsetSectors,
    dataSizeSectors: Math.floor(deviceBytes / SECTOR_BYTES) - dataOffsetSectors,
    badBlockLogSectors: place.sectors,
    badBlockLogOffsetSectors: place.offsetSectors,
  };
  assert(layout.dataSizeSectors >= array.sizeSectors, "the drive has room for the data");
  const log = placeLog({ ...array, ...layout }, wanted);
  if (log === null) return null;
  const end = dataOffsetSectors + layout.dataSizeSectors;
  assert(areAreasApart({ ...array, ...layout, log }, end), "the areas of a member do not overlap");
  return { ...layout, log };
}

/** By which the data moves to the front in the reshape that is under way. */
function gapSectors(array: Superblock): number {
  return array.dataOffsetSectors - firstDataSector(array);
}

/** In sectors of the device: the superblock is written as whole rows. */
function superblockEnd(): number {
  return SUPERBLOCK_OFFSET_SECTORS + SUPERBLOCK_BYTES / SECTOR_BYTES;
}
