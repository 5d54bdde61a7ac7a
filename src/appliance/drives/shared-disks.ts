/**
 * Physical disks that carry several drives of one array: parity is no help against the loss of such
 * a disk. It is told when a drive comes to an array, and shown for as long as it is so.
 */
import type { ArrayEvent, ArrayStatus, EventKind, SharedDisk } from "../../array/protocol.ts";
import type { DriveKeeper } from "../drive-keeper.ts";
import type { EventLog } from "../state/event-log.ts";
import { isDisk } from "./drive-disks.ts";

/** After one of these an array may have a drive more. */
const JOINING: ReadonlySet<EventKind> = new Set<EventKind>([
  "array.created",
  "array.grown",
  "rebuild.started",
  "replace.started",
  "reshape.started",
  "spare.taken",
]);

/** Drives that lie on the same disks make one entry. */
export function sharedDisks(
  drives: readonly string[],
  disksOf: (drive: string) => ReadonlySet<string>,
): SharedDisk[] {
  const byDisk = new Map<string, string[]>();
  for (const drive of new Set(drives)) {
    for (const disk of disksOf(drive)) {
      if (isDisk(disk)) byDisk.set(disk, [...(byDisk.get(disk) ?? []), drive]);
    }
  }
  return [...byDisk]
    .filter(([, on]) => on.length > 1)
    .map(([disk, on]) => ({ disk, drives: on.sort() }))
    .sort((left, right) => (left.disk < right.disk ? -1 : 1));
}

/** Members, those that are to replace them, and its own spares. */
function drivesOf({ members, spares }: ArrayStatus): string[] {
  const seated = members.flatMap(({ drive, replacement }) => [drive, replacement?.drive ?? null]);
  return [...seated.filter((drive) => drive !== null), ...spares];
}

export interface SharedDiskWatchParts {
  readonly drives: DriveKeeper;
  readonly events: EventLog;
  readonly getArray: (uuid: string) => Promise<ArrayStatus | null>;
}

export class SharedDiskWatch {
  private readonly parts: SharedDiskWatchParts;
  /** By array: what was told of it last. */
  private readonly told = new Map<string, string>();

  constructor(parts: SharedDiskWatchParts) {
    this.parts = parts;
    parts.events.subscribe((event) => void this.onEvent(event));
  }

  among(drives: readonly string[]): SharedDisk[] {
    return sharedDisks(drives, (drive) => this.parts.drives.disksOf([drive]));
  }

  view(status: ArrayStatus): ArrayStatus {
    const shared = this.among(drivesOf(status));
    return shared.length === 0 ? status : { ...status, sharedDisks: shared };
  }

  private async onEvent({ kind, arrayUuid, atMs }: ArrayEvent): Promise<void> {
    if (!JOINING.has(kind) || arrayUuid === null) return;
    const status = await this.parts.getArray(arrayUuid);
    if (status === null) return;
    const shared = this.among(drivesOf(status));
    const text = shared.map(sharedDiskText).join("; ");
    if (text === (this.told.get(arrayUuid) ?? "")) return;
    this.told.set(arrayUuid, text);
    if (text === "") return;
    this.parts.events.append({
      ...{ kind: "array.shared-disk", severity: "warning" },
      ...{ array: status.name, arrayUuid, drive: null, job: null, atMs },
      message: `array ${status.name}: ${text}: with the disk all of them are lost`,
    });
  }
}

/** "drives a, b lie on one disk (sda)". */
export function sharedDiskText({ disk, drives }: SharedDisk): string {
  return `drives ${drives.join(", ")} lie on one disk (${disk})`;
}
