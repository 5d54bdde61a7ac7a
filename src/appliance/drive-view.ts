/** What is known of a drive here, beside what the reactor says of it. */
import type { DriveStatus } from "../array/protocol.ts";
import type { SharedSpares } from "./spares/shared-spares.ts";
import type { ArrayBook } from "./state/array-book.ts";
import type { StateStore } from "./state/state-store.ts";

/** A drive of a deleted array says so, and a missing one where it belongs. */
export function driveView(
  drive: DriveStatus,
  { store, arrays, spares }: { store: StateStore; arrays: ArrayBook; spares: SharedSpares },
): DriveStatus {
  const uuid = drive.superblock?.arrayUuid ?? store.state.drives.get(drive.name)?.arrayUuid ?? null;
  if (uuid === null) return spares.driveView(drive);
  const label = arrays.labelOf(uuid);
  if (drive.state === "missing") {
    return { ...drive, detail: `of array ${label}: ${drive.detail ?? "not there"}` };
  }
  if (!arrays.isDeleted(uuid) || drive.superblock === undefined) return spares.driveView(drive);
  const { member: _member, ...rest } = drive;
  const detail =
    `of the deleted array ${label} (${uuid}): start that to have it back, or say force where ` +
    "you use the drive";
  return { ...rest, state: "foreign", detail };
}
