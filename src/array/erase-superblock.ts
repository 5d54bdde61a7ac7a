/** Makes a drive nobody's member. */
import { type AsyncIo, isDone } from "../block/async-io.ts";
import { SLAB_BYTES } from "../block/pool.ts";
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "../md/superblock.ts";
import { takeRun } from "./buffers.ts";
import type { ReactorContext } from "./context.ts";
import type { Drive } from "./drive.ts";
import { admit } from "./fence.ts";

/**
 * Writes zeros over the superblock, durably, of a drive that no array runs on. False: the drive did
 * not take them, or still owes an answer to what might land on them.
 */
export async function eraseSuperblock(
  { context, asyncIo }: { context: ReactorContext; asyncIo: AsyncIo },
  drive: Drive,
): Promise<boolean> {
  if (!(await drive.hasAnswered(context))) return false;
  // Also one that had failed: it may take it.
  admit(drive);
  const address = await takeRun(context, SLAB_BYTES);
  context.memory.bytes.fill(0, address, address + SUPERBLOCK_BYTES);
  const range = { offset: SUPERBLOCK_OFFSET_BYTES, bytes: SUPERBLOCK_BYTES, address };
  const answer = await asyncIo.write(drive.io, range, { isFua: true });
  context.enginePool.free(address, SLAB_BYTES);
  if (!isDone(answer)) return false;
  drive.probe = { kind: "none" };
  drive.failure = "";
  return true;
}
