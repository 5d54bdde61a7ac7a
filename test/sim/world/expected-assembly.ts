/**
 * What the superblocks of some drives have to come to, from the rules of md-format B6 and B9 alone,
 * apart from the product's judgement.
 *
 * The begin of a growth in members may have reached one drive only. That one says who is a member:
 * also drives that call themselves spares, as long as nothing has been moved.
 */
import { reshapeOf } from "../../../src/md/reshape.ts";
import { Feature, Role, roleOf, type Superblock } from "../../../src/md/superblock.ts";

/** `refused`: dirty and degraded, and there is no log that could make its parity right. */
export type ExpectedAssembly = "whole" | "degraded" | "refused" | "too-few";

export function expectedAssembly(known: readonly Superblock[]): ExpectedAssembly {
  const claimed = known.filter((each) => roleOf(each, each.devNumber) < Role.limit);
  if (claimed.length === 0) return "too-few";
  const newest = Math.max(...claimed.map(({ events }) => events));
  const all = claimed.filter(({ events }) => events === newest);
  const isDirty = all.some(({ resyncOffsetSectors }) => resyncOffsetSectors !== null);
  const freshest = all.reduce((one, other) => (isLessFar(other, one) ? other : one));
  const { memberCount } = freshest;
  const inSync = new Set<number>();
  for (const each of known) {
    const { devNumber, events, recoveryOffsetSectors } = each;
    const role = roleOf(freshest, devNumber);
    if (role >= memberCount || events < newest - 1) continue;
    const isSpare = roleOf(each, devNumber) >= Role.limit;
    const isInPlace = !isDirty && hasReplaced(each, freshest, role);
    const hasData = recoveryOffsetSectors === null || isInPlace;
    if (isSpare ? hasNothingToHold(freshest, role) : hasData) inSync.add(role);
  }
  if (inSync.size === memberCount) return "whole";
  if (inSync.size < memberCount - 1) return "too-few";
  return isDirty && !isReplayed(freshest) ? "refused" : "degraded";
}

/** A growth in members has come less far, by its number of members and its position. */
function isLessFar(one: Superblock, other: Superblock): boolean {
  if (one.memberCount !== other.memberCount) return one.memberCount < other.memberCount;
  const positionOf = (each: Superblock) => reshapeOf(each)?.positionSectors ?? Infinity;
  return positionOf(one) < positionOf(other);
}

/** A role that the array has not had before, and nothing has been moved yet. */
function hasNothingToHold(freshest: Superblock, role: number): boolean {
  const reshape = reshapeOf(freshest);
  if (reshape === null || reshape.positionSectors > 0) return false;
  return role >= freshest.memberCount - reshape.deltaMembers;
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
