/**
 * The event loop of a reactor thread: one turn after the other, run to completion, never waiting
 * anywhere but in its one poll.
 *
 *   poll (sockets, completions' eventfd, wake eventfd) ─► readiness handlers ─► reap ─► timers
 *     ─► turn hooks ─► one io_submit ─► microtasks ─► poll
 *
 * - The wait is bounded by the next timer, and is none while something is left to do. Where the
 *   last pause was short, the loop polls for as long without waiting, because being woken costs
 *   more than the next event takes; after a longer one it waits at once, and leaves the processor
 *   to others. Where completions are there already, most turns do not even poll.
 * - Microtasks may leave something for what works once a turn (a log, a flush, deliveries), and
 *   nothing tells of it: a wait comes only behind a turn in which nothing happened, and while no
 *   hook says that it has something left.
 * - The clock stands still within a turn. It is read at the start, and again behind a wait.
 * - Microtasks are drained completely before the loop may wait: async code of any depth has then
 *   queued its requests, and `hasWork` of the queue sees them.
 * - A loop that never returns hides unhandled rejections from the engine. Now and then it yields,
 *   so that such a bug ends the process instead of being lost.
 */
import { assertShared } from "../base/assert.ts";
import { LatencyHistogram } from "../base/latency-histogram.ts";
import type { AioQueue } from "./aio-queue.ts";
import { Ready, type SocketKernel } from "./kernel.ts";
import type { EventLoop } from "./loop.ts";
import type { Timers } from "./timers.ts";
import type { TurnClock } from "./turn-clock.ts";

/** A pause that is worth to be polled through. */
const BUSY_POLL_MS = 0.05;
const WAIT_MS_MAX = 1000;
const YIELD_EVERY_MS = 100;
const QUIET_TURNS_MIN = 1;
/** Turns without a poll while completions come by themselves: then sockets are looked at again. */
const TURNS_PER_POLL_MAX = 8;

/** What the JavaScript engine does for a loop that never returns to it. */
export interface LoopHost {
  drainMicrotasks(): void;
  /** Resolves after the engine has had a turn: unhandled rejections are reported there. */
  yieldToEngine(): Promise<void>;
}

export class Reactor implements EventLoop {
  readonly sockets: SocketKernel;
  readonly timers: Timers;
  readonly turnTimes = new LatencyHistogram();
  private readonly clock: TurnClock;
  private readonly queue: AioQueue;
  private readonly host: LoopHost;
  private readonly busyPollMs: number;
  private readonly handlers: (((ready: number) => void) | undefined)[] = [];
  private readonly freeTokens: number[] = [];
  /** Removed in this turn: events that were already fetched may still name them. */
  private readonly removedTokens: number[] = [];
  private readonly turnHooks: (() => void)[] = [];
  private readonly dueChecks: (() => boolean)[] = [];
  private readonly onReady: (token: number, ready: number) => void;
  private turnsWithoutPoll = 0;
  private hasWaited = false;
  private turnMs = 0;
  private lastActiveMs = 0;
  /** Turns in which nothing has happened since then; how long that took the last time. */
  private quietTurns = 0;
  private lastPauseMs = Number.POSITIVE_INFINITY;
  private lastYieldMs = 0;
  private isStopped = false;

  constructor(options: {
    clock: TurnClock;
    timers: Timers;
    queue: AioQueue;
    sockets: SocketKernel;
    host: LoopHost;
    /** Signalled by the kernel with each completion. */
    eventFd: number;
    /** Written by the control thread after it has posted a message. */
    wakeFd: number;
    onWake: () => void;
    /** How long a pause may be to be polled through without waiting. */
    busyPollMs?: number;
  }) {
    this.clock = options.clock;
    this.timers = options.timers;
    this.queue = options.queue;
    this.sockets = options.sockets;
    this.host = options.host;
    this.busyPollMs = options.busyPollMs ?? BUSY_POLL_MS;
    this.onReady = (token, ready) => {
      if (this.hasWaited) this.noteTime();
      this.handlers[token]?.(ready);
    };
    // The eventfd only ends the wait: completions are reaped in every turn anyway.
    const completionToken = this.addHandler(() => {});
    this.sockets.watch(options.eventFd, completionToken, Ready.read | Ready.edge);
    const wakeToken = this.addHandler(options.onWake);
    this.sockets.watch(options.wakeFd, wakeToken, Ready.read | Ready.edge);
  }

