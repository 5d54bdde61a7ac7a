/**
 * Goal: every strategy that the planner may choose leaves the right data and the right parity.
 * Method: all shapes of 2 to 5 data chunks (touched, partial, missing, in sync or not) on a model
 * of one row, a number per chunk, whose old parity is wrong where the row is not in sync. The model
 * does just what the runner does with a strategy: reads the chunks of its mask and nothing else.
 */
import { expect, test } from "bun:test";
import { countBits } from "../../../src/base/bit-set.ts";
import {
  bufferCountOf,
  bufferIndexOf,
  chooseWriteStrategy,
  NONE_MISSING,
  PARITY_MISSING,
  readMaskOf,
  readsParity,
  type SegmentShape,
  Strategy,
  type StrategyCode,
} from "../../../src/raid5/stripe/write-strategy.ts";

const LOW = 0xffff;

function* shapes(): Generator<SegmentShape> {
  for (let dataCount = 2; dataCount <= 5; dataCount += 1) {
    for (let touched = 1; touched < 1 << dataCount; touched += 1) {
      for (let partial = 0; partial < 1 << dataCount; partial += 1) {
        if ((partial & ~touched) !== 0) continue;
        for (let missing = PARITY_MISSING; missing < dataCount; missing += 1) {
          for (const isInSync of [true, false]) {
            yield { dataCount, touched, partial, missing, isInSync };
          }
        }
      }
    }
  }
}

interface Row {
  data: number[];
  parity: number;
}

function xor(values: readonly number[]): number {
  return values.reduce((sum, value) => sum ^ value, 0);
}

function oldRow({ dataCount, isInSync, missing }: SegmentShape): Row {
  const data = Array.from({ length: dataCount }, (_, index) => 0x1357_9bdf ^ (index * 0x0101_0307));
  // With a member missing the missing chunk is what the others say that it is.
  const isWrong = !isInSync && missing === NONE_MISSING;
  return { data, parity: xor(data) ^ (isWrong ? 0x5555_aaaa : 0) };
}

function newContent(shape: SegmentShape, old: Row): number[] {
  return old.data.map((value, index) => {
    const bit = 1 << index;
    if ((shape.touched & bit) === 0) return value;
    const written = 0x2468_ace0 ^ (index * 0x1111_1111);
    return (shape.partial & bit) === 0 ? written : (value & ~LOW) | (written & LOW);
  });
}

/** What the runner does with a strategy: the row on the members afterwards. */
function apply(shape: SegmentShape, strategy: StrategyCode, old: Row): Row {
  const { dataCount, touched, partial, missing } = shape;
  const readMask = readMaskOf(strategy, shape);
  expect(missing >= 0 && (readMask & (1 << missing)) !== 0).toBe(false);
  expect(readsParity(strategy) && missing === PARITY_MISSING).toBe(false);
  const buffers = new Map<number, number>();
  for (let index = 0; index < dataCount; index += 1) {
    if ((readMask & (1 << index)) !== 0) buffers.set(index, old.data[index]!);
  }
  if (strategy === Strategy.recoverWrite) {
    buffers.set(missing, xor([old.parity, ...buffers.values()]));
  }
  const known = (index: number): number => {
    const value = buffers.get(index);
    if (value === undefined) throw new Error(`chunk ${index} was not read`);
    return value;
  };
  const payload = new Map<number, number>();
  for (let index = 0; index < dataCount; index += 1) {
    const bit = 1 << index;
    if ((touched & bit) === 0) continue;
    const written = 0x2468_ace0 ^ (index * 0x1111_1111);
    const isPartial = (partial & bit) !== 0;
    payload.set(index, isPartial ? (known(index) & ~LOW) | (written & LOW) : written);
  }
  let { parity } = old;
  if (strategy === Strategy.readModifyWrite) {
    for (const [index, value] of payload) parity ^= known(index) ^ value;
  } else if (strategy !== Strategy.dataOnly) {
    parity = xor(old.data.map((_, index) => payload.get(index) ?? known(index)));
  }
  const data = old.data.map((value, index) =>
    index === missing ? value : (payload.get(index) ?? value),
  );
  return { data, parity };
}

test("plan: every shape of 2 to 5 data chunks: data as written, parity such that all can be had", () => {
  let count = 0;
  for (const shape of shapes()) {
    const old = oldRow(shape);
    const wanted = newContent(shape, old);
    const row = apply(shape, chooseWriteStrategy(shape), old);
    for (const [index, value] of wanted.entries()) {
      if (index !== shape.missing) expect(row.data[index]).toBe(value);
    }
    if (shape.missing !== PARITY_MISSING) expect(row.parity).toBe(xor(wanted));
    count += 1;
  }
  expect(count).toBe(4672);
});

test("rule 1: a row not known in sync, all members there: always a reconstruct-write", () => {
  for (const shape of shapes()) {
    if (shape.isInSync || shape.missing !== NONE_MISSING) continue;
    expect(chooseWriteStrategy(shape)).toBe(Strategy.reconstructWrite);
  }
});

test("plan: all members there, in sync: reads as few chunks as can be", () => {
  for (const shape of shapes()) {
    if (!shape.isInSync || shape.missing !== NONE_MISSING) continue;
    const strategy = chooseWriteStrategy(shape);
    const reads = countBits(readMaskOf(strategy, shape)) + (readsParity(strategy) ? 1 : 0);
    const reconstruct = shape.dataCount - countBits(shape.touched) + countBits(shape.partial);
    expect(reads).toBe(Math.min(reconstruct, countBits(shape.touched) + 1));
  }
});

test("plan: a full stripe: reads nothing", () => {
  for (let dataCount = 2; dataCount <= 15; dataCount += 1) {
    const touched = (1 << dataCount) - 1;
    const shape = { dataCount, touched, partial: 0, missing: NONE_MISSING, isInSync: true };
    const strategy = chooseWriteStrategy(shape);
    expect(strategy).toBe(Strategy.reconstructWrite);
    expect(readMaskOf(strategy, shape)).toBe(0);
    expect(bufferCountOf(strategy, 0)).toBe(1);
  }
});

test("plan: buffers: each read chunk has one of its own, parity and a recovered chunk another", () => {
  for (const strategy of Object.values(Strategy)) {
    for (let readMask = 0; readMask < 64; readMask += 1) {
      if (strategy === Strategy.readDirect || strategy === Strategy.none) continue;
      const used = new Set<number>();
      if (strategy !== Strategy.dataOnly) used.add(0);
      for (let index = 0; index < 6; index += 1) {
        if ((readMask & (1 << index)) === 0) continue;
        const buffer = bufferIndexOf(strategy, readMask, index);
        expect(used.has(buffer)).toBe(false);
        used.add(buffer);
      }
      if (strategy === Strategy.recoverWrite) used.add(1 + countBits(readMask));
      const count = bufferCountOf(strategy, readMask);
      expect([...used].toSorted((one, other) => one - other)).toEqual([...Array(count).keys()]);
    }
  }
});
