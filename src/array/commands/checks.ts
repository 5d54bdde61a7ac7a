/** What commands of service.ts ask before their first effect, and so do their dry runs. */
import type { Job } from "../jobs.ts";
import type { CommandError, CommandOf } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import type { Registry } from "../registry.ts";

/** Why an array cannot be deleted in this way, or null. */
export function deleteObstacle(
  registry: Registry,
  record: ArrayRecord,
  { zeroSuperblocks }: CommandOf<"delete-array">,
): CommandError | null {
  const held = registry.drivesOf(record.uuid).find((drive) => drive.isShut);
  if (!zeroSuperblocks || held === undefined) return null;
  const detail = `${held.holderText}: leave its superblocks, and those of its fellows, alone`;
  return commandError("conflict", "fenced", detail);
}

export function replaceObstacle({
  drive,
  with: other,
}: CommandOf<"replace-member">): CommandError | null {
  if (drive !== other) return null;
  const detail = `drive ${drive} cannot replace itself: take another one`;
  return commandError("conflict", "drive-in-use", detail);
}

export function scrubObstacle(running: RaidArray): CommandError | null {
  const obstacle = running.synchronizer.obstacleTo("scrub");
  return obstacle === null ? null : commandError("conflict", "scrub-not-possible", obstacle);
}

export function noScrub({ core: { name } }: RaidArray): CommandError {
  return commandError("conflict", "no-scrub", `no scrub of array ${name} is running`);
}

export function unknownJob(id: number): CommandError {
  return commandError("not-found", "unknown-job", `there is no job ${id}`);
}

/** Why a job cannot be cancelled, or null. */
export function cancelObstacle({ id, state, kind }: Job): CommandError | null {
  if (state !== "running" && state !== "paused") {
    return commandError("conflict", "job-ended", `job ${id} has ended: ${state}`);
  }
  if (kind === "resync") {
    const detail = "a resync makes the array safe and cannot be cancelled; stop the array instead";
    return commandError("conflict", "resync-needed", detail);
  }
  if (kind === "reshape") {
    const detail =
      "a reshape cannot be cancelled, as there is no way back; where it has to rest, stop the " +
      "array: it goes on when that starts";
    return commandError("conflict", "reshape-goes-on", detail);
  }
  return null;
}
