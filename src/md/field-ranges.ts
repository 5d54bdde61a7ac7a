/**
 * Every number that md keeps on a member, with the values that it may have. Whoever decodes asks
 * here before a number is used: nothing behind it has to reckon with another one.
 *
 *   format   what md knows for arrays of any level: beyond it the member is refused
 *   runs     what the arrays have that run here: beyond it the array is refused at assembly
 *
 * A row without `runs` may have whatever the format allows. What depends on other numbers (areas
 * that overlap or do not fit on the device, a member size below the chunk, a bitmap of another
 * size) is checked where both are known: superblock-areas.ts, assemble/match.ts, bitmap.ts, ppl.ts.
 *
 * Why events end at 2^51 where arrays run and at 2^52 in the format: the count goes up with each
 * change, and what was taken must be taken again at the next start.
 */
import { assert } from "../base/assert.ts";
import {
  ARRAY_CHUNK_BYTES_MAX,
  ARRAY_CHUNK_BYTES_MIN,
  ARRAY_MEMBERS_MAX,
  ARRAY_MEMBERS_MIN,
} from "../base/limits.ts";
import { isPowerOfTwo, SECTOR_BYTES } from "../base/units.ts";
import { readU64 } from "./little-endian.ts";

export type FieldType = "u8" | "u16" | "s16" | "u32" | "s32" | "u40" | "u64";

export interface Range {
  readonly min: number;
  readonly max: number;
  /** Values that mean something of their own, in or beyond the range. */
  readonly only?: readonly number[];
  readonly isPowerOfTwo?: true;
}

export interface FieldRange {
  /** md's name. */
  readonly field: string;
  readonly offset: number;
  readonly type: FieldType;
  /** Only where one of these feature bits is set: without, the bytes mean nothing or another. */
  readonly when?: number;
  readonly format: Range;
  readonly runs?: Range;
  /** A 64-bit word of all ones is no number here. */
  readonly allOnes?: true;
}

const BIT = { bitmap: 0x1, recovery: 0x2, reshape: 0x4, newOffset: 0x40, ppl: 0xc00 } as const;

/** Beyond any device, and the last that is exact as bytes. */
export const SECTOR_MAX = Math.floor(Number.MAX_SAFE_INTEGER / SECTOR_BYTES);
export const DEV_ROLES_MAX = 1920;
/** Of a superblock, and of a bitmap. */
const HEADER_BYTES = 256;
const EVENTS_MAX = 2 ** 52;
const U32_MAX = 2 ** 32 - 1;

const any = (type: FieldType): Range => {
  const bits = Number(type.slice(1));
  assert(bits <= 53, "every value of the type is exact");
  return type.startsWith("s")
    ? { min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 }
    : { min: 0, max: 2 ** bits - 1 };
};
const free = (field: string, offset: number, type: FieldType, when = 0): FieldRange => {
  return { field, offset, type, format: any(type), ...(when === 0 ? {} : { when }) };
};
const sectors = { min: 0, max: SECTOR_MAX };
const events = { min: 0, max: EVENTS_MAX };

