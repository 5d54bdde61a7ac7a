/**
 * How long requests took: counters on a scale of 128 steps for each power of two, so that a
 * percentile is right to 0.4 % however many requests there were. Below 256 ns each has its own.
 */
import { assert } from "../../src/base/assert.ts";

const STEPS = 128;
const STEP_BITS = 7;
/** Longer ones count as this long: 4.3 s. */
const NANOSECONDS_MAX = 0xffff_ffff;
const COUNTERS = (32 - STEP_BITS + 1) * STEPS;

/** Where this number of nanoseconds is counted. */
function counterOf(nanoseconds: number): number {
  const shift = 31 - STEP_BITS - Math.clz32(nanoseconds);
  return shift <= 0 ? nanoseconds : shift * STEPS + (nanoseconds >>> shift);
}

/** The middle of what is counted there, in nanoseconds. */
function middleOf(counter: number): number {
  if (counter < 2 * STEPS) return counter;
  const shift = Math.floor(counter / STEPS) - 1;
  return (counter - shift * STEPS + 0.5) * 2 ** shift;
}

export class Latencies {
  private readonly counts = new Float64Array(COUNTERS);
  private count = 0;
  private longestNs = 0;

  clear(): void {
    this.counts.fill(0);
    this.count = 0;
    this.longestNs = 0;
  }

  note(nanoseconds: number): void {
    const whole = Math.min(NANOSECONDS_MAX, nanoseconds) >>> 0;
    this.counts[counterOf(whole)]! += 1;
    this.count += 1;
    if (nanoseconds > this.longestNs) this.longestNs = nanoseconds;
  }

  /** Microseconds that this share of the requests did not exceed. */
  percentile(share: number): number {
    assert(this.count > 0, "percentiles are of requests");
    let left = Math.max(1, Math.ceil(share * this.count));
    let counter = 0;
    while (left > this.counts[counter]!) {
      left -= this.counts[counter]!;
      counter += 1;
    }
    return Math.min(middleOf(counter), this.longestNs) / 1_000;
  }

  /** Microseconds of the longest. */
  get longest(): number {
    return this.longestNs / 1_000;
  }
}
