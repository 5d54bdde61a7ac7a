/**
 * The RAID5 engine of one array: takes requests of any offset and length, splits them by stripe,
 * and answers each once.
 *
 * Reads of members that are there go straight to them, without a lock. A read that must be
 * reconstructed, and every write, is a stripe operation (stripe/runner.ts). Writes wait behind a
 * gate until the array is marked dirty on disk. Finished requests are delivered once a turn, when
 * all completions of the turn have been judged.
 */
import { assert } from "../base/assert.ts";
import { inBackground } from "../base/background.ts";
import { bitOf, hasBit } from "../base/bit-set.ts";
import { EIO } from "../base/errno.ts";
import { IndexQueue } from "../base/index-queue.ts";
import type { BitmapState } from "../md/bitmap-state.ts";
import type { EngineEnvironment, MemberError } from "./environment.ts";
import type { Geometry } from "./geometry.ts";
import { Flusher } from "./members/flusher.ts";
import { MemberIo } from "./members/member-io.ts";
import type { MemberSet } from "./members/member-set.ts";
import { PplLogs } from "./policy/ppl-logs.ts";
import { WriteIntent } from "./policy/write-intent.ts";
import { WritePolicy } from "./policy/write-policy.ts";
import { RequestTable } from "./request-table.ts";
import { SlowOps } from "./rows/bad-sector-ops.ts";
import { RowPath } from "./rows/careful-rows.ts";
import { ChunkReads, type FailedRead } from "./rows/chunk-reads.ts";
import { borrowStripe, LateReads } from "./rows/overdue-reads.ts";
import { StripeHolds } from "./stripe/holds.ts";
import { OpKind, StripeOps } from "./stripe/ops.ts";
import { StripeRunner } from "./stripe/runner.ts";
import { INNER_CLIENT, ZEROES_AT_ONCE, ZeroRequests } from "./zero/requests.ts";

/** Operations of a request; the same numbers as FrontOp. */
export const RequestOp = { read: 0, write: 1, flush: 2, trim: 3, writeZeroes: 4 } as const;
export type RequestOpCode = (typeof RequestOp)[keyof typeof RequestOp];

export interface EngineHooks {
  /** A write waits at the closed gate: mark the array dirty, then `openGate`. */
  onWriteWaiting(): void;
  /**
   * A member request failed for good. The hook decides at once: where it takes the member out of
   * the MemberSet it also calls `beginRecord`, and `endRecord` once the failure is on disk.
   */
  onMemberError(error: MemberError): void;
  /**
   * Delivers a finished request: 0 or a positive errno. `address` is not 0 where the data of a read
   * lies in another run than was given, which is the client's after `handOver` (FrontCompletion).
   */
  onFinished(client: number, tag: number, status: number, address: number): void;
  /** See RowHost. */
  onRepaired(role: number, bytes: number): void;
  onLost(stripe: number, row: number, roles: number): void;
}

const STRIPE_OP_CAPACITY = 1024;
const RECORD_POLL_MS = 1;

export class StripeEngine {
  readonly geometry: Geometry;
  readonly members: MemberSet;
  readonly memberIo: MemberIo;
  private readonly environment: EngineEnvironment;
  private readonly hooks: EngineHooks;
  private readonly requests: RequestTable;
  private readonly ops = new StripeOps(STRIPE_OP_CAPACITY);
  private readonly runner: StripeRunner;
  private readonly flusher: Flusher;
  /** For whoever works on single rows under a stripe's lock. */
  readonly rows: RowPath;
  private readonly policy = new WritePolicy();
  private readonly slow: SlowOps;
  private readonly late: LateReads;
  readonly zeroes: ZeroRequests;
  private readonly reads: ChunkReads;
  /** Requests that are being split into parts, in arrival order. */
  private readonly splitting: IndexQueue;
  /** Writes that wait for the dirty mark. */
  private readonly gated: IndexQueue;
  private readonly finished: IndexQueue;
  private readonly holds = new StripeHolds({
    ops: this.ops,
    lock: (op) => this.runner.enter(op),
  });
  private isGateOpen = false;
  private recordsPending = 0;
  private writesActive = 0;

