/** Brings the outcome of a request to the layer that owns it (IoTable.owner). */
import { assert } from "../base/assert.ts";
import type { IoTable } from "../reactor/io-table.ts";
import type { OutcomeCode } from "./io-error.ts";

/** `errno` is positive, or 0 where the outcome is "done". */
export type OutcomeHandler = (request: number, outcome: OutcomeCode, errno: number) => void;

export class OutcomeRouter {
  private readonly table: IoTable;
  private readonly handlers: (OutcomeHandler | null)[] = [];

  constructor(table: IoTable) {
    this.table = table;
  }

  /** The answer goes into `IoTable.owner` of each request of this owner. */
  register(handler: OutcomeHandler): number {
    const free = this.handlers.indexOf(null);
    const owner = free >= 0 ? free : this.handlers.length;
    assert(owner < 0xffff, "owners fit in 16 bits");
    this.handlers[owner] = handler;
    return owner;
  }

  /** The owner has no request under way any more. */
  unregister(owner: number): void {
    this.handlers[owner] = null;
  }

  dispatch(request: number, outcome: OutcomeCode, errno: number): void {
    const handler = this.handlers[this.table.owner[request]!];
    assert(handler !== null && handler !== undefined, "a request in flight has an owner");
    handler(request, outcome, errno);
  }
}
