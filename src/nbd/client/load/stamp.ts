/**
 * What a load writes: every 512-byte sector names itself, so that a wrong one can be traced.
 *
 *   byte  type  field
 *      0  u32   magic "PDRL"
 *      4  u32   run: of one load, so that another one's sectors are told apart
 *      8  f64   lba: the sector's place in the array
 *     16  u32   version: the number of the write
 *     20  u32   writer
 *     24  u32   checksum of bytes 0 to 23
 *     28  u32[] filler that follows from the checksum
 *
 * The filler is not linear in its inputs, so that the XOR of stamped sectors is none. Every step of
 * the checksum can be undone, so that no change of a single word of the header keeps it.
 */
import { assert } from "../../../base/assert.ts";
import { roundDown, SECTOR_BYTES } from "../../../base/units.ts";

const MAGIC = 0x4c52_4450;
const HEADER_WORDS = 7;
const SECTOR_WORDS = SECTOR_BYTES / 4;

/** What all sectors of one write have in common. */
export interface WriteStamp {
  readonly run: number;
  readonly version: number;
  readonly writer: number;
}

export interface Stamp extends WriteStamp {
  readonly lba: number;
}

export type SectorContent =
  | { readonly kind: "stamp"; readonly stamp: Stamp }
  | { readonly kind: "zero" }
  | { readonly kind: "garbage"; readonly detail: string };

/** Aligned, and not shared with whoever brings a sector. */
const scratch = new Uint8Array(SECTOR_BYTES);
const scratchWords = new Uint32Array(scratch.buffer);
const scratchView = new DataView(scratch.buffer);

/**
 * The bytes that a write of `bytes` at `offset` carries: whole stamped sectors, cut to the range
 * where it begins or ends within one.
 */
export function stampedBytes(
  { offset, bytes }: { offset: number; bytes: number },
  stamp: WriteStamp,
): Uint8Array {
  assert(bytes > 0 && offset >= 0, "a write has bytes");
  const start = roundDown(offset, SECTOR_BYTES);
  const sectorCount = Math.ceil((offset + bytes - start) / SECTOR_BYTES);
  const words = new Uint32Array(sectorCount * SECTOR_WORDS);
  const view = new DataView(words.buffer);
  for (let sector = 0; sector < sectorCount; sector += 1) {
    fillSector(words, view, sector * SECTOR_WORDS, start / SECTOR_BYTES + sector, stamp);
  }
  return new Uint8Array(words.buffer, offset - start, bytes);
}

/** Writes one sector to `target` at `at`, which need not be aligned. */
export function writeStamp(target: Uint8Array, at: number, stamp: Stamp): void {
  fillSector(scratchWords, scratchView, 0, stamp.lba, stamp);
  target.set(scratch, at);
}

function fillSector(
  words: Uint32Array,
  view: DataView,
  at: number,
  lba: number,
  { run, version, writer }: WriteStamp,
): void {
  words[at] = MAGIC;
  words[at + 1] = run;
  view.setFloat64((at + 2) * 4, lba, true);
  words[at + 4] = version;
  words[at + 5] = writer;
  const checksum = checksumOf(words, at);
  words[at + 6] = checksum;
  let state = firstState(checksum);
  for (let word = HEADER_WORDS; word < SECTOR_WORDS; word += 1) {
    state = nextWord(state);
    words[at + word] = state;
  }
}

/** Tells what a whole sector is. */
export function readStamp(sector: Uint8Array): SectorContent {
  assert(sector.length === SECTOR_BYTES, "it is a whole sector");
  scratch.set(sector);
  const words = scratchWords;
  if (words[0] !== MAGIC) {
    for (let index = 0; index < SECTOR_WORDS; index += 1) {
      if (words[index] !== 0) return { kind: "garbage", detail: "no stamp" };
    }
    return { kind: "zero" };
  }
  const checksum = checksumOf(words, 0);
  if (words[6] !== checksum) return { kind: "garbage", detail: "a stamp with a wrong checksum" };
  const lba = scratchView.getFloat64(8, true);
  const stamp: Stamp = { run: words[1]!, lba, version: words[4]!, writer: words[5]! };
  let state = firstState(checksum);
  for (let index = HEADER_WORDS; index < SECTOR_WORDS; index += 1) {
    state = nextWord(state);
    if (words[index] !== state) {
      return { kind: "garbage", detail: `torn at byte ${index * 4} of ${describeStamp(stamp)}` };
    }
  }
  return { kind: "stamp", stamp };
}

export function describeStamp({ version, lba }: Stamp): string {
  return `version ${version} of sector ${lba}`;
}

/** Says in words what a sector is, or the part of one; `lba` is where it was found. */
export function describeSector(
  sector: Uint8Array,
  { run, lba }: { run: number; lba: number },
): string {
  if (sector.every((byte) => byte === 0)) return "zeros";
  if (sector.length < SECTOR_BYTES) return "a part of a sector";
  const found = readStamp(sector.subarray(0, SECTOR_BYTES));
  if (found.kind === "zero") return "zeros";
  if (found.kind === "garbage") return found.detail;
  const { stamp } = found;
  if (stamp.run !== run) return "a stamp of another run";
  const name = `version ${stamp.version} of writer ${stamp.writer}`;
  return stamp.lba === lba ? name : `${name}, but of sector ${stamp.lba}`;
}

function checksumOf(words: Uint32Array, at: number): number {
  let hash = 0x9e37_79b9;
  for (let word = 0; word < HEADER_WORDS - 1; word += 1) {
    hash = Math.imul(hash ^ words[at + word]!, 0x85eb_ca6b);
    hash ^= hash >>> 15;
  }
  return Math.imul(hash, 0xc2b2_ae35) >>> 0;
}

/** Never 0, which the first step of the filler would keep. */
function firstState(checksum: number): number {
  return (checksum | 1) >>> 0;
}

/** A xorshift step, then an odd multiplier: not linear over XOR. */
function nextWord(state: number): number {
  let word = state;
  word ^= word << 13;
  word ^= word >>> 17;
  word ^= word << 5;
  return (Math.imul(word, 0x9e37_79b1) + 0x7f4a_7c15) >>> 0;
}
