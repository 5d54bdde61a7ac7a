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
  checkBitmapArea,
  chooseBitmapChunkBytes,
  newBitmapHeader,
} from "../../md/bitmap.ts";
import { newBitmap } from "../../md/bitmap-load.ts";
import type { BitmapState } from "../../md/bitmap-state.ts";
import type { ConsistencyPolicy } from "../../md/create.ts";
import { placeLog, type WantedLog } from "../../md/log-place.ts";
import type { Superblock } from "../../md/superblock.ts";
import type { Geometry } from "../../raid5/geometry.ts";
import { StripeRanges } from "../../raid5/members/sync-progress.ts";
import { logBufferBytes, type PplSeat } from "../../raid5/policy/ppl-log.ts";
import type { PplLogs } from "../../raid5/policy/ppl-logs.ts";
import type { Drive } from "../drives/drive.ts";
import type { RaidArray } from "../raid-array.ts";
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
  private readonly array: RaidArray;
  private readonly areas: PplAreas;
  private logs: PplLogs | null = null;
  private keeper: BitmapKeeper | null = null;
  private current: ConsistencyPolicy;
  private hasStopped = false;

  constructor(options: { array: RaidArray; areas: PplAreas; bitmap: BitmapState | null }) {
    const { array, bitmap } = options;
    this.array = array;
    this.areas = options.areas;
    this.areas.policies.add(this);
    this.current = policyOf(array.identity);
    // Read-only the bitmap is of no use, and nobody logs.
    if (array.isReadOnlyStart) return;
    if (this.current === "bitmap") {
      assert(bitmap !== null, "the bitmap was loaded before the start");
      this.useBitmap(bitmap);
    }
    if (this.current === "ppl") this.logs = array.engine.usePartialParity();
  }

  get kind(): ConsistencyPolicy {
    return this.current;
  }

  /** Members that have a log, or may get one: each takes a part of the engine's pool. */
  get logCount(): number {
    return this.current === "ppl" && !this.array.isReadOnlyStart
      ? this.array.geometry.memberCount
      : 0;
  }

  /** The bitmap as it is, where there is one. */
  get bitmap(): BitmapState | null {
    return this.keeper?.state ?? null;
  }

  // Start and stop ---------------------------------------------------------------------------

  /** Before the array's first superblock update: what this policy needs on the members. */
  async prepare(): Promise<void> {
    const { array } = this;
    if (array.isReadOnlyStart) return;
    this.adoptLogs();
    if (this.logs !== null) {
      await Promise.all(array.roles.map((_, role) => this.seatLogAtStart(role)));
      if (array.members.resync?.cursor === 0) await array.synchronizer.syncFirstStripe();
    }
    await this.keeper?.writeBlocks({ urgentOnly: false });
  }

  start(): void {
    this.keeper?.start();
  }

  /** No write is under way, and none will come. */
  async stop(): Promise<void> {
    this.hasStopped = true;
    await this.rest();
    this.areas.policies.delete(this);
  }

  private async rest(): Promise<void> {
    const clears = this.array.members.degradedCount === 0 && !this.array.isFailed;
    await this.keeper?.stop({ clears });
  }

  /** Before each update of the superblocks, with its event count. False: there is no room. */
  async beforeUpdate(events: number): Promise<boolean> {
    return this.keeper === null || this.keeper.setEvents(events);
  }

  // Members ----------------------------------------------------------------------------------

  memberLeft(): void {
    this.keeper?.state.setDegraded(true);
  }

  /** What each member keeps of it before its data. */
  get wanted(): WantedLog {
    return wantedLog(this.current, this.bitmap);
  }

  /** Why a drive of this layout cannot keep the log that it needs, or null. */
  seatObstacle(superblock: Superblock): string | null {
    const seat = this.current === "ppl" ? this.areas.seatOf(superblock) : null;
    return typeof seat === "string" ? seat : null;
  }

  /** Before the superblocks name the drive as a member. False: it cannot be written. */
  async prepareMember(drive: Drive, superblock: Superblock): Promise<boolean> {
    const { bitmap } = this;
    if (bitmap !== null && !hasBitmapRoom(bitmap, superblock, drive)) return false;
    return this.current !== "ppl" || this.areas.clear(drive, superblock);
  }

  /** What `seat` will need for this drive. */
  async takeSeat(superblock: Superblock): Promise<MemberSeat | null> {
    if (this.logs === null) return null;
    const seat = this.areas.seatOf(superblock);
    if (typeof seat === "string") return null;
    const bytes = logBufferBytes(seat.space);
    return { seat, address: await this.array.context.enginePool.take(bytes, { staysLong: true }) };
  }

  /** The drive was not seated after all. */
  giveUpSeat(taken: MemberSeat | null): void {
    if (taken === null) return;
    this.array.context.enginePool.free(taken.address, logBufferBytes(taken.seat.space));
  }

  /** The member is in the set now, and nothing has been written to it. */
  seated(role: number, taken: MemberSeat | null): void {
    if (taken !== null) this.logs!.seat(role, taken.seat, taken.address);
    if (this.keeper === null) return;
    this.keeper.state.rewriteAll();
    this.keeper.requestBlocks();
  }

  /** The stripes under bits of the bitmap; null: there is none. */
  dirtyStripes(which: "set" | "needed"): StripeRanges | null {
    const { bitmap } = this;
    return bitmap === null ? null : stripesOf(bitmap.dirtyRanges(which), this.array.geometry);
  }

  // Resync and rebuild -----------------------------------------------------------------------

  syncBegins(): void {
    const state = this.bitmap;
    state?.beginSync(0, this.array.identity.sizeSectors);
  }

  /** With `isDone`, all of it is durable and no member is missing. */
  syncEnds(isDone: boolean): void {
    const state = this.bitmap;
    if (state === null) return;
    if (isDone) {
      state.setDegraded(false);
      state.beginSync(0, this.array.identity.sizeSectors);
    }
    state.endSync(0, this.array.identity.sizeSectors, isDone);
  }

  // Change -----------------------------------------------------------------------------------

  /**
   * Changes to another policy, while nothing is written and the array is clean. Order: no
   * superblock names the old log any more when the room for the new one is written, and what the
   * new policy needs is on every member before a superblock names that.
   */
  async change(to: ConsistencyPolicy): Promise<Result<undefined, string>> {
    const bitmap = to === "bitmap" ? this.emptyBitmap() : null;
    const places = this.placesFor(to, bitmap);
    if (!places.ok) return places;
    if (this.current !== "resync" && !(await this.leave())) return err(NOT_WRITTEN);
    if (to === "resync") return ok();
    for (const [drive, superblock] of places.value) {
      if (to === "bitmap" || (await this.areas.clear(drive, superblock))) continue;
      return err(`drive ${drive.name} cannot be written; the policy is resync now`);
    }
    const isDurable = await this.array.superblocks.update(() => {
      this.setLogs(places.value);
      // All its blocks are urgent: they are written before this update is.
      if (bitmap !== null) this.useBitmap(bitmap);
    });
    this.current = to;
    if (!isDurable && !this.array.isFailed) {
      // Nobody has written with it yet: what is in memory goes back to what the members say.
      await this.leave();
      this.start();
      return err(`${NOT_WRITTEN}; the policy is resync now`);
    }
    if (to === "ppl") {
      this.logs = this.array.engine.usePartialParity();
      for (const [role, { drive }] of this.array.roles.entries()) {
        if (drive === null || !this.array.members.isPresent(role)) continue;
        this.seated(role, await this.takeSeat(drive.superblock!));
      }
    }
    this.start();
    return isDurable ? ok() : err(NOT_WRITTEN);
  }

  /** Back to `resync`: no log is named or kept. */
  private async leave(): Promise<boolean> {
    await this.rest();
    this.array.engine.clearPolicy();
    this.logs = null;
    this.keeper = null;
    this.current = "resync";
    const none = [...this.array.drives()].map((drive): [Drive, Superblock] => {
      return [drive, { ...drive.superblock!, log: { kind: "none", word: 0 } }];
    });
    return this.array.superblocks.update(() => this.setLogs(new Map(none)));
  }

  private setLogs(places: ReadonlyMap<Drive, Superblock>): void {
    for (const [drive, { log }] of places) {
      const superblock = { ...drive.superblock!, log };
      drive.probe = { kind: "member", superblock };
    }
  }

  private placesFor(
    to: ConsistencyPolicy,
    bitmap: BitmapState | null,
  ): Result<Map<Drive, Superblock>, string> {
    const lacking = to === "ppl" ? this.areas.memoryLacking(this.array.geometry.memberCount) : null;
    if (lacking !== null) return err(lacking);
    const places = new Map<Drive, Superblock>();
    const wanted = wantedLog(to, bitmap);
    for (const drive of this.array.drives()) {
      const log = placeLog(drive.superblock!, wanted);
      if (log === null) return err(`drive ${drive.name} has no room for the log of policy ${to}`);
      const superblock = { ...drive.superblock!, log };
      const seat = to === "ppl" ? this.areas.seatOf(superblock) : "";
      if (typeof seat === "string" && seat !== "") return err(`drive ${drive.name}: ${seat}`);
      places.set(drive, superblock);
    }
    return ok(places);
  }

  private emptyBitmap(): BitmapState {
    const { identity, events } = this.array;
    const { sizeSectors } = identity;
    const chunkBytes = chooseBitmapChunkBytes({ sizeSectors, logSpaceSectors: BITMAP_SECTORS });
    assert(chunkBytes.ok, "a block has room for a bitmap");
    const superblock = { ...identity, events };
    const header = newBitmapHeader({ superblock, chunkBytes: chunkBytes.value });
    return newBitmap(header, false);
  }

  // Shared -----------------------------------------------------------------------------------

  /**
   * A change of the policy whose last update was cut short is brought to its end: the freshest
   * superblock counts, and drives that the update did not reach keep their logs as that says.
   */
  private adoptLogs(): void {
    const { array } = this;
    for (const drive of [...array.drives()]) {
      const superblock = drive.superblock!;
      if (policyOf(superblock) === this.current) continue;
      const log = placeLog(superblock, this.wanted);
      if (log !== null) drive.probe = { kind: "member", superblock: { ...superblock, log } };
      else if (array.members.isPresent(array.roleOf(drive))) {
        const cause = `there is no room for the log of the policy ${this.current} before its data`;
        array.failMember(array.roleOf(drive), cause);
      }
    }
  }

  private useBitmap(state: BitmapState): void {
    if (this.array.members.degradedCount > 0) state.setDegraded(true);
    const keeper = new BitmapKeeper({ array: this.array, state });
    this.keeper = keeper;
    const intent = this.array.engine.useBitmap(state, () => keeper.requestBlocks());
    keeper.onRefused = () => intent.refuseWaiting();
  }

  private async seatLogLater(role: number, drive: Drive): Promise<void> {
    const isStill = this.array.roles[role]!.drive === drive && this.logs !== null;
    if (!isStill || this.hasStopped || this.array.isFailed) return;
    await this.seatLogAtStart(role);
  }

  /** Empties the log of a member that is there, and begins to use it. */
  private async seatLogAtStart(role: number): Promise<void> {
    const { array } = this;
    const { drive } = array.roles[role]!;
    if (drive === null || !array.members.isPresent(role)) return;
    const superblock = drive.superblock!;
    const isClear = await this.areas.clear(drive, superblock);
    if (!isClear && this.areas.hasNoRoom(drive)) {
      // No member's fault: what its log stands for is refused until there is room to empty it.
      this.logs!.stick(role);
      const later = () => inBackground(this.seatLogLater(role, drive), array.guard);
      array.context.timers.scheduleAfter(ROOM_WAIT_MS, later);
      return;
    }
    const taken = isClear ? await this.takeSeat(superblock) : null;
    if (!array.members.isPresent(role)) this.giveUpSeat(taken);
    else if (taken === null) array.failMember(role, "its partial parity log cannot be used");
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
  return new StripeRanges(stripes, geometry.stripeCount);
}

/** Whether a member keeps its bitmap where the blocks of this one fit. */
export function hasBitmapRoom(bitmap: BitmapState, superblock: Superblock, drive: Drive): boolean {
  const { sizeBytes } = drive.info;
  return (
    superblock.log.kind === "bitmap" &&
    checkBitmapArea(bitmap.extent, superblock, sizeBytes) === null
  );
}

export function policyOf({ log }: Pick<Superblock, "log">): ConsistencyPolicy {
  return log.kind === "none" ? "resync" : log.kind;
}

function wantedLog(policy: ConsistencyPolicy, bitmap: BitmapState | null): WantedLog {
  if (policy !== "bitmap") return { policy };
  return { policy, areaBytes: bitmap!.blockCount * BITMAP_BLOCK_BYTES };
}
