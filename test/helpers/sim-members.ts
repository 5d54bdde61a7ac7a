/**
 * Drives of a simulation that carry an array which no parityd made: as mdadm lays it out, clean or
 * not, all zeros, with any number of members and any policy.
 */
import { assert } from "../../src/base/assert.ts";
import { BITMAP_HEADER_BYTES, encodeBitmapHeader, newBitmapHeader } from "../../src/md/bitmap.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import { placeLog } from "../../src/md/log-place.ts";
import {
  encodeSuperblock,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
} from "../../src/md/superblock.ts";
import { blankImage, type DeviceImage, patchImage } from "../sim/world/media.ts";
import { superblockOf } from "../sim/world/member-oracle.ts";
import { testSuperblock } from "./md-members.ts";

const BITMAP_AREA_BYTES = 4096;

export interface SimArrayOptions {
  readonly memberCount: number;
  readonly chunkBytes: number;
  readonly policy: ConsistencyPolicy;
  readonly deviceBytes: number;
  /** Of all members, over what a clean array says. */
  readonly fields?: Partial<Superblock>;
}

/** Members first to last, named m0 and so on. */
export function simMembers(options: SimArrayOptions): DeviceImage[] {
  const { memberCount, deviceBytes, fields = {} } = options;
  return Array.from({ length: memberCount }, (_, index) => {
    const plain = testSuperblock(index, options);
    return withSuperblock(blankImage({ name: `m${index}`, sizeBytes: deviceBytes }), {
      ...plain,
      ...fields,
    });
  });
}

/** The superblock in its place, and an empty bitmap where it has one. */
export function withSuperblock(image: DeviceImage, superblock: Superblock): DeviceImage {
  const block = encodeSuperblock(superblock);
  const marked = patchImage(image, SUPERBLOCK_OFFSET_BYTES, block);
  if (superblock.log.kind !== "bitmap") return marked;
  const offset = (SUPERBLOCK_OFFSET_SECTORS + superblock.log.offsetSectors) * 512;
  const bitmap = new Uint8Array(4096);
  const header = newBitmapHeader({ superblock, chunkBytes: 65_536 });
  bitmap.set(encodeBitmapHeader(header).subarray(0, BITMAP_HEADER_BYTES));
  return patchImage(marked, offset, bitmap);
}

/** What a bitmap says: of its bits, or that it missed an update, or in bytes that are none. */
export type BitmapSays = "nothing" | "all bits set" | "it is stale" | "nothing, in no format";

/** The member as Linux has it with a bitmap: for as much as the array uses of each member. */
export function withBitmap(image: DeviceImage, says: BitmapSays): DeviceImage {
  const plain = superblockIn(image);
  const log = placeLog(plain, { policy: "bitmap", areaBytes: BITMAP_AREA_BYTES });
  assert(log?.kind === "bitmap", "the member has room for a bitmap");
  const superblock: Superblock = { ...plain, log };
  const events = superblock.events - (says === "it is stale" ? 1 : 0);
  const header = newBitmapHeader({ superblock: { ...superblock, events }, chunkBytes: 4096 });
  const area = new Uint8Array(BITMAP_AREA_BYTES).fill(says === "all bits set" ? 0xff : 0);
  area.set(encodeBitmapHeader(header).subarray(0, BITMAP_HEADER_BYTES));
  if (says === "nothing, in no format") area[0]! ^= 1;
  const offset = (SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors) * 512;
  const marked = patchImage(image, SUPERBLOCK_OFFSET_BYTES, encodeSuperblock(superblock));
  return patchImage(marked, offset, area);
}

export function superblockIn(image: DeviceImage): Superblock {
  const superblock = superblockOf(image);
  if (typeof superblock === "string") throw new Error(superblock);
  return superblock;
}
