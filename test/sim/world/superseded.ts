/**
 * The one rule of what a read may return: a write is gone where another one began after it had
 * ended, and had itself ended before the read began. Of writes that overlap in time either may have
 * won.
 */

export interface WriteSpan {
  readonly beganAt: number;
  /** Infinity while it is under way. */
  readonly endedAt: number;
}

/** Those whose content a read may return; `canSupersede` leaves out those that rule nothing out. */
export function notSuperseded<Write extends WriteSpan>(
  writes: readonly Write[],
  readBeganAt: number,
  canSupersede: (write: Write) => boolean,
): Write[] {
  const newer = writes.filter((write) => write.endedAt < readBeganAt && canSupersede(write));
  return writes.filter((write) => !newer.some(({ beganAt }) => beganAt > write.endedAt));
}
