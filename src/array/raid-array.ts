/**
 * One running array: puts its parts together, and carries out what follows from a change of its
 * members. The data that the parts share is running/array-core.ts, the states of members and what
 * follows from each is running/roster.ts.
 *
 * | something happens          | what follows, in this order                                   |
 * |----------------------------|---------------------------------------------------------------|
 * | a request fails for good   | no more I/O to its member; recorded in the superblocks of the |
 * |                            | others; only then are the writes it was part of acknowledged  |
 * | a second member is lost    | nothing is submitted or recorded any more (write-rules 15);   |
 * |                            | reads of what is there go on                                  |
 * | a drive is added           | superblocks name it with recovery_offset 0; then it rebuilds  |
 * | a rebuild comes to the end | flush, then one superblock update: that is the commit point   |
 * | the target of one fails    | it is recorded as faulty; degraded as before; the next spare  |
 * | a member is to be replaced | superblocks name its target; writes go to both; it is copied  |
 * | a copy comes to the end    | writes wait; flush, one update swaps the two, writes go on    |
 * | the target of one fails    | recorded before the next acknowledgement; whole as before     |
 * | a copied member fails      | as any; its target has the role, and what it lacks is rebuilt |
 * | another host has a drive   | nothing is submitted, recorded or answered (running/fence.ts) |
 */
import { assert, unreachable } from "../base/assert.ts";
import { inBackground } from "../base/background.ts";
import { EPERM, errnoName } from "../base/errno.ts";
import { Role } from "../md/superblock.ts";
import type { ArrayGuard } from "./array-guard.ts";
import type { Drive } from "./drives/drive.ts";
import type { JobTable } from "./jobs.ts";
import { ArrayPolicy } from "./policy/array-policy.ts";
import type { PplAreas } from "./policy/ppl-areas.ts";
import type { ArrayEvent, ArrayTuning, ScrubMemory } from "./protocol.ts";
import { ArrayCore, type MemberVerdicts } from "./running/array-core.ts";
import { DeadlineWatch } from "./running/deadline-watch.ts";
import { DirtyMark, dirtyMarkHostOf } from "./running/dirty-mark.ts";
import { raiseFence } from "./running/fence.ts";
import { MemberErrors } from "./running/member-errors.ts";
import { RaidArrayFront } from "./running/raid-front.ts";
import { ReadsAround } from "./running/reads-around.ts";
import type { SeatEffect, SeatEvent } from "./running/roster.ts";
import { assertAgreement } from "./running/roster-agreement.ts";
import type { StartPlan } from "./running/start-plan.ts";
import { SuspicionWatch } from "./running/suspicion-watch.ts";
import { Seating, seatAll } from "./sync/seating.ts";
import type { SyncRates } from "./sync/sync-rates.ts";
import { Synchronizer } from "./sync/synchronizer.ts";

export interface StopOptions {
  readonly keepsClients?: boolean;
  /** What it changes, in the member set of the superblocks, is of no run of this array any more. */
  readonly lastUpdate?: () => void;
}

export class RaidArray implements MemberVerdicts {
  readonly core: ArrayCore;
  readonly front: RaidArrayFront;
  readonly dirtyMark: DirtyMark;
  readonly policy: ArrayPolicy;
  readonly seating: Seating;
  readonly synchronizer: Synchronizer;
  private readonly around: ReadsAround;
  private readonly deadlines: DeadlineWatch;
  private readonly suspicions: SuspicionWatch;
  private readonly errors: MemberErrors;
  private hasFailed = false;

