/**
 * The member that reads go around (write-rules 14), one at a time: parity answers for it in rows
 * that all the others can give (`MemberSet.avoidedRoles`); what is written goes to it as ever. One
 * that hangs takes the place of one that is slow.
 *
 *                       it is late twice in a row (deadline-watch.ts), or
 *                       far slower than its peers (suspicion-watch.ts)
 *     read from ------------------------------------------------------------> gone around
 *         ^                                                                       |
 *         +---- so many probes in a row were fast (drives/suspicion.ts) ----------+
 *
 * Three fast probes bring it back; of one that has to be gone around again within ten minutes twice
 * as many are wanted each time: a drive that is slow under load alone does not come and go with it.
 * A probe is a read of one row, every two seconds, of another stripe each: a drive answers what it
 * has just read from its cache.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { ETIMEDOUT } from "../../base/errno.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { Outcome } from "../../block/io-error.ts";
import type { Drive } from "../drives/drive.ts";
import { judgeProbe, type ProbeVerdict } from "../drives/suspicion.ts";
import type { ArrayCore } from "./array-core.ts";

const PROBE_PAUSE_MS = 2000;
/**
 * Each keeps a request and a row until the drive answers it (write-rules 10): none may be left one
 * day.
 */
const PROBES_UNANSWERED_MAX = 16;
const FAST_PROBES_MIN = 3;
const FAST_PROBES_MAX = 96;
const AGAIN_MS = 600_000;
/** A prime: stripes that lie far apart. */
const STRIPE_STEP = 7919;

export class ReadsAround {
  private readonly core: ArrayCore;
  /** Of the members that are read from; null: nobody reads. */
  slowestPeerMs: number | null = null;
  /** What the last probe said; null: reads go around nobody. */
  private said: ProbeVerdict | null = null;
  private last: { readonly drive: Drive; readonly atMs: number; readonly wanted: number } | null =
    null;
  private probeCount = 0;
  private isStopped = false;

  constructor(core: ArrayCore) {
    this.core = core;
  }

  stop(): void {
    this.isStopped = true;
  }

  /** Of the member in this role; null: reads do not go around it. */
  probeOf(role: number): ProbeVerdict | null {
    return this.core.members.avoidedRole === role ? this.said : null;
  }

  /** Reads go around this member from now on, where all the others can give what it has. */
  begin(
    role: number,
    drive: Drive,
    why: { readonly isHung: boolean; readonly text: string },
  ): void {
    const { members } = this.core;
    const isGoneAround = members.avoidedRole === role;
    // One that hangs costs more than one that is slow.
    const isWorse = why.isHung && !members.isAvoidedHung;
    if (members.avoidedRole >= 0 && !isGoneAround && !isWorse) return;
    assert(this.canReconstruct, "reads go around a member where all the others can give them");
    assert(members.isPresent(role), "who is gone around is a member");
    members.isAvoidedHung = why.isHung || (isGoneAround && members.isAvoidedHung);
    if (isGoneAround) return;
    members.avoidedRole = role;
    this.said = "slow";
    const who = `drive ${drive.name} (role ${role})`;
    const text = `${who} ${why.text}: reads go around it until it answers in time`;
    this.core.emit("io.error", "warning", text, { drive });
    inBackground(this.probe(role, drive), this.core.guard);
  }

  get canReconstruct(): boolean {
    const { members } = this.core;
    return members.degradedCount === 0 && members.resync === null;
  }

  /** Asks for a row until enough come in time, or the drive has left, or the array is stopped. */
  private async probe(role: number, drive: Drive): Promise<void> {
    const { core } = this;
    const { context, members } = core;
    const epoch = members.epoch[role]!;
    const wanted = this.wantedOf(drive);
    let fast = 0;
    let unanswered = 0;
    let sentMs = 0;
    const isOver = (): boolean => members.avoidedRole !== role || members.epoch[role] !== epoch;
    while (fast < wanted) {
      // Polls: a drive that hangs does not say when it is well again.
      await context.timers.sleep(PROBE_PAUSE_MS);
      if (isOver() || this.isStopped) return;
      if (drive.stats.lastCompletionMs > sentMs) unanswered = 0;
      if (unanswered >= PROBES_UNANSWERED_MAX) continue;
      sentMs = context.clock.nowMs();
      const said = await this.ask(role, drive);
      if (isOver()) return;
      this.said = said;
      fast = said === "fast" ? fast + 1 : 0;
      unanswered = said === "slow" ? unanswered + 1 : 0;
      if (said === "fast") members.isAvoidedHung = false;
    }
    members.avoidedRole = -1;
    this.last = { drive, atMs: context.clock.nowMs(), wanted };
    const text = `drive ${drive.name} (role ${role}) answers again in time: it is read from`;
    core.emit("io.error", "info", text, { drive });
  }

  private wantedOf(drive: Drive): number {
    const { last } = this;
    const isAgain = last?.drive === drive && this.core.context.clock.nowMs() - last.atMs < AGAIN_MS;
    return isAgain ? Math.min(FAST_PROBES_MAX, 2 * last.wanted) : FAST_PROBES_MIN;
  }

  private async ask(role: number, drive: Drive): Promise<ProbeVerdict> {
    const { context, asyncIo, tuning, members, geometry } = this.core;
    const address = await context.enginePool.take(ROW_BYTES);
    const stripe = (this.probeCount * STRIPE_STEP) % geometry.stripeCount;
    this.probeCount += 1;
    const offset = members.dataOffset[role]! + stripe * geometry.chunkBytes;
    const sentMs = context.clock.nowMs();
    const { outcome, errno } = await asyncIo.read(drive.io, { offset, bytes: ROW_BYTES, address });
    context.enginePool.free(address, ROW_BYTES);
    // An error is an answer: what it means is for the next read to find out.
    const isGivenUp = outcome === Outcome.timedOut || errno === ETIMEDOUT;
    if (isGivenUp) return "slow";
    return judgeProbe(context.clock.nowMs() - sentMs, {
      readDeadlineMs: tuning.readDeadlineMs,
      latencyFactor: tuning.suspectLatencyFactor,
      slowestPeerMs: this.slowestPeerMs,
    });
  }
}
