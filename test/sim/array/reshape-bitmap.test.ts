/**
 * Goal: a reshape that Linux began with a write-intent bitmap is gone on with, without the bitmap.
 * Rows are never believed to be in sync which may not be, and before anything is written no
 * superblock names the bitmap any more: Linux would believe its bits.
 *
 * Method: arrays that are cut in a reshape, clean and dirty, become such as Linux leaves them, with
 * each thing that a bitmap can say; whole and without a member; the power goes at the start, again
 * and again.
 */
import { expect, test } from "bun:test";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import { reshapeOf } from "../../../src/md/reshape.ts";
import { superblockIn, withBitmap } from "../../helpers/sim-members.ts";
import { type DeviceImage, patchImage } from "../world/media.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import type { CrashPolicy } from "../world/sim-device.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8 * KIB;
const STRIPES = 24;
const NAMES = ["d0", "d1", "d2", "d3"];
const OLD_SECTORS = (STRIPES * 2 * CHUNK_BYTES) / SECTOR_BYTES;
const NEW_BYTES = STRIPES * 3 * CHUNK_BYTES;

interface Cut {
  readonly images: readonly DeviceImage[];
  readonly oracle: SectorOracle;
}

/** An array that stands in the middle of its reshape, with all that was written. */
function cut({ isDirty }: { isDirty: boolean }): Cut {
  const world = new SimWorld({ seed: 1, batchChance: 0.5 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 3 * MIB });
  const memberSizeBytes = STRIPES * CHUNK_BYTES;
  world.createArray({ drives: NAMES.slice(0, 3), chunkBytes: CHUNK_BYTES, memberSizeBytes });
  world.settle();
  const oracle = new SectorOracle({ seed: 1, sectorCount: NEW_BYTES / SECTOR_BYTES });
  const client = new OracleClient(oracle, world.client());
  const write = (lba: number, sectors: number) => {
    expect(world.run(client.write({ lba, sectors }, { fua: true }))).toBe(0);
  };
  write(0, OLD_SECTORS);
  // After its first step it waits.
  const limits = { syncSpeedMax: 64 * KIB, syncSpeedMin: 1 };
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...limits });
  world.must<"add-members">({
    ...{ kind: "add-members", array: ARRAY_NAME, drives: ["d3"], force: false },
    policyAfter: "bitmap",
  });
  world.simulation.runFor(400);
  if (isDirty) write(100, 24);
  else world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const images = world.crash("keep");
  oracle.crash();
  const positions = images.map((image) => reshapeOf(superblockIn(image))!.positionSectors);
  expect(Math.min(...positions)).toBeGreaterThan(0);
  expect(Math.max(...positions)).toBeLessThan(OLD_SECTORS);
  expect(superblockIn(images[0]!).resyncOffsetSectors).toBe(isDirty ? 0 : null);
  return { images, oracle };
}

/** One row of a stripe that has been laid out anew has wrong parity, as a crash may leave it. */
function tear(images: readonly DeviceImage[]): DeviceImage[] {
  const [first] = images.map(superblockIn);
  const newOffset = reshapeOf(first!)!.newOffsetSectors;
  const offset = (first!.dataOffsetSectors + newOffset) * SECTOR_BYTES;
  // Stripe 0 has its parity on the last role: 3.
  return images.map((image, role) =>
    role === 3 ? patchImage(image, offset, new Uint8Array(4096).fill(0x5a)) : image,
  );
}

function policiesOn(images: readonly DeviceImage[]): string[] {
  return images.map((image) => superblockIn(image).log.kind);
}

function told(world: SimWorld): string[] {
  return world.events.map(({ kind }) => kind);
}

function judge(world: SimWorld, oracle: SectorOracle, degraded: number): void {
  expect(world.settle()).toMatchObject({ degraded, sizeBytes: NEW_BYTES });
  const { status, data } = world.run(world.client().read(0, NEW_BYTES));
  expect([status, oracle.peek(0, data)?.message ?? null]).toEqual([0, null]);
}

