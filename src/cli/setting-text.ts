/** What `parityd array set` has set, in the words of its flags. Pure. */
import type { ArrayStatus } from "../array/protocol.ts";
import { formatBytes } from "../base/units.ts";
import { suspectSettings } from "./suspect-text.ts";

/** Of those settings of a PATCH that are named by `keys`, as they are now; of its size nothing. */
export function settingsText(array: ArrayStatus, keys: readonly string[]): string {
  const has = (key: string): boolean => keys.includes(key);
  const parts: string[] = [];
  if (has("name")) parts.push("this is its name from now on");
  if (has("consistencyPolicy")) parts.push(`policy ${array.consistencyPolicy}`);
  if (has("syncSpeedMin")) parts.push(`sync-min ${rateText(array.syncSpeedMin)}`);
  if (has("syncSpeedMax")) parts.push(`sync-max ${rateText(array.syncSpeedMax)}`);
  if (has("readDeadlineMs")) parts.push(`read-deadline ${array.readDeadlineMs} ms`);
  if (has("writeDeadlineMs")) parts.push(`write-deadline ${array.writeDeadlineMs} ms`);
  const isSuspects = keys.some((key) => key.startsWith("suspect") || key === "replaceSuspects");
  if (isSuspects) parts.push(suspectSettings(array));
  return parts.join("; ");
}

function rateText(bytesPerSecond: number): string {
  return bytesPerSecond === Number.MAX_SAFE_INTEGER ? "none" : `${formatBytes(bytesPerSecond)}/s`;
}
