/**
 * Recognises what a drive already holds, by the magic numbers of file systems, partition tables,
 * volume managers, RAID superblocks, disk images, archives and documents. Pure: it sees the first
 * and the last mebibyte. What a number at a place tells stands in magic-numbers.ts; here is what
 * takes more than that.
 *
 * The answer is a noun for people, with its article, or null. Order matters where formats share
 * bytes: a FAT or NTFS boot sector also ends in 55 AA, so it comes before a partition table.
 */
import { KIB, roundDown, SECTOR_BYTES } from "../../base/units.ts";
import { MAGIC_NUMBERS } from "./magic-numbers.ts";

/** How much of either end of a drive is looked at. */
export const PROBE_BYTES = 1024 * KIB;

export interface ProbedEnds {
  readonly sizeBytes: number;
  /** The first bytes of the drive. */
  readonly head: Uint8Array;
  /** The last bytes of the drive, from `tailOffset` on; it may overlap `head`. */
  readonly tail: Uint8Array;
  readonly tailOffset: number;
}

const MD_MAGIC = 0xa92b4efc;
const EXT_MAGIC = 0xef53;
const ZFS_UBERBLOCK_MAGIC = 0x00bab10c;
const ZFS_LABEL_BYTES = 256 * KIB;

/** "an ext4 file system", "a GPT partition table", ... or null where nothing is known. */
export function findSignature(ends: ProbedEnds): string | null {
  const probe = new Probe(ends);
  for (const find of FINDERS) {
    const found = find(probe);
    if (found !== null) return found;
  }
  return null;
}

/** Reads at offsets of the drive; what neither end covers reads as nothing. */
class Probe {
  readonly sizeBytes: number;
  private readonly ends: ProbedEnds;

  constructor(ends: ProbedEnds) {
    this.ends = ends;
    this.sizeBytes = ends.sizeBytes;
  }

  byte(offset: number): number {
    const { head, tail, tailOffset } = this.ends;
    return head[offset] ?? tail[offset - tailOffset] ?? 0;
  }

  u16(offset: number): number {
    return this.byte(offset) + this.byte(offset + 1) * 2 ** 8;
  }

  u32(offset: number): number {
    return this.u16(offset) + this.u16(offset + 2) * 2 ** 16;
  }

  u32BigEndian(offset: number): number {
    const high = this.byte(offset) * 2 ** 8 + this.byte(offset + 1);
    return high * 2 ** 16 + this.byte(offset + 2) * 2 ** 8 + this.byte(offset + 3);
  }

  hasText(offset: number, text: string): boolean {
    for (let index = 0; index < text.length; index += 1) {
      if (this.byte(offset + index) !== text.charCodeAt(index)) return false;
    }
    return true;
  }
}

type Finder = (probe: Probe) => string | null;

const FINDERS: readonly Finder[] = [
  findMd,
  findLvm,
  findZfs,
  findExt,
  findSwap,
  findBiosRaid,
  findDrbd,
  findMagic,
  findExecutable,
  findGpt,
  findBootSector,
  findMbr,
];

/** The first row of the table that fits. */
function findMagic(probe: Probe): string | null {
  const end = roundDown(probe.sizeBytes, SECTOR_BYTES);
  for (const [found, places, magic] of MAGIC_NUMBERS) {
    for (const place of places) {
      const offset = place < 0 ? end + place : place;
      if (offset >= 0 && probe.hasText(offset, magic)) return found;
    }
  }
  return null;
}

/** DOS and Windows programs: the letters at their start are too few to go by. */
function findExecutable(probe: Probe): string | null {
  if (!probe.hasText(0, "MZ")) return null;
  return probe.hasText(probe.u32(0x3c), "PE\0\0") ? "a Windows executable" : null;
}

/** Its metadata lie in the last 4 KiB; the magic, big endian, is that of version 8 or 9. */
function findDrbd(probe: Probe): string | null {
  const magic = probe.u32BigEndian(roundDown(probe.sizeBytes, SECTOR_BYTES) - 4 * KIB + 60);
  return magic >= 0x8374026b && magic <= 0x8374026d ? "DRBD metadata" : null;
}

/** Linux RAID: 1.1 at 0, 1.2 at 4 KiB, 1.0 near the end, 0.90 in the last whole 64 KiB but one. */
function findMd(probe: Probe): string | null {
  const { sizeBytes } = probe;
  const places = [
    { version: "1.1", where: "at its start", offset: 0 },
    { version: "1.2", where: "at 4 KiB", offset: 4 * KIB },
    {
      version: "1.0",
      where: "at its end",
      offset: roundDown(sizeBytes, SECTOR_BYTES) - 8 * KIB,
    },
    { version: "0.90", where: "at its end", offset: roundDown(sizeBytes, 64 * KIB) - 64 * KIB },
  ];
  for (const { version, where, offset } of places) {
    // The 1.0 superblock lies on a multiple of 4 KiB.
    const start = roundDown(Math.max(offset, 0), 4 * KIB);
    const isOld = version === "0.90"; // It is in the byte order of the machine that made it.
    const isBigEndian = isOld && probe.u32BigEndian(start) === MD_MAGIC;
    if (probe.u32(start) !== MD_MAGIC && !isBigEndian) continue;
    if (probe.u32(start + 4) !== (isOld ? 0 : 1)) continue;
    const found = `a Linux RAID superblock of version ${version} ${where}`;
    return version === "1.2" ? found : `${found}; ${OTHER_VERSION}`;
  }
  return null;
}

