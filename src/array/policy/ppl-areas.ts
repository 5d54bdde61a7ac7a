/**
 * The areas of the partial parity log on the members: read at a start, and emptied before a member
 * is written to (write-rules 5).
 */
import { assert } from "../../base/assert.ts";
import { ROW_BYTES, roundUp, SECTOR_BYTES } from "../../base/units.ts";
import { type AsyncIo, type IoAnswer, isDone } from "../../block/async-io.ts";
import { Outcome } from "../../block/io-error.ts";
import { SLAB_BYTES } from "../../block/pool.ts";
import {
  type Crc32c,
  emptyPplHeader,
  PPL_HEADER_BYTES,
  PPL_PARTIAL_PARITY_BYTES_MAX,
  pplSignature,
  pplSpaceOf,
} from "../../md/ppl.ts";
import { SUPERBLOCK_OFFSET_SECTORS, type Superblock } from "../../md/superblock.ts";
import { logBufferBytes, type PplSeat } from "../../raid5/policy/ppl-log.ts";
import { SPLITS_MAX } from "../../raid5/stripe/segments.ts";
import { isBesideData } from "../drives/areas.ts";
import type { Drive } from "../drives/drive.ts";
import { memoryWayOut } from "../memory-shares.ts";
import type { ReactorContext } from "../reactor-context.ts";

/** Of the engine's pool, in whole slabs: two of the largest units. */
const LOG_BYTES_MAX = roundUp(2 * (PPL_HEADER_BYTES + PPL_PARTIAL_PARITY_BYTES_MAX), SLAB_BYTES);

export class PplAreas {
  private readonly context: ReactorContext;
  private readonly asyncIo: AsyncIo;
  readonly crc32c: Crc32c;
  /** Of all arrays that run. */
  readonly policies = new Set<{ readonly logCount: number }>();
  private readonly withoutRoom = new WeakSet<Drive>();

  constructor(options: { context: ReactorContext; asyncIo: AsyncIo; crc32c: Crc32c }) {
    this.context = options.context;
    this.asyncIo = options.asyncIo;
    this.crc32c = options.crc32c;
  }

  /**
   * Why the logs of so many more members have no room in the engine's pool, or null. They may take
   * half of it: the rest is for old data and parity, and for resync and rebuild.
   */
  memoryLacking(memberCount: number): string | null {
    assert(memberCount > 0, "logs are of members");
    let count = memberCount;
    for (const { logCount } of this.policies) count += logCount;
    const wayOut = memoryWayOut(this.context.enginePool, count * LOG_BYTES_MAX);
    if (wayOut === undefined) return null;
    return (
      `The partial parity logs of ${count} members need more memory than there is: ${wayOut}, or ` +
      "take the policy bitmap."
    );
  }

  /** The log of a member as the engine uses it, or why it cannot. */
  seatOf(superblock: Superblock): PplSeat | string {
    const space = pplSpaceOf(superblock);
    if (!space.ok) return space.error.detail;
    const { partialParityBytesMax } = space.value;
    const chunkBytes = superblock.chunkSectors * SECTOR_BYTES;
    if (chunkBytes / partialParityBytesMax > SPLITS_MAX) {
      const wayOut =
        partialParityBytesMax < PPL_PARTIAL_PARITY_BYTES_MAX
          ? "make it larger with mdadm --assemble --update=no-ppl, then --update=ppl"
          : "take it away with mdadm --assemble --update=no-ppl, or run the array with Linux";
      return (
        `The partial parity log has room for ${partialParityBytesMax} bytes at a time, too few ` +
        `for chunks of ${chunkBytes}: ${wayOut}.`
      );
    }
    const { offsetBytes, areaBytes } = space.value;
    const area = areaOf(superblock);
    const isSame = area.offset === offsetBytes && area.bytes === areaBytes;
    assert(isSame, "the engine logs to the area that is read and emptied");
    const bufferBytes = logBufferBytes(space.value);
    assert(bufferBytes <= LOG_BYTES_MAX, "a log takes no more memory than was counted for it");
    return { space: space.value, signature: pplSignature(superblock.arrayUuid, this.crc32c) };
  }

