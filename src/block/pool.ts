/**
 * The O_DIRECT buffer pool: runs of slabs in the shared memory.
 *
 * A run is contiguous, so that a buffer is one address. The pool is fixed at start. A dry pool
 * answers 0 to who cannot wait, and `take` waits, served in the order of asking where a run fits:
 * back-pressure, never allocation. What is given back goes to those that wait first. There are two
 * pools in a reactor, one for NBD payloads and one for the engine's own buffers (old data, parity),
 * so that neither can starve the other.
 *
 * The lowest run that fits is taken: the same few slabs are used again and again, and are still in
 * the processor's cache. Handed out in turn, each buffer would come from memory.
 *
 * Each run in use has a holder: an array, or everybody else. What an array held that was stopped by
 * a defect of its own is found by that, and given back without asking it.
 */
import { assert, assertShared } from "../base/assert.ts";
import { KIB } from "../base/units.ts";

export const SLAB_BYTES = 64 * KIB;
/** The holder of runs that belong to no array. */
const NOBODY_IN_PARTICULAR = 1;

/** What whoever needs buffers sees of a pool. */
export interface BufferPool {
  readonly totalBytes: number;
  allocate(bytes: number): number;
  /** As soon as there is a run for it that nobody has taken who asked before. */
  take(bytes: number, options?: TakeOptions): Promise<number>;
  free(address: number, bytes: number): void;
}

export interface TakeOptions {
  /** For as long as its array runs: the highest run, so that long runs below are free again. */
  readonly staysLong?: boolean;
}

interface WaitingRun {
  readonly bytes: number;
  readonly staysLong: boolean;
  readonly holder: number;
  readonly resolve: (address: number) => void;
}

export class SlabPool implements BufferPool {
  readonly startAddress: number;
  readonly slabCount: number;
  /** The holder of a slab in use; 0: it is free. */
  private readonly used: Uint16Array;
  /** How many hung requests still have each slab as a target. */
  private readonly pins: Uint16Array;
  /** 1 for a slab that was given back while it was pinned. */
  private readonly orphaned: Uint8Array;
  private freeSlabs: number;
  /** From here on slabs are for `allocateReserved` alone. */
  private reservedFrom: number;
  /** No slab below it is free. */
  private firstFree = 0;
  private readonly listeners: (() => void)[] = [];
  private waiting: WaitingRun[] = [];
  /** By holder, from NOBODY_IN_PARTICULAR on: 1 where it is given. */
  private readonly holders = [0, 1];

  constructor({ startAddress, slabCount }: { startAddress: number; slabCount: number }) {
    this.startAddress = startAddress;
    this.slabCount = slabCount;
    this.used = new Uint16Array(slabCount);
    this.pins = new Uint16Array(slabCount);
    this.orphaned = new Uint8Array(slabCount);
    this.freeSlabs = slabCount;
    this.reservedFrom = slabCount;
  }

  /** Keeps the last `slabs` for `allocateReserved`. Before anything is allocated. */
  reserve(slabs: number): void {
    assert(this.freeSlabs === this.slabCount && slabs < this.slabCount, "the pool is untouched");
    this.reservedFrom = this.slabCount - slabs;
  }

  /** The longest run that `allocate` can ever give. */
  get largestRunBytes(): number {
    return this.reservedFrom * SLAB_BYTES;
  }

  get freeBytes(): number {
    return this.freeSlabs * SLAB_BYTES;
  }

  get totalBytes(): number {
    return this.slabCount * SLAB_BYTES;
  }

  /** Registers a listener that is called after each `free`. */
  onFreed(listener: () => void): void {
    this.listeners.push(listener);
  }

  /** The address of a free run of at least `bytes`, or 0 when there is none now. */
  allocate(bytes: number, holder = NOBODY_IN_PARTICULAR): number {
    const count = Math.ceil(bytes / SLAB_BYTES);
    assert(count >= 1 && count <= this.reservedFrom, "a run fits in the pool");
    if (count > this.freeSlabs) return 0;
    const slab = this.findRun(this.firstFree, this.reservedFrom, count);
    if (slab < 0) return 0;
    if (slab === this.firstFree) this.firstFree = slab + count;
    return this.occupy(slab, count, holder);
  }

