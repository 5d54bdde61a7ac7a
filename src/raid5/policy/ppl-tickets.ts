/** Users of the partial parity logs that are no stripe operations: each takes a ticket. */
import { assert } from "../../base/assert.ts";
import { ROW_BYTES } from "../../base/units.ts";
import type { PplExtent } from "../../md/ppl.ts";
import type { PplUnitBuilder } from "../../md/ppl-builder.ts";
import type { ParityKernels } from "../../parity/kernels.ts";
import type { PplSource, PplWaiter } from "./ppl-users.ts";

/** Rows that are about to be written outside of a stripe operation's plan. */
export interface LoggedExtent extends PplExtent {
  /** The XOR of the chunks that are not modified; 0 where all are. */
  readonly partialParityAddress: number;
}

/** The largest number of members that work at once on rows and stripes, beside the operations. */
export const TICKETS_MAX = 1088;
/** In place of a user: there is no room in the log. */
export const REFUSED = -1;

interface Waiting {
  readonly extents: readonly LoggedExtent[];
  readonly resolve: (user: number) => void;
}

export class PplTickets implements PplSource, PplWaiter {
  private readonly kernels: ParityKernels;
  private readonly waiting = new Map<number, Waiting>();
  private readonly free: number[] = [];

  /** The tickets are users from `first` on. */
  constructor({ first, kernels }: { first: number; kernels: ParityKernels }) {
    this.kernels = kernels;
    for (let user = first + TICKETS_MAX - 1; user >= first; user -= 1) this.free.push(user);
  }

  /** Resolves with the user when its extents are durable or their log is gone, or with REFUSED. */
  log(extents: readonly LoggedExtent[], enter: (user: number) => void): Promise<number> {
    const user = this.free.pop();
    assert(user !== undefined, "there is a ticket for each that works on rows");
    return new Promise((resolve) => {
      this.waiting.set(user, { extents, resolve });
      enter(user);
    });
  }

  give(user: number): void {
    assert(!this.waiting.has(user), "a ticket is given back when it is answered");
    assert(this.free.length < TICKETS_MAX, "a ticket is given back once");
    this.free.push(user);
  }

  entryCount(user: number): number {
    return this.waiting.get(user)!.extents.length;
  }

  partialParityBytes(user: number): number {
    return this.waiting.get(user)!.extents.reduce((sum, extent) => {
      return sum + (extent.partialParityAddress === 0 ? 0 : extent.rowCount * ROW_BYTES);
    }, 0);
  }

  addEntries(user: number, unit: PplUnitBuilder): void {
    for (const extent of this.waiting.get(user)!.extents) {
      const { partialParityAddress, rowCount } = extent;
      if (partialParityAddress !== 0) {
        const target = unit.partialParityAddress;
        this.kernels.copy(target, partialParityAddress, rowCount * ROW_BYTES);
      }
      unit.addExtent(extent);
    }
  }

  logged(user: number): void {
    this.answer(user, user);
  }

  dropped(user: number): void {
    this.answer(user, user);
  }

  refused(user: number): void {
    this.answer(user, REFUSED);
    this.give(user);
  }

  private answer(user: number, answer: number): void {
    const waiting = this.waiting.get(user);
    assert(waiting !== undefined, "a ticket is answered once");
    this.waiting.delete(user);
    waiting.resolve(answer);
  }
}
