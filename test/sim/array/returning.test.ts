/**
 * Goal: a member that comes back to an array that runs is a member again by itself where that is
 * safe and cheap (write-rules 19), and stays out, with the reason told, where it is not.
 *
 * Method: each policy; a member that was not there at the start, or vanished while the array was at
 * rest or was written to, is plugged in again. A trace tells what was written to it then, and
 * parity is looked at from outside. The power is cut at any moment of its return.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy, DriveState } from "../../../src/array/protocol.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { encodeSuperblock, Role, SUPERBLOCK_OFFSET_BYTES } from "../../../src/md/superblock.ts";
import { TEST_DEVICE_BYTES, testSuperblock } from "../../helpers/md-members.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { DeviceTrace } from "../world/device-trace.ts";
import { blankImage, type DeviceImage, patchImage } from "../world/media.ts";
import { areasOf, parityMismatches, superblockOf, viewMembers } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c"];
const LATE = "c";
const STRIPES = 16;
const LIMIT_MS = 120_000;

function made(policy: ConsistencyPolicy): SimWorld {
  const world = new SimWorld({ seed: 1 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  const shape = { chunkBytes: 4 * KIB, memberSizeBytes: STRIPES * 4 * KIB };
  world.createArray({ drives: NAMES, ...shape, consistencyPolicy: policy });
  world.settle();
  write(world, 0, 2 * STRIPES, 1);
  // Until the bits of it are cleared.
  world.simulation.runFor(60_000);
  return world;
}

function write(world: SimWorld, row: number, rows: number, byte: number): void {
  const data = new Uint8Array(rows * ROW_BYTES).fill(byte);
  expect(world.run(world.client().write(row * ROW_BYTES, data, { fua: true }))).toBe(0);
}

/** The array starts without its last member, which is plugged in and not attached. */
function startedWithout(policy: ConsistencyPolicy, trace: DeviceTrace): SimWorld {
  const before = made(policy);
  before.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  return startWithoutLate(before.images(), trace);
}

function startWithoutLate(images: readonly DeviceImage[], trace: DeviceTrace): SimWorld {
  const world = new SimWorld({ seed: 2, trace });
  for (const image of images) world.plug(image);
  for (const { name } of images) if (name !== LATE) world.attach(name);
  expect(world.startArray()).toMatchObject({ ok: true, value: { degraded: 1 } });
  return world;
}

/** Its connection is lost; whoever notices lets go of it. */
function vanish(world: SimWorld): void {
  world.device(LATE).vanish("keep");
  world.run(world.client().write(0, new Uint8Array(2 * STRIPES * ROW_BYTES).fill(1)));
  letGo(world);
}

function letGo(world: SimWorld): void {
  world.must<"detach-drive">({ kind: "detach-drive", name: LATE, force: true });
  world.simulation.runFor(1000);
}

/** What is written to the late drive's data from here until all is at rest. */
function rowsWrittenOnReturn(world: SimWorld, trace: DeviceTrace): number[] {
  const from = trace.events.length;
  world.device(LATE).comeBack();
  expect(world.attach(LATE).ok).toBe(true);
  world.settle();
  const { offset, bytes } = areasOf(world.device(LATE).image()).find(
    ({ name }) => name === "data",
  )!;
  const rows = new Set<number>();
  for (const each of trace.events.slice(from)) {
    if (each.kind !== "device" || each.device !== NAMES.indexOf(LATE)) continue;
    const { event } = each;
    if (event.kind !== "submit" || event.offset < offset) continue;
    if (event.offset < offset + bytes) rows.add((event.offset - offset) / ROW_BYTES);
  }
  return [...rows].sort((one, other) => one - other);
}

function expectWhole(world: SimWorld): void {
  expect(world.settle()).toMatchObject({ degraded: 0, state: "clean" });
  const images = world.images().filter(({ name }) => NAMES.includes(name));
  expect(parityMismatches(viewMembers(images))).toEqual([]);
}

function stateOf(world: SimWorld, name: string): DriveState {
  const drives = world.must<"list-drives">({ kind: "list-drives" });
  return drives.find((drive) => drive.name === name)!.state;
}

