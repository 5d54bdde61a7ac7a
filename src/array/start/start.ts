/**
 * Starts an array from the drives that carry its superblocks, and stops it.
 *
 * An array starts by itself when every member that its freshest superblock lists is there. A start
 * that was asked for also does without one. Order: where a member is left out that the superblocks
 * still list as active, its absence is recorded on the others before anything else is written, so
 * that it can never come back as current.
 *
 * A drive that another host holds ends the start, wherever it is met: to start without it would
 * record it as missing on the others (write-rules 21).
 */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { AssemblyPlan, RolePlan } from "../../md/assemble/assemble.ts";
import { withoutLog } from "../../md/log-place.ts";
import { Role } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import type { Registry } from "../registry.ts";
import type { ArrayCore } from "../running/array-core.ts";
import { driveOf } from "../running/roster.ts";
import type { StartPlan } from "../running/start-plan.ts";
import { recoverConsistency } from "./consistency.ts";
import { judgeStart } from "./needs.ts";
import { readAgain } from "./read-again.ts";
import { takeBack } from "./returning-member.ts";
import { stripeMemoryLacking } from "./stripe-memory.ts";

export interface StartOptions {
  readonly force: boolean;
  readonly readOnly: boolean;
}

/** Starts `record` if all its listed members are there; otherwise says in it what is lacking. */
export async function autoStart(registry: Registry, record: ArrayRecord): Promise<void> {
  if (record.running !== null || !record.mayStart || record.isHeld || registry.isStopping) return;
  if (record.broken !== null) return;
  const judged = judgeStart(registry, record, { force: false });
  if (!judged.ok) {
    record.reason = judged.error.detail;
    return;
  }
  const lacking = listedButMissing(judged.value);
  if (lacking.length > 0) {
    const isWhole = judged.value.roles.every(({ state }) => state === "in-sync");
    record.reason = isWhole
      ? `waiting for the drive that role ${lacking.join(", ")} is copied to: connect it, or start ` +
        "the array, which serves without it"
      : `waiting for role ${lacking.join(", ")}: ${wayOut(registry, record, lacking)}`;
    return;
  }
  await begin(registry, record, judged.value, { force: false, readOnly: false });
}

/** What is known of the drive that ought to fill one of `roles`, and what to do. */
function wayOut(registry: Registry, record: ArrayRecord, roles: readonly number[]): string {
  for (const { name, claim, probe, isUnreadable, outstanding } of registry.drives.values()) {
    if (claim === null || claim.arrayUuid !== record.uuid || !roles.includes(claim.role)) continue;
    if (probe.kind === "unusable") {
      return (
        `drive ${name} claims it and cannot be used. ${probe.detail} Start the array to run ` +
        "degraded."
      );
    }
    if (outstanding > 0) {
      return `requests of before are still outstanding on drive ${name}. Start again when they end`;
    }
    if (isUnreadable) {
      return `drive ${name} cannot be read. Check it, or start the array to run degraded.`;
    }
  }
  return "connect the drive, or start the array to run degraded";
}

export async function startArray(
  registry: Registry,
  record: ArrayRecord,
  options: StartOptions,
): Promise<Result<undefined, CommandError>> {
  assertHeld(registry, record);
  if (record.running !== null) return whereItRuns(record, options);
  const judged = await judgeAsked(registry, record, options, (reason) => {
    record.reason = reason;
  });
  return judged.ok ? begin(registry, record, judged.value, options) : judged;
}

/** Whoever wants it to run has that; one that has failed does not. */
function whereItRuns(
  { name, running }: ArrayRecord,
  { readOnly }: StartOptions,
): Result<undefined, CommandError> {
  if (running?.core.isFailed === true) {
    const detail =
      `array ${name} has failed, and does not go on as it is: with its drives connected stop it ` +
      `by force, then start it (parityd array stop ${name} --force && parityd array start ${name})`;
    return err(commandError("conflict", "already-running", detail));
  }
  if (!readOnly || running?.core.readOnlyReason !== null) return ok();
  const detail = `array ${name} runs, and takes writes: stop it first`;
  return err(commandError("conflict", "already-running", detail));
}

