/**
 * Judges whether a set of drives makes an array that may be started, and as what. Pure: the caller
 * has read the superblocks of one array uuid, and acts on the plan.
 *
 * The order of judgement, each step resting on the one before:
 *   1. the freshest superblock: highest event count of those that claim a role
 *   2. features, level and format that we cannot handle        refuse
 *   3. another creation time                                   refuse: another array, same uuid
 *   4. two histories                                           refuse: nobody can pick for the user
 *   5. members at least at freshest - 1 are current; the rest are stale and named
 *   6. fields that differ between current members, but for
 *      an update that was cut short (reshape-stage.ts)          refuse
 *   7. roles, from the freshest dev_roles; one drive a role,
 *      and one that is to replace it                           or refuse
 *   8. more than one role without its data                     refuse (force takes stale members)
 *   9. dirty and degraded, without a partial parity log        refuse (unless forced)
 *
 * Event counts: md counts up on each change, and the step from dirty to clean may count down by
 * one. So a difference of one says nothing about age: such a member is current, but what it is in
 * the array stands in the freshest superblock only. A removed member's own superblock still calls
 * it active: nothing but its events, or the others' dev_roles, tells.
 * Spares do not decide and need no current events: md does not wake them for clean and dirty.
 */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { reshapeOf } from "../reshape.ts";
import { Feature, isReplacement, Role, roleOf, type Superblock } from "../superblock.ts";
import { areAreasApart } from "../superblock-areas.ts";
import {
  type AssemblyPlan,
  type AssemblyRefusal,
  type Candidate,
  isCurrent,
  ownRole,
  type RolePlan,
  refusal,
} from "./assembly-plan.ts";
import { findSplitBrain } from "./history.ts";
import { findDifference, findUnfit, findUnsupported } from "./match.ts";
import { atStageOf, compareStages } from "./reshape-stage.ts";

export type {
  AssemblyPlan,
  AssemblyRefusal,
  AssemblyRefusalKind,
  Candidate,
  RolePlan,
} from "./assembly-plan.ts";

interface Options {
  readonly force: boolean;
}

interface Sorted {
  readonly members: Map<number, Candidate>;
  /** By role: who is to replace its member. */
  readonly replacements: Map<number, Candidate>;
  readonly spares: Candidate[];
  readonly stale: Candidate[];
  readonly faulty: Candidate[];
}

/** `candidates` are all drives that carry one array uuid, in any order, at least one. */
export function judgeAssembly(
  candidates: readonly Candidate[],
  options: Options,
): Result<AssemblyPlan, AssemblyRefusal> {
  assert(candidates.length > 0, "there is a drive to judge");
  const uuid = candidates[0]!.superblock.arrayUuid;
  assert(
    candidates.every(({ superblock }) => superblock.arrayUuid === uuid),
    "the drives were grouped by array uuid",
  );
  const freshest = findFreshest(candidates);
  const unsupported = findUnsupported(
    candidates.filter(
      ({ superblock }) => freshest === null || isCurrent(superblock, freshest.superblock),
    ),
  );
  if (unsupported !== null) return err(unsupported);
  if (freshest === null) return err(onlySpares(candidates));
  const refused = findDifference(candidates, freshest) ?? findSplitBrain(candidates, freshest);
  if (refused !== null) return err(refused);
  const adopted = candidates.map((candidate) => adopt(candidate, freshest));
  const cramped = adopted.find((candidate) => !hasGap(candidate));
  if (cramped !== undefined) return err(noGap(cramped, freshest));
  const sorted = sortByRole(adopted, freshest);
  if (!sorted.ok) return sorted;
  return plan(adopted, freshest, sorted.value, options);
}

/** A member that an update did not reach which grew the array: it has what that said, too. */
function adopt(candidate: Candidate, { superblock: freshest }: Candidate): Candidate {
  const superblock = atStageOf(freshest, candidate.superblock);
  const { sizeSectors } = freshest;
  const isBehind = superblock.sizeSectors < sizeSectors && isCurrent(superblock, freshest);
  if (roleOf(superblock, superblock.devNumber) < Role.limit && isBehind) {
    return { ...candidate, superblock: { ...superblock, sizeSectors } };
  }
  return superblock === candidate.superblock ? candidate : { ...candidate, superblock };
}

/** The begin of a reshape may have missed a member: only now it says where its data is to go. */
function hasGap({ superblock, deviceBytes }: Candidate): boolean {
  if (reshapeOf(superblock) === null) return true;
  return areAreasApart(superblock, Math.floor(deviceBytes / SECTOR_BYTES));
}

function noGap({ drive, superblock }: Candidate, freshest: Candidate): AssemblyRefusal {
  return refusal(
    "member-too-small",
    [drive],
    `Drive ${drive} has no room to move its data by ${reshapeOf(superblock)?.newOffsetSectors} ` +
      `sectors, as the reshape does that the superblock of ${freshest.drive} tells of. Leave it ` +
      "out: the array starts without it, and rebuilds onto it when it is added again.",
  );
}

