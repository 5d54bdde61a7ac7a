/**
 * Goal: a drive that joins an array is laid out as what the array has: one of the size of a member
 * always fits, whatever offsets and policies the array has come to.
 *
 * Method: every array of the fixtures, and arrays with every data offset, chunk and policy that
 * mdadm gives them, each with a drive of exactly the members' size; and drives shrunk sector by
 * sector, down to what the array needs and no more. What comes out is judged by the codec's own
 * rules of areas, and by mdadm itself.
 */
import { expect, test } from "bun:test";
import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import { bitmapOffsetBytes, encodeBitmapHeader, newBitmapHeader } from "../../../src/md/bitmap.ts";
import { type ConsistencyPolicy, chooseLayoutOnMember } from "../../../src/md/create.ts";
import { type JoinLayout, layOutForJoining } from "../../../src/md/join-layout.ts";
import { placeLog, type WantedLog } from "../../../src/md/log-place.ts";
import { PPL_AREA_SECTORS_MIN } from "../../../src/md/ppl.ts";
import { begunReshape } from "../../../src/md/reshape.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../../src/md/superblock.ts";
import { fixtureFacts, loadFixture } from "../../helpers/md-fixtures.ts";
import { testSuperblock } from "../../helpers/md-members.ts";
import { needs, toolPath } from "../../helpers/needs.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const WANTED: readonly WantedLog[] = [
  { policy: "resync" },
  { policy: "bitmap", areaBytes: 4096 },
  { policy: "ppl" },
];
/** As `mdadm --create --data-offset` takes them, and smaller. */
const DATA_OFFSETS = [16, 24, 32, 128, 256, 512, 1024, 2048, 2056, 4096, 8192, 18_432, 264_192];
const SIZE_SECTORS = 40_960;

interface Case {
  readonly what: string;
  readonly array: Superblock;
  readonly model: Superblock;
  readonly deviceBytes: number;
}

function fixtureCases(): Case[] {
  return Object.keys(fixtureFacts()).flatMap((name) => {
    if (name.startsWith("refuse")) return [];
    return [...loadFixture(name)].map(([image, bytes]): Case => {
      const block = bytes.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + 4096);
      const decoded = decodeSuperblock(block, { deviceBytes: bytes.length });
      if (!decoded.ok) throw new Error(decoded.error.detail);
      const { value } = decoded;
      return { what: `${name} ${image}`, array: value, model: value, deviceBytes: bytes.length };
    });
  });
}

/** Members that end with their data, as those of an array that uses all of them. */
function offsetCases(): Case[] {
  return DATA_OFFSETS.flatMap((dataOffsetSectors) =>
    [0, 8, 16].map((hole): Case => {
      const hasLog = hole > 0 && dataOffsetSectors >= 16 + 8 + hole;
      const base = testSuperblock(0);
      const model: Superblock = {
        ...base,
        log: { kind: "none", word: 0 },
        sizeSectors: SIZE_SECTORS,
        dataOffsetSectors,
        dataSizeSectors: SIZE_SECTORS,
        badBlockLogSectors: hasLog ? 8 : 0,
        badBlockLogOffsetSectors: hasLog ? 8 + hole : 0,
      };
      const deviceBytes = (dataOffsetSectors + SIZE_SECTORS) * SECTOR_BYTES;
      const what = `data offset ${dataOffsetSectors}, bad-block log ${hasLog ? hole : "none"}`;
      return { what, array: model, model, deviceBytes };
    }),
  );
}

const CASES = [...fixtureCases(), ...offsetCases()];

/** The superblock of the newcomer, through its bytes and back, as the drive will be probed. */
function superblockOf({ array, deviceBytes }: Case, layout: JoinLayout): Superblock {
  const bytes = encodeSuperblock({ ...array, ...layout, hasBadBlocks: false });
  const decoded = decodeSuperblock(bytes, { deviceBytes });
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
}

for (const wanted of WANTED) {
  test(`join: ${wanted.policy}: every array and offset: a drive of the members' size fits`, () => {
    let fitting = 0;
    for (const each of CASES) {
      const { what, array, model, deviceBytes } = each;
      const options = { deviceBytes, logicalBlockBytes: 512, array, models: [model], wanted };
      const layout = layOutForJoining(options);
      // An array has a policy only where its members have room for the log.
      const canHave = placeLog(model, wanted) !== null;
      if (!canHave) continue;
      expect([what, layout.ok]).toEqual([what, true]);
      if (!layout.ok) continue;
      const superblock = superblockOf(each, layout.value);
      expect(superblock.dataOffsetSectors).toBe(model.dataOffsetSectors);
      expect(superblock.dataSizeSectors).toBeGreaterThanOrEqual(array.sizeSectors);
      expect(superblock.badBlockLogSectors).toBeGreaterThanOrEqual(model.badBlockLogSectors);
      expect(superblock.log.kind).toBe(wanted.policy === "resync" ? "none" : wanted.policy);
      fitting += 1;
    }
    expect(fitting).toBeGreaterThan(wanted.policy === "ppl" ? 40 : 50);
  });

  test(`join: ${wanted.policy}: a drive shrinks: taken while the data and the log fit, no more`, () => {
    const [array] = offsetCases()
      .map(({ model }) => model)
      .slice(-1);
    const needed = { resync: 0, bitmap: 8, ppl: PPL_AREA_SECTORS_MIN }[wanted.policy];
    const least = 16 + needed + SIZE_SECTORS;
    for (let sectors = least + 3000; sectors >= least - 20; sectors -= 1) {
      const deviceBytes = sectors * SECTOR_BYTES;
      const options = { deviceBytes, logicalBlockBytes: 512, array: array!, models: [array!] };
      const layout = layOutForJoining({ ...options, wanted });
      expect([sectors, layout.ok]).toEqual([sectors, sectors >= least]);
      if (!layout.ok) expect(layout.error).toBe(least * SECTOR_BYTES);
      else superblockOf({ what: "", array: array!, model: array!, deviceBytes }, layout.value);
    }
  });
}

