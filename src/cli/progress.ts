/**
 * Waits for a job and shows how far it is: one line drawn over itself on a terminal, a line every
 * 10 % elsewhere (a cron mail stays short).
 */

import { constants } from "node:os";
import type { JobStatus } from "../array/protocol.ts";
import { printable } from "../base/printable.ts";
import { formatPercent, formatProgress } from "../base/quantity.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { CallError, DaemonClient } from "./client.ts";
import { Exit } from "./exit.ts";
import type { CliHost } from "./host.ts";
import { SignalCourse } from "./signals.ts";

const BAR_WIDTH = 24;
const BAR_WIDTH_MIN = 4;

/** An answer this young says how a job is: each look waits a second. */
const FRESH_MS = 3_000;

/**
 * To its end. A job outlives who waits for it: where --timeout is over (exit 1, or as the verb
 * says) and at a signal that stops (128 and its number, as a shell has it) that is said.
 */
export async function followJob(
  host: CliHost,
  client: DaemonClient,
  first: JobStatus,
): Promise<Result<JobStatus, CallError>> {
  let job = first;
  let seenMs = performance.now();
  let shownTenth = 0;
  const end = onStopSignal(host, () => {
    if (host.isTerminal) host.redraw("");
    host.warn(`parityd: ${goesOnText(job)}`);
  });
  while (job.state === "running") {
    const tenth = job.total === 0 ? 0 : Math.floor((job.done / job.total) * 10);
    if (host.isTerminal) host.redraw(progressLine(job, host.progressColumns));
    else if (tenth > shownTenth) host.warn(`${job.kind} ${job.array}: ${formatProgress(job)}`);
    shownTenth = Math.max(shownTenth, tenth);
    const answer = await client.job(job.id, 1);
    if (!answer.ok) {
      end();
      if (host.isTerminal) host.redraw("");
      const isSeen = client.isTimeUp && performance.now() - seenMs < FRESH_MS;
      return isSeen ? err({ exitCode: Exit.failed, message: goesOnText(job) }) : answer;
    }
    job = answer.value.value;
    seenMs = performance.now();
  }
  end();
  if (host.isTerminal) host.redraw("");
  return ok(job);
}

function goesOnText(job: JobStatus): string {
  const { kind, id, array } = job;
  const what = `${kind} job ${id} of ${array} goes on, at ${formatPercent(job)} %`;
  return `${what}: parityd job wait ${id}, or job show ${id}`;
}

/** Says it at the first signal that stops, and leaves; until `end` is called. */
function onStopSignal(host: CliHost, say: () => void): () => void {
  const course = new SignalCourse("stop");
  let isOver = false;
  host.onSignal((signal) => {
    if (course.next(signal, performance.now()) !== "stop") return;
    if (!isOver) say();
    host.exit(128 + (constants.signals[signal as NodeJS.Signals] ?? 0));
  });
  return () => {
    isOver = true;
  };
}

/** "rebuild [####----]  41.3 %  ...": the bar gives way where the terminal is narrow. */
export function progressLine(job: JobStatus, columns: number): string {
  const { kind } = job;
  const progress = formatProgress(job);
  // Brackets and blanks, and the last column, at which a terminal may begin a new line.
  const room = columns - kind.length - progress.length - 6;
  if (room < BAR_WIDTH_MIN) return `${kind}  ${progress}`.slice(0, columns - 1);
  return `${kind} ${progressBar(job, Math.min(BAR_WIDTH, room))}  ${progress}`;
}

export function progressBar(
  { done, total }: { done: number; total: number },
  width = BAR_WIDTH,
): string {
  const filled = total === 0 ? 0 : Math.floor((done / total) * width);
  return `[${"#".repeat(filled)}${"-".repeat(width - filled)}]`;
}

/** "check job 3 of raid_test: done, 0 B of mismatches". */
export function jobSummary(job: JobStatus): string {
  const found = Object.entries(job.result).flatMap(([key, value]) =>
    typeof value === "object" ? [] : [`${key} ${value}`],
  );
  const why = job.error === null ? [] : [job.error];
  const facts = [job.state, ...why, ...found].join(", ");
  return printable(`${job.kind} job ${job.id} of ${job.array}: ${facts}`);
}
