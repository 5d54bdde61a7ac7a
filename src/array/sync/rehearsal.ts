/**
 * Rehearsals: "lose this member now, rebuild its role onto the spare, verify", while clients read and
 * write, and without a byte written to any drive. Each stripe in its turn, under its lock:
 *
 *   the rebuild fills the chunk of who is lost, from the others, on an overlay (rehearsal-stage.ts)
 *   -> it is read back and compared with what the member holds -> the overlay is dropped
 *
 * A stripe is verified as soon as it is rebuilt, because only while it is held does the overlay
 * agree with what clients write. So the overlay is no longer than what is under work, lies in the
 * sweep's own window, and nothing of a rehearsal is left by a crash. It is the weakest work: it
 * ends when a member fails, and the real rebuild begins.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { MIB, ROW_BYTES } from "../../base/units.ts";
import { Outcome } from "../../block/io-error.ts";
import type { RetryFilter } from "../../block/retry-filter.ts";
import type { Superblock } from "../../md/superblock.ts";
import type { StripeResult } from "../../raid5/sync/stripe-sync.ts";
import { type Job, type JobTable, newJobStatus } from "../jobs.ts";
import type { JobStatus } from "../protocol.ts";
import { RehearsalReport } from "./rehearsal-report.ts";
import { RehearsalStage } from "./rehearsal-stage.ts";
import { isLate } from "./scrub-report.ts";
import type { StripeWork } from "./sweep.ts";
import type { SyncRun } from "./sync-run.ts";

/** More than other work has: its overlay lies there too. */
const WINDOW_BYTES_MAX = 16 * MIB;

export interface RehearsalPlan {
  readonly failedRole: number;
  /** Null: nobody takes the role. */
  readonly spare: string | null;
  /** How the drive that takes the role is laid out, or would be. */
  readonly layout: Superblock;
  /** Why the role would not be rebuilt, as far as that is known before; null: nothing. */
  readonly obstacle: string | null;
  /** Whether a drive that takes the role answers; nobody but the end waits for that. */
  readonly isSpareReadable: Promise<boolean>;
}

/** One rehearsal, from its start to its end, over its pauses. */
interface Rehearsal {
  readonly job: Job;
  readonly plan: RehearsalPlan;
  readonly report: RehearsalReport;
  /** All stripes below it are done. */
  stripe: number;
}

type Met = "done" | "late" | "failed";

/** A part of the chunk that was rebuilt. */
interface VerifiedPart {
  readonly stripe: number;
  /** Its first byte within the chunk. */
  readonly column: number;
  readonly bytes: number;
  /** Where what the member holds, and what was rebuilt, are read to. */
  readonly own: number;
  readonly back: number;
}

export class Rehearsals {
  /** The one under way. */
  running: Promise<void> = Promise.resolve();
  private readonly run: SyncRun;
  private readonly jobs: JobTable;
  private paused: Rehearsal | null = null;
  private readonly sources = new Uint32Array(2);

  constructor(options: { run: SyncRun; jobs: JobTable }) {
    this.run = options.run;
    this.jobs = options.jobs;
  }

  /** A rehearsal of the same that was paused goes on. */
  start(plan: RehearsalPlan): Job {
    const { run, paused } = this;
    const { core } = run;
    const { degradedCount, resync } = core.members;
    assert(degradedCount === 0 && resync === null, "what is rehearsed is the first loss");
    const isSame = this.goesOn(plan);
    if (!isSame) this.endPaused("cancelled", "another rehearsal was started");
    this.paused = null;
    const rehearsal = paused !== null && isSame ? paused : this.begin(plan);
    const { job, report } = rehearsal;
    if (rehearsal === paused) {
      run.takeUp(job);
      this.jobs.resume(job);
    }
    Object.assign(job.result, report.result);
    const onto = report.spare === "" ? "no spare takes its role" : `onto drive ${report.spare}`;
    const text = `rehearsing the loss of drive ${report.fails} and its rebuild: ${onto}`;
    core.emit("rehearsal.started", "info", text, { job: job.id });
    this.running = this.play(rehearsal);
    inBackground(this.running, core.guard);
    return job;
  }

  /** The job that `start` would answer with. */
  foretell(plan: Omit<RehearsalPlan, "isSpareReadable">): JobStatus {
    const { core } = this.run;
    const { paused } = this;
    if (paused !== null && this.goesOn(plan)) {
      return { ...paused.job.status(), state: "running", error: null };
    }
    return newJobStatus(core, "rehearsal", this.reportOf(plan).result);
  }

  /** A rehearsal of the same is paused. */
  private goesOn({ failedRole, spare }: Pick<RehearsalPlan, "failedRole" | "spare">): boolean {
    const before = this.paused?.plan;
    return before?.failedRole === failedRole && before.spare === spare;
  }

  private begin(plan: RehearsalPlan): Rehearsal {
    const report = this.reportOf(plan);
    return { job: this.run.begin("rehearsal", 0), plan, report, stripe: 0 };
  }

