/** The ArrayFront of a running array: answers requests itself or hands them to the engine. */
import { assert } from "../base/assert.ts";
import { EIO, EPERM, ESHUTDOWN } from "../base/errno.ts";
import type { StripeEngine } from "../raid5/engine.ts";
import {
  type ArrayFront,
  FRONT_REQUESTS_MAX,
  type FrontCompletion,
  FrontFlag,
  FrontOp,
  type FrontOpCode,
} from "./front.ts";
import type { RoleSlot } from "./start-plan.ts";

export class RaidArrayFront implements ArrayFront {
  readonly name: string;
  readonly sizeBytes: number;
  readonly preferredBytes: number;
  isReadOnly = false;
  /** Set when the array stops: what comes from now on is refused. */
  isStopping = false;
  /** Requests taken, of any kind: shows whether clients are at work. */
  requestCount = 0;
  writeCount = 0;
  private readonly engine: StripeEngine;
  private readonly roles: readonly RoleSlot[];
  private readonly zeroes: StripeEngine["zeroes"];
  private readonly clients: (FrontCompletion | null)[] = [];
  /**
   * Requests answered without the engine wait here for the end of the turn: client, tag, status.
   */
  private readonly early = new Uint32Array(FRONT_REQUESTS_MAX * 3);
  private earlyCount = 0;

  constructor(options: { name: string; engine: StripeEngine; roles: readonly RoleSlot[] }) {
    const { geometry } = options.engine;
    this.name = options.name;
    this.engine = options.engine;
    this.roles = options.roles;
    this.zeroes = options.engine.zeroes;
    this.sizeBytes = geometry.sizeBytes;
    this.preferredBytes = geometry.preferredBytes;
  }

  get isRotational(): boolean {
    return this.roles.some(({ drive }) => drive?.info.isRotational === true);
  }

  get canTrim(): boolean {
    return this.zeroes.stripes.canPunch;
  }

  allocationAt(offset: number): number {
    return this.zeroes.allocation.stateAt(offset);
  }

  allocationEnd(offset: number, limit: number): number {
    return this.zeroes.allocation.endAt(offset, limit);
  }

  attach(onComplete: FrontCompletion): number {
    const free = this.clients.indexOf(null);
    const handle = free >= 0 ? free : this.clients.length;
    this.clients[handle] = onComplete;
    return handle;
  }

  detach(handle: number): void {
    this.clients[handle] = null;
  }

  submit(
    handle: number,
    op: FrontOpCode,
    offset: number,
    bytes: number,
    address: number,
    flags: number,
    tag: number,
  ): void {
    this.requestCount += 1;
    if (this.isStopping) {
      this.answerLater(handle, tag, ESHUTDOWN);
      return;
    }
    if (this.engine.members.isFenced) {
      this.answerLater(handle, tag, EIO);
      return;
    }
    const isWrite = op !== FrontOp.read && op !== FrontOp.flush;
    if (isWrite && this.isReadOnly) {
      this.answerLater(handle, tag, EPERM);
      return;
    }
    if (op === FrontOp.trim || op === FrontOp.writeZeroes) {
      const isTrim = op === FrontOp.trim;
      const status = this.zeroes.stripes.judge({ isTrim, offset, bytes, flags });
      if (status >= 0) {
        this.answerLater(handle, tag, status);
        return;
      }
    }
    if (isWrite) this.writeCount += 1;
    const isFua = (flags & FrontFlag.fua) !== 0;
    this.engine.submit(handle, op, offset, bytes, address, isFua, tag, flags);
  }

  /** Delivers an answer of the engine. */
  finished(client: number, tag: number, status: number, address: number): void {
    const onComplete = this.clients[client];
    assert(onComplete !== null && onComplete !== undefined, "a client stays until it is answered");
    onComplete(tag, status, address);
  }

  /** There are answers for the next turn. */
  get isDue(): boolean {
    return this.earlyCount > 0;
  }

  /** Once a turn: answers what the engine did not get. */
  turn(): void {
    for (let index = 0; index < this.earlyCount; index += 1) {
      const at = index * 3;
      this.finished(this.early[at]!, this.early[at + 1]!, this.early[at + 2]!, 0);
    }
    this.earlyCount = 0;
  }

  private answerLater(client: number, tag: number, status: number): void {
    assert(this.earlyCount < FRONT_REQUESTS_MAX, "clients keep below the request limit");
    const at = this.earlyCount * 3;
    this.early[at] = client;
    this.early[at + 1] = tag;
    this.early[at + 2] = status;
    this.earlyCount += 1;
  }
}
