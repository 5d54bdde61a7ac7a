/**
 * Files as drives get all of their space, so that a full file system cannot refuse their writes
 * later. A file system that cannot do it leaves them sparse, which is shown.
 */
import type { CommandError, OpenDrive } from "../array/protocol.ts";
import { formatBytes } from "../base/units.ts";
import { noRoom } from "./drive-refusals.ts";
import type { DriveOpener } from "./helper/drive-opener.ts";

type Opener = Pick<DriveOpener, "room" | "allocate">;

export interface SpaceGiven {
  /** Those that have all of their space now. */
  readonly full: readonly OpenDrive[];
  /** Why the next one has not got it; those before it keep theirs. */
  readonly failure: CommandError | null;
}

/** Whether it is a file, or a volume, that has not got all of its space. */
export function isSparse({ allocatedBytes, sizeBytes }: OpenDrive): boolean {
  return allocatedBytes !== undefined && allocatedBytes < sizeBytes;
}

/** Why not all of these can have all of their space together, or null. */
export async function lackOfRoom(
  drives: readonly OpenDrive[],
  opener: Opener,
): Promise<CommandError | null> {
  const left = new Map<string, number>();
  for (const drive of drives) {
    const room = await opener.room(drive.fd);
    if (room === null) continue;
    const { fileSystem, availableBytes, allocatedBytes } = room;
    const wanted = Math.max(0, drive.sizeBytes - allocatedBytes);
    const after = (left.get(fileSystem) ?? availableBytes) - wanted;
    left.set(fileSystem, after);
    if (after < 0) return noRoom(drive, `${formatBytes(-after)} more (${-after} bytes) are needed`);
  }
  return null;
}

/** Gives each its space in turn, until one cannot have it. */
export async function allocateAll(
  drives: readonly OpenDrive[],
  opener: Opener,
): Promise<SpaceGiven> {
  const full: OpenDrive[] = [];
  for (const drive of drives) {
    const given = await opener.allocate(drive.fd, drive.sizeBytes);
    if (given.ok) {
      full.push(drive);
    } else if (given.error.kind !== "unsupported") {
      const { code, detail } = given.error;
      const error = code === "no-space" ? noRoom(drive, detail) : given.error;
      const names = full.map(({ name }) => name).join(", ");
      const stays = full.length === 0 ? "" : `; what was allocated for ${names} stays`;
      return { full, failure: { ...error, detail: `${error.detail}${stays}` } };
    }
  }
  return { full, failure: null };
}
