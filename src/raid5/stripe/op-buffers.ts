/** The buffers of stripe operations: all that one needs at once, or nothing. */
import type { BufferPool } from "../../block/pool.ts";
import type { StripeOps } from "./ops.ts";

export class OpBuffers {
  private readonly ops: StripeOps;
  private readonly pool: BufferPool;

  constructor({ ops, pool }: { ops: StripeOps; pool: BufferPool }) {
    this.ops = ops;
    this.pool = pool;
  }

  /** False: there is no memory for them now. */
  reserve(op: number): boolean {
    const bytes = this.ops.bufferBytes[op]!;
    if (bytes === 0) return true;
    const address = this.pool.allocate(bytes);
    if (address === 0) return false;
    this.ops.bufferAddress[op] = address;
    return true;
  }

  free(op: number): void {
    const bytes = this.ops.bufferBytes[op]!;
    if (bytes > 0) this.pool.free(this.ops.bufferAddress[op]!, bytes);
    this.ops.bufferBytes[op] = 0;
  }
}
