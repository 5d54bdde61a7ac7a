/** Single stripes that jobs hold, and who is told when a job has its stripe. */
import { assert } from "../../base/assert.ts";
import { OpKind, type StripeOps } from "./ops.ts";

export class StripeHolds {
  private readonly ops: StripeOps;
  private readonly enterOp: (op: number) => void;
  private readonly holders = new Map<number, (op: number) => void>();
  /** Holds that have no operation yet. */
  private readonly waiting: { stripe: number; resolve: (op: number) => void }[] = [];

  constructor(ops: StripeOps, enterOp: (op: number) => void) {
    this.ops = ops;
    this.enterOp = enterOp;
  }

  /** Resolves with the operation that holds the stripe. */
  take(stripe: number): Promise<number> {
    return new Promise((resolve) => {
      this.waiting.push({ stripe, resolve });
      this.start();
    });
  }

  /** Also once a turn: operations may have become free. */
  start(): void {
    while (this.waiting.length > 0) {
      const { stripe, resolve } = this.waiting[0]!;
      const op = this.ops.allocate(OpKind.hold, stripe);
      if (op < 0) return;
      this.waiting.shift();
      this.enter(op, resolve);
    }
  }

  /** Queues a job's operation for its stripe. */
  enter(op: number, granted: (op: number) => void): void {
    assert(this.ops.kind[op] === OpKind.hold, "a job's operation holds and does nothing else");
    assert(!this.holders.has(op), "a job's operation waits for its stripe once");
    this.holders.set(op, granted);
    this.enterOp(op);
  }

  /** The operation holds its stripe now. */
  granted(op: number): void {
    const resolve = this.holders.get(op);
    assert(resolve !== undefined, "a job is told once that it has its stripe");
    this.holders.delete(op);
    resolve(op);
  }
}
