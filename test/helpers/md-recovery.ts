/**
 * Members of an array as images in memory, and what a start after a crash does with them: replay of
 * the partial parity log and resync, by the plans of src/md, without an engine.
 */
import { assert } from "../../src/base/assert.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../src/base/units.ts";
import { BadBlockLog, decodeBadBlockLog, type SectorRange } from "../../src/md/bad-block-log.ts";
import { type PplSpace, pplSignature, pplSpaceOf } from "../../src/md/ppl.ts";
import {
  type PplScan,
  planReplay,
  type ReplayMember,
  type ReplayStep,
  scanPplArea,
} from "../../src/md/ppl-replay.ts";
import {
  decodeSuperblock,
  roleOf,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
} from "../../src/md/superblock.ts";
import { Geometry } from "../../src/raid5/geometry.ts";
import { crc32c } from "./crc32c.ts";

export interface ImageMember {
  readonly image: Uint8Array;
  readonly superblock: Superblock;
  readonly badBlocks: BadBlockLog;
}

/** By role; null: missing. */
export interface ImageArray {
  readonly geometry: Geometry;
  readonly members: readonly (ImageMember | null)[];
}

export function superblockOfImage(image: Uint8Array): Superblock {
  const start = SUPERBLOCK_OFFSET_BYTES;
  const bytes = image.subarray(start, start + SUPERBLOCK_BYTES);
  const decoded = decodeSuperblock(bytes, { deviceBytes: image.length });
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
}

export function badBlocksOfImage(image: Uint8Array, superblock: Superblock): BadBlockLog {
  if (!superblock.hasBadBlocks) return new BadBlockLog();
  const start = (SUPERBLOCK_OFFSET_SECTORS + superblock.badBlockLogOffsetSectors) * SECTOR_BYTES;
  const end = start + superblock.badBlockLogSectors * SECTOR_BYTES;
  const decoded = decodeBadBlockLog(image.subarray(start, end));
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
}

/** The images are used as they are, and changed by what is done with the array. */
export function openImages(images: ReadonlyMap<string, Uint8Array>): ImageArray {
  const found = [...images.values()].map((image): ImageMember => {
    const superblock = superblockOfImage(image);
    return { image, superblock, badBlocks: badBlocksOfImage(image, superblock) };
  });
  const { memberCount, chunkSectors, layout, sizeSectors } = found[0]!.superblock;
  const geometry = new Geometry({
    memberCount,
    chunkBytes: chunkSectors * SECTOR_BYTES,
    layout,
    memberSizeBytes: sizeSectors * SECTOR_BYTES,
  });
  const members = Array.from({ length: memberCount }, (_, role) => {
    return (
      found.find(({ superblock }) => roleOf(superblock, superblock.devNumber) === role) ?? null
    );
  });
  return { geometry, members };
}

/** A row of a member's data region. */
export function rowOf(member: ImageMember, offset: number): Uint8Array {
  const start = member.superblock.dataOffsetSectors * SECTOR_BYTES + offset;
  return member.image.subarray(start, start + ROW_BYTES);
}

export function xorInto(target: Uint8Array, source: Uint8Array): void {
  for (let index = 0; index < target.length; index += 1) target[index]! ^= source[index]!;
}

/** The whole array; chunks of a missing member from the others. */
export function readImageArray({ geometry, members }: ImageArray): Uint8Array {
  const array = new Uint8Array(geometry.sizeBytes);
  const { chunkBytes } = geometry;
  for (let stripe = 0; stripe < geometry.stripeCount; stripe += 1) {
    for (let dataIndex = 0; dataIndex < geometry.dataCount; dataIndex += 1) {
      const role = geometry.dataRole(stripe, dataIndex);
      const target = geometry.arrayOffsetOf(stripe, dataIndex);
      const sources = members[role] === null ? members : [members[role]];
      const chunk = array.subarray(target, target + chunkBytes);
      for (const member of sources ?? []) {
        if (member === null || member === undefined) continue;
        const start =
          member.superblock.dataOffsetSectors * SECTOR_BYTES + stripe * geometry.chunkBytes;
        xorInto(chunk, member.image.subarray(start, start + chunkBytes));
      }
    }
  }
  return array;
}

