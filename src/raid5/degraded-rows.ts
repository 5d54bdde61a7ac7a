/**
 * Writes to a row of which the other chunks are known by their XOR alone: a chunk's member may be
 * missing, have a bad sector there, or be lost while this goes on.
 *
 * Parity may then be the only home of that chunk. So parity always goes with what is on the disks:
 *
 *   a member does not take its new row | what follows
 *   -----------------------------------|------------------------------------------------------
 *   all others of the row are known    | entered as bad; parity has the new content (rule 9)
 *   otherwise, and it can be read      | parity is made for what it holds; EIO to the writer
 *   otherwise                          | entered as bad; EIO to the writer
 *   parity does not take its row       | parity is entered as bad
 *
 * Whoever reads a chunk that was not written gets its content or EIO, never something else.
 */
import { EIO, ENOSPC } from "../base/errno.ts";
import { ROW_BYTES } from "../base/units.ts";
import type { ParityKernels } from "../parity/kernels.ts";
import type { RowBuffers } from "./row-buffers.ts";
import type { RowIo, RowPlace } from "./row-io.ts";

/** A modified chunk of a row. */
export interface ModifiedRow {
  readonly role: number;
  /** Where its new content lies, whole. */
  readonly address: number;
  /** Its member is missing: only parity carries it. */
  readonly isMissing: boolean;
}

export class DegradedRows {
  private readonly kernels: ParityKernels;
  private readonly io: RowIo;
  /** Whether the content of every other role of the row can be had. */
  private readonly isRestKnown: (place: RowPlace, role: number) => boolean;
  /** Enters a row as bad; a member that cannot have that on record is failed. */
  private readonly enterOrLose: (place: RowPlace, role: number) => Promise<void>;

  constructor(options: {
    kernels: ParityKernels;
    io: RowIo;
    isRestKnown: (place: RowPlace, role: number) => boolean;
    enterOrLose: (place: RowPlace, role: number) => Promise<void>;
  }) {
    this.kernels = options.kernels;
    this.io = options.io;
    this.isRestKnown = options.isRestKnown;
    this.enterOrLose = options.enterOrLose;
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
    let status = 0;
    const contents = [rows.partialParity];
    for (const chunk of modified) {
      const found = await this.writeChunk(place, chunk, rows);
      if (found.status !== 0) status = Math.max(status, found.status);
      if (found.isGone) return EIO;
      contents.push(found.address);
    }
    const sources = Uint32Array.from(contents);
    this.kernels.xor(rows.result, sources, sources.length, ROW_BYTES);
    const moved = await this.io.store(place, parityRole, rows.result, rows);
    if (moved === "done") return status;
    if (moved === "gone") return this.isRestKnown(place, parityRole) ? status : EIO;
    // A chunk that only parity had cannot be had any more: that is on record.
    await this.enterOrLose(place, parityRole);
    return status;
  }

  /** Where the content lies that the member has in the end. */
  private async writeChunk(
    place: RowPlace,
    { role, address, isMissing }: ModifiedRow,
    rows: RowBuffers,
  ): Promise<{ status: number; address: number; isGone: boolean }> {
    if (isMissing) return { status: 0, address, isGone: false };
    const written = await this.io.store(place, role, address, rows);
    if (written === "done") return { status: 0, address, isGone: false };
    const status = written === "no-space" ? ENOSPC : EIO;
    if (this.isRestKnown(place, role)) {
      // Also where the member has left: parity carries the new content.
      if (written !== "gone") await this.enterOrLose(place, role);
      return { status: 0, address, isGone: false };
    }
    if (written === "gone") return { status, address, isGone: true };
    const read = await this.io.load(place, role, role, rows);
    if (read === "done") return { status, address: rows.of(role), isGone: false };
    if (read === "gone") return { status, address, isGone: true };
    await this.enterOrLose(place, role);
    return { status, address, isGone: false };
  }
}
