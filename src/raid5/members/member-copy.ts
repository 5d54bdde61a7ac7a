/**
 * A member that is copied while it serves: its target gets all that is written to its role from the
 * begin on, and the rest stripe by stripe. Until the two are swapped, or the member fails, nothing
 * is read from the target.
 *
 *   settled ....... cursor   d . x . x        (what is below the cursor has been copied)
 *             d                               d: doubtful, to be copied again
 *
 * A stripe is doubtful where a write went to one of the two alone: the member or its target did not
 * take it. It is copied again, under its lock, before the copy ends.
 */
import { assert } from "../../base/assert.ts";
import type { RetryFilter } from "../../block/retry-filter.ts";
import type { BadRows } from "../environment.ts";
import { StripeRanges, SyncProgress } from "./sync-progress.ts";

export interface CopyTarget {
  readonly device: RetryFilter;
  /** Bytes from the start of the device to its data region. */
  readonly dataOffset: number;
  readonly isVolatile: boolean;
  /** Rows of which nobody could give the content. */
  readonly badRows: BadRows;
}

export class MemberCopy {
  readonly role: number;
  readonly target: CopyTarget;
  readonly progress: SyncProgress;
  private readonly doubtful = new Set<number>();

  constructor(options: { role: number; target: CopyTarget; fromStripe: number }) {
    this.role = options.role;
    this.target = options.target;
    this.progress = new SyncProgress(options.fromStripe);
  }

  /** The target may lack a write to stripes [first, end). */
  doubt(first: number, end: number): void {
    assert(first < end, "what is doubtful has stripes");
    for (let stripe = first; stripe < end; stripe += 1) {
      if (this.progress.isDone(stripe)) this.doubtful.add(stripe);
    }
  }

  /** A doubtful stripe below the cursor, or -1. */
  get firstDoubtful(): number {
    let first = -1;
    for (const stripe of this.doubtful) if (first < 0 || stripe < first) first = stripe;
    return first;
  }

  /** The stripe, which is held, is about to be copied again. */
  settle(stripe: number): void {
    this.doubtful.delete(stripe);
  }

  /** For the superblocks: what lies below is on the target, durably. */
  get durableStripe(): number {
    const first = this.firstDoubtful;
    const { durableStripe } = this.progress;
    return first < 0 ? durableStripe : Math.min(first, durableStripe);
  }

  /** What a rebuild of the target has to fill when the member is lost now. */
  stripesLacking(stripeCount: number): { fromStripe: number; ranges: StripeRanges } {
    const { cursor } = this.progress;
    const stripes = [...this.doubtful].filter((stripe) => stripe < cursor).sort((a, b) => a - b);
    const ranges = stripes.map((first) => ({ first, end: first + 1 }));
    if (cursor < stripeCount) ranges.push({ first: cursor, end: stripeCount });
    const fromStripe = ranges[0]?.first ?? stripeCount;
    return { fromStripe, ranges: new StripeRanges(ranges, stripeCount) };
  }
}
