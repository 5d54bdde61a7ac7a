/**
 * Goal: an update of the superblocks may be cut short at any copy, again and again. With all
 * members there the array still assembles whole, by itself (write-rules 19, goal R13); and a drive
 * that was on its way to a role is never taken for one that has its data (write-rules 23).
 * Method: every subset of copies of an update is dropped; the array starts from that, and the
 * next update is cut short at every subset too. And each drive in turn comes after the others have
 * started, and have been written to.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { ENXIO } from "../../src/base/errno.ts";
import { KIB } from "../../src/base/units.ts";
import { Role } from "../../src/md/superblock.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { POLICIES } from "../helpers/policies.ts";
import { type CrashImages, crashImages } from "../sim/world/crash-images.ts";
import { DeviceTrace } from "../sim/world/device-trace.ts";
import type { DeviceImage } from "../sim/world/media.ts";
import type { SectorOracle } from "../sim/world/oracle.ts";
import { ARRAY_NAME, SimWorld } from "../sim/world/sim-world.ts";
import {
  blankDrive,
  cleanBase,
  degradedBase,
  driveNames,
  reshapeBase,
  type Shape,
} from "./bases.ts";
import { CrashLoad, type CrashMark } from "./crash-load.ts";
import { LightCheck, Promises } from "./light-check.ts";
import type { Base } from "./matrix.ts";

const SHAPE: Shape = { memberCount: 4, chunkKib: 4, stripes: 2, sectorBytes: 4096 };

/** Of all images of what the world does: one, the first, of all that have the same superblocks. */
function imagesOf(images: readonly DeviceImage[], work: (world: SimWorld) => void): CrashImages[] {
  const trace = new DeviceTrace<CrashMark>();
  const world = SimWorld.restart(images, { seed: 1, trace });
  work(world);
  // A spare takes over a moment later.
  world.simulation.runFor(1000);
  world.settle();
  const found = new Map<string, CrashImages>();
  const light = new LightCheck();
  for (const crash of crashImages({ trace, seed: 1 })) {
    const told = crash.images.map((image) => {
      const superblock = light.superblockOf(image);
      if (superblock === null) return "none";
      const { events, resyncOffsetSectors, recoveryOffsetSectors, devRoles } = superblock;
      return [events, resyncOffsetSectors, recoveryOffsetSectors, ...devRoles.slice(0, 8)];
    });
    const key = JSON.stringify(told);
    if (!found.has(key)) found.set(key, crash);
  }
  return [...found.values()];
}

/** The images of the dirty mark of one write, and of the clean mark after it. */
function cutShort(images: readonly DeviceImage[]): CrashImages[] {
  return imagesOf(images, (world) => {
    const oracle = cleanBase(SHAPE).oracle.clone();
    const load = new CrashLoad({ world, oracle, trace: null });
    world.run(load.write(0, 8));
  });
}

function eventsOf({ images }: CrashImages): string {
  const light = new LightCheck();
  return images.map((image) => light.superblockOf(image)?.events).join(" ");
}

test("rule 19: an update cut short at any copies: the array assembles whole", () => {
  const light = new LightCheck();
  const cuts = cutShort(cleanBase(SHAPE).images);
  expect(cuts.length).toBeGreaterThan(2 * 2 ** SHAPE.memberCount - 4);
  for (const cut of cuts)
    expect([eventsOf(cut), light.expect(cut.images).kind]).toEqual([eventsOf(cut), "whole"]);
});

test("rule 19: and the next update after that too: it still assembles whole", () => {
  const light = new LightCheck();
  const wrong: string[] = [];
  for (const first of cutShort(cleanBase(SHAPE).images)) {
    for (const second of cutShort(first.images)) {
      const { kind } = light.expect(second.images);
      if (kind !== "whole") wrong.push(`${eventsOf(first)}, then ${eventsOf(second)}: ${kind}`);
    }
  }
  expect(wrong.slice(0, 5)).toEqual([]);
});

// A drive on its way to a role -----------------------------------------------------------------

const NEW = "new";

/** What the drives hold, and how the last of them gets a role, or all of them another policy. */
interface Newcomer {
  readonly name: string;
  readonly base: () => Base;
  readonly work: (world: SimWorld) => void;
}

/** With each policy. */
function newcomersOf(policy: ConsistencyPolicy): readonly Newcomer[] {
  const shape: Shape = { ...SHAPE, policy };
  const [, lost, replaced] = driveNames(shape);
  const replace = (world: SimWorld) =>
    world.must({
      ...{ kind: "replace-member", array: ARRAY_NAME, drive: replaced! },
      ...{ with: NEW, force: false },
    });
  const add = (world: SimWorld) =>
    world.must({ kind: "add-member", array: ARRAY_NAME, drive: NEW, force: false });
  return [
    {
      name: "a spare takes over",
      base: () => withSpare(shape),
      work: (world) => world.must({ kind: "fail-member", array: ARRAY_NAME, drive: lost! }),
    },
    // Met in the updates of a change of policy, it is replaced right behind them.
    ...[0, 3].map((skip) => ({
      name: `a spare takes over as a member fails at write ${skip} of a change of policy`,
      base: () => withSpare(shape),
      work: (world: SimWorld) => {
        const to = POLICIES[(POLICIES.indexOf(policy) + 1) % POLICIES.length]!;
        const fault = { kind: "dead", errno: ENXIO } as const;
        world.device(lost!).faults.plan({ op: Op.write, skip, fault });
        world.call({ kind: "set-array", array: ARRAY_NAME, consistencyPolicy: to });
        world.call({ kind: "fail-member", array: ARRAY_NAME, drive: lost! });
      },
    })),
    {
      name: "a drive is added to a degraded array",
      base: () => withNew(degradedBase(shape, { role: 1 })),
      work: add,
    },
    {
      name: "a member that was failed comes back",
      base: () => withLast(degradedBase(shape, { role: 1, keepDrive: true }), 1),
      work: (world) => {
        world.call({ kind: "add-member", array: ARRAY_NAME, drive: lost!, force: true });
      },
    },
    { name: "a member is replaced", base: () => withNew(cleanBase(shape)), work: replace },
    ...[0.2, 1, 4].map((afterMs) => ({
      name: `a member is replaced, and lost ${afterMs} ms later`,
      base: () => withNew(cleanBase(shape)),
      work: (world: SimWorld) => {
        world.must({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 64 * KIB });
        replace(world);
        world.simulation.runFor(afterMs);
        world.call({ kind: "fail-member", array: ARRAY_NAME, drive: replaced! });
      },
    })),
    { name: "a member is replaced with a spare", base: () => withSpare(shape), work: replace },
  ];
}

