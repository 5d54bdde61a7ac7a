/**
 * What a schedule does now: one pure decision from the clock on the wall, what is remembered and
 * what is. Whoever looks (scheduler.ts) acts, and looks again.
 *
 * **Whose a scrub is.** What a person has started, resumed, paused or ended by hand is theirs. The
 * schedule never pauses a scrub that a person started or resumed. Where a person has paused one, or
 * ended one, while a window was open, the schedule begins nothing more in that window; in the next
 * one it goes on with what is paused, and that pass is its own then. It is known by what is found,
 * not by who called (`notice`):
 *
 * | remembered \ found | it runs       | it is paused            | it is gone, not done   |
 * |--------------------|---------------|-------------------------|------------------------|
 * | nothing, another   | `theirs-runs` | `theirs-paused`, passed | nothing                |
 * | `runs`             | `runs`        | `theirs-paused`, passed | nothing, passed        |
 * | `pausing`          | `pausing`     | `paused`                | nothing, passed        |
 * | `paused`           | `theirs-runs` | `paused`                | nothing, passed        |
 * | `theirs-runs`      | `theirs-runs` | `theirs-paused`, passed | nothing, passed        |
 * | `theirs-paused`    | `theirs-runs` | `theirs-paused`         | nothing, passed        |
 *
 * "Passed": nothing is begun any more in the window that is open, if one is. `pausing` is noted
 * before the schedule pauses its pass; one that still runs in a window is `runs` again. A pass that
 * failed is not tried again in the same window either: it would fail each minute.
 *
 * **What is wanted.** A pass that is paused goes on in the next window, whatever its age. Where
 * there is none, one starts in a window as soon as the last scrub of the array, whoever started it,
 * is older than `maxAgeDays`. A last scrub more than a day ahead of the clock tells of a clock that
 * was wrong, and counts for nothing.
 *
 * **Missed nights.** A whole window in which a pass was wanted, and neither the daemon nor the
 * array was there to have one, is missed. That is told once, until it has been made up for: by the
 * next window where one opens within 24 hours, else by one of the same length that opens as soon as
 * the array can be scrubbed. To wait for a disk that another array's scrub has is no miss.
 *
 * **Clocks.** A moment that is remembered and lies ahead of the clock (it was set back) counts as
 * now. A clock that is set forward over a window has missed it.
 */
import type { JobStatus } from "../../array/protocol.ts";
import type { ScheduleMemory } from "../state/state.ts";
import {
  closedWindow,
  DAY_MS,
  nextWindow,
  type Schedule,
  type Window,
  windowAt,
  windowFrom,
} from "./schedule.ts";

/** The scrub of the array that is under way. */
export type Scrub =
  | { readonly kind: "none" }
  | { readonly kind: "running" | "paused"; readonly jobId: number };

export interface Facts {
  readonly nowMs: number;
  readonly schedule: Schedule;
  readonly memory: ScheduleMemory;
  /** Null: it never was scrubbed. */
  readonly lastScrubMs: number | null;
  readonly scrub: Scrub;
  /** The job of `memory.pass` where that has ended; null: it has not, or nobody knows. */
  readonly ended: JobStatus | null;
  /** Why the array cannot be scrubbed now; null: it can. */
  readonly obstacle: string | null;
  /** Whose scrub has one of its disks; null: they are free. */
  readonly diskTaken: string | null;
}

export type Action =
  | { readonly kind: "start" }
  | { readonly kind: "resume"; readonly jobId: number }
  | { readonly kind: "pause"; readonly jobId: number }
  /** To be told; then it is decided again. */
  | { readonly kind: "missed"; readonly window: Window; readonly nextMs: number | null }
  /** With what a pass that is wanted waits for. */
  | { readonly kind: "nothing"; readonly waitsFor: string | null };

export interface Decision {
  readonly action: Action;
  /** What is to be remembered, whether or not the action can be taken. */
  readonly memory: ScheduleMemory;
  /** The one that is open. */
  readonly window: Window | null;
}