/**
 * The highest event count among those that claim a role. Where several share it, the smallest size,
 * and the least of a reshape: an update that was to grow the array reached one member, which was
 * lost, and the others have gone on without. Then the one that knows least to be in sync, so that
 * an update cut short never makes the array cleaner than it is.
 */
function findFreshest(candidates: readonly Candidate[]): Candidate | null {
  let freshest: Candidate | null = null;
  for (const candidate of candidates) {
    if (ownRole(candidate) >= Role.limit) continue;
    if (freshest === null || isFresher(candidate.superblock, freshest.superblock)) {
      freshest = candidate;
    }
  }
  assert(freshest === null || ownRole(freshest) < Role.limit, "the freshest claims a role");
  return freshest;
}

function isFresher(one: Superblock, other: Superblock): boolean {
  if (one.events !== other.events) return one.events > other.events;
  if (one.sizeSectors !== other.sizeSectors) return one.sizeSectors < other.sizeSectors;
  const difference = compareStages(one, other);
  if (difference !== 0) return difference < 0;
  return resyncFrom(one) < resyncFrom(other);
}

function resyncFrom(superblock: Superblock): number {
  return superblock.resyncOffsetSectors ?? Number.POSITIVE_INFINITY;
}

function onlySpares(candidates: readonly Candidate[]): AssemblyRefusal {
  const drives = candidates.map(({ drive }) => drive);
  return refusal(
    "too-few-members",
    drives,
    `None of the drives (${drives.join(", ")}) holds data of the array: they are spares. Connect ` +
      "the drives that held its data.",
  );
}

/** Steps 5 and 7. */
function sortByRole(
  candidates: readonly Candidate[],
  freshest: Candidate,
): Result<Sorted, AssemblyRefusal> {
  const sorted: Sorted = {
    ...{ members: new Map(), replacements: new Map() },
    ...{ spares: [], stale: [], faulty: [] },
  };
  const byDevNumber = new Map<number, Candidate>();
  for (const candidate of candidates.toSorted(byPrecedence)) {
    const { superblock } = candidate;
    const role = roleOf(freshest.superblock, superblock.devNumber);
    const claimed = ownRole(candidate);
    const hasRole = role < freshest.superblock.memberCount;
    const isEmpty = claimed >= Role.limit;
    const isSpare = isEmpty && !hasRole;
    if (role === Role.faulty) {
      sorted.faulty.push(candidate);
      continue;
    }
    // One that claims nothing is filled from the begin, however long it was away.
    if (!isEmpty && !isCurrent(superblock, freshest.superblock)) {
      sorted.stale.push(candidate);
      continue;
    }
    if (!isEmpty && !hasRole) {
      // Its own superblock calls it a member, but an update that did not reach it removed it.
      sorted.stale.push(candidate);
      continue;
    }
    const twin = byDevNumber.get(superblock.devNumber);
    if (twin !== undefined && isEmpty && !isCurrent(superblock, freshest.superblock)) {
      // A spare that was away: its number has been given to another drive since.
      sorted.stale.push(candidate);
      continue;
    }
    const unfit = isEmpty ? findUnfit(candidate, freshest.superblock) : null;
    if (unfit !== null) {
      sorted.stale.push(candidate);
      continue;
    }
    if (twin !== undefined) return err(duplicate(candidate, twin));
    byDevNumber.set(superblock.devNumber, candidate);
    if (isSpare) {
      sorted.spares.push(candidate);
      continue;
    }
    if (claimed < Role.limit && claimed !== role) return err(conflict(candidate, freshest, role));
    const places = isToReplace(candidate, freshest) ? sorted.replacements : sorted.members;
    const holder = places.get(role);
    if (holder !== undefined) return err(duplicate(candidate, holder));
    places.set(role, candidate);
  }
  const placed = sorted.members.size + sorted.replacements.size + sorted.spares.length;
  const left = sorted.stale.length + sorted.faulty.length;
  assert(placed + left === candidates.length, "each drive is a member, a spare or left out");
  return ok(sorted);
}

/** It says so; or it was a spare, and the update that gave it a member's role did not reach it. */
function isToReplace(candidate: Candidate, { superblock: { devRoles } }: Candidate): boolean {
  const { superblock } = candidate;
  if (ownRole(candidate) < Role.limit) return isReplacement(superblock);
  const role = devRoles[superblock.devNumber];
  return devRoles.filter((listed) => listed === role).length > 1;
}

/** Members first: a spare gives way to a member with its number, and to a fresher spare. */
function byPrecedence(one: Candidate, other: Candidate): number {
  const isLast = (candidate: Candidate): number => (ownRole(candidate) >= Role.limit ? 1 : 0);
  const difference = isLast(one) - isLast(other);
  if (difference !== 0 || isLast(one) === 0) return difference;
  return other.superblock.events - one.superblock.events;
}

