/**
 * Goal: what a schedule does is right in every situation, and what a person did stays theirs.
 * Method: all combinations of what `decide` is told, against the rules written down once more, each
 * as one condition; what has become of a pass against the table in decision.ts; then moments whose
 * facts are made up, with clocks that jump.
 */
import { describe, expect, test } from "bun:test";
import {
  type Action,
  begun,
  decide,
  type Facts,
  newMemory,
  pausing,
  restartedMemory,
  type Scrub,
} from "../../../src/appliance/schedules/decision.ts";
import { type Schedule, windowAt } from "../../../src/appliance/schedules/schedule.ts";
import type { ScheduleMemory } from "../../../src/appliance/state/state.ts";
import type { JobStatus } from "../../../src/array/protocol.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** A night at one, UTC. */
const OPENS_MS = Date.parse("2026-05-05T01:00:00Z");
const SCHEDULE: Schedule = {
  ...{ cron: "0 1 * * *", timezone: "UTC", windowMinutes: 360 },
  ...{ maxAgeDays: 30, mode: "check", limitBytesPerSecond: null },
};
const MONTHLY: Schedule = { ...SCHEDULE, cron: "0 1 5 * *" };
const MEMORY: ScheduleMemory = {
  ...{ accountedMs: OPENS_MS - DAY_MS, pass: null, passedMs: null },
  ...{ isOwed: false, makeUp: null, last: null },
};
const FACTS: Facts = {
  ...{ nowMs: OPENS_MS + HOUR_MS, schedule: SCHEDULE, memory: MEMORY, lastScrubMs: null },
  ...{ scrub: { kind: "none" }, ended: null, obstacle: null, diskTaken: null },
};

function job(state: JobStatus["state"], rest: Partial<JobStatus> = {}): JobStatus {
  return {
    ...{ id: 7, kind: "check", array: "a", arrayUuid: "u", state, done: 0, total: 1 },
    ...{ unit: "bytes", rateBytesPerSecond: 0, etaSeconds: null, error: null, result: {} },
    ...{ startedAt: "2026-05-05T01:00:00.000Z", finishedAt: "2026-05-05T02:00:00.000Z" },
    ...rest,
  };
}

