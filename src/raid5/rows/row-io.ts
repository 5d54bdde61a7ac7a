/** Moves single rows between the members and buffers, for the careful path. */
import { assert } from "../../base/assert.ts";
import { hasBit, withBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { PARITY_SOURCES_MAX } from "../../parity/kernels.ts";
import { Op } from "../../reactor/io-table.ts";
import { Content, Verdict, type VerdictCode } from "../members/member-io.ts";
import type { StripeParts } from "../stripe/stripe-parts.ts";
import type { RowBuffers } from "./row-buffers.ts";
import type { RowPlace, RowRecord } from "./row-record.ts";

/** What became of a row: for a single row a member that does not answer in time is gone. */
export type Moved = Exclude<VerdictCode, typeof Verdict.slow>;

export class RowIo {
  private readonly parts: StripeParts;
  private readonly record: RowRecord;
  private readonly sources = new Uint32Array(PARITY_SOURCES_MAX);

  constructor(parts: StripeParts, record: RowRecord) {
    this.parts = parts;
    this.record = record;
  }

  xorOthers({ stripe }: RowPlace, spared: number, target: number, rows: RowBuffers): void {
    let count = 0;
    for (let role = 0; role < this.parts.geometry.memberCountOf(stripe); role += 1) {
      if (hasBit(spared, role)) continue;
      this.sources[count] = rows.of(role);
      count += 1;
    }
    assert(count > 0, "others are left");
    this.parts.environment.kernels.xor(target, this.sources, count, ROW_BYTES);
  }

  /** Reads a role's row into a slot, which is renewed when the drive may still write there. */
  async load(place: RowPlace, role: number, slot: number, rows: RowBuffers): Promise<Moved> {
    if (!this.isAsked(role)) return Verdict.gone;
    const moved = await this.move(Op.read, place, role, rows.of(slot));
    if (moved === Verdict.gone) await rows.renew(slot);
    return moved;
  }

  /**
   * Reads a row that is on record as bad into its slot. Where it still is, that tells nothing new
   * about its member, and does not count among its errors in a row.
   */
  async loadDoubtful(place: RowPlace, role: number, rows: RowBuffers): Promise<boolean> {
    if (!this.isAsked(role)) return false;
    const verdict = await this.parts.memberIo.move({
      content: Content.doubtful,
      op: Op.read,
      role,
      place: this.record.placeOf(place),
      bytes: ROW_BYTES,
      address: rows.of(role),
      isFua: false,
    });
    if (verdict === Verdict.done) return true;
    if (verdict !== Verdict.badSector) await rows.renew(role);
    return false;
  }

  /** Writes a role's row. The result slot is renewed when the drive may still read from it. */
  async store(place: RowPlace, role: number, address: number, rows: RowBuffers): Promise<Moved> {
    if (!this.isAsked(role)) return Verdict.gone;
    const isResult = address === rows.result;
    const moved = await this.move(Op.write, place, role, address);
    if (isResult && moved === Verdict.gone) await rows.renew(rows.resultSlot);
    if (moved === Verdict.noSpace) rows.refused = withBit(rows.refused, role);
    return moved;
  }

  /** The same, unless the role's member is missing in this stripe. */
  storeIfThere(place: RowPlace, role: number, address: number, rows: RowBuffers): Promise<Moved> {
    const isAbsent = hasBit(this.parts.members.unavailableRoles(place.stripe), role);
    return isAbsent ? Promise.resolve(Verdict.gone) : this.store(place, role, address, rows);
  }

  /** Writes the row in the slot of the old content to the target of the member that is copied. */
  async storeOnTarget(place: RowPlace, rows: RowBuffers): Promise<Moved> {
    const role = this.parts.members.copyRole;
    if (this.parts.members.isFenced) return Verdict.gone;
    const verdict = await this.parts.memberIo.moveToTarget({
      place: this.record.placeOf(place),
      bytes: ROW_BYTES,
      address: rows.old,
    });
    if (verdict === Verdict.noSpace) rows.refused = withBit(rows.refused, role);
    if (verdict === Verdict.gone) await rows.renew(rows.oldSlot);
    return verdict === Verdict.slow ? Verdict.gone : verdict;
  }

  async move(
    op: typeof Op.read | typeof Op.write,
    place: RowPlace,
    role: number,
    address: number,
  ): Promise<Moved> {
    if (op === Op.write) await this.untilMayWrite();
    const verdict = await this.parts.memberIo.move({
      content: Content.rows,
      op,
      role,
      place: this.record.placeOf(place),
      bytes: ROW_BYTES,
      address,
      isFua: op === Op.write,
    });
    return verdict === Verdict.slow ? Verdict.gone : verdict;
  }

  /**
   * Who is not asked holds no buffer. A fenced array asks nobody (write-rules 21): each row of a
   * request would be refused, and take another buffer, until there is none for the rest of it.
   */
  private isAsked(role: number): boolean {
    return this.parts.members.isPresent(role) && !this.parts.members.isFenced;
  }

  /** See WritePolicy.waitsForRecord. */
  private async untilMayWrite(): Promise<void> {
    const { policy, records } = this.parts;
    if (policy.waitsForRecord) await records.untilDone();
  }
}
