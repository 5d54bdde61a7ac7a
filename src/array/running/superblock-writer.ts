/**
 * Writes the superblocks of an array: one update at a time, each with events + 1 on every member.
 *
 * Changes that are asked for while an update is under way go out together in the next one. A
 * member on which the write fails is failed (write-rules 13), and the update is repeated on the
 * rest with a new event count, until all that are left have taken it. Once two members are gone
 * nothing more is written (write-rules 15).
 *
 * A member that has no room for it is not failed (write-rules 20). It is one event behind then,
 * like after an update that was cut short, and the update has not been made durable. Order: what it
 * lacks is on it before any further update goes to anyone, or it would count as stale. That is
 * tried again from time to time, and with each update that is asked for.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import type { Guard } from "../../base/guard.ts";
import type { SharedMemory } from "../../base/memory.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { type AsyncIo, isDone } from "../../block/async-io.ts";
import { Outcome } from "../../block/io-error.ts";
import type { BufferPool } from "../../block/pool.ts";
import { SLAB_BYTES } from "../../block/pool.ts";
import { finishedReshape, reshapeOf } from "../../md/reshape.ts";
import {
  encodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../md/superblock.ts";
import type { Timers } from "../../reactor/timers.ts";
import type { Drive } from "../drives/drive.ts";
import type { SuperblockWrite } from "./superblock-state.ts";

export interface SuperblockHost {
  /** What must be durable before the next update is. False: there is no room for it. */
  beforeUpdate(): Promise<boolean>;
  /** The drives that get the update, and what to write on each. Raises the event count by one. */
  nextSuperblocks(): readonly SuperblockWrite[];
  /** Drives that get the next update and did not get the last one, with what that said. */
  leftOut(): readonly SuperblockWrite[];
  /** Whether the drive is still one of those that get updates. */
  isMember(drive: Drive): boolean;
  /** True once too few members are left to write anything. */
  mayNotWrite(): boolean;
  /** The superblock of this drive cannot be written. */
  superblockFailed(drive: Drive, errno: number): void;
  /** Nothing is being written any more. */
  hasEnded(): void;
}

const RETRY_MS = 500;
/** What goes out at once: each superblock has a row of one slab. */
const BATCH_MAX = SLAB_BYTES / ROW_BYTES;

export class SuperblockWriter {
  private readonly host: SuperblockHost;
  private readonly asyncIo: AsyncIo;
  private readonly memory: SharedMemory;
  private readonly pool: BufferPool;
  private readonly guard: Guard;
  private readonly timers: Timers;
  private queue: { change: () => void; resolve: (isDurable: boolean) => void }[] = [];
  private isRunning = false;
  /** What drives had no room for. */
  private refused: SuperblockWrite[] = [];
  private isRefused = false;
  private retryTimer = 0;
  /** Of the last round; -1: there was none. */
  private lastEvents = -1;
  private isClosed = false;

  constructor(options: {
    host: SuperblockHost;
    asyncIo: AsyncIo;
    memory: SharedMemory;
    pool: BufferPool;
    guard: Guard;
    timers: Timers;
  }) {
    this.host = options.host;
    this.asyncIo = options.asyncIo;
    this.memory = options.memory;
    this.pool = options.pool;
    this.guard = options.guard;
    this.timers = options.timers;
  }

  get isBusy(): boolean {
    return this.isRunning;
  }

  /** The last update has not been made durable for want of space, and for nothing else. */
  get hasNoRoom(): boolean {
    return this.isRefused;
  }

  /** As `update`; where there is no room for it, again until there is, or `mayEnd`. */
  async insist(change: () => void, mayEnd: () => boolean): Promise<boolean> {
    let isDurable = await this.update(change);
    while (!isDurable && this.hasNoRoom && !this.isClosed && !mayEnd()) {
      // Polls: nothing tells that a file system has room again.
      await this.timers.sleep(RETRY_MS);
      isDurable = await this.update(() => {});
    }
    return isDurable;
  }

  /** Nothing more is written from now on, whoever still asks: the drives may be another's. */
  close(): void {
    this.isClosed = true;
    this.timers.cancel(this.retryTimer);
  }

  /** Applies `change` and writes all superblocks. True when the update is durable. */
  update(change: () => void): Promise<boolean> {
    if (this.isClosed) return Promise.resolve(false);
    const result = new Promise<boolean>((resolve) => this.queue.push({ change, resolve }));
    if (!this.isRunning) inBackground(this.run(), this.guard);
    return result;
  }

  /**
   * Brings members that an update cut short did not reach to the event count of the others, with
   * what that update said. For the start of an array, before any update: two updates cut short in a
   * row would otherwise leave a current member two events behind, which counts as stale.
   */
  async catchUp(writes: readonly SuperblockWrite[]): Promise<void> {
    assert(haveOneCount(writes), "members that catch up come to one event count");
    const address = await this.pool.take(SLAB_BYTES);
    for (let first = 0; first < writes.length; first += BATCH_MAX) {
      await this.writeBatch(writes.slice(first, first + BATCH_MAX), address);
    }
    this.pool.free(address, SLAB_BYTES);
  }

  /** This drive had no room for an update, and is one behind. */
  lacks(drive: Drive): boolean {
    return this.refused.some((write) => write.drive === drive);
  }

  private async run(): Promise<void> {
    assert(!this.isRunning, "one update is written at a time");
    this.isRunning = true;
    while (this.queue.length > 0) {
      const batch = this.queue;
      this.queue = [];
      for (const { change } of batch) change();
      const isDurable = await this.writeUntilStable();
      this.isRefused = !isDurable && !this.host.mayNotWrite();
      if (this.isRefused) this.retryLater();
      for (const { resolve } of batch) resolve(isDurable);
    }
    this.isRunning = false;
    if (this.queue.length > 0) inBackground(this.run(), this.guard);
    else this.host.hasEnded();
  }

