/**
 * Writes to single rows, of which any member may take its part or not: a chunk's member may be
 * missing, have a bad sector there, have no room, or be lost while this goes on.
 *
 * Parity may be the only home of a chunk: of one that is missing or bad, or that has just not been
 * written. So parity always goes with what is on the disks, and what is acknowledged is on them:
 *
 *   a member does not take its new row | what follows
 *   -----------------------------------|------------------------------------------------------
 *   it has no room (write-rules 20)    | parity is made for what it holds; ENOSPC to the writer
 *   bad, all others of the row known   | parity has the new content; then it is entered as bad
 *   bad otherwise, and can be read     | parity is made for what it holds; EIO to the writer
 *   bad otherwise                      | entered as bad; EIO to the writer
 *
 *   parity does not take its row       | what follows
 *   -----------------------------------|------------------------------------------------------
 *   bad, and all data is on the disks  | parity is entered as bad
 *   otherwise (write-rules 20, 22)     | the old parity stands: the one chunk that was written gets
 *                                      | what fits it, which is old or new; an error to the writer
 *   several chunks were written, or    | no room: parity is parked (parked-rows.ts); ENOSPC
 *   that chunk cannot be written again | bad: entered as bad, with what only parity had; EIO
 *
 * Whoever reads a chunk that was not written gets its content or EIO, never something else.
 */
import { assert } from "../../base/assert.ts";
import { withBit } from "../../base/bit-set.ts";
import { EIO, ENOSPC } from "../../base/errno.ts";
import { ROW_BYTES } from "../../base/units.ts";
import type { ParityKernels } from "../../parity/kernels.ts";
import { Verdict } from "../members/member-io.ts";
import type { ParkedRows } from "./parked-rows.ts";
import type { RowBuffers } from "./row-buffers.ts";
import type { Moved, RowIo } from "./row-io.ts";
import type { RowPlace, RowRecord } from "./row-record.ts";

/** A modified chunk of a row. */
export interface ModifiedRow {
  readonly role: number;
  /** Where its new content lies, whole. */
  readonly address: number;
  /** Its member is missing: only parity carries it. */
  readonly isMissing: boolean;
}

/** Where the content lies that a chunk has in the end, and where it is kept. */
interface WrittenRow {
  readonly role: number;
  readonly address: number;
  readonly home: "member" | "parity" | "parity, entered as bad";
  readonly status: number;
}

/** A row on its way to the members. */
interface RowWrite {
  readonly place: RowPlace;
  readonly parityRole: number;
  readonly chunks: readonly WrittenRow[];
  readonly status: number;
}

export class DegradedRows {
  private readonly kernels: ParityKernels;
  private readonly io: RowIo;
  private readonly record: RowRecord;
  private readonly parked: ParkedRows;
  private readonly sources = new Uint32Array(16);

  constructor(options: {
    kernels: ParityKernels;
    io: RowIo;
    record: RowRecord;
    parked: ParkedRows;
  }) {
    this.kernels = options.kernels;
    this.io = options.io;
    this.record = options.record;
    this.parked = options.parked;
  }

  /**
   * Writes the modified chunks of a row and its parity. `rows.partialParity` holds the XOR of the
   * chunks that are not modified. 0, or EIO or ENOSPC where a chunk was not written.
   */
  async write(
    place: RowPlace,
    parityRole: number,
    modified: readonly ModifiedRow[],
    rows: RowBuffers,
  ): Promise<number> {
    assert(modified.length > 0, "a chunk is modified");
    assert(modified.length < this.sources.length, "a stripe has no more chunks");
    const chunks: WrittenRow[] = [];
    let status = 0;
    for (const chunk of modified) {
      const written = await this.writeChunk(place, chunk, rows);
      if (written === null) return EIO;
      status = worse(status, written.status);
      chunks.push(written);
    }
    const write: RowWrite = { place, parityRole, chunks, status };
    this.xor(rows.result, rows.partialParity, chunks);
    const moved = await this.io.storeIfThere(place, parityRole, rows.result, rows);
    if (moved !== Verdict.done) return this.withoutParity(write, moved, rows);
    await this.record.clearBad(place, parityRole);
    await this.enterUnwritten(write);
    return status;
  }

