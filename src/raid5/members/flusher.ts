/**
 * Flushes the members: one round at a time, and whoever asks joins the next round.
 *
 * A flush covers only writes that completed before it was submitted (write-rules 16), so a round
 * that is under way never serves a newcomer. A round goes to each member on which a write has
 * completed since its last flush was submitted. A flush that fails takes its member out of the
 * array; it is never tried again. The round then holds if the array still has enough members and
 * the failure is on record.
 */
import { Outcome, type OutcomeCode } from "../../block/io-error.ts";
import { Op } from "../../reactor/io-table.ts";
import type { EngineEnvironment, MemberError } from "../environment.ts";
import type { MemberSet } from "./member-set.ts";

/** Called with true when everything written before the request is durable. */
export type FlushWaiter = (isDurable: boolean) => void;

export class Flusher {
  private readonly environment: EngineEnvironment;
  private readonly members: MemberSet;
  private readonly memberFailed: (error: MemberError) => void;
  private readonly owner: number;
  private waiting: FlushWaiter[] = [];
  private current: FlushWaiter[] = [];
  private isRunning = false;
  private pending = 0;

  constructor(options: {
    environment: EngineEnvironment;
    members: MemberSet;
    memberFailed: (error: MemberError) => void;
  }) {
    this.environment = options.environment;
    this.members = options.members;
    this.memberFailed = options.memberFailed;
    this.owner = options.environment.router.register((request, outcome, errno) =>
      this.onIo(request, outcome, errno),
    );
  }

  get isBusy(): boolean {
    return this.isRunning || this.waiting.length > 0;
  }

  /** A round can begin or end in the next turn. */
  isDue(isRecordPending: boolean): boolean {
    if (this.isRunning) return this.pending === 0 && !isRecordPending;
    return this.waiting.length > 0 && this.environment.table.available >= this.members.memberCount;
  }

  close(): void {
    this.environment.router.unregister(this.owner);
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
      members.needsFlush[role] = 0;
      const request = table.allocate();
      table.op[request] = Op.flush;
      table.isFua[request] = 0;
      table.offset[request] = 0;
      table.bytes[request] = 0;
      table.address[request] = 0;
      table.owner[request] = this.owner;
      table.role[request] = role;
      table.epoch[request] = members.epoch[role]!;
      this.pending += 1;
      members.devices[role]!.submit(request);
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

  private onIo(request: number, outcome: OutcomeCode, errno: number): void {
    const { table } = this.environment;
    const role = table.role[request]!;
    const isCurrent = table.epoch[request] === this.members.epoch[role];
    table.free(request);
    if (outcome !== Outcome.done && isCurrent) {
      this.memberFailed({ role, op: Op.flush, outcome, errno, offset: 0, bytes: 0 });
    }
    this.settle();
  }

  private settle(): void {
    this.pending -= 1;
  }
}
