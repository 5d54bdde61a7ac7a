/**
 * Goal: schedules work with the real daemon around them: its jobs, its arrays, its drives, its
 * state and its end; what the rules are is shown by unit/appliance/scheduler.test.ts.
 * Method: short nights on the simulated machine: windows of a minute, in which a third of the array
 * is scrubbed. By day the machine sleeps: the clock on the wall goes on without it.
 */
import { expect, test } from "bun:test";
import type { ScheduleView } from "../../src/appliance/schedules/schedule-view.ts";
import type { StoredEvent } from "../../src/appliance/state/state.ts";
import type { ArrayStatus, JobStatus } from "../../src/array/protocol.ts";
import { WALL_START_MS } from "../sim/world/simulation.ts";
import { Story } from "./story.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const AT_NOON = { wallAheadMs: Date.parse("2026-05-01T12:00:00Z") - WALL_START_MS };
const CHUNK_KIB = 256;
/** One of the three stripes takes 40 seconds: one each night. */
const NIGHTLY = {
  ...{ cron: "0 1 * * *", windowMinutes: 1, maxAgeDays: 7 },
  limitBytesPerSecond: Math.round((CHUNK_KIB * 1024) / 40),
};
const PASSES = { chunkKiB: CHUNK_KIB, sizeKiB: 3 * CHUNK_KIB, consistencyPolicy: "resync" };

/** The machine sleeps until the clock on the wall says so; then a second goes by. */
function sleepTo(story: Story, time: string): void {
  const today = new Date(story.wallMs).toISOString().slice(0, 10);
  const atMs = Date.parse(`${today}T${time}Z`);
  const forMs = atMs - story.wallMs + (atMs > story.wallMs ? 0 : DAY_MS);
  story.process.world.simulation.jumpWall(forMs);
  // The next look comes within a minute, as after any sleep.
  story.run(SECOND_MS);
}

/** One night from its opening to a minute behind its end. */
function night(story: Story): void {
  sleepTo(story, "00:59:00");
  story.run(MINUTE_MS);
}

function scrubs(story: Story): JobStatus[] {
  const jobs = story.must("GET", "/v1/jobs") as JobStatus[];
  return jobs.filter(({ kind }) => kind === "check" || kind === "repair");
}

function view(story: Story, array = "tank"): ScheduleView {
  return story.must("GET", `/v1/schedules/${array}`);
}

function missed(story: Story): StoredEvent[] {
  const { events } = story.process.appliance;
  return events.since(0, 100_000).filter(({ kind }) => kind === "schedule.missed");
}

test("a pass over three nights: paused at the end of each, one job, its result", () => {
  const story = new Story(3, AT_NOON);
  const { uuid } = story.create("tank", "d1 d2 d3", PASSES);
  story.must("PUT", "/v1/schedules/tank", NIGHTLY);
  for (const [index, done] of [1, 2].entries()) {
    night(story);
    expect([index, view(story).pass]).toEqual([index, "running"]);
    story.run(MINUTE_MS);
    expect(view(story)).toMatchObject({ pass: "paused", window: null, isDue: true });
    expect(scrubs(story)).toMatchObject([{ state: "paused", done: done * CHUNK_KIB * 1024 }]);
  }
  night(story);
  story.run(MINUTE_MS);
  expect(view(story)).toMatchObject({ pass: "none", isDue: false, lastResult: "clean" });
  expect(scrubs(story)).toMatchObject([{ state: "done" }]);
  const { lastScrub } = story.must("GET", "/v1/arrays/tank") as ArrayStatus;
  expect(lastScrub?.finishedAt).toBe(view(story).last!);
  // It is the array's, whatever that is called.
  story.must("PATCH", "/v1/arrays/tank", { name: "pool" });
  expect(view(story, "pool")).toMatchObject({ array: "pool", arrayUuid: uuid });
  night(story);
  expect(view(story, "pool").pass).toBe("none");
  expect(missed(story)).toEqual([]);
});

