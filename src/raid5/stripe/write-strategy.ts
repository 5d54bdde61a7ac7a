/**
 * What a write (or a reconstructing read) must do in one segment: a range of rows of one stripe in
 * which the set of touched data chunks is the same.
 *
 * Chunks of a stripe are a set (base/bit-set.ts) of data indexes. `partial` marks touched chunks of which the
 * segment's (single) row is touched only in part, so that its old content is needed too.
 *
 * | situation                        | strategy          | reads                        |
 * |----------------------------------|-------------------|------------------------------|
 * | parity missing                   | data-only         | partial rows                 |
 * | row not known in sync, all there | reconstruct-write | untouched + partial          |
 * | all there                        | the cheaper of reconstruct-write and read-modify-write |
 * | an untouched data chunk missing  | read-modify-write | old touched + old parity     |
 * | a touched one, whole rows        | reconstruct-write | untouched + other partial    |
 * | a touched one, in part           | recover-write     | all other data + old parity  |
 *
 * Rule 1: where a row is not known to be in sync, read-modify-write would keep wrong parity wrong.
 * Pure: enumerated in test/unit/raid5/write-strategy.test.ts against a model of the stripe.
 */

import { assert } from "../../base/assert.ts";
import {
  countBits,
  firstBits,
  hasBit,
  intersection,
  union,
  without,
  withoutBit,
} from "../../base/bit-set.ts";
export const Strategy = {
  /** Nothing is done here now: what it has to write belongs to another unit of the log. */
  none: 0,
  /** Parity is the XOR of all new data: reconstruct-write, and the full stripe with no reads. */
  reconstructWrite: 1,
  /** Parity is the old parity XOR old data XOR new data. */
  readModifyWrite: 2,
  /** No parity is kept: its member is missing. */
  dataOnly: 3,
  /** The old content of the missing chunk is recovered first, because a part of it stays. */
  recoverWrite: 4,
  /** A read with every touched chunk present. */
  readDirect: 5,
  /** A read of a missing chunk: the XOR of all others. */
  readReconstruct: 6,
} as const;
export type StrategyCode = (typeof Strategy)[keyof typeof Strategy];

/** `missing` is a data index, or one of these. */
export const NONE_MISSING = -1;
export const PARITY_MISSING = -2;

export interface SegmentShape {
  dataCount: number;
  /** Bits of the touched data chunks; not 0. */
  touched: number;
  /** Bits of those touched in part of a row. */
  partial: number;
  missing: number;
  isInSync: boolean;
}

export function chooseWriteStrategy(shape: SegmentShape): StrategyCode {
  const { dataCount, touched, partial, missing } = shape;
  assert(touched !== 0, "a segment that is planned is touched");
  assert(without(partial, touched) === 0, "what is touched in part is touched");
  assert(missing < dataCount, "a missing chunk is one of the stripe");
  if (missing === PARITY_MISSING) return Strategy.dataOnly;
  if (missing === NONE_MISSING) {
    if (!shape.isInSync) return Strategy.reconstructWrite;
    const touchedCount = countBits(touched);
    const reconstructReads = dataCount - touchedCount + countBits(partial);
    const modifyReads = touchedCount + 1;
    return reconstructReads <= modifyReads ? Strategy.reconstructWrite : Strategy.readModifyWrite;
  }
  if (!hasBit(touched, missing)) return Strategy.readModifyWrite;
  return hasBit(partial, missing) ? Strategy.recoverWrite : Strategy.reconstructWrite;
}

/** Bits of the data chunks whose old content is read into buffers. */
export function readMaskOf(strategy: StrategyCode, shape: SegmentShape): number {
  const { dataCount, touched, partial, missing } = shape;
  const all = firstBits(dataCount);
  const present = missing >= 0 ? withoutBit(all, missing) : all;
  switch (strategy) {
    case Strategy.reconstructWrite:
      return intersection(union(without(all, touched), partial), present);
    case Strategy.readModifyWrite:
      return touched;
    case Strategy.dataOnly:
      return partial;
    case Strategy.recoverWrite:
      return present;
    case Strategy.none:
    case Strategy.readDirect:
      return 0;
    case Strategy.readReconstruct:
      return without(present, touched);
  }
}

export function readsParity(strategy: StrategyCode): boolean {
  return (
    strategy === Strategy.readModifyWrite ||
    strategy === Strategy.recoverWrite ||
    strategy === Strategy.readReconstruct
  );
}

/** Column buffers of a segment: parity first, then one per read chunk, then a recovered one. */
export function bufferCountOf(strategy: StrategyCode, readMask: number): number {
  switch (strategy) {
    case Strategy.dataOnly:
      return countBits(readMask);
    case Strategy.none:
    case Strategy.readDirect:
      return 0;
    case Strategy.recoverWrite:
      return 2 + countBits(readMask);
    default:
      return 1 + countBits(readMask);
  }
}

/** Which buffer of the segment holds the old content of data chunk `dataIndex`. */
export function bufferIndexOf(strategy: StrategyCode, readMask: number, dataIndex: number): number {
  assert(hasBit(readMask, dataIndex), "only what was read has a buffer");
  const rank = countBits(intersection(readMask, firstBits(dataIndex)));
  return strategy === Strategy.dataOnly ? rank : rank + 1;
}
