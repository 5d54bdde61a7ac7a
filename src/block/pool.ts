/**
 * The O_DIRECT buffer pool: runs of slabs in the shared memory.
 *
 * A run is contiguous, so that a buffer is one address. The pool is fixed at start. A dry pool
 * answers 0, and whoever asked waits for `onFreed`: back-pressure, never allocation. There are two
 * pools in a reactor, one for NBD payloads and one for the engine's own buffers (old data, parity),
 * so that neither can starve the other.
 *
 * The lowest run that fits is taken: the same few slabs are used again and again, and are still in
 * the processor's cache. Handed out in turn, each buffer would come from memory.
 */
import { assert } from "../base/assert.ts";
import { KIB } from "../base/units.ts";

export const SLAB_BYTES = 64 * KIB;

export class SlabPool {
  readonly startAddress: number;
  readonly slabCount: number;
  /** 1 for a slab in use. */
  private readonly used: Uint8Array;
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

  constructor({ startAddress, slabCount }: { startAddress: number; slabCount: number }) {
    this.startAddress = startAddress;
    this.slabCount = slabCount;
    this.used = new Uint8Array(slabCount);
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
  allocate(bytes: number): number {
    const count = Math.ceil(bytes / SLAB_BYTES);
    assert(count >= 1 && count <= this.reservedFrom, "a run fits in the pool");
    if (count > this.freeSlabs) return 0;
    const slab = this.findRun(this.firstFree, this.reservedFrom, count);
    if (slab < 0) return 0;
    if (slab === this.firstFree) this.firstFree = slab + count;
    return this.take(slab, count);
  }

  get hasReserved(): boolean {
    return this.findRun(this.reservedFrom, this.slabCount, 1) >= 0;
  }

  /** As `allocate`, from the reserve. */
  allocateReserved(bytes: number): number {
    const count = Math.ceil(bytes / SLAB_BYTES);
    const slab = this.findRun(this.reservedFrom, this.slabCount, count);
    return slab < 0 ? 0 : this.take(slab, count);
  }

  private take(slab: number, count: number): number {
    for (let index = slab; index < slab + count; index += 1) this.used[index] = 1;
    this.freeSlabs -= count;
    return this.startAddress + slab * SLAB_BYTES;
  }

  /** Gives back the run at `address`; `bytes` as it was allocated. */
  free(address: number, bytes: number): void {
    const slab = (address - this.startAddress) / SLAB_BYTES;
    const count = Math.ceil(bytes / SLAB_BYTES);
    assert(Number.isInteger(slab) && slab >= 0, "a run starts on a slab");
    assert(slab + count <= this.slabCount, "a run ends in the pool");
    for (let index = slab; index < slab + count; index += 1) {
      assert(this.used[index] === 1 && this.orphaned[index] === 0, "a run is freed once");
      if (this.pins[index] === 0) this.release(index);
      else this.orphaned[index] = 1;
    }
    this.notify();
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
      assert(this.pins[slab]! > 0, "a slab is unpinned as often as it was pinned");
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
    for (const listener of this.listeners) listener();
  }

  /** The first slab of the lowest free run within [from, to), or -1. */
  private findRun(from: number, to: number, count: number): number {
    let length = 0;
    for (let slab = from; slab < to; slab += 1) {
      if (this.used[slab] === 1) {
        length = 0;
        continue;
      }
      length += 1;
      if (length === count) return slab - count + 1;
    }
    return -1;
  }
}
