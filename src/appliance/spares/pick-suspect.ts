/**
 * Which suspect member is replaced next, and by which spare. Pure.
 *
 * | a replace begins where   | the array wants it (`replaceSuspects`), runs whole and at rest:   |
 * |                          | nobody is missing, rebuilt or replaced, no resync, no scrub       |
 * | which member of it first | the one that has been suspect for longest                         |
 * | by which drive           | the array's own spare; else the smallest shared one that is for   |
 * |                          | the array, large enough, and of no array that needs it more       |
 * | not again                | within a day, for the same suspicion: a replace that failed, or   |
 * |                          | that somebody has cancelled, is a person's to look into           |
 */
import type { ArrayStatus } from "../../array/protocol.ts";
import type { ReadySpare } from "./pick-spare.ts";

/** A replace that was begun by itself, for a suspicion. */
export interface Attempt {
  readonly array: string;
  readonly drive: string;
  readonly since: string;
  readonly atMs: number;
}

export interface SuspectPick {
  readonly array: string;
  readonly member: string;
  readonly spare: string;
  readonly isShared: boolean;
  /** Since when the member is suspect. */
  readonly since: string;
}

export const AGAIN_MS = 24 * 3_600_000;

export function pickSuspects(
  arrays: readonly ArrayStatus[],
  spares: readonly ReadySpare[],
  past: { readonly attempts: readonly Attempt[]; readonly nowMs: number },
): SuspectPick[] {
  const left = spares.toSorted((one, other) => one.sizeBytes - other.sizeBytes);
  const picks: SuspectPick[] = [];
  for (const array of arrays.filter(mayReplace)) {
    const { uuid } = array;
    const suspect = nextSuspect(array, past);
    if (suspect === null) continue;
    const [own] = array.spares;
    const index = left.findIndex(({ fits }) => fits.has(uuid));
    if (own === undefined && index < 0) continue;
    const spare = own ?? left.splice(index, 1)[0]!.drive;
    picks.push({ array: uuid, ...suspect, spare, isShared: own === undefined });
  }
  return picks;
}

function mayReplace({ replaceSuspects, state, members, sync }: ArrayStatus): boolean {
  const isWhole = members.every(
    (member) => member.state === "in-sync" && member.replacement === undefined,
  );
  return (
    replaceSuspects && isWhole && sync.action === "idle" && ["active", "clean"].includes(state)
  );
}

function nextSuspect(
  { uuid, members }: ArrayStatus,
  { attempts, nowMs }: { readonly attempts: readonly Attempt[]; readonly nowMs: number },
): { readonly member: string; readonly since: string } | null {
  const suspects = members.flatMap(({ drive, suspect }) => {
    if (drive === null || suspect === undefined) return [];
    const wasTried = attempts.some(
      (attempt) =>
        attempt.array === uuid &&
        attempt.drive === drive &&
        attempt.since === suspect.since &&
        nowMs - attempt.atMs < AGAIN_MS,
    );
    return wasTried ? [] : [{ member: drive, since: suspect.since }];
  });
  const [first] = suspects.toSorted((one, other) => (one.since < other.since ? -1 : 1));
  return first ?? null;
}
