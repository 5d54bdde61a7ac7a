/**
 * Looks at the member files themselves, with code that shares nothing with the engine: the fields
 * of the superblock by their byte positions, the left-symmetric mapping and the XOR written anew.
 *
 *   superblock at byte 4096, little-endian:
 *      16 16 B set_uuid      88 u32 chunksize    152 u64 recovery_offset   208 u64 resync_offset
 *      76 u32  layout        92 u32 raid_disks   160 u32 dev_number        220 u32 max_dev
 *      80 u64  size         128 u64 data_offset  200 u64 events            256 u16[] dev_roles
 *
 *   stripe s of n members, left-symmetric: parity in role n-1 - s mod n, and the data chunks
 *   follow from the role behind it, around to 0.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { err, ok, type Result } from "../../base/result.ts";
import type { Shadow } from "../../nbd/client/load/shadow.ts";
import { attempt } from "./attempt.ts";

const SUPERBLOCK_OFFSET = 4096;
const SUPERBLOCK_BYTES = 4096;
const SECTOR = 512;
const MAGIC = 0xa92b4efc;
const LEFT_SYMMETRIC = 2;
const FEATURE_RECOVERY_OFFSET = 0x2;

export interface MemberFacts {
  readonly arrayUuid: string;
  readonly layout: number;
  readonly chunkBytes: number;
  readonly memberCount: number;
  readonly usedBytes: number;
  readonly dataOffsetBytes: number;
  readonly devNumber: number;
  /** By device number; 0xff00 and above is no role. */
  readonly devRoles: readonly number[];
  /** What dev_roles says of this very device. */
  readonly role: number;
  readonly events: number;
  /** True: a rebuild onto it has not ended. */
  readonly isRebuilding: boolean;
  /** True: nothing was under way when it was last written. */
  readonly isClean: boolean;
}

export function parseMember(bytes: Uint8Array): Result<MemberFacts, string> {
  if (bytes.length < SUPERBLOCK_BYTES) return err("the file is too short for a superblock");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) return err("there is no superblock");
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const roleCount = Math.min(view.getUint32(220, true), (SUPERBLOCK_BYTES - 256) / 2);
  const devRoles = Array.from({ length: roleCount }, (_, index) =>
    view.getUint16(256 + 2 * index, true),
  );
  const devNumber = view.getUint32(160, true);
  return ok({
    arrayUuid: bytes.slice(16, 32).toHex(),
    layout: view.getUint32(76, true),
    chunkBytes: view.getUint32(88, true) * SECTOR,
    memberCount: view.getUint32(92, true),
    usedBytes: u64(80) * SECTOR,
    dataOffsetBytes: u64(128) * SECTOR,
    devNumber,
    devRoles,
    role: devRoles[devNumber] ?? 0xffff,
    events: u64(200),
    isRebuilding: (view.getUint32(8, true) & FEATURE_RECOVERY_OFFSET) !== 0,
    isClean: view.getBigUint64(208, true) === 0xffff_ffff_ffff_ffffn,
  });
}

export function readMember(path: string): Result<MemberFacts, string> {
  const bytes = attempt(() => {
    const content = new Uint8Array(SUPERBLOCK_BYTES);
    const fd = openSync(path, "r");
    const count = readSync(fd, content, 0, content.length, SUPERBLOCK_OFFSET);
    closeSync(fd);
    return content.subarray(0, count);
  });
  if (!bytes.ok) return bytes;
  const parsed = parseMember(bytes.value);
  return parsed.ok ? parsed : err(`${path}: ${parsed.error}`);
}

/** Which chunk of the array a role holds in a stripe; -1: parity. */
export function chunkOfRole(stripe: number, role: number, memberCount: number): number {
  const parityRole = memberCount - 1 - (stripe % memberCount);
  if (role === parityRole) return -1;
  const place = (role - parityRole - 1 + memberCount) % memberCount;
  return stripe * (memberCount - 1) + place;
}

/** XORs `source` into `target`; both hold whole words. */
function xorInto(target: Uint32Array, source: Uint32Array): void {
  for (let word = 0; word < target.length; word += 1) target[word]! ^= source[word]!;
}

/** What must hold among the superblocks of a whole array that was stopped. */
export function findStoppedFaults(members: readonly MemberFacts[]): string[] {
  const faults: string[] = [];
  for (const [role, member] of members.entries()) {
    if (member.role !== role) faults.push(`the member of role ${role} says role ${member.role}`);
    if (member.isRebuilding) faults.push(`the member of role ${role} says that it rebuilds`);
    if (!member.isClean) faults.push(`the member of role ${role} was left dirty`);
    if (member.events !== members[0]?.events) faults.push(`role ${role} has another event count`);
  }
  return faults;
}

/**
 * What must hold among the survivors' superblocks before a rebuild and after it failed: the same
 * survivors in the same roles, a later event count, and the dead target in no role.
 */
