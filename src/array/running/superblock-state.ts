/**
 * What the superblocks of a running array say next: event count, dirty mark, and the seats of the
 * roster. Changed only inside an update of the superblock writer, so that each update is one step.
 *
 * How far rebuild and resync have come is kept in the member set alone, and each update says what
 * that says then (write-rules 23): no way out of a sync action can leave another story on disk.
 */
import { assert } from "../../base/assert.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import { mdTimeOf } from "../../md/create.ts";
import {
  begunReshape,
  finishedReshape,
  type Reshape,
  reshapeOf,
  withReshape,
} from "../../md/reshape.ts";
import { Feature, Role, roleOf, type Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import { claimIn, driveOf, type Roster, targetClaimIn, targetOf } from "./roster.ts";

/** What is to be written to a drive. */
export interface SuperblockWrite {
  readonly drive: Drive;
  readonly superblock: Superblock;
}

/** What a superblock says that its drive is. */
type Claim = "in-sync" | "rebuilding" | "replacement";

function featuresFor(claim: Claim, { otherFeatures }: Superblock): number {
  if (claim === "replacement") return otherFeatures | Feature.replacement;
  return otherFeatures & ~Feature.replacement;
}

/** A member that an update has not reached may still say that it stands elsewhere, or is over. */
function inReshape(superblock: Superblock, reshape: Reshape | null): Superblock {
  if (reshape !== null) return withReshape(superblock, reshape);
  return reshapeOf(superblock) === null ? superblock : finishedReshape(superblock);
}

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;

/** How far rebuild and resync have come, durably. */
export interface SyncFacts {
  /** Rows from this member sector on may await parity; null: none does. */
  readonly inSyncBelowSector: number | null;
  /** The member that is being rebuilt is valid below it. */
  readonly rebuiltBelowSector: number;
  /** The target of a member that is replaced is valid below it. */
  readonly copiedBelowSector: number;
  /** An array with rows that await parity says how far it is also while dirty (write-rules 6). */
  readonly keepsCheckpoint: boolean;
}

export class SuperblockState {
  events: number;
  isMarkedDirty: boolean;
  private ownIdentity: Superblock;
  /** No data has been written since this event; null: some may just be. */
  private unchangedSince: number | null;
  /** What the last update said, to one of those that it went to; null: there was none. */
  private last: Superblock | null = null;

  constructor(superblock: Superblock, { isMarkedDirty }: { isMarkedDirty: boolean }) {
    // It may be that of a replacement, which is said of that one drive.
    this.ownIdentity = { ...superblock, otherFeatures: featuresFor("in-sync", superblock) };
    this.events = superblock.events;
    this.isMarkedDirty = isMarkedDirty;
    this.unchangedSince = superblock.resyncOffsetSectors === null ? superblock.events : null;
  }

  /** The superblock that the array was started from, with the size that it has been given since. */
  get identity(): Superblock {
    return this.ownIdentity;
  }

  /** What the next update says of the size. */
  growTo(sizeSectors: number): void {
    assert(sizeSectors > this.ownIdentity.sizeSectors, "an array that grows is larger then");
    this.ownIdentity = { ...this.ownIdentity, sizeSectors };
  }

  /** The next update says that there are more members, and that nothing has been moved. */
  beginReshape(start: Omit<Reshape, "positionSectors">): void {
    this.ownIdentity = begunReshape(this.ownIdentity, start);
  }

  /** What the next update says of the reshape under way. */
  reshapedTo(positionSectors: number): void {
    const { reshape } = this;
    assert(reshape !== null, "a reshape is under way");
    assert(positionSectors > reshape.positionSectors, "a reshape goes forward");
    this.ownIdentity = withReshape(this.ownIdentity, { ...reshape, positionSectors });
    // A member that missed it holds data that lie elsewhere now.
    this.unchangedSince = null;
  }

  /** The next update says that all of it has been moved. */
  endReshape(): void {
    this.ownIdentity = finishedReshape(this.ownIdentity);
    this.unchangedSince = null;
  }

  /** The reshape under way, as the freshest superblock has it; null: none. */
  get reshape(): Reshape | null {
    return reshapeOf(this.ownIdentity);
  }

  /** Whether a member that was in sync and clean at this event still holds what it ought to. */
  isUnchangedSince(events: number): boolean {
    return this.unchangedSince !== null && events >= this.unchangedSince;
  }

  /** What the freshest superblock says, for the members that are behind it at the start. */
  lagging(freshest: Superblock, roster: Roster): SuperblockWrite[] {
    return this.toldAll(freshest, [
      ...roster.seats.map((seat) => ({ drive: driveOf(seat), claim: claimIn(seat) })),
      ...roster.seats.map((seat) => ({ drive: targetOf(seat), claim: targetClaimIn(seat) })),
    ]);
  }

  /**
   * Members that serve and did not get the last update, with what it said: it was to take their
   * role from them, did not become durable, and is taken back. Without it they would be two events
   * behind where the next one is cut short.
   */
  leftOut(roster: Roster): SuperblockWrite[] {
    if (this.last === null) return [];
    const seats = roster.seats.map((seat) => ({ drive: driveOf(seat), claim: claimIn(seat) }));
    const serving = seats.filter(({ claim }) => claim === "in-sync");
    return this.toldAll(this.last, serving);
  }

  private toldAll(
    freshest: Superblock,
    members: readonly { drive: Drive | null; claim: Claim | null }[],
  ): SuperblockWrite[] {
    const { events, updatedAt, devRoles, resyncOffsetSectors, sizeSectors } = freshest;
    const { memberCount } = freshest;
    const reshape = reshapeOf(freshest);
    assert(events <= this.events, "nobody is fresher than the array");
    const told = { events, updatedAt, devRoles, resyncOffsetSectors, sizeSectors, memberCount };
    const writes: SuperblockWrite[] = [];
    for (const { drive, claim } of members) {
      const own = drive?.superblock;
      if (drive === null || claim === null || own === null || own === undefined) continue;
      if (own.events >= events) continue;
      // A spare that the update of its role has not reached: nothing in its own superblock says
      // that it is to be filled.
      const isNew = claim !== "in-sync" && roleOf(own, own.devNumber) >= Role.limit;
      const recoveryOffsetSectors = isNew ? 0 : own.recoveryOffsetSectors;
      const otherFeatures = isNew ? featuresFor(claim, own) : own.otherFeatures;
      const isTold = claim === "in-sync" || recoveryOffsetSectors !== null;
      assert(isTold, "a drive that is being filled says so");
      const superblock = { ...own, ...told, otherFeatures, recoveryOffsetSectors };
      writes.push({ drive, superblock: inReshape(superblock, reshape) });
    }
    return writes;
  }

  /** The superblocks of the next update, with one event more. Only working drives get one. */
  next(options: { roster: Roster; sync: SyncFacts; wallMs: number }): SuperblockWrite[] {
    this.events += 1;
    assert(Number.isSafeInteger(this.events), "an event count is a whole number");
    const resyncOffsetSectors = this.resyncOffset(options.sync);
    if (resyncOffsetSectors !== null) this.unchangedSince = null;
    else this.unchangedSince ??= this.events;
    const { roster, sync } = options;
    const { reshape } = this;
    const common = {
      events: this.events,
      updatedAt: mdTimeOf(options.wallMs),
      devRoles: roster.tellDeviceRoles(),
      sizeSectors: this.ownIdentity.sizeSectors,
      memberCount: this.ownIdentity.memberCount,
      resyncOffsetSectors,
    };
    const writes: SuperblockWrite[] = [];
    const add = (drive: Drive | null, claim: Claim | null): void => {
      if (drive === null || claim === null) return;
      const recoveryOffsetSectors = this.recoveryOffset(claim, sync);
      const hasBadBlocks = !drive.badBlocks.isEmpty;
      const own = drive.superblock;
      assert(own !== null, "a member carries a superblock");
      assert(own.arrayUuid === roster.arrayUuid, "a member carries a superblock of its array");
      assert(drive.failure === "", "a drive that failed gets no superblock");
      assert(common.sizeSectors <= own.dataSizeSectors, "a member has room for its part");
      const isWithin = (recoveryOffsetSectors ?? 0) <= common.sizeSectors;
      assert(isWithin, "a member is filled no further than to its end");
      const otherFeatures = featuresFor(claim, own);
      const superblock = { ...own, ...common, otherFeatures, recoveryOffsetSectors, hasBadBlocks };
      writes.push({ drive, superblock: inReshape(superblock, reshape) });
    };
    for (const seat of roster.seats) {
      add(driveOf(seat), claimIn(seat));
      add(targetOf(seat), targetClaimIn(seat));
    }
    for (const drive of roster.spares) {
      const own = drive.superblock;
      assert(own !== null, "a spare carries a superblock");
      const superblock = { ...own, ...common, recoveryOffsetSectors: null };
      writes.push({ drive, superblock: inReshape(superblock, reshape) });
    }
    this.last = writes[0]?.superblock ?? null;
    return writes;
  }

  private recoveryOffset(claim: Claim, sync: SyncFacts): number | null {
    if (claim === "in-sync") return null;
    if (claim === "rebuilding") return sync.rebuiltBelowSector;
    // A replay of the logs writes parity to members alone: what a target has of that is old.
    return this.isMarkedDirty && sync.keepsCheckpoint ? 0 : sync.copiedBelowSector;
  }

  resyncOffset({ inSyncBelowSector, keepsCheckpoint }: SyncFacts): number | null {
    assert((inSyncBelowSector ?? 0) >= 0, "rows are in sync from the first one on");
    if (inSyncBelowSector === null) return this.isMarkedDirty ? 0 : null;
    // From 0 a replay of the logs would call the array clean. A resync begins at a whole chunk, so
    // that this claims nothing.
    if (keepsCheckpoint) return Math.max(inSyncBelowSector, ROW_SECTORS);
    return this.isMarkedDirty ? 0 : inSyncBelowSector;
  }
}
