/**
 * The share of the day: of an enumeration that is too long for every run, each day takes one part
 * in `days`, and `days` days in a row take all of it.
 *
 *   index        0 1 2 3 | 4 5 6 7 | 8 ...     days = 4
 *   on the day   0 1 2 3 | 2 3 0 1 | 1 ...     a block of `days` goes to all days, once each, turned
 *                                              by a number that only looks random
 *
 * Why turned: enumerations are nested loops, and a plain remainder would give each day the same
 * values of an inner loop, in every combination with the others.
 *
 *   PARITYD_TEST_DAY=2026-11-29 bun test ...    that day's share, exactly
 *   PARITYD_TEST_SHARE=all      bun test ...    everything, as `npm test -- --all` does
 *
 * The day is the date in UTC. test/run.ts fixes it for all of its files, also over midnight.
 */
import { assert } from "../../src/base/assert.ts";

const DAY_MS = 86_400_000;

/** The day of a date, counted from 1970; NaN for what is no date. */
export function dayOfDate(date: string): number {
  return /^\d{4}-\d\d-\d\d$/.test(date) ? Date.parse(`${date}T00:00:00Z`) / DAY_MS : Number.NaN;
}

export function dateOfDay(day: number): string {
  return new Date(day * DAY_MS).toISOString().slice(0, 10);
}

function chosenDay(): number {
  const given = process.env["PARITYD_TEST_DAY"];
  if (given === undefined) return Math.floor(Date.now() / DAY_MS);
  const day = dayOfDate(given);
  assert(!Number.isNaN(day), `PARITYD_TEST_DAY is a date: ${given}`);
  return day;
}

/** Also the seed of the day, for what is drawn and not enumerated. */
export const TODAY = chosenDay();
export const TAKES_ALL = process.env["PARITYD_TEST_SHARE"] === "all";

/** What repeats this run's shares. */
export const SHARE_TEXT = `PARITYD_TEST_DAY=${dateOfDay(TODAY)}${TAKES_ALL ? " PARITYD_TEST_SHARE=all" : ""}`;

export class Share {
  readonly days: number;
  private readonly name: string;
  private readonly day: number;
  private readonly takesAll: boolean;
  private block = -1;
  private turn = 0;

  /** `name` tells enumerations apart: each of them is turned differently. */
  constructor(name: string, days: number, { day = TODAY, takesAll = TAKES_ALL } = {}) {
    assert(Number.isInteger(days) && days >= 1, "a share is one part in a whole number");
    this.name = name;
    this.days = days;
    this.day = day;
    this.takesAll = takesAll;
  }

  /** Whether this day takes the item with this number. */
  takes(index: number): boolean {
    if (this.takesAll) return true;
    const block = Math.floor(index / this.days);
    if (block !== this.block) {
      this.block = block;
      this.turn = Bun.hash.crc32(`${this.name} ${block}`) % this.days;
    }
    return (index + this.turn) % this.days === this.day % this.days;
  }

  /** This day's part of a list; never nothing. */
  of<T>(items: readonly T[]): T[] {
    const taken = items.filter((_, index) => this.takes(index));
    assert(
      taken.length > 0,
      `${this.name}: ${items.length} items are enough for ${this.days} days`,
    );
    return taken;
  }
}

/** Runs the body of a test; what it throws says how its share is repeated. */
export function withShare<T>(body: () => T): T {
  const explain = (error: unknown): never => {
    if (error instanceof Error) error.message = `${SHARE_TEXT} repeats it\n${error.message}`;
    throw error;
  };
  try {
    const result = body();
    return result instanceof Promise ? (result.catch(explain) as T) : result;
  } catch (error) {
    return explain(error);
  }
}
