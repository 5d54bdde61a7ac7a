/**
 * Crash scenarios of an array's life: create, loss, rebuild, rollback, growth, resync, stop, bad
 * sectors.
 */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { EIO, ENXIO } from "../../src/base/errno.ts";
import { KIB, SECTOR_BYTES } from "../../src/base/units.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { POLICIES } from "../helpers/policies.ts";
import { ARRAY_NAME, type SimWorld } from "../sim/world/sim-world.ts";
import {
  blankBase,
  blankDrive,
  cleanBase,
  create,
  degradedBase,
  dirtyBase,
  driveNames,
  growBase,
  type Shape,
  sectorCountOf,
} from "./bases.ts";
import type { CrashLoad } from "./crash-load.ts";
import type { Base, Scenario } from "./matrix.ts";
import { rest } from "./scenarios-write.ts";

const NEW = "new";

function setSpeed(world: SimWorld, syncSpeedMax: number): void {
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax });
}

function addNew(world: SimWorld): void {
  world.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive: NEW, force: false });
}

function replaceWithNew(world: SimWorld, drive: string): void {
  world.must<"replace-member">({
    ...{ kind: "replace-member", array: ARRAY_NAME, drive, with: NEW, force: false },
  });
}

/** Writes that are under way while a slow replace of the drive is somewhere in the middle. */
function writesInReplace(load: CrashLoad, drive: string, seed: number) {
  setSpeed(load.world, 8 * KIB);
  replaceWithNew(load.world, drive);
  load.world.simulation.runFor(150 + 200 * (seed % 6));
  return [load.write(30, 8, { fua: true }), load.write(60, 12)];
}

function growTo(world: SimWorld, stripes: number): void {
  const memberSizeBytes = stripes * 4 * KIB;
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, memberSizeBytes });
}

/** Across the old end, and up to the new one, where the array has that. */
function writesAtEnds(load: CrashLoad, oldSectors: number) {
  const end = load.world.status().sizeBytes / SECTOR_BYTES;
  const across = Math.min(end - oldSectors, 2);
  return [
    load.write(oldSectors - 2, 2 + across),
    load.write(end - 3, 3, { fua: true }),
    load.flush(),
  ];
}

function stop(world: SimWorld): void {
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
}

/** Degraded, with a new drive at hand. */
function rebuildBase(shape: Shape, role: number): Base {
  const base = degradedBase(shape, { role });
  return { ...base, images: [...base.images, blankDrive(NEW, shape)] };
}

/** Whole, with a new drive at hand. */
function replaceBase(shape: Shape): Base {
  const base = cleanBase(shape);
  return { ...base, images: [...base.images, blankDrive(NEW, shape)] };
}

/** Until nothing runs in the background. */
function untilIdle({ world }: CrashLoad): void {
  while (world.status().sync.action !== "idle") world.simulation.runFor(20);
}

/** Another host takes all drives, one after the other; a write meets it. */
function preempt(load: CrashLoad, names: readonly string[], seed: number): void {
  const { world } = load;
  for (const [turn] of names.entries()) {
    const name = names[(turn + seed) % names.length]!;
    world.device(name).reserve(seed % 2 === 0 ? "reads" : "nothing");
    world.simulation.runFor(0.07 * (seed % 4));
  }
  world.run(load.write(75, 3));
  if (world.status().state !== "fenced") world.simulation.fail("it goes on under a reservation");
}

