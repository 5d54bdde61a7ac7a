/** Superblocks of arrays that do not exist: what tests of md's decisions start from. */
import { closeSync, openSync, writeSync } from "node:fs";
import { assert } from "../../src/base/assert.ts";
import {
  type AssemblyPlan,
  type AssemblyRefusal,
  type Candidate,
  judgeAssembly,
} from "../../src/md/assemble/assemble.ts";
import {
  type ConsistencyPolicy,
  chooseLayoutOnMember,
  type LayoutOnMember,
  newSuperblock,
} from "../../src/md/create.ts";
import { Role, SUPERBLOCK_OFFSET_BYTES, type Superblock } from "../../src/md/superblock.ts";
import { makeFile } from "./daemon.ts";

export const TEST_DEVICE_BYTES = 64 * 1024 * 1024;
export const TEST_ARRAY_UUID = "00010203:04050607:08090a0b:0c0d0e0f";

export interface TestMemberOptions {
  readonly memberCount?: number;
  readonly chunkBytes?: number;
  readonly policy?: ConsistencyPolicy;
  readonly deviceBytes?: number;
}

/** Clean, at event 100; device n holds role n, devices from `memberCount` on are spares. */
export function testSuperblock(devNumber: number, options: TestMemberOptions = {}): Superblock {
  const { memberCount = 3, chunkBytes = 65_536, policy = "resync" } = options;
  const deviceBytes = options.deviceBytes ?? TEST_DEVICE_BYTES;
  const layoutOnMember = testLayout({ deviceBytes, chunkBytes, policy });
  const chunkSectors = chunkBytes / 512;
  return newSuperblock({
    arrayUuid: TEST_ARRAY_UUID,
    deviceUuid: `deadbeef:00000000:00000000:${devNumber.toString(16).padStart(8, "0")}`,
    setName: "tower:tank",
    createdAt: { seconds: 1_800_000_000, microseconds: 125_000 },
    memberCount,
    chunkBytes,
    layout: 2,
    sizeSectors: layoutOnMember.dataSizeSectors - (layoutOnMember.dataSizeSectors % chunkSectors),
    policy,
    layoutOnMember,
    devNumber,
    resyncOffsetSectors: null,
    events: 100,
  });
}

function testLayout(options: {
  deviceBytes: number;
  chunkBytes: number;
  policy: ConsistencyPolicy;
}): LayoutOnMember {
  const chosen = chooseLayoutOnMember(options);
  if (!chosen.ok) throw new Error(chosen.error.detail);
  return chosen.value;
}

export function testCandidate(
  superblock: Superblock,
  drive = `d${superblock.devNumber}`,
): Candidate {
  return { drive, superblock, deviceBytes: TEST_DEVICE_BYTES };
}

/** A sparse file with this superblock in its place, and nothing else. */
export function writeMember(path: string, block: Uint8Array, deviceBytes: number): void {
  makeFile(path, deviceBytes);
  const file = openSync(path, "r+");
  writeSync(file, block, 0, block.length, SUPERBLOCK_OFFSET_BYTES);
  closeSync(file);
}

/** A complete clean array. */
export function testCandidates(options: TestMemberOptions = {}): Candidate[] {
  const { memberCount = 3 } = options;
  return Array.from({ length: memberCount }, (_, devNumber) =>
    testCandidate(testSuperblock(devNumber, options)),
  );
}

/** The superblock with some fields changed. */
export function changed(candidate: Candidate, fields: Partial<Superblock>): Candidate {
  return { ...candidate, superblock: { ...candidate.superblock, ...fields } };
}

/** dev_roles in which the given device numbers hold no role any more. */
export function rolesWithout(superblock: Superblock, ...gone: readonly number[]): number[] {
  return superblock.devRoles.map((role, devNumber) =>
    gone.includes(devNumber) ? Role.spare : role,
  );
}

/** The plan of a set that must be accepted. */
export function judged(candidates: readonly Candidate[], force = false): AssemblyPlan {
  const result = judgeAssembly(candidates, { force });
  if (!result.ok) throw new Error(`${result.error.kind}: ${result.error.detail}`);
  return result.value;
}

/** The refusal of a set that must be refused. */
export function refused(candidates: readonly Candidate[], force = false): AssemblyRefusal {
  const result = judgeAssembly(candidates, { force });
  if (result.ok) throw new Error("the set was accepted");
  assert(/^[A-Z].*\.$/.test(result.error.detail), "a refusal is told in sentences");
  return result.error;
}

/** "AAR." : in sync, in sync, rebuilding, missing. */
export function drawn(plan: AssemblyPlan): string {
  const letters = { "in-sync": "A", rebuilding: "R", missing: "." };
  return plan.roles.map(({ state }) => letters[state]).join("");
}
