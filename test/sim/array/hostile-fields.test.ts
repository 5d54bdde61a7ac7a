/**
 * Goal R29: every number on disk at every edge of its range is refused in words, or the array is
 * right: never an assertion, never a loop over what a drive claims.
 *
 * Method: enumeration from the table of ranges (md/field-ranges.ts). Each field of the superblock,
 * of the bitmap, of the partial parity log and of the bad-block log gets each edge (both ends of
 * both ranges and their neighbours, 0, 1, all ones, the edges of signs, and what stands in the
 * fields beside it), with the checksum made right: on one member, on all, and on a spare. Each such
 * set is examined, attached, started (also with force), written to in whole stripes and in parts,
 * loses a member, is read and written degraded, rebuilds onto the spare, is stopped and started
 * again. What was never written must read zeros, which any metadata in the wrong place breaks.
 *
 * A day takes its share of the cases, and always those that were met once; 96 days in a row take
 * all.
 */
import { expect, test } from "bun:test";
import { EIO } from "../../../src/base/errno.ts";
import { err, ok } from "../../../src/base/result.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import type { ConsistencyPolicy } from "../../../src/md/create.ts";
import { examineMember, renderMember } from "../../../src/md/examine/member.ts";
import {
  BITMAP_RANGES,
  type FieldRange,
  PPL_ENTRY_RANGES,
  PPL_HEADER_RANGES,
  type Range,
  SUPERBLOCK_RANGES,
} from "../../../src/md/field-ranges.ts";
import {
  encodePplHeader,
  PPL_HEADER_BYTES,
  pplChecksum,
  pplSignature,
} from "../../../src/md/ppl.ts";
import {
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
  superblockChecksum,
} from "../../../src/md/superblock.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { crc32c } from "../../helpers/crc32c.ts";
import { TEST_ARRAY_UUID, testSuperblock } from "../../helpers/md-members.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { simMembers, withSuperblock } from "../../helpers/sim-members.ts";
import { blankImage, type DeviceImage, patchImage, readImage } from "../world/media.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { SimWorld } from "../world/sim-world.ts";

const NAME = "tank";
const MEMBERS = 3;
const CHUNK_BYTES = 8 * KIB;
const STRIPES = 6;
const DEVICE_BYTES = 3 * MIB;
const SIZE_SECTORS = (STRIPES * CHUNK_BYTES) / 512;
const STRIPE_BYTES = (MEMBERS - 1) * CHUNK_BYTES;
const POLICIES = ["resync", "bitmap", "ppl"] as const;
/** Processor time of one case: a set of small drives, of which nothing may make more. */
const CASE_MS_MAX = 5_000;

type Target = "one" | "all" | "spare";

interface Case {
  readonly policy: ConsistencyPolicy;
  readonly isDirty: boolean;
  readonly row: FieldRange;
  readonly value: bigint;
  readonly target: Target;
}

const BYTES_OF = { u8: 1, u16: 2, s16: 2, u32: 4, s32: 4, u40: 5, u64: 8 } as const;

/** Every number, as the bits of its field, that some check may get wrong. */
function edgesOf(row: FieldRange): bigint[] {
  const bits = BigInt(8 * BYTES_OF[row.type]);
  const all = (1n << bits) - 1n;
  const edges = new Set([0n, 1n, 2n, all, all - 1n, all >> 1n, (all >> 1n) + 1n]);
  const ranges: readonly Range[] = row.runs === undefined ? [row.format] : [row.format, row.runs];
  for (const { min, max } of ranges) {
    for (const edge of [min, max]) {
      for (const step of [-1n, 0n, 1n])
        edges.add(BigInt.asUintN(Number(bits), BigInt(edge) + step));
    }
  }
  // What stands beside it: sizes, ends, and places of the other areas.
  const near = [8, 16, 24, 32, 64, 2048, 2304, SIZE_SECTORS, DEVICE_BYTES / 512, MEMBERS];
  for (const value of near) {
    for (const step of [-1, 0, 1]) edges.add(BigInt.asUintN(Number(bits), BigInt(value + step)));
  }
  for (const value of [-8n, -7n, -1n]) edges.add(BigInt.asUintN(Number(bits), value));
  if (row.allOnes === true) edges.add(all);
  return [...edges];
}

function put(bytes: Uint8Array, { offset, type }: FieldRange, value: bigint): void {
  for (let index = 0; index < BYTES_OF[type]; index += 1) {
    bytes[offset + index] = Number((value >> BigInt(8 * index)) & 0xffn);
  }
}

