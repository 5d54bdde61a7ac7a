/**
 * Plans stripe operations: what of a write comes next (the unit of the log), each segment's
 * strategy, where its buffers lie, and what is put into the log.
 *
 * Nothing here does I/O or waits, and nothing allocates. write-strategy.ts has the table of
 * strategies, ppl-units.ts the rule by which a logged write is cut.
 */

import { assert } from "../../base/assert.ts";
import {
  countBits,
  firstBits,
  hasBit,
  highestBit,
  lowestBit,
  union,
  withBit,
} from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { PPL_ENTRIES_MAX } from "../../md/ppl.ts";
import type { PplUnitBuilder } from "../../md/ppl-builder.ts";
import type { PplSource } from "../policy/ppl-users.ts";
import { OpKind } from "./ops.ts";
import { type PplUnitLimits, takePplUnit } from "./ppl-units.ts";
import type { StripeParts } from "./stripe-parts.ts";
import {
  bufferCountOf,
  chooseWriteStrategy,
  NONE_MISSING,
  PARITY_MISSING,
  readMaskOf,
  type SegmentShape,
  Strategy,
  type StrategyCode,
} from "./write-strategy.ts";

export class StripePlanner implements PplSource {
  private readonly parts: StripeParts;
  private readonly shape: SegmentShape;
  private readonly unitLimits: { -readonly [K in keyof PplUnitLimits]: PplUnitLimits[K] };
  private readonly extent = {
    stripe: 0,
    firstRow: 0,
    rowCount: 0,
    firstDataIndex: 0,
    dataCount: 0,
  };

  constructor(parts: StripeParts) {
    this.parts = parts;
    const { dataCount } = parts.geometry;
    this.unitLimits = { dataCount, partialParityRowsMax: 0, entriesMax: PPL_ENTRIES_MAX };
    this.shape = { dataCount, touched: 0, partial: 0, missing: NONE_MISSING, isInSync: true };
  }

  /** What of the plan is written next: all of it, unless it is logged. */
  takeUnit(op: number): void {
    assert(this.parts.ops.kind[op] === OpKind.write, "only writes have units");
    const { segments, ops } = this.parts;
    const { unitLimits } = this;
    const stripe = ops.stripe[op]!;
    const parityRole = this.parts.geometry.parityRole(stripe);
    const isLogged =
      this.parts.policy.logs !== null &&
      !hasBit(this.parts.members.unavailableRoles(stripe), parityRole);
    if (!isLogged) {
      segments.putBack(op);
      return;
    }
    const missing = this.missingInReplay(stripe);
    ops.unitMissing[op] = missing;
    unitLimits.partialParityRowsMax = this.parts.policy.logs!.partialParityRowsMax;
    takePplUnit(segments, op, missing, unitLimits);
  }

  /** The data chunks, as bits. */
  private missingInReplay(stripe: number): number {
    const roles = this.parts.members.rolesMissingInReplay(stripe);
    if (roles === 0) return 0;
    let bits = 0;
    for (let dataIndex = 0; dataIndex < this.parts.geometry.dataCount; dataIndex += 1) {
      if (hasBit(roles, this.parts.geometry.dataRole(stripe, dataIndex)))
        bits = withBit(bits, dataIndex);
    }
    return bits;
  }

  private partialParityBytesOf(slot: number): number {
    const { segments } = this.parts;
    const touched = segments.touched[slot]!;
    if (touched === 0 || touched === firstBits(this.parts.geometry.dataCount)) return 0;
    return (segments.toRow[slot]! - segments.fromRow[slot]!) * ROW_BYTES;
  }

