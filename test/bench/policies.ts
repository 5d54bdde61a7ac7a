/**
 * The consistency policies that arrays are measured with. A policy is a parameter of the create:
 * each but resync is held against resync, and the full mode has the engine rows of each.
 */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";

/** What this version can create. */
export const POLICIES: readonly ConsistencyPolicy[] = ["resync", "bitmap", "ppl"];

/** Against resync, on members without a volatile cache; null: shown, no target. */
export interface PolicyTargets {
  readonly stripeWrite: number | null;
  readonly smallWrite: number | null;
  /** As stripeWrite, with a member missing. */
  readonly degradedStripeWrite: number | null;
}

export const POLICY_TARGETS: Readonly<Record<ConsistencyPolicy, PolicyTargets>> = {
  resync: { stripeWrite: 1, smallWrite: 1, degradedStripeWrite: 1 },
  bitmap: { stripeWrite: null, smallWrite: null, degradedStripeWrite: null },
  ppl: { stripeWrite: 0.9, smallWrite: 0.75, degradedStripeWrite: 0.7 },
};
