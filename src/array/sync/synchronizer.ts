/**
 * The background work of an array: at most one of rebuild, resync, check and repair at a time.
 *
 * What is due follows from the array alone, so it is found again after a restart:
 *   a member is rebuilding, or a role is free and a spare is there -> rebuild
 *   rows may be out of sync                                          -> resync
 * A scrub runs when it was asked for and nothing of the above is due.
 *
 * Progress is recorded in the superblocks: every `CHECKPOINT_MS`, and when the work stops. Order:
 * the stripes below a checkpoint are flushed before the checkpoint is written (write-rules 7).
 */

import { inBackground } from "../../base/background.ts";
import { isoTime } from "../../base/time.ts";
import { Outcome } from "../../block/io-error.ts";
import { SyncProgress } from "../../raid5/members/sync-progress.ts";
import { type StripeResult, StripeSync } from "../../raid5/sync/stripe-sync.ts";
import type { Job, JobTable } from "../jobs.ts";
import type { JobStatus, ScrubMemory, ScrubSummary, SyncAction } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { isLate, ScrubReport, uncheckedText } from "./scrub-report.ts";
import { SpareSeat } from "./spare-seat.ts";
import { Sweep } from "./sweep.ts";

const CHECKPOINT_MS = 10_000;
/** Clients count as at work for so long after a request. */
const BUSY_MS = 100;

export class Synchronizer {
  mismatchBytes = 0;
  lastScrub: ScrubSummary | null = null;
  /** The latest rebuild, also after it has ended. */
  lastRebuild: Job | null = null;
  private readonly array: RaidArray;
  private readonly jobs: JobTable;
  private readonly stripes: StripeSync;
  private readonly seats: SpareSeat;
  private job: Job | null = null;
  /** The role that is being rebuilt by the running job, or -1. */
  private target = -1;
  /** A scrub that was paused: where it goes on. */
  private pausedScrub: Job | null = null;
  private scrubStripe = 0;
  private findings = new ScrubReport();
  private scrubLimit = Number.POSITIVE_INFINITY;
  private isStopping = false;
  private isHeld = false;
  private abortReason: string | null = null;
  private seenRequests = 0;
  private busyUntilMs = 0;
  private checkpointAtMs = 0;
  private checkpointing: Promise<void> = Promise.resolve();
  private running: Promise<void> = Promise.resolve();

  constructor(options: { array: RaidArray; jobs: JobTable; scrub: ScrubMemory }) {
    const { array, scrub } = options;
    this.array = array;
    this.jobs = options.jobs;
    this.mismatchBytes = scrub.mismatchBytes;
    this.lastScrub = scrub.last;
    if (scrub.paused !== null) this.takeUpPaused(scrub.paused);
    this.seats = new SpareSeat(array);
    this.stripes = new StripeSync(array.engine);
  }

  get currentJob(): Job | null {
    return this.job;
  }

  get action(): SyncAction {
    return this.job === null ? "idle" : this.job.kind;
  }

  /** Starts what is due, if nothing runs. */
  schedule(): void {
    const { array } = this;
    if (this.isStopping || this.isHeld || this.job !== null) return;
    if (array.isFailed || array.isReadOnlyStart || array.seating !== null) return;
    if (array.guard.isBroken) return;
    if (array.roles.some(({ state }) => state === "rebuilding")) {
      this.startRebuild();
    } else if (array.members.degradedCount > 0) {
      if (array.spares.length > 0) inBackground(this.seats.promote(), array.guard);
      else this.startResync();
    } else this.startResync();
  }

  /** Nothing new is started until `resume`. */
  hold(): void {
    this.isHeld = true;
  }

  resume(): void {
    this.isHeld = false;
    this.schedule();
  }

  /** Stops the running work at a checkpoint, for the stop of the array. */
  async stop(): Promise<void> {
    this.isStopping = true;
    await this.running;
  }

  /** What the next run of the array is to know of its scrubs. */
  get memory(): ScrubMemory {
    const { mismatchBytes, lastScrub: last, pausedScrub } = this;
    return { mismatchBytes, last, paused: pausedScrub?.status() ?? null };
  }