  addHandler(onReady: (ready: number) => void): number {
    const token = this.freeTokens.pop() ?? this.handlers.length;
    this.handlers[token] = onReady;
    return token;
  }

  removeHandler(token: number): void {
    assertShared(this.handlers[token] !== undefined, "a handler is removed once");
    this.handlers[token] = undefined;
    this.removedTokens.push(token);
  }

  onTurn(hook: () => void, isDue?: () => boolean): void {
    this.turnHooks.push(hook);
    if (isDue !== undefined) this.dueChecks.push(isDue);
  }

  /** One turn that waits for at most `maxWaitMs`. True when anything happened in it. */
  turn(maxWaitMs: number): boolean {
    const lastMs = this.turnMs;
    this.noteTime();
    // From behind the wait of the last turn to the begin of this one.
    if (lastMs > 0) this.turnTimes.note(this.turnMs - lastMs);
    const readyCount = this.poll(maxWaitMs);
    const reapedCount = this.queue.reap();
    const timerCount = this.timers.runDue();
    for (const hook of this.turnHooks) hook();
    this.queue.submit();
    this.host.drainMicrotasks();
    while (this.removedTokens.length > 0) this.freeTokens.push(this.removedTokens.pop()!);
    const isActive = readyCount > 0 || reapedCount > 0 || timerCount > 0;
    this.notePause(isActive);
    this.clock.leave();
    return isActive;
  }

  /** Turns until `stop`. A throw anywhere below comes out here, and ends the process. */
  async run(): Promise<void> {
    while (!this.isStopped) {
      this.turn(WAIT_MS_MAX);
      if (this.turnMs - this.lastYieldMs < YIELD_EVERY_MS) continue;
      this.lastYieldMs = this.turnMs;
      await this.host.yieldToEngine();
    }
  }

  /** `run` returns after the turn that is under way. */
  stop(): void {
    this.isStopped = true;
  }

  private poll(maxWaitMs: number): number {
    if (this.queue.hasCompletions && this.turnsWithoutPoll < TURNS_PER_POLL_MAX) {
      this.turnsWithoutPoll += 1;
      return 0;
    }
    this.turnsWithoutPoll = 0;
    const waitMs = this.waitMs(maxWaitMs);
    this.hasWaited = waitMs > 0;
    const readyCount = this.sockets.poll(waitMs, this.onReady);
    if (this.hasWaited) this.noteTime();
    return readyCount;
  }

  private notePause(isActive: boolean): void {
    if (!isActive) {
      this.quietTurns += 1;
      return;
    }
    if (this.quietTurns > 0) this.lastPauseMs = this.turnMs - this.lastActiveMs;
    this.quietTurns = 0;
    this.lastActiveMs = this.turnMs;
  }

  private noteTime(): void {
    this.clock.enter();
    this.turnMs = this.clock.nowMs();
    this.hasWaited = false;
  }

  private waitMs(maxWaitMs: number): number {
    if (this.queue.hasCompletions) return 0;
    if (this.isStopped || this.queue.hasWork) return 0;
    if (this.quietTurns < QUIET_TURNS_MIN) return 0;
    for (const isDue of this.dueChecks) if (isDue()) return 0;
    const isShort = this.lastPauseMs < this.busyPollMs;
    if (isShort && this.turnMs - this.lastActiveMs < this.busyPollMs) return 0;
    let waitMs = maxWaitMs;
    const timerMs = this.timers.nextDelayMs();
    if (timerMs >= 0) waitMs = Math.min(waitMs, timerMs);
    const retryMs = this.queue.retryDelayMs;
    if (retryMs >= 0) waitMs = Math.min(waitMs, retryMs);
    return waitMs;
  }
}
