/**
 * The segments of stripe operations: ranges of rows in which the set of touched chunks is the same.
 *
 * A part of a stripe is a range of its data, chunk after chunk. Cut at the rows where any part
 * begins or ends (within its chunk), the stripe falls into ranges of rows with one set of touched
 * chunks each; a row that is touched in part is a range of its own. The set of ranges is never
 * widened to a hull (write-rules 3): a row that nobody touches is in no segment.
 *
 *        chunk 0   chunk 1   chunk 2          one part: from row 2 of chunk 0 to row 1 of chunk 1
 * row 0     .         #         .   segment A: row 0, {1}
 * row 1     .         .         .
 * row 2     #         .         .   segment B: rows 2-3, {0}
 * row 3     #         .         .
 *
 * Where the array keeps a partial parity log, a plan may have to be carried out in several units
 * (ppl-units.ts): `touched` and `partial` then say what the present unit writes, `waiting` what is
 * left for later ones. A segment with nothing touched takes no part.
 */

import { assert } from "../../base/assert.ts";
import { firstBits, union, withBit, without } from "../../base/bit-set.ts";
import { ARRAY_CHUNK_BYTES_MAX } from "../../base/limits.ts";
import { ROW_BYTES, SECTOR_BYTES, withinRow } from "../../base/units.ts";
import { BOUNDARY_LIMIT, type StripeOps } from "./ops.ts";

/** How often the segments of one operation may be split, because a unit of the log is small. */
export const SPLITS_MAX = 16;
/** Two more than the boundaries of the parts: the ends of the chunk. */
export const SEGMENTS_PER_OP = BOUNDARY_LIMIT + 2 + SPLITS_MAX;

export class SegmentTable {
  readonly count: Uint8Array;
  readonly fromRow: Uint16Array;
  readonly toRow: Uint16Array;
  /** Sets of data indexes (base/bit-set.ts), as all that are Float64Array here. */
  readonly touched: Float64Array;
  readonly partial: Float64Array;
  /** As `touched` and `partial`, for the units of the log that are still to come. */
  readonly waiting: Float64Array;
  readonly waitingPartial: Float64Array;
  readonly strategy: Uint8Array;
  readonly readMask: Float64Array;
  /** Byte offset of the segment's buffers in the operation's buffer. */
  readonly bufferOffset: Uint32Array;
  private readonly ops: StripeOps;
  private readonly rowsPerChunk: number;
  private readonly boundaries = new Int32Array(BOUNDARY_LIMIT + 8);
  private boundaryCount = 0;

  constructor(ops: StripeOps, rowsPerChunk: number) {
    const slots = ops.capacity * SEGMENTS_PER_OP;
    assert(rowsPerChunk <= ARRAY_CHUNK_BYTES_MAX / ROW_BYTES, "rows are counted in 16 bits");
    this.ops = ops;
    this.rowsPerChunk = rowsPerChunk;
    this.count = new Uint8Array(ops.capacity);
    this.fromRow = new Uint16Array(slots);
    this.toRow = new Uint16Array(slots);
    this.touched = new Float64Array(slots);
    this.partial = new Float64Array(slots);
    this.waiting = new Float64Array(slots);
    this.waitingPartial = new Float64Array(slots);
    this.strategy = new Uint8Array(slots);
    this.readMask = new Float64Array(slots);
    this.bufferOffset = new Uint32Array(slots);
  }

  /** Index of the operation's first segment; the others follow. */
  first(op: number): number {
    return op * SEGMENTS_PER_OP;
  }

  /**
   * Fills in rows, touched and partial of all segments of `leader` and the parts merged into it.
   */
  build(leader: number): void {
    this.collectBoundaries(leader);
    let count = 0;
    const base = this.first(leader);
    for (let index = 0; index + 1 < this.boundaryCount; index += 1) {
      const fromRow = this.boundaries[index]!;
      const toRow = this.boundaries[index + 1]!;
      assert(fromRow < toRow && toRow <= this.rowsPerChunk, "a segment lies within its chunk");
      const slot = base + count;
      this.fromRow[slot] = fromRow;
      this.toRow[slot] = toRow;
      this.touched[slot] = 0;
      this.partial[slot] = 0;
      this.waiting[slot] = 0;
      this.waitingPartial[slot] = 0;
      for (let op = leader; op >= 0; op = this.ops.mergeNext[op]!) this.addPart(slot, op);
      if (this.touched[slot] !== 0) count += 1;
    }
    assert(count <= SEGMENTS_PER_OP - SPLITS_MAX, "the segments fit in the table");
    assert(count > 0, "an operation touches a row");
    this.count[leader] = count;
  }

  /** It touches all of the stripe, of so many data chunks. */
  isWholeStripe(op: number, dataCount: number): boolean {
    const slot = this.first(op);
    const isAllRows = this.fromRow[slot] === 0 && this.toRow[slot] === this.rowsPerChunk;
    return this.count[op] === 1 && isAllRows && this.touched[slot] === firstBits(dataCount);
  }

  /** All that was not written yet is one unit again. */
  putBack(leader: number): void {
    const first = this.first(leader);
    for (let slot = first; slot < first + this.count[leader]!; slot += 1) {
      this.touched[slot] = union(this.touched[slot]!, this.waiting[slot]!);
      this.partial[slot] = union(this.partial[slot]!, this.waitingPartial[slot]!);
      this.waiting[slot] = 0;
      this.waitingPartial[slot] = 0;
    }
  }

  /** The present unit is written. True when more is to come. */
  endUnit(leader: number): boolean {
    const first = this.first(leader);
    let isMore = false;
    for (let slot = first; slot < first + this.count[leader]!; slot += 1) {
      this.touched[slot] = 0;
      this.partial[slot] = 0;
      if (this.waiting[slot] !== 0) isMore = true;
    }
    return isMore;
  }

