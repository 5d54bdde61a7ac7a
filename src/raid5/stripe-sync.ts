/**
 * What rebuild, resync and scrub do with one stripe, under its lock.
 *
 * | work    | reads                | then                                                  |
 * |---------|----------------------|-------------------------------------------------------|
 * | rebuild | all but the target   | their XOR goes to the target                          |
 * | resync  | all members          | where the XOR is not zero: parity is computed anew     |
 * | check   | all members          | rows whose XOR is not zero are counted, nothing else   |
 * | repair  | all members          | the same, and parity is computed anew                  |
 *
 * A long chunk is worked through in pieces, so that the buffers stay small; the lock is held for
 * the whole stripe, because a stripe is either done or not.
 */
import { ROW_BYTES } from "../base/units.ts";
import { type AsyncIo, type IoAnswer, isDone } from "../block/async-io.ts";
import { Outcome } from "../block/io-error.ts";
import { Op, type OpCode } from "../reactor/io-table.ts";
import type { StripeEngine } from "./engine.ts";
import type { EngineEnvironment, MemberError } from "./environment.ts";

/** Bytes of one member that are in a buffer at a time. */
export const SYNC_PIECE_BYTES = 128 * 1024;

export type StripeResult =
  | { readonly kind: "done"; readonly mismatchBytes: number }
  /** A member could not be read or written; the array has been told. */
  | { readonly kind: "member-error"; readonly error: MemberError };

export type CheckMode = "resync" | "check" | "repair";

const DONE: StripeResult = { kind: "done", mismatchBytes: 0 };

export class StripeSync {
  private readonly engine: StripeEngine;
  private readonly environment: EngineEnvironment;
  private readonly asyncIo: AsyncIo;
  private readonly memberFailed: (error: MemberError) => void;
  private readonly sources = new Uint32Array(16);

  constructor(options: {
    engine: StripeEngine;
    environment: EngineEnvironment;
    asyncIo: AsyncIo;
    memberFailed: (error: MemberError) => void;
  }) {
    this.engine = options.engine;
    this.environment = options.environment;
    this.asyncIo = options.asyncIo;
    this.memberFailed = options.memberFailed;
  }

  get pieceBytes(): number {
    return Math.min(this.engine.geometry.chunkBytes, SYNC_PIECE_BYTES);
  }

  /** Bytes of buffer that one stripe under work needs. */
  get bufferBytes(): number {
    return this.pieceBytes * this.engine.geometry.memberCount;
  }

  /** Fills the target's chunk of a stripe. The caller has the lock, and marks the stripe done. */
  async rebuild(stripe: number, target: number, buffer: number): Promise<StripeResult> {
    for (let column = 0; column < this.engine.geometry.chunkBytes; column += this.pieceBytes) {
      if (!this.hasBadRows(stripe, column)) {
        const error = await this.rebuildPiece(stripe, column, target, buffer);
        if (error === null) continue;
        if (!isBadSector(error)) return { kind: "member-error", error };
      }
      const error = await this.rebuildRows(stripe, column, target);
      if (error !== null) return { kind: "member-error", error };
    }
    return DONE;
  }

  private async rebuildPiece(
    stripe: number,
    column: number,
    target: number,
    buffer: number,
  ): Promise<MemberError | null> {
    const reads: Promise<MemberError | null>[] = [];
    let count = 0;
    for (let role = 0; role < this.engine.geometry.memberCount; role += 1) {
      if (role === target) continue;
      reads.push(this.move(Op.read, role, stripe, column, buffer + count * this.pieceBytes));
      count += 1;
    }
    const failed = worstError(await Promise.all(reads));
    if (failed !== null) return failed;
    const result = buffer + count * this.pieceBytes;
    this.xor(result, buffer, count);
    return this.move(Op.write, target, stripe, column, result);
  }

  /** A piece with bad sectors, row by row: what cannot be had is entered as lost. */
  private async rebuildRows(
    stripe: number,
    column: number,
    target: number,
  ): Promise<MemberError | null> {
    const { rows } = this.engine;
    const buffers = await rows.takeBuffers();
    let isFilled = true;
    for (let byte = 0; byte < this.pieceBytes && isFilled; byte += ROW_BYTES) {
      const place = { stripe, row: (column + byte) / ROW_BYTES };
      isFilled = await rows.rebuild(place, target, buffers);
    }
    buffers.give();
    return isFilled ? null : this.goneError(Op.write, target, stripe, column);
  }

  /** Compares parity with data, and writes parity anew unless the mode is check. */
  async compare(stripe: number, mode: CheckMode, buffer: number): Promise<StripeResult> {
    let mismatchBytes = 0;
    for (let column = 0; column < this.engine.geometry.chunkBytes; column += this.pieceBytes) {
      // A member that is being rebuilt has nothing to compare here.
      if (this.engine.members.unavailableRoles(stripe) !== 0) return this.gone(stripe, column);
      let result: number | MemberError | null = null;
      if (!this.hasBadRows(stripe, column)) {
        result = await this.comparePiece(stripe, column, mode, buffer);
        if (typeof result !== "number" && !isBadSector(result)) {
          return { kind: "member-error", error: result };
        }
      }
      if (typeof result !== "number") result = await this.compareRows(stripe, column, mode);
      if (typeof result !== "number") return { kind: "member-error", error: result };
      mismatchBytes += result;
    }
    return { kind: "done", mismatchBytes };
  }

