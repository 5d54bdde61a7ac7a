/** What is moved to and from members, and what an answer is to whoever asked (member-io.ts). */
import { Outcome } from "../../block/io-error.ts";
import { Op } from "../../reactor/io-table.ts";
import type { MemberError } from "../environment.ts";

/** What became of an I/O, for its user. */
export const Verdict = {
  done: 0,
  /** Some of its rows were not moved, but the member is there: the careful path finds out which. */
  badSector: 1,
  /** The member has no room for it. No part of it counts as written. */
  noSpace: 2,
  /** A read that was given up: the member is there, and does not answer in time. */
  slow: 3,
  /** The member does not have the role any more, or is about to lose it. */
  gone: 4,
} as const;
export type VerdictCode = (typeof Verdict)[keyof typeof Verdict];

/** What a user moves. */
export const Content = {
  /** Data and parity: a write of it has to be flushed. */
  data: 0,
  /** Single rows of it, durable when they are answered. */
  rows: 1,
  /** Rows on a bad-block log, read again. */
  doubtful: 2,
  /** Logs and bitmaps, durable when they are answered. Places are those of the device. */
  metadata: 3,
  /** Data and parity, to the target of a member that is copied. */
  copy: 4,
} as const;
export type ContentCode = (typeof Content)[keyof typeof Content];

/** What is written of it goes to the target of a copy too. */
export function isOfData(content: ContentCode): boolean {
  return content !== Content.metadata && content !== Content.copy;
}

/** The rows that it did not move can be tried one by one: their member is there. */
export function isForRows(verdict: VerdictCode): boolean {
  return verdict === Verdict.badSector || verdict === Verdict.noSpace;
}

export function verdictOf(content: ContentCode, { op, outcome }: MemberError): VerdictCode {
  if (op === Op.flush) return Verdict.gone;
  if (outcome === Outcome.noSpace) return Verdict.noSpace;
  if (content === Content.metadata) return Verdict.gone;
  if (outcome === Outcome.mediaError || outcome === Outcome.unsupported) return Verdict.badSector;
  return op === Op.read && outcome === Outcome.timedOut ? Verdict.slow : Verdict.gone;
}

/** What is told of a failure that is news; null: nothing. */
export function toldOf(content: ContentCode, error: MemberError): MemberError | null {
  const { op, outcome } = error;
  if (content === Content.metadata || op === Op.flush) {
    // Rule 20: a want of space is no fault of the member. A flush has no need of any.
    if (outcome === Outcome.noSpace && op !== Op.flush) return null;
    // Rule 13: whatever the error, a member whose log or bitmap cannot be written, or that does not
    // flush, is failed; a fence is no fault of it either (write-rules 21).
    return outcome === Outcome.fenced ? error : { ...error, outcome: Outcome.memberLost };
  }
  return outcome === Outcome.unsupported ? null : error;
}
