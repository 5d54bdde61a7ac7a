/**
 * The careful path: stripe operations on rows that have, or just met, bad sectors, row by row.
 *
 * A role is unknown in a row when its member is missing, not yet rebuilt there, or has the row in
 * its bad-block log; a read that fails adds it. With at most one unknown role everything can be
 * had from the others, and a role that is there is rewritten and read again (write-rules 11). With
 * two the row has lost data. Writes then follow write-rules 8 and 9:
 *
 *   other data | own     | parity  | what a write does
 *   -----------|---------|---------|-----------------------------------------------------------
 *   all known  | any     | any     | parity anew from all data; data and parity are written, and
 *              |         |         | both entries cleared once that is durable
 *   unknown    | known   | known   | read-modify-write keeps the unknown chunk's virtual content
 *              |         |         | (degraded-rows.ts)
 *   unknown    | unknown | any     | own is on record as bad (else EIO), parity is entered as bad
 *              |         |         | too, then the data is written durably, and only then is its
 *              |         |         | own entry cleared
 *   unknown    | known   | unknown | as above, unless parity is on record as bad already
 *
 * With a partial parity log each write of a row is logged first, unless an entry covers it already;
 * a cure of parity too, or an entry from before it would undo it in a replay. Beside an unknown
 * chunk parity is entered as bad, which replay knows to leave alone.
 *
 * What a member does not take is in degraded-rows.ts. A chunk with an entry is written home first,
 * if its member takes it by now, when another chunk of its row is written (write-rules 22). All
 * writes here are FUA: an entry is cleared only after the write that cures it is durable. The
 * caller holds the stripe.
 */
import { assert } from "../../base/assert.ts";
import {
  bitOf,
  countBits,
  hasBit,
  highestBit,
  union,
  withBit,
  without,
  withoutBit,
} from "../../base/bit-set.ts";
import { EIO, ENOSPC } from "../../base/errno.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { Op } from "../../reactor/io-table.ts";
import { Verdict } from "../members/member-io.ts";
import { DegradedRows, type ModifiedRow } from "./degraded-rows.ts";
import { ParkedRows } from "./parked-rows.ts";
import { RowBuffers } from "./row-buffers.ts";
import { type CurePath, RowCure } from "./row-cure.ts";
import { RowIo } from "./row-io.ts";
import { RowLog } from "./row-log.ts";
import type { EngineParts } from "./row-parts.ts";
import { type RowPlace, RowRecord } from "./row-record.ts";

export type { RowPlace } from "./row-record.ts";

/** Bytes [from, to) of a row that are written. */
export interface RowPart {
  /** Where the row lies, the new bytes in place. */
  readonly address: number;
  readonly from: number;
  readonly to: number;
  /** An entry of the partial parity log covers this row already. */
  readonly isLogged: boolean;
}

export class CarefulRows implements CurePath {
  private readonly parts: EngineParts;
  private readonly io: RowIo;
  readonly record: RowRecord;
  /** Writes to rows in which only parity knows a chunk. */
  readonly degraded: DegradedRows;
  private readonly rowLog: RowLog;
  /** Parity that waits for room. */
  readonly parked: ParkedRows;
  private readonly sources = new Uint32Array(2);
  readonly cures: RowCure;

  constructor(parts: EngineParts) {
    this.parts = parts;
    const { kernels } = parts.environment;
    const record = new RowRecord(parts);
    const io = new RowIo(parts, record);
    const parked = new ParkedRows({ parts, io, record });
    this.record = record;
    this.io = io;
    this.parked = parked;
    this.rowLog = new RowLog(parts, parked);
    this.degraded = new DegradedRows({ kernels, io, record, parked });
    this.cures = new RowCure({ parts, path: this, io, record, rowLog: this.rowLog });
  }

  takeBuffers(): Promise<RowBuffers> {
    return RowBuffers.take(this.parts);
  }

  /** Brings one row of a data chunk to `target`: 0, or EIO. */
  async read(place: RowPlace, role: number, target: number, rows: RowBuffers): Promise<number> {
    rows.failed = 0;
    let unknown = this.record.unknownRoles(place);
    const isAvoided = hasBit(this.parts.members.avoidedRoles(place.stripe), role);
    if (isAvoided && (await this.readWithout(place, role, target, rows)) === 0) return 0;
    let isNew = false;
    if (!hasBit(unknown, role)) {
      const moved = await this.io.load(place, role, role, rows);
      if (moved === Verdict.done) {
        this.parts.environment.kernels.copy(target, rows.of(role), ROW_BYTES);
        return 0;
      }
      isNew = moved === Verdict.badSector;
      unknown = withBit(this.record.unknownRoles(place), role);
    }
    if (!(await this.reconstruct(place, role, unknown, target, rows))) {
      // Degraded, or two unreadable: the sector is entered, the member stays.
      if (isNew && this.record.isProven(place)) await this.record.enterBad(place, role, "unread");
      this.parts.hooks.onLost(place.stripe, place.row, unknown);
      return EIO;
    }
    // Without room the sector stays as it is, and is found again.
    if (isNew) await this.repair(place, role, target, rows);
    return 0;
  }

