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
import type { EngineEnvironment, MemberError } from "./stripe-runner.ts";

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

  /** Fills the target's chunk of a stripe and marks the stripe done. The caller has the lock. */
  async rebuild(stripe: number, target: number, buffer: number): Promise<StripeResult> {
    const { chunkBytes, memberCount } = this.engine.geometry;
    for (let column = 0; column < chunkBytes; column += this.pieceBytes) {
      const reads: Promise<MemberError | null>[] = [];
      let count = 0;
      for (let role = 0; role < memberCount; role += 1) {
        if (role === target) continue;
        reads.push(this.move(Op.read, role, stripe, column, buffer + count * this.pieceBytes));
        count += 1;
      }
      const failed = firstError(await Promise.all(reads));
      if (failed !== null) return { kind: "member-error", error: failed };
      const result = buffer + count * this.pieceBytes;
      this.xor(result, buffer, count);
      const error = await this.move(Op.write, target, stripe, column, result);
      if (error !== null) return { kind: "member-error", error };
    }
    return DONE;
  }

  /** Compares parity with data, and writes parity anew unless the mode is check. */
  async compare(stripe: number, mode: CheckMode, buffer: number): Promise<StripeResult> {
    const { chunkBytes, memberCount } = this.engine.geometry;
    let mismatchBytes = 0;
    for (let column = 0; column < chunkBytes; column += this.pieceBytes) {
      const reads: Promise<MemberError | null>[] = [];
      for (let role = 0; role < memberCount; role += 1) {
        reads.push(this.move(Op.read, role, stripe, column, buffer + role * this.pieceBytes));
      }
      const failed = firstError(await Promise.all(reads));
      if (failed !== null) return { kind: "member-error", error: failed };
      const found = this.countMismatch(buffer);
      if (found === 0) continue;
      mismatchBytes += found;
      if (mode === "check") continue;
      const error = await this.rewriteParity(stripe, column, buffer);
      if (error !== null) return { kind: "member-error", error };
    }
    return { kind: "done", mismatchBytes };
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
      return { role, op, outcome: Outcome.memberLost, errno: 0, offset, bytes };
    }
    const range = { offset, bytes, address };
    const answer: IoAnswer =
      op === Op.read
        ? await this.asyncIo.read(device, range)
        : await this.asyncIo.write(device, range, { isFua: false });
    if (op === Op.write && members.isPresent(role)) members.needsFlush[role] = 1;
    if (isDone(answer)) return null;
    const error = { role, op, outcome: answer.outcome, errno: answer.errno, offset, bytes };
    this.memberFailed(error);
    return error;
  }
}

function firstError(errors: readonly (MemberError | null)[]): MemberError | null {
  return errors.find((error) => error !== null) ?? null;
}
