/**
 * Goal: an array that ran in two or three parts apart from each other is never put together by
 * itself, whichever of its drives meet; and an array that has one history is never refused for
 * that (R14 of the fault goals).
 *
 * Method: a model of drives that remember which runs they took part in. Every sequence of three
 * starts by every subset of the drives, forced and not, each run writing for a short or a long
 * time; then every subset of the drives meets. What the judge takes as in sync has to remember
 * everything that any drive of the meeting does.
 */
import { describe, expect, test } from "bun:test";
import { type Candidate, judgeAssembly } from "../../../src/md/assemble/assemble.ts";
import { arrayState } from "../../../src/md/assemble/history.ts";
import { Role } from "../../../src/md/superblock.ts";
import { changed, testCandidates } from "../../helpers/md-members.ts";
import { Share } from "../../helpers/share.ts";

interface Remembering {
  readonly candidate: Candidate;
  /** The runs that wrote to it, as bits. */
  readonly runs: number;
}

/** How far the events go in a run: the record of who is missing, one write, many. */
const RUN_EVENTS = [1, 2, 9];

function subset<T>(values: readonly T[], mask: number): T[] {
  return values.filter((_, index) => (mask >> index) & 1);
}

/** Starts with these drives, writes and stops; null: it does not start. */
function run(
  drives: readonly Remembering[],
  mask: number,
  options: { force: boolean; events: number; bit: number; gone: number },
): Remembering[] | null {
  const judged = judgeAssembly(
    subset(drives, mask).map(({ candidate }) => candidate),
    options,
  );
  if (!judged.ok) return null;
  const { roles, freshest, events } = judged.value;
  const active = roles.map((role) => (role.state === "in-sync" ? role.drive : null));
  // Device n holds role n, and a drive that is not there is faulty or has no role any more.
  const devRoles = freshest.devRoles.map((role, devNumber) => {
    if (devNumber >= roles.length) return role;
    return active[devNumber] === null ? options.gone : devNumber;
  });
  const fields = { events: events + options.events, devRoles };
  // Force takes a drive that lacks a run as in sync, and gives that run up for all that go on.
  const known = drives.filter(({ candidate }) => active.includes(candidate.drive));
  const common = known.reduce((bits, { runs }) => bits & runs, -1);
  const isSame = known.every(({ runs }) => runs === common);
  if (!judged.value.isForced && !isSame) throw new Error("it starts with unequal drives");
  return drives.map((drive) => {
    if (!active.includes(drive.candidate.drive)) return drive;
    return { candidate: changed(drive.candidate, fields), runs: common | options.bit };
  });
}

/** What may be said of these drives meeting; throws when something else is. */
function meet(drives: readonly Remembering[], lastActive: number): "refused" | "accepted" {
  const all = drives.reduce((bits, { runs }) => bits | runs, 0);
  const isOneHistory = drives.some(({ runs }) => runs === all);
  const candidates = drives.map(({ candidate }) => candidate);
  const judged = judgeAssembly(candidates, { force: false });
  if (judged.ok) {
    for (const role of judged.value.roles) {
      if (role.state !== "in-sync") continue;
      const { runs } = drives.find(({ candidate }) => candidate.drive === role.drive)!;
      if (runs !== all) throw new Error(`${role.drive} lacks writes that another drive has`);
    }
    return "accepted";
  }
  if (!isOneHistory) {
    // Both stories are told, and force does not pick either.
    expect(judged.error.kind).toBe("split-brain");
    expect(judged.error.drives).toHaveLength(2);
    for (const drive of judged.error.drives) {
      const { superblock } = candidates.find((candidate) => candidate.drive === drive)!;
      expect(judged.error.detail).toContain(`drive ${drive} `);
      expect(judged.error.detail).toContain(`event ${superblock.events}`);
      expect(judged.error.detail).toContain(`lists the members as ${arrayState(superblock)}`);
    }
    expect(judgeAssembly(candidates, { force: true }).ok).toBe(false);
    return "refused";
  }
  // One history: refused only where more than one of its drives is not there.
  expect(judged.error.kind).toBe("too-few-members");
  const { memberCount } = candidates[0]!.superblock;
  const whole = drives.filter(({ runs }) => runs === all).length;
  expect(whole).toBeLessThan(Math.min(memberCount - 1, Math.max(lastActive, 1)));
  return "refused";
}

/** Every sequence of `depth` starts, then every meeting. */
function explore(
  drives: readonly Remembering[],
  options: { depth: number; force: boolean; gone: number; lastActive: number; bit: number },
  counts: { split: number; met: number },
): void {
  const { depth, force, gone, bit } = options;
  const masks = [...Array(2 ** drives.length).keys()].slice(1);
  if (depth === 0) {
    for (const mask of masks) {
      const present = subset(drives, mask);
      const all = present.reduce((bits, { runs }) => bits | runs, 0);
      if (!present.some(({ runs }) => runs === all)) counts.split += 1;
      counts.met += 1;
      meet(present, options.lastActive);
    }
    return;
  }
  for (const mask of masks) {
    for (const events of RUN_EVENTS) {
      const after = run(drives, mask, { force, events, bit, gone });
      if (after === null) break;
      const lastActive = after.filter(({ runs }) => runs & bit).length;
      explore(after, { ...options, depth: depth - 1, bit: bit * 2, lastActive }, counts);
    }
  }
}

const GONE_AS = [
  ["faulty", Role.faulty],
  ["without a role", Role.spare],
] as const;
/** The long ones: one in two a day. */
const LARGE = [5, 6].flatMap((memberCount) =>
  [false, true].flatMap((force) => GONE_AS.map(([goneAs]) => `${memberCount} ${force} ${goneAs}`)),
);
const LEFT_OUT = LARGE.filter((each) => !new Share("split brain", 2).of(LARGE).includes(each));

describe.each([2, 3, 4, 5, 6])("R14: runs apart from each other, %i members", (memberCount) => {
  for (const force of [false, true]) {
    for (const [goneAs, gone] of GONE_AS) {
      if (LEFT_OUT.includes(`${memberCount} ${force} ${goneAs}`)) continue;
      test(`split brain: ${memberCount} members, three starts, force ${force}, who is away is ${goneAs}`, () => {
        const drives = testCandidates({ memberCount }).map((candidate) => ({ candidate, runs: 0 }));
        const counts = { split: 0, met: 0 };
        explore(drives, { depth: 3, force, gone, lastActive: memberCount, bit: 1 }, counts);
        expect(counts.met).toBeGreaterThan(100);
        expect(counts.split > 0).toBe(force || memberCount === 2);
      });
    }
  }
});
