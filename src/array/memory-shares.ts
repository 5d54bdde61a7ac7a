/**
 * What `--memory-mib` is divided into: the control area, the engine's half of the pool, the
 * payload half (base/memory.ts draws it); and how much it takes for a use of the engine's half.
 */
import { assert } from "../base/assert.ts";
import { CONTROL_BYTES, WASM_PAGE_BYTES } from "../base/memory.ts";
import { MIB, roundDown, roundUp } from "../base/units.ts";
import { SLAB_BYTES, SlabPool } from "../block/pool.ts";

/** What `--memory-mib` takes. */
export const MEMORY_MIB_MIN = 64;
export const MEMORY_MIB_MAX = 4096;

/** Bytes of the pool: the memory asked for is the whole, the control area and a spare page too. */
export function poolBytesOf(memoryMib: number): number {
  return roundDown(memoryMib * MIB - CONTROL_BYTES - WASM_PAGE_BYTES, SLAB_BYTES);
}

/** Cuts the pool area in the engine's half and the payload half. */
export function createPools(poolBytes: number): { enginePool: SlabPool; payloadPool: SlabPool } {
  const slabCount = Math.floor(poolBytes / SLAB_BYTES);
  const engineSlabs = Math.floor(slabCount / 2);
  assert(engineSlabs > 0, "the memory has room for both pools");
  const enginePool = new SlabPool({ startAddress: CONTROL_BYTES, slabCount: engineSlabs });
  const payloadPool = new SlabPool({
    startAddress: CONTROL_BYTES + engineSlabs * SLAB_BYTES,
    slabCount: slabCount - engineSlabs + 1,
  });
  const engineEnd = enginePool.startAddress + enginePool.totalBytes;
  assert(engineEnd === payloadPool.startAddress, "the pools share the memory without a gap");
  return { enginePool, payloadPool };
}

/**
 * What an operator does about a use that may take half of the engine's pool, and takes so many
 * bytes: undefined where it fits.
 */
export function memoryWayOut(enginePool: SlabPool, bytes: number): string | undefined {
  assert(bytes > 0, "a use of the memory takes bytes");
  if (bytes <= enginePool.totalBytes / 2) return undefined;
  const poolBytes = 2 * roundUp(2 * bytes, SLAB_BYTES);
  const mebibytes = Math.ceil((poolBytes + CONTROL_BYTES + WASM_PAGE_BYTES) / MIB);
  return mebibytes <= MEMORY_MIB_MAX
    ? `start the daemon with --memory-mib ${mebibytes} or more`
    : `no --memory-mib is enough (the most is ${MEMORY_MIB_MAX}): run it with Linux`;
}
