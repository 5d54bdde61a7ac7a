/**
 * Makes the bits of a drive's write-intent bitmap stand for little: by default one stands for
 * 64 MiB, more than all of a member here, and a bitmap of one bit tells nothing apart. A drive that
 * has a bitmap gets one of the same array with a bit for each 4 KiB; where a bit was set, all that
 * it stood for are.
 */
import { ROW_BYTES } from "../../../src/base/units.ts";
import {
  BITMAP_BLOCK_BYTES,
  BITMAP_HEADER_BYTES,
  bitmapBitCount,
  bitmapOffsetBytes,
  decodeBitmapHeader,
  encodeBitmapHeader,
} from "../../../src/md/bitmap.ts";
import { type DeviceImage, patchImage, readImage } from "./media.ts";
import { superblockOf } from "./member-oracle.ts";

export function withFineBitmap(image: DeviceImage): DeviceImage {
  const superblock = superblockOf(image);
  if (typeof superblock === "string" || superblock.log.kind !== "bitmap") return image;
  const offset = bitmapOffsetBytes(superblock);
  const area = readImage(image, offset, BITMAP_BLOCK_BYTES);
  const deviceBytes = image.sizeBytes;
  const decoded = decodeBitmapHeader(area.slice(0, BITMAP_HEADER_BYTES), {
    superblock,
    deviceBytes,
  });
  // Torn, or not written yet.
  if (!decoded.ok || decoded.value.chunkBytes === ROW_BYTES) return image;
  const header = { ...decoded.value, chunkBytes: ROW_BYTES };
  const fine = new Uint8Array(BITMAP_BLOCK_BYTES);
  fine.set(encodeBitmapHeader(header));
  const bitsEach = decoded.value.chunkBytes / ROW_BYTES;
  for (let bit = 0; bit < bitmapBitCount(header); bit += 1) {
    const coarse = Math.floor(bit / bitsEach);
    const isSet = (area[BITMAP_HEADER_BYTES + (coarse >> 3)]! >> (coarse & 7)) & 1;
    if (isSet === 1) fine[BITMAP_HEADER_BYTES + (bit >> 3)]! |= 1 << (bit & 7);
  }
  return patchImage(image, offset, fine);
}
