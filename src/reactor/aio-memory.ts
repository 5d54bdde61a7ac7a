/**
 * The arrays that Linux AIO reads and writes, in the control area of the shared memory.
 *
 * | array  | entry                         | entries                            |
 * |--------|-------------------------------|------------------------------------|
 * | iocbs  | 64 bytes, see kernel.ts       | one per slot                       |
 * | iovecs | u64 pointer, u64 bytes        | 16 per slot                        |
 * | list   | u64 pointer to an iocb        | one per slot                       |
 * | events | 32 bytes, see kernel.ts       | 256                                |
 * | zeros  | 64 KiB that nobody writes     | source of plain zeros              |
 *
 * A slot is one iocb with its iovecs. `data` of an iocb is its slot and a generation, so that a
 * completion that does not belong to the slot's present use is found out. Everything the kernel
 * wrote is read with Atomics: the JIT may hoist plain loads out of a loop.
 */
import { assertShared } from "../base/assert.ts";
import type { Carver, SharedMemory } from "../base/memory.ts";
import { KIB } from "../base/units.ts";

export const IOVECS_PER_SLOT = 16;
export const EVENTS_MAX = 256;
export const ZERO_AREA_BYTES = 64 * KIB;

const IOCB_BYTES = 64;
const IOVEC_BYTES = 16;
const EVENT_BYTES = 32;
const TWO_POW_32 = 2 ** 32;

/** aio_lio_opcode (linux/aio_abi.h). */
const IocbCommand = { read: 0, write: 1, dataSync: 3, readv: 7, writev: 8 } as const;
/** Durable when it completes (linux/fs.h). */
const RWF_DSYNC = 2;
const IOCB_FLAG_RESFD = 1;

export class AioMemory {
  readonly slotCount: number;
  readonly eventsAddress: number;
  readonly listAddress: number;
  readonly zeroAddress: number;
  readonly iocbsAddress: number;
  readonly iovecsAddress: number;
  /** Whether transfers that are filled from now on signal the eventfd. A flush always does. */
  isSignalling = true;
  private readonly u32: Uint32Array<ArrayBufferLike>;
  private readonly i32: Int32Array<ArrayBufferLike>;
  private readonly baseAddress: number;
  private readonly eventFd: number;

  constructor(options: {
    memory: SharedMemory;
    carver: Carver;
    baseAddress: number;
    slotCount: number;
    eventFd: number;
  }) {
    const { carver, slotCount } = options;
    this.u32 = options.memory.u32;
    this.i32 = options.memory.i32;
    this.baseAddress = options.baseAddress;
    this.eventFd = options.eventFd;
    this.slotCount = slotCount;
    const carveArray = (count: number, entryBytes: number) =>
      carver.carve({ bytes: count * entryBytes, alignment: 64 });
    this.iocbsAddress = carveArray(slotCount, IOCB_BYTES);
    const firstWord = this.iocbsAddress / 4;
    this.u32.fill(0, firstWord, firstWord + (slotCount * IOCB_BYTES) / 4);
    this.iovecsAddress = carveArray(slotCount * IOVECS_PER_SLOT, IOVEC_BYTES);
    this.listAddress = carveArray(slotCount, 8);
    this.eventsAddress = carveArray(EVENTS_MAX, EVENT_BYTES);
    this.zeroAddress = carver.carve({ bytes: ZERO_AREA_BYTES, alignment: ZERO_AREA_BYTES });
  }

  /** Sets iovec `index` of `slot` to [address, address + bytes). */
  setIovec(slot: number, index: number, address: number, bytes: number): void {
    const word = this.iovecWord(slot, index);
    this.setPointer(word, address);
    this.u32[word + 2] = bytes;
    this.u32[word + 3] = 0;
  }

  /** Lengthens iovec `index` of `slot`: the next buffer follows it in memory. */
  growIovec(slot: number, index: number, bytes: number): void {
    const word = this.iovecWord(slot, index) + 2;
    this.u32[word] = this.u32[word]! + bytes;
  }

