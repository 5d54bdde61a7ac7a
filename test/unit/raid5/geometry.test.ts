/**
 * Goal: every byte of an array has one place, each stripe one parity chunk, as md has them.
 *
 * Method: all six layouts with 2 to 8 members are compared, over two turns of the parity, with maps
 * written down by hand (4 members) and with the kernel's formulas, and checked to be bijective.
 */
import { describe, expect, test } from "bun:test";
import { AssertionError } from "../../../src/base/assert.ts";
import { KIB, MIB, TIB } from "../../../src/base/units.ts";
import { layoutName } from "../../../src/md/layout.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";

const LAYOUTS = [0, 1, 2, 3, 4, 5];
const MEMBER_COUNTS = [2, 3, 4, 5, 6, 7, 8];

function make(memberCount: number, layout: number): Geometry {
  const memberSizeBytes = 2 * memberCount * 64 * KIB;
  return new Geometry({ memberCount, layout, chunkBytes: 64 * KIB, memberSizeBytes });
}

/** What each role holds, a stripe a word: "P" or the number of the data chunk. */
const FOUR_MEMBERS: Readonly<Record<string, string>> = {
  "left-asymmetric": "012P 01P2 0P12 P012",
  "right-asymmetric": "P012 0P12 01P2 012P",
  "left-symmetric": "012P 12P0 2P01 P012",
  "right-symmetric": "P012 2P01 12P0 012P",
  "parity-first": "P012 P012 P012 P012",
  "parity-last": "012P 012P 012P 012P",
};

function drawn(geometry: Geometry, stripe: number): string {
  let word = "";
  for (let role = 0; role < geometry.memberCount; role += 1) {
    const dataIndex = geometry.dataIndexOf(stripe, role);
    word += dataIndex < 0 ? "P" : String(dataIndex);
  }
  return word;
}

describe.each(LAYOUTS)("layout %i", (layout) => {
  const name = layoutName(layout)!;

  test(`geometry: ${name}, 4 members: two turns are md's map`, () => {
    const geometry = make(4, layout);
    const words = Array.from({ length: 8 }, (_, stripe) => drawn(geometry, stripe));
    expect(words.join(" ")).toBe(`${FOUR_MEMBERS[name]} ${FOUR_MEMBERS[name]}`);
  });

  test.each(MEMBER_COUNTS)(`geometry: ${name}, %i members: roles and chunks are bijective`, (n) => {
    const geometry = make(n, layout);
    for (let stripe = 0; stripe < geometry.stripeCount; stripe += 1) {
      const roles = [geometry.parityRole(stripe)];
      expect(geometry.dataIndexOf(stripe, roles[0]!)).toBe(-1);
      for (let dataIndex = 0; dataIndex < n - 1; dataIndex += 1) {
        const role = geometry.dataRole(stripe, dataIndex);
        expect(geometry.dataIndexOf(stripe, role)).toBe(dataIndex);
        roles.push(role);
      }
      expect(roles.toSorted((one, other) => one - other)).toEqual([...Array(n).keys()]);
    }
  });

  test.each(MEMBER_COUNTS)(
    `geometry: ${name}, %i members: parity and data follow the formulas`,
    (n) => {
      const geometry = make(n, layout);
      for (let s = 0; s < geometry.stripeCount; s += 1) {
        const left = n - 1 - (s % n);
        const parity = [left, s % n, left, s % n, 0, n - 1][layout]!;
        expect(geometry.parityRole(s)).toBe(parity);
        for (let i = 0; i < n - 1; i += 1) {
          const stepped = i >= parity ? i + 1 : i;
          const rolled = (parity + 1 + i) % n;
          expect(geometry.dataRole(s, i)).toBe(
            [stepped, stepped, rolled, rolled, i + 1, i][layout]!,
          );
        }
      }
    },
  );
});

test("geometry: a part chunk at the end of the members: not used", () => {
  const options = { memberCount: 5, layout: 2, chunkBytes: 64 * KIB };
  const geometry = new Geometry({ ...options, memberSizeBytes: 10 * 64 * KIB + 60 * KIB });
  expect(geometry.memberSizeBytes).toBe(640 * KIB);
  expect(geometry.stripeCount).toBe(10);
  expect(geometry.sizeBytes).toBe(10 * 4 * 64 * KIB);
});

test("geometry: offsets: stripe and chunk of each byte at the edges", () => {
  const geometry = make(4, 2);
  expect(geometry.stripeBytes).toBe(192 * KIB);
  expect(geometry.stripeOf(0)).toBe(0);
  expect(geometry.stripeOf(192 * KIB - 1)).toBe(0);
  expect(geometry.stripeOf(192 * KIB)).toBe(1);
  expect(geometry.stripeOf(geometry.sizeBytes - 1)).toBe(7);
  expect(geometry.arrayOffsetOf(3, 2)).toBe((3 * 192 + 128) * KIB);
});

test("geometry: 64 members of 60 TiB: places stay exact far above 2^32", () => {
  const geometry = new Geometry({
    memberCount: 64,
    layout: 2,
    chunkBytes: 64 * KIB,
    memberSizeBytes: 60 * TIB,
  });
  const last = geometry.stripeCount - 1;
  expect(last).toBe(60 * 2 ** 24 - 1);
  expect(geometry.stripeOf(geometry.sizeBytes - 1)).toBe(last);
  expect(geometry.arrayOffsetOf(last, 62)).toBe(geometry.sizeBytes - 64 * KIB);
  expect(geometry.parityRole(last)).toBe(63 - (last % 64));
});

test.each([
  [2, 64 * KIB, 64 * KIB],
  [3, 64 * KIB, 128 * KIB],
  [4, 64 * KIB, 64 * KIB],
  [5, 64 * KIB, 256 * KIB],
  [7, 512 * KIB, MIB],
  [9, 4 * KIB, 32 * KIB],
])(
  "geometry: %i members, chunk %i: preferred are %i bytes",
  (memberCount, chunkBytes, expected) => {
    const memberSizeBytes = 4 * MIB;
    const geometry = new Geometry({ memberCount, chunkBytes, layout: 2, memberSizeBytes });
    expect(geometry.preferredBytes).toBe(expected);
  },
);

const GOOD = { memberCount: 3, layout: 2, chunkBytes: 64 * KIB, memberSizeBytes: MIB };

test.each([
  { memberCount: 1 },
  { memberCount: 2.5 },
  { layout: 6 },
  { layout: -1 },
  { chunkBytes: 2 * KIB },
  { chunkBytes: 96 * KIB },
  { memberSizeBytes: 32 * KIB },
  { memberSizeBytes: Number.MAX_SAFE_INTEGER - 1 },
])("geometry: %j: asserted", (wrong) => {
  expect(() => new Geometry({ ...GOOD, ...wrong })).toThrow(AssertionError);
});

test("geometry: indexes outside of the array: asserted", () => {
  const geometry = new Geometry(GOOD);
  expect(() => geometry.parityRole(16)).toThrow(AssertionError);
  expect(() => geometry.parityRole(-1)).toThrow(AssertionError);
  expect(() => geometry.parityRole(0.5)).toThrow(AssertionError);
  expect(() => geometry.dataRole(0, 2)).toThrow(AssertionError);
  expect(() => geometry.dataIndexOf(0, 3)).toThrow(AssertionError);
  expect(() => geometry.stripeOf(geometry.sizeBytes)).toThrow(AssertionError);
});

test("layout: names and numbers: agree both ways, others are unknown", () => {
  expect([layoutName(6), layoutName(-1), layoutName(0.5)]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});
