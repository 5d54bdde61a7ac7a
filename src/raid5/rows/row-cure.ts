/**
 * What a scrub or resync does with a row that has bad sectors.
 *
 * An entry of the bad-block log says what was, not what is: a scrub tries it again. With one
 * unknown role the row is cured from the others, whatever the entry's cause. With more of them
 *
 *   entry of        | cause     | what becomes of it
 *   ----------------|-----------|------------------------------------------------------------------
 *   a read error    | unread    | when it reads again it is believed: no write was missed
 *   a refused write | unwritten | holds old content: had from the others, when they are known
 *   a rebuilt row   | unwritten | was never filled (the target): the same
 *   stale parity    | unwritten | data changed without it: the same
 *
 * So the row is whole again when at most one role is left that cannot be believed. That parity fits
 * what several doubtful chunks hold proves nothing: where data repeat themselves (zeros, copies), a
 * blank chunk and a stale one make up for each other.
 *
 * Order: what has to be had from the others is durable before a believed entry goes, and each entry
 * goes only after a write of its row is durable (write-rules 8). The caller holds the stripe.
 */
import { assert } from "../../base/assert.ts";
import {
  bitOf,
  countBits,
  hasBit,
  highestBit,
  union,
  withBit,
  without,
  withoutBit,
} from "../../base/bit-set.ts";
import { ENOSPC } from "../../base/errno.ts";
import { ROW_BYTES } from "../../base/units.ts";
import type { BadBlockCause } from "../../md/bad-block-log.ts";
import type { StripeParts } from "../stripe/stripe-parts.ts";
import type { RowBuffers } from "./row-buffers.ts";
import type { RowIo } from "./row-io.ts";
import type { RowLog } from "./row-log.ts";
import type { RowPlace, RowRecord } from "./row-record.ts";

/** What the careful path does for a cure. */
export interface CurePath {
  /** Reads all roles but those in `spared` into their rows; false when one failed. */
  readOthers(place: RowPlace, spared: number, rows: RowBuffers): Promise<boolean>;
  /** Puts content back and reads it again; its entry goes. */
  repair(place: RowPlace, role: number, address: number, rows: RowBuffers): Promise<boolean>;
}

export class RowCure {
  private readonly parts: StripeParts;
  private readonly path: CurePath;
  private readonly io: RowIo;
  private readonly record: RowRecord;
  private readonly rowLog: RowLog;

  constructor(options: {
    parts: StripeParts;
    path: CurePath;
    io: RowIo;
    record: RowRecord;
    rowLog: RowLog;
  }) {
    this.parts = options.parts;
    this.path = options.path;
    this.io = options.io;
    this.record = options.record;
    this.rowLog = options.rowLog;
  }

  /** False: the row stays bad, or a member left. */
  async cure(place: RowPlace, mode: "resync" | "scrub", rows: RowBuffers): Promise<boolean> {
    const { record, path } = this;
    rows.failed = 0;
    await path.readOthers(place, 0, rows);
    const unknown = union(record.unknownRoles(place), rows.failed);
    if (unknown === 0) return true;
    // A member left in between: that is no bad sector, and this work is over.
    if (this.parts.members.unavailableRoles(place.stripe) !== 0) return false;
    // Where parity proves nothing yet, only parity itself can be had from the rest. A bad sector of
    // data keeps the parity that it has, as md does: unless that very row was being written in the
    // crash it is right, and to drop it would lose what was at rest.
    const isUnproven = mode === "resync" && !record.isProven(place);
    const believed =
      isUnproven || isOne(unknown) ? 0 : await this.readDoubtful(place, unknown, rows);
    const left = without(unknown, believed);
    const isParity = left === bitOf(this.parts.geometry.parityRole(place.stripe));
    if (left !== 0 && (!isOne(left) || (isUnproven && !isParity))) {
      await this.enter(place, left, isUnproven ? "unwritten" : "unread");
      if (!isOne(left)) this.parts.hooks.onLost(place.stripe, place.row, left);
      await this.confirm(place, believed, rows);
      return false;
    }
    if (left !== 0 && !(await this.restore(place, highestBit(left), rows))) return false;
    return this.confirm(place, believed, rows);
  }

  /** The roles of this row that cannot be had, also not from the others. */
  lostRoles(place: RowPlace): number {
    const unknown = this.record.unknownRoles(place);
    return unknown === 0 || isOne(unknown) ? 0 : unknown;
  }

  /** Of the roles on record those that only could not be read, and now can: they are in `rows`. */
  private async readDoubtful(place: RowPlace, unknown: number, rows: RowBuffers): Promise<number> {
    const { geometry } = this.parts;
    let read = 0;
    for (let role = 0; role < geometry.memberCountOf(place.stripe); role += 1) {
      if (!hasBit(unknown, role)) continue;
      const isUnread = this.record.isUnread(place, role);
      if (isUnread && (await this.io.loadDoubtful(place, role, rows))) read = withBit(read, role);
    }
    return read;
  }

  /** The content of one role from all others. */
  private async restore(place: RowPlace, role: number, rows: RowBuffers): Promise<boolean> {
    assert(
      role < this.parts.geometry.memberCountOf(place.stripe),
      "one role is had from all others",
    );
    const { path } = this;
    this.io.xorOthers(place, bitOf(role), rows.result, rows);
    if (role !== this.parts.geometry.parityRole(place.stripe)) {
      return path.repair(place, role, rows.result, rows);
    }
    const ticket = await this.rowLog.log(place, role, 0);
    if (typeof ticket === "number") {
      if (ticket === ENOSPC) rows.refused = withBit(rows.refused, role);
      return false;
    }
    const isCured = await path.repair(place, role, rows.result, rows);
    this.rowLog.giveBack(ticket, role, rows);
    return isCured;
  }

  /** What reads again is written anew: a sector that was weak is fresh then. */
  private async confirm(place: RowPlace, roles: number, rows: RowBuffers): Promise<boolean> {
    let isGood = true;
    for (let role = 0; role < this.parts.geometry.memberCountOf(place.stripe); role += 1) {
      if (!hasBit(roles, role)) continue;
      if (!(await this.path.repair(place, role, rows.of(role), rows))) isGood = false;
    }
    return isGood;
  }

  private async enter(place: RowPlace, roles: number, cause: BadBlockCause): Promise<void> {
    const { members } = this.parts;
    for (let role = 0; role < this.parts.geometry.memberCountOf(place.stripe); role += 1) {
      if (!hasBit(roles, role) || !members.isPresent(role)) continue;
      await this.record.enterBad(place, role, cause);
    }
  }
}

/** Of one row: its unknown data chunks, when there are too many unknown roles to have them back. */
export function lostDataBytes(unknown: number, parityRole: number): number {
  if (unknown === 0 || isOne(unknown)) return 0;
  return countBits(withoutBit(unknown, parityRole)) * ROW_BYTES;
}

function isOne(roles: number): boolean {
  return countBits(roles) === 1;
}