  private takeUpPaused(status: JobStatus): void {
    const { chunkBytes, stripeCount } = this.array.geometry;
    this.pausedScrub = this.jobs.takeUp(status);
    this.scrubStripe = Math.min(Math.floor(status.done / chunkBytes), stripeCount);
    this.findings = new ScrubReport(status.result);
  }

  /**
   * Brings the first stripe in sync, durably, before the array takes writes. Where a member fails
   * in it the array has been told.
   */
  async syncFirstStripe(): Promise<void> {
    const { array } = this;
    const { resync } = array.members;
    if (resync === null || resync.cursor > 0) return;
    const buffer = await array.context.enginePool.take(this.stripes.bufferBytes);
    const held = await array.engine.holdStripe(0);
    const result = await this.stripes.compare(0, "resync", buffer);
    if (result.kind === "done") resync.markDone(0);
    array.engine.releaseStripe(held);
    array.context.enginePool.free(buffer, this.stripes.bufferBytes);
    if (result.kind !== "done" || !(await array.engine.flush())) return;
    resync.durableStripe = resync.cursor;
  }

  /** Every kind of work here needs all members that it began with. */
  memberFailed(message: string): void {
    if (this.job !== null) this.abortReason ??= message;
  }

  /** The array is fenced: what runs ends with that, and what is paused does not go on. */
  endAll(reason: string): void {
    // Whatever else was about to end it: the fence says what becomes of the array.
    if (this.job !== null) this.abortReason = reason;
    if (this.pausedScrub !== null) this.jobs.end(this.pausedScrub, "failed", reason);
    this.pausedScrub = null;
  }

  // Rebuild ----------------------------------------------------------------------------------

  private startRebuild(): void {
    const { array } = this;
    const role = array.roles.findIndex(({ state }) => state === "rebuilding");
    // The role is about to be seated: its superblocks are being written.
    if (array.members.rebuild === null) return;
    const drive = array.roles[role]!.drive!;
    this.target = role;
    this.begin("rebuild", array.geometry.memberSizeBytes);
    this.job!.goOnFrom(array.members.rebuild.cursor * array.geometry.chunkBytes);
    this.job!.result["drive"] = drive.name;
    this.lastRebuild = this.job;
    array.emit("rebuild.started", "info", `rebuilding drive ${drive.name} (role ${role})`, {
      drive: drive.name,
      job: this.job!.id,
    });
    this.running = this.rebuild(role);
    inBackground(this.running, this.array.guard);
  }

  private async rebuild(role: number): Promise<void> {
    const { array } = this;
    const job = this.job!;
    const drive = array.roles[role]!.drive!;
    const progress = array.members.rebuild!;
    const retriedBefore = this.retriedCount();
    array.policy.syncBegins();
    const isComplete = await this.sweep(progress, async (stripe, buffer) => {
      const held = await this.holdFor(stripe);
      if (held < 0) return false;
      const result = await this.stripes.rebuild(stripe, role, buffer);
      const isDone = result.kind === "done" && array.members.rebuild === progress;
      if (isDone) {
        progress.markDone(stripe);
        this.advance(progress.cursor);
      }
      array.engine.releaseStripe(held);
      if (this.isRefused(result)) return "no-space";
      if (!isDone) this.abortReason ??= this.reasonOf(result);
      return isDone;
    });
    job.result["retries"] = this.retriedCount() - retriedBefore;
    const isTargetThere = array.members.rebuild === progress;
    if (!isComplete || !isTargetThere) array.policy.syncEnds(false);
    if (isComplete && isTargetThere && (await this.commit(role))) {
      this.finish(job, "done", null);
      const text = `drive ${drive.name} (role ${role}) is rebuilt and in sync`;
      array.emit("rebuild.finished", "info", text, { drive: drive.name, job: job.id });
      array.emit("member.in-sync", "info", text, { drive: drive.name });
      return;
    }
    if (this.isStopping && this.abortReason === null && isTargetThere) {
      await this.checkpoint();
      this.finish(job, "cancelled", "the array was stopped; the rebuild goes on when it starts");
      return;
    }
    const reason = this.abortReason ?? (job.wish === "cancel" ? "cancelled" : "it did not commit");
    if (array.members.rebuild === progress) array.failMember(role, `rebuild aborted: ${reason}`);
    this.finish(job, job.wish === "cancel" ? "cancelled" : "failed", reason);
    const text = `the rebuild of drive ${drive.name} was aborted: ${reason}`;
    array.emit("rebuild.aborted", "critical", text, { drive: drive.name, job: job.id });
    if (array.spares.length === 0 && !array.isFailed) {
      array.emit("spares.missing", "warning", "no spare is left to rebuild onto");
    }
  }

