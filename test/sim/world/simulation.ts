/**
 * One simulated reactor: virtual time, a queue of events, timers, turns. Nothing in it knows real
 * time, so that a seed gives the same run, event by event, on every machine.
 *
 * One turn, as in the real loop (src/reactor/loop.ts):
 *
 *   clock moves to the next event or timer ─► event (or several in a batch, see `batchChance`)
 *   ─► due timers ─► turn hooks ─► all microtasks
 *
 * Turns are synchronous: microtasks are drained by the engine's own call, so that a test may step
 * from plain code as well as from an async function. Ties in time are broken by the order of
 * scheduling. A run that stops moving, or that moves without end, is an error that names its seed.
 */
import { drainMicrotasks } from "bun:jsc";
import { assert } from "../../../src/base/assert.ts";
import { watchBackground } from "../../../src/base/background.ts";
import type { Clock } from "../../../src/base/clock.ts";
import { LatencyHistogram } from "../../../src/base/latency-histogram.ts";
import { nextFraction, SeededRandom } from "../../../src/base/random.ts";
import type { SocketKernel } from "../../../src/reactor/kernel.ts";
import type { EventLoop } from "../../../src/reactor/loop.ts";
import { Timers } from "../../../src/reactor/timers.ts";
import { EventQueue } from "./event-queue.ts";
import { TraceHash } from "./trace-hash.ts";

/** Turns at one instant before a run counts as stuck. */
const TURNS_PER_INSTANT_MAX = 1_000_000;
const RECENT_MAX = 200;
/** What the clock on the wall says at first. */
export const WALL_START_MS = 1_700_000_000_000;

export interface SimulationOptions {
  readonly seed: number;
  /** How likely a turn handles one more event with the last, as one reap does. Default 0. */
  readonly batchChance?: number;
  /** Events so far apart are never in one batch. */
  readonly batchWindowMs?: number;
  readonly sockets?: (simulation: Simulation) => SocketKernel;
}

export class Simulation implements Clock, EventLoop {
  readonly seed: number;
  readonly timers: Timers;
  readonly turnTimes = new LatencyHistogram();
  private readonly random: SeededRandom;
  private readonly batchRandom: SeededRandom;
  private readonly batchChance: number;
  private readonly batchWindowMs: number;
  private readonly injectedSockets: SocketKernel | null;
  private readonly events = new EventQueue();
  private readonly hash = new TraceHash();
  private readonly recent: string[] = [];
  private readonly handlers = new Map<number, (ready: number) => void>();
  private readonly hooks: (() => void)[] = [];
  private elapsedMs = 0;
  private wallJumpMs = 0;
  private nextToken = 1;
  private turns = 0;
  private turnsAtInstant = 0;
  /** What was thrown where nobody waits. */
  private bug: { readonly error: unknown } | null = null;

  constructor(options: SimulationOptions) {
    this.seed = options.seed;
    this.random = new SeededRandom(options.seed);
    this.batchRandom = this.random.split();
    this.batchChance = options.batchChance ?? 0;
    this.batchWindowMs = options.batchWindowMs ?? 0.05;
    this.timers = new Timers(this);
    this.injectedSockets = options.sockets?.(this) ?? null;
    watchBackground((error) => {
      this.bug ??= { error };
    });
  }

  get sockets(): SocketKernel {
    assert(this.injectedSockets !== null, "this simulation was made with sockets");
    return this.injectedSockets;
  }

  nowMs(): number {
    return this.elapsedMs;
  }

  wallMs(): number {
    // Linux refuses to set its clock to before 1970.
    return Math.max(0, WALL_START_MS + this.wallJumpMs + Math.floor(this.elapsedMs));
  }

  /** Steps the wall clock; the monotonic clock does not notice. */
  jumpWall(byMs: number): void {
    this.wallJumpMs += byMs;
  }

  get turnCount(): number {
    return this.turns;
  }

  /** Equal for equal runs. */
  get traceHash(): string {
    return this.hash.hex;
  }

  /** The last lines of the trace, for a report. */
  get recentTrace(): readonly string[] {
    return this.recent;
  }

  /** A generator for one component. Components are made in the same order in every run. */
  splitRandom(): SeededRandom {
    return this.random.split();
  }

  /** Notes something that happened. What is noted makes up the trace hash. */
  note(what: string, ...numbers: number[]): void {
    this.hash.number(this.elapsedMs);
    this.hash.text(what);
    for (const value of numbers) this.hash.number(value);
    this.recent.push(`${this.elapsedMs.toFixed(4)} ${what} ${numbers.join(" ")}`);
    if (this.recent.length > RECENT_MAX * 2) this.recent.splice(0, RECENT_MAX);
  }

  noteBytes(bytes: Uint8Array): void {
    this.hash.bytes(bytes);
  }

