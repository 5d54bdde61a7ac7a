/**
 * Reads that go straight to the member that has the chunk, without a lock: the common case.
 *
 * One that fails is told on: a bad sector and a member that is gone are for a stripe operation,
 * which reconstructs; a member that does not answer in time is for the late reads.
 */
import { ETIMEDOUT } from "../../base/errno.ts";
import { ROW_BYTES, roundDown, roundUp } from "../../base/units.ts";
import { Outcome, type OutcomeCode } from "../../block/io-error.ts";
import { Op } from "../../reactor/io-table.ts";
import type { EngineEnvironment, MemberError } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import type { MemberSet } from "../members/member-set.ts";
import type { RequestTable } from "../request-table.ts";
import type { LateRead } from "./overdue-reads.ts";

/** A read of one chunk that failed: whole rows. */
export interface FailedRead {
  readonly request: number;
  readonly stripe: number;
  readonly within: number;
  readonly bytes: number;
  readonly address: number;
  readonly role: number;
  /** A bad sector: for the row path. Otherwise the member is gone, and parity has the data. */
  readonly isBadSector: boolean;
}

export interface ChunkReadsHost {
  memberFailed(error: MemberError): void;
  partFinished(request: number, status: number): void;
  late(read: LateRead): void;
  /** Starts a stripe operation for it; false when there is none free now. */
  reconstruct(read: FailedRead): boolean;
}

export class ChunkReads {
  private readonly environment: EngineEnvironment;
  private readonly geometry: Geometry;
  private readonly members: MemberSet;
  private readonly requests: RequestTable;
  private readonly host: ChunkReadsHost;
  private readonly owner: number;
  private readonly failedReads: FailedRead[] = [];

  constructor(options: {
    environment: EngineEnvironment;
    geometry: Geometry;
    members: MemberSet;
    requests: RequestTable;
    host: ChunkReadsHost;
  }) {
    this.environment = options.environment;
    this.geometry = options.geometry;
    this.members = options.members;
    this.requests = options.requests;
    this.host = options.host;
    this.owner = options.environment.router.register((io, outcome, errno) =>
      this.onIo(io, outcome, errno),
    );
  }

  close(): void {
    this.environment.router.unregister(this.owner);
  }

  /** Once a turn, after all completions. */
  turn(): void {
    while (this.failedReads.length > 0) {
      if (!this.host.reconstruct(this.failedReads[0]!)) return;
      this.failedReads.shift();
    }
  }

  /** Reads from one chunk, without a lock, whole rows into the client's rows. */
  start(request: number, stripe: number, within: number, bytes: number, address: number): boolean {
    const { geometry, members, requests } = this;
    const { table } = this.environment;
    const io = table.allocate();
    if (io < 0) return false;
    const { chunkBytes } = geometry;
    const dataIndex = Math.floor(within / chunkBytes);
    const inChunk = within - dataIndex * chunkBytes;
    const partBytes = Math.min(bytes, chunkBytes - inChunk);
    const fromByte = roundDown(inChunk, ROW_BYTES);
    const role = geometry.dataRole(stripe, dataIndex);
    table.op[io] = Op.read;
    table.isFua[io] = 0;
    table.place[io] = stripe * chunkBytes + fromByte;
    table.offset[io] = members.dataOffset[role]! + table.place[io]!;
    table.bytes[io] = roundUp(inChunk + partBytes, ROW_BYTES) - fromByte;
    table.address[io] = address - (inChunk - fromByte);
    table.owner[io] = this.owner;
    table.context[io] = request;
    table.role[io] = role;
    table.epoch[io] = members.epoch[role]!;
    requests.parts[request]! += 1;
    requests.splitBytes[request]! += partBytes;
    members.devices[role]!.submit(io);
    return true;
  }

  private onIo(io: number, outcome: OutcomeCode, errno: number): void {
    const { table } = this.environment;
    const request = table.context[io]!;
    if (outcome === Outcome.done) {
      table.free(io);
      this.host.partFinished(request, 0);
      return;
    }
    const role = table.role[io]!;
    const offset = table.offset[io]!;
    const bytes = table.bytes[io]!;
    const address = table.address[io]!;
    const inMember = table.place[io]!;
    const isCurrent = table.epoch[io] === this.members.epoch[role];
    table.free(io);
    const { geometry } = this;
    const stripe = Math.floor(inMember / geometry.chunkBytes);
    const dataIndex = geometry.dataIndexOf(stripe, role);
    const within = dataIndex * geometry.chunkBytes + (inMember - stripe * geometry.chunkBytes);
    if (isCurrent) this.host.memberFailed({ role, op: Op.read, outcome, errno, offset, bytes });
    const isBadSector = outcome === Outcome.mediaError;
    const read: FailedRead = { request, stripe, within, bytes, address, role, isBadSector };
    // A read that was given up may still write into the client's rows, so it gets others.
    const hungRole = outcome === Outcome.timedOut ? role : -1;
    if (errno === ETIMEDOUT) this.host.late({ ...read, hungRole });
    else this.failedReads.push(read);
  }
}
