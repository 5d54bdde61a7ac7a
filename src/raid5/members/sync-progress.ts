/**
 * How far a resync or rebuild has come: everything below a cursor, and single stripes in a window
 * above it that were finished out of order.
 *
 *   done ....... cursor  x . x x .  (window)      not done
 *
 * A stripe is marked only while it is held, so a write that holds it sees the truth.
 * What a superblock may say of it is less: the stripes below `durableStripe` have been flushed.
 * With a write-intent bitmap only the stripes under its bits are to be done; all others are done
 * from the start.
 */
import { assert } from "../../base/assert.ts";

export const SYNC_WINDOW_STRIPES = 1024;

/** A set of stripes as ranges. */
export class StripeRanges {
  private readonly firsts: number[] = [];
  private readonly ends: number[] = [];
  private readonly stripeCount: number;

  /** `ranges` ascend; they may touch and overlap. */
  constructor(
    ranges: Iterable<{ readonly first: number; readonly end: number }>,
    stripeCount: number,
  ) {
    this.stripeCount = stripeCount;
    for (const { first, end } of ranges) {
      const last = this.ends.length - 1;
      assert(last < 0 || first >= this.firsts[last]!, "ranges ascend");
      const until = Math.min(end, stripeCount);
      if (last >= 0 && first <= this.ends[last]!)
        this.ends[last] = Math.max(this.ends[last]!, until);
      else {
        this.firsts.push(first);
        this.ends.push(until);
      }
    }
  }

  get isEmpty(): boolean {
    return this.firsts.length === 0;
  }

  has(stripe: number): boolean {
    const index = this.indexFor(stripe);
    return index < this.firsts.length && this.firsts[index]! <= stripe;
  }

  /** The first stripe of the set from `stripe` on; the count of stripes where there is none. */
  next(stripe: number): number {
    const index = this.indexFor(stripe);
    return index === this.firsts.length ? this.stripeCount : Math.max(stripe, this.firsts[index]!);
  }

  /** The first range that ends behind `stripe`. */
  private indexFor(stripe: number): number {
    let low = 0;
    let high = this.ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ends[middle]! > stripe) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

export class SyncProgress {
  /** All stripes below it are done, and durable on all members: what superblocks say. */
  durableStripe: number;
  private nextStripe: number;
  private readonly doneAhead = new Uint8Array(SYNC_WINDOW_STRIPES);
  private readonly ranges: StripeRanges | null;

  /** `ranges` null: all stripes are to be done. */
  constructor(fromStripe: number, ranges: StripeRanges | null = null) {
    assert(fromStripe >= 0, "progress begins at a stripe");
    this.ranges = ranges;
    this.durableStripe = fromStripe;
    this.nextStripe = this.nextOf(fromStripe);
  }

  /** The first stripe from `stripe` on that is to be done at all. */
  nextOf(stripe: number): number {
    return this.ranges === null ? stripe : this.ranges.next(stripe);
  }

  /** All stripes below it are done. */
  get cursor(): number {
    return this.nextStripe;
  }

  isDone(stripe: number): boolean {
    if (stripe < this.nextStripe || this.ranges?.has(stripe) === false) return true;
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
      this.nextStripe = this.nextOf(this.nextStripe + 1);
    }
    assert(this.isDone(stripe), "what was marked is done");
  }
}
