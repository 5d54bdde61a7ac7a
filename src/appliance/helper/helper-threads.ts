/**
 * The helper threads: whose turn it is, and what becomes of a call that hangs.
 *
 * | thread | has                                          | bound                              |
 * |--------|----------------------------------------------|------------------------------------|
 * | idle   | no call                                      | IDLE_MAX are kept                  |
 * | quick  | a call younger than SLOW_MS                  | QUICK_MAX; others wait for it      |
 * | slow   | an older one: others need not wait for it    | THREADS_MAX, of all four together  |
 * | stuck  | one past its deadline, answered so           | the same                           |
 *
 * Calls of one key (a drive) run in order, calls of different keys know nothing of each other: up
 * to QUICK_MAX - 1 drives that hang delay nobody, each QUICK_MAX more of them SLOW_MS. A key whose
 * call is stuck takes no other: a hung drive costs one thread and one deadline, however often it is
 * asked for. A call is refused for want of a thread only while all of them are stuck.
 *
 * A thread that ends by itself is a defect of its call, not of anybody's drives: that call is
 * answered with an error, and the next one gets a new thread.
 */
import type { CommandError } from "../../array/protocol.ts";
import { assert } from "../../base/assert.ts";
import { err } from "../../base/result.ts";
import type {
  HelperCall,
  HelperCallKind,
  HelperCallOf,
  HelperEnvelope,
  HelperReply,
  HelperResult,
} from "./helper-protocol.ts";

const DEADLINE_MS = 30_000;
export const SLOW_MS = 250;
export const QUICK_MAX = 4;
export const IDLE_MAX = 2;
export const THREADS_MAX = 32;

/** A helper thread. Only main makes workers, so it is passed in. */
export interface HelperThread {
  post(envelope: HelperEnvelope): void;
  onReply(listener: (reply: HelperReply) => void): void;
  /** It has ended without having been told to. */
  onEnd(listener: (why: string) => void): void;
  terminate(): void;
}

/** Calls `run` once, after a while, and answers with what takes that back. */
export type SetTimer = (afterMs: number, run: () => void) => () => void;

export interface CallOptions<K extends HelperCallKind> {
  /** What the call is about, a path: calls of one key run in order. */
  readonly key: string;
  readonly deadlineMs?: number;
  /** Refused where the key has a call already, instead of waiting for it. */
  readonly isImpatient?: boolean;
  /** Runs whatever happens, also long after its caller was told that the key is stuck. */
  readonly isOwed?: boolean;
  /** What became of it in the end. `isLate`: the caller has been told of a missed deadline. */
  readonly onEnd?: (result: HelperResult<K>, isLate: boolean) => void;
}

interface AskedCall {
  readonly call: HelperCall;
  readonly key: string;
  readonly deadlineMs: number;
  readonly isOwed: boolean;
  readonly onEnd: (result: HelperResult, isLate: boolean) => void;
  /** The first answer counts. */
  readonly answer: (result: HelperResult) => void;
}

interface RunningCall {
  readonly asked: AskedCall;
  readonly id: number;
  readonly thread: HelperThread;
  pace: "quick" | "slow" | "stuck";
  cancelTimer: () => void;
}

export class HelperThreads {
  private readonly startThread: () => HelperThread;
  private readonly deadlineMs: number;
  private readonly setTimer: SetTimer;
  private readonly waiting: AskedCall[] = [];
  /** By key. */
  private readonly running = new Map<string, RunningCall>();
  private readonly idle: HelperThread[] = [];
  private isStopped = false;
  private nextId = 1;

  constructor(options: {
    startThread: () => HelperThread;
    deadlineMs?: number;
    setTimer?: SetTimer;
  }) {
    this.startThread = options.startThread;
    this.deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    this.setTimer = options.setTimer ?? setRealTimer;
  }

  /** How many threads are in a call that missed its deadline. */
  get stuckCount(): number {
    return this.countPace("stuck");
  }

  call<K extends HelperCallKind>(
    call: HelperCallOf<K>,
    options: CallOptions<K>,
  ): Promise<HelperResult<K>> {
    const { promise, resolve } = Promise.withResolvers<HelperResult<K>>();
    const asked: AskedCall = {
      call,
      key: options.key,
      deadlineMs: options.deadlineMs ?? this.deadlineMs,
      isOwed: options.isOwed === true,
      // A helper answers with the value of the call's own kind: that is the protocol.
      onEnd: (options.onEnd ?? (() => {})) as AskedCall["onEnd"],
      answer: resolve as AskedCall["answer"],
    };
    const before = this.running.get(asked.key);
    if (options.isImpatient === true && this.isBusy(asked.key)) {
      refuse(asked, before?.pace === "stuck" ? stillStuck(asked.key) : keyBusy(asked.key));
      return promise;
    }
    this.waiting.push(asked);
    if (before?.pace === "stuck") this.refuseWaiting(stillStuck, asked.key);
    this.runWaiting();
    return promise;
  }

  /** Ends the threads that have nothing to do, now and later. Stuck ones end with the process. */
  stop(): void {
    this.isStopped = true;
    this.trimIdle();
  }

