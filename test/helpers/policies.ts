/** Every consistency policy, for tests of the whole program that go through all of them. */
import type { ConsistencyPolicy } from "../../src/md/create.ts";

export const POLICIES: readonly ConsistencyPolicy[] = ["resync", "bitmap", "ppl"];