/**
 * How `startArray` would start it, and without a write; null: it runs. A log is replayed as for an
 * array that is started read-only, which finds out whether it can be.
 */
export async function foretellStart(
  registry: Registry,
  record: ArrayRecord,
  options: StartOptions,
): Promise<Result<ForetoldStart | null, CommandError>> {
  if (record.running !== null) {
    const refused = whereItRuns(record, options);
    return refused.ok ? ok(null) : refused;
  }
  const untold = (): void => {};
  const judged = await judgeAsked(registry, record, options, untold);
  if (!judged.ok) return judged;
  const ready = await makeReady(
    registry,
    record,
    judged.value,
    { ...options, isDry: true },
    untold,
  );
  if (!ready.ok) return ready;
  const leftOut = leavesOut(judged.value);
  return ok({ plan: judged.value, leftOut, resyncFromSector: ready.value.resyncFromSector });
}

export interface ForetoldStart {
  readonly plan: AssemblyPlan;
  /** It starts without the members that are being rebuilt. */
  readonly leftOut: boolean;
  readonly resyncFromSector: number | null;
}

/** The drives are read anew. `tell`: why it does not start, where the record is to say that. */
async function judgeAsked(
  registry: Registry,
  record: ArrayRecord,
  options: StartOptions,
  tell: (reason: string) => void,
): Promise<Result<AssemblyPlan, CommandError>> {
  await registry.waitForProbes();
  const unreadable = await readAgain(registry, record);
  if (registry.drivesOf(record.uuid).length === 0) {
    const detail = `no drive carries a superblock of array ${record.name} any more`;
    return err(commandError("conflict", "no-members", detail));
  }
  const fenced = fencedAtStart(registry, record);
  if (fenced !== null) {
    tell(fenced.detail);
    return err(fenced);
  }
  if (unreadable !== null) {
    tell(unreadable);
    return err(commandError("io", "drive-unreadable", unreadable));
  }
  const judged = judgeStart(registry, record, options);
  if (!judged.ok) {
    tell(judged.error.detail);
    return err(commandError("conflict", judged.error.kind, judged.error.detail));
  }
  const readOnlyDrive = registry.drivesOf(record.uuid).find(({ info }) => info.isReadOnly);
  if (readOnlyDrive !== undefined && !options.readOnly) {
    const detail = `drive ${readOnlyDrive.name} was opened read-only; start the array read-only`;
    return err(commandError("conflict", "drive-read-only", detail));
  }
  return judged;
}

export async function stopArray(registry: Registry, record: ArrayRecord): Promise<void> {
  const { running } = record;
  if (running === null) return;
  assertHeld(registry, record);
  await stopRunning(registry, record, running);
}

async function stopRunning(
  registry: Registry,
  record: ArrayRecord,
  running: RaidArray,
): Promise<void> {
  await running.stop();
  // What was refused in this turn is answered before the front goes.
  running.front.turn();
  assert(record.running === running, "nobody else stops or starts an array meanwhile");
  assert(!running.front.isDue, "a front that goes has answered");
  record.running = null;
  record.scrub = running.synchronizer.scrubs.memory;
  record.reason = "stopped";
  registry.onRunningChanged(record);
  running.core.emit("array.stopped", "info", `array ${record.name} is stopped`);
}

/**
 * Starts an array anew from what its drives say, behind an update of its superblocks that is the
 * last of this run; there is none where it could not be made clean. Its clients wait meanwhile;
 * where it does not start they are refused, as where it is stopped.
 */