  /** Flush, then the one superblock update that makes the member count. */
  private async commit(role: number): Promise<boolean> {
    if (!(await this.array.engine.flush())) return false;
    if (this.abortReason !== null) return false;
    return this.array.commitRebuild(role, () => this.shouldStop());
  }

  // Resync -----------------------------------------------------------------------------------

  private startResync(): void {
    const { array } = this;
    const { resync } = array.members;
    if (resync === null || array.members.degradedCount > 0) return;
    this.begin("resync", array.geometry.memberSizeBytes);
    this.job!.goOnFrom(resync.cursor * array.geometry.chunkBytes);
    array.emit("resync.started", "info", "computing parity anew", { job: this.job!.id });
    this.running = this.resync();
    inBackground(this.running, this.array.guard);
  }

  private async resync(): Promise<void> {
    const { array } = this;
    const job = this.job!;
    const progress = array.members.resync!;
    let mismatchBytes = 0;
    array.policy.syncBegins();
    const isComplete = await this.sweep(progress, async (stripe, buffer) => {
      const held = await this.holdFor(stripe);
      if (held < 0) return false;
      const result = await this.stripes.compare(stripe, "resync", buffer);
      if (result.kind === "done") {
        mismatchBytes += result.mismatchBytes;
        progress.markDone(stripe);
        this.advance(progress.cursor);
      }
      array.engine.releaseStripe(held);
      if (this.isRefused(result)) return "no-space";
      if (result.kind !== "done") this.abortReason ??= this.reasonOf(result);
      return result.kind === "done";
    });
    job.result["mismatchBytes"] = mismatchBytes;
    if (isComplete && this.abortReason === null && (await array.engine.flush())) {
      array.policy.syncEnds(true);
      const isDurable = await array.record(() => array.members.endResync());
      if (isDurable || array.superblocks.hasNoRoom) {
        this.finish(job, "done", null);
        array.emit("resync.finished", "info", "parity is in sync", { job: job.id });
        return;
      }
    }
    array.policy.syncEnds(false);
    await this.checkpoint();
    const reason = this.abortReason ?? (this.isStopping ? "the array was stopped" : "cancelled");
    const isWanted = this.isStopping || job.wish === "cancel";
    this.finish(job, isWanted ? "cancelled" : "failed", reason);
  }

  // Scrub ------------------------------------------------------------------------------------

  /** Why a scrub cannot start now, or null. */
  scrubObstacle(): string | null {
    if (this.array.isReadOnlyStart) return "the array was started read-only";
    const { obstacle } = this.array.fence;
    if (obstacle !== null) return obstacle.detail;
    if (this.array.members.degradedCount > 0) {
      return "a scrub needs all members and the array is degraded: add a drive and let it rebuild";
    }
    if (this.job !== null) return `a ${this.job.kind} is running (job ${this.job.id}): wait for it`;
    if (this.array.members.resync !== null) return "a resync is due first";
    return null;
  }

  startScrub(options: { mode: "check" | "repair"; limit: number | null; restart: boolean }): Job {
    const paused = this.pausedScrub;
    this.pausedScrub = null;
    this.scrubLimit = options.limit ?? Number.POSITIVE_INFINITY;
    if (paused !== null && paused.kind === options.mode && !options.restart) {
      this.job = paused;
      this.abortReason = null;
      this.jobs.resume(paused);
    } else {
      if (paused !== null) this.jobs.end(paused, "cancelled", "a new scrub was started");
      this.scrubStripe = 0;
      this.begin(options.mode, this.array.geometry.memberSizeBytes);
      this.findings = new ScrubReport();
      Object.assign(this.job!.result, this.findings.result);
    }
    const job = this.job!;
    this.array.emit("scrub.started", "info", `${job.kind} started`, { job: job.id });
    this.running = this.scrub(job);
    inBackground(this.running, this.array.guard);
    return job;
  }

  pausableScrub(): Job | null {
    return this.job?.kind === "check" || this.job?.kind === "repair" ? this.job : null;
  }

