/**
 * Goal: a drive of the size of a member replaces that member, whatever policies the array has had
 * and whoever laid it out; so does the failed drive itself.
 * Method: arrays that use all of their drives, changed from each policy to each other, and mdadm's
 * own, of which a day takes a third; each loses a member and gets a blank drive of exactly that
 * size, and then the old one.
 */
import { expect, test } from "bun:test";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import {
  encodeSuperblock,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../../src/md/superblock.ts";
import { loadFixture } from "../../helpers/md-fixtures.ts";
import { testSuperblock } from "../../helpers/md-members.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share } from "../../helpers/share.ts";
import { blankImage, patchImage } from "../world/media.ts";
import { SimWorld } from "../world/sim-world.ts";

const DRIVE_BYTES = 6 * MIB;

/** Takes `lost` out, puts a new drive in its place, and then the lost one in another's. */
function replaceTwice(world: SimWorld, array: string, lost: string, sizeBytes: number): void {
  const add = (drive: string): void => {
    const added = world.call<"add-member">({ kind: "add-member", array, drive, force: true });
    expect([drive, added.ok ? "" : added.error.detail]).toEqual([drive, ""]);
    expect(world.settle({ array }).degraded).toBe(0);
  };
  world.must({ kind: "fail-member", array, drive: lost });
  world.must({ kind: "remove-member", array, drive: lost });
  world.addDrive({ name: "new", sizeBytes });
  add("new");
  world.must({ kind: "fail-member", array, drive: "new" });
  world.must({ kind: "remove-member", array, drive: "new" });
  add(lost);
  expect(world.check(array)).toBe(0);
}

for (const from of POLICIES) {
  for (const to of POLICIES) {
    test(`same size: created with ${from}, ${to} now: a new drive and the old one are taken`, () => {
      const world = new SimWorld({ seed: 1 });
      const drives = ["a", "b", "c"];
      for (const name of drives) world.addDrive({ name, sizeBytes: DRIVE_BYTES });
      const { name } = world.createArray({ drives, chunkBytes: 16 * KIB, consistencyPolicy: from });
      world.settle();
      world.must<"set-array">({ kind: "set-array", array: name, consistencyPolicy: to });
      replaceTwice(world, name, "b", DRIVE_BYTES);
      expect(world.status(name).consistencyPolicy).toBe(to);
    });
  }
}

const FIXTURES = ["clean", "bitmap", "ppl", "badblocks"].map((name) => `r5-3d-64k-${name}`);

const LARGE = ["r5-4d-16k-la", "r5-4d-512k-clean"];

for (const fixture of new Share("same size", 3).of([...FIXTURES, ...LARGE])) {
  test(`same size: mdadm's ${fixture}: a new drive and the old one are taken`, () => {
    const world = new SimWorld({ seed: 1 });
    let sizeBytes = 0;
    for (const [name, bytes] of loadFixture(fixture)) {
      sizeBytes = bytes.length;
      world.plug(patchImage(blankImage({ name, sizeBytes }), 0, bytes));
      world.attach(name);
    }
    const [array] = world.must<"list-arrays">({ kind: "list-arrays" });
    world.settle({ array: array!.name });
    replaceTwice(world, array!.name, "m0.img", sizeBytes);
  });
}

/** As `mdadm --create --data-offset` makes them: clean, of zeros, and the drives end with the data. */
function plugMembers(world: SimWorld, dataOffsetSectors: number): string[] {
  const sizeSectors = 4096;
  const sizeBytes = (dataOffsetSectors + sizeSectors) * SECTOR_BYTES;
  return [0, 1, 2].map((role) => {
    const name = `member${role}`;
    const superblock: Superblock = {
      ...testSuperblock(role),
      ...{ dataOffsetSectors, dataSizeSectors: sizeSectors, sizeSectors },
      ...{ badBlockLogSectors: 0, badBlockLogOffsetSectors: 0 },
    };
    const block = encodeSuperblock(superblock);
    world.plug(patchImage(blankImage({ name, sizeBytes }), SUPERBLOCK_OFFSET_BYTES, block));
    world.attach(name);
    return name;
  });
}

for (const dataOffset of [16, 24, 32, 256, 512, 1024]) {
  test(`same size: members whose data begin at sector ${dataOffset}: every policy that fits`, () => {
    let changed = 0;
    for (const consistencyPolicy of POLICIES) {
      const world = new SimWorld({ seed: 1 });
      const [lost] = plugMembers(world, dataOffset);
      const array = "tank";
      const policy = world.call({ kind: "set-array", array, consistencyPolicy });
      if (!policy.ok) continue;
      changed += 1;
      replaceTwice(world, array, lost!, world.device(lost!).sizeBytes);
    }
    expect(changed).toBe(dataOffset < 24 ? 1 : dataOffset < 300 ? 2 : 3);
  });
}
