/**
 * Where a scrub found rows whose parity does not match: merged ranges, bounded.
 *
 *   one row of the chunks     4 KiB of every member, at one place of their data regions
 *   sectors                   of 512 bytes, from the begin of a member's data region (as md's
 *                             messages about a mismatch count them)
 *
 * The first `MISMATCH_RANGES_MAX` ranges by place are kept, in whatever order rows are found: once
 * one had to go, nothing at or behind it is listed, so the list is complete up to its end.
 */
import { assert } from "../../base/assert.ts";
import { SECTOR_BYTES } from "../../base/units.ts";

export const MISMATCH_RANGES_MAX = 64;

export interface MismatchRange {
  readonly firstSector: number;
  readonly sectorCount: number;
}

export interface MismatchList {
  readonly ranges: readonly MismatchRange[];
  /** Whether there are more than are listed; all those lie behind the last one. */
  readonly truncated: boolean;
}

export class MismatchRanges {
  private readonly firsts: number[] = [];
  private readonly ends: number[] = [];
  /** Nothing from this sector on is listed. */
  private limit = Number.POSITIVE_INFINITY;

  /** `before`: what an interrupted scrub had found. */
  constructor(before: MismatchList = { ranges: [], truncated: false }) {
    for (const { firstSector, sectorCount } of before.ranges) {
      this.firsts.push(firstSector);
      this.ends.push(firstSector + sectorCount);
    }
    if (before.truncated) this.limit = this.ends.at(-1) ?? 0;
  }

  get list(): MismatchList {
    const ranges = this.firsts.map((firstSector, index) => ({
      firstSector,
      sectorCount: this.ends[index]! - firstSector,
    }));
    return { ranges, truncated: this.limit !== Number.POSITIVE_INFINITY };
  }

  /** `memberByte`: from the begin of a member's data region. Whole sectors; may come twice. */
  note(memberByte: number, bytes: number): void {
    assert(memberByte % SECTOR_BYTES === 0 && bytes > 0, "whole sectors are noted");
    const first = memberByte / SECTOR_BYTES;
    if (first >= this.limit) return;
    this.merge(first, Math.min(first + bytes / SECTOR_BYTES, this.limit));
    if (this.firsts.length <= MISMATCH_RANGES_MAX) return;
    this.limit = this.firsts.pop()!;
    this.ends.pop();
  }

  get isEmpty(): boolean {
    return this.firsts.length === 0 && this.limit === Number.POSITIVE_INFINITY;
  }

  /** All that is noted elsewhere is noted here, too. */
  noteAll(other: MismatchRanges): void {
    other.firsts.forEach((first, index) => {
      this.note(first * SECTOR_BYTES, (other.ends[index]! - first) * SECTOR_BYTES);
    });
    if (other.limit < this.limit) this.cutAt(other.limit);
  }

  /** From there on some are not known: so none is listed. */
  private cutAt(limit: number): void {
    this.limit = limit;
    while (this.firsts.length > 0 && this.firsts.at(-1)! >= limit) {
      this.firsts.pop();
      this.ends.pop();
    }
    if (this.ends.length > 0) this.ends.push(Math.min(this.ends.pop()!, limit));
  }

  private merge(first: number, end: number): void {
    let from = 0;
    while (from < this.firsts.length && this.ends[from]! < first) from += 1;
    let to = from;
    while (to < this.firsts.length && this.firsts[to]! <= end) to += 1;
    const isAlone = from === to;
    const mergedFirst = isAlone ? first : Math.min(first, this.firsts[from]!);
    const mergedEnd = isAlone ? end : Math.max(end, this.ends[to - 1]!);
    this.firsts.splice(from, to - from, mergedFirst);
    this.ends.splice(from, to - from, mergedEnd);
    assert(this.firsts.length === this.ends.length, "each range has an end");
  }
}
