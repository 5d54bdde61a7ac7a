/**
 * The bad-block log of a member: sectors that cannot be read from it, although the rest of the
 * member is in sync. Reads of them are answered from the other members; a write cures them.
 *
 * On disk, at superblock + bblog_offset: up to 512 little-endian u64, ended by all ones.
 *
 *   bits 63..10  first sector, from the start of the *device* (the data offset is included)
 *   bits  9..0   length in sectors; 1 to 511 as written here, 1 to 1023 as read
 *
 * In memory: maximal ranges, sorted, never touching each other. They are cut into entries of 511
 * sectors only when written, so the number of entries, not of ranges, is what the log can hold.
 * Sectors come onto the log for one of two causes. An `unread` one holds what belongs there, and
 * could only not be read: when it reads again it is believed. An `unwritten` one missed a write, or
 * was never filled: it is not believed, whatever it reads. md has no room for that in an entry, so
 * the unread ones are listed once more behind the end of its list (unread-list.ts); an area without
 * that list, as Linux writes it, has none.
 *
 * A change that does not fit changes nothing. Feature bit 8 is set exactly while the log has an
 * entry; a log without one need not have valid content on disk. Source: super_1_load() and
 * super_1_sync() in the Linux kernel's md.c.
 */
import { assert } from "../base/assert.ts";
import { type ErrorOf, err, ok, type Result } from "../base/result.ts";
import { SECTOR_BYTES } from "../base/units.ts";
import { BAD_BLOCK_RANGES, isInRange } from "./field-ranges.ts";
import type { Superblock } from "./superblock-fields.ts";
import { readUnreadList, writeUnreadList } from "./unread-list.ts";

export const BAD_BLOCK_LOG_ENTRIES_MAX = 512;
const ENTRY_BYTES = 8;
const ENTRY_SECTORS_MAX = 511;
/** The length takes the low 10 bits of an entry. */
const LENGTH_SPAN = 1024;
const SECTORS_PER_HIGH = 2 ** 32 / LENGTH_SPAN;

export interface SectorRange {
  readonly sector: number;
  readonly lengthSectors: number;
}

export type BadBlockCause = "unread" | "unwritten";

export type BadBlockLogError = ErrorOf<"bad-entry" | "too-many-entries">;

export class BadBlockLog {
  /** How many entries the area on disk can take. */
  readonly entryCountMax: number;
  private starts: number[] = [];
  private ends: number[] = [];
  private entries = 0;
  /** Those of them that are unread; null: none. */
  private unread: BadBlockLog | null = null;

  constructor(entryCountMax: number = BAD_BLOCK_LOG_ENTRIES_MAX) {
    assert(entryCountMax > 0, "a log has room for entries");
    assert(Number.isInteger(entryCountMax), "a log has room for whole entries");
    this.entryCountMax = Math.min(entryCountMax, BAD_BLOCK_LOG_ENTRIES_MAX);
  }

  /** How many entries this takes on disk. */
  get entryCount(): number {
    return this.entries;
  }

  get isEmpty(): boolean {
    return this.entries === 0;
  }

  get ranges(): readonly SectorRange[] {
    return this.starts.map((sector, index) => {
      return { sector, lengthSectors: this.ends[index]! - sector };
    });
  }

  get totalSectors(): number {
    return this.starts.reduce((sum, start, index) => sum + this.ends[index]! - start, 0);
  }

  get unreadRanges(): readonly SectorRange[] {
    return this.unread?.ranges ?? [];
  }

  /** Whether all of these sectors are on the log, and hold what belongs there. */
  isUnread(sector: number, lengthSectors: number): boolean {
    return this.unread?.covers(sector, lengthSectors) === true;
  }

  /**
   * Enters sectors as bad. False, and nothing changed, where the log has no room for them. What is
   * on it already does not become unread by another try to read it.
   */
  add(sector: number, lengthSectors: number, cause: BadBlockCause = "unwritten"): boolean {
    const isNew = !this.overlaps(sector, lengthSectors);
    if (!this.enter(sector, lengthSectors)) return false;
    if (cause === "unwritten") this.doubt(sector, lengthSectors);
    else if (isNew) this.believe(sector, lengthSectors);
    assert(this.covers(sector, lengthSectors), "what was entered is on the log");
    return true;
  }

