/** Rehearses the loss of a member by request (sync/rehearsal.ts). */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import { isDone } from "../../block/async-io.ts";
import type { Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { Job } from "../jobs.ts";
import type { CommandError, CommandOf, JobStatus } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { commandError } from "../record.ts";
import type { Registry } from "../registry.ts";
import { fenceObstacle } from "../running/fence.ts";
import type { RehearsalPlan } from "../sync/rehearsal.ts";

export function startRehearsal(
  registry: Registry,
  array: RaidArray,
  wanted: CommandOf<"start-rehearsal">,
): Result<JobStatus, CommandError> {
  const planned = planRehearsal(registry, array, wanted);
  if (!planned.ok) return planned;
  const plan = planned.value;
  const taker = plan.spare === null ? undefined : registry.drives.get(plan.spare);
  const isSpareReadable =
    taker === undefined || plan.obstacle !== null
      ? Promise.resolve(true)
      : isReadable(registry, taker, plan.layout);
  return ok(array.synchronizer.rehearsals.start({ ...plan, isSpareReadable }).status());
}

/** What `startRehearsal` would begin or go on with, without doing it. */
export function foretellRehearsal(
  registry: Registry,
  array: RaidArray,
  wanted: CommandOf<"start-rehearsal">,
): Result<JobStatus, CommandError> {
  const planned = planRehearsal(registry, array, wanted);
  return planned.ok ? ok(array.synchronizer.rehearsals.foretell(planned.value)) : planned;
}

type PlannedRehearsal = Omit<RehearsalPlan, "isSpareReadable">;

function planRehearsal(
  registry: Registry,
  array: RaidArray,
  { drive, spare }: CommandOf<"start-rehearsal">,
): Result<PlannedRehearsal, CommandError> {
  const { core, synchronizer } = array;
  const refused = obstacleTo(array);
  if (refused !== null) return err(refused);
  const { pausedRole } = synchronizer.rehearsals;
  const role = drive === null ? (pausedRole ?? worstRole(array)) : roleNamed(array, drive);
  if (role < 0) {
    const detail =
      `drive ${drive} is no member of array ${core.name}: name one of ` +
      [...core.roster.seats.keys()].map((each) => core.roster.driveAt(each)?.name).join(", ");
    return err(commandError("not-found", "not-a-member", detail));
  }
  const taker = takerOf(registry, array, spare);
  const lost = core.roster.driveAt(role);
  assert(lost?.superblock != null, "who is lost is a member");
  const layout = taker.layout ?? lost.superblock;
  return ok({ ...taker, failedRole: role, layout });
}

export async function pauseRehearsal(array: RaidArray): Promise<Result<JobStatus, CommandError>> {
  const job = pausable(array);
  if (!job.ok) return job;
  job.value.wish = "pause";
  await job.value.untilAtRest();
  return ok(job.value.status());
}

/** The rehearsal that `pauseRehearsal` pauses. */
export function pausable(array: RaidArray): Result<Job, CommandError> {
  const job = array.synchronizer.rehearsals.pausable;
  if (job !== null) return ok(job);
  const detail = `no rehearsal of array ${array.core.name} is running`;
  return err(commandError("conflict", "no-rehearsal", detail));
}

function obstacleTo(array: RaidArray): CommandError | null {
  const { core, synchronizer } = array;
  const fenced = fenceObstacle(core);
  if (fenced !== null) return fenced;
  const obstacle = synchronizer.obstacleTo("rehearsal");
  return obstacle === null ? null : commandError("conflict", "rehearsal-not-possible", obstacle);
}

function roleNamed({ core: { roster } }: RaidArray, name: string): number {
  return roster.seats.findIndex((_, role) => roster.driveAt(role)?.name === name);
}

/** The member that is most likely to go: the one with the most errors, the first of those. */
function worstRole({ core: { roster } }: RaidArray): number {
  let worst = 0;
  let most = -1;
  for (let role = 0; role < roster.memberCount; role += 1) {
    const { read, write, fixed, slow } = roster.driveAt(role)!.errors();
    const count = read + write + fixed + slow;
    if (count <= most) continue;
    worst = role;
    most = count;
  }
  return worst;
}

/** Who would take the role: the array's first spare, else the shared one that it would get. */
function takerOf(
  registry: Registry,
  array: RaidArray,
  shared: string | null,
): Pick<RehearsalPlan, "spare" | "obstacle"> & { layout: Superblock | null } {
  const { name, roster } = array.core;
  const own = roster.spares[0] ?? null;
  const drive = own ?? (shared === null ? null : (registry.drives.get(shared) ?? null));
  if (drive === null) {
    const obstacle = `array ${name} has no spare that fits: add one, or share one`;
    return { spare: null, layout: null, obstacle };
  }
  const layout = own === null ? array.seating.superblockFor(drive) : ok(own.superblock!);
  if (!layout.ok) {
    return { spare: drive.name, layout: null, obstacle: layout.error };
  }
  return { spare: drive.name, layout: layout.value, obstacle: null };
}

/** One row, where its data would begin: a drive that is dead says so. */
async function isReadable(
  { context, asyncIo }: Registry,
  drive: Drive,
  { dataOffsetSectors }: Superblock,
): Promise<boolean> {
  const address = await context.enginePool.take(ROW_BYTES);
  const row = { offset: dataOffsetSectors * SECTOR_BYTES, bytes: ROW_BYTES, address };
  const answer = await asyncIo.read(drive.io, row);
  context.enginePool.free(address, ROW_BYTES);
  return isDone(answer);
}
