/**
 * Begins to lay a running array out over more members (sync/reshape.ts).
 *
 * An array has one geometry, one member set and one engine as long as it runs, so it is started
 * anew: its clients wait meanwhile, and see nothing but that. What it is started from are its
 * superblocks, as after a crash: there is one way into a reshape.
 *
 *   the new drives join as spares -> requests wait; the array is made clean and stops -> all
 *   superblocks say that it has more members, and that nothing has been moved -> it starts
 */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { isDone } from "../../block/async-io.ts";
import { SLAB_BYTES } from "../../block/pool.ts";
import type { ConsistencyPolicy } from "../../md/create.ts";
import type { GrowthCandidate } from "../../md/growth.ts";
import { withoutLog } from "../../md/log-place.ts";
import { begunReshape } from "../../md/reshape.ts";
import { judgeReshape, type ReshapeStart } from "../../md/reshape-judge.ts";
import {
  encodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../md/superblock.ts";
import { areAreasApart } from "../../md/superblock-areas.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import type { Registry } from "../registry.ts";
import { startAnew } from "../start/start.ts";
import { stripeMemoryLacking } from "../start/stripe-memory.ts";
import { growthCandidates } from "../sync/grow.ts";
import { growthObstacle } from "./grow.ts";
import { addMember, checkMember, notRunning } from "./members.ts";

interface ReshapeWish {
  readonly force: boolean;
  readonly policyAfter: ConsistencyPolicy;
}

interface ReshapePlan {
  readonly array: RaidArray;
  /** Those that are to be members, spares by now. */
  readonly drives: readonly Drive[];
  readonly start: ReshapeStart;
}

export async function reshapeArray(
  registry: Registry,
  record: ArrayRecord,
  drives: readonly Drive[],
  { force, policyAfter }: ReshapeWish,
): Promise<Result<undefined, CommandError>> {
  // Before any drive is written to: all that can be known to be in the way.
  const refused = reshapeObstacle(registry, record, drives, { force, policyAfter });
  if (refused !== null) return err(refused);
  const array = record.running;
  assert(array !== null, "an array that can get members runs");
  const kept = logObstacle(array);
  if (kept !== null) return err(kept);
  for (const drive of drives) {
    if (array.core.roster.isSpare(drive)) continue;
    const joined = await addMember(registry, record, drive, { force, isForRole: false });
    if (!joined.ok) return joined;
  }
  return array.synchronizer.givingWay("the array gets more members", async () => {
    await array.core.changed.until(() => array.core.roster.arriving === null);
    const since = growthObstacle(array) ?? logObstacle(array);
    if (since !== null) return err(since);
    const start = choose(array, { drives, policyAfter });
    return start.ok ? begin(registry, record, { array, drives, start: start.value }) : start;
  });
}

/** Why `reshapeArray` would not take these drives, had the array the policy `resync`; or null. */
export function reshapeObstacle(
  registry: Registry,
  record: ArrayRecord,
  drives: readonly Drive[],
  { force, policyAfter }: ReshapeWish,
): CommandError | null {
  const array = record.running;
  if (array === null) return notRunning(record);
  const obstacle = growthObstacle(array);
  if (obstacle !== null) return obstacle;
  if (drives.length === 0) {
    return commandError(
      "invalid",
      "no-drives",
      "no drive is named: name those that become members",
    );
  }
  for (const drive of drives) {
    if (array.core.roster.isSpare(drive)) continue;
    const checked = checkMember(registry, record, drive, { force });
    if (!checked.ok) return checked.error;
  }
  const chosen = choose(array, { drives, policyAfter });
  if (!chosen.ok) return chosen.error;
  // Order: an array that does not start with so many members must not come to say that it has them.
  const { memberCount } = chosen.value;
  const { chunkSectors } = array.core.identity;
  const lacking = stripeMemoryLacking(registry.context.enginePool, { memberCount, chunkSectors });
  return lacking === null ? null : commandError("conflict", "no-memory", lacking);
}

async function begin(
  registry: Registry,
  record: ArrayRecord,
  { array, drives, start }: ReshapePlan,
): Promise<Result<undefined, CommandError>> {
  const { core } = array;
  let isBegun = false;
  const started = await startAnew(registry, record, async () => {
    // One that could not be made clean starts again as it was.
    if (array.isDirty || core.isFailed) return;
    const superblocks = firstSuperblocks({ array, drives, start });
    isBegun = await writeAll(registry, superblocks);
  });
  if (!started.ok) return started;
  if (isBegun) return ok();
  const detail = `the superblocks of array ${record.name} do not say so: check its drives`;
  return err(commandError("io", "superblock-write-failed", detail));
}

interface FirstSuperblock {
  readonly drive: Drive;
  readonly superblock: Superblock;
}

/** What each drive says at the begin: the new roles, and that nothing has been moved. */
function firstSuperblocks({ array: { core }, drives, start }: ReshapePlan): FirstSuperblock[] {
  const { memberCount } = core.geometry;
  const devRoles = core.roster.deviceRolesNow;
  for (const [index, drive] of drives.entries()) {
    assert(drive.superblock !== null, "a spare carries a superblock");
    devRoles[drive.superblock.devNumber] = memberCount + index;
  }
  const events = core.state.events + 1;
  return [...core.roster.drives()].map((drive) => {
    assert(drive.superblock !== null, "the drives of an array carry its superblocks");
    return { drive, superblock: begunReshape({ ...drive.superblock, events, devRoles }, start) };
  });
}

/** True when any drive has it: that one is the freshest, and the array is on its way. */
async function writeAll(
  { context, asyncIo }: Registry,
  superblocks: readonly FirstSuperblock[],
): Promise<boolean> {
  const answers = superblocks.map(async ({ drive, superblock }) => {
    const address = await context.enginePool.take(SLAB_BYTES);
    context.memory.bytes.set(encodeSuperblock(superblock), address);
    const row = { offset: SUPERBLOCK_OFFSET_BYTES, bytes: SUPERBLOCK_BYTES, address };
    const isWritten = isDone(await asyncIo.write(drive.io, row, { isFua: true }));
    context.enginePool.free(address, SLAB_BYTES);
    return isWritten;
  });
  return (await Promise.all(answers)).includes(true);
}

/** Who is no spare yet is judged by how it would be laid out. No log lies anywhere by then. */
function choose(
  { core, policy, seating }: RaidArray,
  { drives, policyAfter }: { drives: readonly Drive[]; policyAfter: ConsistencyPolicy },
): Result<ReshapeStart, CommandError> {
  const names = new Set(drives.map(({ name }) => name));
  const all = growthCandidates(core).map((each) => {
    return { ...each, superblock: withoutLog(each.superblock) };
  });
  const candidates = all.filter(({ drive, isSpare }) => !isSpare || names.has(drive));
  const others = all.filter((each) => !candidates.includes(each));
  for (const drive of drives) {
    if (core.roster.isSpare(drive)) continue;
    const superblock = seating.superblockFor(drive);
    if (!superblock.ok) return err(commandError("invalid", "drive-too-small", superblock.error));
    const { name, info } = drive;
    const place = { drive: name, deviceBytes: info.sizeBytes, isSpare: true };
    candidates.push({ ...place, superblock: withoutLog(superblock.value) });
  }
  const addedCount = names.size;
  const wantedAfter = policy.wantedFor(policyAfter);
  const judged = judgeReshape({ array: core.identity, candidates, addedCount, wantedAfter });
  if (!judged.ok) return err(commandError("conflict", "no-room-to-grow", judged.error.detail));
  const cramped = others.find((each) => !canMove(each, judged.value));
  if (cramped !== undefined) {
    const detail = `spare ${cramped.drive} has no room before its data: remove it first`;
    return err(commandError("conflict", "no-room-to-grow", detail));
  }
  if (judged.value.hasRoomForLog) return judged;
  const detail =
    `the members of array ${core.name} have no room for the log of policy ${policyAfter} when ` +
    "their data has moved: change the policy first, to resync or bitmap";
  return err(commandError("conflict", "no-room-to-grow", detail));
}

/** The data of a spare that stays one moves as that of the members does. */
function canMove({ superblock, deviceBytes }: GrowthCandidate, start: ReshapeStart): boolean {
  const deviceSectors = Math.floor(deviceBytes / SECTOR_BYTES);
  return areAreasApart(begunReshape(superblock, start), deviceSectors);
}

function logObstacle({ core: { name, policyKind } }: RaidArray): CommandError | null {
  if (policyKind === "resync") return null;
  const detail = `array ${name} keeps a log (${policyKind}): change its policy to resync first`;
  return commandError("conflict", "growth-not-now", detail);
}
