/**
 * How drives get their seats in an array, and leave them: at its start by the plan of that, later
 * as a new or a returning member, as a spare, and as the spare that takes a free role.
 *
 * A drive that takes a role goes through these steps, one drive at a time:
 *
 *   its log is emptied, and what the policy keeps in memory for it is taken
 *   the roster names it; the update that is written next says so, with recovery_offset 0
 *   that is durable: it enters the member set, and from now on what is written reaches it
 *
 * Order: no superblock names a drive before its own log is empty (write-rules 5), and nothing is
 * written to it before the superblocks name it, or a crash would find half a member.
 */
import { assert } from "../../base/assert.ts";
import { errnoName } from "../../base/errno.ts";
import { fillRandom } from "../../base/random.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { type JoinLayout, layOutForJoining } from "../../md/join-layout.ts";
import { firstDataSector } from "../../md/reshape.ts";
import { Role, type Superblock } from "../../md/superblock.ts";
import { decodeUuid } from "../../md/uuid.ts";
import { MemberCopy } from "../../raid5/members/member-copy.ts";
import { StripeRanges } from "../../raid5/members/sync-progress.ts";
import { hasRoomForData } from "../drives/areas.ts";
import { BadBlocks } from "../drives/bad-blocks.ts";
import type { Drive } from "../drives/drive.ts";
import { type ArrayPolicy, type MemberSeat, stripesOf } from "../policy/array-policy.ts";
import type { ArrayCore, MemberVerdicts } from "../running/array-core.ts";
import type { SeatEvent } from "../running/roster.ts";
import { assertAgreement } from "../running/roster-agreement.ts";
import type { StartPlan } from "../running/start-plan.ts";

export class Seating {
  private readonly core: ArrayCore;
  private readonly verdicts: MemberVerdicts;
  private readonly policy: ArrayPolicy;
  private readonly hasEnded: () => void;
  /** It is to leave before it is seated. */
  private unwanted: Drive | null = null;
  /** Of the target of a replace, for when it has the role. */
  private targetSeat: MemberSeat | null = null;

  constructor(options: {
    core: ArrayCore;
    verdicts: MemberVerdicts;
    policy: ArrayPolicy;
    /** A drive has its seat, or has not got it: there may be work. */
    hasEnded: () => void;
  }) {
    this.core = options.core;
    this.verdicts = options.verdicts;
    this.policy = options.policy;
    this.hasEnded = options.hasEnded;
  }

  /**
   * Seats a drive in a free role, to be rebuilt; false when the superblocks did not take it. With
   * `isPartial` it was a member before, and what the bitmap knows to have changed since is enough.
   */
  async seat(
    drive: Drive,
    role: number,
    superblock: Superblock,
    { isPartial }: { isPartial: boolean } = { isPartial: false },
  ): Promise<boolean> {
    const { roster } = this.core;
    assert(roster.arriving === null, "one drive is seated at a time");
    assert(roster.isFree(role), "a drive is seated in a role that is free");
    assert(!roster.isSpare(drive), "a spare gives up its seat for a role");
    assert(superblock.arrayUuid === this.core.uuid, "a member is laid out for its own array");
    assert(!this.core.isReadOnlyStart, "a read-only start seats nobody");
    roster.arriving = drive;
    const isSeated = await this.bringIn(drive, role, superblock, isPartial);
    assert(roster.arriving === drive, "nobody else was seated meanwhile");
    roster.arriving = null;
    assertAgreement(this.core);
    this.core.changed.raise();
    this.hasEnded();
    return isSeated;
  }

  private async bringIn(
    drive: Drive,
    role: number,
    superblock: Superblock,
    isPartial: boolean,
  ): Promise<boolean> {
    const { core, policy } = this;
    const { roster } = core;
    if (core.isFailed || !(await policy.prepareMember(drive, superblock))) return false;
    const taken = await policy.takeSeat(superblock);
    if (core.isStopped) {
      policy.giveUpSeat(taken);
      return false;
    }
    const isDurable = await this.name(drive, role, superblock, { kind: "named", drive });
    const seat = roster.seatOf(role);
    if (!isDurable || seat.kind !== "rebuilding" || seat.drive !== drive) {
      policy.giveUpSeat(taken);
      return false;
    }
    const effects = roster.apply(role, { kind: "seated" });
    assert(effects.length === 0, "who is seated enters the member set, and no more");
    watchBadBlocks(core, this.verdicts, role, drive);
    core.members.setRebuilding(role, {
      ...placeOf(drive),
      fromStripe: 0,
      ranges: isPartial ? this.changedSince(superblock.events) : null,
    });
    assertAgreement(core);
    policy.seated(role, taken);
    return true;
  }

