/** What the dialogs of an array say, from what the API says. Pure. */

import type { FailForecast } from "../../appliance/fail-forecast.ts";
import type { DriveStatus, MemberStatus } from "../../array/statuses.ts";
import { counted } from "../../base/counted.ts";
import { formatSeconds } from "../../base/quantity.ts";
import { formatBytes } from "../../base/units.ts";
import type { Choice } from "../action-spec.ts";

/** The drives that an array may be given. */
export function freeDrives(drives: readonly DriveStatus[]): Choice[] {
  return drives
    .filter(({ state }) => state === "available" || state === "stale" || state === "foreign")
    .map(({ name, path, sizeBytes, state }) => ({
      value: name,
      label: `${name} (${formatBytes(sizeBytes)}, ${path}, ${state})`,
    }));
}

/** What would follow, in sentences. */
export function failLines(plan: FailForecast): string[] {
  const { array, state, degraded, unreadable, meets, spare, degradedSeconds } = plan;
  const lines = [
    `${array} would be ${state}, ${degraded} missing.`,
    unreadable.bytes === 0
      ? "All of it could be read still."
      : `${formatBytes(unreadable.bytes)} of it could not be read then.`,
  ];
  for (const { drive, count, bytes } of meets) {
    lines.push(
      `A rebuild would meet ${counted(count, "bad place")} (${formatBytes(bytes)}) on ${drive}.`,
    );
  }
  if (spare === null) lines.push("No spare stands ready: it would be degraded until there is one.");
  else lines.push(`Drive ${spare.drive} (${spare.from}) would take the role.`);
  if (degradedSeconds !== null) {
    lines.push(`It would be degraded for about ${formatSeconds(degradedSeconds)}.`);
  }
  return lines;
}

/** Whether a member is there, so that it can be failed or replaced. */
export function isThere({ state, drive }: MemberStatus): boolean {
  return drive !== null && (state === "in-sync" || state === "rebuilding");
}
