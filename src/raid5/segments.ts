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
 */
import { assert } from "../base/assert.ts";
import { ROW_BYTES } from "../base/units.ts";
import { BOUNDARY_LIMIT, type StripeOps } from "./stripe-ops.ts";

/** Two more than the boundaries of the parts: the ends of the chunk. */
export const SEGMENTS_PER_OP = BOUNDARY_LIMIT + 2;

export class SegmentTable {
  readonly count: Uint8Array;
  readonly fromRow: Uint16Array;
  readonly toRow: Uint16Array;
  readonly touched: Uint16Array;
  readonly partial: Uint16Array;
  readonly strategy: Uint8Array;
  readonly readMask: Uint16Array;
  /** Byte offset of the segment's buffers in the operation's buffer. */
  readonly bufferOffset: Uint32Array;
  private readonly ops: StripeOps;
  private readonly rowsPerChunk: number;
  private readonly boundaries = new Int32Array(BOUNDARY_LIMIT + 8);
  private boundaryCount = 0;

  constructor(ops: StripeOps, rowsPerChunk: number) {
    const slots = ops.capacity * SEGMENTS_PER_OP;
    this.ops = ops;
    this.rowsPerChunk = rowsPerChunk;
    this.count = new Uint8Array(ops.capacity);
    this.fromRow = new Uint16Array(slots);
    this.toRow = new Uint16Array(slots);
    this.touched = new Uint16Array(slots);
    this.partial = new Uint16Array(slots);
    this.strategy = new Uint8Array(slots);
    this.readMask = new Uint16Array(slots);
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
      const slot = base + count;
      this.fromRow[slot] = fromRow;
      this.toRow[slot] = toRow;
      this.touched[slot] = 0;
      this.partial[slot] = 0;
      for (let op = leader; op >= 0; op = this.ops.mergeNext[op]!) this.addPart(slot, op);
      if (this.touched[slot] !== 0) count += 1;
    }
    assert(count <= SEGMENTS_PER_OP, "the segments fit in the table");
    this.count[leader] = count;
  }

  /** The address of row `row` of chunk `dataIndex` in the part that touches it. */
  dataAddress(leader: number, dataIndex: number, row: number): number {
    const { ops } = this;
    const linear = dataIndex * this.rowsPerChunk + row;
    for (let op = leader; op >= 0; op = ops.mergeNext[op]!) {
      const first = ops.firstRow(op);
      if (linear < first || linear >= ops.endRow(op)) continue;
      return ops.address[op]! - (ops.within[op]! % ROW_BYTES) + (linear - first) * ROW_BYTES;
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
      if (ops.within[op]! % ROW_BYTES !== 0) this.addBoundary(first + 1);
      if ((ops.within[op]! + ops.bytes[op]!) % ROW_BYTES !== 0) this.addBoundary(last);
    }
  }

  /** Keeps the list sorted and free of repeats. */
  private addBoundary(row: number): void {
    const { boundaries } = this;
    let index = this.boundaryCount;
    while (index > 0 && boundaries[index - 1]! > row) index -= 1;
    if (index > 0 && boundaries[index - 1] === row) return;
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
    const isHeadPartial = ops.within[op]! % ROW_BYTES !== 0;
    const isTailPartial = (ops.within[op]! + ops.bytes[op]!) % ROW_BYTES !== 0;
    const lastChunk = Math.floor((end - 1) / rowsPerChunk);
    for (let chunk = Math.floor(first / rowsPerChunk); chunk <= lastChunk; chunk += 1) {
      const from = chunk * rowsPerChunk + fromRow;
      const to = chunk * rowsPerChunk + toRow;
      if (from < first || to > end) continue;
      this.touched[slot]! |= 1 << chunk;
      if ((isHeadPartial && from === first) || (isTailPartial && to === end)) {
        this.partial[slot]! |= 1 << chunk;
      }
    }
  }
}
