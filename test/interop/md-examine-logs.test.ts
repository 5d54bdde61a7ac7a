/**
 * Goal: our reports of the logs say what mdadm says of them.
 *
 * Method: `mdadm --examine-bitmap` and `--examine-badblocks` on what Linux wrote (the fixtures) and
 * on what we make, line by line. mdadm takes a bitmap from a regular file only where the file is
 * the bitmap itself, so its area is cut out of the member.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { GIB, KIB, MIB, TIB } from "../../src/base/units.ts";
import { BadBlockLog, encodeBadBlockLog } from "../../src/md/bad-block-log.ts";
import {
  type BitmapHeader,
  bitmapAreaBytes,
  bitmapOffsetBytes,
  decodeBitmapHeader,
  newBitmapHeader,
} from "../../src/md/bitmap.ts";
import { newBitmap } from "../../src/md/bitmap-load.ts";
import {
  badBlocksReport,
  bitmapReport,
  pplReport,
  renderBadBlocks,
  renderBitmap,
  renderPpl,
} from "../../src/md/examine/logs.ts";
import { encodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../src/md/superblock.ts";
import { loadFixture } from "../helpers/md-fixtures.ts";
import { testSuperblock } from "../helpers/md-members.ts";
import {
  badBlocksOfImage,
  openImages,
  scanImage,
  superblockOfImage,
} from "../helpers/md-recovery.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const HAS_MDADM = needs("mdadm");

function mdadm(option: string, bytes: Uint8Array): { path: string; text: string } {
  const path = join(makeTempDir("examine"), "m.img");
  writeFileSync(path, bytes);
  const { stdout, stderr } = Bun.spawnSync([toolPath("mdadm")!, option, path], {
    env: { TZ: "UTC", LC_ALL: "C" },
  });
  expect(stderr.toString()).toBe("");
  return { path, text: stdout.toString().trimEnd() };
}

function expectSameBitmap(header: BitmapHeader, area: Uint8Array): void {
  const { path, text } = mdadm("--examine-bitmap", area);
  expect(renderBitmap(bitmapReport(path, header, area))).toBe(text);
}

test.skipIf(!HAS_MDADM)("examine bitmap: r5-3d-64k-bitmap: mdadm's words [needs mdadm]", () => {
  for (const image of loadFixture("r5-3d-64k-bitmap").values()) {
    const superblock = superblockOfImage(image);
    const start = bitmapOffsetBytes(superblock);
    const decoded = decodeBitmapHeader(image.subarray(start), {
      superblock,
      deviceBytes: image.length,
    });
    if (!decoded.ok) throw new Error(decoded.error.detail);
    const area = image.slice(start, start + bitmapAreaBytes(decoded.value));
    expectSameBitmap(decoded.value, area);
    area.fill(0x11, 260, 270);
    expectSameBitmap(decoded.value, area);
  }
});

test.skipIf(!HAS_MDADM).each([
  [64 * MIB, 4 * KIB],
  [3 * MIB, 64 * KIB],
  [5 * GIB, 64 * MIB],
  [3 * TIB, 128 * MIB],
])(
  "examine bitmap: a new one over %i bytes, %i a bit: mdadm's words [needs mdadm]",
  (bytes, chunkBytes) => {
    const superblock = { ...testSuperblock(0, { policy: "bitmap" }), sizeSectors: bytes / 512 };
    const header = { ...newBitmapHeader({ superblock, chunkBytes }), state: 2, writeBehind: 256 };
    expectSameBitmap(header, newBitmap(header, true).image());
    expectSameBitmap({ ...header, state: 0 }, newBitmap({ ...header, state: 0 }, false).image());
  },
);

test.skipIf(!HAS_MDADM)(
  "examine bad blocks: r5-3d-64k-badblocks: mdadm's words [needs mdadm]",
  () => {
    for (const image of loadFixture("r5-3d-64k-badblocks").values()) {
      const { path, text } = mdadm("--examine-badblocks", image);
      const superblock = superblockOfImage(image);
      const report = badBlocksReport(path, superblock, badBlocksOfImage(image, superblock));
      expect(renderBadBlocks(report)).toBe(text);
    }
  },
);

test.skipIf(!HAS_MDADM)(
  "examine bad blocks: our own log, or none: mdadm's words [needs mdadm]",
  () => {
    const plain = testSuperblock(0);
    const log = new BadBlockLog();
    log.add(4096, 8);
    log.add(2 ** 33, 500);
    const offset = SUPERBLOCK_OFFSET_BYTES + plain.badBlockLogOffsetSectors * 512;
    for (const superblock of [
      { ...plain, hasBadBlocks: true },
      { ...plain, badBlockLogSectors: 0, badBlockLogOffsetSectors: 0 },
    ]) {
      const image = new Uint8Array(16 * MIB);
      image.set(encodeSuperblock(superblock), SUPERBLOCK_OFFSET_BYTES);
      image.set(encodeBadBlockLog(log), offset);
      const { path, text } = mdadm("--examine-badblocks", image);
      expect(renderBadBlocks(badBlocksReport(path, superblock, log))).toBe(text);
    }
  },
);

test("examine ppl: r5-3d-64k-ppl-dirty: the last unit of each log", () => {
  const { geometry, members } = openImages(loadFixture("r5-3d-64k-ppl-dirty"));
  const texts = members.map((member, logRole) => {
    return renderPpl(pplReport(`m${logRole}.img`, scanImage(member!), { geometry, logRole }));
  });
  expect(texts[2]!.split("\n")).toEqual([
    "        Filename : m2.img",
    "       Log State : OK",
    "       Signature : edfb6ffa",
    "      Generation : 29",
    expect.stringMatching(/^ {7}Last Unit : number \d+, at byte 241664$/),
    "         Entries : 2",
    "                 896 for 20480 bytes, partial parity 20480 bytes, parity on 2",
    "                 856 for 4096 bytes, partial parity 4096 bytes, parity on 2",
  ]);
  const foreign = renderPpl(pplReport("m2.img", scanImage(members[2]!), { geometry, logRole: 0 }));
  expect(foreign).toContain("parity on 2, wrong (wrong-log)");
  const none = { kind: "none", reason: "blank" } as const;
  expect(renderPpl(pplReport("m0.img", none, { geometry, logRole: 0 }))).toContain("blank");
});
