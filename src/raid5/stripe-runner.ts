/**
 * Runs stripe operations: plan, reserve buffers, read, compute, write.
 *
 * An operation has its stripe's lock from `begin` to `release`. Its phases:
 *
 *   begin -> plan -> (waitingMemory) -> reading -> compute -> writing -> (waitingRecord) -> finish
 *                ^                        |
 *                +---- a read failed -----+   planned again without the role that failed
 *
 * Memory is taken all at once, after the lock and before any I/O, and an operation that has both
 * waits for nothing that another one holds: no deadlock. Data that is written lies in the client's
 * own rows; nobody changes it from the computation of parity until all its writes have completed
 * (write-rules 4).
 */
import { assert } from "../base/assert.ts";
import { EIO, ETIMEDOUT } from "../base/errno.ts";
import { ROW_BYTES } from "../base/units.ts";
import { Outcome, type OutcomeCode } from "../block/io-error.ts";
import { Op, type OpCode } from "../reactor/io-table.ts";
import type { EngineEnvironment, MemberError } from "./environment.ts";
import type { Geometry } from "./geometry.ts";
import type { MemberSet } from "./member-set.ts";
import {
  bufferCountOf,
  chooseWriteStrategy,
  countBits,
  NONE_MISSING,
  PARITY_MISSING,
  readMaskOf,
  readsParity,
  type SegmentShape,
  Strategy,
  type StrategyCode,
} from "./plan.ts";
import { IndexQueue } from "./request-table.ts";
import { SegmentTable } from "./segments.ts";
import { OpKind, Phase, type StripeOps } from "./stripe-ops.ts";
import { StripeParity } from "./stripe-parity.ts";

export interface RunnerHost {
  /** Decides at once what a failed request means for its member. */
  memberFailed(error: MemberError): void;
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
}

export class StripeRunner {
  readonly segments: SegmentTable;
  private readonly environment: EngineEnvironment;
  private readonly geometry: Geometry;
  private readonly members: MemberSet;
  private readonly ops: StripeOps;
  private readonly host: RunnerHost;
  private readonly owner: number;
  private readonly memoryWaiters: IndexQueue;
  private readonly ioWaiters: IndexQueue;
  private readonly recordWaiters: IndexQueue;
  private readonly readyOps: IndexQueue;
  private isDraining = false;
  private readonly parity: StripeParity;
  private readonly shape: SegmentShape;

  constructor(options: {
    environment: EngineEnvironment;
    geometry: Geometry;
    members: MemberSet;
    ops: StripeOps;
    host: RunnerHost;
  }) {
    this.environment = options.environment;
    this.geometry = options.geometry;
    this.members = options.members;
    this.ops = options.ops;
    this.host = options.host;
    const { capacity } = options.ops;
    this.segments = new SegmentTable(options.ops, options.geometry.chunkBytes / ROW_BYTES);
    this.parity = new StripeParity({
      kernels: options.environment.kernels,
      geometry: options.geometry,
      ops: options.ops,
      segments: this.segments,
    });
    this.memoryWaiters = new IndexQueue(capacity);
    this.ioWaiters = new IndexQueue(capacity);
    this.recordWaiters = new IndexQueue(capacity);
    this.readyOps = new IndexQueue(capacity);
    this.owner = options.environment.router.register((request, outcome, errno) =>
      this.onIo(request, outcome, errno),
    );
    this.shape = {
      dataCount: options.geometry.dataCount,
      touched: 0,
      partial: 0,
      missing: NONE_MISSING,
      isInSync: true,
    };
  }

