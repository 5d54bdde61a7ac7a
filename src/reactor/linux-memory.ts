/** Advice to the kernel about the shared memory. */
import { baseAddressOf } from "../../ffi/arena.ts";
import { libc } from "../../ffi/libc.ts";
import { MADVISE_SYSCALL, Madvise } from "../../ffi/structs.ts";

/**
 * Asks for huge pages from `address` to the end: bulk copies then meet few TLB misses. Only advice:
 * where the kernel has none to give, nothing changes.
 */
export function preferHugePages(memory: WebAssembly.Memory, address: number): void {
  const bytes = memory.buffer.byteLength - address;
  const from = baseAddressOf(memory) + address;
  libc.syscall(MADVISE_SYSCALL, from, bytes, Madvise.hugePage, 0, 0);
}
