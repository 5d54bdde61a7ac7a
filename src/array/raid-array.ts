/**
 * One running array: its engine, its members' states, and what is written about them.
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
 * | another host has a drive   | nothing is submitted, recorded or answered (fence.ts)         |
 */

import { assert } from "../base/assert.ts";
import { inBackground } from "../base/background.ts";
import { EIO, EPERM, errnoName } from "../base/errno.ts";
import { SECTOR_BYTES } from "../base/units.ts";
import type { AsyncIo } from "../block/async-io.ts";
import { OUTCOME_NAMES, Outcome } from "../block/io-error.ts";
import { emptyBadBlockLog } from "../md/bad-block-log.ts";
import { Role, type Superblock } from "../md/superblock.ts";
import { StripeEngine } from "../raid5/engine.ts";
import type { EngineEnvironment, MemberError } from "../raid5/environment.ts";
import { Geometry } from "../raid5/geometry.ts";
import { MemberSet } from "../raid5/members/member-set.ts";
import { StripeRanges } from "../raid5/members/sync-progress.ts";
import { OP_NAMES, Op } from "../reactor/io-table.ts";
import type { ArrayContext, ArrayGuard } from "./array-guard.ts";
import { watchBadBlocks } from "./drives/bad-blocks.ts";
import type { Drive } from "./drives/drive.ts";
import { FRONT_REQUESTS_MAX } from "./front.ts";
import type { JobTable } from "./jobs.ts";
import { ArrayPolicy } from "./policy/array-policy.ts";
import type { PplAreas } from "./policy/ppl-areas.ts";
import type { ArrayTuning, EventKind, ScrubMemory, Severity } from "./protocol.ts";
import { superblockHostOf } from "./running/array-superblocks.ts";
import { DeadlineWatch } from "./running/deadline-watch.ts";
import { DirtyMark, dirtyMarkHostOf } from "./running/dirty-mark.ts";
import { ErrorNotes } from "./running/events.ts";
import { admit, Fence } from "./running/fence.ts";
import { lostBytesOf } from "./running/lost-bytes.ts";
import { RaidArrayFront } from "./running/raid-front.ts";
import { SuperblockState } from "./running/superblock-state.ts";
import { SuperblockWriter } from "./running/superblock-writer.ts";
import type { ArrayHooks, RoleSlot, StartPlan } from "./start-plan.ts";
import { beginResync, seatAtStart } from "./sync/seats-at-start.ts";
import { Synchronizer } from "./sync/synchronizer.ts";

const OUTSTANDING_POLL_MS = 2;
/** md's default limit, the size of its stripe cache. */
const READ_ERRORS_IN_A_ROW_MAX = 256;

export class RaidArray {
  /** Its label: for messages. */
  name: string;
  readonly identity: Superblock;
  readonly geometry: Geometry;
  readonly members: MemberSet;
  readonly engine: StripeEngine;
  readonly front: RaidArrayFront;
  readonly roles: RoleSlot[];
  readonly spares: Drive[];
  readonly dirtyMark: DirtyMark;
  readonly superblocks: SuperblockWriter;
  readonly synchronizer: Synchronizer;
  readonly policy: ArrayPolicy;
  /** What the superblocks say. */
  readonly state: SuperblockState;
  private readonly deadlines = new DeadlineWatch(this);
  private readonly notes = new ErrorNotes(this);
  readonly fence = new Fence(this);
  /** Whatever is thrown in here stops this array alone: the doors are listed there. */
  readonly guard: ArrayGuard;
  readonly context: ArrayContext;
  readonly asyncIo: AsyncIo;
  readonly environment: EngineEnvironment;
  readonly tuning: ArrayTuning;
  /** Members failed or removed by request, by device UUID: they do not come back by themselves. */
  readonly dismissed = new Set<string>();
  /** Why writes are refused although enough members are there; null: they are not. */
  readOnlyReason: string | null = null;
  private readonly hooks: ArrayHooks;
  private hasFailed = false;
  /** Its logs are seated and its members at one event count: requests may come. */
  hasStarted = false;
  private isStopped = false;
  /** The drive that is just being seated. */
  seating: Drive | null = null;
  /** It is to leave before it is seated. */
  private unwanted: Drive | null = null;

