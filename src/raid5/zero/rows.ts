/**
 * Stripes that are being zeroed as a whole, of which a member did not take its zeros: row by row,
 * under the lock of the zeroing and covered by its entry in the log. Some chunks are zeros by now
 * and parity is no one's, so that no write may go by what parity holds until this has been here.
 */
import { assert } from "../../base/assert.ts";
import { hasBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import type { CarefulRows, RowPlace } from "../rows/careful-rows.ts";
import { type ModifiedRow, worse } from "../rows/degraded-rows.ts";
import type { RowBuffers } from "../rows/row-buffers.ts";
import type { EngineParts } from "../rows/row-parts.ts";

export class ZeroRows {
  private readonly parts: EngineParts;
  private readonly rows: CarefulRows;

  constructor(parts: EngineParts, rows: CarefulRows) {
    this.parts = parts;
    this.rows = rows;
  }

  takeBuffers(): Promise<RowBuffers> {
    return this.rows.takeBuffers();
  }

  /** Calls back now, or when the rows are home that are parked on one of these roles (bits). */
  whenHome(roles: number, callback: () => void): void {
    this.rows.parked.coverAll(roles, callback);
  }

  /**
   * Stripes [first, end): 0, or the errno of a row that is not zero. Where a member has no room,
   * what it holds stays, and parity is made to fit.
   */
  async write(first: number, end: number, buffers: RowBuffers): Promise<number> {
    assert(first < end, "stripes are zeroed");
    const rowCount = this.parts.geometry.chunkBytes / ROW_BYTES;
    this.parts.environment.kernels.fill(buffers.old, 0, ROW_BYTES);
    let status = 0;
    for (let stripe = first; stripe < end; stripe += 1) {
      for (let row = 0; row < rowCount && !this.parts.members.isFailed; row += 1) {
        status = worse(status, await this.zero({ stripe, row }, buffers));
      }
    }
    return status;
  }

  private zero(place: RowPlace, buffers: RowBuffers): Promise<number> {
    const { geometry, members } = this.parts;
    const absent = members.unavailableRoles(place.stripe);
    const modified: ModifiedRow[] = [];
    for (let dataIndex = 0; dataIndex < geometry.dataCountOf(place.stripe); dataIndex += 1) {
      const role = geometry.dataRole(place.stripe, dataIndex);
      modified.push({ role, address: buffers.old, isMissing: hasBit(absent, role) });
    }
    this.parts.environment.kernels.fill(buffers.partialParity, 0, ROW_BYTES);
    return this.rows.degraded.write(place, geometry.parityRole(place.stripe), modified, buffers);
  }
}
