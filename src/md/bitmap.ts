/**
 * The write-intent bitmap of md on disk: which parts of the members may be out of sync.
 *
 * It lies on every member, at superblock + bitmap_offset, all copies alike:
 *
 *   byte  type   field                          byte  type   field
 *      0  u32    magic 0x6d746962 "bitm"          52  u32    chunksize, bytes a bit stands for
 *      4  u32    version 4                        56  u32    daemon_sleep, seconds
 *      8  16 B   uuid: set_uuid                   60  u32    write_behind
 *     24  u64    events                           64  u32    sectors_reserved, or 0
 *     32  u64    events_cleared                   68  u32    nodes: 0
 *     40  u64    sync_size, sectors               72  184 B  cluster_name and zeros
 *     48  u32    state: bit 1 stale,             256  bits   bit i: byte 256 + i / 8, bit i % 8
 *                bit 2 write error                           (lowest first); 1: maybe out of sync
 *
 * Bits stand for sectors of the member's data region, not of the array. It is read and written in
 * blocks of 4 KiB, the last one whole. `events` is written before the superblock is: a header
 * that is older than the superblock is stale, and every bit then counts as set.
 * Source: bitmap_super_t in drivers/md/md-bitmap.h of Linux 6.1; the choices of a new bitmap are
 * those of add_internal_bitmap1() in mdadm's super1.c.
 */
import { assert } from "../base/assert.ts";
import { err, ok, type Result } from "../base/result.ts";
import { isPowerOfTwo, MIB, ROW_BYTES, roundDown, roundUp, SECTOR_BYTES } from "../base/units.ts";
import { BITMAP_RANGES, findBitmapFault } from "./field-ranges.ts";
import { areAlike, readU64, viewOf, writeU64 } from "./little-endian.ts";
import { SUPERBLOCK_OFFSET_SECTORS, type Superblock } from "./superblock.ts";
import { fixedAreas } from "./superblock-areas.ts";
import { decodeUuid, encodeUuid } from "./uuid.ts";

export const BITMAP_MAGIC = 0x6d746962;
export const BITMAP_HEADER_BYTES = 256;
export const BITMAP_BLOCK_BYTES = ROW_BYTES;
/** Bits of the state word. */
export const BitmapFlag = { stale: 0x2, writeError: 0x4 } as const;

const VERSION_HOST_ENDIAN = 3;
const VERSION = 4;
const VERSION_CLUSTERED = 5;
const VERSION_LOCKLESS = 6;
/** mdadm's smallest. */
const NEW_CHUNK_BYTES_MIN = 4096;
const NEW_CHUNK_BYTES = 64 * MIB;
const DAEMON_SLEEP_SECONDS = 5;
/** mdadm never makes one beyond 128 KiB; more than this we do not keep in memory. */
const AREA_BYTES_MAX = MIB;
const NEW_SPACE_SECTORS_MAX = 256;
/** What a number out of its range is told as. */
const FAULT_KINDS: Readonly<Record<string, BitmapErrorKind>> = {
  [BITMAP_RANGES.chunk.field]: "bad-chunk-size",
  [BITMAP_RANGES.daemonSleep.field]: "bad-daemon-sleep",
  [BITMAP_RANGES.writeBehind.field]: "bad-write-behind",
};

export interface BitmapHeader {
  readonly arrayUuid: string;
  readonly events: number;
  /** Bits were cleared up to this event: a member older than it needs a full rebuild. */
  readonly eventsCleared: number;
  readonly syncSizeSectors: number;
  /** `BitmapFlag`s. */
  readonly state: number;
  /** What one bit stands for. */
  readonly chunkBytes: number;
  readonly daemonSleepSeconds: number;
  readonly writeBehind: number;
  readonly sectorsReserved: number;
  /** Bytes 72 to 255 as found. */
  readonly restBytes: Uint8Array;
}

export type BitmapErrorKind =
  | "too-short"
  | "no-magic"
  | "host-endian"
  | "clustered"
  | "lockless"
  | "unknown-version"
  | "wrong-uuid"
  | "bad-chunk-size"
  | "bad-daemon-sleep"
  | "bad-write-behind"
  | "number-too-large"
  | "wrong-sync-size"
  | "area-too-small"
  | "area-too-large"
  | "areas-overlap";

