/**
 * Goal: a window is open exactly when the expression, the zone and the calendar say so, also on the
 * nights on which clocks are changed and on a leap day; what is no schedule is told, with the way
 * out.
 * Method: what Bun.cron.parse does is held to the table in schedule.ts; windows are asked for
 * minute by minute, and compared with what the clock on the wall says in that zone.
 */
import { describe, expect, test } from "bun:test";
import {
  closedWindow,
  firstOverlap,
  nextWindow,
  type Schedule,
  scheduleIssues,
  windowAt,
} from "../../../src/appliance/schedules/schedule.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const BERLIN = "Europe/Berlin";
const NEW_YORK = "America/New_York";

function schedule(rest: Partial<Schedule> = {}): Schedule {
  return {
    ...{ cron: "0 1 * * *", timezone: "UTC", windowMinutes: 360 },
    ...{ maxAgeDays: 30, mode: "check", limitBytesPerSecond: null },
    ...rest,
  };
}

function at(iso: string): number {
  return Date.parse(iso);
}

function text(window: { opensMs: number; closesMs: number } | null): string | null {
  if (window === null) return null;
  const iso = (ms: number): string => new Date(ms).toISOString().slice(0, 16);
  return `${iso(window.opensMs)} ${iso(window.closesMs)}`;
}

describe("Bun.cron.parse", () => {
  function firings(cron: string, from: string, count: number, tz: string): string[] {
    const found: string[] = [];
    let next = Bun.cron.parse(cron, at(from), { tz });
    while (next !== null && found.length < count) {
      found.push(next.toISOString().slice(0, 16));
      next = Bun.cron.parse(cron, next, { tz });
    }
    return found;
  }

  for (const [name, cron, from, tz, expected] of [
    ["strictly later", "0 1 * * *", "2026-01-01T01:00:00Z", "UTC", ["2026-01-02T01:00"]],
    [
      "a time that is skipped: moved by the gap",
      ...["30 2 * * *", "2026-03-28T12:00:00Z", BERLIN, ["2026-03-29T01:30", "2026-03-30T00:30"]],
    ],
    [
      "a time that is skipped in New York",
      ...["30 2 * * *", "2026-03-07T12:00:00Z", NEW_YORK, ["2026-03-08T07:30", "2026-03-09T06:30"]],
    ],
    [
      "two times that the gap moves onto others: each once",
      ...["0,30 2-3 * * *", "2026-03-29T00:00:00Z", BERLIN],
      ["2026-03-29T01:00", "2026-03-29T01:30", "2026-03-30T00:00"],
    ],
    [
      "a time that comes twice: the first",
      ...["30 2 * * *", "2026-10-24T12:00:00Z", BERLIN, ["2026-10-25T00:30", "2026-10-26T01:30"]],
    ],
    [
      "a time that comes twice in New York",
      ...["30 1 * * *", "2026-10-31T12:00:00Z", NEW_YORK, ["2026-11-01T05:30", "2026-11-02T06:30"]],
    ],
    [
      "each hour where one comes twice: both",
      ...["0 * * * *", "2026-10-24T23:30:00Z", BERLIN],
      ["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"],
    ],
    [
      "a leap day, and a century without one",
      ...["0 1 29 2 *", "2092-01-01T00:00:00Z", "UTC"],
      ["2092-02-29T01:00", "2096-02-29T01:00", "2104-02-29T01:00"],
    ],
    [
      "day and weekday: either",
      ...["0 1 30 2 1", "2026-01-01T00:00:00Z", "UTC", ["2026-02-02T01:00", "2026-02-09T01:00"]],
    ],
    ["a day that never comes", "0 1 30 2 *", "2026-01-01T00:00:00Z", "UTC", []],
  ] as unknown as readonly (readonly [string, string, string, string, readonly string[]])[]) {
    test(`cron: ${name}`, () => {
      expect(firings(cron, from, Math.max(1, expected.length), tz)).toEqual([...expected]);
    });
  }

  test("cron: no expression, no zone: thrown; the zone by another key: passed over", () => {
    for (const cron of [
      "",
      "x",
      "* * * *",
      "60 0 * * *",
      "* * * * * *",
      "@reboot",
      "*/0 * * * *",
    ]) {
      expect(() => Bun.cron.parse(cron, 0, { tz: "UTC" })).toThrow(TypeError);
    }
    for (const tz of ["Mars/Olympus", "", "+02:00", " UTC"]) {
      expect(() => Bun.cron.parse("@daily", 0, { tz })).toThrow(TypeError);
    }
    const winter = at("2026-01-01T00:00:00Z");
    const passedOver = Bun.cron.parse("0 1 * * *", winter, { timezone: NEW_YORK } as never);
    expect(passedOver).toEqual(Bun.cron.parse("0 1 * * *", winter));
  });
});

