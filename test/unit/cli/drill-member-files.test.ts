/**
 * Goal: the drill's own look at the member files is right, shares nothing with the engine, and
 * finds a single wrong byte.
 *
 * Method: its mapping is compared with the engine's for all member counts, its parser with the
 * codec; member files are laid out here by hand, whole and with one byte changed. The rules on
 * superblocks are met by one violation each.
 */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import {
  chunkOfRole,
  compareMembers,
  findRollbackFaults,
  findStoppedFaults,
  type MemberFacts,
  parseMember,
  readMember,
} from "../../../src/cli/drill/member-files.ts";
import { chooseLayoutOnMember, mdTimeOf, newSuperblock } from "../../../src/md/create.ts";
import { LAYOUT_LEFT_SYMMETRIC } from "../../../src/md/layout.ts";
import { encodeSuperblock, Role, type Superblock } from "../../../src/md/superblock.ts";
import { Shadow } from "../../../src/nbd/client/load/shadow.ts";
import { stampedBytes } from "../../../src/nbd/client/load/stamp.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const CHUNK_BYTES = 64 * 1024;
const ARRAY_UUID = "00010203:04050607:08090a0b:0c0d0e0f";

function superblockOf(options: {
  devNumber: number;
  memberCount: number;
  deviceBytes: number;
  stripeCount: number;
}): Superblock {
  const { devNumber, memberCount, deviceBytes, stripeCount } = options;
  const layout = chooseLayoutOnMember({ deviceBytes, chunkBytes: CHUNK_BYTES, policy: "resync" });
  if (!layout.ok) throw new Error(layout.error.detail);
  return newSuperblock({
    arrayUuid: ARRAY_UUID,
    deviceUuid: "10010203:04050607:08090a0b:0c0d0e0f",
    setName: "raid_test",
    createdAt: mdTimeOf(0),
    memberCount,
    chunkBytes: CHUNK_BYTES,
    layout: LAYOUT_LEFT_SYMMETRIC,
    sizeSectors: (stripeCount * CHUNK_BYTES) / 512,
    policy: "resync",
    layoutOnMember: layout.value,
    devNumber,
    resyncOffsetSectors: null,
    events: 17,
  });
}

test("member files: the imports: neither the engine nor the parity kernels", () => {
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const [, specifier] of readFileSync(path, "utf8").matchAll(/from "(\.[^"]+)"/g)) {
      visit(resolve(dirname(path), specifier!));
    }
  };
  visit(resolve(import.meta.dir, "../../../src/cli/drill/member-files.ts"));
  expect(seen.size).toBeGreaterThan(3);
  expect([...seen].filter((path) => /\/(raid5|parity|array)\//.test(path))).toEqual([]);
});

test("member files: the mapping for 3 to 16 members: as the engine's", () => {
  for (let memberCount = 3; memberCount <= 16; memberCount += 1) {
    const geometry = new Geometry({
      memberCount,
      chunkBytes: 4096,
      layout: LAYOUT_LEFT_SYMMETRIC,
      memberSizeBytes: 4096 * 40,
    });
    for (let stripe = 0; stripe < geometry.stripeCount; stripe += 1) {
      for (let role = 0; role < memberCount; role += 1) {
        const index = geometry.dataIndexOf(stripe, role);
        const expected = index < 0 ? -1 : geometry.arrayOffsetOf(stripe, index) / 4096;
        expect(chunkOfRole(stripe, role, memberCount)).toBe(expected);
      }
    }
  }
});

