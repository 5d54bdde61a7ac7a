/**
 * Goal: an update of the superblocks that is cut short anywhere makes an array neither cleaner nor
 * more complete than its members know it to be (R13 of the fault goals).
 *
 * Method: 3 to 8 members; every copy is old, new or torn (its checksum does not hold, so that its
 * drive is left out as one that is missing), in all combinations; every kind of update. What the
 * judge then says is compared with what the copies say, one by one. Updates one after the other
 * are cut short in test/crash/superblock-updates.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { type Candidate, judgeAssembly } from "../../../src/md/assemble/assemble.ts";
import type { Superblock } from "../../../src/md/superblock.ts";
import { changed, rolesWithout, testCandidates } from "../../helpers/md-members.ts";

type Copy = "old" | "new" | "torn";
type Fields = Partial<Superblock>;

interface Update {
  readonly before: (role: number) => Fields;
  readonly after: (role: number) => Fields;
  /** The copy that the update never goes to, or -1. */
  readonly unwritten?: number;
  /** What holds for these copies: dirty, and one letter a role as `drawn` gives them. */
  readonly expected: (copies: readonly Copy[]) => { isDirty: boolean; roles: string };
}

function letters(copies: readonly Copy[], letterOf: (role: number) => string = () => "A"): string {
  return copies.map((copy, role) => (copy === "torn" ? "." : letterOf(role))).join("");
}

function combinations(count: number, unwritten: number): Copy[][] {
  let all: Copy[][] = [[]];
  for (let role = 0; role < count; role += 1) {
    const kinds: Copy[] = role === unwritten ? ["old", "torn"] : ["old", "new", "torn"];
    all = all.flatMap((copies) => kinds.map((kind) => [...copies, kind]));
  }
  return all;
}

/** Goes through all copies; the number of sets that were accepted. */
function check(all: readonly Candidate[], update: Update): number {
  let accepted = 0;
  const { before, after, unwritten = -1, expected } = update;
  const old = all.map((candidate, role) => changed(candidate, before(role)));
  const anew = all.map((candidate, role) => changed(candidate, after(role)));
  for (const copies of combinations(all.length, unwritten)) {
    const present = copies.flatMap((copy, role) => {
      if (copy === "torn") return [];
      return [copy === "new" ? anew[role]! : old[role]!];
    });
    if (present.length === 0) continue;
    const { isDirty, roles } = expected(copies);
    const lacking = [...roles].filter((letter) => letter !== "A").length;
    const judged = judgeAssembly(present, { force: false });
    const what = copies.join(" ");
    if (lacking > 1 || (lacking === 1 && isDirty)) {
      const kind = lacking > 1 ? "too-few-members" : "dirty-and-degraded";
      expect([what, judged.ok ? "accepted" : judged.error.kind]).toEqual([what, kind]);
      continue;
    }
    if (!judged.ok) throw new Error(`${what}: ${judged.error.detail}`);
    const { value } = judged;
    const said = value.roles.map(
      ({ state }) => ({ "in-sync": "A", rebuilding: "R", missing: "." })[state],
    );
    expect([what, said.join(""), value.resyncFromSector !== null]).toEqual([what, roles, isDirty]);
    expect(value.events).toBe(Math.max(...present.map(({ superblock }) => superblock.events)));
    accepted += 1;
  }
  return accepted;
}

describe.each([3, 4, 5, 6, 7, 8])("R13: an update cut short, %i members", (memberCount) => {
  const all = testCandidates({ memberCount });
  const full = all[0]!.superblock;
  const roles = [...all.keys()];

  test(`update cut short, ${memberCount} members: going dirty: dirty once one copy says so`, () => {
    const accepted = check(all, {
      before: () => ({ events: 100 }),
      after: () => ({ events: 101, resyncOffsetSectors: 0 }),
      expected: (copies) => ({ isDirty: copies.includes("new"), roles: letters(copies) }),
    });
    // All there: every one of them. One torn: only where no copy says dirty.
    expect(accepted).toBe(2 ** memberCount + memberCount);
  });

  test(`update cut short, ${memberCount} members: going clean, up or down: once all say so`, () => {
    for (const events of [101, 99]) {
      const accepted = check(all, {
        before: () => ({ events: 100, resyncOffsetSectors: 0 }),
        after: () => ({ events }),
        expected: (copies) => {
          // A copy that counts up is the freshest, and came after a flush of everything.
          const isClean = events > 100 ? copies.includes("new") : !copies.includes("old");
          return { isDirty: !isClean, roles: letters(copies) };
        },
      });
      const cleanAndLess = events > 100 ? memberCount * (2 ** (memberCount - 1) - 1) : memberCount;
      expect(accepted).toBe(2 ** memberCount + cleanAndLess);
    }
  });

  test(`update cut short, ${memberCount} members: one recorded as lost: out once one says so`, () => {
    for (const lost of roles) {
      const accepted = check(all, {
        unwritten: lost,
        before: () => ({ events: 100 }),
        after: () => ({ events: 101, devRoles: rolesWithout(full, lost) }),
        expected: (copies) => {
          const isOut = copies.includes("new");
          return {
            isDirty: false,
            roles: letters(copies, (role) => (isOut && role === lost ? "." : "A")),
          };
        },
      });
      expect(accepted).toBeGreaterThan(2 ** (memberCount - 1));
    }
  });

  test(`update cut short, ${memberCount} members: a rebuild commits: in sync by its own copy`, () => {
    for (const target of roles) {
      check(all, {
        before: (role) =>
          role === target ? { events: 100, recoveryOffsetSectors: 128 } : { events: 100 },
        after: () => ({ events: 101, recoveryOffsetSectors: null }),
        expected: (copies) => ({
          isDirty: false,
          roles: letters(copies, (role) => (role === target && copies[role] === "old" ? "R" : "A")),
        }),
      });
    }
  });

  test(`update cut short, ${memberCount} members: a checkpoint: never beyond what was filled`, () => {
    for (const target of roles) {
      for (const own of [128, 256]) {
        // Its own copy is old or new; of the others any.
        const others = combinations(memberCount - 1, -1).filter((each) => !each.includes("torn"));
        for (const copies of others) {
          const drives = all.map((candidate, role) => {
            if (role === target) {
              const events = own === 128 ? 100 : 101;
              return changed(candidate, { events, recoveryOffsetSectors: own });
            }
            const copy = copies[role < target ? role : role - 1];
            return changed(candidate, { events: copy === "new" ? 101 : 100 });
          });
          const judged = judgeAssembly(drives, { force: false });
          if (!judged.ok) throw new Error(judged.error.detail);
          expect(judged.value.roles[target]).toMatchObject({
            state: "rebuilding",
            recoveryOffsetSectors: own,
          });
        }
      }
    }
  });
});