  constructor(options: {
    guard: ArrayGuard;
    jobs: JobTable;
    hooks: ArrayHooks;
    areas: PplAreas;
    tuning: ArrayTuning;
    scrub: ScrubMemory;
    plan: StartPlan;
  }) {
    const { guard, plan } = options;
    const { context, router, asyncIo } = guard;
    const { superblock } = plan;
    this.guard = guard;
    this.context = context;
    this.asyncIo = asyncIo;
    this.hooks = options.hooks;
    this.tuning = options.tuning;
    this.name = plan.name;
    this.identity = superblock;
    // A dirty array stays marked until its resync is through, whether or not anybody writes.
    const isMarkedDirty = plan.resyncFromSector === 0;
    this.state = new SuperblockState(superblock, { isMarkedDirty });
    this.spares = [...plan.spares];
    this.geometry = new Geometry({
      memberCount: superblock.memberCount,
      chunkBytes: superblock.chunkSectors * SECTOR_BYTES,
      layout: superblock.layout,
      memberSizeBytes: superblock.sizeSectors * SECTOR_BYTES,
    });
    this.members = new MemberSet({
      memberCount: superblock.memberCount,
      chunkBytes: this.geometry.chunkBytes,
    });
    this.isReadOnlyStart = plan.isReadOnly;
    this.roles = plan.roles.map((_, role) => seatAtStart(this, plan, role));
    const { memory, enginePool, timers } = context;
    this.environment = { ...context, guard, router };
    this.engine = new StripeEngine({
      environment: this.environment,
      geometry: this.geometry,
      members: this.members,
      requestCapacity: FRONT_REQUESTS_MAX,
      hooks: {
        onWriteWaiting: () => this.dirtyMark.writeWaiting(),
        onMemberError: (error) => this.memberError(error),
        onFinished: (_, tag, status, address) => this.front.finished(tag, status, address),
        onRepaired: (role, bytes) => this.notes.repaired(role, bytes),
        onLost: (stripe, row, roles) => this.notes.lost(stripe, row, roles),
      },
    });
    this.front = new RaidArrayFront({
      name: this.name,
      engine: this.engine,
      roles: this.roles,
      guard,
    });
    beginResync(this, plan);
    this.dirtyMark = new DirtyMark({
      host: dirtyMarkHostOf(this),
      timers,
      isDirty: isMarkedDirty,
    });
    this.superblocks = new SuperblockWriter({
      host: superblockHostOf(this),
      asyncIo: this.asyncIo,
      memory,
      pool: enginePool,
      guard,
      timers,
    });
    const { jobs, scrub } = options;
    this.synchronizer = new Synchronizer({ array: this, jobs, scrub });
    this.policy = new ArrayPolicy({ array: this, areas: options.areas, bitmap: plan.bitmap });
    if (plan.isReadOnly) this.makeReadOnly("it was started read-only");
  }

  /** Started read-only: not one byte is written to any member. */
  readonly isReadOnlyStart: boolean;

  get uuid(): string {
    return this.identity.arrayUuid;
  }

  /** It was made by this start: nobody relies on what it holds. */
  get isNew(): boolean {
    return this.identity.events === 0;
  }

  /** The name that the members carry now. */
  get setNameBytes(): Uint8Array {
    for (const { drive, state } of this.roles) {
      const superblock = state === "in-sync" ? drive?.superblock : null;
      if (superblock !== null && superblock !== undefined) return superblock.setNameBytes;
    }
    return this.identity.setNameBytes;
  }

  get events(): number {
    return this.state.events;
  }

  /** False once all members are durably marked clean. */
  get isDirty(): boolean {
    return this.state.isMarkedDirty || this.dirtyMark.state !== "clean";
  }

  get isFailed(): boolean {
    return this.members.isFailed;
  }

  /** Begins background work and takes requests; call once, when the array is registered. */
  start(): void {
    this.hasStarted = true;
    if (this.guard.isBroken) return;
    this.deadlines.start();
    if (this.isReadOnlyStart) return;
    this.dirtyMark.start();
    this.policy.start();
    this.synchronizer.schedule();
  }

