/**
 * The md v1.2 superblock: what each member knows of the array, at byte 4096 of the member.
 *
 * All fields are little-endian; offsets and sizes on disk and in `Superblock` are in sectors.
 *
 *   byte  type   field (md's name)          byte  type   field (md's name)
 *      0  u32    magic 0xa92b4efc            152  u64    recovery_offset, or journal_tail
 *      4  u32    major_version 1             160  u32    dev_number: index in dev_roles
 *      8  u32    feature_map                 164  u32    cnt_corrected_read, in sectors
 *     12  u32    pad0, zero                  168  16 B   device_uuid
 *     16  16 B   set_uuid                    184  u8     devflags
 *     32  32 B   set_name, NUL padded        185  u8     bblog_shift
 *     64  u64    ctime: 40 bits s, 24 us     186  u16    bblog_size
 *     72  s32    level                       188  s32    bblog_offset, from the superblock
 *     76  u32    layout                      192  u64    utime, as ctime
 *     80  u64    size: used of each member   200  u64    events
 *     88  u32    chunksize                   208  u64    resync_offset, all ones: clean
 *     92  u32    raid_disks                  216  u32    sb_csum
 *     96  s32    bitmap_offset, from the     220  u32    max_dev: length of dev_roles
 *                superblock; or s16 offset   224  u32    logical_block_size (Linux 6.19), or 0
 *                and u16 size of the PPL     228  28 B   pad3, zero
 *    100  28 B   reshape fields              256  u16[]  dev_roles, max_dev of them
 *    128  u64    data_offset
 *    136  u64    data_size                   0..0xfeff a role, 0xffff spare or unused,
 *    144  u64    super_offset 8              0xfffe faulty, 0xfffd journal device
 *
 * The checksum adds the u32 words of the 256 + 2 * max_dev bytes and folds the carry in once.
 * Source: include/uapi/linux/raid/md_p.h and super_1_load() in drivers/md/md.c of Linux 6.1.
 */
import { assert } from "../base/assert.ts";
import { err, ok, type Result } from "../base/result.ts";
import { SECTOR_BYTES } from "../base/units.ts";
import {
  DEV_ROLES_MAX,
  findSuperblockFault,
  isAllOnes,
  SECTOR_MAX,
  SUPERBLOCK_RANGES,
} from "./field-ranges.ts";
import { readU64, viewOf, writeU64 } from "./little-endian.ts";
import { checkAreas } from "./superblock-areas.ts";
import {
  DERIVED_FEATURES,
  Feature,
  superblockFault as fault,
  featureMapOf,
  HEADER_BYTES,
  KNOWN_FEATURES,
  MAGIC,
  type MdTime,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
  type SuperblockError,
  type SuperblockErrorKind,
  type SuperblockLog,
} from "./superblock-fields.ts";
import { decodeUuid, encodeUuid } from "./uuid.ts";

export {
  Feature,
  featureMapOf,
  isReplacement,
  MAGIC,
  type MdTime,
  Role,
  roleOf,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
  type SuperblockError,
  type SuperblockErrorKind,
  type SuperblockLog,
} from "./superblock-fields.ts";

/** What a number out of its range is told as, where that says more than that it is out of it. */
const FAULT_KINDS: Readonly<Record<string, SuperblockErrorKind>> = {
  [SUPERBLOCK_RANGES.badBlockShift.field]: "bad-bad-block-log",
  [SUPERBLOCK_RANGES.badBlockSectors.field]: "bad-bad-block-log",
  [SUPERBLOCK_RANGES.logicalBlock.field]: "bad-padding",
};

/** md's calc_sb_1_csum: over the header and dev_roles, with the checksum's own word taken as 0. */
export function superblockChecksum(bytes: Uint8Array, devRoleCount: number): number {
  assert(devRoleCount <= DEV_ROLES_MAX, "dev_roles fits into the superblock");
  const end = HEADER_BYTES + 2 * devRoleCount;
  assert(bytes.length >= end, "the buffer holds all of dev_roles");
  const view = viewOf(bytes);
  let sum = 0; // At most 1024 words of 32 bits: far below 2^53.
  for (let offset = 0; offset + 4 <= end; offset += 4) {
    if (offset !== 216) sum += view.getUint32(offset, true);
  }
  if (end % 4 === 2) sum += view.getUint16(end - 2, true);
  return ((sum % 2 ** 32) + Math.floor(sum / 2 ** 32)) % 2 ** 32;
}