  /** Null: its member has left, and nothing else has its content. */
  private async writeChunk(
    place: RowPlace,
    { role, address, isMissing }: ModifiedRow,
    rows: RowBuffers,
  ): Promise<WrittenRow | null> {
    const { record, io } = this;
    if (isMissing) return { role, address, home: "parity", status: 0 };
    const moved = await io.store(place, role, address, rows);
    if (moved === Verdict.done) {
      await record.clearBad(place, role);
      return { role, address, home: "member", status: 0 };
    }
    const isRestKnown = record.isRestKnown(place, role);
    if (moved === Verdict.gone) {
      return isRestKnown ? { role, address, home: "parity", status: 0 } : null;
    }
    const status = moved === Verdict.noSpace ? ENOSPC : EIO;
    if (moved === Verdict.noSpace || !isRestKnown) {
      const read = record.isBad(place, role)
        ? Verdict.badSector
        : await io.load(place, role, role, rows);
      if (read === Verdict.done) return { role, address: rows.of(role), home: "member", status };
      if (read === Verdict.gone && !isRestKnown) return null;
    }
    if (isRestKnown) {
      const isRefused = moved === Verdict.noSpace;
      return { role, address, home: "parity, entered as bad", status: isRefused ? status : 0 };
    }
    await record.enterOrLose(place, role);
    return { role, address, home: "member", status };
  }

  /** Parity did not take its row. The answer to the writer. */
  private async withoutParity(write: RowWrite, moved: Moved, rows: RowBuffers): Promise<number> {
    const { place, parityRole, chunks, status } = write;
    assert(moved !== Verdict.done, "parity that was written needs no way out");
    const { record } = this;
    const isAlone =
      chunks.some(({ home }) => home !== "member") || !record.isRestKnown(place, parityRole);
    if (moved === Verdict.gone) return isAlone ? EIO : status;
    if (moved === Verdict.badSector && !isAlone) {
      await record.enterOrLose(place, parityRole);
      return status;
    }
    const refusal = worse(status, moved === Verdict.noSpace ? ENOSPC : EIO);
    if (await this.isFitting(write, rows)) {
      await this.enterUnwritten(write);
      return refusal;
    }
    if (moved === Verdict.noSpace) {
      await this.enterUnwritten(write);
      // An unproven row is made right by the resync that is due for it.
      if (isAlone || record.isProven(place)) {
        this.parked.park(place, parityRole, rows.result);
        rows.parked = withBit(rows.parked, parityRole);
      }
      return refusal;
    }
    // A chunk that only parity had cannot be had any more: that is on record.
    await record.enterOrLose(place, parityRole);
    return EIO;
  }

  /**
   * Whether the row is whole with the parity that is there: it is the new one all the same, or the
   * only chunk that was to be written can be made to fit it. A part of either may have been
   * written, so that chunk is then old here and new there, as a write may be that is refused.
   */
  private async isFitting(write: RowWrite, rows: RowBuffers): Promise<boolean> {
    const { place, parityRole, chunks } = write;
    const found = rows.of(parityRole);
    if ((await this.io.load(place, parityRole, parityRole, rows)) !== Verdict.done) return false;
    if (this.isEqual(found, rows.result)) return true;
    const [chunk] = chunks;
    if (chunks.length !== 1 || chunk === undefined) return false;
    // Whatever parity says that it holds is what it was, or what it was to be.
    if (chunk.home !== "member") return true;
    if (!this.record.isProven(place)) return false;
    this.sources[0] = rows.of(parityRole);
    this.sources[1] = rows.partialParity;
    this.kernels.xor(rows.of(parityRole), this.sources, 2, ROW_BYTES);
    if (this.isEqual(rows.of(parityRole), chunk.address)) return true;
    const moved = await this.io.store(place, chunk.role, rows.of(parityRole), rows);
    return moved === Verdict.done || this.isFittingInPart(write, chunk.role, rows);
  }

  /**
   * The chunk did not take what fits, or a part of it: parity is to fit what it holds now. What
   * would fit lies in the parity's slot.
   */
  private async isFittingInPart(
    { place, parityRole }: RowWrite,
    role: number,
    rows: RowBuffers,
  ): Promise<boolean> {
    if ((await this.io.load(place, role, role, rows)) !== Verdict.done) return false;
    if (this.isEqual(rows.of(role), rows.of(parityRole))) return true;
    this.sources[0] = rows.partialParity;
    this.sources[1] = rows.of(role);
    this.kernels.xor(rows.result, this.sources, 2, ROW_BYTES);
    return false;
  }

  /** What only parity has is on record before the write is acknowledged. */
  private async enterUnwritten({ place, chunks }: RowWrite): Promise<void> {
    for (const { role, home } of chunks) {
      if (home === "parity, entered as bad") await this.record.enterOrLose(place, role);
    }
  }

  private xor(target: number, first: number, others: readonly WrittenRow[]): void {
    this.sources[0] = first;
    for (const [index, { address }] of others.entries()) this.sources[index + 1] = address;
    this.kernels.xor(target, this.sources, others.length + 1, ROW_BYTES);
  }

  private isEqual(one: number, other: number): boolean {
    this.sources[0] = one;
    this.sources[1] = other;
    return this.kernels.findMismatch(this.sources, 2, ROW_BYTES) < 0;
  }
}

/** Of two answers to one request: an error of a drive says more than a want of room. */
export function worse(one: number, other: number): number {
  if (one === 0) return other;
  return other === 0 || other === ENOSPC ? one : other;
}
