/**
 * Goal: a scrub's list of mismatches says exactly which rows do not match, and stays short (R17).
 * Method: every set of up to 8 rows in every order of a few, and random rows in random order,
 * against a plain set of rows.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import {
  MISMATCH_RANGES_MAX,
  MismatchRanges,
  type RowList,
} from "../../../src/raid5/sync/mismatch-ranges.ts";

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;

/** The list for a set of rows, from scratch. */
function expected(rows: ReadonlySet<number>): RowList {
  const ranges: { firstSector: number; sectorCount: number; roles: null }[] = [];
  for (const row of [...rows].toSorted((one, other) => one - other)) {
    const last = ranges.at(-1);
    const firstSector = row * ROW_SECTORS;
    if (last !== undefined && last.firstSector + last.sectorCount === firstSector) {
      last.sectorCount += ROW_SECTORS;
    } else ranges.push({ firstSector, sectorCount: ROW_SECTORS, roles: null });
  }
  return {
    ranges: ranges.slice(0, MISMATCH_RANGES_MAX),
    truncated: ranges.length > MISMATCH_RANGES_MAX,
  };
}

function listOf(rows: Iterable<number>): RowList {
  const ranges = new MismatchRanges();
  for (const row of rows) ranges.note(row * ROW_BYTES, ROW_BYTES);
  return ranges.list;
}

/** The list for rows with sets of roles, from scratch. */
function expectedOf(roles: ReadonlyMap<number, number>): RowList {
  const ranges: { firstSector: number; sectorCount: number; roles: number[] | null }[] = [];
  for (const [row, set] of [...roles].toSorted(([one], [other]) => one - other)) {
    const last = ranges.at(-1);
    const firstSector = row * ROW_SECTORS;
    const members = set === 0 ? null : [0, 1, 2].filter((role) => (set >> role) & 1);
    const isNext = last !== undefined && last.firstSector + last.sectorCount === firstSector;
    if (isNext && Bun.deepEquals(last.roles, members)) last.sectorCount += ROW_SECTORS;
    else ranges.push({ firstSector, sectorCount: ROW_SECTORS, roles: members });
  }
  const truncated = ranges.length > MISMATCH_RANGES_MAX;
  return { ranges: ranges.slice(0, MISMATCH_RANGES_MAX), truncated };
}

function shuffled(rows: readonly number[], random: SeededRandom): number[] {
  const left = [...rows];
  return rows.map(() => left.splice(nextBelow(random, left.length), 1)[0]!);
}

test("mismatch ranges: every set of 8 rows, in each direction and mixed: merged, in order", () => {
  const random = new SeededRandom(1);
  for (let mask = 0; mask < 256; mask += 1) {
    const rows = [0, 1, 2, 3, 4, 5, 6, 7].filter((row) => (mask >> row) & 1);
    const orders = [rows, rows.toReversed(), [...rows, ...rows], shuffled(rows, random)];
    for (const order of orders) expect(listOf(order)).toEqual(expected(new Set(rows)));
  }
});

test("mismatch ranges: 64 apart: all; the 65th, wherever and whenever: it goes, and is told", () => {
  const apart = Array.from({ length: MISMATCH_RANGES_MAX + 1 }, (_, index) => index * 3);
  expect(listOf(apart.slice(1))).toEqual(expected(new Set(apart.slice(1))));
  expect(listOf(apart.slice(1)).truncated).toBe(false);
  for (let late = 0; late < apart.length; late += 1) {
    const order = [...apart.toSpliced(late, 1), apart[late]!];
    expect(listOf(order)).toEqual(expected(new Set(apart)));
  }
});

test("mismatch ranges: thousands of rows in any order: short, and complete up to its end", () => {
  const random = new SeededRandom(2);
  for (let round = 0; round < 50; round += 1) {
    const rows = new Set(Array.from({ length: 2000 }, () => nextBelow(random, 6000)));
    const { ranges, truncated } = listOf(shuffled([...rows], random));
    expect([truncated, ranges.length <= MISMATCH_RANGES_MAX]).toEqual([true, true]);
    const { firstSector, sectorCount } = ranges.at(-1)!;
    const end = (firstSector + sectorCount) / ROW_SECTORS;
    expect({ ranges, truncated: false }).toEqual(
      expected(new Set([...rows].filter((row) => row < end))),
    );
  }
});

test("mismatch ranges: rows of other roles are other ranges; what is noted last holds", () => {
  const random = new SeededRandom(3);
  for (let round = 0; round < 300; round += 1) {
    const ranges = new MismatchRanges();
    const known = new Map<number, number>();
    for (let step = 0; step < 30; step += 1) {
      const [row, count, roles] = [
        nextBelow(random, 20),
        1 + nextBelow(random, 3),
        nextBelow(random, 4),
      ];
      for (let index = 0; index < count; index += 1) known.set(row + index, roles);
      ranges.note(row * ROW_BYTES, count * ROW_BYTES, roles);
      expect(ranges.list).toEqual(expectedOf(known));
      expect(new MismatchRanges(ranges.list).list).toEqual(ranges.list);
    }
  }
});

test("mismatch ranges: 65 that touch, of other roles: the last goes, and is told", () => {
  const ranges = new MismatchRanges();
  const known = new Map<number, number>();
  for (let row = 0; row <= MISMATCH_RANGES_MAX; row += 1) {
    known.set(row, 1 + (row % 2));
    ranges.note(row * ROW_BYTES, ROW_BYTES, 1 + (row % 2));
  }
  expect(ranges.list).toEqual(expectedOf(known));
  expect(new MismatchRanges(ranges.list).list).toEqual(ranges.list);
});

test("mismatch ranges: what was kept in no order, or twice: as if it had been noted so", () => {
  const kept = [
    { firstSector: 16, sectorCount: 8, roles: null },
    { firstSector: 0, sectorCount: 24, roles: [1, 2] },
  ];
  expect(new MismatchRanges({ ranges: kept, truncated: false }).list.ranges).toEqual([kept[1]!]);
});