  /** As `read`, from the others, although the member itself is there: it does not answer. */
  async readWithout(
    place: RowPlace,
    role: number,
    target: number,
    rows: RowBuffers,
  ): Promise<number> {
    rows.failed = 0;
    const unknown = withBit(this.record.unknownRoles(place), role);
    return (await this.reconstruct(place, role, unknown, target, rows)) ? 0 : EIO;
  }

  /**
   * Writes bytes [from, to) of one row of a data chunk. `address` is the row: the new bytes lie in
   * place, those around them are overwritten. 0, EIO or ENOSPC.
   */
  async write(place: RowPlace, role: number, part: RowPart, rows: RowBuffers): Promise<number> {
    const { geometry } = this.parts;
    const parityRole = geometry.parityRole(place.stripe);
    assert(role !== parityRole, "what is written is data");
    assert(part.from >= 0 && part.from < part.to && part.to <= ROW_BYTES, "it is bytes of one row");
    const ownAndParity = withBit(bitOf(role), parityRole);
    const isPartial = part.from > 0 || part.to < ROW_BYTES;
    rows.failed = 0;
    if (isPartial) {
      const status = await this.readOld(place, role, rows);
      if (status !== 0) return status;
      this.complete(part, rows.old);
    }
    await this.bringHome(place, ownAndParity, rows);
    let hasOld = isPartial;
    // Reads may show that more is unknown; each round knows one role less, so it ends.
    for (let round = 0; round <= geometry.memberCount + 1; round += 1) {
      const unknown = union(this.record.unknownRoles(place), rows.failed);
      if (without(unknown, ownAndParity) === 0) {
        if (await this.readOthers(place, ownAndParity, rows)) {
          if (!(await this.record.doubt(place, ownAndParity))) return EIO;
          return this.writeWithNewParity(place, role, part, rows);
        }
      } else if (hasOld) {
        if (!(await this.record.doubt(place, ownAndParity))) return EIO;
        return this.writeBesideUnknown(place, role, unknown, part, rows);
      } else {
        hasOld = true;
        await this.readOld(place, role, rows);
      }
    }
    return EIO;
  }

  /** Fills the target's row in a rebuild. False: the target takes no writes. */
  async rebuild(place: RowPlace, target: number, rows: RowBuffers): Promise<boolean> {
    rows.failed = 0;
    const unknown = withoutBit(this.record.unknownRoles(place), target);
    const isWhole = unknown === 0 && (await this.readOthers(place, bitOf(target), rows));
    if (isWhole) {
      this.io.xorOthers(place, bitOf(target), rows.result, rows);
      const moved = await this.io.store(place, target, rows.result, rows);
      if (moved === Verdict.done) return true;
      return moved === Verdict.badSector && (await this.record.enterBad(place, target));
    }
    // One sector is lost, not the array: whoever reads it gets EIO until it is written again.
    const lost = withBit(union(unknown, rows.failed), target);
    for (let role = 0; role < this.parts.geometry.memberCountOf(place.stripe); role += 1) {
      if (!hasBit(lost, role) || !this.parts.members.isPresent(role)) continue;
      // The target was never filled; of the others nothing is missing but that they could be read.
      const cause = role === target ? "unwritten" : "unread";
      if (!(await this.record.enterBad(place, role, cause))) return false;
    }
    this.parts.hooks.onLost(place.stripe, place.row, lost);
    return this.parts.members.isPresent(target);
  }

  /** Brings a member's row to the target of its copy. False: the target takes no writes. */
  async copy(place: RowPlace, role: number, rows: RowBuffers): Promise<boolean> {
    const isLost = (await this.read(place, role, rows.old, rows)) !== 0;
    const { copy } = this.parts.members;
    if (copy === null || copy.role !== role) return false;
    if (!isLost) return (await this.io.storeOnTarget(place, rows)) === Verdict.done;
    await this.enterUnread(place, withoutBit(rows.failed, role), rows);
    const offset = copy.target.dataOffset + this.record.placeOf(place);
    return copy.target.badRows.enter(offset, ROW_BYTES, "unwritten");
  }

