/**
 * Who holds payload memory that others wait for, and does not move: such a client is dropped, so
 * that one that reads no replies stops nobody else.
 *
 * All clients are sampled from the moment that somebody waits, and looked at again a timeout later.
 * Where the head of the queue has moved on meanwhile, memory goes round and nobody is to blame.
 */
import type { Timers } from "../reactor/timers.ts";
import type { NbdLimits } from "./limits.ts";
import type { PayloadGate } from "./payload-gate.ts";
import type { Session } from "./session.ts";

export class StallWatch {
  private readonly gate: PayloadGate;
  private readonly timers: Timers;
  private readonly limits: NbdLimits;
  private readonly sessions: readonly Session[];
  private timer = 0;
  private sampledGrants = 0;

  constructor(options: {
    gate: PayloadGate;
    timers: Timers;
    limits: NbdLimits;
    /** Of the server, which adds to them. */
    sessions: readonly Session[];
  }) {
    this.gate = options.gate;
    this.timers = options.timers;
    this.limits = options.limits;
    this.sessions = options.sessions;
  }

  /** Once a turn. */
  turn(): void {
    if (this.gate.waiting === 0 || this.timer !== 0) return;
    this.sampleClients();
    this.timer = this.timers.scheduleAfter(this.limits.stallTimeoutMs, () => {
      this.timer = 0;
      if (this.gate.waiting > 0 && this.gate.grants === this.sampledGrants) this.dropStalled();
    });
  }

  private sampleClients(): void {
    this.sampledGrants = this.gate.grants;
    for (const session of this.sessions) {
      session.sampledBytes = session.movedBytes;
      session.wasHolding = session.isHolding;
    }
  }

  private dropStalled(): void {
    for (const session of this.sessions) {
      if (!session.wasHolding || !session.isHolding) continue;
      if (session.movedBytes - session.sampledBytes >= this.limits.minStallBytes) continue;
      if (!this.gate.hasOthersWaiting(session.index)) continue;
      session.close("it held payload memory that others wait for, and did not move");
    }
  }
}
