/**
 * Parity for which its member has no room, kept in memory until it has (write-rules 20).
 *
 * A row gets here when a member took its part of a write, the parity's member refused its own, and
 * the part cannot be taken back. Such a write is still under way, and all that a write under way
 * has stands: the dirty mark, its bits in the bitmap, its unit in the partial parity log. So a
 * crash finds what a crash in the middle of a write finds, whatever the policy, and nothing here
 * needs a record of its own. As long as the array runs its reads of that row are taken from memory:
 * the row is whole, also without one of its members.
 *
 *   refused -> parked --retried, with back-off, or written over by the row's next write--> home
 *                |                                         (what stood for it is given back)
 *                +--its member leaves, or the array ends--> dropped
 *
 * With `ppl` a unit that stands keeps its log: no other write goes through that log until the rows
 * are home. The member of that log is the one that has no room.
 */

import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { hasBit } from "../../base/bit-set.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { ReadOverlay } from "../../block/read-overlay.ts";
import type { RetryFilter } from "../../block/retry-filter.ts";
import { Verdict } from "../members/member-io.ts";
import { RowBuffers } from "./row-buffers.ts";
import type { RowIo } from "./row-io.ts";
import type { EngineParts } from "./row-parts.ts";
import type { RowPlace, RowRecord } from "./row-record.ts";

/** From so many on, writes are refused before they have begun: 16 MiB. */
const PARKED_ROWS_MAX = 4096;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 2000;

/** The rows of one member, and what stands for them. */
interface Parked {
  readonly device: RetryFilter;
  readonly epoch: number;
  readonly overlay: ReadOverlay;
  readonly cover: (() => void)[];
}

export class ParkedRows {
  private readonly parts: EngineParts;
  private readonly io: RowIo;
  private readonly record: RowRecord;
  private readonly parked: (Parked | null)[];
  private running: Promise<void> | null = null;
  private isClosed = false;

  constructor(options: { parts: EngineParts; io: RowIo; record: RowRecord }) {
    this.parts = options.parts;
    this.io = options.io;
    this.record = options.record;
    const { memberCount } = options.parts.geometry;
    this.parked = new Array<Parked | null>(memberCount).fill(null);
  }

  get count(): number {
    let count = 0;
    for (const each of this.parked) count += each?.overlay.rowCount ?? 0;
    return count;
  }

  get isEmpty(): boolean {
    for (const each of this.parked) if (each !== null) return false;
    return true;
  }

  /** Whether rows of this role's member wait. */
  hasRole(role: number): boolean {
    return this.parked[role] !== null;
  }

  get isFull(): boolean {
    return !this.isEmpty && this.count >= PARKED_ROWS_MAX;
  }

  /**
   * Keeps the row that lies at `address`: the role's member is read as if it held it. One that has
   * left since it refused the row has nothing parked, as one that leaves now.
   */
  park(place: RowPlace, role: number, address: number): void {
    if (!this.parts.members.isPresent(role)) return;
    const device = this.parts.members.devices[role]!;
    const overlay = device.overlay ?? new ReadOverlay(this.parts.environment.memory);
    device.overlay = overlay;
    overlay.put(this.record.offsetOf(place, role), address);
    this.parked[role] ??= { device, epoch: this.parts.members.epoch[role]!, overlay, cover: [] };
    this.parts.policy.logs?.stick(role);
    if (this.running === null) {
      this.running = this.retryUntilHome();
      inBackground(this.running, this.parts.environment.guard);
    }
  }

  /** `giveBack` ends what stands for a write whose parity is parked on this role's member. */
  cover(role: number, giveBack: () => void): void {
    const each = this.parked[role];
    if (each === null || each === undefined) giveBack();
    else each.cover.push(giveBack);
  }

  /** As `cover`, for rows of several roles (bits). */
  coverAll(roles: number, giveBack: () => void): void {
    let left = 1;
    const one = (): void => {
      assert(left > 0, "what stands is given back once");
      left -= 1;
      if (left === 0) giveBack();
    };
    for (let role = 0; role < this.parked.length; role += 1) {
      if (!hasBit(roles, role)) continue;
      left += 1;
      this.cover(role, one);
    }
    one();
  }

  /** Once a turn: rows may have been written over, and members may have left. */
  turn(): void {
    for (let role = 0; role < this.parked.length; role += 1) {
      const each = this.parked[role];
      if (each === null || each === undefined) continue;
      const isLeft = this.parts.members.epoch[role] !== each.epoch;
      if (isLeft || each.overlay.rowCount === 0) this.drop(role, each);
    }
  }

  /**
   * No request is under way, and none will come: tries once more. What has no room then stays as it
   * is on disk, like a write that a crash has cut off; the answer is whether all is home.
   */
  async close(): Promise<boolean> {
    this.isClosed = true;
    await this.running;
    if (!this.isEmpty && !this.parts.members.isFailed) await this.round();
    this.turn();
    return this.isEmpty;
  }

  /** After the close, when the array is not marked clean any more. */
  dismiss(): void {
    for (const [role, each] of this.parked.entries()) if (each !== null) this.drop(role, each);
  }

  private drop(role: number, { device, cover }: Parked): void {
    assert(this.parked[role]?.device === device, "rows are dropped once");
    this.parked[role] = null;
    device.overlay = null;
    this.parts.policy.logs?.unstick(role);
    for (const giveBack of cover) giveBack();
  }

  private async retryUntilHome(): Promise<void> {
    const { timers } = this.parts.environment;
    let waitMs = RETRY_MS_MIN;
    while (!this.isEmpty && !this.isClosed && !this.parts.members.isFailed) {
      // Polls: nothing tells that a file system has room again.
      await timers.sleep(waitMs);
      if (this.isClosed) break;
      waitMs = (await this.round()) ? RETRY_MS_MIN : Math.min(2 * waitMs, RETRY_MS_MAX);
      this.turn();
    }
    this.running = null;
  }

  /** Tries each row once; false when a member still has no room. */
  private async round(): Promise<boolean> {
    let hasRoom = true;
    for (const [role, each] of this.parked.entries()) {
      if (each === null) continue;
      for (const offset of [...each.overlay.offsets]) {
        if (await this.tryOne(role, each, offset)) continue;
        hasRoom = false;
        break;
      }
    }
    return hasRoom;
  }

  private async tryOne(role: number, each: Parked, offset: number): Promise<boolean> {
    const inMember = offset - this.parts.members.dataOffset[role]!;
    const stripe = Math.floor(inMember / this.parts.geometry.chunkBytes);
    const row = (inMember - stripe * this.parts.geometry.chunkBytes) / ROW_BYTES;
    assert(Number.isInteger(row), "whole rows are parked");
    const held = await this.parts.runner.holds.take(stripe);
    const rows = await RowBuffers.take(this.parts);
    let hasRoom = true;
    const isCurrent = this.parked[role] === each && this.parts.members.epoch[role] === each.epoch;
    if (isCurrent && each.overlay.get(offset, rows.old)) {
      const place = { stripe, row };
      const moved = await this.io.store(place, role, rows.old, rows);
      hasRoom = moved !== Verdict.noSpace;
      if (moved === Verdict.badSector) {
        // The sector is bad, besides: what it was to hold is known to the others.
        await this.record.enterBad(place, role);
        each.overlay.forget(offset, ROW_BYTES);
      }
    }
    rows.give();
    this.parts.runner.release(held);
    return hasRoom;
  }
}
