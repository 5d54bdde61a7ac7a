/** Adding, failing and removing the drives of a running array. */
import { err, ok, type Result } from "../../base/result.ts";
import { findUnfit } from "../../md/assemble/match.ts";
import { Role, roleOf, type Superblock } from "../../md/superblock.ts";
import { writeEmptyLog } from "../drives/bad-blocks.ts";
import type { Drive } from "../drives/drive.ts";
import type { Job } from "../jobs.ts";
import { hasBitmapRoom } from "../policy/array-policy.ts";
import type { CommandError, CommandMap } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError, type Registry } from "../registry.ts";
import { holderText, isShut } from "../running/fence.ts";
import { hasOtherHistory, isFormerMember, staleObstacle } from "../start/stale-drive.ts";
import { SpareSeat } from "../sync/spare-seat.ts";
import { arrayStatus, driveStatus } from "./status.ts";

const JOB_START_LIMIT_MS = 30_000;
const POLL_MS = 5;

/** Why this drive cannot be taken out without losing data, or null. */
export function removalObstacle(array: RaidArray, drive: Drive): CommandError | null {
  const role = array.roleOf(drive);
  if (role < 0 || array.roles[role]!.state !== "in-sync") return null;
  const way = "rebuild onto another drive first, or say force=true";
  if (array.members.degradedCount > 0) {
    const detail = `array ${array.name} is degraded and needs drive ${drive.name}: ${way}`;
    return commandError("conflict", "would-lose-data", detail);
  }
  if (array.members.resync !== null && array.members.provenRows === null) {
    const detail = `array ${array.name} is in its resync and needs drive ${drive.name}: ${way}`;
    return commandError("conflict", "would-lose-data", detail);
  }
  return null;
}

export async function addMember(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
  { force }: { force: boolean },
): Promise<Result<CommandMap["add-member"]["value"], CommandError>> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  const joined = await joinArray(registry, record, array, drive, force);
  if (!joined.ok) return joined;
  if (joined.value === "spare") {
    return ok({ role: "spare", array: arrayStatus(registry, record) });
  }
  const job = await waitForRebuild(registry, array, drive);
  if (job === null) {
    const detail = `the rebuild of drive ${drive.name} has not started: ask for the array's state`;
    return err(commandError("conflict", "rebuild-not-started", detail));
  }
  return ok({ role: "rebuild", job: job.status() });
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
  const superblock = new SpareSeat(array).superblockFor(drive);
  if (superblock.ok) return ok(null);
  return err(commandError("invalid", "drive-too-small", superblock.error));
}

async function joinArray(
  registry: Registry,
  record: ArrayRecord,
  array: RaidArray,
  drive: Drive,
  force: boolean,
): Promise<Result<"spare" | "rebuild", CommandError>> {
  const refused = checkNewMember(registry, record, array, drive, force);
  if (refused !== null) return err(refused);
  await stopScrubFor(array);
  const seats = new SpareSeat(array);
  const isPartial = canRebuildPartially(array, drive);
  const superblock = isPartial ? ok(drive.superblock!) : seats.superblockFor(drive);
  if (!superblock.ok) return err(commandError("invalid", "drive-too-small", superblock.error));
  if (drive.outstanding > 0) {
    const detail = `drive ${drive.name} still has requests outstanding: try again when they end`;
    return err(commandError("busy", "drive-busy", detail));
  }
  drive.io.accepts = "all";
  array.dismissed.delete(superblock.value.deviceUuid);
  const failed = err(
    commandError("io", "drive-write-failed", `drive ${drive.name} cannot be written: replace it`),
  );
  if (!(await writeEmptyLog(registry, drive, superblock.value))) {
    if (!isShut(drive)) return failed;
    return err(commandError("conflict", "fenced", `${holderText(drive)}: take another one`));
  }
  drive.isOurs = true;
  const { timers } = registry.context;
  let role = seats.freeRole();
  // A spare may be taking the role; and what ran when the member failed has ended before another
  // drive takes its role.
  while (array.seating !== null || (role >= 0 && array.synchronizer.currentJob !== null)) {
    await timers.sleep(POLL_MS);
    role = seats.freeRole();
  }
  if (array.fence.obstacle !== null) return err(array.fence.obstacle);
  if (role < 0) {
    if (!(await array.addSpare(drive, superblock.value))) return failed;
    return ok("spare");
  }
  // Bits may have been cleared in the meantime.
  const isStillPartial = isPartial && canRebuildPartially(array, drive);
  const seat = { isPartial: isStillPartial };
  if (!(await array.seatForRebuild(drive, role, superblock.value, seat))) return failed;
  return ok("rebuild");
}

/**
 * Whether a drive that was a member needs only what the bitmap knows to have changed since it left
 * (write-rules 19): it was in sync in the role that is free, its superblock tells this array's own
 * history, and no bit was cleared after it had left.
 */
export function canRebuildPartially(array: RaidArray, drive: Drive): boolean {
  const { bitmap } = array.policy;
  const { superblock } = drive;
  if (bitmap === null || superblock === null || superblock.log.kind !== "bitmap") return false;
  if (!isFit(array, drive, superblock) || !hasBitmapRoom(bitmap, superblock, drive)) return false;
  if (!isFormerMember(array, drive) || hasOtherHistory(array, drive) !== false) return false;
  return bitmap.allowsPartialRebuild(superblock.events);
}

