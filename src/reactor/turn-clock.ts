/**
 * A clock that is read once a turn of the loop: asking it costs nothing in between.
 *
 * A turn waits nowhere but in its poll, and the time is taken anew behind a wait. Outside of turns
 * every call reads the real clock.
 */
import type { Clock } from "../base/clock.ts";

export class TurnClock implements Clock {
  private readonly real: Clock;
  private turnMs = 0;
  private isInTurn = false;

  constructor(real: Clock) {
    this.real = real;
  }

  /** From now on, until `leave`, it is the time that it is now. */
  enter(): void {
    this.turnMs = this.real.nowMs();
    this.isInTurn = true;
  }

  leave(): void {
    this.isInTurn = false;
  }

  nowMs(): number {
    return this.isInTurn ? this.turnMs : this.real.nowMs();
  }

  wallMs(): number {
    return this.real.wallMs();
  }
}
