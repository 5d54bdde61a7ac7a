/**
 * Goal: each kind of damaged superblock is refused or accepted as the kernel's md does it, or
 * more strictly where the table says why. (lab-md.test.ts asks a real kernel for the same table.)
 *
 * Method: every row of the table decoded and judged.
 */
import { expect, test } from "bun:test";
import { judgeAssembly } from "../../../src/md/assemble/assemble.ts";
import type { Candidate } from "../../../src/md/assemble/assembly-plan.ts";
import { decodeBitmapHeader } from "../../../src/md/bitmap.ts";
import { decodeSuperblock } from "../../../src/md/superblock.ts";
import {
  DAMAGE_DEVICE_BYTES,
  DAMAGES,
  type Damage,
  damagedBlocks,
  type Fate,
} from "../../helpers/md-damages.ts";

function fateOf(damage: Damage): Fate {
  const blocks = damagedBlocks(damage);
  const candidates: Candidate[] = blocks.flatMap((block, index) => {
    const decoded = decodeSuperblock(block, { deviceBytes: DAMAGE_DEVICE_BYTES });
    if (!decoded.ok) return [];
    return [{ drive: `m${index}`, superblock: decoded.value, deviceBytes: DAMAGE_DEVICE_BYTES }];
  });
  // What lies in the log areas of these members: nothing.
  const hasBadBitmap = candidates.some(({ superblock, deviceBytes }) => {
    if (superblock.log.kind !== "bitmap") return false;
    return !decodeBitmapHeader(new Uint8Array(4096), { superblock, deviceBytes }).ok;
  });
  if (hasBadBitmap) return "refused";
  const [first, ...others] = candidates;
  if (first === undefined) return "refused";
  const uuid = first.superblock.arrayUuid;
  if (others.some(({ superblock }) => superblock.arrayUuid !== uuid)) return "refused";
  const judged = judgeAssembly(candidates, { force: false });
  if (!judged.ok) return "refused";
  return judged.value.degraded === 0 ? "whole" : "without";
}

test.each(DAMAGES.map((damage) => [damage.name, damage] as const))(
  "damage: %s: its fate is the kernel's, or stricter with a reason",
  (_, damage) => {
    expect(fateOf(damage)).toBe(damage.ours);
    expect(damage.why !== undefined).toBe(damage.kernel !== damage.ours);
  },
);

test("damage: the table: 60 kinds, each once", () => {
  const names = new Set(DAMAGES.map(({ name }) => name));
  expect([names.size, DAMAGES.length]).toEqual([60, 60]);
});
