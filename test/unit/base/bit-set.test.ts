/**
 * Goal: sets in one number are what sets of JavaScript are, for all 53 members that fit.
 *
 * Method: every member alone, every pair of members, and random sets, each operation against the
 * same one on a Set. The borders that matter are 30, 31, 32 and 52: a number's small form ends at
 * the first, the operators' words at the next two, and exactness at the last.
 */
import { expect, test } from "bun:test";
import {
  BIT_SET_SIZE,
  bitOf,
  countBits,
  firstBits,
  hasBit,
  highestBit,
  intersection,
  lowestBit,
  union,
  withBit,
  without,
  withoutBit,
} from "../../../src/base/bit-set.ts";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";

const ALL = Array.from({ length: BIT_SET_SIZE }, (_, member) => member);

function setOf(members: Iterable<number>): number {
  let set = 0;
  for (const member of members) set = withBit(set, member);
  return set;
}

function membersOf(set: number): number[] {
  return ALL.filter((member) => hasBit(set, member));
}

function checkPair(one: ReadonlySet<number>, other: ReadonlySet<number>): void {
  const sorted = (members: ReadonlySet<number>): number[] => [...members].sort((a, b) => a - b);
  const [a, b] = [setOf(one), setOf(other)];
  expect(membersOf(a)).toEqual(sorted(one));
  expect(membersOf(union(a, b))).toEqual(sorted(one.union(other)));
  expect(membersOf(intersection(a, b))).toEqual(sorted(one.intersection(other)));
  expect(membersOf(without(a, b))).toEqual(sorted(one.difference(other)));
  expect(countBits(a)).toBe(one.size);
  if (one.size === 0) return;
  expect([lowestBit(a), highestBit(a)]).toEqual([Math.min(...one), Math.max(...one)]);
}

test("bit-set: every member alone, and every pair: as a Set", () => {
  for (const one of ALL) {
    expect(bitOf(one)).toBe(2 ** one);
    expect(membersOf(firstBits(one))).toEqual(ALL.slice(0, one));
    for (const other of ALL) {
      checkPair(new Set([one]), new Set([other]));
      checkPair(new Set([one, other]), new Set([other]));
      expect(membersOf(withoutBit(setOf([one, other]), other))).toEqual(one === other ? [] : [one]);
    }
  }
  expect(countBits(firstBits(BIT_SET_SIZE))).toBe(BIT_SET_SIZE);
});

test("bit-set: random sets of all densities: as Sets, and every result is exact", () => {
  const random = new SeededRandom(7);
  for (let round = 0; round < 2000; round += 1) {
    const density = 1 + nextBelow(random, 8);
    const draw = (): Set<number> => new Set(ALL.filter(() => nextBelow(random, density) === 0));
    const [one, other] = [draw(), draw()];
    checkPair(one, other);
    expect(Number.isSafeInteger(union(setOf(one), setOf(other)))).toBe(true);
  }
});

test("bit-set: more members than fit: refused", () => {
  expect(() => firstBits(BIT_SET_SIZE + 1)).toThrow();
});
