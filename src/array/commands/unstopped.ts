/** What the stop of the daemon still waits for. */
import type { UnstoppedArray } from "../protocol.ts";
import type { Registry } from "../registry.ts";
import { isSilent } from "./status.ts";

/** The arrays that still run, each with those of its drives that do not answer. */
export function unstoppedArrays(registry: Registry): UnstoppedArray[] {
  const silent = [...registry.allDrives()].filter(isSilent);
  return [...registry.arrays.values()]
    .filter(({ running }) => running !== null)
    .map((record) => ({
      name: record.name,
      uuid: record.uuid,
      // One that it has let go of may still owe what the stop waits for.
      drives: silent
        .filter((drive) => (registry.holderOf(drive) ?? registry.recordOf(drive)) === record)
        .map((drive) => drive.name),
    }));
}
