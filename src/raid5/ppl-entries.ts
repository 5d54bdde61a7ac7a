/**
 * Cuts the write plan of one stripe into units of the partial parity log (write-rules 2).
 *
 * A plan is ranges of rows with one set of modified chunks each. A unit holds whole rows of runs of
 * consecutive chunks that are modified in exactly the same sectors; what is left of a row goes into
 * a unit after it, to be logged, written and made durable when the first one is complete:
 *
 *        chunk 0   1   2   3        unit 0                unit 1
 * row 0     #      #   .   #        row 0: chunks 0-1     row 0: chunk 3
 * row 1     #      #   .   .        row 1: chunks 0-1
 * row 2     .      a   b   .        row 2: chunk 1        row 2: chunk 2   (a, b: other sectors)
 *
 * Replay takes the data of chunk d at first + d * chunk, so a gap in a run would make it read what
 * was not modified. Where a chunk is lost in the crash, replay keeps torn parity; with two chunks
 * modified in different sectors, the lost chunk would change in sectors that only the other one
 * had. A chunk that replay would count as missing is a run of its own: then no other modified chunk
 * can be torn against its parity, and it keeps its old or gets its new content.
 *
 * Every modified row of a chunk is in exactly one unit. Nothing allocates in begin, add and cut.
 * Enumerated in test/unit/ppl-entries.test.ts against a model of the stripe and its replay.
 */
import { assert } from "../base/assert.ts";

/** The sectors of a row that is modified as a whole. */
export const ALL_SECTORS = 0xff;

export interface ModifiedRange {
  /** Rows of the chunk; ranges are added in ascending order and do not overlap. */
  fromRow: number;
  toRow: number;
  /** Bits of the modified data chunks; not 0. */
  modified: number;
  /** Bits of those modified in part of the (only) row. */
  partial: number;
  /** By data index, for those: bit i is set where sector i of the row is modified. */
  readonly sectors: Uint8Array;
  /**
   * Bits of the data chunks that replay would count as missing in these rows: no member, a bad
   * sector, or a member that is rebuilding, at or above the recovery offset that is *on disk*.
   */
  missing: number;
}

export interface PplUnitEntry {
  readonly firstRow: number;
  readonly rowCount: number;
  readonly firstDataIndex: number;
  readonly dataCount: number;
  /** All chunks are modified: no partial parity. */
  readonly isFullStripe: boolean;
}

export interface PplEntryCutterOptions {
  readonly dataCount: number;
  readonly rowsPerChunk: number;
  /** Ranges of one plan, at most. */
  readonly rangesMax: number;
  /** Rows of partial parity and entries of one unit, at most. */
  readonly partialParityRowsMax: number;
  readonly entriesMax: number;
}

/** Data chunks are bits of a number that stays positive. */
const DATA_COUNT_MAX = 30;
const NONE = -1;

export class PplEntryCutter {
  /** The outcome: entries of unit u are `unitStart[u]` up to `unitStart[u + 1]`. */
  unitCount = 0;
  readonly unitStart: Uint32Array;
  readonly firstRow: Uint32Array;
  readonly rowCount: Uint32Array;
  readonly firstDataIndex: Uint8Array;
  readonly dataCount: Uint8Array;
  private readonly options: PplEntryCutterOptions;
  private entryCount = 0;
  private unitPartialParityRows = 0;
  /** Runs as they were added; `runTurn` is the turn of the row's runs that it belongs to. */
  private runCount = 0;
  private turnCount = 0;
  private endRow = 0;
  private readonly runTurn: Uint8Array;
  private readonly runFirstRow: Uint32Array;
  private readonly runRowCount: Uint32Array;
  private readonly runFirstData: Uint8Array;
  private readonly runDataCount: Uint8Array;
  private readonly lastRunOfTurn: Int32Array;

  constructor(options: PplEntryCutterOptions) {
    const { dataCount, rowsPerChunk, rangesMax, partialParityRowsMax, entriesMax } = options;
    assert(dataCount >= 1 && dataCount <= DATA_COUNT_MAX, "data chunks are bits");
    assert(partialParityRowsMax >= 1 && entriesMax >= 1, "a unit holds something");
    this.options = options;
    const runs = rangesMax * dataCount;
    // A turn is cut where a unit is full: that splits one run and begins one unit each time.
    const cuts = dataCount * (Math.ceil(rowsPerChunk / partialParityRowsMax) + 1);
    this.runTurn = new Uint8Array(runs);
    this.runFirstRow = new Uint32Array(runs);
    this.runRowCount = new Uint32Array(runs);
    this.runFirstData = new Uint8Array(runs);
    this.runDataCount = new Uint8Array(runs);
    this.lastRunOfTurn = new Int32Array(dataCount);
    this.unitStart = new Uint32Array(runs + cuts + 1);
    this.firstRow = new Uint32Array(runs + cuts);
    this.rowCount = new Uint32Array(runs + cuts);
    this.firstDataIndex = new Uint8Array(runs + cuts);
    this.dataCount = new Uint8Array(runs + cuts);
  }

