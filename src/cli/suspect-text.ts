/** What `parityd array show` says of what makes a member suspect. Pure. */
import type { ArrayStatus } from "../array/protocol.ts";

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
