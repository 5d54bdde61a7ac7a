/**
 * Requests to an array, as parallel typed arrays, and the queue of those that are being split into
 * parts.
 *
 * `parts` counts what has not finished, and one more while the request is still being split. A
 * request that has finished is delivered at the end of the turn, so that all completions of one
 * turn are judged before any is acknowledged (write-rules 15).
 */
import { assert } from "../base/assert.ts";
import { FreeList } from "../base/free-list.ts";
import { IndexQueue } from "../base/index-queue.ts";
import { NO_STREAM } from "./write-streams.ts";

/** Operations of a request. */
export const RequestOp = { read: 0, write: 1, flush: 2, trim: 3, writeZeroes: 4 } as const;
export type RequestOpCode = (typeof RequestOp)[keyof typeof RequestOp];

/** `noHole` and `fastZero` are for writeZeroes: see ArrayFront.submit (array/front.ts). */
export const RequestFlag = { fua: 1, noHole: 2, fastZero: 4 } as const;
/** A write of a reshape: it goes where its bytes are found when they have been moved. */
export const MOVES_FLAG = 8;
/** The era of a request that was not admitted, or is the engine's own. */
export const NO_ERA = 2;

export class RequestTable {
  readonly capacity: number;
  /** RequestOp. */
  readonly op: Uint8Array;
  readonly offset: Float64Array;
  readonly bytes: Uint32Array;
  readonly address: Uint32Array;
  readonly isFua: Uint8Array;
  /** RequestFlag. */
  readonly flags: Uint8Array;
  /** Which beginMove of the engine it came before: 0, 1 or NO_ERA. */
  readonly era: Uint8Array;
  /** Of a write: which one it goes on with (write-streams.ts). */
  readonly stream: Int8Array;
  readonly client: Uint32Array;
  readonly tag: Uint32Array;
  readonly parts: Uint32Array;
  /** Bytes already split into parts. */
  readonly splitBytes: Uint32Array;
  /** Not 0: the data of a read lies here, not at `address`. */
  readonly movedTo: Uint32Array;
  /** 0, or the positive errno of the first part that failed. */
  readonly status: Uint8Array;
  /** All their parts have finished, and they are not delivered. */
  readonly finished: IndexQueue;
  private readonly list: FreeList;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.op = new Uint8Array(capacity);
    this.offset = new Float64Array(capacity);
    this.bytes = new Uint32Array(capacity);
    this.address = new Uint32Array(capacity);
    this.isFua = new Uint8Array(capacity);
    this.flags = new Uint8Array(capacity);
    this.era = new Uint8Array(capacity);
    this.stream = new Int8Array(capacity);
    this.client = new Uint32Array(capacity);
    this.tag = new Uint32Array(capacity);
    this.parts = new Uint32Array(capacity);
    this.splitBytes = new Uint32Array(capacity);
    this.movedTo = new Uint32Array(capacity);
    this.status = new Uint8Array(capacity);
    this.finished = new IndexQueue(capacity);
    this.list = new FreeList(capacity);
  }

  get inUse(): number {
    return this.list.inUse;
  }

  allocate(): number {
    const request = this.list.take();
    assert(request >= 0, "clients keep below the request limit");
    this.parts[request] = 1;
    this.splitBytes[request] = 0;
    this.movedTo[request] = 0;
    this.status[request] = 0;
    this.era[request] = NO_ERA;
    this.stream[request] = NO_STREAM;
    return request;
  }

  /** A part of a request has ended with 0 or a positive errno. */
  partFinished(request: number, status: number): void {
    assert(this.parts[request]! > 0, "a part of a request finishes once");
    if (status !== 0 && this.status[request] === 0) this.status[request] = status;
    this.parts[request]! -= 1;
    if (this.parts[request] === 0) this.finished.push(request);
  }

  free(request: number): void {
    assert(this.parts[request] === 0, "a request is free when all its parts have finished");
    this.list.give(request);
  }
}
