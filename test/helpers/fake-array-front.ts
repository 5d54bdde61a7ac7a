/**
 * An array front over plain memory that completes when the test says so, in any order.
 *
 * It is as harsh as the contract allows: a read overwrites the whole rows around its range, and a
 * write is applied at completion, after a check that its buffer has not changed since it was
 * submitted. A buffer that is freed too early fails there.
 */

import {
  type ArrayFront,
  type FrontCompletion,
  FrontFlag,
  FrontOp,
  type FrontOpCode,
} from "../../src/array/front.ts";
import { assert } from "../../src/base/assert.ts";
import type { SharedMemory } from "../../src/base/memory.ts";
import { ROW_BYTES, roundDown, roundUp } from "../../src/base/units.ts";

export interface FrontRequest {
  readonly op: FrontOpCode;
  readonly offset: number;
  readonly bytes: number;
  readonly address: number;
  readonly isFua: boolean;
  readonly flags: number;
  readonly tag: number;
  readonly onComplete: FrontCompletion;
  readonly payload: Uint8Array | null;
}

export class FakeArrayFront implements ArrayFront {
  readonly data: Uint8Array;
  isReadOnly = false;
  isRotational = false;
  canTrim = true;
  preferredBytes = 131_072;
  /** What BLOCK_STATUS says, by block of `statusBlockBytes`; beyond it: data. */
  readonly allocation: number[] = [];
  statusBlockBytes = 65_536;
  readonly pending: FrontRequest[] = [];
  submitted = 0;
  /** Where writes begin that are being received. */
  readonly coming = new Set<number>();
  readonly clients = new Map<number, FrontCompletion>();
  private readonly memory: SharedMemory;
  private nextHandle = 1;

  constructor({ memory, sizeBytes }: { memory: SharedMemory; sizeBytes: number }) {
    this.memory = memory;
    this.data = new Uint8Array(sizeBytes);
  }

  get sizeBytes(): number {
    return this.data.length;
  }

  allocationAt(offset: number): number {
    return this.allocation[Math.floor(offset / this.statusBlockBytes)] ?? 0;
  }

  allocationEnd(offset: number, limit: number): number {
    const state = this.allocationAt(offset);
    let end = offset;
    while (end < limit && this.allocationAt(end) === state) {
      end = roundDown(end, this.statusBlockBytes) + this.statusBlockBytes;
    }
    return Math.min(end, limit);
  }

  attach(onComplete: FrontCompletion): number {
    const handle = this.nextHandle;
    this.nextHandle += 1;
    this.clients.set(handle, onComplete);
    return handle;
  }

  detach(handle: number): void {
    const onComplete = this.clients.get(handle);
    assert(onComplete !== undefined, "a client detaches once");
    assert(!this.pending.some((request) => request.onComplete === onComplete), "nothing under way");
    this.clients.delete(handle);
  }

  noteComing(offset: number, isComing: boolean): void {
    if (isComing) this.coming.add(offset);
    else this.coming.delete(offset);
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
    const onComplete = this.clients.get(handle);
    assert(onComplete !== undefined, "only attached clients submit");
    assert(offset + bytes <= this.data.length, "a request is in bounds");
    const hasPayload = op === FrontOp.read || op === FrontOp.write;
    if (hasPayload) {
      assert(bytes > 0 && address % ROW_BYTES === offset % ROW_BYTES, "rows line up");
    }
    const isWrite = op === FrontOp.write;
    const payload = isWrite ? this.memory.bytes.slice(address, address + bytes) : null;
    const isFua = (flags & FrontFlag.fua) !== 0;
    this.pending.push({ op, offset, bytes, address, isFua, flags, tag, onComplete, payload });
    this.submitted += 1;
  }

  /** Completes one request under way (the oldest unless said otherwise). */
  complete(index = 0, status = 0): void {
    const request = this.pending.splice(index, 1)[0];
    assert(request !== undefined, "there is a request to complete");
    const { op, offset, bytes, address, payload } = request;
    if (op === FrontOp.read) {
      const rows = roundDown(address, ROW_BYTES);
      this.memory.bytes.fill(0xa5, rows, roundUp(address + bytes, ROW_BYTES));
      if (status === 0) this.memory.bytes.set(this.data.subarray(offset, offset + bytes), address);
    }
    if (payload !== null) {
      const now = this.memory.bytes.subarray(address, address + bytes);
      assert(Buffer.compare(now, payload) === 0, "a write's buffer is left alone until completion");
      if (status === 0) this.data.set(payload, offset);
    }
    if (op === FrontOp.writeZeroes && status === 0) this.data.fill(0, offset, offset + bytes);
    request.onComplete(request.tag, status, 0);
  }

  completeAll(): void {
    while (this.pending.length > 0) this.complete();
  }
}
