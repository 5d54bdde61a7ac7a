/**
 * Addresses of JavaScript memory, and memory whose address stays put.
 *
 * `ptr()` of a small typed array is not stable: engines keep up to about 1000 bytes inside the
 * garbage-collected cell and move them when `.buffer` or a view is asked for. So anything that the
 * kernel keeps an address of lies in the shared memory or in an `Arena`, which is one large
 * ArrayBuffer. A typed array may be handed to a call as an argument, because its address is taken
 * in the call itself.
 */
import { ptr } from "bun:ffi";

const PAGE_BYTES = 4096;

/** What a C function takes for a pointer: an address, or an array whose address is taken now. */
export type Address = number | Uint8Array;

/** The address of the first byte of a shared memory. It is page aligned and never changes. */
export function baseAddressOf(memory: WebAssembly.Memory): number {
  return ptr(new Uint8Array(memory.buffer));
}

/** Page-aligned memory for the calls of one thread. */
export class Arena {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly baseAddress: number;

  constructor(bytes: number) {
    const buffer = new ArrayBuffer(bytes + PAGE_BYTES);
    const skipBytes = (PAGE_BYTES - (ptr(new Uint8Array(buffer)) % PAGE_BYTES)) % PAGE_BYTES;
    this.bytes = new Uint8Array(buffer, skipBytes, bytes);
    this.view = new DataView(buffer, skipBytes, bytes);
    this.baseAddress = ptr(this.bytes);
  }
}

/** `text` as a zero-terminated C string, or null where it holds a zero byte itself. */
export function cString(text: string): Uint8Array | null {
  if (text.includes("\0")) return null;
  return new TextEncoder().encode(`${text}\0`);
}
