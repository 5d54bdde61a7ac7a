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

export async function followJob(
  host: CliHost,
  client: DaemonClient,
  first: JobStatus,
): Promise<Result<JobStatus, CallError>> {
  let job = first;
  let shownTenth = 0;
  while (job.state === "running") {
    const tenth = job.total === 0 ? 0 : Math.floor((job.done / job.total) * 10);
    if (host.isTerminal) host.redraw(`${job.kind} ${progressBar(job)}  ${formatProgress(job)}`);
    else if (tenth > shownTenth) host.warn(`${job.kind} ${job.array}: ${formatProgress(job)}`);
    shownTenth = Math.max(shownTenth, tenth);
    const answer = await client.job(job.id, 1);
    if (!answer.ok) return answer;
    job = answer.value.value;
  }
  if (host.isTerminal) host.redraw("");
  return ok(job);
}

export function progressBar({ done, total }: { done: number; total: number }): string {
  const filled = total === 0 ? 0 : Math.floor((done / total) * BAR_WIDTH);
  return `[${"#".repeat(filled)}${"-".repeat(BAR_WIDTH - filled)}]`;
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
