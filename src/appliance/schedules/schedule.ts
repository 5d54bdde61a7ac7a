/**
 * A scrub schedule: when its windows are open, and what is wrong with one. Pure: the moment is
 * handed in, and nothing is counted on from look to look. So a clock that jumps, a host that was
 * suspended and a daemon that was away make no difference: the next look sees what is.
 *
 * A window opens when the cron expression fires in the time zone, and is open for so many minutes
 * of time that passes: on the night on which clocks are changed it ends an hour later or earlier by
 * the clock on the wall.
 *
 * What Bun.cron.parse does, measured with Bun 1.4.5 (test/unit/appliance/schedule.test.ts holds it
 * to this):
 *
 * | asked                                              | answer                                   |
 * |----------------------------------------------------|------------------------------------------|
 * | the zone by another key than `tz`                  | passed over: the zone of the host        |
 * | a moment at which it fires                         | the next one: strictly later             |
 * | "30 2 * * *" where 02:00 to 03:00 is skipped       | that day at 03:30, moved by the gap      |
 * | "0,30 2-3 * * *" there                             | 03:00 and 03:30, each once               |
 * | "30 2 * * *" where 02:00 to 03:00 comes twice      | once, the first time                     |
 * | "0 * * * *" there                                  | each hour, also the second one           |
 * | a day that never comes ("0 1 30 2 *")              | null; it looks eight years ahead         |
 * | "0 1 29 2 *" before 2100, which is no leap year    | 2104: eight years are just enough        |
 * | "0 1 30 2 1", day and weekday                      | mondays in February: either does         |
 * | no expression; an unknown zone; "" and "+02:00"    | a TypeError                              |
 */
import type { StoredSchedule } from "../state/state.ts";

export type Schedule = Pick<
  StoredSchedule,
  "cron" | "timezone" | "windowMinutes" | "maxAgeDays" | "mode" | "limitBytesPerSecond"
>;

/** Unix time in milliseconds; it is open from the first up to, not including, the last. */
export interface Window {
  readonly opensMs: number;
  readonly closesMs: number;
}

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;
/** How far back the last firing is looked for, step by step: the nearest are found soonest. */
const LOOK_BACKS_MS = [HOUR_MS, DAY_MS, 32 * DAY_MS, 366 * DAY_MS, 8 * 366 * DAY_MS];
/** A leap year, so that the 29 of February is met. */
const JUDGED_FROM_MS = Date.UTC(2024, 0, 1);
/** So many firings show the shortest time between two: eight years of daily ones. */
const FIRINGS_JUDGED = 3_000;
const OVERLAP_HORIZON_MS = 400 * DAY_MS;
const OVERLAP_FIRINGS = 2_000;

type Timed = Pick<Schedule, "cron" | "timezone" | "windowMinutes">;

/** The window that is open at a moment, or null. */
export function windowAt(schedule: Timed, nowMs: number): Window | null {
  const opensMs = lastFiring(schedule, nowMs);
  const window = opensMs === null ? null : windowFrom(schedule, opensMs);
  return window !== null && window.closesMs > nowMs ? window : null;
}

/** The next one that opens after a moment; null: none ever does. */
export function nextWindow(schedule: Timed, nowMs: number): Window | null {
  const opensMs = firesAfter(schedule, nowMs);
  return opensMs === null ? null : windowFrom(schedule, opensMs);
}

/** The last one that was closed by then, or null. */
export function closedWindow(schedule: Timed, nowMs: number): Window | null {
  const opensMs = lastFiring(schedule, nowMs - windowMsOf(schedule));
  return opensMs === null ? null : windowFrom(schedule, opensMs);
}

/** A window of the same length that opens now. */
export function windowFrom(schedule: Timed, opensMs: number): Window {
  return { opensMs, closesMs: opensMs + windowMsOf(schedule) };
}

function windowMsOf({ windowMinutes }: Timed): number {
  return windowMinutes * MINUTE_MS;
}

/** Never throws: what a state.db holds may be no expression, or a zone that went out of use. */
function firesAfter({ cron, timezone }: Timed, atMs: number): number | null {
  try {
    return Bun.cron.parse(cron, Math.max(0, atMs), { tz: timezone })?.getTime() ?? null;
  } catch {
    return null;
  }
}

