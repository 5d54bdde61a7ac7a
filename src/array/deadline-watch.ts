/**
 * Watches for members that do not answer (write-rules 10 and 14).
 *
 * A read that is late is answered from parity, if the array has parity to answer from; the member
 * is suspect, no more. A write or flush that is late fails its member, but only if all the other
 * members have answered something since it was sent: one controller that resets stalls every drive,
 * and then all wait. Members that go through the page cache are left alone.
 */
import { Outcome } from "../block/io-error.ts";
import type { Drive } from "./drive.ts";
import type { RaidArray } from "./raid-array.ts";

const PERIOD_MS = 500;

export class DeadlineWatch {
  private readonly array: RaidArray;
  private timer = 0;

  constructor(array: RaidArray) {
    this.array = array;
  }

  start(): void {
    this.timer = this.array.context.timers.scheduleAfter(PERIOD_MS, () => {
      this.look();
      this.start();
    });
  }

  stop(): void {
    this.array.context.timers.cancel(this.timer);
  }

  private look(): void {
    const { array } = this;
    if (array.isFailed) return;
    const { readDeadlineMs, writeDeadlineMs } = array.tuning;
    for (const [role, { drive }] of array.roles.entries()) {
      if (drive === null || !array.members.isPresent(role) || !drive.info.isDirect) continue;
      const writeAgeMs = drive.io.oldestAgeMs("write");
      if (writeAgeMs > writeDeadlineMs && this.othersAnswered(drive, writeAgeMs)) {
        array.failMember(role, `no answer to a write for ${Math.round(writeAgeMs / 1000)} s`);
        return;
      }
      const readAgeMs = drive.io.oldestAgeMs("read");
      if (readAgeMs <= readDeadlineMs || !this.canReconstruct()) continue;
      if (!this.othersAnswered(drive, readAgeMs)) continue;
      drive.io.abandon("read", readDeadlineMs, Outcome.timedOut);
    }
  }

  private canReconstruct(): boolean {
    const { members } = this.array;
    return members.degradedCount === 0 && members.resync === null;
  }

  /** Every other member is idle or has completed something in the last `ageMs`. */
  private othersAnswered(late: Drive, ageMs: number): boolean {
    const { array } = this;
    const sinceMs = array.context.clock.nowMs() - ageMs;
    return array.roles.every(({ drive }, role) => {
      if (drive === null || drive === late || !array.members.isPresent(role)) return true;
      return drive.stats.inFlight === 0 || drive.stats.lastCompletionMs > sinceMs;
    });
  }
}
