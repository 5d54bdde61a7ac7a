/**
 * Cuts the write plan of one stripe into units of the partial parity log (write-rules 2).
 *
 * A plan is segments: ranges of rows with one set of modified chunks each (segments.ts). A unit
 * has, of each segment, one run of consecutive chunks that are modified in exactly the same
 * sectors; what is left goes into a unit after it, to be logged, written and made durable when the
 * first one is complete:
 *
 *        chunk 0   1   2   3        unit 0                unit 1
 * row 0     #      #   .   #        row 0: chunks 0-1     row 0: chunk 3
 * row 1     #      #   .   .        row 1: chunks 0-1
 * row 2     .      a   b   .        row 2: chunk 1        row 2: chunk 2   (a, b: other sectors)
 *
 * Replay takes the data of chunk d at first + d * chunk, so a gap in a run would make it read what
 * was not modified. Where a chunk is lost in the crash, replay keeps torn parity; with two chunks
 * modified in different sectors, the lost chunk would change in sectors that only the other one
 * had. So a chunk that replay would count as missing, and of whose row a part stays, is a run of
 * its own: then no other modified chunk can be torn against its parity. Where its row is written
 * whole, a torn one is no more than the write that was under way (promise 2), and it goes with the
 * others.
 *
 * Every modified row of a chunk is in exactly one unit. Nothing here allocates.
 * Enumerated in test/unit/raid5/ppl-units.test.ts against a model of the stripe and its replay.
 */
import {
  bitOf,
  firstBits,
  hasBit,
  highestBit,
  intersection,
  lowestBit,
  withBit,
  without,
} from "../../base/bit-set.ts";
import type { SegmentTable } from "./segments.ts";

export interface PplUnitLimits {
  readonly dataCount: number;
  /** Rows of partial parity of one unit, at most. */
  readonly partialParityRowsMax: number;
  /** Entries of one unit, at most. */
  readonly entriesMax: number;
}

/**
 * Leaves in `touched` what the next unit writes, and the rest in `waiting`. `missing` are the data
 * chunks that replay would count as missing in this stripe: no member, or one that is rebuilding,
 * at or above the recovery offset that is *on disk*.
 */
export function takePplUnit(
  segments: SegmentTable,
  op: number,
  missing: number,
  limits: PplUnitLimits,
): void {
  segments.putBack(op);
  const first = segments.first(op);
  let roomRows = limits.partialParityRowsMax;
  let roomEntries = limits.entriesMax;
  for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
    const all = segments.touched[slot]!;
    const allPartial = segments.partial[slot]!;
    let run = all === 0 ? 0 : firstRun(segments, op, slot, missing);
    if (run !== 0 && run !== firstBits(limits.dataCount)) {
      if (segments.toRow[slot]! - segments.fromRow[slot]! > limits.partialParityRowsMax) {
        segments.split(op, slot, limits.partialParityRowsMax);
      }
      const rows = segments.toRow[slot]! - segments.fromRow[slot]!;
      if (rows > roomRows) run = 0;
      else roomRows -= rows;
    }
    if (run !== 0 && roomEntries === 0) run = 0;
    if (run !== 0) roomEntries -= 1;
    segments.touched[slot] = run;
    segments.partial[slot] = intersection(allPartial, run);
    segments.waiting[slot] = without(all, run);
    segments.waitingPartial[slot] = without(allPartial, run);
  }
}

/** The first run of chunks that may be in one entry. */
function firstRun(segments: SegmentTable, op: number, slot: number, missing: number): number {
  const touched = segments.touched[slot]!;
  const partial = segments.partial[slot]!;
  const alone = intersection(missing, partial);
  const lowest = lowestBit(touched);
  let run = bitOf(lowest);
  if (hasBit(alone, lowest)) return run;
  const end = highestBit(touched) + 1;
  for (let index = lowest + 1; index < end; index += 1) {
    if (!hasBit(touched, index) || hasBit(alone, index)) break;
    if (!hasSameSectors(segments, op, slot, lowest, index)) break;
    run = withBit(run, index);
  }
  return run;
}

function hasSameSectors(
  segments: SegmentTable,
  op: number,
  slot: number,
  one: number,
  other: number,
): boolean {
  const partial = segments.partial[slot]!;
  if (!hasBit(partial, one) && !hasBit(partial, other)) return true;
  const row = segments.fromRow[slot]!;
  return segments.sectorsAt(op, one, row) === segments.sectorsAt(op, other, row);
}
