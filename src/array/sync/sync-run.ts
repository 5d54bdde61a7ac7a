/**
 * The work that runs on an array's stripes: what rebuild, resync and scrub have in common. At most
 * one of them runs at a time; it has a job, and ends for one of these reasons:
 *
 *   it is through · somebody wished so (job.wish) · the array stops · a member failed (abortReason)
 *
 * Progress is recorded in the superblocks: every `CHECKPOINT_MS`, and when the work stops. Order:
 * the stripes below a checkpoint are flushed before the checkpoint is written (write-rules 7). The
 * place of a scrub is no superblock's: the control thread is told it as often, and at each part in
 * `SCRUB_CHECKPOINTS` of the array.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { Outcome } from "../../block/io-error.ts";
import type { SyncProgress } from "../../raid5/members/sync-progress.ts";
import { SMALL_PIECE_BYTES, type StripeResult, StripeSync } from "../../raid5/sync/stripe-sync.ts";
import { Op } from "../../reactor/io-table.ts";
import type { Job, JobTable } from "../jobs.ts";
import type { JobKind } from "../protocol.ts";
import type { ArrayCore, MemberVerdicts } from "../running/array-core.ts";
import { type StripeWork, Sweep, WINDOW_BYTES_MAX } from "./sweep.ts";
import { type SyncPace, speedLimit } from "./sync-pace.ts";
import { SyncMeter, type SyncRates } from "./sync-rates.ts";

const CHECKPOINT_MS = 10_000;
const SCRUB_CHECKPOINTS = 16;
const PACE_STEP_MS = 50;
/** Clients count as at work for so long after a request. */
const BUSY_MS = 100;

export class SyncRun {
  readonly core: ArrayCore;
  readonly verdicts: MemberVerdicts;
  readonly stripes: StripeSync;
  /** The same in small pieces. */
  private readonly gentleStripes: StripeSync;
  /** Why the work under way cannot go on; null: it can. */
  abortReason: string | null = null;
  /** The array stops: what runs ends at a checkpoint, and nothing begins. */
  isStopping = false;
  private readonly jobs: JobTable;
  private readonly requestCount: () => number;
  private readonly hasEnded: () => void;
  private readonly meter: SyncMeter;
  /** What the sweep under way may do, beside what the array allows. */
  private ownSpeedMax = Number.POSITIVE_INFINITY;
  private current: Job | null = null;
  /** All stripes below it are done. */
  private doneStripes = 0;
  private seenRequests = 0;
  private busyUntilMs = 0;
  private checkpointAtMs = 0;
  /** Of a scrub: what had been done when it was last told. */
  private toldStripes = 0;
  private checkpointing: Promise<void> = Promise.resolve();

  constructor(options: {
    core: ArrayCore;
    verdicts: MemberVerdicts;
    jobs: JobTable;
    rates: SyncRates;
    /** Requests of clients since the start. */
    requestCount: () => number;
    /** The work has ended: something else may be due. */
    hasEnded: () => void;
  }) {
    const { core, verdicts, rates } = options;
    this.core = core;
    this.verdicts = verdicts;
    this.jobs = options.jobs;
    this.requestCount = options.requestCount;
    this.hasEnded = options.hasEnded;
    this.stripes = new StripeSync(core.engine);
    this.gentleStripes = new StripeSync(core.engine, SMALL_PIECE_BYTES);
    const isRoomForBoth = this.gentleStripes.bufferBytes <= this.stripes.bufferBytes;
    assert(isRoomForBoth, "what works in small pieces uses the buffers of large ones");
    this.meter = new SyncMeter({ rates, memberBytes: core.geometry.memberSizeBytes });
  }

  get job(): Job | null {
    return this.current;
  }

  begin(kind: JobKind, doneBytes: number): Job {
    assert(this.current === null, "one work runs at a time");
    const { core, jobs } = this;
    const array = { name: core.name, uuid: core.uuid };
    const job = jobs.start({ kind, array, total: core.geometry.memberSizeBytes });
    job.goOnFrom(doneBytes);
    this.takeUp(job);
    return job;
  }

  /** Something may be due that was not: in a turn of its own. */
  lookAgain(): void {
    this.core.context.timers.scheduleAfter(0, this.hasEnded);
  }

  /** A job that was begun before goes on. */
  takeUp(job: Job): void {
    assert(this.current === null, "one work runs at a time");
    const { core } = this;
    assert(!this.isStopping, "nothing begins while the array stops");
    assert(!core.isFailed && !core.isReadOnlyStart, "work on stripes needs an array that writes");
    assert(job.arrayUuid === core.uuid, "a job is of its own array");
    this.doneStripes = 0;
    this.toldStripes = Math.floor(job.done / core.geometry.chunkBytes);
    // The array may have grown since it began.
    job.total = core.geometry.memberSizeBytes;
    this.current = job;
    this.abortReason = null;
    // Requests that came before the work began do not slow it down.
    this.seenRequests = this.requestCount();
    this.meter.begin(job.kind, core.context.clock.nowMs());
    this.checkpointLater();
  }

