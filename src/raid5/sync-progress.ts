/**
 * How far a resync or rebuild has come: everything below a cursor, and single stripes in a window
 * above it that were finished out of order.
 *
 *   done ....... cursor  x . x x .  (window)      not done
 *
 * A stripe is marked only while its lock is held, so a write that holds the lock sees the truth.
 */
import { assert } from "../base/assert.ts";

export const SYNC_WINDOW_STRIPES = 1024;

export class SyncProgress {
  private nextStripe: number;
  private readonly doneAhead = new Uint8Array(SYNC_WINDOW_STRIPES);

  constructor(fromStripe: number) {
    this.nextStripe = fromStripe;
  }

  /** All stripes below it are done. */
  get cursor(): number {
    return this.nextStripe;
  }

  isDone(stripe: number): boolean {
    if (stripe < this.nextStripe) return true;
    if (stripe >= this.nextStripe + SYNC_WINDOW_STRIPES) return false;
    return this.doneAhead[stripe % SYNC_WINDOW_STRIPES] === 1;
  }

  canStart(stripe: number): boolean {
    return stripe < this.nextStripe + SYNC_WINDOW_STRIPES;
  }

  markDone(stripe: number): void {
    assert(stripe >= this.nextStripe && this.canStart(stripe), "the stripe lies in the window");
    this.doneAhead[stripe % SYNC_WINDOW_STRIPES] = 1;
    while (this.doneAhead[this.nextStripe % SYNC_WINDOW_STRIPES] === 1) {
      this.doneAhead[this.nextStripe % SYNC_WINDOW_STRIPES] = 0;
      this.nextStripe += 1;
    }
  }
}
