/**
 * Watches the drives that no running array watches (deadline-watch.ts): while they are probed, made
 * members, erased, or their array is just starting. Each request gets an answer, so that a command
 * does, and a stop that waits for the command.
 *
 * | a drive                                | is taken for lost after           |
 * |----------------------------------------|-----------------------------------|
 * | of an array that starts, or a spare    | the array's write deadline        |
 * | any other: nobody relies on it yet     | 30 s, like one that cannot open   |
 *
 * All drives of an array that starts are judged together: where a controller stalls several of
 * them, the start fails, and none is recorded as missing (write-rules 14). What was given up may
 * still land: a drive that owes an answer is not written to by anyone (write-rules 10). Drives that
 * go through the page cache are left alone.
 */
import { Outcome } from "../../block/io-error.ts";
import type { Timers } from "../../reactor/timers.ts";
import type { Drive } from "../drives/drive.ts";
import type { RaidArray } from "../raid-array.ts";
import type { Registry } from "../registry.ts";

const PERIOD_MS = 1_000;
export const LONE_DEADLINE_MS = 30_000;
/** Others of the array that have not answered for so long may be late for the same reason. */
const STALLED_TOGETHER_MS = 1_000;

export class DriveDeadlines {
  private readonly registry: Registry;
  private readonly timers: Timers;

  constructor(registry: Registry, timers: Timers) {
    this.registry = registry;
    this.timers = timers;
    this.wait();
  }

  private wait(): void {
    this.timers.scheduleAfter(PERIOD_MS, () => {
      this.look();
      this.wait();
    });
  }

  private look(): void {
    const { registry } = this;
    const starting = new Set<RaidArray>();
    for (const drive of registry.allDrives()) {
      if (drive.outstanding === 0 || !drive.info.isDirect) continue;
      const running = registry.holderOf(drive)?.running ?? null;
      const deadlineMs = deadlineOf(drive, running);
      if (deadlineMs === null || drive.io.oldestAgeMs("any") <= deadlineMs) continue;
      if (running?.hasStarted === false) starting.add(running);
      else drive.io.abandon("all", deadlineMs, Outcome.memberLost);
    }
    for (const array of starting) {
      for (const drive of array.drives()) {
        const count = drive.io.abandon("all", STALLED_TOGETHER_MS, Outcome.memberLost);
        // The start goes on to other requests: none of them waits for this drive again.
        if (count > 0) drive.io.accepts = "nothing";
      }
    }
  }
}

/** Null: its array watches it. */
function deadlineOf(drive: Drive, running: RaidArray | null): number | null {
  if (running === null) return LONE_DEADLINE_MS;
  const { writeDeadlineMs } = running.tuning;
  if (!running.hasStarted) return running.isNew ? LONE_DEADLINE_MS : writeDeadlineMs;
  const role = running.roleOf(drive);
  if (role >= 0 && running.members.isPresent(role)) return null;
  return running.spares.includes(drive) ? writeDeadlineMs : LONE_DEADLINE_MS;
}
