/**
 * The partial parity log of md on disk: what a torn write needs to make its parity right again.
 *
 * Every member logs the stripes whose parity it holds, in its own area at superblock + ppl.offset.
 * The area holds units one after the other; a unit is a header of 4 KiB and then the partial
 * parity of its entries, in their order:
 *
 *   byte  type   field                             each entry, 24 bytes:
 *      0  512 B  reserved, all ones                   0  u64  data_sector, of the array
 *    512  u32    signature ~crc32c(~0, set_uuid)      8  u32  pp_size, bytes of partial parity
 *    516  u32    padding 0                           12  u32  data_size, bytes
 *    520  u64    generation                          16  u32  parity_disk: role
 *    528  u32    entries_count, at most 148          20  u32  checksum ~crc32c(~0, partial parity)
 *    532  u32    checksum ~crc32c(~0, header),
 *                with this word as 0
 *    536  148 entries
 *
 * An entry is m rows of one stripe in which the same k data chunks, consecutive in array order,
 * were modified in the same rows (write-rules 2): data_sector is the first row of the first chunk,
 * data_size = k * m rows, and pp_size = m rows, or 0 when k is all chunks. The partial parity is
 * the XOR of the chunks that are not modified. Linux panics on an entry whose parity_disk is not
 * what it computes, so every entry is checked before it is written (`checkPplEntry`).
 * Source: include/uapi/linux/raid/md_p.h and drivers/md/raid5-ppl.c of Linux 6.1.
 */
import { assert } from "../base/assert.ts";
import { type ErrorOf, err, ok, type Result } from "../base/result.ts";
import { KIB, ROW_BYTES, roundDown, SECTOR_BYTES } from "../base/units.ts";
import {
  isInRange,
  PPL_ENTRY_RANGES,
  PPL_HEADER_RANGES,
  SUPERBLOCK_RANGES,
} from "./field-ranges.ts";
import { readU64, viewOf, writeU64 } from "./little-endian.ts";
import { SUPERBLOCK_OFFSET_SECTORS, type Superblock } from "./superblock.ts";
import { uuidBytes } from "./uuid.ts";

export const PPL_HEADER_BYTES = 4096;
export const PPL_ENTRIES_MAX = PPL_HEADER_RANGES.entriesCount.format.max;
/** Partial parity of one unit, at most. */
export const PPL_PARTIAL_PARITY_BYTES_MAX = 128 * KIB;
export const PPL_RESERVED_BYTES = 512;
export const PPL_ENTRIES_OFFSET = 536;
export const PPL_ENTRY_BYTES = 24;
/** The kernel keeps one bit a member. */
const PPL_MEMBERS_MAX = 64;
const MULTIPLE_AREA_BYTES_MIN = 2 * (PPL_PARTIAL_PARITY_BYTES_MAX + PPL_HEADER_BYTES);
/** An area for several units, feature bit 0x800. */
export const PPL_MULTIPLE_SECTORS_MIN = MULTIPLE_AREA_BYTES_MIN / SECTOR_BYTES;
/** What we give a log at least: one unit with all the partial parity that it may have. */
export const PPL_AREA_SECTORS_MIN =
  (PPL_PARTIAL_PARITY_BYTES_MAX + 2 * PPL_HEADER_BYTES + ROW_BYTES) / SECTOR_BYTES;

/** CRC32C without inversion at either end, as Linux's `crc32c(seed, data)`. */
export type Crc32c = (seed: number, bytes: Uint8Array) => number;

/** What this needs to know of the array: `raid5/geometry.ts` has it. */
export interface PplGeometry {
  readonly dataCount: number;
  readonly chunkBytes: number;
  readonly stripeBytes: number;
  readonly stripeCount: number;
  parityRole(stripe: number): number;
  dataRole(stripe: number, dataIndex: number): number;
}

export interface PplEntry {
  dataSector: number;
  partialParityBytes: number;
  dataBytes: number;
  parityRole: number;
  /** Of the partial parity. */
  checksum: number;
}

export interface PplHeader {
  readonly signature: number;
  readonly generation: number;
  readonly entries: readonly Readonly<PplEntry>[];
}

/** The rows and chunks of an entry. Rows count within the chunk. */
export interface PplExtent {
  readonly stripe: number;
  readonly firstRow: number;
  readonly rowCount: number;
  readonly firstDataIndex: number;
  readonly dataCount: number;
}

