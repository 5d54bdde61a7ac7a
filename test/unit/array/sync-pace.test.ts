/**
 * Goal: work on stripes keeps to its speed in the long run, also when it is looked at late, and
 * never begins much at once.
 *
 * Method: a clock by hand. Whoever works takes chunks as soon as the pace lets it, at looks that
 * come at given times.
 */
import { expect, test } from "bun:test";
import { SETTLE_MS, SyncPace, speedLimit } from "../../../src/array/sync/sync-pace.ts";
import { KIB, MIB } from "../../../src/base/units.ts";

/** All that may begin at this look. */
function takeAll(pace: SyncPace, speed: number, nowMs: number): number {
  let count = 0;
  while (pace.take(speed, nowMs) === 0) count += 1;
  return count;
}

test("sync pace: looks as often as it says: the speed, one chunk at a time, for each chunk", () => {
  for (const chunkBytes of [4 * KIB, 64 * KIB, 512 * KIB, 4 * MIB]) {
    for (const speed of [MIB, 64 * MIB]) {
      const pace = new SyncPace(chunkBytes, 0);
      let nowMs = 0;
      let bytes = 0;
      while (bytes < 20 * speed && bytes < 1_000 * chunkBytes) {
        const waitMs = pace.take(speed, nowMs);
        nowMs += waitMs;
        if (waitMs > 0) continue;
        bytes += chunkBytes;
        if (chunkBytes >= 64 * KIB) expect(pace.take(speed, nowMs)).toBeGreaterThan(0);
      }
      expect(((nowMs - SETTLE_MS) * speed) / 1_000 / bytes).toBeCloseTo(1, 1);
    }
  }
});

test("sync pace: looks that come late: nothing of the speed is lost", () => {
  for (const everyMs of [0.3, 1, 3]) {
    const pace = new SyncPace(64 * KIB, 0);
    let chunks = 0;
    for (let nowMs = everyMs; nowMs <= 3_000; nowMs += everyMs) {
      chunks += takeAll(pace, 64 * MIB, nowMs);
    }
    expect(chunks).toBeGreaterThan(2_950);
    expect(chunks).toBeLessThanOrEqual(3 * 1_024);
  }
});

test("sync pace: after a stall: made up for, at twice the speed", () => {
  const pace = new SyncPace(64 * KIB, 0);
  expect(takeAll(pace, 64 * MIB, 5_000)).toBe(4);
  let chunks = 0;
  for (let nowMs = 5_001; nowMs <= 5_020; nowMs += 1) chunks += takeAll(pace, 64 * MIB, nowMs);
  expect(chunks).toBe(41);
  // A tenth of a second is what a stall leaves to be done.
  for (let nowMs = 5_021; nowMs <= 6_000; nowMs += 1) chunks += takeAll(pace, 64 * MIB, nowMs);
  expect(chunks).toBeLessThanOrEqual(1_024 + 103);
});

test("sync pace: clients come while it was at full speed: no burst", () => {
  const pace = new SyncPace(64 * KIB, 0);
  for (let nowMs = 0; nowMs < 1_000; nowMs += 1) {
    expect(pace.take(Number.POSITIVE_INFINITY, nowMs)).toBe(0);
  }
  expect(takeAll(pace, 64 * MIB, 1_000)).toBe(1);
});

test("sync pace: pieces of many chunks: each waits for the one before, at the speed of then", () => {
  const pace = new SyncPace(64 * KIB, 0);
  const untilDue = (speed: number, fromMs: number): number => {
    let nowMs = fromMs;
    for (;;) {
      const waitMs = pace.waitMs(speed, nowMs);
      if (waitMs === 0) return nowMs - fromMs;
      nowMs += waitMs;
    }
  };
  // The first waits for no more than a chunk does: 1 ms at this speed.
  const firstMs = untilDue(64 * MIB, SETTLE_MS);
  expect(firstMs).toBeCloseTo(1, 1);
  let nowMs = SETTLE_MS + firstMs;
  for (let piece = 0; piece < 20; piece += 1) {
    pace.spend(MIB);
    const waitMs = untilDue(64 * MIB, nowMs);
    expect([piece, Math.round(waitMs)]).toEqual([piece, 16]);
    nowMs += waitMs;
  }
  // Done without a limit, it is no debt when one comes.
  expect(untilDue(Number.POSITIVE_INFINITY, nowMs)).toBe(0);
  pace.spend(MIB);
  expect(untilDue(64 * MIB, nowMs)).toBeCloseTo(1, 1);
});

test("sync pace: speed: the least beside clients, the most without them", () => {
  const limits = { speedMin: 2, speedMax: 5 };
  expect(speedLimit(limits, true)).toBe(2);
  expect(speedLimit(limits, false)).toBe(5);
  expect(speedLimit({ speedMin: 5, speedMax: 2 }, true)).toBe(2);
});