export async function startAnew(
  registry: Registry,
  record: ArrayRecord,
  lastUpdate: () => void,
): Promise<Result<undefined, CommandError>> {
  const { running } = record;
  assert(running !== null, "an array that is started anew runs");
  assertHeld(registry, record);
  const { front } = running;
  front.hold();
  await running.stop({ keepsClients: true, lastUpdate });
  record.running = null;
  record.scrub = running.synchronizer.scrubs.memory;
  record.front = front;
  try {
    return await startArray(registry, record, { force: false, readOnly: false });
  } finally {
    record.front = null;
    // Also where a defect ended it: nobody waits for an array that does not come.
    if (record.running === null) {
      front.dismiss();
      registry.onRunningChanged(record);
    }
  }
}

/** Whoever starts or stops an array holds it: nobody else does either meanwhile. */
function assertHeld(registry: Registry, record: ArrayRecord): void {
  assert(registry.isBusy(record), "a command that starts or stops an array holds it");
}

/** Drives that were left out of the start may be taken back, like those that come late. */
async function takeBackLeftOut(registry: Registry, { uuid, running }: ArrayRecord): Promise<void> {
  if (running === null || running.core.isReadOnlyStart) return;
  assert(running.core.hasStarted, "members come back to an array that runs");
  for (const drive of registry.drivesOf(uuid)) {
    if (registry.holderOf(drive) !== null || drive.isUnreadable) continue;
    // One that is recorded as faulty had failed, or was failed: somebody adds it again, or nobody.
    assert(drive.superblock !== null, "the drives of an array carry its superblocks");
    const { devNumber } = drive.superblock;
    if (running.core.identity.devRoles[devNumber] === Role.faulty) continue;
    await takeBack(registry, running, drive);
  }
}

/**
 * Why the array cannot start, where a drive of it has answered that another host has it. One that
 * was shut for a fellow and cannot be read anew says nothing, and is left out like any that hangs.
 */
function fencedAtStart(registry: Registry, record: ArrayRecord): CommandError | null {
  const drive = registry.drivesOf(record.uuid).find((drive) => drive.hasToldFence);
  return drive === undefined ? null : fencedError(drive.holderText);
}

function fencedError(holder: string): CommandError {
  const detail = `${holder}. Try again when that host has let go of it`;
  return commandError("conflict", "fenced", detail);
}

/** Puts a plan into effect: registers the running array and records what changed. */
export async function runPlan(
  registry: Registry,
  record: ArrayRecord,
  plan: StartPlan,
  { mustRecord }: { mustRecord: boolean },
): Promise<Result<undefined, CommandError>> {
  assert(record.running === null, "an array is started once");
  assert(plan.roles.length === plan.superblock.memberCount, "a plan has an entry for each role");
  assert(hasDrivesOnce(plan), "a drive has one place in a plan");
  const array = registry.createRunning(record, plan);
  const { core } = array;
  assert(core.state.events === plan.superblock.events, "an array begins at its freshest event");
  for (const drive of core.roster.drives()) drive.becomeOurs();
  record.running = array;
  await array.policy.prepare(() => array.synchronizer.syncFirstStripe());
  if (!plan.isReadOnly) await array.seating.prepareTarget();
  // Order: all members are at one event count before the next update begins.
  const lagging = core.state.lagging(plan.superblock, core.roster);
  if (!plan.isReadOnly && lagging.length > 0) await core.superblocks.catchUp(lagging);
  assert(plan.isReadOnly || areAtOneCount(core, plan), "all members are at one event count");
  // Also where nothing but the story on disk has changed: a resync that had come to its end, or
  // one that has to begin before the checkpoint there (write-rules 23).
  const isToldWell =
    core.state.resyncOffset(core.syncFacts) === plan.superblock.resyncOffsetSectors;
  if ((mustRecord || !isToldWell) && !plan.isReadOnly) {
    const isDurable = await core.record(() => core.roster.dropMissingRoles());
    if (!isDurable && !core.members.isFenced) {
      await stopRunning(registry, record, array);
      const wayOut = core.superblocks.hasNoRoom ? "make room under its drives" : "check its drives";
      const detail = `the superblocks of array ${record.name} cannot be written; ${wayOut}`;
      record.reason = detail;
      return err(commandError("io", "superblock-write-failed", detail));
    }
  }
  if (core.fencedBy !== null) {
    await stopRunning(registry, record, array);
    const fenced = fencedError(core.fencedBy);
    record.reason = fenced.detail;
    return err(fenced);
  }
  record.reason = "";
  array.start();
  registry.onRunningChanged(record);
  return ok();
}

