/** `parityd job list|show|wait|cancel`. */
import type { JobStatus } from "../../array/protocol.ts";
import { formatProgress } from "../../base/quantity.ts";
import { ok, type Result } from "../../base/result.ts";
import { type CallError, DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { followJob, jobSummary } from "../progress.ts";
import { renderTable } from "../table-text.ts";
import { tell } from "../tell.ts";
import { tellJob } from "./begun-job.ts";
import { DRY_RUN, EXPLAIN, RUN_DIR } from "./shared-options.ts";

const OPERANDS = [{ name: "ID", names: "jobs" }] as const;

export const jobCommands: readonly CommandSpec[] = [
  {
    path: ["job", "list"],
    summary: "List the jobs, newest first",
    examples: ["parityd job list"],
    answers: ["parityd.jobs/1"],
    operands: [],
    options: { ...RUN_DIR },
    run: async (invocation, host) => {
      const jobs = await new DaemonClient(host, invocation).get<JobStatus[]>("/v1/jobs");
      if (!jobs.ok) return fail(host, jobs.error);
      const value = { jobs: jobs.value.value };
      const rows = value.jobs.map((job) => [
        job.id,
        job.kind,
        job.array,
        job.state,
        job.error ?? (job.state === "running" ? formatProgress(job) : "-"),
      ]);
      const header = ["id", "kind", "array", "state", "progress"];
      const lines = (columns: number) => renderTable(header, rows, columns);
      tell(invocation, host, { schema: "parityd.jobs/1", value, lines });
      return Exit.ok;
    },
  },
  {
    path: ["job", "show"],
    summary: "Show one job; of a scrub, where it found what",
    examples: ["parityd job show 7 --explain"],
    answers: ["parityd.job/1"],
    operands: OPERANDS,
    options: { ...EXPLAIN, ...RUN_DIR },
    run: (invocation, host) =>
      withJob(invocation, host, async (known, client) => {
        const isExplained = invocation.isSet("explain");
        const job = isExplained ? await explainedJob(client, known.id) : ok(known);
        if (!job.ok) return fail(host, job.error);
        tellJob(invocation, host, job.value);
        return Exit.ok;
      }),
  },
  {
    path: ["job", "wait"],
    summary: "Wait for a job to end; exits 0 where it is done",
    examples: ["parityd job wait 7"],
    answers: ["parityd.job/1"],
    operands: OPERANDS,
    options: RUN_DIR,
    run: (invocation, host) =>
      withJob(invocation, host, async (first, client) => {
        const job = await followJob(host, client, first);
        if (!job.ok) return fail(host, job.error);
        const { value } = job;
        tell(invocation, host, {
          ...{ schema: "parityd.job/1", value, lines: () => [jobSummary(value)] },
        });
        return job.value.state === "done" ? Exit.ok : Exit.failed;
      }),
  },
  {
    path: ["job", "cancel"],
    summary: "Cancel a job",
    examples: ["parityd job cancel 7"],
    answers: ["parityd.job/1"],
    operands: OPERANDS,
    options: { ...DRY_RUN, ...RUN_DIR },
    run: (invocation, host) =>
      withJob(invocation, host, async ({ id }, client) => {
        const cancelled = await client.call<JobStatus>("DELETE", `/v1/jobs/${id}`);
        if (!cancelled.ok) return fail(host, cancelled.error);
        tellJob(invocation, host, cancelled.value.value);
        return Exit.ok;
      }),
  },
];

/** A scrub, with the bytes of the exported device that its ranges concern. */
export async function explainedJob(
  client: DaemonClient,
  id: number,
): Promise<Result<JobStatus, CallError>> {
  const answer = await client.get<JobStatus>(`/v1/jobs/${id}?explain=true`);
  return answer.ok ? ok(answer.value.value) : answer;
}

async function withJob(
  invocation: Invocation,
  host: CliHost,
  use: (job: JobStatus, client: DaemonClient) => Promise<number>,
): Promise<number> {
  const text = invocation.operand(0);
  if (!/^[1-9]\d{0,14}$/.test(text)) return usageFailure(host, `"${text}" is not the id of a job`);
  const client = new DaemonClient(host, invocation);
  const job = await client.job(Number(text), 0);
  return job.ok ? use(job.value.value, client) : fail(host, job.error);
}