  /** Once a turn of the reactor. */
  turn(): void {
    this.engine.turn();
    this.front.turn();
  }

  /** A turn has something to do, although nothing has happened. */
  get isDue(): boolean {
    return this.engine.isDue || this.front.isDue;
  }

  roleOf(drive: Drive): number {
    return this.roles.findIndex((slot) => slot.drive === drive);
  }

  emit(
    kind: EventKind,
    severity: Severity,
    message: string,
    more: { drive?: string; job?: number } = {},
  ): void {
    // What a broken array was about to say is not known to be true.
    if (this.guard.isBroken) return;
    this.hooks.emit({
      kind,
      severity,
      array: this.name,
      arrayUuid: this.uuid,
      drive: more.drive ?? null,
      job: more.job ?? null,
      atMs: this.context.clock.wallMs(),
      message,
    });
  }

  // Members ----------------------------------------------------------------------------------

  /** A member request failed for good: decides at once what that means for the member. */
  memberError(error: MemberError): void {
    const { role, op, outcome, errno } = error;
    if (!this.members.isPresent(role) || this.members.isFenced) return;
    const drive = this.roles[role]!.drive!;
    const what = `${OP_NAMES[op]} of ${error.bytes} bytes at ${error.offset}`;
    const cause = `${what}: ${OUTCOME_NAMES[outcome]}${errno > 0 ? ` (${errnoName(errno)})` : ""}`;
    const isBadSector = outcome === Outcome.mediaError || outcome === Outcome.noSpace;
    if (op !== Op.flush && isBadSector) {
      // The row path finds out what is left of it; the member stays.
      this.notes.error(drive, cause);
      this.failIfHopeless(role, drive);
      return;
    }
    if (op === Op.read && outcome === Outcome.timedOut) {
      // The reader gets its data from parity.
      drive.slowCount += 1;
      this.notes.error(drive, cause);
      return;
    }
    if (op === Op.read) this.failMember(role, cause);
    else this.writeFailed(role, cause);
  }

  /**
   * A member did not take a write or flush. Once two members are gone these are taken back, or not
   * tried again (write-rules 15): how they end says nothing about a drive whose reads go on.
   */
  writeFailed(role: number, cause: string): void {
    if (!this.members.isFailed) this.failMember(role, cause);
  }

  /** md's rule: too many read errors in a row, with no good read between, fail the member. */
  private failIfHopeless(role: number, drive: Drive): void {
    const { readErrorsInARow } = drive.io.counters;
    if (readErrorsInARow <= READ_ERRORS_IN_A_ROW_MAX) return;
    if (this.members.degradedCount > 0 || this.members.resync !== null) return;
    this.failMember(role, `${readErrorsInARow} read errors in a row`);
  }

  /**
   * Takes a member out of the array and records that in the others. Of a fenced array no member
   * fails: who holds it now tells what they are.
   */
  failMember(role: number, cause: string): void {
    if (this.members.isFenced) return;
    const slot = this.roles[role]!;
    const drive = slot.drive!;
    const wasRebuilding = slot.state === "rebuilding";
    this.members.remove(role);
    this.policy.memberLeft();
    slot.state = "faulty";
    drive.failure = cause;
    drive.io.accepts = "nothing";
    drive.giveUp(this.context);
    const message = `drive ${drive.name} (role ${role}) failed: ${cause}`;
    this.emit("member.failed", "critical", message, { drive: drive.name });
    this.synchronizer.memberFailed(message);
    if (this.members.isFailed) {
      this.failArray(message);
      return;
    }
    if (!this.isReadOnlyStart) this.recordFailure(drive);
    if (this.members.resync !== null && this.members.provenRows === null) {
      this.makeReadOnly(
        "a member was lost during the resync after a crash: rows that were not yet resynced " +
          "cannot be proved; stop it and start it with force to accept that",
      );
    }
    if (wasRebuilding) return;
    const { memberCount } = this.geometry;
    const text = `running with ${memberCount - 1} of ${memberCount} members`;
    this.emit("array.degraded", "critical", text);
  }

