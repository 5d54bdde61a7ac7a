/** Whether an array can do without one of its drives. */
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { commandError } from "../record.ts";

/** Why this drive cannot be taken out without losing data, or null. */
export function removalObstacle(
  array: RaidArray,
  drive: Drive,
  { canForce }: { canForce: boolean },
): CommandError | null {
  const { name, roster, members } = array.core;
  const role = roster.roleOf(drive);
  const kind = role < 0 ? "missing" : roster.seatOf(role).kind;
  if (kind !== "in-sync" && kind !== "replacing") return null;
  const way = `rebuild onto another drive first${canForce ? ", or say force=true" : ""}`;
  if (members.degradedCount > 0) {
    const detail =
      `array ${name} is degraded and needs drive ${drive.name}: without it the array fails, and ` +
      `its data are lost to its clients; ${way}`;
    return commandError("conflict", "would-lose-data", detail);
  }
  if (members.resync !== null && members.provenRows === null) {
    const detail = `array ${name} is in its resync and needs drive ${drive.name}: ${way}`;
    return commandError("conflict", "would-lose-data", detail);
  }
  return null;
}
