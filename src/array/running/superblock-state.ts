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
import type { Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import { claimIn, driveOf, type Roster } from "./roster.ts";

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;

/** How far rebuild and resync have come, durably. */
export interface SyncFacts {
  /** Rows from this member sector on may await parity; null: none does. */
  readonly inSyncBelowSector: number | null;
  /** The member that is being rebuilt is valid below it. */
  readonly rebuiltBelowSector: number;
  /** An array with rows that await parity says how far it is also while dirty (write-rules 6). */
  readonly keepsCheckpoint: boolean;
}

export class SuperblockState {
  events: number;
  isMarkedDirty: boolean;
  /** No data has been written since this event; null: some may just be. */
  private unchangedSince: number | null;

  constructor(superblock: Superblock, { isMarkedDirty }: { isMarkedDirty: boolean }) {
    this.events = superblock.events;
    this.isMarkedDirty = isMarkedDirty;
    this.unchangedSince = superblock.resyncOffsetSectors === null ? superblock.events : null;
  }

  /** Whether a member that was in sync and clean at this event still holds what it ought to. */
  isUnchangedSince(events: number): boolean {
    return this.unchangedSince !== null && events >= this.unchangedSince;
  }

  /** What the freshest superblock says, for the members that are behind it. */
  lagging(freshest: Superblock, roster: Roster): { drive: Drive; superblock: Superblock }[] {
    const { events, updatedAt, devRoles, resyncOffsetSectors } = freshest;
    assert(events <= this.events, "nobody is fresher than the array");
    const writes: { drive: Drive; superblock: Superblock }[] = [];
    for (let role = 0; role < roster.memberCount; role += 1) {
      const drive = roster.driveAt(role);
      const own = drive?.superblock;
      if (drive === null || own === null || own === undefined || own.events >= events) continue;
      const superblock = { ...own, events, updatedAt, devRoles, resyncOffsetSectors };
      writes.push({ drive, superblock });
    }
    return writes;
  }

  /** The superblocks of the next update, with one event more. Only working drives get one. */
  next(options: {
    roster: Roster;
    sync: SyncFacts;
    wallMs: number;
  }): { drive: Drive; superblock: Superblock }[] {
    this.events += 1;
    assert(Number.isSafeInteger(this.events), "an event count is a whole number");
    const resyncOffsetSectors = this.resyncOffset(options.sync);
    if (resyncOffsetSectors !== null) this.unchangedSince = null;
    else this.unchangedSince ??= this.events;
    const { roster, sync } = options;
    const common = {
      events: this.events,
      updatedAt: mdTimeOf(options.wallMs),
      devRoles: roster.deviceRolesNow,
      resyncOffsetSectors,
    };
    const writes: { drive: Drive; superblock: Superblock }[] = [];
    for (const seat of roster.seats) {
      const claim = claimIn(seat);
      const drive = driveOf(seat);
      if (drive === null || claim === null) continue;
      const recoveryOffsetSectors = claim === "rebuilding" ? sync.rebuiltBelowSector : null;
      const hasBadBlocks = !drive.badBlocks.isEmpty;
      const own = drive.superblock;
      assert(own !== null, "a member carries a superblock");
      assert(own.arrayUuid === roster.arrayUuid, "a member carries a superblock of its array");
      assert(drive.failure === "", "a drive that failed gets no superblock");
      const isWithin = (recoveryOffsetSectors ?? 0) <= own.sizeSectors;
      assert(isWithin, "a member is filled no further than to its end");
      writes.push({
        drive,
        superblock: { ...own, ...common, recoveryOffsetSectors, hasBadBlocks },
      });
    }
    for (const drive of roster.spares) {
      const own = drive.superblock;
      assert(own !== null, "a spare carries a superblock");
      writes.push({ drive, superblock: { ...own, ...common, recoveryOffsetSectors: null } });
    }
    return writes;
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
