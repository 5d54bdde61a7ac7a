/**
 * The job book: what is known of every job, of this run and of former ones.
 *
 * The reactor says when a job begins and ends; progress in between is asked for, but that of a
 * scrub is told now and then. A job that was still under way when the last run ended can never end
 * any more: it is closed as cancelled, with the reason (a rebuild, resync, replace or reshape goes
 * on as a new job). A scrub goes on as itself: one that ran was set aside by that end, at the
 * place that was told last.
 */
import type { CommandError, JobStatus } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { isoTime } from "../../base/time.ts";
import type { ReactorClient } from "../reactor-client.ts";
import type { Alarms } from "./alarms.ts";
import { isPausedScrub, isScrub } from "./array-book.ts";
import type { Effects } from "./effects.ts";
import type { StateStore } from "./state-store.ts";

export interface WaitOptions {
  readonly timeoutMs: number;
  /** Ends the wait early (the client has hung up). */
  readonly signal?: AbortSignal;
}

export function isFinished(job: JobStatus): boolean {
  return job.state === "done" || job.state === "failed" || job.state === "cancelled";
}

const CRASHED = "parityd ended before the scrub did";
/** What is due goes on at the next start, from what its array says. */
const GOES_ON = new Set<JobStatus["kind"]>(["rebuild", "resync", "replace", "reshape"]);
const ENDED = "parityd ended before the job did; ask for it again";
const REPLACED_BY_NEW = "parityd ended before the job did; it goes on as a new job";

function atRest(job: JobStatus): JobStatus {
  return { ...job, rateBytesPerSecond: 0, etaSeconds: null };
}

export class JobBook {
  private readonly store: StateStore;
  private readonly client: ReactorClient;
  private readonly alarms: Alarms;
  private readonly waiters = new Map<number, Set<() => void>>();

  constructor(options: { store: StateStore; client: ReactorClient; alarms: Alarms }) {
    this.store = options.store;
    this.client = options.client;
    this.alarms = options.alarms;
    this.client.onJob((job) => this.record(job));
  }

  /** Closes what a former run left open. Called once, before the reactor can begin a job. */
  closeFormerRun(nowIso: string): void {
    for (const job of this.kept.values()) {
      if (job.state !== "running") continue;
      if (isScrub(job)) this.store.putJob({ ...atRest(job), state: "paused", error: CRASHED });
      else this.cancelKept(job, GOES_ON.has(job.kind) ? REPLACED_BY_NEW : ENDED, nowIso);
    }
  }

  /** The array is deleted: no scrub of it goes on. */
  endRestingScrubs(arrayUuid: string): void {
    const nowIso = isoTime(this.alarms.wallMs());
    for (const job of this.kept.values()) {
      if (isPausedScrub(job, arrayUuid)) this.cancelKept(job, "the array was deleted", nowIso);
    }
  }

  private cancelKept(job: JobStatus, why: string, nowIso: string): void {
    this.store.putJob({ ...atRest(job), state: "cancelled", error: why, finishedAt: nowIso });
  }

  private get kept(): ReadonlyMap<number, JobStatus> {
    return this.store.state.jobs;
  }

  /** Stores what the reactor said of a job and wakes who waits for its end. */
  record(job: JobStatus): void {
    const known = this.kept.get(job.id);
    // A reply made before the end may be read after the message that tells of the end.
    if (known !== undefined && isFinished(known) && !isFinished(job)) return;
    this.store.putJob(job);
    if (job.state === "running") return;
    for (const wake of this.waiters.get(job.id) ?? []) wake();
  }

  async get(id: number): Promise<Result<JobStatus, CommandError>> {
    const stored = this.kept.get(id);
    if (stored !== undefined && isFinished(stored)) return ok(stored);
    const live = await this.client.call({ kind: "get-job", id });
    if (live.ok) {
      if (isFinished(live.value)) this.record(live.value);
      return live;
    }
    const last = this.kept.get(id);
    if (last !== undefined) return ok(last);
    return err({
      kind: "not-found",
      code: "job-not-found",
      detail: `there is no job ${id}; GET /v1/jobs lists those that are kept`,
    });
  }

  /** Every job that is kept, newest first, those under way with their progress. */
  async list(): Promise<Result<JobStatus[], CommandError>> {
    const live = await this.client.call({ kind: "list-jobs" });
    if (!live.ok) return live;
    const jobs = new Map(this.kept);
    for (const job of live.value) {
      const stored = jobs.get(job.id);
      if (stored === undefined || !isFinished(stored)) jobs.set(job.id, job);
    }
    return ok([...jobs.values()].sort((left, right) => right.id - left.id));
  }

  /** The job when it has ended or comes to rest, or as it is when the time is up. */
  async wait(id: number, options: WaitOptions): Promise<Result<JobStatus, CommandError>> {
    // Order: listen first, ask then, so that an end in between is not missed.
    const ended = this.nextEnd(id, options);
    const now = await this.get(id);
    if (!now.ok || isFinished(now.value)) {
      ended.cancel();
      return now;
    }
    await ended.promise;
    return this.get(id);
  }

  /** Ends a job that is under way; one that has ended stays as it is. */
  async cancel(id: number, effects: Effects): Promise<Result<JobStatus, CommandError>> {
    const known = await this.get(id);
    if (!known.ok || isFinished(known.value)) return known;
    const cancelled = await effects.command({ kind: "cancel-job", id });
    if (cancelled.ok) effects.have(() => this.record(cancelled.value));
    return cancelled;
  }

  private nextEnd(id: number, options: WaitOptions): { promise: Promise<void>; cancel(): void } {
    let cancel: () => void = () => {};
    const promise = new Promise<void>((resolve) => {
      const stopTimer = this.alarms.after(options.timeoutMs, () => cancel());
      const waiters = this.waiters.get(id) ?? new Set();
      this.waiters.set(id, waiters);
      cancel = () => {
        stopTimer();
        options.signal?.removeEventListener("abort", cancel);
        waiters.delete(cancel);
        if (waiters.size === 0 && this.waiters.get(id) === waiters) this.waiters.delete(id);
        resolve();
      };
      waiters.add(cancel);
      options.signal?.addEventListener("abort", cancel);
      if (options.signal?.aborted === true) cancel();
    });
    return { promise, cancel: () => cancel() };
  }
}
