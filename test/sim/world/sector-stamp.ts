/**
 * What the workload writes: every 512-byte sector names itself, so that a wrong one can be traced.
 *
 *   0 u32 magic   4 u32 seed   8 f64 lba   16 u32 version   20 u32 crc32c of 0..19
 *   24.. filler that follows from seed, lba and version, a word at a time
 *
 * The filler is not linear in its inputs: the XOR of any sectors is none.
 */
import { SECTOR_BYTES } from "../../../src/base/units.ts";

const MAGIC = 0x5041_5244;
const HEADER_BYTES = 24;

export interface Stamp {
  readonly seed: number;
  readonly lba: number;
  readonly version: number;
}

export type SectorContent =
  | { readonly kind: "stamp"; readonly stamp: Stamp }
  | { readonly kind: "zero" }
  | { readonly kind: "garbage"; readonly detail: string };

const WORDS = SECTOR_BYTES / 4;
const HEADER_WORDS = HEADER_BYTES / 4;

const scratch = new Uint8Array(SECTOR_BYTES);
const scratchWords = new Uint32Array(scratch.buffer);
const scratchView = new DataView(scratch.buffer);

/** Writes the sector to `target` at `at`. */
export function writeStamp(target: Uint8Array, at: number, stamp: Stamp): void {
  scratchWords[0] = MAGIC;
  scratchWords[1] = stamp.seed;
  scratchView.setFloat64(8, stamp.lba, true);
  scratchWords[4] = stamp.version;
  scratchWords[5] = crc32c(scratch);
  let state = scratchWords[5]! | 1;
  for (let index = HEADER_WORDS; index < WORDS; index += 1) {
    state = nextWord(state);
    scratchWords[index] = state;
  }
  target.set(scratch, at);
}

/** Tells what a sector is. */
export function readStamp(sector: Uint8Array): SectorContent {
  scratch.set(sector); // Aligned, and not shared.
  const words = scratchWords;
  if (words[0] !== MAGIC) {
    for (let index = 0; index < WORDS; index += 1) {
      if (words[index] !== 0) return { kind: "garbage", detail: "no stamp" };
    }
    return { kind: "zero" };
  }
  if (words[5] !== crc32c(scratch)) {
    return { kind: "garbage", detail: "a stamp with a wrong crc" };
  }
  const stamp: Stamp = {
    seed: words[1]!,
    lba: scratchView.getFloat64(8, true),
    version: words[4]!,
  };
  let state = words[5]! | 1;
  for (let index = HEADER_WORDS; index < WORDS; index += 1) {
    state = nextWord(state);
    if (words[index] !== state) {
      return { kind: "garbage", detail: `torn at byte ${index * 4} of ${describe(stamp)}` };
    }
  }
  return { kind: "stamp", stamp };
}

export function describe(stamp: Stamp): string {
  return `version ${stamp.version} of sector ${stamp.lba}`;
}

/** An odd multiplier on top of a xorshift: not linear over XOR. */
function nextWord(state: number): number {
  let word = state;
  word ^= word << 13;
  word ^= word >>> 17;
  word ^= word << 5;
  return (Math.imul(word, 0x9e37_79b1) + 0x7f4a_7c15) >>> 0;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let crc = index;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  return crc;
});

/** Castagnoli, reflected; of the first 20 bytes. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (let index = 0; index < 20; index += 1) {
    crc = CRC_TABLE[(crc ^ bytes[index]!) & 0xff]! ^ (crc >>> 8);
  }
  return (crc ^ 0xffff_ffff) >>> 0;
}
