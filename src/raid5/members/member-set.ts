/**
 * The members of an array as the engine sees them: a device per role, and for every stripe which
 * roles can be read.
 *
 * A member is missing, in sync, or rebuilding: then it counts as present in the stripes that the
 * rebuild has done, and as missing in the others.
 */

import { assert } from "../../base/assert.ts";
import {
  bitOf,
  countBits,
  firstBits,
  intersection,
  union,
  withBit,
  withoutBit,
} from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import type { RetryFilter } from "../../block/retry-filter.ts";
import type { BadRows } from "../environment.ts";
import type { MemberCopy } from "./member-copy.ts";
import { RowSet } from "./proven-rows.ts";
import { type StripeRanges, SyncProgress } from "./sync-progress.ts";

export const MemberMode = { missing: 0, inSync: 1, rebuilding: 2 } as const;
export type MemberModeCode = (typeof MemberMode)[keyof typeof MemberMode];

/** By operation: the roles that it does without, and that have failed in it. */
export interface OpRoles {
  readonly excluded: Float64Array;
  readonly failed: Float64Array;
  readonly stripe: Float64Array;
}

/** What is to be known of the array's layout. */
export interface StripeRoles {
  readonly memberCount: number;
  readonly chunkBytes: number;
  /** Less than `memberCount` in what an array that is reshaped has not moved. */
  memberCountOf(stripe: number): number;
}

export class MemberSet {
  readonly memberCount: number;
  readonly devices: (RetryFilter | null)[];
  /** Bytes from the start of the device to its data region. */
  readonly dataOffset: Float64Array;
  readonly mode: Uint8Array;
  /**
   * Changes with each drive that takes or leaves a role: an answer of another one means nothing,
   * nor does one to what was asked of a role that nobody had.
   */
  readonly epoch: Uint8Array;
  /** 1: writes have completed since the last flush was submitted. */
  readonly needsFlush: Uint8Array;
  /** 1: what is written may be lost with the power until it is flushed. */
  readonly isVolatile: Uint8Array;
  /** Replay counts a member that is rebuilding as missing from this stripe on: it is on disk. */
  recordedRebuildStripe = 0;
  /** Set while a member is being rebuilt. */
  rebuild: SyncProgress | null = null;
  /** Set while rows may be out of sync: a resync runs or is due. */
  resync: SyncProgress | null = null;
  /** Only stripes below it are in question. */
  resyncEnd = Number.POSITIVE_INFINITY;
  /** During the first resync of a new array: rows written since the create. */
  provenRows: RowSet | null = null;
  /** Another host has taken the drives: for good, as long as this set lives. */
  isFenced = false;
  readonly badRows: (BadRows | null)[];
  readonly chunkBytes: number;
  /** The member that reads go around: it does not answer, or is far slower; -1: none. */
  avoidedRole = -1;
  /** That member does not answer at all: scrubs go past it as well. */
  isAvoidedHung = false;
  private missingBits = 0;
  private readonly geometry: StripeRoles;
  /** Of whom it is; -1: of none. */
  rebuildingRole = -1;
  /** A member that is being replaced while it serves; null: none is. */
  copy: MemberCopy | null = null;
  /** Its role, for the hot path; -1: none. */
  copyRole = -1;
  /** Changes with each target: an answer of another one means nothing. */
  copyEpoch = 0;

  constructor(geometry: StripeRoles) {
    const { memberCount, chunkBytes } = geometry;
    this.geometry = geometry;
    this.memberCount = memberCount;
    this.chunkBytes = chunkBytes;
    this.badRows = new Array<BadRows | null>(memberCount).fill(null);
    this.devices = new Array<RetryFilter | null>(memberCount).fill(null);
    this.dataOffset = new Float64Array(memberCount);
    this.mode = new Uint8Array(memberCount);
    this.epoch = new Uint8Array(memberCount);
    this.needsFlush = new Uint8Array(memberCount);
    this.isVolatile = new Uint8Array(memberCount).fill(1);
    this.missingBits = firstBits(memberCount);
  }

  /** Members without any device in sync or rebuilding. */
  get missingCount(): number {
    let count = 0;
    for (let role = 0; role < this.memberCount; role += 1) {
      if (this.mode[role] === MemberMode.missing) count += 1;
    }
    return count;
  }

  /** Devices that a write to each role goes to, at most. */
  get deviceCount(): number {
    return this.memberCount + (this.copy === null ? 0 : 1);
  }

  /** Members that do not hold all of their data: missing, or being rebuilt. */
  get degradedCount(): number {
    return this.missingCount + (this.rebuildingRole >= 0 ? 1 : 0);
  }

  /**
   * Nothing is written or acknowledged any more: two members are gone (write-rules 15), or another
   * host has the drives (write-rules 21).
   */
  get isFailed(): boolean {
    return this.isFenced || this.degradedCount > 1;
  }