  /** Whether parity matches in a row that can be read; if not, it is written anew if so asked. */
  async compare(place: RowPlace, isRepaired: boolean, rows: RowBuffers): Promise<boolean> {
    rows.failed = 0;
    if (!(await this.readOthers(place, 0, rows))) return true;
    this.io.xorOthers(place, 0, rows.result, rows);
    if (this.parts.environment.kernels.isZero(rows.result, ROW_BYTES)) return true;
    const parityRole = this.parts.geometry.parityRole(place.stripe);
    if (!isRepaired || this.parts.members.unavailableRoles(place.stripe) !== 0) return false;
    this.io.xorOthers(place, bitOf(parityRole), rows.result, rows);
    const moved = await this.io.store(place, parityRole, rows.result, rows);
    // What was there is wrong: nobody may go by it.
    if (moved === Verdict.badSector) await this.record.enterOrLose(place, parityRole);
    return false;
  }

  /** Those of `roles` whose sector is bad: so that what is lost is known, whoever is asked for it. */
  private async enterUnread(place: RowPlace, roles: number, rows: RowBuffers): Promise<void> {
    if (!this.record.isProven(place)) return;
    for (let role = 0; role < this.parts.geometry.memberCountOf(place.stripe); role += 1) {
      if (!hasBit(roles, role) || this.record.isBad(place, role)) continue;
      if ((await this.io.load(place, role, role, rows)) !== Verdict.badSector) continue;
      await this.record.enterBad(place, role, "unread");
    }
  }

  // Reading ----------------------------------------------------------------------------------

  /** The old content of the own row, or the reason why it is unknown in `rows.failed`. */
  private async readOld(place: RowPlace, role: number, rows: RowBuffers): Promise<number> {
    const before = rows.failed;
    const status = await this.read(place, role, rows.old, rows);
    rows.failed = union(rows.failed, before);
    if (status !== 0) rows.failed = withBit(rows.failed, role);
    return status;
  }

  private async reconstruct(
    place: RowPlace,
    role: number,
    unknown: number,
    target: number,
    rows: RowBuffers,
  ): Promise<boolean> {
    if (withoutBit(unknown, role) !== 0 || !this.record.isProven(place)) return false;
    if (!(await this.readOthers(place, bitOf(role), rows))) return false;
    this.io.xorOthers(place, bitOf(role), target, rows);
    return true;
  }

  /** Reads all roles but those in `spared` into their rows; false when one failed. */
  async readOthers(place: RowPlace, spared: number, rows: RowBuffers): Promise<boolean> {
    const unknown = this.record.unknownRoles(place);
    const reads: Promise<void>[] = [];
    for (let role = 0; role < this.parts.geometry.memberCountOf(place.stripe); role += 1) {
      if (hasBit(spared, role)) continue;
      if (hasBit(unknown, role)) rows.failed = withBit(rows.failed, role);
      else reads.push(this.readOne(place, role, rows));
    }
    await Promise.all(reads);
    return without(rows.failed, spared) === 0;
  }

  private async readOne(place: RowPlace, role: number, rows: RowBuffers): Promise<void> {
    const moved = await this.io.load(place, role, role, rows);
    if (moved !== Verdict.done) rows.failed = withBit(rows.failed, role);
  }

  /** Puts the content back, and reads it again to see that it stays. */
  async repair(place: RowPlace, role: number, address: number, rows: RowBuffers): Promise<boolean> {
    const written = await this.io.store(place, role, address, rows);
    const read = written === Verdict.done ? await this.io.load(place, role, role, rows) : written;
    if (read === Verdict.done) {
      await this.record.clearBad(place, role);
      this.parts.hooks.onRepaired(role, ROW_BYTES);
      return true;
    }
    const cause = written === Verdict.done ? "unread" : "unwritten";
    if (read === Verdict.badSector) await this.record.enterBad(place, role, cause);
    return false;
  }

  // Writing ----------------------------------------------------------------------------------

  /**
   * An entry says what was, not what is: a chunk that only parity knows is written home, if its
   * member takes it by now, before another chunk of its row is written (write-rules 22). `written`
   * are the roles that are written anyhow.
   */
  private async bringHome(place: RowPlace, written: number, rows: RowBuffers): Promise<void> {
    const { members } = this.parts;
    const unknown = without(this.record.unknownRoles(place), written);
    if (
      unknown === 0 ||
      this.record.unknownRoles(place) !== unknown ||
      !this.record.isProven(place)
    )
      return;
    const isOne = countBits(unknown) === 1;
    if (!isOne || members.badRoles(place.stripe, place.row, place.row + 1) !== unknown) return;
    const role = highestBit(unknown);
    if (
      (await this.readOthers(place, unknown, rows)) &&
      (await this.record.doubt(place, unknown))
    ) {
      this.io.xorOthers(place, unknown, rows.result, rows);
      await this.repair(place, role, rows.result, rows);
    }
    rows.failed = 0;
  }