/** Steps 8 and 9, and the plan. */
function plan(
  candidates: readonly Candidate[],
  freshest: Candidate,
  sorted: Sorted,
  { force }: Options,
): Result<AssemblyPlan, AssemblyRefusal> {
  const { superblock } = freshest;
  const roles: RolePlan[] = [];
  for (let role = 0; role < superblock.memberCount; role += 1) {
    roles.push(planRole(role, freshest, sorted));
  }
  const forced = force ? forceStale(candidates, sorted, roles, freshest) : [];
  const degraded = roles.filter(({ state }) => state !== "in-sync").length;
  if (degraded > 1) return err(tooFew(roles, sorted, freshest, force));
  assert(roles.length === superblock.memberCount, "each role of the array is planned");
  const reshape = reshapeOf(superblock);
  // Where parity was right in one layout says nothing of the other.
  const resyncFromSector =
    reshape !== null && superblock.resyncOffsetSectors !== null
      ? 0
      : superblock.resyncOffsetSectors;
  // Replay of the log makes all parity right, but only where all of it was right before.
  const canReplay = superblock.log.kind === "ppl" && resyncFromSector === 0;
  const isDirtyAndDegraded = resyncFromSector !== null && degraded > 0;
  if (isDirtyAndDegraded && !canReplay && !force) return err(dirtyAndDegraded(roles, freshest));
  return ok({
    arrayUuid: superblock.arrayUuid,
    freshest: superblock,
    events: superblock.events,
    policy: superblock.log.kind === "none" ? "resync" : superblock.log.kind,
    reshape,
    roles,
    spares: sorted.spares,
    stale: sorted.stale.filter(({ drive }) => !forced.includes(drive)),
    faulty: sorted.faulty.filter(({ drive }) => !forced.includes(drive)),
    degraded,
    resyncFromSector,
    isForced: forced.length > 0 || (isDirtyAndDegraded && !canReplay),
  });
}

/** All chunks that the array uses of it are there. */
function isFilled({ recoveryOffsetSectors, sizeSectors, chunkSectors }: Superblock): boolean {
  return (recoveryOffsetSectors ?? 0) >= sizeSectors - (sizeSectors % chunkSectors);
}

function planRole(role: number, freshest: Candidate, sorted: Sorted): RolePlan {
  const member = sorted.members.get(role);
  const replacement = sorted.replacements.get(role);
  const { devRoles, resyncOffsetSectors } = freshest.superblock;
  if (member === undefined) {
    if (replacement === undefined) return { state: "missing" };
    const isListed = devRoles.filter((listed) => listed === role).length > 1;
    const { drive, superblock } = replacement;
    // Linux swaps the two in two steps, and between them calls a replacement what is in sync.
    const isSwapped =
      superblock.recoveryOffsetSectors === null && ownRole(replacement) < Role.limit;
    // It had all of it when the others were told that it counts.
    const hasAll = isSwapped || (resyncOffsetSectors === null && isFilled(superblock));
    if (hasAll && !isListed) return { state: "in-sync", drive, superblock, replacement: null };
    const rebuilt = filling(replacement);
    // The log of its member is not here: what the replay makes right is the parity of the others.
    const isTorn = superblock.log.kind === "ppl" && resyncOffsetSectors !== null;
    return isTorn ? { ...rebuilt, recoveryOffsetSectors: 0 } : rebuilt;
  }
  const { drive, superblock } = member;
  if (ownRole(member) >= Role.limit || superblock.recoveryOffsetSectors !== null) {
    return filling(member);
  }
  if (replacement === undefined) {
    return { state: "in-sync", drive, superblock, replacement: null };
  }
  // Of a write that was under way at a crash one of the two may have it, and the other not.
  const { recoveryOffsetSectors } = filling(replacement);
  const isClean = resyncOffsetSectors === null;
  const target = {
    ...{ drive: replacement.drive, superblock: replacement.superblock },
    recoveryOffsetSectors: isClean ? recoveryOffsetSectors : 0,
  };
  return { state: "in-sync", drive, superblock, replacement: target };
}

function filling(candidate: Candidate): Extract<RolePlan, { state: "rebuilding" }> {
  const { drive, superblock } = candidate;
  // The others were told that it rebuilds and it was not: nothing on it is known to be valid.
  const isTold = ownRole(candidate) < Role.limit;
  // A rebuild by bitmap leaves gaps that only its bitmap knows. Ours starts over.
  const isByBitmap = (superblock.otherFeatures & Feature.recoveryBitmap) !== 0;
  const valid = Math.min(superblock.recoveryOffsetSectors ?? 0, superblock.sizeSectors);
  // While the data moves, what is filled is not where a rebuild would look for it.
  const isMoving = reshapeOf(superblock) !== null;
  const otherFeatures = superblock.otherFeatures & ~Feature.recoveryBitmap;
  return {
    state: "rebuilding",
    drive,
    superblock: { ...superblock, otherFeatures },
    recoveryOffsetSectors: isTold && !isByBitmap && !isMoving ? valid : 0,
  };
}

