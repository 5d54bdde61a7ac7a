/**
 * Stripe operations that met a bad sector, or whose stripe has one: done row by row on the row
 * path, with the stripe's lock held all the while.
 */
import { EIO } from "../base/errno.ts";
import { ROW_BYTES } from "../base/units.ts";
import type { EngineEnvironment } from "./environment.ts";
import type { Geometry } from "./geometry.ts";
import type { MemberSet } from "./member-set.ts";
import type { RowBuffers } from "./row-buffers.ts";
import type { RowPath, RowPlace } from "./row-path.ts";
import { OpKind, type StripeOps } from "./stripe-ops.ts";

const RECORD_POLL_MS = 1;

export class SlowOps {
  private readonly environment: EngineEnvironment;
  private readonly geometry: Geometry;
  private readonly members: MemberSet;
  private readonly ops: StripeOps;
  private readonly rows: RowPath;
  private readonly isRecordPending: () => boolean;
  private readonly finish: (op: number, status: number) => void;

  constructor(options: {
    environment: EngineEnvironment;
    geometry: Geometry;
    members: MemberSet;
    ops: StripeOps;
    rows: RowPath;
    isRecordPending: () => boolean;
    finish: (op: number, status: number) => void;
  }) {
    this.environment = options.environment;
    this.geometry = options.geometry;
    this.members = options.members;
    this.ops = options.ops;
    this.rows = options.rows;
    this.isRecordPending = options.isRecordPending;
    this.finish = options.finish;
  }

  /** Does all parts that are merged into `op`, and ends it. */
  async run(op: number): Promise<void> {
    const buffers = await this.rows.takeBuffers();
    let status = 0;
    for (let part = op; part >= 0; part = this.ops.mergeNext[part]!) {
      status = Math.max(status, await this.runPart(op, part, buffers));
    }
    buffers.give();
    // The failed member is recorded in the others before this write is acknowledged.
    while (this.isRecordPending()) await this.environment.timers.sleep(RECORD_POLL_MS);
    const isWrite = this.ops.kind[op] === OpKind.write;
    this.finish(op, isWrite && this.members.isFailed ? EIO : status);
  }

  private async runPart(op: number, part: number, buffers: RowBuffers): Promise<number> {
    const { ops, geometry } = this;
    const isWrite = ops.kind[op] === OpKind.write;
    const stripe = ops.stripe[op]!;
    const rowsPerChunk = geometry.chunkBytes / ROW_BYTES;
    const first = ops.firstRow(part);
    const firstAddress = ops.address[part]! - (ops.within[part]! % ROW_BYTES);
    let status = 0;
    for (let linear = first; linear < ops.endRow(part); linear += 1) {
      if (isWrite && this.members.isFailed) return EIO;
      const place: RowPlace = { stripe, row: linear % rowsPerChunk };
      const role = geometry.dataRole(stripe, Math.floor(linear / rowsPerChunk));
      const address = firstAddress + (linear - first) * ROW_BYTES;
      if (!isWrite) {
        status = Math.max(status, await this.rows.read(place, role, address, buffers));
        continue;
      }
      const from = Math.max(0, ops.within[part]! - linear * ROW_BYTES);
      const end = ops.within[part]! + ops.bytes[part]! - linear * ROW_BYTES;
      const range = { address, from, to: Math.min(ROW_BYTES, end) };
      status = Math.max(status, await this.rows.write(place, role, range, buffers));
    }
    return status;
  }
}
