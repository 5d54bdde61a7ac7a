/**
 * Flushes the members: one round at a time, and whoever asks joins the next round.
 *
 * A flush covers only writes that completed before it was submitted (write-rules 16), so a round
 * that is under way never serves a newcomer. A round goes to each member on which a write has
 * completed since its last flush was submitted. A flush that fails takes its member out of the
 * array; it is never tried again. The round then holds if the array still has enough members and
 * the failure is on record.
 */
import { assert } from "../../base/assert.ts";
import type { EngineEnvironment } from "../environment.ts";
import { Content, type IoUser, type MemberIo } from "./member-io.ts";
import type { MemberSet } from "./member-set.ts";

/** Called with true when everything written before the request is durable. */
export type FlushWaiter = (isDurable: boolean) => void;

export class Flusher {
  private readonly environment: EngineEnvironment;
  private readonly members: MemberSet;
  private readonly memberIo: MemberIo;
  private readonly user: IoUser;
  private waiting: FlushWaiter[] = [];
  private current: FlushWaiter[] = [];
  private isRunning = false;
  private pending = 0;

  constructor(options: {
    environment: EngineEnvironment;
    members: MemberSet;
    memberIo: MemberIo;
  }) {
    this.environment = options.environment;
    this.members = options.members;
    this.memberIo = options.memberIo;
    // What failed has cost its member: the round asks who is left.
    this.user = options.memberIo.register(Content.data, () => this.settle());
  }

  get isBusy(): boolean {
    return this.isRunning || this.waiting.length > 0;
  }

  /** A round can begin or end in the next turn. */
  isDue(isRecordPending: boolean): boolean {
    if (this.isRunning) return this.pending === 0 && !isRecordPending;
    return this.waiting.length > 0 && this.environment.table.available >= this.members.memberCount;
  }

  request(waiter: FlushWaiter): void {
    this.waiting.push(waiter);
  }

  /** Once a turn, after all completions: starts a round when one is due. */
  startDue(): void {
    if (this.isRunning || this.waiting.length === 0) return;
    const { table } = this.environment;
    const { members } = this;
    if (table.available < members.memberCount) return;
    this.isRunning = true;
    this.current = this.waiting;
    this.waiting = [];
    this.pending = 1;
    for (let role = 0; role < members.memberCount; role += 1) {
      if (!members.isPresent(role) || members.needsFlush[role] === 0) continue;
      this.pending += 1;
      const isStarted = this.memberIo.flush(this.user, role);
      assert(isStarted, "there is a request for each member");
    }
    this.settle();
  }

  /** Ends the round when all its flushes have come back and no failure waits to be recorded. */
  settleRecorded(isRecordPending: boolean): void {
    if (!this.isRunning || this.pending > 0 || isRecordPending) return;
    const finished = this.current;
    this.current = [];
    this.isRunning = false;
    const isDurable = !this.members.isFailed;
    for (const waiter of finished) waiter(isDurable);
  }

  private settle(): void {
    assert(this.pending > 0, "a flush of the round is answered once");
    this.pending -= 1;
  }
}
