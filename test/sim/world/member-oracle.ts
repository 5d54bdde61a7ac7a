/**
 * Looks at the members of an array from outside: at the bytes of their images, with arithmetic of
 * its own, so that an error in src/raid5 or src/parity cannot hide itself. Only the superblocks
 * are decoded by the product's codec, which has independent fixtures of its own.
 *
 * - `parityMismatches`: the rows whose XOR over all members is not zero.
 * - `readArraySector`: what the array holds, from the data chunk or, with a role left out, from
 *   the XOR of the others (left-symmetric layout: parity of stripe s of n members lies on role
 *   n - 1 - s mod n, and data chunk i on the role that follows it by 1 + i).
 * - `strayWrites`: what was written outside the areas that the superblock names.
 */
import { assert } from "../../../src/base/assert.ts";
import { roundUp, SECTOR_BYTES } from "../../../src/base/units.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../../src/md/superblock.ts";
import type { DeviceTrace } from "./device-trace.ts";
import { type DeviceImage, PAGE_BYTES, readImage } from "./media.ts";

const LEFT_SYMMETRIC = 2;
const BITMAP_HEADER_BYTES = 256;
const BITMAP_CHUNK_FIELD = 52;

/** The members of one array by role; null where a role is missing. */
export interface MemberView {
  readonly chunkBytes: number;
  readonly memberCount: number;
  /** Used of each member's data region. */
  readonly memberSizeBytes: number;
  readonly images: readonly (DeviceImage | null)[];
  readonly dataOffsets: readonly number[];
}

export interface Area {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

/** The superblock of a drive, or the sentence that says why it has none. */
export function superblockOf(image: DeviceImage): Superblock | string {
  const bytes = readImage(image, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES);
  const decoded = decodeSuperblock(bytes, { deviceBytes: image.sizeBytes });
  return decoded.ok ? decoded.value : `${image.name}: ${decoded.error.kind}`;
}

/**
 * Sorts drives by the role that the freshest superblock gives them. Drives without a role, or
 * without a readable superblock, are left out.
 */
export function viewMembers(images: readonly DeviceImage[]): MemberView {
  const known = images.flatMap((image) => {
    const superblock = superblockOf(image);
    return typeof superblock === "string" ? [] : [{ image, superblock }];
  });
  const freshest = known.reduce<Superblock | null>(
    (best, { superblock }) =>
      best === null || superblock.events > best.events ? superblock : best,
    null,
  );
  assert(freshest !== null, "at least one member has a superblock");
  assert(freshest.layout === LEFT_SYMMETRIC, "the layout is left-symmetric");
  const byRole: (DeviceImage | null)[] = new Array(freshest.memberCount).fill(null);
  const dataOffsets: number[] = new Array(freshest.memberCount).fill(0);
  for (const { image, superblock } of known) {
    const role = freshest.devRoles[superblock.devNumber] ?? -1;
    if (superblock.arrayUuid !== freshest.arrayUuid || role >= byRole.length || role < 0) continue;
    assert(byRole[role] === null, "a role has one member");
    byRole[role] = image;
    dataOffsets[role] = superblock.dataOffsetSectors * SECTOR_BYTES;
  }
  return {
    chunkBytes: freshest.chunkSectors * SECTOR_BYTES,
    memberCount: freshest.memberCount,
    memberSizeBytes: freshest.sizeSectors * SECTOR_BYTES,
    images: byRole,
    dataOffsets,
  };
}

/**
 * Byte offsets, in the data region, of the rows of 4 KiB whose parity does not hold. All members
 * are present, and their data regions begin on a page.
 */
export function parityMismatches(view: MemberView): number[] {
  const rows = new Set<number>();
  for (const [role, image] of view.images.entries()) {
    assert(image !== null, "parity is checked with all members");
    const first = view.dataOffsets[role]! / PAGE_BYTES;
    const last = first + view.memberSizeBytes / PAGE_BYTES;
    for (const page of image.pages.keys()) {
      if (page >= first && page < last) rows.add((page - first) * PAGE_BYTES);
    }
  }
  // A page that no member has is zeros everywhere.
  return [...rows].filter((row) => !isParityRow(view, row)).sort((left, right) => left - right);
}

function isParityRow(view: MemberView, row: number): boolean {
  const sum = new Uint32Array(PAGE_BYTES / 4);
  for (const [role, image] of view.images.entries()) {
    const page = image?.pages.get((view.dataOffsets[role]! + row) / PAGE_BYTES);
    if (page !== undefined) addWords(sum, page);
  }
  return sum.every((word) => word === 0);
}

/** Stripes that contain a row of `rows`. */
export function stripesOf(view: MemberView, rows: readonly number[]): number[] {
  return [...new Set(rows.map((row) => Math.floor(row / view.chunkBytes)))];
}

/** A sector of the array; with `without`, as it is reconstructed when that role is lost. */
export function readArraySector(view: MemberView, lba: number, without = -1): Uint8Array {
  const chunkSectors = view.chunkBytes / SECTOR_BYTES;
  const dataCount = view.memberCount - 1;
  const chunk = Math.floor(lba / chunkSectors);
  const stripe = Math.floor(chunk / dataCount);
  const parityRole = view.memberCount - 1 - (stripe % view.memberCount);
  const role = (parityRole + 1 + (chunk % dataCount)) % view.memberCount;
  const at = stripe * view.chunkBytes + (lba % chunkSectors) * SECTOR_BYTES;
  if (role !== without && view.images[role] !== null) return memberSector(view, role, at);
  const sum = new Uint32Array(SECTOR_BYTES / 4);
  for (let other = 0; other < view.memberCount; other += 1) {
    if (other !== role) addWords(sum, memberSector(view, other, at));
  }
  return new Uint8Array(sum.buffer);
}

function memberSector(view: MemberView, role: number, at: number): Uint8Array {
  const image = view.images[role];
  assert(image !== null && image !== undefined, "at most one member is missing");
  return readImage(image, view.dataOffsets[role]! + at, SECTOR_BYTES);
}

function addWords(sum: Uint32Array, bytes: Uint8Array): void {
  const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let index = 0; index < sum.length; index += 1) {
    sum[index]! ^= words.getUint32(index * 4, true);
  }
}

