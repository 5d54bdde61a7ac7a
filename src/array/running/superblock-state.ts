/**
 * What the superblocks of a running array say next: event count, dev_roles, the dirty mark. Changed
 * only inside an update of the superblock writer, so that each update is one step.
 *
 * How far rebuild and resync have come is kept in the member set alone, and each update says what
 * that says then (write-rules 23): no way out of a sync action can leave another story on disk.
 */
import { ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import { mdTimeOf } from "../../md/create.ts";
import { Role, type Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { RoleSlot } from "../start-plan.ts";

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
  private readonly devRoles: number[];

  constructor(superblock: Superblock, { isMarkedDirty }: { isMarkedDirty: boolean }) {
    this.events = superblock.events;
    this.devRoles = [...superblock.devRoles];
    this.isMarkedDirty = isMarkedDirty;
    this.unchangedSince = superblock.resyncOffsetSectors === null ? superblock.events : null;
  }

  /** Whether a member that was in sync and clean at this event still holds what it ought to. */
  isUnchangedSince(events: number): boolean {
    return this.unchangedSince !== null && events >= this.unchangedSince;
  }

  setDevRole(drive: Drive, role: number): void {
    const { devNumber } = drive.superblock!;
    while (this.devRoles.length <= devNumber) this.devRoles.push(Role.spare);
    this.devRoles[devNumber] = role;
  }

  /** A number in dev_roles that none of these drives uses, or -1. */
  freeDevNumber(drives: Iterable<Drive>): number {
    const used = new Set<number>();
    for (const drive of drives) used.add(drive.superblock!.devNumber);
    for (const wanted of [Role.spare, Role.faulty]) {
      const found = this.devRoles.findIndex(
        (role, devNumber) => role === wanted && !used.has(devNumber),
      );
      if (found >= 0) return found;
    }
    return -1;
  }

  /** Takes roles that no drive fills out of dev_roles, and gives each seated drive its role. */
  dropMissingRoles(roles: readonly RoleSlot[]): void {
    for (const [devNumber, role] of this.devRoles.entries()) {
      if (role < Role.limit) this.devRoles[devNumber] = Role.spare;
    }
    for (const [role, { drive }] of roles.entries()) {
      if (drive !== null) this.setDevRole(drive, role);
    }
  }

  /** What the freshest superblock says, for the members that are behind it. */
  lagging(
    freshest: Superblock,
    roles: readonly RoleSlot[],
  ): { drive: Drive; superblock: Superblock }[] {
    const { events, updatedAt, devRoles, resyncOffsetSectors } = freshest;
    const writes: { drive: Drive; superblock: Superblock }[] = [];
    for (const { drive } of roles) {
      const own = drive?.superblock;
      if (drive === null || own === null || own === undefined || own.events >= events) continue;
      const superblock = { ...own, events, updatedAt, devRoles, resyncOffsetSectors };
      writes.push({ drive, superblock });
    }
    return writes;
  }

  /** The superblocks of the next update, with one event more. Only working drives get one. */
  next(options: {
    roles: readonly RoleSlot[];
    spares: readonly Drive[];
    sync: SyncFacts;
    wallMs: number;
  }): { drive: Drive; superblock: Superblock }[] {
    this.events += 1;
    const resyncOffsetSectors = this.resyncOffset(options.sync);
    if (resyncOffsetSectors !== null) this.unchangedSince = null;
    else this.unchangedSince ??= this.events;
    const common = {
      events: this.events,
      updatedAt: mdTimeOf(options.wallMs),
      devRoles: [...this.devRoles],
      resyncOffsetSectors,
    };
    const writes: { drive: Drive; superblock: Superblock }[] = [];
    for (const { drive, state } of options.roles) {
      if (drive === null || (state !== "in-sync" && state !== "rebuilding")) continue;
      const recoveryOffsetSectors = state === "rebuilding" ? options.sync.rebuiltBelowSector : null;
      const hasBadBlocks = !drive.badBlocks.isEmpty;
      const own = drive.superblock!;
      writes.push({
        drive,
        superblock: { ...own, ...common, recoveryOffsetSectors, hasBadBlocks },
      });
    }
    for (const drive of options.spares) {
      const own = drive.superblock!;
      writes.push({ drive, superblock: { ...own, ...common, recoveryOffsetSectors: null } });
    }
    return writes;
  }

  resyncOffset({ inSyncBelowSector, keepsCheckpoint }: SyncFacts): number | null {
    if (inSyncBelowSector === null) return this.isMarkedDirty ? 0 : null;
    // From 0 a replay of the logs would call the array clean. A resync begins at a whole chunk, so
    // that this claims nothing.
    if (keepsCheckpoint) return Math.max(inSyncBelowSector, ROW_SECTORS);
    return this.isMarkedDirty ? 0 : inSyncBelowSector;
  }
}
