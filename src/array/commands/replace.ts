/** Replaces a member that works by another drive, while it serves (sync/replace.ts). */
import { err, ok, type Result } from "../../base/result.ts";
import type { Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import { newJobStatus } from "../jobs.ts";
import type { CommandError, JobStatus } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import type { Registry } from "../registry.ts";
import { fenceObstacle } from "../running/fence.ts";
import { checkNewMember, layOutNewMember, notWritten, untilBegun } from "./members.ts";
import { notRunning } from "./refusals.ts";

export async function replaceMember(
  registry: Registry,
  record: ArrayRecord,
  drives: { readonly member: Drive; readonly target: Drive },
  { force }: { force: boolean },
): Promise<Result<JobStatus, CommandError>> {
  const judged = judge(registry, record, drives, { force });
  if (!judged.ok) return judged;
  const { array, superblock } = judged.value;
  return array.synchronizer.givingWay(`drive ${drives.member.name} is replaced`, () =>
    seatTarget(registry, array, drives, superblock),
  );
}

/** What `replaceMember` would answer, without doing it. */
export function foretellReplace(
  registry: Registry,
  record: ArrayRecord,
  drives: { readonly member: Drive; readonly target: Drive },
  { force }: { force: boolean },
): Result<JobStatus, CommandError> {
  const judged = judge(registry, record, drives, { force });
  if (!judged.ok) return judged;
  const result = { drive: drives.target.name, replaces: drives.member.name };
  return ok(newJobStatus(judged.value.array.core, "replace", result));
}

function judge(
  registry: Registry,
  record: ArrayRecord,
  { member, target }: { readonly member: Drive; readonly target: Drive },
  { force }: { force: boolean },
): Result<{ readonly array: RaidArray; readonly superblock: Superblock }, CommandError> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  const isOwnSpare = array.core.roster.isSpare(target);
  const refused =
    obstacleTo(array, member) ??
    (isOwnSpare ? null : checkNewMember(registry, record, array, target, force));
  if (refused !== null) return err(refused);
  const superblock = superblockOf(array, target);
  return superblock.ok ? ok({ array, superblock: superblock.value }) : superblock;
}

async function seatTarget(
  registry: Registry,
  array: RaidArray,
  { member, target }: { readonly member: Drive; readonly target: Drive },
  superblock: Superblock,
): Promise<Result<JobStatus, CommandError>> {
  const { core, seating } = array;
  const { roster, name } = core;
  const isOwnSpare = roster.isSpare(target);
  if (!isOwnSpare) {
    const unwritable = await layOutNewMember(registry, array, target, superblock);
    if (unwritable !== null) return err(unwritable);
  }
  // Whatever runs, or is being seated, has ended before a drive gets a seat.
  await core.changed.until(
    () => roster.arriving === null && array.synchronizer.currentJob === null,
  );
  const since = obstacleTo(array, member);
  if (since !== null) return err(since);
  if (isOwnSpare && !roster.isSpare(target)) {
    const detail = `drive ${target.name} is no spare of array ${name} any more`;
    return err(commandError("conflict", "drive-in-use", detail));
  }
  if (isOwnSpare) roster.takeThisSpare(target);
  if (!(await seating.seatTarget(target, roster.roleOf(member), superblock))) {
    const isAsBefore = isOwnSpare && target.failure === "" && !core.isFailed;
    if (isAsBefore) await seating.addSpare(target, superblock);
    return err(fenceObstacle(core) ?? notWritten(target));
  }
  const job = await untilBegun(registry, array, target, "replace");
  return job.ok ? ok(job.value.status()) : job;
}

function superblockOf(array: RaidArray, target: Drive): Result<Superblock, CommandError> {
  if (array.core.roster.isSpare(target) && target.superblock !== null) return ok(target.superblock);
  const superblock = array.seating.superblockFor(target);
  return superblock.ok
    ? superblock
    : err(commandError("invalid", "drive-too-small", superblock.error));
}

/** Why this member cannot be replaced now, or null. */
function obstacleTo(array: RaidArray, member: Drive): CommandError | null {
  const { core } = array;
  const { name, roster, members, readOnlyReason } = core;
  const fenced = fenceObstacle(core);
  if (fenced !== null) return fenced;
  const conflict = (code: string, detail: string) => commandError("conflict", code, detail);
  const role = roster.roleOf(member);
  if (role < 0) {
    return conflict("not-a-member", `drive ${member.name} is no member of array ${name}`);
  }
  const { kind } = roster.seatOf(role);
  if (kind === "rebuilding") {
    const detail =
      `drive ${member.name} is being rebuilt: wait for the end of that, or remove it and add the ` +
      "other drive";
    return conflict("member-rebuilding", detail);
  }
  if (kind === "faulty") {
    const detail = `drive ${member.name} is faulty: remove it and add the other drive`;
    return conflict("member-faulty", detail);
  }
  if (roster.target !== null) {
    const detail =
      `drive ${roster.target.name} is replacing a member of array ${name}: wait for the end of ` +
      "that, or remove that drive";
    return conflict("replace-under-way", detail);
  }
  if (core.isFailed || readOnlyReason !== null) {
    const detail = `array ${name} is not writable: ${readOnlyReason ?? "it has failed"}`;
    return conflict("not-writable", detail);
  }
  if (members.degradedCount > 0) {
    return conflict("degraded", `array ${name} is degraded: add a drive and let it rebuild first`);
  }
  if (array.synchronizer.action === "grow" || core.geometry.isReshaping) {
    return conflict("growth-under-way", `array ${name} grows: wait for the end of that`);
  }
  if (members.resync !== null) {
    return conflict("resync-due", `array ${name} has a resync due: wait for its end`);
  }
  return null;
}
