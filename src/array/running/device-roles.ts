/**
 * dev_roles of a superblock: by device number, the role of its bearer. Also of drives that are not
 * here.
 */
import { Role } from "../../md/superblock.ts";

export class DeviceRoles {
  private readonly roles: number[];
  /** Numbers whose bearer has left since the last update. */
  private readonly givenUp = new Set<number>();

  constructor(roles: readonly number[]) {
    this.roles = [...roles];
  }

  /** For the superblocks of an update: numbers that were given up until now are free with it. */
  tell(): number[] {
    this.givenUp.clear();
    return [...this.roles];
  }

  set(devNumber: number, role: number): void {
    while (this.roles.length <= devNumber) this.roles.push(Role.spare);
    this.roles[devNumber] = role;
    if (role >= Role.limit) this.givenUp.add(devNumber);
  }

  /** Nobody has a role any more. */
  clear(): void {
    for (const [devNumber, role] of this.roles.entries()) {
      if (role < Role.limit) this.set(devNumber, Role.spare);
    }
  }

  /**
   * A number that is none of `inUse`, or -1. One that was given up is not free before an update has
   * told so: a drive that is one event behind still counts, and would claim what the next bearer of
   * its number has.
   */
  firstFree(inUse: ReadonlySet<number>): number {
    const isFree = (devNumber: number) => !inUse.has(devNumber) && !this.givenUp.has(devNumber);
    for (const wanted of [Role.spare, Role.faulty]) {
      const found = this.roles.findIndex((role, devNumber) => role === wanted && isFree(devNumber));
      if (found >= 0) return found;
    }
    return -1;
  }
}