  /** As `allocate`, but the highest run: for what stays, so that long runs below are free again. */
  allocateLast(bytes: number, holder = NOBODY_IN_PARTICULAR): number {
    const count = Math.ceil(bytes / SLAB_BYTES);
    assert(count >= 1 && count <= this.reservedFrom, "a run fits in the pool");
    if (count > this.freeSlabs) return 0;
    let length = 0;
    for (let slab = this.reservedFrom - 1; slab >= 0; slab -= 1) {
      length = this.used[slab] !== 0 ? 0 : length + 1;
      if (length === count) return this.occupy(slab, count, holder);
    }
    return 0;
  }

  take(
    bytes: number,
    { staysLong = false }: TakeOptions = {},
    holder = NOBODY_IN_PARTICULAR,
  ): Promise<number> {
    return new Promise((resolve) => {
      this.waiting.push({ bytes, staysLong, holder, resolve });
      this.serveWaiting();
    });
  }

  /**
   * In the order of asking, each that fits. Nobody waits behind a longer run: who has what that one
   * needs may itself be waiting here for a row, and would never give it back.
   */
  private serveWaiting(): void {
    this.waiting = this.waiting.filter(({ bytes, staysLong, holder, resolve }) => {
      const address = staysLong ? this.allocateLast(bytes, holder) : this.allocate(bytes, holder);
      if (address === 0) return true;
      resolve(address);
      return false;
    });
  }

  get hasReserved(): boolean {
    return this.findRun(this.reservedFrom, this.slabCount, 1) >= 0;
  }

  /** As `allocate`, from the reserve. */
  allocateReserved(bytes: number): number {
    const count = Math.ceil(bytes / SLAB_BYTES);
    const slab = this.findRun(this.reservedFrom, this.slabCount, count);
    return slab < 0 ? 0 : this.occupy(slab, count, NOBODY_IN_PARTICULAR);
  }

  private occupy(slab: number, count: number, holder: number): number {
    for (let index = slab; index < slab + count; index += 1) this.used[index] = holder;
    this.freeSlabs -= count;
    return this.startAddress + slab * SLAB_BYTES;
  }

  /** Gives back the run at `address`; `bytes` as it was allocated. */
  free(address: number, bytes: number): void {
    const slab = (address - this.startAddress) / SLAB_BYTES;
    const count = Math.ceil(bytes / SLAB_BYTES);
    assertShared(Number.isInteger(slab) && slab >= 0, "a run starts on a slab");
    assertShared(slab + count <= this.slabCount, "a run ends in the pool");
    for (let index = slab; index < slab + count; index += 1) {
      assertShared(this.used[index] !== 0 && this.orphaned[index] === 0, "a run is freed once");
      if (this.pins[index] === 0) this.release(index);
      else this.orphaned[index] = 1;
    }
    this.notify();
  }

  /** A pool in which everything that is taken is held by one array. */
  share(): PoolShare {
    const free = this.holders.indexOf(0, NOBODY_IN_PARTICULAR);
    const holder = free >= 0 ? free : this.holders.length;
    assertShared(holder <= 0xffff, "holders fit in 16 bits");
    this.holders[holder] = 1;
    return new PoolShare(this, holder);
  }

  /** The holder has nothing any more, and takes nothing any more. */
  endShare(holder: number): void {
    // What it has left, by a mistake, must not be taken for somebody else's.
    if (!this.used.includes(holder)) this.holders[holder] = 0;
  }

  /** The run is nobody's in particular from now on. */
  handOver(address: number, bytes: number): void {
    const [from, to] = this.slabsOf(address, bytes);
    for (let slab = from; slab < to; slab += 1) this.used[slab] = NOBODY_IN_PARTICULAR;
  }