  constructor(options: {
    environment: EngineEnvironment;
    geometry: Geometry;
    members: MemberSet;
    hooks: EngineHooks;
    /** Requests under way at most; the callers keep to it. */
    requestCapacity: number;
  }) {
    const requestCapacity = options.requestCapacity + ZEROES_AT_ONCE;
    this.requests = new RequestTable(requestCapacity);
    this.splitting = new IndexQueue(requestCapacity);
    this.gated = new IndexQueue(requestCapacity);
    this.finished = new IndexQueue(requestCapacity);
    this.environment = options.environment;
    this.geometry = options.geometry;
    this.members = options.members;
    this.hooks = options.hooks;
    this.memberIo = new MemberIo({
      environment: options.environment,
      members: options.members,
      memberFailed: (error) => this.hooks.onMemberError(error),
    });
    const { memberIo } = this;
    this.runner = new StripeRunner({
      environment: options.environment,
      geometry: options.geometry,
      members: options.members,
      memberIo,
      ops: this.ops,
      policy: this.policy,
      host: {
        partFinished: (request, status) => this.partFinished(request, status),
        readLate: (op) => this.late.addOp(this.ops, op),
        runSlow: (op) => inBackground(this.slow.run(op), options.environment.guard),
        holdGranted: (op) => this.holds.granted(op),
        isRecordPending: () => this.recordsPending > 0,
        isFull: () => this.rows.parked.isFull,
      },
    });
    this.rows = new RowPath({
      environment: options.environment,
      memberIo,
      geometry: options.geometry,
      members: options.members,
      policy: this.policy,
      untilRecorded: () => this.untilRecorded(),
      hold: (stripe) => this.holdStripe(stripe),
      release: (op) => this.releaseStripe(op),
      host: {
        repaired: (role, bytes) => this.hooks.onRepaired(role, bytes),
        lost: (stripe, row, roles) => this.hooks.onLost(stripe, row, roles),
      },
    });
    this.slow = new SlowOps({
      environment: options.environment,
      geometry: options.geometry,
      members: options.members,
      ops: this.ops,
      rows: this.rows,
      segments: this.runner.segments,
      parityAddress: (op, slot) => this.runner.parityAddress(op, slot),
      policy: this.policy,
      untilRecorded: () => this.untilRecorded(),
      finish: (op, status) => this.runner.finishSlow(op, status),
    });
    const nowMs = (): number => options.environment.timers.clock.nowMs();
    this.late = new LateReads({
      environment: options.environment,
      requests: this.requests,
      rows: this.rows,
      geometry: options.geometry,
      members: options.members,
      locks: {
        isHeld: (stripe) => this.ops.ownerOf(stripe) >= 0,
        hold: (stripe) => this.holdStripe(stripe),
        release: (op) => this.releaseStripe(op),
        borrow: (stripe, hungRole) =>
          borrowStripe({ ops: this.ops, members: this.members, stripe, hungRole, nowMs: nowMs() }),
        giveBack: (op) => this.runner.giveBack(op),
      },
      partFinished: (request, status) => this.partFinished(request, status),
    });
    this.zeroes = new ZeroRequests({
      ...options,
      memberIo,
      requests: this.requests,
      ops: this.ops,
      rows: this.rows,
      policy: this.policy,
      host: {
        untilRecorded: () => this.untilRecorded(),
        hold: (op, granted) => this.holds.enter(op, granted),
        release: (op) => this.runner.release(op),
        admit: (request) => this.admit(request),
        partFinished: (request, status) => this.partFinished(request, status),
      },
    });
    this.flusher = new Flusher({
      environment: options.environment,
      members: options.members,
      memberIo,
    });
    this.reads = new ChunkReads({
      geometry: options.geometry,
      memberIo,
      requests: this.requests,
      host: {
        partFinished: (request, status) => this.partFinished(request, status),
        late: (read) => this.late.add(read),
        reconstruct: (read) => this.startReconstruction(read),
      },
    });
  }

  /** The client takes the run at `address` in place of the one that it gave. */
  readonly handOver = (address: number): void => this.late.handOver(address);

  /** Nothing is under way and nothing waits. */
  get isIdle(): boolean {
    const isLogIdle = this.policy.logs?.isIdle !== false;
    if (!this.memberIo.isIdle || this.flusher.isBusy) return false;
    return this.requests.inUse === 0 && this.ops.inUse === 0 && isLogIdle;
  }

  /** Writes that are past the gate and not answered, and rows of some that are still under way. */
  get activeWrites(): number {
    return this.writesActive + this.rows.parked.count;
  }

  /** Requests that are not answered. */
  get activeRequests(): number {
    return this.requests.inUse;
  }

  close(): void {
    this.clearPolicy();
    this.memberIo.close();
  }

  // Policy -----------------------------------------------------------------------------------

  /** From now on writes are logged; each member's log has still to be seated. */
  usePartialParity(): PplLogs {
    assert(this.policy.intent === null, "one policy at a time");
    const logs = new PplLogs({
      environment: this.environment,
      geometry: this.geometry,
      members: this.members,
      memberIo: this.memberIo,
      opCapacity: STRIPE_OP_CAPACITY,
      host: {
        ...this.runner.logsHost,
        flush: (whenDone) => this.flusher.request(whenDone),
      },
    });
    this.policy.logs = logs;
    return logs;
  }

