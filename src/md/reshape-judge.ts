/**
 * Whether an array can grow by members, how far its data moves to the front for that, and whether a
 * reshape that stands on superblocks is one that we can go on with.
 *
 *   | superblock | bad-block log | log of the policy afterwards | gap, k chunks | data ...
 *
 * The gap keeps the data safe without a backup: row r of the larger array is written k chunks
 * before the old row r, and holds no less data than that, so what it overwrites was moved before.
 * With k chunks the first k rows overwrite nothing at all.
 */
import { assert } from "../base/assert.ts";
import { NEW_ARRAY_MEMBERS_MAX } from "../base/limits.ts";
import { type ErrorOf, err, ok, type Result } from "../base/result.ts";
import { KIB, ROW_BYTES, roundUp, SECTOR_BYTES } from "../base/units.ts";
import { SUPERBLOCK_RANGES } from "./field-ranges.ts";
import type { GrowthCandidate } from "./growth.ts";
import { placeLog, type WantedLog } from "./log-place.ts";
import { arraySectors, begunReshape, finishedReshape, reshapeFieldsOf } from "./reshape.ts";
import {
  Feature,
  isReplacement,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
} from "./superblock.ts";
import { areAreasApart, badBlockLogArea } from "./superblock-areas.ts";

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;
/** The kernel lets no data begin nearer to the superblock than 36 KiB behind it. */
const FIRST_SECTOR_MIN = SUPERBLOCK_OFFSET_SECTORS + 72;

export interface ReshapeRequest {
  readonly array: Superblock;
  /** All members; and as spares the drives that become members, laid out for the array. */
  readonly candidates: readonly GrowthCandidate[];
  readonly addedCount: number;
  /** The policy that the array is to have when the reshape has ended. */
  readonly wantedAfter: WantedLog;
}

/** How a reshape begins, for each member the same. */
export interface ReshapeStart {
  readonly deltaMembers: number;
  /** The new one. */
  readonly memberCount: number;
  /** Negative, in whole chunks. */
  readonly newOffsetSectors: number;
  /** Whether each member has room for the log that is wanted afterwards. */
  readonly hasRoomForLog: boolean;
}

export type ReshapeRefusal = ErrorOf<"no-room" | "too-many" | "too-large">;

/** Of an array that is whole, has no log (policy `resync`) and does not reshape. */
export function judgeReshape(request: ReshapeRequest): Result<ReshapeStart, ReshapeRefusal> {
  const { array, candidates, addedCount } = request;
  const { chunkSectors, sizeSectors, devRoles } = array;
  const present = candidates.filter(({ isSpare }) => !isSpare).length;
  assert(present === array.memberCount, "an array that grows is whole");
  assert(Number.isInteger(addedCount) && addedCount >= 1, "a drive is added");
  assert(candidates.length - present <= addedCount, "who does not become a member has no say");
  const memberCount = array.memberCount + addedCount;
  const most = Math.min(NEW_ARRAY_MEMBERS_MAX, devRoles.length);
  if (memberCount > most) {
    const room = Math.max(0, most - array.memberCount);
    const wayOut = room === 0 ? "make a new array for the drives" : `add ${room} at most`;
    const detail = `an array has ${most} members at most, and this one would have ${memberCount}: ${wayOut}`;
    return err({ kind: "too-many", detail });
  }
  if (!Number.isSafeInteger(sizeSectors * SECTOR_BYTES * (memberCount - 1))) {
    return err({ kind: "too-large", detail: "no array has so many bytes: add fewer drives" });
  }
  // More than this makes nothing easier.
  const wanted = 2 * (array.memberCount - 1);
  const rooms = candidates.map((each) => ({ each, chunks: headroomChunks(each, chunkSectors) }));
  const tightest = rooms.reduce((one, other) => (other.chunks < one.chunks ? other : one));
  if (tightest.chunks < 1) {
    const chunkKib = (chunkSectors * SECTOR_BYTES) / KIB;
    const detail =
      `drive ${tightest.each.drive} has no room before its data to move it by a chunk ` +
      `(${chunkKib} KiB): replace it by a larger drive, whose data begins further behind, or copy ` +
      "the data to a new array";
    return err({ kind: "no-room", detail });
  }
  const chunks = Math.min(wanted, tightest.chunks);
  const best = chooseGap(request, chunks);
  const newOffsetSectors = -(best ?? chunks) * chunkSectors;
  const start = { deltaMembers: addedCount, memberCount, newOffsetSectors };
  for (const { superblock, deviceBytes } of candidates) {
    const begun = begunReshape({ ...superblock, memberCount: array.memberCount }, start);
    const sectors = Math.floor(deviceBytes / SECTOR_BYTES);
    assert(areAreasApart(begun, sectors), "the data moves to where nothing lies");
  }
  return ok({ ...start, hasRoomForLog: best !== null });
}

