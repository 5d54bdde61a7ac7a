/**
 * The partial parity logs of an array, one on each member (ppl-log.ts), and who uses them.
 *
 * A user logs what it is about to write, waits until that is durable, writes, and is done. Stripe
 * operations are users by their own number; work that goes row by row or over whole stripes takes a
 * ticket. A stripe is logged by the member that holds its parity; without that member there is no
 * log and no parity to get wrong.
 *
 * What is written without the log would leave a unit behind that no longer fits: so everything that
 * writes data or cures parity in rows that may be logged goes through here.
 */

import { assert } from "../../base/assert.ts";
import { hasBit, withBit, withoutBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import {
  PPL_PARTIAL_PARITY_BYTES_MAX,
  type PplEntry,
  type PplExtent,
  setPplEntry,
} from "../../md/ppl.ts";
import type { PplUnitBuilder } from "../../md/ppl-builder.ts";
import type { EngineEnvironment } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import type { MemberIo } from "../members/member-io.ts";
import type { MemberSet } from "../members/member-set.ts";
import { PplLog, type PplLogHost, type PplSeat } from "./ppl-log.ts";

/** Stripes that one ticket may log: each member holds the parity of them all in some layouts. */
export const LOGGED_STRIPES_MAX = 128;

/** What the stripe operations put into the logs. */
export interface PplLogsHost {
  entryCount(op: number): number;
  partialParityBytes(op: number): number;
  addEntries(op: number, unit: PplUnitBuilder): void;
  /** See PplLogHost. */
  logged(op: number): void;
  dropped(op: number): void;
  refused(op: number): void;
  flush(whenDone: (isDurable: boolean) => void): void;
}

/** Rows that are about to be written outside of a stripe operation's plan. */
export interface LoggedExtent extends PplExtent {
  /** The XOR of the chunks that are not modified; 0 where all are. */
  readonly partialParityAddress: number;
}

/** What has been logged, to be given back when it is written. */
export type PplTicket = readonly number[];

interface Waiter {
  readonly extents: readonly LoggedExtent[];
  readonly resolve: (isRefused: boolean) => void;
}

/** The largest number of members that work at once on rows and stripes, beside the operations. */
const TICKETS_MAX = 1088;
/** In place of a user: there is no room in the log. */
const REFUSED = -1;

export class PplLogs {
  private readonly environment: EngineEnvironment;
  private readonly geometry: Geometry;
  private readonly members: MemberSet;
  private readonly host: PplLogsHost;
  private readonly opCapacity: number;
  private readonly memberIo: MemberIo;
  private readonly logs: (PplLog | null)[];
  /** Logs that are gone, with a write still under way. */
  private readonly leaving = new Set<PplLog>();
  /** By user: the log whose unit covers it, or in which it waits. */
  private readonly logOf: (PplLog | null)[];
  private readonly waiters = new Map<number, Waiter>();
  private readonly freeTickets: number[] = [];
  private readonly entry: PplEntry = {
    dataSector: 0,
    partialParityBytes: 0,
    dataBytes: 0,
    parityRole: 0,
    checksum: 0,
  };
  /** Roles (bits) whose unit stands until rows are home for which there is no room. */
  private stuckRoles = 0;
  private generation = 0;
  private partialParityBytesMax = PPL_PARTIAL_PARITY_BYTES_MAX;

  constructor(options: {
    environment: EngineEnvironment;
    geometry: Geometry;
    members: MemberSet;
    memberIo: MemberIo;
    opCapacity: number;
    host: PplLogsHost;
  }) {
    this.environment = options.environment;
    this.geometry = options.geometry;
    this.members = options.members;
    this.host = options.host;
    this.opCapacity = options.opCapacity;
    this.logs = new Array<PplLog | null>(options.geometry.memberCount).fill(null);
    const users = options.opCapacity + TICKETS_MAX;
    this.logOf = new Array<PplLog | null>(users).fill(null);
    for (let user = users - 1; user >= options.opCapacity; user -= 1) this.freeTickets.push(user);
    this.memberIo = options.memberIo;
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
    this.logs[role] = new PplLog({
      environment: this.environment,
      geometry: this.geometry,
      members: this.members,
      role,
      seat,
      capacity: this.opCapacity + TICKETS_MAX,
      memberIo: this.memberIo,
      bufferAddress,
      host: this.logHost,
    });
  }

  get isIdle(): boolean {
    const isIdle = (log: PplLog | null): boolean => log === null || (log.isIdle && !log.isWriting);
    return this.leaving.size === 0 && this.logs.every(isIdle);
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

  enter(op: number, role: number): void {
    this.enterLog(op, role);
  }

  /** Whether a durable entry stands for what the operation writes. */
  covers(op: number): boolean {
    return this.logOf[op] !== null;
  }

  done(op: number): void {
    const log = this.logOf[op]!;
    assert(log !== null, "a user that is done was logged");
    this.logOf[op] = null;
    log.done();
  }

  /** The operation ends, and what it logged stands on until the answer is called. */
  handOver(op: number): () => void {
    const log = this.logOf[op]!;
    assert(log !== null, "what stands was logged");
    this.logOf[op] = null;
    return () => log.done();
  }

  // Rows and whole stripes -------------------------------------------------------------------

  /**
   * Resolves when the rows are durable in the log of their parity's member, if that is there. Null:
   * there is no room for that.
   */
  async logRows(extent: LoggedExtent): Promise<PplTicket | null> {
    const role = this.geometry.parityRole(extent.stripe);
    if (!this.hasLog(role)) return [];
    const user = await this.logExtents(role, [extent]);
    return user < 0 ? null : [user];
  }

  /** The same for all data of stripes [first, end), LOGGED_STRIPES_MAX at most. */
  async logStripes(first: number, end: number): Promise<PplTicket | null> {
    assert(end - first <= LOGGED_STRIPES_MAX, "one unit of each member takes them");
    const byRole = new Map<number, LoggedExtent[]>();
    const rowCount = this.geometry.chunkBytes / ROW_BYTES;
    const { dataCount } = this.geometry;
    for (let stripe = first; stripe < end; stripe += 1) {
      const role = this.geometry.parityRole(stripe);
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
    return this.logOf[user]?.role ?? -1;
  }

  /** What the ticket stands for is written. */
  giveBack(ticket: PplTicket): void {
    for (const user of ticket) {
      if (this.logOf[user] !== null) this.done(user);
      this.freeTickets.push(user);
    }
  }

  private logExtents(role: number, extents: readonly LoggedExtent[]): Promise<number> {
    if (this.isStuck(role)) return Promise.resolve(REFUSED);
    const user = this.freeTickets.pop();
    assert(user !== undefined, "there is a ticket for each that works on rows");
    return new Promise((resolve) => {
      const settle = (isRefused: boolean): void => {
        if (isRefused) this.freeTickets.push(user);
        resolve(isRefused ? REFUSED : user);
      };
      this.waiters.set(user, { extents, resolve: settle });
      this.enterLog(user, role);
    });
  }

  // Logs -------------------------------------------------------------------------------------

  private enterLog(user: number, role: number): void {
    const log = this.logs[role]!;
    this.logOf[user] = log;
    log.enter(user);
  }

  private readonly logHost: PplLogHost = {
    entryCount: (user) => {
      return user < this.opCapacity
        ? this.host.entryCount(user)
        : this.waiters.get(user)!.extents.length;
    },
    partialParityBytes: (user) => {
      if (user < this.opCapacity) return this.host.partialParityBytes(user);
      return this.waiters.get(user)!.extents.reduce((sum, extent) => {
        return sum + (extent.partialParityAddress === 0 ? 0 : extent.rowCount * ROW_BYTES);
      }, 0);
    },
    addEntries: (user, unit) => {
      if (user < this.opCapacity) this.host.addEntries(user, unit);
      else for (const extent of this.waiters.get(user)!.extents) this.addExtent(extent, unit);
    },
    logged: (user) => {
      if (user < this.opCapacity) this.host.logged(user);
      else this.resolve(user, false);
    },
    dropped: (user) => {
      this.logOf[user] = null;
      if (user < this.opCapacity) this.host.dropped(user);
      else this.resolve(user, false);
    },
    refused: (user) => {
      this.logOf[user] = null;
      if (user < this.opCapacity) this.host.refused(user);
      else this.resolve(user, true);
    },
    flush: (whenDone) => this.host.flush(whenDone),
    nextGeneration: () => {
      this.generation += 1;
      return this.generation;
    },
    left: (log) => {
      this.leaving.delete(log);
    },
  };

  private resolve(user: number, isRefused: boolean): void {
    const { resolve } = this.waiters.get(user)!;
    this.waiters.delete(user);
    resolve(isRefused);
  }

  private addExtent(extent: LoggedExtent, unit: PplUnitBuilder): void {
    const { entry } = this;
    setPplEntry(entry, extent, this.geometry);
    if (extent.partialParityAddress !== 0) {
      const bytes = extent.rowCount * ROW_BYTES;
      const address = unit.partialParityAddress;
      this.environment.kernels.copy(address, extent.partialParityAddress, bytes);
      entry.checksum = unit.partialParityChecksum(bytes);
    }
    unit.addEntry(entry);
  }

  /** The log of the drive that had the role before. */
  private retire(role: number): void {
    const log = this.logs[role];
    if (log === null || log === undefined) return;
    this.unstick(role);
    // Its member has left: that drops it.
    log.turn();
    if (log.isWriting) this.leaving.add(log);
    this.logs[role] = null;
  }
}
