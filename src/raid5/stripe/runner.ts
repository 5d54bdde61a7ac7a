/**
 * Runs stripe operations: plan, reserve buffers, read, compute, write.
 *
 * An operation has its stripe's lock from `begin` to `release`. Its phases:
 *
 *   begin -> plan -> (waitingMemory) -> reading -> compute -> (waitingPolicy) -> writing
 *             ^                           |                         |               |
 *             +------ a read failed ------+                         |               v
 *             +------ the log or a member was lost -----------------+   (waitingRecord) -> finish
 *             +------ the next unit of the log -------------------------------------+
 *
 * The consistency policy comes between computing and writing: with `ppl` the partial parity is
 * durable first, and a plan may be carried out in several units (ppl-units.ts); with `bitmap` the
 * stripe's bits are.
 *
 * Memory is taken all at once, after the lock and before any I/O, and an operation that has both
 * waits for nothing that another one holds: no deadlock. Data that is written lies in the client's
 * own rows; nobody changes it from the computation of parity until all its writes have completed
 * (write-rules 4).
 */
import { assert } from "../../base/assert.ts";
import { hasBit, union, withBit } from "../../base/bit-set.ts";
import { EIO, ENOSPC } from "../../base/errno.ts";
import { IndexQueue } from "../../base/index-queue.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { Op, type OpCode } from "../../reactor/io-table.ts";
import type { EngineEnvironment } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import {
  Content,
  type IoFailure,
  type IoUser,
  isForRows,
  type MemberIo,
  Verdict,
  type VerdictCode,
} from "../members/member-io.ts";
import type { MemberSet } from "../members/member-set.ts";
import type { PplLogsHost } from "../policy/ppl-logs.ts";
import type { WritePolicy } from "../policy/write-policy.ts";
import { OpBuffers } from "./op-buffers.ts";
import { OpKind, Phase, type StripeOps } from "./ops.ts";
import { StripeParity } from "./parity.ts";
import { PARITY_MISSING, readsParity, Strategy, type StrategyCode } from "./plan.ts";
import { StripePlanner } from "./planner.ts";
import { SEGMENTS_PER_OP, SegmentTable } from "./segments.ts";

export interface RunnerHost {
  /** A part of a request has ended with 0 or a positive errno. */
  partFinished(request: number, status: number): void;
  /** Takes over a read of which a member request was given up. */
  readLate(op: number): void;
  /** Does this operation on the row path; `finishSlow` ends it. */
  runSlow(op: number): void;
  /** The hold on a stripe that a job asked for. */
  holdGranted(op: number): void;
  /** True while a failed member is not yet recorded in the superblocks of the others. */
  isRecordPending(): boolean;
  /** No write begins: too many rows wait for room already. */
  isFull(): boolean;
}

export class StripeRunner {
  readonly segments: SegmentTable;
  private readonly environment: EngineEnvironment;
  private readonly geometry: Geometry;
  private readonly members: MemberSet;
  private readonly ops: StripeOps;
  private readonly host: RunnerHost;
  private readonly memberIo: MemberIo;
  private readonly user: IoUser;
  private readonly buffers: OpBuffers;
  private readonly memoryWaiters: IndexQueue;
  private readonly ioWaiters: IndexQueue;
  private readonly recordWaiters: IndexQueue;
  /** Writes that wait for a record before they begin: WritePolicy.waitsForRecord. */
  private readonly startWaiters: IndexQueue;
  private readonly readyOps: IndexQueue;
  private readonly policy: WritePolicy;
  private isDraining = false;
  private readonly parity: StripeParity;
  private readonly planner: StripePlanner;

  constructor(options: {
    environment: EngineEnvironment;
    geometry: Geometry;
    members: MemberSet;
    memberIo: MemberIo;
    ops: StripeOps;
    policy: WritePolicy;
    host: RunnerHost;
  }) {
    this.environment = options.environment;
    this.geometry = options.geometry;
    this.members = options.members;
    this.ops = options.ops;
    this.policy = options.policy;
    this.host = options.host;
    const { capacity } = options.ops;
    // An operation waits until there are requests for any of its phases: hasRequestsFor.
    const requestsMax = SEGMENTS_PER_OP * options.geometry.memberCount;
    assert(options.environment.table.capacity >= requestsMax, "a stripe can have its requests");
    this.segments = new SegmentTable(options.ops, options.geometry.chunkBytes / ROW_BYTES);
    this.parity = new StripeParity({
      kernels: options.environment.kernels,
      geometry: options.geometry,
      ops: options.ops,
      segments: this.segments,
    });
    this.buffers = new OpBuffers({ ops: options.ops, pool: options.environment.enginePool });
    this.memoryWaiters = new IndexQueue(capacity);
    this.ioWaiters = new IndexQueue(capacity);
    this.recordWaiters = new IndexQueue(capacity);
    this.startWaiters = new IndexQueue(capacity);
    this.readyOps = new IndexQueue(capacity);
    this.memberIo = options.memberIo;
    this.user = options.memberIo.register(Content.data, (op, verdict, failure) => {
      if (failure !== null) this.noteFailed(op, verdict, failure);
      this.settle(op);
    });
    this.planner = new StripePlanner({
      geometry: options.geometry,
      members: options.members,
      ops: options.ops,
      segments: this.segments,
      parity: this.parity,
      policy: options.policy,
    });
  }

