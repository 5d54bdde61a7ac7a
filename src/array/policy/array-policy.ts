/**
 * The consistency policy of one running array: what is prepared before it takes writes, what a new
 * member gets, and the change to another policy.
 *
 * | policy   | before the first write                     | a member joins                       |
 * |----------|--------------------------------------------|--------------------------------------|
 * | `resync` | nothing                                    | nothing                              |
 * | `bitmap` | all blocks are written to all members      | all blocks are written again         |
 * | `ppl`    | each member's log is emptied; with a resync | its log is emptied before it is      |
 * |          | due, the first stripe is in sync            | named in the superblocks            |
 *
 * With `ppl` a dirty array whose resync has not ended says in its superblocks how far that is, and
 * never 0: from 0 a replay would call the array clean (write-rules 6).
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { SectorRange } from "../../md/bad-block-log.ts";
import {
  BITMAP_BLOCK_BYTES,
  type BitmapHeader,
  checkBitmapArea,
  chooseBitmapChunkBytes,
  newBitmapHeader,
} from "../../md/bitmap.ts";
import { grownBitmap } from "../../md/bitmap-grow.ts";
import { newBitmap } from "../../md/bitmap-load.ts";
import type { BitmapState } from "../../md/bitmap-state.ts";
import type { ConsistencyPolicy } from "../../md/create.ts";
import { placeLog, type WantedLog, withoutLog } from "../../md/log-place.ts";
import { SUPERBLOCK_OFFSET_SECTORS, type Superblock } from "../../md/superblock.ts";
import type { Geometry } from "../../raid5/geometry.ts";
import { StripeRanges } from "../../raid5/members/sync-progress.ts";
import { logBufferBytes, type PplSeat } from "../../raid5/policy/ppl-log.ts";
import type { PplLogs } from "../../raid5/policy/ppl-logs.ts";
import { isBesideData } from "../drives/areas.ts";
import type { Drive } from "../drives/drive.ts";
import { type ArrayCore, type MemberVerdicts, policyOf } from "../running/array-core.ts";
import { BitmapKeeper } from "./bitmap-keeper.ts";
import type { PplAreas } from "./ppl-areas.ts";

const NOT_WRITTEN = "the superblocks cannot be written";
/** Nothing tells that a file system has room again. */
const ROOM_WAIT_MS = 500;
/** Room for the bitmap of an array that had none: one block. */
const BITMAP_SECTORS = 8;

/** The log of a member that is about to be seated, and the memory for it. */
export interface MemberSeat {
  readonly seat: PplSeat;
  readonly address: number;
}

export class ArrayPolicy {
  private readonly core: ArrayCore;
  private readonly verdicts: MemberVerdicts;
  private readonly areas: PplAreas;
  private logs: PplLogs | null = null;
  private keeper: BitmapKeeper | null = null;
  private hasStopped = false;

  constructor(options: {
    core: ArrayCore;
    verdicts: MemberVerdicts;
    areas: PplAreas;
    bitmap: BitmapState | null;
  }) {
    const { core, bitmap } = options;
    this.core = core;
    this.verdicts = options.verdicts;
    this.areas = options.areas;
    this.areas.policies.add(this);
    // Read-only the bitmap is of no use, and nobody logs.
    if (core.isReadOnlyStart) return;
    if (this.core.policyKind === "bitmap") {
      assert(bitmap !== null, "the bitmap was loaded before the start");
      this.useBitmap(bitmap);
    }
    if (this.core.policyKind === "ppl") this.logs = core.engine.usePartialParity();
  }

  /** Members that have a log, or may get one: each takes a part of the engine's pool. */
  get logCount(): number {
    return this.core.policyKind === "ppl" && !this.core.isReadOnlyStart
      ? this.core.geometry.memberCount
      : 0;
  }

  /** The bitmap as it is, where there is one. */
  get bitmap(): BitmapState | null {
    return this.keeper?.state ?? null;
  }

  // Start and stop ---------------------------------------------------------------------------