  /**
   * Gives back all that a holder has and nobody will free, which nobody uses any more. Slabs that
   * hung requests may still write to come back as those end: the answer is how many bytes they are.
   */
  reclaim(holder: number): number {
    let keptBytes = 0;
    // Nobody is there to take it.
    this.waiting = this.waiting.filter((waiting) => waiting.holder !== holder);
    for (let slab = 0; slab < this.slabCount; slab += 1) {
      if (this.used[slab] !== holder) continue;
      if (this.orphaned[slab] === 0) {
        if (this.pins[slab] === 0) this.release(slab);
        else this.orphaned[slab] = 1;
      }
      if (this.used[slab] !== 0) keptBytes += SLAB_BYTES;
    }
    this.notify();
    return keptBytes;
  }

  contains(address: number): boolean {
    const end = this.startAddress + this.slabCount * SLAB_BYTES;
    return address >= this.startAddress && address < end;
  }

  /** A hung request may still write here: the slabs are not handed out before `unpin`. */
  pin(address: number, bytes: number): void {
    const [from, to] = this.slabsOf(address, bytes);
    for (let slab = from; slab < to; slab += 1) this.pins[slab]! += 1;
  }

  /** The hung request has ended after all. */
  unpin(address: number, bytes: number): void {
    const [from, to] = this.slabsOf(address, bytes);
    for (let slab = from; slab < to; slab += 1) {
      assertShared(this.pins[slab]! > 0, "a slab is unpinned as often as it was pinned");
      this.pins[slab]! -= 1;
      if (this.pins[slab] !== 0 || this.orphaned[slab] === 0) continue;
      this.orphaned[slab] = 0;
      this.release(slab);
    }
    this.notify();
  }

  private release(slab: number): void {
    this.used[slab] = 0;
    this.freeSlabs += 1;
    if (slab < this.firstFree) this.firstFree = slab;
  }

  private slabsOf(address: number, bytes: number): [number, number] {
    const from = Math.floor((address - this.startAddress) / SLAB_BYTES);
    const to = Math.ceil((address + bytes - this.startAddress) / SLAB_BYTES);
    return [from, to];
  }

  private notify(): void {
    if (this.waiting.length > 0) this.serveWaiting();
    for (const listener of this.listeners) listener();
  }

  /** The first slab of the lowest free run within [from, to), or -1. */
  private findRun(from: number, to: number, count: number): number {
    let length = 0;
    for (let slab = from; slab < to; slab += 1) {
      if (this.used[slab] !== 0) {
        length = 0;
        continue;
      }
      length += 1;
      if (length === count) return slab - count + 1;
    }
    return -1;
  }
}

/** A pool as one array has it. */
export class PoolShare implements BufferPool {
  private readonly pool: SlabPool;
  private readonly holder: number;
  private hasEnded = false;

  constructor(pool: SlabPool, holder: number) {
    this.pool = pool;
    this.holder = holder;
  }

  get totalBytes(): number {
    return this.pool.totalBytes;
  }

  allocate(bytes: number): number {
    return this.hasEnded ? 0 : this.pool.allocate(bytes, this.holder);
  }

  take(bytes: number, options?: TakeOptions): Promise<number> {
    return this.hasEnded ? new Promise(() => {}) : this.pool.take(bytes, options, this.holder);
  }

  /** What wakes up in an array that has broken has nothing to give back: it was reclaimed. */
  free(address: number, bytes: number): void {
    if (!this.hasEnded) this.pool.free(address, bytes);
  }

  /** The run goes to somebody outside the array, who will free it. */
  handOver(address: number, bytes: number): void {
    this.pool.handOver(address, bytes);
  }

  /** See SlabPool.reclaim. There is nothing to be had here any more. */
  reclaim(): number {
    this.hasEnded = true;
    return this.pool.reclaim(this.holder);
  }

  /** The array has ended and has given everything back. */
  end(): void {
    this.pool.endShare(this.holder);
  }
}
