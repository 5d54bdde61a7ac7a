/**
 * Member I/O for the slow path: one request as a promise. For superblocks, probes and the like;
 * never for array data.
 */
import type { IoTable, OpCode } from "../reactor/io-table.ts";
import { Op } from "../reactor/io-table.ts";
import type { Timers } from "../reactor/timers.ts";
import { Outcome, type OutcomeCode } from "./io-error.ts";
import type { OutcomeRouter } from "./outcome-router.ts";
import type { RetryFilter } from "./retry-filter.ts";

export interface IoAnswer {
  readonly outcome: OutcomeCode;
  /** Positive; 0 when done. */
  readonly errno: number;
}

const FULL_TABLE_RETRY_MS = 1;

export class AsyncIo {
  private readonly table: IoTable;
  private readonly timers: Timers;
  private readonly owner: number;
  private nextTicket = 0;
  /** By ticket (IoTable.context). */
  private readonly waiting = new Map<number, (answer: IoAnswer) => void>();

  constructor(options: { table: IoTable; timers: Timers; router: OutcomeRouter }) {
    this.table = options.table;
    this.timers = options.timers;
    this.owner = options.router.register((request, outcome, errno) => {
      const ticket = this.table.context[request]!;
      const resolve = this.waiting.get(ticket)!;
      this.waiting.delete(ticket);
      this.table.free(request);
      resolve({ outcome, errno });
    });
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

  private async run(
    device: RetryFilter,
    op: OpCode,
    range: Range,
    isFua: boolean,
  ): Promise<IoAnswer> {
    let request = this.table.allocate();
    while (request < 0) {
      await this.timers.sleep(FULL_TABLE_RETRY_MS);
      request = this.table.allocate();
    }
    const { table } = this;
    table.op[request] = op;
    table.isFua[request] = isFua ? 1 : 0;
    table.offset[request] = range.offset;
    table.bytes[request] = range.bytes;
    table.address[request] = range.address;
    table.owner[request] = this.owner;
    const ticket = this.nextTicket;
    this.nextTicket = (ticket + 1) >>> 0;
    table.context[request] = ticket;
    const answer = new Promise<IoAnswer>((resolve) => this.waiting.set(ticket, resolve));
    device.submit(request);
    return answer;
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
