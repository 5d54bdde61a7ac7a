/**
 * Goal: the drives that the status of an array names for a role are those that would be taken for
 * it without force, and no others.
 *
 * Method: drives of every size around that of a member, and drives that are somebody's, for each
 * policy, before a growth in members, in it and behind it; a dry run of `add-member` for each.
 */
import { expect, test } from "bun:test";
import { KIB, MIB } from "../../../src/base/units.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const MEMBERS = ["a", "b", "c", "d"];
const MEMBER_BYTES = 3 * MIB;

/** The candidates, after each drive was asked for. */
function candidates(world: SimWorld): string[] {
  const taken = world
    .must<"list-drives">({ kind: "list-drives" })
    .map(({ name }) => name)
    .filter((drive) => {
      return world.call<"add-member">({
        ...{ kind: "add-member", array: ARRAY_NAME, drive, force: false, dryRun: true },
      }).ok;
    });
  const { candidates: told } = world.status();
  expect(told).toEqual(taken);
  return [...told];
}

for (const policy of POLICIES) {
  test(`candidates: ${policy}: who is named would be taken`, () => {
    const world = new SimWorld({ seed: 1 });
    for (const name of MEMBERS) world.addDrive({ name, sizeBytes: MEMBER_BYTES });
    for (let more = -2600; more <= 40; more += 40) {
      world.addDrive({ name: `size${more}`, sizeBytes: MEMBER_BYTES + more * KIB });
    }
    world.addDrive({ name: "tiny", sizeBytes: 8 * KIB });
    world.addDrive({ name: "held", sizeBytes: MEMBER_BYTES });
    world.must<"note-content">({ kind: "note-content", name: "held", signature: "an ext4" });
    world.createArray({
      drives: MEMBERS.slice(0, 3),
      chunkBytes: 8 * KIB,
      consistencyPolicy: policy,
    });
    world.settle();
    const before = candidates(world);
    expect(before).toContain("size0");
    for (const name of ["held", "tiny", "a", "size-2600"]) expect(before).not.toContain(name);
    world.must<"set-array">({
      ...{ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 16 * KIB, syncSpeedMin: 1 },
    });
    if (policy !== "resync") {
      world.must<"set-array">({
        ...{ kind: "set-array", array: ARRAY_NAME, consistencyPolicy: "resync" },
      });
    }
    world.must<"add-members">({
      ...{ kind: "add-members", array: ARRAY_NAME, drives: ["d"], force: false },
      policyAfter: "resync",
    });
    expect(world.status().sync.action).toBe("reshape");
    expect(candidates(world)).toContain("size0");
    world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 100 * MIB });
    world.settle();
    expect(candidates(world)).toContain("size0");
    world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "a" });
    expect(world.status().candidates).toContain("size0");
  });
}
