/** Time as the control thread's services see it. Handed in, so that a simulation can own it. */
import type { Clock } from "../../base/clock.ts";

export interface Alarms extends Clock {
  /** Calls `callback` once, `delayMs` from now; the answer cancels that. */
  after(delayMs: number, callback: () => void): () => void;
}

export function sleep(alarms: Alarms, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    alarms.after(delayMs, resolve);
  });
}

/** The process's own. They do not keep it alive. */
export const processAlarms: Alarms = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
