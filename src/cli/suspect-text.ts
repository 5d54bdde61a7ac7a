/**
 * What is told of members that are suspect: likely to fail, so that they are replaced while they
 * still serve. Pure.
 */
import type { ArrayStatus, DriveStatus } from "../array/protocol.ts";

export interface Finding {
  readonly status: string;
  readonly action: string;
}

/** A free drive that would be taken, or none. */
export function candidateOf(
  { candidates }: Pick<ArrayStatus, "candidates">,
  drives: readonly DriveStatus[],
): DriveStatus | undefined {
  return drives.find(({ name, state }) => state === "available" && candidates.includes(name));
}

/** One for each that is not being replaced. */
export function suspectFindings(array: ArrayStatus, drives: readonly DriveStatus[]): Finding[] {
  return array.members.flatMap(({ drive, role, suspect, replacement }) => {
    if (suspect === undefined || drive === null || replacement !== undefined) return [];
    const status = `member ${drive} (role ${role}) is suspect since ${suspect.since}: ${suspect.detail}.`;
    const free = candidateOf(array, drives);
    const other = array.spares[0] ?? array.sharedSpares?.[0] ?? free?.name ?? "NEW_DRIVE";
    const byHand = `parityd member replace ${array.name} ${drive} ${other}`;
    const action = array.replaceSuspects
      ? `a spare replaces it, where one is at hand and it was not tried today; by hand: ${byHand}`
      : `replace it while it serves: ${byHand}`;
    return [{ status, action }];
  });
}

export function avoidedLines({ members }: ArrayStatus): string[] {
  const avoided = members.find(({ isAvoided }) => isAvoided === true);
  if (avoided === undefined) return [];
  const who = `${avoided.drive ?? "?"} (role ${avoided.role})`;
  return [`   note: member ${who} is too slow: reads are answered by the others`];
}

/** What makes a member of this array suspect, and what follows. */
export function suspectSettings(array: ArrayStatus): string {
  const { suspectLatencyFactor: factor } = array;
  const limits = [
    [array.suspectWriteErrors, "write errors"],
    [array.suspectFixedSectors, "fixed sectors"],
    [array.suspectLateReads, "late reads"],
  ] as const;
  const counted = limits.flatMap(([limit, what]) => (limit === 0 ? [] : [`${limit} ${what}`]));
  const slow = factor === 0 ? [] : [`${factor} times the latency of its peers`];
  const what = [...counted, ...slow];
  const then = array.replaceSuspects ? "then a spare replaces it" : "it is told, and no more";
  if (what.length === 0) return "suspect: never";
  return `suspect: with ${what.join(", ")} in a day; ${then}`;
}
