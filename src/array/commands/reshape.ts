/**
 * Begins to lay a running array out over more members (sync/reshape.ts).
 *
 * An array has one geometry, one member set and one engine as long as it runs, so it is started
 * anew: its clients wait meanwhile, and see nothing but that. What it is started from are its
 * superblocks, as after a crash: there is one way into a reshape.
 *
 *   the new drives join as spares -> requests wait; the array is made clean, and the last update of
 *   its superblocks says that it has more members, and that nothing has been moved -> it starts
 *
 * Refused on the way there, the new drives are let go of again (reshape-refused.ts).
 */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { ConsistencyPolicy } from "../../md/create.ts";
import type { GrowthCandidate } from "../../md/growth.ts";
import { withoutLog } from "../../md/log-place.ts";
import { begunReshape } from "../../md/reshape.ts";
import { judgeReshape, type ReshapeStart } from "../../md/reshape-judge.ts";
import { areAreasApart } from "../../md/superblock-areas.ts";
import type { Drive } from "../drives/drive.ts";
import { newJobStatus } from "../jobs.ts";
import type { CommandError, JobStatus } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import type { Registry } from "../registry.ts";
import { startAnew } from "../start/start.ts";
import { stripeMemoryLacking } from "../start/stripe-memory.ts";
import { growthCandidates } from "../sync/grow.ts";
import { growthObstacle } from "./grow.ts";
import { addMember, checkMember } from "./members.ts";
import { notRunning } from "./refusals.ts";
import { isBegun, joiningOf, takeBack } from "./reshape-refused.ts";

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
  const joining = drives.filter((drive) => !array.core.roster.isSpare(drive)).map(joiningOf);
  const memberCount = array.core.geometry.memberCount + drives.length;
  const refuse = async (error: CommandError) => {
    if (isBegun(registry, record, memberCount)) return err(error);
    return err(await takeBack(registry, record, joining, error));
  };
  for (const { drive } of joining) {
    const joined = await addMember(registry, record, drive, { force, isForRole: false });
    if (!joined.ok) return refuse(joined.error);
  }
  const begun = await array.synchronizer.givingWay("the array gets more members", async () => {
    await array.core.changed.until(() => array.core.roster.arriving === null);
    const since = growthObstacle(array) ?? logObstacle(array) ?? lostSpare(array, drives);
    if (since !== null) return err(since);
    const start = choose(array, { drives, policyAfter });
    return start.ok ? begin(registry, record, { array, drives, start: start.value }) : start;
  });
  return begun.ok ? begun : refuse(begun.error);
}

/** What the growth would answer, had the array the policy `resync`, without doing it. */
export function foretellReshape(
  registry: Registry,
  record: ArrayRecord,
  drives: readonly Drive[],
  wish: ReshapeWish,
): Result<JobStatus, CommandError> {
  const refused = reshapeObstacle(registry, record, drives, wish);
  if (refused !== null) return err(refused);
  assert(record.running !== null, "an array that can get members runs");
  const { core } = record.running;
  const members = core.geometry.memberCount + drives.length;
  const { stripeCount, chunkBytes } = core.geometry;
  const sizeBytes = stripeCount * chunkBytes * (members - 1);
  return ok(newJobStatus(core, "reshape", { sizeBytes, members }));
}

/** Why `reshapeArray` would not take these drives, had the array the policy `resync`; or null. */
function reshapeObstacle(
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
  const { roster, state } = array.core;
  const started = await startAnew(registry, record, () => {
    for (const [index, drive] of drives.entries()) {
      roster.setDeviceRole(drive, roster.memberCount + index, start.memberCount);
    }
    state.beginReshape(start);
  });
  if (!isBegun(registry, record, start.memberCount)) {
    if (!started.ok) return started;
    const detail = `the superblocks of array ${record.name} do not say so: check its drives`;
    return err(commandError("io", "superblock-write-failed", detail));
  }
  if (started.ok) return ok();
  const { detail } = started.error;
  return err({ ...started.error, detail: `${detail} It gets more members when it starts.` });
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

/** A drive that has failed since it joined, or has the role of a member that had. */
function lostSpare({ core }: RaidArray, drives: readonly Drive[]): CommandError | null {
  const lost = drives.find((drive) => !core.roster.isSpare(drive));
  if (lost === undefined) return null;
  const cause = lost.failure === "" ? "it is no spare any more" : lost.failure;
  const detail = `drive ${lost.name} cannot become a member (${cause}): take another one`;
  return commandError("conflict", "growth-not-now", detail);
}

function logObstacle({ core: { name, policyKind } }: RaidArray): CommandError | null {
  if (policyKind === "resync") return null;
  const detail = `array ${name} keeps a log (${policyKind}): change its policy to resync first`;
  return commandError("conflict", "growth-not-now", detail);
}
