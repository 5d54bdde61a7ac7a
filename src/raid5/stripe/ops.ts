/**
 * The stripe operations of one array as parallel typed arrays, and which of them holds its stripe.
 *
 * An operation is one request's part of one stripe, or a job's work on a stripe. It holds its
 * stripe; while another does, it waits in arrival order. When a write gets its stripe it takes over
 * the writes that wait right behind it, as long as they touch other rows: they become one plan.
 *
 *   bucket[stripe mod n] -> owner -> owner of another stripe -> ...     (hashNext)
 *                            owner -> waiter -> waiter                   (waitNext)
 *                            leader -> merged -> merged                  (mergeNext)
 */
import { assert } from "../../base/assert.ts";
import { FreeList } from "../../base/free-list.ts";
import { ROW_BYTES, ROW_SHIFT, withinRow } from "../../base/units.ts";

export const OpKind = { free: 0, write: 1, read: 2, hold: 3 } as const;

export const Phase = {
  waitingHold: 0,
  waitingMemory: 1,
  reading: 2,
  writing: 3,
  waitingRecord: 4,
  /** What is to be written is not durable yet in the log, or its bits are not in the bitmap. */
  waitingPolicy: 5,
} as const;

const NONE = -1;
const BUCKETS = 4096;
/** Writes merged into one plan, and the row boundaries that they may bring (see segments.ts). */
export const MERGE_LIMIT = 32;
export const BOUNDARY_LIMIT = 64;

function bucketOf(stripe: number): number {
  return stripe & (BUCKETS - 1);
}

