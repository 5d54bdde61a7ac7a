/**
 * Member I/O for the slow path: one request as a promise, for superblocks, probes and the like; or
 * several whose answers go to one waiter, for rebuild and scrub. Never for clients' data.
 */
import { EIO } from "../base/errno.ts";
import type { IoTable, OpCode } from "../reactor/io-table.ts";
import { Op } from "../reactor/io-table.ts";
import type { Timers } from "../reactor/timers.ts";
import { Outcome, type OutcomeCode } from "./io-error.ts";
import type { OutcomeRegistrar } from "./outcome-router.ts";
import type { RetryFilter } from "./retry-filter.ts";

export interface IoAnswer {
  readonly outcome: OutcomeCode;
  /** Positive; 0 when done. */
  readonly errno: number;
}

/** Takes the answers of several requests. */
export interface IoWaiter {
  /** `place` is the one that the request was started with. Called in the reap: no promise. */
  answered(place: number, outcome: OutcomeCode, errno: number): void;
}

const REFUSED: IoAnswer = { outcome: Outcome.memberLost, errno: EIO };

export class AsyncIo {
  private readonly table: IoTable;
  private readonly timers: Timers;
  private readonly owner: number;
  /**
   * Who takes the answer, and as which, by the number that the request had when it was started:
   * nobody else gets that number before, even where the request is given up, and answered by
   * another.
   */
  private readonly waiters: (IoWaiter | null)[] = [];
  private readonly places: number[] = [];
  private underWay = 0;
  private readonly router: OutcomeRegistrar;
  private state: "open" | "closing" | "sealed" = "open";

  constructor(options: { table: IoTable; timers: Timers; router: OutcomeRegistrar }) {
    this.table = options.table;
    this.timers = options.timers;
    this.router = options.router;
    this.owner = options.router.register((request, outcome, errno) => {
      const started = this.table.context[request]!;
      const waiter = this.waiters[started]!;
      this.waiters[started] = null;
      this.underWay -= 1;
      this.table.free(request);
      if (this.state === "closing") this.leaveWhenIdle();
      waiter.answered(this.places[started]!, outcome, errno);
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
    if (this.underWay === 0) this.router.unregister(this.owner);
  }

  read(device: RetryFilter, range: Range): Promise<IoAnswer> {
    return this.run(device, Op.read, range, false);
  }

  /** `isFua`: durable when it answers. */
  write(device: RetryFilter, range: Range, { isFua }: { isFua: boolean }): Promise<IoAnswer> {
    return this.run(device, Op.write, range, isFua);
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

  /** Starts a read or write whose answer `waiter` takes. False: the table is full. */
  start(
    device: RetryFilter,
    op: OpCode,
    offset: number,
    bytes: number,
    address: number,
    waiter: IoWaiter,
    place: number,
  ): boolean {
    if (this.state === "sealed") return true;
    if (this.state === "closing") {
      this.timers.scheduleAfter(0, () => waiter.answered(place, REFUSED.outcome, REFUSED.errno));
      return true;
    }
    const request = this.table.allocate();
    if (request < 0) return false;
    this.submit(device, request, op, offset, bytes, address, false, waiter, place);
    return true;
  }

  /** A moment in which requests may become free. */
  waitForRoom(): Promise<void> {
    return this.table.untilFreed();
  }

  private async run(
    device: RetryFilter,
    op: OpCode,
    range: Range,
    isFua: boolean,
  ): Promise<IoAnswer> {
    let request = -1;
    for (;;) {
      if (this.state === "sealed") return new Promise(() => {});
      if (this.state === "closing") return REFUSED;
      request = this.table.allocate();
      if (request >= 0) break;
      await this.waitForRoom();
    }
    return new Promise((resolve) => {
      const waiter: IoWaiter = { answered: (_, outcome, errno) => resolve({ outcome, errno }) };
      const { offset, bytes, address } = range;
      this.submit(device, request, op, offset, bytes, address, isFua, waiter, 0);
    });
  }

  private submit(
    device: RetryFilter,
    request: number,
    op: OpCode,
    offset: number,
    bytes: number,
    address: number,
    isFua: boolean,
    waiter: IoWaiter,
    place: number,
  ): void {
    const { table } = this;
    table.op[request] = op;
    table.isFua[request] = isFua ? 1 : 0;
    table.offset[request] = offset;
    table.bytes[request] = bytes;
    table.address[request] = address;
    table.owner[request] = this.owner;
    table.context[request] = request;
    this.waiters[request] = waiter;
    this.places[request] = place;
    this.underWay += 1;
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
