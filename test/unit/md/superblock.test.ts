/**
 * Goal: a superblock is decoded exactly or refused with its own reason, whatever the bytes are.
 *
 * Method: one well-formed superblock; every mutation that Linux refuses (each with a right
 * checksum) is refused by name and those that Linux accepts are accepted; every single byte is
 * damaged once; seeded random bytes and random mutations never throw.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  Feature,
  featureMapOf,
  roleOf,
  SUPERBLOCK_BYTES,
  type Superblock,
  type SuperblockErrorKind,
  superblockChecksum,
} from "../../../src/md/superblock.ts";
import { uuidBytes } from "../../../src/md/uuid.ts";
import { TEST_DEVICE_BYTES, testSuperblock } from "../../helpers/md-members.ts";

const DEVICE_SECTORS = TEST_DEVICE_BYTES / 512;
type Mutate = (view: DataView) => void;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer);
}

/** The bytes with a mutation and a checksum that fits it, as far as there is one. */
function mutated(mutate: Mutate, superblock: Superblock = testSuperblock(1)): Uint8Array {
  const bytes = encodeSuperblock(superblock);
  const view = viewOf(bytes);
  mutate(view);
  const count = view.getUint32(220, true);
  if (count <= 1920) view.setUint32(216, superblockChecksum(bytes, count), true);
  return bytes;
}

function decode(bytes: Uint8Array, deviceBytes = TEST_DEVICE_BYTES) {
  return decodeSuperblock(bytes, { deviceBytes });
}

function kindOf(bytes: Uint8Array): SuperblockErrorKind | "ok" {
  const decoded = decode(bytes);
  if (decoded.ok) return "ok";
  expect(decoded.error.detail).toMatch(/^[A-Z].*\.$/);
  return decoded.error.kind;
}

const u32 =
  (offset: number, value: number): Mutate =>
  (view) =>
    view.setUint32(offset, value, true);
const u16 =
  (offset: number, value: number): Mutate =>
  (view) =>
    view.setUint16(offset, value, true);
const u64 =
  (offset: number, value: bigint): Mutate =>
  (view) =>
    view.setBigUint64(offset, value, true);

const REFUSED: readonly (readonly [string, SuperblockErrorKind, Mutate])[] = [
  ["no magic", "no-magic", u32(0, 0xa92b4efd)],
  ["all zeros", "no-magic", (view) => new Uint8Array(view.buffer).fill(0)],
  ["major version 0", "wrong-version", u32(4, 0)],
  ["major version 2", "wrong-version", u32(4, 2)],
  ["pad0", "bad-padding", u32(12, 1)],
  ["pad3, first byte", "bad-padding", (view) => view.setUint8(228, 1)],
  ["pad3, last byte", "bad-padding", (view) => view.setUint8(255, 1)],
  ["logical block size 1024", "bad-padding", u32(224, 1024)],
  ["feature bit 13", "unknown-feature", u32(8, 0x2000)],
  ["feature bit 31", "unknown-feature", u32(8, 0x8000_0000)],
  ["RAID0 layout at level 5", "unknown-feature", u32(8, Feature.raid0Layout)],
  ["bitmap and PPL", "conflicting-features", u32(8, Feature.bitmap | Feature.ppl)],
  ["journal and PPL", "conflicting-features", u32(8, Feature.journal | Feature.multiplePpls)],
  ["both PPL bits", "conflicting-features", u32(8, Feature.ppl | Feature.multiplePpls)],
  ["max_dev 1921", "too-many-devices", u32(220, 1921)],
  ["max_dev 2^32 - 1", "too-many-devices", u32(220, 0xffff_ffff)],
  ["super_offset 0", "wrong-location", u64(144, 0n)],
  ["super_offset 9", "wrong-location", u64(144, 9n)],
  ["data_offset inside of the superblock", "bad-data-area", u64(128, 8n)],
  ["data_size 9", "bad-data-area", u64(136, 9n)],
  ["data_size a sector too large", "data-beyond-device", u64(136, BigInt(DEVICE_SECTORS - 2047))],
  ["data_offset at the end", "data-beyond-device", u64(128, BigInt(DEVICE_SECTORS))],
  ["bblog_size 9", "bad-bad-block-log", u16(186, 9)],
  ["bblog_shift 1", "bad-bad-block-log", (view) => view.setUint8(185, 1)],
  [
    "bad blocks without a log",
    "bad-bad-block-log",
    (view) => {
      view.setUint32(8, Feature.badBlocks, true);
      view.setInt32(188, 0, true);
    },
  ],
  ["bad-block log in the superblock", "areas-overlap", u32(188, 0xffff_ffff)],
  ["bad-block log in the data", "areas-overlap", u32(188, 2048)],
  ["bad-block log behind the device", "areas-overlap", u32(188, 0x7fff_0000)],
  [
    "bitmap in the data",
    "areas-overlap",
    (view) => {
      view.setUint32(8, Feature.bitmap, true);
      view.setInt32(96, 4096, true);
    },
  ],
  [
    "PPL over the bad-block log",
    "areas-overlap",
    (view) => {
      view.setUint32(8, Feature.multiplePpls, true);
      view.setInt16(96, 8, true);
      view.setUint16(98, 16, true);
    },
  ],
  [
    "PPL before the superblock",
    "areas-overlap",
    (view) => {
      view.setUint32(8, Feature.ppl, true);
      view.setInt16(96, -16, true);
      view.setUint16(98, 8, true);
    },
  ],
  [
    "a bad-block log of one sector, whose row reaches into the data",
    "areas-overlap",
    (view) => {
      view.setUint16(186, 1, true);
      view.setInt32(188, 2048 - 8 - 1, true);
    },
  ],
  [
    "a bad-block log in the row of the superblock",
    "areas-overlap",
    (view) => {
      view.setUint16(186, 1, true);
      view.setInt32(188, 4, true);
    },
  ],
  ["raid_disks 2^24", "out-of-range", u32(92, 2 ** 24)],
  ["raid_disks 1921", "out-of-range", u32(92, 1921)],
  ["size 2^63", "number-too-large", u64(80, 2n ** 63n)],
  ["events 2^64 - 1", "number-too-large", u64(200, 2n ** 64n - 1n)],
  ["data_offset 2^60", "number-too-large", u64(128, 2n ** 60n)],
  ["resync_offset 2^64 - 2", "number-too-large", u64(208, 2n ** 64n - 2n)],
];