describe("all situations", () => {
  const scrubs: readonly Scrub[] = [
    { kind: "none" },
    { kind: "running", jobId: 7 },
    { kind: "paused", jobId: 7 },
  ];
  const passes: readonly ScheduleMemory["pass"][] = [
    null,
    ...(["runs", "pausing", "paused", "theirs-runs", "theirs-paused"] as const).flatMap((state) => [
      { jobId: 7, state },
      { jobId: 6, state },
    ]),
  ];
  const isOrNot = [false, true];

  function* situations(): Generator<Facts> {
    // In a window; between two; after one that nobody has used.
    for (const nowMs of [OPENS_MS + HOUR_MS, OPENS_MS - HOUR_MS, OPENS_MS + 8 * HOUR_MS])
      for (const schedule of [SCHEDULE, MONTHLY])
        for (const scrub of scrubs)
          for (const pass of passes)
            for (const ended of [null, job("done"), job("cancelled")])
              for (const isOld of isOrNot)
                for (const obstacle of [null, "x"])
                  for (const diskTaken of [null, "y"])
                    for (const passedMs of [null, OPENS_MS])
                      for (const isOwed of isOrNot)
                        for (const makeUp of [null, around(nowMs)]) {
                          if (ended !== null && (scrub.kind !== "none" || pass?.jobId !== 7))
                            continue;
                          const lastScrubMs = nowMs - (isOld ? 31 : 10) * DAY_MS;
                          const memory = { ...MEMORY, pass, passedMs, isOwed, makeUp };
                          const seen = { nowMs, schedule, scrub, ended, lastScrubMs, memory };
                          yield { ...seen, obstacle, diskTaken };
                        }
  }

  function around(nowMs: number): NonNullable<ScheduleMemory["makeUp"]> {
    return { opensMs: nowMs - HOUR_MS / 2, closesMs: nowMs + HOUR_MS };
  }

  /** The rules, once more. `noticed` is what was known of the pass and the window after the look. */
  function expected(facts: Facts, noticed: ScheduleMemory): string {
    const { nowMs, schedule, scrub, lastScrubMs, obstacle, diskTaken, memory: before } = facts;
    const isDue = nowMs - lastScrubMs! >= 30 * DAY_MS;
    const isWanted = scrub.kind === "paused" || (scrub.kind === "none" && isDue);
    const isAfter = nowMs === OPENS_MS + 8 * HOUR_MS;
    if (isAfter && isWanted && noticed.passedMs !== OPENS_MS && !before.isOwed) return "missed";
    const opensNow = isAfter && schedule === MONTHLY && before.isOwed && obstacle === null;
    const opensMs = windowAt(schedule, nowMs)?.opensMs ?? before.makeUp?.opensMs;
    const windowMs = opensMs ?? (opensNow && isWanted ? nowMs : null);
    if (windowMs === null) {
      const isOwn = noticed.pass?.state === "runs" || noticed.pass?.state === "pausing";
      return scrub.kind === "running" && isOwn ? "pause" : "nothing";
    }
    const isFree = obstacle === null && diskTaken === null && noticed.passedMs !== windowMs;
    if (!isWanted || !isFree) return "nothing";
    return scrub.kind === "none" ? "start" : "resume";
  }

  test("decide: every combination: as the rules say", () => {
    const counts: Record<string, number> = {};
    for (const facts of situations()) {
      const { action, memory } = decide(facts);
      counts[action.kind] = (counts[action.kind] ?? 0) + 1;
      const wanted = expected(facts, memory);
      if (action.kind !== wanted)
        expect({ facts, action }).toEqual({ facts, action: wanted as never });
    }
    for (const kind of ["start", "resume", "pause", "missed", "nothing"]) {
      expect([kind, (counts[kind] ?? 0) > 20]).toEqual([kind, true]);
    }
  });

  test("decide: asked again with what it remembered: the same, and nothing more to remember", () => {
    for (const facts of situations()) {
      const first = decide(facts);
      const second = decide({ ...facts, memory: first.memory, ended: null });
      if (first.action.kind === "missed") expect(second.action.kind).not.toBe("missed");
      else expect(second).toEqual(first);
    }
  });
});

