/**
 * Goal: content that somebody may want back is recognised, and an empty drive is not taken for any.
 * Method: each magic number at its place, on drives of several sizes; then each byte of it broken.
 * Places and values: the on-disk format documents and blkid's superblock probers. What the tools
 * themselves write is in drive-content.test.ts.
 */
import { expect, test } from "bun:test";
import { MAGIC_NUMBERS } from "../../../src/appliance/helper/magic-numbers.ts";
import { findSignature, PROBE_BYTES } from "../../../src/appliance/helper/signatures.ts";
import { KIB, MIB, roundDown } from "../../../src/base/units.ts";

type Patch = readonly [offset: number, bytes: readonly number[]];

const text = (value: string) => [...value].map((character) => character.charCodeAt(0));
const u32 = (value: number) => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

/** A drive of zeros with `patches`; offsets below zero count from the end. */
function probe(sizeBytes: number, patches: readonly Patch[]): string | null {
  const length = Math.min(PROBE_BYTES, sizeBytes);
  const tailOffset = sizeBytes - length;
  const head = new Uint8Array(length);
  const tail = new Uint8Array(length);
  for (const [offset, bytes] of patches) {
    const start = offset < 0 ? sizeBytes + offset : offset;
    for (const [index, byte] of bytes.entries()) {
      const at = start + index;
      if (at < length) head[at] = byte;
      if (at >= tailOffset) tail[at - tailOffset] = byte;
    }
  }
  return findSignature({ sizeBytes, head, tail, tailOffset });
}

const MD = [0xfc, 0x4e, 0x2b, 0xa9];
const OTHER =
  "parityd runs version 1.2 only: run that array with Linux, or copy its data to a new one";
const EXT_MAGIC: Patch = [0x438, [0x53, 0xef]];
const BOOT: Patch = [510, [0x55, 0xaa]];

const CASES: readonly (readonly [string, readonly Patch[]])[] = [
  [`a Linux RAID superblock of version 1.1 at its start; ${OTHER}`, [[0, [...MD, ...u32(1)]]]],
  ["a Linux RAID superblock of version 1.2 at 4 KiB", [[4096, [...MD, ...u32(1)]]]],
  [`a Linux RAID superblock of version 1.0 at its end; ${OTHER}`, [[-8 * KIB, [...MD, ...u32(1)]]]],
  [`a Linux RAID superblock of version 0.90 at its end; ${OTHER}`, [[-64 * KIB, MD]]],
  [`a Linux RAID superblock of version 0.90 at its end; ${OTHER}`, [[-64 * KIB, MD.toReversed()]]],
  ["a LUKS encrypted volume", [[0, text("LUKS\xba\xbe")]]],
  [
    "an LVM physical volume",
    [
      [512, text("LABELONE")],
      [536, text("LVM2 001")],
    ],
  ],
  ["a ZFS pool member", [[128 * KIB + 5 * KIB, u32(0x00bab10c)]]],
  ["a ZFS pool member", [[-128 * KIB + 4, [0x00, 0xba, 0xb1, 0x0c]]]],
  ["an ext2 file system", [EXT_MAGIC]],
  ["an ext3 file system", [EXT_MAGIC, [0x45c, [4]]]],
  ["an ext4 file system", [EXT_MAGIC, [0x45c, [4]], [0x460, [0x40]]]],
  ["an ext4 file system", [EXT_MAGIC, [0x464, [0x08]]]],
  ["an XFS file system", [[0, text("XFSB")]]],
  ["a btrfs file system", [[0x10040, text("_BHRfS_M")]]],
  ["swap space", [[4086, text("SWAPSPACE2")]]],
  ["swap space", [[65_526, text("SWAP-SPACE")]]],
  ["an Intel firmware RAID member", [[-1024, text("Intel Raid ISM Cfg Sig.")]]],
  ["a DDF RAID member", [[-512, [0xde, 0x11, 0xde, 0x11]]]],
  ["a GPT partition table", [[512, text("EFI PART")]]],
  ["a GPT partition table", [[4096, text("EFI PART")]]],
  ["a GPT partition table", [[-512, text("EFI PART")]]],
  ["an NTFS file system", [[3, text("NTFS    ")], BOOT]],
  ["an exFAT file system", [[3, text("EXFAT   ")], BOOT]],
  ["a FAT file system", [[54, text("FAT16   ")], BOOT]],
  ["a FAT file system", [[82, text("FAT32   ")], BOOT]],
  ["DRBD metadata", [[60 - 4096, [0x83, 0x74, 0x02, 0x6b]]]],
  ["DRBD metadata", [[60 - 4096, [0x83, 0x74, 0x02, 0x6d]]]],
  [
    "a Windows executable",
    [
      [0, text("MZ")],
      [60, u32(128)],
      [128, text("PE\0\0")],
    ],
  ],
  ["an MBR partition table", [[446, [0x80]], [450, [0x83]], [458, u32(2048)], BOOT]],
  ["an MBR partition table", [[494, [0x00]], [498, [0x07]], [506, u32(63)], BOOT]],
];

/** Each row of the table at each of its places. */
const ROWS = MAGIC_NUMBERS.flatMap(([expected, places, magic]) =>
  places.map((place) => [expected, [[place, text(magic)]]] as const),
);

for (const [expected, patches] of [...CASES, ...ROWS]) {
  test(`signatures: ${expected} (at ${patches[0]![0]}): is named on drives of any size`, () => {
    for (const sizeBytes of [MIB, 3 * MIB, 64 * MIB]) {
      expect(probe(sizeBytes, patches)).toBe(expected);
    }
  });
}

test("signatures: any byte of a magic number broken: another answer", () => {
  for (const [expected, patches] of [...CASES, ...ROWS]) {
    const [offset, bytes] = patches[0]!;
    for (const [index, byte] of bytes.entries()) {
      const broken = bytes.with(index, byte ^ 0xff);
      expect(probe(4 * MIB, [[offset, broken], ...patches.slice(1)])).not.toBe(expected);
    }
  }
});

test("signatures: zeros, or boot code without a table: nothing is known", () => {
  for (const sizeBytes of [4 * KIB, 64 * KIB, 300 * KIB, MIB, 5 * MIB]) {
    expect(probe(sizeBytes, [])).toBe(null);
  }
  expect(probe(4 * MIB, [BOOT])).toBe(null);
  expect(probe(4 * MIB, [BOOT, [446, [0x12]], [450, [0x83]], [458, u32(1)]])).toBe(null);
});

test("signatures: md superblocks near the end: found on sizes that are not round", () => {
  for (const sizeBytes of [8 * MIB + 512, 8 * MIB + 4608, 8 * MIB + 65_536 - 512]) {
    const sectors = sizeBytes / 512;
    const version10 = ((sectors - 16) & ~7) * 512;
    expect(probe(sizeBytes, [[version10, [...MD, ...u32(1)]]])).toContain("1.0");
    const version090 = roundDown(sizeBytes, 64 * KIB) - 64 * KIB;
    expect(probe(sizeBytes, [[version090, MD]])).toContain("0.90");
  }
});

test("signatures: a file system inside a RAID member: the RAID is named", () => {
  expect(probe(4 * MIB, [[4096, [...MD, ...u32(1)]], EXT_MAGIC])).toContain("Linux RAID");
});
