/**
 * Jobs: what runs for long, and is asked for by id. The control thread keeps their history; here
 * are those of this run of the reactor.
 */
import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { Signal } from "../base/signal.ts";
import { isoTime } from "../base/time.ts";
import {
  type JobKind,
  type JobResult,
  type JobState,
  type JobStatus,
  NOT_YET,
  type ReactorMessage,
} from "./protocol.ts";

/** Jobs that have ended and are still answered from here. */
const ENDED_JOBS_MAX = 256;
/** The rate is measured over windows of this length. */
const RATE_WINDOW_MS = 1000;

export interface JobOptions {
  readonly kind: JobKind;
  readonly array: { readonly name: string; readonly uuid: string };
  readonly total: number;
}

export class Job {
  readonly id: number;
  readonly kind: JobKind;
  readonly array: string;
  readonly arrayUuid: string;
  readonly startedAt: string;
  total: number;
  state: JobState = "running";
  done = 0;
  error: string | null = null;
  readonly result: { [fact: string]: JobResult[string] } = {};
  finishedAtMs: number | null = null;
  private readonly changed = new Signal();
  /** What somebody asked of it; the job looks at it between stripes. */
  wish: "go-on" | "pause" | "cancel" = "go-on";
  private windowStartMs: number;
  private windowDone = 0;
  private rate = 0;

  constructor(options: JobOptions & { id: number; clock: Clock; startedAt?: string }) {
    this.id = options.id;
    this.kind = options.kind;
    this.array = options.array.name;
    this.arrayUuid = options.array.uuid;
    this.total = options.total;
    this.startedAt = options.startedAt ?? isoTime(options.clock.wallMs());
    this.windowStartMs = options.clock.nowMs();
  }

  get rateBytesPerSecond(): number {
    return this.state === "running" ? Math.round(this.rate) : 0;
  }

  get etaSeconds(): number | null {
    if (this.state !== "running" || this.rate <= 0) return null;
    return Math.ceil((this.total - this.done) / this.rate);
  }

  /** What was done before is not this job's speed. */
  goOnFrom(done: number): void {
    assert(done >= 0 && done <= this.total, "what was done before is part of the job");
    this.done = done;
    this.windowDone = done;
  }

  /** Sets the progress and measures the rate. */
  advance(done: number, nowMs: number): void {
    assert(this.state === "running", "a job that comes on runs");
    this.done = done;
    const elapsedMs = nowMs - this.windowStartMs;
    if (elapsedMs < RATE_WINDOW_MS / 4) return;
    const current = ((done - this.windowDone) * 1000) / elapsedMs;
    if (this.rate === 0 || elapsedMs >= RATE_WINDOW_MS) this.rate = current;
    if (elapsedMs < RATE_WINDOW_MS) return;
    this.windowStartMs = nowMs;
    this.windowDone = done;
  }

  /** Sets its state: whoever waits for its end looks again. */
  become(state: JobState): void {
    this.state = state;
    this.changed.raise();
  }

  /** Until it has ended, or is paused. */
  untilAtRest(): Promise<void> {
    return this.changed.until(() => this.state !== "running");
  }

  status(): JobStatus {
    return {
      id: this.id,
      kind: this.kind,
      array: this.array,
      arrayUuid: this.arrayUuid,
      state: this.state,
      done: this.done,
      total: this.total,
      unit: "bytes",
      rateBytesPerSecond: this.rateBytesPerSecond,
      etaSeconds: this.etaSeconds,
      error: this.error,
      result: { ...this.result },
      startedAt: this.startedAt,
      finishedAt: this.finishedAtMs === null ? null : isoTime(this.finishedAtMs),
    };
  }
}

/** A job of this array as it would be answered if it began now. */
export function newJobStatus(
  {
    name,
    uuid,
    geometry,
  }: {
    readonly name: string;
    readonly uuid: string;
    readonly geometry: { readonly memberSizeBytes: number };
  },
  kind: JobKind,
  result: JobResult,
): JobStatus {
  return {
    ...{ id: NOT_YET.id, kind, array: name, arrayUuid: uuid, state: "running", done: 0 },
    ...{ total: geometry.memberSizeBytes, unit: "bytes", rateBytesPerSecond: 0 },
    ...{ etaSeconds: null, error: null, result, startedAt: NOT_YET.time, finishedAt: null },
  };
}

/** The job as it would be answered at rest in this state. */
export function restingJobStatus(job: JobStatus, state: "paused" | "cancelled"): JobStatus {
  const finishedAt = state === "paused" ? null : NOT_YET.time;
  return { ...job, state, error: null, rateBytesPerSecond: 0, etaSeconds: null, finishedAt };
}

export class JobTable {
  private readonly jobs = new Map<number, Job>();
  private readonly clock: Clock;
  private readonly post: (message: ReactorMessage) => void;
  private nextId: number;

  constructor(options: {
    clock: Clock;
    firstId: number;
    post: (message: ReactorMessage) => void;
  }) {
    this.clock = options.clock;
    this.nextId = options.firstId;
    this.post = options.post;
  }

  start(options: JobOptions): Job {
    const job = new Job({ ...options, id: this.nextId, clock: this.clock });
    this.nextId += 1;
    assert(!this.jobs.has(job.id), "a job has an id of its own");
    this.jobs.set(job.id, job);
    this.dropOldest();
    this.post({ kind: "job", job: job.status() });
    return job;
  }

  /** A paused job of before, as this run knows it: under its own id; null: that is not paused. */
  takeUp(status: JobStatus): Job | null {
    const known = this.jobs.get(status.id);
    if (known !== undefined) return known.state === "paused" ? known : null;
    const { id, kind, total, startedAt } = status;
    const array = { name: status.array, uuid: status.arrayUuid };
    const job = new Job({ id, kind, array, total, startedAt, clock: this.clock });
    job.become("paused");
    job.error = status.error;
    job.done = status.done;
    Object.assign(job.result, status.result);
    this.jobs.set(id, job);
    this.nextId = Math.max(this.nextId, id + 1);
    return job;
  }

  /** A paused job goes on under its own id. */
  resume(job: Job): void {
    assert(job.state === "paused", "a job that goes on was paused");
    job.error = null;
    job.become("running");
    job.wish = "go-on";
    this.post({ kind: "job", job: job.status() });
  }

  /** How far a job is, for those who remember it. */
  tell(job: Job): void {
    assert(job.state === "running", "of a job that has ended its end is told");
    this.post({ kind: "job", job: job.status() });
  }

  end(job: Job, state: Exclude<JobState, "running">, error: string | null = null): void {
    assert(job.state === "running" || job.state === "paused", "a job ends once");
    assert(state !== "failed" || error !== null, "a job that failed says why");
    assert(this.jobs.get(job.id) === job, "a job is on the table until it has ended");
    job.error = error;
    if (state !== "paused") job.finishedAtMs = this.clock.wallMs();
    job.become(state);
    this.post({ kind: "job", job: job.status() });
  }

  get(id: number): Job | undefined {
    return this.jobs.get(id);
  }

  list(): Job[] {
    return [...this.jobs.values()];
  }

  private dropOldest(): void {
    if (this.jobs.size <= ENDED_JOBS_MAX) return;
    for (const job of this.jobs.values()) {
      if (job.state === "running" || job.state === "paused") continue;
      this.jobs.delete(job.id);
      return;
    }
  }
}
