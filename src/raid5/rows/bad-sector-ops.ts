/**
 * Stripe operations that met a bad sector, or whose stripe has one: done row by row on the row
 * path, with the stripe held all the while.
 *
 * A write of which some parts are done and others not is mended from its own buffers: the disks no
 * longer tell what a chunk holds whose member is missing.
 *
 * A write that meets a bad sector may have logged what it was about to write. That entry covers its
 * rows until all of them are done: data and parity may differ in each of them meanwhile. What the
 * entry does not cover is logged row by row, when it has been given back.
 */
import { assert } from "../../base/assert.ts";
import { hasBit } from "../../base/bit-set.ts";
import { EIO, ENOSPC } from "../../base/errno.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { PARITY_SOURCES_MAX } from "../../parity/kernels.ts";
import { OpKind } from "../stripe/ops.ts";
import { Strategy } from "../stripe/write-strategy.ts";
import type { CarefulRows, RowPlace } from "./careful-rows.ts";
import { type ModifiedRow, worse } from "./degraded-rows.ts";
import type { RowBuffers } from "./row-buffers.ts";
import type { EngineParts } from "./row-parts.ts";

/** All rows of the operation; those that its entry in the log covers; those that it does not. */
type RowChoice = "all" | "covered" | "waiting";

export class SlowOps {
  private readonly parts: EngineParts;
  private readonly rows: CarefulRows;
  private readonly sources = new Uint32Array(PARITY_SOURCES_MAX);

  constructor(parts: EngineParts, rows: CarefulRows) {
    this.parts = parts;
    this.rows = rows;
  }

  /** Does all parts that are merged into `op`, and ends it. */
  async run(op: number): Promise<void> {
    const { ops, policy } = this.parts;
    assert(ops.ownerOf(ops.stripe[op]!) === op, "the careful path has the stripe of its operation");
    assert(ops.pending[op] === 0, "the careful path begins with nothing under way");
    const isWrite = ops.kind[op] === OpKind.write;
    if (isWrite && policy.intent !== null && ops.isMarked[op] === 0) {
      ops.isMarked[op] = 1;
      const stripe = ops.stripe[op]!;
      if (!policy.intent.startWrite(stripe)) {
        const isMarked = await policy.intent.untilDurable(stripe, stripe + 1);
        if (!isMarked) {
          this.parts.runner.finishSlow(op, ENOSPC);
          return;
        }
      }
    }
    const buffers = await this.rows.takeBuffers();
    let status = 0;
    if (ops.isHalfWritten[op] === 1) {
      assert(ops.bufferBytes[op]! > 0, "what is half written has its buffers");
      ops.isHalfWritten[op] = 0;
      status = await this.mend(op, buffers);
      this.endCover(op, buffers);
      if (this.parts.segments.endUnit(op)) {
        status = worse(status, await this.runAll(op, buffers, "waiting"));
      }
    } else if (policy.logs?.covers(op) === true) {
      status = await this.runAll(op, buffers, "covered");
      this.endCover(op, buffers);
      if (this.parts.segments.endUnit(op)) {
        status = worse(status, await this.runAll(op, buffers, "waiting"));
      }
    } else status = await this.runAll(op, buffers, "all");
    this.endMark(op, buffers);
    buffers.give();
    // The failed member is recorded in the others before this write is acknowledged.
    await this.parts.records.untilDone();
    this.parts.runner.finishSlow(op, isWrite && this.parts.members.isFailed ? EIO : status);
  }

  /** The rows of the operation's unit are written, or parked: then it stands until they are home. */
  private endCover(op: number, { parked }: RowBuffers): void {
    const { logs } = this.parts.policy;
    if (logs?.covers(op) !== true) return;
    if (parked === 0) logs.done(op);
    else this.rows.parked.cover(this.parityRole(op), logs.handOver(op));
  }

  /** The same for its bits in the bitmap: without a parked row they are given back at the end. */
  private endMark(op: number, { parked }: RowBuffers): void {
    const { ops } = this.parts;
    const { intent } = this.parts.policy;
    if (parked === 0 || intent === null || ops.isMarked[op] === 0) return;
    ops.isMarked[op] = 0;
    const stripe = ops.stripe[op]!;
    const isWhole = ops.failed[op] === 0;
    this.rows.parked.cover(this.parityRole(op), () => intent.endWrite(stripe, isWhole));
  }

  private parityRole(op: number): number {
    return this.parts.geometry.parityRole(this.parts.ops.stripe[op]!);
  }

