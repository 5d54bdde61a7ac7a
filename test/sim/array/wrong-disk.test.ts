/**
 * Goal: a wrong drive in the place of a failed one is not taken without force, with a message that
 * says what it is; one that is too small not even with it (R16 of the fault goals). Two drives that
 * both claim a role, and drives with data, at assembly and at create: test/e2e/md-refusals.test.ts,
 * test/e2e/bad-input.test.ts, test/unit/md/assemble.test.ts.
 *
 * Method: a degraded array that runs, and each kind of wrong drive offered to it. What the drive
 * holds is the same before and after a refusal, and the array as degraded as before.
 */
import { expect, test } from "bun:test";
import { MIB } from "../../../src/base/units.ts";
import { encodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../../src/md/superblock.ts";
import { rolesWithout } from "../../helpers/md-members.ts";
import { blankImage, type DeviceImage, isEqual, patchImage, readImage } from "../world/media.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const DRIVE_BYTES = 4 * MIB;
const SHAPE = { chunkBytes: 4096, memberSizeBytes: 16 * 4096 };

/** Members of an array that is stopped. */
function members(seed: number): DeviceImage[] {
  const world = new SimWorld({ seed });
  const names = ["a", "b", "c"];
  for (const name of names) world.addDrive({ name, sizeBytes: DRIVE_BYTES });
  world.createArray({ drives: names, ...SHAPE });
  world.settle();
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  return world.images();
}

const OWN = members(1);
const FOREIGN = members(2);

function changed(image: DeviceImage, fields: object): DeviceImage {
  const superblock = superblockOf(image);
  if (typeof superblock === "string") throw new Error(superblock);
  const bytes = encodeSuperblock({ ...superblock, ...fields });
  return patchImage(image, SUPERBLOCK_OFFSET_BYTES, bytes);
}

/** dev_roles in which these have no role any more. */
function ownRoles(gone: readonly number[]): number[] {
  const superblock = superblockOf(OWN[0]!);
  if (typeof superblock === "string") throw new Error(superblock);
  return rolesWithout(superblock, ...gone);
}

interface Wrong {
  readonly name: string;
  readonly image: DeviceImage;
  readonly code: string;
  readonly says: RegExp;
  readonly isForced: boolean;
}

const torn = patchImage(OWN[1]!, SUPERBLOCK_OFFSET_BYTES + 40, new Uint8Array([1, 2]));

const WRONG: readonly Wrong[] = [
  {
    name: "a member of another array, same role",
    image: FOREIGN[1]!,
    code: "drive-has-data",
    says: /drive x is .*: add it with force/,
    isForced: true,
  },
  {
    name: "a member of another array, another role",
    image: FOREIGN[2]!,
    code: "drive-has-data",
    says: /drive x is .*: add it with force/,
    isForced: true,
  },
  {
    name: "a copy of a member that is there",
    image: OWN[0]!,
    code: "duplicate-member",
    says: /drive x is a copy of drive a of array .*: disconnect it, or add it with force/,
    isForced: true,
  },
  {
    name: "a member whose superblock is torn",
    image: torn,
    code: "drive-has-data",
    says: /checksum .*: add it with force/,
    isForced: true,
  },
  {
    name: "its own member, which ran on for longer elsewhere",
    image: changed(OWN[1]!, { events: 100_000 }),
    code: "split-brain",
    says: /drive x was written to apart from array .*: add it with force/,
    isForced: true,
  },
  {
    name: "its own member, which ran for a while without another one",
    image: changed(OWN[1]!, { devRoles: ownRoles([0]) }),
    code: "split-brain",
    says: /drive x was written to apart from array .*: add it with force/,
    isForced: true,
  },
  {
    name: "a drive that is too small",
    // A row too few: room for the superblock in front of the data, and nothing else.
    image: blankImage({ name: "x", sizeBytes: 2 * 4096 + 15 * 4096 }),
    code: "drive-too-small",
    says: /needs at least 73728: take a larger drive/,
    isForced: false,
  },
];

for (const wrong of WRONG) {
  test(`wrong disk: ${wrong.name}: refused without force, and says why`, () => {
    const world = new SimWorld({ seed: 3 });
    for (const index of [0, 2]) {
      world.plug(OWN[index]!);
      world.attach(OWN[index]!.name);
    }
    world.startArray();
    world.settle();
    world.plug({ ...wrong.image, name: "x" });
    expect(world.attach("x").ok).toBe(true);
    const before = readImage(world.device("x").image(), 0, wrong.image.sizeBytes);
    const add = (force: boolean) =>
      world.call<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive: "x", force });
    const refused = add(false);
    expect(refused.ok ? "added" : refused.error.code).toBe(wrong.code);
    expect(refused.ok ? "" : refused.error.detail).toMatch(wrong.says);
    expect(world.settle()).toMatchObject({ state: "degraded", degraded: 1 });
    const after = readImage(world.device("x").image(), 0, wrong.image.sizeBytes);
    expect(isEqual(before, after)).toBe(true);
    expect(add(true).ok).toBe(wrong.isForced);
    expect(world.settle().degraded).toBe(wrong.isForced ? 0 : 1);
  });
}

test("wrong disk: its own member, merely away for a while: taken without force", () => {
  const world = new SimWorld({ seed: 3 });
  for (const index of [0, 2]) {
    world.plug(OWN[index]!);
    world.attach(OWN[index]!.name);
  }
  world.startArray();
  world.run(world.client().write(0, new Uint8Array(4096).fill(1)));
  world.plug(OWN[1]!);
  world.attach("b");
  world.must({ kind: "add-member", array: ARRAY_NAME, drive: "b", force: false });
  expect([world.settle().degraded, world.check()]).toEqual([0, 0]);
});
