/**
 * The top of a drive's stack: judges each completion, resumes short transfers, retries what may
 * pass, and hands the rest up as an outcome.
 *
 * - A short transfer goes on from the last whole row. Progress resets the retry count.
 * - Transient errors back off from 1 ms to 128 ms, up to `transientLimit` tries in a row.
 * - A media error is tried again `mediaLimit` times in a row, whatever came before: many clear up.
 * - Nothing is ever submitted while an earlier submission of the same request is outstanding.
 * - `accepts` says what is submitted at all, retries included. A member that was failed gets nothing
 *   more, and an array that lost two members writes nothing more (write-rules 15): whoever was in
 *   the middle of something when that happened meets this gate, whatever it is about to write.
 * - The first answer that says "fenced" is told to whoever has the drive before its owner gets it, so
 *   that all gates of the array are shut by then (write-rules 21).
 * - A request that does not answer can be abandoned: its owner gets an outcome at once, while the
 *   request itself and its buffer stay as they are until the drive answers (write-rules 10).
 */
import { EBADE, EIO, ETIMEDOUT, errnoName } from "../base/errno.ts";
import { Signal } from "../base/signal.ts";
import { ROW_BYTES, roundDown } from "../base/units.ts";
import { type IoTable, OP_NAMES, Op, type OpCode, type OpName } from "../reactor/io-table.ts";
import type { Timers } from "../reactor/timers.ts";
import type { BlockDevice } from "./device.ts";
import { Filter } from "./filter.ts";
import { classifyCompletion, errnoOf, Outcome, type OutcomeCode } from "./io-error.ts";
import type { OutcomeRouter } from "./outcome-router.ts";
import type { ReadOverlay } from "./read-overlay.ts";

export interface RetryLimits {
  readonly transientLimit: number;
  readonly mediaLimit: number;
  readonly backOffMsMax: number;
}

export const DEFAULT_RETRY_LIMITS: RetryLimits = {
  transientLimit: 30,
  mediaLimit: 2,
  backOffMsMax: 128,
};

/** Which requests reach the drive; the others end as a lost member, or as fenced. */
export type Accepts = "all" | "reads" | "nothing" | "fenced";

export interface RetryCounters {
  read: number;
  write: number;
  retried: number;
  /** Reads that failed for good since one was good. */
  readErrorsInARow: number;
  /** Reads that were given up since one was good. */
  readsLateInARow: number;
  /** By operation, then by errno name, and "short". Absent: none of it was judged an error. */
  readonly kinds: Partial<Record<OpName, Record<string, number>>>;
}

/** Keeps the buffers of hung requests from being used again. */
export interface BufferPins {
  pin(address: number, bytes: number): void;
  unpin(address: number, bytes: number): void;
}

const State = { idle: 0, outstanding: 1, waiting: 2, abandoned: 3, sealed: 4 } as const;

export class RetryFilter extends Filter {
  readonly counters: RetryCounters = {
    read: 0,
    write: 0,
    retried: 0,
    readErrorsInARow: 0,
    readsLateInARow: 0,
    kinds: {},
  };
  accepts: Accepts = "all";
  /** Raised with each request that is outstanding no more. */
  readonly answered = new Signal();
  /** Told at each answer that says that another host has the drive, before its owner is. */
  onFenced: () => void = () => {};
  /** What reads find in place of what the drive holds; null: nothing. */
  overlay: ReadOverlay | null = null;
  private readonly table: IoTable;
  private readonly timers: Timers;
  private readonly router: OutcomeRouter;
  private readonly limits: RetryLimits;
  /** Transient errors in a row, and transfers of less than a row. */
  private readonly tries: Uint8Array;
  private readonly mediaTries: Uint8Array;
  /** Bytes of the request that are already moved, by earlier short transfers. */
  private readonly doneBytes: Uint32Array;
  private readonly state: Uint8Array;
  private readonly startedMs: Float64Array;
  private readonly pins: BufferPins | null;
  private requestTotal = 0;
  private isSealed = false;

  constructor(options: {
    next: BlockDevice;
    table: IoTable;
    timers: Timers;
    router: OutcomeRouter;
    limits?: RetryLimits;
    pins?: BufferPins;
  }) {
    super(options.next);
    this.table = options.table;
    this.timers = options.timers;
    this.router = options.router;
    this.limits = options.limits ?? DEFAULT_RETRY_LIMITS;
    this.tries = new Uint8Array(options.table.capacity);
    this.mediaTries = new Uint8Array(options.table.capacity);
    this.doneBytes = new Uint32Array(options.table.capacity);
    this.state = new Uint8Array(options.table.capacity);
    this.startedMs = new Float64Array(options.table.capacity);
    this.pins = options.pins ?? null;
  }

