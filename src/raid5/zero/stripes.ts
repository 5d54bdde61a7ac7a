/**
 * Trim and zeroing: what acts on whole stripes, and what is written.
 *
 *        offset                                              offset + bytes
 *          |~~~~~~ edge ~~~~~~|==== whole stripes ====|~~~ edge ~~~|
 *
 * | part          | condition                                | what is done                    |
 * |---------------|------------------------------------------|---------------------------------|
 * | edge          | trim                                     | nothing: trim rounds inward     |
 * | edge          | zeroing                                  | zeros, by the normal write path |
 * | whole stripes | known holes                              | nothing                         |
 * | whole stripes | all members are files that can be punched, | holes in data and parity      |
 * |               | none is missing, and no NO_HOLE          |                                 |
 * | whole stripes | trim otherwise                           | nothing                         |
 * | whole stripes | zeroing otherwise                        | zeros on every member there is  |
 * | stripes       | bad sectors                              | as an edge                      |
 * | stripes       | a member does not take its zeros         | row by row (rows.ts)       |
 * | stripes       | logged (`ppl`), and a member is missing  | as an edge (write-rules 2)      |
 * | all           | while the array is reshaped              | as an edge; trim: nothing       |
 *
 * The parity of zeros is zero, so a stripe is right when all its members read zeros, whatever its
 * parity was before; in a stripe that was not in sync it proves the row (write-rules 1). Holes are
 * punched in data and parity together, with the stripes locked and the array marked
 * dirty: a crash in between leaves stripes that the resync makes right.
 *
 * A punch that did not work out on one member may have worked on others, so zeros are written over
 * all of them then, also for a trim.
 */
import { assert } from "../../base/assert.ts";
import { hasBit, withBit } from "../../base/bit-set.ts";
import { EIO, ENOSPC, EOPNOTSUPP } from "../../base/errno.ts";
import { KIB, MIB, ROW_BYTES, roundDown } from "../../base/units.ts";
import { Op } from "../../reactor/io-table.ts";
import { Content, isForRows } from "../members/member-io.ts";
import { LOGGED_STRIPES_MAX, type PplTicket } from "../policy/ppl-logs.ts";
import { RequestFlag } from "../request-table.ts";
import type { RowBuffers } from "../rows/row-buffers.ts";
import type { EngineParts } from "../rows/row-parts.ts";
import { RANGE_STRIPES_MAX, type RangeLock } from "../stripe/range-lock.ts";
import type { AllocationMap } from "./allocation.ts";
import type { ZeroRows } from "./rows.ts";

/** `lost`: the flush failed, or the hole may still appear later; the member has to go. */
export type PunchOutcome = "punched" | "not-punched" | "lost";

/** Punches holes into members, durably. */
export interface HolePuncher {
  /** Whether all members that are there are files in which holes read zeros. */
  readonly canPunch: boolean;
  punch(role: number, range: { offset: number; bytes: number }): Promise<PunchOutcome>;
}

/** A write of zeros through the normal path; its status. */
export type WriteZeros = (range: {
  offset: number;
  bytes: number;
  address: number;
  isFua: boolean;
}) => Promise<number>;

/** A trim or a zeroing of bytes [offset, offset + bytes) of the array. */
export interface ZeroRequest {
  readonly isTrim: boolean;
  readonly offset: number;
  readonly bytes: number;
  readonly flags: number;
}

/** Zeros of an edge that are under way at a time. */
const PIECE_BYTES = 256 * KIB;
/** Zeros that are written to one member while its stripes are locked. */
const HELD_WRITE_BYTES = 4 * MIB;
/** Nothing of these stripes was written: they are zeroed as an edge. */
const NOT_BEGUN = -1;
const NO_PUNCHER: HolePuncher = {
  canPunch: false,
  punch: () => Promise.resolve("not-punched"),
};

export class StripeZero {
  /** Set by whoever knows what the members are. */
  puncher: HolePuncher = NO_PUNCHER;
  readonly allocation: AllocationMap;
  private readonly parts: EngineParts;
  private readonly lock: RangeLock;
  private readonly rows: ZeroRows;
  private readonly write: WriteZeros;

  constructor(options: {
    parts: EngineParts;
    allocation: AllocationMap;
    lock: RangeLock;
    rows: ZeroRows;
    write: WriteZeros;
  }) {
    this.parts = options.parts;
    this.allocation = options.allocation;
    this.lock = options.lock;
    this.rows = options.rows;
    this.write = options.write;
  }

