/**
 * Who logs what it is about to write. A user is a number; with it go the source of its entries, and
 * whoever is told what became of them: stripe operations by their own number, then tickets for work
 * that goes row by row or over whole stripes (ppl-tickets.ts).
 */
import { assert } from "../../base/assert.ts";
import type { PplUnitBuilder } from "../../md/ppl-builder.ts";

export interface PplSource {
  /** Entries and bytes of partial parity that the user adds. */
  entryCount(user: number): number;
  partialParityBytes(user: number): number;
  /** Puts the user's entries into the unit, which has room for them. */
  addEntries(user: number, unit: PplUnitBuilder): void;
}

export interface PplWaiter {
  /** The user's entries are durable: it may write, and is done when it has. */
  logged(user: number): void;
  /** The log is gone, before the user has written anything; it has nothing to be done with. */
  dropped(user: number): void;
  /** The log has no room for the user's entries, which has written nothing and may not. */
  refused(user: number): void;
}

/** The log that a user waits in, or whose unit covers it. */
export interface PplCover {
  readonly role: number;
  /** The user has written what it logged, or will not. */
  done(): void;
}

export class PplUsers {
  readonly capacity: number;
  /** By user. */
  readonly sourceOf: PplSource[];
  readonly waiterOf: PplWaiter[];
  readonly coverOf: (PplCover | null)[];
  private generation = 0;

  constructor(kinds: readonly { count: number; source: PplSource; waiter: PplWaiter }[]) {
    this.sourceOf = kinds.flatMap(({ count, source }) => new Array<PplSource>(count).fill(source));
    this.waiterOf = kinds.flatMap(({ count, waiter }) => new Array<PplWaiter>(count).fill(waiter));
    this.capacity = this.sourceOf.length;
    assert(this.capacity === this.waiterOf.length, "each user has a source and a waiter");
    this.coverOf = new Array<PplCover | null>(this.capacity).fill(null);
  }

  /** The number of the next unit; counts over all logs of the array. */
  nextGeneration(): number {
    this.generation += 1;
    return this.generation;
  }
}
