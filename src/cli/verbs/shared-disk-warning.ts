/** The warning that drives of an array lie on one physical disk, where somebody puts them there. */
import { sharedDiskText } from "../../appliance/drives/shared-disks.ts";
import type { ArrayStatus, SharedDisk } from "../../array/protocol.ts";
import type { DaemonClient } from "../client.ts";
import type { CliHost } from "../host.ts";

/** On stderr: what was asked for is done all the same. */
export function warnOfSharedDisks(host: CliHost, shared: readonly SharedDisk[]): void {
  for (const disk of shared) {
    host.warn(`parityd: ${sharedDiskText(disk)}: with the disk all of them are lost`);
  }
}

/** After one of these drives has come to the array, whose path this is. */
export async function warnOfNewDrives(
  client: DaemonClient,
  host: CliHost,
  { arrayPath, drives }: { arrayPath: string; drives: readonly string[] },
): Promise<void> {
  const array = await client.get<ArrayStatus>(arrayPath);
  if (!array.ok) return;
  const shared = array.value.value.sharedDisks ?? [];
  warnOfSharedDisks(
    host,
    shared.filter((disk) => drives.some((drive) => disk.drives.includes(drive))),
  );
}
