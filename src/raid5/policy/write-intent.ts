/**
 * The write-intent bitmap as the write paths use it: a stripe's bits are durable before it is
 * written, and are given back when it is (md/bitmap-state.ts; the blocks are written in
 * array/policy/bitmap-keeper.ts). Once two members are gone no block is written any more: those
 * that wait go on, and find that out.
 *
 * Bits stand for sectors of the members, and a stripe is one chunk of each: a write marks its whole
 * chunk. Nothing allocates for a stripe whose bits are durable already.
 */

import { assert } from "../../base/assert.ts";
import { IndexQueue } from "../../base/index-queue.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { BitmapState } from "../../md/bitmap-state.ts";
import type { MemberParts } from "../members/member-parts.ts";

interface WaitingRange {
  readonly first: number;
  readonly end: number;
  readonly resolve: (isDurable: boolean) => void;
}

/** The writes that wait for bits. */
export interface IntentWaiter {
  /** The bits of an operation that waited are durable, or the array has failed. */
  marked(op: number): void;
  /** There is no room for them: nothing may be written. */
  refused(op: number): void;
}

export class WriteIntent {
  readonly state: BitmapState;
  private readonly parts: MemberParts;
  private readonly chunkSectors: number;
  private readonly waiter: IntentWaiter;
  /** A waiting write needs blocks to be written. */
  private readonly needsBlocks: () => void;
  private readonly waiting: IndexQueue;
  /** By operation that waits. */
  private readonly stripeOf: Float64Array;
  private ranges: WaitingRange[] = [];

  constructor(
    parts: MemberParts,
    options: {
      state: BitmapState;
      opCapacity: number;
      waiter: IntentWaiter;
      needsBlocks: () => void;
    },
  ) {
    this.parts = parts;
    this.state = options.state;
    this.chunkSectors = parts.geometry.chunkBytes / SECTOR_BYTES;
    this.waiter = options.waiter;
    this.needsBlocks = options.needsBlocks;
    this.waiting = new IndexQueue(options.opCapacity);
    this.stripeOf = new Float64Array(options.opCapacity);
  }

  /** Sets the bits of a stripe that is about to be written. True: they are durable. */
  startWrite(stripe: number): boolean {
    return this.state.startWrite(stripe * this.chunkSectors, this.chunkSectors);
  }

  endWrite(stripe: number, isWhole: boolean): void {
    this.state.endWrite(stripe * this.chunkSectors, this.chunkSectors, isWhole);
  }

  /** After a `startWrite` that answered false: `marked` follows. */
  wait(op: number, stripe: number): void {
    assert(op >= 0 && op < this.stripeOf.length, "a stripe operation waits");
    this.stripeOf[op] = stripe;
    this.waiting.push(op);
    this.needsBlocks();
  }

  /**
   * The same as `startWrite` for stripes [first, end), for work that can wait. False: there is no
   * room for the bits.
   */
  startWrites(first: number, end: number): Promise<boolean> {
    let isDurable = true;
    for (let stripe = first; stripe < end; stripe += 1) {
      if (!this.startWrite(stripe)) isDurable = false;
    }
    return isDurable ? Promise.resolve(true) : this.untilDurable(first, end);
  }

  endWrites(first: number, end: number, isWhole: boolean): void {
    for (let stripe = first; stripe < end; stripe += 1) this.endWrite(stripe, isWhole);
  }

  untilDurable(first: number, end: number): Promise<boolean> {
    assert(first < end, "bits are of some stripes");
    return new Promise((resolve) => {
      this.ranges.push({ first, end, resolve });
      this.needsBlocks();
    });
  }

  /** A member has no room for the blocks that these wait for. */
  refuseWaiting(): void {
    for (let count = this.waiting.length; count > 0; count -= 1) {
      const op = this.waiting.shift();
      const stripe = this.stripeOf[op]!;
      if (this.mayGoOn(stripe, stripe + 1)) this.waiting.push(op);
      else this.waiter.refused(op);
    }
    const { ranges } = this;
    this.ranges = [];
    for (const { first, end, resolve } of ranges) resolve(this.mayGoOn(first, end));
  }

  /** Some that wait may go on. */
  get isDue(): boolean {
    const op = this.waiting.peek();
    if (op >= 0 && this.mayGoOn(this.stripeOf[op]!, this.stripeOf[op]! + 1)) return true;
    return this.ranges.some(({ first, end }) => this.mayGoOn(first, end));
  }

  /** Once a turn, after all completions: whose bits have become durable goes on. */
  turn(): void {
    for (let count = this.waiting.length; count > 0; count -= 1) {
      const op = this.waiting.shift();
      const stripe = this.stripeOf[op]!;
      if (this.mayGoOn(stripe, stripe + 1)) this.waiter.marked(op);
      else this.waiting.push(op);
    }
    if (this.ranges.length === 0) return;
    const waiting = this.ranges;
    this.ranges = [];
    for (const range of waiting) {
      if (this.mayGoOn(range.first, range.end)) range.resolve(true);
      else this.ranges.push(range);
    }
  }

  private mayGoOn(first: number, end: number): boolean {
    if (this.parts.members.isFailed) return true;
    return this.state.isDurable(first * this.chunkSectors, (end - first) * this.chunkSectors);
  }
}
