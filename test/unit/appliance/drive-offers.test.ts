/**
 * Goal: whoever does what status says, line by line, is never sent to a drive that is gone by then.
 * Method: arrays and drives as values; what is offered, over all arrays and within one.
 */
import { expect, test } from "bun:test";
import { offerDrives } from "../../../src/appliance/drive-offers.ts";
import type { ShownDrive } from "../../../src/appliance/drives/shown-drive.ts";
import { findingsOf } from "../../../src/appliance/findings.ts";
import type { ArrayStatus, MemberStatus } from "../../../src/array/protocol.ts";
import { exampleArray } from "../../helpers/sim-reactor.ts";

const FREE = ["free0", "free1", "free2"];

/** `lost`: members without a drive. */
function array(name: string, { lost = 0, ...more }: Partial<ArrayStatus> & { lost?: number } = {}) {
  const whole = exampleArray(
    name,
    [0, 1, 2].map((role) => `${name}${role}`),
  );
  const members = whole.members.map((member): MemberStatus => {
    return member.role < lost ? { ...member, state: "missing" } : member;
  });
  const state = lost > 0 ? "degraded" : "clean";
  const uuid = `uuid-${name}`;
  return { ...whole, uuid, members, state, degraded: lost, candidates: FREE, ...more } as const;
}

function free(name: string, sizeBytes: number, more: Partial<ShownDrive> = {}): ShownDrive {
  const path = `/dev/${name}`;
  return { name, path, sizeBytes, logicalBlockBytes: 512, state: "available", ...more };
}

const FAILING = { smart: { health: "failing" } } as unknown as Partial<ShownDrive>;

/** What is offered for the first member of each. */
function offered(arrays: readonly ArrayStatus[], drives: readonly ShownDrive[]) {
  const offers = offerDrives(arrays, drives);
  return arrays.map((one) => offers.for(one, 0) ?? null);
}

test("offers: one free drive, two degraded arrays: the first has it, the other is told of none", () => {
  const arrays = [array("a", { lost: 1 }), array("b", { lost: 1 })];
  const drives = [free("free0", 10)];
  const offers = offerDrives(arrays, drives);
  expect(arrays.map((one) => findingsOf(one, drives, offers)[0]?.action)).toEqual([
    "replace it: parityd member add a free0",
    "replace it: parityd member add b NEW_DRIVE",
  ]);
});

test("offers: the worst array first, the smallest drive that fits", () => {
  const drives = [free("free0", 30), free("free1", 20), free("free2", 10)];
  expect(offered([array("a", { lost: 1 }), array("b", { lost: 2 })], drives)).toEqual([
    "free0",
    "free2",
  ]);
  const picky = array("a", { lost: 1, candidates: ["free0"] });
  expect(offered([picky, array("b", { lost: 1 })], drives)).toEqual(["free0", "free2"]);
  // Two roles of one array have two drives.
  const twice = array("a", { lost: 2 });
  const offers = offerDrives([twice], drives);
  expect([offers.for(twice, 0), offers.for(twice, 1)]).toEqual(["free2", "free1"]);
});

test("offers: a lost member before one that fails, before one that is suspect", () => {
  const suspect = { since: "S", detail: "slow" } as MemberStatus["suspect"] & object;
  const members = array("c").members.map((member) =>
    member.role === 0 ? { ...member, suspect } : member,
  );
  const suspected = array("c", { members });
  const failing = array("b");
  const drives = [free("free0", 10), free("b0", 10, { state: "member", ...FAILING })];
  expect(offered([suspected, failing, array("a", { lost: 1 })], drives)).toEqual([
    null,
    null,
    "free0",
  ]);
  expect(offered([suspected, failing], drives)).toEqual([null, "free0"]);
  expect(offered([suspected], drives)).toEqual(["free0"]);
});

test("offers: a spare of its own, then a shared one; each once; none that is failing", () => {
  const bad = ["a0", "a1", "b0"].map((name) => free(name, 10, { state: "member", ...FAILING }));
  const a = array("a", { spares: ["s0"], sharedSpares: ["shared"] });
  const b = array("b", { sharedSpares: ["shared"] });
  const drives = [...bad, free("free0", 10, FAILING), free("free1", 10)];
  const offers = offerDrives([a, b], drives);
  expect([offers.for(a, 0), offers.for(a, 1), offers.for(b, 0)]).toEqual(["s0", "shared", "free1"]);
  const failingSpare = [...drives, free("s0", 10, { state: "spare", ...FAILING })];
  expect(offered([a, b], failingSpare)).toEqual(["shared", null]);
});

test("offers: a role whose own drive is back, or that is being copied, needs none", () => {
  const known = { deviceUuid: "d", arrayName: "a", role: 0, eventCount: 1 };
  const stale = { state: "stale", superblock: { ...known, arrayUuid: "uuid-a" } } as const;
  const arrays = [array("a", { lost: 1 }), array("b", { lost: 1 })];
  const drives = [free("free0", 10), free("old", 10, stale)];
  expect(offered(arrays, drives)).toEqual([null, "free0"]);
  const byForce = [free("free0", 10), free("old", 10, { ...stale, needsForce: true })];
  expect(offered(arrays, byForce)).toEqual(["free0", null]);
});
