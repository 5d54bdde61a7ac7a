/**
 * What the superblocks of a running array say next: event count, dev_roles, checkpoints, the dirty
 * mark. Changed only inside an update of the superblock writer, so that each update is one step.
 */
import { mdTimeOf } from "../md/create.ts";
import { Role, type Superblock } from "../md/superblock.ts";
import type { Drive } from "./drive.ts";
import type { RoleSlot } from "./start-plan.ts";

export class SuperblockState {
  events: number;
  isMarkedDirty: boolean;
  /** The member sector below which the rebuild is durable. */
  recoveryCheckpointSectors = 0;
  /** The member sector below which the resync is durable. */
  resyncCheckpointSectors = 0;
  private readonly devRoles: number[];

  constructor(superblock: Superblock, { isMarkedDirty }: { isMarkedDirty: boolean }) {
    this.events = superblock.events;
    this.devRoles = [...superblock.devRoles];
    this.isMarkedDirty = isMarkedDirty;
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
    isResyncDue: boolean;
    /** A dirty array whose resync is due says how far that is (write-rules 6). */
    keepsCheckpoint: boolean;
    wallMs: number;
  }): { drive: Drive; superblock: Superblock }[] {
    this.events += 1;
    const common = {
      events: this.events,
      updatedAt: mdTimeOf(options.wallMs),
      devRoles: [...this.devRoles],
      resyncOffsetSectors: this.resyncOffset(options.isResyncDue, options.keepsCheckpoint),
    };
    const writes: { drive: Drive; superblock: Superblock }[] = [];
    for (const { drive, state } of options.roles) {
      if (drive === null || (state !== "in-sync" && state !== "rebuilding")) continue;
      const recoveryOffsetSectors = state === "rebuilding" ? this.recoveryCheckpointSectors : null;
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

  private resyncOffset(isResyncDue: boolean, keepsCheckpoint: boolean): number | null {
    const isCheckpointKept = isResyncDue && keepsCheckpoint && this.resyncCheckpointSectors > 0;
    if (this.isMarkedDirty && !isCheckpointKept) return 0;
    return isResyncDue ? this.resyncCheckpointSectors : null;
  }
}