/** `detail` is a sentence that says what was found and what it means. */
export interface BitmapError {
  readonly kind: BitmapErrorKind;
  readonly detail: string;
  /** What to do, where another bitmap of this kind would be refused too; null: make it anew. */
  readonly advice: string | null;
}

const REPLACE = "Replace it on Linux: mdadm --grow --bitmap=none, then --bitmap=internal.";
const RUN_ON_LINUX = "Other hosts may be writing to this array: run it with Linux.";

function fault(kind: BitmapErrorKind, detail: string, advice: string | null = null): BitmapError {
  return { kind, detail, advice };
}

/** What was found and, where it is not the same for all, what to do. */
export function bitmapErrorText({ detail, advice }: BitmapError): string {
  return advice === null ? detail : `${detail} ${advice}`;
}

/** How many bits a bitmap has: one for every chunk begun. */
export function bitmapBitCount({
  syncSizeSectors,
  chunkBytes,
}: Pick<BitmapHeader, "syncSizeSectors" | "chunkBytes">): number {
  assert(syncSizeSectors >= 0 && chunkBytes >= SECTOR_BYTES, "a bit stands for sectors");
  return Math.ceil(syncSizeSectors / (chunkBytes / SECTOR_BYTES));
}

/** Bytes on disk that we read and write: header and bits, in whole blocks. */
export function bitmapAreaBytes(
  header: Pick<BitmapHeader, "syncSizeSectors" | "chunkBytes">,
): number {
  const bytes = BITMAP_HEADER_BYTES + Math.ceil(bitmapBitCount(header) / 8);
  return roundUp(bytes, BITMAP_BLOCK_BYTES);
}

/** Where the bitmap begins on the device of this member. */
export function bitmapOffsetBytes(superblock: Superblock): number {
  assert(superblock.log.kind === "bitmap", "the member has a bitmap");
  return (SUPERBLOCK_OFFSET_SECTORS + superblock.log.offsetSectors) * SECTOR_BYTES;
}

/**
 * Decodes the first `BITMAP_HEADER_BYTES` of the bitmap of a member with this superblock. Refuses
 * what the kernel refuses, a bitmap for another size, and one whose end would lead our writes into
 * the bad-block log, the data or beyond the device.
 */
export function decodeBitmapHeader(
  bytes: Uint8Array,
  { superblock, deviceBytes }: { superblock: Superblock; deviceBytes: number },
): Result<BitmapHeader, BitmapError> {
  const unusable = checkEnvelope(bytes, superblock) ?? checkNumbers(viewOf(bytes));
  if (unusable !== null) return err(unusable);
  const view = viewOf(bytes);
  const header: BitmapHeader = {
    arrayUuid: decodeUuid(bytes, 8),
    events: readU64(view, 24),
    eventsCleared: readU64(view, 32),
    syncSizeSectors: readU64(view, 40),
    state: view.getUint32(48, true),
    chunkBytes: view.getUint32(52, true),
    daemonSleepSeconds: view.getUint32(56, true),
    writeBehind: view.getUint32(60, true),
    sectorsReserved: view.getUint32(64, true),
    restBytes: bytes.slice(72, BITMAP_HEADER_BYTES),
  };
  const wrong = checkSize(header, superblock) ?? checkBitmapArea(header, superblock, deviceBytes);
  if (wrong !== null) return err(wrong);
  const found = bytes.subarray(0, BITMAP_HEADER_BYTES);
  assert(areAlike(encodeBitmapHeader(header), found), "a header that was decoded encodes as found");
  return ok(header);
}

function checkEnvelope(bytes: Uint8Array, superblock: Superblock): BitmapError | null {
  if (bytes.length < BITMAP_HEADER_BYTES) {
    return fault("too-short", "The device is too small to hold its bitmap.");
  }
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== BITMAP_MAGIC) {
    return fault("no-magic", "There is no write-intent bitmap where the superblock puts it.");
  }
  const version = checkVersion(view.getUint32(4, true), view.getUint32(68, true));
  if (version !== null) return version;
  const uuid = decodeUuid(bytes, 8);
  if (uuid === superblock.arrayUuid) return null;
  return fault(
    "wrong-uuid",
    `The write-intent bitmap belongs to array ${uuid}, not to ${superblock.arrayUuid}: its bits ` +
      "say nothing about this array.",
  );
}