  /** From now on writes mark their stripes; `needsBlocks` asks for blocks to be written. */
  useBitmap(state: BitmapState, needsBlocks: () => void): WriteIntent {
    assert(this.policy.logs === null, "one policy at a time");
    const intent = new WriteIntent({
      state,
      chunkBytes: this.geometry.chunkBytes,
      members: this.members,
      opCapacity: STRIPE_OP_CAPACITY,
      stripeOf: (op) => this.ops.stripe[op]!,
      marked: (op) => this.runner.marked(op),
      refused: (op) => this.runner.refused(op),
      needsBlocks,
    });
    this.policy.intent = intent;
    return intent;
  }

  /** Back to the policy `resync`, with nothing under way. */
  clearPolicy(): void {
    this.policy.logs?.close();
    this.policy.logs = null;
    this.policy.intent = null;
  }

  // Requests ---------------------------------------------------------------------------------

  /** Takes a request in bounds. `address` is congruent to `offset` modulo a row. */
  submit(
    client: number,
    op: RequestOpCode,
    offset: number,
    bytes: number,
    address: number,
    isFua: boolean,
    tag: number,
    flags = 0,
  ): void {
    const { requests } = this;
    const request = requests.allocate();
    requests.flags[request] = flags;
    requests.op[request] = op;
    requests.offset[request] = offset;
    requests.bytes[request] = bytes;
    requests.address[request] = address;
    requests.isFua[request] = isFua ? 1 : 0;
    requests.client[request] = client;
    requests.tag[request] = tag;
    if (op === RequestOp.flush) {
      this.flusher.request((isDurable) => this.partFinished(request, isDurable ? 0 : EIO));
    } else if (op !== RequestOp.read && !this.isGateOpen) {
      this.gated.push(request);
      this.hooks.onWriteWaiting();
    } else {
      this.admit(request);
    }
  }

  /** The array is marked dirty: writes may pass. */
  openGate(): void {
    this.isGateOpen = true;
    while (this.gated.length > 0) this.admit(this.gated.shift());
  }

  /** New writes wait from now on; those under way go on. */
  closeGate(): void {
    this.isGateOpen = false;
  }

  /** Answers the writes at the gate with an errno: the array cannot be marked dirty. */
  refuseGated(status: number): void {
    while (this.gated.length > 0) this.partFinished(this.gated.shift(), status);
  }

  get hasGatedWrites(): boolean {
    return this.gated.length > 0;
  }

  /** Makes every write that has completed durable on all members. */
  flush(): Promise<boolean> {
    return new Promise((resolve) => this.flusher.request(resolve));
  }

  /** A member has failed and is not on record: no write is acknowledged until `endRecord`. */
  beginRecord(): void {
    this.recordsPending += 1;
  }

  endRecord(): void {
    this.recordsPending -= 1;
    if (this.recordsPending === 0) this.runner.recordDone();
  }

  /** Takes the lock of a stripe for a job. */
  holdStripe(stripe: number): Promise<number> {
    return this.holds.take(stripe);
  }

  releaseStripe(op: number): void {
    this.runner.release(op);
  }

  /** The next turn has something to do, although no completion may come. */
  get isDue(): boolean {
    const { logs, intent } = this.policy;
    if (this.finished.length > 0 || this.flusher.isDue(this.recordsPending > 0)) return true;
    return logs?.isDue === true || intent?.isDue === true;
  }

  /** Once a turn, after completions and timers. */
  turn(): void {
    this.runner.retryWaiting();
    this.holds.start();
    this.rows.parked.turn();
    this.zeroes.turn();
    this.reads.turn();
    this.split();
    this.policy.intent?.turn();
    this.policy.logs?.turn();
    this.late.turn();
    this.flusher.startDue();
    this.flusher.settleRecorded(this.recordsPending > 0);
    this.deliver();
  }

  /** Until every member that has failed is on record, or the array has failed. */
  private async untilRecorded(): Promise<void> {
    const { timers } = this.environment;
    while (this.recordsPending > 0) await timers.sleep(RECORD_POLL_MS);
  }

  // Splitting --------------------------------------------------------------------------------

  private admit(request: number): void {
    const op = this.requests.op[request]!;
    if (op !== RequestOp.read) this.writesActive += 1;
    if (op > RequestOp.flush) {
      this.zeroes.start(request);
      return;
    }
    this.splitting.push(request);
    this.split();
  }

