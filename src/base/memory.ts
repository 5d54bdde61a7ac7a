/**
 * The one shared memory, seen by JavaScript, by the wasm kernels and (through its base address)
 * by the Linux kernel.
 *
 * An address in this project is a byte offset in this memory: a plain number below 4 GiB. Only
 * the adapters that call the kernel add the base address.
 *
 *   0                  CONTROL_BYTES                      CONTROL_BYTES + poolBytes
 *   | control area     | pool: engine half | payload half | (see block/pool.ts)
 *
 * The control area holds iocbs, iovecs and event arrays. It is carved once at start and never
 * freed.
 */
import { assert } from "./assert.ts";
import { isPowerOfTwo, MIB, ROW_BYTES, roundUp } from "./units.ts";

export const WASM_PAGE_BYTES = 65_536;

/** Bytes before the pool. */
export const CONTROL_BYTES = 16 * MIB;

export class SharedMemory {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array<ArrayBufferLike>;
  readonly view: DataView;
  readonly i32: Int32Array<ArrayBufferLike>;
  readonly u32: Uint32Array<ArrayBufferLike>;

  constructor(memory: WebAssembly.Memory) {
    this.memory = memory;
    const buffer = memory.buffer;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
  }
}

/**
 * Makes a shared memory with a pool of `poolBytes` behind the control area. One per process:
 * engines give fast bounds checks to only a few.
 */
export function createMemory(poolBytes: number): WebAssembly.Memory {
  // One slab more than the pool: an unaligned request of the largest size spans one row more.
  const pages = Math.ceil((CONTROL_BYTES + poolBytes + WASM_PAGE_BYTES) / WASM_PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** Hands out parts of the control area, for good. */
export class Carver {
  private next: number;
  private readonly end: number;

  /** Carves [start, end). Address 0 is never handed out: it means "none". */
  constructor({ start, end }: { start: number; end: number }) {
    assert(start >= ROW_BYTES, "address 0 stays unused");
    this.next = start;
    this.end = end;
  }

  carve({ bytes, alignment }: { bytes: number; alignment: number }): number {
    assert(isPowerOfTwo(alignment), "alignments are powers of two");
    const address = roundUp(this.next, alignment);
    assert(address + bytes <= this.end, "the control area is large enough");
    this.next = address + bytes;
    return address;
  }
}
