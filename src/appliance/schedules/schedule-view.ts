/** A schedule as calls see it: what it says, when it is next, how it went. Pure. */
import { isoTime } from "../../base/time.ts";
import type { ScheduleMemory, StoredSchedule } from "../state/state.ts";
import { decide, type Facts, isDue } from "./decision.ts";
import { nextWindow, type Schedule } from "./schedule.ts";

export const PASS_STATES = [
  "none",
  "running",
  "paused",
  "running-by-hand",
  "paused-by-hand",
] as const;
export const LAST_RESULTS = ["clean", "mismatches", "lost", "failed", "cancelled"] as const;

export interface ScheduleView extends Schedule {
  /** The label of the array. */
  readonly array: string;
  readonly arrayUuid: string;
  /** When the next window opens; null: none ever does. */
  readonly next: string | null;
  /** The one that is open now. */
  readonly window: { readonly opensAt: string; readonly closesAt: string } | null;
  /** The last scrub is older than it may be: a pass starts as soon as it can. */
  readonly isDue: boolean;
  /** The scrub that is under way, and whether it is the schedule's or a person's. */
  readonly pass: (typeof PASS_STATES)[number];
  readonly job: number | null;
  /** What keeps a pass that is wanted from going on while a window is open. */
  readonly waitsFor: string | null;
  /** A window was missed and has not been made up for. */
  readonly isMissed: boolean;
  /** When the last pass ended, also one that a person started. */
  readonly last: string | null;
  readonly lastResult: (typeof LAST_RESULTS)[number] | null;
  /** Why the last one did not get to its end. */
  readonly lastError: string | null;
}

/** What the array says of its last scrub. */
export interface LastScrub {
  readonly finishedAt: string;
  readonly mismatchBytes: number;
  readonly lostBytes: number;
}

const PASS_OF: Readonly<
  Record<NonNullable<ScheduleMemory["pass"]>["state"], ScheduleView["pass"]>
> = {
  runs: "running",
  pausing: "running",
  paused: "paused",
  "theirs-runs": "running-by-hand",
  "theirs-paused": "paused-by-hand",
};

export function viewOf(
  stored: StoredSchedule,
  facts: Facts,
  array: { readonly label: string; readonly lastScrub: LastScrub | null },
): ScheduleView {
  const { cron, timezone, windowMinutes, maxAgeDays, mode, limitBytesPerSecond } = stored;
  const { action, memory, window } = decide(facts);
  const opensMs = nextWindow(stored, facts.nowMs)?.opensMs ?? null;
  return {
    ...{ array: array.label, arrayUuid: stored.arrayUuid },
    ...{ cron, timezone, windowMinutes, maxAgeDays, mode, limitBytesPerSecond },
    next: opensMs === null ? null : isoTime(opensMs),
    window:
      window === null
        ? null
        : { opensAt: isoTime(window.opensMs), closesAt: isoTime(window.closesMs) },
    isDue: isDue(facts, facts.nowMs),
    pass: memory.pass === null ? "none" : PASS_OF[memory.pass.state],
    job: memory.pass?.jobId ?? null,
    waitsFor: action.kind === "nothing" ? action.waitsFor : null,
    isMissed: memory.isOwed,
    ...lastOf(memory.last, array.lastScrub),
  };
}

/** The last scrub that was done, or a pass of the schedule's own that was not, after it. */
function lastOf(
  own: ScheduleMemory["last"],
  done: LastScrub | null,
): Pick<ScheduleView, "last" | "lastResult" | "lastError"> {
  const isUndone = own?.result === "failed" || own?.result === "cancelled";
  const isLater = Date.parse(own?.endedAt ?? "") > Date.parse(done?.finishedAt ?? "");
  if (own !== null && (done === null || (isUndone && isLater))) {
    return { last: own.endedAt, lastResult: own.result, lastError: own.error };
  }
  if (done === null) return { last: null, lastResult: null, lastError: null };
  const lastResult = done.lostBytes > 0 ? "lost" : done.mismatchBytes > 0 ? "mismatches" : "clean";
  return { last: done.finishedAt, lastResult, lastError: null };
}
