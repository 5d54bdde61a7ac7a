/**
 * Goal: over two months of nights a schedule does what it says: passes run in windows alone, as
 * soon as they are due, and go on the next night; nights on which nobody was there are told once
 * and made up for; clocks that are changed, set forward and set back do no harm; what a person does
 * stays theirs; arrays on one disk take turns.
 * Method: the real scheduler over arrays that are only numbers (helpers/schedule-model.ts), looked
 * at every ten minutes of virtual time. What the clock on the wall says is asked of Intl.
 */
import { describe, expect, test } from "bun:test";
import type { Schedule } from "../../../src/appliance/schedules/schedule.ts";
import { DAY_MS, HOUR_MS, MINUTE_MS, ScheduleModel } from "../../helpers/schedule-model.ts";
import { testUuid } from "../../helpers/sim-reactor.ts";

const NIGHTLY: Schedule = {
  ...{ cron: "0 1 * * *", timezone: "Europe/Berlin", windowMinutes: 120, maxAgeDays: 7 },
  ...{ mode: "check", limitBytesPerSecond: null },
};

/** Minutes since midnight by the clock on the wall of a zone. */
function wallClock(timezone: string): (ms: number) => number {
  const format = new Intl.DateTimeFormat("sv-SE", { timeZone: timezone, timeStyle: "short" });
  return (ms) => {
    const [hours, minutes] = format.format(ms).split(":").map(Number);
    return hours! * 60 + minutes!;
  };
}

/** Turns up to this time of the day by the clock on the wall, at most a day on. */
function runTo(model: ScheduleModel, time: string, timezone = "UTC"): void {
  const clock = wallClock(timezone);
  const [hours, minutes] = time.split(":").map(Number);
  let atMs = Math.floor(model.wallMs / MINUTE_MS) * MINUTE_MS + MINUTE_MS;
  while (clock(atMs) !== hours! * 60 + minutes!) atMs += MINUTE_MS;
  model.run(atMs - model.wallMs);
}

/** When it is one o'clock, the first time where that comes twice. */
function firstOClocks(clock: (ms: number) => number, fromMs: number): number[] {
  const found: number[] = [];
  const beginMs = Math.floor(fromMs / HOUR_MS) * HOUR_MS - 3 * DAY_MS;
  for (let hour = 0; hour < 80 * 24; hour += 1) {
    const ms = beginMs + hour * HOUR_MS;
    if (clock(ms) === 60 && ms - (found.at(-1) ?? 0) > HOUR_MS) found.push(ms);
  }
  return found;
}

function nightly(rest: Partial<Schedule> = {}): Schedule {
  return { ...NIGHTLY, timezone: "UTC", ...rest };
}

/** An array, its schedule and a daemon; at noon. */
function modelWith(options: { passMs: number; schedule?: Schedule; from?: string }): ScheduleModel {
  const model = new ScheduleModel(options.from ?? "2026-05-01T12:00:00Z");
  model.add("tank", options);
  model.start();
  model.put("tank", options.schedule ?? nightly());
  return model;
}

