/**
 * Rows that a drive would hold if it could be written: what is read there is taken from memory. An
 * array that is started read-only serves the replay of its partial parity log from here, and parity
 * for which a drive has no room just now waits here (raid5/rows/parked-rows.ts).
 */
import type { SharedMemory } from "../base/memory.ts";
import { ROW_BYTES } from "../base/units.ts";

export class ReadOverlay {
  private readonly memory: SharedMemory;
  /** By byte offset on the device; reads begin at the same place in a row. */
  private readonly rows = new Map<number, Uint8Array>();

  constructor(memory: SharedMemory) {
    this.memory = memory;
  }

  get rowCount(): number {
    return this.rows.size;
  }

  /** Byte offsets on the device. */
  get offsets(): IterableIterator<number> {
    return this.rows.keys();
  }

  /** Keeps a copy of the row that lies at `address`. */
  put(offset: number, address: number): void {
    this.rows.set(offset, this.memory.bytes.slice(address, address + ROW_BYTES));
  }

  /** Copies the row to `address`; false where there is none. */
  get(offset: number, address: number): boolean {
    const row = this.rows.get(offset);
    if (row !== undefined) this.memory.bytes.set(row, address);
    return row !== undefined;
  }

  /** The drive holds [offset, offset + bytes) itself from now on. */
  forget(offset: number, bytes: number): void {
    if (this.rows.size === 0) return;
    for (let done = 0; done < bytes; done += ROW_BYTES) this.rows.delete(offset + done);
  }

  /** A read of the drive has put [offset, offset + bytes) at `address`. */
  patch(offset: number, bytes: number, address: number): void {
    if (this.rows.size === 0) return;
    for (let done = 0; done < bytes; done += ROW_BYTES) this.get(offset + done, address + done);
  }
}