  /** Chooses each segment's strategy and lays out its buffers. False: it cannot be done. */
  plan(op: number): boolean {
    assert(this.parts.ops.bufferBytes[op] === 0, "a plan begins without buffers");
    const { ops, segments, members } = this.parts;
    const { shape } = this;
    const stripe = ops.stripe[op]!;
    const isWrite = ops.kind[op] === OpKind.write;
    const unavailable = union(members.unavailableRoles(stripe), ops.excluded[op]!);
    if (isWrite && (members.isFailed || countBits(unavailable) > 1)) return false;
    shape.dataCount = this.parts.geometry.dataCountOf(stripe);
    shape.missing = this.missingIndex(stripe, unavailable);
    const isStripeInSync = members.isInSync(stripe);
    const first = segments.first(op);
    let bufferBytes = 0;
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      shape.touched = segments.touched[slot]!;
      shape.partial = segments.partial[slot]!;
      if (shape.touched === 0) {
        segments.strategy[slot] = Strategy.none;
        segments.readMask[slot] = 0;
        continue;
      }
      shape.isInSync = isStripeInSync || this.isProven(stripe, slot);
      const strategy = isWrite
        ? this.writeStrategy(op, stripe)
        : this.readStrategy(stripe, unavailable);
      if (strategy === null) return false;
      const readMask = readMaskOf(strategy, shape);
      const columnBytes = (segments.toRow[slot]! - segments.fromRow[slot]!) * ROW_BYTES;
      segments.strategy[slot] = strategy;
      segments.readMask[slot] = readMask;
      segments.bufferOffset[slot] = bufferBytes;
      bufferBytes += bufferCountOf(strategy, readMask) * columnBytes;
    }
    assert(!isWrite || bufferBytes > 0 || shape.missing < 0, "new parity has its buffer");
    ops.bufferBytes[op] = bufferBytes;
    ops.missing[op] = shape.missing;
    return true;
  }

  private writeStrategy(op: number, stripe: number): StrategyCode {
    const { shape } = this;
    const parityRole = this.parts.geometry.parityRole(stripe);
    const isParityUnreadable =
      shape.missing === PARITY_MISSING &&
      !hasBit(this.parts.members.unavailableRoles(stripe), parityRole);
    if (!isParityUnreadable) return chooseWriteStrategy(shape);
    // The parity's member is there, only its old content is not: compute it anew from all data.
    assert(hasBit(this.parts.ops.excluded[op]!, parityRole), "an unreadable parity is excluded");
    shape.missing = NONE_MISSING;
    shape.isInSync = false;
    const strategy = chooseWriteStrategy(shape);
    shape.missing = PARITY_MISSING;
    return strategy;
  }

  private readStrategy(stripe: number, unavailable: number): StrategyCode | null {
    const { shape } = this;
    let missingTouched = 0;
    for (let dataIndex = 0; dataIndex < shape.dataCount; dataIndex += 1) {
      if (!hasBit(shape.touched, dataIndex)) continue;
      if (hasBit(unavailable, this.parts.geometry.dataRole(stripe, dataIndex))) {
        missingTouched += 1;
      }
    }
    if (missingTouched === 0) return Strategy.readDirect;
    // Reconstruction needs all the others, and parity that is known to be right.
    if (countBits(unavailable) > 1 || !shape.isInSync) return null;
    return Strategy.readReconstruct;
  }

  private missingIndex(stripe: number, unavailable: number): number {
    if (unavailable === 0) return NONE_MISSING;
    const role = highestBit(unavailable);
    const dataIndex = this.parts.geometry.dataIndexOf(stripe, role);
    return dataIndex < 0 ? PARITY_MISSING : dataIndex;
  }

  private isProven(stripe: number, slot: number): boolean {
    const rows = this.parts.members.provenRows;
    if (rows === null) return false;
    const firstRow = stripe * (this.parts.geometry.chunkBytes / ROW_BYTES);
    return rows.hasRange(
      firstRow + this.parts.segments.fromRow[slot]!,
      firstRow + this.parts.segments.toRow[slot]!,
    );
  }

  /** After a write: rows whose parity is known to be right from now on. */
  noteProven(op: number): void {
    const { ops, segments, members } = this.parts;
    const stripe = ops.stripe[op]!;
    if (members.provenRows === null || members.isInSync(stripe)) return;
    const firstRow = stripe * (this.parts.geometry.chunkBytes / ROW_BYTES);
    const first = segments.first(op);
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      const strategy = segments.strategy[slot];
      if (segments.touched[slot] === 0) continue;
      if (strategy !== Strategy.reconstructWrite && strategy !== Strategy.recoverWrite) continue;
      members.provenRows.addRange(
        firstRow + segments.fromRow[slot]!,
        firstRow + segments.toRow[slot]!,
      );
    }
  }

  // The log ----------------------------------------------------------------------------------

  entryCount(op: number): number {
    const { segments } = this.parts;
    let count = 0;
    const first = segments.first(op);
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      if (segments.touched[slot] !== 0) count += 1;
    }
    return count;
  }

  partialParityBytes(op: number): number {
    const { segments } = this.parts;
    let bytes = 0;
    const first = segments.first(op);
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      bytes += this.partialParityBytesOf(slot);
    }
    return bytes;
  }

  /** False: a member has left or come since, and the unit could not be replayed as it was cut. */
  isUnitAsCut(op: number): boolean {
    return this.missingInReplay(this.parts.ops.stripe[op]!) === this.parts.ops.unitMissing[op];
  }

  /** Computes parity, and puts the partial parity where the log has it. */
  addEntries(op: number, unit: PplUnitBuilder): void {
    const { segments } = this.parts;
    const { extent } = this;
    extent.stripe = this.parts.ops.stripe[op]!;
    const first = segments.first(op);
    for (let slot = first; slot < first + segments.count[op]!; slot += 1) {
      const touched = segments.touched[slot]!;
      if (touched === 0) continue;
      const address = this.partialParityBytesOf(slot) === 0 ? 0 : unit.partialParityAddress;
      this.parts.parity.computeSegment(op, slot, address);
      extent.firstRow = segments.fromRow[slot]!;
      extent.rowCount = segments.toRow[slot]! - segments.fromRow[slot]!;
      extent.firstDataIndex = lowestBit(touched);
      extent.dataCount = countBits(touched);
      unit.addExtent(extent);
    }
  }
}
