/**
 * Copy on write: what is written stays in memory, and is read from there; all else is read from the
 * drive below, which never gets a write. A rehearsal runs the code of a rebuild over it.
 *
 *   drive      . . . . . . . . . . . . . .
 *   extent           [ w w . w ]              w: a row that was written, which covers the drive's
 *
 * The memory is somebody else's, an extent at a time: a write outside of all extents finds no room
 * (ENOSPC) and is kept nowhere. So an overlay is as sparse as the work that goes on over it, takes
 * nothing of any file system, and leaves nothing behind, whatever ends it.
 */
import { assert } from "../base/assert.ts";
import { EIO, ENOSPC, EOPNOTSUPP } from "../base/errno.ts";
import type { SharedMemory } from "../base/memory.ts";
import { ROW_BYTES } from "../base/units.ts";
import { type IoTable, Op } from "../reactor/io-table.ts";
import type { BlockDevice, CompletionHandler } from "./device.ts";
import { Filter } from "./filter.ts";

interface Extent {
  /** Of the device. */
  readonly offset: number;
  readonly bytes: number;
  /** Where its rows lie in the shared memory. */
  readonly address: number;
  /** By row: 1 where it has been written. */
  readonly isWritten: Uint8Array;
}

/** Runs what comes as soon as the code that runs now has ended. */
export type Soon = (run: () => void) => void;

export class OverlayFilter extends Filter implements BlockDevice {
  onComplete: CompletionHandler = () => {};
  private readonly table: IoTable;
  private readonly memory: SharedMemory;
  private readonly soon: Soon;
  private readonly extents: Extent[] = [];
  private answers: { readonly request: number; readonly result: number }[] = [];

  constructor(options: {
    next: BlockDevice;
    table: IoTable;
    memory: SharedMemory;
    soon: Soon;
  }) {
    super(options.next);
    this.table = options.table;
    this.memory = options.memory;
    this.soon = options.soon;
  }

  /** Rows of [offset, offset + bytes) that are written from now on are kept at `address`. */
  open(offset: number, bytes: number, address: number): void {
    assert(bytes > 0 && bytes % ROW_BYTES === 0, "an extent is whole rows");
    const isApart = this.extents.every(
      (other) => other.offset >= offset + bytes || offset >= other.offset + other.bytes,
    );
    assert(isApart, "extents lie apart");
    this.extents.push({ offset, bytes, address, isWritten: new Uint8Array(bytes / ROW_BYTES) });
  }

  /** What was written to the extent that begins there is forgotten. */
  close(offset: number): void {
    const index = this.extents.findIndex((extent) => extent.offset === offset);
    assert(index >= 0, "an extent is closed once");
    this.extents.splice(index, 1);
  }

  override submit(request: number): void {
    const { table } = this;
    const bytes = table.bytes[request]!;
    switch (table.op[request]) {
      case Op.read:
        if (this.rowsCovered(request) * ROW_BYTES !== bytes) this.next.submit(request);
        else this.answer(request, this.cover(request, bytes));
        return;
      case Op.write:
        this.answer(request, this.keep(request) ? bytes : -ENOSPC);
        return;
      case Op.flush:
        this.answer(request, 0);
        return;
      default:
        this.answer(request, -EOPNOTSUPP);
    }
  }

  protected override completed(request: number, result: number): void {
    assert(this.table.op[request] === Op.read, "the drive below gets nothing but reads");
    this.onComplete(request, result > 0 ? this.cover(request, result) : result);
  }

  private rowsCovered(request: number): number {
    let count = 0;
    this.eachRow(request, this.table.bytes[request]!, (extent, row) => {
      count += extent.isWritten[row]!;
    });
    return count;
  }

  /** Puts what was written over what a read has brought; answers how much that is. */
  private cover(request: number, bytes: number): number {
    const { memory } = this;
    this.eachRow(request, bytes, (extent, row, address) => {
      if (extent.isWritten[row] === 0) return;
      const from = extent.address + row * ROW_BYTES;
      memory.bytes.copyWithin(address, from, from + ROW_BYTES);
    });
    return bytes;
  }

  /** False: there is no room for all of it, and none of it is kept. */
  private keep(request: number): boolean {
    const bytes = this.table.bytes[request]!;
    let count = 0;
    this.eachRow(request, bytes, () => {
      count += 1;
    });
    if (count * ROW_BYTES !== bytes) return false;
    this.eachRow(request, bytes, (extent, row, address) => {
      extent.isWritten[row] = 1;
      const to = extent.address + row * ROW_BYTES;
      this.memory.bytes.copyWithin(to, address, address + ROW_BYTES);
    });
    return true;
  }

  /** Calls `use` for each whole row of a request that lies in an extent. */
  private eachRow(
    request: number,
    bytes: number,
    use: (extent: Extent, row: number, address: number) => void,
  ): void {
    const first = this.table.offset[request]!;
    const end = first + bytes;
    for (const extent of this.extents) {
      const from = Math.max(first, extent.offset);
      const to = Math.min(end, extent.offset + extent.bytes);
      if (from >= to) continue;
      assert((from - extent.offset) % ROW_BYTES === 0, "requests and extents have rows in common");
      for (let at = from; at + ROW_BYTES <= to; at += ROW_BYTES) {
        const address = this.table.address[request]! + (at - first);
        use(extent, (at - extent.offset) / ROW_BYTES, address);
      }
    }
  }

  /** Not from within the call that submits, as a drive. */
  private answer(request: number, result: number): void {
    this.answers.push({ request, result });
    if (this.answers.length > 1) return;
    this.soon(() => {
      const answers = this.answers;
      this.answers = [];
      for (const answer of answers) this.onComplete(answer.request, answer.result);
    });
  }
}

/** What lies below an overlay where there is no drive: nothing can be read there. */
export class NoDevice implements BlockDevice {
  onComplete: CompletionHandler = () => {};
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes = ROW_BYTES;
  private readonly soon: Soon;

  constructor(options: { name: string; sizeBytes: number; soon: Soon }) {
    this.name = options.name;
    this.sizeBytes = options.sizeBytes;
    this.soon = options.soon;
  }

  submit(request: number): void {
    this.soon(() => this.onComplete(request, -EIO));
  }
}
