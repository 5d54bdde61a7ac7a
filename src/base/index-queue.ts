/** A FIFO of indexes of a table, over a ring as large as the table. */
import { assert } from "./assert.ts";

export class IndexQueue {
  private readonly ring: Int32Array;
  private head = 0;
  private count = 0;

  constructor(capacity: number) {
    this.ring = new Int32Array(capacity);
  }

  get length(): number {
    return this.count;
  }

  /** The oldest index, or -1. */
  peek(): number {
    return this.count === 0 ? -1 : this.ring[this.head]!;
  }

  push(index: number): void {
    assert(this.count < this.ring.length, "the queue is as large as the table behind it");
    this.ring[(this.head + this.count) % this.ring.length] = index;
    this.count += 1;
  }

  shift(): number {
    assert(this.count > 0, "the queue is not empty");
    const index = this.ring[this.head]!;
    this.head = (this.head + 1) % this.ring.length;
    this.count -= 1;
    return index;
  }
}
