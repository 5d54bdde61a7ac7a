/**
 * Which indexes of a table are free, last given first taken: its entry is still in the cache.
 *
 * Nothing is allocated after the start. Whether an index is given back twice is for the table to
 * know; here only that no more are free than there are.
 */
import { assertShared } from "./assert.ts";

export class FreeList {
  readonly capacity: number;
  private readonly free: Int32Array;
  private freeCount: number;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.free = new Int32Array(capacity);
    for (let index = 0; index < capacity; index += 1) this.free[index] = capacity - 1 - index;
    this.freeCount = capacity;
  }

  get available(): number {
    return this.freeCount;
  }

  get inUse(): number {
    return this.capacity - this.freeCount;
  }

  /** A free index, or -1. */
  take(): number {
    if (this.freeCount === 0) return -1;
    this.freeCount -= 1;
    return this.free[this.freeCount]!;
  }

  give(index: number): void {
    assertShared(this.freeCount < this.capacity, "an index is given back once");
    this.free[this.freeCount] = index;
    this.freeCount += 1;
  }
}
