/** A clock that stands still until a test moves it. */
import type { Clock } from "../../src/base/clock.ts";
import type { Timers } from "../../src/reactor/timers.ts";

export class ManualClock implements Clock {
  private elapsedMs = 0;

  nowMs(): number {
    return this.elapsedMs;
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.elapsedMs;
  }

  advance(milliseconds: number): void {
    this.elapsedMs += milliseconds;
  }

  /** Moves to the next timer and runs what is due. False when there is no timer. */
  runNextTimer(timers: Timers): boolean {
    const delayMs = timers.nextDelayMs();
    if (delayMs < 0) return false;
    this.advance(delayMs);
    timers.runDue();
    return true;
  }
}
