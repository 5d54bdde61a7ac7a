/** Brings the outcome of a request to the layer that owns it (IoTable.owner). */
import { assertShared } from "../base/assert.ts";
import type { Guard } from "../base/guard.ts";
import type { IoTable } from "../reactor/io-table.ts";
import type { OutcomeCode } from "./io-error.ts";

/** `errno` is positive, or 0 where the outcome is "done". */
export type OutcomeHandler = (request: number, outcome: OutcomeCode, errno: number) => void;

/** Where the layers above say who they are. */
export interface OutcomeRegistrar {
  /** The answer goes into `IoTable.owner` of each request of this owner. */
  register(handler: OutcomeHandler): number;
  /** The owner has no request under way any more. */
  unregister(owner: number): void;
}

export class OutcomeRouter implements OutcomeRegistrar {
  private readonly table: IoTable;
  private readonly handlers: (OutcomeHandler | null)[] = [];
  /** By owner: the guard of its array; null: its handler is not of one array. */
  private readonly guards: (Guard | null)[] = [];

  constructor(table: IoTable) {
    this.table = table;
  }

  register(handler: OutcomeHandler, guard: Guard | null = null): number {
    const free = this.handlers.indexOf(null);
    const owner = free >= 0 ? free : this.handlers.length;
    assertShared(owner < 0xffff, "owners fit in 16 bits");
    this.handlers[owner] = handler;
    this.guards[owner] = guard;
    return owner;
  }

  unregister(owner: number): void {
    this.handlers[owner] = null;
    this.guards[owner] = null;
  }

  /** What registers here is of one array. */
  behind(guard: Guard): OutcomeRegistrar {
    return {
      register: (handler) => this.register(handler, guard),
      unregister: (owner) => this.unregister(owner),
    };
  }

  dispatch(request: number, outcome: OutcomeCode, errno: number): void {
    const owner = this.table.owner[request]!;
    const handler = this.handlers[owner];
    const guard = this.guards[owner];
    assertShared(handler !== null && handler !== undefined, "a request in flight has an owner");
    if (guard === null || guard === undefined) handler(request, outcome, errno);
    // Nobody takes it any more.
    else if (guard.isBroken) this.table.free(request);
    else {
      try {
        handler(request, outcome, errno);
      } catch (error) {
        guard.caught(error);
      }
    }
  }
}
