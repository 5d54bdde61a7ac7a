/** The ArrayFront of a running array: turns requests away or hands them to the engine. */
import { assert } from "../base/assert.ts";
import { EPERM, ESHUTDOWN } from "../base/errno.ts";
import type { StripeEngine } from "../raid5/engine.ts";
import {
  type ArrayFront,
  FRONT_REQUESTS_MAX,
  type FrontCompletion,
  FrontFlag,
  FrontOp,
  type FrontOpCode,
} from "./front.ts";

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
  private readonly clients: (FrontCompletion | null)[] = [];
  /** Refused requests wait here for the end of the turn: client, tag, status. */
  private readonly refused = new Uint32Array(FRONT_REQUESTS_MAX * 3);
  private refusedCount = 0;

  constructor(options: { name: string; engine: StripeEngine }) {
    const { geometry } = options.engine;
    this.name = options.name;
    this.engine = options.engine;
    this.sizeBytes = geometry.sizeBytes;
    this.preferredBytes = geometry.preferredBytes;
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
      this.refuse(handle, tag, ESHUTDOWN);
      return;
    }
    const isWrite = op === FrontOp.write;
    if (isWrite && this.isReadOnly) {
      this.refuse(handle, tag, EPERM);
      return;
    }
    assert(op === FrontOp.read || isWrite || op === FrontOp.flush, "the operation is offered");
    if (isWrite) this.writeCount += 1;
    const isFua = (flags & FrontFlag.fua) !== 0;
    this.engine.submit(handle, op, offset, bytes, address, isFua, tag);
  }

  /** Delivers an answer of the engine. */
  finished(client: number, tag: number, status: number, address: number): void {
    const onComplete = this.clients[client];
    assert(onComplete !== null && onComplete !== undefined, "a client stays until it is answered");
    onComplete(tag, status, address);
  }

  /** Once a turn: answers what was refused. */
  turn(): void {
    for (let index = 0; index < this.refusedCount; index += 1) {
      const at = index * 3;
      this.finished(this.refused[at]!, this.refused[at + 1]!, this.refused[at + 2]!, 0);
    }
    this.refusedCount = 0;
  }

  private refuse(client: number, tag: number, status: number): void {
    assert(this.refusedCount < FRONT_REQUESTS_MAX, "clients keep below the request limit");
    const at = this.refusedCount * 3;
    this.refused[at] = client;
    this.refused[at + 1] = tag;
    this.refused[at + 2] = status;
    this.refusedCount += 1;
  }
}