  set(
    role: number,
    options: { device: RetryFilter; dataOffset: number; isVolatile?: boolean },
  ): void {
    this.devices[role] = options.device;
    this.dataOffset[role] = options.dataOffset;
    this.isVolatile[role] = options.isVolatile === false ? 0 : 1;
    this.epoch[role]! += 1;
    this.changeMode(role, MemberMode.inSync);
  }

  /** Begins (or resumes) the rebuild of a member from a stripe on. */
  setRebuilding(
    role: number,
    options: {
      device: RetryFilter;
      dataOffset: number;
      fromStripe: number;
      isVolatile?: boolean;
      /** Only these stripes are to be filled: the others are as they were when it left. */
      ranges?: StripeRanges | null;
    },
  ): void {
    assert(this.rebuildingRole < 0, "one member is rebuilt at a time");
    assert(this.mode[role] === MemberMode.missing, "what is rebuilt was missing");
    this.devices[role] = options.device;
    this.dataOffset[role] = options.dataOffset;
    this.isVolatile[role] = options.isVolatile === false ? 0 : 1;
    this.rebuild = new SyncProgress(options.fromStripe, options.ranges ?? null);
    this.recordedRebuildStripe = options.fromStripe;
    this.epoch[role]! += 1;
    this.changeMode(role, MemberMode.rebuilding);
  }

  finishRebuild(role: number): void {
    assert(this.mode[role] === MemberMode.rebuilding, "only a rebuild finishes");
    this.changeMode(role, MemberMode.inSync);
  }

  // Replacing --------------------------------------------------------------------------------

  beginCopy(copy: MemberCopy): void {
    assert(this.copy === null, "one member is replaced at a time");
    assert(this.mode[copy.role] === MemberMode.inSync, "a member that is replaced serves");
    this.copy = copy;
    this.copyRole = copy.role;
    this.copyEpoch = (this.copyEpoch + 1) & 0xff;
    // What an earlier run has written to the target may lie in its cache.
    this.needsFlush[copy.role] = 1;
  }

  /** Nothing is submitted to the target any more. */
  endCopy(): void {
    assert(this.copy !== null, "a copy ends once");
    this.copy = null;
    this.copyRole = -1;
    this.copyEpoch = (this.copyEpoch + 1) & 0xff;
  }

  /** The target, which holds all that the member does, takes its role. Nothing is under way. */
  swapCopy(): void {
    const { copy } = this;
    assert(copy !== null && this.isPresent(copy.role), "who is swapped has served until now");
    this.endCopy();
    this.badRows[copy.role] = copy.target.badRows;
    this.set(copy.role, copy.target);
  }

  /**
   * The member is lost: its target takes the role, and what it lacks is rebuilt. Of what it has
   * nothing is known to be durable before its next flush.
   */
  takeOverCopy(stripeCount: number): void {
    const { copy } = this;
    assert(copy !== null && !this.isPresent(copy.role), "a target takes over for who is lost");
    const { role, target } = copy;
    this.endCopy();
    this.badRows[role] = target.badRows;
    this.setRebuilding(role, { ...target, ...copy.stripesLacking(stripeCount) });
    this.rebuild!.durableStripe = 0;
    this.recordedRebuildStripe = 0;
  }

  /** No request is submitted to this member from now on. */
  remove(role: number): void {
    // What a rebuild had filled and is in question: without its member there is nothing to compare.
    if (this.rebuildingRole === role && this.isResyncOfRebuilt) this.endResync();
    this.changeMode(role, MemberMode.missing);
    this.epoch[role]! += 1;
    this.needsFlush[role] = 0;
  }

  isPresent(role: number): boolean {
    return this.mode[role] !== MemberMode.missing;
  }

  /**
   * Of rows that await parity: below which stripe there are none, for the superblocks; null: there
   * are no such rows. Where a member is lost in the first resync of a new array none are left:
   * each row that was written since the create has parity that is right (write-rules 1), and in the
   * others there is nothing that anybody acknowledged.
   */
  get inSyncBelowStripe(): number | null {
    if (this.resync === null) return null;
    if (this.provenRows !== null && this.degradedCount > 0) return null;
    return this.resync.durableStripe;
  }

  /** The stripes of the member being rebuilt that are durable; 0 before it has begun. */
  get rebuiltBelowStripe(): number {
    return this.rebuild?.durableStripe ?? 0;
  }

  get hasVolatileMember(): boolean {
    if (this.copy?.target.isVolatile === true) return true;
    for (let role = 0; role < this.memberCount; role += 1) {
      if (this.isVolatile[role] === 1 && this.isPresent(role)) return true;
    }
    return false;
  }

  /** Bits of the roles without the content of this stripe, as replay would see it after a crash. */
  rolesMissingInReplay(stripe: number): number {
    if (this.rebuildingRole < 0 || stripe < this.recordedRebuildStripe) return this.missingBits;
    return withBit(this.missingBits, this.rebuildingRole);
  }