  finish(job: Job, state: "done" | "failed" | "cancelled" | "paused", error: string | null): void {
    assert(this.current === job, "the work that ends is the one that runs");
    assert(job.state === "running", "a job that ends was running");
    this.current = null;
    this.meter.end(this.core.context.clock.wallMs());
    if (state === "done") job.done = job.total;
    this.jobs.end(job, state, error);
    this.core.changed.raise();
    this.lookAgain();
  }

  /** Whatever runs cannot go on; the first reason counts. */
  abort(reason: string): void {
    if (this.current !== null) this.abortReason ??= reason;
  }

  get shouldStop(): boolean {
    return this.isStopping || this.abortReason !== null || this.current?.wish !== "go-on";
  }

  /**
   * The lock of a stripe, or -1 where the work is over: while it waited for the lock a member may
   * have failed, and another drive may have its role already.
   */
  async holdFor(stripe: number): Promise<number> {
    const { engine, geometry } = this.core;
    assert(stripe >= 0 && stripe < geometry.stripeCount, "a stripe is one of the array");
    const held = await engine.holdStripe(stripe);
    assert(held >= 0, "a lock that was waited for is held");
    if (this.abortReason === null) return held;
    engine.releaseStripe(held);
    return -1;
  }

  /**
   * Works on the stripes of `progress` up to `toStripe`: true when all of them are done. Behind a
   * late stripe it goes on with other buffers. A member that is late again and again is gone
   * around, so this ends.
   */
  async sweep(
    progress: SyncProgress,
    options: {
      toStripe: number;
      speedMax?: number;
      work: StripeWork;
      /** Absent: those that a stripe needs for its rebuild, and the window of a rebuild. */
      bufferBytes?: number;
      windowBytesMax?: number;
    },
  ): Promise<boolean> {
    const { geometry, tuning, context } = this.core;
    assert(this.current !== null, "a sweep is the work that runs");
    const ownSpeedMax = options.speedMax ?? Number.POSITIVE_INFINITY;
    this.ownSpeedMax = ownSpeedMax;
    for (;;) {
      const sweep = new Sweep({
        pool: context.enginePool,
        timers: context.timers,
        fromStripe: progress.cursor,
        nextOf: (stripe) => progress.nextOf(stripe),
        toStripe: Math.min(geometry.stripeCount, options.toStripe),
        chunkBytes: geometry.chunkBytes,
        bufferBytes: options.bufferBytes ?? this.stripes.bufferBytes,
        windowBytesMax: options.windowBytesMax ?? WINDOW_BYTES_MAX,
        work: options.work,
        shouldStop: () => this.shouldStop,
        limits: () => ({
          speedMin: tuning.syncSpeedMin,
          speedMax: Math.min(tuning.syncSpeedMax, ownSpeedMax),
        }),
        isBusy: () => this.isBusy(),
      });
      const isComplete = await sweep.run();
      if (isComplete || !sweep.wasLate || this.shouldStop) return isComplete;
    }
  }

  /** Waits until the next piece of work may begin, or none is to. */
  async untilDue(pace: SyncPace, mustStop: () => boolean): Promise<void> {
    const { tuning, context } = this.core;
    while (!mustStop()) {
      const { syncSpeedMin: speedMin, syncSpeedMax: speedMax } = tuning;
      const speed = speedLimit({ speedMin, speedMax }, this.isBusy());
      const waitMs = pace.waitMs(speed, context.clock.nowMs());
      if (waitMs === 0) return;
      // Polls: what is allowed changes with the settings, and with clients that say nothing.
      await context.timers.sleep(Math.min(waitMs, PACE_STEP_MS));
    }
  }

  /** Who works on a stripe that is begun now; its buffer is one of `stripes`. */
  get stripesNow(): StripeSync {
    return this.isBusy() ? this.gentleStripes : this.stripes;
  }

  /** Clients were at work a moment ago. */
  isBusy(): boolean {
    const requestCount = this.requestCount();
    const nowMs = this.core.context.clock.nowMs();
    if (requestCount !== this.seenRequests) {
      this.seenRequests = requestCount;
      this.busyUntilMs = nowMs + BUSY_MS;
    }
    return nowMs < this.busyUntilMs;
  }

  // How far it has come ----------------------------------------------------------------------

