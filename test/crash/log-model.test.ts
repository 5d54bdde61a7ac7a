/**
 * Goal: the checks of the crash matrix see through the logs of a dirty array: with its entry a torn
 * write harms only what was in flight, without it the write hole is found; a row that parity does
 * not hold in needs its bit in every bitmap.
 * Method: members are made by hand, with sectors of random fates; each is judged with no member
 * and with each member lost.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../src/base/units.ts";
import { bitmapOffsetBytes, encodeBitmapHeader, newBitmapHeader } from "../../src/md/bitmap.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import {
  encodePplHeader,
  type PplEntry,
  pplChecksum,
  pplSignature,
  setPplEntry,
} from "../../src/md/ppl.ts";
import { encodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../src/md/superblock.ts";
import { Geometry } from "../../src/raid5/geometry.ts";
import { crc32c } from "../helpers/crc32c.ts";
import { TEST_ARRAY_UUID, testSuperblock } from "../helpers/md-members.ts";
import { blankImage, type DeviceImage, patchImage, readImage } from "../sim/world/media.ts";
import { SectorOracle } from "../sim/world/oracle.ts";
import { LightCheck, Promises } from "./light-check.ts";

const MEMBERS = 4;
const CHUNK_BYTES = 2 * ROW_BYTES;
const STRIPES = 4;
const DEVICE_BYTES = 8 * 1024 * 1024;
const GEOMETRY = new Geometry({
  memberCount: MEMBERS,
  chunkBytes: CHUNK_BYTES,
  layout: 2,
  memberSizeBytes: STRIPES * CHUNK_BYTES,
});
const ROLES = [...Array(MEMBERS).keys()];

function superblockOf(role: number, policy: ConsistencyPolicy) {
  const options = { policy, memberCount: MEMBERS, chunkBytes: CHUNK_BYTES };
  const made = testSuperblock(role, { ...options, deviceBytes: DEVICE_BYTES });
  const sizeSectors = (STRIPES * CHUNK_BYTES) / SECTOR_BYTES;
  return { ...made, sizeSectors, resyncOffsetSectors: 0 };
}

function dataOffset(policy: ConsistencyPolicy): number {
  return superblockOf(0, policy).dataOffsetSectors * SECTOR_BYTES;
}

/** Dirty, every sector written, parity right everywhere. */
function members(policy: ConsistencyPolicy, oracle: SectorOracle): DeviceImage[] {
  const version = oracle.beginWrite(0, oracle.sectorCount);
  const array = new Uint8Array(GEOMETRY.sizeBytes);
  oracle.fill(array, 0, version);
  oracle.endWrite(version, "done-fua");
  const data = ROLES.map(() => new Uint8Array(STRIPES * CHUNK_BYTES));
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    const parity = data[GEOMETRY.parityRole(stripe)]!;
    for (let index = 0; index < GEOMETRY.dataCount; index += 1) {
      const from = GEOMETRY.arrayOffsetOf(stripe, index);
      const chunk = array.subarray(from, from + CHUNK_BYTES);
      data[GEOMETRY.dataRole(stripe, index)]!.set(chunk, stripe * CHUNK_BYTES);
      for (let at = 0; at < CHUNK_BYTES; at += 1) parity[stripe * CHUNK_BYTES + at]! ^= chunk[at]!;
    }
  }
  return ROLES.map((role) => {
    const blank = blankImage({ name: `d${role}`, sizeBytes: DEVICE_BYTES });
    const superblock = encodeSuperblock(superblockOf(role, policy));
    const named = patchImage(blank, SUPERBLOCK_OFFSET_BYTES, superblock);
    return patchImage(named, dataOffset(policy), data[role]!);
  });
}

interface Extent {
  readonly stripe: number;
  readonly firstRow: number;
  readonly rowCount: number;
  readonly firstDataIndex: number;
  readonly dataCount: number;
}

function drawExtent(random: SeededRandom): Extent {
  const firstDataIndex = nextBelow(random, GEOMETRY.dataCount);
  const firstRow = nextBelow(random, 2);
  return {
    stripe: nextBelow(random, STRIPES),
    firstRow,
    rowCount: 1 + nextBelow(random, 2 - firstRow),
    firstDataIndex,
    dataCount: 1 + nextBelow(random, GEOMETRY.dataCount - firstDataIndex),
  };
}