  private reportOf({
    failedRole,
    spare,
    obstacle,
  }: Omit<RehearsalPlan, "isSpareReadable">): RehearsalReport {
    const { geometry, roster, members } = this.run.core;
    const rehearsed = Array.from({ length: geometry.memberCount }, (_, role) => {
      const drive = roster.driveAt(role);
      assert(drive !== null, "all members are there when a loss is rehearsed");
      return { drive: drive.name, dataOffset: members.dataOffset[role]! };
    });
    return new RehearsalReport({ geometry, members: rehearsed, failedRole, spare, obstacle });
  }

  /** The one that runs, or null. */
  get pausable(): Job | null {
    const { job } = this.run;
    return job?.kind === "rehearsal" ? job : null;
  }

  /** Whose loss is rehearsed by the one that is paused; null: none is. */
  get pausedRole(): number | null {
    return this.paused?.plan.failedRole ?? null;
  }

  endPaused(state: "cancelled" | "failed", reason: string | null): void {
    const { paused } = this;
    assert(paused === null || paused.job !== this.run.job, "what is paused does not run");
    if (paused !== null) this.jobs.end(paused.job, state, reason);
    this.paused = null;
  }

  // The play ---------------------------------------------------------------------------------

  private async play(rehearsal: Rehearsal): Promise<void> {
    const { run } = this;
    const { core } = run;
    const { plan, report, job } = rehearsal;
    const { clock, enginePool } = core.context;
    const { failedRole, layout } = plan;
    const spareName = plan.spare ?? report.fails;
    const fromStripe = rehearsal.stripe;
    const about = { core, report, failedRole, layout, spareName, fromStripe };
    const stage = new RehearsalStage(about);
    const retriedBefore = run.retriedCount;
    const begunMs = clock.nowMs();
    let rehearsedStripes = 0;
    const { progress } = stage;
    const work: StripeWork = async (stripe, buffer) => {
      if (progress.isDone(stripe)) return true;
      const met = await this.rehearse(stage, rehearsal, stripe, buffer);
      if (met === "failed") return false;
      if (met === "done") rehearsedStripes += 1;
      else report.uncheckedBytes += core.geometry.chunkBytes;
      progress.markDone(stripe);
      rehearsal.stripe = progress.cursor;
      run.advance(progress.cursor);
      Object.assign(job.result, report.result);
      return met === "late" ? "late" : true;
    };
    const isComplete = await run.sweep(progress, {
      toStripe: Number.POSITIVE_INFINITY,
      bufferBytes: stage.bufferBytes,
      windowBytesMax: Math.min(WINDOW_BYTES_MAX, enginePool.totalBytes / 4),
      work,
    });
    stage.close();
    report.retries += run.retriedCount - retriedBefore;
    report.noteRun(clock.nowMs() - begunMs, rehearsedStripes * core.geometry.chunkBytes);
    this.end(rehearsal, isComplete && (await this.hasAskedSpare(rehearsal)));
  }

  /** False: the spare has not answered yet, and something else has to go on. */
  private async hasAskedSpare({ plan, report }: Rehearsal): Promise<boolean> {
    const { run } = this;
    const { changed } = run.core;
    let canBeRead: boolean | null = null;
    const asked = plan.isSpareReadable.then((isReadable) => {
      canBeRead = isReadable;
      changed.raise();
    });
    inBackground(asked, run.core.guard);
    await changed.until(() => canBeRead !== null || run.shouldStop);
    if (canBeRead === false) {
      report.noteObstacle(`spare ${report.spare} cannot be read: replace it`);
    }
    return canBeRead !== null;
  }

  private end(rehearsal: Rehearsal, isComplete: boolean): void {
    const { run } = this;
    const { core } = run;
    const { job, report } = rehearsal;
    const isThrough = rehearsal.stripe === core.geometry.stripeCount;
    assert(!isComplete || isThrough, "a rehearsal that is complete has been at each stripe");
    if (isComplete && run.abortReason === null) {
      Object.assign(job.result, report.whole);
      run.finish(job, "done", null);
      core.emit("rehearsal.finished", report.severity, report.text, { job: job.id });
      return;
    }
    Object.assign(job.result, report.result);
    if (run.abortReason === null && job.wish === "pause" && !run.isStopping) {
      this.paused = rehearsal;
      run.finish(job, "paused", null);
      core.emit("rehearsal.paused", "info", "rehearsal paused", { job: job.id });
      return;
    }
    const reason = run.abortReason ?? (run.isStopping ? "the array was stopped" : null);
    run.finish(job, run.abortReason === null ? "cancelled" : "failed", reason);
    if (run.abortReason === null) return;
    const text = `the rehearsal of the loss of drive ${report.fails} ended: ${reason}`;
    core.emit("rehearsal.aborted", "warning", text, { job: job.id });
  }

  // One stripe -------------------------------------------------------------------------------