  /** What a list of unread sectors says of these, which are on the log. */
  believe(sector: number, lengthSectors: number): void {
    if (!this.covers(sector, lengthSectors)) return;
    this.unread ??= new BadBlockLog(this.entryCountMax);
    this.unread.enter(sector, lengthSectors);
    assert(this.unread.entries <= this.entryCountMax, "the unread list is no longer than the log");
  }

  /** They are not believed any more; nor is any other where the list of those cannot be cut. */
  private doubt(sector: number, lengthSectors: number): void {
    if (this.unread?.remove(sector, lengthSectors) === false) this.unread = null;
    assert(
      this.unread?.overlaps(sector, lengthSectors) !== true,
      "what is in doubt is not believed",
    );
  }

  private enter(sector: number, lengthSectors: number): boolean {
    checkRange(sector, lengthSectors);
    // Ranges that touch the new one join it.
    const first = firstAtOrAbove(this.ends, sector);
    let start = sector;
    let end = sector + lengthSectors;
    let last = first;
    while (last < this.starts.length && this.starts[last]! <= end) {
      start = Math.min(start, this.starts[last]!);
      end = Math.max(end, this.ends[last]!);
      last += 1;
    }
    assert(start <= sector && sector < end, "joined with its neighbours, a range only grows");
    return this.replace({ first, last }, [start], [end]);
  }

  /**
   * Takes sectors out that have been written durably. False, and nothing changed, where cutting a
   * range in two needs an entry more than there are: the sectors stay marked, which is safe.
   */
  remove(sector: number, lengthSectors: number): boolean {
    checkRange(sector, lengthSectors);
    const end = sector + lengthSectors;
    const first = firstAtOrAbove(this.ends, sector + 1);
    const starts: number[] = [];
    const ends: number[] = [];
    let last = first;
    while (last < this.starts.length && this.starts[last]! < end) {
      if (this.starts[last]! < sector) {
        starts.push(this.starts[last]!);
        ends.push(sector);
      }
      if (this.ends[last]! > end) {
        starts.push(end);
        ends.push(this.ends[last]!);
      }
      last += 1;
    }
    if (!this.replace({ first, last }, starts, ends)) return false;
    this.doubt(sector, lengthSectors);
    assert(!this.overlaps(sector, lengthSectors), "what was taken out is not on the log");
    return true;
  }

  /** Whether any of these sectors is bad. Allocates nothing. */
  overlaps(sector: number, lengthSectors: number): boolean {
    return this.firstBad(sector, lengthSectors) >= 0;
  }

  /** The first bad sector among these, or -1. Allocates nothing. */
  firstBad(sector: number, lengthSectors: number): number {
    checkRange(sector, lengthSectors);
    if (this.entries === 0) return -1;
    const index = firstAtOrAbove(this.ends, sector + 1);
    if (index === this.starts.length) return -1;
    const start = Math.max(this.starts[index]!, sector);
    return start < sector + lengthSectors ? start : -1;
  }

  private covers(sector: number, lengthSectors: number): boolean {
    const index = firstAtOrAbove(this.ends, sector + 1);
    if (index === this.starts.length) return false;
    return this.starts[index]! <= sector && this.ends[index]! >= sector + lengthSectors;
  }

  private replace(
    { first, last }: { first: number; last: number },
    starts: readonly number[],
    ends: readonly number[],
  ): boolean {
    assert(first <= last && last <= this.starts.length, "the ranges to replace are on the log");
    assert(starts.length === ends.length, "each range that begins ends");
    let entries = this.entries;
    for (let index = first; index < last; index += 1) {
      entries -= entriesFor(this.ends[index]! - this.starts[index]!);
    }
    for (const [index, start] of starts.entries()) entries += entriesFor(ends[index]! - start);
    if (entries > this.entryCountMax) return false;
    this.starts.splice(first, last - first, ...starts);
    this.ends.splice(first, last - first, ...ends);
    this.entries = entries;
    assert(entries >= this.starts.length, "each range takes an entry at least");
    for (let index = first; index <= first + starts.length; index += 1) {
      assert(this.isApart(index), "ranges ascend and do not touch");
    }
    return true;
  }

  /** Whether a gap lies between this range and the one before. */
  private isApart(index: number): boolean {
    if (index === 0 || index >= this.starts.length) return true;
    return this.ends[index - 1]! < this.starts[index]!;
  }
}

