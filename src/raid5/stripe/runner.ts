/**
 * Runs stripe operations: plan, reserve buffers, read, compute, write.
 *
 * An operation holds its stripe from `begin` to `release`. Its phases:
 *
 *   begin -> plan -> (waitingMemory) -> reading -> compute -> (waitingPolicy) -> writing
 *             ^                           |                         |               |
 *             +------ a read failed ------+                         |               v
 *             +------ the log or a member was lost -----------------+   (waitingRecord) -> finish
 *             +------ the next unit of the log -------------------------------------+
 *
 * Writes of clients begin at the end of the turn in which they come, or later (arrivals.ts).
 *
 * The consistency policy comes between computing and writing: with `ppl` the partial parity is
 * durable first, and a plan may be carried out in several units (ppl-units.ts); with `bitmap` the
 * stripe's bits are.
 *
 * Memory is taken all at once, after the stripe and before any I/O, and an operation that has both
 * waits for nothing that another one holds: no deadlock. Data that is written lies in the client's
 * own rows; nobody changes it from the computation of parity until all its writes have completed
 * (write-rules 4).
 */
import { assert } from "../../base/assert.ts";
import { hasBit, union, withBit } from "../../base/bit-set.ts";
import { EIO, ENOSPC } from "../../base/errno.ts";
import { IndexQueue } from "../../base/index-queue.ts";
import { Signal } from "../../base/signal.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { Op, type OpCode } from "../../reactor/io-table.ts";
import {
  Content,
  type IoFailure,
  type IoUser,
  isForRows,
  Verdict,
  type VerdictCode,
} from "../members/member-io.ts";
import type { PplWaiter } from "../policy/ppl-users.ts";
import type { IntentWaiter } from "../policy/write-intent.ts";
import { Arrivals } from "./arrivals.ts";
import { StripeHolds } from "./holds.ts";
import { OpKind, Phase } from "./ops.ts";
import { StripePlanner } from "./planner.ts";
import { SEGMENTS_PER_OP } from "./segments.ts";
import type { StripeParts } from "./stripe-parts.ts";
import { WaitingOps, type WaitSteps } from "./waiting-ops.ts";
import { PARITY_MISSING, readsParity, Strategy, type StrategyCode } from "./write-strategy.ts";

/** What is done row by row: that is above this. */
export interface RunnerHost {
  /** Takes over a read of which a member request was given up. */
  readLate(op: number): void;
  /** Does this operation on the careful path; `finishSlow` ends it. */
  runSlow(op: number): void;
  /** No write begins: too many rows wait for room already. */
  isFull(): boolean;
}

export class StripeRunner implements PplWaiter, IntentWaiter, WaitSteps {
  readonly planner: StripePlanner;
  /** Stripes that are taken for jobs. */
  readonly holds: StripeHolds;
  readonly waiting: WaitingOps;
  private readonly parts: StripeParts;
  private readonly host: RunnerHost;
  private readonly user: IoUser;
  private readonly readyOps: IndexQueue;
  readonly arrivals: Arrivals;
  private isDraining = false;
  /** Plans of writes that began, by whether they had all of their stripe. */
  readonly writes = { full: 0, partial: 0 };
  /** By operation and role: member requests that have not been answered. */
  private readonly pendingOf: Uint16Array;
  /** Raised when an operation waits for less than before, or gives up its stripe. */
  readonly eased = new Signal();

  constructor(parts: StripeParts, host: RunnerHost) {
    this.parts = parts;
    this.host = host;
    const { capacity } = parts.ops;
    // An operation waits until there are requests for any of its phases: hasRequestsFor.
    const requestsMax = SEGMENTS_PER_OP * parts.geometry.memberCount;
    assert(parts.environment.table.capacity >= requestsMax, "a stripe can have its requests");
    this.planner = new StripePlanner(parts);
    this.holds = new StripeHolds(parts.ops, (op) => this.enter(op));
    this.waiting = new WaitingOps(parts, this);
    this.readyOps = new IndexQueue(capacity);
    this.arrivals = new Arrivals(parts, (op) => this.makeReady(op));
    this.pendingOf = new Uint16Array(capacity * parts.geometry.memberCount);
    this.user = parts.memberIo.register(Content.data, (op, role, verdict, failure) => {
      const at = op * parts.geometry.memberCount + role;
      assert(this.pendingOf[at]! > 0, "a member request of an operation is answered once");
      this.pendingOf[at]! -= 1;
      if (failure !== null) this.noteFailed(op, verdict, failure);
      this.settle(op);
      this.eased.raise();
    });
  }