  /** "passed": a member does not answer, and reads go around it. */
  private async rehearse(
    stage: RehearsalStage,
    { plan, report }: Rehearsal,
    stripe: number,
    buffer: number,
  ): Promise<Met | "passed"> {
    const { run } = this;
    const { members, engine } = run.core;
    const held = await run.holdFor(stripe);
    if (held < 0) return "failed";
    if (members.avoidedRoles(stripe) !== 0) {
      engine.releaseStripe(held);
      return "passed";
    }
    const taken = await stage.takeStripe(stripe, buffer);
    const result = await stage.stripes.rebuild(stripe, plan.failedRole, buffer);
    let met = this.metBy(result);
    if (met === "done") met = await this.verify(stage, report, stripe, buffer);
    stage.giveStripe(stripe, taken);
    engine.releaseStripe(held);
    if (met === "late") report.lateReads += 1;
    return run.abortReason === null ? met : "failed";
  }

  private metBy(result: StripeResult): Met {
    if (result.kind === "done") return "done";
    if (isLate(result, this.run.core.members)) return "late";
    this.run.abort(this.run.reasonOf(result));
    return "failed";
  }

  /** Compares what was rebuilt with what the member holds. */
  private async verify(
    stage: RehearsalStage,
    report: RehearsalReport,
    stripe: number,
    buffer: number,
  ): Promise<Met> {
    const { verifyBytes, extentBytes, stripes } = stage;
    // What the rebuild has read is not needed any more.
    const places = { own: buffer + stripes.bufferBytes, back: buffer };
    for (let column = 0; column < extentBytes; column += verifyBytes) {
      const bytes = Math.min(verifyBytes, extentBytes - column);
      const met = await this.verifyPart(stage, report, { stripe, column, bytes, ...places });
      if (met !== "done") return met;
    }
    return "done";
  }

  /** As a whole, or row by row where not all of it can be compared, or is the same. */
  private async verifyPart(
    stage: RehearsalStage,
    report: RehearsalReport,
    part: VerifiedPart,
  ): Promise<Met> {
    const { stripe } = part;
    const lostRows = stage.lostRows.get(stripe);
    assert(lostRows !== undefined, "what is verified is a stripe under work");
    const whole = lostRows.size === 0 ? await this.readBoth(stage, part) : "bad";
    if (whole === "late" || whole === "failed") return whole;
    if (whole === "done" && !this.isOnRecord(stage, part) && this.isSame(part)) return "done";
    for (let byte = 0; byte < part.bytes; byte += ROW_BYTES) {
      const at = rowOf(part, byte);
      const row = at.column / ROW_BYTES;
      if (lostRows.has(row)) continue;
      const read = whole === "done" ? whole : await this.readBoth(stage, at);
      if (read === "late" || read === "failed") return read;
      if (read === "bad" || this.isOnRecord(stage, at)) report.unverifiedBytes += ROW_BYTES;
      else if (!this.isSame(at)) report.noteMismatch(stripe, row);
    }
    return "done";
  }

  /** What the member holds, and what was rebuilt, which is on the overlay or ends the rehearsal. */
  private async readBoth(
    stage: RehearsalStage,
    { stripe, column, bytes, own, back }: VerifiedPart,
  ): Promise<Met | "bad"> {
    const [held, rebuilt] = await Promise.all([
      this.read(stage.lost, stage.lostByteOf(stripe) + column, bytes, own),
      this.read(stage.rebuilt, stage.targetByteOf(stripe) + column, bytes, back),
    ]);
    if (rebuilt === "done") return held;
    this.run.abort("what was rebuilt is not on the overlay");
    return "failed";
  }

  /** What the member holds there is not what belongs there, or not known to be. */
  private isOnRecord(stage: RehearsalStage, { stripe, column, bytes }: VerifiedPart): boolean {
    const rows = this.run.core.members.badRows[stage.failedRole];
    if (rows === null || rows === undefined || rows.isEmpty) return false;
    return rows.has(stage.lostByteOf(stripe) + column, bytes);
  }

  private isSame({ own, back, bytes }: VerifiedPart): boolean {
    this.sources[0] = own;
    this.sources[1] = back;
    return this.run.core.context.kernels.findMismatch(this.sources, 2, bytes) < 0;
  }

  private async read(
    device: RetryFilter,
    offset: number,
    bytes: number,
    address: number,
  ): Promise<Met | "bad"> {
    const { outcome } = await this.run.core.asyncIo.read(device, { offset, bytes, address });
    if (outcome === Outcome.done) return "done";
    if (outcome === Outcome.timedOut) return "late";
    if (outcome === Outcome.mediaError) return "bad";
    this.run.abort(`a read of drive ${device.name} failed`);
    return "failed";
  }
}

function rowOf({ stripe, column, own, back }: VerifiedPart, byte: number): VerifiedPart {
  const at = { stripe, column: column + byte, bytes: ROW_BYTES };
  return { ...at, own: own + byte, back: back + byte };
}
