/**
 * The RAID5 engine of one array: takes requests of any offset and length, splits them by stripe,
 * and answers each once.
 *
 * Reads of members that are there go straight to them, without a hold. A read that must be
 * reconstructed, and every write, is a stripe operation (stripe/runner.ts). Writes wait behind a
 * gate until the array is marked dirty on disk. Finished requests are delivered once a turn, when
 * all completions of the turn have been judged.
 */
import { assert } from "../base/assert.ts";
import { inBackground } from "../base/background.ts";
import { hasBit } from "../base/bit-set.ts";
import { EIO } from "../base/errno.ts";
import { IndexQueue } from "../base/index-queue.ts";
import { ROW_BYTES, withinRow } from "../base/units.ts";
import type { BitmapState } from "../md/bitmap-state.ts";
import type { EngineEnvironment, EngineHooks, MemberError } from "./environment.ts";
import type { Geometry } from "./geometry.ts";
import { INNER_CLIENT, InnerRequests } from "./inner-requests.ts";
import { Flusher } from "./members/flusher.ts";
import { MemberIo } from "./members/member-io.ts";
import type { MemberSet } from "./members/member-set.ts";
import { FailureRecords } from "./members/unrecorded-failures.ts";
import { PplLogs } from "./policy/ppl-logs.ts";
import { WriteIntent } from "./policy/write-intent.ts";
import { WritePolicy } from "./policy/write-policy.ts";
import {
  MOVES_FLAG,
  NO_ERA,
  RequestOp,
  type RequestOpCode,
  RequestTable,
} from "./request-table.ts";
import { SlowOps } from "./rows/bad-sector-ops.ts";
import { CarefulRows } from "./rows/careful-rows.ts";
import { ChunkReads } from "./rows/chunk-reads.ts";
import { LateReads } from "./rows/overdue-reads.ts";
import type { EngineParts } from "./rows/row-parts.ts";
import { Splitter } from "./splitter.ts";
import { OpKind, StripeOps } from "./stripe/ops.ts";
import { StripeParity } from "./stripe/parity.ts";
import { StripeRunner } from "./stripe/runner.ts";
import { SegmentTable } from "./stripe/segments.ts";
import type { StripeParts } from "./stripe/stripe-parts.ts";
import { NO_STREAM, WriteStreams } from "./write-streams.ts";
import { ZEROES_AT_ONCE, ZeroRequests } from "./zero/requests.ts";

const STRIPE_OP_CAPACITY = 1024;
/** Requests that a reshape has under way: one reads or writes what it moves. */
const MOVES_AT_ONCE = 1;

export interface EngineOptions {
  readonly environment: EngineEnvironment;
  readonly geometry: Geometry;
  readonly members: MemberSet;
  readonly hooks: EngineHooks;
  /** Requests under way at most; the callers keep to it. */
  readonly requestCapacity: number;
}

export class StripeEngine {
  readonly parts: EngineParts;
  readonly geometry: Geometry;
  readonly members: MemberSet;
  /** For whoever works on single rows of a stripe that it holds. */
  readonly rows: CarefulRows;
  readonly zeroes: ZeroRequests;
  private readonly slow: SlowOps;
  private readonly late: LateReads;
  private readonly reads: ChunkReads;
  private readonly splitter: Splitter;
  /** Writes that wait for the dirty mark. */
  private readonly gated: IndexQueue;
  /** Requests for what a reshape is about to move: until its step has ended. */
  private readonly moved: IndexQueue;
  private readonly inner: InnerRequests;
  /** Requests that are admitted and not answered, by era. */
  private readonly activeInEra = new Uint32Array(2);
  private era = 0;
  private isGateOpen = false;
  private writesActive = 0;

  constructor(options: EngineOptions) {
    this.geometry = options.geometry;
    this.members = options.members;
    const parts = stripePartsOf(options);
    const { guard } = options.environment;
    const runner = new StripeRunner(parts, {
      readLate: (op) => this.late.addOp(op),
      runSlow: (op) => inBackground(this.slow.run(op), guard),
      isFull: () => this.rows.parked.isFull,
    });
    this.parts = { ...parts, runner };
    this.rows = new CarefulRows(this.parts);
    this.slow = new SlowOps(this.parts, this.rows);
    this.late = new LateReads(this.parts, this.rows);
    this.reads = new ChunkReads(this.parts, this.late);
    this.inner = new InnerRequests(parts.requests);
    this.zeroes = new ZeroRequests({
      parts: this.parts,
      rows: this.rows,
      inner: this.inner,
      admit: (request) => this.admit(request),
    });
    this.splitter = new Splitter({
      ...{ requests: parts.requests, timers: options.environment.timers },
      startPart: (request) => this.startNextPart(request),
    });
    this.gated = new IndexQueue(parts.requests.capacity);
    this.moved = new IndexQueue(parts.requests.capacity);
  }

