/**
 * Writes that have got their stripe and have not begun.
 *
 * They begin at the end of the turn in which they came: those that came for one stripe, of
 * whichever client, wait behind the first of them by then, and are one plan. A stripe that a stream
 * (see write-streams.ts) is filling from its begin is held for longer: a stripe that is whole costs
 * no reads and no partial parity. It is held while the next of the stream is being received, while
 * others of it are under way, whose answers bring more, and for a moment behind the last of them;
 * never for a client that keeps one request under way, and never for long.
 */
import { IndexQueue } from "../../base/index-queue.ts";
import { NO_STREAM } from "../write-streams.ts";
import { OpKind } from "./ops.ts";
import type { StripeParts } from "./stripe-parts.ts";

/** How soon a client that has got an answer has sent more. */
const GRACE_MS = 0.1;
const HELD_MS_MAX = 5;
const NOT_HELD = -1;

export class Arrivals {
  private readonly parts: StripeParts;
  private readonly begin: (op: number) => void;
  private readonly queue: IndexQueue;
  /** By operation: until when it is held at most. */
  private readonly heldUntilMs: Float64Array;
  private hasTimer = false;
  /** The next turn has something to do, although nothing may come. */
  isDue = false;

  constructor(parts: StripeParts, begin: (op: number) => void) {
    this.parts = parts;
    this.begin = begin;
    this.queue = new IndexQueue(parts.ops.capacity);
    this.heldUntilMs = new Float64Array(parts.ops.capacity);
  }

  /** `op` has got its stripe. */
  push(op: number): void {
    this.heldUntilMs[op] = NOT_HELD;
    this.queue.push(op);
    this.isDue = true;
  }

  /** Once a turn, when all that came in it is there. */
  turn(): void {
    this.isDue = false;
    if (this.queue.length === 0) return;
    const nowMs = this.parts.environment.timers.clock.nowMs();
    for (let left = this.queue.length; left > 0; left -= 1) {
      const op = this.queue.shift();
      if (this.isWorthHolding(op, nowMs)) this.hold(op, nowMs);
      else this.begin(op);
    }
  }

  private hold(op: number, nowMs: number): void {
    if (this.heldUntilMs[op] === NOT_HELD) this.heldUntilMs[op] = nowMs + HELD_MS_MAX;
    this.queue.push(op);
    if (this.hasTimer) return;
    this.hasTimer = true;
    // The one that is held the longest comes first.
    this.parts.environment.timers.schedule(this.heldUntilMs[op]!, this.onTimer);
  }

  /** The turn that it brings looks at all that is held. */
  private readonly onTimer = (): void => {
    this.hasTimer = false;
  };

  private isWorthHolding(op: number, nowMs: number): boolean {
    const { ops, requests, streams, geometry } = this.parts;
    const stream = requests.stream[ops.request[op]!]!;
    if (stream === NO_STREAM || ops.within[op] !== 0) return false;
    const untilMs = this.heldUntilMs[op]!;
    if (untilMs !== NOT_HELD && nowMs >= untilMs) return false;
    let bytes = 0;
    let ofStream = 0;
    for (let each = op; each >= 0; each = ops.nextInLine(each)) {
      // Whoever else wants the stripe does not wait for a stream, nor what is to be durable.
      if (ops.kind[each] !== OpKind.write || ops.isFua[each] === 1) return false;
      bytes += ops.bytes[each]!;
      if (requests.stream[ops.request[each]!] === stream) ofStream += 1;
    }
    if (bytes >= geometry.stripeBytesOf(ops.stripe[op]!)) return false;
    if (streams.hasNext(stream) || streams.activeIn(stream) > ofStream) return true;
    const isGrace = untilMs !== NOT_HELD && nowMs - streams.lastAnswerMs(stream) < GRACE_MS;
    if (isGrace) this.isDue = true;
    return isGrace;
  }
}
