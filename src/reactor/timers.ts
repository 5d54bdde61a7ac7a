/**
 * Timers of a reactor: one binary heap, whose top is the longest that the loop may wait.
 *
 * A handle names a timer until it fires or is cancelled. Handles are never reused, so cancelling
 * twice, or too late, does nothing.
 */
import { SharedAssertionError } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { Guard } from "../base/guard.ts";

interface Timer {
  readonly atMs: number;
  /** Breaks ties in the order of scheduling; also the handle. */
  readonly handle: number;
  readonly callback: () => void;
  isCancelled: boolean;
}

export class Timers {
  readonly clock: Clock;
  private readonly heap: Timer[] = [];
  private readonly byHandle = new Map<number, Timer>();
  private nextHandle = 1;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Calls `callback` once, at `atMs` of the monotonic clock or soon after. */
  schedule(atMs: number, callback: () => void): number {
    const timer: Timer = { atMs, handle: this.nextHandle, callback, isCancelled: false };
    this.nextHandle += 1;
    this.byHandle.set(timer.handle, timer);
    this.heap.push(timer);
    this.siftUp(this.heap.length - 1);
    return timer.handle;
  }

  /** Calls `callback` once, `delayMs` from now. */
  scheduleAfter(delayMs: number, callback: () => void): number {
    return this.schedule(this.clock.nowMs() + delayMs, callback);
  }

  /** Calls `callback` again and again, `periodMs` after the last time. The answer ends that. */
  every(periodMs: number, callback: () => void): () => void {
    let isEnded = false;
    let handle = 0;
    const next = (): void => {
      handle = this.scheduleAfter(periodMs, () => {
        callback();
        if (!isEnded) next();
      });
    };
    next();
    return () => {
      isEnded = true;
      this.cancel(handle);
    };
  }

  cancel(handle: number): void {
    const timer = this.byHandle.get(handle);
    if (timer === undefined) return;
    timer.isCancelled = true;
    this.byHandle.delete(handle);
    this.dropCancelledTop();
  }

  /** For the slow path only: a promise that resolves after `delayMs`. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.scheduleAfter(delayMs, resolve);
    });
  }

  /** Milliseconds until the next timer is due (0 when one is), or -1 when there is none. */
  nextDelayMs(): number {
    const top = this.heap[0];
    if (top === undefined) return -1;
    return Math.max(0, top.atMs - this.clock.nowMs());
  }

  /** Runs the timers that are due now. Those that they schedule run in a later call. */
  runDue(): number {
    const nowMs = this.clock.nowMs();
    const lastHandle = this.nextHandle;
    let count = 0;
    for (;;) {
      const top = this.heap[0];
      if (top === undefined || top.atMs > nowMs || top.handle >= lastHandle) break;
      this.popTop();
      this.byHandle.delete(top.handle);
      this.dropCancelledTop();
      count += 1;
      top.callback();
    }
    return count;
  }

  private dropCancelledTop(): void {
    while (this.heap[0]?.isCancelled === true) this.popTop();
  }

  private isBefore(left: Timer, right: Timer): boolean {
    return left.atMs < right.atMs || (left.atMs === right.atMs && left.handle < right.handle);
  }

  private siftUp(from: number): void {
    let index = from;
    const timer = this.heap[index]!;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!this.isBefore(timer, this.heap[parent]!)) break;
      this.heap[index] = this.heap[parent]!;
      index = parent;
    }
    this.heap[index] = timer;
  }

  private popTop(): void {
    const last = this.heap.pop()!;
    if (this.heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= this.heap.length) break;
      if (child + 1 < this.heap.length && this.isBefore(this.heap[child + 1]!, this.heap[child]!)) {
        child += 1;
      }
      if (!this.isBefore(this.heap[child]!, last)) break;
      this.heap[index] = this.heap[child]!;
      index = child;
    }
    this.heap[index] = last;
  }
}

/** The timers of a reactor as one array has them: what is due runs behind its guard. */
export class GuardedTimers extends Timers {
  private readonly inner: Timers;
  private readonly guard: Guard;

  constructor(inner: Timers, guard: Guard) {
    super(inner.clock);
    this.inner = inner;
    this.guard = guard;
  }

  override schedule(atMs: number, callback: () => void): number {
    return this.inner.schedule(atMs, () => {
      if (this.guard.isBroken) return;
      try {
        callback();
      } catch (error) {
        this.guard.caught(error);
      }
    });
  }

  override cancel(handle: number): void {
    this.inner.cancel(handle);
  }

  override nextDelayMs(): number {
    return this.inner.nextDelayMs();
  }

  override runDue(): never {
    throw new SharedAssertionError("the loop alone runs timers");
  }
}
