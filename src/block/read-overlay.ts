/**
 * Rows that a drive would hold if it could be written: what is read there is taken from memory. An
 * array that is started read-only serves the replay of its partial parity log from here.
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

  /** Keeps a copy of the row that lies at `address`. */
  put(offset: number, address: number): void {
    this.rows.set(offset, this.memory.bytes.slice(address, address + ROW_BYTES));
  }

  /** A read of the drive has put [offset, offset + bytes) at `address`. */
  patch(offset: number, bytes: number, address: number): void {
    for (let done = 0; done < bytes; done += ROW_BYTES) {
      const row = this.rows.get(offset + done);
      if (row !== undefined) this.memory.bytes.set(row, address + done);
    }
  }
}