/** "2026-03-29 01:30" by the clock on the wall there. */
function wallClock(timezone: string): (ms: number) => { day: string; minutes: number } {
  const format = new Intl.DateTimeFormat("sv-SE", {
    ...{ timeZone: timezone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit" },
    ...{ hour: "2-digit", minute: "2-digit" },
  } as Intl.DateTimeFormatOptions);
  return (ms) => {
    const [day = "", time = ""] = format.format(ms).split(" ");
    const [hours, minutes] = time.split(":").map(Number);
    return { day, minutes: hours! * 60 + minutes! };
  };
}

describe("windows", () => {
  for (const [name, timezone, from, openMinutes] of [
    // Each night has its window of four hours, whatever the clocks do meanwhile.
    ["Berlin in spring", BERLIN, "2026-03-27T12:00:00Z", 4 * 240],
    ["Berlin in autumn", BERLIN, "2026-10-23T12:00:00Z", 4 * 240],
    ["New York in spring", NEW_YORK, "2026-03-06T12:00:00Z", 4 * 240],
    ["New York in autumn", NEW_YORK, "2026-10-30T12:00:00Z", 4 * 240],
    ["a leap day", "UTC", "2028-02-27T12:00:00Z", 4 * 240],
  ] as const) {
    test(`window: each minute of four days, ${name}: open from one o'clock for four hours`, () => {
      const nightly = schedule({ timezone, windowMinutes: 240 });
      const clock = wallClock(timezone);
      let opensMs: number | null = null;
      let open = 0;
      const beginMs = at(from);
      for (let ms = beginMs; ms < beginMs + 4 * DAY_MS; ms += MINUTE_MS) {
        // One o'clock comes twice in New York's autumn: the first one counts.
        const { day, minutes } = clock(ms);
        const isFirst = opensMs === null || clock(opensMs).day !== day;
        if (minutes === 60 && isFirst) opensMs = ms;
        const isOpen: boolean = opensMs !== null && ms < opensMs + 240 * MINUTE_MS;
        const window = windowAt(nightly, ms);
        expect([new Date(ms).toISOString(), window?.opensMs ?? null]).toEqual([
          new Date(ms).toISOString(),
          isOpen ? opensMs : null,
        ]);
        if (isOpen) open += 1;
      }
      expect(open).toBe(openMinutes);
    });
  }

  test("window: its edges: open at the first moment, closed at the last", () => {
    const nightly = schedule();
    const opensMs = at("2026-05-05T01:00:00Z");
    expect(windowAt(nightly, opensMs - 1)).toBeNull();
    expect(windowAt(nightly, opensMs)).toEqual({ opensMs, closesMs: opensMs + 6 * HOUR_MS });
    expect(windowAt(nightly, opensMs + 6 * HOUR_MS - 1)?.opensMs).toBe(opensMs);
    expect(windowAt(nightly, opensMs + 6 * HOUR_MS)).toBeNull();
    expect(nextWindow(nightly, opensMs)?.opensMs).toBe(opensMs + DAY_MS);
    expect(closedWindow(nightly, opensMs + 6 * HOUR_MS - 1)?.opensMs).toBe(opensMs - DAY_MS);
    expect(closedWindow(nightly, opensMs + 6 * HOUR_MS)?.opensMs).toBe(opensMs);
  });

  test("window: where the clock is skipped over its begin: opens behind the gap", () => {
    const half = schedule({ cron: "30 2 * * *", timezone: BERLIN, windowMinutes: 60 });
    expect(text(nextWindow(half, at("2026-03-28T12:00:00Z")))).toBe(
      "2026-03-29T01:30 2026-03-29T02:30",
    );
    expect(windowAt(half, at("2026-03-29T01:29:00Z"))).toBeNull();
  });

  test("window: rare ones are found again: the leap day, once a year, once a month", () => {
    for (const [cron, opened] of [
      ["0 1 29 2 *", "2024-02-29T01:00"],
      ["0 1 1 1 *", "2026-01-01T01:00"],
      ["0 1 1 * *", "2026-06-01T01:00"],
      ["0 1 * * 0", "2026-06-14T01:00"],
      ["*/5 * * * *", "2026-06-15T11:50"],
    ] as const) {
      const closed = closedWindow(schedule({ cron, windowMinutes: 5 }), at("2026-06-15T11:55:00Z"));
      expect([cron, text(closed)?.split(" ")[0]]).toEqual([cron, opened]);
    }
  });

  test("window: all day, each day: one is open at each moment, also where a day has 23 hours", () => {
    const always = schedule({ cron: "0 0 * * *", timezone: BERLIN, windowMinutes: 1_440 });
    for (let ms = at("2026-03-27T12:00:00Z"); ms < at("2026-03-31T12:00:00Z"); ms += HOUR_MS / 2) {
      expect(windowAt(always, ms)).not.toBeNull();
    }
  });

  test("window: an expression or zone that a damaged state.db holds: none, nothing is thrown", () => {
    for (const rest of [
      { cron: "nonsense" },
      { timezone: "Mars/Olympus" },
      { cron: "0 1 30 2 *" },
    ]) {
      const broken = schedule(rest);
      expect([windowAt(broken, 1e12), nextWindow(broken, 1e12), closedWindow(broken, 0)]).toEqual([
        null,
        null,
        null,
      ]);
    }
  });
});

describe("issues", () => {
  for (const [name, rest, key, says] of [
    ["30 February", { cron: "0 1 30 2 *" }, "cron", "never fires"],
    ["31 April", { cron: "0 1 31 4 *" }, "cron", "never fires"],
    ["too few fields", { cron: "0 1 * *" }, "cron", "expected 5 space-separated fields"],
    ["seconds", { cron: "0 0 1 * * *" }, "cron", "too many fields"],
    ["the hour 24", { cron: "0 24 * * *" }, "cron", "out of range"],
    ["no zone", { timezone: "" }, "timezone", "name one of the IANA"],
    ["a zone that is not", { timezone: "Mars/Olympus" }, "timezone", "like Europe/Berlin"],
    ["an offset", { timezone: "+02:00" }, "timezone", "no time zone"],
    ["a day and a minute each day", { windowMinutes: 1_441 }, "windowMinutes", "at most 1440"],
    [
      "three hours at one and three",
      ...[{ cron: "0 1,3 * * *", windowMinutes: 180 }, "windowMinutes", "at most 120"],
    ],
    [
      "two days on fridays and on the 31 of December, which may be a saturday",
      ...[{ cron: "0 0 31 12 5", windowMinutes: 1_441 }, "windowMinutes", "at most 1440"],
    ],
  ] as readonly (readonly [string, Partial<Schedule>, string, string])[]) {
    test(`schedule: ${name}: told, with the way out`, () => {
      const issues = scheduleIssues(schedule(rest));
      expect(issues.map((issue) => issue.key as string)).toEqual([key]);
      expect(issues[0]?.detail).toContain(says);
    });
  }

  test("schedule: zone and expression are both wrong: both are told", () => {
    const issues = scheduleIssues(schedule({ cron: "x", timezone: "y" }));
    expect(issues.map(({ key }) => key)).toEqual(["timezone", "cron"]);
  });

  test("schedule: whole days, nicknames, names of days, zones in small letters: taken", () => {
    for (const rest of [
      { windowMinutes: 1_440 },
      { windowMinutes: 1_440, timezone: BERLIN },
      { cron: "@daily" },
      { cron: "0 1 * * SAT,SUN" },
      { cron: "0 1 29 2 *", windowMinutes: 10_080 },
      { timezone: "europe/berlin" },
      { cron: "0 1,3 * * *", windowMinutes: 120 },
    ]) {
      expect([rest, scheduleIssues(schedule(rest))]).toEqual([rest, []]);
    }
  });
});

describe("overlap", () => {
  const from = at("2026-01-01T00:00:00Z");

  for (const [name, one, other, expected] of [
    ["the same", {}, {}, "2026-01-01T01:00 2026-01-01T07:00"],
    ["one after the other", {}, { cron: "0 7 * * *" }, null],
    ["a minute", {}, { cron: "59 6 * * *" }, "2026-01-01T06:59 2026-01-01T07:00"],
    [
      "even and odd days: over the end of a month",
      { cron: "0 12 2-30/2 * *", windowMinutes: 1_440 },
      { cron: "0 12 1-31/2 * *", windowMinutes: 1_440 },
      null,
    ],
    [
      "only the first of a month that is a sunday",
      { cron: "0 1 * * 0" },
      { cron: "0 1 1 * *" },
      "2026-02-01T01:00 2026-02-01T07:00",
    ],
    [
      "in summer only",
      { timezone: BERLIN, windowMinutes: 60 },
      { cron: "0 23 * * *", windowMinutes: 60 },
      "2026-03-29T23:00 2026-03-30T00:00",
    ],
    ["one that never opens", { cron: "nonsense" }, {}, null],
  ] as readonly (readonly [string, Partial<Schedule>, Partial<Schedule>, string | null])[]) {
    test(`overlap: ${name}: either way round`, () => {
      const [left, right] = [schedule(one), schedule(other)];
      expect(text(firstOverlap(left, right, from))).toBe(expected);
      expect(text(firstOverlap(right, left, from))).toBe(expected);
    });
  }

  test("overlap: windows that are open already: from now on", () => {
    const overlap = firstOverlap(schedule(), schedule(), at("2026-01-01T03:00:00Z"));
    expect(text(overlap)).toBe("2026-01-01T01:00 2026-01-01T07:00");
  });
});
