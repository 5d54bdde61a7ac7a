/** Moves single rows between the members and buffers, for the row path. */
import { hasBit, withBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { PARITY_SOURCES_MAX } from "../../parity/kernels.ts";
import { Op } from "../../reactor/io-table.ts";
import type { EngineEnvironment } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import { Content, type MemberIo, Verdict, type VerdictCode } from "../members/member-io.ts";
import type { MemberSet } from "../members/member-set.ts";
import type { RowBuffers } from "./row-buffers.ts";

/** Where a row is: a stripe, and a row of its chunks. */
export interface RowPlace {
  readonly stripe: number;
  readonly row: number;
}

/** What became of a row: for a single row a member that does not answer in time is gone. */
export type Moved = Exclude<VerdictCode, typeof Verdict.slow>;

export class RowIo {
  private readonly environment: EngineEnvironment;
  private readonly memberIo: MemberIo;
  private readonly geometry: Geometry;
  private readonly members: MemberSet;
  /** See WritePolicy.waitsForRecord. */
  private readonly untilMayWrite: () => Promise<void>;
  private readonly sources = new Uint32Array(PARITY_SOURCES_MAX);

  constructor(options: {
    environment: EngineEnvironment;
    memberIo: MemberIo;
    geometry: Geometry;
    members: MemberSet;
    untilMayWrite: () => Promise<void>;
  }) {
    this.environment = options.environment;
    this.memberIo = options.memberIo;
    this.geometry = options.geometry;
    this.members = options.members;
    this.untilMayWrite = options.untilMayWrite;
  }

  xorOthers(spared: number, target: number, rows: RowBuffers): void {
    let count = 0;
    for (let role = 0; role < this.geometry.memberCount; role += 1) {
      if (hasBit(spared, role)) continue;
      this.sources[count] = rows.of(role);
      count += 1;
    }
    this.environment.kernels.xor(target, this.sources, count, ROW_BYTES);
  }

  offsetOf(place: RowPlace, role: number): number {
    return this.members.dataOffset[role]! + this.placeOf(place);
  }

  /** The row is on record as bad on the role's member. */
  isBad(place: RowPlace, role: number): boolean {
    const log = this.members.badRows[role];
    if (log === null || log === undefined || log.isEmpty) return false;
    return log.has(this.offsetOf(place, role), ROW_BYTES);
  }

  /** Reads a role's row into a slot, which is renewed when the drive may still write there. */
  async load(place: RowPlace, role: number, slot: number, rows: RowBuffers): Promise<Moved> {
    const moved = await this.move(Op.read, place, role, rows.of(slot));
    if (moved === Verdict.gone) await rows.renew(slot);
    return moved;
  }

  /**
   * Reads a row that is on record as bad into its slot. Where it still is, that tells nothing new
   * about its member, and does not count among its errors in a row.
   */
  async loadAgain(place: RowPlace, role: number, rows: RowBuffers): Promise<boolean> {
    if (!this.members.isPresent(role)) return false;
    const { counters } = this.members.devices[role]!;
    const before = counters.readErrorsInARow;
    const verdict = await this.memberIo.move({
      content: Content.doubtful,
      op: Op.read,
      role,
      place: this.placeOf(place),
      bytes: ROW_BYTES,
      address: rows.of(role),
      isFua: false,
    });
    if (verdict === Verdict.done) return true;
    if (verdict === Verdict.badSector) {
      counters.readErrorsInARow = Math.min(before, counters.readErrorsInARow);
      return false;
    }
    await rows.renew(role);
    return false;
  }

  /** Writes a role's row. The result slot is renewed when the drive may still read from it. */
  async store(place: RowPlace, role: number, address: number, rows: RowBuffers): Promise<Moved> {
    const isResult = address === rows.result;
    const moved = await this.move(Op.write, place, role, address);
    if (isResult && moved === Verdict.gone) await rows.renew(rows.resultSlot);
    if (moved === Verdict.noSpace) rows.refused = withBit(rows.refused, role);
    return moved;
  }

  /** The same, unless the role's member is missing in this stripe. */
  storeIfThere(place: RowPlace, role: number, address: number, rows: RowBuffers): Promise<Moved> {
    const isAbsent = hasBit(this.members.unavailableRoles(place.stripe), role);
    return isAbsent ? Promise.resolve(Verdict.gone) : this.store(place, role, address, rows);
  }

  async move(
    op: typeof Op.read | typeof Op.write,
    place: RowPlace,
    role: number,
    address: number,
  ): Promise<Moved> {
    if (op === Op.write) await this.untilMayWrite();
    const verdict = await this.memberIo.move({
      content: Content.rows,
      op,
      role,
      place: this.placeOf(place),
      bytes: ROW_BYTES,
      address,
      isFua: op === Op.write,
    });
    return verdict === Verdict.slow ? Verdict.gone : verdict;
  }

  private placeOf({ stripe, row }: RowPlace): number {
    return stripe * this.geometry.chunkBytes + row * ROW_BYTES;
  }
}
