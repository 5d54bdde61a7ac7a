/**
 * What a signal means to a program that serves (`serve`, `attach`, `drill`, `ui`).
 *
 *   SIGTERM, SIGINT        stop; again within a second: the same key press; later: leave at once
 *   SIGHUP                 serve: read files again; attach: nothing; drill, ui: stop
 *   SIGUSR1, SIGUSR2, ...  nothing, with one line each: they would end the process dirty
 *
 * A terminal sends Ctrl-C to its whole process group, and npm, sudo and the like relay it to their
 * child once more: two signals of one wish. Leaving at once is dirty, which is safe.
 */
import type { Log } from "../base/log.ts";
import { Exit } from "./exit.ts";
import type { CliHost } from "./host.ts";

const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;
/** Each ends a process that says nothing about it. */
const IGNORED_SIGNALS = [
  ...["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO"],
  "SIGXFSZ",
] as const;
export const SERVED_SIGNALS: readonly string[] = [...STOP_SIGNALS, "SIGHUP", ...IGNORED_SIGNALS];

/** Two stop signals closer than this are one. */
const ONE_WISH_MS = 1_000;

export type HangUp = "read-again" | "ignore" | "stop";
export type SignalStep = "stop" | "leave" | "read-again" | "say-ignored" | "nothing";

/** What each signal leads to, in the order in which they come. Pure. */
export class SignalCourse {
  private readonly hangUp: HangUp;
  private readonly told = new Set<string>();
  private stopAtMs: number | null = null;

  constructor(hangUp: HangUp) {
    this.hangUp = hangUp;
  }

  next(signal: string, nowMs: number): SignalStep {
    if (signal === "SIGHUP" && this.hangUp === "read-again") {
      return this.stopAtMs === null ? "read-again" : "nothing";
    }
    const isStop = signal === "SIGTERM" || signal === "SIGINT";
    if (isStop || (signal === "SIGHUP" && this.hangUp === "stop")) return this.stop(nowMs);
    if (this.told.has(signal)) return "nothing";
    this.told.add(signal);
    return "say-ignored";
  }

  private stop(nowMs: number): SignalStep {
    if (this.stopAtMs === null) {
      this.stopAtMs = nowMs;
      return "stop";
    }
    return nowMs - this.stopAtMs < ONE_WISH_MS ? "nothing" : "leave";
  }
}

export interface Signals {
  /** Resolves at the first signal that stops. */
  readonly stop: Promise<void>;
  /** Sets what SIGHUP reads again; one that came before is made up for. */
  onReadAgain(listener: () => void): void;
}

export function watchSignals(host: CliHost, hangUp: HangUp, log: Log): Signals {
  const course = new SignalCourse(hangUp);
  let readAgain: (() => void) | null = null;
  let wasHungUp = false;
  let markStop: () => void = () => {};
  const stop = new Promise<void>((resolve) => {
    markStop = resolve;
  });
  host.onSignal((signal) => {
    const step = course.next(signal, performance.now());
    if (step === "stop") markStop();
    else if (step === "leave") {
      log.write("error", "left at once, asked a second time: arrays stay dirty, which is safe", {
        signal,
      });
      host.exit(Exit.failed);
    } else if (step === "say-ignored") {
      log.write("info", "a signal that means nothing here is ignored", { signal });
    } else if (step === "read-again") {
      if (readAgain === null) wasHungUp = true;
      else readAgain();
    }
  });
  const onReadAgain = (listener: () => void): void => {
    readAgain = listener;
    if (wasHungUp) listener();
  };
  return { stop, onReadAgain };
}