function memberRange(policy: ConsistencyPolicy, extent: Extent): [from: number, bytes: number] {
  const from = extent.stripe * CHUNK_BYTES + extent.firstRow * ROW_BYTES;
  return [dataOffset(policy) + from, extent.rowCount * ROW_BYTES];
}

function xorInto(target: Uint8Array, source: Uint8Array): void {
  for (let at = 0; at < target.length; at += 1) target[at]! ^= source[at]!;
}

/** Logs a write of the extent, and lets some sectors of its data and parity land. */
function tear(options: {
  images: readonly DeviceImage[];
  oracle: SectorOracle;
  extent: Extent;
  random: SeededRandom;
}): DeviceImage[] {
  const { oracle, extent, random } = options;
  const images = [...options.images];
  const [from, bytes] = memberRange("ppl", extent);
  const parityRole = GEOMETRY.parityRole(extent.stripe);
  const partial = new Uint8Array(bytes);
  const parity = new Uint8Array(bytes);
  for (let index = 0; index < GEOMETRY.dataCount; index += 1) {
    const role = GEOMETRY.dataRole(extent.stripe, index);
    const old = readImage(images[role]!, from, bytes);
    const isModified =
      index >= extent.firstDataIndex && index < extent.firstDataIndex + extent.dataCount;
    if (!isModified) xorInto(partial, old);
    const arrayFrom = GEOMETRY.arrayOffsetOf(extent.stripe, index) + extent.firstRow * ROW_BYTES;
    const fresh = isModified ? writeOf(oracle, arrayFrom / SECTOR_BYTES, bytes) : old;
    xorInto(parity, fresh);
    if (isModified) images[role] = landed(images[role]!, from, fresh, random);
  }
  images[parityRole] = landed(images[parityRole]!, from, parity, random);
  images[parityRole] = logged(images[parityRole]!, parityRole, extent, partial);
  return images;
}

/** A write that begins, and never ends. */
function writeOf(oracle: SectorOracle, lba: number, bytes: number): Uint8Array {
  const version = oracle.beginWrite(lba, bytes / SECTOR_BYTES);
  const data = new Uint8Array(bytes);
  oracle.fill(data, lba, version);
  return data;
}

function landed(
  image: DeviceImage,
  from: number,
  bytes: Uint8Array,
  random: SeededRandom,
): DeviceImage {
  const now = readImage(image, from, bytes.length);
  for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
    if (nextBelow(random, 2) === 0) now.set(bytes.subarray(at, at + SECTOR_BYTES), at);
  }
  return patchImage(image, from, now);
}

/** An older unit, and then the one of this extent. */
function logged(
  image: DeviceImage,
  role: number,
  extent: Extent,
  partial: Uint8Array,
): DeviceImage {
  const entry: PplEntry = {
    dataSector: 0,
    partialParityBytes: 0,
    dataBytes: 0,
    parityRole: role,
    checksum: 0,
  };
  setPplEntry(entry, extent, GEOMETRY);
  const bytes = entry.partialParityBytes === 0 ? new Uint8Array(0) : partial;
  entry.checksum = pplChecksum(bytes, crc32c);
  const signature = pplSignature(TEST_ARRAY_UUID, crc32c);
  const older = encodePplHeader({ signature, generation: 4, entries: [] }, crc32c);
  const header = encodePplHeader({ signature, generation: 5, entries: [entry] }, crc32c);
  const at = logOffset();
  const unit = new Uint8Array([...older, ...header, ...bytes]);
  return patchImage(image, at, unit);
}

function logOffset(): number {
  const { log } = superblockOf(0, "ppl");
  if (log.kind !== "ppl") throw new Error("there is a log");
  return SUPERBLOCK_OFFSET_BYTES + log.offsetSectors * SECTOR_BYTES;
}

