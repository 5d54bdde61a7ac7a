/** Every consistency policy, for tests that go through all of them. */
import type { ConsistencyPolicy } from "../../src/md/create.ts";

export const POLICIES: readonly ConsistencyPolicy[] = ["resync", "bitmap", "ppl"];

/** For the names of tests: the plain policy has none. */
export function policySuffix(policy: ConsistencyPolicy): string {
  return policy === "resync" ? "" : `, ${policy}`;
}