/** The last firing at or before a moment. The parser looks ahead only: it is led up to it. */
function lastFiring(schedule: Timed, atMs: number): number | null {
  for (const backMs of LOOK_BACKS_MS) {
    let found: number | null = null;
    let next = firesAfter(schedule, atMs - backMs);
    while (next !== null && next <= atMs) {
      found = next;
      next = firesAfter(schedule, next);
    }
    if (found !== null) return found;
  }
  return null;
}

// What is wrong with one --------------------------------------------------------------------------

export interface ScheduleIssue {
  readonly key: "cron" | "timezone" | "windowMinutes";
  /** A sentence that says the way out. */
  readonly detail: string;
}

/** All that keeps it from being a schedule; whether others are in its way is not asked. */
export function scheduleIssues(schedule: Timed): ScheduleIssue[] {
  const issues = [zoneIssue(schedule), cronIssue(schedule)].filter((issue) => issue !== null);
  if (issues.length > 0) return issues;
  const period = periodIssue(schedule);
  return period === null ? [] : [period];
}

function zoneIssue({ timezone }: Timed): ScheduleIssue | null {
  try {
    Bun.cron.parse("@daily", JUDGED_FROM_MS, { tz: timezone });
    return null;
  } catch {
    const detail =
      `${JSON.stringify(timezone)} is no time zone that is known here: name one of the IANA ` +
      "database, like Europe/Berlin, or UTC";
    return { key: "timezone", detail };
  }
}

function cronIssue({ cron }: Timed): ScheduleIssue | null {
  const text = JSON.stringify(cron);
  try {
    if (Bun.cron.parse(cron, JUDGED_FROM_MS, { tz: "UTC" }) !== null) return null;
    const detail =
      `${text} never fires: no month has such a day. Name one that comes, like 0 1 28 2 *, or ` +
      "0 1 * * * for each night at one";
    return { key: "cron", detail };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const why = message.replace(/^Invalid cron expression: /, "");
    const detail =
      `${text} is no cron expression (${why}): write minute, hour, day, month and weekday, like ` +
      "0 1 * * * for each night at one";
    return { key: "cron", detail };
  }
}

/**
 * By the clock on the wall, as in UTC: a window of 24 hours each day is whole on the day that has
 * 23 too, where the next one follows on it.
 */
function periodIssue(schedule: Timed): ScheduleIssue | null {
  const byTheClock = { ...schedule, timezone: "UTC" };
  let shortestMs = Number.POSITIVE_INFINITY;
  let atMs = firesAfter(byTheClock, JUDGED_FROM_MS);
  for (let count = 0; atMs !== null && count < FIRINGS_JUDGED; count += 1) {
    const next = firesAfter(byTheClock, atMs);
    if (next !== null) shortestMs = Math.min(shortestMs, next - atMs);
    atMs = next;
  }
  if (windowMsOf(schedule) <= shortestMs) return null;
  const most = shortestMs / MINUTE_MS;
  const detail =
    `a window of ${schedule.windowMinutes} minutes is longer than its period: the next one opens ` +
    `after ${most} minutes. Give it at most ${most}, or open it less often`;
  return { key: "windowMinutes", detail };
}

/** The first time at which both have a window open, in the year to come; null: none is found. */
export function firstOverlap(one: Timed, other: Timed, fromMs: number): Window | null {
  let left = windowAt(one, fromMs) ?? nextWindow(one, fromMs);
  let right = windowAt(other, fromMs) ?? nextWindow(other, fromMs);
  for (let count = 0; count < OVERLAP_FIRINGS; count += 1) {
    if (left === null || right === null) return null;
    const opensMs = Math.max(left.opensMs, right.opensMs);
    const closesMs = Math.min(left.closesMs, right.closesMs);
    if (opensMs < closesMs) return { opensMs, closesMs };
    if (opensMs > fromMs + OVERLAP_HORIZON_MS) return null;
    if (left.opensMs < right.opensMs) left = nextWindow(one, left.opensMs);
    else right = nextWindow(other, right.opensMs);
  }
  return null;
}
