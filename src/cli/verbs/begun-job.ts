/** What a verb says that has begun a job: of members, of a growth. */
import type { JobStatus } from "../../array/protocol.ts";
import { type DaemonClient, fail } from "../client.ts";
import type { Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { followJob, jobSummary } from "../progress.ts";
import { rangeLines } from "../range-text.ts";
import { tell } from "../tell.ts";

export function tellBegun(invocation: Invocation, host: CliHost, job: JobStatus): void {
  const { kind, id } = job;
  const lines = (): readonly string[] => [`${kind} job ${id} has begun: parityd job wait ${id}`];
  tell(invocation, host, { schema: "parityd.job/1", value: job, lines });
}

/** How it stands, with the ranges that it found. */
export function tellJob(invocation: Invocation, host: CliHost, job: JobStatus): void {
  const lines = (): readonly string[] => [jobSummary(job), ...rangeLines(job)];
  tell(invocation, host, { schema: "parityd.job/1", value: job, lines });
}

/** Says that a job has begun; with --wait, how it ended. */
export async function followBegun(
  invocation: Invocation,
  host: CliHost,
  client: DaemonClient,
  begun: JobStatus,
): Promise<number> {
  if (invocation.isSet("dry-run")) {
    host.print(`a ${begun.kind} job would begin`);
    return Exit.ok;
  }
  if (!invocation.isSet("wait")) {
    tellBegun(invocation, host, begun);
    return Exit.ok;
  }
  const job = await followJob(host, client, begun);
  if (!job.ok) return fail(host, job.error);
  tellJob(invocation, host, job.value);
  const { state, result } = job.value;
  const hasLost = Number(result["lostBytes"] ?? 0) > 0;
  return state === "done" && !hasLost ? Exit.ok : Exit.failed;
}
