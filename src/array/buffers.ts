/** Runs of the engine's pool for work that can wait for them. */
import type { BufferPool } from "../block/pool.ts";
import type { Timers } from "../reactor/timers.ts";

const WAIT_MS = 1;

/**
 * The address of `bytes` of the engine's pool, as soon as there are any. `staysLong`: for as long
 * as its array runs.
 */
export async function takeRun(
  { enginePool, timers }: { readonly enginePool: BufferPool; readonly timers: Timers },
  bytes: number,
  { staysLong = false }: { staysLong?: boolean } = {},
): Promise<number> {
  for (;;) {
    const address = staysLong ? enginePool.allocateLast(bytes) : enginePool.allocate(bytes);
    if (address !== 0) return address;
    await timers.sleep(WAIT_MS);
  }
}