/** With none and with each member lost; what was found wrong. */
function judgeAll(images: readonly DeviceImage[], oracle: SectorOracle): string[] {
  const crashed = oracle.clone();
  crashed.crash();
  const promises = new Promises(crashed);
  const light = new LightCheck();
  return [-1, ...ROLES].flatMap((lost) => {
    const present = images.filter((_, role) => role !== lost);
    const expected = light.expect(present);
    if (!("plan" in expected)) return [expected.kind];
    const wrong = light.readAll(expected.plan, { images: present, promises, isTorn: false });
    return wrong === null ? [] : [`${expected.kind} without ${lost}: ${wrong}`];
  });
}

function newOracle(): SectorOracle {
  return new SectorOracle({ seed: 1, sectorCount: GEOMETRY.sizeBytes / SECTOR_BYTES });
}

test("log model: a torn write that is logged: with each member lost only its sectors suffer", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = new SeededRandom(seed);
    const oracle = newOracle();
    const images = members("ppl", oracle);
    const torn = tear({ images, oracle, extent: drawExtent(random), random });
    expect([seed, judgeAll(torn, oracle)]).toEqual([seed, []]);
  }
});

test("log model: the same without the log, or with a torn one: the write hole is found", () => {
  for (const harm of ["blank", "torn"] as const) {
    let found = 0;
    for (let seed = 1; seed <= 100; seed += 1) {
      const random = new SeededRandom(seed);
      const oracle = newOracle();
      const extent = { ...drawExtent(random), dataCount: 1 };
      const torn = tear({ images: members("ppl", oracle), oracle, extent, random });
      const parityRole = GEOMETRY.parityRole(extent.stripe);
      const bytes = harm === "blank" ? 2 * ROW_BYTES : SECTOR_BYTES;
      // Torn: a part of the partial parity, behind both headers.
      const at = logOffset() + (harm === "blank" ? 0 : 2 * ROW_BYTES);
      torn[parityRole] = patchImage(torn[parityRole]!, at, new Uint8Array(bytes).fill(7));
      if (judgeAll(torn, oracle).length > 0) found += 1;
    }
    expect(found).toBeGreaterThan(50);
  }
});

test("log model: an entry in the wrong member's log: told", () => {
  const random = new SeededRandom(1);
  const oracle = newOracle();
  const extent = { ...drawExtent(random), stripe: 0 };
  const torn = tear({ images: members("ppl", oracle), oracle, extent, random });
  const parityRole = GEOMETRY.parityRole(0);
  const unit = readImage(torn[parityRole]!, logOffset(), 2 * ROW_BYTES);
  torn[0] = patchImage(torn[0]!, logOffset(), unit);
  expect(judgeAll(torn, oracle)[0]).toContain("another role's parity");
});

test("log model: parity that is wrong: its bit has to be set in every bitmap", () => {
  const wrongRow = 5;
  for (const [isSet, isStale, isFound] of [
    [[true, true, true, true], false, false],
    [[true, true, false, true], false, true],
    [[false, false, false, false], false, true],
    [[false, false, false, false], true, false],
  ] as const) {
    const oracle = newOracle();
    const parityRole = GEOMETRY.parityRole(2);
    const images = members("bitmap", oracle).map((image, role) => {
      const superblock = superblockOf(role, "bitmap");
      const events = isStale ? superblock.events - 1 : superblock.events;
      const header = newBitmapHeader({ superblock, chunkBytes: ROW_BYTES });
      const bits = new Uint8Array(8);
      if (isSet[role]) bits[0] = 1 << wrongRow;
      const area = new Uint8Array([...encodeBitmapHeader({ ...header, events }), ...bits]);
      const mapped = patchImage(image, bitmapOffsetBytes(superblock), area);
      if (role !== parityRole) return mapped;
      const at = dataOffset("bitmap") + wrongRow * ROW_BYTES;
      return patchImage(mapped, at, new Uint8Array(SECTOR_BYTES).fill(9));
    });
    const light = new LightCheck();
    const expected = light.expect(images);
    if (!("plan" in expected)) throw new Error(expected.kind);
    const crashed = oracle.clone();
    crashed.crash();
    const options = { images, promises: new Promises(crashed), isTorn: false };
    const wrong = light.readAll(expected.plan, options);
    expect([isSet, wrong?.includes("parity of a clean row") ?? false]).toEqual([isSet, isFound]);
  }
});