  override submit(request: number): void {
    this.tries[request] = 0;
    this.mediaTries[request] = 0;
    this.doneBytes[request] = 0;
    this.startedMs[request] = this.timers.clock.nowMs();
    this.requestTotal += 1;
    if (this.isAccepted(request)) this.send(request);
    else this.refuse(request);
  }

  /** Requests on the drive, between two tries, or given up and not answered by the drive yet. */
  get outstanding(): number {
    return this.requestTotal;
  }

  /**
   * How long the oldest unanswered request has waited, of reads or of all else; 0 for none. "owed":
   * given up or not.
   */
  oldestAgeMs(kind: "read" | "write" | "any" | "owed"): number {
    const nowMs = this.timers.clock.nowMs();
    let oldestMs = nowMs;
    for (let request = 0; request < this.table.capacity; request += 1) {
      const isGivenUp = kind === "owed" && this.state[request] === State.abandoned;
      if (this.state[request] !== State.outstanding && !isGivenUp) continue;
      const isRead = this.table.op[request] === Op.read;
      if (kind !== "any" && kind !== "owed" && isRead !== (kind === "read")) continue;
      oldestMs = Math.min(oldestMs, this.startedMs[request]!);
    }
    return nowMs - oldestMs;
  }

  /** Whether it owes answers to requests that were given up. */
  get owesAbandoned(): boolean {
    return this.state.includes(State.abandoned);
  }

  /**
   * Gives up requests that have not answered for `ageMs`: their owners get `outcome` now. The
   * kernel
   * may still act on them, so their buffers are pinned until it has answered. How many there were.
   */
  abandon(kind: "read" | "all", ageMs: number, outcome: OutcomeCode): number {
    const bornMs = this.timers.clock.nowMs() - ageMs;
    let count = 0;
    for (let request = 0; request < this.table.capacity; request += 1) {
      if (this.state[request] !== State.outstanding || this.startedMs[request]! > bornMs) continue;
      if (kind === "read" && this.table.op[request] !== Op.read) continue;
      const copy = this.table.allocate();
      if (copy < 0) return count;
      this.restore(request);
      this.table.copyTo(copy, request);
      this.state[request] = State.abandoned;
      this.pins?.pin(this.table.address[request]!, this.table.bytes[request]!);
      count += 1;
      if (this.table.op[request] === Op.read) this.counters.readsLateInARow += 1;
      this.router.dispatch(copy, outcome, ETIMEDOUT);
    }
    return count;
  }

  /**
   * Nothing is submitted here any more, for good. Whoever waits for what is under way may be gone,
   * and its buffers with it: they stay pinned until the drive answers.
   */
  seal(): void {
    this.isSealed = true;
    for (let request = 0; request < this.table.capacity; request += 1) {
      if (this.state[request] !== State.outstanding) continue;
      this.restore(request);
      this.state[request] = State.sealed;
      this.pins?.pin(this.table.address[request]!, this.table.bytes[request]!);
    }
  }

  private send(request: number): void {
    this.state[request] = State.outstanding;
    this.next.submit(request);
  }

  protected override completed(request: number, result: number): void {
    if (this.state[request] === State.abandoned) {
      this.state[request] = State.idle;
      this.requestTotal -= 1;
      this.pins?.unpin(this.table.address[request]!, this.table.bytes[request]!);
      this.table.free(request);
      this.answered.raise();
      if (errnoOf(result) === EBADE) this.onFenced();
      return;
    }
    if (this.state[request] === State.sealed) {
      this.pins?.unpin(this.table.address[request]!, this.table.bytes[request]!);
      this.finish(request, Outcome.memberLost, EIO);
      return;
    }
    this.state[request] = State.waiting;
    const op = this.table.op[request] as OpCode;
    const outcome = classifyCompletion(op, result, this.table.bytes[request]!);
    if (outcome === Outcome.done) {
      if (op === Op.read) this.counters.readErrorsInARow = this.counters.readsLateInARow = 0;
      this.finish(request, outcome, 0);
    } else this.judge(request, op, result, outcome);
  }

  private judge(request: number, op: OpCode, result: number, outcome: OutcomeCode): void {
    const errno = errnoOf(result);
    this.count(op, outcome, errno);
    if (outcome === Outcome.fenced) this.onFenced();
    if (outcome === Outcome.short) this.resume(request, result);
    else if (outcome === Outcome.transient) this.retryTransient(request, errno);
    else if (outcome === Outcome.mediaError) this.retryMedia(request, errno);
    else this.finish(request, outcome, errno);
  }

