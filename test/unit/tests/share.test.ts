/**
 * Goal: what a run leaves out another day runs: as many days in a row as a share has take every
 * item exactly once, and no day is left with nothing.
 * Method: shares of many lengths over windows of days; then one file twice, on a given day.
 */
import { describe, expect, test } from "bun:test";
import { dateOfDay, dayOfDate, Share, withShare } from "../../helpers/share.ts";

const FIRST_DAY = dayOfDate("2026-11-29");

function shareOf(name: string, days: number, day: number): Share {
  return new Share(name, days, { day, takesAll: false });
}

describe("share", () => {
  test("share: as many days in a row as it has: each item once, whatever day is the first", () => {
    for (const days of [1, 2, 3, 4, 6, 7]) {
      for (let first = FIRST_DAY; first < FIRST_DAY + 10; first += 1) {
        const times = new Array<number>(500).fill(0);
        for (let day = first; day < first + days; day += 1) {
          const share = shareOf("x", days, day);
          for (const index of times.keys()) if (share.takes(index)) times[index]! += 1;
        }
        expect([days, first, new Set(times)]).toEqual([days, first, new Set([1])]);
      }
    }
  });

  test("share: of a list: even parts, and each day every value of an inner loop", () => {
    const items = Array.from({ length: 126 }, (_, index) => index);
    for (let day = 0; day < 6; day += 1) {
      const taken = shareOf("cases", 6, day).of(items);
      expect(taken.length).toBe(21);
      expect(new Set(taken.map((item) => item % 6)).size).toBeGreaterThan(3);
    }
  });

  test("share: lists of different names: turned differently", () => {
    const items = Array.from({ length: 60 }, (_, index) => index);
    expect(shareOf("a", 6, 0).of(items)).not.toEqual(shareOf("b", 6, 0).of(items));
  });

  test("share: asked in any order, or again: the same answer", () => {
    const share = shareOf("x", 4, 3);
    const once = Array.from({ length: 40 }, (_, index) => share.takes(index));
    for (let index = 39; index >= 0; index -= 1) expect(share.takes(index)).toBe(once[index]!);
  });

  test("share: all: every item", () => {
    expect(new Share("x", 6, { day: 0, takesAll: true }).of([1, 2, 3])).toEqual([1, 2, 3]);
  });

  test("share: fewer items than days: refused on the days that would have nothing", () => {
    const refused = [0, 1, 2, 3].filter((day) => {
      try {
        return shareOf("x", 4, day).of([1, 2, 3]).length === 0;
      } catch {
        return true;
      }
    });
    expect(refused.length).toBe(1);
  });

  test("share: dates: there and back, and what is none", () => {
    for (const date of ["1970-01-01", "2026-11-29", "2028-02-29"]) {
      expect(dateOfDay(dayOfDate(date))).toBe(date);
    }
    for (const text of ["", "29", "2026-13-01", "tomorrow", "20421"]) {
      expect(dayOfDate(text)).toBeNaN();
    }
  });

  test("share: a body that throws, now or later: says which day repeats it", async () => {
    const fail = (): never => {
      throw new Error("why");
    };
    const repeats = /^PARITYD_TEST_DAY=\d{4}-\d\d-\d\d.* repeats it\nwhy/;
    expect(() => withShare(fail)).toThrow(repeats);
    await expect(withShare(async () => fail())).rejects.toThrow(repeats);
    expect(withShare(() => 7)).toBe(7);
  });
});