describe("60 nights", () => {
  for (const [timezone, from] of [
    ["Europe/Berlin", "2026-03-01T12:00:00Z"],
    ["Europe/Berlin", "2026-10-01T12:00:00Z"],
    ["America/New_York", "2026-02-20T17:00:00Z"],
    ["America/New_York", "2026-10-10T17:00:00Z"],
  ] as const) {
    test(`60 nights of ${timezone} from ${from}: passes when due, in windows alone; misses told`, () => {
      const model = modelWith({ passMs: 5 * HOUR_MS, schedule: { ...NIGHTLY, timezone }, from });
      const clock = wallClock(timezone);
      const openings = firstOClocks(clock, Date.parse(from));
      let nights = 0;
      const finished = new Set<string>();
      const missedDays: number[] = [];
      const expectedMisses: number[] = [];
      let wasMissed = 0;

      /** Up to the next noon by the clock on the wall. */
      const lookAround = (day: number): void => {
        let hasRun = false;
        for (let minutes = -1; minutes < 12 * 60 || minutes >= 12 * 60 + 10; ) {
          model.run(10 * MINUTE_MS);
          minutes = clock(model.wallMs);
          const { lastScrub } = model.array("tank");
          const ageMs = model.wallMs - Date.parse(lastScrub?.finishedAt ?? "1970-01-01");
          // A clock that was set is seen within a minute.
          const opensMs = openings.findLast((openMs) => openMs <= model.wallMs) ?? 0;
          const sinceMs = model.wallMs - opensMs;
          const isInside = sinceMs > MINUTE_MS && sinceMs < 119 * MINUTE_MS;
          const isOutside = sinceMs > 121 * MINUTE_MS;
          const isWanted = model.array("tank").job !== null || ageMs > 7 * DAY_MS + MINUTE_MS;
          const isRunning = model.isRunning("tank");
          hasRun ||= isRunning;
          const seen = { day, minutes, isRunning };
          if (isOutside) expect(seen).toEqual({ ...seen, isRunning: false });
          if (isInside && isWanted) expect(seen).toEqual({ ...seen, isRunning: true });
          if (lastScrub !== null) finished.add(lastScrub.finishedAt);
        }
        if (hasRun) nights += 1;
        if (model.missed().length > wasMissed) missedDays.push(day);
        wasMissed = model.missed().length;
      };

      for (let day = 1; day <= 60; day += 1) {
        // A pass is wanted in the first nights of each ten: 3 of 5 hours, and 7 days of rest.
        if (day === 11) {
          model.stop("SIGTERM");
          model.run(2 * DAY_MS + HOUR_MS);
          model.start();
          day += 2;
          expectedMisses.push(day);
        }
        if (day === 22) {
          // In the middle of a window, also where it is one of two o'clocks.
          runTo(model, "01:40", timezone);
          model.stop("SIGKILL");
          model.start();
        }
        if (day === 31) model.simulation.jumpWall(3 * HOUR_MS);
        if (day === 33) {
          // Set back in the middle of a window, to before it.
          runTo(model, "02:10", timezone);
          model.simulation.jumpWall(-3 * HOUR_MS);
          model.run(2 * MINUTE_MS);
        }
        if (day === 42) {
          // Set forward over a whole window.
          runTo(model, "00:50", timezone);
          model.simulation.jumpWall(4 * HOUR_MS);
          if (model.array("tank").job !== null || model.view("tank").isDue)
            expectedMisses.push(day);
          model.run(2 * MINUTE_MS);
        }
        if (day === 50) model.simulation.jumpWall(-30 * HOUR_MS);
        lookAround(day);
      }
      expect(missedDays).toEqual(expectedMisses);
      expect(expectedMisses.length).toBeGreaterThan(0);
      expect(finished.size).toBeGreaterThanOrEqual(5);
      expect(nights).toBeGreaterThanOrEqual(3 * 5);
      expect(model.view("tank")).toMatchObject({ lastResult: "clean" });
    });
  }
});

describe("nights in a row", () => {
  test("a pass of five hours in windows of two: three nights, then a week of none", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "01:01");
    expect(model.view("tank")).toMatchObject({ pass: "running", job: 1, isDue: true });
    runTo(model, "03:01");
    expect(model.view("tank")).toMatchObject({ pass: "paused", job: 1, window: null });
    runTo(model, "03:01");
    expect(model.view("tank")).toMatchObject({ pass: "paused", job: 1 });
    runTo(model, "02:30");
    const done = model.view("tank");
    expect(done).toMatchObject({ pass: "none", isDue: false, lastResult: "clean" });
    expect(done.last?.slice(0, 13)).toBe("2026-05-04T02");
    for (let night = 0; night < 6; night += 1) {
      runTo(model, "02:30");
      expect(model.isRunning("tank")).toBe(false);
    }
    // A week is over in the middle of this window.
    runTo(model, "01:30");
    expect(model.isRunning("tank")).toBe(false);
    runTo(model, "02:30");
    expect(model.isRunning("tank")).toBe(true);
    expect(model.missed()).toEqual([]);
  });

  test("the daemon stops in a window: the pass is paused, and goes on in the same window", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "01:30");
    model.stop("SIGTERM");
    expect(model.array("tank").job).toMatchObject({ id: 1, state: "paused" });
    model.run(10 * MINUTE_MS);
    model.start();
    model.run(MINUTE_MS);
    expect(model.array("tank").job).toMatchObject({ id: 1, state: "running" });
    runTo(model, "03:01");
    expect(model.view("tank").pass).toBe("paused");
  });

  test("the daemon is killed while it pauses its pass: that is its own all the same", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "01:30");
    model.answersPauses = false;
    model.stop("SIGTERM");
    model.answersPauses = true;
    expect(model.array("tank").job).toMatchObject({ id: 1, state: "paused" });
    model.start();
    model.run(MINUTE_MS);
    expect(model.view("tank")).toMatchObject({ pass: "running", job: 1 });
  });

  test("the daemon is killed in a window: the pass goes on in it, as its own", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "01:30");
    model.stop("SIGKILL");
    model.start();
    model.run(MINUTE_MS);
    expect(model.view("tank")).toMatchObject({ pass: "running", job: 1 });
  });

  test("the daemon is killed in a window, and starts behind it: the pass waits for the next", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "01:30");
    model.stop("SIGKILL");
    model.run(3 * HOUR_MS);
    model.start();
    model.run(MINUTE_MS);
    expect(model.view("tank")).toMatchObject({ pass: "paused", job: 1 });
    runTo(model, "01:30");
    expect(model.view("tank")).toMatchObject({ pass: "running", job: 1 });
  });

  test("the schedule is set anew while it runs: what runs stays its own, and keeps to the new one", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "01:30");
    model.put("tank", nightly({ windowMinutes: 240 }));
    runTo(model, "04:30");
    expect(model.view("tank")).toMatchObject({ pass: "running", job: 1 });
    model.put("tank", nightly({ cron: "0 6 * * *" }));
    model.run(MINUTE_MS);
    expect(model.view("tank")).toMatchObject({ pass: "paused", job: 1 });
  });
});