/** Of a schedule that begins, or has been changed: windows before it are no concern. */
export function newMemory(nowMs: number, before: ScheduleMemory | null): ScheduleMemory {
  const kept = before ?? { pass: null, passedMs: null, last: null };
  const { pass, passedMs, last } = kept;
  return { pass, passedMs, last, accountedMs: nowMs, isOwed: false, makeUp: null };
}

/** Of a daemon that starts: a pass that was lost with the last one is over, by nobody's wish. */
export function restartedMemory(
  memory: ScheduleMemory,
  isOpen: (jobId: number) => boolean,
): ScheduleMemory {
  const { pass } = memory;
  return pass === null || isOpen(pass.jobId) ? memory : { ...memory, pass: null };
}

/** The scrub that was to start or go on does. */
export function begun(memory: ScheduleMemory, jobId: number, window: Window): ScheduleMemory {
  const used = accounted(memory, window.opensMs);
  return { ...used, pass: { jobId, state: "runs" }, isOwed: false };
}

/** The pass is about to be paused by the schedule. */
export function pausing(memory: ScheduleMemory, jobId: number): ScheduleMemory {
  return { ...memory, pass: { jobId, state: "pausing" } };
}

export function isDue(
  { schedule, lastScrubMs, nowMs }: Pick<Facts, "schedule" | "lastScrubMs" | "nowMs">,
  atMs: number,
): boolean {
  if (lastScrubMs === null || lastScrubMs > nowMs + DAY_MS) return true;
  return atMs - lastScrubMs >= schedule.maxAgeDays * DAY_MS;
}

export function decide(facts: Facts): Decision {
  const { schedule, nowMs, scrub, obstacle } = facts;
  const clocked = byTheClock(facts.memory, nowMs);
  const regular = windowAt(schedule, nowMs);
  const open = regular ?? clocked.makeUp;
  const noticed = notice(clocked, facts, open);
  const missed = missedWindow(noticed, facts);
  const memory = missed === null ? noticed : accounted(noticed, missed.opensMs);
  const isWanted = wantsAt(facts, nowMs);
  if (missed !== null && !memory.isOwed) {
    const nextMs = open?.opensMs ?? nextWithinADay(schedule, nowMs);
    const action = { kind: "missed", window: missed, nextMs } as const;
    return { action, memory: { ...memory, isOwed: true }, window: open };
  }
  if (memory.isOwed && !isWanted && scrub.kind === "none") {
    return decideIn(regular, facts, { ...memory, isOwed: false, makeUp: null });
  }
  const isForNow = memory.isOwed && isWanted && open === null && obstacle === null;
  if (!isForNow || nextWithinADay(schedule, nowMs) !== null) return decideIn(open, facts, memory);
  const makeUp = windowFrom(schedule, nowMs);
  return decideIn(makeUp, facts, { ...memory, makeUp });
}

function decideIn(window: Window | null, facts: Facts, memory: ScheduleMemory): Decision {
  const { scrub } = facts;
  const isOwn = memory.pass?.state === "runs" || memory.pass?.state === "pausing";
  const waiting = (waitsFor: string | null, then = memory): Decision => {
    return { action: { kind: "nothing", waitsFor }, memory: then, window };
  };
  if (window === null) {
    if (scrub.kind !== "running" || !isOwn) return waiting(null);
    return { action: { kind: "pause", jobId: scrub.jobId }, memory, window };
  }
  if (scrub.kind === "running") return waiting(null, accounted(memory, window.opensMs));
  if (!wantsAt(facts, facts.nowMs)) return waiting(null);
  if (memory.passedMs === window.opensMs) return waiting(BY_HAND);
  if (facts.obstacle !== null) return waiting(facts.obstacle);
  if (facts.diskTaken !== null) {
    return waiting(facts.diskTaken, accounted(memory, window.opensMs));
  }
  if (scrub.kind === "none") return { action: { kind: "start" }, memory, window };
  return { action: { kind: "resume", jobId: scrub.jobId }, memory, window };
}

