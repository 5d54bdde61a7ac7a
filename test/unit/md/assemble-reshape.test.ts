/**
 * Goal: an array in the middle of a reshape is started from what its superblocks say, wherever an
 * update of them was cut short, and never by guessing.
 *
 * Method: enumerated. The updates of a reshape (begin, two positions, end) are each cut short in
 * every way, for 2 to 4 members and 1 or 2 new ones, with each drive lost in turn; the ways in
 * which superblocks can contradict each other are a table.
 */
import { describe, expect, test } from "bun:test";
import type { Candidate } from "../../../src/md/assemble/assemble.ts";
import {
  begunReshape,
  finishedReshape,
  type Reshape,
  reshapeOf,
  withReshape,
} from "../../../src/md/reshape.ts";
import { Feature, Role, type Superblock } from "../../../src/md/superblock.ts";
import {
  changed,
  drawn,
  judged,
  refused,
  rolesWithout,
  TEST_DEVICE_BYTES,
  testCandidate,
  testSuperblock,
} from "../../helpers/md-members.ts";

const GAP = -256;

function at(superblock: Superblock, positionSectors: number): Superblock {
  return withReshape(superblock, { ...reshapeOf(superblock)!, positionSectors });
}

/** Members and new drives, at each stage: before (event 100), begin, two positions, end (104). */
function stages(memberCount: number, deltaMembers: number): Candidate[][] {
  const before = Array.from({ length: memberCount + deltaMembers }, (_, devNumber) =>
    testCandidate(testSuperblock(devNumber, { memberCount })),
  );
  const step = (from: readonly Candidate[], to: (superblock: Superblock) => Superblock) =>
    from.map((each) => {
      const { events } = each.superblock;
      return { ...each, superblock: { ...to(each.superblock), events: events + 1 } };
    });
  const { devRoles } = testSuperblock(0, { memberCount: memberCount + deltaMembers });
  const begun = step(before, (superblock) =>
    begunReshape({ ...superblock, devRoles }, { deltaMembers, newOffsetSectors: GAP }),
  );
  const stripe = 128 * (memberCount + deltaMembers - 1);
  const first = step(begun, (superblock) => at(superblock, stripe));
  const second = step(first, (superblock) => at(superblock, 4 * stripe));
  return [before, begun, first, second, step(second, finishedReshape)];
}

const NAMES = ["begin", "first position", "second position", "end"] as const;
const SHAPES = [2, 3, 4].flatMap((count) => [1, 2].map((delta) => [count, delta] as const));

function subsets(count: number): boolean[][] {
  return Array.from({ length: 2 ** count }, (_, bits) =>
    Array.from({ length: count }, (_unused, index) => ((bits >> index) & 1) === 1),
  );
}

/** What all superblocks of a plan must say of the reshape and of where the data is. */
function placeOf(superblock: Superblock) {
  const { memberCount, dataOffsetSectors, dataSizeSectors } = superblock;
  return { memberCount, dataOffsetSectors, dataSizeSectors, reshape: reshapeOf(superblock) };
}

