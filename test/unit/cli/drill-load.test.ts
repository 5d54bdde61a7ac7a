/**
 * Goal: the drill's writers write where and how much they should, and its count of writes before
 * and after the rebuild's cursor holds.
 *
 * Method: ranges and cursor samples are enumerated; places and sizes are drawn with a seed.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { GIB, KIB, MIB } from "../../../src/base/units.ts";
import { CursorTally, stripeSpan } from "../../../src/cli/drill/cursor-tally.ts";
import {
  RANDOM_BYTES_MAX,
  RANDOM_BYTES_MIN,
  randomBytes,
  WrittenRegion,
} from "../../../src/cli/drill/load.ts";

test("stripe span: ranges around the borders of stripes: member bytes that they touch", () => {
  const span = (offset: number, bytes: number) =>
    stripeSpan({ offset, bytes, chunkBytes: 64, memberCount: 3 });
  expect(span(0, 1)).toEqual({ start: 0, end: 64 });
  expect(span(127, 1)).toEqual({ start: 0, end: 64 });
  expect(span(127, 2)).toEqual({ start: 0, end: 128 });
  expect(span(128, 128)).toEqual({ start: 64, end: 128 });
  expect(span(300, 500)).toEqual({ start: 128, end: 448 });
});

test("cursor tally: every place of a write against two samples: counted only where proved", () => {
  for (let start = 0; start < 6; start += 1) {
    for (let end = start + 1; end <= 6; end += 1) {
      const tally = new CursorTally();
      tally.sampled(tally.beginSample(), 2);
      tally.acknowledged({ start, end }, tally.cursorBytes);
      tally.sampled(tally.beginSample(), 4);
      expect(tally.below).toBe(end <= 2 ? 1 : 0);
      expect(tally.above).toBe(start >= 4 ? 1 : 0);
    }
  }
});

test("cursor tally: acknowledged while the sample was under way: left to the next sample", () => {
  const tally = new CursorTally();
  const taken = tally.beginSample();
  tally.acknowledged({ start: 5, end: 6 }, 0);
  tally.sampled(taken, 3);
  expect(tally.above).toBe(0);
  tally.sampled(tally.beginSample(), 6);
  expect(tally.above).toBe(0);
});

test("written region: a small array: all of it, a large one: windows over all of it", () => {
  const small = new WrittenRegion(16 * MIB);
  expect(small.spanBytes).toBe(16 * MIB);
  expect(small.place(16 * MIB + 5, 10)).toEqual({ offset: 5, bytes: 10 });
  expect(small.place(16 * MIB - 5, 10)).toEqual({ offset: 16 * MIB - 5, bytes: 5 });
  const sizeBytes = 10 * GIB + 7 * 512;
  const large = new WrittenRegion(sizeBytes);
  expect(large.spanBytes).toBe(GIB);
  const random = new SeededRandom(3);
  let last = 0;
  for (let turn = 0; turn < 10_000; turn += 1) {
    const { offset, bytes } = large.place(nextBelow(random, GIB), 256 * KIB);
    expect(bytes).toBeGreaterThan(0);
    expect(offset + bytes).toBeLessThanOrEqual(sizeBytes);
    last = Math.max(last, offset);
  }
  expect(last).toBeGreaterThan(9.5 * GIB);
});

test("random sizes: many: from 512 B to 256 KiB, small and large, not all whole sectors", () => {
  const random = new SeededRandom(5);
  const sizes = Array.from({ length: 5_000 }, () => randomBytes(random));
  expect(Math.min(...sizes)).toBeGreaterThanOrEqual(RANDOM_BYTES_MIN);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(RANDOM_BYTES_MAX);
  expect(sizes.filter((bytes) => bytes < 4 * KIB).length).toBeGreaterThan(1_000);
  expect(sizes.filter((bytes) => bytes > 64 * KIB).length).toBeGreaterThan(700);
  expect(sizes.some((bytes) => bytes % 512 !== 0)).toBe(true);
});