  /** Starts `op` if its stripe is free, or queues it behind the stripe's owner. */
  enter(op: number): void {
    if (this.parts.ops.hold(op)) this.makeReady(op);
  }

  /** As `enter`, but others may come for its stripe until it begins, and are one plan with it. */
  arrive(op: number): void {
    assert(this.parts.ops.kind[op] === OpKind.write, "only writes become one plan");
    if (this.parts.ops.hold(op)) this.arrivals.push(op);
  }

  /** Gives up the stripe of `op`, which ends. */
  release(op: number): void {
    const next = this.parts.ops.giveUp(op);
    this.parts.ops.free(op);
    if (next >= 0) this.makeReady(next);
    this.eased.raise();
  }

  /** Ends an operation that the careful path has done. */
  finishSlow(op: number, status: number): void {
    assert(this.parts.ops.pending[op] === 0, "nothing is under way as the careful path begins");
    this.finish(op, status);
  }

  /** A write's bits are durable in the bitmap. */
  marked(op: number): void {
    assert(this.parts.ops.phase[op] === Phase.waitingPolicy, "it waited for its bits");
    this.issueWrites(op);
  }

  /** Its entries are durable in the log. */
  logged(op: number): void {
    assert(this.parts.ops.phase[op] === Phase.waitingPolicy, "it waited for its entries");
    if (this.planner.isUnitAsCut(op)) this.issueWrites(op);
    else {
      this.parts.policy.logs!.done(op);
      this.planAgain(op);
    }
  }

  /** The log is gone, and nothing of this write has begun. */
  dropped(op: number): void {
    assert(this.parts.ops.phase[op] === Phase.waitingPolicy, "it waited for its entries");
    this.planAgain(op);
  }

  /** There is no room for what must be durable before this write: nothing of it is written. */
  refused(op: number): void {
    assert(this.parts.ops.phase[op] === Phase.waitingPolicy, "what has begun is not refused");
    this.finish(op, ENOSPC);
  }

  /**
   * Lets a reader use a stripe that is taken by a write which waits for `hungRole` alone: all its
   * other writes are done, so the others give the content that it leaves behind. The write cannot
   * end before its stripe is given back. -1 when that is not so.
   */
  share(stripe: number, hungRole: number): number {
    const { ops, geometry } = this.parts;
    const op = ops.ownerOf(stripe);
    if (op < 0 || ops.kind[op] !== OpKind.write || ops.phase[op] !== Phase.writing) return -1;
    if (ops.pending[op] === 0 || ops.isSlow[op] === 1) return -1;
    for (let role = 0; role < geometry.memberCount; role += 1) {
      if (role !== hungRole && this.pendingOf[op * geometry.memberCount + role]! > 0) return -1;
    }
    ops.pending[op]! += 1;
    return op;
  }

  /** A reader that shared the stripe of `op` is done with it. */
  giveBack(op: number): void {
    assert(this.parts.ops.phase[op] === Phase.writing, "a write does not end while it is shared");
    this.settle(op);
  }

  private makeReady(op: number): void {
    this.readyOps.push(op);
    if (this.isDraining) return;
    this.isDraining = true;
    while (this.readyOps.length > 0) this.begin(this.readyOps.shift());
    this.isDraining = false;
  }

