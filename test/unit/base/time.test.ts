/**
 * Goal: dates come out as everybody else writes them.
 *
 * Method: every day from 1970 to 2420 (a whole leap cycle), the ends of each century after it, and
 * seeded times of day, against the runtime's own `Date`.
 */
import { expect, test } from "bun:test";
import { AssertionError } from "../../../src/base/assert.ts";
import { nextFraction, SeededRandom } from "../../../src/base/random.ts";
import { isoTime, TIME_MS_MAX } from "../../../src/base/time.ts";

const DAY_MS = 86_400_000;

function expectSame(unixMs: number): void {
  const expected = new Date(unixMs).toISOString();
  if (isoTime(unixMs) !== expected) throw new Error(`${isoTime(unixMs)} is not ${expected}`);
}

test("time: every day of 450 years, at its first and last millisecond: as Date has it", () => {
  for (let day = 0; day < 164_400; day += 1) {
    expectSame(day * DAY_MS);
    expectSame((day + 1) * DAY_MS - 1);
  }
});

test("time: the turns of February and of the year in each century: as Date has it", () => {
  for (let year = 1972; year < 10_000; year += 4) {
    for (const month of [0, 1, 2, 11]) {
      for (const day of [1, 28, 29, 31]) expectSame(Date.UTC(year, month, day, 23, 59, 59, 999));
    }
  }
});

test("time: 20000 seeded times, with fractions of a millisecond: as Date has it", () => {
  const random = new SeededRandom(400);
  for (let round = 0; round < 20_000; round += 1) expectSame(nextFraction(random) * TIME_MS_MAX);
});

test("time: the ends of the range: shown, and asserted beyond", () => {
  expect(isoTime(0)).toBe("1970-01-01T00:00:00.000Z");
  expect(isoTime(TIME_MS_MAX)).toBe("9999-12-31T23:59:59.999Z");
  for (const wrong of [-1, TIME_MS_MAX + 1, Number.NaN]) {
    expect(() => isoTime(wrong)).toThrow(AssertionError);
  }
});
