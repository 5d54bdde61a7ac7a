/**
 * A run of neighbouring stripes that is kept still: all of them held at once, for work on whole
 * stripes.
 *
 * One run at a time, in the order in which they were asked for. Its operations are allocated all
 * or none, and only then enter the queues of their stripes: an owner of some stripes that waited
 * for more operations could wait for writers that wait for its stripes. While a run waits for
 * operations, requests get none, so that it comes to its turn; what is under way needs no more.
 */
import { assert } from "../../base/assert.ts";
import { OpKind, type StripeOps } from "./ops.ts";

/** A quarter of the operations there are. */
export const RANGE_STRIPES_MAX = 256;

interface WaitingRange {
  readonly first: number;
  readonly count: number;
  readonly resolve: () => void;
}

export class RangeLock {
  private readonly ops: StripeOps;
  private readonly enter: (op: number, granted: () => void) => void;
  private readonly leave: (op: number) => void;
  private readonly waiting: WaitingRange[] = [];
  private readonly held = new Int32Array(RANGE_STRIPES_MAX);
  private heldCount = 0;
  /** Stripes of the current run that are still to come. */
  private missing = 0;

  constructor(options: {
    ops: StripeOps;
    /** Queues an operation for its stripe. */
    enter: (op: number, granted: () => void) => void;
    leave: (op: number) => void;
  }) {
    this.ops = options.ops;
    this.enter = options.enter;
    this.leave = options.leave;
  }

  /** A run is next and has no operations: nobody else gets any. */
  get isStarved(): boolean {
    return this.heldCount === 0 && this.waiting.length > 0;
  }

  /** Resolves when stripes [first, first + count) are locked, at most RANGE_STRIPES_MAX. */
  take(first: number, count: number): Promise<void> {
    assert(count > 0 && count <= RANGE_STRIPES_MAX, "a run has as many stripes as one may have");
    return new Promise((resolve) => {
      this.waiting.push({ first, count, resolve });
      this.start();
    });
  }

  release(): void {
    assert(this.heldCount > 0 && this.missing === 0, "a run is released when it has been locked");
    for (let index = 0; index < this.heldCount; index += 1) this.leave(this.held[index]!);
    this.heldCount = 0;
    this.start();
  }

  /** Also once a turn: operations may have become free. */
  start(): void {
    const next = this.waiting[0];
    if (next === undefined || this.heldCount > 0) return;
    const { first, count, resolve } = next;
    if (this.ops.capacity - this.ops.inUse < count) return;
    this.waiting.shift();
    for (let index = 0; index < count; index += 1) {
      const op = this.ops.allocate(OpKind.hold, first + index);
      assert(op >= 0, "the operations of a run are had all or none");
      this.held[index] = op;
    }
    this.heldCount = count;
    this.missing = count;
    const granted = (): void => {
      assert(this.missing > 0, "each stripe of a run is held once");
      this.missing -= 1;
      if (this.missing === 0) resolve();
    };
    for (let index = 0; index < count; index += 1) this.enter(this.held[index]!, granted);
  }
}