  /**
   * Brings the rows that the operation was writing to an end. What the chunks hold that it does not
   * modify follows from the buffers alone: parity as it was computed, without the new data.
   */
  private async mend(op: number, rows: RowBuffers): Promise<number> {
    const { segments, geometry, environment } = this.parts;
    const stripe = this.parts.ops.stripe[op]!;
    const parityRole = geometry.parityRole(stripe);
    const first = segments.first(op);
    let status = 0;
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      if (segments.touched[slot] === 0) continue;
      const fromRow = segments.fromRow[slot]!;
      for (let row = fromRow; row < segments.toRow[slot]!; row += 1) {
        if (this.parts.members.isFailed) return EIO;
        const modified = this.modifiedRows(op, slot, row);
        this.sources[0] = this.parts.parity.parityAddress(op, slot) + (row - fromRow) * ROW_BYTES;
        for (const [index, { address }] of modified.entries()) this.sources[index + 1] = address;
        const count = modified.length + 1;
        environment.kernels.xor(rows.partialParity, this.sources, count, ROW_BYTES);
        const place = { stripe, row };
        const answer = await this.rows.degraded.write(place, parityRole, modified, rows);
        status = worse(status, answer);
        const isNew = segments.strategy[slot] !== Strategy.readModifyWrite;
        if (isNew && answer === 0) this.rows.record.noteProven(place);
      }
    }
    return status;
  }

  private modifiedRows(op: number, slot: number, row: number): ModifiedRow[] {
    const { segments, geometry } = this.parts;
    const stripe = this.parts.ops.stripe[op]!;
    const absent = this.parts.members.unavailableRoles(stripe);
    const modified: ModifiedRow[] = [];
    for (let dataIndex = 0; dataIndex < geometry.dataCountOf(stripe); dataIndex += 1) {
      if (!hasBit(segments.touched[slot]!, dataIndex)) continue;
      const role = geometry.dataRole(stripe, dataIndex);
      const address = segments.dataAddress(op, dataIndex, row);
      modified.push({ role, address, isMissing: hasBit(absent, role) });
    }
    return modified;
  }

  private async runAll(op: number, buffers: RowBuffers, rows: RowChoice): Promise<number> {
    let status = 0;
    for (let part = op; part >= 0; part = this.parts.ops.mergeNext[part]!) {
      status = worse(status, await this.runPart(op, part, buffers, rows));
    }
    return status;
  }

  /** Whether a row of the part is to be done now. */
  private isChosen(op: number, linear: number, rows: RowChoice): boolean {
    if (rows === "all") return true;
    const rowsPerChunk = this.parts.geometry.chunkBytes / ROW_BYTES;
    const chunks = this.parts.segments.chunksAt(op, linear % rowsPerChunk, rows === "waiting");
    return hasBit(chunks, Math.floor(linear / rowsPerChunk));
  }

  private async runPart(
    op: number,
    part: number,
    buffers: RowBuffers,
    rows: RowChoice,
  ): Promise<number> {
    const { ops, geometry } = this.parts;
    const isWrite = ops.kind[op] === OpKind.write;
    const stripe = ops.stripe[op]!;
    const rowsPerChunk = geometry.chunkBytes / ROW_BYTES;
    const first = ops.firstRow(part);
    assert(ops.stripe[part] === stripe, "what is merged is of one stripe");
    const firstAddress = ops.address[part]! - (ops.within[part]! % ROW_BYTES);
    let status = 0;
    for (let linear = first; linear < ops.endRow(part); linear += 1) {
      if (isWrite && this.parts.members.isFailed) return EIO;
      if (!this.isChosen(op, linear, rows)) continue;
      const place: RowPlace = { stripe, row: linear % rowsPerChunk };
      const role = geometry.dataRole(stripe, Math.floor(linear / rowsPerChunk));
      const address = firstAddress + (linear - first) * ROW_BYTES;
      if (!isWrite) {
        status = worse(status, await this.rows.read(place, role, address, buffers));
        continue;
      }
      const from = Math.max(0, ops.within[part]! - linear * ROW_BYTES);
      const end = ops.within[part]! + ops.bytes[part]! - linear * ROW_BYTES;
      const isLogged = rows === "covered";
      const range = { address, from, to: Math.min(ROW_BYTES, end), isLogged };
      status = worse(status, await this.rows.write(place, role, range, buffers));
    }
    return status;
  }
}
