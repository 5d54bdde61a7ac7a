/**
 * How fast work on stripes may go, and when the next stripe of it may begin.
 *
 * Two token buckets, in bytes of one member:
 *
 * | bucket | fills at   | holds at most          | so that                                      |
 * |--------|------------|------------------------|----------------------------------------------|
 * | budget | the speed  | a tenth of a second    | what a stall has cost is made up for         |
 * | burst  | twice that | 4 ms, at least a chunk | that is not done at once: a client's request |
 * |        |            |                        | waits behind all that has been begun before  |
 *
 * A sweep takes a chunk at a time, before it works on it. A reshape begins when it could take one,
 * and is in debt for what it has moved then.
 */
import { assert } from "../../base/assert.ts";

const BUDGET_MS = 100;
const BURST_MS = 4;
const CATCH_UP = 2;
/** Clients that are at work have shown themselves by then: work begins no sooner. */
export const SETTLE_MS = 5;
/** A wait that is shorter is no wait. */
const WAIT_MS_MIN = 0.05;

export interface SweepLimits {
  /** Bytes per second of one member while clients do I/O. */
  readonly speedMin: number;
  /** Bytes per second at most, always. */
  readonly speedMax: number;
}

/** Bytes per second of one member that work may do. */
export function speedLimit({ speedMin, speedMax }: SweepLimits, isBusy: boolean): number {
  return isBusy ? Math.min(speedMin, speedMax) : speedMax;
}

export class SyncPace {
  private readonly chunkBytes: number;
  private budgetBytes = 0;
  private burstBytes = 0;
  private isLimited = true;
  private readonly beginMs: number;
  private atMs: number;

  constructor(chunkBytes: number, nowMs: number) {
    assert(chunkBytes > 0, "what is paced is work");
    this.chunkBytes = chunkBytes;
    this.beginMs = nowMs + SETTLE_MS;
    this.atMs = this.beginMs;
  }

  /** Takes a chunk, and answers 0; or answers the milliseconds until the next look. */
  take(speed: number, nowMs: number): number {
    const waitMs = this.waitMs(speed, nowMs);
    if (waitMs === 0) this.spend(this.chunkBytes);
    return waitMs;
  }

  /** 0: a chunk may begin, or what is begun at a time; or the milliseconds until the next look. */
  waitMs(speed: number, nowMs: number): number {
    const { chunkBytes } = this;
    const isEarly = nowMs < this.beginMs;
    this.isLimited = Number.isFinite(speed);
    if (isEarly) return this.isLimited ? this.beginMs - nowMs : 0;
    const elapsedMs = nowMs - this.atMs;
    assert(elapsedMs >= 0, "the budget grows with the clock");
    this.atMs = nowMs;
    if (!Number.isFinite(speed)) {
      // What it might have done in that time it has done.
      this.budgetBytes = 0;
      this.burstBytes = 0;
      return 0;
    }
    const perMs = speed / 1_000;
    const budgetMost = Math.max(chunkBytes, perMs * BUDGET_MS);
    const burstMost = Math.max(chunkBytes, perMs * BURST_MS);
    this.budgetBytes = Math.min(budgetMost, this.budgetBytes + elapsedMs * perMs);
    this.burstBytes = Math.min(burstMost, this.burstBytes + CATCH_UP * elapsedMs * perMs);
    const lackMs = Math.max(
      (chunkBytes - this.budgetBytes) / perMs,
      (chunkBytes - this.burstBytes) / (CATCH_UP * perMs),
    );
    return lackMs > 0 ? Math.max(WAIT_MS_MIN, lackMs) : 0;
  }

  /** So much has been begun. More than there was is a debt: the next chunk waits for that, too. */
  spend(bytes: number): void {
    assert(bytes > 0, "what is spent is work");
    if (!this.isLimited) return;
    this.budgetBytes -= bytes;
    this.burstBytes -= bytes;
  }
}
