/**
 * Goal: whatever bytes lie on a device, reading them gives a value or a refusal: no crash, and no
 * more work than the size of what was read allows.
 *
 * Method: seeded cases by the hundred thousand: well-formed superblocks, bitmaps, bad-block logs
 * and partial parity logs with a few fields or bytes changed (checksums made right, so that the
 * damage gets past them), and plain noise. What is accepted must encode to what decodes the same,
 * go through the judgement of assembly and through examine, and a plan must be one that can be
 * carried out. Work is counted, not timed: checksummed bytes and answered ranges.
 *
 * A failure prints its round: run with SEED=<seed> to repeat it from the start.
 */
import { expect, test } from "bun:test";
import { fillRandom, nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { judgeAssembly } from "../../../src/md/assemble/assemble.ts";
import type { Candidate } from "../../../src/md/assemble/assembly-plan.ts";
import { decodeBadBlockLog, encodeBadBlockLog } from "../../../src/md/bad-block-log.ts";
import {
  BITMAP_HEADER_BYTES,
  bitmapAreaBytes,
  bitmapBitCount,
  decodeBitmapHeader,
  encodeBitmapHeader,
  newBitmapHeader,
} from "../../../src/md/bitmap.ts";
import { loadBitmap, newBitmap } from "../../../src/md/bitmap-load.ts";
import { examineReport, renderExamine } from "../../../src/md/examine/examine.ts";
import { bitmapReport, pplReport, renderBitmap, renderPpl } from "../../../src/md/examine/logs.ts";
import {
  encodePplHeader,
  PPL_HEADER_BYTES,
  type PplEntry,
  pplChecksum,
  pplSignature,
} from "../../../src/md/ppl.ts";
import { planReplay, scanPplArea } from "../../../src/md/ppl-replay.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  type Superblock,
  superblockChecksum,
} from "../../../src/md/superblock.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { crc32c } from "../../helpers/crc32c.ts";
import { TEST_ARRAY_UUID, TEST_DEVICE_BYTES, testSuperblock } from "../../helpers/md-members.ts";
import { TAKES_ALL, TODAY } from "../../helpers/share.ts";

const CHOSEN_SEED = process.env["SEED"];
const SEED = Number(CHOSEN_SEED ?? (TAKES_ALL ? 20_261_126 : TODAY));
/** A day does one part in four, from a seed of its own. */
const PARTS = CHOSEN_SEED === undefined && !TAKES_ALL ? 4 : 1;

/** Runs `step` this often, on four days; what it throws says with which seed and round. */
function rounds(count: number, step: (random: SeededRandom) => void): void {
  const random = new SeededRandom(SEED);
  for (let round = 0; round < count / PARTS; round += 1) {
    try {
      step(random);
    } catch (error) {
      throw new Error(`SEED=${SEED}, round ${round}`, { cause: error });
    }
  }
}

/** A number of the kind that breaks things: small, a limit, near one, or any. */
function oddNumber(random: SeededRandom, bits: 8 | 16 | 32): number {
  const top = 2 ** bits - 1;
  const any = random.nextU32() & (bits === 32 ? 0xffff_ffff : top);
  const choices = [0, 1, top, top - 1, 2 ** (bits - 1), nextBelow(random, 64), any >>> 0];
  return choices[nextBelow(random, choices.length)]!;
}

/** Changes a few bytes or words between `start` and `end`. */
function damage(bytes: Uint8Array, random: SeededRandom, start: number, end: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let left = 1 + nextBelow(random, 4); left > 0; left -= 1) {
    const offset = start + nextBelow(random, end - start - 4);
    const kind = nextBelow(random, 3);
    if (kind === 0) view.setUint8(offset, oddNumber(random, 8));
    else if (kind === 1) view.setUint16(offset & ~1, oddNumber(random, 16), true);
    else view.setUint32(offset & ~3, oddNumber(random, 32), true);
  }
}

const BASES: readonly Uint8Array[] = (["resync", "bitmap", "ppl"] as const).flatMap((policy) =>
  [0, 1, 3].map((devNumber) => encodeSuperblock(testSuperblock(devNumber, { policy }))),
);

function seal(block: Uint8Array): void {
  const view = new DataView(block.buffer);
  const roleCount = view.getUint32(220, true);
  if (roleCount <= 1920) view.setUint32(216, superblockChecksum(block, roleCount), true);
}

