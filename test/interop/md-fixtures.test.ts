/**
 * Goal: what Linux wrote is read as Linux reads it, to the last byte.
 *
 * Method: every fixture is an array made by a real kernel and mdadm, with the sha256 of the array
 * as that kernel read it. Superblocks are decoded and compared with the manifest and re-encoded to
 * the same bytes; arrays are read through `Geometry`, complete and with each member missing: of
 * the latter a day takes a third.
 */
import { describe, expect, test } from "bun:test";
import { SECTOR_BYTES } from "../../src/base/units.ts";
import { judgeAssembly } from "../../src/md/assemble/assemble.ts";
import type { Candidate } from "../../src/md/assemble/assembly-plan.ts";
import { BadBlockLog, decodeBadBlockLog, encodeBadBlockLog } from "../../src/md/bad-block-log.ts";
import { chooseLayoutOnMember } from "../../src/md/create.ts";
import { examineReport, renderExamine } from "../../src/md/examine/examine.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  featureMapOf,
  roleOf,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
} from "../../src/md/superblock.ts";
import { Geometry } from "../../src/raid5/geometry.ts";
import { type FixtureFacts, fixtureFacts, loadFixture } from "../helpers/md-fixtures.ts";
import { Share } from "../helpers/share.ts";

const FACTS = fixtureFacts();
const CLEAN = 2 ** 64;

/** Only the last fixture is kept: unpacked, each takes about 100 MiB. */
let kept: { readonly name: string; readonly images: ReadonlyMap<string, Uint8Array> } | undefined;

/** For tests that only read. */
function imagesOf(name: string): ReadonlyMap<string, Uint8Array> {
  if (kept?.name !== name) kept = { name, images: loadFixture(name) };
  return kept.images;
}

function sha256(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}

function area(image: Uint8Array): Uint8Array {
  return image.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES);
}

function superblockOf(image: Uint8Array): Superblock {
  const decoded = decodeSuperblock(area(image), { deviceBytes: image.length });
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
}

function badBlocksOf(image: Uint8Array, superblock: Superblock): BadBlockLog {
  if (!superblock.hasBadBlocks) return new BadBlockLog();
  const start = SUPERBLOCK_OFFSET_SECTORS + superblock.badBlockLogOffsetSectors;
  const end = start + superblock.badBlockLogSectors;
  const decoded = decodeBadBlockLog(image.subarray(start * SECTOR_BYTES, end * SECTOR_BYTES));
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
}

function candidatesOf(images: ReadonlyMap<string, Uint8Array>): Candidate[] {
  return [...images].map(([drive, image]) => {
    return { drive, superblock: superblockOf(image), deviceBytes: image.length };
  });
}

interface Source {
  readonly image: Uint8Array;
  readonly dataOffset: number;
  readonly bad: BadBlockLog;
}

/** By role, as the plan says; undefined where the role is missing. */
function sourcesOf(images: ReadonlyMap<string, Uint8Array>): (Source | undefined)[] {
  const judged = judgeAssembly(candidatesOf(images), { force: false });
  if (!judged.ok) throw new Error(judged.error.detail);
  return judged.value.roles.map((role) => {
    if (role.state !== "in-sync") return undefined;
    const image = images.get(role.drive)!;
    const dataOffset = role.superblock.dataOffsetSectors * SECTOR_BYTES;
    return { image, dataOffset, bad: badBlocksOf(image, role.superblock) };
  });
}

function chunkOf(source: Source, offset: number, bytes: number): Uint8Array {
  return source.image.subarray(source.dataOffset + offset, source.dataOffset + offset + bytes);
}

function xorOfOthers(
  sources: readonly (Source | undefined)[],
  role: number,
  offset: number,
  bytes: number,
): Uint8Array {
  const sum = new Uint32Array(bytes / 4);
  sources.forEach((source, other) => {
    if (other === role) return;
    const words = new Uint32Array(chunkOf(source!, offset, bytes).slice().buffer);
    for (let index = 0; index < words.length; index += 1) sum[index]! ^= words[index]!;
  });
  return new Uint8Array(sum.buffer);
}

/** The whole array, a chunk at a time; absent and bad chunks from the others. */
function readArray(facts: FixtureFacts, sources: readonly (Source | undefined)[]): Uint8Array {
  const geometry = new Geometry({
    memberCount: facts.raid_disks,
    chunkBytes: facts.chunk_bytes,
    layout: facts.layout,
    memberSizeBytes: facts.members[0]!.size * SECTOR_BYTES,
  });
  expect(geometry.sizeBytes).toBe(facts.array_bytes);
  const array = new Uint8Array(geometry.sizeBytes);
  const bytes = geometry.chunkBytes;
  for (let stripe = 0; stripe < geometry.stripeCount; stripe += 1) {
    const offset = stripe * geometry.chunkBytes;
    for (let dataIndex = 0; dataIndex < geometry.dataCount; dataIndex += 1) {
      const role = geometry.dataRole(stripe, dataIndex);
      const source = sources[role];
      const sector = source === undefined ? 0 : (source.dataOffset + offset) / SECTOR_BYTES;
      const isBad = source?.bad.overlaps(sector, bytes / SECTOR_BYTES) ?? true;
      const chunk = isBad
        ? xorOfOthers(sources, role, offset, bytes)
        : chunkOf(source!, offset, bytes);
      array.set(chunk, geometry.arrayOffsetOf(stripe, dataIndex));
    }
  }
  return array;
}