  /**
   * Before the array's first superblock update: what this policy needs on the members.
   * `syncFirstStripe` brings that in sync, durably.
   */
  async prepare(syncFirstStripe: () => Promise<void>): Promise<void> {
    const { core } = this;
    assert(!core.hasStarted, "what a policy needs is there before requests come");
    if (core.isReadOnlyStart) return;
    this.assertKinds();
    this.adoptLogs();
    if (this.logs !== null) {
      await Promise.all(core.roster.seats.map((_, role) => this.seatLogAtStart(role)));
      if (core.members.resync?.cursor === 0) await syncFirstStripe();
    }
    await this.keeper?.writeBlocks({ urgentOnly: false });
  }

  start(): void {
    this.keeper?.start();
  }

  /** No write is under way, and none will come. */
  async stop(): Promise<void> {
    assert(!this.hasStopped, "a policy is stopped once");
    this.hasStopped = true;
    await this.rest();
    this.areas.policies.delete(this);
  }

  private async rest(): Promise<void> {
    const clears = this.core.members.degradedCount === 0 && !this.core.isFailed;
    await this.keeper?.stop({ clears });
  }

  /** Before each update of the superblocks, with its event count. False: there is no room. */
  async beforeUpdate(events: number): Promise<boolean> {
    return this.keeper === null || this.keeper.setEvents(events);
  }

  // Members ----------------------------------------------------------------------------------

  memberLeft(): void {
    assert(this.core.members.degradedCount > 0, "an array that a member left is degraded");
    this.keeper?.state.setDegraded(true);
  }

  /** The log that a policy wants of an array of this size. */
  wantedFor(policy: ConsistencyPolicy): WantedLog {
    return wantedLog(policy, policy === "bitmap" ? (this.bitmap ?? this.emptyBitmap()) : null);
  }

  /** What each member keeps of it before its data. */
  get wanted(): WantedLog {
    return wantedLog(this.core.policyKind, this.bitmap);
  }

  /** Why a drive of this layout cannot keep the log that it needs, or null. */
  seatObstacle(superblock: Superblock): string | null {
    const seat = this.core.policyKind === "ppl" ? this.areas.seatOf(superblock) : null;
    return typeof seat === "string" ? seat : null;
  }

  /** Before the superblocks name the drive as a member. False: it cannot be written. */
  async prepareMember(drive: Drive, superblock: Superblock): Promise<boolean> {
    const { bitmap } = this;
    if (bitmap !== null && !hasBitmapRoom(bitmap, superblock, drive)) return false;
    return this.core.policyKind !== "ppl" || this.areas.clear(drive, superblock);
  }

  /** What `seat` will need for this drive. */
  async takeSeat(superblock: Superblock): Promise<MemberSeat | null> {
    if (this.logs === null) return null;
    const seat = this.areas.seatOf(superblock);
    if (typeof seat === "string") return null;
    const bytes = logBufferBytes(seat.space);
    return { seat, address: await this.core.context.enginePool.take(bytes, { staysLong: true }) };
  }

  /** The drive was not seated after all. */
  giveUpSeat(taken: MemberSeat | null): void {
    if (taken === null) return;
    this.core.context.enginePool.free(taken.address, logBufferBytes(taken.seat.space));
  }

  /** The member is in the set now, and nothing has been written to it. */
  seated(role: number, taken: MemberSeat | null): void {
    assert(this.core.members.isPresent(role), "who is seated is in the member set");
    assert(taken === null || this.logs !== null, "a log is seated while the policy is ppl");
    if (taken !== null) this.logs?.seat(role, taken.seat, taken.address);
    if (this.keeper === null) return;
    this.keeper.state.rewriteAll();
    this.keeper.requestBlocks();
  }

  /** The target of a replace keeps the bitmap from now on. */
  targetSeated(): void {
    this.keeper?.state.rewriteAll();
    this.keeper?.requestBlocks();
  }

  /** What the target of a replace keeps of the policy is there. False: there is no room for it. */
  async bringUpTarget(): Promise<boolean> {
    return this.keeper === null || this.keeper.writeBlocks({ urgentOnly: false });
  }

