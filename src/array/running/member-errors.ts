/**
 * What an error of a member means for it, once its request has failed for good
 * (block/retry-filter.ts has tried it again by then):
 *
 * | the request      | failed with           | the member                                     |
 * |------------------|-----------------------|------------------------------------------------|
 * | a read, a write  | a bad sector, no room | stays: row by row it is found out what is left; |
 * |                  |                       | too many reads in a row fail it, as with md    |
 * | a read           | no answer in time     | stays: parity answers the reader               |
 * | a read           | anything else         | fails                                          |
 * | a write, a flush | anything else         | fails, unless two members are gone already     |
 *
 * What is told of single sectors is told at the first, and then at each power of two, so that no
 * log fills.
 */
import { assert } from "../../base/assert.ts";
import { hasBit } from "../../base/bit-set.ts";
import { errnoName } from "../../base/errno.ts";
import { isPowerOfTwo, ROW_BYTES } from "../../base/units.ts";
import { OUTCOME_NAMES, Outcome } from "../../block/io-error.ts";
import type { MemberError } from "../../raid5/environment.ts";
import { OP_NAMES, Op } from "../../reactor/io-table.ts";
import type { Drive } from "../drives/drive.ts";
import type { ArrayCore, MemberVerdicts } from "./array-core.ts";

/** md's default limit, the size of its stripe cache. */
const READ_ERRORS_IN_A_ROW_MAX = 256;

export class MemberErrors {
  private readonly core: ArrayCore;
  private readonly verdicts: MemberVerdicts;
  private lostCount = 0;

  constructor(core: ArrayCore, verdicts: MemberVerdicts) {
    this.core = core;
    this.verdicts = verdicts;
  }

  /** A request of the engine failed for good: decides at once. */
  judge(error: MemberError): void {
    const { members, roster } = this.core;
    const { role, op, outcome } = error;
    if (!members.isPresent(role) || members.isFenced) return;
    const drive = roster.driveAt(role);
    assert(drive !== null, "a member that is there has a drive");
    const cause = causeOf(error);
    const isBadSector = outcome === Outcome.mediaError || outcome === Outcome.noSpace;
    if (op !== Op.flush && isBadSector) {
      this.note(drive, cause);
      this.failIfHopeless(role, drive);
    } else if (op === Op.read && outcome === Outcome.timedOut) {
      drive.noteLateRead();
      this.note(drive, cause);
    } else if (op === Op.read) this.verdicts.failMember(role, cause);
    else this.verdicts.writeFailed(role, cause);
  }

  /** A write or flush of the drive that is to replace a member failed for good. */
  judgeTarget(error: MemberError): void {
    if (error.outcome !== Outcome.fenced) this.verdicts.failTarget(causeOf(error));
  }

  /**
   * md's rule: too many read errors in a row, with no good read between, fail the member. Not one
   * that is being replaced.
   */
  private failIfHopeless(role: number, drive: Drive): void {
    const { members } = this.core;
    const { readErrorsInARow } = drive.io.counters;
    if (readErrorsInARow <= READ_ERRORS_IN_A_ROW_MAX) return;
    if (members.degradedCount > 0 || members.resync !== null) return;
    // Whoever is copied is on its way out, and what it still has is worth more than none of it.
    if (members.copyRole === role) return;
    this.verdicts.failMember(role, `${readErrorsInARow} read errors in a row`);
  }

  private note(drive: Drive, cause: string): void {
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
    const { rowCount, chunkBytes } = this.core.geometry;
    assert(stripe < rowCount && row < chunkBytes / ROW_BYTES, "a row that is lost is one of ours");
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

function causeOf({ op, bytes, offset, outcome, errno }: MemberError): string {
  const what = `${OP_NAMES[op]} of ${bytes} bytes at ${offset}: ${OUTCOME_NAMES[outcome]}`;
  if (errno > 0) return `${what} (${errnoName(errno)})`;
  // A file that was cut short, as a rule.
  return outcome === Outcome.memberLost ? `${what} (the drive ends before that)` : what;
}