describe("missed", () => {
  test("the array is not there for three nights: told once, made up for in the next", () => {
    const model = modelWith({ passMs: HOUR_MS });
    model.array("tank").state = "inactive";
    model.run(3 * DAY_MS);
    const [event] = model.missed();
    expect(model.missed()).toHaveLength(1);
    expect(event).toMatchObject({
      severity: "warning",
      array: "tank",
      arrayUuid: testUuid("tank"),
    });
    expect(event?.message).toBe(
      "array tank is due for a scrub, and its window from 2026-05-02T01:00:00.000Z to " +
        "2026-05-02T03:00:00.000Z was missed: it is made up for in that of 2026-05-03T01:00:00.000Z",
    );
    expect(model.view("tank").isMissed).toBe(true);
    model.array("tank").state = "clean";
    runTo(model, "01:30");
    expect(model.view("tank")).toMatchObject({ pass: "running", isMissed: false });
  });

  test("once a month, and the daemon was away: a window opens at once, as long as the others", () => {
    const model = modelWith({ passMs: 3 * HOUR_MS, schedule: nightly({ cron: "0 1 5 * *" }) });
    model.stop("SIGTERM");
    model.run(10 * DAY_MS);
    model.start();
    model.run(MINUTE_MS);
    expect(model.missed()[0]?.message).toContain("it is made up for in one that opens now");
    const view = model.view("tank");
    expect(view.pass).toBe("running");
    expect(Date.parse(view.window!.closesAt) - Date.parse(view.window!.opensAt)).toBe(2 * HOUR_MS);
    model.run(2 * HOUR_MS);
    expect(model.view("tank")).toMatchObject({ pass: "paused", window: null, isMissed: false });
    model.run(10 * DAY_MS);
    expect([model.isRunning("tank"), model.missed().length]).toEqual([false, 1]);
  });

  test("once a month, and the array is away: the window opens when it is there again", () => {
    const model = modelWith({ passMs: HOUR_MS, schedule: nightly({ cron: "0 1 5 * *" }) });
    model.array("tank").state = "degraded";
    model.run(8 * DAY_MS);
    expect(model.missed()[0]?.message).toContain("as soon as it can be scrubbed");
    expect(model.view("tank")).toMatchObject({ window: null, isMissed: true });
    model.array("tank").state = "clean";
    model.run(2 * MINUTE_MS);
    expect(model.view("tank")).toMatchObject({ pass: "running", isMissed: false });
  });

  test("a scrub that was not due: a night without anybody is no miss", () => {
    const model = modelWith({ passMs: HOUR_MS });
    runTo(model, "12:00");
    model.stop("SIGTERM");
    model.run(3 * DAY_MS);
    model.start();
    model.run(HOUR_MS);
    expect(model.missed()).toEqual([]);
  });
});