function seal(block: Uint8Array): void {
  const view = new DataView(block.buffer, block.byteOffset);
  const roleCount = view.getUint32(220, true);
  if (roleCount <= 1920) view.setUint32(216, superblockChecksum(block, roleCount), true);
}

function harmSuperblock(image: DeviceImage, { row, value }: Case): DeviceImage {
  const block = readImage(image, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES).slice();
  const view = new DataView(block.buffer);
  // The field counts only with its feature; of two bits the second is what arrays have today.
  const features = view.getUint32(8, true);
  const { when = 0 } = row;
  if ((features & when) === 0) view.setUint32(8, features | (when & 0xf7ff), true);
  put(block, row, value);
  seal(block);
  return patchImage(image, SUPERBLOCK_OFFSET_BYTES, block);
}

const SPARE_NUMBER = MEMBERS;

function soundImages({ policy, isDirty }: Pick<Case, "policy" | "isDirty">): DeviceImage[] {
  const fields = {
    sizeSectors: SIZE_SECTORS,
    resyncOffsetSectors: isDirty ? 0 : null,
  } satisfies Partial<Superblock>;
  const options = { memberCount: MEMBERS, chunkBytes: CHUNK_BYTES, policy, fields };
  const members = simMembers({ ...options, deviceBytes: DEVICE_BYTES });
  const spare = {
    ...testSuperblock(SPARE_NUMBER, { ...options, deviceBytes: DEVICE_BYTES }),
    ...fields,
  };
  const blank = blankImage({ name: "spare", sizeBytes: DEVICE_BYTES });
  // First, so that it is there when the array is assembled: one that comes later is laid out anew.
  return [withSuperblock(blank, spare), ...members];
}

function isTarget(index: number, target: Target): boolean {
  if (target === "spare") return index === 0;
  return target === "all" ? index > 0 : index === 2;
}

function examine(image: DeviceImage): void {
  const report = examineMember({
    path: image.name,
    deviceBytes: image.sizeBytes,
    read: (offset, bytes) => {
      if (offset < 0 || bytes > 64 * MIB) return err("beyond what may be read");
      return ok(readImage(image, offset, Math.min(bytes, image.sizeBytes - offset)));
    },
    crc32c,
    geometryOf: ({ memberCount, chunkSectors, layout, sizeSectors }) =>
      new Geometry({
        memberCount,
        chunkBytes: chunkSectors * 512,
        layout,
        memberSizeBytes: sizeSectors * 512,
      }),
  });
  if (!report.ok) expect(report.error).toMatch(/\.$/);
  else expect(renderMember(report.value).length).toBeLessThan(16 * KIB);
}

/** Served, or refused in a sentence; what is served is right, now and after a restart. */
function live(images: readonly DeviceImage[], mayLose: boolean): "refused" | "served" {
  for (const image of images) examine(image);
  const world = SimWorld.restart(images, { seed: 1 });
  const listed = world.must<"list-arrays">({ kind: "list-arrays" });
  expect(JSON.stringify(listed).length).toBeLessThan(MIB);
  const found = listed.find(({ uuid }) => uuid === TEST_ARRAY_UUID);
  if (found === undefined) return "refused";
  if (found.state === "inactive") {
    const plain = world.startArray({ array: NAME });
    const forced = plain.ok ? plain : world.startArray({ array: NAME, force: true });
    if (!forced.ok) {
      expect(forced.error.detail).toMatch(/[.:?] |\.$/);
      return "refused";
    }
  }
  const { sizeBytes } = world.status(NAME);
  const client = world.client(NAME);
  const expected = new Uint8Array(Math.min(sizeBytes, 2 * MIB));
  // A row may be lost to an entry of the log that came with the drive, or all of it is.
  const expectLoss = (from: SimWorld, status: number): void => {
    expect(status).toBe(EIO);
    const { state } = from.status(NAME);
    expect([mayLose || state === "failed" || state === "read-only", state]).toEqual([true, state]);
  };
  const read = (from: SimWorld): void => {
    const { status, data } = from.run(from.client(NAME).read(0, expected.length));
    if (status === 0) expect(Buffer.compare(data, expected)).toBe(0);
    else expectLoss(from, status);
  };
  const write = (offset: number, bytes: number, value: number): void => {
    const data = new Uint8Array(bytes).fill(value);
    if (offset + bytes > expected.length) return;
    const status = world.run(client.write(offset, data));
    if (status === 0) expected.set(data, offset);
    else expectLoss(world, status);
  };
  read(world);
  write(STRIPE_BYTES, STRIPE_BYTES, 1);
  write(3 * STRIPE_BYTES + 700, 3000, 2);
  read(world);
  world.call({ kind: "fail-member", array: NAME, drive: "m0" });
  read(world);
  write(2 * STRIPE_BYTES, 2 * STRIPE_BYTES, 3);
  write(100, 5000, 4);
  read(world);
  if (world.status(NAME).state !== "failed") world.settle({ array: NAME });
  read(world);
  world.must({ kind: "stop-array", array: NAME });
  const again = SimWorld.restart(world.images(), { seed: 2 });
  const started =
    again.status(NAME).state === "inactive" ? again.startArray({ array: NAME }) : null;
  if (started?.ok === false) expect(started.error.detail).toMatch(/[.:?] |\.$/);
  else read(again);
  return "served";
}

