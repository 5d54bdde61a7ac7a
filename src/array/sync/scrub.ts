/**
 * The scrubs of an array: `check` counts and lists rows that do not match, `repair` also writes their
 * parity anew; both try again what is on the bad-block logs. One that is paused goes on from its
 * place, with what it had found.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { isoTime } from "../../base/time.ts";
import { SyncProgress } from "../../raid5/members/sync-progress.ts";
import type { Job, JobTable } from "../jobs.ts";
import type { JobStatus, ScrubMemory, ScrubSummary } from "../protocol.ts";
import { isLate, ScrubReport, uncheckedText } from "./scrub-report.ts";
import type { StripeWork, SyncRun } from "./sync-run.ts";

export class Scrubs {
  mismatchBytes: number;
  last: ScrubSummary | null;
  /** The one under way. */
  running: Promise<void> = Promise.resolve();
  private readonly run: SyncRun;
  private readonly jobs: JobTable;
  /** One that was paused: where it goes on. */
  private paused: Job | null = null;
  private stripe = 0;
  private findings = new ScrubReport();
  private speedMax = Number.POSITIVE_INFINITY;

  constructor(options: { run: SyncRun; jobs: JobTable; memory: ScrubMemory }) {
    const { memory } = options;
    this.run = options.run;
    this.jobs = options.jobs;
    this.mismatchBytes = memory.mismatchBytes;
    this.last = memory.last;
    if (memory.paused !== null) this.takeUpPaused(memory.paused);
  }

  /** What the next run of the array is to know of its scrubs. */
  get memory(): ScrubMemory {
    const { mismatchBytes, last, paused } = this;
    return { mismatchBytes, last, paused: paused?.status() ?? null };
  }

  private takeUpPaused(status: JobStatus): void {
    const { uuid, geometry } = this.run.core;
    const { chunkBytes, stripeCount } = geometry;
    if (status.arrayUuid !== uuid) return;
    this.paused = this.jobs.takeUp(status);
    this.stripe = Math.min(Math.floor(status.done / chunkBytes), stripeCount);
    this.findings = new ScrubReport(status.result);
  }

  start(options: { mode: "check" | "repair"; limit: number | null; restart: boolean }): Job {
    const { run, paused } = this;
    const { core } = run;
    const { degradedCount, resync } = core.members;
    assert(degradedCount === 0 && resync === null, "a scrub looks at rows that ought to match");
    this.paused = null;
    this.speedMax = options.limit ?? Number.POSITIVE_INFINITY;
    let job = paused;
    if (job !== null && job.kind === options.mode && !options.restart) {
      run.takeUp(job);
      this.jobs.resume(job);
    } else {
      if (job !== null) this.jobs.end(job, "cancelled", "a new scrub was started");
      this.stripe = 0;
      job = run.begin(options.mode, 0);
      this.findings = new ScrubReport();
      Object.assign(job.result, this.findings.result);
    }
    core.emit("scrub.started", "info", `${job.kind} started`, { job: job.id });
    this.running = this.scrub(job);
    inBackground(this.running, core.guard);
    return job;
  }

  /** The one that runs, or null. */
  get pausable(): Job | null {
    const { job } = this.run;
    return job?.kind === "check" || job?.kind === "repair" ? job : null;
  }

  /** The running or paused scrub, which ends as cancelled. */
  cancel(): Job | null {
    const running = this.pausable;
    if (running !== null) {
      running.wish = "cancel";
      return running;
    }
    return this.endPaused("cancelled", null);
  }

  endPaused(state: "cancelled" | "failed", reason: string | null): Job | null {
    const { paused } = this;
    assert(paused === null || paused !== this.run.job, "a scrub that is paused does not run");
    if (paused !== null) this.jobs.end(paused, state, reason);
    this.paused = null;
    return paused;
  }

  private async scrub(job: Job): Promise<void> {
    const { run } = this;
    const mode = job.kind === "repair" ? "repair" : "check";
    const finished = new Set<number>();
    let isComplete = false;
    let wasLate = false;
    const work: StripeWork = async (stripe, buffer) => {
      if (finished.has(stripe)) return true;
      const met = await this.scrubStripe(job, mode, stripe, buffer);
      if (typeof met !== "object") return met;
      if (met.isLate) wasLate = true;
      if (run.abortReason !== null) return false;
      finished.add(stripe);
      while (finished.delete(this.stripe)) this.stripe += 1;
      assert(this.stripe <= run.core.geometry.stripeCount, "a scrub ends with the array");
      run.advance(this.stripe);
      return !met.isLate;
    };
    // A read that was given up may still write into its buffer: the sweep goes on with others.
    do {
      wasLate = false;
      isComplete = await run.sweep(new SyncProgress(this.stripe), {
        toStripe: Number.POSITIVE_INFINITY,
        speedMax: this.speedMax,
        work,
      });
    } while (!isComplete && wasLate && !run.shouldStop);
    await this.end(job, mode, isComplete);
  }

  /** Looks at one stripe, and notes what it finds. */
  private async scrubStripe(
    job: Job,
    mode: "check" | "repair",
    stripe: number,
    buffer: number,
  ): Promise<{ readonly isLate: boolean } | false | "no-space"> {
    const { run, findings } = this;
    const { members, engine, geometry } = run.core;
    assert(run.job === job, "the scrub that looks at a stripe is the work that runs");
    const held = await run.holdFor(stripe);
    if (held < 0) return false;
    const isPassed = members.avoidedRoles(stripe) !== 0;
    const result = isPassed ? null : await run.stripes.compare(stripe, mode, buffer, findings);
    engine.releaseStripe(held);
    if (result !== null && run.isRefused(result)) return "no-space";
    const isLateHere = isLate(result, members);
    if (result?.kind === "done") findings.mismatchBytes += result.mismatchBytes;
    else if (isPassed || isLateHere) findings.uncheckedBytes += geometry.chunkBytes;
    else run.abort(run.reasonOf(result!));
    if (findings.isAny) Object.assign(job.result, findings.result);
    return { isLate: isLateHere };
  }

  private async end(job: Job, mode: "check" | "repair", isComplete: boolean): Promise<void> {
    const { run, findings } = this;
    const { core } = run;
    const { mismatchBytes, lostBytes, uncheckedBytes } = findings;
    const isThrough = this.stripe === core.geometry.stripeCount;
    assert(!isComplete || isThrough, "a scrub that is complete has looked at each stripe");
    Object.assign(job.result, findings.result);
    if (isComplete && uncheckedBytes > 0) run.abort(uncheckedText(uncheckedBytes));
    if (isComplete && run.abortReason === null && (await core.engine.flush())) {
      this.mismatchBytes = mode === "check" ? mismatchBytes : 0;
      const finishedAt = isoTime(core.context.clock.wallMs());
      this.last = { mode, finishedAt, mismatchBytes, lostBytes };
      run.finish(job, "done", null);
      core.emit("scrub.finished", findings.severity, findings.text(mode), { job: job.id });
      return;
    }
    if (run.abortReason === null && job.wish === "pause") {
      this.paused = job;
      run.finish(job, "paused", null);
      core.emit("scrub.paused", "info", `${mode} paused`, { job: job.id });
      return;
    }
    const isWanted = run.abortReason === null;
    run.finish(job, isWanted ? "cancelled" : "failed", run.abortReason);
  }
}