  private begin(op: number): void {
    assert(this.parts.ops.ownerOf(this.parts.ops.stripe[op]!) === op, "it holds its stripe");
    if (this.parts.ops.kind[op] === OpKind.hold) {
      this.holds.granted(op);
      return;
    }
    if (this.parts.ops.kind[op] === OpKind.write && this.host.isFull()) {
      this.finish(op, ENOSPC);
      return;
    }
    if (
      this.parts.ops.isSlow[op] === 1 ||
      this.parts.members.hasBadRowsIn(this.parts.ops.stripe[op]!)
    ) {
      this.host.runSlow(op);
      return;
    }
    // What is read goes around a member that does not answer; what is written waits for it.
    this.parts.ops.excluded[op] = union(
      this.parts.ops.excluded[op]!,
      this.parts.members.avoidedRoles(this.parts.ops.stripe[op]!),
    );
    const isWrite = this.parts.ops.kind[op] === OpKind.write;
    if (isWrite) this.parts.ops.mergeWaitingWrites(op);
    this.parts.segments.build(op);
    if (isWrite) this.countWrite(op);
    this.planAndStart(op);
  }

  private countWrite(op: number): void {
    const dataCount = this.parts.geometry.dataCountOf(this.parts.ops.stripe[op]!);
    if (this.parts.segments.isWholeStripe(op, dataCount)) this.writes.full += 1;
    else this.writes.partial += 1;
  }

  private planAgain(op: number): void {
    const { ops, members, parity } = this.parts;
    assert(ops.pending[op] === 0, "buffers are given back when no request uses them");
    // Also where nothing of its own has failed: a member may have left since it was planned.
    ops.excluded[op] = members.excludedBy(ops, op);
    ops.failed[op] = 0;
    parity.free(op);
    this.planAndStart(op);
  }

  private planAndStart(op: number): void {
    if (this.parts.ops.kind[op] === OpKind.write) this.planner.takeUnit(op);
    if (!this.planner.plan(op)) {
      this.finish(op, EIO);
      return;
    }
    if (this.waiting.forMemory.length > 0 || !this.parts.parity.reserve(op)) {
      this.parts.ops.phase[op] = Phase.waitingMemory;
      this.waiting.forMemory.push(op);
      return;
    }
    this.startReading(op);
  }

  /** Enough member requests for any phase of this operation. */
  hasRequestsFor(op: number): boolean {
    assert(this.parts.segments.count[op]! > 0, "an operation that is planned has segments");
    const most = this.parts.segments.count[op]! * this.parts.members.deviceCount;
    return this.parts.environment.table.available >= most;
  }

