/** Adding, failing and removing the drives of a running array (replacing: replace.ts). */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { reshapeOf } from "../../md/reshape.ts";
import { Role, roleOf, type Superblock } from "../../md/superblock.ts";
import { writeEmptyLog } from "../drives/bad-blocks.ts";
import type { Drive } from "../drives/drive.ts";
import { type Job, newJobStatus } from "../jobs.ts";
import { type CommandError, type CommandMap, NOT_YET } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import type { Registry } from "../registry.ts";
import type { ArrayCore } from "../running/array-core.ts";
import { fenceObstacle } from "../running/fence.ts";
import { canRebuildPartially, staleObstacle } from "../start/stale-drive.ts";
import { driveInUse, notRunning } from "./refusals.ts";
import { removalObstacle } from "./removal.ts";
import { arrayStatus, driveStatus } from "./status.ts";

const JOB_START_LIMIT_MS = 30_000;

export async function addMember(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
  wanted: { force: boolean; isForRole: boolean },
): Promise<Result<CommandMap["add-member"]["value"], CommandError>> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  const before = registry.recordOf(drive);
  const joined = await joinArray(registry, record, array, drive, wanted);
  // It may have been the last of another array.
  if (before !== null) registry.dropIfEmpty(before);
  if (!joined.ok) return joined;
  if (joined.value === "spare") {
    return ok({ role: "spare", array: arrayStatus(registry, record) });
  }
  const job = await untilBegun(registry, array, drive, "rebuild");
  return job.ok ? ok({ role: "rebuild", job: job.value.status() }) : job;
}

/** What `addMember` would answer, without doing it. */
export function foretellAdd(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
  wanted: { force: boolean; isForRole: boolean },
): Result<CommandMap["add-member"]["value"], CommandError> {
  const checked = checkMember(registry, record, drive, wanted);
  if (!checked.ok) return checked;
  const array = record.running;
  assert(array !== null, "an array that takes a member runs");
  const { core } = array;
  const isSeatable = hasRoleFor(core);
  if (wanted.isForRole && !isSeatable) return err(noFreeRole(core));
  // The array's own spares come first.
  if (isSeatable && core.roster.spares.length === 0) {
    return ok({ role: "rebuild", job: newJobStatus(core, "rebuild", { drive: drive.name }) });
  }
  const now = arrayStatus(registry, record);
  const spares = [...now.spares, drive.name];
  const candidates = now.candidates.filter((name) => name !== drive.name);
  const { eventCount } = NOT_YET;
  return ok({ role: "spare", array: { ...now, spares, candidates, eventCount } });
}

/** What `addMember` would refuse, before anything is done for it. */
export function checkMember(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
  { force }: { force: boolean },
): Result<null, CommandError> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  const refused = checkNewMember(registry, record, array, drive, force);
  if (refused !== null) return err(refused);
  if (canRebuildPartially(array, drive)) return ok(null);
  const superblock = array.seating.superblockFor(drive);
  if (superblock.ok) return ok(null);
  return err(commandError("invalid", "drive-too-small", superblock.error));
}

/** A role is free, and nobody is about to take it. */
function hasRoleFor({ roster, geometry }: ArrayCore): boolean {
  return roster.freeRole >= 0 && !geometry.isReshaping && roster.arriving === null;
}

async function joinArray(
  registry: Registry,
  record: ArrayRecord,
  array: RaidArray,
  drive: Drive,
  { force, isForRole }: { force: boolean; isForRole: boolean },
): Promise<Result<"spare" | "rebuild", CommandError>> {
  const refused = checkNewMember(registry, record, array, drive, force);
  if (refused !== null) return err(refused);
  const { core, synchronizer } = array;
  // Before anything is written to it: what is not needed stays as it is.
  if (isForRole && !hasRoleFor(core)) return err(noFreeRole(core));
  return synchronizer.givingWay(`drive ${drive.name} is added`, () =>
    seatDrive(registry, array, drive, { isForRole }),
  );
}