function describeCase({ policy, isDirty, row, value, target }: Case): string {
  return `${policy}${isDirty ? ", dirty" : ""}: ${row.field} = ${value} on ${target}`;
}

function runAll(
  cases: readonly Case[],
  harm: (image: DeviceImage, each: Case) => DeviceImage,
): void {
  const counts = { refused: 0, served: 0, unaligned: 0 };
  for (const each of cases) {
    const images = soundImages(each).map((image, index) => {
      return isTarget(index, each.target) ? harm(image, each) : image;
    });
    const before = process.cpuUsage();
    try {
      counts[live(images, each.row === BAD_BLOCK_ENTRY)] += 1;
    } catch (error) {
      // Simulated drives take whole rows only; real ones begin a request at any sector.
      if (each.value % 8n !== 0n && String(error).includes("requests begin on a row")) {
        counts.unaligned += 1;
        continue;
      }
      throw new Error(`${describeCase(each)}: ${String(error)}`, { cause: error });
    }
    const used = process.cpuUsage(before);
    const tookMs = (used.user + used.system) / 1000;
    expect([describeCase(each), tookMs < CASE_MS_MAX]).toEqual([describeCase(each), true]);
  }
  expect(counts.refused + counts.served + counts.unaligned).toBe(cases.length);
}

const DAYS = 96;

/** Runs this day's part of the cases. */
function runToday(what: string, cases: readonly Case[], harm: Parameters<typeof runAll>[1]): void {
  withShare(() => runAll(new Share(`hostile ${what}`, DAYS).of(cases), harm));
}

function casesOf(
  rows: Readonly<Record<string, FieldRange>>,
  { policy, isDirty }: Pick<Case, "policy" | "isDirty">,
  targets: readonly Target[] = ["one", "all", "spare"],
): Case[] {
  return Object.values(rows).flatMap((row) =>
    edgesOf(row).flatMap((value) =>
      targets.map((target): Case => ({ policy, isDirty, row, value, target })),
    ),
  );
}

/** Where the log of a member begins: the log of every member here does at the same place. */
function logOffset(policy: ConsistencyPolicy): number {
  const { log } = testSuperblock(0, { policy, deviceBytes: DEVICE_BYTES, chunkBytes: CHUNK_BYTES });
  if (log.kind === "none") throw new Error("a policy with a log");
  return SUPERBLOCK_OFFSET_BYTES + log.offsetSectors * 512;
}

function harmBitmap(image: DeviceImage, { row, value }: Case): DeviceImage {
  const offset = logOffset("bitmap");
  const header = readImage(image, offset, 4096).slice();
  put(header, row, value);
  return patchImage(image, offset, header);
}

/** A unit with one entry that fits, but for one number; its checksum is right. */
function harmPpl(image: DeviceImage, { row, value }: Case): DeviceImage {
  const member = Number(image.name.slice(1));
  const signature = pplSignature(TEST_ARRAY_UUID, crc32c);
  // Parity of stripe s of three lies on role 2 - s.
  const stripe = MEMBERS - 1 - member;
  const partialParity = new Uint8Array(4096);
  const entry = {
    dataSector: (stripe * STRIPE_BYTES) / 512,
    partialParityBytes: 4096,
    dataBytes: 4096,
    parityRole: member,
    checksum: pplChecksum(partialParity, crc32c),
  };
  const header = encodePplHeader({ signature, generation: 1, entries: [entry] }, crc32c);
  put(header, row, value);
  const view = new DataView(header.buffer);
  view.setUint32(532, 0, true);
  view.setUint32(532, pplChecksum(header.subarray(0, PPL_HEADER_BYTES), crc32c), true);
  return patchImage(image, logOffset("ppl"), header);
}

