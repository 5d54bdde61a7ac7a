/**
 * The bad-block log of one member, kept on disk as it changes.
 *
 * Order: an entry is durable in the log area, and the superblock says that the log counts, before
 * `enter` answers true. In memory it holds from the moment it is asked for, so that nobody reads
 * the row in between. Where it cannot be made durable the member is failed, and the entry leaves
 * memory again: a drive that dies as a whole has no bad sectors. An entry that cannot be taken out
 * for want of space stays.
 */
import { assert } from "../../base/assert.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { type AsyncIo, isDone } from "../../block/async-io.ts";
import { Outcome } from "../../block/io-error.ts";
import { SLAB_BYTES } from "../../block/pool.ts";
import { type BadBlockCause, type BadBlockLog, encodeBadBlockLog } from "../../md/bad-block-log.ts";
import type { Superblock } from "../../md/superblock.ts";
import type { BadRows } from "../../raid5/environment.ts";
import type { ArrayContext } from "../array-guard.ts";
import type { ReactorContext } from "../reactor-context.ts";
import { isBesideData, isInData } from "./areas.ts";
import { type Drive, logArea } from "./drive.ts";

export interface BadBlocksHost {
  /** Writes the superblocks, of which one now says that its log counts (or no longer does). */
  recordFlag(): Promise<boolean>;
  /** The log area cannot be written: the member is failed (write-rules 9). */
  logFailed(errno: number): void;
}

export class BadBlocks implements BadRows {
  private readonly context: ArrayContext;
  private readonly asyncIo: AsyncIo;
  private readonly drive: Drive;
  private readonly host: BadBlocksHost;
  private writing: Promise<boolean> = Promise.resolve(true);

  constructor(options: {
    context: ArrayContext;
    asyncIo: AsyncIo;
    drive: Drive;
    host: BadBlocksHost;
  }) {
    this.context = options.context;
    this.asyncIo = options.asyncIo;
    this.drive = options.drive;
    this.host = options.host;
  }

  get isEmpty(): boolean {
    return this.log.isEmpty;
  }

  get log(): BadBlockLog {
    return this.drive.badBlocks;
  }

  has(offset: number, bytes: number): boolean {
    return this.log.overlaps(offset / SECTOR_BYTES, bytes / SECTOR_BYTES);
  }

  isUnread(offset: number, bytes: number): boolean {
    return this.log.isUnread(offset / SECTOR_BYTES, bytes / SECTOR_BYTES);
  }

  async enter(offset: number, bytes: number, cause: BadBlockCause): Promise<boolean> {
    const { superblock } = this.drive;
    assert(superblock !== null, "who has bad blocks is a member");
    assert(isInData(superblock, { offset, bytes }), "what is entered as bad are rows of the data");
    if (logArea(superblock).bytes === 0) return false;
    const wasEmpty = this.log.isEmpty;
    const wasBad = this.has(offset, bytes);
    if (!this.log.add(offset / SECTOR_BYTES, bytes / SECTOR_BYTES, cause)) return false;
    assert(this.has(offset, bytes), "rows count as bad from the moment they are entered");
    if (await this.write()) return wasEmpty ? this.host.recordFlag() : true;
    if (!wasBad) this.log.remove(offset / SECTOR_BYTES, bytes / SECTOR_BYTES);
    return false;
  }

  async clear(offset: number, bytes: number): Promise<boolean> {
    const { superblock } = this.drive;
    assert(superblock !== null, "who has bad blocks is a member");
    assert(
      isInData(superblock, { offset, bytes }),
      "what is taken off the log are rows of the data",
    );
    if (!this.log.remove(offset / SECTOR_BYTES, bytes / SECTOR_BYTES)) return false;
    assert(!this.has(offset, bytes), "what was written durably is off the log");
    if (!(await this.write())) {
      this.log.add(offset / SECTOR_BYTES, bytes / SECTOR_BYTES);
      return false;
    }
    return this.log.isEmpty ? this.host.recordFlag() : true;
  }

  /** One write of the area after the other, each with what holds then. */
  private write(): Promise<boolean> {
    const result = this.writing.then(() => this.writeArea());
    this.writing = result;
    return result;
  }

  private async writeArea(): Promise<boolean> {
    const { enginePool, memory } = this.context;
    const address = await this.context.enginePool.take(SLAB_BYTES);
    const { drive } = this;
    assert(drive.superblock !== null, "a log is written on a member");
    const { offset, bytes } = logArea(drive.superblock);
    const encoded = encodeBadBlockLog(this.log);
    assert(encoded.length <= bytes && bytes <= SLAB_BYTES, "all entries fit in the log's area");
    const range = { offset, bytes, address };
    assert(isBesideData(drive, drive.superblock, range), "the bad-block log lies beside the data");
    memory.bytes.fill(0xff, address, address + bytes);
    memory.bytes.set(encoded, address);
    const answer = await this.asyncIo.write(this.drive.io, range, {
      isFua: true,
      onFailed: ({ outcome, errno }) => {
        if (outcome !== Outcome.noSpace) this.host.logFailed(errno);
      },
    });
    enginePool.free(address, SLAB_BYTES);
    return isDone(answer);
  }
}

/** Fills the log of a drive that joins an array with "no entry", as md does. */
export async function writeEmptyLog(
  { context, asyncIo }: { context: ReactorContext; asyncIo: AsyncIo },
  drive: Drive,
  superblock: Superblock,
): Promise<boolean> {
  const { offset, bytes } = logArea(superblock);
  if (bytes === 0) return true;
  const isPlaced = isBesideData(drive, superblock, { offset, bytes });
  assert(isPlaced && bytes <= SLAB_BYTES, "an empty log goes where its superblock puts it");
  const address = await context.enginePool.take(SLAB_BYTES);
  context.memory.bytes.fill(0xff, address, address + bytes);
  const answer = await asyncIo.write(drive.io, { offset, bytes, address }, { isFua: true });
  context.enginePool.free(address, SLAB_BYTES);
  return isDone(answer);
}
