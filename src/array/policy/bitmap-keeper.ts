/**
 * Keeps the write-intent bitmap of a running array on its members: writes the blocks that have
 * changed, and clears bits that have rested (md/bitmap-state.ts has the rules).
 *
 * One block is written at a time, to all members that are there, durably. A member that does not
 * take it is failed, like one with a failed data write (write-rules 13). One that has no room for
 * it is not (write-rules 20): the block is tried again with the next pass and by the next write
 * that needs it, and until then writes whose bits are not durable are refused. Each write has a
 * buffer of its own: that of one that hangs is not used again (write-rules 10).
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { errnoName } from "../../base/errno.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { isDone } from "../../block/async-io.ts";
import { Outcome } from "../../block/io-error.ts";
import { BITMAP_BLOCK_BYTES } from "../../md/bitmap.ts";
import type { BitmapState } from "../../md/bitmap-state.ts";
import { SUPERBLOCK_OFFSET_SECTORS } from "../../md/superblock.ts";
import { Content, Verdict } from "../../raid5/members/member-io.ts";
import { Op } from "../../reactor/io-table.ts";
import { type DriveRange, isBesideData } from "../drives/areas.ts";
import type { Drive } from "../drives/drive.ts";
import type { ArrayCore, MemberVerdicts } from "../running/array-core.ts";

/** A bit is cleared in the second pass after its last write, and the header needs one before. */
const PASSES_AT_STOP = 3;

export class BitmapKeeper {
  readonly state: BitmapState;
  /** Writes that wait for bits are told that there is no room. */
  onRefused: () => void = () => {};
  private readonly core: ArrayCore;
  private readonly verdicts: MemberVerdicts;
  private timer = 0;
  private isStopped = false;
  private isQueued = false;
  private writing: Promise<unknown> = Promise.resolve();
  private passing: Promise<void> = Promise.resolve();

  constructor(options: { core: ArrayCore; verdicts: MemberVerdicts; state: BitmapState }) {
    assert(!options.core.isReadOnlyStart, "a read-only start keeps no bitmap");
    this.core = options.core;
    this.verdicts = options.verdicts;
    this.state = options.state;
  }

  /** Begins to clear what rests. */
  start(): void {
    const { timers } = this.core.context;
    if (this.isStopped) return;
    this.timer = timers.scheduleAfter(this.state.daemonSleepMs, () => {
      this.passing = this.pass().then(() => this.start());
      inBackground(this.passing, this.core.guard);
    });
  }

  /** A write waits for bits: writes the urgent blocks soon. */
  requestBlocks(): void {
    if (this.isQueued) return;
    this.isQueued = true;
    inBackground(this.writeBlocks({ urgentOnly: true }), this.core.guard);
  }

  /**
   * True when every block that was to be written is durable, or nothing may be written; false:
   * there is no room.
   */
  writeBlocks({ urgentOnly }: { urgentOnly: boolean }): Promise<boolean> {
    const written = this.writing.then(() => this.writeAll(urgentOnly));
    this.writing = written;
    return written;
  }

  /**
   * Order: the header with the new event count is durable before the superblocks with it are
   * written, or a crash in between would make the bitmap stale.
   */
  setEvents(events: number): Promise<boolean> {
    assert(events === this.core.state.events + 1, "the bitmap gets the event of the next update");
    this.state.setEvents(events);
    return this.writeBlocks({ urgentOnly: true });
  }

  /** Ends the passes; with `clears` bits that rest are cleared on the way. */
  async stop({ clears }: { clears: boolean }): Promise<void> {
    assert(!this.isStopped, "a bitmap is stopped once");
    this.isStopped = true;
    this.core.context.timers.cancel(this.timer);
    await this.passing;
    for (let round = 0; clears && round < PASSES_AT_STOP; round += 1) await this.pass();
    await this.writing;
  }

  private async pass(): Promise<void> {
    const { core, state } = this;
    if (core.isFailed || state.isSettled) return;
    assert(!core.isReadOnlyStart, "a read-only start clears no bits");
    if (state.startPass()) state.finishPass(await core.engine.flush());
    await this.writeBlocks({ urgentOnly: false });
  }

  private async writeAll(urgentOnly: boolean): Promise<boolean> {
    const { core, state } = this;
    this.isQueued = false;
    while (!core.isFailed && !core.isReadOnlyStart) {
      const block = state.nextBlock(0, urgentOnly);
      if (block < 0) return true;
      if (await this.writeBlock(block)) continue;
      this.onRefused();
      return false;
    }
    return true;
  }

  private async writeBlock(block: number): Promise<boolean> {
    const { core, state } = this;
    const { enginePool, memory } = core.context;
    const address = await enginePool.take(BITMAP_BLOCK_BYTES);
    if (core.isFailed) {
      enginePool.free(address, BITMAP_BLOCK_BYTES);
      return true;
    }
    assert(block >= 0 && block < state.blockCount, "a block is one of the bitmap's");
    state.beginBlockWrite(block);
    const from = block * BITMAP_BLOCK_BYTES;
    memory.bytes.set(state.submitted.subarray(from, from + BITMAP_BLOCK_BYTES), address);
    const writes: Promise<boolean>[] = [];
    for (const { role, drive } of core.presentMembers()) {
      writes.push(this.writeTo(role, drive, from, address));
    }
    // Who is to replace a member has all of it when it counts.
    const { target } = core.roster;
    if (core.members.copy !== null && target !== null) {
      writes.push(this.writeToTarget(target, from, address));
    }
    const hasRoom = (await Promise.all(writes)).every((isTaken) => isTaken);
    enginePool.free(address, BITMAP_BLOCK_BYTES);
    if (hasRoom) state.endBlockWrite(block);
    else state.refuseBlockWrite(block);
    return hasRoom;
  }

  private async writeToTarget(drive: Drive, from: number, address: number): Promise<boolean> {
    const range = this.placeOn(drive, from);
    if (range === null) return true;
    const answer = await this.core.asyncIo.write(drive.io, { ...range, address }, { isFua: true });
    if (answer.outcome === Outcome.noSpace) return false;
    if (!isDone(answer) && this.core.roster.target === drive) {
      this.verdicts.failTarget(`bitmap write: ${errnoName(answer.errno)}`);
    }
    return true;
  }

  /** Where a block of the bitmap lies on a drive; null: it keeps none. */
  private placeOn(drive: Drive, from: number): DriveRange | null {
    const { superblock } = drive;
    assert(superblock !== null, "a bitmap is written on a member");
    const { log } = superblock;
    if (log.kind !== "bitmap") return null;
    const start = (SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors) * SECTOR_BYTES;
    const range = { offset: start + from, bytes: BITMAP_BLOCK_BYTES };
    assert(isBesideData(drive, superblock, range), "a block of the bitmap lies beside the data");
    return range;
  }

  /** False: there is no room. */
  private async writeTo(
    role: number,
    drive: Drive,
    from: number,
    address: number,
  ): Promise<boolean> {
    const range = this.placeOn(drive, from);
    if (range === null) return true;
    const verdict = await this.core.engine.parts.memberIo.move({
      content: Content.metadata,
      op: Op.write,
      role,
      place: range.offset,
      bytes: range.bytes,
      address,
      isFua: true,
    });
    return verdict !== Verdict.noSpace;
  }
}
