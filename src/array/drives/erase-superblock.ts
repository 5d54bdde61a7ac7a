/** Makes a drive nobody's member, and finds out beforehand whether it takes a write. */
import { assert } from "../../base/assert.ts";
import { type AsyncIo, isDone } from "../../block/async-io.ts";
import { SLAB_BYTES } from "../../block/pool.ts";
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "../../md/superblock.ts";
import type { ReactorContext } from "../reactor-context.ts";
import type { Drive } from "./drive.ts";

interface Ground {
  readonly context: ReactorContext;
  readonly asyncIo: AsyncIo;
}

/**
 * Writes zeros over the superblock, durably, of a drive that no array runs on. False: the drive did
 * not take them, or still owes an answer to what might land on them.
 */
export async function eraseSuperblock(ground: Ground, drive: Drive): Promise<boolean> {
  const { context, asyncIo } = ground;
  if (!(await drive.hasAnswered(context))) return false;
  // Also one that had failed: it may take it.
  drive.admit();
  assert(hasRoomForSuperblock(drive), "who has a superblock to erase has room for one");
  const isErased = await withRow(context, (address) => {
    context.memory.bytes.fill(0, address, address + SUPERBLOCK_BYTES);
    return asyncIo.write(drive.io, rowAt(address), { isFua: true }).then(isDone);
  });
  if (!isErased) return false;
  drive.carryNothing();
  drive.forgetFailure();
  return true;
}

/**
 * Whether the drive takes a write: what is in the place of its superblock is written there again,
 * and nothing has changed.
 */
export async function takesWrites({ context, asyncIo }: Ground, drive: Drive): Promise<boolean> {
  assert(hasRoomForSuperblock(drive), "who is to be a member has room for a superblock");
  return withRow(context, async (address) => {
    const row = rowAt(address);
    if (!isDone(await asyncIo.read(drive.io, row))) return false;
    return isDone(await asyncIo.write(drive.io, row, { isFua: true }));
  });
}

function hasRoomForSuperblock({ info }: Drive): boolean {
  return info.sizeBytes >= SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES;
}

function rowAt(address: number) {
  return { offset: SUPERBLOCK_OFFSET_BYTES, bytes: SUPERBLOCK_BYTES, address };
}

async function withRow(
  context: ReactorContext,
  work: (address: number) => Promise<boolean>,
): Promise<boolean> {
  const address = await context.enginePool.take(SLAB_BYTES);
  try {
    return await work(address);
  } finally {
    context.enginePool.free(address, SLAB_BYTES);
  }
}
