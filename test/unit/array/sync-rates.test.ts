/**
 * Goal: what a rebuild would take is told from what was measured, under the load and the limit that
 * it was measured at, and from nothing else.
 * Method: samples by hand, and a meter on a clock by hand; the rates against sums made here.
 */
import { expect, test } from "bun:test";
import type { JobKind, SyncRate } from "../../../src/array/protocol.ts";
import { SyncMeter, SyncRates } from "../../../src/array/sync/sync-rates.ts";
import { GIB, MIB } from "../../../src/base/units.ts";

const NO_LIMIT = Number.MAX_SAFE_INTEGER;
const AT = "2026-01-01T00:00:00.000Z";

function sample(more: Partial<Parameters<SyncRates["add"]>[0]> = {}) {
  const usual = { kind: "rebuild", load: "idle", limit: NO_LIMIT } as const;
  return { ...usual, bytes: MIB, ms: 1_000, measuredAt: AT, memberBytes: GIB, ...more };
}

test("rates: nothing measured: no time, for either load", () => {
  const rates = new SyncRates();
  expect(rates.list).toEqual([]);
  for (const load of ["idle", "busy"] as const) {
    expect(rates.timeFor(GIB, { load, limit: NO_LIMIT })).toBeNull();
  }
});

test("rates: idle and busy are apart, and each kind; the nearest to a rebuild tells", () => {
  const rates = new SyncRates();
  const kinds: JobKind[] = ["check", "repair", "resync", "replace", "rebuild"];
  for (const [index, kind] of kinds.entries()) {
    rates.add(sample({ kind, bytes: (index + 1) * MIB }));
    const idle = rates.timeFor(60 * MIB, { load: "idle", limit: NO_LIMIT });
    expect(idle).toMatchObject({ seconds: 60 / (index + 1), measuredBy: kind, measuredAt: AT });
    expect(rates.timeFor(60 * MIB, { load: "busy", limit: NO_LIMIT })).toBeNull();
  }
  rates.add(sample({ kind: "check", load: "busy", bytes: 10 * MIB }));
  expect(rates.timeFor(60 * MIB, { load: "busy", limit: NO_LIMIT })?.seconds).toBe(6);
  expect(rates.list).toHaveLength(6);
});

test("rates: a mean over the last member's worth of bytes", () => {
  const rates = new SyncRates();
  const memberBytes = 4 * MIB;
  for (let second = 0; second < 4; second += 1) rates.add(sample({ memberBytes }));
  rates.add(sample({ bytes: 4 * MIB, memberBytes }));
  // 8 MiB in 5 s, of which a half is remembered: 4 MiB in 2.5 s.
  const [one] = rates.list;
  expect(one).toMatchObject({ bytesPerSecond: Math.round((8 * MIB) / 5), measuredBytes: 4 * MIB });
  rates.add(sample({ bytes: 4 * MIB, memberBytes }));
  expect(rates.list[0]?.bytesPerSecond).toBe(Math.round((8 * MIB) / 3.5));
});

test("rates: a limit then and a limit now: what was held back tells nothing of a higher one", () => {
  for (const [measured, then, now, expected] of [
    [100, NO_LIMIT, NO_LIMIT, 100],
    [100, NO_LIMIT, 50, 50],
    [100, NO_LIMIT, 200, 100],
    [100, 100, 100, 100],
    [100, 100, 50, 50],
    [100, 100, 101, null],
    [100, 100, NO_LIMIT, null],
    [90, 100, NO_LIMIT, null],
    // It did not come near its limit: that is what it can do.
    [70, 100, NO_LIMIT, 70],
    [70, 100, 60, 60],
  ] as const) {
    const rates = new SyncRates();
    rates.add(sample({ bytes: measured, limit: then }));
    const rate = rates.timeFor(1_000, { load: "idle", limit: now })?.bytesPerSecond ?? null;
    expect([measured, then, now, rate]).toEqual([measured, then, now, expected]);
  }
});