  constructor(options: {
    guard: ArrayGuard;
    jobs: JobTable;
    emit: (event: ArrayEvent) => void;
    areas: PplAreas;
    tuning: ArrayTuning;
    rates: SyncRates;
    scrub: ScrubMemory;
    plan: StartPlan;
    /** Of the array that it was until now; null: it gets one of its own. */
    front: RaidArrayFront | null;
  }) {
    const { guard, plan, tuning, rates, emit, jobs, scrub, areas } = options;
    const core = new ArrayCore({
      ...{ guard, plan, tuning, emit },
      engineHooks: {
        onWriteWaiting: () => this.dirtyMark.writeWaiting(),
        onMemberError: (error) => this.errors.judge(error),
        onTargetError: (error) => this.errors.judgeTarget(error),
        onFinished: (_, tag, status, address) => this.front.finished(tag, status, address),
        onRepaired: (role, bytes) => this.errors.repaired(role, bytes),
        onLost: (stripe, row, roles) => this.errors.lost(stripe, row, roles),
      },
      updateHooks: {
        beforeUpdate: () => this.policy.beforeUpdate(core.state.events + 1),
        superblockFailed: (drive, errno) => this.superblockFailed(drive, errno),
      },
    });
    this.core = core;
    this.errors = new MemberErrors(core, this);
    this.around = new ReadsAround(core);
    this.deadlines = new DeadlineWatch(core, this, this.around);
    this.suspicions = new SuspicionWatch(core, this.around);
    const { engine, roster } = core;
    this.front = options.front ?? new RaidArrayFront({ engine, roster, guard });
    options.front?.moveTo({ engine, roster, guard });
    seatAll(core, this, plan);
    this.policy = new ArrayPolicy({ core, verdicts: this, areas, bitmap: plan.bitmap });
    const hasEnded = (): void => this.synchronizer.schedule();
    this.seating = new Seating({ core, verdicts: this, policy: this.policy, hasEnded });
    this.dirtyMark = new DirtyMark({
      host: dirtyMarkHostOf(core, () => this.front.writeCount),
      timers: core.context.timers,
      isDirty: core.state.isMarkedDirty,
    });
    const { policy, seating, front } = this;
    this.synchronizer = new Synchronizer({
      ...{ core, policy, seating, jobs, scrub, rates },
      growth: { dirtyMark: this.dirtyMark, front },
      verdicts: this,
      requestCount: () => front.requestCount,
      commitRebuild: (role, mayEnd) => this.commitRebuild(role, mayEnd),
      commitReplace: (role, mayEnd) => this.commitReplace(role, mayEnd),
    });
    if (plan.isReadOnly) this.makeReadOnly("it was started read-only");
  }

  /** False once all members are durably marked clean. */
  get isDirty(): boolean {
    return this.core.state.isMarkedDirty || this.dirtyMark.state !== "clean";
  }

  /** Begins background work and takes requests; call once, when the array is registered. */
  start(): void {
    const { core } = this;
    assert(!core.hasStarted, "an array is started once");
    assert(!core.isStopped, "an array that was stopped is not started");
    assertAgreement(core);
    core.hasStarted = true;
    if (core.guard.isBroken) return;
    this.deadlines.start();
    this.suspicions.start();
    if (core.isReadOnlyStart) return;
    this.dirtyMark.start();
    this.policy.start();
    this.front.goOn();
    this.synchronizer.schedule();
  }

  /** Once a turn of the reactor. */
  turn(): void {
    this.core.engine.turn();
    this.front.turn();
    this.core.changed.raise();
  }

  /** A turn has something to do, although nothing has happened. */
  get isDue(): boolean {
    return this.core.engine.isDue || this.front.isDue;
  }

