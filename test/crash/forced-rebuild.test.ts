/**
 * Goal: an array that was dirty in the middle of a rebuild, and is started with force, is not
 * called clean before its parity holds in all rows, also in those that were rebuilt before.
 * Method: the power is cut in a write to a rebuilt row, with the data on the drives and the parity
 * not; the members are looked at from outside when all is at rest.
 */
import { expect, test } from "bun:test";
import { KIB, MIB, ROW_BYTES } from "../../src/base/units.ts";
import { parityMismatches, viewMembers } from "../sim/world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../sim/world/sim-world.ts";
import { blankDrive, degradedBase, type Shape } from "./bases.ts";

const SHAPE: Shape = { memberCount: 3, chunkKib: 4, stripes: 16 };
const NEW = "new";

/** One write has dirtied an array whose rebuild of role 0 is past its first checkpoint. */
function dirtyInRebuild(): SimWorld {
  const { images } = degradedBase(SHAPE, { role: 0 });
  const world = SimWorld.restart([...images, blankDrive(NEW, SHAPE)], { seed: 1 });
  world.startArray();
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 4 * KIB });
  world.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive: NEW, force: false });
  world.simulation.runFor(12_000);
  expect(world.status().sync.action).toBe("rebuild");
  world.run(world.client().write(0, new Uint8Array(ROW_BYTES).fill(9)));
  return world;
}

test("force: dirty in the middle of a rebuild: clean again only with parity that holds", () => {
  const world = dirtyInRebuild();
  // Parity of the first stripe lies on the last role: what was not flushed there is lost.
  const cut = world.crash((name) => (name === "drive2" ? "drop" : "keep"));
  expect(cut[0]!.pages.has(MIB / ROW_BYTES)).toBe(true);

  const after = SimWorld.restart(cut, { seed: 2 });
  expect(after.startArray().ok).toBe(false);
  expect(after.startArray({ force: true }).ok).toBe(true);
  const status = after.settle();
  expect([status.degraded, status.state]).toEqual([0, "clean"]);
  expect(parityMismatches(viewMembers(after.images()))).toEqual([]);
});

test("force: dirty in the middle of a rebuild, and its target is lost: degraded as before", () => {
  const world = dirtyInRebuild();
  const after = SimWorld.restart(world.crash("keep"), { seed: 2 });
  expect(after.startArray({ force: true }).ok).toBe(true);
  after.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 4 * KIB });
  expect(after.status().sync.action).toBe("rebuild");
  after.must<"detach-drive">({ kind: "detach-drive", name: NEW, force: true });
  expect(after.settle()).toMatchObject({ state: "degraded", degraded: 1 });
  expect(after.run(after.client().write(0, new Uint8Array(ROW_BYTES).fill(8)))).toBe(0);
  after.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const left = after.images().filter(({ name }) => name !== NEW);
  expect(SimWorld.restart(left, { seed: 3 }).startArrays()).toEqual([]);
});