export class StripeOps {
  readonly capacity: number;
  readonly kind: Uint8Array;
  readonly phase: Uint8Array;
  readonly stripe: Float64Array;
  /** Byte offset of the part within the stripe's data. */
  readonly within: Uint32Array;
  readonly bytes: Uint32Array;
  /** Address of the part's first byte. */
  readonly address: Uint32Array;
  /** The array request that it is a part of. */
  readonly request: Uint32Array;
  readonly isFua: Uint8Array;
  /** 1: met a bad sector, so the careful path does it. */
  readonly isSlow: Uint8Array;
  /** 1: some of its member writes may be done and others not; its buffers are as computed. */
  readonly isHalfWritten: Uint8Array;
  /** 1: a member request of this read was given up, so it needs other rows. */
  readonly isLate: Uint8Array;
  readonly mergeNext: Int32Array;
  /** Member requests that have not completed. */
  readonly pending: Uint16Array;
  /** Roles (a set) that this operation must do without, beyond the missing ones. */
  readonly excluded: Float64Array;
  /** Roles whose requests failed in this phase. */
  readonly failed: Float64Array;
  /** The data index that the plan does without, or one of write-strategy.ts. */
  readonly missing: Int8Array;
  /** Data chunks (bits) that replay would count as missing, as the plan's unit was cut. */
  readonly unitMissing: Float64Array;
  /** 1: its stripe's bits are set in the write-intent bitmap, and not given back. */
  readonly isMarked: Uint8Array;
  readonly bufferAddress: Uint32Array;
  readonly bufferBytes: Uint32Array;
  private readonly waitNext: Int32Array;
  private readonly waitTail: Int32Array;
  private readonly hashNext: Int32Array;
  private readonly buckets = new Int32Array(BUCKETS).fill(NONE);
  private readonly list: FreeList;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.kind = new Uint8Array(capacity);
    this.phase = new Uint8Array(capacity);
    this.stripe = new Float64Array(capacity);
    this.within = new Uint32Array(capacity);
    this.bytes = new Uint32Array(capacity);
    this.address = new Uint32Array(capacity);
    this.request = new Uint32Array(capacity);
    this.isFua = new Uint8Array(capacity);
    this.isSlow = new Uint8Array(capacity);
    this.isHalfWritten = new Uint8Array(capacity);
    this.isLate = new Uint8Array(capacity);
    this.mergeNext = new Int32Array(capacity).fill(NONE);
    this.pending = new Uint16Array(capacity);
    this.excluded = new Float64Array(capacity);
    this.failed = new Float64Array(capacity);
    this.missing = new Int8Array(capacity);
    this.unitMissing = new Float64Array(capacity);
    this.isMarked = new Uint8Array(capacity);
    this.bufferAddress = new Uint32Array(capacity);
    this.bufferBytes = new Uint32Array(capacity);
    this.waitNext = new Int32Array(capacity).fill(NONE);
    this.waitTail = new Int32Array(capacity).fill(NONE);
    this.hashNext = new Int32Array(capacity).fill(NONE);
    this.list = new FreeList(capacity);
  }

  get inUse(): number {
    return this.list.inUse;
  }

  /** A free operation, or -1. */
  allocate(kind: number, stripe: number): number {
    const op = this.list.take();
    if (op < 0) return NONE;
    assert(kind !== OpKind.free, "an operation is of some kind");
    assert(this.kind[op] === OpKind.free, "a free operation is nobody's");
    this.kind[op] = kind;
    this.phase[op] = Phase.waitingHold;
    this.stripe[op] = stripe;
    this.mergeNext[op] = NONE;
    this.waitNext[op] = NONE;
    this.waitTail[op] = NONE;
    this.pending[op] = 0;
    this.excluded[op] = 0;
    this.failed[op] = 0;
    this.bufferBytes[op] = 0;
    this.isFua[op] = 0;
    this.isSlow[op] = 0;
    this.isHalfWritten[op] = 0;
    this.isLate[op] = 0;
    this.isMarked[op] = 0;
    return op;
  }

  free(op: number): void {
    assert(this.kind[op] !== OpKind.free, "an operation is freed once");
    assert(this.pending[op] === 0, "an operation ends with nothing under way");
    assert(this.bufferBytes[op] === 0, "an operation ends without buffers");
    assert(this.isMarked[op] === 0, "an operation ends with its bits given back");
    assert(this.waitNext[op] === NONE, "an operation that ends has given up its stripe");
    this.kind[op] = OpKind.free;
    this.list.give(op);
  }

  /** Takes the stripe for `op`, or queues it. True when `op` holds it now. */
  hold(op: number): boolean {
    assert(this.kind[op] !== OpKind.free, "whoever takes a stripe is in use");
    const stripe = this.stripe[op]!;
    const bucket = bucketOf(stripe);
    for (let owner = this.buckets[bucket]!; owner !== NONE; owner = this.hashNext[owner]!) {
      if (this.stripe[owner] !== stripe) continue;
      const tail = this.waitTail[owner]!;
      if (tail === NONE) this.waitNext[owner] = op;
      else this.waitNext[tail] = op;
      this.waitTail[owner] = op;
      return false;
    }
    this.hashNext[op] = this.buckets[bucket]!;
    this.buckets[bucket] = op;
    return true;
  }

  /** The operation that holds a stripe, or -1. */
  ownerOf(stripe: number): number {
    let owner = this.buckets[bucketOf(stripe)]!;
    while (owner !== NONE && this.stripe[owner] !== stripe) owner = this.hashNext[owner]!;
    return owner;
  }

  /** Gives the stripe of `op` to the next in line, which is the answer; -1 when nobody waits. */
  giveUp(op: number): number {
    const bucket = bucketOf(this.stripe[op]!);
    const next = this.waitNext[op]!;
    const hashNext = this.hashNext[op]!;
    if (next !== NONE) {
      this.waitTail[next] = this.waitTail[op] === next ? NONE : this.waitTail[op]!;
      this.hashNext[next] = hashNext;
    }
    const replacement = next === NONE ? hashNext : next;
    let previous = NONE;
    let owner = this.buckets[bucket]!;
    while (owner !== op) {
      assert(owner !== NONE, "who gives up a stripe holds it");
      previous = owner;
      owner = this.hashNext[owner]!;
    }
    if (previous === NONE) this.buckets[bucket] = replacement;
    else this.hashNext[previous] = replacement;
    this.waitNext[op] = NONE;
    this.waitTail[op] = NONE;
    return next;
  }

  /** The operation that waits behind `op` for the same stripe, or -1. */
  nextInLine(op: number): number {
    return this.waitNext[op]!;
  }

  /** Moves the writes that wait right behind `leader` into its chain of parts. */
  mergeWaitingWrites(leader: number): void {
    assert(this.kind[leader] === OpKind.write, "only writes are merged");
    assert(this.mergeNext[leader] === NONE, "a plan is merged once");
    let count = 1;
    let boundaries = this.boundariesOf(leader);
    let last = leader;
    while (count < MERGE_LIMIT) {
      const waiter = this.waitNext[leader]!;
      if (waiter === NONE || this.kind[waiter] !== OpKind.write) return;
      boundaries += this.boundariesOf(waiter);
      if (boundaries > BOUNDARY_LIMIT) return;
      if (this.excluded[waiter] !== 0 || this.overlapsChain(leader, waiter)) return;
      this.waitNext[leader] = this.waitNext[waiter]!;
      if (this.waitTail[leader] === waiter) this.waitTail[leader] = NONE;
      this.waitNext[waiter] = NONE;
      this.mergeNext[last] = waiter;
      // A merged plan is durable if any of its writes must be (write-rules 16).
      if (this.isFua[waiter] === 1) this.isFua[leader] = 1;
      last = waiter;
      count += 1;
    }
  }

  /** First row of the part, counted over the stripe's data chunks one after the other. */
  firstRow(op: number): number {
    return this.within[op]! >>> ROW_SHIFT;
  }

  /** The row behind the last one. */
  endRow(op: number): number {
    return (this.within[op]! + this.bytes[op]! + ROW_BYTES - 1) >>> ROW_SHIFT;
  }

  /** How many row boundaries a part brings at most: its two ends, and those of partial rows. */
  private boundariesOf(op: number): number {
    const isHeadPartial = withinRow(this.within[op]!) !== 0;
    const isTailPartial = withinRow(this.within[op]! + this.bytes[op]!) !== 0;
    return 2 + (isHeadPartial ? 1 : 0) + (isTailPartial ? 2 : 0);
  }

  private overlapsChain(leader: number, candidate: number): boolean {
    const first = this.firstRow(candidate);
    const end = this.endRow(candidate);
    for (let op = leader; op !== NONE; op = this.mergeNext[op]!) {
      if (first < this.endRow(op) && this.firstRow(op) < end) return true;
    }
    return false;
  }
}
