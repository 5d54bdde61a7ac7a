/**
 * Writes to a row of which one chunk is known only as the XOR of all others: its member is missing,
 * or it has a bad sector there.
 *
 * Parity then is the only home of that chunk. So parity always goes with what is on the disks, not
 * with what was to be written: where a member does not take its new row, parity is made for what
 * the member holds, and where that cannot be read either the row is entered as bad. Whoever reads
 * the other chunk gets its content or EIO, never something else (promise 2).
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
  /** Enters a row as bad; a member that cannot have that on record is failed. */
  private readonly enterOrLose: (place: RowPlace, role: number) => Promise<void>;
  private readonly sources = new Uint32Array(16);

  constructor(options: {
    kernels: ParityKernels;
    io: RowIo;
    enterOrLose: (place: RowPlace, role: number) => Promise<void>;
  }) {
    this.kernels = options.kernels;
    this.io = options.io;
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
    let count = 1;
    this.sources[0] = rows.partialParity;
    for (const chunk of modified) {
      const found = await this.writeChunk(place, chunk, rows);
      if (found.status !== 0) status = Math.max(status, found.status);
      if (found.isGone) return EIO;
      this.sources[count] = found.address;
      count += 1;
    }
    this.kernels.xor(rows.result, this.sources, count, ROW_BYTES);
    const moved = await this.io.store(place, parityRole, rows.result, rows);
    if (moved === "done") return status;
    if (moved === "gone") return EIO;
    // The chunk that only parity had cannot be had any more: that is on record.
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
    if (written === "gone") return { status, address, isGone: true };
    const read = await this.io.load(place, role, role, rows);
    if (read === "done") return { status, address: rows.of(role), isGone: false };
    if (read === "gone") return { status, address, isGone: true };
    await this.enterOrLose(place, role);
    return { status, address, isGone: false };
  }
}