function hasDrivesOnce({ roles, spares }: StartPlan): boolean {
  const members = roles.flatMap((entry) => [entry?.drive ?? [], entry?.replacement?.drive ?? []]);
  const drives = [...members.flat(), ...spares];
  return new Set(drives).size === drives.length;
}

/** A member that has no room is brought up before the next update; a failed array writes none. */
function areAtOneCount({ roster, members, superblocks, isFailed }: ArrayCore, plan: StartPlan) {
  const { events } = plan.superblock;
  return roster.seats.every((seat, role) => {
    const drive = driveOf(seat);
    if (isFailed || superblocks.isBusy || drive === null || !members.isPresent(role)) return true;
    return (drive.superblock?.events ?? -1) >= events || superblocks.lacks(drive);
  });
}

/** Roles for which the freshest superblock lists more drives than are here. */
function listedButMissing(plan: AssemblyPlan): number[] {
  const missing: number[] = [];
  for (const [role, entry] of plan.roles.entries()) {
    const listed = plan.freshest.devRoles.filter((each) => each === role).length;
    if (drivesIn(entry) < listed) missing.push(role);
  }
  return missing;
}

function drivesIn(entry: RolePlan): number {
  if (entry.state === "missing") return 0;
  return entry.state === "in-sync" && entry.replacement !== null ? 2 : 1;
}

async function begin(
  registry: Registry,
  record: ArrayRecord,
  plan: AssemblyPlan,
  options: StartOptions,
): Promise<Result<undefined, CommandError>> {
  const consistency = await makeReady(registry, record, plan, options, (reason) => {
    record.reason = reason;
  });
  if (!consistency.ok) return consistency;
  const { resyncFromSector, bitmap } = consistency.value;
  const leavesBitmap = consistency.value.leavesBitmap === true && !options.readOnly;
  if (leavesBitmap) tellBitmapLeft(registry, record);
  const planned = planOf(registry, record, plan, options);
  const superblock = leavesBitmap ? withoutLog(planned.superblock) : planned.superblock;
  const startPlan = { ...planned, superblock, resyncFromSector, bitmap };
  const mustRecord =
    plan.isForced ||
    leavesBitmap ||
    resyncFromSector !== plan.resyncFromSector ||
    listedButMissing(plan).length > 0 ||
    leavesOut(plan) ||
    plan.freshest.devRoles.some((role, devNumber) => isListedElsewhere(plan, role, devNumber));
  const result = await runPlan(registry, record, startPlan, { mustRecord });
  if (!result.ok) return result;
  assert(record.running !== null, "an array that was started runs");
  const { core } = record.running;
  const missing = core.members.degradedCount;
  const text = missing > 0 ? `assembled, ${missing} member missing or rebuilding` : "assembled";
  core.emit("array.assembled", missing > 0 ? "warning" : "info", text);
  await takeBackLeftOut(registry, record);
  return ok();
}