  /** All stripes below `cursor` are done. */
  advance(cursor: number): void {
    assert(this.current !== null, "there is work that comes on");
    const { core } = this;
    assert(cursor >= this.doneStripes, "what is done does not go back");
    assert(cursor <= core.geometry.stripeCount, "no more is done than there is");
    this.doneStripes = cursor;
    const nowMs = core.context.clock.nowMs();
    this.current.advance(cursor * core.geometry.chunkBytes, nowMs);
    this.measure(nowMs);
    if (this.current.kind === "check" || this.current.kind === "repair") {
      this.tellNowAndThen(this.current, nowMs);
      return;
    }
    // What changes nothing, and is not gone on with, has no checkpoint; a reshape has its own.
    if (this.current.kind === "rehearsal" || this.current.kind === "reshape") return;
    if (nowMs < this.checkpointAtMs) return;
    // None while another one is under way, however long that takes.
    this.checkpointAtMs = Number.POSITIVE_INFINITY;
    inBackground(
      this.checkpoint().then(() => this.checkpointLater()),
      core.guard,
    );
  }

  private tellNowAndThen(scrub: Job, nowMs: number): void {
    const { stripeCount } = this.core.geometry;
    const isFar = (this.doneStripes - this.toldStripes) * SCRUB_CHECKPOINTS >= stripeCount;
    if (nowMs < this.checkpointAtMs && !isFar) return;
    this.toldStripes = this.doneStripes;
    this.checkpointLater();
    this.jobs.tell(scrub);
  }

  /** One stripe more is done, as fast as this array can where nothing else held it back. */
  private measure(nowMs: number): void {
    const { meter, core } = this;
    const { tuning, members, geometry, context } = core;
    if (Number.isFinite(this.ownSpeedMax) || members.avoidedRole >= 0) {
      meter.skip(nowMs);
      return;
    }
    const isBusy = this.isBusy();
    const { syncSpeedMin: speedMin, syncSpeedMax: speedMax } = tuning;
    meter.note(geometry.chunkBytes, {
      nowMs,
      wallMs: context.clock.wallMs(),
      load: isBusy ? "busy" : "idle",
      limit: speedLimit({ speedMin, speedMax }, isBusy),
    });
  }

  private checkpointLater(): void {
    this.checkpointAtMs = this.core.context.clock.nowMs() + CHECKPOINT_MS;
  }

  /** Records how far rebuild and resync have come, after a flush of all that. */
  checkpoint(): Promise<void> {
    // One that is under way knows less.
    this.checkpointing = this.checkpointing.then(() => this.writeCheckpoint());
    return this.checkpointing;
  }

  private async writeCheckpoint(): Promise<void> {
    const { core } = this;
    const { members, engine } = core;
    const { rebuild, resync, copy } = members;
    if (core.isFailed || (rebuild === null && resync === null && copy === null)) return;
    const copied = copy?.progress.cursor ?? 0;
    const rebuilt = rebuild?.cursor ?? 0;
    const resynced = resync?.cursor ?? 0;
    assert(rebuilt >= (rebuild?.durableStripe ?? 0), "a checkpoint of a rebuild does not go back");
    assert(resynced >= (resync?.durableStripe ?? 0), "a checkpoint of a resync does not go back");
    // Order: what a superblock says to be done has been flushed on every member.
    if (!(await engine.flush())) return;
    if (rebuild !== null) rebuild.durableStripe = rebuilt;
    if (resync !== null) resync.durableStripe = resynced;
    if (copy !== null) copy.progress.durableStripe = copied;
    if (!(await core.record())) return;
    if (rebuild !== null && members.rebuild === rebuild) members.recordedRebuildStripe = rebuilt;
  }

  /** How often a drive of the array was asked again, since it was opened. */
  get retriedCount(): number {
    let count = 0;
    for (const drive of this.core.roster.drives()) count += drive.io.counters.retried;
    return count;
  }

  // What a stripe met ------------------------------------------------------------------------

  /** A member has no room: no fault of its, and the work waits, for which the job says why. */
  isRefused(result: StripeResult): boolean {
    const isRefused = result.kind !== "done" && result.error.outcome === Outcome.noSpace;
    assert(this.current !== null, "a stripe is met by the work that runs");
    if (isRefused) {
      this.current.result["waits"] = `no space: ${this.reasonOf(result)}`;
      this.meter.skip(this.core.context.clock.nowMs());
    } else delete this.current.result["waits"];
    return isRefused;
  }

  reasonOf(result: StripeResult): string {
    if (result.kind === "done") return "the member left the array";
    const { role, op, offset } = result.error;
    const drive = this.core.roster.driveAt(role)?.name ?? `role ${role}`;
    return `${op === Op.read ? "read" : "write"} error on drive ${drive} at byte ${offset}`;
  }
}
