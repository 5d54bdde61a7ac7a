/**
 * Goal: no order of crashes, absences and forced starts makes the judge of an assembly pick wrong
 * data (R13 and R14 of the fault goals).
 *
 * Method: each kind of superblock update cut short after any subset of the members, with each
 * member missing; every pair of partial starts, forced and not, followed by all drives meeting, on
 * a small model of superblocks.
 */
import { describe, expect, test } from "bun:test";
import { type Candidate, judgeAssembly } from "../../../src/md/assemble/assemble.ts";
import { Role, type Superblock } from "../../../src/md/superblock.ts";
import {
  changed,
  drawn,
  judged,
  refused,
  rolesWithout,
  testCandidate,
  testCandidates,
  testSuperblock,
} from "../../helpers/md-members.ts";

const FULL = testSuperblock(0);

/** All subsets of 0..n-1, as bit masks. */
function subsets(count: number): number[] {
  return [...Array(2 ** count).keys()];
}

function isIn(mask: number, index: number): boolean {
  return ((mask >> index) & 1) === 1;
}

describe.each([3, 4, 5, 6])("R13: an update cut short, %i members", (memberCount) => {
  const all = testCandidates({ memberCount });

  /** Every subset that the update reached x every member missing, or none. */
  function cutShort(
    before: Partial<Superblock>,
    after: Partial<Superblock>,
    check: (present: Candidate[], reached: (index: number) => boolean, missing: number) => void,
  ): void {
    for (const mask of subsets(memberCount)) {
      for (let missing = -1; missing < memberCount; missing += 1) {
        const drives = all.map((candidate, index) =>
          changed(candidate, isIn(mask, index) ? after : before),
        );
        const present = drives.filter((_, index) => index !== missing);
        check(present, (index) => index !== missing && isIn(mask, index), missing);
      }
    }
  }

  function expectDirty(present: Candidate[], isDirty: boolean, missing: number): void {
    if (isDirty && missing >= 0) {
      expect(refused(present).kind).toBe("dirty-and-degraded");
    } else {
      const plan = judged(present);
      expect([plan.resyncFromSector !== null, plan.degraded]).toEqual([
        isDirty,
        missing < 0 ? 0 : 1,
      ]);
    }
  }

  test(`assemble: ${memberCount} members, going dirty: dirty once one member says so`, () => {
    const after = { events: 101, resyncOffsetSectors: 0 };
    cutShort({ events: 100 }, after, (present, reached, missing) => {
      expectDirty(
        present,
        all.some((_, index) => reached(index)),
        missing,
      );
    });
  });

  test(`assemble: ${memberCount} members, going clean: clean only when all say so`, () => {
    const before = { events: 101, resyncOffsetSectors: 0 };
    cutShort(before, { events: 100 }, (present, reached, missing) => {
      const isDirty = all.some((_, index) => index !== missing && !reached(index));
      expectDirty(present, isDirty, missing);
    });
  });

  test(`assemble: ${memberCount} members, one recorded as lost: out once one says so`, () => {
    for (let lost = 0; lost < memberCount; lost += 1) {
      const after = { events: 101, devRoles: rolesWithout(all[0]!.superblock, lost) };
      cutShort({ events: 100 }, after, (present, reached, missing) => {
        if (reached(lost)) return; // Never written to a lost member.
        const isRecorded = all.some((_, index) => index !== lost && reached(index));
        const out = new Set([...(isRecorded ? [lost] : []), ...(missing < 0 ? [] : [missing])]);
        if (out.size > 1) {
          expect(refused(present).kind).toBe("too-few-members");
          return;
        }
        const plan = judged(present);
        expect(drawn(plan)).toBe(all.map((_, role) => (out.has(role) ? "." : "A")).join(""));
      });
    }
  });
});

/** Starts the array with some drives, writes to it and stops: what their superblocks say then. */
function run(drives: readonly Candidate[], mask: number, force: boolean): Candidate[] | null {
  const result = judgeAssembly(
    drives.filter((_, index) => isIn(mask, index)),
    { force },
  );
  if (!result.ok) return null;
  const { roles, freshest, events } = result.value;
  const active = roles.flatMap((role, index) => (role.state === "in-sync" ? [index] : []));
  const gone = [...roles.keys()].filter((role) => !active.includes(role));
  const devRoles = rolesWithout(freshest, ...gone).map((role, devNumber) =>
    active.includes(devNumber) ? devNumber : role,
  );
  return drives.map((candidate, index) =>
    active.includes(index) ? changed(candidate, { events: events + 4, devRoles }) : candidate,
  );
}

