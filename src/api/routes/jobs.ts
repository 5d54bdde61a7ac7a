/** /v1/jobs: long work, under way and ended. */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import type { Effects } from "../../appliance/state/effects.ts";
import { type CommandError, isSetAside, type JobStatus } from "../../array/protocol.ts";
import { explainJob } from "../../array/sync/scrub-explain.ts";
import { ok } from "../../base/result.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, addRoute, answer, json } from "../route.ts";
import { idParams, jobQuery, jobSchema } from "../schemas.ts";

export function addJobRoutes(app: ApiApp, appliance: Appliance): void {
  const oneJob = { 200: { description: "The job", schema: jobSchema } };
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/jobs",
      summary: "Every job that is kept, newest first",
      answers: { 200: { description: "The jobs", schema: z.array(jobSchema) } },
    },
    async () => answer(await appliance.jobs.list()),
  );
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/jobs/{id}",
      summary:
        "One job; ?wait=SECONDS answers when it has ended or the time is up; ?explain=true: of a " +
        "scrub, which bytes of the exported device its ranges concern",
      params: idParams,
      query: jobQuery,
      answers: oneJob,
    },
    async ({ params, query, context }) => {
      const { signal } = context.req.raw;
      const options = { timeoutMs: query.wait * 1_000, signal };
      const { jobs } = appliance;
      const job = await (query.wait === 0 ? jobs.get(params.id) : jobs.wait(params.id, options));
      return answer(job.ok && query.explain ? explainJob(job.value) : job);
    },
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/jobs/{id}",
      summary: "Cancel a job",
      params: idParams,
      answers: oneJob,
    },
    async ({ params, effects }) => answer(await appliance.jobs.cancel(params.id, effects)),
  );
}

/**
 * The answer to a call that began a job: 202 with the job. With a wait, 200 once it is done; a job
 * that failed, was cancelled or set aside is a problem here, where it was asked for, so that
 * `curl --fail` in a cron line reports it. Where it is strict, so is what a scrub found, and a
 * scrub that has not ended when the time is up. `isExplained`: of a scrub, with what its ranges
 * concern.
 */
export async function startedJobAnswer(
  appliance: Appliance,
  {
    job,
    effects,
    waitSeconds,
    signal,
    isStrict = false,
    isExplained = false,
  }: {
    job: JobStatus;
    /** Those of the call: a job that is only told of is not waited for. */
    effects: Effects;
    waitSeconds: number;
    signal: AbortSignal;
    isStrict?: boolean;
    isExplained?: boolean;
  },
): Promise<Response> {
  const headers = { Location: `/v1/jobs/${job.id}` };
  const told = (known: JobStatus, status: number): Response => {
    const shown = isExplained ? explainJob(known) : ok(known);
    return shown.ok ? json(shown.value, { status, headers }) : problemResponse(shown.error);
  };
  if (waitSeconds === 0 || effects.isDry) return told(job, 202);
  const waited = await appliance.jobs.wait(job.id, { timeoutMs: waitSeconds * 1_000, signal });
  if (!waited.ok) return problemResponse(waited.error);
  const { state, error, kind } = waited.value;
  const why = `${kind} job ${job.id} ${state}: ${error ?? "no reason on record"}`;
  if (state === "failed") return problemResponse({ kind: "io", code: "job-failed", detail: why });
  if (state === "cancelled") {
    return problemResponse({ kind: "conflict", code: "job-cancelled", detail: why });
  }
  if (isSetAside(waited.value)) {
    const detail = `${kind} job ${job.id} was set aside, and goes on by itself: ${error}`;
    return problemResponse({ kind: "conflict", code: "job-set-aside", detail });
  }
  const finding = isStrict ? strictFinding(waited.value) : null;
  if (finding !== null) return problemResponse(finding);
  return told(waited.value, state === "done" ? 200 : 202);
}

type Finding = (code: string, what: string) => CommandError;

function nameOf(kind: JobStatus["kind"]): string {
  return kind === "rehearsal" ? kind : "scrub";
}

function badEnding(
  found: Finding,
  { verdict, fails, obstacle }: JobStatus["result"],
): CommandError {
  const why = obstacle === undefined ? "" : `: ${obstacle}`;
  return found("rehearsal-failed", `ends "${verdict}" without drive ${fails}${why}`);
}

/** What keeps a scrub or a rehearsal from being a success where only a faultless one is. */
function strictFinding({ id, kind, state, result }: JobStatus): CommandError | null {
  const found: Finding = (code, what) => {
    const detail = `${kind} job ${id} ${what}; GET /v1/jobs/${id}?explain=true has the ranges`;
    return { kind: "conflict", code, detail };
  };
  if (state !== "done") {
    return found(`${nameOf(kind)}-not-ended`, `is ${state}: not all of it was read`);
  }
  if (kind === "rehearsal") {
    return result["verdict"] === "rebuilt" ? null : badEnding(found, result);
  }
  const mismatchBytes = Number(result["mismatchBytes"] ?? 0);
  const lostBytes = Number(result["lostBytes"] ?? 0);
  if (lostBytes > 0) return found("sectors-lost", `found ${lostBytes} bytes that no member gives`);
  if (mismatchBytes === 0) return null;
  const repaired = kind === "repair" ? "repaired" : "found";
  return found("mismatches-found", `${repaired} ${mismatchBytes} bytes whose parity did not match`);
}