  /** The running or paused scrub, which ends as cancelled. */
  cancelScrub(): Job | null {
    const running = this.pausableScrub();
    if (running !== null) {
      running.wish = "cancel";
      return running;
    }
    const paused = this.pausedScrub;
    if (paused !== null) this.jobs.end(paused, "cancelled", null);
    this.pausedScrub = null;
    return paused;
  }

  private async scrub(job: Job): Promise<void> {
    const { array } = this;
    const mode = job.kind === "repair" ? "repair" : "check";
    const finished = new Set<number>();
    let isComplete = false;
    let wasLate = false;
    const work = async (stripe: number, buffer: number): Promise<boolean | "no-space"> => {
      if (finished.has(stripe)) return true;
      const held = await this.holdFor(stripe);
      if (held < 0) return false;
      const isPassed = array.members.avoidedRoles(stripe) !== 0;
      const result = isPassed
        ? null
        : await this.stripes.compare(stripe, mode, buffer, this.findings);
      array.engine.releaseStripe(held);
      if (result !== null && this.isRefused(result)) return "no-space";
      const isLateHere = isLate(result, array.members);
      if (result?.kind === "done") this.findings.mismatchBytes += result.mismatchBytes;
      else if (isPassed || isLateHere) this.findings.uncheckedBytes += array.geometry.chunkBytes;
      else this.abortReason ??= this.reasonOf(result!);
      if (this.findings.isAny) Object.assign(job.result, this.findings.result);
      if (isLateHere) wasLate = true;
      if (this.abortReason !== null) return false;
      finished.add(stripe);
      while (finished.delete(this.scrubStripe)) this.scrubStripe += 1;
      this.advance(this.scrubStripe);
      return !isLateHere;
    };
    // A read that was given up may still write into its buffer: the sweep goes on with others.
    do {
      wasLate = false;
      isComplete = await this.sweep(new SyncProgress(this.scrubStripe), work);
    } while (!isComplete && wasLate && !this.shouldStop());
    await this.endScrub(job, mode, isComplete);
  }

  private async endScrub(job: Job, mode: "check" | "repair", isComplete: boolean): Promise<void> {
    const { array } = this;
    const { mismatchBytes, lostBytes, uncheckedBytes } = this.findings;
    Object.assign(job.result, this.findings.result);
    if (isComplete && this.abortReason === null && uncheckedBytes > 0) {
      this.abortReason = uncheckedText(uncheckedBytes);
    }
    if (isComplete && this.abortReason === null && (await array.engine.flush())) {
      this.mismatchBytes = mode === "check" ? mismatchBytes : 0;
      const finishedAt = isoTime(array.context.clock.wallMs());
      this.lastScrub = { mode, finishedAt, mismatchBytes, lostBytes };
      this.finish(job, "done", null);
      const text = this.findings.text(mode);
      array.emit("scrub.finished", this.findings.severity, text, { job: job.id });
      return;
    }
    if (this.abortReason === null && job.wish === "pause") {
      this.pausedScrub = job;
      this.finish(job, "paused", null);
      array.emit("scrub.paused", "info", `${mode} paused`, { job: job.id });
      return;
    }
    const isWanted = this.abortReason === null;
    this.finish(job, isWanted ? "cancelled" : "failed", this.abortReason);
  }

  // Shared -----------------------------------------------------------------------------------

  private begin(kind: Exclude<SyncAction, "idle">, total: number): void {
    this.job = this.jobs.start({ kind, array: this.array, total });
    this.abortReason = null;
    // Requests that came before the work began do not slow it down.
    this.seenRequests = this.array.front.requestCount;
    this.checkpointLater();
  }

  private checkpointLater(): void {
    this.checkpointAtMs = this.array.context.clock.nowMs() + CHECKPOINT_MS;
  }

  private finish(
    job: Job,
    state: "done" | "failed" | "cancelled" | "paused",
    error: string | null,
  ): void {
    this.job = null;
    this.target = -1;
    if (state === "done") job.done = job.total;
    this.jobs.end(job, state, error);
    // The next work starts in a turn of its own.
    this.array.context.timers.scheduleAfter(0, () => this.schedule());
  }