  /** Calls `callback` in the turn of `atMs`. */
  scheduleAt(atMs: number, callback: () => void): void {
    assert(atMs >= this.elapsedMs, "events lie in the future");
    this.events.push(atMs, callback);
  }

  scheduleAfter(delayMs: number, callback: () => void): void {
    this.scheduleAt(this.elapsedMs + delayMs, callback);
  }

  addHandler(onReady: (ready: number) => void): number {
    const token = this.nextToken;
    this.nextToken += 1;
    this.handlers.set(token, onReady);
    return token;
  }

  removeHandler(token: number): void {
    this.handlers.delete(token);
  }

  /** For the simulated sockets: tells a handler, if it is still registered. */
  raiseReady(token: number, ready: number): void {
    this.handlers.get(token)?.(ready);
  }

  onTurn(hook: () => void): void {
    this.hooks.push(hook);
  }

  /** One turn. False when nothing is left that could ever happen. */
  step(): boolean {
    // What plain code started before the first turn has not run its microtasks yet.
    drainMicrotasks();
    const nextMs = this.nextAtMs();
    if (nextMs === Number.POSITIVE_INFINITY) {
      // A hook may hold work that microtasks left after the last turn; the real loop sees that too.
      this.endTurn();
      return this.nextAtMs() !== Number.POSITIVE_INFINITY;
    }
    this.moveTo(nextMs);
    if (this.events.nextAtMs() <= this.elapsedMs) this.runBatch();
    this.timers.runDue();
    this.endTurn();
    return true;
  }

  /** Turns until `predicate` holds. An error when it does not within `limitMs` of virtual time. */
  runUntil(predicate: () => boolean, { limitMs }: { limitMs: number }): void {
    const endMs = this.elapsedMs + limitMs;
    drainMicrotasks();
    while (!predicate()) {
      if (this.nextAtMs() > endMs && this.nextAtMs() !== Number.POSITIVE_INFINITY) {
        this.fail(`not reached within ${limitMs} ms`);
      }
      if (!this.step() && !predicate()) this.fail("nothing is left to happen");
    }
  }

  /** Turns for so long; ends early when nothing is left to happen. */
  runFor(durationMs: number): void {
    const endMs = this.elapsedMs + durationMs;
    drainMicrotasks();
    while (this.nextAtMs() <= endMs && this.step());
    this.elapsedMs = Math.max(this.elapsedMs, endMs);
  }

  /** Turns until nothing is left to happen. An error when there is no end within `limitMs`. */
  runUntilIdle({ limitMs }: { limitMs: number }): void {
    const endMs = this.elapsedMs + limitMs;
    while (this.step()) {
      if (this.elapsedMs > endMs) this.fail(`still busy after ${limitMs} ms`);
    }
  }

  /** Turns until `promise` has settled, and returns (or throws) what it holds. */
  settle<T>(promise: Promise<T>, { limitMs }: { limitMs: number }): T {
    let settled: { value: T } | { reason: unknown } | null = null;
    promise.then(
      (value) => {
        settled = { value };
      },
      (reason: unknown) => {
        settled = { reason };
      },
    );
    this.runUntil(() => settled !== null, { limitMs });
    const result = settled as unknown as { value: T } | { reason: unknown };
    if ("reason" in result) throw result.reason;
    return result.value;
  }

  /** Ends the run with the line that repeats it. */
  fail(message: string): never {
    throw new Error(
      `${message} (at ${this.elapsedMs.toFixed(3)} ms, turn ${this.turns})\n` +
        `SEED=${this.seed} bun test test/sim\n${this.recent.slice(-40).join("\n")}`,
    );
  }

  private nextAtMs(): number {
    const timerDelayMs = this.timers.nextDelayMs();
    const timerAtMs = timerDelayMs < 0 ? Number.POSITIVE_INFINITY : this.elapsedMs + timerDelayMs;
    return Math.min(this.events.nextAtMs(), timerAtMs);
  }

  private moveTo(atMs: number): void {
    if (atMs > this.elapsedMs) {
      this.elapsedMs = atMs;
      this.turnsAtInstant = 0;
    }
    this.turns += 1;
    this.turnsAtInstant += 1;
    if (this.turnsAtInstant > TURNS_PER_INSTANT_MAX) this.fail("time stands still");
  }

  private runBatch(): void {
    this.events.pop()();
    for (;;) {
      const nextMs = this.events.nextAtMs();
      if (this.batchChance === 0 || nextMs > this.elapsedMs + this.batchWindowMs) break;
      if (nextFraction(this.batchRandom) >= this.batchChance) break;
      this.elapsedMs = Math.max(this.elapsedMs, nextMs);
      this.events.pop()();
    }
  }

  private endTurn(): void {
    for (const hook of this.hooks) hook();
    drainMicrotasks();
    if (this.bug !== null) throw this.bug.error;
  }
}
