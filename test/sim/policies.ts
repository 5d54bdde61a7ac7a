/**
 * The consistency policies that the simulator and the crash matrix run with: the seed picks one of
 * them, and each crash scenario runs with all.
 */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";

/** All that the array layer can run. */
export const POLICIES: readonly ConsistencyPolicy[] = ["resync", "bitmap", "ppl"];

/** For the names of tests: the plain policy has none. */
export function policySuffix(policy: ConsistencyPolicy): string {
  return policy === "resync" ? "" : `, ${policy}`;
}
