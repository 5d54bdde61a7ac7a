/**
 * Which shared spare goes to which array. Pure.
 *
 * | an array gets one when | it runs degraded, by one member, nothing is being rebuilt, and it  |
 * |                        | has no spare of its own                                            |
 * | which array first      | the one that has been degraded for longest                         |
 * | which spare            | the smallest that is for the array and large enough for it         |
 *
 * A spare goes to one array, and an array gets one spare at a time.
 */
import type { ArrayStatus } from "../../array/protocol.ts";

export interface NeedyArray {
  readonly uuid: string;
  /** When it was first seen to need one. */
  readonly sinceMs: number;
}

export interface ReadySpare {
  readonly drive: string;
  readonly sizeBytes: number;
  /** UUIDs of the arrays that it is for and large enough for. */
  readonly fits: ReadonlySet<string>;
}

export interface SparePick {
  readonly array: string;
  readonly drive: string;
}

/** Whether an array cannot help itself. */
export function needsSpare({ state, degraded, members, spares }: ArrayStatus): boolean {
  const isRebuilding = members.some((member) => member.state === "rebuilding");
  return state === "degraded" && degraded === 1 && !isRebuilding && spares.length === 0;
}

export function pickSpares(
  arrays: readonly NeedyArray[],
  spares: readonly ReadySpare[],
): SparePick[] {
  const left = [...spares].sort(bySize);
  const picks: SparePick[] = [];
  for (const { uuid } of [...arrays].sort(byNeed)) {
    const index = left.findIndex(({ fits }) => fits.has(uuid));
    if (index < 0) continue;
    const [spare] = left.splice(index, 1);
    picks.push({ array: uuid, drive: spare!.drive });
  }
  return picks;
}

function bySize(one: ReadySpare, other: ReadySpare): number {
  return one.sizeBytes - other.sizeBytes || (one.drive < other.drive ? -1 : 1);
}

function byNeed(one: NeedyArray, other: NeedyArray): number {
  return one.sinceMs - other.sinceMs || (one.uuid < other.uuid ? -1 : 1);
}