test.each(REFUSED)("superblock: %s: refused as %s", (_, kind, mutate) => {
  expect(kindOf(mutated(mutate))).toBe(kind);
});

const ACCEPTED: readonly (readonly [string, Mutate])[] = [
  ["dev_number 100 without a role", u32(160, 100)],
  ["dev_number beyond dev_roles", u32(160, 5000)],
  ["max_dev 3", u32(220, 3)],
  ["max_dev 4", u32(220, 4)],
  ["no bad-block log", u16(186, 0)],
  ["logical block size 4096", u32(224, 4096)],
  ["logical block size 512", u32(224, 512)],
  ["data_offset not in whole rows", u64(128, 2047n)],
  ["level 6", u32(72, 6)],
  ["level -1", u32(72, 0xffff_ffff)],
  ["an empty name", (view) => new Uint8Array(view.buffer).fill(0, 32, 64)],
  ["a name of 32 bytes that are no text", (view) => new Uint8Array(view.buffer).fill(0xff, 32, 64)],
  ["old reshape fields", u64(104, 2n ** 64n - 1n)],
  ["an old recovery_offset without its bit", u64(152, 20_608n)],
  ["an old bitmap_offset without its bit", u32(96, 8)],
  ["times of the year 36812", u64(64, 2n ** 40n - 1n)],
];

test.each(ACCEPTED)("superblock: %s: accepted and encoded to the same bytes", (_, mutate) => {
  const bytes = mutated(mutate);
  // Roles behind a shorter dev_roles are not covered by the checksum, and not kept.
  bytes.fill(0, 256 + 2 * viewOf(bytes).getUint32(220, true));
  const decoded = decode(bytes);
  if (!decoded.ok) throw new Error(decoded.error.detail);
  expect(encodeSuperblock(decoded.value)).toEqual(bytes);
});

test("superblock: any damaged byte that the checksum covers: refused", () => {
  const good = encodeSuperblock(testSuperblock(1));
  for (let offset = 0; offset < 512; offset += 1) {
    const bytes = good.slice();
    bytes[offset]! ^= 0x40;
    expect(kindOf(bytes)).not.toBe("ok");
  }
});

test("superblock: a damaged byte behind dev_roles: of no interest", () => {
  const bytes = encodeSuperblock(testSuperblock(1));
  bytes[512] = 1;
  expect(kindOf(bytes)).toBe("ok");
});

