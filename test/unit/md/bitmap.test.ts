/**
 * Goal: a bitmap on disk is read exactly or refused with its own reason, never lets us write over
 * anything else, and a new one is what mdadm would make.
 *
 * Method: one right header and every field of it made wrong (what Linux refuses of a bitmap, and
 * what we refuse beyond that); areas at every position around their neighbours; random bytes.
 */
import { expect, test } from "bun:test";
import { fillRandom, nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { GIB, KIB, MIB, roundDown, TIB } from "../../../src/base/units.ts";
import {
  BITMAP_HEADER_BYTES,
  type BitmapErrorKind,
  BitmapFlag,
  bitmapAreaBytes,
  bitmapBitCount,
  chooseBitmapChunkBytes,
  decodeBitmapHeader,
  encodeBitmapHeader,
  isBitmapStale,
  newBitmapHeader,
} from "../../../src/md/bitmap.ts";
import { loadBitmap, newBitmap } from "../../../src/md/bitmap-load.ts";
import { chooseLayoutOnMember } from "../../../src/md/create.ts";
import type { Superblock } from "../../../src/md/superblock.ts";
import { TEST_DEVICE_BYTES, testSuperblock } from "../../helpers/md-members.ts";

const superblock = testSuperblock(0, { policy: "bitmap" });
const header = newBitmapHeader({ superblock, chunkBytes: 64 * KIB });
const deviceBytes = TEST_DEVICE_BYTES;

function changed(change: (view: DataView) => void): Uint8Array {
  const bytes = encodeBitmapHeader(header);
  change(new DataView(bytes.buffer));
  return bytes;
}

test("bitmap: a new header: decodes to itself", () => {
  expect(decodeBitmapHeader(encodeBitmapHeader(header), { superblock, deviceBytes })).toEqual({
    ok: true,
    value: header,
  });
});

test.each<[string, BitmapErrorKind, (view: DataView) => void]>([
  ["a bad magic", "no-magic", (view) => view.setUint32(0, 0x6d746963, true)],
  ["all zero", "no-magic", (view) => view.setUint32(0, 0, true)],
  ["version 2", "unknown-version", (view) => view.setUint32(4, 2, true)],
  ["version 3", "host-endian", (view) => view.setUint32(4, 3, true)],
  ["version 5", "clustered", (view) => view.setUint32(4, 5, true)],
  ["version 6", "lockless", (view) => view.setUint32(4, 6, true)],
  ["version 7", "unknown-version", (view) => view.setUint32(4, 7, true)],
  ["nodes", "clustered", (view) => view.setUint32(68, 2, true)],
  ["another uuid", "wrong-uuid", (view) => view.setUint8(23, 0xff)],
  ["a chunk of 0", "bad-chunk-size", (view) => view.setUint32(52, 0, true)],
  ["a chunk of 256", "bad-chunk-size", (view) => view.setUint32(52, 256, true)],
  ["a chunk of 65537", "bad-chunk-size", (view) => view.setUint32(52, 65_537, true)],
  ["a sleep of 0", "bad-daemon-sleep", (view) => view.setUint32(56, 0, true)],
  ["too many writes behind", "bad-write-behind", (view) => view.setUint32(60, 16_384, true)],
  ["events beyond numbers", "number-too-large", (view) => view.setUint32(28, 0xffffffff, true)],
  ["another size", "wrong-sync-size", (view) => view.setUint32(40, 1024, true)],
  [
    "too small an area",
    "area-too-small",
    (view) => {
      view.setUint32(52, 4096, true);
      view.setUint32(64, 4, true);
    },
  ],
  ["bits beyond the area", "areas-overlap", (view) => view.setUint32(52, 512, true)],
])("bitmap: %s: refused", (_, kind, change) => {
  const decoded = decodeBitmapHeader(changed(change), { superblock, deviceBytes });
  expect(decoded).toMatchObject({ ok: false, error: { kind } });
  if (!decoded.ok) expect(decoded.error.detail).toMatch(/^[A-Z].*\.$/);
});

test("bitmap: cut short, or more bits than are kept in memory: refused", () => {
  const short = encodeBitmapHeader(header).slice(0, 255);
  expect(decodeBitmapHeader(short, { superblock, deviceBytes })).toMatchObject({
    error: { kind: "too-short" },
  });
  const sizeSectors = (64 * TIB) / 512;
  const large = { ...superblock, sizeSectors };
  const bytes = encodeBitmapHeader({ ...header, syncSizeSectors: sizeSectors });
  expect(decodeBitmapHeader(bytes, { superblock: large, deviceBytes: 65 * TIB })).toMatchObject({
    error: { kind: "area-too-large" },
  });
});

test("bitmap: a size that is not in whole chunks: with it or rounded down, or one to grow to", () => {
  const odd = { ...superblock, sizeSectors: superblock.sizeSectors - 8 };
  for (const [syncSizeSectors, isRight] of [
    [odd.sizeSectors, true],
    [superblock.sizeSectors - 128, true],
    [superblock.sizeSectors - 256, false],
    [superblock.sizeSectors - 1, false],
    [superblock.sizeSectors, true],
    [roundDown(superblock.dataSizeSectors, 128), true],
    [roundDown(superblock.dataSizeSectors, 128) + 128, false],
  ] as const) {
    const bytes = encodeBitmapHeader({ ...header, syncSizeSectors });
    expect(decodeBitmapHeader(bytes, { superblock: odd, deviceBytes }).ok).toBe(isRight);
  }
});

test("bitmap: an area at every place: refused where a block of it is something else's", () => {
  // Superblock at 8, bad-block log at 24 to 31, data from 2048.
  const overlapping = { kind: "bitmap", offsetSectors: 0 } as const;
  for (let start = 0; start < 2100; start += 1) {
    const moved: Superblock = {
      ...superblock,
      log: { ...overlapping, offsetSectors: start - 8 },
      badBlockLogOffsetSectors: 16,
    };
    const end = start + bitmapAreaBytes(header) / 512;
    const isFree = [
      [8, 16],
      [24, 32],
      [2048, 131_072],
    ].every(([from, to]) => end <= from! || to! <= start);
    const decoded = decodeBitmapHeader(encodeBitmapHeader(header), {
      superblock: moved,
      deviceBytes,
    });
    expect({ start, ok: decoded.ok }).toEqual({ start, ok: isFree });
  }
  const behind: Superblock = {
    ...superblock,
    log: { kind: "bitmap", offsetSectors: 131_072 - 15 },
  };
  const bytes = encodeBitmapHeader(header);
  expect(decodeBitmapHeader(bytes, { superblock: behind, deviceBytes })).toMatchObject({
    error: { kind: "areas-overlap" },
  });
});

test("bitmap: stale: an older header than the superblock, or one that says so", () => {
  expect(isBitmapStale(header, 100)).toBe(false);
  expect(isBitmapStale({ ...header, events: 101 }, 100)).toBe(false);
  expect(isBitmapStale({ ...header, events: 99 }, 100)).toBe(true);
  expect(isBitmapStale({ ...header, state: BitmapFlag.stale }, 100)).toBe(true);
});

test("bitmap: chunk of a new one: 64 MiB, or what fits the space that mdadm reserves", () => {
  const choices = [64 * MIB, 9 * GIB, 300 * GIB, 4 * TIB, 64 * TIB, 1024 * TIB].map((bytes) => {
    const layout = chooseLayoutOnMember({
      deviceBytes: bytes,
      chunkBytes: 512 * KIB,
      policy: "bitmap",
    });
    if (!layout.ok) throw new Error(layout.error.detail);
    const { dataSizeSectors: sizeSectors, logSpaceSectors } = layout.value;
    const chunk = chooseBitmapChunkBytes({ sizeSectors, logSpaceSectors });
    if (!chunk.ok) throw new Error(chunk.error.detail);
    const made = { syncSizeSectors: sizeSectors, chunkBytes: chunk.value };
    expect(bitmapAreaBytes(made)).toBeLessThanOrEqual(logSpaceSectors * 512);
    expect(bitmapBitCount(made)).toBe(Math.ceil((sizeSectors * 512) / chunk.value));
    return chunk.value / MIB;
  });
  expect(choices).toEqual([64, 64, 64, 64, 128, 2048]);
  expect(chooseBitmapChunkBytes({ sizeSectors: 1000, logSpaceSectors: 0 })).toMatchObject({
    error: { kind: "area-too-small" },
  });
});

test("bitmap: loading: stale sets all bits, dirty needs the set ones above the checkpoint", () => {
  const made = newBitmap(header, false);
  made.startWrite(128, 1);
  made.startWrite(1280, 129);
  const image = made.image();
  const load = (options: { events?: number; from?: number | null; isDegraded?: boolean }) => {
    const loaded = loadBitmap(image, {
      superblock,
      deviceBytes,
      events: options.events ?? 100,
      resyncFromSector: options.from ?? null,
      isDegraded: options.isDegraded ?? false,
    });
    if (!loaded.ok) throw new Error(loaded.error.detail);
    return loaded.value;
  };
  const set = [
    { sector: 128, lengthSectors: 128 },
    { sector: 1280, lengthSectors: 256 },
  ];
  expect(load({}).state.dirtyRanges("set")).toEqual(set);
  expect(load({}).state.dirtyRanges("needed")).toEqual([]);
  expect(load({ from: 0 }).state.dirtyRanges("needed")).toEqual(set);
  expect(load({ from: 1300 }).state.dirtyRanges("needed")).toEqual(set.slice(1));
  expect(load({ isDegraded: true }).state.dirtyRanges("needed")).toEqual(set);
  const stale = load({ events: 101 });
  expect(stale.wasStale).toBe(true);
  expect([stale.state.events, stale.state.header.eventsCleared]).toEqual([101, 101]);
  expect(stale.state.dirtyRanges("needed")).toEqual([
    { sector: 0, lengthSectors: superblock.sizeSectors },
  ]);
  const options = { superblock, deviceBytes, events: 100, resyncFromSector: null };
  const short = loadBitmap(image.slice(0, 300), { ...options, isDegraded: false });
  expect(short).toMatchObject({ ok: false, error: { kind: "too-short" } });
});

test("bitmap: random headers and areas: a value or a refusal, never more", () => {
  const random = new SeededRandom(8);
  let accepted = 0;
  for (let round = 0; round < 20_000; round += 1) {
    const area = newBitmap(header, false).image();
    fillRandom(random, area.subarray(round % 2 === 0 ? 256 : 8, 320));
    for (let flips = nextBelow(random, 4); flips > 0; flips -= 1) {
      const at = nextBelow(random, BITMAP_HEADER_BYTES);
      area[at] = area[at]! ^ (1 << nextBelow(random, 8));
    }
    const loaded = loadBitmap(area.subarray(0, nextBelow(random, 2 * area.length)), {
      superblock,
      deviceBytes,
      events: nextBelow(random, 200),
      resyncFromSector: nextBelow(random, 2) === 0 ? null : nextBelow(random, 2 ** 20),
      isDegraded: nextBelow(random, 2) === 0,
    });
    if (loaded.ok) accepted += 1;
  }
  expect(accepted).toBeGreaterThan(1000);
});