  /**
   * Answers what is under way, marks the array clean, and lets go of the engine. What has not got
   * that far may wait in the front for the array that comes next, and the last update of the
   * superblocks, of an array that is clean, may say what that is.
   */
  async stop({ keepsClients = false, lastUpdate }: StopOptions = {}): Promise<void> {
    const { core } = this;
    const { engine, superblocks, roster } = core;
    assert(!core.isStopped, "an array is stopped once");
    core.isStopped = true;
    if (!keepsClients) this.front.isStopping = true;
    await this.synchronizer.stop();
    await core.changed.until(() => engine.activeRequests === 0);
    await this.policy.stop();
    if (!core.isReadOnlyStart) await this.dirtyMark.stop();
    if (lastUpdate !== undefined && !this.isDirty && !core.isFailed) {
      await superblocks.update(lastUpdate);
    }
    engine.rows.parked.dismiss();
    superblocks.close();
    // A drive that is being seated is on its way to an update of its own.
    const isAtRest = () => engine.isIdle && !superblocks.isBusy && roster.arriving === null;
    await core.changed.until(isAtRest);
    // Only now: a member that hangs is failed for what the stop itself asks of it, too.
    this.deadlines.stop();
    this.suspicions.stop();
    this.around.stop();
    assert(engine.activeRequests === 0, "an array that lets go of its engine has answered");
    assertAgreement(core);
    engine.close();
    core.guard.close();
    // What is fenced stays shut until it is probed again.
    for (const drive of roster.drives()) drive.admit();
  }

  // What members did -------------------------------------------------------------------------

  /**
   * A member did not take a write or flush. Once two members are gone these are taken back, or not
   * tried again (write-rules 15): how they end says nothing about a drive whose reads go on.
   */
  writeFailed(role: number, cause: string): void {
    if (!this.core.isFailed) this.failMember(role, cause);
  }

  /** The superblock of this drive cannot be written: it leaves the array. */
  private superblockFailed(drive: Drive, errno: number): void {
    const { roster, members } = this.core;
    const cause = `superblock write: ${errnoName(errno)}`;
    const role = roster.roleOf(drive);
    if (role < 0) {
      if (roster.isSpare(drive)) this.spareFailed(drive, cause);
      else if (roster.target === drive) this.failTarget(cause);
    } else if (members.isPresent(role)) this.writeFailed(role, cause);
    else this.failMember(role, cause);
  }

  /**
   * Takes a member out of the array and records that in the others. Of a fenced array no member
   * fails: who holds it now tells what they are.
   */
  failMember(role: number, cause: string): void {
    const { members, roster } = this.core;
    const failed = roster.driveAt(role);
    const isTakenOver = members.degradedCount === 0 && members.resync === null;
    this.change(role, { kind: "failed", cause, isTakenOver });
    const isOut = !members.isPresent(role) || members.devices[role] !== failed?.io;
    assert(members.isFenced || isOut, "who failed is no member any more");
    assert(cause !== "", "a failure has a cause");
  }

  /** The array is as it was before the replace. */
  failTarget(cause: string): void {
    this.dropTarget({ kind: "target-failed", cause });
  }

  /** Somebody wants the target out. */
  releaseTarget(): void {
    this.dropTarget({ kind: "target-left" });
  }

  private dropTarget(event: Extract<SeatEvent<Drive>, { kind: "target-failed" | "target-left" }>) {
    const { roster, members } = this.core;
    const role = roster.replacingRole;
    // Once two members are gone, or another host has them, it says nothing about a drive.
    if (role < 0 || members.isFailed) return;
    this.change(role, event);
    assert(members.copy === null, "nothing is copied to who is dropped");
  }

  /** Its superblock cannot be written, or what is on it cannot be read: it is no spare any more. */
  spareFailed(drive: Drive, cause: string): void {
    const { core } = this;
    const failed = { kind: "failed", cause, isTakenOver: false } as const;
    for (const effect of core.roster.applyToSpare(drive, failed)) {
      if (effect.kind === "tell-failed") {
        core.emit("spare.failed", "warning", `spare ${drive.name} failed: ${cause}`, { drive });
      } else this.carryOut(-1, effect);
    }
    const isOut = core.members.isFenced || !core.roster.isSpare(drive);
    assert(isOut, "a spare that failed has no seat any more");
    assertAgreement(core);
  }

  /** Another host has a drive of the array (write-rules 21). */
  fenced(drive: Drive): void {
    const { core } = this;
    if (raiseFence(core, drive)) this.synchronizer.endAll(core.fencedBy ?? "");
    assert(core.fencedBy !== null && core.isFailed, "a fenced array writes nothing");
    assertAgreement(core);
  }

