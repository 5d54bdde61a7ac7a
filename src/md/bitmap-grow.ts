/**
 * The write-intent bitmap of an array that grows, and what is left of that where it was cut short.
 *
 * As md does it: the bits stand for as much as they did while they fit into their room on every
 * member, otherwise for twice as much, or more. The bits of the new part are clear, since parity is
 * right there before the array has it.
 *
 * Order of what is on disk: all blocks with the new header, on all members; then superblocks with
 * the new size. A crash in between leaves a header for more than the array uses, which is cut down
 * again at the start. Where bits stand for more than before, some blocks may lie there by the old
 * measure and some by the new one: the array is clean then, so that no bit is needed, and no member
 * that left earlier is taken back by what they say: `events_cleared` is raised to the event of the
 * growth (write-rules 19).
 */
import { assert } from "../base/assert.ts";
import {
  BITMAP_HEADER_BYTES,
  type BitmapHeader,
  bitmapAreaBytes,
  bitmapBitCount,
  encodeBitmapHeader,
} from "./bitmap.ts";
import { BitmapState } from "./bitmap-state.ts";

/** The bitmap of a whole and clean array for a larger size; `fits`: on each member. */
export function grownBitmap(
  state: BitmapState,
  options: {
    readonly sizeSectors: number;
    /** Of the update that says the new size. */
    readonly events: number;
    readonly fits: (header: BitmapHeader) => boolean;
  },
): BitmapState {
  const { header: before } = state;
  assert(options.sizeSectors > before.syncSizeSectors, "a bitmap grows with its array");
  let header = { ...before, syncSizeSectors: options.sizeSectors };
  // One bit for all of it fits where any bitmap does.
  while (!options.fits(header) && bitmapBitCount(header) > 1) {
    header = { ...header, chunkBytes: header.chunkBytes * 2 };
  }
  if (header.chunkBytes !== before.chunkBytes) {
    header = { ...header, events: options.events, eventsCleared: options.events };
  }
  const image = imageFor(header, before, state.image());
  return new BitmapState({ header, image, isDegraded: false });
}

/** The same bitmap for an array that uses no more than `sizeSectors` of each member. */
export function cutBitmap(
  found: BitmapHeader,
  area: Uint8Array,
  sizeSectors: number,
): { readonly header: BitmapHeader; readonly image: Uint8Array } {
  const isLarger = found.syncSizeSectors > sizeSectors;
  const header = isLarger ? { ...found, syncSizeSectors: sizeSectors } : found;
  const areaBytes = bitmapAreaBytes(header);
  assert(area.length >= areaBytes, "what is cut down is there");
  if (!isLarger) return { header, image: area.slice(0, areaBytes) };
  return { header, image: imageFor(header, found, area) };
}

/** The bits of one measure in an area of another. */
function imageFor(header: BitmapHeader, before: BitmapHeader, bits: Uint8Array): Uint8Array {
  const image = new Uint8Array(bitmapAreaBytes(header));
  image.set(encodeBitmapHeader(header));
  const perBit = header.chunkBytes / before.chunkBytes;
  assert(Number.isInteger(perBit) && perBit >= 1, "a bit stands for whole bits of before");
  const end = Math.min(bitmapBitCount(before), bitmapBitCount(header) * perBit);
  for (let bit = 0; bit < end; bit += 1) {
    if ((bits[BITMAP_HEADER_BYTES + (bit >>> 3)]! & (1 << (bit & 7))) === 0) continue;
    const to = Math.floor(bit / perBit);
    image[BITMAP_HEADER_BYTES + (to >>> 3)]! |= 1 << (to & 7);
  }
  return image;
}