  /** Starts `op` if its stripe is free, or queues it behind the stripe's owner. */
  enter(op: number): void {
    if (this.ops.lock(op)) this.makeReady(op);
  }

  /** Gives up the stripe of `op`, which ends. */
  release(op: number): void {
    const next = this.ops.unlock(op);
    this.ops.free(op);
    if (next >= 0) this.makeReady(next);
  }

  /** Ends an operation that the row path has done. */
  finishSlow(op: number, status: number): void {
    this.finish(op, status);
  }

  /** Where the parity of a segment lies, as it was computed. */
  parityAddress(op: number, slot: number): number {
    return this.parity.parityAddress(op, slot);
  }

  /** A write's bits are durable in the bitmap. */
  marked(op: number): void {
    this.issueWrites(op);
  }

  /** What the logs ask of the operations. */
  readonly logsHost: Omit<PplLogsHost, "flush"> = {
    entryCount: (op) => this.planner.entryCount(op),
    partialParityBytes: (op) => this.planner.partialParityBytes(op),
    addEntries: (op, unit) => this.planner.addEntries(op, unit),
    logged: (op) => {
      if (this.planner.isUnitAsCut(op)) this.issueWrites(op);
      else {
        this.policy.logs!.done(op);
        this.planAgain(op);
      }
    },
    dropped: (op) => this.planAgain(op),
    refused: (op) => this.refused(op),
  };

  /** There is no room for what must be durable before this write: nothing of it is written. */
  refused(op: number): void {
    this.finish(op, ENOSPC);
  }

  /** A reader that shared the stripe of `op` (borrowStripe) is done with it. */
  giveBack(op: number): void {
    this.settle(op);
  }

  /** Once a turn: operations that waited for buffers or member requests try again. */
  retryWaiting(): void {
    while (this.memoryWaiters.length > 0) {
      const op = this.memoryWaiters.peek();
      if (!this.buffers.reserve(op)) break;
      this.memoryWaiters.shift();
      this.startReading(op);
    }
    while (this.ioWaiters.length > 0) {
      const op = this.ioWaiters.peek();
      if (!this.hasRequestsFor(op)) break;
      this.ioWaiters.shift();
      if (this.ops.phase[op] === Phase.reading) this.startReading(op);
      else this.issueWrites(op);
    }
  }

  /** The failed member is on record now (or the array has failed): writes may be acknowledged. */
  recordDone(): void {
    for (let count = this.recordWaiters.length; count > 0; count -= 1) {
      const op = this.recordWaiters.shift();
      if (this.host.isRecordPending()) this.recordWaiters.push(op);
      else this.finishWrite(op);
    }
    for (let count = this.startWaiters.length; count > 0; count -= 1) {
      const op = this.startWaiters.shift();
      if (this.ops.isMarked[op] === 1) this.issueWrites(op);
      else this.startWriting(op);
    }
  }

  private makeReady(op: number): void {
    this.readyOps.push(op);
    if (this.isDraining) return;
    this.isDraining = true;
    while (this.readyOps.length > 0) this.begin(this.readyOps.shift());
    this.isDraining = false;
  }

  private begin(op: number): void {
    if (this.ops.kind[op] === OpKind.hold) {
      this.host.holdGranted(op);
      return;
    }
    if (this.ops.kind[op] === OpKind.write && this.host.isFull()) {
      this.finish(op, ENOSPC);
      return;
    }
    if (this.ops.isSlow[op] === 1 || this.members.hasBadRowsIn(this.ops.stripe[op]!)) {
      this.host.runSlow(op);
      return;
    }
    // What is read goes around a member that does not answer; what is written waits for it.
    this.ops.excluded[op] = union(
      this.ops.excluded[op]!,
      this.members.avoidedRoles(this.ops.stripe[op]!),
    );
    if (this.ops.kind[op] === OpKind.write) this.ops.mergeWaitingWrites(op);
    this.segments.build(op);
    this.planAndStart(op);
  }

