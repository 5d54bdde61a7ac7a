/** Buckets of times: each time in the one whose bound it does not exceed. */
import { expect, test } from "bun:test";
import { LATENCY_BOUNDS_SECONDS, LatencyHistogram } from "../../../src/base/latency-histogram.ts";

function bucketOf(ms: number): number {
  const histogram = new LatencyHistogram();
  histogram.note(ms);
  return histogram.read().counts.indexOf(1);
}

test("latency histogram: bounds double, from 16 µs to 16.8 s", () => {
  expect(LATENCY_BOUNDS_SECONDS[0]).toBe(16e-6);
  for (const [index, bound] of LATENCY_BOUNDS_SECONDS.entries()) {
    if (index > 0) expect(bound / LATENCY_BOUNDS_SECONDS[index - 1]!).toBe(2);
  }
  expect(LATENCY_BOUNDS_SECONDS.at(-1)).toBeCloseTo(16.777216, 9);
});

test("latency histogram: each time lies in the first bucket whose bound is not below it", () => {
  const times = [0, 1e-4, 1e-3, 1e5, 1e9, 2 ** 40];
  for (const bound of LATENCY_BOUNDS_SECONDS) {
    times.push(bound * 1e3, bound * 1e3 * (1 - 1e-9), bound * 1e3 * (1 + 1e-9), bound * 1.5e3);
  }
  for (const ms of times) {
    const expected = LATENCY_BOUNDS_SECONDS.findIndex((bound) => ms <= bound * 1e3);
    const last = LATENCY_BOUNDS_SECONDS.length;
    expect({ ms, bucket: bucketOf(ms) }).toEqual({ ms, bucket: expected < 0 ? last : expected });
  }
});

test("latency histogram: counts add up, and so do times", () => {
  const histogram = new LatencyHistogram();
  for (let turn = 0; turn < 1_000; turn += 1) histogram.note(turn / 10);
  const { counts, totalMs } = histogram.read();
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1_000);
  expect(totalMs).toBeCloseTo(49_950, 6);
});