describe("whose a scrub is", () => {
  type State = NonNullable<ScheduleMemory["pass"]>["state"] | "nothing";
  const RUNNING: Scrub = { kind: "running", jobId: 7 };
  const PAUSED: Scrub = { kind: "paused", jobId: 7 };
  const NONE: Scrub = { kind: "none" };

  for (const [was, running, paused, gone] of [
    ["nothing", "theirs-runs", "theirs-paused passed", "nothing"],
    ["runs", "runs", "theirs-paused passed", "nothing passed"],
    ["pausing", "runs", "paused", "nothing passed"],
    ["paused", "theirs-runs", "paused", "nothing passed"],
    ["theirs-runs", "theirs-runs", "theirs-paused passed", "nothing passed"],
    ["theirs-paused", "theirs-runs", "theirs-paused", "nothing passed"],
  ] as readonly (readonly [State, string, string, string])[]) {
    test(`a pass that was ${was}: running ${running}, paused ${paused}, gone ${gone}`, () => {
      const pass = was === "nothing" ? null : { jobId: 7, state: was };
      const found = [RUNNING, PAUSED, NONE].map((scrub) => {
        const { memory } = decide({ ...FACTS, scrub, memory: { ...MEMORY, pass } });
        const passed = memory.passedMs === OPENS_MS ? " passed" : "";
        return `${memory.pass?.state ?? "nothing"}${passed}`;
      });
      expect(found).toEqual([running, paused, gone]);
    });
  }

  test("another scrub in the place of the schedule's: theirs", () => {
    const pass = { jobId: 6, state: "runs" } as const;
    const { memory, action } = decide({ ...FACTS, scrub: RUNNING, memory: { ...MEMORY, pass } });
    expect([memory.pass?.state, action.kind]).toEqual(["theirs-runs", "nothing"]);
  });

  test("a pass that was done: nothing is passed over, and how it ended is remembered", () => {
    const pass = { jobId: 7, state: "runs" } as const;
    for (const [found, result] of [
      [{}, "clean"],
      [{ mismatchBytes: 8 }, "mismatches"],
      [{ mismatchBytes: 8, lostBytes: 8 }, "lost"],
    ] as const) {
      const ended = job("done", { result: found });
      const { memory } = decide({ ...FACTS, ended, memory: { ...MEMORY, pass } });
      expect(memory).toMatchObject({ pass: null, passedMs: null, last: { result, jobId: 7 } });
    }
    const ended = job("failed", { error: "a member failed" });
    const failed = decide({ ...FACTS, ended, memory: { ...MEMORY, pass } });
    expect(failed.action.kind).toBe("nothing");
    expect(failed.memory.last).toMatchObject({ result: "failed", error: "a member failed" });
    const theirs = { ...MEMORY, pass: { jobId: 7, state: "theirs-runs" } as const };
    expect(decide({ ...FACTS, ended, memory: theirs }).memory.last).toBeNull();
  });

  test("a daemon that starts again: what ran has ended by nobody's wish, what was paused waits", () => {
    for (const state of ["runs", "pausing", "theirs-runs"] as const) {
      const memory = restartedMemory({ ...MEMORY, pass: { jobId: 7, state } }, () => false);
      expect(decide({ ...FACTS, ended: job("cancelled"), memory }).action.kind).toBe("start");
    }
    const paused = { ...MEMORY, pass: { jobId: 7, state: "paused" } as const };
    expect(restartedMemory(paused, (jobId) => jobId === 7)).toBe(paused);
    expect(decide({ ...FACTS, scrub: PAUSED, memory: paused }).action.kind).toBe("resume");
  });
});

test("a pause that was asked for and has not come about: asked for again, outside of windows", () => {
  const memory = pausing({ ...MEMORY, accountedMs: OPENS_MS }, 7);
  const scrub = { kind: "running", jobId: 7 } as const;
  const over = decide({ ...FACTS, nowMs: OPENS_MS + 6 * HOUR_MS, memory, scrub });
  expect([over.action, over.memory.pass?.state]).toEqual([{ kind: "pause", jobId: 7 }, "pausing"]);
});

describe("clocks", () => {
  const noPause = (action: Action): boolean => action.kind !== "pause";

  test("set back by hours or days while a pass runs: paused, and goes on where a window is open", () => {
    for (const hours of [1, 3, 24, 72]) {
      const memory = {
        ...MEMORY,
        accountedMs: OPENS_MS,
        pass: { jobId: 7, state: "runs" } as const,
      };
      const nowMs = OPENS_MS + 2 * HOUR_MS - hours * HOUR_MS;
      const back = decide({ ...FACTS, nowMs, memory, scrub: { kind: "running", jobId: 7 } });
      expect([hours, noPause(back.action)]).toEqual([hours, windowAt(SCHEDULE, nowMs) !== null]);
      expect(back.memory.accountedMs).toBeLessThanOrEqual(nowMs);
    }
  });

  test("set forward over nights: they are missed, told once, and made up for", () => {
    const nowMs = OPENS_MS + 3 * DAY_MS + 12 * HOUR_MS;
    const first = decide({ ...FACTS, nowMs });
    expect(first.action).toMatchObject({
      kind: "missed",
      window: { opensMs: OPENS_MS + 3 * DAY_MS },
      nextMs: OPENS_MS + 4 * DAY_MS,
    });
    const second = decide({ ...FACTS, nowMs, memory: first.memory });
    expect(second.action.kind).toBe("nothing");
    const next = decide({ ...FACTS, nowMs: OPENS_MS + 4 * DAY_MS, memory: second.memory });
    expect(next.action.kind).toBe("start");
    expect(begun(next.memory, 7, next.window!).isOwed).toBe(false);
  });

  test("a last scrub or a window made up for that lies years ahead of the clock: no obstacle", () => {
    const ahead = OPENS_MS + 3_000 * DAY_MS;
    expect(decide({ ...FACTS, lastScrubMs: ahead }).action.kind).toBe("start");
    expect(decide({ ...FACTS, lastScrubMs: FACTS.nowMs + HOUR_MS }).action.kind).toBe("nothing");
    const makeUp = { opensMs: ahead, closesMs: ahead + HOUR_MS };
    const { memory } = decide({ ...FACTS, memory: { ...MEMORY, accountedMs: ahead, makeUp } });
    expect(memory).toMatchObject({ makeUp: null, isOwed: true, accountedMs: FACTS.nowMs });
  });
});

