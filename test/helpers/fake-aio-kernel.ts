/**
 * A Linux AIO kernel in the test's hands, for the logic of the queue.
 *
 * It takes iocbs from the list as the real one does, checks each against the rules of the ABI
 * (alignment, iovec sums, what a flush must not carry), and completes them when the test says so:
 * whole, short, failed, in any order. `submitAnswers` scripts what the next io_submits answer.
 */
import { assert } from "../../src/base/assert.ts";
import type { SharedMemory } from "../../src/base/memory.ts";
import { ROW_BYTES } from "../../src/base/units.ts";
import type { AioKernel } from "../../src/reactor/kernel.ts";

const COMMANDS: Readonly<Record<number, FakeIocb["command"]>> = {
  0: "read",
  1: "write",
  3: "flush",
  7: "read",
  8: "write",
};

export interface FakeIocb {
  readonly command: "read" | "write" | "flush";
  readonly fd: number;
  readonly offset: number;
  readonly bytes: number;
  readonly isDurable: boolean;
  /** Addresses in the shared memory. */
  readonly iovecs: readonly { readonly address: number; readonly bytes: number }[];
  readonly eventFd: number;
  readonly data: bigint;
}

export class FakeAioKernel implements AioKernel {
  readonly baseAddress = 0x7f12_3450_0000;
  /** Taken and not completed, in the order of submission. */
  readonly held: FakeIocb[] = [];
  /** Everything that was ever taken. */
  readonly taken: FakeIocb[] = [];
  /** What the next submits answer: a number of iocbs to take at most, or -errno. */
  readonly submitAnswers: number[] = [];
  submitCount = 0;
  private readonly memory: SharedMemory;
  private readonly events: { iocb: FakeIocb; result: number }[] = [];

  constructor(memory: SharedMemory) {
    this.memory = memory;
  }

  submit(listAddress: number, count: number): number {
    this.submitCount += 1;
    const answer = this.submitAnswers.shift() ?? count;
    if (answer < 0) return answer;
    const taken = Math.min(answer, count);
    for (let index = 0; index < taken; index += 1) {
      const iocb = this.decode(this.address(listAddress + index * 8));
      this.held.push(iocb);
      this.taken.push(iocb);
    }
    return taken;
  }

  get eventCount(): number {
    return this.events.length;
  }

  getEvents(eventsAddress: number, max: number): number {
    const batch = this.events.splice(0, max);
    for (const [index, { iocb, result }] of batch.entries()) {
      const address = eventsAddress + index * 32;
      this.memory.view.setBigUint64(address, iocb.data, true);
      this.memory.view.setBigInt64(address + 16, BigInt(result), true);
    }
    return batch.length;
  }

  /** Completes the oldest held iocb (or `iocb`): in full, or with `result`. */
  complete(result?: number, iocb = this.held[0]): FakeIocb {
    assert(iocb !== undefined, "an iocb is held");
    this.held.splice(this.held.indexOf(iocb), 1);
    this.events.push({ iocb, result: result ?? iocb.bytes });
    return iocb;
  }

  completeAll(): void {
    while (this.held.length > 0) this.complete();
  }

  private decode(iocbAddress: number): FakeIocb {
    const { view } = this.memory;
    const u64 = (at: number) => Number(view.getBigUint64(iocbAddress + at, true));
    const u32 = (at: number) => view.getUint32(iocbAddress + at, true);
    const opcode = view.getUint16(iocbAddress + 16, true);
    const command = COMMANDS[opcode];
    assert(command !== undefined, `opcode ${opcode} is one of AIO's`);
    assert(u32(8) === 0 && u64(48) === 0, "key and reserved fields are zero");
    const isVectored = opcode >= 7;
    if (command === "flush") {
      const isBare = u64(24) === 0 && u64(32) === 0 && u64(40) === 0 && u32(12) === 0;
      assert(isBare, "a flush carries nothing");
    }
    const iovecs = [];
    if (isVectored) {
      for (let index = 0; index < u64(32); index += 1) {
        const at = this.address(iocbAddress + 24) + index * 16;
        const bytes = Number(view.getBigUint64(at + 8, true));
        iovecs.push({ address: this.address(at), bytes });
      }
    } else if (command !== "flush") {
      iovecs.push({ address: this.address(iocbAddress + 24), bytes: u64(32) });
    }
    for (const { address, bytes } of iovecs) {
      assert(address % ROW_BYTES === 0 && bytes % ROW_BYTES === 0, "O_DIRECT wants whole rows");
    }
    return {
      command,
      fd: u32(20),
      offset: u64(40),
      bytes: iovecs.reduce((sum, { bytes }) => sum + bytes, 0),
      isDurable: u32(12) === 2,
      iovecs,
      eventFd: u32(56) === 1 ? u32(60) : -1,
      data: view.getBigUint64(iocbAddress, true),
    };
  }

  /** The pointer stored at `at`, as an address in the shared memory. */
  private address(at: number): number {
    return Number(this.memory.view.getBigUint64(at, true)) - this.baseAddress;
  }
}
