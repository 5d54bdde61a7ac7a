/**
 * How a drive gets into an array: what its superblock must say, and the choice of a spare for a
 * free role.
 */
import { fillRandom } from "../../base/random.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { layOutForJoining } from "../../md/join-layout.ts";
import type { Superblock } from "../../md/superblock.ts";
import { decodeUuid } from "../../md/uuid.ts";
import type { Drive } from "../drives/drive.ts";
import type { RaidArray } from "../raid-array.ts";

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
    const { identity, context, policy } = array;
    const { sizeBytes: deviceBytes, logicalBlockBytes } = drive.info;
    const layout = layOutForJoining({
      ...{ deviceBytes, logicalBlockBytes, array: identity },
      models: this.modelsFor(drive),
      wanted: policy.wanted,
    });
    if (!layout.ok) {
      return err(
        `drive ${drive.name} has ${deviceBytes} bytes; a member of array ${array.name} needs at ` +
          `least ${layout.error}: take a larger drive`,
      );
    }
    const devNumber = array.state.freeDevNumber(array.drives());
    if (devNumber < 0) return err("the superblock has no device number left");
    const uuid = new Uint8Array(16);
    fillRandom(context.random, uuid);
    const superblock: Superblock = {
      ...identity,
      ...layout.value,
      devNumber,
      deviceUuid: decodeUuid(uuid, 0),
      deviceFlags: 0,
      correctedReadSectors: 0,
      hasBadBlocks: false,
      recoveryOffsetSectors: null,
      badBlockLogShift: 0,
    };
    const obstacle = policy.seatObstacle(superblock);
    return obstacle === null ? ok(superblock) : err(`drive ${drive.name}: ${obstacle}`);
  }

  /** Its own layout, where it was of this array; then those of the members, most headroom first. */
  private modelsFor(drive: Drive): Superblock[] {
    const { array } = this;
    const { superblock } = drive;
    const isOurs = superblock?.arrayUuid === array.uuid;
    const others = [...array.drives()]
      .filter((other) => other !== drive)
      .map((other) => other.superblock!)
      .sort((one, other) => other.dataOffsetSectors - one.dataOffsetSectors);
    return isOurs ? [superblock, ...others] : others;
  }
}
