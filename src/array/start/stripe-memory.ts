/**
 * Whether the engine's pool can take an array: a stripe that is reconstructed or written whole lies
 * in one run of it, a chunk of each member at a time. Half of the pool may be one stripe; what
 * stays for long (logs, windows of rebuilds) is taken from the pool's end, so that the run is always
 * free again when the work before it is done.
 */
import { assert } from "../../base/assert.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { SlabPool } from "../../block/pool.ts";
import type { Superblock } from "../../md/superblock.ts";
import { memoryWayOut } from "../memory-shares.ts";

/** Why the array has no room in the pool, and what to do; null: it has. */
export function stripeMemoryLacking(
  enginePool: SlabPool,
  { memberCount, chunkSectors }: Pick<Superblock, "memberCount" | "chunkSectors">,
): string | null {
  const chunkBytes = chunkSectors * SECTOR_BYTES;
  assert(memberCount > 0 && chunkBytes > 0, "a stripe has chunks");
  const wayOut = memoryWayOut(enginePool, memberCount * chunkBytes);
  if (wayOut === undefined) return null;
  return (
    `A stripe of the array has ${memberCount} chunks of ${chunkBytes} bytes, more than the memory ` +
    `can take at once: ${wayOut}.`
  );
}
