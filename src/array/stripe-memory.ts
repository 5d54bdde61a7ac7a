/**
 * Whether the engine's pool can take an array: a stripe that is reconstructed or written whole lies
 * in one run of it, a chunk of each member at a time. Half of the pool may be one stripe; what
 * stays for long (logs, windows of rebuilds) is taken from the pool's end, so that the run is always
 * free again when the work before it is done.
 */
import { MIB, SECTOR_BYTES } from "../base/units.ts";
import type { SlabPool } from "../block/pool.ts";
import type { Superblock } from "../md/superblock.ts";

/** Half of the memory is the engine's, and half of that may be one stripe. */
const POOL_SHARES = 4;
/** The most that `--memory-mib` takes. */
const MEMORY_MIB_MAX = 4096;

/** Why the array has no room in the pool, and what to do; null: it has. */
export function stripeMemoryLacking(
  enginePool: SlabPool,
  { memberCount, chunkSectors }: Pick<Superblock, "memberCount" | "chunkSectors">,
): string | null {
  const chunkBytes = chunkSectors * SECTOR_BYTES;
  const stripeBytes = memberCount * chunkBytes;
  if (stripeBytes <= enginePool.totalBytes / 2) return null;
  const mebibytes = Math.ceil((stripeBytes * POOL_SHARES) / MIB);
  const wayOut =
    mebibytes <= MEMORY_MIB_MAX
      ? `start the daemon with --memory-mib ${mebibytes} or more`
      : `no --memory-mib is enough (the most is ${MEMORY_MIB_MAX}): run it with Linux`;
  return (
    `A stripe of the array has ${memberCount} chunks of ${chunkBytes} bytes, more than the memory ` +
    `can take at once: ${wayOut}.`
  );
}
