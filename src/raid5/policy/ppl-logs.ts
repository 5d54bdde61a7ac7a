/**
 * The partial parity logs of an array, one on each member (ppl-log.ts).
 *
 * A user (ppl-users.ts) logs what it is about to write, waits until that is durable, writes, and is
 * done. A stripe is logged by the member that holds its parity; without that member there is no log
 * and no parity to get wrong.
 *
 * What is written without the log would leave a unit behind that no longer fits: so everything that
 * writes data or cures parity in rows that may be logged goes through here.
 */

import { assert } from "../../base/assert.ts";
import { hasBit, withBit, withoutBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { PPL_PARTIAL_PARITY_BYTES_MAX } from "../../md/ppl.ts";
import type { MemberParts } from "../members/member-parts.ts";
import { PplLog, type PplSeat } from "./ppl-log.ts";
import { type LoggedExtent, PplTickets, REFUSED, TICKETS_MAX } from "./ppl-tickets.ts";
import { type PplSource, PplUsers, type PplWaiter } from "./ppl-users.ts";

/** Stripes that one ticket may log: each member holds the parity of them all in some layouts. */
export const LOGGED_STRIPES_MAX = 128;

/** What has been logged, to be given back when it is written. */
export type PplTicket = readonly number[];

export class PplLogs {
  private readonly parts: MemberParts;
  private readonly users: PplUsers;
  private readonly tickets: PplTickets;
  private readonly logs: (PplLog | null)[];
  /** Logs that were dropped with a write under way. */
  private leaving: PplLog[] = [];
  /** Roles (bits) whose unit stands until rows are home for which there is no room. */
  private stuckRoles = 0;
  private partialParityBytesMax = PPL_PARTIAL_PARITY_BYTES_MAX;

  /** The stripe operations are users by their own number. */
  constructor(
    parts: MemberParts,
    operations: { count: number; source: PplSource; waiter: PplWaiter },
  ) {
    this.parts = parts;
    const { kernels } = parts.environment;
    const tickets = new PplTickets({ first: operations.count, kernels });
    this.tickets = tickets;
    this.users = new PplUsers([
      operations,
      { count: TICKETS_MAX, source: tickets, waiter: tickets },
    ]);
    this.logs = new Array<PplLog | null>(parts.geometry.memberCount).fill(null);
  }

  /** Rows of partial parity that one unit of any member takes. */
  get partialParityRowsMax(): number {
    return this.partialParityBytesMax / ROW_BYTES;
  }

  /** Begins the log of a member whose area holds an empty header. */
  seat(role: number, seat: PplSeat, bufferAddress: number): void {
    this.retire(role);
    this.partialParityBytesMax = Math.min(
      this.partialParityBytesMax,
      seat.space.partialParityBytesMax,
    );
    const { parts, users } = this;
    this.logs[role] = new PplLog({ parts, users, role, seat, bufferAddress });
  }

  get isIdle(): boolean {
    this.leaving = this.leaving.filter((log) => log.isWriting);
    const isIdle = (log: PplLog | null): boolean => log === null || (log.isIdle && !log.isWriting);
    return this.leaving.length === 0 && this.logs.every(isIdle);
  }

  /** A unit can be submitted. */
  get isDue(): boolean {
    for (let role = 0; role < this.logs.length; role += 1) {
      if (this.logs[role]?.isDue === true) return true;
    }
    return false;
  }

  /** Once a turn, after all completions. */
  turn(): void {
    for (let role = 0; role < this.logs.length; role += 1) this.logs[role]?.turn();
  }

  close(): void {
    assert(this.isIdle, "the logs are closed with nothing under way");
    for (const log of this.logs) log?.close();
  }

  // Stripe operations ------------------------------------------------------------------------

  /** Whether writes with the parity on this role are logged. */
  hasLog(role: number): boolean {
    return this.logs[role]?.isUsable === true;
  }

  /** Whoever would log here is refused for want of space. */
  isStuck(role: number): boolean {
    return hasBit(this.stuckRoles, role);
  }

  /** The unit that covers now stands until `unstick` (parked-rows.ts). */
  stick(role: number): void {
    this.stuckRoles = withBit(this.stuckRoles, role);
    this.logs[role]?.refuseWaiting();
  }

  unstick(role: number): void {
    this.stuckRoles = withoutBit(this.stuckRoles, role);
  }

  enter(user: number, role: number): void {
    assert(!this.isStuck(role), "a log whose unit stands takes no other");
    const log = this.logs[role];
    assert(log !== null && log !== undefined, "whoever logs has asked whether there is a log");
    log.enter(user);
  }

  /** Whether a durable entry stands for what the operation writes. */
  covers(op: number): boolean {
    return this.users.coverOf[op] !== null;
  }

  done(user: number): void {
    const cover = this.users.coverOf[user];
    assert(cover !== null && cover !== undefined, "a user that is done was logged");
    this.users.coverOf[user] = null;
    cover.done();
  }

  /** The operation ends, and what it logged stands on until the answer is called. */
  handOver(op: number): () => void {
    const cover = this.users.coverOf[op];
    assert(cover !== null && cover !== undefined, "what stands was logged");
    this.users.coverOf[op] = null;
    return () => cover.done();
  }

  // Rows and whole stripes -------------------------------------------------------------------

  /**
   * Resolves when the rows are durable in the log of their parity's member, if that is there. Null:
   * there is no room for that.
   */
  async logRows(extent: LoggedExtent): Promise<PplTicket | null> {
    assert(extent.rowCount > 0 && extent.dataCount > 0, "what is logged has rows");
    const role = this.parts.geometry.parityRole(extent.stripe);
    if (!this.hasLog(role)) return [];
    const user = await this.logExtents(role, [extent]);
    return user === REFUSED ? null : [user];
  }

  /** The same for all data of stripes [first, end), LOGGED_STRIPES_MAX at most. */
  async logStripes(first: number, end: number): Promise<PplTicket | null> {
    assert(end - first <= LOGGED_STRIPES_MAX, "one unit of each member takes them");
    const { geometry } = this.parts;
    const byRole = new Map<number, LoggedExtent[]>();
    const rowCount = geometry.chunkBytes / ROW_BYTES;
    const { dataCount } = geometry;
    for (let stripe = first; stripe < end; stripe += 1) {
      const role = geometry.parityRole(stripe);
      if (!this.hasLog(role)) continue;
      const extent = { stripe, firstRow: 0, rowCount, firstDataIndex: 0, dataCount };
      const list = byRole.get(role) ?? [];
      list.push({ ...extent, partialParityAddress: 0 });
      byRole.set(role, list);
    }
    const logging = [...byRole].map(([role, extents]) => this.logExtents(role, extents));
    const users = await Promise.all(logging);
    if (!users.includes(REFUSED)) return users;
    this.giveBack(users.filter((user) => user !== REFUSED));
    return null;
  }

  /** In whose log the user is; -1: in none any more. */
  roleOf(user: number): number {
    return this.users.coverOf[user]?.role ?? -1;
  }

  /** What the ticket stands for is written. */
  giveBack(ticket: PplTicket): void {
    for (const user of ticket) {
      if (this.covers(user)) this.done(user);
      this.tickets.give(user);
    }
  }

  private logExtents(role: number, extents: readonly LoggedExtent[]): Promise<number> {
    if (this.isStuck(role)) return Promise.resolve(REFUSED);
    return this.tickets.log(extents, (user) => this.enter(user, role));
  }

  /** The log of the drive that had the role before. */
  private retire(role: number): void {
    const log = this.logs[role];
    if (log === null || log === undefined) return;
    this.unstick(role);
    // Its member has left: that drops it.
    log.turn();
    if (log.isWriting) this.leaving.push(log);
    this.logs[role] = null;
  }
}
