/**
 * Goal: what Linux left in bitmaps and partial parity logs is read as Linux reads it, and a start
 * after its crash gives the array that Linux gave.
 *
 * Method: the fixtures' areas are decoded and encoded again to the same bytes, and compared with the
 * manifest; the dirty ones are recovered over their images, complete and with each member missing,
 * to the sha256 that a real kernel reached from the same images.
 */
import { describe, expect, test } from "bun:test";
import { ROW_BYTES, SECTOR_BYTES } from "../../src/base/units.ts";
import {
  BITMAP_HEADER_BYTES,
  bitmapAreaBytes,
  bitmapOffsetBytes,
  decodeBitmapHeader,
  encodeBitmapHeader,
} from "../../src/md/bitmap.ts";
import { loadBitmap } from "../../src/md/bitmap-load.ts";
import {
  decodePplHeader,
  encodePplHeader,
  PPL_HEADER_BYTES,
  pplSignature,
} from "../../src/md/ppl.ts";
import { judgeReplay } from "../../src/md/ppl-replay.ts";
import { crc32c } from "../helpers/crc32c.ts";
import { fixtureFacts, loadFixture } from "../helpers/md-fixtures.ts";
import {
  findMismatches,
  openImages,
  pplAreaOf,
  pplSpaceOfMember,
  readImageArray,
  replayImages,
  resyncImages,
  rowOf,
  scanImage,
  superblockOfImage,
} from "../helpers/md-recovery.ts";

/** The fields of manifest.json that only these tests use. */
interface LogFacts {
  readonly torn_4k_stripes_member_sector: readonly number[];
  readonly members: readonly {
    readonly image: string;
    readonly bitmap: { readonly [field: string]: unknown } | null;
    readonly ppl: {
      readonly sig: string;
      readonly last: {
        readonly gen: number;
        readonly off: number;
        readonly entries: readonly {
          readonly data_sector: number;
          readonly pp_size: number;
          readonly data_size: number;
          readonly parity_disk: number;
          readonly checksum: number;
        }[];
      };
    } | null;
  }[];
}

const FACTS = fixtureFacts();
const LOG_FACTS = FACTS as unknown as Readonly<Record<string, LogFacts>>;

function sha256(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}

function recovered(name: string, how: string): string {
  const sum = FACTS[name]!.after_kernel_recovery[how]?.sha256;
  if (typeof sum !== "string") throw new Error(`no kernel has recovered ${name} ${how}`);
  return sum;
}

// Bitmap -------------------------------------------------------------------------------------

test("bitmap: r5-3d-64k-bitmap: fields are the manifest's, encodes to the bytes that md wrote", () => {
  const name = "r5-3d-64k-bitmap";
  const images = loadFixture(name);
  for (const { image: imageName, bitmap } of LOG_FACTS[name]!.members) {
    const image = images.get(imageName)!;
    const superblock = superblockOfImage(image);
    const start = bitmapOffsetBytes(superblock);
    const options = { superblock, deviceBytes: image.length };
    const decoded = decodeBitmapHeader(image.subarray(start), options);
    if (!decoded.ok) throw new Error(decoded.error.detail);
    const header = decoded.value;
    expect({
      uuid: header.arrayUuid.replaceAll(":", ""),
      events: header.events,
      events_cleared: header.eventsCleared,
      sync_size: header.syncSizeSectors,
      state: header.state,
      chunksize: header.chunkBytes,
      daemon_sleep: header.daemonSleepSeconds,
      write_behind: header.writeBehind,
      sectors_reserved: header.sectorsReserved,
    }).toMatchObject(
      Object.fromEntries(
        Object.entries(bitmap!).filter(([key]) => !/magic|version|bits|set/.test(key)),
      ),
    );
    expect(encodeBitmapHeader(header)).toEqual(image.slice(start, start + BITMAP_HEADER_BYTES));
    const loaded = loadBitmap(image.subarray(start), {
      ...options,
      events: superblock.events,
      resyncFromSector: null,
      isDegraded: false,
    });
    if (!loaded.ok) throw new Error(loaded.error.detail);
    const { state, wasStale } = loaded.value;
    expect({ wasStale, bits: state.bitCount, set: state.setCount }).toEqual({
      wasStale: false,
      bits: bitmap!["bits"] as number,
      set: (bitmap!["set"] as unknown[]).length,
    });
    expect(state.image()).toEqual(image.slice(start, start + bitmapAreaBytes(header)));
  }
});

test("bitmap: r5-3d-64k-bitmap: clean, the array is what the kernel read, without any member too", () => {
  const name = "r5-3d-64k-bitmap";
  for (const missing of [null, "m0.img", "m1.img", "m2.img"]) {
    const images = loadFixture(name);
    if (missing !== null) images.delete(missing);
    expect(sha256(readImageArray(openImages(images)))).toBe(FACTS[name]!.kernel_sha256);
  }
});

test("bitmap: rows torn under set bits: a resync of the dirty ranges makes all parity right", () => {
  const images = loadFixture("r5-3d-64k-bitmap");
  const array = openImages(images);
  const torn = [0, 7 * 65_536 + 4096, 8 * 65_536, array.geometry.memberSizeBytes - ROW_BYTES];
  const bits = [0, 7, 8, 495];
  for (const [index, offset] of torn.entries()) {
    rowOf(array.members[index % 3]!, offset).fill(0x5a);
  }
  for (const { image, superblock } of array.members.map((member) => member!)) {
    const start = bitmapOffsetBytes(superblock) + BITMAP_HEADER_BYTES;
    for (const bit of bits) image[start + (bit >>> 3)]! |= 1 << (bit & 7);
  }
  const { image, superblock } = array.members[1]!;
  const loaded = loadBitmap(image.subarray(bitmapOffsetBytes(superblock)), {
    superblock,
    deviceBytes: image.length,
    events: superblock.events,
    resyncFromSector: 0,
    isDegraded: false,
  });
  if (!loaded.ok) throw new Error(loaded.error.detail);
  expect(findMismatches(array).length).toBe(torn.length);
  const ranges = loaded.value.state.dirtyRanges("needed");
  expect(ranges).toEqual([
    { sector: 0, lengthSectors: 128 },
    { sector: 896, lengthSectors: 256 },
    { sector: 63_360, lengthSectors: 128 },
  ]);
  resyncImages(array, ranges);
  expect(findMismatches(array)).toEqual([]);
});

