/** The real clocks, and the real randomness, of the process. */
import type { Clock } from "../base/clock.ts";
import type { Random } from "../base/random.ts";

export const linuxClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
};

/** Random numbers of the operating system, fetched by the kilobyte. */
export class LinuxRandom implements Random {
  private readonly values = new Uint32Array(1024);
  private next = 1024;

  nextU32(): number {
    if (this.next === this.values.length) {
      crypto.getRandomValues(this.values);
      this.next = 0;
    }
    const value = this.values[this.next]!;
    this.next += 1;
    return value;
  }
}