test("the daemon stops in a window, or is killed: what was paused goes on, and what ran", () => {
  const story = new Story(3, AT_NOON);
  story.create("tank", "d1 d2 d3", PASSES);
  story.must("PUT", "/v1/schedules/tank", NIGHTLY);
  night(story);
  story.run(45 * SECOND_MS);
  const { job } = view(story);
  story.away("SIGTERM", 0);
  story.run(SECOND_MS);
  expect(view(story)).toMatchObject({ pass: "running", job });
  story.run(MINUTE_MS);
  expect(scrubs(story)).toMatchObject([{ id: job, state: "paused", done: CHUNK_KIB * 1024 }]);
  story.away("SIGKILL", 0);
  night(story);
  expect(view(story)).toMatchObject({ pass: "running", job });
  story.away("SIGKILL", 0);
  story.run(SECOND_MS);
  expect(view(story)).toMatchObject({ pass: "running", job });
  expect(missed(story)).toEqual([]);
});

test("a night without the daemon, one without the array: told, and made up for", () => {
  const story = new Story(3, AT_NOON);
  story.create("tank", "d1 d2 d3", PASSES);
  story.must("PUT", "/v1/schedules/tank", NIGHTLY);
  story.away("SIGTERM", DAY_MS);
  story.run(SECOND_MS);
  expect(missed(story)).toHaveLength(1);
  expect(view(story)).toMatchObject({ isMissed: true, isDue: true, pass: "none" });
  night(story);
  expect(view(story)).toMatchObject({ isMissed: false, pass: "running" });
  story.run(MINUTE_MS);
  story.must("POST", "/v1/arrays/tank/stop");
  night(story);
  story.run(2 * MINUTE_MS);
  expect(missed(story)).toHaveLength(2);
  story.must("POST", "/v1/arrays/tank/start");
  night(story);
  expect(view(story)).toMatchObject({ isMissed: false, pass: "running" });
});

test("two arrays with a disk in common: one at a time, by a schedule or by hand", () => {
  const spindles = ["p", "q", "r", "s", "t", "p"];
  const story = new Story(6, { ...AT_NOON, spindles });
  story.create("one", "d1 d2 d3", PASSES);
  story.create("two", "d4 d5 d6", PASSES);
  const fast = { ...NIGHTLY, windowMinutes: 3, limitBytesPerSecond: (CHUNK_KIB * 1024) / 10 };
  const body = { ...fast, limitBytesPerSecond: Math.round(fast.limitBytesPerSecond) };
  story.must("PUT", "/v1/schedules/one", body);
  const refused = story.ask("PUT", "/v1/schedules/two", body);
  expect([refused.status, refused.body.errors[0].pointer]).toEqual([422, "#/cron"]);
  story.must("PUT", "/v1/schedules/two?force=true", body);
  night(story);
  const waiting = ["one", "two"]
    .map((array) => view(story, array))
    .filter(({ waitsFor }) => waitsFor);
  expect(waiting).toMatchObject([
    { waitsFor: expect.stringContaining("disk p too"), pass: "none" },
  ]);
  for (let second = 0; second < 150; second += 1) {
    story.run(SECOND_MS);
    expect(scrubs(story).filter(({ state }) => state === "running").length).toBeLessThanOrEqual(1);
  }
  expect(["one", "two"].map((array) => view(story, array).lastResult)).toEqual(["clean", "clean"]);
});

test("a scrub of a person's, and a pause of a person's, stay theirs", () => {
  const story = new Story(3, AT_NOON);
  story.create("tank", "d1 d2 d3", PASSES);
  story.must("PUT", "/v1/schedules/tank", NIGHTLY);
  night(story);
  story.must("POST", "/v1/arrays/tank/scrub/pause");
  story.run(20 * SECOND_MS);
  expect(view(story)).toMatchObject({
    pass: "paused-by-hand",
    waitsFor: expect.stringContaining("hand"),
  });
  story.run(MINUTE_MS);
  const { limitBytesPerSecond } = NIGHTLY;
  story.must("POST", "/v1/arrays/tank/scrub", { limitBytesPerSecond });
  sleepTo(story, "00:59:50");
  story.run(MINUTE_MS + 30 * SECOND_MS);
  expect(view(story)).toMatchObject({ pass: "running-by-hand", window: null });
});