  /**
   * Empties the log of a member, in an order in which a cut at any sector leaves no unit to replay:
   *
   *   1. an empty header of the highest generation at the start: no scan goes beyond it, or, where
   *      it is torn, none begins
   *   2. zeros behind it: an old unit behind a short new one would be replayed (write-rules 5)
   *   3. the empty header from which generations count again
   *
   * Zeros over all of it at once could tear the newest unit's header alone, or one on the way to it:
   * an older unit would be replayed, or the log refused.
   */
  async clear(drive: Drive, superblock: Superblock): Promise<boolean> {
    const { offset, bytes } = areaOf(superblock);
    if (bytes === 0) return true;
    assert(isBesideData(drive, superblock, { offset, bytes }), "the log lies beside the data");
    const behind = { offset: offset + PPL_HEADER_BYTES, bytes: bytes - PPL_HEADER_BYTES };
    this.withoutRoom.delete(drive);
    return (
      (await this.writeEmpty(drive, superblock, Number.MAX_SAFE_INTEGER)) &&
      this.isWritten(drive, await this.asyncIo.writeZeroes(drive.io, behind, { isFua: true })) &&
      (await this.writeEmpty(drive, superblock, 0))
    );
  }

  /** The last `clear` of this drive was refused for want of space. */
  hasNoRoom(drive: Drive): boolean {
    return this.withoutRoom.has(drive);
  }

  private isWritten(drive: Drive, answer: IoAnswer): boolean {
    if (answer.outcome === Outcome.noSpace) this.withoutRoom.add(drive);
    return isDone(answer);
  }

  private async writeEmpty(
    drive: Drive,
    superblock: Superblock,
    generation: number,
  ): Promise<boolean> {
    const { crc32c } = this;
    const signature = pplSignature(superblock.arrayUuid, crc32c);
    const header = emptyPplHeader(signature, crc32c, generation);
    assert(header.length === PPL_HEADER_BYTES, "an empty log is one header");
    const address = await this.context.enginePool.take(PPL_HEADER_BYTES);
    this.context.memory.bytes.set(header, address);
    const range = { offset: areaOf(superblock).offset, bytes: PPL_HEADER_BYTES, address };
    const written = await this.asyncIo.write(drive.io, range, { isFua: true });
    this.context.enginePool.free(address, PPL_HEADER_BYTES);
    return this.isWritten(drive, written);
  }

  /** The whole area, or null where it cannot be read. */
  async read(drive: Drive, superblock: Superblock): Promise<Uint8Array | null> {
    const { offset, bytes } = areaOf(superblock);
    assert(isBesideData(drive, superblock, { offset, bytes }), "a log is read beside the data");
    const area = new Uint8Array(bytes);
    const address = await this.context.enginePool.take(SLAB_BYTES);
    let isRead = true;
    for (let done = 0; done < bytes && isRead; done += SLAB_BYTES) {
      const length = Math.min(SLAB_BYTES, bytes - done);
      const range = { offset: offset + done, bytes: length, address };
      isRead = isDone(await this.asyncIo.read(drive.io, range));
      area.set(this.context.memory.bytes.subarray(address, address + length), done);
    }
    this.context.enginePool.free(address, SLAB_BYTES);
    return isRead ? area : null;
  }
}

/** In bytes of the device, whole rows. */
function areaOf({ log }: Superblock): { offset: number; bytes: number } {
  if (log.kind !== "ppl") return { offset: 0, bytes: 0 };
  const offset = (SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors) * SECTOR_BYTES;
  const bytes = log.sizeSectors * SECTOR_BYTES;
  return { offset, bytes: bytes - (bytes % ROW_BYTES) };
}