  private planAgain(op: number): void {
    this.buffers.free(op);
    this.planAndStart(op);
  }

  private planAndStart(op: number): void {
    if (this.ops.kind[op] === OpKind.write) this.planner.takeUnit(op);
    if (!this.planner.plan(op)) {
      this.finish(op, EIO);
      return;
    }
    if (this.memoryWaiters.length > 0 || !this.buffers.reserve(op)) {
      this.ops.phase[op] = Phase.waitingMemory;
      this.memoryWaiters.push(op);
      return;
    }
    this.startReading(op);
  }

  /** Enough member requests for any phase of this operation. */
  private hasRequestsFor(op: number): boolean {
    const most = this.segments.count[op]! * this.geometry.memberCount;
    return this.environment.table.available >= most;
  }

  private startReading(op: number): void {
    const { ops, segments, geometry } = this;
    ops.phase[op] = Phase.reading;
    if (!this.hasRequestsFor(op)) {
      this.ioWaiters.push(op);
      return;
    }
    const stripe = ops.stripe[op]!;
    const isRead = ops.kind[op] === OpKind.read;
    const first = segments.first(op);
    ops.pending[op] = 1;
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      const readMask = segments.readMask[slot]!;
      for (let dataIndex = 0; dataIndex < geometry.dataCount; dataIndex += 1) {
        if (hasBit(readMask, dataIndex)) {
          const address = this.parity.bufferAddress(op, slot, dataIndex);
          this.issue(op, slot, geometry.dataRole(stripe, dataIndex), Op.read, address);
        } else if (isRead && hasBit(segments.touched[slot]!, dataIndex)) {
          this.readIntoPayload(op, slot, dataIndex);
        }
      }
      if (readsParity(segments.strategy[slot] as StrategyCode)) {
        this.issue(
          op,
          slot,
          geometry.parityRole(stripe),
          Op.read,
          this.parity.parityAddress(op, slot),
        );
      }
    }
    this.settle(op);
  }

  private readIntoPayload(op: number, slot: number, dataIndex: number): void {
    const stripe = this.ops.stripe[op]!;
    const role = this.geometry.dataRole(stripe, dataIndex);
    const unavailable = union(this.members.unavailableRoles(stripe), this.ops.excluded[op]!);
    if (hasBit(unavailable, role)) return;
    const row = this.segments.fromRow[slot]!;
    this.issue(op, slot, role, Op.read, this.segments.dataAddress(op, dataIndex, row));
  }

  /** Everything that was to be read is there. */
  private startWriting(op: number): void {
    const { ops, segments } = this;
    const parityRole = this.geometry.parityRole(ops.stripe[op]!);
    const { logs } = this.policy;
    if (logs !== null && this.host.isRecordPending()) {
      // What is logged goes by who is there: WritePolicy.waitsForRecord.
      ops.phase[op] = Phase.waitingRecord;
      this.startWaiters.push(op);
      return;
    }
    const isParityThere = !hasBit(this.members.unavailableRoles(ops.stripe[op]!), parityRole);
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
      if (segments.touched[slot] !== 0) this.parity.computeSegment(op, slot, 0);
    }
    this.issueWrites(op);
  }

  private issueWrites(op: number): void {
    const { ops, segments, geometry } = this;
    const stripe = ops.stripe[op]!;
    ops.phase[op] = Phase.writing;
    if (!this.hasRequestsFor(op)) {
      this.ioWaiters.push(op);
      return;
    }
    if (this.policy.intent !== null && ops.isMarked[op] === 0) {
      ops.isMarked[op] = 1;
      if (!this.policy.intent.startWrite(stripe)) {
        // Order: the bits are durable on every member before any data of this stripe is written.
        ops.phase[op] = Phase.waitingPolicy;
        this.policy.intent.wait(op);
        return;
      }
    }
    if (ops.isMarked[op] === 1 && this.host.isRecordPending()) {
      // Its bits may be missing on the member that failed.
      ops.phase[op] = Phase.waitingRecord;
      this.startWaiters.push(op);
      return;
    }
    ops.writingSinceMs[op] = this.environment.timers.clock.nowMs();
    const absent = this.members.unavailableRoles(stripe);
    const parityRole = geometry.parityRole(stripe);
    const first = segments.first(op);
    ops.pending[op] = 1;
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      if (segments.touched[slot] === 0) continue;
      for (let dataIndex = 0; dataIndex < geometry.dataCount; dataIndex += 1) {
        if (!hasBit(segments.touched[slot]!, dataIndex)) continue;
        const role = geometry.dataRole(stripe, dataIndex);
        if (hasBit(absent, role)) continue;
        const address = segments.dataAddress(op, dataIndex, segments.fromRow[slot]!);
        this.issue(op, slot, role, Op.write, address);
      }
      if (segments.strategy[slot] !== Strategy.dataOnly && !hasBit(absent, parityRole)) {
        this.issue(op, slot, parityRole, Op.write, this.parity.parityAddress(op, slot));
      }
    }
    this.settle(op);
  }

  private issue(op: number, slot: number, role: number, ioOp: OpCode, address: number): void {
    const { ops, segments } = this;
    const fromRow = segments.fromRow[slot]!;
    const place = ops.stripe[op]! * this.geometry.chunkBytes + fromRow * ROW_BYTES;
    const bytes = (segments.toRow[slot]! - fromRow) * ROW_BYTES;
    const isFua = ioOp === Op.write ? ops.isFua[op]! : 0;
    ops.pending[op]! += 1;
    const { memberIo, user } = this;
    const isStarted = memberIo.start(user, ioOp, role, place, bytes, address, op, isFua);
    assert(isStarted, "an operation begins a phase when there are requests for all of it");
  }

  private noteFailed(op: number, verdict: VerdictCode, { role, isGivenUp }: IoFailure): void {
    const { ops } = this;
    if (verdict !== Verdict.noSpace) ops.failed[op] = withBit(ops.failed[op]!, role);
    // Bad sectors, and no room: which rows, and what of them is left, is for the row path.
    if (isForRows(verdict)) ops.isSlow[op] = 1;
    // A read that was given up may still write into the client's rows.
    if (isGivenUp && ops.kind[op] === OpKind.read) ops.isLate[op] = 1;
  }

  /** Takes one from the pending count; at 0 the phase is over. */
  private settle(op: number): void {
    const { ops } = this;
    ops.pending[op]! -= 1;
    if (ops.pending[op] !== 0) return;
    if (ops.isLate[op] === 1) {
      this.buffers.free(op);
      this.host.readLate(op);
      this.release(op);
      return;
    }
    if (ops.isSlow[op] === 1) {
      const hasWritten = ops.kind[op] === OpKind.write && ops.phase[op] === Phase.writing;
      // Parity may be new and data old, or torn: only these buffers still know what a chunk holds
      // whose member is missing, or is lost from here on.
      if (hasWritten && ops.missing[op] !== PARITY_MISSING) ops.isHalfWritten[op] = 1;
      else this.buffers.free(op);
      this.host.runSlow(op);
      return;
    }
    if (ops.phase[op] === Phase.writing) {
      this.unitWritten(op);
      return;
    }
    if (ops.failed[op] !== 0) {
      ops.excluded[op] = this.members.excludedBy(ops, op);
      ops.failed[op] = 0;
      this.planAgain(op);
    } else if (ops.kind[op] === OpKind.write) {
      this.startWriting(op);
    } else {
      this.finishRead(op);
    }
  }

  private finishRead(op: number): void {
    const { segments } = this;
    const first = segments.first(op);
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      if (segments.strategy[slot] === Strategy.readReconstruct) this.parity.reconstruct(op, slot);
    }
    this.finish(op, 0);
  }

  /** What was written is on every member that took it; the next unit of the plan follows. */
  private unitWritten(op: number): void {
    if (this.policy.logs?.covers(op) === true) this.policy.logs.done(op);
    if (!this.members.isFailed) this.planner.noteProven(op);
    if (this.segments.endUnit(op)) {
      this.ops.failed[op] = 0;
      this.planAgain(op);
    } else this.finishWrite(op);
  }

  private finishWrite(op: number): void {
    // The failed member is recorded in the others before this write is acknowledged.
    if (this.host.isRecordPending()) {
      this.ops.phase[op] = Phase.waitingRecord;
      this.recordWaiters.push(op);
      return;
    }
    if (this.members.isFailed) {
      this.finish(op, EIO);
      return;
    }
    this.finish(op, 0);
  }

  private finish(op: number, status: number): void {
    const { ops } = this;
    this.buffers.free(op);
    if (this.policy.logs?.covers(op) === true) this.policy.logs.done(op);
    if (ops.isMarked[op] === 1) {
      ops.isMarked[op] = 0;
      // What was refused for want of space has left its rows whole.
      const isWhole = (status === 0 || status === ENOSPC) && ops.failed[op] === 0;
      this.policy.intent!.endWrite(ops.stripe[op]!, isWhole);
    }
    let part = ops.mergeNext[op]!;
    this.host.partFinished(ops.request[op]!, status);
    while (part >= 0) {
      const next = ops.mergeNext[part]!;
      this.host.partFinished(ops.request[part]!, status);
      ops.free(part);
      part = next;
    }
    this.release(op);
  }
}