/**
 * Decodes the `SUPERBLOCK_BYTES` that were read at `SUPERBLOCK_OFFSET_BYTES` of a device. Refuses
 * what the kernel refuses of one member, and areas that would have us write over data. Whether
 * the members make an array is for `assemble.ts` to judge.
 */
export function decodeSuperblock(
  bytes: Uint8Array,
  { deviceBytes }: { deviceBytes: number },
): Result<Superblock, SuperblockError> {
  const unusable = checkEnvelope(bytes);
  if (unusable !== null) return err(unusable);
  const view = viewOf(bytes);
  const superblock = readFields(bytes, view);
  const misplaced = checkAreas(superblock, Math.floor(deviceBytes / SECTOR_BYTES));
  if (misplaced !== null) return err(misplaced);
  assert(featureMapOf(superblock) === view.getUint32(8, true), "each feature stands in its field");
  assert(superblock.devRoles.length === view.getUint32(220, true), "no role is lost");
  return ok(superblock);
}

/** Whose member the bytes say that the device is: for messages, and to be believed in nothing. */
export interface MemberClaim {
  readonly arrayUuid: string;
  /** One of `Role` where it is no member. */
  readonly role: number;
}

/** What a superblock claims that `decodeSuperblock` refused; null: nothing that can be read. */
export function claimOf(bytes: Uint8Array): MemberClaim | null {
  if (bytes.length < SUPERBLOCK_BYTES) return null;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== MAGIC || view.getUint32(4, true) !== 1) return null;
  const devNumber = view.getUint32(160, true);
  if (devNumber >= Math.min(view.getUint32(220, true), DEV_ROLES_MAX)) return null;
  const role = view.getUint16(HEADER_BYTES + 2 * devNumber, true);
  return { arrayUuid: decodeUuid(bytes, 16), role };
}

/** Everything that must hold before a field can be believed. */
function checkEnvelope(bytes: Uint8Array): SuperblockError | null {
  if (bytes.length < SUPERBLOCK_BYTES) {
    return fault("too-short", "The device is too small to hold an md superblock.");
  }
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== MAGIC) {
    return fault("no-magic", "There is no md v1.2 superblock at byte 4096 of the device.");
  }
  const major = view.getUint32(4, true);
  if (major !== 1) {
    return fault("wrong-version", `The superblock has major version ${major}; only 1.2 is known.`);
  }
  const devRoleCount = view.getUint32(220, true);
  if (devRoleCount > DEV_ROLES_MAX) {
    return fault(
      "too-many-devices",
      `The superblock claims room for ${devRoleCount} devices; the most is ${DEV_ROLES_MAX}.`,
    );
  }
  const found = view.getUint32(216, true);
  const expected = superblockChecksum(bytes, devRoleCount);
  if (found !== expected) {
    return fault(
      "bad-checksum",
      `The superblock has checksum ${found.toString(16)} where its content gives ` +
        `${expected.toString(16)}: it is torn or damaged.`,
    );
  }
  return checkMeaning(view);
}

function checkMeaning(view: DataView): SuperblockError | null {
  const superOffset = readU64(view, 144);
  if (superOffset !== SUPERBLOCK_OFFSET_SECTORS) {
    return fault(
      "wrong-location",
      `The superblock says that it lies at sector ${superOffset}, but it was found at sector ` +
        `${SUPERBLOCK_OFFSET_SECTORS}: the device is a shifted copy, or of format 1.0 or 1.1.`,
    );
  }
  if (view.getUint32(12, true) !== 0 || !isZero(view, 228, HEADER_BYTES)) {
    return fault("bad-padding", "The superblock has data where md v1.2 has only zeros.");
  }
  const features = view.getUint32(8, true);
  return checkFeatures(features, view.getInt32(72, true)) ?? checkNumbers(view, features);
}

function checkNumbers(view: DataView, features: number): SuperblockError | null {
  const wrong = findSuperblockFault(view, features);
  if (wrong === null) return null;
  const { field, type } = wrong.row;
  const kind = FAULT_KINDS[field] ?? (type === "u64" ? "number-too-large" : "out-of-range");
  const what = kind === "bad-bad-block-log" ? "describes a bad-block log with" : "has";
  return fault(kind, `The superblock ${what} ${wrong.text}: it is damaged.`);
}