describe.each(SHAPES)("%i members and %i new ones", (memberCount, deltaMembers) => {
  const all = stages(memberCount, deltaMembers);
  const drives = memberCount + deltaMembers;

  test.each([0, 1, 2, 3])(
    `reshape ${memberCount} + ${deltaMembers}: update %i cut short anywhere, each lost: one stage`,
    (update) => {
      const [older, newer] = [all[update]!, all[update + 1]!];
      for (const has of subsets(drives)) {
        for (let lost = -1; lost < drives; lost += 1) {
          const set = has.map((isNew, index) => (isNew ? newer : older)[index]!);
          const there = set.filter((_, index) => index !== lost);
          const isNew = has.some((each, index) => each && index !== lost);
          const expected = (isNew ? newer : older)[0]!.superblock;
          const plan = judged(there);
          expect(placeOf(plan.freshest)).toEqual(placeOf(expected));
          expect(plan.reshape).toEqual(reshapeOf(expected));
          expect(plan.roles.length).toBe(expected.memberCount);
          const isMember = lost >= 0 && lost < expected.memberCount;
          expect(drawn(plan)).toBe(
            "A".repeat(isMember ? lost : expected.memberCount) +
              (isMember ? `.${"A".repeat(expected.memberCount - lost - 1)}` : ""),
          );
          for (const role of plan.roles) {
            if (role.state === "missing") continue;
            expect(placeOf(role.superblock)).toEqual(placeOf(expected));
          }
          expect([plan.resyncFromSector, plan.stale, plan.faulty]).toEqual([null, [], []]);
        }
      }
    },
  );

  test(`reshape ${memberCount} + ${deltaMembers}: the only one that has an update is lost, and comes back: left out`, () => {
    if (memberCount === 2) return;
    for (let update = 0; update < 4; update += 1) {
      const [older, newer] = [all[update]!, all[update + 1]!];
      const members = older[0]!.superblock.memberCount;
      for (let lost = 0; lost < members; lost += 1) {
        for (const more of [1, 2, 3]) {
          const set = older.map((each, index) => {
            if (index === lost) return newer[index]!;
            const { events, devRoles } = each.superblock;
            const isMember = index < members;
            return changed(each, {
              events: events + more,
              devRoles: isMember ? rolesWithout(each.superblock, lost) : devRoles,
            });
          });
          const plan = judged(set);
          expect(placeOf(plan.freshest)).toEqual(placeOf(older[lost]!.superblock));
          expect(plan.stale.map(({ drive }) => drive)).toEqual([`d${lost}`]);
          expect(plan.degraded).toBe(1);
        }
      }
    }
  });

  test(`reshape ${memberCount} + ${deltaMembers}: a member from two updates ago: stale, and not by force`, () => {
    for (let stage = 2; stage < 5; stage += 1) {
      for (let old = 0; old < memberCount; old += 1) {
        const set = all[stage]!.with(old, all[stage - 2]![old]!);
        for (const force of [false, true]) {
          const plan = judged(set, force);
          expect(plan.stale.map(({ drive }) => drive)).toEqual([`d${old}`]);
        }
        const second = (old + 1) % memberCount;
        const two = set.with(second, all[stage - 2]![second]!);
        expect(refused(two).kind).toBe("too-few-members");
        expect(refused(two, true).kind).toBe("too-few-members");
      }
    }
  });
});

const [BEFORE, BEGUN, FIRST, SECOND, AFTER] = stages(3, 1) as [
  Candidate[],
  Candidate[],
  Candidate[],
  Candidate[],
  Candidate[],
];

/** Device 1 of the array at its first position, one event behind or at the same, saying another. */
function other(fields: Partial<Reshape>, events: number): Candidate[] {
  const each = FIRST[1]!;
  const superblock = withReshape(each.superblock, { ...reshapeOf(each.superblock)!, ...fields });
  return FIRST.with(1, { ...each, superblock: { ...superblock, events } });
}

function behind(each: Candidate): Candidate {
  return changed(each, { events: 101 });
}