  startReading(op: number): void {
    const { ops, segments, geometry } = this.parts;
    assert(ops.pending[op] === 0, "a phase begins with nothing under way");
    ops.phase[op] = Phase.reading;
    if (!this.hasRequestsFor(op)) {
      this.waiting.forRequests.push(op);
      return;
    }
    const stripe = ops.stripe[op]!;
    const isRead = ops.kind[op] === OpKind.read;
    const dataCount = geometry.dataCountOf(stripe);
    const first = segments.first(op);
    ops.pending[op] = 1;
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      const readMask = segments.readMask[slot]!;
      for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
        if (hasBit(readMask, dataIndex)) {
          const address = this.parts.parity.bufferAddress(op, slot, dataIndex);
          this.issue(op, slot, geometry.dataRole(stripe, dataIndex), Op.read, address);
        } else if (isRead && hasBit(segments.touched[slot]!, dataIndex)) {
          this.readIntoPayload(op, slot, dataIndex);
        }
      }
      if (readsParity(segments.strategy[slot] as StrategyCode)) {
        const address = this.parts.parity.parityAddress(op, slot);
        this.issue(op, slot, geometry.parityRole(stripe), Op.read, address);
      }
    }
    this.settle(op);
  }

  private readIntoPayload(op: number, slot: number, dataIndex: number): void {
    const stripe = this.parts.ops.stripe[op]!;
    const role = this.parts.geometry.dataRole(stripe, dataIndex);
    const unavailable = union(
      this.parts.members.unavailableRoles(stripe),
      this.parts.ops.excluded[op]!,
    );
    if (hasBit(unavailable, role)) return;
    const row = this.parts.segments.fromRow[slot]!;
    this.issue(op, slot, role, Op.read, this.parts.segments.dataAddress(op, dataIndex, row));
  }

  /** Everything that was to be read is there. */
  startWriting(op: number): void {
    const { ops, segments } = this.parts;
    const parityRole = this.parts.geometry.parityRole(ops.stripe[op]!);
    const { logs } = this.parts.policy;
    if (logs !== null && this.parts.records.isPending) {
      // What is logged goes by who is there: WritePolicy.waitsForRecord.
      ops.phase[op] = Phase.waitingRecord;
      this.waiting.toBegin.push(op);
      return;
    }
    const isParityThere = !hasBit(this.parts.members.unavailableRoles(ops.stripe[op]!), parityRole);
    if (logs !== null && isParityThere) {
      // Order: the partial parity is durable before any data of this stripe is written.
      ops.phase[op] = Phase.waitingPolicy;
      if (logs.isStuck(parityRole)) this.refused(op);
      else if (logs.hasLog(parityRole)) logs.enter(op, parityRole);
      else this.finish(op, EIO); // The log is never passed by.
      return;
    }
    const first = segments.first(op);
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      if (segments.touched[slot] !== 0) this.parts.parity.computeSegment(op, slot, 0);
    }
    this.issueWrites(op);
  }

  issueWrites(op: number): void {
    const { ops, segments, geometry } = this.parts;
    const stripe = ops.stripe[op]!;
    assert(ops.pending[op] === 0, "a phase begins with nothing under way");
    assert(ops.kind[op] === OpKind.write, "only a write is written");
    ops.phase[op] = Phase.writing;
    if (!this.hasRequestsFor(op)) {
      this.waiting.forRequests.push(op);
      return;
    }
    if (this.parts.policy.intent !== null && ops.isMarked[op] === 0) {
      ops.isMarked[op] = 1;
      if (!this.parts.policy.intent.startWrite(stripe)) {
        // Order: the bits are durable on every member before any data of this stripe is written.
        ops.phase[op] = Phase.waitingPolicy;
        this.parts.policy.intent.wait(op, stripe);
        return;
      }
    }
    if (ops.isMarked[op] === 1 && this.parts.records.isPending) {
      // Its bits may be missing on the member that failed.
      ops.phase[op] = Phase.waitingRecord;
      this.waiting.toBegin.push(op);
      return;
    }
    const absent = this.parts.members.unavailableRoles(stripe);
    const parityRole = geometry.parityRole(stripe);
    const dataCount = geometry.dataCountOf(stripe);
    const first = segments.first(op);
    ops.pending[op] = 1;
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      if (segments.touched[slot] === 0) continue;
      for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
        if (!hasBit(segments.touched[slot]!, dataIndex)) continue;
        const role = geometry.dataRole(stripe, dataIndex);
        if (hasBit(absent, role)) continue;
        const address = segments.dataAddress(op, dataIndex, segments.fromRow[slot]!);
        this.issue(op, slot, role, Op.write, address);
      }
      if (segments.strategy[slot] !== Strategy.dataOnly && !hasBit(absent, parityRole)) {
        this.issue(op, slot, parityRole, Op.write, this.parts.parity.parityAddress(op, slot));
      }
    }
    this.settle(op);
  }

  private issue(op: number, slot: number, role: number, ioOp: OpCode, address: number): void {
    const { ops, segments } = this.parts;
    const fromRow = segments.fromRow[slot]!;
    assert(ops.pending[op]! > 0, "requests are issued within a phase");
    const place = ops.stripe[op]! * this.parts.geometry.chunkBytes + fromRow * ROW_BYTES;
    const bytes = (segments.toRow[slot]! - fromRow) * ROW_BYTES;
    const isFua = ioOp === Op.write ? ops.isFua[op]! : 0;
    ops.pending[op]! += 1;
    this.pendingOf[op * this.parts.geometry.memberCount + role]! += 1;
    const { memberIo } = this.parts;
    const { user } = this;
    const isStarted = memberIo.start(user, ioOp, role, place, bytes, address, op, isFua);
    assert(isStarted, "an operation begins a phase when there are requests for all of it");
  }

  private noteFailed(op: number, verdict: VerdictCode, { role, isGivenUp }: IoFailure): void {
    const { ops } = this.parts;
    assert(verdict !== Verdict.done, "what is done has not failed");
    if (verdict !== Verdict.noSpace) ops.failed[op] = withBit(ops.failed[op]!, role);
    // Bad sectors, and no room: which rows, and what of them is left, is for the careful path.
    if (isForRows(verdict)) ops.isSlow[op] = 1;
    // A read that was given up may still write into the client's rows.
    if (isGivenUp && ops.kind[op] === OpKind.read) ops.isLate[op] = 1;
  }

  /** Takes one from the pending count; at 0 the phase is over. */
  private settle(op: number): void {
    const { ops } = this.parts;
    assert(ops.pending[op]! > 0, "what is under way ends once");
    ops.pending[op]! -= 1;
    if (ops.pending[op] !== 0) return;
    if (ops.isLate[op] === 1) {
      this.parts.parity.free(op);
      this.host.readLate(op);
      this.release(op);
      return;
    }
    if (ops.isSlow[op] === 1) {
      const hasWritten = ops.kind[op] === OpKind.write && ops.phase[op] === Phase.writing;
      // Parity may be new and data old, or torn: only these buffers still know what a chunk holds
      // whose member is missing, or is lost from here on.
      if (hasWritten && ops.missing[op] !== PARITY_MISSING) ops.isHalfWritten[op] = 1;
      else this.parts.parity.free(op);
      this.host.runSlow(op);
      return;
    }
    if (ops.phase[op] === Phase.writing) {
      this.unitWritten(op);
      return;
    }
    if (ops.failed[op] !== 0) this.planAgain(op);
    else if (ops.kind[op] === OpKind.write) this.startWriting(op);
    else this.finishRead(op);
  }

  private finishRead(op: number): void {
    const { segments } = this.parts;
    const first = segments.first(op);
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      if (segments.strategy[slot] === Strategy.readReconstruct)
        this.parts.parity.reconstruct(op, slot);
    }
    this.finish(op, 0);
  }

  /** What was written is on every member that took it; the next unit of the plan follows. */
  private unitWritten(op: number): void {
    assert(this.parts.ops.phase[op] === Phase.writing, "a unit that is written was being written");
    if (this.parts.policy.logs?.covers(op) === true) this.parts.policy.logs.done(op);
    if (!this.parts.members.isFailed) this.planner.noteProven(op);
    if (this.parts.segments.endUnit(op)) {
      this.parts.ops.failed[op] = 0;
      this.planAgain(op);
    } else this.finishWrite(op);
  }

  finishWrite(op: number): void {
    assert(this.parts.ops.kind[op] === OpKind.write, "a write is finished as one");
    // The failed member is recorded in the others before this write is acknowledged.
    if (this.parts.records.isPending) {
      this.parts.ops.phase[op] = Phase.waitingRecord;
      this.waiting.toEnd.push(op);
      return;
    }
    if (this.parts.members.isFailed) {
      this.finish(op, EIO);
      return;
    }
    this.finish(op, 0);
  }

  private finish(op: number, status: number): void {
    const { ops } = this.parts;
    assert(ops.pending[op] === 0, "an operation is answered when nothing of it is under way");
    assert(ops.kind[op] !== OpKind.hold, "a job's stripe is released, not answered");
    this.parts.parity.free(op);
    if (this.parts.policy.logs?.covers(op) === true) this.parts.policy.logs.done(op);
    if (ops.isMarked[op] === 1) {
      ops.isMarked[op] = 0;
      // What was refused for want of space has left its rows whole.
      const isWhole = (status === 0 || status === ENOSPC) && ops.failed[op] === 0;
      this.parts.policy.intent!.endWrite(ops.stripe[op]!, isWhole);
    }
    let part = ops.mergeNext[op]!;
    this.parts.requests.partFinished(ops.request[op]!, status);
    while (part >= 0) {
      const next = ops.mergeNext[part]!;
      this.parts.requests.partFinished(ops.request[part]!, status);
      ops.free(part);
      part = next;
    }
    this.release(op);
  }
}