  /** The stripes under bits of the bitmap; null: there is none. */
  dirtyStripes(which: "set" | "needed"): StripeRanges | null {
    const { bitmap } = this;
    return bitmap === null ? null : stripesOf(bitmap.dirtyRanges(which), this.core.geometry);
  }

  // Resync and rebuild -----------------------------------------------------------------------

  syncBegins(): void {
    const state = this.bitmap;
    state?.beginSync(0, this.core.identity.sizeSectors);
  }

  /** With `isDone`, all of it is durable and no member is missing. */
  syncEnds(isDone: boolean): void {
    const state = this.bitmap;
    if (state === null) return;
    if (isDone) {
      assert(this.core.members.degradedCount === 0, "bits are given up while no member is missing");
      state.setDegraded(false);
      state.beginSync(0, this.core.identity.sizeSectors);
    }
    state.endSync(0, this.core.identity.sizeSectors, isDone);
  }

  // Growth -----------------------------------------------------------------------------------

  /** Before `grow`, while nothing is written and the array is clean: no pass goes on. */
  async prepareGrowth(): Promise<void> {
    assert(this.core.engine.activeWrites === 0, "an array grows while nothing is written");
    await this.rest();
  }

  /**
   * In the update that says the new size: what covers that is durable on the members before it.
   * `start` follows.
   */
  grow(sizeSectors: number): void {
    const { core, bitmap } = this;
    if (bitmap === null) return;
    assert(!core.state.isMarkedDirty, "an array grows while it is clean");
    const drives = [...core.roster.drives()];
    const grown = grownBitmap(bitmap, {
      ...{ sizeSectors, events: core.state.events + 1 },
      fits: (header) => drives.every((drive) => hasRoomFor(header, drive)),
    });
    core.engine.clearPolicy();
    this.keeper = null;
    this.useBitmap(grown);
  }

  // Change -----------------------------------------------------------------------------------

  /**
   * Changes to another policy, while nothing is written and the array is clean. Order: no
   * superblock names the old log any more when the room for the new one is written, and what the
   * new policy needs is on every member before a superblock names that.
   */
  async change(to: ConsistencyPolicy): Promise<Result<undefined, string>> {
    const { members, engine, state } = this.core;
    assert(to !== this.core.policyKind, "a policy changes to another one");
    assert(engine.activeWrites === 0, "a policy changes while nothing is written");
    assert(!state.isMarkedDirty, "a policy changes while the array is clean");
    assert(
      members.degradedCount === 0 && members.resync === null,
      "all members are there and whole",
    );
    const bitmap = to === "bitmap" ? this.emptyBitmap() : null;
    const places = this.placesFor(to, bitmap);
    if (!places.ok) return places;
    if (this.core.policyKind !== "resync" && !(await this.leave())) return err(NOT_WRITTEN);
    if (to === "resync") return ok();
    for (const [drive, superblock] of places.value) {
      if (to === "bitmap" || (await this.areas.clear(drive, superblock))) continue;
      return err(`drive ${drive.name} cannot be written; the policy is resync now`);
    }
    assert(this.logs === null && this.keeper === null, "the old log is out of use");
    const isDurable = await this.core.superblocks.update(() => {
      this.setLogs(places.value);
      // All its blocks are urgent: they are written before this update is.
      if (bitmap !== null) this.useBitmap(bitmap);
    });
    this.core.policyKind = to;
    if (!isDurable && !this.core.isFailed) {
      // Nobody has written with it yet: what is in memory goes back to what the members say.
      await this.leave();
      this.start();
      return err(`${NOT_WRITTEN}; the policy is resync now`);
    }
    if (to === "ppl") {
      this.logs = this.core.engine.usePartialParity();
      for (const { role, drive } of this.core.presentMembers()) {
        const taken = await this.takeSeat(drive.superblock!);
        // It may have failed while there was no memory.
        if (this.core.members.isPresent(role)) this.seated(role, taken);
        else this.giveUpSeat(taken);
      }
    }
    this.assertKinds();
    this.start();
    return isDurable ? ok() : err(NOT_WRITTEN);
  }

