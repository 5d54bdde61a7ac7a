/**
 * Requests that are being split into parts: small ones at once, large ones a piece a turn, each in
 * its turn. What a client with large requests has under way is then bounded by what it gets while
 * others have theirs, not by how much it asks for at once: a drive is asked in the order in which
 * parts begin, and the turn in which much is moved is long for everybody.
 */
import { IndexQueue } from "../base/index-queue.ts";
import { KIB, MIB } from "../base/units.ts";
import type { Timers } from "../reactor/timers.ts";
import type { RequestTable } from "./request-table.ts";

const SMALL_BYTES = 128 * KIB;
/** Of all large requests together, in a turn: while none but large ones come, and beside others. */
const TURN_BYTES = 4 * MIB;
const SHARED_TURN_BYTES = 64 * KIB;
/** For so long behind a small request others are expected. */
const SHARED_MS = 20;
const NONE = -1;

/** What became of a request: all of it is split; the turn is used up; or something else is. */
const Advance = { done: 0, later: 1, stuck: 2 } as const;

export class Splitter {
  private readonly requests: RequestTable;
  private readonly timers: Timers;
  private readonly startPart: (request: number) => boolean;
  private readonly queue: IndexQueue;
  private turnBytes = TURN_BYTES;
  private sharedUntilMs = 0;
  /** The next turn goes on, although nothing may come. */
  isDue = false;

  constructor(options: {
    requests: RequestTable;
    timers: Timers;
    /** Starts the next part; false when something that it needs is used up. */
    startPart: (request: number) => boolean;
  }) {
    this.requests = options.requests;
    this.timers = options.timers;
    this.startPart = options.startPart;
    this.queue = new IndexQueue(options.requests.capacity);
  }

  add(request: number): void {
    if (this.isSmall(request)) this.sharedUntilMs = this.timers.clock.nowMs() + SHARED_MS;
    this.queue.push(request);
    this.run();
  }

  /** Once a turn. */
  turn(): void {
    this.isDue = false;
    const isShared = this.timers.clock.nowMs() < this.sharedUntilMs;
    this.turnBytes = isShared ? SHARED_TURN_BYTES : TURN_BYTES;
    this.run();
  }

  private isSmall(request: number): boolean {
    return this.requests.bytes[request]! <= SMALL_BYTES;
  }

  private run(): void {
    const { queue } = this;
    // Behind those that have got nothing of this turn.
    let served = NONE;
    for (let left = queue.length; left > 0; left -= 1) {
      const request = queue.shift();
      const hadTurn = this.turnBytes > 0;
      const outcome = this.advance(request);
      if (outcome === Advance.stuck) {
        queue.unshift(request);
        break;
      }
      if (outcome === Advance.done) continue;
      this.isDue = true;
      if (hadTurn) served = request;
      else queue.push(request);
    }
    if (served !== NONE) queue.push(served);
  }

  private advance(request: number): number {
    const { requests } = this;
    const isSmall = this.isSmall(request);
    while (requests.splitBytes[request]! < requests.bytes[request]!) {
      if (!isSmall && this.turnBytes <= 0) return Advance.later;
      const before = requests.splitBytes[request]!;
      if (!this.startPart(request)) return Advance.stuck;
      if (!isSmall) this.turnBytes -= requests.splitBytes[request]! - before;
    }
    requests.partFinished(request, 0);
    return Advance.done;
  }
}