  /**
   * Makes a drive the target of a member that it is to replace; false when the superblocks did not
   * take it. The order is that of `seat`: nothing is written to it before they name it.
   */
  async seatTarget(drive: Drive, role: number, superblock: Superblock): Promise<boolean> {
    const { core } = this;
    const { roster } = core;
    assert(roster.arriving === null && roster.target === null, "one drive is seated at a time");
    assert(roster.seatOf(role).kind === "in-sync", "a member that is replaced serves");
    assert(superblock.arrayUuid === core.uuid, "a target is laid out for its own array");
    roster.arriving = drive;
    const isSeated = await this.bringInTarget(drive, role, superblock);
    roster.arriving = null;
    assertAgreement(core);
    core.changed.raise();
    this.hasEnded();
    return isSeated;
  }

  private async bringInTarget(drive: Drive, role: number, superblock: Superblock) {
    const { core, policy } = this;
    const { roster } = core;
    if (core.isFailed || !(await policy.prepareMember(drive, superblock))) return false;
    const taken = await policy.takeSeat(superblock);
    if (core.isStopped || core.isFailed || roster.seatOf(role).kind !== "in-sync") {
      policy.giveUpSeat(taken);
      return false;
    }
    const event = { kind: "copy-named", target: drive } as const;
    const isDurable = await this.name(drive, role, superblock, event);
    const seat = roster.seatOf(role);
    const isStill = seat.kind === "replacing" && seat.target === drive && !core.isFailed;
    if (!isDurable || !isStill || this.mayLeave(drive)) {
      policy.giveUpSeat(taken);
      if (isStill) this.verdicts.releaseTarget();
      return false;
    }
    this.targetSeat = taken;
    const effects = roster.apply(role, { kind: "copy-seated" });
    assert(effects.length === 0, "a target that is seated is copied to, and no more");
    beginCopy(core, this.verdicts, role, drive, 0);
    policy.targetSeated();
    assertAgreement(core);
    return true;
  }

  /**
   * The drive joins the array, and the superblocks name it for the role, unless that has changed
   * meanwhile. False: that is not durable, and will not be.
   */
  private name(
    drive: Drive,
    role: number,
    superblock: Superblock,
    event: Extract<SeatEvent<Drive>, { kind: "named" | "copy-named" }>,
  ): Promise<boolean> {
    const { core } = this;
    const { roster } = core;
    drive.join({ ...superblock, setNameBytes: core.setNameBytes });
    drive.admit();
    const change = () => {
      const isStillOpen =
        event.kind === "named" ? roster.isFree(role) : roster.seatOf(role).kind === "in-sync";
      if (!isStillOpen) return;
      for (const effect of roster.apply(role, event)) {
        assert(effect.kind === "device-role", "to name a drive changes what superblocks say");
        roster.setDeviceRole(drive, role);
      }
      assertAgreement(core);
    };
    return core.superblocks.insist(change, () => this.mayLeave(drive));
  }

  /** Nobody waits any more for the drive to be seated. */
  private mayLeave(drive: Drive): boolean {
    return this.core.isStopped || this.unwanted === drive;
  }

  /** The target has the role of its member, which is lost or has been swapped. */
  takeOver(role: number): void {
    const taken = this.targetSeat;
    this.targetSeat = null;
    this.policy.seated(role, taken);
  }

  /** The target is out. */
  endCopy(): void {
    this.policy.giveUpSeat(this.targetSeat);
    this.targetSeat = null;
  }

  /** At a start with a replace: what its target needs for when it has the role. */
  async prepareTarget(): Promise<void> {
    const { target } = this.core.roster;
    if (target === null) return;
    assert(target.superblock !== null, "a target carries a superblock");
    if (await this.policy.prepareMember(target, target.superblock)) {
      this.targetSeat = await this.policy.takeSeat(target.superblock);
      this.policy.targetSeated();
    } else this.verdicts.failTarget("what its policy needs cannot be written on it");
  }

  /**
   * What a former member lacks; null: all. What is written from here on reaches it, all that was
   * before is under bits or is nothing.
   */
  private changedSince(events: number): StripeRanges | null {
    const { state, members, geometry } = this.core;
    const isUnchanged = state.isUnchangedSince(events) && members.resync === null;
    if (isUnchanged) return new StripeRanges([], geometry.stripeCount);
    return this.policy.dirtyStripes("set");
  }

  async addSpare(drive: Drive, superblock: Superblock): Promise<boolean> {
    const { core } = this;
    const { roster } = core;
    drive.join({ ...superblock, setNameBytes: core.setNameBytes });
    drive.admit();
    return core.superblocks.update(() => {
      const role = roster.roleOf(drive);
      // A faulty member that is added in a reshape: its role is free, for whoever comes then.
      if (role >= 0) roster.apply(role, { kind: "left" });
      roster.addSpare(drive);
      assertAgreement(core);
    });
  }

