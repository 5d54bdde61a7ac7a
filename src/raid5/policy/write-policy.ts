/**
 * The consistency policy of an array as the write paths see it: what has to be durable before data
 * and parity may differ. Both are null with the policy `resync`, where the dirty mark is all.
 *
 * One object is shared by all that write, so that a change of the policy reaches them at once; it
 * changes only while nothing is written.
 */
import type { PplLogs } from "./ppl-logs.ts";
import type { WriteIntent } from "./write-intent.ts";

export class WritePolicy {
  /** With `ppl`: the partial parity logs. */
  logs: PplLogs | null = null;
  /** With `bitmap`: the write-intent bitmap. */
  intent: WriteIntent | null = null;

  /**
   * Order: a member that has failed is on record before anything is written without it. A crash in
   * between would bring it back as current, and neither replay nor its own bitmap knows what it has
   * missed. A resync of everything needs no record.
   */
  get waitsForRecord(): boolean {
    return this.logs !== null || this.intent !== null;
  }
}