/** Whole chunks that are free before the data. */
function headroomChunks({ superblock }: GrowthCandidate, chunkSectors: number): number {
  assert(superblock.log.kind === "none", "no log lies where the data goes");
  const { dataOffsetSectors } = superblock;
  const badBlocks = badBlockLogArea(superblock);
  const isBefore = badBlocks !== null && badBlocks.start < dataOffsetSectors;
  const first = Math.max(FIRST_SECTOR_MIN, isBefore ? roundUp(badBlocks.end, ROW_SECTORS) : 0);
  return Math.max(0, Math.floor((dataOffsetSectors - first) / chunkSectors));
}

/**
 * The largest gap that leaves each member the log that it would have behind the smallest one; null:
 * even that leaves some member none.
 */
function chooseGap(
  { candidates, array, wantedAfter }: ReshapeRequest,
  most: number,
): number | null {
  const logSectors = ({ superblock }: GrowthCandidate, chunks: number): number | null => {
    const newOffsetSectors = -chunks * array.chunkSectors;
    const begun = begunReshape(superblock, { deltaMembers: 1, newOffsetSectors });
    const log = placeLog(finishedReshape(begun), wantedAfter);
    if (log === null) return null;
    return log.kind === "ppl" ? log.sizeSectors : 0;
  };
  const best = candidates.map((each) => logSectors(each, 1));
  if (best.includes(null)) return null;
  for (let chunks = most; chunks > 1; chunks -= 1) {
    if (candidates.every((each, index) => logSectors(each, chunks) === best[index])) return chunks;
  }
  return 1;
}

export interface RunningReshapeRefusal {
  /** "damaged": nobody goes on with it. "unsupported": Linux does. */
  readonly kind: "unsupported" | "damaged";
  /** What it is, in half a sentence: "moves the data to the end of each member". */
  readonly what: string;
}

/** Null: one that we can go on with, or none at all. Asks one superblock, of any level. */
export function judgeRunningReshape(superblock: Superblock): RunningReshapeRefusal | null {
  const { otherFeatures, memberCount, chunkSectors, level, layout, log } = superblock;
  const isMoving = (otherFeatures & Feature.newOffset) !== 0;
  const isBackwards = (otherFeatures & Feature.reshapeBackwards) !== 0;
  const unsupported = (what: string) => ({ kind: "unsupported", what }) as const;
  if ((otherFeatures & Feature.reshape) === 0) {
    return isMoving || isBackwards ? unsupported("is described in part only") : null;
  }
  const fields = reshapeFieldsOf(superblock);
  const { deltaMembers, newOffsetSectors, newLevel, newLayout, newChunkSectors } = fields;
  if (level !== 5 || newLevel !== level) return unsupported("changes the level");
  if (newLayout !== layout) return unsupported("changes the layout");
  if (newChunkSectors !== chunkSectors) return unsupported("changes the chunk");
  if (deltaMembers < 1) return unsupported("adds no member");
  if (isBackwards) return unsupported("goes backwards");
  if (!isMoving) return unsupported("needs a backup file");
  if (newOffsetSectors >= 0) return unsupported("does not move the data to the front");
  if (chunkSectors < 1 || newOffsetSectors % chunkSectors !== 0) {
    return unsupported(`moves the data by ${-newOffsetSectors} sectors, which are no whole chunks`);
  }
  // A bitmap is left (array/start/consistency.ts); with a partial parity log no kernel reshapes.
  if (log.kind === "ppl") return unsupported("runs with a ppl");
  if (isReplacement(superblock)) return unsupported("meets a replacement");
  const oldCount = memberCount - deltaMembers;
  if (oldCount < SUPERBLOCK_RANGES.members.runs.min) {
    return { kind: "damaged", what: `comes from ${oldCount} members` };
  }
  const wrong = wrongPosition(superblock, fields);
  return wrong === null ? null : { kind: "damaged", what: wrong };
}

function wrongPosition(
  superblock: Superblock,
  reshape: { positionSectors: number; deltaMembers: number; newOffsetSectors: number },
): string | null {
  const { memberCount, chunkSectors } = superblock;
  const { positionSectors, deltaMembers, newOffsetSectors } = reshape;
  const at = `stands at sector ${positionSectors}`;
  if (positionSectors % (chunkSectors * (memberCount - 1)) !== 0) {
    return `${at}, which is no whole stripe`;
  }
  const end = arraySectors(superblock, memberCount);
  if (positionSectors > end) return `${at}, behind the end of the array (${end})`;
  // The kernel's condition for going on without a backup (raid5_run in drivers/md/raid5.c), which
  // follows from what was asked before.
  const newRow = positionSectors / (chunkSectors * (memberCount - 1));
  const oldRow = Math.floor(positionSectors / (chunkSectors * (memberCount - deltaMembers - 1)));
  assert(
    newRow * chunkSectors < oldRow * chunkSectors - newOffsetSectors,
    "nothing is overwritten",
  );
  return null;
}