  // What follows -----------------------------------------------------------------------------

  private change(role: number, event: SeatEvent<Drive>): void {
    const effects = this.core.roster.apply(role, event);
    for (const effect of effects) this.carryOut(role, effect);
    assertAgreement(this.core);
    this.core.changed.raise();
  }

  private carryOut(role: number, effect: SeatEffect<Drive>): void {
    const { core } = this;
    const { members, roster } = core;
    switch (effect.kind) {
      case "leave-set":
        assert(members.isPresent(role), "who leaves the member set was in it");
        members.remove(role);
        this.policy.memberLeft();
        return;
      case "take-over":
        // What is under way may be on one of the two alone.
        core.engine.parts.memberIo.doubtAllUnderWay();
        members.remove(role);
        members.takeOverCopy(core.geometry.stripeCount);
        this.policy.memberLeft();
        this.seating.takeOver(role);
        return;
      case "end-copy":
        members.endCopy();
        this.seating.endCopy();
        return;
      case "swap":
        assert(effect.drive.superblock !== null, "who was a member carries a superblock");
        core.dismissed.add(effect.drive.superblock.deviceUuid);
        members.swapCopy();
        this.seating.takeOver(role);
        return;
      case "count-in-sync":
        assert(!core.isReadOnlyStart, "a read-only start changes no member");
        members.finishRebuild(role);
        this.policy.syncEnds(true);
        return;
      case "close":
        effect.drive.fail(effect.cause, core.context);
        return;
      case "shut":
        effect.drive.shut();
        return;
      case "device-role":
        assert(effect.as !== "role" || role >= 0, "who gets a role gets one that there is");
        roster.setDeviceRole(effect.drive, effect.as === "role" ? role : Role[effect.as]);
        return;
      case "tell-failed": {
        const { drive, cause } = effect;
        const message = `drive ${drive.name} (role ${role}) failed: ${cause}`;
        core.emit("member.failed", "critical", message, { drive });
        return;
      }
      case "lost-member":
        this.memberLost(role, effect);
        return;
      case "lost-target":
        this.synchronizer.targetLost(`drive ${effect.drive.name} is out`);
        if (!core.isFailed) this.recordFailure();
        return;
      default:
        unreachable(effect);
    }
  }

  private memberLost(
    role: number,
    { drive, wasInSync }: { readonly drive: Drive; readonly wasInSync: boolean },
  ): void {
    const { core } = this;
    const { members } = core;
    const isOut = members.devices[role] !== drive.io || !members.isPresent(role);
    assert(isOut, "the engine asks nothing more of a member that is lost");
    assert(drive.failure !== "", "a lost member says why");
    const message = `drive ${drive.name} (role ${role}) failed: ${drive.failure}`;
    this.synchronizer.memberFailed(message);
    if (core.isFailed) {
      this.failArray(message);
      return;
    }
    if (!core.isReadOnlyStart) this.recordFailure();
    if (members.resync !== null && members.provenRows === null) {
      this.makeReadOnly(
        "a member was lost during the resync after a crash: rows that were not yet resynced " +
          "cannot be proved; stop it and start it with force to accept that",
      );
    }
    if (!wasInSync) return;
    const { memberCount } = core.geometry;
    const text = `running with ${memberCount - 1} of ${memberCount} members`;
    core.emit("array.degraded", "critical", text);
  }

  private recordFailure(): void {
    const { core } = this;
    assert(!core.isReadOnlyStart, "a read-only start records nothing");
    // Order: the failure is durable in the other superblocks before any write that the member
    // missed is acknowledged.
    core.engine.beginRecord();
    const recorded = core.superblocks.insist(
      () => {},
      () => false,
    );
    const goOn = (isDurable: boolean): void => {
      if (!isDurable && !core.isFailed && !core.isStopped) {
        this.makeReadOnly("the failure of a member could not be recorded");
      }
      core.engine.endRecord();
      this.synchronizer.schedule();
    };
    inBackground(recorded.then(goOn), core.guard);
  }