/** The byte table is in superblock.ts. */
export const SUPERBLOCK_RANGES = {
  createdSeconds: free("ctime", 64, "u40"),
  level: { ...free("level", 72, "s32"), runs: { min: 5, max: 5 } },
  layout: { ...free("layout", 76, "u32"), runs: { min: 0, max: 5 } },
  size: { field: "size", offset: 80, type: "u64", format: sectors },
  chunk: {
    ...free("chunksize", 88, "u32"),
    runs: {
      min: ARRAY_CHUNK_BYTES_MIN / SECTOR_BYTES,
      max: ARRAY_CHUNK_BYTES_MAX / SECTOR_BYTES,
      isPowerOfTwo: true,
    },
  },
  members: {
    field: "raid_disks",
    offset: 92,
    type: "u32",
    format: { min: 0, max: DEV_ROLES_MAX },
    runs: { min: ARRAY_MEMBERS_MIN, max: ARRAY_MEMBERS_MAX },
  },
  bitmapOffset: free("bitmap_offset", 96, "s32", BIT.bitmap),
  pplOffset: free("ppl.offset", 96, "s16", BIT.ppl),
  // Header, one row, and the two that stay free behind a unit: see pplSpaceOf.
  pplSize: { ...free("ppl.size", 98, "u16", BIT.ppl), runs: { min: 32, max: 2 ** 16 - 1 } },
  newLevel: free("new_level", 100, "s32", BIT.reshape),
  reshapePosition: {
    field: "reshape_position",
    offset: 104,
    type: "u64",
    when: BIT.reshape,
    format: sectors,
  },
  deltaMembers: {
    field: "delta_disks",
    offset: 112,
    type: "s32",
    when: BIT.reshape,
    format: { min: -DEV_ROLES_MAX, max: DEV_ROLES_MAX },
  },
  newLayout: free("new_layout", 116, "u32", BIT.reshape),
  newChunk: free("new_chunk", 120, "u32", BIT.reshape),
  newOffset: free("new_offset", 124, "s32", BIT.newOffset),
  dataOffset: { field: "data_offset", offset: 128, type: "u64", format: sectors },
  dataSize: { field: "data_size", offset: 136, type: "u64", format: sectors },
  superOffset: { field: "super_offset", offset: 144, type: "u64", format: { min: 8, max: 8 } },
  recoveryOffset: {
    field: "recovery_offset",
    offset: 152,
    type: "u64",
    when: BIT.recovery,
    format: sectors,
    allOnes: true,
  },
  // md takes a drive with any number beyond dev_roles for a spare.
  devNumber: {
    ...free("dev_number", 160, "u32"),
    runs: { min: 0, max: DEV_ROLES_MAX - 1 },
  },
  correctedReads: free("cnt_corrected_read", 164, "u32"),
  deviceFlags: free("devflags", 184, "u8"),
  badBlockShift: { field: "bblog_shift", offset: 185, type: "u8", format: { min: 0, max: 0 } },
  badBlockSectors: { field: "bblog_size", offset: 186, type: "u16", format: { min: 0, max: 8 } },
  badBlockOffset: free("bblog_offset", 188, "s32"),
  updatedSeconds: free("utime", 192, "u40"),
  events: {
    field: "events",
    offset: 200,
    type: "u64",
    format: events,
    runs: { min: 0, max: EVENTS_MAX / 2 },
  },
  resyncOffset: {
    field: "resync_offset",
    offset: 208,
    type: "u64",
    format: sectors,
    allOnes: true,
  },
  roleCount: {
    field: "max_dev",
    offset: 220,
    type: "u32",
    format: { min: 0, max: DEV_ROLES_MAX },
  },
  logicalBlock: {
    field: "logical_block_size",
    offset: 224,
    type: "u32",
    format: { min: 0, max: 4096, only: [0, 512, 4096] },
  },
} as const satisfies Record<string, FieldRange>;

/** The byte table is in bitmap.ts. */
export const BITMAP_RANGES = {
  version: { field: "version", offset: 4, type: "u32", format: { min: 4, max: 4 } },
  events: { field: "events", offset: 24, type: "u64", format: events },
  eventsCleared: { field: "events_cleared", offset: 32, type: "u64", format: events },
  syncSize: { field: "sync_size", offset: 40, type: "u64", format: sectors },
  state: free("state", 48, "u32"),
  chunk: {
    field: "chunksize",
    offset: 52,
    type: "u32",
    format: { min: 512, max: 2 ** 31, isPowerOfTwo: true },
  },
  daemonSleep: {
    field: "daemon_sleep",
    offset: 56,
    type: "u32",
    format: { min: 1, max: U32_MAX },
  },
  writeBehind: { field: "write_behind", offset: 60, type: "u32", format: { min: 0, max: 16_383 } },
  sectorsReserved: free("sectors_reserved", 64, "u32"),
  nodes: { field: "nodes", offset: 68, type: "u32", format: { min: 0, max: 0 } },
} as const satisfies Record<string, FieldRange>;