function checkVersion(version: number, nodes: number): BitmapError | null {
  switch (version) {
    case VERSION:
      if (nodes === 0) return null;
      return fault(
        "clustered",
        `The write-intent bitmap is shared by ${nodes} cluster nodes.`,
        RUN_ON_LINUX,
      );
    case VERSION_CLUSTERED:
      return fault(
        "clustered",
        "The write-intent bitmap is of version 5, for arrays shared by a cluster.",
        RUN_ON_LINUX,
      );
    case VERSION_LOCKLESS:
      return fault(
        "lockless",
        "The write-intent bitmap is of version 6 (lockless, Linux 6.18), another format.",
        REPLACE,
      );
    case VERSION_HOST_ENDIAN:
      return fault(
        "host-endian",
        "The write-intent bitmap is of version 3, whose bits lie as the host that made it had them.",
        REPLACE,
      );
    default:
      return fault(
        "unknown-version",
        `The write-intent bitmap is of version ${version}; only version 4 is known.`,
      );
  }
}

function checkNumbers(view: DataView): BitmapError | null {
  const wrong = findBitmapFault(view);
  if (wrong === null) return null;
  const kind = FAULT_KINDS[wrong.row.field] ?? "number-too-large";
  return fault(kind, `The write-intent bitmap has ${wrong.text}.`);
}

/**
 * One for more than the array uses is that of an array that was about to grow: its header is
 * written before any superblock is, and may be the last that was (bitmap-grow.ts).
 */
function checkSize(header: BitmapHeader, superblock: Superblock): BitmapError | null {
  const { syncSizeSectors } = header;
  // The kernel masks a size that is not in whole chunks down, and then writes that.
  const { sizeSectors, chunkSectors, dataSizeSectors } = superblock;
  const inChunks = chunkSectors === 0 ? sizeSectors : roundDown(sizeSectors, chunkSectors);
  if (syncSizeSectors === sizeSectors || syncSizeSectors === inChunks) return null;
  const isAhead = syncSizeSectors > sizeSectors && syncSizeSectors <= dataSizeSectors;
  if (isAhead && chunkSectors > 0 && syncSizeSectors % chunkSectors === 0) return null;
  return fault(
    "wrong-sync-size",
    `The write-intent bitmap covers ${syncSizeSectors} sectors of each member, but the array uses ` +
      `${sizeSectors}.`,
  );
}

/**
 * Whether the blocks of this bitmap have room where a member keeps its own. Stricter than md, which
 * checks only the data: we write these blocks.
 */
export function checkBitmapArea(
  header: Pick<BitmapHeader, "syncSizeSectors" | "chunkBytes" | "sectorsReserved">,
  superblock: Superblock,
  deviceBytes: number,
): BitmapError | null {
  const areaBytes = bitmapAreaBytes(header);
  if (areaBytes > AREA_BYTES_MAX) {
    return fault(
      "area-too-large",
      `The write-intent bitmap takes ${areaBytes} bytes; parityd keeps at most ${AREA_BYTES_MAX}.`,
      "Make it anew on Linux, with a larger chunk.",
    );
  }
  const needSectors = Math.ceil((BITMAP_HEADER_BYTES + bitmapBitCount(header) / 8) / SECTOR_BYTES);
  if (header.sectorsReserved !== 0 && header.sectorsReserved < needSectors) {
    return fault(
      "area-too-small",
      `The write-intent bitmap has ${header.sectorsReserved} sectors of its own but takes ` +
        `${needSectors}.`,
    );
  }
  const start = bitmapOffsetBytes(superblock) / SECTOR_BYTES;
  const end = start + areaBytes / SECTOR_BYTES;
  const name = fixedAreas(superblock).find((area) => start < area.end && area.start < end)?.name;
  const isBeyond = start < 0 || end * SECTOR_BYTES > deviceBytes;
  if (name === undefined && !isBeyond) return null;
  return fault(
    "areas-overlap",
    `The write-intent bitmap takes sectors ${start} to ${end - 1} and runs into the ` +
      `${name ?? "end of the device"}; writing it would destroy that.`,
  );
}