/** Its superblock stays as it is: nobody has judged it yet. */
function isFit({ identity }: RaidArray, { name, info }: Drive, superblock: Superblock): boolean {
  const candidate = { drive: name, superblock, deviceBytes: info.sizeBytes };
  return findUnfit({ ...candidate, ...info }, identity) === null;
}

function checkNewMember(
  registry: Registry,
  record: ArrayRecord,
  array: RaidArray,
  drive: Drive,
  force: boolean,
): CommandError | null {
  if (array.fence.obstacle !== null) return array.fence.obstacle;
  if (array.isFailed || array.readOnlyReason !== null) {
    const detail = `array ${record.name} is not writable: ${array.readOnlyReason ?? "it has failed"}`;
    return commandError("conflict", "not-writable", detail);
  }
  if (drive.info.isReadOnly) {
    return commandError("conflict", "drive-read-only", `drive ${drive.name} is read-only`);
  }
  const holder = registry.holderOf(drive);
  const isOwnFaulty =
    holder === record &&
    array.roles.some((slot) => slot.drive === drive && slot.state === "faulty");
  if (holder !== null && !isOwnFaulty) {
    const detail = `drive ${drive.name} is in use by array ${holder.name}: take another one`;
    return commandError("conflict", "drive-in-use", detail);
  }
  const { state, detail: why } = driveStatus(registry, drive);
  const isOwnStale = state === "stale" && registry.recordOf(drive) === record;
  if (state === "available" || isOwnFaulty || force) return null;
  if (isOwnStale) return staleObstacle(record, array, drive);
  const isOwnFailed = state === "faulty" && registry.recordOf(drive) === record;
  if (isOwnFailed) return null;
  const detail = `drive ${drive.name} is ${state}${why === undefined ? "" : ` (${why})`}`;
  return commandError("conflict", "drive-has-data", `${detail}: add it with force to use it`);
}

/** A scrub gives way to a rebuild. */
async function stopScrubFor(array: RaidArray): Promise<void> {
  const scrub = array.synchronizer.pausableScrub();
  if (scrub === null) return;
  scrub.wish = "cancel";
  while (scrub.state === "running") await array.context.timers.sleep(POLL_MS);
}

async function waitForRebuild(
  registry: Registry,
  array: RaidArray,
  drive: Drive,
): Promise<Job | null> {
  const { timers, clock } = registry.context;
  const limitMs = clock.nowMs() + JOB_START_LIMIT_MS;
  for (;;) {
    const job = array.synchronizer.currentJob ?? array.synchronizer.lastRebuild;
    if (job?.kind === "rebuild" && job.result["drive"] === drive.name) return job;
    if (clock.nowMs() > limitMs || array.isFailed) return null;
    await timers.sleep(POLL_MS);
  }
}

/**
 * A spare that comes after its array has started joins it again, under a number of its own. False:
 * it is none.
 */
export async function rejoinSpare(array: RaidArray, drive: Drive): Promise<boolean> {
  const superblock = drive.superblock!;
  // Of its seating the machine may have crashed with only its own superblock written: it has the
  // role already, and nothing in it. The others know it as a spare, not as faulty.
  const isSeated =
    superblock.recoveryOffsetSectors === 0 &&
    superblock.events >= array.identity.events &&
    roleOf(array.identity, superblock.devNumber) === Role.spare;
  if (roleOf(superblock, superblock.devNumber) !== Role.spare && !isSeated) return false;
  if (drive.info.isReadOnly || array.isFailed || array.readOnlyReason !== null) return true;
  const fresh = new SpareSeat(array).superblockFor(drive);
  if (!fresh.ok) return true;
  await array.addSpare(drive, fresh.value);
  array.synchronizer.schedule();
  return true;
}

export async function failMember(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
): Promise<Result<CommandMap["fail-member"]["value"], CommandError>> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  const role = array.roleOf(drive);
  if (role < 0 || !array.members.isPresent(role)) {
    const detail = `drive ${drive.name} is no working member of array ${record.name}`;
    return err(commandError("conflict", "not-a-member", detail));
  }
  const obstacle = array.fence.obstacle ?? removalObstacle(array, drive);
  if (obstacle !== null) return err(obstacle);
  array.dismissed.add(drive.superblock!.deviceUuid);
  array.failMember(role, "failed by request");
  await array.record();
  return ok(arrayStatus(registry, record));
}

export async function removeMember(
  record: ArrayRecord,
  drive: Drive,
): Promise<Result<null, CommandError>> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  if (array.roleOf(drive) < 0 && !array.spares.includes(drive)) {
    const detail = `drive ${drive.name} does not belong to array ${record.name}`;
    return err(commandError("not-found", "not-a-member", detail));
  }
  const obstacle = removalObstacle(array, drive);
  if (obstacle !== null) return err(obstacle);
  array.dismissed.add(drive.superblock!.deviceUuid);
  await array.removeDrive(drive, "removed by request");
  return ok(null);
}

export function notRunning({ name }: ArrayRecord): CommandError {
  const detail = `array ${name} does not run: start it with POST /v1/arrays/${name}/start`;
  return commandError("conflict", "not-running", detail);
}
