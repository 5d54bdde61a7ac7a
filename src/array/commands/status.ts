/** What the outside sees of drives and arrays, from what the registry knows. */
import { assert } from "../../base/assert.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { arrayNameOf, setNameOf } from "../../md/create.ts";
import { layoutName } from "../../md/layout.ts";
import { reshapeOf } from "../../md/reshape.ts";
import { isReplacement, Role, roleOf, type Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import { suspectOf } from "../drives/suspicion.ts";

import type {
  ArrayState,
  ArrayStatus,
  DriveStatus,
  DriveSuperblock,
  JobStatus,
  MemberErrors,
  MemberStatus,
  SyncAction,
  SyncStatus,
} from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import type { ArrayRecord, Broken } from "../record.ts";
import type { Registry } from "../registry.ts";
import { type ArrayCore, policyOf } from "../running/array-core.ts";
import { lostBytesOf } from "../running/lost-bytes.ts";
import { driveOf, memberStateOf, type Seat, targetOf } from "../running/roster.ts";
import { startNeeds } from "../start/needs.ts";
import { staleObstacle } from "../start/stale-drive.ts";
import { silenceOf } from "./drive-silences.ts";
import { forecastOf } from "./forecast.ts";

export const NO_ERRORS: MemberErrors = { read: 0, write: 0, fixed: 0, slow: 0, retried: 0 };
export const NO_IO: MemberStatus["io"] = {
  reads: 0,
  writes: 0,
  flushes: 0,
  bytesRead: 0,
  bytesWritten: 0,
  readMs: 0,
  writeMs: 0,
};
export const IDLE: SyncStatus = {
  action: "idle",
  doneBytes: 0,
  totalBytes: 0,
  rateBytesPerSecond: 0,
  etaSeconds: null,
};

/** A drive that answers is not so late, whatever it has to do. */
const SILENT_MS = 1_000;

/** It has not answered for a while, or still owes what was given up for lost. */
export function isSilent({ io }: Drive): boolean {
  return io.owesAbandoned || io.oldestAgeMs("any") > SILENT_MS;
}

export function driveStatus(registry: Registry, drive: Drive): DriveStatus {
  const { name, path, sizeBytes, logicalBlockBytes } = drive.info;
  const { superblock } = drive;
  const told = superblock === null ? {} : { superblock: superblockStatus(superblock) };
  const silence = silenceOf(registry, drive);
  const common = {
    ...{ name, path, sizeBytes, logicalBlockBytes, ...told },
    ...(isSilent(drive) ? { isSilent: true as const } : {}),
    ...(silence === null ? {} : { silence }),
  };
  const holder = registry.holderOf(drive);
  if (holder !== null) {
    try {
      return { ...common, ...heldStatus(holder, drive) };
    } catch (error) {
      if (holder.running === null) throw error;
      holder.running.core.guard.caught(error);
      return driveStatus(registry, drive);
    }
  }
  if (drive.failure !== "") return { ...common, state: "faulty", detail: drive.failure };
  const { probe } = drive;
  if (probe.kind === "unusable") return { ...common, state: "foreign", detail: probe.detail };
  if (probe.kind === "none") {
    const { signature } = drive;
    if (signature === null || drive.isOurs) return { ...common, state: "available" };
    return { ...common, state: "foreign", detail: `it holds ${signature}` };
  }
  const record = registry.recordOf(drive);
  if (record === null) {
    const detail = "it carries the superblock of an array that was deleted here";
    return { ...common, state: "foreign", detail };
  }
  if (drive.isLetGo) {
    const detail = `array ${record.name} has let go of it: add it there again, or say force where you use it`;
    return { ...common, state: "foreign", detail };
  }
  return { ...common, ...idleStatus(registry, record, drive, probe.superblock) };
}

function superblockStatus(superblock: Superblock): DriveSuperblock {
  const { arrayUuid, deviceUuid, events, devNumber } = superblock;
  const role = roleOf(superblock, devNumber);
  return {
    arrayUuid,
    deviceUuid,
    arrayName: arrayNameOf(setNameOf(superblock)),
    role: role < Role.limit ? role : null,
    eventCount: events,
  };
}

function heldStatus(record: ArrayRecord, drive: Drive): Omit<DriveStatus, keyof CommonDrive> {
  const { running, broken } = record;
  if (running === null) {
    const detail = `array ${record.name} is broken and keeps it: restart parityd`;
    const member = { array: record.name, role: broken?.array?.core.roster.roleOf(drive) ?? -1 };
    return member.role < 0 ? { state: "spare", detail } : { state: "member", member, detail };
  }
  const { roster } = running.core;
  const role = roster.target === drive ? roster.replacingRole : roster.roleOf(drive);
  if (role < 0) return { state: "spare" };
  const member = { array: record.name, role };
  const seat = roster.seatOf(role);
  return seat.kind === "faulty"
    ? { state: "faulty", member, detail: seat.cause }
    : { state: "member", member };
}

type CommonDrive = Pick<
  DriveStatus,
  "name" | "path" | "sizeBytes" | "logicalBlockBytes" | "superblock"
>;

/** A drive with a superblock that no running array holds. */
function idleStatus(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
  superblock: Superblock,
): Omit<DriveStatus, keyof CommonDrive> {
  const newest = Math.max(
    record.running?.core.state.events ?? 0,
    ...registry.drivesOf(record.uuid).map((drive) => drive.superblock!.events),
  );
  const role = roleOf(superblock, superblock.devNumber);
  const member = { array: record.name, role };
  const obstacle = record.running && staleObstacle(record, record.running, drive);
  if (obstacle !== null) {
    const told = { state: "stale", needsForce: true, detail: obstacle.detail } as const;
    return role < Role.limit ? { ...told, member } : told;
  }
  if (record.running !== null || superblock.events < newest - 1) {
    const detail = `${whyStale(record, superblock.events, newest)}: ${wayBack(record, drive)}`;
    return role < Role.limit ? { state: "stale", member, detail } : { state: "stale", detail };
  }
  return role < Role.limit ? { state: "member", member } : { state: "spare" };
}

/** Where both are at one event it is not by that that it is stale. */
function whyStale({ name, running }: ArrayRecord, events: number, newest: number): string {
  if (running?.core.isFailed === true) return `array ${name} has failed without it`;
  if (events === newest) return `array ${name} went on without it`;
  return `it is at event ${events} and array ${name} at ${newest}`;
}

/** A failed array takes nobody in: it is started anew. A whole one needs nobody. */
function wayBack({ name, running }: ArrayRecord, drive: Drive): string {
  if (running?.core.isFailed === true) {
    return `parityd array stop ${name} --force && parityd array start ${name}`;
  }
  const isWhole = running !== null && running.core.members.degradedCount === 0;
  return isWhole
    ? `the array is whole without it; as a spare: parityd member add ${name} ${drive.name} --force`
    : `to have it rebuilt: parityd member add ${name} ${drive.name}`;
}

export function arrayStatus(registry: Registry, record: ArrayRecord): ArrayStatus {
  const { running, broken } = record;
  if (broken !== null) return brokenStatus(registry, record, broken);
  if (running === null) return inactiveStatus(registry, record);
  try {
    return runningStatus(registry, record, running);
  } catch (error) {
    running.core.guard.caught(error);
    return arrayStatus(registry, record);
  }
}

/** An array that broke: what it is made of, and nothing of what it was doing. */
function brokenStatus(
  registry: Registry,
  record: ArrayRecord,
  { array, reason }: Broken,
): ArrayStatus {
  const inactive = inactiveStatus(registry, record);
  const members =
    array === null
      ? inactive.members
      : array.core.roster.seats.map((seat, role) => memberStatusOf(role, seat));
  return { ...inactive, state: "broken", reason, members };
}

function runningStatus(registry: Registry, record: ArrayRecord, array: RaidArray): ArrayStatus {
  const { core, front } = array;
  assert(core.uuid === record.uuid, "what runs under a record is its array");
  const { scrubs } = array.synchronizer;
  return {
    ...geometryStatus(record, { ...core.identity, setNameBytes: core.setNameBytes }),
    // Not what the superblocks are about to say: clients cannot have it yet, and a power cut may
    // take it back.
    sizeBytes: front.sizeBytes,
    consistencyPolicy: core.policyKind,
    state: arrayStateOf(array),
    eventCount: core.state.events,
    degraded: core.members.degradedCount,
    reason: core.fencedBy ?? core.readOnlyReason,
    isHeld: false,
    startNeeds: null,
    members: core.roster.seats.map((seat, role) => memberStatus(core, seat, role)),
    spares: core.roster.spares.map(({ name }) => name),
    candidates: candidatesFor(registry, array),
    sync: syncStatus(array),
    stripeWrites: { ...core.engine.parts.runner.writes },
    mismatchBytes: scrubs.mismatchBytes,
    lostBytes: lostBytesOf(core),
    lastScrub: scrubs.last,
    pausedScrub: pausedScrubOf(scrubs.memory.paused),
    syncRates: record.rates.list,
    forecast: forecastOf(array, record.rates),
  };
}

/** By what is known of them: what a drive holds is looked at when it is added. */
function candidatesFor(registry: Registry, { core, seating }: RaidArray): string[] {
  if (core.isFailed || core.readOnlyReason !== null) return [];
  const fitting = [...registry.drives.values()].filter((drive) => {
    const isFree = !drive.info.isReadOnly && drive.outstanding === 0 && seating.fits(drive);
    return isFree && driveStatus(registry, drive).state === "available";
  });
  return fitting.map(({ name }) => name);
}

function arrayStateOf({ core, isDirty }: RaidArray): ArrayState {
  if (core.fencedBy !== null) return "fenced";
  if (core.isFailed) return "failed";
  if (core.readOnlyReason !== null) return "read-only";
  if (core.members.degradedCount > 0) return "degraded";
  return isDirty || core.members.resync !== null ? "active" : "clean";
}

function memberStatus(core: ArrayCore, seat: Seat<Drive>, role: number): MemberStatus {
  const base = {
    ...memberStatusOf(role, seat),
    ...badBlocksOf(seat),
    ...standingOf(core, seat, role),
  };
  const target = targetOf(seat);
  if (target !== null) {
    const copied = (core.members.copy?.progress.cursor ?? 0) * core.geometry.chunkBytes;
    return { ...base, replacement: { drive: target.name, copiedBytes: copied } };
  }
  if (base.state !== "rebuilding") return base;
  const cursor = core.members.rebuild?.cursor ?? 0;
  assert(cursor <= core.geometry.stripeCount, "no more is rebuilt than there is");
  return { ...base, recoveredBytes: cursor * core.geometry.chunkBytes };
}

function badBlocksOf(seat: Seat<Drive>): Pick<MemberStatus, "badBlocks"> {
  const drive = driveOf(seat);
  if (drive === null || drive.superblock === null || drive.badBlocks.isEmpty) return {};
  const { dataOffsetSectors } = drive.superblock;
  return {
    badBlocks: drive.badBlocks.ranges.map(({ sector, lengthSectors }) => ({
      offset: (sector - dataOffsetSectors) * SECTOR_BYTES,
      bytes: lengthSectors * SECTOR_BYTES,
    })),
  };
}

/** What is held against a member that serves. */
function standingOf(
  { members, tuning }: ArrayCore,
  seat: Seat<Drive>,
  role: number,
): Pick<MemberStatus, "suspect" | "isAvoided"> {
  const drive = driveOf(seat);
  if (drive === null || memberStateOf(seat) !== "in-sync") return {};
  const suspect = suspectOf(drive.health, tuning);
  return {
    ...(suspect === null ? {} : { suspect }),
    ...(members.avoidedRole === role ? { isAvoided: true } : {}),
  };
}

function memberStatusOf(role: number, seat: Seat<Drive>): MemberStatus {
  const drive = driveOf(seat);
  const errorsByOp = structuredClone(drive?.io.counters.kinds ?? {});
  return {
    role,
    drive: drive?.name ?? null,
    state: memberStateOf(seat),
    errors: drive?.errors() ?? NO_ERRORS,
    errorKinds: sumOf(Object.values(errorsByOp)),
    errorsByOp,
    io: drive?.ioCounts() ?? NO_IO,
  };
}

function sumOf(counts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const each of counts) {
    for (const [kind, count] of Object.entries(each)) sum[kind] = (sum[kind] ?? 0) + count;
  }
  return sum;
}