  /**
   * The lock of a stripe, or -1 where the work is over: while it waited for the lock a member may
   * have failed, and another drive may have its role already.
   */
  private async holdFor(stripe: number): Promise<number> {
    const held = await this.array.engine.holdStripe(stripe);
    if (this.abortReason === null) return held;
    this.array.engine.releaseStripe(held);
    return -1;
  }

  private sweep(
    progress: SyncProgress,
    work: (stripe: number, buffer: number) => Promise<boolean | "no-space">,
  ): Promise<boolean> {
    const { array } = this;
    const { enginePool, timers } = array.context;
    const isScrub = this.target < 0 && this.job!.kind !== "resync";
    const { stripeCount } = array.geometry;
    const { resyncEnd } = array.members;
    return new Sweep({
      pool: enginePool,
      timers,
      fromStripe: progress.cursor,
      nextOf: (stripe) => progress.nextOf(stripe),
      toStripe: isScrub || this.target >= 0 ? stripeCount : Math.min(stripeCount, resyncEnd),
      chunkBytes: array.geometry.chunkBytes,
      bufferBytes: this.stripes.bufferBytes,
      work,
      shouldStop: () => this.shouldStop(),
      limits: () => ({
        speedMin: array.tuning.syncSpeedMin,
        speedMax: Math.min(
          array.tuning.syncSpeedMax,
          isScrub ? this.scrubLimit : Number.POSITIVE_INFINITY,
        ),
      }),
      isBusy: () => this.isBusy(),
    }).run();
  }

  private shouldStop(): boolean {
    return this.isStopping || this.abortReason !== null || this.job?.wish !== "go-on";
  }

  private isBusy(): boolean {
    const { requestCount } = this.array.front;
    const nowMs = this.array.context.clock.nowMs();
    if (requestCount !== this.seenRequests) {
      this.seenRequests = requestCount;
      this.busyUntilMs = nowMs + BUSY_MS;
    }
    return nowMs < this.busyUntilMs;
  }

  private advance(cursor: number): void {
    const nowMs = this.array.context.clock.nowMs();
    this.job!.advance(cursor * this.array.geometry.chunkBytes, nowMs);
    if (nowMs < this.checkpointAtMs) return;
    // None while another one is under way, however long that takes.
    this.checkpointAtMs = Number.POSITIVE_INFINITY;
    const isScrub = this.job!.kind === "check" || this.job!.kind === "repair";
    if (isScrub) return;
    inBackground(
      this.checkpoint().then(() => this.checkpointLater()),
      this.array.guard,
    );
  }

  /** Records how far rebuild and resync have come, after a flush of all that. */
  private checkpoint(): Promise<void> {
    // One that is under way knows less.
    this.checkpointing = this.checkpointing.then(() => this.writeCheckpoint());
    return this.checkpointing;
  }

  private async writeCheckpoint(): Promise<void> {
    const { array } = this;
    const { rebuild, resync } = array.members;
    if (array.isFailed || (rebuild === null && resync === null)) return;
    const rebuilt = rebuild?.cursor ?? 0;
    const resynced = resync?.cursor ?? 0;
    // Order: what a superblock says to be done has been flushed on every member.
    if (!(await array.engine.flush())) return;
    if (rebuild !== null) rebuild.durableStripe = rebuilt;
    if (resync !== null) resync.durableStripe = resynced;
    if (!(await array.record())) return;
    if (rebuild !== null && array.members.rebuild === rebuild) {
      array.members.recordedRebuildStripe = rebuilt;
    }
  }

  /** A member has no room: no fault of its, and the work waits, for which the job says why. */
  private isRefused(result: StripeResult): boolean {
    const isRefused = result.kind !== "done" && result.error.outcome === Outcome.noSpace;
    if (isRefused) this.job!.result["waits"] = `no space: ${this.reasonOf(result)}`;
    else delete this.job?.result["waits"];
    return isRefused;
  }

  private reasonOf(result: StripeResult): string {
    if (result.kind === "done") return "the member left the array";
    const { role, op, offset } = result.error;
    const drive = this.array.roles[role]?.drive?.name ?? `role ${role}`;
    return `${op === 0 ? "read" : "write"} error on drive ${drive} at byte ${offset}`;
  }

  private retriedCount(): number {
    let count = 0;
    for (const drive of this.array.drives()) count += drive.io.counters.retried;
    return count;
  }
}
