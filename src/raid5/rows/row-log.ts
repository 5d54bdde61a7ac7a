/** The partial parity log as the careful path uses it: one row at a time. */
import { assert } from "../../base/assert.ts";
import { hasBit } from "../../base/bit-set.ts";
import { EIO, ENOSPC } from "../../base/errno.ts";
import type { PplTicket } from "../policy/ppl-logs.ts";
import type { StripeParts } from "../stripe/stripe-parts.ts";
import type { ParkedRows } from "./parked-rows.ts";
import type { RowBuffers } from "./row-buffers.ts";
import type { RowPlace } from "./row-record.ts";

export class RowLog {
  private readonly parts: StripeParts;
  private readonly parked: ParkedRows;

  constructor(parts: StripeParts, parked: ParkedRows) {
    this.parts = parts;
    this.parked = parked;
  }

  /**
   * Logs one row of a data chunk that is about to be written; without partial parity, that parity
   * is about to be computed from all data. An errno: it must not be written.
   */
  async log(
    { stripe, row }: RowPlace,
    role: number,
    partialParityAddress: number,
  ): Promise<PplTicket | number> {
    const { geometry, members } = this.parts;
    const { logs } = this.parts.policy;
    if (logs === null) return [];
    const parityRole = geometry.parityRole(stripe);
    if (hasBit(members.unavailableRoles(stripe), parityRole)) return [];
    if (logs.isStuck(parityRole)) return ENOSPC;
    if (!logs.hasLog(parityRole)) return EIO;
    const isAll = partialParityAddress === 0;
    assert(isAll || role !== parityRole, "partial parity is that of a data chunk");
    const ticket = await logs.logRows({
      stripe,
      firstRow: row,
      rowCount: 1,
      firstDataIndex: isAll ? 0 : geometry.dataIndexOf(stripe, role),
      dataCount: isAll ? geometry.dataCount : 1,
      partialParityAddress,
    });
    return ticket ?? ENOSPC;
  }

  /** The rows are written, or parked: then the ticket stands until they are home. */
  giveBack(ticket: PplTicket, parityRole: number, rows: RowBuffers): void {
    const { logs } = this.parts.policy;
    if (logs === null) return;
    if (!hasBit(rows.parked, parityRole)) logs.giveBack(ticket);
    else this.parked.cover(parityRole, () => logs.giveBack(ticket));
  }
}