function returns(world: SimWorld): string[] {
  return world.events
    .filter(({ kind }) => kind === "member.returned")
    .map(({ message }) => message);
}

function expectStaysOut(world: SimWorld, why: RegExp, name = LATE): void {
  world.simulation.runFor(5000);
  expect([world.status().degraded, stateOf(world, name)]).toEqual([1, "stale"]);
  expect(returns(world).at(-1)).toMatch(why);
}

for (const policy of POLICIES) {
  test(`rule 19: ${policy}: late at the start, nothing written: a member again, nothing rebuilt`, () => {
    const trace = new DeviceTrace();
    const world = startedWithout(policy, trace);
    expect(rowsWrittenOnReturn(world, trace)).toEqual([]);
    expectWhole(world);
    expect(returns(world)).toEqual(["drive c (role 2) is back: what it lacks is rebuilt"]);
    expect(world.check()).toBe(0);
  });

  test(`rule 19: ${policy}: late at the start, written to: by the bitmap, or it stays out`, () => {
    const trace = new DeviceTrace();
    const world = startedWithout(policy, trace);
    write(world, 6, 2, 9);
    const rows = rowsWrittenOnReturn(world, trace);
    if (policy === "bitmap") {
      expect([rows.includes(3), world.check()]).toEqual([true, 0]);
      return expectWhole(world);
    }
    expect(rows).toEqual([]);
    expectStaysOut(world, /was written to since it left; add it/);
    world.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive: LATE, force: false });
    expectWhole(world);
  });

  test(`rule 19: ${policy}: it vanished at rest and is back: a member again, nothing rebuilt`, () => {
    const before = made(policy);
    const trace = new DeviceTrace();
    const world = SimWorld.restart(before.images(), { seed: 2, trace });
    world.settle();
    world.device(LATE).vanish("keep");
    // The first that asks it for anything notices.
    world.run(world.client().read(0, 2 * STRIPES * ROW_BYTES));
    expect(world.status().degraded).toBe(1);
    letGo(world);
    expect(rowsWrittenOnReturn(world, trace)).toEqual([]);
    expectWhole(world);
  });

  test(`rule 19: ${policy}: it vanished in writes and is back: never taken as it is`, () => {
    const world = made(policy);
    vanish(world);
    world.device(LATE).comeBack();
    expect(world.attach(LATE).ok).toBe(true);
    if (policy === "bitmap") return expectWhole(world);
    expectStaysOut(world, /was written to since it left/);
  });

  test(`rule 19: ${policy}: failed or removed by request: it stays out`, () => {
    for (const how of ["fail", "remove", "detach"] as const) {
      const world = made(policy);
      const call = { array: ARRAY_NAME, drive: LATE } as const;
      if (how === "fail") world.must({ kind: "fail-member", ...call });
      if (how === "remove") world.must({ kind: "remove-member", ...call });
      letGo(world);
      world.attach(LATE);
      expectStaysOut(world, /by request; add it/);
      world.must<"add-member">({ kind: "add-member", ...call, force: false });
      expectWhole(world);
    }
  });

  test(`rule 19: ${policy}: a write comes while it is taken back: it has that too`, () => {
    for (let step = 0; step < 12; step += 1) {
      const world = startedWithout(policy, new DeviceTrace());
      const attached = world.command<"attach-drive">({
        kind: "attach-drive",
        drive: world.openDriveOf(LATE),
      });
      for (let turn = 0; turn < 8 * step; turn += 1) world.simulation.step();
      write(world, 6, 3, 50 + step);
      world.run(attached);
      if (world.settle().degraded === 1) expectStaysOut(world, /written to since/);
      else expectWhole(world);
    }
  });

  test(`rule 19: ${policy}: the power goes while it is taken back: nothing is lost`, () => {
    for (let step = 0; step < 12; step += 1) {
      const world = startedWithout(policy, new DeviceTrace());
      void world.command<"attach-drive">({
        kind: "attach-drive",
        drive: world.openDriveOf(LATE),
      });
      for (let turn = 0; turn < 8 * step; turn += 1) world.simulation.step();
      const after = SimWorld.restart(world.crash("random"), { seed: step });
      after.startArrays();
      after.settle();
      const { status, data } = after.run(after.client().read(0, 2 * STRIPES * ROW_BYTES));
      expect([step, status, data.every((byte) => byte === 1)]).toEqual([step, 0, true]);
      if (after.status().degraded === 0) expectWhole(after);
    }
  });
}

