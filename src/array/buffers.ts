/** Runs of the engine's pool for work that can wait for them. */
import type { ReactorContext } from "./context.ts";

const WAIT_MS = 1;

/** The address of `bytes` of the engine's pool, as soon as there are any. */
export async function takeRun(
  { enginePool, timers }: Pick<ReactorContext, "enginePool" | "timers">,
  bytes: number,
): Promise<number> {
  for (;;) {
    const address = enginePool.allocate(bytes);
    if (address !== 0) return address;
    await timers.sleep(WAIT_MS);
  }
}
