/** Ways to break scrub schedules: windows, whose a scrub is, missed nights, disks, clocks. */
import type { Mutation } from "./mutations.ts";

const DECISION = "./test/unit/appliance/schedule-decision.test.ts";
const NIGHTS = "./test/unit/appliance/scheduler.test.ts";

export const SCHEDULE_MUTATIONS: readonly Mutation[] = [
  {
    name: "schedules: the zone is the host's",
    rule: null,
    file: "src/appliance/schedules/schedule.ts",
    find: "return Bun.cron.parse(cron, Math.max(0, atMs), { tz: timezone })?.getTime() ?? null;",
    replace: "return Bun.cron.parse(cron, Math.max(0, atMs), { tz: 'UTC' })?.getTime() ?? null;",
    test: ["./test/unit/appliance/schedule.test.ts"],
  },
  {
    name: "schedules: a scrub that a person resumed is paused at the end of the window",
    rule: null,
    file: "src/appliance/schedules/decision.ts",
    find: 'return { ...known, pass: { jobId, state: "theirs-runs" } };',
    replace: 'return { ...known, pass: { jobId, state: "runs" } };',
    test: [NIGHTS, "-t", "by hand"],
  },
  {
    name: "schedules: what a person paused goes on in the same window",
    rule: null,
    file: "src/appliance/schedules/decision.ts",
    find: "if (memory.passedMs === window.opensMs) return waiting(BY_HAND);",
    replace: "",
    test: [DECISION],
  },
  {
    name: "schedules: a window that nobody used is not missed",
    rule: null,
    file: "src/appliance/schedules/decision.ts",
    find: "if (closed === null || closed.opensMs <= memory.accountedMs) return null;",
    replace: "if (closed === null || closed.opensMs >= memory.accountedMs) return null;",
    test: [NIGHTS, "-t", "missed"],
  },
  {
    name: "schedules: a clock that was wrong once keeps every pass away",
    rule: null,
    file: "src/appliance/schedules/decision.ts",
    find: "if (lastScrubMs === null || lastScrubMs > nowMs + DAY_MS) return true;",
    replace: "if (lastScrubMs === null) return true;",
    test: [DECISION, "-t", "years ahead"],
  },
  {
    name: "schedules: two arrays on one disk are scrubbed at once",
    rule: null,
    file: "src/appliance/schedules/scheduler.ts",
    find: "if (await this.start(stored, { action, window: window! })) scene.take(arrayUuid);",
    replace: "await this.start(stored, { action, window: window! });",
    test: [NIGHTS, "-t", "one disk"],
  },
  {
    name: "schedules: a pass that the stop of the daemon paused is taken for a person's",
    rule: null,
    file: "src/appliance/schedules/scheduler.ts",
    find: "book.remember(arrayUuid, (memory) => pausing(memory, jobId));",
    replace: "",
    test: [NIGHTS, "-t", "nights in a row"],
  },
  {
    name: "schedules: a deletion keeps the schedule",
    rule: null,
    file: "src/appliance/array-standing.ts",
    find: '...(isScheduled ? [{ kind: "delete-schedule", arrayUuid: uuid } as const] : []),',
    replace: "...(isScheduled ? [] : []),",
    test: ["./test/unit/api/schedules.test.ts"],
  },
  {
    name: "schedules: a refused deletion takes the schedule away",
    rule: null,
    file: "src/appliance/array-standing.ts",
    find: '...(schedule === undefined ? [] : [{ kind: "put-schedule", schedule } as const]),',
    replace: "",
    test: ["./test/unit/api/schedules.test.ts"],
  },
  {
    name: "schedules: jobs before a crash are forgotten, a paused pass among them",
    rule: null,
    file: "src/appliance/state/state.ts",
    find: "if (this.jobs.size <= KEPT_JOBS) break;",
    replace: "if (id > this.lastJobId - KEPT_JOBS) break;",
    test: ["./test/life/schedules.test.ts", "-t", "is killed"],
  },
];
