/**
 * Keeps calls that change the same thing apart: a call holds `array:UUID`, `label:NAME` or
 * `export:NAME` while it runs, and others wait for it.
 */

import { LeaseTable } from "../../array/leases.ts";
import type { CommandError } from "../../array/protocol.ts";
import type { Result } from "../../base/result.ts";
import type { ArrayBook } from "./array-book.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export class CallOrder {
  private readonly leases = new LeaseTable();
  private readonly arrays: ArrayBook;

  constructor(arrays: ArrayBook) {
    this.arrays = arrays;
  }

  /** Whether a call is at work on what a key stands for. */
  isHeld(key: string): boolean {
    return this.leases.holderOf([key]) !== null;
  }

  async holding<T>(keys: readonly string[], work: () => Answer<T>): Answer<T> {
    const lease = (await this.leases.take(keys, "a call"))!;
    try {
      return await work();
    } finally {
      lease.release();
    }
  }

  /** Finds the array that a label or UUID means, and holds it. */
  async withArray<T>(reference: string, work: (uuid: string) => Answer<T>): Answer<T> {
    const found = this.arrays.resolve(reference);
    if (!found.ok) return found;
    return this.holding([`array:${found.value}`], async () => {
      // It may have been forgotten while the call waited.
      const still = this.arrays.resolve(found.value);
      return still.ok ? work(found.value) : still;
    });
  }
}
