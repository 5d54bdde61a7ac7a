/**
 * Goal: what a scrub has found on the members is named in bytes of the exported device, in every
 * layout.
 * Method: every range of rows of small arrays, against a map of the array that is drawn chunk by
 * chunk from md's own words for the layouts, and knows nothing of the geometry under test.
 */
import { expect, test } from "bun:test";
import { ROW_BYTES, SECTOR_BYTES, TIB } from "../../../src/base/units.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import {
  areRowsOf,
  EXPORT_RANGES_MAX,
  type ExportRanges,
  exportRangesOf,
  placesOf,
} from "../../../src/raid5/sync/export-ranges.ts";
import type { RowRange } from "../../../src/raid5/sync/mismatch-ranges.ts";

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;
const STRIPES = 5;
const LAYOUTS = [0, 1, 2, 3, 4, 5];

/**
 * By stripe and role, which chunk of the array lies there; null: parity. Parity goes from the last
 * member to the first (left) or the other way (right); data begin at the first member (asymmetric)
 * or behind parity (symmetric), and go around.
 */
function drawn(layout: number, members: number): (number | null)[][] {
  let chunk = 0;
  return Array.from({ length: STRIPES }, (_, stripe) => {
    const places = new Array<number | null>(members).fill(null);
    const roles = places.map((_, role) => role);
    const turned = layout === 0 || layout === 2 ? roles.toReversed() : roles;
    const moving = turned[stripe % members]!;
    const parity = layout === 4 ? 0 : layout === 5 ? members - 1 : moving;
    const isBehind = layout === 2 || layout === 3;
    const order = isBehind ? [...roles.slice(parity), ...roles.slice(0, parity)] : roles;
    for (const role of order) {
      if (role === parity) continue;
      places[role] = chunk;
      chunk += 1;
    }
    return places;
  });
}

/** Rows of the array, by number, in order. */
function rowsOf({ ranges }: ExportRanges): number[] {
  return ranges.flatMap(({ offset, bytes }) =>
    Array.from({ length: bytes / ROW_BYTES }, (_, index) => offset / ROW_BYTES + index),
  );
}

function rows(first: number, end: number, roles: number[] | null): RowRange {
  return { firstSector: first * ROW_SECTORS, sectorCount: (end - first) * ROW_SECTORS, roles };
}

test("export ranges: every range of rows, all layouts, unknown and known roles: as drawn", () => {
  for (const layout of LAYOUTS) {
    for (const members of [3, 4, 5]) {
      for (const rowsPerChunk of [1, 4]) {
        const chunkBytes = rowsPerChunk * ROW_BYTES;
        const memberSizeBytes = STRIPES * chunkBytes;
        const geometry = new Geometry({
          memberCount: members,
          chunkBytes,
          layout,
          memberSizeBytes,
        });
        const map = drawn(layout, members);
        const rowCount = STRIPES * rowsPerChunk;
        for (let first = 0; first < rowCount; first += 1) {
          for (let end = first + 1; end <= rowCount; end += 1) {
            for (const roles of [null, [0, 1], [1, members - 1]]) {
              const expected: number[] = [];
              for (let row = first; row < end; row += 1) {
                for (const [role, chunk] of map[Math.floor(row / rowsPerChunk)]!.entries()) {
                  if (chunk === null || roles?.includes(role) === false) continue;
                  expected.push(chunk * rowsPerChunk + (row % rowsPerChunk));
                }
              }
              expected.sort((one, other) => one - other);
              const range = rows(first, end, roles);
              const found = exportRangesOf(geometry, range);
              expect(rowsOf(found)).toEqual(expected);
              const touches = found.ranges.some(
                ({ offset, bytes }, index) => found.ranges[index + 1]?.offset === offset + bytes,
              );
              expect([touches, found.truncated]).toEqual([false, false]);
              const stripe = Math.floor(first / rowsPerChunk);
              expect(placesOf(geometry, range)).toEqual({
                stripe,
                stripeCount: Math.floor((end - 1) / rowsPerChunk) - stripe + 1,
                arrayOffset: expected[0]! * ROW_BYTES,
              });
            }
          }
        }
      }
    }
  }
});

test("export ranges: a whole array of many terabytes, cut at both ends: short, and at once", () => {
  const chunkBytes = 16 * ROW_BYTES;
  const options = { memberCount: 53, chunkBytes, layout: 2, memberSizeBytes: 16 * TIB };
  const geometry = new Geometry(options);
  const last = (16 * TIB) / ROW_BYTES - 1;
  const { ranges, truncated } = exportRangesOf(geometry, rows(1, last, null));
  expect([truncated, ranges.length < EXPORT_RANGES_MAX]).toEqual([false, true]);
  const bytes = ranges.reduce((sum, range) => sum + range.bytes, 0);
  expect(bytes).toBe(52 * (16 * TIB - 2 * ROW_BYTES));
});

test("export ranges: more than are told: the first ones, and that there are more", () => {
  const chunkBytes = ROW_BYTES;
  const memberSizeBytes = 1_000 * chunkBytes;
  const geometry = new Geometry({ memberCount: 5, chunkBytes, layout: 4, memberSizeBytes });
  const all = exportRangesOf(geometry, rows(0, 1_000, [1, 3]), 10_000);
  const some = exportRangesOf(geometry, rows(0, 1_000, [1, 3]));
  expect([all.truncated, all.ranges.length]).toEqual([false, 2_000]);
  expect(some).toEqual({ ranges: all.ranges.slice(0, EXPORT_RANGES_MAX), truncated: true });
});

test("rows of an array: what was kept may be anything: what is none is told", () => {
  const geometry = new Geometry({
    memberCount: 3,
    chunkBytes: 8192,
    layout: 2,
    memberSizeBytes: 65_536,
  });
  const good = { firstSector: 0, sectorCount: 128, roles: null };
  for (const [more, isRows] of [
    [{}, true],
    [{ roles: [0, 2] }, true],
    [{ roles: undefined }, true],
    [{ roles: [0] }, false],
    [{ roles: [1, 1] }, false],
    [{ roles: [0, 3] }, false],
    [{ roles: [0, -1] }, false],
    [{ roles: ["0", 1] }, false],
    [{ roles: 3 }, false],
    [{ sectorCount: 129 }, false],
    [{ sectorCount: 0 }, false],
    [{ firstSector: 1 }, false],
    [{ firstSector: -8 }, false],
    [{ firstSector: 0.5 }, false],
    [{ firstSector: "0" }, false],
  ] as const) {
    const kept = { ...good, ...more } as unknown as RowRange;
    expect([more, areRowsOf(geometry, kept)]).toEqual([more, isRows]);
  }
});