  private split(): void {
    while (this.splitting.length > 0) {
      const request = this.splitting.peek();
      while (this.requests.splitBytes[request]! < this.requests.bytes[request]!) {
        if (!this.splitOne(request)) return;
      }
      this.splitting.shift();
      this.partFinished(request, 0);
    }
  }

  /** Starts the next part of a request; false when something that it needs is used up. */
  private splitOne(request: number): boolean {
    const { requests, geometry } = this;
    const doneBytes = requests.splitBytes[request]!;
    const offset = requests.offset[request]! + doneBytes;
    const stripe = Math.floor(offset / geometry.stripeBytes);
    const within = offset - stripe * geometry.stripeBytes;
    const bytes = Math.min(requests.bytes[request]! - doneBytes, geometry.stripeBytes - within);
    const address = requests.address[request]! + doneBytes;
    if (requests.op[request] === RequestOp.write) {
      return this.startPart(OpKind.write, request, stripe, within, bytes, address);
    }
    const unavailable = this.members.unavailableRoles(stripe);
    const isUnavailable =
      unavailable !== 0 && this.touchesRoles(stripe, within, bytes, unavailable);
    const avoided = this.members.avoidedRoles(stripe);
    const goesAround = avoided !== 0 && this.touchesRoles(stripe, within, bytes, avoided);
    // Whoever has the stripe may itself wait for the member that does not answer.
    const isBeside = goesAround && this.ops.ownerOf(stripe) >= 0;
    if (isBeside) return this.late.takePart(request, stripe, within, bytes, address);
    if (isUnavailable || goesAround || this.members.hasBadRowsIn(stripe)) {
      return this.startPart(OpKind.read, request, stripe, within, bytes, address);
    }
    return this.reads.start(request, stripe, within, bytes, address);
  }

  private startPart(
    kind: number,
    request: number,
    stripe: number,
    within: number,
    bytes: number,
    address: number,
  ): boolean {
    const { ops, requests } = this;
    if (this.zeroes.isStarved) return false;
    const op = ops.allocate(kind, stripe);
    if (op < 0) return false;
    ops.within[op] = within;
    ops.bytes[op] = bytes;
    ops.address[op] = address;
    ops.request[op] = request;
    ops.isFua[op] = requests.isFua[request]!;
    requests.parts[request]! += 1;
    requests.splitBytes[request]! += bytes;
    this.runner.enter(op);
    return true;
  }

  private touchesRoles(stripe: number, within: number, bytes: number, roles: number): boolean {
    const { geometry } = this;
    const last = Math.floor((within + bytes - 1) / geometry.chunkBytes);
    for (let index = Math.floor(within / geometry.chunkBytes); index <= last; index += 1) {
      if (hasBit(roles, geometry.dataRole(stripe, index))) return true;
    }
    return false;
  }

  private startReconstruction(read: FailedRead): boolean {
    const op = this.ops.allocate(OpKind.read, read.stripe);
    if (op < 0) return false;
    this.ops.within[op] = read.within;
    this.ops.bytes[op] = read.bytes;
    this.ops.address[op] = read.address;
    this.ops.request[op] = read.request;
    if (read.isBadSector) this.ops.isSlow[op] = 1;
    else this.ops.excluded[op] = bitOf(read.role);
    this.runner.enter(op);
    return true;
  }

  // Finishing --------------------------------------------------------------------------------

  private partFinished(request: number, status: number): void {
    const { requests } = this;
    if (status !== 0 && requests.status[request] === 0) requests.status[request] = status;
    requests.parts[request]! -= 1;
    if (requests.parts[request] === 0) this.finished.push(request);
  }

  private deliver(): void {
    const { requests } = this;
    while (this.finished.length > 0) {
      const request = this.finished.shift();
      const client = requests.client[request]!;
      const tag = requests.tag[request]!;
      let status = requests.status[request]!;
      const op = requests.op[request]!;
      if (op !== RequestOp.read && op !== RequestOp.flush) {
        if (requests.splitBytes[request] === requests.bytes[request]) this.writesActive -= 1;
        if (op === RequestOp.write) this.zeroes.noteData(request);
        // Rule 15: once two members are gone no write is acknowledged.
        if (status === 0 && this.members.isFailed) status = EIO;
      }
      // Rule 21: nor once it is fenced, and what was read may be half of another host's write.
      if (status === 0 && this.members.isFenced) status = EIO;
      const address = requests.movedTo[request]!;
      requests.free(request);
      if (client === INNER_CLIENT) this.zeroes.writeFinished(tag, status);
      else this.hooks.onFinished(client, tag, status, address);
    }
  }
}