export function pausedScrubOf(job: JobStatus | null): ArrayStatus["pausedScrub"] {
  if (job === null) return null;
  const { id, kind, done, total, error } = job;
  const mode = kind === "repair" ? "repair" : "check";
  return { job: id, mode, doneBytes: done, totalBytes: total, asideReason: error };
}

function syncStatus(array: RaidArray): SyncStatus {
  const job = array.synchronizer.currentJob;
  if (job === null) return { ...IDLE, action: dueAction(array) };
  const { waits } = job.result;
  return {
    ...(typeof waits === "string" ? { waits } : {}),
    action: job.kind,
    doneBytes: job.done,
    totalBytes: job.total,
    rateBytesPerSecond: job.rateBytesPerSecond,
    etaSeconds: job.etaSeconds,
  };
}

/** What is due but has not begun: a moment after the start, or between two jobs. */
function dueAction(array: RaidArray): SyncAction {
  const { members, geometry, isFailed, readOnlyReason } = array.core;
  if (isFailed || readOnlyReason !== null) return "idle";
  if (geometry.isReshaping) return "reshape";
  if (members.rebuild !== null) return "rebuild";
  if (members.degradedCount > 0) return "idle";
  if (members.resync !== null) return "resync";
  return members.copy === null ? "idle" : "replace";
}