  /**
   * Fills the iocb of `slot` for the iovecs that were set: `bytes` at `offset` of `fd`. One iovec
   * goes as a plain read or write, which the kernel takes faster.
   */
  setTransfer(
    slot: number,
    generation: number,
    fd: number,
    isWrite: boolean,
    isDurable: boolean,
    offset: number,
    bytes: number,
    iovecCount: number,
  ): void {
    assertShared(iovecCount >= 1 && iovecCount <= IOVECS_PER_SLOT, "a slot has 1 to 16 iovecs");
    assertShared(this.sumOfIovecs(slot, iovecCount) === bytes, "sum(iov) == bytes");
    const word = this.setHead(slot, generation, fd, this.isSignalling);
    this.u32[word + 3] = isDurable ? RWF_DSYNC : 0;
    if (iovecCount === 1) {
      const iovec = this.iovecWord(slot, 0);
      this.u32[word + 4] = isWrite ? IocbCommand.write : IocbCommand.read;
      this.u32[word + 6] = this.u32[iovec]!;
      this.u32[word + 7] = this.u32[iovec + 1]!;
      this.u32[word + 8] = bytes;
    } else {
      this.u32[word + 4] = isWrite ? IocbCommand.writev : IocbCommand.readv;
      this.setPointer(word + 6, this.iovecsAddress + slot * IOVECS_PER_SLOT * IOVEC_BYTES);
      this.u32[word + 8] = iovecCount;
    }
    this.u32[word + 10] = offset >>> 0;
    this.u32[word + 11] = Math.floor(offset / TWO_POW_32);
  }

  /** Fills the iocb of `slot` for a flush: buf, nbytes, offset and rw_flags have to be 0. */
  setFlush(slot: number, generation: number, fd: number): void {
    const word = this.setHead(slot, generation, fd, true);
    this.u32[word + 4] = IocbCommand.dataSync;
  }

  /** Puts the iocb of `slot` at `index` of the list that is submitted. */
  setListEntry(index: number, slot: number): void {
    this.setPointer(this.listAddress / 4 + index * 2, this.iocbsAddress + slot * IOCB_BYTES);
  }

  eventSlot(index: number): number {
    return this.eventWordAt(index, 0) >>> 0;
  }

  eventGeneration(index: number): number {
    return this.eventWordAt(index, 1) >>> 0;
  }

  /** Bytes moved, or -errno. */
  eventResult(index: number): number {
    return this.eventWordAt(index, 5) * TWO_POW_32 + (this.eventWordAt(index, 4) >>> 0);
  }

  private eventWordAt(index: number, word: number): number {
    return Atomics.load(this.i32, this.eventsAddress / 4 + index * (EVENT_BYTES / 4) + word);
  }

  private setHead(slot: number, generation: number, fd: number, isSignalling: boolean): number {
    const word = (this.iocbsAddress + slot * IOCB_BYTES) / 4;
    // Words 2 (key), 12, 13 (reserved) and 9 (high half of nbytes) stay as they were carved: zero.
    this.u32[word] = slot;
    this.u32[word + 1] = generation;
    this.u32[word + 3] = 0;
    this.u32[word + 5] = fd;
    this.u32[word + 6] = 0;
    this.u32[word + 7] = 0;
    this.u32[word + 8] = 0;
    this.u32[word + 10] = 0;
    this.u32[word + 11] = 0;
    const hasSignal = this.eventFd >= 0 && isSignalling;
    this.u32[word + 14] = hasSignal ? IOCB_FLAG_RESFD : 0;
    this.u32[word + 15] = hasSignal ? this.eventFd : 0;
    return word;
  }

  private sumOfIovecs(slot: number, count: number): number {
    let sum = 0;
    for (let index = 0; index < count; index += 1)
      sum += this.u32[this.iovecWord(slot, index) + 2]!;
    return sum;
  }

  private iovecWord(slot: number, index: number): number {
    return (this.iovecsAddress + (slot * IOVECS_PER_SLOT + index) * IOVEC_BYTES) / 4;
  }

  private setPointer(word: number, address: number): void {
    const pointer = this.baseAddress + address;
    this.u32[word] = pointer >>> 0;
    this.u32[word + 1] = Math.floor(pointer / TWO_POW_32);
  }
}
