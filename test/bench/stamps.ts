/**
 * What the load generator writes, so that it can tell later what it reads.
 *
 * Each row of 4 KiB, as u32 words:
 *
 *   0        number of the row in the window, plus 1
 *   1        generation: counts the writes of the generator
 *   2        filler: which body
 *   3..1023  body: a fixed function of filler and word
 *
 * The first word is checked with every read, which costs next to nothing; whole rows are checked
 * at the end. Bodies lie ready in the buffers, so that a write sets three words per row.
 */
import { ROW_BYTES } from "../../src/base/units.ts";

export const WORDS_PER_ROW = ROW_BYTES / 4;
const HEAD_WORDS = 3;

function bodyWord(filler: number, word: number): number {
  const mixed = Math.imul(filler * WORDS_PER_ROW + word + 1, 0x9e3779b1);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

/** Fills `rowCount` rows at word `at` with the body. */
export function fillBodies(
  words: Uint32Array<ArrayBufferLike>,
  at: number,
  rowCount: number,
  filler: number,
): void {
  for (let word = HEAD_WORDS; word < WORDS_PER_ROW; word += 1) {
    const value = bodyWord(filler, word);
    for (let row = 0; row < rowCount; row += 1) words[at + row * WORDS_PER_ROW + word] = value;
  }
}

export function stampRow(
  words: Uint32Array<ArrayBufferLike>,
  at: number,
  row: number,
  generation: number,
  filler: number,
): void {
  words[at] = row + 1;
  words[at + 1] = generation;
  words[at + 2] = filler;
}

/** Whether the whole row is what was written with this generation. */
export function isRowIntact(
  words: Uint32Array<ArrayBufferLike>,
  at: number,
  row: number,
  generation: number,
): boolean {
  if (words[at] !== row + 1 || words[at + 1] !== generation) return false;
  const filler = words[at + 2]!;
  for (let word = HEAD_WORDS; word < WORDS_PER_ROW; word += 1) {
    if (words[at + word] !== bodyWord(filler, word)) return false;
  }
  return true;
}