/** Beside the policy of before, to each of the others. */
function policyChanges(policy: ConsistencyPolicy): readonly Newcomer[] {
  return POLICIES.filter((to) => to !== policy).map((to) => ({
    name: `the policy becomes ${to}`,
    base: () => cleanBase({ ...SHAPE, policy }),
    work: (world) => world.must({ kind: "set-array", array: ARRAY_NAME, consistencyPolicy: to }),
  }));
}

const GROWTH: Newcomer = {
  name: "an array grows by a drive",
  base: () => reshapeBase(SHAPE, { names: [NEW], gapChunks: 2 }),
  work: (world) =>
    world.must<"add-members">({
      ...{ kind: "add-members", array: ARRAY_NAME, drives: [NEW], force: false },
      policyAfter: "resync",
    }),
};

const NEWCOMERS = [
  ...POLICIES.flatMap((policy) =>
    [...newcomersOf(policy), ...policyChanges(policy)].map((newcomer) => ({
      ...newcomer,
      name: `${newcomer.name}, ${policy}`,
    })),
  ),
  GROWTH,
];

function withNew(base: Base): Base {
  return { ...base, images: [...base.images, blankDrive(NEW, SHAPE)] };
}

/** The drive of this role behind the others. */
function withLast(base: Base, role: number): Base {
  return { ...base, images: [...base.images.toSpliced(role, 1), base.images[role]!] };
}

function withSpare(shape: Shape): Base {
  const base = withNew(cleanBase(shape));
  const world = SimWorld.restart(base.images, { seed: 1 });
  world.must({ kind: "add-member", array: ARRAY_NAME, drive: NEW, force: false });
  world.settle();
  return { ...base, images: world.crash("keep") };
}

/** It does not wait for the drives that are not there. */
function start(world: SimWorld): void {
  const [array] = world.must<"list-arrays">({ kind: "list-arrays" });
  if (array?.state === "inactive") world.startArray();
}

/**
 * All but one start, with a write or without one, and the last comes then. What does not read as
 * it ought to, or null.
 */
function readWithLate(
  { images, late, isWritten }: { images: readonly DeviceImage[]; late: number; isWritten: boolean },
  before: SectorOracle,
): string | null {
  const world = SimWorld.restart(images.toSpliced(late, 1), { seed: 1 });
  start(world);
  const oracle = before.clone();
  const load = new CrashLoad({ world, oracle, trace: null });
  const isRunning = () => world.status().state !== "inactive";
  if (isWritten && isRunning()) world.run(load.write(8, 16));
  world.plug(images[late]!);
  world.attach(images[late]!.name);
  if (!isRunning()) start(world);
  if (!isRunning()) return null;
  world.simulation.runFor(1000);
  world.settle();
  const read = world.run(load.read(0, load.sectorCount));
  if (read !== 0) return typeof read === "number" ? `errno ${read}` : read.message;
  const { state } = world.status();
  return state === "clean" || state === "degraded" ? null : `it is ${state}`;
}

for (const { name, base, work } of NEWCOMERS) {
  test(`rule 23: ${name}, cut short at any copies, twice, or a drive is late: reads are right`, () => {
    const light = new LightCheck();
    const before = base();
    const oracle = before.oracle.clone();
    oracle.crash();
    const promises = new Promises(oracle);
    const wrong: string[] = [];
    let judged = 0;
    /** All of them, and without each of them. */
    const judge = (what: string, { images }: CrashImages): void => {
      for (let lost = -1; lost < images.length; lost += 1) {
        const present = images.filter((_, device) => device !== lost);
        const expected = light.expect(present);
        judged += 1;
        if (expected.kind === "wrong") wrong.push(`${what}, without ${lost}: ${expected.message}`);
        if (!("plan" in expected)) continue;
        const read = light.readAll(expected.plan, { images: present, promises, isTorn: false });
        if (read !== null) wrong.push(`${what}, without ${lost}: ${read}`);
      }
    };
    const all = imagesOf(before.images, work);
    for (const [number, first] of all.entries()) {
      judge(eventsOf(first), first);
      for (let late = 0; late < first.images.length; late += 1) {
        const isWritten = (late + number) % 2 === 0;
        const read = readWithLate({ images: first.images, late, isWritten }, oracle);
        if (read !== null) wrong.push(`${eventsOf(first)}, ${late} late, ${isWritten}: ${read}`);
      }
      for (const second of imagesOf(first.images, start)) {
        judge(`${eventsOf(first)}, then ${eventsOf(second)}`, second);
      }
    }
    expect(wrong.slice(0, 5)).toEqual([]);
    expect(judged).toBeGreaterThan(60);
    const last = all.at(-1)!.images.map((image) => light.superblockOf(image)!);
    const { devNumber, devRoles } = last.at(-1)!;
    expect(devRoles[devNumber]).toBeLessThan(Role.limit);
  });
}