  private retryLater(): void {
    if (this.isClosed) return;
    this.timers.cancel(this.retryTimer);
    this.retryTimer = this.timers.scheduleAfter(RETRY_MS, () =>
      inBackground(
        this.update(() => {}),
        this.guard,
      ),
    );
  }

  private async writeUntilStable(): Promise<boolean> {
    while (!this.host.mayNotWrite()) {
      const isReady = (await this.host.beforeUpdate()) && (await this.bringUp());
      let address = await this.pool.take(SLAB_BYTES);
      // Rule 15: completions of one reap are judged together. What the first of them has begun
      // would be refused after the second, and a spare that refuses it counts as failed.
      if (this.host.mayNotWrite()) {
        this.pool.free(address, SLAB_BYTES);
        break;
      }
      if (!isReady) {
        this.pool.free(address, SLAB_BYTES);
        return false;
      }
      assert(this.refused.length === 0, "nobody is two events behind");
      const writes = this.host.nextSuperblocks();
      this.checkRound(writes);
      let failedCount = 0;
      for (let first = 0; first < writes.length; first += BATCH_MAX) {
        if (first > 0) address = await this.renew(address);
        const batch = writes.slice(first, first + BATCH_MAX);
        failedCount += await this.writeBatch(batch, address);
      }
      this.pool.free(address, SLAB_BYTES);
      if (failedCount === 0) return this.refused.length === 0 && !this.host.mayNotWrite();
    }
    return false;
  }

  /**
   * A buffer for each batch: a write of the last one may have been given up, and its buffer is the
   * drive's until that answers (write-rules 10).
   */
  private renew(address: number): Promise<number> {
    this.pool.free(address, SLAB_BYTES);
    return this.pool.take(SLAB_BYTES);
  }

  /** Each round has one event more than the last, and each drive gets it once. */
  private checkRound(writes: readonly SuperblockWrite[]): void {
    assert(haveOneCount(writes), "all members get the same event count");
    assert(new Set(writes.map(({ drive }) => drive)).size === writes.length, "each drive gets one");
    const [first] = writes;
    assert(first !== undefined, "an array that may write has members");
    const { events } = first.superblock;
    const isNext = this.lastEvents < 0 || events === this.lastEvents + 1;
    assert(isNext, "a round has one event more than the last");
    this.lastEvents = events;
  }

  /**
   * Writes what earlier updates had no room for, or were not for then; false where there is no room
   * yet.
   */
  private async bringUp(): Promise<boolean> {
    const refused = this.refused.filter(({ drive }) => this.host.isMember(drive));
    const leftOut = this.host.leftOut().filter(({ drive }) => !this.lacks(drive));
    const writes = [...refused, ...leftOut];
    this.refused = [];
    for (let first = 0; first < writes.length; first += BATCH_MAX) {
      const address = await this.pool.take(SLAB_BYTES);
      await this.writeBatch(writes.slice(first, first + BATCH_MAX), address);
      this.pool.free(address, SLAB_BYTES);
    }
    return this.refused.length === 0;
  }

  private async writeBatch(batch: readonly SuperblockWrite[], address: number): Promise<number> {
    assert(batch.length <= BATCH_MAX, "a batch of superblocks fits in its slab");
    const answers = await Promise.all(
      batch.map(({ drive, superblock }, index) => {
        const page = address + index * ROW_BYTES;
        const encoded = encodeSuperblock(superblock);
        assert(encoded.length === SUPERBLOCK_BYTES, "a superblock is one row");
        this.memory.bytes.set(encoded, page);
        const range = { offset: SUPERBLOCK_OFFSET_BYTES, bytes: SUPERBLOCK_BYTES, address: page };
        return this.asyncIo.write(drive.io, range, { isFua: true });
      }),
    );
    let failedCount = 0;
    for (const [index, answer] of answers.entries()) {
      const { drive, superblock } = batch[index]!;
      if (isDone(answer)) {
        drive.carry(afterWrite(drive, superblock));
        continue;
      }
      if (answer.outcome === Outcome.noSpace) {
        this.refused.push({ drive, superblock });
        continue;
      }
      failedCount += 1;
      this.host.superblockFailed(drive, answer.errno);
    }
    return failedCount;
  }
}

function haveOneCount(writes: readonly SuperblockWrite[]): boolean {
  return writes.every(({ superblock }) => superblock.events === writes[0]?.superblock.events);
}

/**
 * What an update changes is as it was written now. The rest stands as it is known: a change that
 * was made while an earlier update waited for room is in the next one.
 */
function afterWrite(drive: Drive, written: Superblock): Superblock {
  const { events, updatedAt, devRoles, resyncOffsetSectors, sizeSectors } = written;
  const { otherFeatures, recoveryOffsetSectors, hasBadBlocks } = written;
  const { memberCount, reshapeBytes } = written;
  const carried = drive.superblock ?? written;
  const hasMoved = reshapeOf(carried) !== null && reshapeOf(written) === null;
  const known = hasMoved ? finishedReshape(carried) : carried;
  assert(known.arrayUuid === written.arrayUuid, "a drive was written to by its own array");
  return {
    ...{ ...known, events, updatedAt, devRoles, resyncOffsetSectors, sizeSectors },
    ...{ otherFeatures, recoveryOffsetSectors, hasBadBlocks, memberCount, reshapeBytes },
  };
}
