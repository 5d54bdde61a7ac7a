/**
 * XOR, comparison, copy and checksum over the shared memory, by wasm SIMD.
 *
 * Addresses are byte offsets in the shared memory; lists of sources are `Uint32Array`s that the
 * caller keeps, so that a call allocates nothing. Every k from 1 to 16 has a fused kernel, and one
 * takes any k above; each reads every source once: composing k > 8 from two passes would store the
 * first pass over a source when the destination is one, and a comparison would need scratch space.
 */
import { assert } from "../base/assert.ts";
import { WASM_PAGE_BYTES } from "../base/memory.ts";
import { crcTables } from "./crc32c-code.ts";
import {
  GROUP_BYTES,
  kernelFunctions,
  OWN_MEMORY_BYTES,
  SOURCE_LIST_ADDRESS,
  SOURCES_MAX,
} from "./kernel-code.ts";
import { assembleModule } from "./wasm-assembler.ts";

/** Sources of one `xor` or `findMismatch`, at most. */
export const PARITY_SOURCES_MAX = SOURCES_MAX;

/** The granularity of `xor` and `findMismatch`. */
export const PARITY_GROUP_BYTES = GROUP_BYTES;

export interface ParityKernels {
  /**
   * destination = s0 ^ .. ^ s(count-1), count 1..64. The destination may equal any source, and
   * may not overlap one otherwise. `bytes` is a multiple of 128.
   */
  xor(destination: number, sources: Uint32Array, count: number, bytes: number): void;
  /**
   * Offset of the first 128-byte group in which the XOR of all sources, 1..64, is not zero, or
   * -1. `bytes` is a multiple of 128.
   */
  findMismatch(sources: Uint32Array, count: number, bytes: number): number;
  /** Copies as memmove does: any length, alignment and overlap. */
  copy(destination: number, source: number, bytes: number): void;
  /** Fills with the low byte of `value`. */
  fill(destination: number, value: number, bytes: number): void;
  /** Whether all bytes are zero. Any length and alignment. */
  isZero(address: number, bytes: number): boolean;
  /**
   * CRC32C (Castagnoli, reflected) without inversion at either end, as Linux's
   * `crc32c(seed, data)`. md's partial parity log holds `~crc32c(~0, data)`.
   */
  crc32c(seed: number, address: number, bytes: number): number;
}

/**
 * Compiles the kernels for memories of the size of `memory`, whose maximum is its size. The module
 * can be posted to a worker.
 */
export function assembleParityModule(memory: WebAssembly.Memory): WebAssembly.Module {
  return new WebAssembly.Module(assembleParityCode(memory));
}

/** The same before it is compiled. */
export function assembleParityCode(memory: WebAssembly.Memory): Uint8Array<ArrayBuffer> {
  return assembleModule({
    importedPages: memory.buffer.byteLength / WASM_PAGE_BYTES,
    ownPages: Math.ceil(OWN_MEMORY_BYTES / WASM_PAGE_BYTES),
    ownBytes: crcTables(),
    functions: kernelFunctions(),
  });
}

/** What the assembled module exports; numbers become i32. */
interface KernelExports {
  readonly own: WebAssembly.Memory;
  readonly xor: (destination: number, count: number, bytes: number) => void;
  readonly mismatch: (count: number, bytes: number) => number;
  readonly copy: (destination: number, source: number, bytes: number) => void;
  readonly fill: (destination: number, value: number, bytes: number) => void;
  readonly isZero: (address: number, bytes: number) => number;
  readonly crc32c: (seed: number, address: number, bytes: number) => number;
}

class WasmParityKernels implements ParityKernels {
  private readonly kernels: KernelExports;
  private readonly sourceList: Uint32Array;

  constructor(kernels: KernelExports) {
    this.kernels = kernels;
    this.sourceList = new Uint32Array(kernels.own.buffer, SOURCE_LIST_ADDRESS, SOURCES_MAX);
  }

  xor(destination: number, sources: Uint32Array, count: number, bytes: number): void {
    assertOperands(sources, count, bytes);
    if (count === 1) {
      this.kernels.copy(destination, sources[0]!, bytes);
    } else if (bytes > 0) {
      this.list(sources, count);
      this.kernels.xor(destination, count, bytes);
    }
  }

  findMismatch(sources: Uint32Array, count: number, bytes: number): number {
    assertOperands(sources, count, bytes);
    if (bytes === 0) return -1;
    this.list(sources, count);
    return this.kernels.mismatch(count, bytes);
  }

  copy(destination: number, source: number, bytes: number): void {
    this.kernels.copy(destination, source, bytes);
  }

  fill(destination: number, value: number, bytes: number): void {
    this.kernels.fill(destination, value, bytes);
  }

  isZero(address: number, bytes: number): boolean {
    return this.kernels.isZero(address, bytes) !== 0;
  }

  crc32c(seed: number, address: number, bytes: number): number {
    return this.kernels.crc32c(seed, address, bytes) >>> 0;
  }

  private list(sources: Uint32Array, count: number): void {
    for (let index = 0; index < count; index += 1) this.sourceList[index] = sources[index]!;
  }
}

function assertOperands(sources: Uint32Array, count: number, bytes: number): void {
  assert(count >= 1 && count <= SOURCES_MAX, "there are 1 to 64 sources");
  assert(count <= sources.length, "the list holds all sources");
  assert(bytes >= 0 && bytes % GROUP_BYTES === 0, "XOR works on whole 128-byte groups");
}

/** Binds the kernels to `memory`; `module` comes from `assembleParityModule` of this memory. */
export function createParityKernels(
  memory: WebAssembly.Memory,
  module: WebAssembly.Module = assembleParityModule(memory),
): ParityKernels {
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return new WasmParityKernels(instance.exports as unknown as KernelExports);
}
