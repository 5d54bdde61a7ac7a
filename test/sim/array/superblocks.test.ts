/**
 * Goal: superblocks that find no room or a drive that hangs: none gets what is meant for another.
 * Method: stories. The simulator compares what a write carries as it ends with what it carried as
 * it was submitted.
 */
import { expect, test } from "bun:test";
import { ENOSPC } from "../../../src/base/errno.ts";
import { SeededRandom } from "../../../src/base/random.ts";
import { MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { SimSpace } from "../world/sim-space.ts";
import { SimWorld } from "../world/sim-world.ts";

const STRIPES = 4;

test("rule 10: a superblock that had no room, and then hangs: its buffer stays its own", () => {
  const world = new SimWorld({ seed: 1 });
  const drives = ["a", "b", "c"];
  for (const name of drives) world.addDrive({ name, sizeBytes: 3 * MIB });
  world.createArray({ drives, chunkBytes: ROW_BYTES, memberSizeBytes: STRIPES * ROW_BYTES });
  world.settle();
  const b = world.device("b");
  const space = new SimSpace({ random: new SeededRandom(1), kind: "copy-on-write", chance: 1 });
  space.fill([b]);
  const client = world.client();
  const write = () => world.run(client.write(0, new Uint8Array(2 * ROW_BYTES).fill(1)));
  expect(write()).toBe(ENOSPC);
  expect(space.refusals).toBeGreaterThan(0);
  // The dirty mark is on the others; what b lacks is written as soon as there is room, and hangs.
  SimSpace.giveRoom([b]);
  b.hang();
  expect(write()).toBe(0);
  expect(world.status()).toMatchObject({ degraded: 1 });
  // Asserts that the write carries what it was submitted with.
  b.release();
  world.simulation.runFor(1_000);
  for (const { name, ...image } of world.images()) {
    const superblock = superblockOf({ name, ...image });
    if (typeof superblock === "string") throw new Error(`${name}: ${superblock}`);
    expect({ name, devNumber: superblock.devNumber }).toEqual({
      name,
      devNumber: drives.indexOf(name),
    });
  }
});