  begin(): void {
    this.runCount = 0;
    this.turnCount = 0;
    this.endRow = 0;
    this.lastRunOfTurn.fill(NONE);
  }

  add(range: ModifiedRange): void {
    const { fromRow, toRow, modified, partial } = range;
    assert(fromRow >= this.endRow && toRow > fromRow, "ranges ascend");
    assert(toRow <= this.options.rowsPerChunk, "rows lie in the chunk");
    assert(modified > 0 && modified < 2 ** this.options.dataCount, "a range modifies chunks");
    assert(partial === 0 || toRow === fromRow + 1, "a row modified in part is a range of its own");
    assert((partial & ~modified) === 0, "only modified chunks are modified in part");
    this.endRow = toRow;
    let turn = 0;
    let index = 0;
    while (index < this.options.dataCount) {
      if ((modified & (1 << index)) === 0) {
        index += 1;
        continue;
      }
      const first = index;
      index += 1;
      while (index < this.options.dataCount && continuesRun(range, first, index)) index += 1;
      this.addRun(turn, range, first, index - first);
      turn += 1;
    }
    this.turnCount = Math.max(this.turnCount, turn);
  }

  /** Fills in the outcome for the ranges added since `begin`. */
  cut(): void {
    this.unitCount = 0;
    this.entryCount = 0;
    for (let turn = 0; turn < this.turnCount; turn += 1) {
      this.beginUnit();
      for (let run = 0; run < this.runCount; run += 1) {
        if (this.runTurn[run] === turn) this.addEntries(run);
      }
    }
    this.unitStart[this.unitCount] = this.entryCount;
  }

  isFullStripe(entry: number): boolean {
    return this.dataCount[entry] === this.options.dataCount;
  }

  /** The outcome as values. */
  units(): PplUnitEntry[][] {
    return Array.from({ length: this.unitCount }, (_, unit) => {
      const start = this.unitStart[unit]!;
      return Array.from({ length: this.unitStart[unit + 1]! - start }, (__, index) => {
        const entry = start + index;
        return {
          firstRow: this.firstRow[entry]!,
          rowCount: this.rowCount[entry]!,
          firstDataIndex: this.firstDataIndex[entry]!,
          dataCount: this.dataCount[entry]!,
          isFullStripe: this.isFullStripe(entry),
        };
      });
    });
  }

  /** Joins the run to the one above it where that has the same chunks. */
  private addRun(turn: number, range: ModifiedRange, first: number, count: number): void {
    const above = this.lastRunOfTurn[turn]!;
    const rows = range.toRow - range.fromRow;
    if (
      above !== NONE &&
      this.runFirstRow[above]! + this.runRowCount[above]! === range.fromRow &&
      this.runFirstData[above] === first &&
      this.runDataCount[above] === count
    ) {
      this.runRowCount[above]! += rows;
      return;
    }
    const run = this.runCount;
    assert(run < this.runTurn.length, "the plan has no more ranges than was said");
    this.runCount += 1;
    this.runTurn[run] = turn;
    this.runFirstRow[run] = range.fromRow;
    this.runRowCount[run] = rows;
    this.runFirstData[run] = first;
    this.runDataCount[run] = count;
    this.lastRunOfTurn[turn] = run;
  }

  private addEntries(run: number): void {
    const { dataCount, partialParityRowsMax, entriesMax } = this.options;
    const isFull = this.runDataCount[run] === dataCount;
    const end = this.runFirstRow[run]! + this.runRowCount[run]!;
    let row = this.runFirstRow[run]!;
    while (row < end) {
      const roomRows = isFull ? end - row : partialParityRowsMax - this.unitPartialParityRows;
      const isUnitFull = this.entryCount - this.unitStart[this.unitCount - 1]! === entriesMax;
      if (roomRows === 0 || isUnitFull) {
        this.beginUnit();
        continue;
      }
      const rows = Math.min(end - row, roomRows);
      const entry = this.entryCount;
      this.firstRow[entry] = row;
      this.rowCount[entry] = rows;
      this.firstDataIndex[entry] = this.runFirstData[run]!;
      this.dataCount[entry] = this.runDataCount[run]!;
      this.entryCount += 1;
      if (!isFull) this.unitPartialParityRows += rows;
      row += rows;
    }
  }

  private beginUnit(): void {
    this.unitStart[this.unitCount] = this.entryCount;
    this.unitCount += 1;
    this.unitPartialParityRows = 0;
  }
}

/** Whether chunk `index` may be in one entry with the run that begins at chunk `first`. */
function continuesRun(range: ModifiedRange, first: number, index: number): boolean {
  const bit = 1 << index;
  if ((range.modified & bit) === 0) return false;
  if (((range.missing >>> first) & 1) === 1 || (range.missing & bit) !== 0) return false;
  return sectorsOf(range, first) === sectorsOf(range, index);
}

function sectorsOf(range: ModifiedRange, index: number): number {
  return (range.partial & (1 << index)) === 0 ? ALL_SECTORS : range.sectors[index]!;
}
