/**
 * What a new array looks like on its members: mdadm's own choices, so that mdadm finds nothing
 * unusual, and growing, adding a bitmap or changing the policy with mdadm later have their room.
 *
 *   sector 8            8 + 8       8 + 8 + log space             data offset (a multiple of 1 MiB)
 *   | superblock, 4 KiB | log space | bad-block log, 8 sectors | headroom | data ...
 *
 * The log space holds the write-intent bitmap or the partial parity log and is left free without
 * them; headroom is what mdadm's reshape needs to move data. Source: choose_bm_space() and
 * validate_geometry1() in mdadm's super1.c, checked against arrays of 24 MiB to 4 TB.
 */
import { assert } from "../base/assert.ts";
import { type ErrorOf, err, ok, type Result } from "../base/result.ts";
import { GIB, isPowerOfTwo, KIB, ROW_BYTES, roundUp, SECTOR_BYTES } from "../base/units.ts";
import { isLayout } from "./layout.ts";
import {
  type MdTime,
  Role,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
  type SuperblockLog,
} from "./superblock.ts";
import { areAreasApart } from "./superblock-areas.ts";

/** md's word: how the array comes back to consistency after a crash. */
export type ConsistencyPolicy = "resync" | "bitmap" | "ppl";

/** Device numbers in the superblock of a new array: members and spares together. */
const DEVICES_MAX = 128;

const SET_NAME_BYTES = 32;
const LOG_OFFSET_SECTORS = 8;
export const BAD_BLOCK_LOG_SECTORS = 8;
/** 1 MiB, two units of 132 KiB and more: feature bit 0x800. */
export const PPL_SPACE_SECTORS = 2048;
const HEADROOM_SECTORS_MAX = 262_144;
/** Superblock area (to sector 16) and bad-block log. */
const FIXED_SECTORS = 24;
export const DATA_ALIGNMENT_SECTORS = 2048;

export interface LayoutOnMemberOptions {
  readonly deviceBytes: number;
  readonly chunkBytes: number;
  readonly policy: ConsistencyPolicy;
}

/** Sectors of 512 bytes; the offsets of log and bad-block log count from the superblock. */
export interface LayoutOnMember {
  readonly dataOffsetSectors: number;
  /** What this member can give; the array uses the smallest, in whole chunks. */
  readonly dataSizeSectors: number;
  readonly logOffsetSectors: number;
  readonly logSpaceSectors: number;
  readonly badBlockLogOffsetSectors: number;
  readonly badBlockLogSectors: number;
}

export type CreateError = ErrorOf<"device-too-small" | "name-too-long">;

export function chooseLayoutOnMember({
  deviceBytes,
  chunkBytes,
  policy,
}: LayoutOnMemberOptions): Result<LayoutOnMember, CreateError> {
  assert(isPowerOfTwo(chunkBytes) && chunkBytes >= ROW_BYTES, "chunks are 2^n rows");
  assert(Number.isSafeInteger(deviceBytes) && deviceBytes >= 0, "a device has a size in bytes");
  const deviceSectors = Math.floor(deviceBytes / SECTOR_BYTES);
  const logSpaceSectors = policy === "ppl" ? PPL_SPACE_SECTORS : bitmapSpaceSectors(deviceSectors);
  // A thousandth of the device, but at least two chunks: what a reshape needs.
  const headroomMin = (chunkBytes / KIB) * 4;
  let headroom = HEADROOM_SECTORS_MAX;
  while (headroom * 1024 > deviceSectors && headroom / 2 >= headroomMin) headroom /= 2;
  const dataOffsetSectors = roundUp(
    FIXED_SECTORS + logSpaceSectors + headroom,
    DATA_ALIGNMENT_SECTORS,
  );
  const dataSizeSectors = deviceSectors - dataOffsetSectors;
  const chunkSectors = chunkBytes / SECTOR_BYTES;
  if (dataSizeSectors < chunkSectors) {
    const leastBytes = (dataOffsetSectors + chunkSectors) * SECTOR_BYTES;
    return err({
      kind: "device-too-small",
      detail:
        `The drive has ${deviceBytes} bytes; with chunks of ${chunkBytes} bytes and policy ` +
        `${policy} a member needs at least ${leastBytes}. Take a larger drive or smaller chunks.`,
    });
  }
  const badBlockLogOffsetSectors = LOG_OFFSET_SECTORS + logSpaceSectors;
  const logsEnd = SUPERBLOCK_OFFSET_SECTORS + badBlockLogOffsetSectors + BAD_BLOCK_LOG_SECTORS;
  assert(logsEnd <= dataOffsetSectors, "the data begins behind the logs");
  return ok({
    dataOffsetSectors,
    dataSizeSectors,
    logOffsetSectors: LOG_OFFSET_SECTORS,
    logSpaceSectors,
    badBlockLogOffsetSectors,
    badBlockLogSectors: BAD_BLOCK_LOG_SECTORS,
  });
}