  get canPunch(): boolean {
    const { members } = this.parts;
    if (members.degradedCount > 0 || members.isFenced || members.copy !== null) return false;
    return this.puncher.canPunch;
  }

  /** The status of a request that changes nothing, or -1 for one that is to be run. */
  judge({ isTrim, offset, bytes, flags }: ZeroRequest): number {
    const { stripeBytes, isReshaping } = this.parts.geometry;
    if (isReshaping) return isTrim ? 0 : (flags & RequestFlag.fastZero) === 0 ? -1 : EOPNOTSUPP;
    if (isTrim) {
      const first = Math.ceil(offset / stripeBytes);
      const hasStripe = first < Math.floor((offset + bytes) / stripeBytes);
      return hasStripe && this.canPunch ? -1 : 0;
    }
    if ((flags & RequestFlag.fastZero) === 0) return -1;
    const isWhole = offset % stripeBytes === 0 && (offset + bytes) % stripeBytes === 0;
    const isFast = isWhole && this.canPunch && (flags & RequestFlag.noHole) === 0;
    return isFast ? -1 : EOPNOTSUPP;
  }

  /** Runs a request, past the gate: 0, or the errno of the first part that failed. */
  async run(request: ZeroRequest): Promise<number> {
    const { offset, bytes, isTrim } = request;
    const { stripeBytes } = this.parts.geometry;
    const end = offset + bytes;
    const first = Math.ceil(offset / stripeBytes);
    const last = Math.floor(end / stripeBytes);
    let status = 0;
    if (first >= last || this.parts.geometry.isReshaping) {
      if (!isTrim) status = await this.writeEdge(offset, end, request);
    } else {
      if (!isTrim) status = await this.writeEdge(offset, first * stripeBytes, request);
      let stripe = first;
      while (stripe < last && status === 0) {
        const groupEnd = Math.min(last, roundDown(stripe, this.groupStripes) + this.groupStripes);
        status = await this.zeroGroup(stripe, groupEnd, request);
        stripe = groupEnd;
      }
      if (!isTrim && status === 0) {
        status = await this.writeEdge(last * stripeBytes, end, request);
      }
    }
    // A failed member is recorded in the others before this is acknowledged.
    await this.parts.records.untilDone();
    return status;
  }

  // Edges ------------------------------------------------------------------------------------

  private writeEdge(from: number, to: number, { flags }: ZeroRequest): Promise<number> {
    const isFua = (flags & RequestFlag.fua) !== 0;
    const mayStayHole = (flags & RequestFlag.noHole) === 0;
    return this.writeZeros(from, to, { isFua, mayStayHole });
  }

  /** Zeros for bytes [from, to) through the normal write path, in pieces. */
  private async writeZeros(
    from: number,
    to: number,
    { isFua, mayStayHole }: { isFua: boolean; mayStayHole: boolean },
  ): Promise<number> {
    const { enginePool, kernels } = this.parts.environment;
    let address = 0;
    let status = 0;
    for (let offset = from; offset < to && status === 0; ) {
      const pieceEnd = Math.min(to, roundDown(offset, PIECE_BYTES) + PIECE_BYTES);
      if (mayStayHole && this.isHoleThrough(offset, pieceEnd)) {
        offset = pieceEnd;
        continue;
      }
      assert(pieceEnd > offset, "a piece has bytes");
      if (address === 0) address = await enginePool.take(PIECE_BYTES);
      // Anew for each piece: rows written in part are completed in place.
      kernels.fill(address, 0, PIECE_BYTES);
      const place = { offset, bytes: pieceEnd - offset, address: address + (offset % ROW_BYTES) };
      status = await this.write({ ...place, isFua });
      offset = pieceEnd;
    }
    if (address !== 0) enginePool.free(address, PIECE_BYTES);
    return status;
  }

  private isHoleThrough(from: number, to: number): boolean {
    const { stripeBytes } = this.parts.geometry;
    for (let stripe = Math.floor(from / stripeBytes); stripe * stripeBytes < to; stripe += 1) {
      if (!this.mayStay(stripe)) return false;
    }
    return true;
  }

