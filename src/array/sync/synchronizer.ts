/**
 * The background work of an array: at most one of rebuild, resync, replace, scrub and rehearsal at
 * a time.
 *
 * What is due follows from the array alone, so it is found again after a restart:
 *   the array is on its way to more members                          -> reshape
 *   a member is rebuilding, or a role is free and a spare is there -> rebuild
 *   rows may be out of sync                                          -> resync
 *   a member is being replaced                                       -> replace
 *   a scrub was set aside                                            -> that scrub
 * A scrub or a rehearsal begins when it was asked for and nothing of the above is due; the above
 * sets a scrub aside, and ends a rehearsal.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import type { Job, JobTable } from "../jobs.ts";
import type { ArrayPolicy } from "../policy/array-policy.ts";
import type { ScrubMemory, SyncAction } from "../protocol.ts";
import type { ArrayCore, MemberVerdicts } from "../running/array-core.ts";
import { fenceObstacle } from "../running/fence.ts";
import { beginGrowth, type GrowthParts, grow } from "./grow.ts";
import { rebuild } from "./rebuild.ts";
import { Rehearsals } from "./rehearsal.ts";
import { type ReplaceHost, replace } from "./replace.ts";
import { reshape } from "./reshape.ts";
import { resync, syncFirstStripe } from "./resync.ts";
import { Scrubs } from "./scrub.ts";
import type { Seating } from "./seating.ts";
import { promoteSpare } from "./spares.ts";
import type { SyncRates } from "./sync-rates.ts";
import { SyncRun } from "./sync-run.ts";

export class Synchronizer {
  readonly scrubs: Scrubs;
  readonly rehearsals: Rehearsals;
  /** The latest rebuild, also after it has ended. */
  lastRebuild: Job | null = null;
  /** The latest replace, the same. */
  lastReplace: Job | null = null;
  private readonly core: ArrayCore;
  private readonly policy: ArrayPolicy;
  private readonly seating: Seating;
  private readonly run: SyncRun;
  private readonly commitRebuild: (role: number, mayEnd: () => boolean) => Promise<boolean>;
  private readonly commitReplace: ReplaceHost["commitReplace"];
  private readonly verdicts: MemberVerdicts;
  private readonly growth: Omit<GrowthParts, "run" | "policy">;
  private isHeld = false;
  private running: Promise<void> = Promise.resolve();

  constructor(options: {
    core: ArrayCore;
    verdicts: MemberVerdicts;
    policy: ArrayPolicy;
    seating: Seating;
    jobs: JobTable;
    scrub: ScrubMemory;
    rates: SyncRates;
    requestCount: () => number;
    /** The update that makes a member count; false: it could not be made durable. */
    commitRebuild: (role: number, mayEnd: () => boolean) => Promise<boolean>;
    commitReplace: ReplaceHost["commitReplace"];
    growth: Omit<GrowthParts, "run" | "policy">;
  }) {
    const { core, jobs } = options;
    this.core = core;
    this.policy = options.policy;
    this.seating = options.seating;
    this.commitRebuild = options.commitRebuild;
    this.commitReplace = options.commitReplace;
    this.verdicts = options.verdicts;
    this.growth = options.growth;
    this.run = new SyncRun({ ...options, hasEnded: () => this.schedule() });
    this.scrubs = new Scrubs({ run: this.run, jobs, memory: options.scrub });
    this.rehearsals = new Rehearsals({ run: this.run, jobs });
  }

  get currentJob(): Job | null {
    return this.run.job;
  }

  get action(): SyncAction {
    return this.run.job?.kind ?? "idle";
  }

  /** Starts what is due, if nothing runs. */
  schedule(): void {
    const { core, run } = this;
    const { roster, members, guard } = core;
    if (run.isStopping || this.isHeld || run.job !== null) return;
    if (core.isFailed || core.isReadOnlyStart || roster.arriving !== null) return;
    if (guard.isBroken) return;
    if (core.geometry.isReshaping) {
      if (core.readOnlyReason === null) this.startReshape();
      return;
    }
    if (roster.rebuildingRole >= 0) this.startRebuild(roster.rebuildingRole);
    else if (members.degradedCount > 0 && roster.spares.length > 0) {
      inBackground(promoteSpare(core, this.seating), guard);
      // A degraded array waits for a drive: what is copied goes on when it is whole again.
    } else if (members.degradedCount > 0) return;
    else if (members.resync !== null) this.startResync();
    else if (members.copy !== null) this.startReplace(members.copy.role);
    else this.scrubs.goOn();
  }

  /** Nothing new is started until `resume`. */
  hold(): void {
    assert(!this.isHeld, "one at a time keeps work from starting");
    this.isHeld = true;
  }

  resume(): void {
    assert(this.isHeld, "only what was kept from starting goes on");
    this.isHeld = false;
    this.schedule();
  }

  /** Stops the running work at a checkpoint, for the stop of the array. */
  async stop(): Promise<void> {
    assert(!this.run.isStopping, "the work of an array is stopped once");
    this.run.isStopping = true;
    await this.running;
    await this.scrubs.running;
    await this.rehearsals.running;
    this.rehearsals.endPaused("cancelled", "the array was stopped");
    assert(this.run.job === null, "no work runs when the array has stopped");
  }

  /** Before the array takes writes: see ArrayPolicy.prepare. */
  syncFirstStripe(): Promise<void> {
    return syncFirstStripe(this.run);
  }

  /** Every kind of work but a reshape needs all members that it began with. */
  memberFailed(message: string): void {
    this.scrubs.setAside(message);
    if (this.run.job?.kind !== "reshape" || this.core.isFailed) this.run.abort(message);
    this.rehearsals.endPaused("failed", message);
  }

  /** What a replace copies to is out. */
  targetLost(message: string): void {
    if (this.run.job?.kind === "replace") this.run.abort(message);
  }

  /** The array is fenced: what runs ends with that, and what is paused does not go on. */
  endAll(reason: string): void {
    // Whatever else was about to end it: the fence says what becomes of the array.
    assert(reason !== "", "what ends all work is told");
    if (this.run.job !== null) this.run.abortReason = reason;
    this.scrubs.endPaused("failed", reason);
    this.rehearsals.endPaused("failed", reason);
  }

  /** What runs can make room at any time. */
  get isYielding(): boolean {
    return this.scrubs.isUnderWay || this.rehearsals.pausable !== null;
  }

  /** A scrub is set aside for `work`, and goes on behind it; a rehearsal ends. */
  async givingWay<T>(reason: string, work: () => Promise<T>): Promise<T> {
    const rehearsal = this.rehearsals.pausable;
    if (rehearsal !== null) {
      rehearsal.wish = "cancel";
      await rehearsal.untilAtRest();
    }
    return this.scrubs.givingWay(reason, work);
  }

  /** A paused job ends. */
  cancelPaused({ kind }: Job): void {
    if (kind === "rehearsal") this.rehearsals.endPaused("cancelled", null);
    else this.scrubs.cancel();
  }

  /** Why a scrub or a rehearsal cannot start now, or null. */
  obstacleTo(what: "scrub" | "rehearsal"): string | null {
    const { core, run } = this;
    if (core.isReadOnlyStart) return "the array was started read-only";
    if (core.geometry.isReshaping) return "the array gets more members: wait for the end of that";
    const obstacle = fenceObstacle(core);
    if (obstacle !== null) return obstacle.detail;
    if (core.members.degradedCount > 0) {
      const needed = `a ${what} needs all members and the array is degraded`;
      return `${needed}: add a drive and let it rebuild`;
    }
    if (run.job !== null) return `a ${run.job.kind} is running (job ${run.job.id}): wait for it`;
    if (core.members.resync !== null) return "a resync is due first";
    if (core.roster.target !== null) return "a member is being replaced: wait for the end of that";
    return null;
  }

  /** The array is to use so much of each member: its superblocks say that when the job ends. */
  startGrowth(sizeSectors: number): void {
    const { core, run, policy, growth } = this;
    assert(run.job === null && !this.isHeld, "one work runs at a time");
    const doneBytes = core.geometry.memberSizeBytes;
    const { fromStripe } = beginGrowth(core, sizeSectors);
    const job = run.begin("grow", doneBytes);
    job.result["sizeBytes"] = core.geometry.sizeBytes;
    this.running = grow({ ...growth, run, policy }, { fromStripe, sizeSectors });
    inBackground(this.running, core.guard);
    core.changed.raise();
  }

  private startReshape(): void {
    const { core, run, growth } = this;
    const { geometry } = core;
    const done = geometry.positionBytes / geometry.dataCount;
    const job = run.begin("reshape", done);
    job.result["sizeBytes"] = geometry.reshapedBytes;
    job.result["members"] = geometry.memberCount;
    const text = `array ${core.name} is laid out over ${geometry.memberCount} members`;
    core.emit("reshape.started", "info", text, { job: job.id });
    this.running = reshape({ run, front: growth.front });
    inBackground(this.running, core.guard);
    core.changed.raise();
  }

  private startRebuild(role: number): void {
    const { core, run } = this;
    const progress = core.members.rebuild;
    // The role is about to be seated: its superblocks are being written.
    if (progress === null) return;
    const drive = core.roster.driveAt(role);
    assert(drive !== null, "who is rebuilt is a drive");
    assert(core.members.rebuildingRole === role, "the member set rebuilds who has the seat");
    const job = run.begin("rebuild", progress.cursor * core.geometry.chunkBytes);
    job.result["drive"] = drive.name;
    this.lastRebuild = job;
    const text = `rebuilding drive ${drive.name} (role ${role})`;
    core.emit("rebuild.started", "info", text, { drive, job: job.id });
    const { policy, commitRebuild } = this;
    this.running = rebuild({ run, policy, commitRebuild }, role);
    inBackground(this.running, core.guard);
    core.changed.raise();
  }

  private startReplace(role: number): void {
    const { core, run, verdicts, commitReplace } = this;
    const { roster, members } = core;
    const [member, target] = [roster.driveAt(role), roster.target];
    assert(member !== null && target !== null, "a replace has two drives");
    assert(members.copy !== null, "a replace copies");
    const job = run.begin("replace", members.copy.progress.cursor * core.geometry.chunkBytes);
    job.result["drive"] = target.name;
    job.result["replaces"] = member.name;
    this.lastReplace = job;
    const text = `copying drive ${member.name} (role ${role}) to drive ${target.name}`;
    core.emit("replace.started", "info", text, { drive: target, job: job.id });
    const releaseTarget = () => verdicts.releaseTarget();
    this.running = replace({ run, releaseTarget, commitReplace }, member, target);
    inBackground(this.running, core.guard);
    core.changed.raise();
  }

  private startResync(): void {
    const { core, run } = this;
    const progress = core.members.resync;
    assert(progress !== null, "what is synced anew is there");
    const job = run.begin("resync", progress.cursor * core.geometry.chunkBytes);
    core.emit("resync.started", "info", "computing parity anew", { job: job.id });
    this.running = resync(run, this.policy);
    inBackground(this.running, core.guard);
  }
}
