/**
 * Watches for members that do not answer (write-rules 10 and 14).
 *
 * A read that is late is answered from parity, if the array has parity to answer from; the member
 * is suspect, no more. After the second in a row, with no good one between, reads go around it,
 * while it is asked for a row now and then, until it gives one in time: a hung drive costs its
 * deadline once, and not with each read. Where another member is missing nothing goes around: then
 * all wait, a rebuild too, and go on when it answers.
 *
 * A write or flush that is late fails its member, but only if all the other members answer
 * meanwhile: one controller that resets stalls every drive, and then all wait. After such a stall
 * the drives come back one by one, so that the deadline begins anew with its end. Members that go
 * through the page cache are left alone.
 */
import { inBackground } from "../../base/background.ts";
import { ETIMEDOUT } from "../../base/errno.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { Outcome } from "../../block/io-error.ts";
import { SUPERBLOCK_OFFSET_BYTES } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { RaidArray } from "../raid-array.ts";

const PERIOD_MS = 500;
/** A member that answers has answered in the last so many milliseconds, or has nothing to. */
const RECENT_MS = 1000;
const LATE_READS_IN_A_ROW_MAX = 1;
const PROBE_PAUSE_MS = 2000;
/** Each keeps a request and a row until the drive answers it: none may be left one day. */
const PROBES_UNANSWERED_MAX = 16;

export class DeadlineWatch {
  private readonly array: RaidArray;
  private timer = 0;
  private isStopped = false;
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
    this.isStopped = true;
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
      if (drive.io.counters.readsLateInARow > LATE_READS_IN_A_ROW_MAX) this.goAround(role, drive);
    }
  }

  private goAround(role: number, drive: Drive): void {
    const { array } = this;
    if (array.members.avoidedRole >= 0) return;
    array.members.avoidedRole = role;
    const text = `drive ${drive.name} (role ${role}) does not answer: reads go around it`;
    array.emit("io.error", "warning", `${text} until it does`, { drive: drive.name });
    inBackground(this.probe(role, drive), array.guard);
  }

  /** Asks for a row until one comes in time, or the drive has left, or the array is stopped. */
  private async probe(role: number, drive: Drive): Promise<void> {
    const { array } = this;
    const { context, members } = array;
    const epoch = members.epoch[role]!;
    let unanswered = 0;
    let sentMs = 0;
    for (;;) {
      await context.timers.sleep(PROBE_PAUSE_MS);
      const isOver = members.avoidedRole !== role || members.epoch[role] !== epoch;
      if (isOver || this.isStopped) return;
      if (drive.stats.lastCompletionMs > sentMs) unanswered = 0;
      if (unanswered >= PROBES_UNANSWERED_MAX) continue;
      sentMs = context.clock.nowMs();
      if (!(await this.answersInTime(drive))) {
        unanswered += 1;
        continue;
      }
      if (members.avoidedRole !== role || members.epoch[role] !== epoch) return;
      members.avoidedRole = -1;
      const text = `drive ${drive.name} (role ${role}) answers again: it is read from`;
      array.emit("io.error", "info", text, { drive: drive.name });
      return;
    }
  }

  private async answersInTime(drive: Drive): Promise<boolean> {
    const { context, asyncIo, tuning } = this.array;
    const address = await context.enginePool.take(ROW_BYTES);
    const sentMs = context.clock.nowMs();
    const row = { offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES, address };
    const { outcome, errno } = await asyncIo.read(drive.io, row);
    context.enginePool.free(address, ROW_BYTES);
    // An error is an answer: what it means is for the next read to find out.
    const isGivenUp = outcome === Outcome.timedOut || errno === ETIMEDOUT;
    return !isGivenUp && context.clock.nowMs() - sentMs <= tuning.readDeadlineMs;
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