function geometryStatus(record: ArrayRecord, superblock: Superblock) {
  const chunkBytes = superblock.chunkSectors * SECTOR_BYTES;
  // Until a reshape is through there is as much as before it.
  const usedMembers = superblock.memberCount - (reshapeOf(superblock)?.deltaMembers ?? 0);
  const chunkCount = Math.floor(superblock.sizeSectors / superblock.chunkSectors);
  const nameOnDisk = arrayNameOf(setNameOf(superblock));
  return {
    name: record.name,
    uuid: record.uuid,
    nameOnDisk: nameOnDisk === record.name ? null : nameOnDisk,
    level: "raid5" as const,
    layout: layoutName(superblock.layout) ?? `layout ${superblock.layout}`,
    chunkBytes,
    sizeBytes: chunkCount * chunkBytes * (usedMembers - 1),
    consistencyPolicy: policyOf(superblock),
    ...record.tuning,
  };
}

/** An array that does not run: what the freshest of its superblocks says. */
export function inactiveStatus(registry: Registry, record: ArrayRecord): ArrayStatus {
  const drives = registry.drivesOf(record.uuid);
  const superblocks = drives.map((drive) => drive.superblock!);
  // The last of its drives may just have left: then what was known of it stands.
  const freshest = superblocks.reduce(
    (one, other) => (other.events > one.events ? other : one),
    superblocks[0] ?? record.lastSeen!,
  );
  const members: MemberStatus[] = [];
  for (let role = 0; role < freshest.memberCount; role += 1) {
    const drive = seatedDrive(drives, freshest, role);
    members.push({
      role,
      drive: drive?.name ?? null,
      state: drive === undefined ? "missing" : restingState(drive),
      errors: NO_ERRORS,
      errorKinds: {},
      errorsByOp: {},
      io: NO_IO,
    });
  }
  return {
    ...geometryStatus(record, freshest),
    state: drives.length === 0 ? "absent" : "inactive",
    eventCount: freshest.events,
    degraded: members.filter(({ state }) => state !== "in-sync").length,
    reason: record.reason === "" ? null : record.reason,
    isHeld: record.isHeld,
    startNeeds: startNeeds(registry, record),
    members,
    spares: [],
    candidates: [],
    sync: IDLE,
    mismatchBytes: record.scrub.mismatchBytes,
    lostBytes: 0,
    lastScrub: record.scrub.last,
    pausedScrub: pausedScrubOf(record.scrub.paused),
    syncRates: record.rates.list,
    forecast: null,
  };
}

/** Of a drive of an array that does not run: one that was being rebuilt is not whole. */
function restingState({ superblock }: Drive): MemberStatus["state"] {
  return superblock?.recoveryOffsetSectors === null ? "in-sync" : "rebuilding";
}

/** The drive that has the role by the freshest superblock; a stale one has none. */
function seatedDrive(drives: readonly Drive[], freshest: Superblock, role: number) {
  const seated = drives.filter(({ superblock }) => {
    const { devNumber, events } = superblock!;
    const isCurrent = events >= freshest.events - 1;
    // One that the array has gone on without may be one event behind, too.
    const isListed = freshest.devRoles[devNumber] === role;
    return isCurrent && isListed && roleOf(superblock!, devNumber) === role;
  });
  // Who is being replaced serves until the end of that.
  return seated.find(({ superblock }) => !isReplacement(superblock!)) ?? seated[0];
}
