/**
 * Goal: bit rot without a sign is found by a scrub `check`, which says where and writes nothing
 * (R17 of the fault goals); a `repair` says where it wrote.
 * Method: an array in the simulator, rows changed at rest on each member, so on data and on
 * parity; what the drives hold is compared before and after.
 */
import { expect, test } from "bun:test";
import type { JobStatus, MismatchList } from "../../../src/array/protocol.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { MISMATCH_RANGES_MAX } from "../../../src/raid5/sync/mismatch-ranges.ts";
import { isEqual, readImage } from "../world/media.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const DATA = MIB;
const NAMES = ["a", "b", "c", "d"];
const ROW_SECTORS = 8;

function make({ chunkKib, stripes }: { chunkKib: number; stripes: number }): SimWorld {
  const world = new SimWorld({ seed: 17 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 8 * MIB });
  const chunkBytes = chunkKib * KIB;
  world.createArray({ drives: NAMES, chunkBytes, memberSizeBytes: stripes * chunkBytes });
  world.settle();
  const text = new Uint8Array(3 * chunkBytes).fill(7);
  for (let stripe = 0; stripe < stripes; stripe += 1) {
    world.run(world.client().write(stripe * text.length, text));
  }
  world.settle();
  return world;
}

function start(world: SimWorld, mode: "check" | "repair", limitBytesPerSecond?: number): JobStatus {
  return world.must<"start-scrub">({
    kind: "start-scrub",
    array: ARRAY_NAME,
    mode,
    limitBytesPerSecond: limitBytesPerSecond ?? null,
    restart: false,
  });
}

function scrub(world: SimWorld, mode: "check" | "repair"): JobStatus {
  const job = world.waitJob(start(world, mode).id);
  expect([job.state, job.error]).toEqual(["done", null]);
  return job;
}

/** Rows by number, from the begin of the members' data. */
function rowsOf(job: JobStatus): number[] {
  const { ranges } = job.result["mismatchRanges"] as MismatchList;
  return ranges.flatMap(({ firstSector, sectorCount }) =>
    Array.from(
      { length: sectorCount / ROW_SECTORS },
      (_, index) => firstSector / ROW_SECTORS + index,
    ),
  );
}

function dataOf(world: SimWorld): Uint8Array[] {
  return world.images().map((image) => {
    const superblock = superblockOf(image);
    if (typeof superblock === "string") throw new Error(superblock);
    return readImage(image, DATA, superblock.sizeSectors * 512);
  });
}

test("a check: each row rotten on each member in turn: that row is listed, nothing is written", () => {
  // Chunks above and below the piece that is read at a time.
  for (const shape of [
    { chunkKib: 8, stripes: 6 },
    { chunkKib: 256, stripes: 2 },
  ]) {
    const world = make(shape);
    expect(scrub(world, "check").result).toMatchObject({
      mismatchBytes: 0,
      mismatchRanges: { ranges: [], truncated: false },
    });
    const rowCount = (shape.chunkKib / 4) * shape.stripes;
    const step = Math.ceil(rowCount / 13);
    for (let row = 0; row < rowCount; row += step) {
      const name = NAMES[row % NAMES.length]!;
      // Not the whole row: one sector of it.
      world.device(name).rot(DATA + row * ROW_BYTES + 512, 512);
      const before = dataOf(world);
      const job = scrub(world, "check");
      expect([rowsOf(job), job.result["mismatchBytes"]]).toEqual([[row], ROW_BYTES]);
      const same = dataOf(world).map((bytes, role) => isEqual(bytes, before[role]!));
      expect(same).toEqual([true, true, true, true]);
      const text =
        `check finished: ${ROW_BYTES} bytes in rows that do not match, ranges: 1, the first of ` +
        `8 sectors from sector ${row * ROW_SECTORS} of each member's data`;
      const event = world.events.findLast(({ kind }) => kind === "scrub.finished");
      expect(event).toMatchObject({ message: text, severity: "warning" });
      // A repair lists the same, and what it has written is right.
      expect(rowsOf(scrub(world, "repair"))).toEqual([row]);
      expect(rowsOf(scrub(world, "check"))).toEqual([]);
    }
  }
});

test("a check: a rotten row in a piece with a bad sector: it is listed all the same", () => {
  const world = make({ chunkKib: 32, stripes: 2 });
  world.device("b").addLatent(DATA + 3 * ROW_BYTES);
  world.device("c").rot(DATA + 5 * ROW_BYTES, 512);
  expect(rowsOf(scrub(world, "check"))).toEqual([5]);
});

test("a check: more ranges than are listed: the first ones, and that there are more", () => {
  const world = make({ chunkKib: 8, stripes: 80 });
  for (let stripe = 0; stripe < 80; stripe += 1) {
    world.device("b").rot(DATA + stripe * 8 * KIB, 512);
  }
  const job = scrub(world, "check");
  const first = Array.from({ length: MISMATCH_RANGES_MAX }, (_, index) => index * 2);
  expect([rowsOf(job), job.result["mismatchBytes"]]).toEqual([first, 80 * ROW_BYTES]);
  expect(job.result["mismatchRanges"]).toMatchObject({ truncated: true });
  const event = world.events.findLast(({ kind }) => kind === "scrub.finished");
  expect(event!.message).toContain("ranges: 64 and more,");
});

test("a check: paused and resumed: it lists what it found before and after", () => {
  const world = make({ chunkKib: 64, stripes: 30 });
  for (const row of [0, 1, 100, 470]) world.device("a").rot(DATA + row * ROW_BYTES, 512);
  const { id } = start(world, "check", MIB);
  world.simulation.runFor(500);
  world.must({ kind: "pause-scrub", array: ARRAY_NAME });
  const paused = world.waitJob(id);
  expect([paused.state, rowsOf(paused)]).toEqual(["paused", [0, 1, 100]]);
  const job = scrub(world, "check");
  expect([job.id, rowsOf(job)]).toEqual([id, [0, 1, 100, 470]]);
  expect(job.result["mismatchBytes"]).toBe(4 * ROW_BYTES);
});