/** The areas of a member that may be written, as its superblock says. */
export function areasOf(image: DeviceImage): Area[] {
  const superblock = superblockOf(image);
  assert(typeof superblock !== "string", "the drive is a member");
  const { log, sizeSectors } = superblock;
  const at = (name: string, sectors: number, bytes: number): Area => ({
    name,
    offset: SUPERBLOCK_OFFSET_BYTES + sectors * SECTOR_BYTES,
    bytes,
  });
  const areas: Area[] = [
    at("superblock", 0, SUPERBLOCK_BYTES),
    {
      name: "data",
      offset: superblock.dataOffsetSectors * SECTOR_BYTES,
      bytes: sizeSectors * SECTOR_BYTES,
    },
  ];
  if (superblock.badBlockLogSectors > 0) {
    const bytes = superblock.badBlockLogSectors * SECTOR_BYTES;
    areas.push(at("bad-block log", superblock.badBlockLogOffsetSectors, bytes));
  }
  if (log.kind === "ppl") {
    areas.push(at("ppl", log.offsetSectors, log.sizeSectors * SECTOR_BYTES));
  }
  if (log.kind === "bitmap") {
    const from = SUPERBLOCK_OFFSET_BYTES + log.offsetSectors * SECTOR_BYTES;
    const header = readImage(image, from, BITMAP_HEADER_BYTES);
    const chunkBytes = new DataView(header.buffer).getUint32(BITMAP_CHUNK_FIELD, true);
    const bits = Math.ceil((sizeSectors * SECTOR_BYTES) / chunkBytes);
    const bytes = roundUp(BITMAP_HEADER_BYTES + Math.ceil(bits / 8), PAGE_BYTES);
    areas.push(at("bitmap", log.offsetSectors, bytes));
  }
  return areas;
}

/** The writes of a drive, by its number in the trace, that lie in no one of the areas. */
export function strayWrites(
  trace: DeviceTrace,
  device: number,
  areas: readonly Area[],
): { readonly offset: number; readonly bytes: number }[] {
  return trace.events.flatMap((each) => {
    if (each.kind !== "device" || each.device !== device) return [];
    if (each.event.kind !== "submit") return [];
    const { offset, length } = each.event;
    const isInside = areas.some(
      (area) => offset >= area.offset && offset + length <= area.offset + area.bytes,
    );
    return isInside ? [] : [{ offset, bytes: length }];
  });
}
