/** What the drives of an array say now, before a start that was asked for goes by it. */
import type { Drive } from "../drives/drive.ts";
import type { ArrayRecord } from "../record.ts";
import type { Registry } from "../registry.ts";

/**
 * Reads what the drives say now: what a run that failed had in memory is no authority. A drive that
 * cannot be read is left out; the answer is not null when none can.
 */
export async function readAgain(registry: Registry, record: ArrayRecord): Promise<string | null> {
  const drives = registry.drivesOf(record.uuid);
  // Order: what one still owes may say that another host has it, which is of before, too.
  const haveAnswered = await Promise.all(
    drives.map((drive) => drive.hasAnswered(registry.context)),
  );
  const failures = await Promise.all(
    drives.map((drive, index) => {
      if (haveAnswered[index] === true) return readOneAgain(registry, drive);
      // It would not answer; and what it owes must not land on what is written from now on. What
      // it told of a fence is of before: whether that still stands the others say.
      drive.isUnreadable = true;
      drive.hasToldFence = false;
      return `Requests of before are still outstanding on drive ${drive.name}.`;
    }),
  );
  return failures.every((failure) => failure !== null) ? (failures.at(-1) ?? "") : null;
}

/** Why it cannot be read, or null. */
async function readOneAgain(registry: Registry, drive: Drive): Promise<string | null> {
  const before = drive.probe;
  const probed = await registry.probe(drive);
  drive.isUnreadable = !probed.ok;
  if (probed.ok) return null;
  drive.carryAgain(before);
  return probed.error.detail;
}
