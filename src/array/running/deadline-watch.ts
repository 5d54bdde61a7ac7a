/**
 * Watches for members that do not answer (write-rules 10 and 14).
 *
 * A read that is late is answered from parity, if the array has parity to answer from, and counts
 * against the member (drives/suspicion.ts). After the second in a row, with no good one between,
 * reads go around it (reads-around.ts): a hung drive costs its deadline once, not with each read.
 * Where another member is missing nothing goes around: then all wait, a rebuild too, and go on when
 * it answers.
 *
 * A write or flush that is late fails its member, but only if all the other members answer
 * meanwhile: one controller that resets stalls every drive, and then all wait. After such a stall
 * the drives come back one by one, so that the deadline begins anew with its end. Members that go
 * through the page cache are left alone.
 */
import { assert } from "../../base/assert.ts";
import { Outcome } from "../../block/io-error.ts";
import type { Drive } from "../drives/drive.ts";
import type { ArrayCore, MemberVerdicts } from "./array-core.ts";
import type { ReadsAround } from "./reads-around.ts";

const PERIOD_MS = 500;
/** A member that answers has answered in the last so many milliseconds, or has nothing to. */
const RECENT_MS = 1000;
const LATE_READS_IN_A_ROW_MAX = 1;

export class DeadlineWatch {
  private readonly core: ArrayCore;
  private readonly verdicts: MemberVerdicts;
  private readonly around: ReadsAround;
  private stopLooking: (() => void) | null = null;
  /** When two members were last seen silent for long. */
  private stalledTogetherMs = Number.NEGATIVE_INFINITY;

  constructor(core: ArrayCore, verdicts: MemberVerdicts, around: ReadsAround) {
    this.core = core;
    this.verdicts = verdicts;
    this.around = around;
  }

  start(): void {
    assert(this.stopLooking === null, "a watch is started once");
    this.stopLooking = this.core.context.timers.every(PERIOD_MS, () => this.look());
  }

  stop(): void {
    this.stopLooking?.();
  }

  private look(): void {
    const { core } = this;
    if (core.isFailed) return;
    const { readDeadlineMs, writeDeadlineMs } = core.tuning;
    const isAllowed = this.watchStall(writeDeadlineMs);
    for (const { role, drive } of core.presentMembers()) {
      if (!drive.info.isDirect) continue;
      const writeAgeMs = drive.io.oldestAgeMs("write");
      if (writeAgeMs > writeDeadlineMs && isAllowed && this.isAloneInSilence(drive)) {
        this.verdicts.failMember(
          role,
          `no answer to a write for ${Math.round(writeAgeMs / 1000)} s`,
        );
        return;
      }
      const readAgeMs = drive.io.oldestAgeMs("read");
      if (readAgeMs <= readDeadlineMs || !this.around.canReconstruct) continue;
      if (!this.othersAreAtWork(drive, readAgeMs)) continue;
      drive.io.abandon("read", readDeadlineMs, Outcome.timedOut);
      if (drive.io.counters.readsLateInARow <= LATE_READS_IN_A_ROW_MAX) continue;
      this.around.begin(role, drive, { isHung: true, text: "does not answer" });
    }
  }

  /** Whether the last stall of more than one member is over for as long as the deadline. */
  private watchStall(writeDeadlineMs: number): boolean {
    const { core } = this;
    const nowMs = core.context.clock.nowMs();
    let silentCount = 0;
    for (const { drive } of core.presentMembers()) {
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
  private isAloneInSilence(late: Drive): boolean {
    const { core } = this;
    const sinceMs = core.context.clock.nowMs() - RECENT_MS;
    return this.everyOther(late, (drive) => {
      return waitingMs(drive) === 0 || drive.stats.lastCompletionMs > sinceMs;
    });
  }

  /** Every other member is idle or has completed something in the last `ageMs`. */
  private othersAreAtWork(late: Drive, ageMs: number): boolean {
    const { core } = this;
    const sinceMs = core.context.clock.nowMs() - ageMs;
    return this.everyOther(late, (drive) => {
      return drive.stats.inFlight === 0 || drive.stats.lastCompletionMs > sinceMs;
    });
  }

  private everyOther(late: Drive, holds: (drive: Drive) => boolean): boolean {
    for (const { drive } of this.core.presentMembers()) {
      if (drive === late) continue;
      assert(drive.failure === "", "a member that is there has not failed");
      if (!holds(drive)) return false;
    }
    return true;
  }
}

/** How long the oldest request of a member has waited; what was given up does not count. */
function waitingMs({ io }: Drive): number {
  return Math.max(io.oldestAgeMs("read"), io.oldestAgeMs("write"));
}
