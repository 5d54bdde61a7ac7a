/**
 * The fields of an md v1.2 superblock as values, and what follows from them alone.
 *
 * All offsets and sizes are in sectors, as on disk (the byte table is in superblock.ts). Feature
 * bits that say how a field is to be read are not kept apart from that field: they follow from
 * `log`, `recoveryOffsetSectors` and `hasBadBlocks`, so that they cannot disagree.
 */
import { assert } from "../base/assert.ts";

export const SUPERBLOCK_OFFSET_BYTES = 4096;
export const SUPERBLOCK_OFFSET_SECTORS = 8;
/**
 * What is read and written as one superblock, and the most that one can take: nothing else may lie
 * there.
 */
export const SUPERBLOCK_BYTES = 4096;
export const MAGIC = 0xa92b4efc;

export const HEADER_BYTES = 256;

export const Role = {
  /** The first number that is no role of a member any more. */
  limit: 0xff00,
  journal: 0xfffd,
  faulty: 0xfffe,
  spare: 0xffff,
} as const;

export const Feature = {
  bitmap: 0x1,
  recoveryOffset: 0x2,
  reshape: 0x4,
  badBlocks: 0x8,
  replacement: 0x10,
  reshapeBackwards: 0x20,
  newOffset: 0x40,
  recoveryBitmap: 0x80,
  clustered: 0x100,
  journal: 0x200,
  ppl: 0x400,
  multiplePpls: 0x800,
  raid0Layout: 0x1000,
} as const;

export const KNOWN_FEATURES = 0x1fff;
/** Bits that follow from a field of `Superblock`. */
export const DERIVED_FEATURES =
  Feature.bitmap | Feature.recoveryOffset | Feature.badBlocks | Feature.ppl | Feature.multiplePpls;

/** What bytes 96 to 99 mean. Offsets count from the superblock. */
export type SuperblockLog =
  | { readonly kind: "none" /** As found; without meaning. */; readonly word: number }
  | { readonly kind: "bitmap"; readonly offsetSectors: number }
  | {
      readonly kind: "ppl";
      readonly offsetSectors: number;
      readonly sizeSectors: number;
      /** Feature bit 0x800 rather than 0x400: the area holds more than one unit. */
      readonly isMultiple: boolean;
    };

export interface MdTime {
  readonly seconds: number;
  readonly microseconds: number;
}

export interface Superblock {
  /** Feature bits that do not follow from `log`, `recoveryOffsetSectors` or `hasBadBlocks`. */
  readonly otherFeatures: number;
  /** In md's printing form, "00010203:04050607:08090a0b:0c0d0e0f". */
  readonly arrayUuid: string;
  /** The 32 bytes of "host:name"; `setNameOf` reads them. */
  readonly setNameBytes: Uint8Array;
  readonly createdAt: MdTime;
  readonly level: number;
  readonly layout: number;
  /** Sectors used of every member. */
  readonly sizeSectors: number;
  readonly chunkSectors: number;
  /** raid_disks. */
  readonly memberCount: number;
  readonly log: SuperblockLog;
  /** Bytes 100 to 127 as found: without meaning unless the array reshapes. */
  readonly reshapeBytes: Uint8Array;
  readonly dataOffsetSectors: number;
  /** Sectors that this member could give, at least `sizeSectors`. */
  readonly dataSizeSectors: number;
  /** The member is valid below this sector of its data region; null: all of it (bit 2 is off). */
  readonly recoveryOffsetSectors: number | null;
  /** The word at 152 while `recoveryOffsetSectors` is null. */
  readonly journalTail: number;
  readonly devNumber: number;
  readonly correctedReadSectors: number;
  readonly deviceUuid: string;
  readonly deviceFlags: number;
  readonly hasBadBlocks: boolean;
  readonly badBlockLogShift: number;
  /** 0: no log. */
  readonly badBlockLogSectors: number;
  /** From the superblock. */
  readonly badBlockLogOffsetSectors: number;
  readonly updatedAt: MdTime;
  readonly events: number;
  /** Null: clean. n: in sync below member sector n only (0: nothing is known to be). */
  readonly resyncOffsetSectors: number | null;
  /** 0 in arrays made by kernels before 6.19. */
  readonly logicalBlockBytes: number;
  readonly devRoles: readonly number[];
}

export type SuperblockErrorKind =
  | "too-short"
  | "no-magic"
  | "wrong-version"
  | "too-many-devices"
  | "bad-checksum"
  | "wrong-location"
  | "bad-padding"
  | "unknown-feature"
  | "conflicting-features"
  | "number-too-large"
  | "out-of-range"
  | "bad-data-area"
  | "data-beyond-device"
  | "bad-bad-block-log"
  | "areas-overlap";

/** `detail` says in sentences what was found, what it means, and what to do. */
export interface SuperblockError {
  readonly kind: SuperblockErrorKind;
  readonly detail: string;
}

const LEAVE_OUT =
  "Leave the device out: the array starts without it, and rebuilds onto it when it is added again.";
const ADVICE: Readonly<Record<SuperblockErrorKind, string>> = {
  "too-short": "It cannot be a member.",
  "no-magic": "If it was a member of format 1.2, its start was overwritten: leave it out.",
  "wrong-version": LEAVE_OUT,
  "too-many-devices": LEAVE_OUT,
  "bad-checksum": LEAVE_OUT,
  "wrong-location": "Find the whole device, as mdadm knows it, and give that.",
  "bad-padding":
    "If a newer Linux made it, run the array there. Otherwise it is damaged: leave it out.",
  "unknown-feature": "Run the array with the Linux that made it, or with a newer parityd.",
  "conflicting-features": LEAVE_OUT,
  "number-too-large": LEAVE_OUT,
  "out-of-range": LEAVE_OUT,
  "bad-data-area": LEAVE_OUT,
  "data-beyond-device": "Find the device at its full size, or leave it out and add a larger one.",
  "bad-bad-block-log": LEAVE_OUT,
  "areas-overlap": LEAVE_OUT,
};

export function superblockFault(kind: SuperblockErrorKind, detail: string): SuperblockError {
  assert(detail.endsWith("."), "what was found is told in sentences");
  return { kind, detail: `${detail} ${ADVICE[kind]}` };
}

export function featureMapOf(superblock: Superblock): number {
  const { log } = superblock;
  let features = superblock.otherFeatures;
  if (log.kind === "bitmap") features |= Feature.bitmap;
  if (log.kind === "ppl") features |= log.isMultiple ? Feature.multiplePpls : Feature.ppl;
  if (superblock.recoveryOffsetSectors !== null) features |= Feature.recoveryOffset;
  if (superblock.hasBadBlocks) features |= Feature.badBlocks;
  assert((features & ~KNOWN_FEATURES) === 0, "a superblock has only features that are known");
  return features;
}

/** The entry of dev_roles for a device number; a number beyond the table is a spare. */
export function roleOf(superblock: Superblock, devNumber: number): number {
  assert(Number.isInteger(devNumber) && devNumber >= 0, "devices are counted from 0");
  return superblock.devRoles[devNumber] ?? Role.spare;
}

/** It replaces a member that serves meanwhile, or has just done so. */
export function isReplacement({ otherFeatures }: Superblock): boolean {
  return (otherFeatures & Feature.replacement) !== 0;
}