/** The 256 bytes before the bits. */
export function encodeBitmapHeader(header: BitmapHeader): Uint8Array {
  const bytes = new Uint8Array(BITMAP_HEADER_BYTES);
  const view = viewOf(bytes);
  assert(header.restBytes.length === BITMAP_HEADER_BYTES - 72, "the rest of a header is 184 bytes");
  view.setUint32(0, BITMAP_MAGIC, true);
  view.setUint32(4, VERSION, true);
  encodeUuid(header.arrayUuid, bytes, 8);
  writeU64(view, 24, header.events);
  writeU64(view, 32, header.eventsCleared);
  writeU64(view, 40, header.syncSizeSectors);
  view.setUint32(48, header.state, true);
  view.setUint32(52, header.chunkBytes, true);
  view.setUint32(56, header.daemonSleepSeconds, true);
  view.setUint32(60, header.writeBehind, true);
  view.setUint32(64, header.sectorsReserved, true);
  bytes.set(header.restBytes, 72);
  assert(findBitmapFault(view) === null, "what is encoded can be decoded");
  return bytes;
}

/** Whether the bits may be believed, against the freshest superblock of the array. */
export function isBitmapStale(header: BitmapHeader, superblockEvents: number): boolean {
  assert(Number.isSafeInteger(superblockEvents), "the events of a superblock were decoded");
  return (header.state & BitmapFlag.stale) !== 0 || header.events < superblockEvents;
}

/** mdadm's choice: 64 MiB a bit, or more where the space for the bitmap asks for it. */
export function chooseBitmapChunkBytes({
  sizeSectors,
  logSpaceSectors,
}: {
  sizeSectors: number;
  /** As `chooseLayoutOnMember` reserves it. */
  logSpaceSectors: number;
}): Result<number, BitmapError> {
  assert(sizeSectors > 0 && logSpaceSectors >= 0, "an array has a size, a log its space or none");
  const spaceBytes = Math.min(logSpaceSectors, NEW_SPACE_SECTORS_MAX) * SECTOR_BYTES;
  const bitCountMax = (spaceBytes - BITMAP_HEADER_BYTES) * 8;
  if (bitCountMax <= 0) {
    return err(fault("area-too-small", "The drive is too small to have room for a bitmap."));
  }
  let chunkBytes = NEW_CHUNK_BYTES_MIN;
  let bits = Math.floor((sizeSectors * SECTOR_BYTES) / chunkBytes) + 1;
  while (bits > bitCountMax) {
    chunkBytes *= 2;
    bits = Math.floor((bits + 1) / 2);
  }
  const chosen = {
    syncSizeSectors: sizeSectors,
    chunkBytes: Math.max(chunkBytes, NEW_CHUNK_BYTES),
  };
  assert(bitmapBitCount(chosen) <= bitCountMax, "the bits fit into the space");
  return ok(chosen.chunkBytes);
}

/** The header of a new bitmap of the array that this superblock belongs to. */
export function newBitmapHeader({
  superblock,
  chunkBytes,
}: {
  superblock: Superblock;
  chunkBytes: number;
}): BitmapHeader {
  assert(isPowerOfTwo(chunkBytes) && chunkBytes >= NEW_CHUNK_BYTES_MIN, "bits are 2^n rows");
  assert(superblock.sizeSectors > 0, "the array has a size");
  return {
    arrayUuid: superblock.arrayUuid,
    events: superblock.events,
    eventsCleared: superblock.events,
    syncSizeSectors: superblock.sizeSectors,
    state: 0,
    chunkBytes,
    daemonSleepSeconds: DAEMON_SLEEP_SECONDS,
    writeBehind: 0,
    sectorsReserved: 0,
    restBytes: new Uint8Array(BITMAP_HEADER_BYTES - 72),
  };
}
