/**
 * How long requests took, in buckets whose bounds double: 16 µs, 32 µs, ... 16.8 s, and all above.
 *
 * Counting is one step into a typed array; nothing is allocated. Counts are those of each bucket
 * alone, and never go down.
 */
const FIRST_BOUND_MICROS = 16;
const BOUND_COUNT = 21;

/** The largest time that a bucket takes, in seconds; the last bucket has no bound. */
export const LATENCY_BOUNDS_SECONDS: readonly number[] = Array.from(
  { length: BOUND_COUNT },
  (_, index) => (FIRST_BOUND_MICROS * 2 ** index) / 1e6,
);

/** The counts of all buckets, those without a bound last, and the sum of all times. */
export interface LatencyCounts {
  readonly counts: readonly number[];
  readonly totalMs: number;
}

export class LatencyHistogram {
  private readonly counts = new Float64Array(BOUND_COUNT + 1);
  private totalMs = 0;

  /** `ms` is not negative. */
  note(ms: number): void {
    this.totalMs += ms;
    const multiple = (ms * 1_000) / FIRST_BOUND_MICROS;
    // The smallest n for which 2^n is not below it; what is too large for 32 bits has no bound.
    const bucket =
      multiple < 2 ** BOUND_COUNT ? 32 - Math.clz32(Math.ceil(multiple) - 1) : BOUND_COUNT;
    this.counts[multiple <= 1 ? 0 : Math.min(bucket, BOUND_COUNT)]! += 1;
  }

  read(): LatencyCounts {
    return { counts: [...this.counts], totalMs: this.totalMs };
  }
}
