/**
 * The consistency policies that the engine runs, for tests of the whole program that go through
 * every policy. A policy joins the list when arrays with it can be made and started.
 */
import type { ConsistencyPolicy } from "../../src/md/create.ts";

export const POLICIES: readonly ConsistencyPolicy[] = ["resync", "bitmap", "ppl"];

export function runs(policy: ConsistencyPolicy): boolean {
  return POLICIES.includes(policy);
}