/** mdadm's choose_bm_space(), in sectors. */
function bitmapSpaceSectors(deviceSectors: number): number {
  const margin = 64 * KIB;
  const bytes = deviceSectors * SECTOR_BYTES;
  if (bytes < margin) return 0;
  if (bytes - margin >= 200 * GIB) return 256;
  return bytes - 4 * KIB > 8 * GIB ? 128 : 8;
}

export interface NewSuperblockOptions {
  readonly arrayUuid: string;
  readonly deviceUuid: string;
  /** As `formSetName` gives it. */
  readonly setName: string;
  /** The same for all members: md compares it. */
  readonly createdAt: MdTime;
  readonly memberCount: number;
  readonly chunkBytes: number;
  /** md layout number. */
  readonly layout: number;
  /** Sectors used of every member, in whole chunks. */
  readonly sizeSectors: number;
  readonly policy: ConsistencyPolicy;
  readonly layoutOnMember: LayoutOnMember;
  /** Below `memberCount` the role; from there on a spare. */
  readonly devNumber: number;
  readonly resyncOffsetSectors: number | null;
  readonly events: number;
}

/** The superblock of one member, or spare, of an array in which no role is missing. */
export function newSuperblock(options: NewSuperblockOptions): Superblock {
  const { memberCount, layoutOnMember, sizeSectors, chunkBytes, devNumber } = options;
  assert(devNumber >= 0 && devNumber < DEVICES_MAX, "the device number fits into dev_roles");
  assert(memberCount >= 2 && memberCount <= DEVICES_MAX, "the members fit into dev_roles");
  assert((sizeSectors * SECTOR_BYTES) % chunkBytes === 0, "the member size is in whole chunks");
  assert(sizeSectors <= layoutOnMember.dataSizeSectors, "the member has room for its data");
  assert(isLayout(options.layout), "the layout is one of RAID5");
  assert(Number.isSafeInteger(options.events) && options.events >= 0, "events are counted from 0");
  assert((options.resyncOffsetSectors ?? 0) <= sizeSectors, "parity is known within the member");
  const devRoles = Array.from({ length: DEVICES_MAX }, (_, index) =>
    index < memberCount ? index : Role.spare,
  );
  const superblock: Superblock = {
    otherFeatures: 0,
    arrayUuid: options.arrayUuid,
    setNameBytes: encodeSetName(options.setName),
    createdAt: options.createdAt,
    level: 5,
    layout: options.layout,
    sizeSectors,
    chunkSectors: chunkBytes / SECTOR_BYTES,
    memberCount,
    log: newLog(options.policy, layoutOnMember),
    reshapeBytes: new Uint8Array(28),
    dataOffsetSectors: layoutOnMember.dataOffsetSectors,
    dataSizeSectors: layoutOnMember.dataSizeSectors,
    recoveryOffsetSectors: null,
    journalTail: 0,
    devNumber,
    correctedReadSectors: 0,
    deviceUuid: options.deviceUuid,
    deviceFlags: 0,
    hasBadBlocks: false,
    badBlockLogShift: 0,
    badBlockLogSectors: layoutOnMember.badBlockLogSectors,
    badBlockLogOffsetSectors: layoutOnMember.badBlockLogOffsetSectors,
    updatedAt: options.createdAt,
    events: options.events,
    resyncOffsetSectors: options.resyncOffsetSectors,
    logicalBlockBytes: 0,
    devRoles,
  };
  const dataEnd = superblock.dataOffsetSectors + superblock.dataSizeSectors;
  assert(areAreasApart(superblock, dataEnd), "the areas of a new member do not overlap");
  return superblock;
}

