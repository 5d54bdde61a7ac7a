/**
 * The sectors of a bad-block log that could only not be read, listed behind md's own list.
 *
 * Linux and mdadm read the log up to the first entry of all ones, and fill the rest with ones when
 * they write it: they pass this list by, and drop it when they change the log. Without it no
 * sector is believed, which is safe. Entries are as md's.
 *
 *   md's entries | all ones | magic, count | entries ... | 0, checksum | all ones to the end
 *
 * The checksum is over all bytes before it, md's list among them: of an area that a crash left half
 * written, or whose list was changed by another writer that kept this one, nothing is believed. It
 * tells an accident, not an attacker, who could as well write the log itself.
 */
import { assert } from "../base/assert.ts";
import { viewOf } from "./little-endian.ts";

const WORD_BYTES = 8;
const MAGIC = 0x64616572;
/** Magic and checksum. */
const FRAME_WORDS = 2;

type Word = readonly [low: number, high: number];

/** Writes the list from word `at` on, if there are entries and room for all of them. */
export function writeUnreadList(area: Uint8Array, at: number, entries: readonly Word[]): void {
  assert(at > 0, "the list lies behind the end of md's");
  const end = at + FRAME_WORDS + entries.length;
  if (entries.length === 0 || end * WORD_BYTES > area.length) return;
  const view = viewOf(area);
  const put = (word: number, [low, high]: Word): void => {
    view.setUint32(word * WORD_BYTES, low, true);
    view.setUint32(word * WORD_BYTES + 4, high, true);
  };
  put(at, [MAGIC, entries.length]);
  for (const [index, entry] of entries.entries()) put(at + 1 + index, entry);
  put(end - 1, [0, checksumOf(area.subarray(0, (end - 1) * WORD_BYTES))]);
  assert(readUnreadList(area, at).length === entries.length, "a list that is written reads back");
}

/** The entries of the list that begins at word `at`; none where there is no whole list. */
export function readUnreadList(area: Uint8Array, at: number): readonly Word[] {
  const view = viewOf(area);
  const wordCount = Math.floor(area.length / WORD_BYTES);
  const get = (word: number): Word => {
    return [view.getUint32(word * WORD_BYTES, true), view.getUint32(word * WORD_BYTES + 4, true)];
  };
  if (at >= wordCount) return [];
  const [magic, count] = get(at);
  const end = at + FRAME_WORDS + count;
  if (magic !== MAGIC || end > wordCount) return [];
  const [zero, checksum] = get(end - 1);
  if (zero !== 0 || checksum !== checksumOf(area.subarray(0, (end - 1) * WORD_BYTES))) return [];
  return Array.from({ length: count }, (_, index) => get(at + 1 + index));
}

/** FNV-1a of 32 bits. */
function checksumOf(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