  /** Its zeros are durable, and still there when one member is lost. */
  private mayStay(stripe: number): boolean {
    const { members } = this.parts;
    return (
      this.allocation.isHole(stripe) &&
      members.degradedCount === 0 &&
      members.isInSync(stripe) &&
      !members.hasBadRowsIn(stripe)
    );
  }

  // Whole stripes ----------------------------------------------------------------------------

  private get groupStripes(): number {
    const most = this.parts.policy.logs === null ? RANGE_STRIPES_MAX : LOGGED_STRIPES_MAX;
    if (this.canPunch) return most;
    const fitting = Math.floor(HELD_WRITE_BYTES / this.parts.geometry.chunkBytes);
    return Math.max(1, Math.min(most, fitting));
  }

  private async zeroGroup(first: number, end: number, request: ZeroRequest): Promise<number> {
    const { stripeBytes } = this.parts.geometry;
    assert(
      first < end && end - first <= this.groupStripes,
      "a group fits in the range and the log",
    );
    const careful: number[] = [];
    await this.lock.take(first, end - first);
    let status = await this.zeroHeld(first, end, request, careful);
    this.lock.release();
    const isFua = (request.flags & RequestFlag.fua) !== 0;
    for (const stripe of careful) {
      if (status !== 0) return status;
      const from = stripe * stripeBytes;
      status = await this.writeZeros(from, from + stripeBytes, { isFua, mayStayHole: false });
    }
    return status;
  }

  /** Zeroes what can be zeroed as a whole; the other stripes are added to `careful`. */
  private async zeroHeld(
    first: number,
    end: number,
    request: ZeroRequest,
    careful: number[],
  ): Promise<number> {
    const { members } = this.parts;
    const mayStayHole = (request.flags & RequestFlag.noHole) === 0;
    let stripe = first;
    while (stripe < end) {
      if (mayStayHole && this.mayStay(stripe)) {
        stripe += 1;
        continue;
      }
      if (members.hasBadRowsIn(stripe)) {
        if (!request.isTrim) careful.push(stripe);
        stripe += 1;
        continue;
      }
      const unavailable = members.unavailableRoles(stripe);
      let stop = stripe + 1;
      while (
        stop < end &&
        members.unavailableRoles(stop) === unavailable &&
        !members.hasBadRowsIn(stop) &&
        !(mayStayHole && this.mayStay(stop))
      ) {
        stop += 1;
      }
      const status = await this.zeroRun(stripe, stop, request);
      if (status === NOT_BEGUN) for (let at = stripe; at < stop; at += 1) careful.push(at);
      else if (status !== 0) return status;
      stripe = stop;
    }
    return members.isFailed ? EIO : 0;
  }

  /**
   * Stripes [first, end), with the same members there in all: 0, the errno of what is not zero, or
   * NOT_BEGUN.
   */
  private async zeroRun(first: number, end: number, request: ZeroRequest): Promise<number> {
    assert(first < end, "a run has stripes");
    const { logs, intent } = this.parts.policy;
    if (request.isTrim && !this.canPunch) return 0;
    let ticket: PplTicket = [];
    if (logs !== null) {
      const unavailable = this.parts.members.unavailableRoles(first);
      if (unavailable !== 0) return NOT_BEGUN;
      for (let role = 0; role < this.parts.geometry.memberCount; role += 1) {
        if (!logs.hasLog(role)) return NOT_BEGUN;
      }
      const logged = await logs.logStripes(first, end);
      if (logged === null) return ENOSPC;
      ticket = logged;
    }
    if ((await intent?.startWrites(first, end)) === false) {
      intent?.endWrites(first, end, true);
      return ENOSPC;
    }
    // With a log a missing member ends it here: see below.
    if (intent !== null) await this.parts.records.untilDone();
    const isStillWhole = logs === null || this.parts.members.unavailableRoles(first) === 0;
    const buffers = await this.rows.takeBuffers();
    const status = isStillWhole ? await this.zeroLogged(first, end, request, buffers) : NOT_BEGUN;
    buffers.give();
    const isWhole = (status === 0 || status === ENOSPC) && !this.parts.members.isFailed;
    const { parked } = buffers;
    this.rows.whenHome(parked, () => intent?.endWrites(first, end, isWhole));
    assert(ticket.length === 0 || logs !== null, "a ticket is of a log");
    for (const user of ticket) {
      // A parity row that is parked needs the entry in the log of its own member. The other logs go
      // on: who waited in them has stripes that are waited for to bring the row home.
      const role = logs!.roleOf(user);
      const isParked = role >= 0 && hasBit(parked, role);
      this.rows.whenHome(isParked ? withBit(0, role) : 0, () => logs!.giveBack([user]));
    }
    return status;
  }