test("member files: a superblock of the codec: every field read", () => {
  const shape = { devNumber: 2, memberCount: 4, deviceBytes: 64 << 20, stripeCount: 100 };
  const superblock = superblockOf(shape);
  const parse = (changes: Partial<Superblock>) =>
    parseMember(encodeSuperblock({ ...superblock, ...changes }));
  expect(parse({})).toEqual({
    ok: true,
    value: {
      arrayUuid: "000102030405060708090a0b0c0d0e0f",
      layout: 2,
      chunkBytes: CHUNK_BYTES,
      memberCount: 4,
      usedBytes: 100 * CHUNK_BYTES,
      dataOffsetBytes: superblock.dataOffsetSectors * 512,
      devNumber: 2,
      devRoles: [...superblock.devRoles],
      role: 2,
      events: 17,
      isRebuilding: false,
      isClean: true,
    },
  });
  expect(parse({ recoveryOffsetSectors: 128 })).toMatchObject({ value: { isRebuilding: true } });
  expect(parse({ resyncOffsetSectors: 0 })).toMatchObject({ value: { isClean: false } });
  const devRoles = [0, 1, Role.faulty, 3];
  expect(parse({ devRoles })).toMatchObject({ value: { role: Role.faulty } });
  expect(parse({ devNumber: 300 })).toMatchObject({ value: { role: Role.spare } });
});

test("member files: no superblock, short file, no file: an error, no throw", () => {
  expect(parseMember(new Uint8Array(4096)).ok).toBe(false);
  expect(parseMember(new Uint8Array(100)).ok).toBe(false);
  const folder = makeTempDir("dm");
  expect(readMember(join(folder, "nothing.img")).ok).toBe(false);
  writeFileSync(join(folder, "short.img"), new Uint8Array(5000));
  expect(readMember(join(folder, "short.img")).ok).toBe(false);
});

const STRIPES = 7;

/** Whole member files with stamped data, and the shadow that knows it. */
function layOut(memberCount: number): { paths: string[]; shadow: Shadow; dataOffset: number } {
  const folder = makeTempDir("dm");
  const sizeBytes = STRIPES * (memberCount - 1) * CHUNK_BYTES;
  const shadow = new Shadow({ sizeBytes, run: 1 });
  const data = stampedBytes({ offset: 0, bytes: sizeBytes }, { run: 1, version: 1, writer: 1 });
  shadow.record(0, data);
  const deviceBytes = 4 << 20;
  const images = Array.from({ length: memberCount }, () => new Uint8Array(deviceBytes));
  let dataOffset = 0;
  for (const [devNumber, image] of images.entries()) {
    const shape = { devNumber, memberCount, deviceBytes, stripeCount: STRIPES };
    const superblock = superblockOf(shape);
    dataOffset = superblock.dataOffsetSectors * 512;
    image.set(encodeSuperblock(superblock), 4096);
  }
  for (let stripe = 0; stripe < STRIPES; stripe += 1) {
    const parityRole = memberCount - 1 - (stripe % memberCount);
    const at = dataOffset + stripe * CHUNK_BYTES;
    for (let place = 0; place < memberCount - 1; place += 1) {
      const role = (parityRole + 1 + place) % memberCount;
      const from = (stripe * (memberCount - 1) + place) * CHUNK_BYTES;
      const chunk = data.subarray(from, from + CHUNK_BYTES);
      images[role]!.set(chunk, at);
      const parity = images[parityRole]!;
      for (let byte = 0; byte < CHUNK_BYTES; byte += 1) parity[at + byte]! ^= chunk[byte]!;
    }
  }
  const paths = images.map((image, role) => {
    const path = join(folder, `drive${role}.img`);
    writeFileSync(path, image);
    return path;
  });
  return { paths, shadow, dataOffset };
}

