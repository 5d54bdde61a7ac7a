/**
 * `parityd drill --on ARRAY`: the drill on an array that serves. The daemon rehearses the loss of a
 * member and its rebuild without a write to any drive (array/sync/rehearsal.ts); this follows the
 * job and says what the real thing would have met. The job goes on where this is interrupted.
 */
import type { JobStatus } from "../../array/protocol.ts";
import { type CallError, DaemonClient, fail } from "../client.ts";
import type { Invocation } from "../command.ts";
import { Exit, RehearsalExit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { followJob, jobSummary } from "../progress.ts";
import { tell } from "../tell.ts";
import { judgeRehearsal, REHEARSAL_SCHEMA, renderRehearsal } from "./rehearsal-report.ts";

/** Of what `GET /v1/exports` says of one. */
interface ExportEntry {
  readonly name: string;
  readonly arrayUuid: string | null;
}

export async function runRehearsal(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const path = `/v1/arrays/${encodeURIComponent(invocation.text("on") ?? "")}/rehearsal`;
  const drive = invocation.text("fail") ?? null;
  const started = await client.call<JobStatus>("POST", path, { drive });
  if (!started.ok) return notDone(host, started.error);
  if (invocation.isSet("dry-run")) {
    const { fails, spare } = started.value.value.result;
    const onto = spare === "" ? "no spare takes its role" : `its rebuild onto drive ${spare}`;
    host.print(`would rehearse the loss of drive ${fails}: ${onto}`);
    return RehearsalExit.passed;
  }
  const { id } = started.value.value;
  host.warn(`rehearsal job ${id} runs: parityd job cancel ${id} ends it`);
  const job = await followJob(host, client, started.value.value);
  if (!job.ok) return notDone(host, job.error);
  if (job.value.state !== "done") {
    host.warn(`parityd: ${jobSummary(job.value)}`);
    return RehearsalExit.notDone;
  }
  const exports = await client.get<ExportEntry[]>("/v1/exports");
  if (!exports.ok) return notDone(host, exports.error);
  const names = exports.value.value
    .filter(({ arrayUuid }) => arrayUuid === job.value.arrayUuid)
    .map(({ name }) => name);
  const report = judgeRehearsal(job.value, names);
  const lines = (): readonly string[] => [renderRehearsal(report)];
  tell(invocation, host, { schema: REHEARSAL_SCHEMA, value: report, lines });
  return report.verdict === "PASS" ? RehearsalExit.passed : RehearsalExit.failed;
}

/** A refusal says nothing about the array's drives. */
function notDone(host: CliHost, error: CallError): number {
  const code = fail(host, error);
  return code === Exit.failed ? RehearsalExit.notDone : code;
}
