/** Callbacks by time, those of one time in the order in which they were pushed: a binary heap. */
import { assert } from "../../../src/base/assert.ts";

interface Event {
  readonly atMs: number;
  readonly sequence: number;
  readonly callback: () => void;
}

export class EventQueue {
  private readonly heap: Event[] = [];
  private nextSequence = 0;

  /** Infinity when there is none. */
  nextAtMs(): number {
    return this.heap[0]?.atMs ?? Number.POSITIVE_INFINITY;
  }

  push(atMs: number, callback: () => void): void {
    const event = { atMs, sequence: this.nextSequence, callback };
    this.nextSequence += 1;
    let index = this.heap.length;
    this.heap.push(event);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(event, this.heap[parent]!)) break;
      this.heap[index] = this.heap[parent]!;
      index = parent;
    }
    this.heap[index] = event;
  }

  /** Takes the first one out; there is one. */
  pop(): () => void {
    const top = this.heap[0];
    assert(top !== undefined, "there is an event");
    const last = this.heap.pop()!;
    if (this.heap.length > 0) this.siftDown(last);
    return top.callback;
  }

  private siftDown(event: Event): void {
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= this.heap.length) break;
      const right = this.heap[child + 1];
      if (right !== undefined && isBefore(right, this.heap[child]!)) child += 1;
      if (!isBefore(this.heap[child]!, event)) break;
      this.heap[index] = this.heap[child]!;
      index = child;
    }
    this.heap[index] = event;
  }
}

function isBefore(left: Event, right: Event): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.sequence < right.sequence);
}