  private count(op: OpCode, outcome: OutcomeCode, errno: number): void {
    // A drive that does not offer to discard has no fault.
    if (outcome === Outcome.unsupported) return;
    const kind = outcome === Outcome.short ? "short" : errno === 0 ? "past-end" : errnoName(errno);
    const name = OP_NAMES[op];
    const kinds = this.counters.kinds[name] ?? {};
    kinds[kind] = (kinds[kind] ?? 0) + 1;
    this.counters.kinds[name] = kinds;
    // A want of space is no fault of the drive either, and it is told by its kind.
    if (outcome === Outcome.noSpace) return;
    if (outcome === Outcome.short || outcome === Outcome.transient) return;
    if (outcome === Outcome.fenced) return;
    if (op === Op.read) this.counters.read += 1;
    else this.counters.write += 1;
  }

  private resume(request: number, movedBytes: number): void {
    const wholeBytes = roundDown(movedBytes, ROW_BYTES);
    if (wholeBytes === 0) {
      // Less than a row: the same request again, and it counts as a try.
      this.retryTransient(request, 0);
      return;
    }
    this.tries[request] = 0;
    this.mediaTries[request] = 0;
    this.doneBytes[request]! += wholeBytes;
    this.table.offset[request]! += wholeBytes;
    this.table.address[request]! += wholeBytes;
    this.table.bytes[request]! -= wholeBytes;
    this.counters.retried += 1;
    this.submitAgain(request, 0);
  }

  private retryTransient(request: number, errno: number): void {
    const tries = this.tries[request]!;
    if (tries >= this.limits.transientLimit) {
      this.finish(request, Outcome.memberLost, errno);
      return;
    }
    this.tries[request] = tries + 1;
    this.retryLater(request, tries, errno);
  }

  private retryMedia(request: number, errno: number): void {
    const tries = this.mediaTries[request]!;
    if (tries >= this.limits.mediaLimit) {
      if (this.table.op[request] === Op.read) this.counters.readErrorsInARow += 1;
      this.finish(request, Outcome.mediaError, errno);
      return;
    }
    this.mediaTries[request] = tries + 1;
    this.retryLater(request, tries, errno);
  }

  private retryLater(request: number, tries: number, errno: number): void {
    this.counters.retried += 1;
    const delayMs = Math.min(this.limits.backOffMsMax, 2 ** tries);
    this.timers.scheduleAfter(delayMs, () => this.submitAgain(request, errno));
  }

  /** `errno` is what the last try ended with. */
  private submitAgain(request: number, errno: number): void {
    if (this.isAccepted(request)) this.send(request);
    else if (this.accepts === "fenced") this.finish(request, Outcome.fenced, EBADE);
    else this.finish(request, Outcome.memberLost, errno);
  }

  private isAccepted(request: number): boolean {
    if (this.isSealed) return false;
    if (this.accepts === "all") return true;
    return this.accepts === "reads" && this.table.op[request] === Op.read;
  }

  /** Answers as a drive would, not from within the call that submits. */
  private refuse(request: number): void {
    this.state[request] = State.waiting;
    const isFenced = this.accepts === "fenced";
    const outcome = isFenced ? Outcome.fenced : Outcome.memberLost;
    this.timers.scheduleAfter(0, () => this.finish(request, outcome, isFenced ? EBADE : EIO));
  }

  private finish(request: number, outcome: OutcomeCode, errno: number): void {
    this.restore(request);
    this.state[request] = State.idle;
    this.requestTotal -= 1;
    if (this.overlay !== null && outcome === Outcome.done) this.cover(request, this.overlay);
    this.answered.raise();
    this.router.dispatch(request, outcome, errno);
  }

  private cover(request: number, overlay: ReadOverlay): void {
    const { table } = this;
    const op = table.op[request];
    const offset = table.offset[request]!;
    const bytes = table.bytes[request]!;
    if (op === Op.read) overlay.patch(offset, bytes, table.address[request]!);
    else if (op !== Op.flush) overlay.forget(offset, bytes);
  }

  /** The owner sees its request as it submitted it. */
  private restore(request: number): void {
    const doneBytes = this.doneBytes[request]!;
    if (doneBytes === 0) return;
    this.doneBytes[request] = 0;
    this.table.offset[request]! -= doneBytes;
    this.table.address[request]! -= doneBytes;
    this.table.bytes[request]! += doneBytes;
  }
}