describe("contradictions", () => {
  test.each([
    ["another new offset", other({ newOffsetSectors: -128 }, 102), "the reshape"],
    ["another new offset, behind", other({ newOffsetSectors: -128 }, 101), "the reshape"],
    ["another position at one event", other({ positionSectors: 0 }, 102), "the reshape"],
    ["a position ahead, one event behind", other({ positionSectors: 768 }, 101), "the reshape"],
    ["another delta", other({ deltaMembers: 2 }, 102), "the reshape"],
    ["before, when data has moved", FIRST.with(1, behind(BEFORE[1]!)), "the number of members"],
    ["before, at one event", BEGUN.with(1, changed(BEFORE[1]!, { events: 101 })), "the number"],
    ["after, at one event", AFTER.with(1, changed(SECOND[1]!, { events: 104 })), "the reshape"],
  ])("assemble: %s: superblocks differ", (_, set, field) => {
    const refusal = refused(set);
    expect(refusal.kind).toBe("superblocks-differ");
    expect(refusal.detail).toInclude(`differ in ${field}`);
    expect(refusal.drives).toContain("d1");
  });

  test.each(NAMES)("assemble: at the %s: whole", (name) => {
    const set = stages(3, 1)[NAMES.indexOf(name) + 1]!;
    expect(drawn(judged(set))).toBe("AAAA");
  });

  test("assemble: dirty in a reshape: parity is known nowhere", () => {
    const dirty = FIRST.map((each) => changed(each, { resyncOffsetSectors: 4096 }));
    expect(judged(dirty)).toMatchObject({ resyncFromSector: 0 });
    expect(refused(dirty.toSpliced(1, 1)).kind).toBe("dirty-and-degraded");
  });

  test("assemble: a member that rebuilds in a reshape, and over its end: from the start", () => {
    const filling = { recoveryOffsetSectors: 4096 };
    const [role] = judged(FIRST.with(1, changed(FIRST[1]!, filling))).roles.slice(1);
    expect(role).toMatchObject({ state: "rebuilding", recoveryOffsetSectors: 0 });
    const [late] = judged(AFTER.with(1, changed(SECOND[1]!, filling))).roles.slice(1);
    expect(late).toMatchObject({ state: "rebuilding", recoveryOffsetSectors: 0 });
  });

  test("assemble: a begin that did not reach a member without the room: refused", () => {
    const set = BEGUN.with(1, changed(BEFORE[1]!, { dataOffsetSectors: 256 }));
    expect(refused(set)).toMatchObject({ kind: "member-too-small", drives: ["d1"] });
  });

  test("assemble: a spare that the end did not reach: is out of the reshape", () => {
    const spare = changed(
      { ...SECOND[0]!, drive: "spare", deviceBytes: TEST_DEVICE_BYTES },
      { devNumber: 9, deviceUuid: "1:2:3:4" },
    );
    const [found] = judged([...AFTER, spare]).spares;
    expect(found?.drive).toBe("spare");
    expect(reshapeOf(found!.superblock)).toBeNull();
    expect(found?.superblock.dataOffsetSectors).toBe(spare.superblock.dataOffsetSectors);
  });

  test("assemble: a damaged position: bad geometry, with what to do", () => {
    const refusal = refused(FIRST.map((each) => ({ ...each, superblock: at(each.superblock, 5) })));
    expect(refusal.kind).toBe("bad-geometry");
    expect(refusal.detail).toBe(
      "The superblock of drive d0 names a reshape that stands at sector 5, which is no whole " +
        "stripe; no RAID5 array runs so. Leave the drive out; if all members say the same, look " +
        "at them with mdadm --examine.",
    );
  });

  test("assemble: a reshape that we do not go on with: refused with what to do", () => {
    const set = FIRST.map((each) =>
      changed(each, { otherFeatures: Feature.reshape | Feature.newOffset | 0x20 }),
    );
    expect(refused(set)).toMatchObject({
      kind: "unsupported",
      detail:
        "The array of drive d0 is in the middle of a reshape that goes backwards. Let Linux " +
        "finish it (mdadm --assemble), then try again.",
    });
  });

  test("assemble: a new drive that calls itself a spare when data has moved: rebuilds", () => {
    const spare = changed(BEFORE[3]!, { events: 102 });
    expect(drawn(judged(FIRST.with(3, spare)))).toBe("AAAR");
    const gone = FIRST.map((each) =>
      changed(each, { devRoles: each.superblock.devRoles.with(3, Role.faulty) }),
    );
    expect(drawn(judged(gone.with(3, spare)))).toBe("AAA.");
  });
});
