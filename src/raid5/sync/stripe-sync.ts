/**
 * What rebuild, resync and scrub do with one stripe that is held for it.
 *
 * | work    | reads                | then                                                  |
 * |---------|----------------------|-------------------------------------------------------|
 * | rebuild | all but the target   | their XOR goes to the target                          |
 * | resync  | all members          | where the XOR is not zero: parity is computed anew     |
 * | check   | all members          | rows whose XOR is not zero are counted, nothing else   |
 * | repair  | all members          | the same, and parity is computed anew                  |
 *
 * Rows on a bad-block log are tried again one by one (row-cure.ts); what stays lost is counted.
 *
 * A long chunk is worked through in pieces, so that the buffers stay small; the hold is on
 * the whole stripe, because a stripe is either done or not.
 */
import { assert } from "../../base/assert.ts";
import { hasBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { PARITY_SOURCES_MAX } from "../../parity/kernels.ts";
import { Op } from "../../reactor/io-table.ts";
import type { StripeEngine } from "../engine.ts";
import type { MemberError } from "../environment.ts";
import { lostDataBytes } from "../rows/row-cure.ts";
import type { MismatchRanges } from "./mismatch-ranges.ts";
import { PieceIo } from "./piece-io.ts";

/** Bytes of one member that are in a buffer at a time. */
const SYNC_PIECE_BYTES = 128 * 1024;
/** The same beside clients: one of their requests waits behind a piece that has been begun. */
export const SMALL_PIECE_BYTES = 64 * 1024;

export type StripeResult =
  | { readonly kind: "done"; readonly mismatchBytes: number }
  /**
   * A member could not be read or written; the array has been told. With the outcome "no space" it
   * is no member's fault, and the stripe can be tried again.
   */
  | { readonly kind: "member-error"; readonly error: MemberError };

export type CheckMode = "resync" | "check" | "repair";

/** One piece of a stripe, and what is to be done about it. */
interface ComparedPart {
  readonly stripe: number;
  /** Its first byte within the chunks. */
  readonly column: number;
  readonly mode: CheckMode;
  readonly findings: ScrubFindings | null;
}

/** What a scrub adds up over its stripes. */
export interface ScrubFindings {
  readonly mismatches: MismatchRanges;
  readonly losses: MismatchRanges;
  /** Data that cannot be had from any member. */
  lostBytes: number;
}

const DONE: StripeResult = { kind: "done", mismatchBytes: 0 };

export class StripeSync {
  private readonly engine: StripeEngine;
  private readonly idlePieces: PieceIo[] = [];
  private readonly sources = new Uint32Array(PARITY_SOURCES_MAX);

  private readonly pieceBytesMax: number;

  constructor(engine: StripeEngine, pieceBytesMax = SYNC_PIECE_BYTES) {
    this.engine = engine;
    this.pieceBytesMax = pieceBytesMax;
  }

  get pieceBytes(): number {
    return Math.min(this.engine.parts.geometry.chunkBytes, this.pieceBytesMax);
  }

  /** Bytes of buffer that one stripe under work needs. */
  get bufferBytes(): number {
    return this.pieceBytes * this.engine.parts.geometry.memberCount;
  }

  /** Fills the target's chunk of a stripe. The caller holds it, and marks the stripe done. */
  async rebuild(stripe: number, target: number, buffer: number): Promise<StripeResult> {
    this.checkHeld(stripe);
    const io = this.takePiece();
    let error: MemberError | null = null;
    const { chunkBytes } = this.engine.parts.geometry;
    for (let column = 0; column < chunkBytes && error === null; column += this.pieceBytes) {
      io.begin(stripe, column);
      if (!this.hasBadRows(stripe, column)) {
        error = await this.rebuildPiece(io, target, buffer);
        if (error === null || !io.isForRows) continue;
      }
      error = await this.byRows(io, { stripe, column }, target, "rebuild");
    }
    this.idlePieces.push(io);
    return error === null ? DONE : { kind: "member-error", error };
  }

  private async rebuildPiece(
    io: PieceIo,
    target: number,
    buffer: number,
  ): Promise<MemberError | null> {
    const failed = await this.reconstructPiece(io, target, buffer);
    if (failed !== null) return failed;
    io.start(Op.write, target, this.reconstructedIn(buffer));
    return io.wait();
  }

  /** Makes the piece of a role from all others. */
  private async reconstructPiece(
    io: PieceIo,
    target: number,
    buffer: number,
  ): Promise<MemberError | null> {
    let count = 0;
    for (let role = 0; role < this.engine.parts.geometry.memberCount; role += 1) {
      if (role === target) continue;
      io.start(Op.read, role, buffer + count * this.pieceBytes);
      count += 1;
    }
    const failed = await io.wait();
    if (failed === null) this.xor(this.reconstructedIn(buffer), buffer, count);
    return failed;
  }

  /** Behind the pieces that it was made of. */
  private reconstructedIn(buffer: number): number {
    return buffer + (this.engine.parts.geometry.memberCount - 1) * this.pieceBytes;
  }

  /**
   * A piece with bad sectors, row by row: what cannot be had is entered as lost. An error: the
   * target is gone, or has no room.
   */
  private async byRows(
    io: PieceIo,
    { stripe, column }: { readonly stripe: number; readonly column: number },
    role: number,
    kind: "rebuild" | "copy",
  ): Promise<MemberError | null> {
    const { rows } = this.engine;
    const buffers = await rows.takeBuffers();
    let isThere = true;
    for (let byte = 0; byte < this.pieceBytes && isThere; byte += ROW_BYTES) {
      const place = { stripe, row: (column + byte) / ROW_BYTES };
      isThere = await rows[kind](place, role, buffers);
    }
    buffers.give();
    if (isThere) return null;
    const isRefused = hasBit(buffers.refused, role);
    return isRefused ? io.refusedError(role) : io.goneError(Op.write, role);
  }

  /**
   * Brings a member's chunk of a stripe to the target of its copy. Parity is asked only for rows
   * that the member cannot give, and where reads go around it; one that nobody can give is entered
   * as bad on the target. The caller holds the stripe, and marks it.
   */
  async copy(stripe: number, buffer: number): Promise<StripeResult> {
    this.checkHeld(stripe);
    const { geometry, members } = this.engine.parts;
    const io = this.takePiece();
    let error: MemberError | null = null;
    for (
      let column = 0;
      column < geometry.chunkBytes && error === null;
      column += this.pieceBytes
    ) {
      const { copyRole } = members;
      io.begin(stripe, column);
      if (copyRole < 0) error = io.goneError(Op.write, 0);
      else if (!this.hasBadRows(stripe, column)) {
        const isAvoided = hasBit(members.avoidedRoles(stripe), copyRole);
        if (isAvoided) error = await this.reconstructPiece(io, copyRole, buffer);
        else {
          io.start(Op.read, copyRole, buffer);
          error = await io.wait();
        }
        if (error === null) {
          io.startOnTarget(isAvoided ? this.reconstructedIn(buffer) : buffer);
          error = await io.wait();
          continue;
        }
        if (io.isForRows) error = await this.byRows(io, { stripe, column }, copyRole, "copy");
      } else error = await this.byRows(io, { stripe, column }, copyRole, "copy");
    }
    this.idlePieces.push(io);
    return error === null ? DONE : { kind: "member-error", error };
  }

  /**
   * Compares parity with data, and writes parity anew unless the mode is check. Rows that do not
   * match, and rows that are lost, are noted in `findings`, where it is given.
   */
  async compare(
    stripe: number,
    mode: CheckMode,
    buffer: number,
    findings: ScrubFindings | null = null,
  ): Promise<StripeResult> {
    this.checkHeld(stripe);
    const io = this.takePiece();
    const { chunkBytes } = this.engine.parts.geometry;
    let mismatchBytes = 0;
    for (let column = 0; column < chunkBytes; column += this.pieceBytes) {
      io.begin(stripe, column);
      const result = await this.comparePart(io, { stripe, column, mode, findings }, buffer);
      if (typeof result !== "number") {
        this.idlePieces.push(io);
        return { kind: "member-error", error: result };
      }
      mismatchBytes += result;
    }
    this.idlePieces.push(io);
    return { kind: "done", mismatchBytes };
  }

  /** One piece, as a whole or row by row: the bytes that did not match, or the error. */
  private async comparePart(
    io: PieceIo,
    part: ComparedPart,
    buffer: number,
  ): Promise<number | MemberError> {
    const { stripe, column } = part;
    // A member that is being rebuilt has nothing to compare here.
    if (this.engine.parts.members.unavailableRoles(stripe) !== 0) return io.goneError(Op.read, 0);
    if (!this.hasBadRows(stripe, column)) {
      const result = await this.comparePiece(io, part, buffer);
      if (typeof result === "number" || !io.isForRows) return result;
    }
    return this.compareRows(io, part);
  }

  /** The bytes that did not match, or the error that it met. */
  private async comparePiece(
    io: PieceIo,
    part: ComparedPart,
    buffer: number,
  ): Promise<number | MemberError> {
    const { stripe, mode } = part;
    for (let role = 0; role < this.engine.parts.geometry.memberCount; role += 1) {
      io.start(Op.read, role, buffer + role * this.pieceBytes);
    }
    const failed = await io.wait();
    if (failed !== null) return failed;
    const found = this.countMismatch(part, buffer);
    if (found === 0 || mode === "check") return found;
    if (this.engine.parts.members.unavailableRoles(stripe) !== 0) return io.goneError(Op.read, 0);
    this.startParity(io, stripe, buffer);
    return (await io.wait()) ?? found;
  }

  /** A piece with bad sectors, row by row: those are cured first. */
  private async compareRows(io: PieceIo, part: ComparedPart): Promise<number | MemberError> {
    const { stripe, column, mode } = part;
    const { rows } = this.engine;
    const { members } = this.engine.parts;
    const buffers = await rows.takeBuffers();
    let mismatchBytes = 0;
    for (let byte = 0; byte < this.pieceBytes && members.degradedCount === 0; byte += ROW_BYTES) {
      const place = { stripe, row: (column + byte) / ROW_BYTES };
      const kind = mode === "resync" ? "resync" : "scrub";
      if (!(await rows.cures.cure(place, kind, buffers))) {
        this.noteLost(part, byte);
        continue;
      }
      if (await rows.compare(place, mode !== "check", buffers)) continue;
      mismatchBytes += ROW_BYTES;
      this.noteRow(part, byte);
    }
    buffers.give();
    if (members.degradedCount > 0) return io.goneError(Op.read, 0);
    const parityRole = this.engine.parts.geometry.parityRole(stripe);
    const isRefused = mode !== "check" && hasBit(buffers.refused, parityRole);
    return isRefused ? io.refusedError(parityRole) : mismatchBytes;
  }

  private checkHeld(stripe: number): void {
    const { ops, geometry } = this.engine.parts;
    assert(ops.ownerOf(stripe) >= 0, "a stripe is worked on while it is held");
    assert(geometry.chunkBytes % this.pieceBytes === 0, "a chunk is whole pieces");
  }

  private takePiece(): PieceIo {
    return this.idlePieces.pop() ?? new PieceIo(this.engine.parts, this.pieceBytes);
  }

  private hasBadRows(stripe: number, column: number): boolean {
    const { members } = this.engine.parts;
    if (!members.hasBadRows) return false;
    const row = column / ROW_BYTES;
    return members.badRoles(stripe, row, row + this.pieceBytes / ROW_BYTES) !== 0;
  }

  /** Computes the parity of the piece in `buffer` and starts to write it. */
  private startParity(io: PieceIo, stripe: number, buffer: number): void {
    const { geometry } = this.engine.parts;
    const parityRole = geometry.parityRole(stripe);
    const parity = buffer + parityRole * this.pieceBytes;
    let count = 0;
    for (let role = 0; role < geometry.memberCount; role += 1) {
      if (role === parityRole) continue;
      this.sources[count] = buffer + role * this.pieceBytes;
      count += 1;
    }
    this.engine.parts.environment.kernels.xor(parity, this.sources, count, this.pieceBytes);
    io.start(Op.write, parityRole, parity);
  }

  /** Bytes of the rows in which the XOR of all members is not zero. */
  private countMismatch(part: ComparedPart, buffer: number): number {
    const { memberCount } = this.engine.parts.geometry;
    const { kernels } = this.engine.parts.environment;
    let bytes = 0;
    let row = 0;
    while (row < this.pieceBytes) {
      for (let role = 0; role < memberCount; role += 1) {
        this.sources[role] = buffer + role * this.pieceBytes + row;
      }
      const found = kernels.findMismatch(this.sources, memberCount, this.pieceBytes - row);
      if (found < 0) break;
      row += Math.floor(found / ROW_BYTES) * ROW_BYTES;
      assert(row < this.pieceBytes, "a mismatch lies in the piece");
      this.noteRow(part, row);
      bytes += ROW_BYTES;
      row += ROW_BYTES;
    }
    return bytes;
  }

  /** The row `byte` bytes into a part does not match. */
  private noteRow({ stripe, column, findings }: ComparedPart, byte: number): void {
    const memberByte = stripe * this.engine.parts.geometry.chunkBytes + column + byte;
    findings?.mismatches.note(memberByte, ROW_BYTES);
  }

  /** The row `byte` bytes into a part could not be cured: perhaps some of it is lost. */
  private noteLost({ stripe, column, findings }: ComparedPart, byte: number): void {
    if (findings === null) return;
    const { geometry } = this.engine.parts;
    const roles = this.engine.rows.cures.lostRoles({ stripe, row: (column + byte) / ROW_BYTES });
    const bytes = lostDataBytes(roles, geometry.parityRole(stripe));
    if (bytes === 0) return;
    findings.lostBytes += bytes;
    findings.losses.note(stripe * geometry.chunkBytes + column + byte, ROW_BYTES, roles);
  }

  private xor(target: number, buffer: number, count: number): void {
    for (let index = 0; index < count; index += 1) {
      this.sources[index] = buffer + index * this.pieceBytes;
    }
    this.engine.parts.environment.kernels.xor(target, this.sources, count, this.pieceBytes);
  }
}
