/**
 * Civil dates from Unix time, by arithmetic alone: the lower layers have no `Date`.
 *
 * Days are counted in eras of 400 years (146,097 days each) that begin on 1 March, so that the
 * leap day is the last day of a year. Source: Howard Hinnant, "chrono-Compatible Low-Level Date
 * Algorithms", civil_from_days.
 */
import { assert } from "./assert.ts";

export interface CivilTime {
  readonly year: number;
  /** 1 to 12. */
  readonly month: number;
  /** 1 to 31. */
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly millisecond: number;
}

/** The largest time that has a four-digit year: 9999-12-31T23:59:59.999Z. */
export const TIME_MS_MAX = 253_402_300_799_999;

const DAY_MS = 86_400_000;
const DAYS_PER_ERA = 146_097;
/** From 0000-03-01 to 1970-01-01. */
const EPOCH_DAYS = 719_468;

/** UTC. `unixMs` is from 0 to `TIME_MS_MAX`; fractions of a millisecond are dropped. */
function civilTime(unixMs: number): CivilTime {
  assert(unixMs >= 0 && unixMs <= TIME_MS_MAX, "the time lies in the years 1970 to 9999");
  const dayMs = Math.floor(unixMs % DAY_MS);
  const days = Math.floor(unixMs / DAY_MS) + EPOCH_DAYS;
  const era = Math.floor(days / DAYS_PER_ERA);
  const eraDay = days % DAYS_PER_ERA;
  const eraYear = Math.floor(
    (eraDay -
      Math.floor(eraDay / 1460) +
      Math.floor(eraDay / 36_524) -
      Math.floor(eraDay / 146_096)) /
      365,
  );
  const yearDay = eraDay - (365 * eraYear + Math.floor(eraYear / 4) - Math.floor(eraYear / 100));
  const monthFromMarch = Math.floor((5 * yearDay + 2) / 153);
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  return {
    year: era * 400 + eraYear + (month <= 2 ? 1 : 0),
    month,
    day: yearDay - Math.floor((153 * monthFromMarch + 2) / 5) + 1,
    hour: Math.floor(dayMs / 3_600_000),
    minute: Math.floor(dayMs / 60_000) % 60,
    second: Math.floor(dayMs / 1000) % 60,
    millisecond: dayMs % 1000,
  };
}

/** "2026-11-22T13:15:28.250Z", always in UTC and always with milliseconds. */
export function isoTime(unixMs: number): string {
  const time = civilTime(unixMs);
  const date = `${digits(time.year, 4)}-${digits(time.month, 2)}-${digits(time.day, 2)}`;
  const clock = `${digits(time.hour, 2)}:${digits(time.minute, 2)}:${digits(time.second, 2)}`;
  return `${date}T${clock}.${digits(time.millisecond, 3)}Z`;
}

function digits(value: number, count: number): string {
  return String(value).padStart(count, "0");
}
