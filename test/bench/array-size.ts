/** How large members have to be for arrays of a given size, and how large they are. */
import { readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { MIB, roundUp, SECTOR_BYTES } from "../../src/base/units.ts";

/** Room for the superblock, logs and what md leaves free: more than any policy takes. */
export const MEMBER_OVERHEAD_BYTES = 256 * MIB;

/** Bytes of each of `memberCount` members for an array of `arrayBytes`. */
export function memberBytesFor(arrayBytes: number, memberCount: number): number {
  return roundUp(Math.ceil(arrayBytes / (memberCount - 1)), MIB) + MEMBER_OVERHEAD_BYTES;
}

/** Bytes of a file or a block device. */
export function deviceBytes(path: string): number {
  const stat = statSync(path);
  if (!stat.isBlockDevice()) return stat.size;
  const sectors = readFileSync(`/sys/class/block/${basename(path)}/size`, "latin1");
  return Number(sectors) * SECTOR_BYTES;
}
