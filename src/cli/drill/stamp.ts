/**
 * What the writers write: every 512-byte sector names itself, so that a wrong one can be traced.
 *
 *   byte  type  field
 *      0  u32   magic "PDRL"
 *      4  u32   run: of this drill, so that an earlier one's sectors are told apart
 *      8  f64   lba: the sector's place in the array
 *     16  u32   version: the number of the write
 *     20  u32   writer
 *     24  u32   checksum of bytes 0 to 23
 *     28  u32[] filler that follows from the checksum
 *
 * The filler is not linear in its inputs, so that the XOR of stamped sectors is none.
 */
import { assert } from "../../base/assert.ts";
import { roundDown, SECTOR_BYTES } from "../../base/units.ts";

const MAGIC = 0x4c52_4450;
const HEADER_WORDS = 7;
const SECTOR_WORDS = SECTOR_BYTES / 4;

export interface Stamp {
  readonly run: number;
  readonly version: number;
  readonly writer: number;
}

/**
 * The bytes that a write of `bytes` at `offset` carries: whole stamped sectors, cut to the range
 * where it begins or ends within one.
 */
export function stampedBytes(
  { offset, bytes }: { offset: number; bytes: number },
  stamp: Stamp,
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

function fillSector(
  words: Uint32Array,
  view: DataView,
  at: number,
  lba: number,
  { run, version, writer }: Stamp,
): void {
  words[at] = MAGIC;
  words[at + 1] = run;
  view.setFloat64((at + 2) * 4, lba, true);
  words[at + 4] = version;
  words[at + 5] = writer;
  let state = checksumOf(words, at);
  words[at + 6] = state;
  for (let word = HEADER_WORDS; word < SECTOR_WORDS; word += 1) {
    state = nextWord(state);
    words[at + word] = state;
  }
}

/** Says in words what a sector is; `lba` is where it was found. */
export function describeSector(
  sector: Uint8Array,
  { run, lba }: { run: number; lba: number },
): string {
  if (sector.every((byte) => byte === 0)) return "zeros";
  const bytes = sector.slice(0, SECTOR_BYTES);
  if (bytes.length < SECTOR_BYTES) return "a part of a sector";
  const words = new Uint32Array(bytes.buffer);
  if (words[0] !== MAGIC) return "no stamp";
  if (words[6] !== checksumOf(words, 0)) return "a stamp with a wrong checksum";
  if (words[1] !== run) return "a stamp of another run";
  const found = new DataView(bytes.buffer).getFloat64(8, true);
  const name = `version ${words[4]} of writer ${words[5]}`;
  if (found !== lba) return `${name}, but of sector ${found}`;
  let state = words[6];
  for (let word = HEADER_WORDS; word < SECTOR_WORDS; word += 1) {
    state = nextWord(state);
    if (words[word] !== state) return `${name}, torn at byte ${word * 4}`;
  }
  return name;
}

/** Never 0, which the filler would keep. */
function checksumOf(words: Uint32Array, at: number): number {
  let hash = 0x9e37_79b9;
  for (let word = 0; word < HEADER_WORDS - 1; word += 1) {
    hash = Math.imul(hash ^ words[at + word]!, 0x85eb_ca6b);
    hash ^= hash >>> 15;
  }
  return (Math.imul(hash, 0xc2b2_ae35) | 1) >>> 0;
}

/** A xorshift step, then an odd multiplier: not linear over XOR. */
function nextWord(state: number): number {
  let word = state;
  word ^= word << 13;
  word ^= word >>> 17;
  word ^= word << 5;
  return (Math.imul(word, 0x9e37_79b1) + 0x7f4a_7c15) >>> 0;
}