  private isBusy(key: string): boolean {
    return this.running.has(key) || this.waiting.some((asked) => asked.key === key);
  }

  private runWaiting(): void {
    for (let index = 0; index < this.waiting.length; ) {
      const asked = this.waiting[index]!;
      if (this.running.has(asked.key)) {
        index += 1;
        continue;
      }
      const thread = this.takeThread();
      if (thread === null) break;
      this.waiting.splice(index, 1);
      this.run(asked, thread);
    }
    if (this.stuckCount >= THREADS_MAX) this.refuseWaiting(allStuck, null);
  }

  private takeThread(): HelperThread | null {
    const idle = this.idle.pop();
    if (idle !== undefined) return idle;
    const isRoom = this.running.size < THREADS_MAX && this.countPace("quick") < QUICK_MAX;
    if (!isRoom) return null;
    const thread = this.startThread();
    thread.onReply((reply) => this.receive(thread, reply));
    thread.onEnd((why) => this.lose(thread, why));
    return thread;
  }

  private run(asked: AskedCall, thread: HelperThread): void {
    const id = this.nextId;
    this.nextId += 1;
    const running: RunningCall = { asked, id, thread, pace: "quick", cancelTimer: () => {} };
    const slowMs = Math.min(SLOW_MS, asked.deadlineMs);
    running.cancelTimer = this.setTimer(slowMs, () => this.markSlow(running, slowMs));
    this.running.set(asked.key, running);
    thread.post({ id, call: asked.call });
  }

  private markSlow(running: RunningCall, afterMs: number): void {
    const { asked } = running;
    running.pace = "slow";
    running.cancelTimer = this.setTimer(asked.deadlineMs - afterMs, () => this.markStuck(running));
    this.runWaiting();
  }

  private markStuck(running: RunningCall): void {
    const { asked } = running;
    running.pace = "stuck";
    asked.answer(err(missedDeadline(asked.key, asked.deadlineMs)));
    this.refuseWaiting(stillStuck, asked.key);
    this.runWaiting();
  }

  private receive(thread: HelperThread, reply: HelperReply): void {
    const running = this.runningOn(thread);
    assert(running?.id === reply.id, "a helper answers the call that it was given");
    this.idle.push(thread);
    this.settle(running, reply.result);
    this.trimIdle();
  }

  private lose(thread: HelperThread, why: string): void {
    const place = this.idle.indexOf(thread);
    if (place >= 0) this.idle.splice(place, 1);
    const running = this.runningOn(thread);
    if (running !== undefined) this.settle(running, err(threadEnded(running.asked.key, why)));
  }

  private settle(running: RunningCall, result: HelperResult): void {
    const { asked, pace } = running;
    running.cancelTimer();
    this.running.delete(asked.key);
    asked.onEnd(result, pace === "stuck");
    asked.answer(result);
    this.runWaiting();
  }

  /** Answers those that wait (of one key; null: all). What is owed stays in the queue. */
  private refuseWaiting(reason: (key: string) => CommandError, key: string | null): void {
    const isMeant = (asked: AskedCall) => key === null || asked.key === key;
    const refused = this.waiting.filter(isMeant);
    const kept = this.waiting.filter((asked) => asked.isOwed || !isMeant(asked));
    this.waiting.splice(0, this.waiting.length, ...kept);
    for (const asked of refused) {
      if (asked.isOwed) asked.answer(err(reason(asked.key)));
      else refuse(asked, reason(asked.key));
    }
  }

  private trimIdle(): void {
    const keep = this.isStopped ? 0 : IDLE_MAX;
    for (const thread of this.idle.splice(keep)) thread.terminate();
  }

  private runningOn(thread: HelperThread): RunningCall | undefined {
    for (const running of this.running.values()) if (running.thread === thread) return running;
    return undefined;
  }

  private countPace(pace: RunningCall["pace"]): number {
    let count = 0;
    for (const running of this.running.values()) if (running.pace === pace) count += 1;
    return count;
  }
}

function setRealTimer(afterMs: number, run: () => void): () => void {
  const timer = setTimeout(run, afterMs);
  return () => clearTimeout(timer);
}

function refuse(asked: AskedCall, error: CommandError): void {
  asked.onEnd(err(error), false);
  asked.answer(err(error));
}

function missedDeadline(path: string, deadlineMs: number): CommandError {
  const detail = `${path} did not answer within ${deadlineMs / 1000} s; check the drive and its cable`;
  return { kind: "io", code: "drive-timeout", detail };
}

function stillStuck(path: string): CommandError {
  const detail = `${path} still does not answer what it was asked before; check the drive and its cable`;
  return { kind: "io", code: "drive-timeout", detail };
}

function keyBusy(path: string): CommandError {
  return { kind: "busy", code: "drive-busy", detail: `${path} has something to do; try again` };
}

function allStuck(path: string): CommandError {
  const detail = `${path} was not touched: ${THREADS_MAX} other drives do not answer; remove those first`;
  return { kind: "io", code: "drives-stuck", detail };
}

function threadEnded(path: string, why: string): CommandError {
  const detail = `${path} could not be worked on: a thread of parityd ended (${why}); try again`;
  return { kind: "io", code: "helper-ended", detail };
}