async function seatDrive(
  registry: Registry,
  array: RaidArray,
  drive: Drive,
  { isForRole }: { isForRole: boolean },
): Promise<Result<"spare" | "rebuild", CommandError>> {
  const { core, seating, synchronizer } = array;
  const { roster } = core;
  const isPartial = canRebuildPartially(array, drive);
  assert(!isPartial || drive.superblock !== null, "who lacks a part was a member");
  const superblock = isPartial ? ok(drive.superblock!) : seating.superblockFor(drive);
  if (!superblock.ok) return err(commandError("invalid", "drive-too-small", superblock.error));
  const unwritable = await layOutNewMember(registry, array, drive, superblock.value);
  if (unwritable !== null) return err(unwritable);
  // A spare may be taking the role; and what ran when the member failed has ended before another
  // drive takes its role.
  await core.changed.until(() => {
    const isWorkOver = roster.freeRole < 0 || synchronizer.currentJob === null;
    return roster.arriving === null && (isWorkOver || core.geometry.isReshaping);
  });
  // A role that is free in a reshape is rebuilt behind that.
  const role = core.geometry.isReshaping ? -1 : roster.freeRole;
  const fenced = fenceObstacle(core);
  if (fenced !== null) return err(fenced);
  if (role < 0 && isForRole) return err(noFreeRole(core));
  if (role < 0) {
    if (!(await seating.addSpare(drive, superblock.value))) return err(notSeated(core, drive));
    return ok("spare");
  }
  // Bits may have been cleared in the meantime.
  const isStillPartial = isPartial && canRebuildPartially(array, drive);
  const seat = { isPartial: isStillPartial };
  if (!(await seating.seat(drive, role, superblock.value, seat)))
    return err(notSeated(core, drive));
  return ok("rebuild");
}

/** What has to be on a drive before any superblock names it. Why it is not, or null. */
export async function layOutNewMember(
  registry: Registry,
  { core }: RaidArray,
  drive: Drive,
  superblock: Superblock,
): Promise<CommandError | null> {
  if (drive.outstanding > 0) {
    const detail = `drive ${drive.name} still has requests outstanding: try again when they end`;
    return commandError("busy", "drive-busy", detail);
  }
  assert(superblock.arrayUuid === core.uuid, "a new member is laid out for its array");
  drive.open();
  core.dismissed.delete(superblock.deviceUuid);
  if (!(await writeEmptyLog(registry, drive, superblock))) {
    if (!drive.isShut) return notWritten(drive);
    return commandError("conflict", "fenced", `${drive.holderText}: take another one`);
  }
  drive.becomeOurs();
  return null;
}

export function notWritten({ name }: Drive): CommandError {
  return commandError("io", "drive-write-failed", `drive ${name} cannot be written: replace it`);
}

/** Its own superblock, or those of the others, did not take it. */
function notSeated(core: ArrayCore, drive: Drive): CommandError {
  const fenced = fenceObstacle(core);
  if (fenced !== null) return fenced;
  if (!core.isFailed) return notWritten(drive);
  const detail = `array ${core.name} has failed meanwhile: connect its members again, and start it`;
  return commandError("conflict", "not-writable", detail);
}

function noFreeRole({ name }: ArrayCore): CommandError {
  const detail = `array ${name} has no free role any more: the drive is not needed there`;
  return commandError("conflict", "no-free-role", detail);
}

export function checkNewMember(
  registry: Registry,
  record: ArrayRecord,
  array: RaidArray,
  drive: Drive,
  force: boolean,
): CommandError | null {
  const { roster, isFailed, readOnlyReason } = array.core;
  const fenced = fenceObstacle(array.core);
  if (fenced !== null) return fenced;
  if (isFailed || readOnlyReason !== null) {
    const detail = `array ${record.name} is not writable: ${readOnlyReason ?? "it has failed"}`;
    return commandError("conflict", "not-writable", detail);
  }
  if (drive.info.isReadOnly) {
    return commandError("conflict", "drive-read-only", `drive ${drive.name} is read-only`);
  }
  const holder = registry.holderOf(drive);
  const isOwnFaulty =
    holder === record &&
    roster.seats.some((seat) => seat.kind === "faulty" && seat.drive === drive);
  if (roster.target === drive) {
    const detail =
      `a member of array ${record.name} is being copied to drive ${drive.name}: remove it from ` +
      "the array first, then add it";
    return commandError("conflict", "drive-in-use", detail);
  }
  if (holder !== null && !isOwnFaulty) return driveInUse(drive, holder);
  const { state, detail: why } = driveStatus(registry, drive);
  const isOwn = registry.recordOf(drive) === record;
  const isOwnStale = isOwn && (state === "stale" || drive.isLetGo);
  if (state === "available" || isOwnFaulty || force) return null;
  if (isOwnStale) return staleObstacle(record, array, drive);
  const isOwnFailed = state === "faulty" && isOwn;
  if (isOwnFailed) return null;
  const detail = `drive ${drive.name} is ${state}${why === undefined ? "" : ` (${why})`}`;
  return commandError("conflict", "drive-has-data", `${detail}: add it with force to use it`);
}

