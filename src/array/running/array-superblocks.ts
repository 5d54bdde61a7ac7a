/** A running array as its superblock writer sees it. */
import { errnoName } from "../../base/errno.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { Role } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { RaidArray } from "../raid-array.ts";
import type { SyncFacts } from "./superblock-state.ts";
import type { SuperblockHost } from "./superblock-writer.ts";

export function superblockHostOf(array: RaidArray): SuperblockHost {
  return {
    beforeUpdate: () => array.policy.beforeUpdate(array.state.events + 1),
    nextSuperblocks: () =>
      array.state.next({
        roles: array.roles,
        spares: array.spares,
        sync: syncFactsOf(array),
        wallMs: array.context.clock.wallMs(),
      }),
    isMember: (drive) => {
      const role = array.roleOf(drive);
      return role < 0 ? array.spares.includes(drive) : array.members.isPresent(role);
    },
    mayNotWrite: () => array.members.isFailed || array.isReadOnlyStart,
    superblockFailed: (drive, errno) => superblockFailed(array, drive, errno),
  };
}

/** What the superblocks have to say of rebuild and resync now. */
export function syncFactsOf({ members, geometry, policy }: RaidArray): SyncFacts {
  const chunkSectors = geometry.chunkBytes / SECTOR_BYTES;
  const { inSyncBelowStripe, rebuiltBelowStripe } = members;
  return {
    inSyncBelowSector: inSyncBelowStripe === null ? null : inSyncBelowStripe * chunkSectors,
    rebuiltBelowSector: rebuiltBelowStripe * chunkSectors,
    keepsCheckpoint: policy.kind === "ppl",
  };
}

/** The superblock of this drive cannot be written: it leaves the array. */
function superblockFailed(array: RaidArray, drive: Drive, errno: number): void {
  if (array.members.isFenced) return;
  const cause = `superblock write: ${errnoName(errno)}`;
  const role = array.roleOf(drive);
  if (role >= 0) {
    const slot = array.roles[role]!;
    if (array.members.isPresent(role)) {
      array.writeFailed(role, cause);
    } else if (slot.state === "rebuilding") {
      // It was about to be seated.
      slot.state = "faulty";
      drive.failure = cause;
      array.state.setDevRole(drive, Role.faulty);
      array.emit("member.failed", "critical", `drive ${drive.name} failed: ${cause}`, {
        drive: drive.name,
      });
    }
    return;
  }
  const index = array.spares.indexOf(drive);
  if (index < 0) return;
  array.spares.splice(index, 1);
  drive.failure = cause;
  array.state.setDevRole(drive, Role.faulty);
  array.emit("spare.failed", "warning", `spare ${drive.name} failed: ${cause}`, {
    drive: drive.name,
  });
}
