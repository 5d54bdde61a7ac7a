/** A queue of indexes of a table, over a ring as large as the table: first in, first out. */
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

  /** The index at this place behind the oldest one, which is at 0; it must be there. */
  at(place: number): number {
    assert(place >= 0 && place < this.count, "the queue has the place");
    return this.ring[(this.head + place) % this.ring.length]!;
  }

  push(index: number): void {
    assert(this.count < this.ring.length, "the queue is as large as the table behind it");
    this.ring[(this.head + this.count) % this.ring.length] = index;
    this.count += 1;
  }

  /** Back to the head: the next that is taken. */
  unshift(index: number): void {
    assert(this.count < this.ring.length, "the queue is as large as the table behind it");
    this.head = (this.head + this.ring.length - 1) % this.ring.length;
    this.ring[this.head] = index;
    this.count += 1;
  }

  /** Takes an index out wherever it stands; the others keep their order. How many there were. */
  remove(index: number): number {
    const before = this.count;
    for (let left = before; left > 0; left -= 1) {
      const oldest = this.shift();
      if (oldest !== index) this.push(oldest);
    }
    return before - this.count;
  }

  shift(): number {
    assert(this.count > 0, "the queue is not empty");
    const index = this.ring[this.head]!;
    this.head = (this.head + 1) % this.ring.length;
    this.count -= 1;
    return index;
  }
}