describe.each(Object.keys(FACTS))("%s", (name) => {
  const facts = FACTS[name]!;

  test(`superblock: ${name}: images are what was recorded, fields are the manifest's`, () => {
    for (const member of facts.members) {
      const image = imagesOf(name).get(member.image)!;
      expect(sha256(image)).toBe(facts.images_sha256[member.image]!);
      const superblock = superblockOf(image);
      expect({
        feature: featureMapOf(superblock),
        size: superblock.sizeSectors,
        data_offset: superblock.dataOffsetSectors,
        data_size: superblock.dataSizeSectors,
        recovery_offset: superblock.recoveryOffsetSectors ?? superblock.journalTail,
        dev_number: superblock.devNumber,
        bb_size: superblock.badBlockLogSectors,
        bb_offset: superblock.badBlockLogOffsetSectors,
        events: superblock.events,
        resync_offset: superblock.resyncOffsetSectors ?? CLEAN,
        max_dev: superblock.devRoles.length,
        role: roleOf(superblock, superblock.devNumber),
      }).toEqual({
        feature: member.feature,
        size: member.size,
        data_offset: member.data_offset,
        data_size: member.data_size,
        recovery_offset: member.recovery_offset,
        dev_number: member.dev_number,
        bb_size: member.bb_size,
        bb_offset: member.bb_offset,
        events: member.events,
        resync_offset: member.resync_offset,
        max_dev: member.max_dev,
        role: member.role,
      });
      expect(superblock.chunkSectors * SECTOR_BYTES).toBe(facts.chunk_bytes);
      expect(superblock.memberCount).toBe(facts.raid_disks);
      expect(superblock.layout).toBe(facts.layout);
    }
  });

  test(`superblock: ${name}: encodes to the bytes that md wrote`, () => {
    for (const image of imagesOf(name).values()) {
      expect(sha256(encodeSuperblock(superblockOf(image)))).toBe(sha256(area(image)));
    }
  });

  test(`bad-block log: ${name}: reads as recorded and encodes to the bytes that md wrote`, () => {
    for (const member of facts.members) {
      const image = imagesOf(name).get(member.image)!;
      const superblock = superblockOf(image);
      expect(superblock.hasBadBlocks).toBe(member.badblocks !== undefined);
      const log = badBlocksOf(image, superblock);
      const expected = member.badblocks ?? [];
      expect(log.ranges).toEqual(
        expected.map(([sector, lengthSectors]) => ({ sector, lengthSectors })),
      );
      const start =
        (SUPERBLOCK_OFFSET_SECTORS + superblock.badBlockLogOffsetSectors) * SECTOR_BYTES;
      if (!log.isEmpty) expect(encodeBadBlockLog(log)).toEqual(image.slice(start, start + 4096));
    }
  });

  test(`create: ${name}: the layout on the members is the one that mdadm chose`, () => {
    for (const image of imagesOf(name).values()) {
      const superblock = superblockOf(image);
      const chosen = chooseLayoutOnMember({
        deviceBytes: image.length,
        chunkBytes: facts.chunk_bytes,
        policy: superblock.log.kind === "none" ? "resync" : superblock.log.kind,
      });
      expect(chosen).toMatchObject({
        ok: true,
        value: {
          dataOffsetSectors: superblock.dataOffsetSectors,
          dataSizeSectors: superblock.dataSizeSectors,
          badBlockLogOffsetSectors: superblock.badBlockLogOffsetSectors,
          badBlockLogSectors: superblock.badBlockLogSectors,
        },
      });
      if (chosen.ok && superblock.log.kind !== "none") {
        expect(superblock.log.offsetSectors).toBe(chosen.value.logOffsetSectors);
      }
    }
  });

  test(`examine: ${name}: says what mdadm said`, () => {
    for (const [imageName, image] of imagesOf(name)) {
      const theirs = labels(facts.examine[imageName]!);
      const superblock = superblockOf(image);
      const report = examineReport(superblock, { path: imageName, deviceBytes: image.length });
      const ours = labels(renderExamine(report));
      for (const [label, value] of theirs) {
        if (label.endsWith("Time")) {
          // mdadm ran in UTC: only the form of the time differs.
          expect(Date.parse(ours.get(label)!)).toBe(Date.parse(`${value} UTC`));
        } else {
          expect(`${label}: ${ours.get(label)?.toLowerCase()}`).toBe(
            `${label}: ${value.toLowerCase()}`,
          );
        }
      }
    }
  });
});

function labels(text: string): Map<string, string> {
  const pairs = text.split("\n").map((line) => /^ *([A-Z][A-Za-z ]+?) : (.*?) *$/.exec(line));
  return new Map(pairs.flatMap((pair) => (pair === null ? [] : [[pair[1]!, pair[2]!]])));
}