  /** Takes a drive out that the user removes. Requests may still be outstanding on it. */
  async removeDrive(drive: Drive, cause: string): Promise<void> {
    if (this.seating === drive) await this.giveUpSeating(drive);
    const role = this.roleOf(drive);
    if (role >= 0) {
      if (this.members.isPresent(role)) this.failMember(role, cause);
      await this.recordDetached(role);
    } else if (this.spares.includes(drive)) {
      this.spares.splice(this.spares.indexOf(drive), 1);
      await this.superblocks.update(() => this.state.setDevRole(drive, Role.spare));
    }
  }

  /** It waits for room on a member, maybe for long. Then it has a role, or nothing here at all. */
  private async giveUpSeating(drive: Drive): Promise<void> {
    this.unwanted = drive;
    while (this.seating === drive) await this.context.timers.sleep(OUTSTANDING_POLL_MS);
    this.unwanted = null;
  }

  /** The drive of a role is gone: nobody is there any more, not even a faulty one. */
  private async recordDetached(role: number): Promise<void> {
    const slot = this.roles[role]!;
    const drive = slot.drive!;
    const leave = () => {
      // A spare may have taken the role in the same update.
      if (slot.drive !== drive) return;
      slot.drive = null;
      slot.state = "missing";
    };
    if (this.members.isFailed || this.isReadOnlyStart) return leave();
    await this.superblocks.update(() => {
      this.state.setDevRole(drive, Role.spare);
      leave();
    });
  }

  /**
   * Seats a drive in a free role, to be rebuilt; false when the superblocks did not take it. With
   * `isPartial` it was a member before, and what the bitmap knows to have changed since is enough.
   */
  async seatForRebuild(
    drive: Drive,
    role: number,
    superblock: Superblock,
    { isPartial }: { isPartial: boolean } = { isPartial: false },
  ): Promise<boolean> {
    assert(this.seating === null, "one drive is seated at a time");
    this.seating = drive;
    const isSeated = await this.seat(drive, role, superblock, isPartial);
    this.seating = null;
    this.synchronizer.schedule();
    return isSeated;
  }

  private async seat(
    drive: Drive,
    role: number,
    superblock: Superblock,
    isPartial: boolean,
  ): Promise<boolean> {
    const { policy } = this;
    if (this.isFailed || !(await policy.prepareMember(drive, superblock))) return false;
    const taken = await policy.takeSeat(superblock);
    if (this.isStopped) {
      policy.giveUpSeat(taken);
      return false;
    }
    const { setNameBytes } = this;
    drive.probe = { kind: "member", superblock: { ...superblock, setNameBytes } };
    drive.failure = "";
    drive.badBlocks = emptyBadBlockLog(superblock);
    admit(drive);
    const slot = this.roles[role]!;
    const change = () => {
      slot.drive = drive;
      slot.state = "rebuilding";
      this.state.setDevRole(drive, role);
    };
    const mayEnd = () => this.isStopped || this.unwanted === drive;
    const isDurable = await this.superblocks.insist(change, mayEnd);
    if (!isDurable || slot.drive !== drive || slot.state !== "rebuilding") {
      policy.giveUpSeat(taken);
      return false;
    }
    watchBadBlocks(this, role, drive);
    this.members.setRebuilding(role, {
      device: drive.io,
      dataOffset: superblock.dataOffsetSectors * SECTOR_BYTES,
      isVolatile: drive.info.hasVolatileCache,
      fromStripe: 0,
      ranges: isPartial ? this.changedSince(superblock.events) : null,
    });
    policy.seated(role, taken);
    return true;
  }

  /**
   * What a former member lacks; null: all. What is written from here on reaches it, all that was
   * before is under bits or is nothing.
   */
  private changedSince(events: number): StripeRanges | null {
    const isUnchanged = this.state.isUnchangedSince(events) && this.members.resync === null;
    if (isUnchanged) return new StripeRanges([], this.geometry.stripeCount);
    return this.policy.dirtyStripes("set");
  }