function damagedSuperblock(random: SeededRandom): Superblock | null {
  const block = BASES[nextBelow(random, BASES.length)]!.slice();
  damage(block, random, 8, 280);
  seal(block);
  const decoded = decodeSuperblock(block, { deviceBytes: TEST_DEVICE_BYTES });
  return decoded.ok ? decoded.value : null;
}

test("fuzz: superblock: damages: exact if accepted, examined, never a throw", () => {
  let accepted = 0;
  rounds(200_000, (random) => {
    const superblock = damagedSuperblock(random);
    if (superblock === null) return;
    accepted += 1;
    // Examining one takes longer: a part of them.
    if (accepted % 8 !== 0) return;
    const again = decodeSuperblock(encodeSuperblock(superblock), {
      deviceBytes: TEST_DEVICE_BYTES,
    });
    expect(again).toEqual({ ok: true, value: superblock });
    const report = examineReport(superblock, { path: "m", deviceBytes: TEST_DEVICE_BYTES });
    expect(renderExamine(report).length).toBeLessThan(2000 + report.arrayState.length);
    expect(() => JSON.stringify(report)).not.toThrow();
  });
  expect(accepted).toBeGreaterThan(10_000 / PARTS);
});

test("fuzz: assembly: sets of damaged members: refused, or a plan that can be run", () => {
  let planned = 0;
  rounds(100_000, (random) => {
    const candidates: Candidate[] = [];
    for (let index = 0; index < 4; index += 1) {
      const superblock = nextBelow(random, 2) === 0 ? damagedSuperblock(random) : soundOne(random);
      if (superblock === null || superblock.arrayUuid !== TEST_ARRAY_UUID) continue;
      candidates.push({ drive: `d${index}`, superblock, deviceBytes: TEST_DEVICE_BYTES });
    }
    if (candidates.length === 0) return;
    const judged = judgeAssembly(candidates, { force: nextBelow(random, 4) === 0 });
    if (!judged.ok) {
      expect(judged.error.detail.length).toBeGreaterThan(20);
      return;
    }
    planned += 1;
    const { roles, freshest, degraded } = judged.value;
    const drives = roles.flatMap((role) => (role.state === "missing" ? [] : [role.drive]));
    expect(new Set(drives).size).toBe(drives.length);
    expect(roles.length).toBe(freshest.memberCount);
    expect(roles.filter(({ state }) => state !== "in-sync").length).toBe(degraded);
    expect(degraded).toBeLessThanOrEqual(1);
    expect(freshest.level).toBe(5);
  });
  expect(planned).toBeGreaterThan(1000 / PARTS);
});

function soundOne(random: SeededRandom): Superblock {
  const devNumber = nextBelow(random, 4);
  const events = 98 + nextBelow(random, 4);
  return { ...testSuperblock(devNumber), events };
}

const WITH_BITMAP = testSuperblock(0, { policy: "bitmap" });
const LARGE_BYTES = 40 * 2 ** 40;
const LARGE_WITH_BITMAP: Superblock = {
  ...testSuperblock(0, { policy: "bitmap", deviceBytes: LARGE_BYTES }),
  // Room enough for any bitmap: its length alone is what stops it.
  badBlockLogSectors: 0,
  dataOffsetSectors: 2 ** 32,
};
const BITMAP_CHUNKS = [4096, 65_536, 1 << 20, 64 << 20];

test("fuzz: bitmap: damages: exact if accepted, its ranges lie in the member", () => {
  let accepted = 0;
  rounds(200_000, (random) => {
    const chunkBytes = BITMAP_CHUNKS[nextBelow(random, BITMAP_CHUNKS.length)]!;
    const isLarge = nextBelow(random, 4) === 0;
    const superblock = isLarge ? LARGE_WITH_BITMAP : WITH_BITMAP;
    const deviceBytes = isLarge ? LARGE_BYTES : TEST_DEVICE_BYTES;
    const header = newBitmapHeader({ superblock, chunkBytes });
    const bytes = encodeBitmapHeader(header);
    damage(bytes, random, 0, BITMAP_HEADER_BYTES);
    const decoded = decodeBitmapHeader(bytes, { superblock, deviceBytes });
    if (!decoded.ok) return;
    accepted += 1;
    expect(bitmapAreaBytes(decoded.value)).toBeLessThanOrEqual(1 << 20);
    if (isLarge || accepted % 16 !== 0) return;
    expect(encodeBitmapHeader(decoded.value)).toEqual(bytes);
    const area = newBitmap(header, false).image();
    area.set(bytes);
    const bits = area.subarray(BITMAP_HEADER_BYTES);
    for (let left = nextBelow(random, 4); left > 0; left -= 1) {
      bits[nextBelow(random, bits.length)] = random.nextU32() & 0xff;
    }
    expectBounded(area, random);
  });
  expect(accepted).toBeGreaterThan(10_000 / PARTS);
});