/**
 * The user asked for it: fills roles from the freshest of the drives that were left out, until one
 * role at most is without data. What was written without such a drive is lost in its chunks.
 */
function forceStale(
  candidates: readonly Candidate[],
  sorted: Sorted,
  roles: RolePlan[],
  freshest: Candidate,
): string[] {
  const forced: string[] = [];
  const leftOut = new Set([...sorted.stale, ...sorted.faulty].map(({ drive }) => drive));
  const byAge = candidates
    .filter((candidate) => leftOut.has(candidate.drive) && canForce(candidate, freshest))
    .toSorted((one, other) => other.superblock.events - one.superblock.events);
  for (const candidate of byAge) {
    if (roles.filter(({ state }) => state !== "in-sync").length <= 1) break;
    const role = ownRole(candidate);
    assert(role < roles.length, "a drive is forced into a role that the array has");
    if (roles[role]?.state !== "missing") continue;
    const { drive, superblock } = candidate;
    roles[role] = { state: "in-sync", drive, superblock, replacement: null };
    forced.push(drive);
  }
  return forced;
}

/** Only a drive whose data lies as the array's does, and was complete when it left. */
function canForce(candidate: Candidate, freshest: Candidate): boolean {
  return (
    ownRole(candidate) < freshest.superblock.memberCount &&
    candidate.superblock.recoveryOffsetSectors === null &&
    !isReplacement(candidate.superblock) &&
    findDifference([candidate], freshest, { includeStale: true }) === null
  );
}

function duplicate(one: Candidate, other: Candidate): AssemblyRefusal {
  const isCopy = one.superblock.deviceUuid === other.superblock.deviceUuid;
  return refusal(
    "duplicate-member",
    [other.drive, one.drive],
    `Drives ${other.drive} and ${one.drive} both claim to be device ` +
      `${one.superblock.devNumber} of the array${isCopy ? "; one is a copy of the other" : ""}. ` +
      "Disconnect the one that does not belong.",
  );
}

function conflict(candidate: Candidate, freshest: Candidate, role: number): AssemblyRefusal {
  return refusal(
    "superblocks-differ",
    [candidate.drive, freshest.drive],
    `Drive ${candidate.drive} says that its role is ${ownRole(candidate)}, but ` +
      `${freshest.drive} lists it with role ${role}. Leave ${candidate.drive} out and add it ` +
      "again, if it belongs to this array at all.",
  );
}

function tooFew(
  roles: readonly RolePlan[],
  { stale, faulty }: Sorted,
  { superblock }: Candidate,
  force: boolean,
): AssemblyRefusal {
  const lacking = roles.flatMap((role, index) => {
    if (role.state === "in-sync") return [];
    return [
      role.state === "missing" ? `${index} (missing)` : `${index} (${role.drive}, rebuilding)`,
    ];
  });
  const left = [...stale, ...faulty];
  const others = left.map(({ drive, superblock: { events } }) => `${drive} at event ${events}`);
  const orForce = force
    ? ""
    : ", or start with force, which gives up what was written without them";
  const leftOutText =
    others.length === 0
      ? ""
      : `Left out: ${others.join(", ")} (the array is at event ${superblock.events}). `;
  const hint = `${leftOutText}Connect the missing drives${others.length === 0 ? "" : orForce}.`;
  return refusal(
    "too-few-members",
    left.map(({ drive }) => drive),
    `The array has ${superblock.memberCount} members and can do without one, but roles ` +
      `${lacking.join(", ")} have no complete data. ${hint}`,
  );
}

function dirtyAndDegraded(
  roles: readonly RolePlan[],
  { drive, superblock }: Candidate,
): AssemblyRefusal {
  const role = roles.findIndex(({ state }) => state !== "in-sync");
  assert(role >= 0, "a degraded array has a role without data");
  const from = superblock.resyncOffsetSectors ?? 0;
  // A stop in the middle of a resync is a clean one, and leaves how far that had come.
  const what = from === 0 ? "was not stopped cleanly" : "had not ended its resync when it stopped";
  return refusal(
    "dirty-and-degraded",
    [drive],
    `The array ${what} (${drive}: in sync only below member sector ${from}) ` +
      `and role ${role} has no complete data, so what lay on it cannot be proved right. Connect ` +
      "the missing drive; or start with force, accept that chunks being written at the crash may " +
      "hold wrong data in places that nobody wrote, and check the file system.",
  );
}
