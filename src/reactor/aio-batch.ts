/**
 * The completions of one reap: all are collected before the first is given out.
 *
 * Requests of clients are answered at the end of the turn, so that the completions of one reap are
 * judged together (write-rules 15). What a handler makes complete at once belongs to the next
 * batch.
 */
import { assertShared } from "../base/assert.ts";

export class CompletionBatch {
  count = 0;
  private readonly requests: Uint32Array;
  private readonly results: Float64Array;
  private readonly onComplete: (request: number, result: number) => void;
  private isDelivering = false;

  constructor(capacity: number, onComplete: (request: number, result: number) => void) {
    // Twice as many: handlers may add to the next batch while this one is given out.
    this.requests = new Uint32Array(capacity * 2);
    this.results = new Float64Array(capacity * 2);
    this.onComplete = onComplete;
  }

  add(request: number, result: number): void {
    this.requests[this.count] = request;
    this.results[this.count] = result;
    this.count += 1;
  }

  /** Gives everything out, in order. Answers how many there were. */
  deliver(): number {
    assertShared(!this.isDelivering, "a completion handler does not reap");
    const count = this.count;
    if (count === 0) return 0;
    this.isDelivering = true;
    for (let index = 0; index < count; index += 1) {
      this.onComplete(this.requests[index]!, this.results[index]!);
    }
    if (this.count > count) {
      this.requests.copyWithin(0, count, this.count);
      this.results.copyWithin(0, count, this.count);
    }
    this.count -= count;
    this.isDelivering = false;
    return count;
  }
}