test("superblock: fewer bytes than a superblock can take: refused", () => {
  expect(kindOf(encodeSuperblock(testSuperblock(1)).slice(0, 4095))).toBe("too-short");
});

test("superblock: a checksum with a trailing u16: adds it, and folds the carry once", () => {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, 0xffff_ffff, true);
  view.setUint32(4, 0xffff_ffff, true);
  view.setUint16(256, 0x1234, true);
  view.setUint32(216, 0xdead_beef, true); // The checksum's own word does not count.
  expect(superblockChecksum(bytes, 1)).toBe(0x1234);
  expect(superblockChecksum(bytes, 0)).toBe(0xffff_ffff);
});

test("superblock: feature bits: follow from the fields that they announce", () => {
  const plain = testSuperblock(0);
  expect(featureMapOf(plain)).toBe(0);
  expect(featureMapOf({ ...plain, recoveryOffsetSectors: 0 })).toBe(Feature.recoveryOffset);
  expect(featureMapOf({ ...plain, hasBadBlocks: true })).toBe(Feature.badBlocks);
  expect(featureMapOf(testSuperblock(0, { policy: "bitmap" }))).toBe(Feature.bitmap);
  expect(featureMapOf(testSuperblock(0, { policy: "ppl" }))).toBe(Feature.multiplePpls);
});

test.each([
  { recoveryOffsetSectors: 0 },
  { recoveryOffsetSectors: 20_480 },
  { resyncOffsetSectors: 0 },
  { resyncOffsetSectors: 2 ** 33 },
  { hasBadBlocks: true },
  { otherFeatures: Feature.recoveryBitmap, recoveryOffsetSectors: 128 },
  { log: { kind: "bitmap", offsetSectors: 8 } },
  { log: { kind: "ppl", offsetSectors: 24, sizeSectors: 1024, isMultiple: false } },
  { events: 2 ** 43 },
  { correctedReadSectors: 8, deviceFlags: 2 },
] satisfies Partial<Superblock>[])("superblock: %j: comes back as it was", (fields) => {
  const superblock: Superblock = { ...testSuperblock(2), ...fields };
  expect(decode(encodeSuperblock(superblock))).toEqual({ ok: true, value: superblock });
});

test("superblock: recovery_offset of all ones with its bit: all of the member is filled", () => {
  const rebuilding = { ...testSuperblock(2), recoveryOffsetSectors: 0 };
  const decoded = decode(mutated(u64(152, 2n ** 64n - 1n), rebuilding));
  expect(decoded).toMatchObject({
    ok: true,
    value: { recoveryOffsetSectors: rebuilding.sizeSectors },
  });
});

test("superblock: a device number without an entry in dev_roles: a spare", () => {
  expect(roleOf(testSuperblock(0), 5000)).toBe(0xffff);
});

test("uuid: text and bytes: in the order and the groups of md", () => {
  expect([...uuidBytes("00010203:04050607:08090a0b:0c0d0eff")]).toEqual([
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255,
  ]);
});

test("superblock: 4000 seeded mutations, checksum right: never a throw, exact if accepted", () => {
  const random = new SeededRandom(20_261_122);
  let accepted = 0;
  for (let round = 0; round < 4000; round += 1) {
    const bytes = mutated((view) => {
      const changes = 1 + nextBelow(random, 4);
      for (let change = 0; change < changes; change += 1) {
        view.setUint8(8 + nextBelow(random, 280), random.nextU32() & 0xff);
      }
    });
    const decoded = decode(bytes);
    if (!decoded.ok) continue;
    accepted += 1;
    const again = decode(encodeSuperblock(decoded.value));
    expect(again).toEqual(decoded);
  }
  expect(accepted).toBeGreaterThan(400);
});

test("superblock: 2000 seeded blocks of random bytes behind the magic: never a throw", () => {
  const random = new SeededRandom(7);
  for (let round = 0; round < 2000; round += 1) {
    const bytes = new Uint8Array(SUPERBLOCK_BYTES);
    for (let offset = 0; offset < bytes.length; offset += 4) {
      viewOf(bytes).setUint32(offset, random.nextU32(), true);
    }
    u32(0, 0xa92b4efc)(viewOf(bytes));
    u32(4, 1)(viewOf(bytes));
    u32(220, nextBelow(random, 2000))(viewOf(bytes));
    const count = viewOf(bytes).getUint32(220, true);
    if (count <= 1920) u32(216, superblockChecksum(bytes, count))(viewOf(bytes));
    expect(kindOf(bytes)).not.toBe("ok");
  }
});
