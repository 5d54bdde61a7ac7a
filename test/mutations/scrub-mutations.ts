/** Ways to break a scrub that is set aside and goes on (array/sync/scrub.ts). */
import type { Mutation } from "./mutations.ts";

const STORIES = "./test/sim/array/scrub-aside.test.ts";
const LIVES = "./test/life/scrubs.test.ts";
const SCRUB = "src/array/sync/scrub.ts";

export const SCRUB_MUTATIONS: readonly Mutation[] = [
  {
    name: "scrub: what a repair has told at once is counted again when its stripe is passed",
    rule: null,
    file: SCRUB,
    find: 'if (mode === "check") findings.addMismatches(found);',
    replace: "findings.addMismatches(found);",
    test: [STORIES, "-t", "repair: a spare"],
  },
  {
    name: "scrub: it goes on while a command that it made room for still works",
    rule: null,
    file: SCRUB,
    find: "if (paused === null || !isSetAside(paused) || this.giveWayCount > 0) return;",
    replace: "if (paused === null || !isSetAside(paused)) return;",
    test: [STORIES, "-t", "a member is replaced"],
  },
  {
    name: "scrub: what somebody paused goes on by itself",
    rule: null,
    file: SCRUB,
    find: "if (paused === null || !isSetAside(paused) || this.giveWayCount > 0) return;",
    replace: "if (paused === null || this.giveWayCount > 0) return;",
    test: [STORIES, "-t", "paused by somebody"],
  },
  {
    name: "scrub: what was found before a rest is forgotten",
    rule: null,
    file: SCRUB,
    find: "this.findings = new ScrubReport(geometry, status.result);",
    replace: "this.findings = new ScrubReport(geometry);",
    test: [STORIES, "-t", "stopped, and started"],
  },
  {
    name: "scrub: its place is told every ten seconds alone",
    rule: null,
    file: "src/array/sync/sync-run.ts",
    find: "if (nowMs < this.checkpointAtMs && !isFar) return;",
    replace: "if (nowMs < this.checkpointAtMs) return;",
    test: [STORIES, "-t", "told where it is"],
  },
  {
    name: "scrub: one that ran when the daemon was killed is over",
    rule: null,
    file: "src/appliance/state/job-book.ts",
    find: 'if (isScrub(job)) this.store.putJob({ ...atRest(job), state: "paused", error: CRASHED });',
    replace: "if (isScrub(job)) this.cancelKept(job, CRASHED, nowIso);",
    test: [LIVES, "-t", "check: SIGKILL"],
  },
];