  async addSpare(drive: Drive, superblock: Superblock): Promise<boolean> {
    const { setNameBytes } = this;
    drive.probe = { kind: "member", superblock: { ...superblock, setNameBytes } };
    drive.failure = "";
    drive.badBlocks = emptyBadBlockLog(superblock);
    admit(drive);
    return this.superblocks.update(() => {
      this.spares.push(drive);
      this.state.setDevRole(drive, Role.spare);
    });
  }

  *drives(): Generator<Drive> {
    const { seating } = this;
    for (const { drive } of this.roles) if (drive !== null) yield drive;
    yield* this.spares;
    if (seating !== null && this.roleOf(seating) < 0) yield seating;
  }

  // Stopping ---------------------------------------------------------------------------------

  /** Answers what is under way, marks the array clean, and lets go of the engine. */
  async stop(): Promise<void> {
    assert(!this.isStopped, "an array is stopped once");
    this.isStopped = true;
    this.front.isStopping = true;
    const { timers } = this.context;
    await this.synchronizer.stop();
    while (this.engine.activeRequests > 0) await timers.sleep(OUTSTANDING_POLL_MS);
    await this.policy.stop();
    if (!this.isReadOnlyStart) await this.dirtyMark.stop();
    this.engine.rows.parked.dismiss();
    this.superblocks.close();
    // A drive that is being seated is on its way to an update of its own.
    while (!this.engine.isIdle || this.superblocks.isBusy || this.seating !== null) {
      await timers.sleep(OUTSTANDING_POLL_MS);
    }
    // Only now: a member that hangs is failed for what the stop itself asks of it, too.
    this.deadlines.stop();
    this.engine.close();
    this.guard.close();
    // What is fenced stays shut until it is probed again.
    for (const drive of this.drives()) admit(drive);
  }

  // Recording --------------------------------------------------------------------------------

  /** Writes the superblocks with the checkpoints as they are now. */
  record(change: () => void = () => {}): Promise<boolean> {
    return this.superblocks.update(change);
  }

  /** The rebuild is complete and flushed: the member counts as in sync with this update. */
  async commitRebuild(role: number, mayEnd: () => boolean): Promise<boolean> {
    const slot = this.roles[role]!;
    const isDurable = await this.superblocks.insist(() => {
      if (slot.state !== "rebuilding") return;
      slot.state = "in-sync";
      // What a rebuild has filled is the XOR of the others: there, parity is right. What an earlier
      // one had filled before a crash is not known to be, and its resync comes next.
      if (!this.members.isResyncOfRebuilt) this.members.endResync();
    }, mayEnd);
    if (!isDurable || slot.state !== "in-sync") return false;
    this.members.finishRebuild(role);
    this.policy.syncEnds(true);
    return true;
  }

  private recordFailure(drive: Drive): void {
    // Order: the failure is durable in the other superblocks before any write that the member
    // missed is acknowledged.
    this.engine.beginRecord();
    const change = () => this.state.setDevRole(drive, Role.faulty);
    const recorded = this.superblocks.insist(change, () => false);
    const goOn = (isDurable: boolean): void => {
      if (!isDurable && !this.members.isFailed) {
        this.makeReadOnly("the failure of a member could not be recorded");
      }
      this.engine.endRecord();
      this.synchronizer.schedule();
    };
    inBackground(recorded.then(goOn), this.guard);
  }

  private failArray(cause: string): void {
    if (this.hasFailed) return;
    this.hasFailed = true;
    // Rule 15: nothing more is submitted once two members are gone.
    for (const drive of this.drives()) {
      if (drive.io.accepts === "all") drive.io.accepts = "reads";
      drive.device.cancelQueuedWrites(EIO);
    }
    this.emit(
      "array.failed",
      "critical",
      `more members are missing than the array can do without; last: ${cause}. It serves reads ` +
        "of what is there. Connect the drives again, stop the array and start it",
    );
  }

  private makeReadOnly(reason: string): void {
    this.readOnlyReason = reason;
    this.front.isReadOnly = true;
    this.engine.refuseGated(EPERM);
    if (!this.isReadOnlyStart) this.emit("array.read-only", "critical", reason);
  }

  /** Bytes of the array that no member can give: rows with two unknown roles. */
  get lostBytes(): number {
    if (!this.members.hasBadRows) return 0;
    return lostBytesOf(this);
  }
}