describe("by hand", () => {
  test("a scrub that a person started: not paused at the end of the window", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "00:30");
    model.startScrub(testUuid("tank"), "check");
    runTo(model, "04:00");
    expect(model.view("tank")).toMatchObject({ pass: "running-by-hand", window: null });
    runTo(model, "12:00");
    expect(model.view("tank")).toMatchObject({ pass: "none", isDue: false, lastResult: "clean" });
    expect(model.missed()).toEqual([]);
  });

  test("the schedule's pass, resumed by a person in the day: theirs from then on", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "04:00");
    model.startScrub(testUuid("tank"), "check");
    model.run(HOUR_MS);
    expect(model.view("tank")).toMatchObject({ pass: "running-by-hand", job: 1 });
    runTo(model, "12:00");
    expect(model.view("tank").pass).toBe("none");
  });

  test("the schedule's pass, paused by a person: left alone in this window, goes on in the next", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "01:30");
    model.pauseScrub(testUuid("tank"));
    runTo(model, "02:30");
    expect(model.view("tank")).toMatchObject({
      ...{ pass: "paused-by-hand", job: 1 },
      waitsFor: "the next window: the scrub of this one was stopped by hand, or failed",
    });
    model.stop("SIGKILL");
    model.start();
    runTo(model, "02:50");
    expect(model.view("tank").pass).toBe("paused-by-hand");
    runTo(model, "01:30");
    expect(model.view("tank")).toMatchObject({ pass: "running", job: 1 });
    runTo(model, "03:01");
    expect(model.view("tank").pass).toBe("paused");
    expect(model.missed()).toEqual([]);
  });

  test("the schedule's pass, ended by a person: none in this window, another one in the next", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    runTo(model, "01:30");
    model.cancelScrub("tank");
    runTo(model, "02:30");
    expect(model.view("tank")).toMatchObject({ pass: "none", lastResult: "cancelled" });
    runTo(model, "01:30");
    expect(model.view("tank")).toMatchObject({ pass: "running", job: 2 });
  });

  test("what a person has paused before the window opens: goes on in it", () => {
    const model = modelWith({ passMs: 5 * HOUR_MS });
    model.startScrub(testUuid("tank"), "check");
    model.run(HOUR_MS);
    model.pauseScrub(testUuid("tank"));
    runTo(model, "01:01");
    expect(model.view("tank")).toMatchObject({ pass: "running", job: 1 });
  });
});

describe("one disk", () => {
  function twoOnOneDisk(schedule = nightly()): ScheduleModel {
    const model = new ScheduleModel("2026-05-01T12:00:00Z");
    model.add("one", { passMs: 3 * HOUR_MS, disks: ["p", "q", "r"] });
    model.add("two", { passMs: HOUR_MS / 2, disks: ["s", "t", "p"] });
    model.start();
    model.put("one", schedule);
    model.put("two", schedule, true);
    return model;
  }

  test("both are due in one window: never at once, the older last scrub first, both are done", () => {
    const model = twoOnOneDisk();
    model.array("one").lastScrub = {
      ...{ mode: "check", finishedAt: "2026-04-02T00:00:00.000Z", mismatchBytes: 0, lostBytes: 0 },
    };
    model.array("two").lastScrub = {
      ...{ mode: "check", finishedAt: "2026-04-03T00:00:00.000Z", mismatchBytes: 0, lostBytes: 0 },
    };
    runTo(model, "01:30");
    expect(model.view("one").pass).toBe("running");
    expect(model.view("two")).toMatchObject({
      ...{ pass: "none", isDue: true },
      waitsFor: "the end of the scrub of array one, which lies on disk p too",
    });
    for (let minute = 0; minute < 2 * 24 * 60; minute += 1) {
      model.run(MINUTE_MS);
      expect(model.isRunning("one") && model.isRunning("two")).toBe(false);
    }
    expect([model.view("one").isDue, model.view("two").isDue]).toEqual([false, false]);
    expect(model.missed()).toEqual([]);
  });

  test("a scrub by hand on the disk: waited for", () => {
    const model = twoOnOneDisk();
    runTo(model, "00:50");
    model.startScrub(testUuid("two"), "check");
    runTo(model, "01:10");
    expect(model.view("one")).toMatchObject({
      pass: "none",
      waitsFor: expect.stringContaining("two"),
    });
    runTo(model, "01:30");
    expect(model.view("one").pass).toBe("running");
  });

  test("a disk that another array's scrub has all night: no miss, and the turn comes", () => {
    const model = twoOnOneDisk();
    model.array("two").lastScrub = {
      ...{ mode: "check", finishedAt: "2026-04-03T00:00:00.000Z", mismatchBytes: 0, lostBytes: 0 },
    };
    runTo(model, "04:00");
    expect([model.view("one").pass, model.view("two").pass]).toEqual(["paused", "none"]);
    model.run(2 * DAY_MS);
    expect([model.view("two").lastResult, model.missed()]).toEqual(["clean", []]);
  });
});