  /** Takes a drive out that the user removes. Requests may still be outstanding on it. */
  async remove(drive: Drive, cause: string): Promise<void> {
    const { core } = this;
    const { roster, members } = core;
    if (roster.arriving === drive) {
      // It waits for room on a member, maybe for long. Then it has a role, or nothing here at all.
      this.unwanted = drive;
      await core.changed.until(() => roster.arriving !== drive);
      this.unwanted = null;
    }
    const role = roster.roleOf(drive);
    if (roster.target === drive) {
      this.verdicts.releaseTarget();
      await core.record();
    } else if (role >= 0) {
      if (members.isPresent(role)) this.verdicts.failMember(role, cause);
      await this.recordLeft(role, drive);
    } else if (roster.isSpare(drive)) {
      roster.applyToSpare(drive, { kind: "left" });
      await core.superblocks.update(() => roster.setDeviceRole(drive, Role.spare));
    }
    const hasSeat = roster.roleOf(drive) >= 0 || roster.isSpare(drive) || roster.target === drive;
    assert(core.members.isFailed || !hasSeat, "a drive that was removed has no seat");
    assertAgreement(core);
  }

  /** The drive of a role is gone: nobody is there any more, not even a faulty one. */
  private async recordLeft(role: number, drive: Drive): Promise<void> {
    const { core } = this;
    const { roster } = core;
    const leave = () => {
      roster.setDeviceRole(drive, Role.spare);
      // A spare may have taken the role in the same update.
      if (roster.driveAt(role) === drive) roster.apply(role, { kind: "left" });
    };
    if (core.isFailed || core.isReadOnlyStart) leave();
    else await core.superblocks.update(leave);
  }

  /** The superblock with which a new drive enters the array, or why it cannot. */
  superblockFor(drive: Drive): Result<Superblock, string> {
    const { core, policy } = this;
    const { identity } = core;
    const layout = this.layoutFor(drive);
    if (!layout.ok) {
      return err(
        `drive ${drive.name} has ${drive.info.sizeBytes} bytes; a member of array ${core.name} needs at ` +
          `least ${layout.error}: take a larger drive`,
      );
    }
    const { dataSizeSectors } = layout.value;
    assert(dataSizeSectors >= identity.sizeSectors, "a layout has room for a member's data");
    const devNumber = core.roster.freeDeviceNumber;
    if (devNumber < 0) return err("the superblock has no device number left");
    const uuid = new Uint8Array(16);
    fillRandom(core.context.random, uuid);
    const superblock: Superblock = {
      ...identity,
      ...layout.value,
      devNumber,
      deviceUuid: decodeUuid(uuid, 0),
      deviceFlags: 0,
      correctedReadSectors: 0,
      hasBadBlocks: false,
      recoveryOffsetSectors: null,
      badBlockLogShift: 0,
    };
    assert(hasRoomForData(drive, superblock), "a drive is laid out within its size");
    const obstacle = policy.seatObstacle(superblock);
    return obstacle === null ? ok(superblock) : err(`drive ${drive.name}: ${obstacle}`);
  }

  /** Whether `superblockFor` has one for it. */
  fits(drive: Drive): boolean {
    const layout = this.layoutFor(drive);
    if (!layout.ok || this.core.roster.freeDeviceNumber < 0) return false;
    return this.policy.seatObstacle({ ...this.core.identity, ...layout.value }) === null;
  }

  /** How many bytes a drive would have to have at least to be a member; null: it has them. */
  bytesLacking(drive: Drive): number | null {
    const layout = this.layoutFor(drive);
    return layout.ok ? null : layout.error;
  }

  private layoutFor(drive: Drive): Result<JoinLayout, number> {
    const { sizeBytes: deviceBytes, logicalBlockBytes } = drive.info;
    const { identity, geometry } = this.core;
    // What the array is growing to, where it is: it could not come to that with a smaller drive.
    const sizeSectors = Math.max(identity.sizeSectors, geometry.memberSizeBytes / SECTOR_BYTES);
    return layOutForJoining({
      ...{ deviceBytes, logicalBlockBytes, array: { ...identity, sizeSectors } },
      models: this.modelsFor(drive),
      wanted: this.policy.wanted,
    });
  }

  /** Its own layout, where it was of this array; then those of the members, most headroom first. */
  private modelsFor(drive: Drive): Superblock[] {
    const { core } = this;
    const { superblock } = drive;
    const isOurs = superblock?.arrayUuid === core.uuid;
    const others = [...core.roster.drives()]
      .filter((other) => other !== drive)
      // One that is just being seated carries none yet.
      .flatMap((other) => other.superblock ?? [])
      .sort((one, other) => other.dataOffsetSectors - one.dataOffsetSectors);
    return isOurs ? [superblock, ...others] : others;
  }
}