/** Is there memory for it, and what does its policy make of its last stop? `tell`: as before. */
async function makeReady(
  registry: Registry,
  record: ArrayRecord,
  plan: AssemblyPlan,
  options: StartOptions & { readonly isDry?: true },
  tell: (reason: string) => void,
): ReturnType<typeof recoverConsistency> {
  const mayLog = plan.policy === "ppl" && !options.readOnly;
  const lacking =
    stripeMemoryLacking(registry.context.enginePool, plan.freshest) ??
    (mayLog ? logLacking(registry, plan) : null);
  if (lacking !== null) {
    tell(lacking);
    return err(commandError("conflict", "no-memory", lacking));
  }
  const { force } = options;
  const readOnly = options.readOnly || options.isDry === true;
  const consistency = await recoverConsistency(registry, plan, { force, readOnly });
  const fenced = fencedAtStart(registry, record);
  if (fenced !== null) tell(fenced.detail);
  else if (!consistency.ok) tell(consistency.error.detail);
  return fenced === null ? consistency : err(fenced);
}

/** Order: control has the policy on record, or is about to, when the superblocks lose it. */
function tellBitmapLeft(registry: Registry, { name, uuid }: ArrayRecord): void {
  registry.emit({
    ...{ kind: "bitmap.set-aside", severity: "info", array: name, arrayUuid: uuid },
    ...{ drive: null, job: null, atMs: registry.context.clock.wallMs() },
    message:
      `array ${name} gets more members, and goes on with that without its write-intent bitmap: ` +
      "serve puts it back behind that",
  });
}

/** Nothing is rebuilt while the data moves: it is done without such a member. */
function leavesOut({ reshape, roles }: AssemblyPlan): boolean {
  return reshape !== null && roles.some(({ state }) => state === "rebuilding");
}

/** Why the partial parity logs of the members cannot be used, or null. */
function logLacking({ areas }: Registry, { freshest, roles }: AssemblyPlan): string | null {
  for (const entry of roles) {
    // One that a change of policy did not reach gets its log before it is used.
    if (entry.state === "missing" || entry.superblock.log.kind !== "ppl") continue;
    const seat = areas.seatOf(entry.superblock);
    if (typeof seat === "string") return `Drive ${entry.drive}: ${seat}`;
  }
  return areas.memoryLacking(freshest.memberCount);
}

/** A device number that claims a role which another drive, or none, fills now. */
function isListedElsewhere(plan: AssemblyPlan, role: number, devNumber: number): boolean {
  if (role >= Role.limit) return false;
  const entry = plan.roles[role];
  if (entry === undefined || entry.state === "missing") return false;
  const replacement = entry.state === "in-sync" ? entry.replacement : null;
  const isItsTarget = replacement?.superblock.devNumber === devNumber;
  return entry.superblock.devNumber !== devNumber && !isItsTarget;
}

function planOf(
  registry: Registry,
  record: ArrayRecord,
  plan: AssemblyPlan,
  options: StartOptions,
): StartPlan {
  const driveNamed = (name: string): Drive => {
    const drive = registry.drives.get(name);
    assert(drive !== undefined, "the drives of a plan are here");
    return drive;
  };
  return {
    name: record.name,
    superblock: plan.freshest,
    roles: plan.roles.map((entry) => {
      if (entry.state === "missing") return null;
      const drive = driveNamed(entry.drive);
      drive.forgetFailure();
      if (entry.state === "rebuilding") {
        if (leavesOut(plan)) return null;
        const { recoveryOffsetSectors } = entry;
        return { drive, recoveryOffsetSectors, replacement: null };
      }
      // Where the last update did not reach it, it has what that said all the same: an array that
      // began to get members has its data elsewhere on each.
      drive.carry(entry.superblock);
      const { replacement } = entry;
      if (replacement === null) return { drive, recoveryOffsetSectors: null, replacement };
      const target = driveNamed(replacement.drive);
      target.forgetFailure();
      const { recoveryOffsetSectors } = replacement;
      return {
        ...{ drive, recoveryOffsetSectors: null },
        replacement: { drive: target, recoveryOffsetSectors },
      };
    }),
    spares: plan.spares.map(({ drive }) => driveNamed(drive)),
    resyncFromSector: plan.resyncFromSector,
    isFirstResync: false,
    isReadOnly: options.readOnly,
    bitmap: null,
  };
}
