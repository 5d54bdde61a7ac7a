/** Moves single rows between the members and buffers, for the row path. */
import { hasBit, withBit } from "../../base/bit-set.ts";
import { ETIMEDOUT } from "../../base/errno.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { type AsyncIo, isDone } from "../../block/async-io.ts";
import { Outcome } from "../../block/io-error.ts";
import { PARITY_SOURCES_MAX } from "../../parity/kernels.ts";
import { Op } from "../../reactor/io-table.ts";
import type { EngineEnvironment, MemberError } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import type { MemberSet } from "../members/member-set.ts";
import type { RowBuffers } from "./row-buffers.ts";

/** Where a row is: a stripe, and a row of its chunks. */
export interface RowPlace {
  readonly stripe: number;
  readonly row: number;
}

/**
 * What became of a row: "bad" is a bad sector, "no-space" a write that its member has no room for,
 * "gone" a member that is missing or does not answer.
 */
export type Moved = "done" | "bad" | "no-space" | "gone";

export class RowIo {
  private readonly environment: EngineEnvironment;
  private readonly asyncIo: AsyncIo;
  private readonly geometry: Geometry;
  private readonly members: MemberSet;
  private readonly memberFailed: (error: MemberError) => void;
  /** See WritePolicy.waitsForRecord. */
  private readonly untilMayWrite: () => Promise<void>;
  private readonly sources = new Uint32Array(PARITY_SOURCES_MAX);

  constructor(options: {
    environment: EngineEnvironment;
    asyncIo: AsyncIo;
    geometry: Geometry;
    members: MemberSet;
    memberFailed: (error: MemberError) => void;
    untilMayWrite: () => Promise<void>;
  }) {
    this.environment = options.environment;
    this.asyncIo = options.asyncIo;
    this.geometry = options.geometry;
    this.members = options.members;
    this.memberFailed = options.memberFailed;
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

  offsetOf({ stripe, row }: RowPlace, role: number): number {
    return this.members.dataOffset[role]! + stripe * this.geometry.chunkBytes + row * ROW_BYTES;
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
    if (moved === "gone") await rows.renew(slot);
    return moved;
  }

  /**
   * Reads a row that is on record as bad into its slot. Where it still is, that tells nothing new
   * about its member, and does not count among its errors in a row.
   */
  async loadAgain(place: RowPlace, role: number, rows: RowBuffers): Promise<boolean> {
    const { members } = this;
    const device = members.devices[role];
    if (!members.isPresent(role) || device === null || device === undefined) return false;
    const { counters } = device;
    const before = counters.readErrorsInARow;
    const range = { offset: this.offsetOf(place, role), bytes: ROW_BYTES, address: rows.of(role) };
    const epoch = members.epoch[role]!;
    const { outcome, errno } = await this.asyncIo.read(device, range);
    if (outcome === Outcome.done) return members.epoch[role] === epoch;
    if (outcome === Outcome.mediaError) {
      counters.readErrorsInARow = Math.min(before, counters.readErrorsInARow);
      return false;
    }
    const { offset, bytes } = range;
    if (members.epoch[role] === epoch) {
      this.memberFailed({ role, op: Op.read, outcome, errno, offset, bytes });
    }
    await rows.renew(role);
    return false;
  }

  /** Writes a role's row. The result slot is renewed when the drive may still read from it. */
  async store(place: RowPlace, role: number, address: number, rows: RowBuffers): Promise<Moved> {
    const isResult = address === rows.result;
    const moved = await this.move(Op.write, place, role, address);
    if (isResult && moved === "gone") await rows.renew(rows.resultSlot);
    if (moved === "no-space") rows.refused = withBit(rows.refused, role);
    return moved;
  }

  /** The same, unless the role's member is missing in this stripe. */
  storeIfThere(place: RowPlace, role: number, address: number, rows: RowBuffers): Promise<Moved> {
    const isAbsent = hasBit(this.members.unavailableRoles(place.stripe), role);
    return isAbsent ? Promise.resolve("gone") : this.store(place, role, address, rows);
  }

  async move(
    op: typeof Op.read | typeof Op.write,
    place: RowPlace,
    role: number,
    address: number,
  ): Promise<Moved> {
    const { members } = this;
    if (op === Op.write) await this.untilMayWrite();
    const device = members.devices[role];
    if (!members.isPresent(role) || device === null || device === undefined) return "gone";
    const range = { offset: this.offsetOf(place, role), bytes: ROW_BYTES, address };
    const epoch = members.epoch[role]!;
    const answer =
      op === Op.read
        ? await this.asyncIo.read(device, range)
        : await this.asyncIo.write(device, range, { isFua: true });
    if (isDone(answer)) return "done";
    // Another drive has the role by now.
    if (members.epoch[role] !== epoch) return "gone";
    const { outcome, errno } = answer;
    this.memberFailed({ role, op, outcome, errno, offset: range.offset, bytes: ROW_BYTES });
    // The array may have failed meanwhile: then its members that are there take no writes either.
    const isLost = outcome === Outcome.memberLost || errno === ETIMEDOUT;
    if (isLost || members.isFenced || !members.isPresent(role)) return "gone";
    return outcome === Outcome.noSpace ? "no-space" : "bad";
  }
}