  /** The client takes the run at `address` in place of the one that it gave. */
  readonly handOver = (address: number): void => this.late.handOver(address);

  /** Nothing is under way and nothing waits. */
  get isIdle(): boolean {
    const { requests, ops, memberIo, flusher, policy } = this.parts;
    if (requests.inUse > 0 || ops.inUse > 0) return false;
    return memberIo.isIdle && !flusher.isBusy && policy.logs?.isIdle !== false;
  }

  /** Writes that are past the gate and not answered, and rows of some that are still under way. */
  get activeWrites(): number {
    return this.writesActive + this.rows.parked.count;
  }

  /** Requests that are not answered. */
  get activeRequests(): number {
    return this.parts.requests.inUse;
  }

  close(): void {
    assert(this.isIdle, "an engine is closed with nothing under way");
    this.clearPolicy();
    this.parts.memberIo.close();
  }

  // Policy -----------------------------------------------------------------------------------

  /** From now on writes are logged; each member's log has still to be seated. */
  usePartialParity(): PplLogs {
    const { policy, runner } = this.parts;
    assert(policy.intent === null && policy.logs === null, "one policy at a time");
    const { planner } = runner;
    const operations = { count: STRIPE_OP_CAPACITY, source: planner, waiter: runner };
    policy.logs = new PplLogs(this.parts, operations);
    return policy.logs;
  }

  /** From now on writes mark their stripes; `needsBlocks` asks for blocks to be written. */
  useBitmap(state: BitmapState, needsBlocks: () => void): WriteIntent {
    const { policy, runner } = this.parts;
    assert(policy.intent === null && policy.logs === null, "one policy at a time");
    const opCapacity = STRIPE_OP_CAPACITY;
    policy.intent = new WriteIntent(this.parts, { state, opCapacity, waiter: runner, needsBlocks });
    return policy.intent;
  }

  /** Back to the policy `resync`, with nothing under way. */
  clearPolicy(): void {
    this.parts.policy.logs?.close();
    this.parts.policy.logs = null;
    this.parts.policy.intent = null;
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
    const { requests } = this.parts;
    const request = requests.allocate();
    const { sizeBytes } = this.geometry;
    assert(offset >= 0 && offset + bytes <= sizeBytes, "a request lies in the array");
    const isMoving = op === RequestOp.read || op === RequestOp.write;
    const isInPlace = withinRow(address) === withinRow(offset);
    assert(!isMoving || isInPlace, "rows lie in memory as they lie in the array");
    requests.flags[request] = flags;
    requests.op[request] = op;
    requests.offset[request] = offset;
    requests.bytes[request] = bytes;
    requests.address[request] = address;
    requests.isFua[request] = isFua ? 1 : 0;
    requests.client[request] = client;
    requests.tag[request] = tag;
    if (op === RequestOp.flush) {
      this.parts.flusher.request((isDurable) =>
        this.parts.requests.partFinished(request, isDurable ? 0 : EIO),
      );
    } else {
      this.pass(request);
    }
  }