function expectBounded(area: Uint8Array, random: SeededRandom): void {
  const events = WITH_BITMAP.events + nextBelow(random, 2);
  const loaded = loadBitmap(area, {
    superblock: WITH_BITMAP,
    deviceBytes: TEST_DEVICE_BYTES,
    events,
    resyncFromSector: nextBelow(random, 2) === 0 ? null : 0,
    isDegraded: nextBelow(random, 2) === 0,
  });
  if (!loaded.ok) return;
  const { state } = loaded.value;
  const ranges = state.dirtyRanges();
  expect(ranges.length).toBeLessThanOrEqual(state.bitCount);
  let end = 0;
  for (const { sector, lengthSectors } of ranges) {
    expect(sector).toBeGreaterThanOrEqual(end);
    expect(lengthSectors).toBeGreaterThan(0);
    end = sector + lengthSectors;
  }
  expect(end).toBeLessThanOrEqual(WITH_BITMAP.sizeSectors);
  const header = decodeBitmapHeader(area, {
    superblock: WITH_BITMAP,
    deviceBytes: TEST_DEVICE_BYTES,
  });
  if (!header.ok) throw new Error(header.error.detail);
  const report = bitmapReport("m", header.value, area);
  expect(report.setCount).toBeLessThanOrEqual(bitmapBitCount(header.value));
  expect(renderBitmap(report).length).toBeLessThan(1000);
}

test("fuzz: bad-block log: logs of odd entries: sorted and apart if accepted, exact", () => {
  let accepted = 0;
  rounds(100_000, (random) => {
    const area = new Uint8Array(512 + 512 * nextBelow(random, 8)).fill(0xff);
    const view = new DataView(area.buffer);
    const count = nextBelow(random, nextBelow(random, 8) === 0 ? area.length / 8 : 12);
    for (let index = 0; index < count; index += 1) {
      const lengthSectors = nextBelow(random, 64) === 0 ? oddNumber(random, 16) : 1 + index;
      view.setUint32(index * 8, (nextBelow(random, 4096) * 1024 + lengthSectors) >>> 0, true);
      view.setUint32(index * 8 + 4, nextBelow(random, 256) === 0 ? oddNumber(random, 32) : 0, true);
    }
    const decoded = decodeBadBlockLog(area);
    if (!decoded.ok) return;
    accepted += 1;
    const { ranges, entryCount, entryCountMax } = decoded.value;
    expect(entryCount).toBeLessThanOrEqual(entryCountMax);
    let end = -1;
    for (const { sector, lengthSectors } of ranges) {
      if (!(sector > end && lengthSectors > 0)) throw new Error(`range at ${sector}`);
      end = sector + lengthSectors;
    }
    const again = decodeBadBlockLog(encodeBadBlockLog(decoded.value));
    if (!again.ok) throw new Error(again.error.detail);
    expect(Bun.deepEquals(again.value.ranges, ranges)).toBe(true);
  });
  expect(accepted).toBeGreaterThan(50_000 / PARTS);
});

const PPL_MEMBERS = 4;
const GEOMETRY = new Geometry({
  memberCount: PPL_MEMBERS,
  chunkBytes: 65_536,
  layout: 2,
  memberSizeBytes: 16 * 65_536,
});
const PPL_AREA_BYTES = 96 * 1024;
const SIGNATURE = pplSignature(TEST_ARRAY_UUID, crc32c);

