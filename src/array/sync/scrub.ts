/**
 * The scrubs of an array: `check` counts and lists rows that do not match, `repair` also writes their
 * parity anew; both try again what is on the bad-block logs.
 *
 * One that does not run keeps its place and what it had found, for one of two reasons:
 *
 * | why             | who ends that                                     | its job's `error`     |
 * |-----------------|---------------------------------------------------|-----------------------|
 * | it is paused    | somebody resumes it                               | null                  |
 * | it is set aside | nobody: it goes on as soon as nothing else is due | what pushed it aside  |
 * |                 | and all members are there (`goOn`)                |                       |
 *
 * What pushes it aside is a member that fails, a drive that is added or copied to, a stop, and a
 * crash: for that the control thread is told now and then how far it is (`SyncRun.advance`). What
 * is told are the findings of the stripes below that place, so that nothing is counted twice; but
 * what a repair has written anew is told at once, as no later look would find it.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { isoTime } from "../../base/time.ts";
import { SyncProgress } from "../../raid5/members/sync-progress.ts";
import { type Job, type JobTable, newJobStatus } from "../jobs.ts";
import { isSetAside, type JobStatus, type ScrubMemory, type ScrubSummary } from "../protocol.ts";
import { isLate, ScrubReport, uncheckedText } from "./scrub-report.ts";
import type { StripeWork } from "./sweep.ts";
import type { SyncRun } from "./sync-run.ts";

export class Scrubs {
  mismatchBytes: number;
  last: ScrubSummary | null;
  /** The one under way. */
  running: Promise<void> = Promise.resolve();
  private readonly run: SyncRun;
  private readonly jobs: JobTable;
  /** One that is paused or set aside. */
  private paused: Job | null = null;
  /** Where it is: each stripe below has been looked at. */
  private stripe = 0;
  private findings: ScrubReport;
  /** For stripes under work: nearly all of them find nothing, and give theirs back. */
  private readonly blanks: ScrubReport[] = [];
  /** Why the one that runs is to be set aside; null: it is not. */
  private asideReason: string | null = null;
  /** Commands that want the array for themselves: none that was set aside goes on. */
  private giveWayCount = 0;

  constructor(options: { run: SyncRun; jobs: JobTable; memory: ScrubMemory }) {
    const { memory } = options;
    this.run = options.run;
    this.jobs = options.jobs;
    this.mismatchBytes = memory.mismatchBytes;
    this.last = memory.last;
    this.findings = new ScrubReport(this.run.core.geometry);
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
    this.findings = new ScrubReport(geometry, status.result);
  }

  /** Begins a scrub, or goes on with the one that is paused where it is of that mode. */
  start(options: { mode: "check" | "repair"; limit: number | null; restart: boolean }): Job {
    const { paused } = this;
    if (paused !== null && paused.kind === options.mode && !options.restart) {
      return this.resume(paused, options.limit);
    }
    if (paused !== null) this.endPaused("cancelled", "a new scrub was started");
    const job = this.run.begin(options.mode, 0);
    this.stripe = 0;
    this.findings = new ScrubReport(this.run.core.geometry);
    Object.assign(job.result, this.findings.result);
    return this.walk(job, options.limit, `${job.kind} started`);
  }

  /** The job that `start` would answer with. */
  foretell(options: {
    mode: "check" | "repair";
    limit: number | null;
    restart: boolean;
  }): JobStatus {
    const { paused } = this;
    const { core } = this.run;
    const { mode, limit, restart } = options;
    const limited = limit === null ? {} : { limitBytesPerSecond: limit };
    if (paused === null || paused.kind !== mode || restart) {
      const { result } = new ScrubReport(core.geometry);
      return newJobStatus(core, mode, { ...result, ...limited });
    }
    const { limitBytesPerSecond: _before, ...kept } = paused.result;
    const result = { ...kept, ...limited, resumedFrom: paused.done };
    return { ...paused.status(), state: "running", error: null, result };
  }

  /** The job that `pause` would pause, or null. */
  get pausable(): Job | null {
    const { underWay, paused } = this;
    return underWay ?? (paused !== null && isSetAside(paused) ? paused : null);
  }

  /** The job that `cancel` would end, or null. */
  get cancellable(): Job | null {
    return this.underWay ?? this.paused;
  }

  /** The one that was set aside goes on, if there is one. Nothing else is due. */
  goOn(): void {
    const { paused } = this;
    if (paused === null || !isSetAside(paused) || this.giveWayCount > 0) return;
    const limit = paused.result["limitBytesPerSecond"];
    this.resume(paused, typeof limit === "number" ? limit : null);
  }

  private resume(job: Job, limit: number | null): Job {
    assert(this.paused === job, "who is resumed was paused");
    this.paused = null;
    this.run.takeUp(job);
    this.jobs.resume(job);
    job.result["resumedFrom"] = job.done;
    const place = `byte ${job.done} of ${job.total} of each member`;
    return this.walk(job, limit, `${job.kind} goes on from ${place}`);
  }

  private walk(job: Job, limit: number | null, text: string): Job {
    const { core } = this.run;
    const { degradedCount, resync } = core.members;
    assert(degradedCount === 0 && resync === null, "a scrub looks at rows that ought to match");
    assert(this.paused === null, "an array has one scrub");
    this.asideReason = null;
    if (limit === null) delete job.result["limitBytesPerSecond"];
    else job.result["limitBytesPerSecond"] = limit;
    core.emit("scrub.started", "info", text, { job: job.id });
    this.running = this.scrub(job, limit ?? Number.POSITIVE_INFINITY);
    inBackground(this.running, core.guard);
    return job;
  }

  /** The one that runs, or null. */
  private get underWay(): Job | null {
    const { job } = this.run;
    return job?.kind === "check" || job?.kind === "repair" ? job : null;
  }

  get isUnderWay(): boolean {
    return this.underWay !== null;
  }

  /** The one that runs or was set aside is paused: then it is answered. Null: there is none. */
  async pause(): Promise<Job | null> {
    const { underWay, paused } = this;
    if (underWay !== null) {
      underWay.wish = "pause";
      await underWay.untilAtRest();
      return underWay;
    }
    if (paused === null || !isSetAside(paused)) return null;
    this.jobs.end(paused, "paused");
    assert(!isSetAside(paused), "what is paused waits for somebody");
    return paused;
  }

  /** The one that runs cannot go on for now. */
  setAside(reason: string): void {
    assert(reason !== "", "what sets a scrub aside is told");
    if (this.underWay === null) return;
    if (this.run.abortReason === null) this.asideReason = reason;
    this.run.abort(reason);
  }

  /** The scrub makes room for something, and does not go on before `work` has ended. */
  async givingWay<T>(reason: string, work: () => Promise<T>): Promise<T> {
    this.giveWayCount += 1;
    this.setAside(reason);
    await this.underWay?.untilAtRest();
    try {
      return await work();
    } finally {
      this.giveWayCount -= 1;
      this.run.lookAgain();
    }
  }

  /** The running or paused scrub, which ends as cancelled. */
  cancel(): Job | null {
    const { underWay } = this;
    if (underWay !== null) {
      underWay.wish = "cancel";
      return underWay;
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

  private async scrub(job: Job, speedMax: number): Promise<void> {
    const { run } = this;
    const mode = job.kind === "repair" ? "repair" : "check";
    /** Stripes above the place, with what was found in them. */
    const finished = new Map<number, ScrubReport | null>();
    const progress = new SyncProgress(this.stripe);
    const work: StripeWork = async (stripe, buffer) => {
      if (finished.has(stripe)) return true;
      const met = await this.scrubStripe(job, mode, stripe, buffer);
      if (typeof met !== "object") return met;
      if (run.abortReason !== null) return false;
      finished.set(stripe, met.found);
      progress.markDone(stripe);
      this.passFinished(job, mode, finished);
      return met.isLate ? "late" : true;
    };
    const toStripe = Number.POSITIVE_INFINITY;
    const isComplete = await run.sweep(progress, { toStripe, speedMax, work });
    await this.end(job, mode, isComplete);
  }

  /** What was found counts as soon as all stripes before it have been looked at. */
  private passFinished(
    job: Job,
    mode: "check" | "repair",
    finished: Map<number, ScrubReport | null>,
  ): void {
    const { run, findings } = this;
    const before = this.stripe;
    for (;;) {
      const found = finished.get(this.stripe);
      if (found === undefined) break;
      finished.delete(this.stripe);
      this.stripe += 1;
      if (found === null) continue;
      if (mode === "check") findings.addMismatches(found);
      findings.addLosses(found);
    }
    assert(this.stripe <= run.core.geometry.stripeCount, "a scrub ends with the array");
    if (this.stripe === before) return;
    if (findings.isAny) Object.assign(job.result, findings.result);
    run.advance(this.stripe);
  }

  /** Looks at one stripe. `found` null: nothing. */
  private async scrubStripe(
    job: Job,
    mode: "check" | "repair",
    stripe: number,
    buffer: number,
  ): Promise<
    { readonly isLate: boolean; readonly found: ScrubReport | null } | false | "no-space"
  > {
    const { run } = this;
    const { members, engine, geometry } = run.core;
    assert(run.job === job, "the scrub that looks at a stripe is the work that runs");
    const held = await run.holdFor(stripe);
    if (held < 0) return false;
    const found = this.blanks.pop() ?? new ScrubReport(geometry);
    assert(found.isBlank, "a stripe begins with nothing found");
    const isPassed = members.isAvoidedHung && members.avoidedRoles(stripe) !== 0;
    const result = isPassed ? null : await run.stripesNow.compare(stripe, mode, buffer, found);
    engine.releaseStripe(held);
    if (result !== null && run.isRefused(result)) return "no-space";
    const isLateHere = isLate(result, members);
    if (result?.kind === "done") found.mismatchBytes = result.mismatchBytes;
    else if (isPassed || isLateHere) found.uncheckedBytes = geometry.chunkBytes;
    else run.abort(run.reasonOf(result!));
    if (found.isBlank) {
      this.blanks.push(found);
      return { isLate: isLateHere, found: null };
    }
    if (mode === "repair") this.tellRewritten(job, found);
    return { isLate: isLateHere, found };
  }

  /** Rows that match now, and that no later look would find. */
  private tellRewritten(job: Job, found: ScrubReport): void {
    if (!found.hasMismatches) return;
    this.findings.addMismatches(found);
    Object.assign(job.result, this.findings.result);
    this.jobs.tell(job);
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
    const rest = this.restOf(job);
    if (rest !== null) {
      this.paused = job;
      run.finish(job, "paused", rest.reason);
      const why = rest.reason === null ? "paused" : `set aside: ${rest.reason}`;
      core.emit("scrub.paused", "info", `${mode} ${why}`, { job: job.id });
      return;
    }
    const isWanted = run.abortReason === null;
    run.finish(job, isWanted ? "cancelled" : "failed", run.abortReason);
  }

  /** Why the scrub that ends here is to go on later, where it is. */
  private restOf(job: Job): { readonly reason: string | null } | null {
    const { abortReason, isStopping } = this.run;
    if (job.wish === "cancel") return null;
    if (abortReason !== null && abortReason !== this.asideReason) return null;
    if (job.wish === "pause") return { reason: null };
    if (abortReason !== null) return { reason: abortReason };
    return isStopping ? { reason: STOPPED } : null;
  }
}

const STOPPED = "the array was stopped";