  private async zeroLogged(
    first: number,
    end: number,
    request: ZeroRequest,
    buffers: RowBuffers,
  ): Promise<number> {
    const unavailable = this.parts.members.unavailableRoles(first);
    const mayPunch = request.isTrim || (request.flags & RequestFlag.noHole) === 0;
    if (mayPunch && unavailable === 0 && this.canPunch) {
      if (await this.punchAll(first, end)) {
        this.noteDone(first, end, { isHole: true });
        return 0;
      }
      // Some members have holes now: no way back.
    } else if (request.isTrim) {
      return 0;
    }
    if (this.parts.members.isFailed) return EIO;
    const isFua = (request.flags & RequestFlag.fua) !== 0;
    const status = await this.writeAll(first, end, isFua, buffers);
    if (status === 0) this.noteDone(first, end, { isHole: false });
    return status;
  }

  private async punchAll(first: number, end: number): Promise<boolean> {
    const answers: Promise<boolean>[] = [];
    for (let role = 0; role < this.parts.geometry.memberCount; role += 1) {
      answers.push(this.punchOne(role, first, end));
    }
    return (await Promise.all(answers)).every((isPunched) => isPunched);
  }

  /** True when the member reads zeros there, or is no member any more. */
  private async punchOne(role: number, first: number, end: number): Promise<boolean> {
    const { members } = this.parts;
    const range = this.memberRange(role, first, end);
    const epoch = members.epoch[role];
    const outcome = await this.puncher.punch(role, range);
    if (members.epoch[role] !== epoch) return true;
    // What waited there for room is zeros now.
    if (outcome === "punched") members.devices[role]?.overlay?.forget(range.offset, range.bytes);
    if (outcome !== "lost") return outcome === "punched";
    this.parts.memberIo.lose(role, Op.discard, range);
    return true;
  }

  /** 0, or the errno of a row that is not zero. */
  private async writeAll(
    first: number,
    end: number,
    isFua: boolean,
    buffers: RowBuffers,
  ): Promise<number> {
    const unavailable = this.parts.members.unavailableRoles(first);
    const writes: Promise<boolean>[] = [];
    for (let role = 0; role < this.parts.geometry.memberCount; role += 1) {
      if (hasBit(unavailable, role)) continue;
      writes.push(this.writeOne(role, first, end, isFua));
    }
    if ((await Promise.all(writes)).every((isTaken) => isTaken)) return 0;
    return this.rows.write(first, end, buffers);
  }

  /** False: the member is there, but it did not take all of it. */
  private async writeOne(
    role: number,
    first: number,
    end: number,
    isFua: boolean,
  ): Promise<boolean> {
    const { chunkBytes } = this.parts.geometry;
    const verdict = await this.parts.memberIo.move({
      content: Content.data,
      op: Op.writeZeroes,
      role,
      place: first * chunkBytes,
      bytes: (end - first) * chunkBytes,
      address: 0,
      isFua,
    });
    return !isForRows(verdict);
  }

  private memberRange(role: number, first: number, end: number): { offset: number; bytes: number } {
    assert(end <= this.parts.geometry.stripeCount, "stripes are of the array");
    const { chunkBytes } = this.parts.geometry;
    return {
      offset: this.parts.members.dataOffset[role]! + first * chunkBytes,
      bytes: (end - first) * chunkBytes,
    };
  }

  private noteDone(first: number, end: number, { isHole }: { isHole: boolean }): void {
    const { members, geometry } = this.parts;
    if (members.isFailed) return;
    this.allocation.noteZeros(first, end, { isHole });
    const rowsPerChunk = geometry.chunkBytes / ROW_BYTES;
    for (let stripe = first; stripe < end; stripe += 1) {
      if (members.provenRows === null || members.isInSync(stripe)) continue;
      const isParityThere = !hasBit(members.unavailableRoles(stripe), geometry.parityRole(stripe));
      if (!isParityThere) continue;
      members.provenRows.addRange(stripe * rowsPerChunk, (stripe + 1) * rowsPerChunk);
    }
  }
}
