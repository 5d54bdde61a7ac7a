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
import type { FailureRecords } from "./unrecorded-failures.ts";

/** Called with true when everything written before the request is durable. */
export type FlushWaiter = (isDurable: boolean) => void;

interface FlusherParts {
  readonly environment: Pick<EngineEnvironment, "table">;
  readonly members: MemberSet;
  readonly memberIo: MemberIo;
  readonly records: FailureRecords;
}

export class Flusher {
  private readonly parts: FlusherParts;
  private readonly user: IoUser;
  private waiting: FlushWaiter[] = [];
  private current: FlushWaiter[] = [];
  private isRunning = false;
  /** Flushes of the round that have not been answered. */
  private pending = 0;

  constructor(parts: FlusherParts) {
    this.parts = parts;
    // What failed has cost its member: the end of the round asks who is left.
    this.user = parts.memberIo.register(Content.data, () => {
      assert(this.isRunning && this.pending > 0, "a flush of the round is answered once");
      this.pending -= 1;
    });
  }

  get isBusy(): boolean {
    return this.isRunning || this.waiting.length > 0;
  }

  /** A round can begin or end in the next turn. */
  get isDue(): boolean {
    const { environment, members, records } = this.parts;
    if (this.isRunning) return this.pending === 0 && !records.isPending;
    // One for each member, and for the target of one that is copied.
    return this.waiting.length > 0 && environment.table.available > members.memberCount;
  }

  request(waiter: FlushWaiter): void {
    this.waiting.push(waiter);
  }

  /** Once a turn, after all completions: begins and ends rounds. */
  turn(): void {
    if (!this.isRunning && this.isDue) this.begin();
    if (this.isRunning && this.isDue) this.end();
  }

  private begin(): void {
    assert(this.pending === 0, "one round of flushes is under way at a time");
    const { members, memberIo } = this.parts;
    this.isRunning = true;
    this.current = this.waiting;
    this.waiting = [];
    for (let role = 0; role < members.memberCount; role += 1) {
      if (!members.isPresent(role) || members.needsFlush[role] === 0) continue;
      this.pending += 1;
      const isStarted = memberIo.flush(this.user, role);
      assert(isStarted, "there is a request for each member");
    }
  }

  /** All its flushes have come back, and no failure waits to be recorded. */
  private end(): void {
    assert(this.pending === 0, "a round ends when all its flushes have been answered");
    const finished = this.current;
    this.current = [];
    this.isRunning = false;
    const isDurable = !this.parts.members.isFailed;
    for (const waiter of finished) waiter(isDurable);
  }
}
