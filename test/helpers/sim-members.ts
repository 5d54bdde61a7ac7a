/**
 * Drives of a simulation that carry an array which no parityd made: as mdadm lays it out, clean or
 * not, all zeros, with any number of members and any policy.
 */
import { BITMAP_HEADER_BYTES, encodeBitmapHeader, newBitmapHeader } from "../../src/md/bitmap.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import {
  encodeSuperblock,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
} from "../../src/md/superblock.ts";
import { blankImage, type DeviceImage, patchImage } from "../sim/world/media.ts";
import { testSuperblock } from "./md-members.ts";

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
