/** What a connection has received and not used yet: the bytes [start, end) of a fixed buffer. */
import type { SharedMemory } from "../base/memory.ts";

export class ReceiveBuffer {
  readonly capacityBytes: number;
  private readonly memory: SharedMemory;
  private readonly address: number;
  private start = 0;
  private end = 0;

  constructor(options: { memory: SharedMemory; address: number; bytes: number }) {
    this.memory = options.memory;
    this.address = options.address;
    this.capacityBytes = options.bytes;
  }

  /** Bytes that are there to be used, from `readAddress` on. */
  get usedBytes(): number {
    return this.end - this.start;
  }

  get readAddress(): number {
    return this.address + this.start;
  }

  /** Bytes that can be received to `writeAddress`. */
  get roomBytes(): number {
    return this.capacityBytes - this.end;
  }

  get writeAddress(): number {
    return this.address + this.end;
  }

  /** So many bytes were received to `writeAddress`. */
  add(bytes: number): void {
    this.end += bytes;
  }

  /** So many bytes at `readAddress` have been used. */
  consume(bytes: number): void {
    this.start += bytes;
  }

  /** Makes room at the end. */
  compact(): void {
    if (this.start === 0) return;
    if (this.start < this.end) {
      this.memory.bytes.copyWithin(this.address, this.readAddress, this.writeAddress);
    }
    this.end -= this.start;
    this.start = 0;
  }

  clear(): void {
    this.start = 0;
    this.end = 0;
  }
}
