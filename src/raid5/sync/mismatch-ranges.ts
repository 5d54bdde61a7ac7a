/**
 * Where a scrub found rows whose parity does not match, or that are lost: merged ranges, bounded.
 *
 *   one row of the chunks     4 KiB of every member, at one place of their data regions
 *   sectors                   of 512 bytes, from the begin of a member's data region (as md's
 *                             messages about a mismatch count them)
 *   roles                     those that could not give the rows; none: it cannot be known which of
 *                             the chunks is wrong, as one parity says only that something is
 *
 * The first `MISMATCH_RANGES_MAX` ranges by place are kept, in whatever order rows are found: once
 * one had to go, nothing at or behind it is listed, so the list is complete up to its end. Rows of
 * other roles are another range. What is noted twice is as it was noted last.
 */
import { assert } from "../../base/assert.ts";
import { BIT_SET_SIZE, hasBit, withBit } from "../../base/bit-set.ts";
import { SECTOR_BYTES } from "../../base/units.ts";

export const MISMATCH_RANGES_MAX = 64;

export interface RowRange {
  readonly firstSector: number;
  readonly sectorCount: number;
  /** Null: unknown. */
  readonly roles: readonly number[] | null;
}

export interface RowList {
  readonly ranges: readonly RowRange[];
  /** Whether there are more than are listed; all those lie behind the last one. */
  readonly truncated: boolean;
}

interface Range {
  first: number;
  end: number;
  /** A set of them; 0: unknown. */
  readonly roles: number;
}

export class MismatchRanges {
  /** In order; those that touch have other roles. */
  private ranges: Range[] = [];
  /** Nothing from this sector on is listed. */
  private limit = Number.POSITIVE_INFINITY;

  /** `before`: what an interrupted scrub had found. */
  constructor(before: RowList = { ranges: [], truncated: false }) {
    for (const { firstSector: first, sectorCount, roles } of before.ranges) {
      this.put({ first, end: first + sectorCount, roles: (roles ?? []).reduce(withBit, 0) });
    }
    if (before.truncated) this.limit = this.ranges.at(-1)?.end ?? 0;
  }

  get list(): RowList {
    const ranges = this.ranges.map(({ first, end, roles }) => ({
      firstSector: first,
      sectorCount: end - first,
      roles: roles === 0 ? null : membersOf(roles),
    }));
    return { ranges, truncated: this.limit !== Number.POSITIVE_INFINITY };
  }

  /**
   * `memberByte`: from the begin of a member's data region. Whole sectors; may come twice. `roles`:
   * the set of those that could not give them.
   */
  note(memberByte: number, bytes: number, roles = 0): void {
    assert(memberByte % SECTOR_BYTES === 0 && bytes > 0, "whole sectors are noted");
    const first = memberByte / SECTOR_BYTES;
    if (first >= this.limit) return;
    this.put({ first, end: Math.min(first + bytes / SECTOR_BYTES, this.limit), roles });
  }

  get isEmpty(): boolean {
    return this.ranges.length === 0 && this.limit === Number.POSITIVE_INFINITY;
  }

  /** All that is noted elsewhere is noted here, too. */
  noteAll(other: MismatchRanges): void {
    for (const { first, end, roles } of other.ranges) {
      if (first < this.limit) this.put({ first, end: Math.min(end, this.limit), roles });
    }
    if (other.limit < this.limit) this.cutAt(other.limit);
  }

  /** From there on some are not known: so none is listed. */
  private cutAt(limit: number): void {
    this.limit = limit;
    this.ranges = this.ranges.filter(({ first }) => first < limit);
    const last = this.ranges.at(-1);
    if (last !== undefined) last.end = Math.min(last.end, limit);
  }

  private put(added: Range): void {
    const { first, end, roles } = added;
    const last = this.ranges.at(-1);
    // Rows come in order, or nearly so.
    if (last?.end === first && last.roles === roles) {
      last.end = end;
      return;
    }
    const pieces = [added];
    for (const range of this.ranges) {
      if (range.first < first) pieces.push({ ...range, end: Math.min(range.end, first) });
      if (range.end > end) pieces.push({ ...range, first: Math.max(range.first, end) });
    }
    pieces.sort((one, other) => one.first - other.first);
    this.ranges = merged(pieces);
    while (this.ranges.length > MISMATCH_RANGES_MAX) this.limit = this.ranges.pop()!.first;
  }
}

/** Neighbours that touch and have the same roles are one. */
function merged(pieces: readonly Range[]): Range[] {
  const ranges: Range[] = [];
  for (const piece of pieces) {
    const last = ranges.at(-1);
    assert(last === undefined || last.end <= piece.first, "ranges do not overlap");
    if (last?.end === piece.first && last.roles === piece.roles) last.end = piece.end;
    else ranges.push({ ...piece });
  }
  return ranges;
}

function membersOf(set: number): number[] {
  const all = Array.from({ length: BIT_SET_SIZE }, (_, member) => member);
  return all.filter((member) => hasBit(set, member));
}