/** The byte table is in ppl.ts; entries are checked against the array there (`checkPplEntry`). */
export const PPL_HEADER_RANGES = {
  generation: {
    field: "generation",
    offset: 520,
    type: "u64",
    format: { min: 0, max: Number.MAX_SAFE_INTEGER },
  },
  entriesCount: { field: "entries_count", offset: 528, type: "u32", format: { min: 0, max: 148 } },
} as const satisfies Record<string, FieldRange>;

/** Of the first entry; the next ones follow every 24 bytes. */
export const PPL_ENTRY_RANGES = {
  dataSector: {
    field: "data_sector",
    offset: 536,
    type: "u64",
    format: { min: 0, max: Number.MAX_SAFE_INTEGER },
  },
  partialParity: free("pp_size", 544, "u32"),
  dataSize: free("data_size", 548, "u32"),
  parityRole: free("parity_disk", 552, "u32"),
} as const satisfies Record<string, FieldRange>;

/** A word of the bad-block log holds two numbers (bad-block-log.ts). */
export const BAD_BLOCK_RANGES = {
  sector: { min: 0, max: SECTOR_MAX },
  length: { min: 1, max: 1023 },
} as const satisfies Record<string, Range>;

/** Exact up to 2^53; what lies above is only ever compared. */
function readField(view: DataView, { offset, type }: FieldRange): number {
  switch (type) {
    case "u8":
      return view.getUint8(offset);
    case "u16":
      return view.getUint16(offset, true);
    case "s16":
      return view.getInt16(offset, true);
    case "u32":
      return view.getUint32(offset, true);
    case "s32":
      return view.getInt32(offset, true);
    case "u40":
      return view.getUint32(offset, true) + view.getUint8(offset + 4) * 2 ** 32;
    case "u64":
      return readU64(view, offset);
  }
}

export function isInRange(value: number, range: Range): boolean {
  assert(range.min <= range.max, "a range has a value");
  if (range.only !== undefined) return range.only.includes(value);
  if (range.isPowerOfTwo === true && !isPowerOfTwo(value)) return false;
  return value >= range.min && value <= range.max;
}

/** "2 to 53", "a power of two from 8 to 262144", "5". */
export function rangeText({ min, max, only, isPowerOfTwo: isPower }: Range): string {
  if (only !== undefined) return only.join(", ");
  if (min === max) return String(min);
  return `${isPower === true ? "a power of two from " : ""}${min} to ${max}`;
}

/** A number that its field cannot have. */
export interface FieldFault {
  readonly row: FieldRange;
  readonly found: number;
  /** "raid_disks 16777216, where md has 0 to 1920" */
  readonly text: string;
}

const SUPERBLOCK_ROWS: readonly FieldRange[] = Object.values(SUPERBLOCK_RANGES);
const BITMAP_ROWS: readonly FieldRange[] = Object.values(BITMAP_RANGES);
for (const { offset, format, runs = format } of [...SUPERBLOCK_ROWS, ...BITMAP_ROWS]) {
  assert(offset < HEADER_BYTES, "a field lies in the header");
  assert(format.min <= runs.min && runs.max <= format.max, "what runs here, md knows");
}

/** The first number of a superblock that the format does not have. */
export function findSuperblockFault(view: DataView, features: number): FieldFault | null {
  return findFault(view, SUPERBLOCK_ROWS, features);
}

/** The first number of a bitmap's header that the format does not have. */
export function findBitmapFault(view: DataView): FieldFault | null {
  return findFault(view, BITMAP_ROWS, 0);
}

function findFault(
  view: DataView,
  rows: readonly FieldRange[],
  features: number,
): FieldFault | null {
  for (const row of rows) {
    if (row.when !== undefined && (row.when & features) === 0) continue;
    if (row.allOnes === true && isAllOnes(view, row.offset)) continue;
    const found = readField(view, row);
    if (isInRange(found, row.format)) continue;
    return { row, found, text: `${row.field} ${found}, where md has ${rangeText(row.format)}` };
  }
  return null;
}

export function isAllOnes(view: DataView, offset: number): boolean {
  return view.getUint32(offset, true) === U32_MAX && view.getUint32(offset + 4, true) === U32_MAX;
}
