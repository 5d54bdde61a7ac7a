/**
 * Waits for a job and shows how far it is: one line drawn over itself on a terminal, a line every
 * 10 % elsewhere (a cron mail stays short).
 */

import type { JobStatus } from "../array/protocol.ts";
import { printable } from "../base/printable.ts";
import { formatProgress } from "../base/quantity.ts";
import { ok, type Result } from "../base/result.ts";
import type { CallError, DaemonClient } from "./client.ts";
import type { CliHost } from "./host.ts";

const BAR_WIDTH = 24;
const BAR_WIDTH_MIN = 4;

export async function followJob(
  host: CliHost,
  client: DaemonClient,
  first: JobStatus,
): Promise<Result<JobStatus, CallError>> {
  let job = first;
  let shownTenth = 0;
  while (job.state === "running") {
    const tenth = job.total === 0 ? 0 : Math.floor((job.done / job.total) * 10);
    if (host.isTerminal) host.redraw(progressLine(job, host.progressColumns));
    else if (tenth > shownTenth) host.warn(`${job.kind} ${job.array}: ${formatProgress(job)}`);
    shownTenth = Math.max(shownTenth, tenth);
    const answer = await client.job(job.id, 1);
    if (!answer.ok) return answer;
    job = answer.value.value;
  }
  if (host.isTerminal) host.redraw("");
  return ok(job);
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