/** Headers one behind the other, most of them right, over the bytes that were there. */
function writeUnits(area: Uint8Array, random: SeededRandom): void {
  let generation = nextBelow(random, 100);
  let offset = 0;
  while (offset + PPL_HEADER_BYTES <= area.length) {
    const entries = Array.from({ length: nextBelow(random, 4) }, () => oddEntry(random));
    generation += nextBelow(random, 16) === 0 ? -1 : 1;
    const header = { signature: SIGNATURE, generation: Math.max(generation, 0), entries };
    const bytes = encodePplHeader(header, crc32c);
    const isDamaged = nextBelow(random, 8) === 0;
    if (isDamaged) damage(bytes, random, 508, 700);
    if (isDamaged && nextBelow(random, 2) === 0) {
      const view = new DataView(bytes.buffer);
      view.setUint32(532, 0, true);
      view.setUint32(532, pplChecksum(bytes, crc32c), true);
    }
    area.set(bytes, offset);
    offset += PPL_HEADER_BYTES;
    for (const { partialParityBytes } of entries) offset += partialParityBytes;
    if (nextBelow(random, 6) === 0) return;
  }
}

function oddEntry(random: SeededRandom): PplEntry {
  const rows = 1 + nextBelow(random, 3);
  const isOdd = nextBelow(random, 12) === 0;
  const partialParityBytes = nextBelow(random, 4) === 0 ? 0 : rows * 4096;
  const dataSector = nextBelow(random, (GEOMETRY.sizeBytes / 4096) * 8);
  const stripe = Math.floor((dataSector * 512) / GEOMETRY.stripeBytes);
  return {
    dataSector: isOdd ? oddNumber(random, 32) : dataSector & ~7,
    partialParityBytes: isOdd ? oddNumber(random, 16) : partialParityBytes,
    dataBytes: isOdd ? oddNumber(random, 32) : rows * 4096,
    parityRole: isOdd ? oddNumber(random, 8) : GEOMETRY.parityRole(stripe % GEOMETRY.stripeCount),
    checksum: random.nextU32(),
  };
}

test("fuzz: ppl: logs of odd units: bounded work, and a plan inside of the array", () => {
  let found = 0;
  let planned = 0;
  const area = new Uint8Array(PPL_AREA_BYTES);
  rounds(20_000, (random) => {
    // Now and then an older lap, or noise, lies behind what is written.
    const before = nextBelow(random, 40);
    if (before === 0) fillRandom(random, area);
    else if (before > 9) area.fill(0);
    writeUnits(area, random);
    let work = 0;
    const counted = (seed: number, bytes: Uint8Array): number => {
      work += bytes.length;
      return crc32c(seed, bytes);
    };
    const scan = scanPplArea(area, { signature: SIGNATURE, crc32c: counted });
    // Each header once on the way, once in search of newer ones, and the partial parity once.
    expect(work).toBeLessThanOrEqual(3 * area.length);
    if (!scan.ok || scan.value.kind === "none") return;
    found += 1;
    const logRole = nextBelow(random, PPL_MEMBERS);
    const report = pplReport("m", scan.value, { geometry: GEOMETRY, logRole });
    expect(renderPpl(report).split("\n").length).toBeLessThan(160);
    const members = Array.from({ length: PPL_MEMBERS }, (_, role) => {
      if (nextBelow(random, 6) === 0 && role !== logRole) return null;
      return { dataOffsetSectors: 2048, recoveryOffsetSectors: null, badBlocks: EMPTY };
    });
    const plan = planReplay({ entries: scan.value.entries, geometry: GEOMETRY, logRole, members });
    if (!plan.ok) return;
    planned += 1;
    for (const { stripe, firstRow, rowCount, firstDataIndex, dataCount } of plan.value.steps) {
      expect(stripe).toBeLessThan(GEOMETRY.stripeCount);
      expect(GEOMETRY.parityRole(stripe)).toBe(logRole);
      expect((firstRow + rowCount) * 4096).toBeLessThanOrEqual(GEOMETRY.chunkBytes);
      expect(firstDataIndex + dataCount).toBeLessThanOrEqual(GEOMETRY.dataCount);
    }
  });
  expect(found).toBeGreaterThan(5000 / PARTS);
  expect(planned).toBeGreaterThan(300 / PARTS);
});

const EMPTY = (() => {
  const decoded = decodeBadBlockLog(new Uint8Array(512).fill(0xff));
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
})();