  /** To the gate, and where that is open through it. */
  private pass(request: number): void {
    if (this.parts.requests.op[request] !== RequestOp.read && !this.isGateOpen) {
      this.gated.push(request);
      this.parts.hooks.onWriteWaiting();
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
    while (this.gated.length > 0) this.parts.requests.partFinished(this.gated.shift(), status);
  }

  get hasGatedWrites(): boolean {
    return this.gated.length > 0;
  }

  /** Makes every write that has completed durable on all members. */
  flush(): Promise<boolean> {
    return new Promise((resolve) => this.parts.flusher.request(resolve));
  }

  /** A member has failed and is not on record: no write is acknowledged until `endRecord`. */
  beginRecord(): void {
    this.parts.records.begin();
  }

  endRecord(): void {
    const { records, runner } = this.parts;
    records.end();
    if (!records.isPending) runner.waiting.recordDone();
  }

  /** Takes a stripe for a job. */
  holdStripe(stripe: number): Promise<number> {
    return this.parts.runner.holds.take(stripe);
  }

  releaseStripe(op: number): void {
    this.parts.runner.release(op);
  }

  /** The next turn has something to do, although no completion may come. */
  get isDue(): boolean {
    const { logs, intent } = this.parts.policy;
    if (this.parts.requests.finished.length > 0 || this.parts.flusher.isDue) return true;
    if (this.parts.runner.arrivals.isDue || this.splitter.isDue) return true;
    return logs?.isDue === true || intent?.isDue === true;
  }

  /** Once a turn, after completions and timers. */
  turn(): void {
    this.parts.runner.waiting.turn();
    this.parts.runner.holds.start();
    this.rows.parked.turn();
    this.zeroes.turn();
    this.reads.turn();
    this.splitter.turn();
    this.parts.runner.arrivals.turn();
    this.parts.policy.intent?.turn();
    this.parts.policy.logs?.turn();
    this.late.turn();
    this.parts.flusher.turn();
    this.deliver();
  }

  // A reshape --------------------------------------------------------------------------------

  /** Requests that were admitted before the last `beginMove` are under way, or rows of theirs. */
  get hasEarlierRequests(): boolean {
    return this.activeInEra[1 - this.era]! > 0 || this.rows.parked.count > 0;
  }

  /**
   * What lies from where the reshape stands to `toBytes` is about to be moved: requests for any of
   * it wait. Order: what came before has to be answered before a byte is read or written, because
   * a request goes where its bytes were when it was admitted (`hasEarlierRequests`).
   */
  beginMove(toBytes: number): void {
    assert(!this.hasEarlierRequests, "what came before the last step has been answered");
    this.geometry.beginMove(toBytes);
    this.era = 1 - this.era;
  }

  /**
   * Whole stripes of the step, at `address`, in the new layout: 0, or the first errno. Until they
   * are on record nobody relies on the rows that they are written to: no dirty mark is for them.
   */
  moveIn(offset: number, bytes: number, address: number): Promise<number> {
    assert(this.geometry.isMoving(offset, bytes), "what is moved is of the step");
    const write = { op: RequestOp.write, offset, bytes, address, isFua: false };
    return this.inner.run(write, (request) => this.admit(request), MOVES_FLAG);
  }

  /** Bytes of the step, from where they are: 0, or the first errno. */
  moveOut(offset: number, bytes: number, address: number): Promise<number> {
    assert(this.geometry.isMoving(offset, bytes), "what is moved is of the step");
    const read = { op: RequestOp.read, offset, bytes, address, isFua: false };
    return this.inner.run(read, (request) => this.admit(request));
  }

  /** On record, or not done: what waited goes on, to where its bytes are now. */
  endMove({ isDone }: { readonly isDone: boolean }): void {
    this.geometry.endMove({ isDone });
    for (let count = this.moved.length; count > 0; count -= 1) this.pass(this.moved.shift());
  }

  /**
   * Nobody knows where the bytes of the step are found after a start: what waits for them is
   * answered with an errno, and whatever still comes waits on.
   */
  refuseMoved(status: number): void {
    while (this.moved.length > 0) this.parts.requests.partFinished(this.moved.shift(), status);
  }

  // Splitting --------------------------------------------------------------------------------

  private admit(request: number): void {
    const { requests } = this.parts;
    assert(requests.parts[request] === 1, "a request is admitted once");
    if (this.geometry.isReshaping && requests.client[request] !== INNER_CLIENT) {
      if (this.geometry.isMoving(requests.offset[request]!, requests.bytes[request]!)) {
        this.moved.push(request);
        return;
      }
      requests.era[request] = this.era;
      this.activeInEra[this.era]! += 1;
    }
    const op = requests.op[request]!;
    if (op !== RequestOp.read && !this.isMove(request)) this.writesActive += 1;
    if (op > RequestOp.flush) {
      this.zeroes.start(request);
      return;
    }
    if (op === RequestOp.write && requests.client[request] !== INNER_CLIENT) {
      const { streams } = this.parts;
      requests.stream[request] = streams.join(requests.offset[request]!, requests.bytes[request]!);
    }
    this.splitter.add(request);
  }

  private isMove(request: number): boolean {
    return (this.parts.requests.flags[request]! & MOVES_FLAG) !== 0;
  }

  /** Of a request; false when something that it needs is used up. */
  private startNextPart(request: number): boolean {
    const { requests } = this.parts;
    const { geometry } = this;
    const doneBytes = requests.splitBytes[request]!;
    const offset = requests.offset[request]! + doneBytes;
    // What a reshape writes goes by the new layout, all else by that which the bytes have.
    const hasTwo = geometry.isReshaping && !this.isMove(request);
    const stripe = hasTwo ? geometry.stripeOf(offset) : Math.floor(offset / geometry.stripeBytes);
    const firstByte = hasTwo ? geometry.firstByteOf(stripe) : stripe * geometry.stripeBytes;
    const stripeBytes = hasTwo ? geometry.stripeBytesOf(stripe) : geometry.stripeBytes;
    const within = offset - firstByte;
    const bytes = Math.min(requests.bytes[request]! - doneBytes, stripeBytes - within);
    const address = requests.address[request]! + doneBytes;
    if (requests.op[request] === RequestOp.write) {
      return this.startPart(OpKind.write, request, stripe, within, bytes, address);
    }
    const unavailable = this.members.unavailableRoles(stripe);
    const isUnavailable =
      unavailable !== 0 && this.touchesRoles(stripe, within, bytes, unavailable);
    const avoided = this.members.avoidedRoles(stripe);
    const goesAround = avoided !== 0 && this.touchesRoles(stripe, within, bytes, avoided);
    // Whoever has the stripe may itself wait for the member that does not answer; behind who waits
    // for a slow one the line is short.
    const isStuck = this.members.isAvoidedHung && this.parts.ops.ownerOf(stripe) >= 0;
    const isBeside = goesAround && isStuck;
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
    const { ops, requests } = this.parts;
    assert(
      bytes > 0 && within + bytes <= this.geometry.stripeBytesOf(stripe),
      "a part lies in its stripe",
    );
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
    if (kind === OpKind.write) this.parts.runner.arrive(op);
    else this.parts.runner.enter(op);
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

  // Finishing --------------------------------------------------------------------------------

  private leaveStream(request: number): void {
    const { requests, streams, environment } = this.parts;
    const stream = requests.stream[request]!;
    if (stream !== NO_STREAM) streams.leave(stream, environment.timers.clock.nowMs());
  }

  private deliver(): void {
    const { requests } = this.parts;
    while (requests.finished.length > 0) {
      const request = requests.finished.shift();
      const client = requests.client[request]!;
      const tag = requests.tag[request]!;
      let status = requests.status[request]!;
      const op = requests.op[request]!;
      if (op !== RequestOp.read && op !== RequestOp.flush) {
        const isSplit = requests.splitBytes[request] === requests.bytes[request];
        if (isSplit && !this.isMove(request)) this.writesActive -= 1;
        assert(this.writesActive >= 0, "a write that is answered was counted");
        if (op === RequestOp.write) this.zeroes.noteData(request);
        this.leaveStream(request);
        // Rule 15: once two members are gone no write is acknowledged.
        if (status === 0 && this.members.isFailed) status = EIO;
      }
      // Rule 21: nor once it is fenced, and what was read may be half of another host's write.
      if (status === 0 && this.members.isFenced) status = EIO;
      const address = requests.movedTo[request]!;
      const era = requests.era[request]!;
      if (era !== NO_ERA) this.activeInEra[era]! -= 1;
      requests.free(request);
      if (client === INNER_CLIENT) this.inner.finished(tag, status);
      else this.parts.hooks.onFinished(client, tag, status, address);
    }
  }
}

/** All parts below the runner, each made of those before it. */
function stripePartsOf(options: EngineOptions): StripeParts {
  const { environment, geometry, members, hooks, requestCapacity } = options;
  const memberFailed = (error: MemberError): void => hooks.onMemberError(error);
  const targetFailed = (error: MemberError): void => hooks.onTargetError(error);
  const memberIo = new MemberIo({ environment, members, memberFailed, targetFailed });
  const records = new FailureRecords();
  const flusher = new Flusher({ environment, members, memberIo, records });
  const requests = new RequestTable(requestCapacity + ZEROES_AT_ONCE + MOVES_AT_ONCE);
  const streams = new WriteStreams();
  const policy = new WritePolicy();
  const ops = new StripeOps(STRIPE_OP_CAPACITY);
  const segments = new SegmentTable(ops, geometry.chunkBytes / ROW_BYTES);
  const parity = new StripeParity({ environment, geometry, ops, segments });
  const below = { environment, hooks, geometry, members, memberIo, records, flusher };
  return { ...below, requests, streams, policy, ops, segments, parity };
}
