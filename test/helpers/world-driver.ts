/**
 * Turns a simulated world for code that runs in real time.
 *
 * Virtual time passes only while somebody waits for an answer of the world: `begin` says so. As
 * long as there is one, a macrotask turns the simulation until it has something to say (`deliver`),
 * and that is heard outside of the turn, so that who hears it may turn the world itself. So a
 * command is carried out in no time, and what runs in the background (a scrub, a rebuild) gets no
 * further than the commands beside it take, until the test turns the world (`world.run`,
 * `world.waitJob`). That makes a job that "is running" one for as long as the test likes.
 *
 * All worlds share one memory: making a driver puts the one before it to rest, for good.
 */
import type { Simulation } from "../sim/world/simulation.ts";

/** Virtual time in which something must be answered: a drive that hangs costs minutes. */
const LIMIT_MS = 3_600_000;

let current: WorldDriver | null = null;

export class WorldDriver {
  private readonly simulation: Simulation;
  private waiting = 0;
  private isDue = false;
  private readonly outbox: (() => void)[] = [];

  constructor(simulation: Simulation) {
    this.simulation = simulation;
    current = this;
  }

  /** Somebody waits for an answer. */
  begin(): void {
    this.waiting += 1;
    this.schedule();
  }

  /** From within a turn: what is to be heard outside of it, in this order. */
  deliver(message: () => void, { isAnswer }: { isAnswer: boolean }): void {
    if (isAnswer) this.waiting -= 1;
    this.outbox.push(message);
    this.schedule();
  }

  /** What was said is heard now. */
  flush(): void {
    for (const message of this.outbox.splice(0)) message();
  }

  private schedule(): void {
    if (this.isDue) return;
    this.isDue = true;
    setImmediate(() => this.turn());
  }

  private turn(): void {
    this.isDue = false;
    if (current !== this) return;
    if (this.waiting > 0 && this.outbox.length === 0) {
      const hasMessage = (): boolean => this.outbox.length > 0;
      this.simulation.runUntil(hasMessage, { limitMs: LIMIT_MS });
    }
    this.flush();
    if (this.waiting > 0) this.schedule();
  }
}
