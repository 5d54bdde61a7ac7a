/** What a load has done and found so far: phases, sums, failures. */

export interface PhaseRecord {
  readonly name: string;
  seconds: number;
  writesAcknowledged: number;
  bytesVerified: number;
}

/** More of the same says nothing new. */
const FAILURES_MAX = 20;

export class Ledger {
  readonly phases: PhaseRecord[] = [];
  readonly failures: string[] = [];
  bytesWritten = 0;
  bytesVerified = 0;
  writesAcknowledged = 0;
  private current: PhaseRecord | null = null;
  private startedMs = 0;
  private readonly nowMs: () => number;

  constructor(nowMs: () => number) {
    this.nowMs = nowMs;
  }

  /** The phase that runs; null between phases. */
  get phase(): PhaseRecord | null {
    return this.current;
  }

  /** Ends the phase that runs and begins the next. */
  begin(name: string): PhaseRecord {
    this.end();
    this.current = { name, seconds: 0, writesAcknowledged: 0, bytesVerified: 0 };
    this.startedMs = this.nowMs();
    this.phases.push(this.current);
    return this.current;
  }

  end(): void {
    if (this.current !== null) this.current.seconds = (this.nowMs() - this.startedMs) / 1_000;
    this.current = null;
  }

  /** A phase counts a write that was both submitted and acknowledged in it. */
  acknowledged(bytes: number, submittedIn: PhaseRecord | null): void {
    this.writesAcknowledged += 1;
    this.bytesWritten += bytes;
    if (submittedIn !== null && submittedIn === this.current) submittedIn.writesAcknowledged += 1;
  }

  verified(bytes: number): void {
    this.bytesVerified += bytes;
    if (this.current !== null) this.current.bytesVerified += bytes;
  }

  fail(failure: string): void {
    if (this.failures.length < FAILURES_MAX) this.failures.push(failure);
  }
}
