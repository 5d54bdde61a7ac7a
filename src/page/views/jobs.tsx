/** Long work: under way, at rest, and what has ended. */
import { useEffect, useState } from "preact/hooks";
import type { JobStatus } from "../../array/statuses.ts";
import { formatBytes } from "../../base/units.ts";
import { ActionButtons } from "../actions/array-actions.tsx";
import { cancelAction, pausePath, resume } from "../actions/host-specs.ts";
import type { Answer } from "../answer.ts";
import { call } from "../api.ts";
import { useScene } from "../context.ts";
import { ProgressView } from "../parts/progress.tsx";
import { Table } from "../parts/table.tsx";

export function JobsView() {
  const { status } = useScene();
  const live = status.jobs.filter(isOpen);
  const ended = useEndedJobs(live.map(({ id, state }) => `${id} ${state}`).join());
  return (
    <>
      <h1 tabIndex={-1}>Jobs</h1>
      {live.length === 0 && <p>No work is under way.</p>}
      {live.map((job) => (
        <LiveJob key={job.id} job={job} />
      ))}
      <h2>Ended</h2>
      <Table
        label="Ended jobs"
        heads={["job", "kind", "array", "state", "ended", "found"]}
        rows={ended.map((job) => ({
          key: String(job.id),
          cells: [
            job.id,
            job.kind,
            job.array,
            job.state,
            job.finishedAt ?? "",
            job.error ?? factsOf(job),
          ],
        }))}
      />
    </>
  );
}

function isOpen({ state }: JobStatus): boolean {
  return state === "running" || state === "paused";
}

/** Asked for again when what is under way has become another. */
function useEndedJobs(version: string): readonly JobStatus[] {
  const [jobs, setJobs] = useState<readonly JobStatus[]>([]);
  useEffect(() => {
    let isOld = false;
    void call<readonly JobStatus[]>("GET", "/v1/jobs").then((answer) => {
      if (!isOld && answer.ok) setJobs(answer.value.filter((job) => !isOpen(job)));
    });
    return () => {
      isOld = true;
    };
  }, [version]);
  return jobs;
}

function LiveJob({ job }: { readonly job: JobStatus }) {
  const { done } = useScene();
  const [refusal, setRefusal] = useState<string | null>(null);
  const { id, kind, array, state, done: doneBytes, total, error } = job;
  const { rateBytesPerSecond, etaSeconds } = job;
  const pause = pausePath(job);
  const run = async (label: string, answer: Promise<Answer<unknown>>): Promise<void> => {
    const ended = await answer;
    setRefusal(ended.ok ? null : ended.problem.detail);
    if (ended.ok) done(`job ${id}: ${label}`);
  };
  return (
    <section class="card" aria-labelledby={`job-${id}`}>
      <h2 id={`job-${id}`}>
        {kind} of {array}{" "}
        <small>
          job {id}, {state}
        </small>
      </h2>
      {error !== null && <p>{error}</p>}
      <ProgressView
        label={`${kind} of ${array}`}
        progress={{ done: doneBytes, total, rateBytesPerSecond, etaSeconds }}
      />
      {refusal !== null && (
        <p class="problem" role="alert">
          {refusal}
        </p>
      )}
      <div class="actions">
        {pause !== null && state === "running" && (
          <button type="button" onClick={() => void run("paused", call("POST", pause, {}))}>
            Pause
          </button>
        )}
        {pause !== null && state === "paused" && (
          <button type="button" onClick={() => void run("goes on", resume(job))}>
            Resume
          </button>
        )}
        {kind !== "reshape" && (
          <ActionButtons actions={[["Cancel", cancelAction(job)]]} of={`job ${id}`} />
        )}
      </div>
    </section>
  );
}

/** "mismatchBytes 4.0 KiB, verdict rebuilt". */
function factsOf({ result }: JobStatus): string {
  return Object.entries(result)
    .flatMap(([key, value]) => {
      if (typeof value === "object") return [];
      const isSize = typeof value === "number" && key.endsWith("Bytes");
      return [`${key} ${isSize ? formatBytes(value) : value}`];
    })
    .join(", ");
}