export function lifeScenarios(policy: ConsistencyPolicy): readonly Scenario[] {
  const three: Shape = { memberCount: 3, chunkKib: 4, stripes: 4, policy };
  /** That many stripes are to become five. */
  const few: Shape = { ...three, stripes: 3 };
  const four: Shape = { memberCount: 4, chunkKib: 4, stripes: 5, policy };
  /** As many as are worked on one after the other over several checkpoints. */
  const long: Shape = { memberCount: 3, chunkKib: 4, stripes: 16, policy };
  const others = POLICIES.filter((other) => other !== policy);
  return [
    {
      name: "change of the policy under writes, and back",
      base: () => cleanBase(three),
      withLog: true,
      body: (load, seed) => {
        const { world } = load;
        for (const consistencyPolicy of [others[seed % 2]!, policy]) {
          const before = load.write((seed % 4) * 16, 8);
          world.simulation.runFor(0.1 * (seed % 10));
          world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, consistencyPolicy });
          world.run(before);
          world.run(load.write(17, 3));
          world.run(load.flush());
        }
        rest(load);
      },
    },
    {
      name: "create",
      base: () => blankBase(three),
      body: (load) => {
        create(load.world, three);
        load.fact({ doesExist: true });
        load.world.settle();
      },
    },
    {
      name: "create, writes during the first resync",
      base: () => blankBase(four),
      body: (load, seed) => {
        const { world } = load;
        create(world, four);
        load.fact({ doesExist: true });
        setSpeed(world, 16 * KIB);
        world.run(load.write((seed % 5) * 24, 12));
        world.run(load.write(3 * 24 + 3, 2, { fua: true }));
        world.run(load.flush());
        world.settle();
      },
    },
    {
      name: "member failure: it vanishes under writes",
      base: () => cleanBase(four),
      body: (load, seed) => {
        const { world } = load;
        const all = [load.write(0, 8), load.write(30, 5), load.write(56, 8)];
        world.simulation.runFor(0.3 + 0.15 * (seed % 10));
        load.fact({ isHealthy: false });
        world.device(driveNames(four)[seed % 4]!).vanish("random");
        world.run(Promise.all([...all, load.write(75, 3)]));
        world.run(load.flush());
        rest(load);
      },
    },
    {
      name: "member failure: one write fails while others come",
      base: () => cleanBase(three),
      body: (load, seed) => {
        const { world } = load;
        world.run(load.write(0, 8));
        load.fact({ isHealthy: false });
        const { faults } = world.device(driveNames(three)[seed % 3]!);
        faults.plan({ op: Op.write, skip: seed % 4, fault: { kind: "dead", errno: ENXIO } });
        const all = [load.write(4, 8, { fua: true }), load.write(20, 8, { fua: true })];
        world.simulation.runFor(0.1 * (seed % 8));
        all.push(load.write(34, 9, { fua: true }), load.write(50, 8, { fua: true }));
        world.run(Promise.all(all));
        world.run(load.flush());
        rest(load);
      },
    },
    {
      name: "member failure: a flush fails",
      base: () => cleanBase(three),
      body: (load, seed) => {
        const { world } = load;
        world.run(load.write(16, 8));
        load.fact({ isHealthy: false });
        const { faults } = world.device(driveNames(three)[seed % 3]!);
        faults.plan({ op: Op.flush, fault: { kind: "result", result: -EIO } });
        world.run(load.flush());
        world.run(load.write(34, 3));
        world.run(load.flush());
        rest(load);
      },
    },
    {
      name: "member failure: the dirty mark cannot be written",
      base: () => cleanBase(four),
      body: (load, seed) => {
        const { world } = load;
        load.fact({ isHealthy: false });
        world.device(driveNames(four)[seed % 4]!).vanish("drop");
        world.run(load.write(16, 8));
        world.run(load.flush());
        rest(load);
      },
    },
    {
      name: "member failure by command, and a spare takes its place",
      base: () => {
        const base = cleanBase(three);
        return { ...base, images: [...base.images, blankDrive(NEW, three)] };
      },
      body: (load, seed) => {
        const { world } = load;
        addNew(world);
        load.fact({ isHealthy: false });
        const drive = driveNames(three)[seed % 3]!;
        world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive });
        world.run(load.write(12, 6));
        world.run(load.flush());
        untilIdle(load);
        rest(load);
      },
    },
    {
      name: "another host takes the drives under writes, and gives them back",
      base: () => cleanBase(four),
      body: (load, seed) => {
        const { world } = load;
        const all = [load.write(0, 8), load.write(30, 5, { fua: true }), load.write(56, 8)];
        world.simulation.runFor(0.1 * (seed % 12));
        preempt(load, driveNames(four), seed);
        world.run(Promise.all([...all, load.flush()]));
        rest(load);
        stop(world);
        for (const name of driveNames(four)) world.device(name).reserve(null);
        const started = world.startArray();
        if (!started.ok) world.simulation.fail(started.error.detail);
        world.run(load.write(40, 9, { fua: true }));
        rest(load);
      },
    },
    {
      name: "another host takes the drives in a rebuild",
      base: (seed) => rebuildBase(four, seed % 4),
      body: (load, seed) => {
        const { world } = load;
        world.startArray();
        setSpeed(world, 8 * KIB);
        addNew(world);
        const written = load.write(30, 8);
        world.simulation.runFor(20 + 90 * (seed % 8));
        const left = driveNames(four).filter((_, role) => role !== seed % 4);
        preempt(load, [...left, NEW], seed);
        world.run(Promise.all([written, load.flush()]));
        rest(load);
      },
    },
    {
      name: "rebuild under writes",
      base: (seed) => rebuildBase(four, seed % 4),
      body: (load, seed) => {
        const { world } = load;
        world.startArray();
        addNew(world);
        const all = [load.write((seed % 5) * 24, 8), load.write(60, 3), load.write(100, 12)];
        world.run(Promise.all(all));
        world.run(load.flush());
        untilIdle(load);
        world.run(load.write(2, 3));
        rest(load);
      },
    },
    {
      name: "a member that left comes back under writes",
      base: (seed) => degradedBase(four, { role: seed % 4, keepDrive: true }),
      body: (load, seed) => {
        const { world } = load;
        world.run(load.write(30, 8));
        world.run(load.flush());
        const drive = driveNames(four)[seed % 4]!;
        world.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive, force: true });
        world.run(Promise.all([load.write((seed % 5) * 24, 8), load.write(100, 12)]));
        world.run(load.flush());
        untilIdle(load);
        world.run(load.write(2, 3));
        rest(load);
      },
    },
    {
      name: "a slow rebuild: checkpoints, and a stop in the middle",
      base: (seed) => rebuildBase(long, seed % 3),
      body: (load, seed) => {
        const { world } = load;
        world.startArray();
        setSpeed(world, 4 * KIB);
        addNew(world);
        world.simulation.runFor(3000 + 700 * seed);
        world.run(load.write(16, 4)); // Behind the cursor.
        world.run(load.write(16 * 15, 8)); // Ahead of it.
        rest(load);
        world.simulation.runFor(8000);
        stop(world);
        world.startArray();
        untilIdle(load);
        rest(load);
      },
    },
    {
      name: "rollback: the target of the rebuild dies",
      base: (seed) => rebuildBase(four, seed % 4),
      body: (load, seed) => {
        const { world } = load;
        world.startArray();
        setSpeed(world, 8 * KIB);
        addNew(world);
        const written = load.write(30, 8);
        world.simulation.runFor(150 + 200 * (seed % 6));
        world.device(NEW).vanish("random");
        world.run(written);
        untilIdle(load);
        world.run(load.write(3, 3));
        world.run(load.flush());
        rest(load);
      },
    },
    {
      name: "replace under writes",
      base: () => replaceBase(four),
      body: (load, seed) => {
        const { world } = load;
        const before = load.write((seed % 5) * 24 + 3, 8);
        replaceWithNew(world, driveNames(four)[seed % 4]!);
        const all = [before, load.write(30, 8), load.write(60, 3), load.write(100, 12)];
        world.run(Promise.all(all));
        world.run(load.flush());
        untilIdle(load);
        world.run(load.write(2, 3));
        rest(load);
      },
    },
    {
      name: "a slow replace: checkpoints, and a stop in the middle",
      base: () => replaceBase(long),
      body: (load, seed) => {
        const { world } = load;
        setSpeed(world, 4 * KIB);
        replaceWithNew(world, driveNames(long)[seed % 3]!);
        world.simulation.runFor(3000 + 700 * seed);
        world.run(load.write(16, 4)); // Behind the cursor.
        world.run(load.write(16 * 15, 8)); // Ahead of it.
        rest(load);
        world.simulation.runFor(8000);
        stop(world);
        world.startArray();
        untilIdle(load);
        rest(load);
      },
    },
    {
      name: "a replace whose target dies under writes",
      base: () => replaceBase(four),
      body: (load, seed) => {
        const { world } = load;
        const all = writesInReplace(load, driveNames(four)[seed % 4]!, seed);
        world.simulation.runFor(0.1 * (seed % 8));
        world.device(NEW).vanish("random");
        world.run(Promise.all([...all, load.write(3, 3), load.flush()]));
        world.run(load.flush());
        rest(load);
      },
    },
    {
      name: "a replace whose member dies under writes: the target is rebuilt",
      base: () => replaceBase(four),
      body: (load, seed) => {
        const { world } = load;
        const drive = driveNames(four)[seed % 4]!;
        const all = [...writesInReplace(load, drive, seed), load.flush()];
        world.simulation.runFor(0.1 * (seed % 8));
        load.fact({ isHealthy: false });
        world.device(drive).vanish("random");
        world.run(Promise.all([...all, load.write(3, 3)]));
        world.run(load.flush());
        untilIdle(load);
        world.run(load.write(80, 3, { fua: true }));
        rest(load);
      },
    },
    {
      name: "a replace beside which another member dies",
      base: () => replaceBase(four),
      body: (load, seed) => {
        const { world } = load;
        const all = writesInReplace(load, driveNames(four)[seed % 4]!, seed);
        load.fact({ isHealthy: false });
        world.device(driveNames(four)[(seed + 1) % 4]!).vanish("random");
        world.run(Promise.all([...all, load.write(3, 3)]));
        world.run(load.flush());
        untilIdle(load);
        world.run(load.write(80, 3, { fua: true }));
        rest(load);
      },
    },
    {
      name: "another host takes the drives in a replace",
      base: () => replaceBase(four),
      body: (load, seed) => {
        const { world } = load;
        setSpeed(world, 8 * KIB);
        replaceWithNew(world, driveNames(four)[seed % 4]!);
        const written = load.write(30, 8);
        world.simulation.runFor(20 + 90 * (seed % 8));
        preempt(load, [...driveNames(four), NEW], seed);
        world.run(Promise.all([written, load.flush()]));
        rest(load);
      },
    },
    {
      name: "growth under writes",
      base: () => growBase(few, 5),
      body: (load, seed) => {
        const { world } = load;
        const before = load.write((seed % 4) * 9 + 3, 3);
        growTo(world, 5);
        const all = [before, load.write(44, 3)];
        world.run(Promise.all(all));
        untilIdle(load);
        world.run(Promise.all(writesAtEnds(load, sectorCountOf(few))));
        rest(load);
      },
    },
    {
      name: "resync after a crash, under writes",
      base: (seed) => dirtyBase(four, seed),
      body: (load, seed) => {
        const { world } = load;
        setSpeed(world, 16 * KIB);
        world.run(load.write((seed % 5) * 24 + 2, 3));
        world.run(load.write(4 * 24, 8));
        world.run(load.flush());
        world.settle();
      },
    },
    {
      name: "a slow resync: a stop in the middle",
      base: (seed) => dirtyBase(long, seed),
      body: (load, seed) => {
        const { world } = load;
        setSpeed(world, 4 * KIB);
        world.simulation.runFor(4000 + 900 * seed);
        world.run(load.write(20, 4));
        world.simulation.runFor(8000);
        stop(world);
        world.startArray();
        world.run(load.write(16 * 15, 4));
        world.settle();
      },
    },
    {
      name: "stop with writes not flushed, start, write",
      base: () => cleanBase(four),
      body: (load, seed) => {
        const { world } = load;
        const all = Promise.all([load.write((seed % 5) * 24, 8), load.write(40, 3)]);
        if (seed % 2 === 0) world.run(all);
        stop(world);
        world.run(all);
        world.startArray();
        world.run(load.write(8, 2));
        rest(load);
      },
    },
    {
      name: "scrub repair of a row under writes",
      base: () => cleanBase(four),
      body: (load, seed) => {
        const { world } = load;
        const mode = seed % 2 === 0 ? "repair" : "check";
        const scrub = { kind: "start-scrub", array: ARRAY_NAME, mode, restart: true } as const;
        const job = world.must<"start-scrub">({ ...scrub, limitBytesPerSecond: 16 * KIB });
        world.run(load.write(24, 8));
        world.run(load.write(5, 2));
        world.waitJob(job.id);
        rest(load);
      },
    },
    {
      name: "bad-block entry and cure",
      mayLose: true,
      base: () => cleanBase(four),
      body: (load, seed) => {
        const { world } = load;
        const device = world.device(driveNames(four)[seed % 4]!);
        load.fact({ isHealthy: false });
        device.faults.plan({
          op: Op.write,
          fault: { kind: "result", result: -EIO },
          skip: 1,
          count: 8,
        });
        world.run(load.write(24, 24));
        world.run(load.flush());
        rest(load);
        device.faults.quiet();
        world.run(load.write(24, 24));
        world.run(load.flush());
        rest(load);
      },
    },
  ];
}