/** `~crc32c(~0, bytes)`, the form of every checksum here. */
export function pplChecksum(bytes: Uint8Array, crc32c: Crc32c): number {
  return ~crc32c(0xffffffff, bytes) >>> 0;
}

/** What marks the headers of one array. */
export function pplSignature(arrayUuid: string, crc32c: Crc32c): number {
  return pplChecksum(uuidBytes(arrayUuid), crc32c);
}

// Headers ------------------------------------------------------------------------------------

export type PplHeaderErrorKind =
  | "too-short"
  | "bad-checksum"
  | "foreign-signature"
  | "bad-entry-count"
  | "number-too-large";

/**
 * The first three kinds only say that no unit begins here. The others are headers with a right
 * checksum that cannot be believed.
 */
export type PplHeaderError = ErrorOf<PplHeaderErrorKind>;

export function decodePplHeader(
  bytes: Uint8Array,
  { signature, crc32c }: { signature: number; crc32c: Crc32c },
): Result<PplHeader, PplHeaderError> {
  if (bytes.length < PPL_HEADER_BYTES) {
    return err({ kind: "too-short", detail: "The log ends within a header." });
  }
  const view = viewOf(bytes);
  if (view.getUint32(532, true) !== headerChecksum(bytes, crc32c)) {
    return err({ kind: "bad-checksum", detail: "The checksum of the log's header is wrong." });
  }
  const found = view.getUint32(512, true);
  if (found !== signature) {
    const detail = `The log's header has signature ${found.toString(16)}: it is another array's.`;
    return err({ kind: "foreign-signature", detail });
  }
  const count = view.getUint32(528, true);
  if (count > PPL_ENTRIES_MAX) {
    const detail = `The log's header claims ${count} entries; it has room for ${PPL_ENTRIES_MAX}.`;
    return err({ kind: "bad-entry-count", detail });
  }
  const entries = Array.from({ length: count }, (_, index) => readEntry(view, index));
  const generation = readU64(view, 520);
  const isSectorWrong = entries.some(({ dataSector }) => {
    return !isInRange(dataSector, PPL_ENTRY_RANGES.dataSector.format);
  });
  if (isSectorWrong || !isInRange(generation, PPL_HEADER_RANGES.generation.format)) {
    const detail = "The log has a number beyond any real array.";
    return err({ kind: "number-too-large", detail });
  }
  return ok({ signature, generation, entries });
}

function headerChecksum(bytes: Uint8Array, crc32c: Crc32c): number {
  const copy = bytes.slice(0, PPL_HEADER_BYTES);
  viewOf(copy).setUint32(532, 0, true);
  return pplChecksum(copy, crc32c);
}

function readEntry(view: DataView, index: number): PplEntry {
  const offset = PPL_ENTRIES_OFFSET + index * PPL_ENTRY_BYTES;
  return {
    dataSector: readU64(view, offset),
    partialParityBytes: view.getUint32(offset + 8, true),
    dataBytes: view.getUint32(offset + 12, true),
    parityRole: view.getUint32(offset + 16, true),
    checksum: view.getUint32(offset + 20, true),
  };
}

/** The 4096 bytes of a header. Units of the hot path are made by `PplUnitBuilder`. */
export function encodePplHeader(header: PplHeader, crc32c: Crc32c): Uint8Array {
  assert(header.entries.length <= PPL_ENTRIES_MAX, "the entries fit into a header");
  assert(isU32(header.signature), "a signature is a checksum");
  const bytes = new Uint8Array(PPL_HEADER_BYTES);
  const view = viewOf(bytes);
  bytes.fill(0xff, 0, PPL_RESERVED_BYTES);
  view.setUint32(512, header.signature, true);
  writeU64(view, 520, header.generation);
  view.setUint32(528, header.entries.length, true);
  header.entries.forEach((entry, index) => {
    writePplEntry(view, PPL_ENTRIES_OFFSET + index * PPL_ENTRY_BYTES, entry);
  });
  view.setUint32(532, headerChecksum(bytes, crc32c), true);
  return bytes;
}

/** Allocates nothing. */
export function writePplEntry(view: DataView, offset: number, entry: Readonly<PplEntry>): void {
  assert(isU32(entry.dataBytes) && isU32(entry.partialParityBytes), "sizes take 32 bits");
  assert(isU32(entry.parityRole) && isU32(entry.checksum), "role and checksum take 32 bits");
  writeU64(view, offset, entry.dataSector);
  view.setUint32(offset + 8, entry.partialParityBytes, true);
  view.setUint32(offset + 12, entry.dataBytes, true);
  view.setUint32(offset + 16, entry.parityRole, true);
  view.setUint32(offset + 20, entry.checksum, true);
}