describe.each([2, 3, 4, 5, 6])("R14: two partial starts, %i members", (memberCount) => {
  const all = testCandidates({ memberCount });

  test.each([false, true])(
    `assemble: ${memberCount} members after two starts, force %p: two histories are refused`,
    (force) => {
      let histories = 0;
      let starts = 0;
      for (const first of subsets(memberCount).slice(1)) {
        const afterFirst = run(all, first, force);
        if (afterFirst === null) continue;
        const wrote = all.map((_, index) => afterFirst[index] !== all[index]);
        for (const second of subsets(memberCount).slice(1)) {
          const afterSecond = run(afterFirst, second, force);
          if (afterSecond === null) continue;
          starts += 1;
          // A drive of the second start that was not in the first lacks the first's writes.
          const isSplit = all.some(
            (_, index) => afterSecond[index] !== afterFirst[index] && !wrote[index],
          );
          if (isSplit) {
            histories += 1;
            expect(refused(afterSecond, true).kind).toBe("split-brain");
          } else {
            const plan = judged(afterSecond);
            for (const role of plan.roles) {
              if (role.state === "missing") continue;
              const index = all.findIndex(({ drive }) => drive === role.drive);
              expect(afterSecond[index]).not.toBe(all[index]);
            }
          }
        }
      }
      expect(starts).toBeGreaterThan(2);
      expect(histories > 0).toBe(force || memberCount === 2);
    },
  );
});

test("R14: both histories are told, with their drives, events and members", () => {
  const [a, b] = testCandidates({ memberCount: 2 }) as [Candidate, Candidate];
  const error = refused([
    changed(a, { events: 120, devRoles: rolesWithout(a.superblock, 1) }),
    changed(b, { events: 140, devRoles: rolesWithout(b.superblock, 0) }),
  ]);
  expect(error.kind).toBe("split-brain");
  for (const words of [
    "drive d0 (role 0, event 120)",
    "A.",
    "drive d1 (role 1, event 140)",
    ".A",
  ]) {
    expect(error.detail).toContain(words);
  }
});

test("R14: a spare took the place of a member that comes back: stale, not another history", () => {
  const devRoles = FULL.devRoles.with(2, Role.spare).with(3, 2);
  const [a, b, c] = testCandidates() as [Candidate, Candidate, Candidate];
  const spare = testCandidate(testSuperblock(3));
  const now = [a, b, spare].map((candidate) => changed(candidate, { events: 150, devRoles }));
  const plan = judged([...now, c]);
  expect([drawn(plan), plan.stale.map(({ drive }) => drive)]).toEqual(["AAA", ["d2"]]);
});

test("R13: a spare given the missing role, cut short: it rebuilds, or is a spare", () => {
  const before = { events: 100, devRoles: rolesWithout(FULL, 2) };
  const after = { events: 101, devRoles: rolesWithout(FULL, 2).with(3, 2) };
  const spare = testCandidate(testSuperblock(3));
  const drives = [...testCandidates().slice(0, 2), spare];
  for (const mask of subsets(3)) {
    const now = drives.map((drive, index) => {
      if (!isIn(mask, index)) return changed(drive, before);
      return changed(drive, drive === spare ? { ...after, recoveryOffsetSectors: 0 } : after);
    });
    expect(drawn(judged(now))).toBe(mask === 0 ? "AA." : "AAR");
  }
});

test("R14: another history whose device number was given away: refused", () => {
  const [a, b] = testCandidates({ memberCount: 2 }) as [Candidate, Candidate];
  const anew = changed(testCandidate(b.superblock, "new"), { events: 160 });
  const other = changed(b, { events: 140, devRoles: rolesWithout(b.superblock, 0) });
  expect(refused([changed(a, { events: 160 }), anew, other]).kind).toBe("split-brain");
});