  private async writeWithNewParity(
    place: RowPlace,
    role: number,
    part: RowPart,
    rows: RowBuffers,
  ): Promise<number> {
    const { geometry } = this.parts;
    const parityRole = geometry.parityRole(place.stripe);
    const { address } = part;
    const isOnly = geometry.dataCountOf(place.stripe) === 1;
    if (isOnly) this.parts.environment.kernels.fill(rows.partialParity, 0, ROW_BYTES);
    else this.io.xorOthers(place, withBit(bitOf(role), parityRole), rows.partialParity, rows);
    const isMissing = hasBit(this.parts.members.unavailableRoles(place.stripe), role);
    const status = await this.writeLogged(place, { role, address, isMissing }, part, rows);
    if (status === 0) this.record.noteProven(place);
    return status;
  }

  /** Logs the row unless an entry covers it, and writes it with the parity that it then has. */
  private async writeLogged(
    place: RowPlace,
    modified: ModifiedRow,
    { isLogged }: RowPart,
    rows: RowBuffers,
  ): Promise<number> {
    const parityRole = this.parts.geometry.parityRole(place.stripe);
    const isOnly = this.parts.geometry.dataCountOf(place.stripe) === 1;
    const partialParity = isOnly ? 0 : rows.partialParity;
    const ticket = isLogged ? [] : await this.rowLog.log(place, modified.role, partialParity);
    if (typeof ticket === "number") return ticket;
    const status = await this.degraded.write(place, parityRole, [modified], rows);
    this.rowLog.giveBack(ticket, parityRole, rows);
    return status;
  }

  private async writeBesideUnknown(
    place: RowPlace,
    role: number,
    unknown: number,
    part: RowPart,
    rows: RowBuffers,
  ): Promise<number> {
    const parityRole = this.parts.geometry.parityRole(place.stripe);
    const isOwnKnown = !hasBit(unknown, role);
    const isParityKnown = !hasBit(unknown, parityRole);
    assert(without(unknown, withBit(bitOf(role), parityRole)) !== 0, "another chunk is unknown");
    const absent = this.parts.members.unavailableRoles(place.stripe);
    if (hasBit(absent, role)) return EIO;
    if (isOwnKnown && isParityKnown) return this.modify(place, role, part, rows);
    // What could not be read just now, and is not on record, may be read again: then the other
    // chunk can be had, and is not given up for this one (write-rules 22).
    if (!isOwnKnown && this.record.isProven(place) && !this.record.isBad(place, role)) return EIO;
    // From here on parity does not match. That is on record before the data is written, also where
    // parity is unknown only because a read of it has just failed.
    const logged = this.parts.members.badRoles(place.stripe, place.row, place.row + 1);
    if (!hasBit(union(absent, logged), parityRole)) {
      if (!(await this.record.enterBad(place, parityRole))) return EIO;
    }
    const data = await this.io.move(Op.write, place, role, part.address);
    if (data !== Verdict.done) return data === Verdict.noSpace ? ENOSPC : EIO;
    await this.record.clearBad(place, role);
    return 0;
  }

  /** Parity = old parity XOR old data XOR new data. The old data is in `rows.old`. */
  private async modify(
    place: RowPlace,
    role: number,
    part: RowPart,
    rows: RowBuffers,
  ): Promise<number> {
    const parityRole = this.parts.geometry.parityRole(place.stripe);
    const read = await this.io.load(place, parityRole, rows.resultSlot, rows);
    if (read !== Verdict.done) {
      rows.failed = withBit(rows.failed, parityRole);
      const unknown = union(this.record.unknownRoles(place), rows.failed);
      return this.writeBesideUnknown(place, role, unknown, part, rows);
    }
    this.sources[0] = rows.result;
    this.sources[1] = rows.old;
    this.parts.environment.kernels.xor(rows.partialParity, this.sources, 2, ROW_BYTES);
    const modified = { role, address: part.address, isMissing: false };
    return this.writeLogged(place, modified, part, rows);
  }

  /** Puts the old bytes around the new ones. */
  private complete(part: RowPart, old: number): void {
    const { kernels } = this.parts.environment;
    const { address, from, to } = part;
    assert(address % ROW_BYTES === 0, "rows lie whole in memory");
    if (from > 0) kernels.copy(address, old, from);
    if (to < ROW_BYTES) kernels.copy(address + to, old + to, ROW_BYTES - to);
  }
}
