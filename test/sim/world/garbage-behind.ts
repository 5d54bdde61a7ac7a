/** Drives that held other data before they were members: what lies behind what the array uses. */

import { assert } from "../../../src/base/assert.ts";
import { SECTOR_BYTES } from "../../../src/base/units.ts";
import { type DeviceImage, patchImage } from "./media.ts";
import { superblockOf } from "./member-oracle.ts";

/** The member with bytes of no sense up to its end, and other ones on each member. */
export function withGarbageBehind(image: DeviceImage): DeviceImage {
  const superblock = superblockOf(image);
  assert(typeof superblock !== "string", "the drive is a member");
  const { dataOffsetSectors, sizeSectors } = superblock;
  const from = (dataOffsetSectors + sizeSectors) * SECTOR_BYTES;
  const bytes = new Uint8Array(image.sizeBytes - from);
  const salt = image.name.charCodeAt(image.name.length - 1) * 31;
  for (let index = 0; index < bytes.length; index += 1) bytes[index] = index * 7 + salt;
  return patchImage(image, from, bytes);
}