const BAD_BLOCK_ENTRY: FieldRange = {
  field: "bad-block entry",
  offset: 0,
  type: "u64",
  format: { min: 0, max: Number.MAX_SAFE_INTEGER },
};

/** A first sector and a length in one word: around the data, the ends of the device and of both. */
function badBlockCases(policy: ConsistencyPolicy, isDirty: boolean): Case[] {
  const { dataOffsetSectors } = testSuperblock(0, { policy, deviceBytes: DEVICE_BYTES });
  const end = dataOffsetSectors + SIZE_SECTORS;
  const places = [0, 8, 24, dataOffsetSectors, end, DEVICE_BYTES / 512, 2 ** 44, 2 ** 54 - 1];
  const sectors = places.flatMap((place) => [place - 9, place - 1, place, place + 1, place + 8]);
  const words = sectors
    .filter((sector) => sector >= 0 && sector < 2 ** 54)
    .flatMap((sector) => [0, 1, 8, 511, 512, 1023].map((length) => [sector, length] as const))
    .map(([sector, length]) => BigInt(sector) * 1024n + BigInt(length));
  return words.flatMap((value) =>
    (["one", "all"] as const).map((target): Case => {
      return { policy, isDirty, row: BAD_BLOCK_ENTRY, value, target };
    }),
  );
}

function harmBadBlocks(image: DeviceImage, { row, value }: Case): DeviceImage {
  const superblock = superblockOf(image);
  if (typeof superblock === "string") throw new Error(superblock);
  const marked = withSuperblock(image, { ...superblock, hasBadBlocks: true });
  const log = new Uint8Array(4096).fill(0xff);
  put(log, row, value);
  const offset = SUPERBLOCK_OFFSET_BYTES + superblock.badBlockLogOffsetSectors * 512;
  return patchImage(marked, offset, log);
}

/** Each of these ended the daemon, or kept it busy, before there was a table. */
const MET: readonly (readonly [ConsistencyPolicy, FieldRange, number, readonly Target[]])[] = [
  ["ppl", SUPERBLOCK_RANGES.pplSize, 8, ["one", "all", "spare"]],
  ["ppl", SUPERBLOCK_RANGES.pplSize, 0, ["one", "all", "spare"]],
  ["resync", SUPERBLOCK_RANGES.members, 2 ** 24, ["one", "all"]],
  ["resync", SUPERBLOCK_RANGES.members, 1920, ["one", "all"]],
  ["resync", SUPERBLOCK_RANGES.chunk, 2 ** 31, ["one", "all"]],
  ["resync", SUPERBLOCK_RANGES.devNumber, 2 ** 32 - 1, ["one", "all", "spare"]],
  ["resync", SUPERBLOCK_RANGES.dataSize, SIZE_SECTORS - 8, ["one", "all", "spare"]],
  ["bitmap", SUPERBLOCK_RANGES.events, 2 ** 52, ["one", "all"]],
];

for (const [policy, row, value, targets] of MET) {
  for (const target of targets) {
    const met: Case = { policy, isDirty: false, row, value: BigInt(value), target };
    test(`hostile fields: met once: ${describeCase(met)}: refused or right`, () => {
      runAll([met], harmSuperblock);
    });
  }
}

for (const policy of POLICIES) {
  for (const isDirty of [false, true]) {
    const state = isDirty ? "dirty" : "clean";
    test(`hostile fields: superblock, ${policy}, ${state}: refused or right`, () => {
      const cases = casesOf(SUPERBLOCK_RANGES, { policy, isDirty });
      runToday(`superblock ${policy} ${state}`, cases, harmSuperblock);
    });

    test(`hostile fields: bad-block log, ${policy}, ${state}: refused or right`, () => {
      const cases = badBlockCases(policy, isDirty);
      runToday(`bad-block log ${policy} ${state}`, cases, harmBadBlocks);
    });
  }
}

for (const isDirty of [false, true]) {
  test(`hostile fields: bitmap, ${isDirty ? "dirty" : "clean"}: refused or right`, () => {
    const cases = casesOf(BITMAP_RANGES, { policy: "bitmap", isDirty }, ["one", "all"]);
    runToday(`bitmap ${isDirty}`, cases, harmBitmap);
  });
}

test("hostile fields: partial parity log, dirty: refused or right", () => {
  const state = { policy: "ppl", isDirty: true } as const;
  const cases = [
    ...casesOf(PPL_HEADER_RANGES, state, ["one", "all"]),
    ...casesOf(PPL_ENTRY_RANGES, state, ["one", "all"]),
  ];
  runToday("partial parity log", cases, harmPpl);
});
