/** What a verb says that has begun a job: of members, of a growth. */
import type { JobStatus } from "../../array/protocol.ts";
import { type DaemonClient, fail } from "../client.ts";
import type { Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { followJob, jobSummary } from "../progress.ts";

/** Says that a job has begun; with --wait, how it ended. */
export async function followBegun(
  invocation: Invocation,
  host: CliHost,
  client: DaemonClient,
  { kind, id, ...rest }: JobStatus,
): Promise<number> {
  if (invocation.isSet("dry-run")) {
    host.print(`a ${kind} job would begin`);
    return Exit.ok;
  }
  if (!invocation.isSet("wait")) {
    host.print(`${kind} job ${id} has begun: parityd job wait ${id}`);
    return Exit.ok;
  }
  const job = await followJob(host, client, { kind, id, ...rest });
  if (!job.ok) return fail(host, job.error);
  host.print(jobSummary(job.value));
  const { state, result } = job.value;
  const hasLost = Number(result["lostBytes"] ?? 0) > 0;
  return state === "done" && !hasLost ? Exit.ok : Exit.failed;
}
