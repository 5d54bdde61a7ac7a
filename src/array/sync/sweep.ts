/**
 * Walks over the stripes of an array with several at a time under work: the shared part of
 * rebuild, resync and scrub.
 *
 * A sweep owns one fixed window of buffers, taken from the engine's pool at the start. It goes at
 * full speed while the array is otherwise idle, and keeps to `speedMin` while clients do I/O
 * (sync-pace.ts).
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { MIB } from "../../base/units.ts";
import type { BufferPool } from "../../block/pool.ts";
import { SYNC_WINDOW_STRIPES } from "../../raid5/members/sync-progress.ts";
import type { Timers } from "../../reactor/timers.ts";
import { type SweepLimits, SyncPace, speedLimit } from "./sync-pace.ts";

/** Buffers of one sweep, at most, where it does not say otherwise. */
export const WINDOW_BYTES_MAX = 6 * MIB;
const STRIPES_AT_ONCE_MAX = 64;
/** A lane that may not begin yet looks again after so long at most. */
const LOOK_MS = 5;
const ROOM_WAIT_MS = 250;

/**
 * Works on one stripe; false ends the sweep. Without space it is tried again. "late": a read that
 * was given up may still write into the buffer (write-rules 10), and the sweep ends.
 */
export type StripeWork = (stripe: number, buffer: number) => Promise<boolean | "no-space" | "late">;

export interface SweepOptions {
  readonly fromStripe: number;
  /** Exclusive. */
  readonly toStripe: number;
  /** The next stripe from this one on that is to be worked on at all; absent: each. */
  readonly nextOf?: (stripe: number) => number;
  readonly chunkBytes: number;
  readonly bufferBytes: number;
  readonly windowBytesMax: number;
  readonly work: StripeWork;
  /** Looked at before each stripe. */
  readonly shouldStop: () => boolean;
  readonly limits: () => SweepLimits;
  /** True when clients did I/O a moment ago. */
  readonly isBusy: () => boolean;
}

/** Resolves when the last stripe under work has ended: true if all of them were done. */
export class Sweep {
  private readonly pool: BufferPool;
  private readonly timers: Timers;
  private readonly options: SweepOptions;
  private nextStripe: number;
  /** The stripe that each lane works on; Infinity for none. */
  private readonly underWork: number[] = [];
  private isStopped = false;
  /** It has ended where a stripe was late. */
  wasLate = false;
  private readonly pace: SyncPace;
  /** Lanes that may not begin yet stand in line: the first of them looks at the clock. */
  private line: Promise<unknown> = Promise.resolve();
  private inLine = 0;

  constructor(options: SweepOptions & { pool: BufferPool; timers: Timers }) {
    this.pool = options.pool;
    this.timers = options.timers;
    this.options = options;
    assert(options.chunkBytes > 0 && options.bufferBytes > 0, "a stripe takes memory");
    this.nextStripe = options.fromStripe;
    this.pace = new SyncPace(options.chunkBytes, options.timers.clock.nowMs());
  }

  async run(): Promise<boolean> {
    const { bufferBytes, windowBytesMax } = this.options;
    const wanted = Math.floor(windowBytesMax / bufferBytes);
    const width = Math.max(1, Math.min(STRIPES_AT_ONCE_MAX, wanted));
    const bytes = width * bufferBytes;
    const buffer = await takeWindow(this.pool, this.timers, bytes, this.options.shouldStop);
    if (buffer === 0) return false;
    const lanes: Promise<void>[] = [];
    for (let lane = 0; lane < width; lane += 1) {
      lanes.push(this.runLane(lane, buffer + lane * bufferBytes));
    }
    await Promise.all(lanes);
    this.pool.free(buffer, bytes);
    return !this.isStopped;
  }

  private async runLane(lane: number, buffer: number): Promise<void> {
    for (;;) {
      const stripe = await this.nextFor(lane);
      if (stripe === null) return;
      if (!(await this.tryStripe(stripe, buffer))) this.isStopped = true;
    }
  }

  private async tryStripe(stripe: number, buffer: number): Promise<boolean> {
    const { work, shouldStop } = this.options;
    for (;;) {
      const answer = await work(stripe, buffer);
      if (answer === "late") this.wasLate = true;
      if (answer !== "no-space") return answer === true;
      // Polls: nothing tells that a file system has room again.
      if (!this.isStopped && !shouldStop()) await this.timers.sleep(ROOM_WAIT_MS);
      if (this.isStopped || shouldStop()) return false;
    }
  }

  /** A stripe that waits for its lock may be far behind: progress is kept for a window only. */
  private isAhead(): boolean {
    let oldest = Number.POSITIVE_INFINITY;
    for (const stripe of this.underWork) oldest = Math.min(oldest, stripe);
    return this.nextStripe >= oldest + SYNC_WINDOW_STRIPES;
  }

  /** The stripe that a lane works on next; null: there is none, or it is over. */
  private async nextFor(lane: number): Promise<number | null> {
    this.underWork[lane] = Number.POSITIVE_INFINITY;
    if (this.inLine === 0 && this.waitMs() === 0) return this.begin(lane);
    this.inLine += 1;
    const begun = this.line.then(() => this.beginWhenDue(lane));
    this.line = begun;
    return begun;
  }

  private async beginWhenDue(lane: number): Promise<number | null> {
    assert(this.inLine > 0, "a lane that waits stands in line");
    for (;;) {
      const waitMs = this.waitMs();
      if (waitMs === 0) break;
      // Polls: the pace changes with the clock, and with clients that say nothing.
      await this.timers.sleep(waitMs);
    }
    this.inLine -= 1;
    return this.begin(lane);
  }

  /** How long it is until a stripe may begin; 0: one may, or there is none to begin. */
  private waitMs(): number {
    const { toStripe, shouldStop, limits, isBusy } = this.options;
    // The pace is for stripes that there are: a lane that has none left waits for nothing.
    if (this.isStopped || this.nextStripe >= toStripe || shouldStop()) return 0;
    if (this.isAhead()) return LOOK_MS;
    const waitMs = this.pace.take(speedLimit(limits(), isBusy()), this.timers.clock.nowMs());
    return Math.min(LOOK_MS, waitMs);
  }

  private begin(lane: number): number | null {
    const { toStripe, shouldStop, nextOf } = this.options;
    if (this.isStopped || this.nextStripe >= toStripe) return null;
    if (shouldStop()) {
      this.isStopped = true;
      return null;
    }
    const stripe = this.nextStripe;
    this.nextStripe = nextOf?.(stripe + 1) ?? stripe + 1;
    assert(this.nextStripe > stripe, "a sweep goes forward");
    assert(!this.underWork.includes(stripe), "each stripe has one lane");
    this.underWork[lane] = stripe;
    return stripe;
  }
}

/**
 * Buffers of work on stripes; 0: they are wanted no more. What reads that hang still hold is not to
 * be had, perhaps for ever, and the array is to come to its end all the same.
 */
export async function takeWindow(
  pool: BufferPool,
  timers: Timers,
  bytes: number,
  shouldStop: () => boolean,
): Promise<number> {
  let address = 0;
  const taken = pool.take(bytes, { staysLong: true }).then((run) => {
    address = run;
  });
  // Nearly always it is there at once.
  await Promise.resolve();
  while (address === 0 && !shouldStop()) {
    // Polls: nothing tells who waits that it is to end.
    await Promise.race([taken, timers.sleep(ROOM_WAIT_MS)]);
  }
  if (address === 0) {
    inBackground(
      taken.then(() => pool.free(address, bytes)),
      null,
    );
  }
  return address;
}
