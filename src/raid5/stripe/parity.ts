/**
 * The buffers of stripe operations, and what is computed in them: parity, recovered chunks, rows
 * that are written in part.
 *
 * A segment's buffers lie one after the other, each as long as its column: parity, then the chunks
 * that were read in the order of their data index, then a recovered one (write-strategy.ts).
 */
import { assert } from "../../base/assert.ts";
import { countBits, hasBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { PARITY_SOURCES_MAX } from "../../parity/kernels.ts";
import type { EngineEnvironment } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import type { StripeOps } from "./ops.ts";
import type { SegmentTable } from "./segments.ts";
import { bufferIndexOf, Strategy, type StrategyCode } from "./write-strategy.ts";

interface ParityParts {
  readonly environment: EngineEnvironment;
  readonly geometry: Geometry;
  readonly ops: StripeOps;
  readonly segments: SegmentTable;
}

export class StripeParity {
  private readonly parts: ParityParts;
  private readonly sources = new Uint32Array(PARITY_SOURCES_MAX);

  constructor(parts: ParityParts) {
    this.parts = parts;
  }

  /** Takes all that an operation needs at once. False: there is no memory for it now. */
  reserve(op: number): boolean {
    const { ops, environment } = this.parts;
    const bytes = ops.bufferBytes[op]!;
    if (bytes === 0) return true;
    const address = environment.enginePool.allocate(bytes);
    if (address === 0) return false;
    assert(ops.pending[op] === 0, "buffers are taken before any request is under way");
    ops.bufferAddress[op] = address;
    return true;
  }

  /** No request uses them any more. */
  free(op: number): void {
    const { ops, environment } = this.parts;
    const bytes = ops.bufferBytes[op]!;
    if (bytes > 0) environment.enginePool.free(ops.bufferAddress[op]!, bytes);
    ops.bufferBytes[op] = 0;
  }

  /** Data chunks of the operation's stripe. */
  private dataCountOf(op: number): number {
    return this.parts.geometry.dataCountOf(this.parts.ops.stripe[op]!);
  }

  private columnBytes(slot: number): number {
    return (this.parts.segments.toRow[slot]! - this.parts.segments.fromRow[slot]!) * ROW_BYTES;
  }

  parityAddress(op: number, slot: number): number {
    return this.parts.ops.bufferAddress[op]! + this.parts.segments.bufferOffset[slot]!;
  }

  bufferAddress(op: number, slot: number, dataIndex: number): number {
    const { segments } = this.parts;
    const strategy = segments.strategy[slot] as StrategyCode;
    const index = bufferIndexOf(strategy, segments.readMask[slot]!, dataIndex);
    return this.parityAddress(op, slot) + index * this.columnBytes(slot);
  }

  private recoveredAddress(op: number, slot: number): number {
    const index = 1 + countBits(this.parts.segments.readMask[slot]!);
    return this.parityAddress(op, slot) + index * this.columnBytes(slot);
  }

  /**
   * Brings the segment's new rows and parity into place. `partialParity` is where its partial parity
   * is wanted, or 0; a segment that modifies all chunks has none.
   */
  computeSegment(op: number, slot: number, partialParity: number): void {
    const { segments } = this.parts;
    assert(segments.touched[slot] !== 0, "what is computed is about to be written");
    const strategy = segments.strategy[slot];
    if (strategy === Strategy.recoverWrite) this.recoverMissing(op, slot);
    if (segments.partial[slot] !== 0) this.completePartialRows(op, slot);
    if (strategy === Strategy.dataOnly) return;
    if (strategy === Strategy.readModifyWrite) this.modifyParity(op, slot, partialParity);
    else if (partialParity !== 0) this.computeBoth(op, slot, partialParity);
    else this.computeParity(op, slot);
  }

  /** The old content of the missing chunk: the XOR of all others and the old parity. */
  private recoverMissing(op: number, slot: number): void {
    assert(this.parts.ops.missing[op]! >= 0, "a data chunk is missing");
    const { sources } = this;
    const readMask = this.parts.segments.readMask[slot]!;
    sources[0] = this.parityAddress(op, slot);
    let count = 1;
    const dataCount = this.dataCountOf(op);
    for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
      if (!hasBit(readMask, dataIndex)) continue;
      sources[count] = this.bufferAddress(op, slot, dataIndex);
      count += 1;
    }
    this.xor(this.recoveredAddress(op, slot), count, slot);
  }

  /** Puts the old bytes around the new ones in rows that are written in part. */
  private completePartialRows(op: number, slot: number): void {
    const { segments, ops } = this.parts;
    const partial = segments.partial[slot]!;
    const row = segments.fromRow[slot]!;
    assert(segments.toRow[slot] === row + 1, "a row that is written in part is alone");
    const dataCount = this.dataCountOf(op);
    for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
      if (!hasBit(partial, dataIndex)) continue;
      const old = hasBit(segments.readMask[slot]!, dataIndex)
        ? this.bufferAddress(op, slot, dataIndex)
        : this.recoveredAddress(op, slot);
      const part = segments.partAt(op, dataIndex, row);
      const rowStart = dataIndex * this.parts.geometry.chunkBytes + row * ROW_BYTES;
      const from = Math.max(0, ops.within[part]! - rowStart);
      const to = Math.min(ROW_BYTES, ops.within[part]! + ops.bytes[part]! - rowStart);
      const target = segments.dataAddress(op, dataIndex, row);
      const { kernels } = this.parts.environment;
      if (from > 0) kernels.copy(target, old, from);
      if (to < ROW_BYTES) kernels.copy(target + to, old + to, ROW_BYTES - to);
    }
  }

  /** Parity = XOR of all data, new where touched and old elsewhere. */
  private computeParity(op: number, slot: number): void {
    const { segments } = this.parts;
    const { sources } = this;
    const row = segments.fromRow[slot]!;
    const dataCount = this.dataCountOf(op);
    for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
      sources[dataIndex] = hasBit(segments.touched[slot]!, dataIndex)
        ? segments.dataAddress(op, dataIndex, row)
        : this.bufferAddress(op, slot, dataIndex);
    }
    this.xor(this.parityAddress(op, slot), dataCount, slot);
  }

  /**
   * Parity = old parity XOR old data XOR new data, in two passes. What stands
   * between them is the partial parity.
   */
  private modifyParity(op: number, slot: number, partialParity: number): void {
    const { segments } = this.parts;
    const { sources } = this;
    const touched = segments.touched[slot]!;
    const parity = this.parityAddress(op, slot);
    sources[0] = parity;
    let count = 1;
    const dataCount = this.dataCountOf(op);
    for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
      if (!hasBit(touched, dataIndex)) continue;
      sources[count] = this.bufferAddress(op, slot, dataIndex);
      count += 1;
    }
    const between = partialParity === 0 ? parity : partialParity;
    this.xor(between, count, slot);
    this.addTouched(op, slot, between);
  }

  /** Partial parity = XOR of the chunks that stay; parity = that XOR the new data. */
  private computeBoth(op: number, slot: number, partialParity: number): void {
    const touched = this.parts.segments.touched[slot]!;
    let count = 0;
    const dataCount = this.dataCountOf(op);
    for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
      if (hasBit(touched, dataIndex)) continue;
      this.sources[count] = this.bufferAddress(op, slot, dataIndex);
      count += 1;
    }
    this.xor(partialParity, count, slot);
    this.addTouched(op, slot, partialParity);
  }

  /** Parity = what lies at `source` XOR the new data. */
  private addTouched(op: number, slot: number, source: number): void {
    const { segments } = this.parts;
    const { sources } = this;
    const row = segments.fromRow[slot]!;
    sources[0] = source;
    let count = 1;
    const dataCount = this.dataCountOf(op);
    for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
      if (!hasBit(segments.touched[slot]!, dataIndex)) continue;
      sources[count] = segments.dataAddress(op, dataIndex, row);
      count += 1;
    }
    this.xor(this.parityAddress(op, slot), count, slot);
  }

  reconstruct(op: number, slot: number): void {
    const { segments } = this.parts;
    const { sources } = this;
    const row = segments.fromRow[slot]!;
    // As planned: another member may have failed since, and this read is still right.
    const missing = this.parts.ops.missing[op]!;
    assert(missing >= 0, "a data chunk is missing");
    sources[0] = this.parityAddress(op, slot);
    let count = 1;
    const dataCount = this.dataCountOf(op);
    for (let dataIndex = 0; dataIndex < dataCount; dataIndex += 1) {
      if (dataIndex === missing) continue;
      sources[count] = hasBit(segments.touched[slot]!, dataIndex)
        ? segments.dataAddress(op, dataIndex, row)
        : this.bufferAddress(op, slot, dataIndex);
      count += 1;
    }
    const target = segments.dataAddress(op, missing, row);
    this.parts.environment.kernels.xor(target, sources, count, this.columnBytes(slot));
  }

  private xor(target: number, count: number, slot: number): void {
    assert(count > 0 && count <= this.sources.length, "there are as many sources as chunks");
    this.parts.environment.kernels.xor(target, this.sources, count, this.columnBytes(slot));
  }
}