/** Puts the drives of the plan into their roles, and says what of them is out of sync. */
export function seatAll(core: ArrayCore, verdicts: MemberVerdicts, plan: StartPlan): void {
  assert(!core.hasStarted, "members have their seats before requests come");
  for (let role = 0; role < plan.superblock.memberCount; role += 1) {
    seatAtStart(core, verdicts, plan, role);
  }
  assertAgreement(core);
  beginResync(core, plan);
}

function seatAtStart(
  core: ArrayCore,
  verdicts: MemberVerdicts,
  plan: StartPlan,
  role: number,
): void {
  const entry = plan.roles[role];
  if (entry === null || entry === undefined) return;
  const { drive, recoveryOffsetSectors, replacement } = entry;
  const { members, roster } = core;
  assert(drive.superblock?.arrayUuid === core.uuid, "a member carries a superblock of its array");
  watchBadBlocks(core, verdicts, role, drive);
  if (recoveryOffsetSectors === null) {
    members.set(role, placeOf(drive));
    if (replacement === null) {
      roster.sitAtStart(role, { kind: "in-sync", drive });
      return;
    }
    const { drive: target, recoveryOffsetSectors: copied } = replacement;
    assert(
      target.superblock?.arrayUuid === core.uuid,
      "a target carries a superblock of its array",
    );
    roster.sitAtStart(role, { kind: "replacing", drive, target, step: "copying" });
    beginCopy(core, verdicts, role, target, Math.floor(copied / plan.superblock.chunkSectors));
    return;
  }
  const fromStripe = Math.floor(recoveryOffsetSectors / plan.superblock.chunkSectors);
  assert(fromStripe <= core.geometry.stripeCount, "a rebuild goes on within the array");
  roster.sitAtStart(role, { kind: "rebuilding", drive, step: "filling" });
  members.setRebuilding(role, { ...placeOf(drive), fromStripe });
}

function beginResync(
  { members, geometry }: ArrayCore,
  { resyncFromSector, isFirstResync, superblock, bitmap }: StartPlan,
): void {
  if (resyncFromSector === null) return;
  // A degraded array has no redundancy to compare: with force its rows are taken as they are. But
  // those that a rebuild had filled have all their members, and parity that may be torn.
  if (members.degradedCount > 0) {
    const filled = members.rebuild?.cursor ?? 0;
    if (filled === 0) return;
    members.beginResync({ fromStripe: 0, toStripe: filled, isFirst: false });
    return;
  }
  const fromStripe = Math.floor(resyncFromSector / superblock.chunkSectors);
  const ranges = bitmap === null ? null : stripesOf(bitmap.dirtyRanges("needed"), geometry);
  if (fromStripe >= geometry.stripeCount || ranges?.isEmpty === true) return;
  members.beginResync({ fromStripe, isFirst: isFirstResync, ranges });
}

/** The engine copies the member of a role to its target from now on. */
function beginCopy(
  core: ArrayCore,
  verdicts: MemberVerdicts,
  role: number,
  target: Drive,
  fromStripe: number,
): void {
  target.admit();
  const badRows = badBlocksOf(core, verdicts, target);
  core.members.beginCopy(
    new MemberCopy({ role, target: { ...placeOf(target), badRows }, fromStripe }),
  );
}

/** Seats the bad-block log of a drive that takes a role. */
function watchBadBlocks(
  core: ArrayCore,
  verdicts: MemberVerdicts,
  role: number,
  drive: Drive,
): void {
  drive.admit();
  core.members.badRows[role] = badBlocksOf(core, verdicts, drive);
}

function badBlocksOf(core: ArrayCore, verdicts: MemberVerdicts, drive: Drive): BadBlocks {
  return new BadBlocks({
    context: core.context,
    asyncIo: core.asyncIo,
    drive,
    host: {
      recordFlag: () => core.record(),
      logFailed: (errno) => {
        const cause = `bad-block log write: ${errnoName(errno)}`;
        const role = core.roster.roleOf(drive);
        if (core.roster.target === drive) verdicts.failTarget(cause);
        else if (role >= 0 && core.members.isPresent(role)) verdicts.writeFailed(role, cause);
      },
    },
  });
}

/** Where the engine finds what a member holds. */
function placeOf(drive: Drive) {
  assert(drive.superblock !== null, "where the data lies is told by a superblock");
  assert(hasRoomForData(drive, drive.superblock), "a member has all of its data");
  return {
    device: drive.io,
    dataOffset: firstDataSector(drive.superblock) * SECTOR_BYTES,
    isVolatile: drive.info.hasVolatileCache,
  };
}
