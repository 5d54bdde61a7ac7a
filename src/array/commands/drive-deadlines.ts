/**
 * Watches the drives that no running array watches (deadline-watch.ts): while they are probed, made
 * members, erased, or their array is just starting. Each request gets an answer, so that a command
 * does, and a stop that waits for the command.
 *
 * | a drive                                | is taken for lost after           |
 * |----------------------------------------|-----------------------------------|
 * | of an array that starts, or a spare    | the array's write deadline        |
 * | that a member is copied to             | the same, but no more than 30 s   |
 * | any other: nobody relies on it yet     | 30 s, like one that cannot open   |
 *
 * All drives of an array that starts are judged together: where a controller stalls several of
 * them, the start fails, and none is recorded as missing (write-rules 14). What was given up may
 * still land: a drive that owes an answer is not written to by anyone (write-rules 10). Drives that
 * go through the page cache are left alone.
 */
import { Outcome } from "../../block/io-error.ts";
import type { Drive } from "../drives/drive.ts";
import type { RaidArray } from "../raid-array.ts";
import type { Registry } from "../registry.ts";

const PERIOD_MS = 1_000;
export const LONE_DEADLINE_MS = 30_000;
/** Others of the array that have not answered for so long may be late for the same reason. */
const STALLED_TOGETHER_MS = 1_000;

/** Looks again and again, for as long as the service lives. */
export function watchLoneDrives(registry: Registry): void {
  registry.context.timers.scheduleAfter(PERIOD_MS, () => {
    look(registry);
    watchLoneDrives(registry);
  });
}

function look(registry: Registry): void {
  const starting = new Set<RaidArray>();
  for (const drive of registry.allDrives()) {
    if (drive.outstanding === 0 || !drive.info.isDirect) continue;
    const running = registry.holderOf(drive)?.running ?? null;
    const deadlineMs = deadlineOf(drive, running);
    if (deadlineMs === null || drive.io.oldestAgeMs("any") <= deadlineMs) continue;
    if (running?.core.hasStarted === false) starting.add(running);
    else drive.io.abandon("all", deadlineMs, Outcome.memberLost);
  }
  for (const array of starting) {
    for (const drive of array.core.roster.drives()) {
      const count = drive.io.abandon("all", STALLED_TOGETHER_MS, Outcome.memberLost);
      // The start goes on to other requests: none of them waits for this drive again.
      if (count > 0) drive.refuseAll();
    }
  }
}

/** Null: its array watches it. */
export function deadlineOf(drive: Drive, running: RaidArray | null): number | null {
  if (running === null) return LONE_DEADLINE_MS;
  const { roster, members, tuning, hasStarted, isNew } = running.core;
  const { writeDeadlineMs } = tuning;
  if (!hasStarted) return isNew ? LONE_DEADLINE_MS : writeDeadlineMs;
  const role = roster.roleOf(drive);
  if (role >= 0 && members.isPresent(role)) return null;
  // Writes of clients wait for it, although nothing is lost with it.
  if (roster.target === drive) return Math.min(writeDeadlineMs, LONE_DEADLINE_MS);
  return roster.isSpare(drive) ? writeDeadlineMs : LONE_DEADLINE_MS;
}