/** An empty log of the size that the superblock gives it. */
export function emptyBadBlockLog({ badBlockLogSectors }: Superblock): BadBlockLog {
  if (badBlockLogSectors === 0) return new BadBlockLog();
  return new BadBlockLog((badBlockLogSectors * SECTOR_BYTES) / ENTRY_BYTES);
}

/** `bytes` is the whole area, as long as the superblock says. Only for feature bit 8. */
export function decodeBadBlockLog(bytes: Uint8Array): Result<BadBlockLog, BadBlockLogError> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entryCountMax = Math.floor(bytes.length / ENTRY_BYTES);
  const log = new BadBlockLog(entryCountMax);
  let index = 0;
  for (; index < log.entryCountMax; index += 1) {
    const low = view.getUint32(ENTRY_BYTES * index, true);
    const high = view.getUint32(ENTRY_BYTES * index + 4, true);
    if (low === 0xffffffff && high === 0xffffffff) break;
    const { sector, lengthSectors } = rangeOf(low, high);
    if (
      !isInRange(sector, BAD_BLOCK_RANGES.sector) ||
      !isInRange(lengthSectors, BAD_BLOCK_RANGES.length)
    ) {
      const detail =
        `Entry ${index} of the bad-block log (sector ${sector}, length ${lengthSectors}) makes ` +
        "no sense: the log is damaged.";
      return err({ kind: "bad-entry", detail });
    }
    if (!log.add(sector, lengthSectors)) {
      const detail = "The bad-block log holds more than fits into it as it must be written.";
      return err({ kind: "too-many-entries", detail });
    }
  }
  for (const [low, high] of readUnreadList(bytes, index + 1)) {
    const { sector, lengthSectors } = rangeOf(low, high);
    if (lengthSectors > 0) log.believe(sector, lengthSectors);
  }
  assert(log.entryCount * ENTRY_BYTES <= bytes.length, "the log can be written where it was read");
  return ok(log);
}

/** The whole area: entries in ascending order, then all ones. */
export function encodeBadBlockLog(log: BadBlockLog): Uint8Array {
  const bytes = new Uint8Array(log.entryCountMax * ENTRY_BYTES).fill(0xff);
  const view = new DataView(bytes.buffer);
  const words = wordsOf(log.ranges);
  assert(words.length <= log.entryCountMax, "the entries fit into the area");
  for (const [index, [low, high]] of words.entries()) {
    view.setUint32(index * ENTRY_BYTES, low, true);
    view.setUint32(index * ENTRY_BYTES + 4, high, true);
  }
  assert(words.length === log.entryCount, "the entries were counted right");
  assert(
    log.unreadRanges.every(({ sector }) => log.overlaps(sector, 1)),
    "what is unread is on the log",
  );
  writeUnreadList(bytes, words.length + 1, wordsOf(log.unreadRanges));
  return bytes;
}

/** Low and high word of each entry that these ranges take. */
function wordsOf(ranges: readonly SectorRange[]): (readonly [low: number, high: number])[] {
  const words: (readonly [number, number])[] = [];
  for (const range of ranges) {
    let done = 0;
    while (done < range.lengthSectors) {
      const length = Math.min(range.lengthSectors - done, ENTRY_SECTORS_MAX);
      const sector = range.sector + done;
      const low = (sector % SECTORS_PER_HIGH) * LENGTH_SPAN + length;
      const high = Math.floor(sector / SECTORS_PER_HIGH);
      assert(high < 2 ** 32, "a sector fits into the 54 bits of an entry");
      words.push([low, high]);
      done += length;
    }
  }
  return words;
}

function rangeOf(low: number, high: number): SectorRange {
  const sector = high * SECTORS_PER_HIGH + Math.floor(low / LENGTH_SPAN);
  return { sector, lengthSectors: low % LENGTH_SPAN };
}

function entriesFor(lengthSectors: number): number {
  assert(lengthSectors > 0, "a range on the log has sectors");
  return Math.ceil(lengthSectors / ENTRY_SECTORS_MAX);
}

function checkRange(sector: number, lengthSectors: number): void {
  assert(Number.isSafeInteger(sector) && sector >= 0, "a sector is a whole number");
  assert(Number.isSafeInteger(lengthSectors) && lengthSectors > 0, "a range has sectors");
}

/** The first index whose value is at least `bound`; values ascend. */
function firstAtOrAbove(values: readonly number[], bound: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! < bound) low = middle + 1;
    else high = middle;
  }
  assert(low === 0 || values[low - 1]! < bound, "all before the index is below the bound");
  return low;
}