/** Member byte offsets of rows whose parity is wrong. */
export function findMismatches({ geometry, members }: ImageArray): number[] {
  const wrong: number[] = [];
  for (let offset = 0; offset < geometry.memberSizeBytes; offset += ROW_BYTES) {
    const sum = new Uint8Array(ROW_BYTES);
    for (const member of members) xorInto(sum, rowOf(member!, offset));
    if (sum.some((byte) => byte !== 0)) wrong.push(offset);
  }
  return wrong;
}

/** Recomputes the parity of these member sectors. */
export function resyncImages(
  { geometry, members }: ImageArray,
  ranges: readonly SectorRange[],
): void {
  for (const { sector, lengthSectors } of ranges) {
    const end = (sector + lengthSectors) * SECTOR_BYTES;
    for (let offset = sector * SECTOR_BYTES; offset < end; offset += ROW_BYTES) {
      const parityRole = geometry.parityRole(Math.floor(offset / geometry.chunkBytes));
      const sum = new Uint8Array(ROW_BYTES);
      members.forEach((member, role) => {
        if (role !== parityRole) xorInto(sum, rowOf(member!, offset));
      });
      rowOf(members[parityRole]!, offset).set(sum);
    }
  }
}

export function pplSpaceOfMember({ superblock }: ImageMember): PplSpace {
  const space = pplSpaceOf(superblock);
  if (!space.ok) throw new Error(space.error.detail);
  return space.value;
}

export function pplAreaOf(member: ImageMember): Uint8Array {
  const { offsetBytes, areaBytes } = pplSpaceOfMember(member);
  return member.image.subarray(offsetBytes, offsetBytes + areaBytes);
}

export function scanImage(member: ImageMember): PplScan {
  const signature = pplSignature(member.superblock.arrayUuid, crc32c);
  const scan = scanPplArea(pplAreaOf(member), { signature, crc32c });
  if (!scan.ok) throw new Error(scan.error.detail);
  return scan.value;
}

/** Replays the logs of all present members. What was done, by the role of the log. */
export function replayImages(array: ImageArray): Map<number, readonly ReplayStep[]> {
  const done = new Map<number, readonly ReplayStep[]>();
  for (const [logRole, member] of array.members.entries()) {
    if (member === null) continue;
    const scan = scanImage(member);
    if (scan.kind === "none") continue;
    const plan = planReplay({
      entries: scan.entries,
      geometry: array.geometry,
      logRole,
      members: array.members.map(replayMember),
    });
    if (!plan.ok) throw new Error(plan.error.detail);
    const area = pplAreaOf(member).slice();
    for (const step of plan.value.steps) applyStep(array, step, area);
    done.set(logRole, plan.value.steps);
  }
  return done;
}

function replayMember(member: ImageMember | null): ReplayMember | null {
  if (member === null) return null;
  const { dataOffsetSectors, recoveryOffsetSectors } = member.superblock;
  return { dataOffsetSectors, recoveryOffsetSectors, badBlocks: member.badBlocks };
}

function applyStep({ geometry, members }: ImageArray, step: ReplayStep, area: Uint8Array): void {
  if (step.action === "keep") return;
  const parity = members[geometry.parityRole(step.stripe)];
  assert(parity !== null && parity !== undefined, "parity is written to a member that is there");
  for (let index = 0; index < step.rowCount; index += 1) {
    const offset = step.stripe * geometry.chunkBytes + (step.firstRow + index) * ROW_BYTES;
    const sum = new Uint8Array(ROW_BYTES);
    for (let chunk = 0; chunk < step.dataCount; chunk += 1) {
      const role = geometry.dataRole(step.stripe, step.firstDataIndex + chunk);
      xorInto(sum, rowOf(members[role]!, offset));
    }
    if (step.partialParityOffset !== null) {
      const start = step.partialParityOffset + index * ROW_BYTES;
      xorInto(sum, area.subarray(start, start + ROW_BYTES));
    }
    rowOf(parity, offset).set(sum);
  }
}
