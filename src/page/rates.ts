/**
 * Throughput and latency over time, from counters that only grow. Pure.
 *
 * A point is the difference of two looks. A counter that has become smaller belongs to another
 * drive, or to a daemon that was started anew: there is no point between the two.
 */
import type { ArrayStatus, MemberStatus } from "../array/statuses.ts";

export interface Point {
  /** Unix time in seconds. */
  readonly at: number;
  /** Bytes a second. */
  readonly read: number;
  readonly write: number;
  /** Milliseconds a request, on average; null: there was none. */
  readonly readMs: number | null;
  readonly writeMs: number | null;
}

type Counters = MemberStatus["io"];

interface Series {
  counters: Counters;
  atMs: number;
  readonly points: Point[];
}

/** Five minutes at a look a second. */
const POINTS_MAX = 300;

/** `null`: the counters are not of one run. */
export function pointBetween(
  before: Counters,
  after: Counters,
  { beforeMs, afterMs }: { beforeMs: number; afterMs: number },
): Point | null {
  const seconds = (afterMs - beforeMs) / 1_000;
  const grown = (key: keyof Counters): number => after[key] - before[key];
  const keys = Object.keys(after) as (keyof Counters)[];
  if (seconds <= 0 || keys.some((key) => grown(key) < 0)) return null;
  const reads = grown("reads");
  const writes = grown("writes");
  return {
    at: afterMs / 1_000,
    read: grown("bytesRead") / seconds,
    write: grown("bytesWritten") / seconds,
    readMs: reads === 0 ? null : grown("readMs") / reads,
    writeMs: writes === 0 ? null : grown("writeMs") / writes,
  };
}

/** What the members did, all together. */
export function sumOf(members: readonly MemberStatus[]): Counters {
  const sum = { reads: 0, writes: 0, flushes: 0 };
  const amounts = { bytesRead: 0, bytesWritten: 0, readMs: 0, writeMs: 0 };
  const all: Record<keyof Counters, number> = { ...sum, ...amounts };
  for (const { io } of members) {
    for (const key of Object.keys(all) as (keyof Counters)[]) all[key] += io[key];
  }
  return all;
}

/** The series of all arrays and members that were seen lately. */
export class RateHistory {
  private readonly series = new Map<string, Series>();

  look(arrays: readonly ArrayStatus[], atMs: number): void {
    for (const { uuid, members } of arrays) {
      this.add(arrayKey(uuid), sumOf(members), atMs);
      for (const { role, io } of members) this.add(memberKey(uuid, role), io, atMs);
    }
    for (const [key, { atMs: lastMs }] of this.series) {
      if (lastMs !== atMs) this.series.delete(key);
    }
  }

  pointsOf(key: string): readonly Point[] {
    return this.series.get(key)?.points ?? [];
  }

  private add(key: string, counters: Counters, atMs: number): void {
    const known = this.series.get(key);
    if (known === undefined) {
      this.series.set(key, { counters, atMs, points: [] });
      return;
    }
    const times = { beforeMs: known.atMs, afterMs: atMs };
    const point = pointBetween(known.counters, counters, times);
    if (point !== null) known.points.push(point);
    if (known.points.length > POINTS_MAX) known.points.shift();
    known.counters = counters;
    known.atMs = atMs;
  }
}

export function arrayKey(uuid: string): string {
  return uuid;
}

export function memberKey(uuid: string, role: number): string {
  return `${uuid}/${role}`;
}