describe("missed", () => {
  const after = { ...FACTS, nowMs: OPENS_MS + 8 * HOUR_MS };

  test("a window before the schedule was set, or that was used: not missed", () => {
    const set = newMemory(OPENS_MS + HOUR_MS, null);
    expect(decide({ ...after, memory: set }).action.kind).toBe("nothing");
    const running = decide({ ...FACTS, scrub: { kind: "running", jobId: 9 } });
    expect(decide({ ...after, memory: running.memory }).action.kind).toBe("nothing");
    const waited = decide({ ...FACTS, diskTaken: "another" });
    expect(decide({ ...after, memory: waited.memory }).action.kind).toBe("nothing");
    const stood = decide({ ...FACTS, obstacle: "the array" });
    expect(decide({ ...after, memory: stood.memory }).action.kind).toBe("missed");
  });

  test("nothing was due, or somebody has scrubbed since: not missed", () => {
    expect(decide({ ...after, lastScrubMs: OPENS_MS - 5 * DAY_MS }).action.kind).toBe("nothing");
    expect(decide({ ...after, lastScrubMs: OPENS_MS + 7 * HOUR_MS }).action.kind).toBe("nothing");
  });

  test("no window within 24 hours: one opens at once, as long as the others, where it can", () => {
    const monthly = { ...after, schedule: MONTHLY };
    const told = decide(monthly);
    expect(told.action).toMatchObject({ kind: "missed", nextMs: null });
    const stands = decide({ ...monthly, memory: told.memory, obstacle: "the array" });
    expect([stands.action.kind, stands.window]).toEqual(["nothing", null]);
    const later = after.nowMs + HOUR_MS;
    const opened = decide({ ...monthly, nowMs: later, memory: stands.memory });
    const window = { opensMs: later, closesMs: later + 6 * HOUR_MS };
    expect(opened).toMatchObject({ action: { kind: "start" }, window });
    const runs = begun(opened.memory, 7, opened.window!);
    const scrub = { kind: "running", jobId: 7 } as const;
    const goesOn = decide({ ...monthly, nowMs: later + 5 * HOUR_MS, memory: runs, scrub });
    expect(goesOn.action.kind).toBe("nothing");
    const over = decide({ ...monthly, nowMs: later + 6 * HOUR_MS, memory: runs, scrub });
    expect(over.action).toEqual({ kind: "pause", jobId: 7 });
    expect(over.memory.makeUp).toBeNull();
  });

  test("told again for another one only when it has been made up for", () => {
    const told = decide(after);
    const again = decide({ ...after, nowMs: after.nowMs + DAY_MS, memory: told.memory });
    expect([told.action.kind, again.action.kind]).toEqual(["missed", "nothing"]);
    const madeUp = begun(again.memory, 7, { opensMs: OPENS_MS + 2 * DAY_MS, closesMs: 0 });
    const paused = { ...after, scrub: { kind: "paused", jobId: 7 } } as const;
    const third = decide({
      ...paused,
      nowMs: after.nowMs + 3 * DAY_MS,
      memory: { ...pausing(madeUp, 7), pass: { jobId: 7, state: "paused" } },
    });
    expect(third.action.kind).toBe("missed");
  });
});
