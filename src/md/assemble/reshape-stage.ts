/**
 * How far each superblock has come in a reshape, where an update was cut short.
 *
 *   before  no reshape, n members             one event behind the begin: nothing has moved
 *   n -> m  a position, m members             one event behind: a position that is lower
 *   after   no reshape, m members             one event behind the end: it has all moved
 *
 * The freshest superblock says what holds. A member that is one event behind it has done its part,
 * since a position is recorded only when all that lies below it is durable on each: it takes what
 * the freshest says. Of a new member nothing counts while the position is 0.
 *
 * Where superblocks share one event, the one that has come less far holds: an update that went on
 * reached one member, which was lost, and the others have gone on without it.
 */
import { assert } from "../../base/assert.ts";
import {
  begunReshape,
  finishedReshape,
  reshapeOf,
  withoutReshape,
  withReshape,
} from "../reshape.ts";
import { Role, roleOf, type Superblock } from "../superblock.ts";
import { isCurrent } from "./assembly-plan.ts";

/**
 * Whether what the superblock of a member says of a reshape is what the freshest says, or what it
 * has said one event before. By force none is taken that was left behind while data moved.
 */
export function isOneReshape(
  superblock: Superblock,
  freshest: Superblock,
  isForced: boolean,
): boolean {
  const there = reshapeOf(freshest);
  const here = reshapeOf(superblock);
  const isSameCount = superblock.memberCount === freshest.memberCount;
  if (there === null && here === null) return isSameCount;
  if (isForced) return false;
  const isBehind = superblock.events < freshest.events;
  // Nobody is asked who is no member any more.
  if (roleOf(freshest, superblock.devNumber) >= freshest.memberCount) return true;
  if (there === null) return isBehind && isSameCount;
  if (here === null) {
    const isBefore = superblock.memberCount === freshest.memberCount - there.deltaMembers;
    return isBehind && isBefore && there.positionSectors === 0;
  }
  const isOne =
    isSameCount &&
    here.deltaMembers === there.deltaMembers &&
    here.newOffsetSectors === there.newOffsetSectors;
  if (!isOne) return false;
  if (here.positionSectors === there.positionSectors) return true;
  return isBehind && here.positionSectors < there.positionSectors;
}

/** "from 3 members, at sector 384, the data by -128 sectors" */
export function reshapeText(superblock: Superblock): string {
  const reshape = reshapeOf(superblock);
  if (reshape === null) return "none";
  return (
    `from ${superblock.memberCount - reshape.deltaMembers} members, at sector ` +
    `${reshape.positionSectors}, the data by ${reshape.newOffsetSectors} sectors`
  );
}

/** Below 0: the first has come less far in a reshape. */
export function compareStages(one: Superblock, other: Superblock): number {
  if (one.memberCount !== other.memberCount) return one.memberCount - other.memberCount;
  const here = positionOf(one);
  const there = positionOf(other);
  return here === there ? 0 : here < there ? -1 : 1;
}

function positionOf(superblock: Superblock): number {
  return reshapeOf(superblock)?.positionSectors ?? Number.POSITIVE_INFINITY;
}

/** The superblock of a drive of the array, at the stage of the freshest. */
export function atStageOf(freshest: Superblock, superblock: Superblock): Superblock {
  const role = roleOf(freshest, superblock.devNumber);
  const there = reshapeOf(freshest);
  const here = reshapeOf(superblock);
  const isSpare = roleOf(superblock, superblock.devNumber) === Role.spare;
  if (role >= freshest.memberCount) {
    return isSpare && there === null && here !== null ? withoutReshape(superblock) : superblock;
  }
  if (!isCurrent(superblock, freshest)) return superblock;
  if (there === null) return here === null ? superblock : atEnd(superblock);
  if (here !== null) {
    const { positionSectors } = there;
    return withReshape(superblock, { ...here, positionSectors });
  }
  const oldCount = freshest.memberCount - there.deltaMembers;
  if (there.positionSectors > 0 || superblock.memberCount !== oldCount) return superblock;
  const begun = begunReshape(superblock, there);
  assert(begun.memberCount > role, "a new member has a role of the larger array");
  // The begin did not reach it: it calls itself a spare still.
  return isSpare && role >= oldCount ? { ...begun, devRoles: freshest.devRoles } : begun;
}

/** What was filled of it counts no more: it lay elsewhere. */
function atEnd(superblock: Superblock): Superblock {
  const finished = finishedReshape(superblock);
  return finished.recoveryOffsetSectors === null
    ? finished
    : { ...finished, recoveryOffsetSectors: 0 };
}
