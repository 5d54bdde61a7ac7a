/** How long requests took: all of a run are kept, for exact percentiles. */
import { assert } from "../../src/base/assert.ts";

const SAMPLES_MAX = 4_000_000;

export class Latencies {
  private readonly micros = new Float32Array(SAMPLES_MAX);
  private count = 0;

  clear(): void {
    this.count = 0;
  }

  note(nanoseconds: number): void {
    assert(this.count < SAMPLES_MAX, "a run has no more requests than there is room for");
    this.micros[this.count] = nanoseconds / 1_000;
    this.count += 1;
  }

  /** Microseconds that this share of the requests did not exceed. */
  percentile(share: number): number {
    assert(this.count > 0, "percentiles are of requests");
    const sorted = this.micros.slice(0, this.count).sort();
    return sorted[Math.min(this.count - 1, Math.ceil(share * this.count) - 1)]!;
  }
}
