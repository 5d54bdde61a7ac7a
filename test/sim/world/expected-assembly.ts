/**
 * What the superblocks of some drives have to come to, from the rules of md-format B6 and B9 alone,
 * apart from the product's judgement.
 */
import { Feature, Role, roleOf, type Superblock } from "../../../src/md/superblock.ts";

/** `refused`: dirty and degraded, and there is no log that could make its parity right. */
export type ExpectedAssembly = "whole" | "degraded" | "refused" | "too-few";

export function expectedAssembly(known: readonly Superblock[]): ExpectedAssembly {
  const claimed = known.filter((each) => roleOf(each, each.devNumber) < Role.limit);
  if (claimed.length === 0) return "too-few";
  const newest = Math.max(...claimed.map(({ events }) => events));
  const freshest = claimed.filter(({ events }) => events === newest);
  const isDirty = freshest.some(({ resyncOffsetSectors }) => resyncOffsetSectors !== null);
  const { memberCount } = freshest[0]!;
  const inSync = new Set<number>();
  for (const each of claimed) {
    const { devNumber, events, recoveryOffsetSectors } = each;
    const role = roleOf(freshest[0]!, devNumber);
    if (role >= memberCount || events < newest - 1) continue;
    const isInPlace = !isDirty && hasReplaced(each, freshest[0]!, role);
    if (recoveryOffsetSectors === null || isInPlace) inSync.add(role);
  }
  if (inSync.size === memberCount) return "whole";
  if (inSync.size < memberCount - 1) return "too-few";
  return isDirty && !isReplayed(freshest[0]!) ? "refused" : "degraded";
}

/** It says that it has all of a member's data, and the array that nobody else has the role. */
function hasReplaced(one: Superblock, freshest: Superblock, role: number): boolean {
  const chunks = Math.floor(one.sizeSectors / one.chunkSectors);
  const isFull = (one.recoveryOffsetSectors ?? 0) >= chunks * one.chunkSectors;
  const isAlone = freshest.devRoles.filter((listed) => listed === role).length === 1;
  return (one.otherFeatures & Feature.replacement) !== 0 && isFull && isAlone;
}

/** Replay of the log makes all parity right where all of it was right before (write-rules 6). */
export function isReplayed({ log, resyncOffsetSectors }: Superblock): boolean {
  return log.kind === "ppl" && resyncOffsetSectors === 0;
}
