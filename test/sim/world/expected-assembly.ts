/**
 * What the superblocks of some drives have to come to, from the rules of md-format B6 and B9 alone,
 * apart from the product's judgement.
 */
import { Role, roleOf, type Superblock } from "../../../src/md/superblock.ts";

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
  for (const { devNumber, events, recoveryOffsetSectors } of claimed) {
    const role = roleOf(freshest[0]!, devNumber);
    if (role >= memberCount || events < newest - 1) continue;
    if (recoveryOffsetSectors === null) inSync.add(role);
  }
  if (inSync.size === memberCount) return "whole";
  if (inSync.size < memberCount - 1) return "too-few";
  return isDirty && !isReplayed(freshest[0]!) ? "refused" : "degraded";
}

/** Replay of the log makes all parity right where all of it was right before (write-rules 6). */
export function isReplayed({ log, resyncOffsetSectors }: Superblock): boolean {
  return log.kind === "ppl" && resyncOffsetSectors === 0;
}
