/** Refusals that several commands give. */
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import type { Registry } from "../registry.ts";

export function unknownArray(registry: Registry, array: string): CommandError {
  const known = registry.introducedName(array);
  const detail =
    known === null
      ? `there is no array ${array}`
      : `array ${known} is absent: none of its drives is attached. Connect them; while parityd ` +
        "starts they are still being opened: try again";
  return commandError("not-found", "unknown-array", detail);
}

export function notRunning({ name }: ArrayRecord): CommandError {
  const detail = `array ${name} does not run: start it with POST /v1/arrays/${name}/start`;
  return commandError("conflict", "not-running", detail);
}

export function unknownDrive(name: string): CommandError {
  const detail = `there is no drive ${name}: add it with POST /v1/drives first`;
  return commandError("not-found", "unknown-drive", detail);
}

/** `holder` has it. */
export function driveInUse({ name }: Drive, holder: ArrayRecord): CommandError {
  const detail = `drive ${name} is in use by array ${holder.name}: take another one`;
  return commandError("conflict", "drive-in-use", detail);
}

/** What an array has to do, or is doing, before it can change as a whole; null: nothing. */
export function workInTheWay({ core, synchronizer }: RaidArray): string | null {
  const { name, members, roster } = core;
  if (members.degradedCount > 0) {
    return `array ${name} is degraded: add a drive and let it rebuild first`;
  }
  if (roster.target !== null) {
    return `a member of array ${name} is being replaced: wait for the end of that`;
  }
  const full = roster.seats.flatMap((_, role) =>
    core.engine.rows.parked.hasRole(role) ? (roster.driveAt(role)?.name ?? []) : [],
  );
  if (full.length > 0) {
    return `parity of array ${name} waits for room under drive ${full.join(", ")}: make room first`;
  }
  if (members.resync !== null) return `array ${name} has a resync due: wait for its end`;
  const job = synchronizer.currentJob;
  if (job === null || synchronizer.isYielding) return null;
  return `a ${job.kind} is running (job ${job.id}): wait for it, or cancel it`;
}