function checkFeatures(features: number, level: number): SuperblockError | null {
  const unknown = features & ~KNOWN_FEATURES;
  if (unknown !== 0 || ((features & Feature.raid0Layout) !== 0 && level !== 0)) {
    return fault(
      "unknown-feature",
      `The superblock uses features that parityd does not know (feature map ` +
        `0x${features.toString(16)}, unknown 0x${((unknown || Feature.raid0Layout) >>> 0).toString(16)}).`,
    );
  }
  const ppl = features & (Feature.ppl | Feature.multiplePpls);
  const isBoth = ppl === (Feature.ppl | Feature.multiplePpls);
  if (isBoth || (ppl !== 0 && (features & (Feature.bitmap | Feature.journal)) !== 0)) {
    return fault(
      "conflicting-features",
      `The superblock claims consistency policies that exclude each other ` +
        `(feature map 0x${features.toString(16)}).`,
    );
  }
  return null;
}

function readFields(bytes: Uint8Array, view: DataView): Superblock {
  const features = view.getUint32(8, true);
  const hasRecovery = (features & Feature.recoveryOffset) !== 0;
  return {
    otherFeatures: features & ~DERIVED_FEATURES,
    arrayUuid: decodeUuid(bytes, 16),
    setNameBytes: bytes.slice(32, 64),
    createdAt: readTime(view, 64),
    level: view.getInt32(72, true),
    layout: view.getUint32(76, true),
    sizeSectors: readU64(view, 80),
    chunkSectors: view.getUint32(88, true),
    memberCount: view.getUint32(92, true),
    log: readLog(view, features),
    reshapeBytes: bytes.slice(100, 128),
    dataOffsetSectors: readU64(view, 128),
    dataSizeSectors: readU64(view, 136),
    recoveryOffsetSectors: hasRecovery ? readRecoveryOffset(view) : null,
    journalTail: hasRecovery ? 0 : readJournalTail(view),
    devNumber: view.getUint32(160, true),
    correctedReadSectors: view.getUint32(164, true),
    deviceUuid: decodeUuid(bytes, 168),
    deviceFlags: view.getUint8(184),
    hasBadBlocks: (features & Feature.badBlocks) !== 0,
    badBlockLogShift: view.getUint8(185),
    badBlockLogSectors: view.getUint16(186, true),
    badBlockLogOffsetSectors: view.getInt32(188, true),
    updatedAt: readTime(view, 192),
    events: readU64(view, 200),
    resyncOffsetSectors: isAllOnes(view, 208) ? null : readU64(view, 208),
    logicalBlockBytes: view.getUint32(224, true),
    devRoles: readRoles(view),
  };
}

/**
 * Where a rebuild stands, from the word at 152. md may write all ones between the end of a rebuild
 * and the update that takes bit 2 away: everything is filled then.
 */
function readRecoveryOffset(view: DataView): number {
  return isAllOnes(view, 152) ? readU64(view, 80) : readU64(view, 152);
}

/** The same word without bit 2. md leaves old values there; one that is not exact is dropped. */
function readJournalTail(view: DataView): number {
  const word = readU64(view, 152);
  return word > SECTOR_MAX ? 0 : word;
}

function readLog(view: DataView, features: number): SuperblockLog {
  if ((features & Feature.bitmap) !== 0) {
    return { kind: "bitmap", offsetSectors: view.getInt32(96, true) };
  }
  if ((features & (Feature.ppl | Feature.multiplePpls)) !== 0) {
    return {
      kind: "ppl",
      offsetSectors: view.getInt16(96, true),
      sizeSectors: view.getUint16(98, true),
      isMultiple: (features & Feature.multiplePpls) !== 0,
    };
  }
  return { kind: "none", word: view.getUint32(96, true) };
}

function readRoles(view: DataView): number[] {
  const roles: number[] = [];
  const count = view.getUint32(220, true);
  for (let index = 0; index < count; index += 1) {
    roles.push(view.getUint16(HEADER_BYTES + 2 * index, true));
  }
  return roles;
}

