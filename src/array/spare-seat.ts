/**
 * How a drive gets into an array: what its superblock must say, and the choice of a spare for a
 * free role.
 */
import { fillRandom } from "../base/random.ts";
import { err, ok, type Result } from "../base/result.ts";
import { SECTOR_BYTES } from "../base/units.ts";
import { chooseLayoutOnMember } from "../md/create.ts";
import type { Superblock } from "../md/superblock.ts";
import { decodeUuid } from "../md/uuid.ts";
import type { Drive } from "./drive.ts";
import type { RaidArray } from "./raid-array.ts";

export class SpareSeat {
  private readonly array: RaidArray;

  constructor(array: RaidArray) {
    this.array = array;
  }

  /** A role that has no working drive, or -1; also where another one is being rebuilt. */
  freeRole(): number {
    if (this.array.roles.some(({ state }) => state === "rebuilding")) return -1;
    return this.array.roles.findIndex(({ state }) => state === "missing" || state === "faulty");
  }

  /** Gives the first spare the free role. False: it could not be recorded. */
  async promote(): Promise<boolean> {
    const role = this.freeRole();
    const spare = role < 0 ? undefined : this.array.spares.shift();
    if (spare === undefined) return false;
    return this.array.seatForRebuild(spare, role, spare.superblock!);
  }

  /** The superblock with which a new drive enters the array, or why it cannot. */
  superblockFor(drive: Drive): Result<Superblock, string> {
    const { array } = this;
    const { identity, geometry, context } = array;
    const layout = chooseLayoutOnMember({
      deviceBytes: drive.info.sizeBytes,
      chunkBytes: geometry.chunkBytes,
      policy: array.policy.kind,
    });
    const neededBytes = identity.sizeSectors * SECTOR_BYTES;
    const hasRoom = layout.ok && layout.value.dataSizeSectors >= identity.sizeSectors;
    if (!layout.ok || !hasRoom) {
      return err(
        `drive ${drive.name} has ${drive.info.sizeBytes} bytes, too few to hold ${neededBytes} ` +
          "bytes of data beside the superblock: take a larger drive",
      );
    }
    const devNumber = array.state.freeDevNumber(array.drives());
    if (devNumber < 0) return err("the superblock has no device number left");
    const uuid = new Uint8Array(16);
    fillRandom(context.random, uuid);
    const { value } = layout;
    const superblock: Superblock = {
      ...identity,
      log: { kind: "none", word: 0 },
      devNumber,
      deviceUuid: decodeUuid(uuid, 0),
      deviceFlags: 0,
      correctedReadSectors: 0,
      hasBadBlocks: false,
      recoveryOffsetSectors: null,
      dataOffsetSectors: value.dataOffsetSectors,
      dataSizeSectors: value.dataSizeSectors,
      badBlockLogShift: 0,
      badBlockLogSectors: value.badBlockLogSectors,
      badBlockLogOffsetSectors: value.badBlockLogOffsetSectors,
    };
    const log = array.policy.logFor(superblock);
    return log.ok
      ? ok({ ...superblock, log: log.value })
      : err(`drive ${drive.name}: ${log.error}`);
  }
}
