/**
 * What is known of single rows: which roles cannot be had from their own member, whether parity is
 * proven, and what stands in the bad-block logs. Whoever changes any of it holds the stripe.
 */
import { assert } from "../../base/assert.ts";
import { hasBit, union, withoutBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import type { BadBlockCause } from "../../md/bad-block-log.ts";
import { Op } from "../../reactor/io-table.ts";
import type { MemberParts } from "../members/member-parts.ts";

/** Where a row is: a stripe, and a row of its chunks. */
export interface RowPlace {
  readonly stripe: number;
  readonly row: number;
}

export class RowRecord {
  private readonly parts: MemberParts;

  constructor(parts: MemberParts) {
    this.parts = parts;
  }

  /** Byte of the members' data regions. */
  placeOf({ stripe, row }: RowPlace): number {
    const { chunkBytes } = this.parts.geometry;
    assert(row >= 0 && row * ROW_BYTES < chunkBytes, "a row is one of its chunk");
    return stripe * chunkBytes + row * ROW_BYTES;
  }

  /** Byte of the device of the role's member. */
  offsetOf(place: RowPlace, role: number): number {
    return this.parts.members.dataOffset[role]! + this.placeOf(place);
  }

  /** Roles whose content in this row cannot be had from their own member. */
  unknownRoles({ stripe, row }: RowPlace): number {
    const { members } = this.parts;
    return union(members.unavailableRoles(stripe), members.badRoles(stripe, row, row + 1));
  }

  /** Whether the content of every other role of the row can be had from its own member. */
  isRestKnown(place: RowPlace, role: number): boolean {
    return withoutBit(this.unknownRoles(place), role) === 0;
  }

  /** Whether parity of the row is known to be right. */
  isProven({ stripe, row }: RowPlace): boolean {
    const { members, geometry } = this.parts;
    if (members.isInSync(stripe)) return true;
    const memberRow = stripe * (geometry.chunkBytes / ROW_BYTES) + row;
    return members.provenRows?.hasRange(memberRow, memberRow + 1) === true;
  }

  /** Parity of this row has been made from all data. */
  noteProven({ stripe, row }: RowPlace): void {
    const { members, geometry } = this.parts;
    if (members.provenRows === null || members.isInSync(stripe)) return;
    const memberRow = stripe * (geometry.chunkBytes / ROW_BYTES) + row;
    members.provenRows.addRange(memberRow, memberRow + 1);
  }

  /** The row is on record as bad on the role's member. */
  isBad(place: RowPlace, role: number): boolean {
    const log = this.parts.members.badRows[role];
    if (log === null || log === undefined || log.isEmpty) return false;
    return log.has(this.offsetOf(place, role), ROW_BYTES);
  }

  /** It is, and holds what belongs there. */
  isUnread(place: RowPlace, role: number): boolean {
    const log = this.parts.members.badRows[role];
    return log?.isUnread(this.offsetOf(place, role), ROW_BYTES) === true;
  }

  /** True when the row is durably on record. */
  enterBad(place: RowPlace, role: number, cause: BadBlockCause = "unwritten"): Promise<boolean> {
    // On record already, and not with more faith than it deserves now.
    if (this.isBad(place, role) && (cause === "unread" || !this.isUnread(place, role))) {
      return Promise.resolve(true);
    }
    const log = this.parts.members.badRows[role];
    if (log === null || log === undefined) return Promise.resolve(false);
    return log.enter(this.offsetOf(place, role), ROW_BYTES, cause);
  }

  /** Enters the row as bad, whatever else is known of it; fails the member if it cannot. */
  async enterOrLose(place: RowPlace, role: number): Promise<void> {
    const { members, memberIo } = this.parts;
    const epoch = members.epoch[role];
    const offset = this.offsetOf(place, role);
    if (await this.enterBad(place, role)) return;
    // The log that could not be written has cost the member its role, which may have passed to the
    // drive that it was copied to: no fault of that one.
    if (members.epoch[role] === epoch) {
      memberIo.lose(role, Op.write, { offset, bytes: ROW_BYTES });
    }
  }

  /** The row has been written durably: its entry goes, if there is one. */
  clearBad(place: RowPlace, role: number): Promise<boolean> {
    const log = this.parts.members.badRows[role];
    const offset = this.offsetOf(place, role);
    if (log === null || log === undefined || !log.has(offset, ROW_BYTES)) {
      return Promise.resolve(true);
    }
    return log.clear(offset, ROW_BYTES);
  }

  /**
   * Order: before a row is written that is on record as unread, the record says that it is not to
   * be believed: the write may fail, or a crash may leave the row old and parity new.
   */
  async doubt(place: RowPlace, roles: number): Promise<boolean> {
    const { members, geometry } = this.parts;
    if (!members.hasBadRows) return true;
    for (let role = 0; role < geometry.memberCountOf(place.stripe); role += 1) {
      if (!hasBit(roles, role) || !this.isUnread(place, role)) continue;
      if (!(await this.enterBad(place, role))) return false;
    }
    return true;
  }
}