// Partial parity log -------------------------------------------------------------------------

describe.each(["r5-3d-64k-ppl", "r5-3d-64k-ppl-dirty"])("%s", (name) => {
  test(`ppl: ${name}: the last unit is the manifest's`, () => {
    const { members } = openImages(loadFixture(name));
    for (const [role, member] of members.entries()) {
      const scan = scanImage(member!);
      if (scan.kind !== "found") throw new Error("no unit was found");
      const { ppl } = LOG_FACTS[name]!.members.find(({ image }) => image === `m${role}.img`)!;
      expect(scan.header.signature).toBe(Number(ppl!.sig));
      expect({ gen: scan.header.generation, off: scan.offsetBytes }).toEqual({
        gen: ppl!.last.gen,
        off: ppl!.last.off,
      });
      expect(
        scan.entries.map(({ entry }) => ({
          data_sector: entry.dataSector,
          pp_size: entry.partialParityBytes,
          data_size: entry.dataBytes,
          parity_disk: entry.parityRole,
          checksum: entry.checksum,
        })),
      ).toEqual(
        ppl!.last.entries.map(({ data_sector, pp_size, data_size, parity_disk, checksum }) => {
          return { data_sector, pp_size, data_size, parity_disk, checksum };
        }),
      );
      expect(scan.entries.every(({ isIntact }) => isIntact)).toBe(true);
    }
  });

  test(`ppl: ${name}: every header encodes to the bytes that md wrote`, () => {
    const { members } = openImages(loadFixture(name));
    let headers = 0;
    for (const member of members) {
      const area = pplAreaOf(member!);
      const signature = pplSignature(member!.superblock.arrayUuid, crc32c);
      for (let offset = 0; offset < area.length; offset += PPL_HEADER_BYTES) {
        const bytes = area.slice(offset, offset + PPL_HEADER_BYTES);
        const decoded = decodePplHeader(bytes, { signature, crc32c });
        if (!decoded.ok) continue;
        headers += 1;
        expect(encodePplHeader(decoded.value, crc32c)).toEqual(bytes);
      }
      expect(pplSpaceOfMember(member!)).toEqual({
        offsetBytes: 8192,
        areaBytes: 1_048_576,
        isMultiple: true,
        partialParityBytesMax: 131_072,
      });
    }
    expect(headers).toBeGreaterThan(10);
  });
});

test("ppl: r5-3d-64k-ppl-dirty, all members: replay makes parity right, as the kernel did", () => {
  const name = "r5-3d-64k-ppl-dirty";
  const array = openImages(loadFixture(name));
  const torn = findMismatches(array).map((offset) => offset / SECTOR_BYTES);
  expect(torn).toEqual([...LOG_FACTS[name]!.torn_4k_stripes_member_sector]);
  const done = replayImages(array);
  expect([...done.values()].flat().map(({ reason }) => reason)).toEqual(
    Array.from({ length: 4 }, () => "all-present"),
  );
  expect(findMismatches(array)).toEqual([]);
  expect(sha256(readImageArray(array))).toBe(recovered(name, "full"));
  const logs = [...done.values()].map((steps) => {
    return { kind: "replayed", entryCount: steps.length, tornCount: 0 } as const;
  });
  expect(judgeReplay({ logs, resyncFromSector: 0, isDegraded: false })).toBe("clean");
});

test.each([0, 1, 2])("ppl: r5-3d-64k-ppl-dirty without m%i: the array is the kernel's", (lost) => {
  const name = "r5-3d-64k-ppl-dirty";
  const images = loadFixture(name);
  images.delete(`m${lost}.img`);
  const array = openImages(images);
  const done = replayImages(array);
  expect([...done.keys()]).toEqual([0, 1, 2].filter((role) => role !== lost));
  expect(sha256(readImageArray(array))).toBe(recovered(name, `miss${lost}`));
  // The replay of a replayed log changes nothing: it may be cut short at any point.
  replayImages(array);
  expect(sha256(readImageArray(array))).toBe(recovered(name, `miss${lost}`));
});

test("resync: r5-3d-64k-dirty, all members: parity is right, the array is what the kernel gave", () => {
  const name = "r5-3d-64k-dirty";
  const array = openImages(loadFixture(name));
  const torn = findMismatches(array).map((offset) => offset / SECTOR_BYTES);
  expect(torn).toEqual([...LOG_FACTS[name]!.torn_4k_stripes_member_sector]);
  const lengthSectors = array.geometry.memberSizeBytes / SECTOR_BYTES;
  resyncImages(array, [{ sector: 0, lengthSectors }]);
  expect(findMismatches(array)).toEqual([]);
  expect(sha256(readImageArray(array))).toBe(recovered(name, "full"));
});

test.each([0, 1, 2])("force: r5-3d-64k-dirty without m%i: torn as the kernel gave it", (lost) => {
  const name = "r5-3d-64k-dirty";
  const images = loadFixture(name);
  images.delete(`m${lost}.img`);
  expect(sha256(readImageArray(openImages(images)))).toBe(recovered(name, `miss${lost}-force`));
});