function newLog(policy: ConsistencyPolicy, layout: LayoutOnMember): SuperblockLog {
  const { logOffsetSectors: offsetSectors, logSpaceSectors: sizeSectors } = layout;
  switch (policy) {
    case "resync":
      return { kind: "none", word: 0 };
    case "bitmap":
      return { kind: "bitmap", offsetSectors };
    case "ppl":
      assert(sizeSectors === PPL_SPACE_SECTORS, "the layout was chosen for this policy");
      return { kind: "ppl", offsetSectors, sizeSectors, isMultiple: true };
  }
}

/**
 * As Linux and mdadm write it, in whole seconds. Linux refuses every change of an array whose time
 * of creation has microseconds: it compares it with what GET_ARRAY_INFO, in 32 bits, could tell
 * (update_array_info in its md.c).
 */
export function mdTimeOf(wallMs: number): MdTime {
  assert(wallMs >= 0, "the time is one since 1970");
  return { seconds: Math.floor(wallMs / 1000), microseconds: 0 };
}

/**
 * The name as md stores it: "host:name" where both fit into 32 bytes and the name has no colon of
 * its own, otherwise the name alone.
 */
export function formSetName({
  host,
  name,
}: {
  host: string | null;
  name: string;
}): Result<string, CreateError> {
  const bytes = utf8Bytes(name);
  if (bytes > SET_NAME_BYTES) {
    const detail = `The name takes ${bytes} bytes; an array's name has at most ${SET_NAME_BYTES}.`;
    return err({ kind: "name-too-long", detail });
  }
  if (host === null || host === "" || name.includes(":")) return ok(name);
  const full = `${host}:${name}`;
  return ok(utf8Bytes(full) < SET_NAME_BYTES ? full : name);
}

/** The 32 bytes for a new name; a home host stays in front of it where both fit. */
export function renamedSet(superblock: Superblock, name: string): Uint8Array {
  const setName = setNameOf(superblock);
  const colon = setName.indexOf(":");
  const formed = formSetName({ host: colon < 0 ? null : setName.slice(0, colon), name });
  assert(formed.ok, "a label fits into a superblock");
  return encodeSetName(formed.value);
}

/** The array's own name: "name" of "host:name". */
export function arrayNameOf(setName: string): string {
  const colon = setName.indexOf(":");
  const name = setName.slice(colon + 1);
  return name === "" ? setName : name;
}

/** The 32 bytes as text, up to the first NUL; bytes that are no UTF-8 show as U+FFFD. */
export function setNameOf(superblock: Superblock): string {
  const { setNameBytes } = superblock;
  const end = setNameBytes.indexOf(0);
  return new TextDecoder().decode(setNameBytes.slice(0, end < 0 ? SET_NAME_BYTES : end));
}

function encodeSetName(setName: string): Uint8Array {
  const encoded = new TextEncoder().encode(setName);
  assert(encoded.length <= SET_NAME_BYTES, "the set name was formed by formSetName");
  const bytes = new Uint8Array(SET_NAME_BYTES);
  bytes.set(encoded);
  return bytes;
}

function utf8Bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}
