/**
 * Goal: a start tells on disk what it found, also where nothing else has to be written
 * (write-rules 6 and 23); and a sweep that starts gives way to clients that are at work, not to
 * those that were.
 * Method: members whose superblocks or logs are as a crash at an awkward moment leaves them; a
 * check that may do next to nothing beside clients.
 */
import { expect, test } from "bun:test";
import { KIB, MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { encodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../../src/md/superblock.ts";
import { type DeviceImage, patchImage } from "../world/media.ts";
import { areasOf, parityMismatches, superblockOf, viewMembers } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c"];
const STRIPES = 16;

function make(consistencyPolicy: "resync" | "ppl"): SimWorld {
  const world = new SimWorld({ seed: 1 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  const memberSizeBytes = STRIPES * 4 * KIB;
  world.createArray({ drives: NAMES, chunkBytes: 4 * KIB, memberSizeBytes, consistencyPolicy });
  world.settle();
  return world;
}

function slowDown(world: SimWorld): void {
  const slowly = { syncSpeedMax: 4 * KIB, syncSpeedMin: 4 * KIB };
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...slowly });
}

function withResyncOffset(image: DeviceImage, sectors: number): DeviceImage {
  const superblock = superblockOf(image);
  if (typeof superblock === "string") throw new Error(superblock);
  const changed = encodeSuperblock({ ...superblock, resyncOffsetSectors: sectors });
  return patchImage(image, SUPERBLOCK_OFFSET_BYTES, changed);
}

function resyncOffsets(world: SimWorld): (number | null | string)[] {
  return world.images().map((image) => {
    const superblock = superblockOf(image);
    return typeof superblock === "string" ? superblock : superblock.resyncOffsetSectors;
  });
}

test("rule 23: a cut between the last checkpoint of a resync and its end: clean from the start", () => {
  const whole = (STRIPES * 4 * KIB) / SECTOR_BYTES;
  const world = make("resync");
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const images = world.images().map((image) => withResyncOffset(image, whole));
  const after = SimWorld.restart(images, { seed: 2 });
  expect(after.settle().state).toBe("clean");
  expect(resyncOffsets(after)).toEqual([null, null, null]);
});

test("rule 6: a log is not readable, and the power goes again in the resync: it goes on", () => {
  const world = make("ppl");
  world.run(world.client().write(0, new Uint8Array(8 * ROW_BYTES).fill(1), { fua: true }));
  // Torn by the cut, in the last stripe; and the log that would tell is another array's.
  const torn = (world.crash("keep") as DeviceImage[]).map((image) => {
    if (image.name !== "a") return image;
    const data = areasOf(image).find(({ name }) => name === "data")!;
    const log = areasOf(image).find(({ name }) => name === "ppl")!;
    const wrong = patchImage(
      image,
      data.offset + data.bytes - ROW_BYTES,
      new Uint8Array(64).fill(7),
    );
    return patchImage(wrong, log.offset + 512, new Uint8Array(4).fill(0x55));
  });
  const first = SimWorld.restart(torn, { seed: 2 });
  slowDown(first);
  first.simulation.runFor(100);
  expect(first.status().sync.action).toBe("resync");
  const again = SimWorld.restart(first.crash("keep"), { seed: 3 });
  again.settle();
  expect(parityMismatches(viewMembers(again.images()))).toEqual([]);
});

test("rule 23: a stop while a checkpoint is on its way: the superblocks say how far it came", () => {
  const world = make("resync");
  const images = world.images().map((image) => withResyncOffset(image, 0));
  const after = SimWorld.restart(images, { seed: 2 });
  const speed = { syncSpeedMax: 5 * KIB, syncSpeedMin: 5 * KIB };
  after.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...speed });
  after.simulation.runFor(9000);
  // The flush of the checkpoint takes longer than the stripes that follow.
  for (const name of NAMES) {
    const fault = { kind: "slow", delayMs: 2500 } as const;
    after.device(name).faults.plan({ op: 2, fault });
  }
  after.simulation.runFor(2500);
  const done = after.status().sync.doneBytes;
  expect([after.status().sync.action, done > 0]).toEqual(["resync", true]);
  after.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  for (const offset of resyncOffsets(after)) {
    expect(Number(offset) * SECTOR_BYTES).toBeGreaterThanOrEqual(done);
  }
});

test("rule 23: pulled in the first resync: the update that ends the rebuild leaves no question", () => {
  const world = new SimWorld({ seed: 1 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  const shape = { chunkBytes: 4 * KIB, memberSizeBytes: STRIPES * 4 * KIB };
  world.createArray({ drives: NAMES, ...shape });
  slowDown(world);
  world.simulation.runFor(1000);
  expect(world.status().sync.action).toBe("resync");
  world.must<"detach-drive">({ kind: "detach-drive", name: "c", force: true });
  world.addDrive({ name: "d", sizeBytes: 4 * MIB });
  const add = { kind: "add-member", array: ARRAY_NAME, drive: "d", force: false } as const;
  const added = world.must<"add-member">(add);
  if (added.role !== "rebuild") throw new Error("it is rebuilt");
  world.waitJob(added.job.id);
  for (const waitMs of [0, 50]) {
    world.simulation.runFor(waitMs);
    const [a, b, , d] = resyncOffsets(world);
    expect([a, b, d, world.status().sync.action]).toEqual([null, null, null, "idle"]);
  }
});

test("sweep: clients were at work before it began: it does not go slowly", () => {
  const world = make("resync");
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMin: 1 });
  expect(world.run(world.client().write(0, new Uint8Array(ROW_BYTES)))).toBe(0);
  const startMs = world.nowMs;
  expect(world.check()).toBe(0);
  // Clients count as at work for 100 ms, in which it may do next to nothing.
  expect(world.nowMs - startMs).toBeLessThan(100);
});
