/**
 * What follows where a member is taken for faulty, with what the reactor does not know: the shared
 * spare that would take its role. Nothing is changed for it.
 */
import type { FailPlan } from "../array/protocol.ts";

export interface FailForecast extends FailPlan {
  /** By the load of now; null: nobody takes the role, or nothing was measured yet. */
  readonly degradedSeconds: number | null;
}

/** `sharedSpare`: who comes where `needsShared`; null: nobody. */
export function failForecast(plan: FailPlan, sharedSpare: string | null): FailForecast {
  const shared = sharedSpare === null ? null : ({ drive: sharedSpare, from: "shared" } as const);
  const spare = plan.spare ?? shared;
  const seconds = plan.rebuild[plan.load]?.seconds ?? null;
  return { ...plan, spare, degradedSeconds: spare === null ? null : seconds };
}

/** Only what runs degraded is given one (spares/pick-spare.ts). */
export function needsShared({ spare, state, degraded }: FailPlan): boolean {
  return spare === null && state === "degraded" && degraded === 1;
}
