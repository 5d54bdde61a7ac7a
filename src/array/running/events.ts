/** Events about single sectors: the first, and then at each power of two, so that no log fills. */
import { assert } from "../../base/assert.ts";
import { hasBit } from "../../base/bit-set.ts";
import { isPowerOfTwo, ROW_BYTES } from "../../base/units.ts";
import type { Drive } from "../drives/drive.ts";
import type { ArrayCore } from "./array-core.ts";

export class ErrorNotes {
  private readonly core: ArrayCore;
  private lostCount = 0;

  constructor(core: ArrayCore) {
    this.core = core;
  }

  error(drive: Drive, cause: string): void {
    const count = drive.noteError();
    if (!isPowerOfTwo(count)) return;
    const message = `drive ${drive.name}: ${cause} (error ${count} of this drive)`;
    this.core.emit("io.error", "warning", message, { drive });
  }

  repaired(role: number, bytes: number): void {
    const drive = this.core.roster.driveAt(role);
    assert(drive !== null, "what was repaired lies on a drive");
    assert(bytes % ROW_BYTES === 0, "rows are repaired whole");
    const count = drive.noteRepaired(bytes) / bytes;
    if (!isPowerOfTwo(count)) return;
    const message = `drive ${drive.name}: a bad sector was rewritten from the other members`;
    this.core.emit("sector.repaired", "warning", `${message} (${count} so far)`, { drive });
  }

  /** `roles` is the set of the roles that cannot give this row. */
  lost(stripe: number, row: number, roles: number): void {
    const { stripeCount, chunkBytes } = this.core.geometry;
    assert(
      stripe < stripeCount && row < chunkBytes / ROW_BYTES,
      "a row that is lost is one of ours",
    );
    assert(roles !== 0, "a row is lost by roles that cannot give it");
    if (this.core.members.isFenced) return;
    this.lostCount += 1;
    if (!isPowerOfTwo(this.lostCount)) return;
    const names: string[] = [];
    for (let role = 0; role < this.core.roster.memberCount; role += 1) {
      if (!hasBit(roles, role)) continue;
      names.push(this.core.roster.driveAt(role)?.name ?? `role ${role}`);
    }
    const at = stripe * this.core.geometry.chunkBytes + row * ROW_BYTES;
    const message =
      `4 KiB at member byte ${at} cannot be had from ${names.join(", ")} and not from the ` +
      `others: reads of it fail until it is written (${this.lostCount} so far)`;
    this.core.emit("sector.lost", "critical", message);
  }
}
