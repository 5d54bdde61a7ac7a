/**
 * Watches for members that do not answer (write-rules 10 and 14).
 *
 * A read that is late is answered from parity, if the array has parity to answer from; the member
 * is suspect, no more. A write or flush that is late fails its member, but only if all the other
 * members answer meanwhile: one controller that resets stalls every drive, and then all wait. After
 * such a stall the drives come back one by one, so that the deadline begins anew with its end.
 * Members that go through the page cache are left alone.
 */
import { Outcome } from "../block/io-error.ts";
import type { Drive } from "./drive.ts";
import type { RaidArray } from "./raid-array.ts";

const PERIOD_MS = 500;
/** A member that answers has answered in the last so many milliseconds, or has nothing to. */
const RECENT_MS = 1000;

export class DeadlineWatch {
  private readonly array: RaidArray;
  private timer = 0;
  /** When two members were last seen silent for long. */
  private stalledTogetherMs = Number.NEGATIVE_INFINITY;

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
    const isAllowed = this.watchStall(writeDeadlineMs);
    for (const [role, { drive }] of array.roles.entries()) {
      if (drive === null || !array.members.isPresent(role) || !drive.info.isDirect) continue;
      const writeAgeMs = drive.io.oldestAgeMs("write");
      if (writeAgeMs > writeDeadlineMs && isAllowed && this.othersAnswer(drive)) {
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

  /** Whether the last stall of more than one member is over for as long as the deadline. */
  private watchStall(writeDeadlineMs: number): boolean {
    const { array } = this;
    const nowMs = array.context.clock.nowMs();
    let silentCount = 0;
    for (const [role, { drive }] of array.roles.entries()) {
      if (drive === null || !array.members.isPresent(role)) continue;
      const silentMs = Math.min(waitingMs(drive), nowMs - drive.stats.lastCompletionMs);
      if (silentMs > writeDeadlineMs / 2) silentCount += 1;
    }
    if (silentCount > 1) this.stalledTogetherMs = nowMs;
    return nowMs - this.stalledTogetherMs > writeDeadlineMs;
  }

  /**
   * Every other member has nothing to answer, or has just answered. What it answered after the late
   * write was sent proves nothing: the stall of both may have begun a moment later.
   */
  private othersAnswer(late: Drive): boolean {
    const { array } = this;
    const sinceMs = array.context.clock.nowMs() - RECENT_MS;
    return array.roles.every(({ drive }, role) => {
      if (drive === null || drive === late || !array.members.isPresent(role)) return true;
      return waitingMs(drive) === 0 || drive.stats.lastCompletionMs > sinceMs;
    });
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

/** How long the oldest request of a member has waited; what was given up does not count. */
function waitingMs({ io }: Drive): number {
  return Math.max(io.oldestAgeMs("read"), io.oldestAgeMs("write"));
}