  /** The bytes that did not match, or the error that it met. */
  private async comparePiece(
    stripe: number,
    column: number,
    mode: CheckMode,
    buffer: number,
  ): Promise<number | MemberError> {
    const reads: Promise<MemberError | null>[] = [];
    for (let role = 0; role < this.engine.geometry.memberCount; role += 1) {
      reads.push(this.move(Op.read, role, stripe, column, buffer + role * this.pieceBytes));
    }
    const failed = worstError(await Promise.all(reads));
    if (failed !== null) return failed;
    const found = this.countMismatch(buffer);
    if (found === 0 || mode === "check") return found;
    if (this.engine.members.unavailableRoles(stripe) !== 0) {
      return this.goneError(Op.read, 0, stripe, column);
    }
    return (await this.rewriteParity(stripe, column, buffer)) ?? found;
  }

  /** A piece with bad sectors, row by row: those are cured first. */
  private async compareRows(
    stripe: number,
    column: number,
    mode: CheckMode,
  ): Promise<number | MemberError> {
    const { rows, members } = this.engine;
    const buffers = await rows.takeBuffers();
    let mismatchBytes = 0;
    for (let byte = 0; byte < this.pieceBytes && members.degradedCount === 0; byte += ROW_BYTES) {
      const place = { stripe, row: (column + byte) / ROW_BYTES };
      const kind = mode === "resync" ? "resync" : "scrub";
      if (!(await rows.cure(place, kind, buffers))) continue;
      if (await rows.compare(place, mode !== "check", buffers)) continue;
      mismatchBytes += ROW_BYTES;
    }
    buffers.give();
    if (members.degradedCount === 0) return mismatchBytes;
    return this.goneError(Op.read, 0, stripe, column);
  }

  private hasBadRows(stripe: number, column: number): boolean {
    const { members } = this.engine;
    if (!members.hasBadRows) return false;
    const row = column / ROW_BYTES;
    return members.badRoles(stripe, row, row + this.pieceBytes / ROW_BYTES) !== 0;
  }

  private gone(stripe: number, column: number): StripeResult {
    return { kind: "member-error", error: this.goneError(Op.read, 0, stripe, column) };
  }

  private goneError(op: OpCode, role: number, stripe: number, column: number): MemberError {
    const { members, geometry } = this.engine;
    const offset = members.dataOffset[role]! + stripe * geometry.chunkBytes + column;
    return { role, op, outcome: Outcome.memberLost, errno: 0, offset, bytes: this.pieceBytes };
  }

  private async rewriteParity(
    stripe: number,
    column: number,
    buffer: number,
  ): Promise<MemberError | null> {
    const { geometry } = this.engine;
    const parityRole = geometry.parityRole(stripe);
    const parity = buffer + parityRole * this.pieceBytes;
    let count = 0;
    for (let role = 0; role < geometry.memberCount; role += 1) {
      if (role === parityRole) continue;
      this.sources[count] = buffer + role * this.pieceBytes;
      count += 1;
    }
    this.environment.kernels.xor(parity, this.sources, count, this.pieceBytes);
    return this.move(Op.write, parityRole, stripe, column, parity);
  }

  /** Bytes of the rows in which the XOR of all members is not zero. */
  private countMismatch(buffer: number): number {
    const { memberCount } = this.engine.geometry;
    const { kernels } = this.environment;
    let bytes = 0;
    let row = 0;
    while (row < this.pieceBytes) {
      for (let role = 0; role < memberCount; role += 1) {
        this.sources[role] = buffer + role * this.pieceBytes + row;
      }
      const found = kernels.findMismatch(this.sources, memberCount, this.pieceBytes - row);
      if (found < 0) break;
      bytes += ROW_BYTES;
      row += Math.floor(found / ROW_BYTES) * ROW_BYTES + ROW_BYTES;
    }
    return bytes;
  }

  private xor(target: number, buffer: number, count: number): void {
    for (let index = 0; index < count; index += 1) {
      this.sources[index] = buffer + index * this.pieceBytes;
    }
    this.environment.kernels.xor(target, this.sources, count, this.pieceBytes);
  }

  private async move(
    op: OpCode,
    role: number,
    stripe: number,
    column: number,
    address: number,
  ): Promise<MemberError | null> {
    const { members, geometry } = this.engine;
    const offset = members.dataOffset[role]! + stripe * geometry.chunkBytes + column;
    const bytes = this.pieceBytes;
    const device = members.devices[role];
    if (!members.isPresent(role) || device === null || device === undefined) {
      return this.goneError(op, role, stripe, column);
    }
    const range = { offset, bytes, address };
    const epoch = members.epoch[role];
    const answer: IoAnswer =
      op === Op.read
        ? await this.asyncIo.read(device, range)
        : await this.asyncIo.write(device, range, { isFua: false });
    const isCurrent = members.epoch[role] === epoch;
    if (op === Op.write && isCurrent) members.needsFlush[role] = 1;
    if (isDone(answer)) return null;
    if (!isCurrent) return this.goneError(op, role, stripe, column);
    const error = { role, op, outcome: answer.outcome, errno: answer.errno, offset, bytes };
    this.memberFailed(error);
    return error;
  }
}

/** One that took a member out, if there is one. */
function worstError(errors: readonly (MemberError | null)[]): MemberError | null {
  const found = errors.filter((error) => error !== null);
  return found.find((error) => !isBadSector(error)) ?? found[0] ?? null;
}

function isBadSector({ outcome }: MemberError): boolean {
  return outcome === Outcome.mediaError || outcome === Outcome.noSpace;
}