export function findRollbackFaults(
  before: readonly MemberFacts[],
  after: readonly MemberFacts[],
): string[] {
  const faults: string[] = [];
  for (const [index, old] of before.entries()) {
    const now = after[index];
    const name = `the survivor of role ${old.role}`;
    if (now === undefined) {
      faults.push(`${name} is gone`);
      continue;
    }
    if (now.arrayUuid !== old.arrayUuid || now.devNumber !== old.devNumber) {
      faults.push(`${name} is another device now`);
    }
    if (now.role !== old.role) faults.push(`${name} says role ${now.role} now`);
    if (now.isRebuilding) faults.push(`${name} says that it rebuilds`);
    if (now.events <= old.events) faults.push(`${name} has no later event count`);
    if (now.events !== after[0]?.events) faults.push(`${name} has another event count`);
    if (!hasSameRoles(before, old, now)) {
      faults.push(`${name} lists other members in sync than before`);
    }
  }
  return faults;
}

/** The roles that a superblock lists are those of the survivors, held by the same devices. */
function hasSameRoles(
  survivors: readonly MemberFacts[],
  old: MemberFacts,
  now: MemberFacts,
): boolean {
  const listed = (facts: MemberFacts): string =>
    facts.devRoles
      .map((role, devNumber) => `${devNumber}:${role}`)
      .filter((_, devNumber) => facts.devRoles[devNumber]! < 0xff00)
      .join(" ");
  return listed(old) === listed(now) && listed(now).split(" ").length === survivors.length;
}

export interface MemberComparison {
  /** Bytes of the rebuilt member that were compared with the XOR of the others. */
  readonly comparedBytes: number;
  /** Null: everything is as computed. */
  readonly wrong: string | null;
}

/**
 * Compares the member of `rebuiltRole` with the XOR of all others, and every data chunk with what
 * was acknowledged. `paths` is by role; nothing may write to the files meanwhile.
 */
export async function compareMembers(options: {
  paths: readonly string[];
  rebuiltRole: number;
  shadow: Shadow;
  onProgress?: (doneBytes: number) => void;
}): Promise<Result<MemberComparison, string>> {
  const { paths, rebuiltRole, shadow } = options;
  const members: MemberFacts[] = [];
  for (const [role, path] of paths.entries()) {
    const member = readMember(path);
    if (!member.ok) return member;
    if (member.value.role !== role) return err(`${path} says role ${member.value.role}`);
    if (member.value.layout !== LEFT_SYMMETRIC) return err(`${path} is not left-symmetric`);
    members.push(member.value);
  }
  const fds: number[] = [];
  try {
    for (const path of paths) fds.push(openSync(path, "r"));
    const { chunkBytes, usedBytes } = members[0]!;
    const chunks = paths.map(() => new Uint32Array(chunkBytes / 4));
    for (let stripe = 0; (stripe + 1) * chunkBytes <= usedBytes; stripe += 1) {
      readStripe({ fds, members, stripe, chunks });
      const wrong = findWrongStripe({ stripe, chunks, rebuiltRole, shadow });
      if (wrong !== null) return ok({ comparedBytes: stripe * chunkBytes, wrong });
      if (stripe % 32 === 0) {
        options.onProgress?.(stripe * chunkBytes);
        await turn();
      }
    }
    return ok({ comparedBytes: usedBytes, wrong: null });
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error));
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

function readStripe(options: {
  fds: readonly number[];
  members: readonly MemberFacts[];
  stripe: number;
  chunks: readonly Uint32Array[];
}): void {
  const { fds, members, stripe, chunks } = options;
  for (const [role, fd] of fds.entries()) {
    const { dataOffsetBytes, chunkBytes } = members[role]!;
    const bytes = new Uint8Array(chunks[role]!.buffer);
    readSync(fd, bytes, 0, chunkBytes, dataOffsetBytes + stripe * chunkBytes);
  }
}

/** Judges one stripe, its chunks by role. */
function findWrongStripe(options: {
  stripe: number;
  chunks: readonly Uint32Array[];
  rebuiltRole: number;
  shadow: Shadow;
}): string | null {
  const { stripe, chunks, rebuiltRole, shadow } = options;
  const chunkBytes = chunks[0]!.byteLength;
  for (const [role, chunk] of chunks.entries()) {
    const index = chunkOfRole(stripe, role, chunks.length);
    if (index < 0) continue;
    const wrong = shadow.findWrong(index * chunkBytes, new Uint8Array(chunk.buffer));
    if (wrong !== null) return `member of role ${role}, stripe ${stripe}: ${wrong}`;
  }
  const computed = new Uint32Array(chunkBytes / 4);
  for (const [role, chunk] of chunks.entries()) {
    if (role !== rebuiltRole) xorInto(computed, chunk);
  }
  const rebuilt = chunks[rebuiltRole]!;
  const word = computed.findIndex((value, at) => value !== rebuilt[at]);
  if (word < 0) return null;
  return (
    `the rebuilt member (role ${rebuiltRole}) differs from the XOR of the others in stripe ` +
    `${stripe}, at byte ${word * 4} of its chunk`
  );
}