test("join: in a reshape: a drive shrinks: taken while its data can move to the front, no more", () => {
  for (const before of [264_192, 2048, 512]) {
    const { model } = offsetCases().findLast(({ model: { dataOffsetSectors } }) => {
      return dataOffsetSectors === before;
    })!;
    for (const newOffsetSectors of [-128, -384]) {
      const array = begunReshape(model, { deltaMembers: 1, newOffsetSectors });
      const least = 16 - newOffsetSectors + SIZE_SECTORS;
      for (let sectors = least + 600; sectors >= least - 20; sectors -= 1) {
        const deviceBytes = sectors * SECTOR_BYTES;
        const options = { deviceBytes, logicalBlockBytes: 512, array, models: [array] };
        const layout = layOutForJoining({ ...options, wanted: { policy: "resync" } });
        expect([sectors, layout.ok]).toEqual([sectors, sectors >= least]);
        if (!layout.ok) expect(layout.error).toBe(least * SECTOR_BYTES);
        else superblockOf({ what: "", array, model: array, deviceBytes }, layout.value);
      }
    }
  }
});

test("join: after each change of policy: a drive of the same size fits", () => {
  const policies: readonly ConsistencyPolicy[] = ["resync", "bitmap", "ppl"];
  for (const created of policies) {
    for (const wanted of WANTED) {
      for (const deviceBytes of [32 * MIB, 2048 * MIB, 300 * 1024 * MIB]) {
        const made = chooseLayoutOnMember({ deviceBytes, chunkBytes: 64 * KIB, policy: created });
        if (!made.ok) throw new Error(made.error.detail);
        const { logSpaceSectors: _space, logOffsetSectors: _offset, ...place } = made.value;
        const sizeSectors = made.value.dataSizeSectors - (made.value.dataSizeSectors % 128);
        const model = { ...testSuperblock(0), ...place, sizeSectors };
        const options = { deviceBytes, logicalBlockBytes: 512, array: model, models: [model] };
        const layout = layOutForJoining({ ...options, wanted });
        expect([created, wanted.policy, deviceBytes, layout.ok]).toEqual([
          created,
          wanted.policy,
          deviceBytes,
          true,
        ]);
      }
    }
  }
});

test("join: a drive of 4 KiB blocks beside members with odd offsets: whole rows", () => {
  const odd = { ...offsetCases()[0]!.model, dataOffsetSectors: 2051 };
  const deviceBytes = (2051 + SIZE_SECTORS) * SECTOR_BYTES;
  for (const wanted of WANTED) {
    const options = { deviceBytes, logicalBlockBytes: 4096, array: odd, models: [odd], wanted };
    const layout = layOutForJoining(options);
    expect(layout.ok && layout.value.dataOffsetSectors).toBe(2048);
  }
});

test.skipIf(!needs("mdadm"))("join: mdadm --examine takes what comes out [needs mdadm]", () => {
  const folder = makeTempDir("join");
  for (const [index, each] of CASES.entries()) {
    for (const wanted of WANTED) {
      const { array, model, deviceBytes } = each;
      const options = { deviceBytes, logicalBlockBytes: 512, array, models: [model], wanted };
      const layout = layOutForJoining(options);
      if (!layout.ok || (index + wanted.policy.length) % 3 !== 0) continue;
      const path = join(folder, "drive");
      const superblock = { ...array, ...layout.value };
      const image = new Uint8Array(Math.min(deviceBytes, MIB + SUPERBLOCK_BYTES));
      image.set(encodeSuperblock(superblock), SUPERBLOCK_OFFSET_BYTES);
      if (wanted.policy === "bitmap") {
        // Without one mdadm takes the feature for a mistake.
        const header = newBitmapHeader({ superblock, chunkBytes: 64 * MIB });
        image.set(encodeBitmapHeader(header), bitmapOffsetBytes(superblock));
      }
      writeFileSync(path, image);
      truncateSync(path, deviceBytes);
      const examined = Bun.spawnSync([toolPath("mdadm")!, "--examine", path]);
      const text = examined.stdout.toString();
      expect([each.what, examined.exitCode]).toEqual([each.what, 0]);
      expect(text).toContain(`Data Offset : ${layout.value.dataOffsetSectors} sectors`);
      expect(text).toContain("Checksum : ");
      expect(text).not.toContain("expected");
    }
  }
  rmSync(folder, { recursive: true });
});
