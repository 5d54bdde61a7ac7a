/** The state of an array, with how bad that is. */
import type { Health } from "../../appliance/findings.ts";

export function StateBadge({ state, health }: { readonly state: string; readonly health: Health }) {
  return <span class={`badge ${health}`}>{state}</span>;
}