  /** Back to `resync`: no log is named or kept. */
  private async leave(): Promise<boolean> {
    await this.rest();
    assert(this.core.engine.activeWrites === 0, "a log is left while nothing is written");
    this.core.engine.clearPolicy();
    this.logs = null;
    this.keeper = null;
    this.core.policyKind = "resync";
    const none = [...this.core.roster.drives()].map((drive): [Drive, Superblock] => {
      return [drive, withoutLog(drive.superblock!)];
    });
    return this.core.superblocks.update(() => this.setLogs(new Map(none)));
  }

  private setLogs(places: ReadonlyMap<Drive, Superblock>): void {
    for (const [drive, { log }] of places) {
      const { superblock } = drive;
      assert(superblock !== null, "a log is named by a superblock");
      drive.carry({ ...superblock, log });
    }
  }

  private placesFor(
    to: ConsistencyPolicy,
    bitmap: BitmapState | null,
  ): Result<Map<Drive, Superblock>, string> {
    const lacking = to === "ppl" ? this.areas.memoryLacking(this.core.geometry.memberCount) : null;
    if (lacking !== null) return err(lacking);
    const places = new Map<Drive, Superblock>();
    const wanted = wantedLog(to, bitmap);
    for (const drive of this.core.roster.drives()) {
      const log = placeLog(drive.superblock!, wanted);
      if (log === null) return err(`drive ${drive.name} has no room for the log of policy ${to}`);
      const superblock = { ...drive.superblock!, log };
      assertPlaced(drive, superblock, wanted);
      const seat = to === "ppl" ? this.areas.seatOf(superblock) : "";
      if (typeof seat === "string" && seat !== "") return err(`drive ${drive.name}: ${seat}`);
      places.set(drive, superblock);
    }
    return ok(places);
  }

  private emptyBitmap(): BitmapState {
    const { identity, state } = this.core;
    const { sizeSectors } = identity;
    const chunkBytes = chooseBitmapChunkBytes({ sizeSectors, logSpaceSectors: BITMAP_SECTORS });
    assert(chunkBytes.ok, "a block has room for a bitmap");
    const superblock = { ...identity, events: state.events };
    const header = newBitmapHeader({ superblock, chunkBytes: chunkBytes.value });
    return newBitmap(header, false);
  }

  // Shared -----------------------------------------------------------------------------------

  /** What the engine was given for the policy is what the policy needs. */
  private assertKinds(): void {
    const { policyKind } = this.core;
    assert((this.logs !== null) === (policyKind === "ppl"), "there are logs with the policy ppl");
    const isBitmap = policyKind === "bitmap";
    assert((this.keeper !== null) === isBitmap, "there is a bitmap with the policy bitmap");
  }

  /**
   * A change of the policy whose last update was cut short is brought to its end: the freshest
   * superblock counts, and drives that the update did not reach keep their logs as that says.
   */
  private adoptLogs(): void {
    const { core } = this;
    for (const drive of [...core.roster.drives()]) {
      const { superblock } = drive;
      assert(superblock !== null, "the drives of an array that starts carry its superblocks");
      if (policyOf(superblock) === this.core.policyKind) continue;
      const log = placeLog(superblock, this.wanted);
      if (log !== null) {
        assertPlaced(drive, { ...superblock, log }, this.wanted);
        drive.carry({ ...superblock, log });
        continue;
      }
      const cause = `there is no room for the log of the policy ${this.core.policyKind} before its data`;
      if (core.roster.target === drive) this.verdicts.failTarget(cause);
      else if (core.members.isPresent(core.roster.roleOf(drive))) {
        this.verdicts.failMember(core.roster.roleOf(drive), cause);
      }
    }
  }