for (const memberCount of [3, 5]) {
  test(`member files: ${memberCount} members as they should be: compared to the end`, async () => {
    const { paths, shadow } = layOut(memberCount);
    for (let rebuiltRole = 0; rebuiltRole < memberCount; rebuiltRole += 1) {
      expect(await compareMembers({ paths, rebuiltRole, shadow })).toEqual({
        ok: true,
        value: { comparedBytes: STRIPES * CHUNK_BYTES, wrong: null },
      });
    }
  });

  test(`member files: ${memberCount} members, one byte changed anywhere: found`, async () => {
    const { paths, shadow, dataOffset } = layOut(memberCount);
    for (const [role, path] of paths.entries()) {
      const image = readFileSync(path);
      for (const stripe of [0, 3, STRIPES - 1]) {
        const at = dataOffset + stripe * CHUNK_BYTES + 777;
        image[at]! ^= 0x10;
        writeFileSync(path, image);
        for (let rebuiltRole = 0; rebuiltRole < memberCount; rebuiltRole += 1) {
          const compared = await compareMembers({ paths, rebuiltRole, shadow });
          const wrong = compared.ok ? compared.value.wrong : null;
          // A parity chunk that is wrong shows as the XOR of the others, whichever was rebuilt.
          expect([role, wrong]).toEqual([role, expect.stringContaining(`stripe ${stripe}`)]);
        }
        image[at]! ^= 0x10;
      }
      writeFileSync(path, image);
    }
  });
}

test("member files: members in the wrong order, or one gone: an error", async () => {
  const { paths, shadow } = layOut(3);
  const swapped = [paths[1]!, paths[0]!, paths[2]!];
  expect((await compareMembers({ paths: swapped, rebuiltRole: 0, shadow })).ok).toBe(false);
  const gone = [paths[0]!, paths[1]!, `${paths[2]}.gone`];
  expect((await compareMembers({ paths: gone, rebuiltRole: 0, shadow })).ok).toBe(false);
});

// Superblocks before and after ------------------------------------------------------------------

function survivor(role: number, changes: Partial<MemberFacts> = {}): MemberFacts {
  return {
    arrayUuid: "aa",
    layout: 2,
    chunkBytes: CHUNK_BYTES,
    memberCount: 3,
    usedBytes: 100 * CHUNK_BYTES,
    dataOffsetBytes: 1 << 20,
    devNumber: role,
    devRoles: [0xffff, 1, 2],
    role,
    events: 10,
    isRebuilding: false,
    isClean: true,
    ...changes,
  };
}

const BEFORE = [survivor(1), survivor(2)];
const LATER = { events: 14, devRoles: [0xffff, 1, 2, 0xfffe] };

test("rollback: same roles, later events, the target faulty: as before", () => {
  const after = [survivor(1, LATER), survivor(2, LATER)];
  expect(findRollbackFaults(BEFORE, after)).toEqual([]);
});

const VIOLATIONS: readonly [string, Partial<MemberFacts>, string][] = [
  ["another array", { arrayUuid: "bb" }, "another device"],
  ["another device number", { devNumber: 5 }, "another device"],
  ["another role", { role: 0 }, "says role 0"],
  ["rebuilding", { isRebuilding: true }, "rebuilds"],
  ["the same events", { events: 10 }, "no later event count"],
  ["other events", { events: 15 }, "another event count"],
  ["the target in sync", { devRoles: [0xffff, 1, 2, 0] }, "other members in sync"],
  ["a survivor left out", { devRoles: [0xffff, 1, 0xfffe] }, "other members in sync"],
];
for (const [name, changes, text] of VIOLATIONS) {
  test(`rollback: ${name}: found`, () => {
    const after = [survivor(1, LATER), survivor(2, { ...LATER, ...changes })];
    expect(findRollbackFaults(BEFORE, after).join("\n")).toContain(text);
  });
}

test("rollback: a survivor is gone: found", () => {
  expect(findRollbackFaults(BEFORE, [survivor(1, LATER)])).toEqual([
    "the survivor of role 2 is gone",
  ]);
});

test("stopped: whole, clean, of one event: nothing; each violation: found", () => {
  const whole = [survivor(0), survivor(1), survivor(2)];
  expect(findStoppedFaults(whole)).toEqual([]);
  for (const changes of [{ role: 1 }, { isRebuilding: true }, { isClean: false }, { events: 9 }]) {
    expect(findStoppedFaults([survivor(0), survivor(1), survivor(2, changes)])).toHaveLength(1);
  }
});