/** Parity is right everywhere in these. */
const IN_SYNC = [
  "r5-3d-64k-clean",
  "r5-4d-512k-clean",
  "r5-4d-16k-la",
  "r5-3d-64k-bitmap",
  "r5-3d-64k-ppl",
  "r5-3d-64k-badblocks",
];

test.each(IN_SYNC)("geometry: %s, all members: the array is what the kernel read", (name) => {
  const facts = FACTS[name]!;
  expect(sha256(readArray(facts, sourcesOf(imagesOf(name))))).toBe(facts.kernel_sha256);
});

const IN_SYNC_WITHOUT_ONE = IN_SYNC.flatMap((name) => {
  const count = FACTS[name]!.raid_disks;
  return Array.from({ length: count }, (_, index) => [name, `m${index}.img`] as const);
}).filter(([name, image]) => name !== "r5-3d-64k-badblocks" || image === "m2.img");

test.each(new Share("geometry without one", 3).of(IN_SYNC_WITHOUT_ONE))(
  "geometry: %s without %s: the array is what the kernel read",
  (name, image) => {
    const facts = FACTS[name]!;
    const images = new Map(imagesOf(name));
    images.delete(image);
    const sources = sourcesOf(images);
    expect(sources.filter((source) => source === undefined).length).toBe(1);
    expect(sha256(readArray(facts, sources))).toBe(facts.kernel_sha256);
  },
);

test("bad-block log: a damaged sector under an entry: the array is what the kernel read", () => {
  const facts = FACTS["r5-3d-64k-badblocks"]!;
  const images = loadFixture("r5-3d-64k-badblocks");
  images.get("m2.img")!.fill(0xbd, 12_288 * SECTOR_BYTES, 12_304 * SECTOR_BYTES);
  expect(sha256(readArray(facts, sourcesOf(images)))).toBe(facts.kernel_sha256);
});

test("assemble: r5-3d-64k-degraded: the removed member is stale although it says active", () => {
  const facts = FACTS["r5-3d-64k-degraded"]!;
  const images = loadFixture("r5-3d-64k-degraded");
  const judged = judgeAssembly(candidatesOf(images), { force: false });
  if (!judged.ok) throw new Error(judged.error.detail);
  const plan = judged.value;
  expect(plan.roles.map(({ state }) => state)).toEqual(["in-sync", "missing", "in-sync"]);
  expect(plan.stale.map(({ drive }) => drive)).toEqual(["m1.img"]);
  expect([plan.degraded, plan.resyncFromSector]).toEqual([1, null]);
  expect(sha256(readArray(facts, sourcesOf(images)))).toBe(facts.kernel_sha256);
});

test("assemble: r5-3d-64k-dirty: starts complete, is refused with any member missing", () => {
  const facts = FACTS["r5-3d-64k-dirty"]!;
  const images = loadFixture("r5-3d-64k-dirty");
  const candidates = candidatesOf(images);
  const complete = judgeAssembly(candidates, { force: false });
  expect(complete).toMatchObject({ ok: true, value: { resyncFromSector: 0 } });
  for (const { drive } of candidates) {
    const rest = candidates.filter((candidate) => candidate.drive !== drive);
    const refused = judgeAssembly(rest, { force: false });
    expect(refused).toMatchObject({ ok: false, error: { kind: "dirty-and-degraded" } });
    const forced = judgeAssembly(rest, { force: true });
    expect(forced).toMatchObject({ ok: true, value: { isForced: true, degraded: 1 } });
  }
  expect(sha256(readArray(facts, sourcesOf(images)))).toBe(facts.raw_assembled_sha256);
});

test("assemble: r5-3d-64k-ppl-dirty: starts with any member missing, to replay its log", () => {
  const candidates = candidatesOf(loadFixture("r5-3d-64k-ppl-dirty"));
  for (const { drive } of candidates) {
    const rest = candidates.filter((candidate) => candidate.drive !== drive);
    expect(judgeAssembly(rest, { force: false })).toMatchObject({
      ok: true,
      value: { policy: "ppl", resyncFromSector: 0, degraded: 1, isForced: false },
    });
  }
});

test("assemble: r5-4d-64k-resync-half: goes on from the checkpoint", () => {
  const candidates = candidatesOf(loadFixture("r5-4d-64k-resync-half"));
  expect(judgeAssembly(candidates, { force: false })).toMatchObject({
    ok: true,
    value: { resyncFromSector: 31_744, degraded: 0 },
  });
});

test("assemble: refuse-r5-journal: refused, with the reason, in any company", () => {
  const candidates = candidatesOf(loadFixture("refuse-r5-journal"));
  for (const drives of [candidates, candidates.slice(0, 3), candidates.slice(3)]) {
    const refused = judgeAssembly(drives, { force: true });
    expect(refused).toMatchObject({ ok: false, error: { kind: "unsupported" } });
    if (!refused.ok) expect(refused.error.detail).toContain("journal");
  }
});
