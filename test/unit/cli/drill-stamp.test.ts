/**
 * Goal: what the drill writes is told apart from everything else, and what it expects of every
 * byte is what was acknowledged.
 *
 * Method: stamped ranges at every alignment within a sector are compared with slices of whole
 * sectors; each way in which a sector can be wrong is made and named. The shadow is compared with
 * a plain array under seeded writes; ranges and cursor samples are enumerated.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { GIB, KIB, MIB } from "../../../src/base/units.ts";
import { CursorTally, stripeSpan } from "../../../src/cli/drill/cursor-tally.ts";
import { HeldRanges } from "../../../src/cli/drill/held-ranges.ts";
import {
  RANDOM_BYTES_MAX,
  RANDOM_BYTES_MIN,
  randomBytes,
  WrittenRegion,
} from "../../../src/cli/drill/load.ts";
import { Shadow } from "../../../src/cli/drill/shadow.ts";
import { describeSector, stampedBytes } from "../../../src/cli/drill/stamp.ts";

const STAMP = { run: 7, version: 3, writer: 2 };

test("stamp: a range at any byte: the slice of the whole sectors", () => {
  const whole = stampedBytes({ offset: 5 * 512, bytes: 4 * 512 }, STAMP);
  for (let from = 0; from < 512; from += 1) {
    for (const bytes of [1, 2, 511, 512, 513, 1024, 1500]) {
      const part = stampedBytes({ offset: 5 * 512 + from, bytes }, STAMP);
      expect(part.length).toBe(bytes);
      expect(Buffer.compare(part, whole.subarray(from, from + bytes))).toBe(0);
    }
  }
});

test("stamp: a whole sector: named with version and writer", () => {
  const sector = stampedBytes({ offset: 9 * 512, bytes: 512 }, STAMP);
  expect(describeSector(sector, { run: 7, lba: 9 })).toBe("version 3 of writer 2");
});

test("stamp: each way of being wrong: named", () => {
  const place = { run: 7, lba: 9 };
  const changed = (at: number): Uint8Array => {
    const sector = stampedBytes({ offset: 9 * 512, bytes: 512 }, STAMP);
    sector[at]! ^= 1;
    return sector;
  };
  expect(describeSector(new Uint8Array(512), place)).toBe("zeros");
  expect(describeSector(changed(0), place)).toBe("no stamp");
  for (let at = 4; at < 28; at += 1) {
    expect(describeSector(changed(at), place)).toBe("a stamp with a wrong checksum");
  }
  for (let at = 28; at < 512; at += 1) {
    const word = at - (at % 4);
    expect(describeSector(changed(at), place)).toBe(`version 3 of writer 2, torn at byte ${word}`);
  }
  const whole = stampedBytes({ offset: 9 * 512, bytes: 512 }, STAMP);
  expect(describeSector(whole, { run: 8, lba: 9 })).toBe("a stamp of another run");
  expect(describeSector(whole, { run: 7, lba: 10 })).toContain("but of sector 9");
  expect(describeSector(whole.subarray(1), place)).not.toContain("version");
});

test("stamp: the XOR of three sectors: no stamp", () => {
  const one = stampedBytes({ offset: 0, bytes: 512 }, STAMP);
  const two = stampedBytes({ offset: 512, bytes: 512 }, { ...STAMP, version: 4 });
  const three = stampedBytes({ offset: 1024, bytes: 512 }, { ...STAMP, version: 5 });
  const sum = one.map((byte, at) => byte ^ two[at]! ^ three[at]!);
  for (const lba of [0, 1, 2, 3]) {
    expect(describeSector(sum, { run: 7, lba })).not.toMatch(/^version \d+ of writer \d+$/);
  }
});

test("shadow: seeded writes over page borders: every byte as in a plain array", () => {
  const sizeBytes = 3 * MIB;
  const shadow = new Shadow({ sizeBytes, run: 7 });
  const plain = new Uint8Array(sizeBytes);
  const random = new SeededRandom(11);
  for (let version = 1; version <= 200; version += 1) {
    const bytes = 1 + nextBelow(random, 200_000);
    const offset = nextBelow(random, sizeBytes - bytes);
    const data = stampedBytes({ offset, bytes }, { ...STAMP, version });
    shadow.record(offset, data);
    plain.set(data, offset);
  }
  expect(shadow.findWrong(0, plain)).toBeNull();
  for (let turn = 0; turn < 300; turn += 1) {
    const offset = nextBelow(random, sizeBytes - 5_000);
    const bytes = 1 + nextBelow(random, 5_000);
    const actual = plain.slice(offset, offset + bytes);
    expect(shadow.findWrong(offset, actual)).toBeNull();
    const at = nextBelow(random, bytes);
    actual[at]! ^= 0x40;
    expect(shadow.findWrong(offset, actual)).toContain(`byte ${offset + at} `);
  }
});

test("shadow: what was never written: zero, and stale data is named", () => {
  const shadow = new Shadow({ sizeBytes: 2 * MIB, run: 7 });
  expect(shadow.findWrong(MIB - 100, new Uint8Array(200))).toBeNull();
  const old = stampedBytes({ offset: 4096, bytes: 512 }, STAMP);
  expect(shadow.findWrong(4096, old)).toBe(
    "byte 4096 (sector 8) holds version 3 of writer 2 where zeros was acknowledged",
  );
  shadow.record(4096, stampedBytes({ offset: 4096, bytes: 512 }, { ...STAMP, version: 4 }));
  expect(shadow.findWrong(4096, old)).toContain("holds version 3 of writer 2 where version 4 of");
});

test("held ranges: every pair of ranges in 8 bytes: refused exactly where they overlap", () => {
  for (let start = 0; start < 8; start += 1) {
    for (let bytes = 1; start + bytes <= 8; bytes += 1) {
      for (let other = 0; other < 8; other += 1) {
        for (let otherBytes = 1; other + otherBytes <= 8; otherBytes += 1) {
          const ranges = new HeldRanges();
          const handle = ranges.tryHold(start, bytes);
          const overlaps = start < other + otherBytes && other < start + bytes;
          expect(ranges.tryHold(other, otherBytes) === 0).toBe(overlaps);
          ranges.release(handle);
          if (overlaps) expect(ranges.tryHold(other, otherBytes)).not.toBe(0);
        }
      }
    }
  }
});

test("held ranges: two wait for one range: one after the other", async () => {
  const ranges = new HeldRanges();
  const first = ranges.tryHold(0, 10);
  const got: number[] = [];
  const waiting = [1, 2].map(async (name) => {
    const handle = await ranges.hold(5, 10);
    got.push(name);
    expect(ranges.count).toBe(1);
    await Promise.resolve();
    ranges.release(handle);
  });
  expect(got).toEqual([]);
  ranges.release(first);
  await Promise.all(waiting);
  expect(got).toEqual([1, 2]);
  expect(ranges.count).toBe(0);
});

test("stripe span: ranges around the borders of stripes: member bytes that they touch", () => {
  const span = (offset: number, bytes: number) =>
    stripeSpan({ offset, bytes, chunkBytes: 64, memberCount: 3 });
  expect(span(0, 1)).toEqual({ start: 0, end: 64 });
  expect(span(127, 1)).toEqual({ start: 0, end: 64 });
  expect(span(127, 2)).toEqual({ start: 0, end: 128 });
  expect(span(128, 128)).toEqual({ start: 64, end: 128 });
  expect(span(300, 500)).toEqual({ start: 128, end: 448 });
});

test("cursor tally: every place of a write against two samples: counted only where proved", () => {
  for (let start = 0; start < 6; start += 1) {
    for (let end = start + 1; end <= 6; end += 1) {
      const tally = new CursorTally();
      tally.sampled(tally.beginSample(), 2);
      tally.acknowledged({ start, end }, tally.cursorBytes);
      tally.sampled(tally.beginSample(), 4);
      expect(tally.below).toBe(end <= 2 ? 1 : 0);
      expect(tally.above).toBe(start >= 4 ? 1 : 0);
    }
  }
});

test("cursor tally: acknowledged while the sample was under way: left to the next sample", () => {
  const tally = new CursorTally();
  const taken = tally.beginSample();
  tally.acknowledged({ start: 5, end: 6 }, 0);
  tally.sampled(taken, 3);
  expect(tally.above).toBe(0);
  tally.sampled(tally.beginSample(), 6);
  expect(tally.above).toBe(0);
});

test("written region: a small array: all of it, a large one: windows over all of it", () => {
  const small = new WrittenRegion(16 * MIB);
  expect(small.spanBytes).toBe(16 * MIB);
  expect(small.place(16 * MIB + 5, 10)).toEqual({ offset: 5, bytes: 10 });
  expect(small.place(16 * MIB - 5, 10)).toEqual({ offset: 16 * MIB - 5, bytes: 5 });
  const sizeBytes = 10 * GIB + 7 * 512;
  const large = new WrittenRegion(sizeBytes);
  expect(large.spanBytes).toBe(GIB);
  const random = new SeededRandom(3);
  let last = 0;
  for (let turn = 0; turn < 10_000; turn += 1) {
    const { offset, bytes } = large.place(nextBelow(random, GIB), 256 * KIB);
    expect(bytes).toBeGreaterThan(0);
    expect(offset + bytes).toBeLessThanOrEqual(sizeBytes);
    last = Math.max(last, offset);
  }
  expect(last).toBeGreaterThan(9.5 * GIB);
});

test("random sizes: many: from 512 B to 256 KiB, small and large, not all whole sectors", () => {
  const random = new SeededRandom(5);
  const sizes = Array.from({ length: 5_000 }, () => randomBytes(random));
  expect(Math.min(...sizes)).toBeGreaterThanOrEqual(RANDOM_BYTES_MIN);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(RANDOM_BYTES_MAX);
  expect(sizes.filter((bytes) => bytes < 4 * KIB).length).toBeGreaterThan(1_000);
  expect(sizes.filter((bytes) => bytes > 64 * KIB).length).toBeGreaterThan(700);
  expect(sizes.some((bytes) => bytes % 512 !== 0)).toBe(true);
});
