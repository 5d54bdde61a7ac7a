/**
 * Goal: new arrays lie on their members as mdadm would lay them, and say the same on every member.
 *
 * Method: offsets against figures seen in the field and worked out from mdadm's formula, at each of
 * its steps; the superblock against its options; names against mdadm's rules. (The fixtures of
 * test/interop compare with what mdadm itself made.)
 */
import { describe, expect, test } from "bun:test";
import { GIB, KIB, MIB, TIB } from "../../../src/base/units.ts";
import {
  arrayNameOf,
  type ConsistencyPolicy,
  chooseLayoutOnMember,
  formSetName,
  mdTimeOf,
  setNameOf,
} from "../../../src/md/create.ts";
import { decodeSuperblock, encodeSuperblock } from "../../../src/md/superblock.ts";
import { testSuperblock } from "../../helpers/md-members.ts";

const CASES: readonly (readonly [number, number, ConsistencyPolicy, number, number])[] = [
  // device, chunk, policy, data offset, log space
  [32 * MIB, 64 * KIB, "resync", 2048, 8],
  [32 * MIB, 512 * KIB, "resync", 4096, 8],
  [40 * MIB, 64 * KIB, "ppl", 4096, 2048],
  [24 * MIB, 16 * KIB, "bitmap", 2048, 8],
  [8 * GIB, 512 * KIB, "resync", 18_432, 8],
  [8 * GIB + 4 * KIB, 512 * KIB, "resync", 18_432, 8],
  [8 * GIB + 8 * KIB, 512 * KIB, "resync", 18_432, 128],
  [200 * GIB, 512 * KIB, "resync", 264_192, 128],
  [200 * GIB + 64 * KIB, 512 * KIB, "resync", 264_192, 256],
  [4 * TIB, 512 * KIB, "resync", 264_192, 256],
  [4 * TIB, 512 * KIB, "ppl", 266_240, 2048],
];

test.each(CASES)(
  "create: %i bytes, chunk %i, %s: data offset %i, log space %i",
  (deviceBytes, chunkBytes, policy, dataOffsetSectors, logSpaceSectors) => {
    expect(chooseLayoutOnMember({ deviceBytes, chunkBytes, policy })).toEqual({
      ok: true,
      value: {
        dataOffsetSectors,
        dataSizeSectors: deviceBytes / 512 - dataOffsetSectors,
        logOffsetSectors: 8,
        logSpaceSectors,
        badBlockLogOffsetSectors: 8 + logSpaceSectors,
        badBlockLogSectors: 8,
      },
    });
  },
);

test("create: a drive with room for one chunk, and one sector less: taken, refused", () => {
  const options = { chunkBytes: 64 * KIB, policy: "resync" } as const;
  const leastBytes = MIB + 64 * KIB;
  expect(chooseLayoutOnMember({ ...options, deviceBytes: leastBytes }).ok).toBe(true);
  const refused = chooseLayoutOnMember({ ...options, deviceBytes: leastBytes - 512 });
  expect(refused).toMatchObject({ ok: false, error: { kind: "device-too-small" } });
  if (!refused.ok) expect(refused.error.detail).toContain(String(leastBytes));
  expect(chooseLayoutOnMember({ ...options, deviceBytes: 0 }).ok).toBe(false);
});

test("create: bytes behind the last whole sector: not used", () => {
  const options = { chunkBytes: 64 * KIB, policy: "resync" } as const;
  const odd = chooseLayoutOnMember({ ...options, deviceBytes: 32 * MIB + 511 });
  expect(odd).toEqual(chooseLayoutOnMember({ ...options, deviceBytes: 32 * MIB }));
});

describe.each(["resync", "bitmap", "ppl"] as const)("policy %s", (policy) => {
  test.each([3, 8, 128])(
    `create: ${policy}, %i members: every member's superblock is well formed`,
    (memberCount) => {
      for (const devNumber of [0, 1, memberCount - 1]) {
        const superblock = testSuperblock(devNumber, { memberCount, policy });
        const bytes = encodeSuperblock(superblock);
        const decoded = decodeSuperblock(bytes, { deviceBytes: 64 * MIB });
        expect(decoded).toEqual({ ok: true, value: superblock });
        expect(superblock.devRoles.length).toBe(128);
        expect(superblock.devRoles.slice(0, memberCount)).toEqual([...Array(memberCount).keys()]);
        expect(superblock.devRoles.slice(memberCount).every((role) => role === 0xffff)).toBe(true);
      }
    },
  );
});

test.each([
  ["tower", "tank", "tower:tank"],
  [null, "tank", "tank"],
  ["", "tank", "tank"],
  ["tower", "other:tank", "other:tank"],
  ["a-host-with-a-long-name", "12345678", "12345678"],
  ["a-host-with-a-long-name", "1234567", "a-host-with-a-long-name:1234567"],
  ["tower", "x".repeat(32), "x".repeat(32)],
])("create: host %s, name %s: stored as %s", (host, name, expected) => {
  expect(formSetName({ host, name })).toEqual({ ok: true, value: expected });
});

test("create: a name of 33 bytes: refused", () => {
  const refused = formSetName({ host: null, name: `${"ä".repeat(16)}x` });
  expect(refused).toMatchObject({ ok: false, error: { kind: "name-too-long" } });
});

test.each([
  ["tower:tank", "tank"],
  ["tank", "tank"],
  ["tower:a:b", "a:b"],
  ["tower:", "tower:"],
  ["", ""],
])("create: set name %s: the array is called %s", (setName, expected) => {
  expect(arrayNameOf(setName)).toBe(expected);
});

test("create: set name of a superblock: up to the first NUL, or all 32 bytes", () => {
  const superblock = testSuperblock(0);
  expect(setNameOf(superblock)).toBe("tower:tank");
  const full = new Uint8Array(32).fill(0x78);
  expect(setNameOf({ ...superblock, setNameBytes: full })).toBe("x".repeat(32));
});

test("create: wall time: seconds and microseconds of md", () => {
  expect(mdTimeOf(1_800_000_000_125.5)).toEqual({ seconds: 1_800_000_000, microseconds: 0 });
  expect(mdTimeOf(0)).toEqual({ seconds: 0, microseconds: 0 });
});