test("rule 19: a copy of a member that is there, or of one that has just come back: stays out", () => {
  const world = startedWithout("bitmap", new DeviceTrace());
  const late = world.device(LATE).image();
  world.attach(LATE);
  world.settle();
  for (const [name, image] of [
    ["copy1", late],
    ["copy2", world.device("a").image()],
  ] as const) {
    world.plug({ ...image, name });
    world.attach(name);
    expect([name, stateOf(world, name)]).toEqual([name, "stale"]);
    expect(returns(world).at(-1)).toMatch(/is a copy of drive/);
  }
  expectWhole(world);
});

test("rule 19: two copies of the member that is away: the second stays out", () => {
  const world = startedWithout("resync", new DeviceTrace());
  world.plug({ ...world.device(LATE).image(), name: "copy" });
  world.attach("copy");
  world.settle();
  expect(world.status().degraded).toBe(0);
  world.attach(LATE);
  expect(stateOf(world, LATE)).toBe("stale");
});

test("rule 19: it ran elsewhere meanwhile, to the same event: it stays out", () => {
  // Two members, each of which runs alone.
  const array = "tank";
  const [here, there] = ["a", LATE].map((name, role) => {
    const sizeBytes = TEST_DEVICE_BYTES;
    const block = encodeSuperblock(testSuperblock(role, { memberCount: 2 }));
    return patchImage(blankImage({ name, sizeBytes }), SUPERBLOCK_OFFSET_BYTES, block);
  });
  const elsewhere = new SimWorld({ seed: 4 });
  elsewhere.plug(there!);
  elsewhere.attach(LATE);
  expect(elsewhere.startArray({ array }).ok).toBe(true);
  const [other] = elsewhere.images();
  const world = new SimWorld({ seed: 5 });
  world.plug(here!);
  world.attach("a");
  expect(world.startArray({ array }).ok).toBe(true);
  world.plug(other!);
  world.attach(LATE);
  expect([world.status(array).degraded, stateOf(world, LATE)]).toEqual([1, "stale"]);
  expect(returns(world).at(-1)).toMatch(/apart from the array/);
});

test("array start: of one that runs: its status", () => {
  const world = made("resync");
  expect(world.startArray()).toMatchObject({ ok: true, value: { state: "clean", degraded: 0 } });
});

test("a spare that is about to be seated is removed: it has no role, and none later (seed 234)", () => {
  const world = made("ppl");
  world.addDrive({ name: "spare", sizeBytes: 4 * MIB });
  const member = { array: ARRAY_NAME, drive: "spare" };
  world.must<"add-member">({ kind: "add-member", ...member, force: false });
  const failed = world.command<"fail-member">({
    ...{ kind: "fail-member", array: ARRAY_NAME, drive: "a" },
  });
  const { registry } = world.service;
  const isArriving = () =>
    registry.byName(ARRAY_NAME)?.running?.core.roster.arriving?.name === "spare";
  world.simulation.runUntil(isArriving, { limitMs: LIMIT_MS });
  world.must<"remove-member">({ kind: "remove-member", ...member });
  world.run(failed);
  world.simulation.runFor(5000);
  const { members, degraded } = world.status();
  const seated = members.map(({ drive }) => drive);
  expect([degraded, seated.includes("spare"), seated.slice(1)]).toEqual([1, false, ["b", "c"]]);
});

test("a member is failed and removed: the others say removed, not faulty", () => {
  const world = made("resync");
  const member = { array: ARRAY_NAME, drive: "a" };
  world.must<"fail-member">({ kind: "fail-member", ...member });
  const rolesOf = (name: string): readonly number[] => {
    const superblock = superblockOf(world.device(name).image());
    return typeof superblock === "string" ? [] : superblock.devRoles.slice(0, 3);
  };
  expect(rolesOf("b")).toEqual([Role.faulty, 1, 2]);
  world.must<"remove-member">({ kind: "remove-member", ...member });
  expect(rolesOf("b")).toEqual([Role.spare, 1, 2]);
});