function isU32(value: number): boolean {
  return value >= 0 && value <= 0xffffffff && Math.floor(value) === value;
}

/** What stands at the start of an area, behind which all is zero, when nothing is logged. */
export function emptyPplHeader(signature: number, crc32c: Crc32c, generation = 0): Uint8Array {
  return encodePplHeader({ signature, generation, entries: [] }, crc32c);
}

// Entries ------------------------------------------------------------------------------------

export type PplEntryFault =
  | "misaligned"
  | "bad-size"
  | "beyond-array"
  | "beyond-chunk"
  | "beyond-stripe"
  | "wrong-parity-role"
  | "wrong-log";

/**
 * What is wrong with an entry in the log of `logRole`, or null. Allocates nothing.
 *
 * Stricter than the kernel, which takes what it is given: it would go beyond the stripe with an
 * entry whose chunks are not consecutive, and stops the host (BUG_ON) at a wrong role.
 */
export function checkPplEntry(
  entry: Readonly<PplEntry>,
  geometry: PplGeometry,
  logRole: number,
): PplEntryFault | null {
  const { partialParityBytes, dataBytes } = entry;
  const offset = entry.dataSector * SECTOR_BYTES;
  if (offset % ROW_BYTES !== 0) return "misaligned";
  if (partialParityBytes % ROW_BYTES !== 0 || dataBytes % ROW_BYTES !== 0) return "misaligned";
  const dataCount = entryDataCount(entry, geometry);
  if (dataBytes === 0 || !Number.isInteger(dataCount)) return "bad-size";
  if (dataCount > geometry.dataCount) return "beyond-stripe";
  const columnBytes = dataBytes / dataCount;
  if (columnBytes % ROW_BYTES !== 0) return "bad-size";
  const stripe = Math.floor(offset / geometry.stripeBytes);
  if (stripe >= geometry.stripeCount) return "beyond-array";
  const within = offset - stripe * geometry.stripeBytes;
  const firstDataIndex = Math.floor(within / geometry.chunkBytes);
  if (within - firstDataIndex * geometry.chunkBytes + columnBytes > geometry.chunkBytes) {
    return "beyond-chunk";
  }
  if (firstDataIndex + dataCount > geometry.dataCount) return "beyond-stripe";
  if (entry.parityRole !== geometry.parityRole(stripe)) return "wrong-parity-role";
  return entry.parityRole === logRole ? null : "wrong-log";
}

/** Without partial parity all chunks are modified. */
function entryDataCount(entry: Readonly<PplEntry>, geometry: PplGeometry): number {
  if (entry.partialParityBytes === 0) return geometry.dataCount;
  return entry.dataBytes / entry.partialParityBytes;
}

/** Of an entry that `checkPplEntry` has passed. */
export function pplExtentOf(entry: Readonly<PplEntry>, geometry: PplGeometry): PplExtent {
  const offset = entry.dataSector * SECTOR_BYTES;
  const stripe = Math.floor(offset / geometry.stripeBytes);
  const within = offset - stripe * geometry.stripeBytes;
  const firstDataIndex = Math.floor(within / geometry.chunkBytes);
  const dataCount = entryDataCount(entry, geometry);
  const firstRow = (within - firstDataIndex * geometry.chunkBytes) / ROW_BYTES;
  const rowCount = entry.dataBytes / dataCount / ROW_BYTES;
  assert(Number.isInteger(firstRow) && Number.isInteger(rowCount), "an extent has whole rows");
  assert((firstRow + rowCount) * ROW_BYTES <= geometry.chunkBytes, "its rows lie in their chunks");
  assert(firstDataIndex + dataCount <= geometry.dataCount, "its chunks lie in their stripe");
  return { stripe, firstRow, rowCount, firstDataIndex, dataCount };
}

/** Fills in an entry for an extent, all but the checksum. Allocates nothing. */
export function setPplEntry(entry: PplEntry, extent: PplExtent, geometry: PplGeometry): void {
  const { stripe, firstDataIndex, firstRow, rowCount, dataCount } = extent;
  assert(stripe >= 0 && stripe < geometry.stripeCount, "the stripe is one of the array");
  assert(dataCount > 0 && firstDataIndex + dataCount <= geometry.dataCount, "it has the chunks");
  assert((firstRow + rowCount) * ROW_BYTES <= geometry.chunkBytes, "and each chunk has the rows");
  const within = firstDataIndex * geometry.chunkBytes + firstRow * ROW_BYTES;
  entry.dataSector = (stripe * geometry.stripeBytes + within) / SECTOR_BYTES;
  entry.dataBytes = dataCount * rowCount * ROW_BYTES;
  entry.partialParityBytes = dataCount === geometry.dataCount ? 0 : rowCount * ROW_BYTES;
  entry.parityRole = geometry.parityRole(stripe);
  entry.checksum = 0;
}

