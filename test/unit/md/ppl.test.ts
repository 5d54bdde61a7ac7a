/**
 * Goal: what we log is what Linux replays, and nothing in a log can make us write wrong parity.
 *
 * Method: units are built in the shared memory and read back; every field of an entry is made
 * wrong, and all entries of a small array are checked against a plain description of what is
 * right; areas are filled with units lap after lap, with each write torn; random bytes are scanned.
 */
import { expect, test } from "bun:test";
import type { SharedMemory } from "../../../src/base/memory.ts";
import { fillRandom, nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { KIB, ROW_BYTES } from "../../../src/base/units.ts";
import { BadBlockLog } from "../../../src/md/bad-block-log.ts";
import {
  checkPplEntry,
  decodePplHeader,
  emptyPplHeader,
  encodePplHeader,
  needsHeaderFirst,
  nextPplUnitOffset,
  PPL_ENTRIES_MAX,
  PPL_HEADER_BYTES,
  type PplEntry,
  type PplEntryFault,
  type PplSpace,
  pplChecksum,
  pplExtentOf,
  pplSignature,
  pplSpaceOf,
  setPplEntry,
} from "../../../src/md/ppl.ts";
import { crc32cThrough, PplUnitBuilder } from "../../../src/md/ppl-builder.ts";
import {
  judgeReplay,
  type LoadedPplEntry,
  type PplLogOutcome,
  planReplay,
  type ReplayMember,
  scanPplArea,
} from "../../../src/md/ppl-replay.ts";
import { createParityKernels } from "../../../src/parity/kernels.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { crc32c } from "../../helpers/crc32c.ts";
import { TEST_ARRAY_UUID, testSuperblock } from "../../helpers/md-members.ts";
import { testMemory } from "../../helpers/memory.ts";

const memory: SharedMemory = testMemory();
const kernels = createParityKernels(memory.memory);
const crc32cAt = kernels.crc32c.bind(kernels);
/** Behind the control area, where no other test file keeps anything. */
const ADDRESS = 17 * KIB * KIB;
const SIGNATURE = pplSignature(TEST_ARRAY_UUID, crc32c);
const READER = { signature: SIGNATURE, crc32c };

/** Four members, chunks of four rows. */
const geometry = new Geometry({
  memberCount: 4,
  chunkBytes: 16 * KIB,
  layout: 2,
  memberSizeBytes: 8 * 16 * KIB,
});

function entryOf(
  stripe: number,
  [firstRow, rowCount]: readonly [number, number],
  [firstDataIndex, dataCount]: readonly [number, number],
): PplEntry {
  const entry = { dataSector: 0, partialParityBytes: 0, dataBytes: 0, parityRole: 0, checksum: 0 };
  setPplEntry(entry, { stripe, firstRow, rowCount, firstDataIndex, dataCount }, geometry);
  return entry;
}

function builderFor(logRole: number, partialParityBytesMax = 128 * KIB): PplUnitBuilder {
  return new PplUnitBuilder({
    memory,
    crc32c: crc32cAt,
    signature: SIGNATURE,
    geometry,
    logRole,
    partialParityBytesMax,
  });
}

test("ppl: signature and checksums: the same by kernel and by table, of any length", () => {
  const through = crc32cThrough({
    memory,
    crc32c: crc32cAt,
    scratchAddress: ADDRESS,
    scratchBytes: 1000,
  });
  expect(pplSignature(TEST_ARRAY_UUID, through)).toBe(SIGNATURE);
  const bytes = new Uint8Array(5000);
  fillRandom(new SeededRandom(1), bytes);
  for (const length of [0, 1, 999, 1000, 1001, 5000]) {
    const part = bytes.subarray(0, length);
    expect(pplChecksum(part, through)).toBe(pplChecksum(part, crc32c));
  }
});

test("ppl: the empty header: no entries, generation 0", () => {
  const bytes = emptyPplHeader(SIGNATURE, crc32c);
  expect(decodePplHeader(bytes, READER)).toEqual({
    ok: true,
    value: { signature: SIGNATURE, generation: 0, entries: [] },
  });
  expect(bytes.subarray(0, 512).every((byte) => byte === 0xff)).toBe(true);
});

test("ppl: a built unit: its header is the encoded one, its entries are found intact", () => {
  const builder = builderFor(geometry.parityRole(2));
  memory.bytes.fill(0xa5, ADDRESS, ADDRESS + 64 * KIB);
  builder.begin(ADDRESS, 2 ** 33 + 5);
  const entries = [
    entryOf(2, [0, 1], [0, 1]),
    entryOf(2, [1, 2], [1, 2]),
    entryOf(6, [0, 4], [0, 3]),
    entryOf(2, [3, 1], [2, 1]),
  ];
  entries.forEach((entry, index) => {
    const at = builder.partialParityAddress;
    memory.bytes.fill(index + 1, at, at + entry.partialParityBytes);
    if (entry.partialParityBytes > 0) {
      entry.checksum = builder.partialParityChecksum(entry.partialParityBytes);
    }
    builder.addEntry(entry);
  });
  const bytes = builder.finish();
  expect(bytes).toBe(PPL_HEADER_BYTES + 4 * ROW_BYTES);
  const header = { signature: SIGNATURE, generation: 2 ** 33 + 5, entries };
  const area = new Uint8Array(memory.bytes.subarray(ADDRESS, ADDRESS + 64 * KIB));
  expect(encodePplHeader(header, crc32c)).toEqual(area.slice(0, PPL_HEADER_BYTES));
  const scan = scanPplArea(area, READER);
  expect(scan).toMatchObject({ ok: true, value: { kind: "found", offsetBytes: 0, header } });
  if (!scan.ok || scan.value.kind !== "found") throw new Error("no unit was found");
  expect(scan.value.entries.map(({ isIntact }) => isIntact)).toEqual([true, true, true, true]);
  expect(scan.value.entries.map(({ partialParityOffset }) => partialParityOffset)).toEqual([
    4096, 8192, 16_384, 16_384,
  ]);
});

test("ppl: a built unit with each number of entries: its checksum is that of the whole header", () => {
  // Full stripes of an array so long that each has its parity on one role.
  const long = new Geometry({
    memberCount: 3,
    chunkBytes: ROW_BYTES,
    layout: 5,
    memberSizeBytes: (PPL_ENTRIES_MAX + 1) * ROW_BYTES,
  });
  const builder = new PplUnitBuilder({
    memory,
    crc32c: crc32cAt,
    signature: SIGNATURE,
    geometry: long,
    logRole: long.parityRole(0),
    partialParityBytesMax: 128 * KIB,
  });
  for (const round of [0, 1]) {
    for (let count = 1; count <= PPL_ENTRIES_MAX; count += 1) {
      builder.begin(ADDRESS, 1000 * round + count);
      for (let stripe = 0; stripe < count; stripe += 1) {
        const entry = entryOf(0, [0, 1], [0, 1]);
        const extent = { stripe, firstRow: 0, rowCount: 1, firstDataIndex: 0, dataCount: 2 };
        setPplEntry(entry, extent, long);
        builder.addEntry(entry);
      }
      const header = memory.bytes.slice(ADDRESS, ADDRESS + builder.finish());
      const decoded = decodePplHeader(header, READER);
      expect(decoded.ok && decoded.value.entries.length).toBe(count);
    }
  }
});

test("ppl: building: a wrong entry, a row twice, too much: stops us", () => {
  const logRole = geometry.parityRole(2);
  const builder = builderFor(logRole, 2 * ROW_BYTES);
  builder.begin(ADDRESS, 1);
  expect(() => builder.addEntry(entryOf(1, [0, 1], [0, 1]))).toThrow("right for this array");
  expect(() => builder.addEntry(entryOf(2, [0, 3], [0, 1]))).toThrow("fits into the unit");
  builder.addEntry(entryOf(2, [1, 2], [0, 1]));
  expect(() => builder.addEntry(entryOf(2, [2, 2], [0, 3]))).toThrow("a row is in a unit once");
  expect(builder.hasRoomFor(0)).toBe(true);
  expect(builder.hasRoomFor(ROW_BYTES)).toBe(false);
  builder.finish();
  expect(() => builder.finish()).toThrow("a unit has entries");
  const many = builderFor(0);
  many.begin(ADDRESS, 1);
  expect(PPL_ENTRIES_MAX).toBe(148);
});

// Entries ------------------------------------------------------------------------------------

const right = entryOf(2, [1, 2], [1, 2]);

test.each<[string, PplEntryFault, Partial<PplEntry>]>([
  ["a sector within a row", "misaligned", { dataSector: right.dataSector + 1 }],
  ["partial parity within a row", "misaligned", { partialParityBytes: 512 }],
  ["data within a row", "misaligned", { dataBytes: right.dataBytes + 512 }],
  ["no data", "bad-size", { dataBytes: 0 }],
  ["neither data nor parity", "bad-size", { dataBytes: 0, partialParityBytes: 0 }],
  ["data that is no multiple", "bad-size", { dataBytes: 5 * ROW_BYTES }],
  ["more chunks than there are", "beyond-stripe", { dataBytes: 8 * ROW_BYTES }],
  ["chunks of the next stripe", "beyond-stripe", { dataBytes: 6 * ROW_BYTES }],
  [
    "rows of the next chunk",
    "beyond-chunk",
    { dataBytes: 8 * ROW_BYTES, partialParityBytes: 4 * ROW_BYTES },
  ],
  [
    "all chunks, from the second on",
    "beyond-stripe",
    { dataBytes: 3 * ROW_BYTES, partialParityBytes: 0 },
  ],
  ["a stripe behind the last", "beyond-array", { dataSector: right.dataSector + 6 * 96 }],
  ["a sector beyond numbers", "beyond-array", { dataSector: 2 ** 52 }],
  ["another role", "wrong-parity-role", { parityRole: right.parityRole ^ 1 }],
  ["a role that is none", "wrong-parity-role", { parityRole: 0xffffffff }],
])("ppl: an entry with %s: refused", (_, fault, change) => {
  const logRole = right.parityRole;
  expect(checkPplEntry(right, geometry, logRole)).toBe(null);
  expect(checkPplEntry({ ...right, ...change }, geometry, logRole)).toBe(fault);
  expect(checkPplEntry(right, geometry, (logRole + 1) % 4)).toBe("wrong-log");
});

test("ppl: every extent of a stripe: its entry is right and gives it back", () => {
  let count = 0;
  for (let layout = 0; layout < 6; layout += 1) {
    const other = new Geometry({
      memberCount: 5,
      chunkBytes: 12 * KIB + 4 * KIB,
      layout,
      memberSizeBytes: 7 * 16 * KIB,
    });
    for (let stripe = 0; stripe < other.stripeCount; stripe += 1) {
      for (let firstRow = 0; firstRow < 4; firstRow += 1) {
        for (let rowCount = 1; firstRow + rowCount <= 4; rowCount += 1) {
          for (let firstDataIndex = 0; firstDataIndex < 4; firstDataIndex += 1) {
            for (let dataCount = 1; firstDataIndex + dataCount <= 4; dataCount += 1) {
              const extent = { stripe, firstRow, rowCount, firstDataIndex, dataCount };
              const entry = { ...right };
              setPplEntry(entry, extent, other);
              expect(checkPplEntry(entry, other, other.parityRole(stripe))).toBe(null);
              expect(pplExtentOf(entry, other)).toEqual(extent);
              count += 1;
            }
          }
        }
      }
    }
  }
  expect(count).toBe(6 * 7 * 10 * 10);
});

test("ppl: every entry of a small array: right exactly where it stands for an extent", () => {
  const small = new Geometry({
    memberCount: 3,
    chunkBytes: 2 * ROW_BYTES,
    layout: 2,
    memberSizeBytes: 2 * 2 * ROW_BYTES,
  });
  const isRight = new Set<string>();
  for (const stripe of [0, 1]) {
    for (const [firstRow, rowCount] of [
      [0, 1],
      [1, 1],
      [0, 2],
    ] as const) {
      for (const [firstDataIndex, dataCount] of [
        [0, 1],
        [1, 1],
        [0, 2],
      ] as const) {
        const entry = { ...right };
        setPplEntry(entry, { stripe, firstRow, rowCount, firstDataIndex, dataCount }, small);
        isRight.add([entry.dataSector, entry.partialParityBytes, entry.dataBytes].join());
        // The kernel also takes partial parity of zeros where all chunks are modified.
        if (dataCount === 2) {
          isRight.add([entry.dataSector, rowCount * ROW_BYTES, entry.dataBytes].join());
        }
      }
    }
  }
  for (let row = 0; row < 12; row += 1) {
    for (let partialParity = 0; partialParity < 5; partialParity += 1) {
      for (let data = 0; data < 8; data += 1) {
        const entry = {
          dataSector: row * 8,
          partialParityBytes: partialParity * ROW_BYTES,
          dataBytes: data * ROW_BYTES,
          parityRole: small.parityRole(Math.min(Math.floor(row / 4), 1)),
          checksum: 0,
        };
        const key = [entry.dataSector, entry.partialParityBytes, entry.dataBytes].join();
        const fault = checkPplEntry(entry, small, entry.parityRole);
        expect(`${key} ${fault === null}`).toBe(`${key} ${isRight.has(key)}`);
      }
    }
  }
});

// Area ---------------------------------------------------------------------------------------

test("ppl: space: as the kernel's, with room behind the last unit", () => {
  const superblock = testSuperblock(0, { policy: "ppl" });
  const sized = (sizeSectors: number, isMultiple = true) => {
    return pplSpaceOf({
      ...superblock,
      log: { kind: "ppl", offsetSectors: 8, sizeSectors, isMultiple },
    });
  };
  expect(pplSpaceOf(superblock)).toMatchObject({
    value: { offsetBytes: 8192, areaBytes: 1024 * KIB, isMultiple: true },
  });
  expect(sized(31)).toMatchObject({ ok: false, error: { kind: "space-too-small" } });
  expect(sized(32)).toMatchObject({ value: { isMultiple: false, partialParityBytesMax: 4096 } });
  expect(sized(39)).toMatchObject({ value: { areaBytes: 16 * KIB } });
  expect(sized(527)).toMatchObject({ value: { isMultiple: false } });
  expect(sized(528)).toMatchObject({
    value: { isMultiple: true, partialParityBytesMax: 128 * KIB },
  });
  expect(sized(2048, false)).toMatchObject({ value: { isMultiple: false } });
  expect(pplSpaceOf({ ...superblock, memberCount: 65 })).toMatchObject({
    error: { kind: "too-many-members" },
  });
  expect(pplSpaceOf({ ...superblock, level: 4 })).toMatchObject({ error: { kind: "wrong-level" } });
});

/** A unit with one entry of this many rows of partial parity, each row holding the generation. */
function unitOf(generation: number, rows: number): Uint8Array {
  const builder = builderFor(geometry.parityRole(2));
  builder.begin(ADDRESS, generation);
  const entry = entryOf(2, [0, rows], [0, 1]);
  const at = builder.partialParityAddress;
  memory.bytes.fill(generation, at, at + entry.partialParityBytes);
  entry.checksum = builder.partialParityChecksum(entry.partialParityBytes);
  builder.addEntry(entry);
  return memory.bytes.slice(ADDRESS, ADDRESS + builder.finish());
}

/** As the kernel finds it, with its mistake at the end of the area: the offset it would use. */
function kernelOffset(area: Uint8Array): number {
  let offset = 0;
  let previous = { offset: 0, generation: -1 };
  while (offset < area.length - PPL_HEADER_BYTES) {
    const decoded = decodePplHeader(area.subarray(offset, offset + PPL_HEADER_BYTES), READER);
    if (!decoded.ok || decoded.value.generation < previous.generation) return previous.offset;
    previous = { offset, generation: decoded.value.generation };
    offset += PPL_HEADER_BYTES;
    for (const { partialParityBytes } of decoded.value.entries) offset += partialParityBytes;
  }
  return offset;
}

/** What is on the disk when a write of `bytes` is torn: each sector old or new. */
function torn(area: Uint8Array, bytes: Uint8Array, offset: number, random: SeededRandom) {
  const disk = area.slice();
  // In runs of sectors: torn sector by sector, a write would hardly ever leave a header.
  let isNew = nextBelow(random, 2) === 0;
  for (let at = 0; at < bytes.length; at += 512) {
    if (nextBelow(random, 4) === 0) isNew = !isNew;
    if (isNew) disk.set(bytes.subarray(at, at + 512), offset + at);
  }
  return disk;
}

/** A torn write of unit `generation` may leave it, the unit before, or nothing; never an older one. */
function expectHarmless(disk: Uint8Array, generation: number, isAtStart: boolean): void {
  const scan = scanPplArea(disk, READER);
  if (!scan.ok) throw new Error(scan.error.detail);
  if (scan.value.kind === "none") {
    expect(isAtStart).toBe(true);
    return;
  }
  expect(scan.value.header.generation).toBeGreaterThanOrEqual(generation - 1);
  expect(scan.value.header.generation).toBeLessThanOrEqual(generation);
}

test.each([true, false])(
  "ppl: units lap after lap (multiple: %p): the last one is found, by us and by the kernel",
  (isMultiple) => {
    const random = new SeededRandom(3);
    const areaBytes = 64 * KIB;
    const space: PplSpace = {
      offsetBytes: 0,
      areaBytes,
      isMultiple,
      partialParityBytesMax: 16 * KIB,
    };
    const area = new Uint8Array(areaBytes);
    area.set(emptyPplHeader(SIGNATURE, crc32c));
    let endBytes = 0;
    let rewinds = 0;
    for (let generation = 1; generation < 250; generation += 1) {
      const unit = unitOf(generation, 1 + nextBelow(random, 4));
      const offset = nextPplUnitOffset(space, { endBytes, unitBytes: unit.length });
      if (needsHeaderFirst(space, { endBytes, offset })) {
        rewinds += 1;
        const header = unit.subarray(0, PPL_HEADER_BYTES);
        for (let round = 0; round < 8; round += 1) {
          expectHarmless(torn(area, header, offset, random), generation, true);
        }
        area.set(header, offset);
      }
      for (let round = 0; round < 8; round += 1) {
        expectHarmless(torn(area, unit, offset, random), generation, offset === 0);
      }
      area.set(unit, offset);
      endBytes = offset + unit.length;
      expect(scanPplArea(area, READER)).toMatchObject({
        value: { header: { generation }, offsetBytes: offset, entries: [{ isIntact: true }] },
      });
      expect(kernelOffset(area)).toBe(offset);
    }
    expect(rewinds > 20).toBe(isMultiple);
  },
);

test("ppl: going back to the start in one write, torn: an older unit is refused, never replayed", () => {
  const random = new SeededRandom(4);
  let refused = 0;
  for (let round = 0; round < 200; round += 1) {
    const area = new Uint8Array(64 * KIB);
    let offset = 0;
    for (let generation = 1; generation < 6; generation += 1) {
      const unit = unitOf(generation, 1);
      area.set(unit, offset);
      offset += unit.length;
    }
    const disk = torn(area, unitOf(6, 4), 0, random);
    if (scanPplArea(disk, READER).ok) {
      expectHarmless(disk, 6, true);
    } else {
      expect(scanPplArea(disk, READER)).toMatchObject({ error: { kind: "superseded" } });
      refused += 1;
    }
  }
  expect(refused).toBeGreaterThan(10);
});

test("ppl: an area without a unit: says why", () => {
  const area = new Uint8Array(64 * KIB);
  const reasonOf = (): unknown => {
    const scan = scanPplArea(area, READER);
    return scan.ok && scan.value.kind === "none" ? scan.value.reason : scan;
  };
  expect(reasonOf()).toBe("blank");
  area[5] = 1;
  expect(reasonOf()).toBe("bad-checksum");
  area.set(emptyPplHeader((SIGNATURE ^ 1) >>> 0, crc32c));
  expect(reasonOf()).toBe("foreign-signature");
  expect(scanPplArea(new Uint8Array(100), READER)).toMatchObject({ value: { kind: "none" } });
});

test("ppl: headers with a right checksum that cannot be believed: refused", () => {
  const sealed = (change: (view: DataView) => void): Uint8Array => {
    const area = new Uint8Array(64 * KIB);
    const header = { signature: SIGNATURE, generation: 1, entries: [right] };
    area.set(encodePplHeader(header, crc32c));
    const view = new DataView(area.buffer);
    change(view);
    view.setUint32(532, 0, true);
    view.setUint32(532, pplChecksum(area.subarray(0, PPL_HEADER_BYTES), crc32c), true);
    return area;
  };
  for (const [kind, change] of [
    ["bad-entry-count", (view: DataView) => view.setUint32(528, 149, true)],
    ["bad-entry-count", (view: DataView) => view.setUint32(528, 0xffffffff, true)],
    ["number-too-large", (view: DataView) => view.setUint32(524, 0xffffffff, true)],
    ["number-too-large", (view: DataView) => view.setUint32(540, 0xffffffff, true)],
    ["beyond-area", (view: DataView) => view.setUint32(544, 64 * KIB, true)],
    ["beyond-area", (view: DataView) => view.setUint32(544, 100, true)],
  ] as const) {
    expect(scanPplArea(sealed(change), READER)).toMatchObject({ ok: false, error: { kind } });
  }
  expect(
    scanPplArea(
      sealed(() => undefined),
      READER,
    ),
  ).toMatchObject({ value: { kind: "found" } });
});

test("ppl: random areas, whole or with sealed headers: a scan and a plan, or a refusal", () => {
  const random = new SeededRandom(9);
  const members = Array.from({ length: 4 }, () => memberWith());
  let planned = 0;
  let refused = 0;
  for (let round = 0; round < 3000; round += 1) {
    const area = new Uint8Array(32 * KIB);
    if (round % 3 === 0) fillRandom(random, area.subarray(0, 8 * KIB));
    const view = new DataView(area.buffer);
    for (let at = 0; at < area.length && round % 3 !== 0; at += PPL_HEADER_BYTES) {
      const count = nextBelow(random, 3);
      const entries = Array.from({ length: count }, () => {
        const first = nextBelow(random, 4);
        const extent = [first, 1 + nextBelow(random, 4 - first)] as const;
        const entry = entryOf(nextBelow(random, 8), extent, [nextBelow(random, 3), 1]);
        if (nextBelow(random, 4) === 0) entry.dataBytes = nextBelow(random, 64) * 2048;
        if (nextBelow(random, 4) === 0) entry.partialParityBytes = nextBelow(random, 32) * 2048;
        return entry;
      });
      const generation = nextBelow(random, 4);
      area.set(encodePplHeader({ signature: SIGNATURE, generation, entries }, crc32c), at);
    }
    if (round % 5 === 0) view.setUint8(nextBelow(random, area.length), 0x77);
    const scan = scanPplArea(area, READER);
    if (!scan.ok || scan.value.kind === "none") continue;
    const logRole = nextBelow(random, 4);
    const plan = planReplay({ entries: scan.value.entries, geometry, logRole, members });
    if (plan.ok) planned += 1;
    else refused += 1;
  }
  expect(planned).toBeGreaterThan(100);
  expect(refused).toBeGreaterThan(100);
});

// Replay -------------------------------------------------------------------------------------

function memberWith(options: Partial<ReplayMember> = {}): ReplayMember {
  return {
    dataOffsetSectors: 2048,
    recoveryOffsetSectors: null,
    badBlocks: new BadBlockLog(),
    ...options,
  };
}

function loaded(entry: PplEntry, partialParityOffset = 4096, isIntact = true): LoadedPplEntry {
  return { entry, partialParityOffset, isIntact };
}

/** "rows 0-1 recompute, ..." of an entry over stripe 2, rows 0 to 3, chunks 1 and 2. */
function replayed(members: readonly (ReplayMember | null)[]): string {
  const entries = [loaded(entryOf(2, [0, 4], [1, 2]))];
  const logRole = geometry.parityRole(2);
  const plan = planReplay({ entries, geometry, logRole, members });
  if (!plan.ok) throw new Error(plan.error.detail);
  return plan.value.steps
    .map(({ firstRow, rowCount, action, reason, partialParityOffset }) => {
      expect(partialParityOffset).toBe(4096 + firstRow * ROW_BYTES);
      return `${firstRow}+${rowCount} ${action} ${reason}`;
    })
    .join(", ");
}

test("ppl: replay: missing, rebuilding and bad chunks of the entry keep the parity of their rows", () => {
  const whole = Array.from({ length: 4 }, () => memberWith());
  const parity = geometry.parityRole(2);
  const [untouched, first, second] = [0, 1, 2].map((index) => geometry.dataRole(2, index));
  const sector = (2 * 16 * KIB) / 512;
  const bad = new BadBlockLog();
  bad.add(2048 + sector + 8 + 7, 2);
  expect(replayed(whole)).toBe("0+4 recompute all-present");
  expect(replayed(whole.with(untouched!, memberWith({ badBlocks: bad })))).toBe(
    "0+4 recompute all-present",
  );
  const without = (role: number) => (whole as (ReplayMember | null)[]).with(role, null);
  expect(replayed(without(untouched!))).toBe("0+4 recompute all-present");
  expect(replayed(without(first!))).toBe("0+4 keep data-missing");
  expect(replayed(without(second!))).toBe("0+4 keep data-missing");
  for (const [recoveryOffsetSectors, expected] of [
    [0, "0+4 keep data-missing"],
    [sector, "0+4 keep data-missing"],
    [sector + 8, "0+1 recompute all-present, 1+3 keep data-missing"],
    [sector + 15, "0+1 recompute all-present, 1+3 keep data-missing"],
    [sector + 32, "0+4 recompute all-present"],
  ] as const) {
    expect(replayed(whole.with(second!, memberWith({ recoveryOffsetSectors })))).toBe(expected);
  }
  expect(replayed(whole.with(first!, memberWith({ badBlocks: bad })))).toBe(
    "0+1 recompute all-present, 1+2 keep data-missing, 3+1 recompute all-present",
  );
  expect(replayed(whole.with(parity, memberWith({ badBlocks: bad })))).toBe(
    "0+1 recompute all-present, 1+2 keep parity-unknown, 3+1 recompute all-present",
  );
});

test("ppl: replay: a torn entry is left out, a wrong or overlapping one refuses the unit", () => {
  const members = Array.from({ length: 4 }, () => memberWith());
  const logRole = geometry.parityRole(2);
  const good = loaded(entryOf(2, [0, 2], [0, 1]));
  const whole = loaded(entryOf(6, [1, 3], [0, 3]));
  const planOf = (entries: readonly LoadedPplEntry[]) => {
    return planReplay({ entries, geometry, logRole, members });
  };
  const torn = loaded(entryOf(2, [2, 1], [1, 1]), 4096, false);
  expect(planOf([good, torn, whole])).toEqual({
    ok: true,
    value: {
      tornCount: 1,
      steps: [
        {
          ...pplExtentOf(good.entry, geometry),
          action: "recompute",
          reason: "all-present",
          partialParityOffset: 4096,
        },
        {
          ...pplExtentOf(whole.entry, geometry),
          action: "recompute",
          reason: "all-present",
          partialParityOffset: null,
        },
      ],
    },
  });
  const wrong = loaded(entryOf(3, [0, 1], [0, 1]));
  expect(planOf([good, wrong])).toMatchObject({ error: { kind: "wrong-log" } });
  const twice = loaded(entryOf(2, [1, 1], [2, 1]));
  expect(planOf([good, twice])).toMatchObject({ error: { kind: "overlapping-entries" } });
});

test("ppl: after replay (rule 6): clean, resync, degraded or refused", () => {
  const done: PplLogOutcome = { kind: "replayed", entryCount: 2, tornCount: 0 };
  const idle: PplLogOutcome = { kind: "replayed", entryCount: 0, tornCount: 0 };
  const torn: PplLogOutcome = { kind: "replayed", entryCount: 2, tornCount: 1 };
  const none: PplLogOutcome = { kind: "none" };
  const unusable: PplLogOutcome = { kind: "unusable" };
  for (const [logs, whole, checkpoint, degraded] of [
    [[done, done, done], "clean", "resync", "degraded"],
    [[done, idle, idle], "clean", "resync", "degraded"],
    [[idle, idle, idle], "resync", "resync", "degraded"],
    [[done, torn, done], "resync", "resync", "degraded"],
    [[done, none, done], "resync", "resync", "degraded"],
    [[none, none, none], "resync", "resync", "degraded"],
    [[done, unusable, done], "resync", "resync", "refuse"],
  ] as const) {
    expect(judgeReplay({ logs, resyncFromSector: 0, isDegraded: false })).toBe(whole);
    expect(judgeReplay({ logs, resyncFromSector: 128, isDegraded: false })).toBe(checkpoint);
    expect(judgeReplay({ logs, resyncFromSector: 0, isDegraded: true })).toBe(degraded);
    expect(judgeReplay({ logs, resyncFromSector: 128, isDegraded: true })).toBe("refuse");
  }
});