const OTHER_VERSION =
  "parityd runs version 1.2 only: run that array with Linux, or copy its data to a new one";

/** An LVM label stands in one of the first four sectors. */
function findLvm(probe: Probe): string | null {
  for (let sector = 0; sector < 4; sector += 1) {
    const offset = sector * SECTOR_BYTES;
    const isLabel = probe.hasText(offset, "LABELONE") && probe.hasText(offset + 24, "LVM2 001");
    if (isLabel) return "an LVM physical volume";
  }
  return null;
}

/** Uberblocks fill the second half of each label, 1 KiB apart; two labels stand at either end. */
function findZfs(probe: Probe): string | null {
  const end = roundDown(probe.sizeBytes, ZFS_LABEL_BYTES);
  const labels = [0, ZFS_LABEL_BYTES, end - 2 * ZFS_LABEL_BYTES, end - ZFS_LABEL_BYTES];
  for (const label of labels) {
    if (label < 0) continue;
    for (let offset = ZFS_LABEL_BYTES / 2; offset < ZFS_LABEL_BYTES; offset += KIB) {
      const start = label + offset;
      const little = probe.u32(start) === ZFS_UBERBLOCK_MAGIC && probe.u32(start + 4) === 0;
      const big = probe.u32(start) === 0 && probe.u32BigEndian(start + 4) === ZFS_UBERBLOCK_MAGIC;
      if (little || big) return "a ZFS pool member";
    }
  }
  return null;
}

/** The superblock at 1 KiB is one format; its feature bits tell the generations apart. */
function findExt(probe: Probe): string | null {
  const superblock = KIB;
  if (probe.u16(superblock + 0x38) !== EXT_MAGIC) return null;
  const hasJournal = (probe.u32(superblock + 0x5c) & 0x4) !== 0;
  const incompatible = probe.u32(superblock + 0x60);
  const readOnlyCompatible = probe.u32(superblock + 0x64);
  // Extents, 64-bit or flexible groups; any read-only feature beyond ext3's three.
  if ((incompatible & 0x2c0) !== 0 || readOnlyCompatible > 7) return "an ext4 file system";
  return hasJournal ? "an ext3 file system" : "an ext2 file system";
}

/** The magic ends the first page, whose size depends on the machine that made it. */
function findSwap(probe: Probe): string | null {
  for (const pageBytes of [4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB]) {
    const offset = pageBytes - 10;
    if (probe.hasText(offset, "SWAPSPACE2") || probe.hasText(offset, "SWAP-SPACE")) {
      return "swap space";
    }
  }
  return null;
}

function findBiosRaid(probe: Probe): string | null {
  const end = roundDown(probe.sizeBytes, SECTOR_BYTES);
  if (probe.hasText(end - 2 * SECTOR_BYTES, "Intel Raid ISM Cfg Sig.")) {
    return "an Intel firmware RAID member";
  }
  return probe.u32BigEndian(end - SECTOR_BYTES) === 0xde11de11 ? "a DDF RAID member" : null;
}

/** The header is the second logical block; its copy is the last one. */
function findGpt(probe: Probe): string | null {
  for (const blockBytes of [512, 4096]) {
    const lastBlock = roundDown(probe.sizeBytes, blockBytes) - blockBytes;
    if (probe.hasText(blockBytes, "EFI PART") || probe.hasText(lastBlock, "EFI PART")) {
      return "a GPT partition table";
    }
  }
  return null;
}

function findBootSector(probe: Probe): string | null {
  if (probe.u16(510) !== 0xaa55) return null;
  if (probe.hasText(3, "NTFS    ")) return "an NTFS file system";
  if (probe.hasText(3, "EXFAT   ")) return "an exFAT file system";
  const isFat = ["FAT12   ", "FAT16   ", "FAT     "].some((text) => probe.hasText(54, text));
  return isFat || probe.hasText(82, "FAT32   ") ? "a FAT file system" : null;
}

/** 55 AA alone is also boot code; a table has an entry with a type and a sane boot flag. */
function findMbr(probe: Probe): string | null {
  if (probe.u16(510) !== 0xaa55) return null;
  for (let entry = 446; entry < 510; entry += 16) {
    const isBootFlagSane = (probe.byte(entry) & 0x7f) === 0;
    const isUsed = probe.byte(entry + 4) !== 0 && probe.u32(entry + 12) !== 0;
    if (isBootFlagSane && isUsed) return "an MBR partition table";
  }
  return null;
}