for (const isDirty of [false, true]) {
  for (const says of ["nothing", "all bits set", "it is stale"] as const) {
    const how = isDirty ? "dirty" : "clean";
    test(`reshape of Linux's, ${how}, and the bitmap says ${says}: gone on with without it`, () => {
      const { images, oracle } = cut({ isDirty });
      const isTorn = isDirty || says === "it is stale";
      const found = images.map((image) => withBitmap(image, says));
      const world = SimWorld.restart(isTorn ? tear(found) : found, { seed: 1, batchChance: 0.5 });
      expect(world.status()).toMatchObject({ consistencyPolicy: "resync" });
      expect(policiesOn(world.images())).toEqual(["none", "none", "none", "none"]);
      judge(world, oracle, 0);
      const kinds = told(world);
      expect(kinds.filter((kind) => kind === "bitmap.set-aside")).toHaveLength(1);
      // Order: what may be out of sync is computed anew, behind the reshape.
      const [grown, resynced] = ["array.grown", "resync.started"].map((kind) =>
        kinds.indexOf(kind as "array.grown"),
      );
      expect(resynced! > grown!).toBe(isTorn);
      expect(world.check()).toBe(0);
    });
  }

  test(`reshape of Linux's with a bitmap, ${isDirty ? "dirty" : "clean"}, without a member`, () => {
    for (const says of ["nothing", "all bits set", "it is stale"] as const) {
      const { images, oracle } = cut({ isDirty });
      const found = images.map((image) => withBitmap(image, says)).toSpliced(1, 1);
      const world = SimWorld.restart(found, { seed: 1 });
      const started = world.startArray();
      if (!isDirty) {
        expect([says, started.ok]).toEqual([says, true]);
        judge(world, oracle, 1);
        expect(told(world)).not.toContain("resync.started");
        continue;
      }
      expect(started).toMatchObject({ error: { code: "dirty-and-degraded" } });
      expect(policiesOn(world.images())).toEqual(["bitmap", "bitmap", "bitmap"]);
      expect(world.startArray({ force: true }).ok).toBe(true);
      expect(world.settle()).toMatchObject({ degraded: 1, sizeBytes: NEW_BYTES });
    }
  });
}

test("reshape of Linux's with a bitmap: one member has it in no format: the others' counts", () => {
  const { images, oracle } = cut({ isDirty: false });
  const found = images.map((image, role) =>
    withBitmap(image, role === 0 ? "nothing, in no format" : "nothing"),
  );
  const world = SimWorld.restart(found, { seed: 1 });
  judge(world, oracle, 0);
  expect(told(world)).not.toContain("resync.started");
});

test("reshape of Linux's with a bitmap that nobody understands: refused, and nothing written", () => {
  const { images } = cut({ isDirty: false });
  const found = images.map((image) => withBitmap(image, "nothing, in no format"));
  const world = SimWorld.restart(found, { seed: 1 });
  const started = world.startArray();
  expect(started).toMatchObject({ ok: false, error: { code: "bad-bitmap" } });
  if (!started.ok) expect(started.error.detail).toContain("--update=no-bitmap");
  expect(world.changesSubmitted).toBe(0);
  expect(told(world)).not.toContain("bitmap.set-aside");
});

test("reshape of Linux's with a bitmap: started read-only: not one byte is written", () => {
  const { images, oracle } = cut({ isDirty: false });
  const world = new SimWorld({ seed: 1, autoAssemble: false });
  for (const image of images.map((image) => withBitmap(image, "nothing"))) {
    world.plug(image);
    world.attach(image.name);
  }
  expect(world.startArray({ readOnly: true }).ok).toBe(true);
  expect(world.status()).toMatchObject({ consistencyPolicy: "bitmap", state: "read-only" });
  const { status, data } = world.run(world.client().read(0, world.status().sizeBytes));
  expect([status, oracle.peek(0, data)?.message ?? null]).toEqual([0, null]);
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  expect(world.changesSubmitted).toBe(0);
  expect(told(world)).not.toContain("bitmap.set-aside");
});

test("reshape of Linux's with a bitmap: the power goes at its start: taken over all the same", () => {
  for (const policy of ["keep", "drop", "random"] satisfies CrashPolicy[]) {
    for (let steps = 1; steps < 60; steps += 1) {
      const { images, oracle } = cut({ isDirty: false });
      const found = images.map((image) => withBitmap(image, "all bits set"));
      const first = new SimWorld({ seed: steps, batchChance: 0.5 });
      for (const image of found) first.plug(image);
      for (const { name } of found) {
        void first.command<"attach-drive">({
          ...{ kind: "attach-drive", drive: first.openDriveOf(name) },
        });
      }
      for (let step = 0; step < steps; step += 1) first.simulation.step();
      const second = SimWorld.restart(first.crash(policy), { seed: 1, batchChance: 0.5 });
      expect([policy, steps, ...policiesOn(second.images())]).toEqual([
        ...[policy, steps],
        ...["none", "none", "none", "none"],
      ]);
      judge(second, oracle, 0);
      expect(second.check()).toBe(0);
    }
  }
});
