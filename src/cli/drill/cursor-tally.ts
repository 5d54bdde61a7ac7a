/**
 * Counts the writes that were acknowledged below and above the cursor of a running rebuild.
 *
 * The cursor only grows and is known by samples. A write counts as below it when all of its
 * stripes were so by a sample taken before it was submitted. It counts as above it when its first
 * stripe still was by a sample asked for after it was acknowledged. Others count as neither.
 */

export interface StripeSpan {
  /** In bytes of a member, as the cursor. */
  readonly start: number;
  readonly end: number;
}

/** The stripes that a range of the array lies in. */
export function stripeSpan(options: {
  offset: number;
  bytes: number;
  chunkBytes: number;
  memberCount: number;
}): StripeSpan {
  const { offset, bytes, chunkBytes, memberCount } = options;
  const stripeBytes = chunkBytes * (memberCount - 1);
  return {
    start: Math.floor(offset / stripeBytes) * chunkBytes,
    end: Math.ceil((offset + bytes) / stripeBytes) * chunkBytes,
  };
}

export class CursorTally {
  below = 0;
  above = 0;
  private cursor = 0;
  private undecided: number[] = [];

  /** The cursor that is known now, for `acknowledged`. */
  get cursorBytes(): number {
    return this.cursor;
  }

  acknowledged(span: StripeSpan, cursorAtSubmit: number): void {
    if (span.end <= cursorAtSubmit) this.below += 1;
    else this.undecided.push(span.start);
  }

  /** Call before the cursor is asked for; hand the answer to `sampled`. */
  beginSample(): readonly number[] {
    const taken = this.undecided;
    this.undecided = [];
    return taken;
  }

  sampled(taken: readonly number[], cursorBytes: number): void {
    this.cursor = Math.max(this.cursor, cursorBytes);
    for (const start of taken) if (start >= cursorBytes) this.above += 1;
  }
}
