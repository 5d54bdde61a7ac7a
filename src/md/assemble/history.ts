/**
 * Finds two histories of one array: drives that were written to apart from each other, so that
 * each half holds acknowledged data that the other lacks (step 4 of assemble.ts).
 *
 * A drive that merely fell out tells the story of a complete array, or of one in which the same
 * role was missing already as in the freshest superblock. A drive that ran on its own history lists
 * a role as vacant that a member of the freshest history holds, while that history gave its own
 * role away or left it vacant. In one history that cannot be: for a vacant role to be filled
 * again the drive must still have been there, and its superblock would say so.
 *
 *   freshest  A . C     A and C ran without B
 *   B         . B C     B ran without A                  -> two histories
 *   B         A B C     B fell out                       -> stale
 *
 * A drive that was to replace a member, and says so still, never ran without it: from the first
 * update in which it has the role alone it does not say so any more.
 */

import { assert } from "../../base/assert.ts";
import { isReplacement, Role, roleOf, type Superblock } from "../superblock.ts";
import {
  type AssemblyRefusal,
  type Candidate,
  isCurrent,
  ownRole,
  refusal,
} from "./assembly-plan.ts";

export function findSplitBrain(
  candidates: readonly Candidate[],
  freshest: Candidate,
): AssemblyRefusal | null {
  for (const candidate of candidates) {
    if (candidate !== freshest && isOtherHistory(candidate, freshest)) {
      return splitBrain(candidate, freshest);
    }
  }
  return null;
}

function isOtherHistory(candidate: Candidate, freshest: Candidate): boolean {
  const role = ownRole(candidate);
  if (role >= Role.limit) return false;
  if (isReplacement(candidate.superblock)) return false;
  const { events } = candidate.superblock;
  assert(events <= freshest.superblock.events, "no member is fresher than the freshest");
  // A current member that missed the very update which filled the role (a rebuild began).
  const isListed = roleOf(freshest.superblock, candidate.superblock.devNumber) === role;
  if (isListed && isCurrent(candidate.superblock, freshest.superblock)) return false;
  const there = filledRoles(freshest.superblock);
  const here = filledRoles(candidate.superblock);
  // The members that a reshape adds were not there before.
  const { memberCount } = candidate.superblock;
  return [...there].some((other) => other < memberCount && !here.has(other));
}

function filledRoles(superblock: Superblock): Set<number> {
  return new Set(superblock.devRoles.filter((role) => role < superblock.memberCount));
}

/** "A.R": which roles a superblock lists as held, or held twice, as `mdadm --examine` shows it. */
export function arrayState(
  { devRoles, memberCount }: Superblock,
  { leavingCount = 0 }: { /** Members that a reshape takes away. */ leavingCount?: number } = {},
): string {
  // A damaged superblock may claim any number of members.
  const counts = new Uint16Array(Math.min(memberCount + leavingCount, Role.limit));
  for (const role of devRoles) if (role < counts.length) counts[role]! += 1;
  return Array.from(counts, (count) => (count === 0 ? "." : count === 1 ? "A" : "R")).join("");
}

function splitBrain(candidate: Candidate, freshest: Candidate): AssemblyRefusal {
  const tell = ({ drive, superblock }: Candidate): string =>
    `drive ${drive} (role ${ownRole({ drive, superblock, deviceBytes: 0 })}, event ` +
    `${superblock.events}) lists the members as ${arrayState(superblock)}`;
  return refusal(
    "split-brain",
    [candidate.drive, freshest.drive],
    `The array was written to in two parts, each without the other: ${tell(candidate)}, ` +
      `${tell(freshest)}. Decide which part to keep, start the array with its drives alone, and ` +
      "add the other part's drives to it as new ones.",
  );
}
