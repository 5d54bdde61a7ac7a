/**
 * A sparse set of rows, as bits in pages that are made when they are first touched.
 *
 * Used while the first resync of a new array runs: it remembers the rows that were written since,
 * because their parity is right although the resync has not been there.
 */

import { assert } from "../../base/assert.ts";

const PAGE_ROWS = 32_768;

export class RowSet {
  private readonly pages = new Map<number, Uint32Array>();

  addRange(fromRow: number, toRow: number): void {
    assert(fromRow >= 0 && fromRow <= toRow, "a range of rows ends behind its begin");
    for (let row = fromRow; row < toRow; row += 1) {
      const page = Math.floor(row / PAGE_ROWS);
      let bits = this.pages.get(page);
      if (bits === undefined) {
        bits = new Uint32Array(PAGE_ROWS / 32);
        this.pages.set(page, bits);
      }
      const index = row - page * PAGE_ROWS;
      bits[index >>> 5]! |= 1 << (index & 31);
    }
  }

  hasRange(fromRow: number, toRow: number): boolean {
    assert(fromRow < toRow, "no rows at all prove nothing");
    for (let row = fromRow; row < toRow; row += 1) {
      const page = Math.floor(row / PAGE_ROWS);
      const index = row - page * PAGE_ROWS;
      const bits = this.pages.get(page);
      if (bits === undefined || (bits[index >>> 5]! & (1 << (index & 31))) === 0) return false;
    }
    return true;
  }
}