  /** Which data chunks the present unit (or, with `isWaiting`, later ones) write in a row. */
  chunksAt(leader: number, row: number, isWaiting: boolean): number {
    const first = this.first(leader);
    for (let slot = first; slot < first + this.count[leader]!; slot += 1) {
      if (row < this.fromRow[slot]! || row >= this.toRow[slot]!) continue;
      return isWaiting ? this.waiting[slot]! : this.touched[slot]!;
    }
    return 0;
  }

  /** Cuts a segment in two, so that it keeps `rows` rows; the rest follows it. */
  split(leader: number, slot: number, rows: number): void {
    assert(rows > 0, "the first half has rows");
    const end = this.first(leader) + this.count[leader]!;
    assert(this.count[leader]! < SEGMENTS_PER_OP, "the segments fit in the table");
    for (let move = end; move > slot; move -= 1) {
      this.fromRow[move] = this.fromRow[move - 1]!;
      this.toRow[move] = this.toRow[move - 1]!;
      this.touched[move] = this.touched[move - 1]!;
      this.partial[move] = this.partial[move - 1]!;
      this.waiting[move] = this.waiting[move - 1]!;
      this.waitingPartial[move] = this.waitingPartial[move - 1]!;
    }
    const middle = this.fromRow[slot]! + rows;
    assert(middle < this.toRow[slot]!, "both halves have rows");
    this.toRow[slot] = middle;
    this.fromRow[slot + 1] = middle;
    this.count[leader]! += 1;
  }

  /** Bits of the 512-byte sectors that are written in a row of a chunk. */
  sectorsAt(leader: number, dataIndex: number, row: number): number {
    const part = this.partAt(leader, dataIndex, row);
    const rowStart = (dataIndex * this.rowsPerChunk + row) * ROW_BYTES;
    const from = Math.max(0, this.ops.within[part]! - rowStart);
    const to = Math.min(ROW_BYTES, this.ops.within[part]! + this.ops.bytes[part]! - rowStart);
    assert(from < to, "a part has sectors in each row that it touches");
    const below = firstBits(Math.floor(from / SECTOR_BYTES));
    return without(firstBits(Math.ceil(to / SECTOR_BYTES)), below);
  }

  /** The address of row `row` of chunk `dataIndex` in the part that touches it. */
  dataAddress(leader: number, dataIndex: number, row: number): number {
    const { ops } = this;
    const linear = dataIndex * this.rowsPerChunk + row;
    for (let op = leader; op >= 0; op = ops.mergeNext[op]!) {
      const first = ops.firstRow(op);
      if (linear < first || linear >= ops.endRow(op)) continue;
      return ops.address[op]! - withinRow(ops.within[op]!) + (linear - first) * ROW_BYTES;
    }
    assert(false, "a touched row belongs to a part");
  }

  /** The part that touches this row. */
  partAt(leader: number, dataIndex: number, row: number): number {
    const linear = dataIndex * this.rowsPerChunk + row;
    for (let op = leader; op >= 0; op = this.ops.mergeNext[op]!) {
      if (linear >= this.ops.firstRow(op) && linear < this.ops.endRow(op)) return op;
    }
    assert(false, "a touched row belongs to a part");
  }

  private collectBoundaries(leader: number): void {
    const { ops, rowsPerChunk } = this;
    this.boundaryCount = 0;
    this.addBoundary(0);
    this.addBoundary(rowsPerChunk);
    for (let op = leader; op >= 0; op = ops.mergeNext[op]!) {
      const first = ops.firstRow(op) % rowsPerChunk;
      const last = (ops.endRow(op) - 1) % rowsPerChunk;
      this.addBoundary(first);
      this.addBoundary(last + 1);
      if (withinRow(ops.within[op]!) !== 0) this.addBoundary(first + 1);
      if (withinRow(ops.within[op]! + ops.bytes[op]!) !== 0) this.addBoundary(last);
    }
  }

  /** Keeps the list sorted and free of repeats. */
  private addBoundary(row: number): void {
    const { boundaries } = this;
    let index = this.boundaryCount;
    while (index > 0 && boundaries[index - 1]! > row) index -= 1;
    if (index > 0 && boundaries[index - 1] === row) return;
    assert(this.boundaryCount < boundaries.length, "merging keeps to its limit of boundaries");
    for (let move = this.boundaryCount; move > index; move -= 1) {
      boundaries[move] = boundaries[move - 1]!;
    }
    boundaries[index] = row;
    this.boundaryCount += 1;
  }

  private addPart(slot: number, op: number): void {
    const { ops, rowsPerChunk } = this;
    const first = ops.firstRow(op);
    const end = ops.endRow(op);
    const fromRow = this.fromRow[slot]!;
    const toRow = this.toRow[slot]!;
    const isHeadPartial = withinRow(ops.within[op]!) !== 0;
    const isTailPartial = withinRow(ops.within[op]! + ops.bytes[op]!) !== 0;
    const lastChunk = Math.floor((end - 1) / rowsPerChunk);
    for (let chunk = Math.floor(first / rowsPerChunk); chunk <= lastChunk; chunk += 1) {
      const from = chunk * rowsPerChunk + fromRow;
      const to = chunk * rowsPerChunk + toRow;
      if (from < first || to > end) continue;
      this.touched[slot] = withBit(this.touched[slot]!, chunk);
      if ((isHeadPartial && from === first) || (isTailPartial && to === end)) {
        this.partial[slot] = withBit(this.partial[slot]!, chunk);
      }
    }
  }
}
