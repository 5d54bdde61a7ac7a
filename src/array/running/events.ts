/** Events about single sectors: the first, and then at each power of two, so that no log fills. */
import { hasBit } from "../../base/bit-set.ts";
import { isPowerOfTwo, ROW_BYTES } from "../../base/units.ts";
import type { Drive } from "../drives/drive.ts";
import type { RaidArray } from "../raid-array.ts";

export class ErrorNotes {
  private readonly array: RaidArray;
  private lostCount = 0;

  constructor(array: RaidArray) {
    this.array = array;
  }

  error(drive: Drive, cause: string): void {
    drive.noted += 1;
    if (!isPowerOfTwo(drive.noted)) return;
    const message = `drive ${drive.name}: ${cause} (error ${drive.noted} of this drive)`;
    this.array.emit("io.error", "warning", message, { drive: drive.name });
  }

  repaired(role: number, bytes: number): void {
    const drive = this.array.roles[role]!.drive!;
    drive.fixedBytes += bytes;
    const count = drive.fixedBytes / bytes;
    if (!isPowerOfTwo(count)) return;
    const message = `drive ${drive.name}: a bad sector was rewritten from the other members`;
    const more = { drive: drive.name };
    this.array.emit("sector.repaired", "warning", `${message} (${count} so far)`, more);
  }

  /** `roles` is the set of the roles that cannot give this row. */
  lost(stripe: number, row: number, roles: number): void {
    if (this.array.members.isFenced) return;
    this.lostCount += 1;
    if (!isPowerOfTwo(this.lostCount)) return;
    const names: string[] = [];
    for (const [role, { drive }] of this.array.roles.entries()) {
      if (hasBit(roles, role)) names.push(drive?.name ?? `role ${role}`);
    }
    const at = stripe * this.array.geometry.chunkBytes + row * ROW_BYTES;
    const message =
      `4 KiB at member byte ${at} cannot be had from ${names.join(", ")} and not from the ` +
      `others: reads of it fail until it is written (${this.lostCount} so far)`;
    this.array.emit("sector.lost", "critical", message);
  }
}