const BY_HAND = "the next window: the scrub of this one was stopped by hand, or failed";

/** A pass is wanted then: one that is paused always, another one when the last is too old. */
function wantsAt(facts: Facts, atMs: number): boolean {
  if (facts.scrub.kind === "none") return isDue(facts, atMs);
  return facts.scrub.kind === "paused";
}

/** The last window that was closed, where nobody was there to use it. */
function missedWindow(memory: ScheduleMemory, facts: Facts): Window | null {
  const closed = closedWindow(facts.schedule, facts.nowMs);
  if (closed === null || closed.opensMs <= memory.accountedMs) return null;
  if (closed.opensMs === memory.passedMs || !wantsAt(facts, closed.opensMs)) return null;
  return closed;
}

function nextWithinADay(schedule: Schedule, nowMs: number): number | null {
  const opensMs = nextWindow(schedule, nowMs)?.opensMs ?? null;
  return opensMs !== null && opensMs <= nowMs + DAY_MS ? opensMs : null;
}

function accounted(memory: ScheduleMemory, opensMs: number): ScheduleMemory {
  return opensMs <= memory.accountedMs ? memory : { ...memory, accountedMs: opensMs };
}

/** A clock that was set back leaves nothing that lies ahead of it. */
function byTheClock(memory: ScheduleMemory, nowMs: number): ScheduleMemory {
  const { makeUp } = memory;
  const accountedMs = Math.min(memory.accountedMs, nowMs);
  if (makeUp === null) return { ...memory, accountedMs };
  if (nowMs < makeUp.opensMs) return { ...memory, accountedMs, isOwed: true, makeUp: null };
  return { ...memory, accountedMs, makeUp: nowMs < makeUp.closesMs ? makeUp : null };
}

/** The table above: what has become of the pass since the last look, and by whose hand. */
function notice(memory: ScheduleMemory, facts: Facts, open: Window | null): ScheduleMemory {
  const { scrub } = facts;
  const passedMs = open?.opensMs ?? memory.passedMs;
  const known = noticeEnd(memory, facts);
  if (scrub.kind === "none") {
    if (known.pass === null) return known;
    const isDone = facts.ended?.state === "done";
    return { ...known, pass: null, passedMs: isDone ? memory.passedMs : passedMs };
  }
  const { jobId } = scrub;
  const was = known.pass?.jobId === jobId ? known.pass.state : null;
  if (scrub.kind === "running") {
    if (was === "runs" || was === "theirs-runs") return known;
    if (was === "pausing")
      return open === null ? known : { ...known, pass: { jobId, state: "runs" } };
    return { ...known, pass: { jobId, state: "theirs-runs" } };
  }
  if (was === "paused" || was === "theirs-paused") return known;
  if (was === "pausing") return { ...known, pass: { jobId, state: "paused" } };
  return { ...known, pass: { jobId, state: "theirs-paused" }, passedMs };
}

/** How a pass of the schedule's own has ended is remembered. */
function noticeEnd(memory: ScheduleMemory, { ended }: Facts): ScheduleMemory {
  const { pass } = memory;
  if (ended === null || pass === null || pass.jobId !== ended.id) return memory;
  if (pass.state === "theirs-runs" || pass.state === "theirs-paused") return memory;
  return { ...memory, last: endOf(ended) };
}

function endOf(job: JobStatus): ScheduleMemory["last"] {
  const bytesOf = (fact: string): number => Number(job.result[fact] ?? 0);
  const outcome =
    bytesOf("lostBytes") > 0 ? "lost" : bytesOf("mismatchBytes") > 0 ? "mismatches" : "clean";
  const endedAt = job.finishedAt ?? "";
  if (job.state === "done") return { jobId: job.id, endedAt, result: outcome, error: null };
  const result = job.state === "failed" ? "failed" : "cancelled";
  return { jobId: job.id, endedAt, result, error: job.error };
}
