/**
 * Members that have failed and are not on record yet in the superblocks of the others.
 *
 * Order: a failure is durable before any write is acknowledged that its member has missed; with a
 * log or a bitmap before any write begins without it (WritePolicy.waitsForRecord).
 */
import { assert } from "../../base/assert.ts";
import { Signal } from "../../base/signal.ts";

export class FailureRecords {
  private pendingCount = 0;
  private readonly allDone = new Signal();

  get isPending(): boolean {
    return this.pendingCount > 0;
  }

  begin(): void {
    this.pendingCount += 1;
  }

  /** It is on record, or the array has failed. */
  end(): void {
    assert(this.pendingCount > 0, "a record that ends has begun");
    this.pendingCount -= 1;
    if (this.pendingCount === 0) this.allDone.raise();
  }

  /** Until every member that has failed is on record, or the array has failed. */
  untilDone(): Promise<void> {
    return this.allDone.until(() => this.pendingCount === 0);
  }
}