  private useBitmap(state: BitmapState): void {
    const { core } = this;
    assert(this.keeper === null, "an array has one bitmap");
    const coveredBytes = state.bitCount * state.chunkSectors * SECTOR_BYTES;
    assert(coveredBytes >= core.geometry.memberSizeBytes, "each row of a member has its bit");
    if (core.members.degradedCount > 0) state.setDegraded(true);
    const keeper = new BitmapKeeper({ core, verdicts: this.verdicts, state });
    this.keeper = keeper;
    const intent = core.engine.useBitmap(state, () => keeper.requestBlocks());
    keeper.onRefused = () => intent.refuseWaiting();
  }

  private async seatLogLater(role: number, drive: Drive): Promise<void> {
    const isStill = this.core.roster.driveAt(role) === drive && this.logs !== null;
    if (!isStill || this.hasStopped || this.core.isFailed) return;
    await this.seatLogAtStart(role);
  }

  /** Empties the log of a member that is there, and begins to use it. */
  private async seatLogAtStart(role: number): Promise<void> {
    const { core } = this;
    const drive = core.roster.driveAt(role);
    if (drive === null || !core.members.isPresent(role)) return;
    const { superblock } = drive;
    assert(superblock !== null && this.logs !== null, "a log that is seated is a member's");
    const isClear = await this.areas.clear(drive, superblock);
    if (!isClear && this.areas.hasNoRoom(drive)) {
      // No member's fault: what its log stands for is refused until there is room to empty it.
      this.logs.stick(role);
      const later = () => inBackground(this.seatLogLater(role, drive), core.guard);
      core.context.timers.scheduleAfter(ROOM_WAIT_MS, later);
      return;
    }
    const taken = isClear ? await this.takeSeat(superblock) : null;
    if (core.roster.driveAt(role) !== drive || !core.members.isPresent(role))
      this.giveUpSeat(taken);
    else if (taken === null)
      this.verdicts.failMember(role, "its partial parity log cannot be used");
    else this.seated(role, taken);
    this.logs!.unstick(role);
  }
}

/** The stripes that have these sectors of the members' data regions. */
export function stripesOf(ranges: readonly SectorRange[], geometry: Geometry): StripeRanges {
  const chunkSectors = geometry.chunkBytes / SECTOR_BYTES;
  const stripes = ranges.map(({ sector, lengthSectors }) => ({
    first: Math.floor(sector / chunkSectors),
    end: Math.ceil((sector + lengthSectors) / chunkSectors),
  }));
  assert(
    stripes.every(({ first, end }) => first < end),
    "a range of sectors has stripes",
  );
  return new StripeRanges(stripes, geometry.stripeCount);
}

/** Whether a member keeps its bitmap where the blocks of this one fit. */
export function hasBitmapRoom(bitmap: BitmapState, superblock: Superblock, drive: Drive): boolean {
  const { sizeBytes } = drive.info;
  return (
    superblock.log.kind === "bitmap" &&
    checkBitmapArea(bitmap.header, superblock, sizeBytes) === null
  );
}

function hasRoomFor(header: BitmapHeader, { superblock, info }: Drive): boolean {
  if (superblock?.log.kind !== "bitmap") return true;
  return checkBitmapArea(header, superblock, info.sizeBytes) === null;
}

/** A new log has the kind and the room that the policy wants, beside everything else. */
function assertPlaced(drive: Drive, superblock: Superblock, wanted: WantedLog): void {
  const { log } = superblock;
  assert(policyOf(superblock) === wanted.policy, "a log is of the kind that the policy wants");
  if (log.kind === "none") return;
  const bytes = wanted.policy === "bitmap" ? wanted.areaBytes : 0;
  const size = log.kind === "ppl" ? log.sizeSectors * SECTOR_BYTES : bytes;
  const offset = (SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors) * SECTOR_BYTES;
  assert(
    isBesideData(drive, superblock, { offset, bytes: size }),
    "a new log lies beside the data",
  );
}

function wantedLog(policy: ConsistencyPolicy, bitmap: BitmapState | null): WantedLog {
  if (policy !== "bitmap") return { policy };
  assert(bitmap !== null, "with the policy bitmap there is one");
  return { policy, areaBytes: bitmap.blockCount * BITMAP_BLOCK_BYTES };
}
