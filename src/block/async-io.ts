/**
 * I/O of a drive for the slow path, one request as a promise: superblocks, probes and the like.
 * Never for clients' data: what an engine moves goes through raid5/members/member-io.ts.
 */
import { assert } from "../base/assert.ts";
import { EIO } from "../base/errno.ts";
import type { IoTable, OpCode } from "../reactor/io-table.ts";
import { Op } from "../reactor/io-table.ts";
import { Outcome, type OutcomeCode } from "./io-error.ts";
import type { OutcomeRegistrar } from "./outcome-router.ts";
import type { RetryFilter } from "./retry-filter.ts";

export interface IoAnswer {
  readonly outcome: OutcomeCode;
  /** Positive; 0 when done. */
  readonly errno: number;
}

type IoWaiter = (outcome: OutcomeCode, errno: number) => void;

const REFUSED: IoAnswer = { outcome: Outcome.memberLost, errno: EIO };

export class AsyncIo {
  private readonly table: IoTable;
  private readonly owner: number;
  /**
   * Who takes the answer, by the number that the request had when it was started: nobody else gets
   * that number before, even where the request is given up, and answered by another.
   */
  private readonly waiters = new Map<number, IoWaiter>();
  private readonly router: OutcomeRegistrar;
  private state: "open" | "closing" | "sealed" = "open";

  constructor(options: { table: IoTable; router: OutcomeRegistrar }) {
    this.table = options.table;
    this.router = options.router;
    this.owner = options.router.register((request, outcome, errno) => {
      const started = this.table.context[request]!;
      const waiter = this.waiters.get(started);
      assert(waiter !== undefined, "a request is answered once");
      this.waiters.delete(started);
      this.table.free(request);
      if (this.state === "closing") this.leaveWhenIdle();
      waiter(outcome, errno);
    });
  }

  /** What is started from now on is refused; what is under way is still answered. */
  close(): void {
    this.state = "closing";
    this.leaveWhenIdle();
  }

  /** Nothing is started here any more, and nothing answered: whoever asks waits for ever. */
  seal(): void {
    this.state = "sealed";
  }

  private leaveWhenIdle(): void {
    if (this.waiters.size === 0) this.router.unregister(this.owner);
  }

  read(device: RetryFilter, range: Range): Promise<IoAnswer> {
    return this.run(device, Op.read, range, false);
  }

  /**
   * `isFua`: durable when it answers. `onFailed` is told in the reap itself, so that what the failure
   * ends is ended before a turn answers anybody (write-rules 15).
   */
  write(
    device: RetryFilter,
    range: Range,
    { isFua, onFailed }: { isFua: boolean; onFailed?: (answer: IoAnswer) => void },
  ): Promise<IoAnswer> {
    return this.run(device, Op.write, range, isFua, onFailed);
  }

  /** Writes zeros that lie nowhere. */
  writeZeroes(
    device: RetryFilter,
    { offset, bytes }: Omit<Range, "address">,
    { isFua }: { isFua: boolean },
  ): Promise<IoAnswer> {
    return this.run(device, Op.writeZeroes, { offset, bytes, address: 0 }, isFua);
  }

  flush(device: RetryFilter): Promise<IoAnswer> {
    return this.run(device, Op.flush, { offset: 0, bytes: 0, address: 0 }, false);
  }

  private async run(
    device: RetryFilter,
    op: OpCode,
    range: Range,
    isFua: boolean,
    onFailed?: (answer: IoAnswer) => void,
  ): Promise<IoAnswer> {
    let request = -1;
    for (;;) {
      if (this.state === "sealed") return new Promise(() => {});
      if (this.state === "closing") return REFUSED;
      request = this.table.allocate();
      if (request >= 0) break;
      await this.table.untilFreed();
    }
    return new Promise((resolve) => {
      const waiter: IoWaiter = (outcome, errno) => {
        const answer = { outcome, errno };
        if (!isDone(answer)) onFailed?.(answer);
        resolve(answer);
      };
      this.submit(device, request, op, range, isFua, waiter);
    });
  }

  private submit(
    device: RetryFilter,
    request: number,
    op: OpCode,
    { offset, bytes, address }: Range,
    isFua: boolean,
    waiter: IoWaiter,
  ): void {
    const { table } = this;
    table.op[request] = op;
    table.isFua[request] = isFua ? 1 : 0;
    table.offset[request] = offset;
    table.bytes[request] = bytes;
    table.address[request] = address;
    table.owner[request] = this.owner;
    table.context[request] = request;
    assert(!this.waiters.has(request), "a request has one owner");
    this.waiters.set(request, waiter);
    device.submit(request);
  }
}

export interface Range {
  /** Byte offset on the device. */
  readonly offset: number;
  readonly bytes: number;
  /** Where the bytes lie in the shared memory. */
  readonly address: number;
}

export function isDone(answer: IoAnswer): boolean {
  return answer.outcome === Outcome.done;
}