  /** The rebuild is complete and flushed: the member counts as in sync with this update. */
  private async commitRebuild(role: number, mayEnd: () => boolean): Promise<boolean> {
    const { core } = this;
    const { members, roster } = core;
    const isFilled = (step: "filling" | "committing"): boolean => {
      const seat = roster.seatOf(role);
      return seat.kind === "rebuilding" && seat.step === step;
    };
    const isDurable = await core.superblocks.insist(() => {
      if (!isFilled("filling")) return;
      this.change(role, { kind: "filled" });
      // What a rebuild has filled is the XOR of the others: there, parity is right. What an earlier
      // one had filled before a crash is not known to be, and its resync comes next.
      if (!members.isResyncOfRebuilt) members.endResync();
    }, mayEnd);
    // Another member may have failed since: then the array has, and nothing counts any more.
    if (!isDurable || core.isFailed || !isFilled("committing")) return false;
    this.change(role, { kind: "committed" });
    assert(roster.seatOf(role).kind === "in-sync", "a rebuild that is committed has a member");
    return true;
  }

  /**
   * The copy is complete and flushed: the target takes the place of its member with one update, in
   * a moment in which nothing is written. "again": something has to be copied once more.
   */
  private async commitReplace(
    role: number,
    mayEnd: () => boolean,
  ): Promise<"done" | "again" | "failed"> {
    const { core, dirtyMark } = this;
    const { members, roster, engine } = core;
    const { copy } = members;
    const isStill = (): boolean => {
      const seat = roster.seatOf(role);
      return seat.kind === "replacing" && seat.step !== "naming" && members.copy === copy;
    };
    // Order: what lies on the member alone (its log, bits) is about nothing when the target counts.
    const isClean = await dirtyMark.pause();
    try {
      if (!isClean || copy === null || core.isFailed || !isStill()) return "failed";
      if (copy.firstDoubtful >= 0) return "again";
      if (!(await engine.flush()) || !(await this.policy.bringUpTarget())) return "failed";
      // Order: the target says by itself that it has all of it before others say that it counts:
      // an update cut short may leave it as it is.
      const { stripeCount } = core.geometry;
      const isTold = await core.superblocks.insist(() => {
        copy.progress.durableStripe = stripeCount;
      }, mayEnd);
      if (!isTold || core.isFailed || !isStill() || mayEnd()) return "failed";
      const isDurable = await core.superblocks.insist(() => {
        const seat = roster.seatOf(role);
        if (seat.kind !== "replacing" || seat.step !== "copying") return;
        this.change(role, { kind: "copied" });
      }, mayEnd);
      // Where there was no room it stays on its way: whatever is written goes to both of them.
      if (!isDurable || core.isFailed || !isStill()) return "failed";
      this.change(role, { kind: "swapped" });
      assert(roster.target === null && members.copy === null, "who was swapped is a member");
      return "done";
    } finally {
      dirtyMark.resume();
    }
  }

  private failArray(cause: string): void {
    if (this.hasFailed) return;
    assert(this.core.isFailed, "an array fails with its second member");
    this.hasFailed = true;
    // Rule 15: nothing more is submitted once two members are gone.
    for (const drive of this.core.roster.drives()) drive.refuseWrites();
    this.core.emit(
      "array.failed",
      "critical",
      `more members are missing than the array can do without; last: ${cause}. It serves reads ` +
        "of what is there. Connect the drives again, stop the array and start it",
    );
  }

  private makeReadOnly(reason: string): void {
    const { core } = this;
    assert(reason !== "", "an array is read-only for a reason");
    core.readOnlyReason = reason;
    this.front.isReadOnly = true;
    core.engine.refuseGated(EPERM);
    if (!core.isReadOnlyStart) core.emit("array.read-only", "critical", reason);
  }
}