  close(): void {
    this.environment.router.unregister(this.owner);
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

  /** A reader that shared the stripe of `op` (borrowStripe) is done with it. */
  giveBack(op: number): void {
    this.settle(op);
  }

  /** Once a turn: operations that waited for buffers or member requests try again. */
  retryWaiting(): void {
    while (this.memoryWaiters.length > 0) {
      const op = this.memoryWaiters.peek();
      if (!this.reserve(op)) break;
      this.memoryWaiters.shift();
      this.startReading(op);
    }
    while (this.ioWaiters.length > 0) {
      const op = this.ioWaiters.peek();
      if (!this.hasRequestsFor(op)) break;
      this.ioWaiters.shift();
      if (this.ops.phase[op] === Phase.reading) this.startReading(op);
      else this.startWriting(op);
    }
  }

  /** The failed member is on record now (or the array has failed): writes may be acknowledged. */
  recordDone(): void {
    for (let count = this.recordWaiters.length; count > 0; count -= 1) {
      const op = this.recordWaiters.shift();
      if (this.host.isRecordPending()) this.recordWaiters.push(op);
      else this.finishWrite(op);
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
    if (this.ops.isSlow[op] === 1 || this.members.hasBadRowsIn(this.ops.stripe[op]!)) {
      this.host.runSlow(op);
      return;
    }
    if (this.ops.kind[op] === OpKind.write) this.ops.mergeWaitingWrites(op);
    this.planAndStart(op);
  }

  private planAndStart(op: number): void {
    this.segments.build(op);
    if (!this.plan(op)) {
      this.finish(op, EIO);
      return;
    }
    if (this.memoryWaiters.length > 0 || !this.reserve(op)) {
      this.ops.phase[op] = Phase.waitingMemory;
      this.memoryWaiters.push(op);
      return;
    }
    this.startReading(op);
  }

  /** Chooses each segment's strategy and lays out its buffers. False: it cannot be done. */
  private plan(op: number): boolean {
    const { ops, segments, members, shape } = this;
    const stripe = ops.stripe[op]!;
    const isWrite = ops.kind[op] === OpKind.write;
    const unavailable = members.unavailableRoles(stripe) | ops.excluded[op]!;
    if (isWrite && (members.isFailed || countBits(unavailable) > 1)) return false;
    shape.missing = this.missingIndex(stripe, unavailable);
    const isStripeInSync = members.isInSync(stripe);
    const first = segments.first(op);
    let bufferBytes = 0;
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      shape.touched = segments.touched[slot]!;
      shape.partial = segments.partial[slot]!;
      shape.isInSync = isStripeInSync || this.isProven(stripe, slot);
      const strategy = isWrite
        ? this.writeStrategy(op, stripe)
        : this.readStrategy(stripe, unavailable);
      if (strategy === null) return false;
      const readMask = readMaskOf(strategy, shape);
      const columnBytes = (segments.toRow[slot]! - segments.fromRow[slot]!) * ROW_BYTES;
      segments.strategy[slot] = strategy;
      segments.readMask[slot] = readMask;
      segments.bufferOffset[slot] = bufferBytes;
      bufferBytes += bufferCountOf(strategy, readMask) * columnBytes;
    }
    ops.bufferBytes[op] = bufferBytes;
    ops.missing[op] = shape.missing;
    return true;
  }

  private writeStrategy(op: number, stripe: number): StrategyCode {
    const { shape } = this;
    const parityBit = 1 << this.geometry.parityRole(stripe);
    const isParityUnreadable =
      shape.missing === PARITY_MISSING && (this.members.unavailableRoles(stripe) & parityBit) === 0;
    if (!isParityUnreadable) return chooseWriteStrategy(shape);
    // The parity's member is there, only its old content is not: compute it anew from all data.
    assert((this.ops.excluded[op]! & parityBit) !== 0, "an unreadable parity is excluded");
    shape.missing = NONE_MISSING;
    shape.isInSync = false;
    const strategy = chooseWriteStrategy(shape);
    shape.missing = PARITY_MISSING;
    return strategy;
  }

  private readStrategy(stripe: number, unavailable: number): StrategyCode | null {
    const { shape } = this;
    let missingTouched = 0;
    for (let dataIndex = 0; dataIndex < shape.dataCount; dataIndex += 1) {
      if ((shape.touched & (1 << dataIndex)) === 0) continue;
      if ((unavailable & (1 << this.geometry.dataRole(stripe, dataIndex))) !== 0) {
        missingTouched += 1;
      }
    }
    if (missingTouched === 0) return Strategy.readDirect;
    // Reconstruction needs all the others, and parity that is known to be right.
    if (countBits(unavailable) > 1 || !shape.isInSync) return null;
    return Strategy.readReconstruct;
  }

  private missingIndex(stripe: number, unavailable: number): number {
    if (unavailable === 0) return NONE_MISSING;
    const role = 31 - Math.clz32(unavailable);
    const dataIndex = this.geometry.dataIndexOf(stripe, role);
    return dataIndex < 0 ? PARITY_MISSING : dataIndex;
  }

  private isProven(stripe: number, slot: number): boolean {
    const rows = this.members.provenRows;
    if (rows === null) return false;
    const firstRow = stripe * (this.geometry.chunkBytes / ROW_BYTES);
    return rows.hasRange(
      firstRow + this.segments.fromRow[slot]!,
      firstRow + this.segments.toRow[slot]!,
    );
  }

  private reserve(op: number): boolean {
    const bytes = this.ops.bufferBytes[op]!;
    if (bytes === 0) return true;
    const address = this.environment.enginePool.allocate(bytes);
    if (address === 0) return false;
    this.ops.bufferAddress[op] = address;
    return true;
  }

  private freeBuffers(op: number): void {
    const bytes = this.ops.bufferBytes[op]!;
    if (bytes > 0) this.environment.enginePool.free(this.ops.bufferAddress[op]!, bytes);
    this.ops.bufferBytes[op] = 0;
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
        const bit = 1 << dataIndex;
        if ((readMask & bit) !== 0) {
          const address = this.parity.bufferAddress(op, slot, dataIndex);
          this.issue(op, slot, geometry.dataRole(stripe, dataIndex), Op.read, address);
        } else if (isRead && (segments.touched[slot]! & bit) !== 0) {
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
    const unavailable = this.members.unavailableRoles(stripe) | this.ops.excluded[op]!;
    if ((unavailable & (1 << role)) !== 0) return;
    const row = this.segments.fromRow[slot]!;
    this.issue(op, slot, role, Op.read, this.segments.dataAddress(op, dataIndex, row));
  }

  private startWriting(op: number): void {
    const { ops, segments, geometry } = this;
    // Rule 15: the second member may have gone since this was planned.
    if (this.members.isFailed) {
      this.finish(op, EIO);
      return;
    }
    ops.phase[op] = Phase.writing;
    if (!this.hasRequestsFor(op)) {
      this.ioWaiters.push(op);
      return;
    }
    ops.writingSinceMs[op] = this.environment.timers.clock.nowMs();
    const stripe = ops.stripe[op]!;
    const absent = this.members.unavailableRoles(stripe);
    const parityRole = geometry.parityRole(stripe);
    const first = segments.first(op);
    ops.pending[op] = 1;
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      this.parity.computeSegment(op, slot);
      for (let dataIndex = 0; dataIndex < geometry.dataCount; dataIndex += 1) {
        if ((segments.touched[slot]! & (1 << dataIndex)) === 0) continue;
        const role = geometry.dataRole(stripe, dataIndex);
        if ((absent & (1 << role)) !== 0) continue;
        const address = segments.dataAddress(op, dataIndex, segments.fromRow[slot]!);
        this.issue(op, slot, role, Op.write, address);
      }
      if (segments.strategy[slot] !== Strategy.dataOnly && (absent & (1 << parityRole)) === 0) {
        this.issue(op, slot, parityRole, Op.write, this.parity.parityAddress(op, slot));
      }
    }
    this.settle(op);
  }

  private issue(op: number, slot: number, role: number, ioOp: OpCode, address: number): void {
    const { ops, segments, members } = this;
    const { table } = this.environment;
    const fromRow = segments.fromRow[slot]!;
    const request = table.allocate();
    table.op[request] = ioOp;
    table.isFua[request] = ioOp === Op.write ? ops.isFua[op]! : 0;
    table.offset[request] =
      members.dataOffset[role]! + ops.stripe[op]! * this.geometry.chunkBytes + fromRow * ROW_BYTES;
    table.bytes[request] = (segments.toRow[slot]! - fromRow) * ROW_BYTES;
    table.address[request] = address;
    table.owner[request] = this.owner;
    table.context[request] = op;
    table.role[request] = role;
    table.epoch[request] = members.epoch[role]!;
    ops.pending[op]! += 1;
    members.devices[role]!.submit(request);
  }

  private onIo(request: number, outcome: OutcomeCode, errno: number): void {
    const { table } = this.environment;
    const op = table.context[request]!;
    const role = table.role[request]!;
    const ioOp = table.op[request] as OpCode;
    const isCurrent = this.members.epoch[role] === table.epoch[request];
    if (ioOp === Op.write && isCurrent) this.members.needsFlush[role] = 1;
    if (outcome !== Outcome.done) {
      this.ops.failed[op]! |= 1 << role;
      // Bad sectors, and no room: which rows, and what of them is left, is for the row path.
      if (outcome === Outcome.mediaError || outcome === Outcome.noSpace) this.ops.isSlow[op] = 1;
      // A read that was given up may still write into the client's rows.
      if (errno === ETIMEDOUT && this.ops.kind[op] === OpKind.read) this.ops.isLate[op] = 1;
      const offset = table.offset[request]!;
      const bytes = table.bytes[request]!;
      if (isCurrent) this.host.memberFailed({ role, op: ioOp, outcome, errno, offset, bytes });
    }
    table.free(request);
    this.settle(op);
  }

  /** Takes one from the pending count; at 0 the phase is over. */
  private settle(op: number): void {
    const { ops } = this;
    ops.pending[op]! -= 1;
    if (ops.pending[op] !== 0) return;
    if (ops.isLate[op] === 1) {
      this.freeBuffers(op);
      this.host.readLate(op);
      this.release(op);
      return;
    }
    if (ops.isSlow[op] === 1) {
      this.freeBuffers(op);
      this.host.runSlow(op);
      return;
    }
    if (ops.phase[op] === Phase.writing) {
      this.finishWrite(op);
      return;
    }
    if (ops.failed[op] !== 0) {
      ops.excluded[op]! |= ops.failed[op]!;
      ops.failed[op] = 0;
      this.freeBuffers(op);
      this.planAndStart(op);
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
    this.noteProven(op);
    this.finish(op, 0);
  }

  private noteProven(op: number): void {
    const { ops, segments, members } = this;
    const stripe = ops.stripe[op]!;
    if (members.provenRows === null || members.isInSync(stripe)) return;
    const firstRow = stripe * (this.geometry.chunkBytes / ROW_BYTES);
    const first = segments.first(op);
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      const strategy = segments.strategy[slot];
      if (strategy !== Strategy.reconstructWrite && strategy !== Strategy.recoverWrite) continue;
      members.provenRows.addRange(
        firstRow + segments.fromRow[slot]!,
        firstRow + segments.toRow[slot]!,
      );
    }
  }

  private finish(op: number, status: number): void {
    const { ops } = this;
    this.freeBuffers(op);
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