/** The 4096 bytes for `SUPERBLOCK_OFFSET_BYTES`, checksum included, zeros behind dev_roles. */
export function encodeSuperblock(superblock: Superblock): Uint8Array {
  assert(superblock.devRoles.length <= DEV_ROLES_MAX, "dev_roles fits into the superblock");
  assert(superblock.setNameBytes.length === 32, "a set name takes 32 bytes");
  assert(superblock.devNumber >= 0 && superblock.devNumber < 2 ** 32, "a device has its number");
  assert(superblock.reshapeBytes.length === 28, "the reshape fields take 28 bytes");
  assert((superblock.otherFeatures & DERIVED_FEATURES) === 0, "derived bits stand in their fields");
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, 1, true);
  view.setUint32(8, featureMapOf(superblock), true);
  encodeUuid(superblock.arrayUuid, bytes, 16);
  bytes.set(superblock.setNameBytes, 32);
  writeTime(view, 64, superblock.createdAt);
  view.setInt32(72, superblock.level, true);
  view.setUint32(76, superblock.layout, true);
  writeU64(view, 80, superblock.sizeSectors);
  view.setUint32(88, superblock.chunkSectors, true);
  view.setUint32(92, superblock.memberCount, true);
  writeLog(view, superblock.log);
  bytes.set(superblock.reshapeBytes, 100);
  writeU64(view, 128, superblock.dataOffsetSectors);
  writeU64(view, 136, superblock.dataSizeSectors);
  writeU64(view, 144, SUPERBLOCK_OFFSET_SECTORS);
  writeU64(view, 152, superblock.recoveryOffsetSectors ?? superblock.journalTail);
  view.setUint32(160, superblock.devNumber, true);
  view.setUint32(164, superblock.correctedReadSectors, true);
  encodeUuid(superblock.deviceUuid, bytes, 168);
  view.setUint8(184, superblock.deviceFlags);
  view.setUint8(185, superblock.badBlockLogShift);
  view.setUint16(186, superblock.badBlockLogSectors, true);
  view.setInt32(188, superblock.badBlockLogOffsetSectors, true);
  writeTime(view, 192, superblock.updatedAt);
  writeU64(view, 200, superblock.events);
  if (superblock.resyncOffsetSectors === null) bytes.fill(0xff, 208, 216);
  else writeU64(view, 208, superblock.resyncOffsetSectors);
  view.setUint32(220, superblock.devRoles.length, true);
  view.setUint32(224, superblock.logicalBlockBytes, true);
  superblock.devRoles.forEach((role, index) => {
    assert(Number.isInteger(role) && role >= 0 && role < 2 ** 16, "a role takes 16 bits");
    view.setUint16(HEADER_BYTES + 2 * index, role, true);
  });
  view.setUint32(216, superblockChecksum(bytes, superblock.devRoles.length), true);
  const features = featureMapOf(superblock);
  assert(findSuperblockFault(view, features) === null, "what is encoded can be decoded");
  return bytes;
}

function writeLog(view: DataView, log: SuperblockLog): void {
  switch (log.kind) {
    case "none":
      view.setUint32(96, log.word, true);
      return;
    case "bitmap":
      assert(isSigned(log.offsetSectors, 32), "the place of a bitmap takes 32 bits");
      view.setInt32(96, log.offsetSectors, true);
      return;
    case "ppl":
      assert(isSigned(log.offsetSectors, 16), "the place of a partial parity log takes 16 bits");
      assert(log.sizeSectors >= 0 && log.sizeSectors < 2 ** 16, "its size takes 16 bits");
      view.setInt16(96, log.offsetSectors, true);
      view.setUint16(98, log.sizeSectors, true);
      return;
  }
}

/** Whether the number is whole, and a signed field of so many bits holds it. */
function isSigned(value: number, bits: number): boolean {
  const limit = 2 ** (bits - 1);
  return Number.isInteger(value) && value >= -limit && value < limit;
}

function isZero(view: DataView, start: number, end: number): boolean {
  for (let offset = start; offset < end; offset += 1) {
    if (view.getUint8(offset) !== 0) return false;
  }
  return true;
}

function readTime(view: DataView, offset: number): MdTime {
  return {
    seconds: view.getUint32(offset, true) + view.getUint8(offset + 4) * 2 ** 32,
    microseconds: view.getUint32(offset + 4, true) >>> 8,
  };
}

function writeTime(view: DataView, offset: number, { seconds, microseconds }: MdTime): void {
  assert(seconds >= 0 && seconds < 2 ** 40, "seconds fit into 40 bits");
  assert(microseconds >= 0 && microseconds < 2 ** 24, "microseconds fit into 24 bits");
  view.setUint32(offset, seconds % 2 ** 32, true);
  view.setUint32(offset + 4, Math.floor(seconds / 2 ** 32) + microseconds * 256, true);
}
