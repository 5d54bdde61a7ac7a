/**
 * What is asked of a drive that waits to be a member: for which arrays it is large enough, and
 * whether it can be read, so that neither is found out when it is needed.
 */
import { assert } from "../../base/assert.ts";
import { errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { ROW_BYTES, roundDown } from "../../base/units.ts";
import { OUTCOME_NAMES, Outcome } from "../../block/io-error.ts";
import { SLAB_BYTES } from "../../block/pool.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError, CommandMap, CommandOf, DriveFit } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { commandError } from "../record.ts";
import type { Registry } from "../registry.ts";
import { unknownDrive } from "./refusals.ts";

const READ_BYTES_MAX = 8 * SLAB_BYTES;

export function fitDrive(
  registry: Registry,
  name: string,
): Result<readonly DriveFit[], CommandError> {
  const drive = registry.drives.get(name);
  if (drive === undefined) return err(unknownDrive(name));
  if (drive.info.isReadOnly) {
    return err(commandError("conflict", "drive-read-only", `drive ${name} was opened read-only`));
  }
  const fits: DriveFit[] = [];
  for (const { uuid, running } of registry.arrays.values()) {
    if (running === null) continue;
    fits.push({ array: uuid, neededBytes: running.seating.bytesLacking(drive) });
  }
  return ok(fits);
}

/**
 * Reads the range, one run of slabs after the other. It holds nothing: whoever wants the drive
 * meanwhile gets it, and then the reading ends.
 */
export async function readDrive(
  registry: Registry,
  { drive: name, offset, bytes }: CommandOf<"read-drive">,
): Promise<Result<CommandMap["read-drive"]["value"], CommandError>> {
  const drive = registry.drives.get(name);
  if (drive === undefined) return err(unknownDrive(name));
  const end = Math.min(offset + bytes, roundDown(drive.info.sizeBytes, ROW_BYTES));
  for (let at = offset; at < end; at += READ_BYTES_MAX) {
    if (!isWaiting(registry, drive)) return err(notASpare(name));
    const failure = await readRun(registry, drive, at, Math.min(READ_BYTES_MAX, end - at));
    if (failure === null) continue;
    // A drive that has gone, or is another host's, says nothing about itself as a spare.
    if (!isWaiting(registry, drive)) return err(notASpare(name));
    await failed(arrayOf(registry, drive), drive, failure);
    return ok({ failure });
  }
  return ok({ failure: null });
}

async function readRun(
  { context, asyncIo }: Registry,
  drive: Drive,
  offset: number,
  bytes: number,
): Promise<string | null> {
  assert(bytes > 0 && bytes <= READ_BYTES_MAX, "a run has a buffer");
  const address = await context.enginePool.take(READ_BYTES_MAX);
  const answer = await asyncIo.read(drive.io, { offset, bytes, address });
  context.enginePool.free(address, READ_BYTES_MAX);
  if (answer.outcome === Outcome.done) return null;
  const cause = `${OUTCOME_NAMES[answer.outcome]}, ${errnoName(answer.errno)}`;
  return `it cannot be read at byte ${offset} (${cause})`;
}

/** A spare of a running array is out of it, and the others' superblocks say so. */
async function failed(array: RaidArray | null, drive: Drive, cause: string): Promise<void> {
  if (array === null) return;
  const { isFailed, isReadOnlyStart, isStopped } = array.core;
  if (isFailed || isReadOnlyStart || isStopped) return;
  assert(array.core.roster.isSpare(drive), "who is taken out for a read is a spare");
  array.spareFailed(drive, cause);
  await array.core.record();
}

/** It is a spare, or nobody's, and takes requests. */
function isWaiting(registry: Registry, drive: Drive): boolean {
  if (registry.drives.get(drive.name) !== drive || drive.isShut || drive.failure !== "") {
    return false;
  }
  const holder = registry.holderOf(drive);
  if (holder === null) return drive.superblock === null;
  return holder.running?.core.roster.isSpare(drive) === true;
}

function arrayOf(registry: Registry, drive: Drive): RaidArray | null {
  return registry.holderOf(drive)?.running ?? null;
}

function notASpare(name: string): CommandError {
  const detail = `drive ${name} is no spare any more: nothing more of it is read`;
  return commandError("conflict", "not-a-spare", detail);
}