  /** Bits of the roles that cannot be read in this stripe. */
  unavailableRoles(stripe: number): number {
    if (this.missingBits === 0 && this.rebuildingRole < 0) return 0;
    const roles = this.geometry.memberCountOf(stripe);
    // Of an array that is reshaped: nothing is rebuilt meanwhile.
    if (roles < this.memberCount) return intersection(this.missingBits, firstBits(roles));
    if (this.rebuildingRole < 0 || this.rebuild!.isDone(stripe)) return this.missingBits;
    return withBit(this.missingBits, this.rebuildingRole);
  }

  /** Bits of the role that reads of this stripe go around: all the others can give it. */
  avoidedRoles(stripe: number): number {
    if (this.avoidedRole < 0 || this.unavailableRoles(stripe) !== 0) return 0;
    if (this.avoidedRole >= this.geometry.memberCountOf(stripe)) return 0;
    return this.isInSync(stripe) ? bitOf(this.avoidedRole) : 0;
  }

  /**
   * The roles that an operation does without beside those that are missing, once more have failed:
   * one at most, and none where one is missing. All others are needed, also those that it did
   * without before, and waited for: they are slow, or hang, no more.
   */
  excludedBy({ excluded, failed, stripe }: OpRoles, op: number): number {
    const all = union(excluded[op]!, failed[op]!);
    // None of a fenced array gives anything any more: to wait for them would be for ever.
    if (this.isFenced) return all;
    if (this.unavailableRoles(stripe[op]!) !== 0) return 0;
    if (countBits(all) === 1) return all;
    return countBits(failed[op]!) === 1 ? failed[op]! : 0;
  }

  /** Whether any member has bad rows at all: almost always not. */
  get hasBadRows(): boolean {
    for (let role = 0; role < this.memberCount; role += 1) {
      if (this.isPresent(role) && this.badRows[role]?.isEmpty === false) return true;
    }
    return false;
  }

  /** Bits of the present roles that have a bad row among these rows of a stripe. */
  badRoles(stripe: number, fromRow: number, toRow: number): number {
    assert(fromRow < toRow && toRow * ROW_BYTES <= this.chunkBytes, "the rows are of one chunk");
    let bits = 0;
    const roles = this.geometry.memberCountOf(stripe);
    for (let role = 0; role < roles; role += 1) {
      const log = this.badRows[role];
      if (log === null || log === undefined || log.isEmpty || !this.isPresent(role)) continue;
      const offset = this.dataOffset[role]! + stripe * this.chunkBytes + fromRow * ROW_BYTES;
      if (log.has(offset, (toRow - fromRow) * ROW_BYTES)) bits = withBit(bits, role);
    }
    return bits;
  }

  /** Whether a stripe has a row that a present member cannot give. */
  hasBadRowsIn(stripe: number): boolean {
    return this.hasBadRows && this.badRoles(stripe, 0, this.chunkBytes / ROW_BYTES) !== 0;
  }

  /** Whether parity is known to match the data in this whole stripe. */
  isInSync(stripe: number): boolean {
    return this.resync === null || stripe >= this.resyncEnd || this.resync.isDone(stripe);
  }

  /** The resync is about stripes that the rebuild under way has filled. */
  get isResyncOfRebuilt(): boolean {
    return this.resync !== null && this.resyncEnd !== Number.POSITIVE_INFINITY;
  }

  /** `toStripe` absent: to the end. */
  beginResync(options: {
    fromStripe: number;
    toStripe?: number;
    isFirst: boolean;
    ranges?: StripeRanges | null;
  }): void {
    assert(
      options.fromStripe <= (options.toStripe ?? options.fromStripe),
      "it ends behind its begin",
    );
    this.resync = new SyncProgress(options.fromStripe, options.ranges ?? null);
    this.resyncEnd = options.toStripe ?? Number.POSITIVE_INFINITY;
    this.provenRows = options.isFirst ? new RowSet() : null;
  }

  endResync(): void {
    this.resync = null;
    this.resyncEnd = Number.POSITIVE_INFINITY;
    this.provenRows = null;
  }

  private changeMode(role: number, mode: MemberModeCode): void {
    assert(role >= 0 && role < this.memberCount, "a member has one of the roles");
    if (this.avoidedRole === role) this.avoidedRole = -1;
    if (this.rebuildingRole === role && mode !== MemberMode.rebuilding) {
      this.rebuildingRole = -1;
      this.rebuild = null;
    }
    if (mode === MemberMode.rebuilding) this.rebuildingRole = role;
    this.mode[role] = mode;
    // What an earlier run wrote may still lie in the drive's cache: the first flush covers it.
    if (mode !== MemberMode.missing) this.needsFlush[role] = 1;
    if (mode === MemberMode.missing) this.missingBits = withBit(this.missingBits, role);
    else this.missingBits = withoutBit(this.missingBits, role);
    assert(this.rebuildingRole < 0 || this.rebuild !== null, "a rebuild has its progress");
  }
}