export async function untilBegun(
  registry: Registry,
  array: RaidArray,
  drive: Drive,
  kind: "rebuild" | "replace",
): Promise<Result<Job, CommandError>> {
  const { timers, clock } = registry.context;
  const { core, synchronizer } = array;
  const limitMs = clock.nowMs() + JOB_START_LIMIT_MS;
  const begun = (): Job | null => {
    const last = kind === "rebuild" ? synchronizer.lastRebuild : synchronizer.lastReplace;
    const job = synchronizer.currentJob ?? last;
    return job?.kind === kind && job.result["drive"] === drive.name ? job : null;
  };
  const timer = timers.schedule(limitMs, () => core.changed.raise());
  await core.changed.until(() => begun() !== null || core.isFailed || clock.nowMs() >= limitMs);
  timers.cancel(timer);
  const job = begun();
  if (job !== null) return ok(job);
  const detail = `the ${kind} of drive ${drive.name} has not started: ask for the array's state`;
  return err(commandError("conflict", `${kind}-not-started`, detail));
}

/**
 * A spare that comes after its array has started joins it again, under a number of its own. False:
 * it is none.
 */
export async function rejoinSpare(array: RaidArray, drive: Drive): Promise<boolean> {
  const { core } = array;
  const { superblock } = drive;
  assert(superblock?.arrayUuid === core.uuid, "a spare that comes back was of this array");
  // Of its seating the machine may have crashed with only its own superblock written: it has the
  // role already, and nothing in it. The others know it as a spare, not as faulty.
  // The same of the begin of a growth in members.
  const { identity } = core;
  const isNew = superblock.memberCount > identity.memberCount;
  const hasNothing = isNew
    ? reshapeOf(superblock)?.positionSectors === 0
    : superblock.recoveryOffsetSectors === 0;
  const isSeated =
    hasNothing &&
    superblock.events >= identity.events &&
    roleOf(identity, superblock.devNumber) === Role.spare;
  if (roleOf(superblock, superblock.devNumber) !== Role.spare && !isSeated) return false;
  if (drive.info.isReadOnly || core.isFailed || core.readOnlyReason !== null) return true;
  const fresh = array.seating.superblockFor(drive);
  if (!fresh.ok) return true;
  await array.seating.addSpare(drive, fresh.value);
  array.synchronizer.schedule();
  return true;
}

/** The member that is to be taken for faulty, or why it must not. */
export function memberToFail(
  record: ArrayRecord,
  drive: Drive,
): Result<{ readonly array: RaidArray; readonly role: number }, CommandError> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  const { core } = array;
  const role = core.roster.roleOf(drive);
  if (role < 0 || !core.members.isPresent(role)) {
    const isTarget = core.roster.target === drive;
    const way = isTarget ? ": a member is being copied to it; remove it, or cancel the job" : "";
    const detail = `drive ${drive.name} is no working member of array ${record.name}${way}`;
    return err(commandError("conflict", "not-a-member", detail));
  }
  const obstacle = fenceObstacle(core) ?? removalObstacle(array, drive, { canForce: false });
  return obstacle === null ? ok({ array, role }) : err(obstacle);
}

export async function failMember(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
): Promise<Result<CommandMap["fail-member"]["value"], CommandError>> {
  const found = memberToFail(record, drive);
  if (!found.ok) return found;
  const { array, role } = found.value;
  const { core } = array;
  assert(drive.superblock !== null, "a member carries a superblock");
  core.dismissed.add(drive.superblock.deviceUuid);
  array.failMember(role, "failed by request");
  await core.record();
  return ok(arrayStatus(registry, record));
}

/**
 * Lets go of a drive: a member, a spare, or one that has no seat any more, because it failed or was
 * away and another one has its role. Its superblock stays, and it comes back when it is added.
 */
export async function removeMember(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
): Promise<Result<null, CommandError>> {
  const judged = judgeRemoval(registry, record, drive);
  if (!judged.ok) return judged;
  const { array, hasSeat } = judged.value;
  assert(drive.superblock !== null, "who belongs to an array carries a superblock");
  array.core.dismissed.add(drive.superblock.deviceUuid);
  if (hasSeat) await array.seating.remove(drive, "removed by request");
  drive.letGo();
  return ok(null);
}

/** Whether `removeMember` lets go of it, and whether it has a seat. */
export function judgeRemoval(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
): Result<{ readonly array: RaidArray; readonly hasSeat: boolean }, CommandError> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  // Also one that is just being seated.
  const hasSeat = [...array.core.roster.drives()].includes(drive);
  const wasOurs = registry.recordOf(drive) === record && registry.holderOf(drive) === null;
  if (!hasSeat && !wasOurs) {
    const detail = `drive ${drive.name} does not belong to array ${record.name}`;
    return err(commandError("not-found", "not-a-member", detail));
  }
  const obstacle = removalObstacle(array, drive, { canForce: false });
  return obstacle === null ? ok({ array, hasSeat }) : err(obstacle);
}
