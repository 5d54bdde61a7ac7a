/**
 * Sets of small whole numbers in one plain number: bit i of the number is member i of the set.
 *
 * Roles of an array and data chunks of a stripe are kept so. A number is exact to 2^53, so a set
 * holds 0 to 52; JavaScript's own operators see its low 32 bits only, and are for numbers that are
 * no sets. A set whose members are all below 31 takes the short way. Nothing here allocates.
 */
import { assert } from "./assert.ts";

/** Members of a set are below this. */
export const BIT_SET_SIZE = 53;

const LOW_BITS = 32;
const LOW_SPAN = 2 ** LOW_BITS;
/** Sets below it are small integers to the engine. */
const SMALL_LIMIT = 2 ** 31;

/** The set that has `member` alone. */
export function bitOf(member: number): number {
  return member < 31 ? 1 << member : 2 ** member;
}

/** The set of 0 to `count` - 1. */
export function firstBits(count: number): number {
  assert(count >= 0 && count <= BIT_SET_SIZE, "a set has 53 members at most");
  return bitOf(count) - 1;
}

export function hasBit(set: number, member: number): boolean {
  if (member < LOW_BITS) return ((set >>> member) & 1) !== 0;
  return ((highOf(set) >>> (member - LOW_BITS)) & 1) !== 0;
}

export function union(one: number, other: number): number {
  if (one < SMALL_LIMIT && other < SMALL_LIMIT) return one | other;
  return join(highOf(one) | highOf(other), one | other);
}

export function intersection(one: number, other: number): number {
  if (one < SMALL_LIMIT && other < SMALL_LIMIT) return one & other;
  return join(highOf(one) & highOf(other), one & other);
}

/** What is in `set` and not in `other`. */
export function without(set: number, other: number): number {
  if (set < SMALL_LIMIT && other < SMALL_LIMIT) return set & ~other;
  return join(highOf(set) & ~highOf(other), set & ~other);
}

export function withBit(set: number, member: number): number {
  return union(set, bitOf(member));
}

export function withoutBit(set: number, member: number): number {
  return without(set, bitOf(member));
}

export function countBits(set: number): number {
  return countWord(set >>> 0) + (set < LOW_SPAN ? 0 : countWord(highOf(set)));
}

/** The smallest member of a set that is not empty. */
export function lowestBit(set: number): number {
  const low = set >>> 0;
  if (low !== 0) return 31 - Math.clz32(low & -low);
  const high = highOf(set);
  return LOW_BITS + 31 - Math.clz32(high & -high);
}

/** The largest member of a set that is not empty. */
export function highestBit(set: number): number {
  if (set < LOW_SPAN) return 31 - Math.clz32(set);
  return LOW_BITS + 31 - Math.clz32(highOf(set));
}

function highOf(set: number): number {
  return Math.floor(set / LOW_SPAN);
}

/** Words as the operators leave them, signed. */
function join(high: number, low: number): number {
  return (high >>> 0) * LOW_SPAN + (low >>> 0);
}

function countWord(word: number): number {
  let bits = word;
  let count = 0;
  while (bits !== 0) {
    bits &= bits - 1;
    count += 1;
  }
  return count;
}
