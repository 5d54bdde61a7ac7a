/**
 * Reads that go straight to the member that has the chunk, without a hold: the common case.
 *
 * One that fails is told on: a bad sector and a member that is gone are for a stripe operation,
 * which reconstructs; a member that does not answer in time is for the late reads.
 */
import { assert } from "../../base/assert.ts";
import { bitOf } from "../../base/bit-set.ts";
import { ROW_BYTES, withinRow } from "../../base/units.ts";
import { Op } from "../../reactor/io-table.ts";
import {
  Content,
  type IoFailure,
  type IoUser,
  Verdict,
  type VerdictCode,
} from "../members/member-io.ts";
import { OpKind } from "../stripe/ops.ts";
import type { LateReads } from "./overdue-reads.ts";
import type { EngineParts } from "./row-parts.ts";

/** A read of one chunk that failed: whole rows. */
export interface FailedRead {
  readonly request: number;
  readonly stripe: number;
  readonly within: number;
  readonly bytes: number;
  readonly address: number;
  readonly role: number;
  /** A bad sector: for the careful path. Otherwise the member is gone, and parity has the data. */
  readonly isBadSector: boolean;
}

export class ChunkReads {
  private readonly parts: EngineParts;
  private readonly late: LateReads;
  private readonly user: IoUser;
  private readonly failedReads: FailedRead[] = [];

  constructor(parts: EngineParts, late: LateReads) {
    this.parts = parts;
    this.late = late;
    this.user = parts.memberIo.register(Content.data, (request, _, verdict, failure) => {
      if (failure === null) parts.requests.partFinished(request, 0);
      else this.failed(request, verdict, failure);
    });
  }

  /** Once a turn, after all completions. */
  turn(): void {
    while (this.failedReads.length > 0) {
      if (!this.reconstruct(this.failedReads[0]!)) return;
      this.failedReads.shift();
    }
  }

  /** Reads from one chunk, without a hold, whole rows into the client's rows. */
  start(request: number, stripe: number, within: number, bytes: number, address: number): boolean {
    const { geometry, requests, memberIo } = this.parts;
    const { chunkBytes } = geometry;
    const dataIndex = Math.floor(within / chunkBytes);
    const inChunk = within - dataIndex * chunkBytes;
    const partBytes = Math.min(bytes, chunkBytes - inChunk);
    const fromByte = inChunk - withinRow(inChunk);
    const role = geometry.dataRole(stripe, dataIndex);
    const place = stripe * chunkBytes + fromByte;
    const endByte = inChunk + partBytes + ROW_BYTES - 1;
    const rowBytes = endByte - withinRow(endByte) - fromByte;
    assert(partBytes > 0 && fromByte + rowBytes <= chunkBytes, "a read lies within one chunk");
    const rowAddress = address - (inChunk - fromByte);
    const { user } = this;
    if (!memberIo.start(user, Op.read, role, place, rowBytes, rowAddress, request, 0)) return false;
    requests.parts[request]! += 1;
    requests.splitBytes[request]! += partBytes;
    return true;
  }

  private failed(request: number, verdict: VerdictCode, failure: IoFailure): void {
    const { geometry } = this.parts;
    const { role, place, bytes, address } = failure;
    const stripe = Math.floor(place / geometry.chunkBytes);
    const dataIndex = geometry.dataIndexOf(stripe, role);
    assert(dataIndex >= 0, "only data is read without a hold");
    const within = dataIndex * geometry.chunkBytes + (place - stripe * geometry.chunkBytes);
    const isBadSector = verdict === Verdict.badSector;
    const read: FailedRead = { request, stripe, within, bytes, address, role, isBadSector };
    // A read that was given up may still write into the client's rows, so it gets others.
    const hungRole = verdict === Verdict.slow ? role : -1;
    if (failure.isGivenUp) this.late.add({ ...read, hungRole });
    else this.failedReads.push(read);
  }

  /** Starts a stripe operation for it; false when there is none free now. */
  private reconstruct(read: FailedRead): boolean {
    const { ops, runner } = this.parts;
    const op = ops.allocate(OpKind.read, read.stripe);
    if (op < 0) return false;
    ops.within[op] = read.within;
    ops.bytes[op] = read.bytes;
    ops.address[op] = read.address;
    ops.request[op] = read.request;
    if (read.isBadSector) ops.isSlow[op] = 1;
    else ops.excluded[op] = bitOf(read.role);
    runner.enter(op);
    return true;
  }
}