test("rates: under a limit of 0 nothing is done: no time is told, not one of 0 s", () => {
  const rates = new SyncRates();
  for (const load of ["idle", "busy"] as const) {
    rates.add(sample({ load }));
    expect(rates.timeFor(GIB, { load, limit: 0 })).toBeNull();
  }
});

test("rates: another limit begins anew", () => {
  const rates = new SyncRates();
  rates.add(sample({ bytes: 8 * MIB, limit: 8 * MIB }));
  rates.add(sample({ bytes: 80 * MIB }));
  const expected = { bytesPerSecond: 80 * MIB, limitBytesPerSecond: null };
  expect(rates.list).toMatchObject([expected]);
});

test("rates: remembered ones come back, never over a newer one, and none that is no rate", () => {
  const before = new SyncRates();
  before.add(sample({ bytes: 3 * MIB }));
  before.add(sample({ load: "busy", bytes: 2 * MIB, limit: 5 * MIB }));
  const after = new SyncRates();
  after.add(sample({ bytes: 9 * MIB }));
  after.remember(before.list);
  after.remember(before.list);
  const byLoad = (rates: readonly SyncRate[]) =>
    rates.map(({ load, bytesPerSecond, limitBytesPerSecond: limit }) => [
      ...[load, bytesPerSecond, limit],
    ]);
  expect(byLoad(after.list)).toEqual([
    ["idle", 9 * MIB, null],
    ["busy", 2 * MIB, 5 * MIB],
  ]);
  const damaged = new SyncRates();
  const [rate] = before.list;
  damaged.remember([
    { ...rate!, bytesPerSecond: 0 },
    { ...rate!, measuredBytes: 0 },
  ]);
  expect(damaged.list).toEqual([]);
});

test("meter: a second is a sample; loads, limits and what is skipped are kept apart", () => {
  const rates = new SyncRates();
  const meter = new SyncMeter({ rates, memberBytes: GIB });
  const note = (nowMs: number, load: "idle" | "busy" = "idle", limit = NO_LIMIT): void =>
    meter.note(MIB, { nowMs, wallMs: 0, load, limit });
  meter.begin("rebuild", 1_000);
  for (let nowMs = 1_100; nowMs < 2_000; nowMs += 100) note(nowMs);
  expect(rates.list).toEqual([]);
  note(2_000);
  expect(rates.list).toMatchObject([{ kind: "rebuild", load: "idle", bytesPerSecond: 10 * MIB }]);
  // Ten seconds without room are no work.
  meter.skip(12_000);
  for (let nowMs = 12_200; nowMs <= 13_000; nowMs += 200) note(nowMs, "busy");
  expect(rates.list[1]).toMatchObject({ load: "busy", bytesPerSecond: 5 * MIB });
  // Half a second under one limit and half a second under another are no second.
  note(13_600, "busy", 8 * MIB);
  note(14_200, "busy", 9 * MIB);
  expect(rates.list[1]).toMatchObject({ load: "busy", limitBytesPerSecond: null });
  note(14_900, "busy", 9 * MIB);
  expect(rates.list).toMatchObject([{ load: "idle" }, { limitBytesPerSecond: 9 * MIB }]);
});

test("meter: at the end what is left counts, from 200 ms on; a new work begins with none", () => {
  for (const [ms, count] of [
    [199, 0],
    [200, 1],
  ] as const) {
    const rates = new SyncRates();
    const meter = new SyncMeter({ rates, memberBytes: GIB });
    meter.begin("check", 0);
    meter.note(MIB, { nowMs: ms, wallMs: 5, load: "idle", limit: NO_LIMIT });
    meter.end(5);
    expect(rates.list).toHaveLength(count);
    meter.begin("resync", ms);
    meter.end(5);
    expect(rates.list).toHaveLength(count);
  }
});
