/**
 * Goal: an array that waits for a role names the drive that has it and cannot be used, where one
 * is known, whatever came first (R16 of the fault goals); and no longer, once that drive is gone.
 * Method: three members of which one is damaged, attached in every order, one role after another.
 */
import { expect, test } from "bun:test";
import { MIB } from "../../../src/base/units.ts";
import { encodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../../src/md/superblock.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { ORDERS_OF_THREE } from "../../helpers/orders.ts";
import { type DeviceImage, patchImage } from "../world/media.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c"];
const PLAIN = "connect the drive, or start the array to run degraded";

function members(): DeviceImage[] {
  const world = new SimWorld({ seed: 16 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  world.createArray({ drives: NAMES, chunkBytes: 4096, memberSizeBytes: 8 * 4096 });
  world.settle();
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  return world.images();
}

const SOUND = members();

function patched(image: DeviceImage, at: number, bytes: number[]): DeviceImage {
  return patchImage(image, SUPERBLOCK_OFFSET_BYTES + at, new Uint8Array(bytes));
}

/** With an entry of nothing in its bad-block log. */
function withBadLog(image: DeviceImage): DeviceImage {
  const superblock = superblockOf(image);
  if (typeof superblock === "string") throw new Error(superblock);
  const bytes = encodeSuperblock({ ...superblock, hasBadBlocks: true });
  const marked = patchImage(image, SUPERBLOCK_OFFSET_BYTES, bytes);
  return patched(marked, superblock.badBlockLogOffsetSectors * 512, Array(8).fill(0));
}

interface Damage {
  readonly name: string;
  readonly harm: (image: DeviceImage) => DeviceImage;
  /** Behind "drive <name> claims it and cannot be used. "; null: nothing tells whose it is. */
  readonly says: RegExp | null;
}

const DAMAGES: readonly Damage[] = [
  { name: "torn", harm: (image) => patched(image, 40, [1]), says: /^The superblock has checksum/ },
  { name: "a bad log", harm: withBadLog, says: /bad-block log .* is damaged\./ },
  { name: "another array's", harm: (image) => patched(image, 20, [1, 2, 3]), says: null },
  { name: "no such device", harm: (image) => patched(image, 160, [200]), says: null },
  { name: "no superblock", harm: (image) => patched(image, 0, [0]), says: null },
];

for (const { name, harm, says } of DAMAGES) {
  test(`waiting for a role: its drive is there, ${name}: ${says === null ? "not " : ""}named`, () => {
    for (const order of ORDERS_OF_THREE) {
      for (let role = 0; role < NAMES.length; role += 1) {
        const world = new SimWorld({ seed: 1 });
        for (const index of order) {
          const image = SOUND[index]!;
          world.plug(index === role ? harm(image) : image);
          world.attach(image.name);
        }
        const waiting = `waiting for role ${role}: `;
        const { reason, state } = world.status();
        const drive = NAMES[role]!;
        if (says === null) expect([state, reason]).toEqual(["inactive", waiting + PLAIN]);
        else {
          const start = `${waiting}drive ${drive} claims it and cannot be used. `;
          expect(reason).toStartWith(start);
          expect(reason!.slice(start.length)).toMatch(says);
          expect(reason).toEndWith(" Start the array to run degraded.");
          expect(reason!.match(/tart the array/g)).toHaveLength(1);
        }
        world.must({ kind: "detach-drive", name: drive, force: false });
        expect(world.status().reason).toBe(waiting + PLAIN);
        expect(world.startArray().ok).toBe(true);
      }
    }
  });
}

test("waiting for a role: a drive of another role, or array, cannot be used: not named", () => {
  // A copy of member 0, torn; a member of another array with the same role, torn.
  const [a, , c] = SOUND as [DeviceImage, DeviceImage, DeviceImage];
  const copy = { ...patched(a, 40, [1]), name: "copy" };
  const other = { ...patched(SOUND[1]!, 16, [9, 9, 9, 9]), name: "other" };
  const world = new SimWorld({ seed: 1 });
  for (const image of [a, c, copy, other]) {
    world.plug(image);
    world.attach(image.name);
  }
  expect(world.status().reason).toBe(`waiting for role 1: ${PLAIN}`);
});

test("a member that ends before its size: failed, and told so by name", () => {
  const world = new SimWorld({ seed: 1 });
  for (const name of ["a", "b", "c"]) world.addDrive({ name, sizeBytes: 4 * MIB });
  world.createArray({ drives: ["a", "b", "c"] });
  world.settle();
  const fault = { kind: "result", result: 0 } as const;
  world.device("a").faults.plan({ op: Op.read, fault });
  expect(world.run(world.client().read(0, 4096)).status).toBe(0);
  const failed = world.events.find(({ kind }) => kind === "member.failed");
  expect(failed?.message).toContain("member-lost (the drive ends before that)");
  const kinds = world.status().members.flatMap(({ errorKinds }) => Object.keys(errorKinds));
  expect(kinds).toEqual(["past-end"]);
});
