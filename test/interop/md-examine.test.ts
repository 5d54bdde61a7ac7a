/**
 * Goal: mdadm accepts the superblocks that we make and reads the same from them.
 *
 * Method: superblocks of new arrays go to sparse files, for each chunk size, member count and
 * policy; `mdadm --examine` must find them and print what `renderExamine` prints.
 */
import { describe, expect, test } from "bun:test";
import { closeSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { GIB, KIB, MIB, TIB } from "../../src/base/units.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import { examineReport, renderExamine } from "../../src/md/examine/examine.ts";
import { begunReshape, finishedReshape, reshapeOf, withReshape } from "../../src/md/reshape.ts";
import {
  encodeSuperblock,
  Feature,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../src/md/superblock.ts";
import { uuidBytes } from "../../src/md/uuid.ts";
import { testSuperblock } from "../helpers/md-members.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CHUNKS = [4, 8, 16, 32, 64, 128, 256, 512, 1024].map((kib) => kib * KIB);
const MEMBER_COUNTS = Array.from({ length: 14 }, (_, index) => index + 3);
const HAS_MDADM = needs("mdadm");

function labels(text: string): Map<string, string> {
  const pairs = text.split("\n").map((line) => /^ *([A-Z][A-Za-z' ]+?) : (.*?) *$/.exec(line));
  return new Map(pairs.flatMap((pair) => (pair === null ? [] : [[pair[1]!, pair[2]!]])));
}

/** An empty bitmap: without one mdadm takes the feature bit for a mistake. */
function bitmapHeader(superblock: Superblock): Uint8Array {
  const bytes = new Uint8Array(256);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x6d746962, true);
  view.setUint32(4, 4, true);
  bytes.set(uuidBytes(superblock.arrayUuid), 8);
  view.setBigUint64(24, BigInt(superblock.events), true);
  view.setBigUint64(40, BigInt(superblock.sizeSectors), true);
  view.setUint32(52, 64 * MIB, true);
  view.setUint32(56, 5, true);
  return bytes;
}

/** What mdadm says of a device with this superblock, by label. */
function mdadmExamine(superblock: Superblock, deviceBytes: number): Map<string, string> {
  const path = join(makeTempDir("examine"), "m.img");
  const file = openSync(path, "w");
  ftruncateSync(file, deviceBytes);
  writeSync(file, encodeSuperblock(superblock), 0, 4096, SUPERBLOCK_OFFSET_BYTES);
  if (superblock.log.kind === "bitmap") {
    const offset = SUPERBLOCK_OFFSET_BYTES + superblock.log.offsetSectors * 512;
    writeSync(file, bitmapHeader(superblock), 0, 256, offset);
  }
  closeSync(file);
  const { stdout, stderr, exitCode } = Bun.spawnSync([toolPath("mdadm")!, "--examine", path], {
    env: { TZ: "UTC", LC_ALL: "C" },
  });
  expect(`${stderr}${exitCode}`).toBe("0");
  return labels(stdout.toString());
}

function expectAgreement(superblock: Superblock, deviceBytes: number): void {
  const theirs = mdadmExamine(superblock, deviceBytes);
  const ours = labels(renderExamine(examineReport(superblock, { path: "m.img", deviceBytes })));
  expect(theirs.get("Checksum")).toEndWith("- correct");
  for (const [label, value] of theirs) {
    const mine = ours.get(label);
    if (label.endsWith("Time")) {
      expect(Math.floor(Date.parse(mine!) / 1000)).toBe(Date.parse(`${value} UTC`) / 1000);
    } else {
      expect(`${label}: ${mine?.toLowerCase()}`).toBe(`${label}: ${value.toLowerCase()}`);
    }
  }
  expect([...ours.keys()].filter((label) => !theirs.has(label))).toEqual([]);
}

describe.each(["resync", "bitmap", "ppl"] as const)("policy %s", (policy: ConsistencyPolicy) => {
  test.skipIf(!HAS_MDADM).each(CHUNKS)(
    `examine: ${policy}, chunk %i: mdadm says the same [needs mdadm]`,
    (chunkBytes) => {
      const superblock = testSuperblock(1, { chunkBytes, policy });
      expectAgreement(superblock, 64 * MIB);
    },
  );
});

test.skipIf(!HAS_MDADM).each(MEMBER_COUNTS)(
  "examine: %i members: mdadm says the same [needs mdadm]",
  (memberCount) => {
    expectAgreement(testSuperblock(memberCount - 1, { memberCount, policy: "ppl" }), 64 * MIB);
  },
);

test.skipIf(!HAS_MDADM).each([3 * GIB, 9 * GIB, 300 * GIB, 4 * TIB])(
  "examine: a drive of %i bytes: mdadm says the same [needs mdadm]",
  (deviceBytes) => {
    expectAgreement(testSuperblock(0, { deviceBytes, chunkBytes: 512 * KIB }), deviceBytes);
  },
);

const plain = testSuperblock(1, { memberCount: 4 });
const begun = begunReshape(testSuperblock(1), { deltaMembers: 1, newOffsetSectors: -256 });
const halfway = withReshape(begun, { ...reshapeOf(begun)!, positionSectors: 384 * 100 });

/** To level 6, another layout and chunks of 128 KiB. */
function reshapeFields(deltaMembers: number, newOffset: number): Uint8Array {
  const bytes = new Uint8Array(28);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, 6, true);
  view.setBigUint64(4, 100_000n, true);
  view.setInt32(12, deltaMembers, true);
  view.setUint32(16, 1, true);
  view.setUint32(20, 256, true);
  view.setInt32(24, newOffset, true);
  return bytes;
}

test.skipIf(!HAS_MDADM).each([
  ["dirty", { resyncOffsetSectors: 0 }],
  ["half resynced", { resyncOffsetSectors: 31_744 }],
  ["rebuilding", { recoveryOffsetSectors: 20_480 }],
  ["with bad blocks", { hasBadBlocks: true }],
  ["without a role", { devNumber: 9 }],
  ["degraded", { devRoles: plain.devRoles.with(2, 0xfffe) }],
  ["with little in use", { sizeSectors: 3072 }],
  ["smaller than the drive", { sizeSectors: plain.sizeSectors - 1024 }],
  ["a journal device", { devRoles: plain.devRoles.with(1, 0xfffd), otherFeatures: 0x200 }],
  ["a spare", { devNumber: 4 }],
  [
    "a replacement",
    { devNumber: 4, devRoles: plain.devRoles.with(4, 1), otherFeatures: Feature.replacement },
  ],
  ["write-mostly and failfast", { deviceFlags: 3 }],
  ["failfast", { deviceFlags: 2 }],
  ["growing", { otherFeatures: 0x44, reshapeBytes: reshapeFields(1, -512) }],
  ["shrinking", { otherFeatures: 0x24, reshapeBytes: reshapeFields(-1, 0) }],
  ["at the begin of a growth", begun],
  ["after a row of a growth", withReshape(begun, { ...reshapeOf(begun)!, positionSectors: 384 })],
  ["in the middle of a growth", halfway],
  ["grown", finishedReshape(halfway)],
  ["left-asymmetric", { layout: 0 }],
  ["parity-last", { layout: 5 }],
] satisfies [string, Partial<Superblock>][])(
  "examine: %s: mdadm says the same [needs mdadm]",
  (_, fields) => {
    expectAgreement({ ...plain, ...fields }, 64 * MIB);
  },
);
