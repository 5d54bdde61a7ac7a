/**
 * Goal: a drive that has no seat in its array any more is let go of by `remove-member`, as one that
 * has; and what is added for a role only never becomes a spare.
 *
 * Method: each policy, each way to lose a seat: failed and replaced by a spare, stale after a
 * restart. Then what is shown, and how it comes back. Spares are read with and without errors.
 */
import { expect, test } from "bun:test";
import type { ArrayStatus, DriveStatus } from "../../../src/array/protocol.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const array = ARRAY_NAME;

function made(policy: (typeof POLICIES)[number], spares: readonly string[]): SimWorld {
  const world = new SimWorld({ seed: 1 });
  for (const name of ["a", "b", "c", "d", "e"]) world.addDrive({ name, sizeBytes: 4 * MIB });
  const shape = { chunkBytes: 4 * KIB, memberSizeBytes: 64 * KIB };
  world.createArray({ drives: ["a", "b", "c"], spares, ...shape, consistencyPolicy: policy });
  settled(world);
  return world;
}

/** A spare that takes a role does so a moment later. */
function settled(world: SimWorld): ArrayStatus {
  world.simulation.runFor(1_000);
  return world.settle();
}

function drive(world: SimWorld, name: string): DriveStatus {
  const drives = world.must<"list-drives">({ kind: "list-drives" });
  return drives.find((each) => each.name === name)!;
}

function expectLetGo(world: SimWorld, name: string): void {
  expect(drive(world, name).state).toBeOneOf(["faulty", "stale"]);
  world.must<"remove-member">({ kind: "remove-member", array, drive: name });
  expect(drive(world, name)).toMatchObject({ state: "foreign" });
  expect(drive(world, name).detail).toContain("has let go of it");
  // Once more changes nothing.
  world.must<"remove-member">({ kind: "remove-member", array, drive: name });
}

for (const policy of POLICIES) {
  test(`let go: ${policy}: failed, and a spare has its role: comes back when it is added`, () => {
    const world = made(policy, ["d"]);
    world.must<"fail-member">({ kind: "fail-member", array, drive: "b" });
    expect(settled(world)).toMatchObject({ degraded: 0, spares: [] });
    expectLetGo(world, "b");
    const elsewhere = world.call<"create-array">({
      ...{ kind: "create-array", name: "other", drives: ["b", "e", "e"], spares: [] },
      ...{ chunkBytes: 4 * KIB, consistencyPolicy: policy, assumeClean: false, force: false },
    });
    expect(elsewhere.ok).toBe(false);
    const added = world.must<"add-member">({
      ...{ kind: "add-member", array, drive: "b", force: false },
    });
    expect(added).toMatchObject({ role: "spare", array: { spares: ["b"] } });
    expect(drive(world, "b").state).toBe("spare");
    world.must<"fail-member">({ kind: "fail-member", array, drive: "c" });
    expect(settled(world)).toMatchObject({ degraded: 0 });
    expect(drive(world, "b").state).toBe("member");
  });
}

test("let go: a drive that is no concern of the array: refused as before", () => {
  const world = made("ppl", []);
  for (const name of ["d", "e"]) {
    const refused = world.call<"remove-member">({ kind: "remove-member", array, drive: name });
    expect(refused).toMatchObject({
      ok: false,
      error: { kind: "not-found", code: "not-a-member" },
    });
  }
});

test("let go: stale after a restart: let go of; the array is what it was", () => {
  const before = made("ppl", ["d"]);
  before.must<"fail-member">({ kind: "fail-member", array, drive: "b" });
  settled(before);
  before.must<"stop-array">({ kind: "stop-array", array });
  const world = SimWorld.restart(before.images(), { seed: 2 });
  expect(settled(world)).toMatchObject({ degraded: 0 });
  expectLetGo(world, "b");
  world.must<"stop-array">({ kind: "stop-array", array });
  expect(world.startArray()).toMatchObject({ ok: true, value: { degraded: 0 } });
});

test("for a role only: where none is free it is refused, and nothing is written to the drive", () => {
  const world = made("ppl", []);
  const before = world.images().find(({ name }) => name === "d")!;
  const add = { kind: "add-member", array, drive: "d", force: false, isForRole: true } as const;
  const refused = world.call<"add-member">(add);
  expect(refused).toMatchObject({ ok: false, error: { code: "no-free-role" } });
  expect(drive(world, "d").state).toBe("available");
  expect(world.images().find(({ name }) => name === "d")!.pages).toEqual(before.pages);
  world.must<"fail-member">({ kind: "fail-member", array, drive: "a" });
  expect(world.must<"add-member">(add)).toMatchObject({ role: "rebuild" });
  expect(settled(world)).toMatchObject({ degraded: 0 });
});

test("reading: what cannot be read costs a spare its place, and a drive of nobody nothing here", () => {
  const world = made("ppl", ["d"]);
  const read = (name: string) =>
    world.call<"read-drive">({ kind: "read-drive", drive: name, offset: 0, bytes: 4 * MIB });
  expect([read("d"), read("e")]).toMatchObject([
    { ok: true, value: { failure: null } },
    { ok: true, value: { failure: null } },
  ]);
  // A member is read by its array.
  expect(read("a")).toMatchObject({ ok: false, error: { code: "not-a-spare" } });
  for (const name of ["d", "e"]) world.device(name).vanish("keep");
  for (const name of ["d", "e"]) {
    expect(read(name)).toMatchObject({
      ok: true,
      value: { failure: expect.stringMatching(/byte 0/) },
    });
  }
  expect(settled(world)).toMatchObject({ spares: [], degraded: 0 });
  expect([drive(world, "d").state, drive(world, "e").state]).toEqual(["faulty", "available"]);
});

test("fit: for each array that runs whether a drive is large enough, and what it would take", () => {
  const world = made("ppl", []);
  world.addDrive({ name: "small", sizeBytes: 32 * KIB });
  const fits = (name: string) => world.must<"fit-drive">({ kind: "fit-drive", drive: name });
  expect(fits("d")).toMatchObject([{ neededBytes: null }]);
  const [needed] = fits("small");
  expect(needed!.neededBytes).toBeGreaterThan(64 * KIB);
  const least = Math.ceil(needed!.neededBytes! / 4096) * 4096;
  world.addDrive({ name: "least", sizeBytes: least });
  expect(fits("least")).toMatchObject([{ neededBytes: null }]);
  world.addDrive({ name: "less", sizeBytes: least - 4096 });
  expect(fits("less")).toMatchObject([{ neededBytes: needed!.neededBytes }]);
});