// Space --------------------------------------------------------------------------------------

/** The log of one member. */
export interface PplSpace {
  /** On the device. */
  readonly offsetBytes: number;
  /** Whole rows of what the superblock gives. */
  readonly areaBytes: number;
  /** Units follow one another; otherwise each takes the place of the one before. */
  readonly isMultiple: boolean;
  /** The most partial parity that a unit may have. */
  readonly partialParityBytesMax: number;
}

export type PplSpaceError = ErrorOf<"space-too-small" | "too-many-members" | "wrong-level">;

/** Of a superblock with a log; that the area overlaps nothing, its codec has checked. */
export function pplSpaceOf(superblock: Superblock): Result<PplSpace, PplSpaceError> {
  const { log, level, memberCount } = superblock;
  assert(log.kind === "ppl", "the member has a partial parity log");
  if (level !== 5) {
    const detail = `Only RAID5 arrays have a partial parity log; this one is of level ${level}.`;
    return err({ kind: "wrong-level", detail });
  }
  if (memberCount > PPL_MEMBERS_MAX) {
    const detail = `A partial parity log is for ${PPL_MEMBERS_MAX} members, not ${memberCount}.`;
    return err({ kind: "too-many-members", detail });
  }
  const areaBytes = roundDown(log.sizeSectors * SECTOR_BYTES, ROW_BYTES);
  // Header, one row, and the row that unitBytesMax leaves free with one more to spare.
  const { runs } = SUPERBLOCK_RANGES.pplSize;
  if (!isInRange(log.sizeSectors, runs)) {
    const detail = `The partial parity log has ${log.sizeSectors} sectors; it needs at least ${runs.min}.`;
    return err({ kind: "space-too-small", detail });
  }
  assert(unitBytesMax(areaBytes) >= PPL_HEADER_BYTES + ROW_BYTES, "a unit of one row has room");
  return ok({
    offsetBytes: (SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors) * SECTOR_BYTES,
    areaBytes,
    isMultiple: log.isMultiple && areaBytes >= MULTIPLE_AREA_BYTES_MIN,
    partialParityBytesMax: Math.min(
      PPL_PARTIAL_PARITY_BYTES_MAX,
      unitBytesMax(areaBytes) - PPL_HEADER_BYTES,
    ),
  });
}

/**
 * A unit ends at least two rows before the area does. The kernel's search looks for a header
 * behind each unit while more than a header's room is left; where it stops for want of room, it
 * takes the place behind the last unit for that unit's own and reads the wrong partial parity
 * (ppl_load_distributed in Linux's raid5-ppl.c), so that the write hole is open.
 */
function unitBytesMax(areaBytes: number): number {
  return areaBytes - PPL_HEADER_BYTES - ROW_BYTES;
}

/** Where in the area the next unit goes, when the last one ended at `endBytes` (0: none yet). */
export function nextPplUnitOffset(
  space: PplSpace,
  { endBytes, unitBytes }: { endBytes: number; unitBytes: number },
): number {
  assert(unitBytes <= unitBytesMax(space.areaBytes), "a unit fits into the area");
  assert(endBytes >= 0 && endBytes <= space.areaBytes, "the last unit ended in the area");
  if (!space.isMultiple) return 0;
  return endBytes + unitBytes > unitBytesMax(space.areaBytes) ? 0 : endBytes;
}

/**
 * Whether the unit's header must be durable before its partial parity is submitted: when it goes
 * back to the start of an area with several units.
 *
 * Order: there the search begins. With the old header still in place and what followed it already
 * overwritten, the search would end at a unit of the last lap, long out of date, and its replay
 * would put wrong parity under data at rest.
 */
export function needsHeaderFirst(
  space: PplSpace,
  { endBytes, offset }: { endBytes: number; offset: number },
): boolean {
  assert(offset === 0 || offset === endBytes, "a unit goes behind the last one or to the start");
  return space.isMultiple && offset === 0 && endBytes > 0;
}
