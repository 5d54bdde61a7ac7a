/**
 * Commands that only tell what they would answer (`dryRun`): each asks what its command asks before
 * its first effect, while it holds the same drives and arrays, and stops there.
 */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { type Job, restingJobStatus } from "../jobs.ts";
import {
  type ArrayStatus,
  type CommandError,
  type CommandMap,
  type CommandOf,
  type ForetoldKind,
  type JobStatus,
  NOT_YET,
} from "../protocol.ts";
import type { ArrayRecord } from "../record.ts";
import { arrayKey, type Registry } from "../registry.ts";
import { foretellStart } from "../start/start.ts";
import {
  cancelObstacle,
  deleteObstacle,
  noScrub,
  replaceObstacle,
  scrubObstacle,
  unknownJob,
} from "./checks.ts";
import type { ArrayCommandKind } from "./command.ts";
import type { CommandLeases } from "./command-leases.ts";
import { foretellCreate } from "./create.ts";
import type { DriveCommands } from "./drives.ts";
import type { FaultBook } from "./faults.ts";
import { forecastOf } from "./forecast.ts";
import { startedStatus, stoppedStatus } from "./foretold.ts";
import { judgeGrowthOf } from "./grow.ts";
import { foretellAdd, judgeRemoval } from "./members.ts";
import { judgePolicy } from "./policy.ts";
import { foretellRehearsal, pausable } from "./rehearsal.ts";
import { foretellReplace } from "./replace.ts";
import { foretellReshape } from "./reshape.ts";
import { arrayStatus } from "./status.ts";

type DryKind = ForetoldKind & ArrayCommandKind;
type Told<K extends DryKind> = Result<CommandMap[K]["value"], CommandError>;

/** By the kind of the command: one that may be dry has its own. */
export type DryRuns = { readonly [K in DryKind]: (command: CommandOf<K>) => Promise<Told<K>> };

export function dryRunsOf(options: {
  registry: Registry;
  leases: CommandLeases;
  drives: DriveCommands;
  faults: FaultBook;
}): DryRuns {
  const { registry, leases, drives, faults } = options;
  return {
    "attach-drive": (command) => drives.foretellAttach(command),
    "detach-drive": (command) => drives.foretellDetach(command),
    "create-array": async (command) => foretellCreate(registry, command),
    "start-array": (command) =>
      leases.withRecord(command, (record) => foretoldStart(registry, record, command)),
    "stop-array": (command) =>
      leases.withRunning(command, async (record) => ok(stoppedStatus(registry, record))),
    "delete-array": (command) =>
      leases.withRecord(command, async (record) => {
        const obstacle = deleteObstacle(registry, record, command);
        return obstacle === null ? ok(null) : err(obstacle);
      }),
    "set-array": (command) =>
      leases.withRecord(command, async (record) => foretoldSet(registry, record, command)),
    "add-member": (command) =>
      leases.withDrive(command, async (record, drive) => {
        const { force, isForRole = false } = command;
        return foretellAdd(registry, record, drive, { force, isForRole });
      }),
    "add-members": (command) =>
      leases.withDrives(command, [...new Set(command.drives)], async (record, added) =>
        foretellReshape(registry, record, added, command),
      ),
    "replace-member": async (command) => {
      const obstacle = replaceObstacle(command);
      if (obstacle !== null) return err(obstacle);
      const names = [command.drive, command.with];
      return leases.withDrives(command, names, async (record, [member, target]) => {
        assert(member !== undefined && target !== undefined, "both drives are here");
        return foretellReplace(registry, record, { member, target }, command);
      });
    },
    "remove-member": (command) =>
      leases.withDrive(command, async (record, drive) => {
        const judged = judgeRemoval(registry, record, drive);
        return judged.ok ? ok(null) : judged;
      }),
    "start-scrub": (command) =>
      leases.withRunning(command, async (_, running) => {
        const obstacle = scrubObstacle(running);
        if (obstacle !== null) return err(obstacle);
        const { mode, limitBytesPerSecond: limit, restart } = command;
        return ok(running.synchronizer.scrubs.foretell({ mode, limit, restart }));
      }),
    "pause-scrub": (command) =>
      leases.withRunning(command, async (_, running) => {
        const job = running.synchronizer.scrubs.pausable;
        return job === null ? err(noScrub(running)) : ok(restingJobStatus(job.status(), "paused"));
      }),
    "cancel-scrub": (command) =>
      leases.withRunning(command, async (_, running) => {
        const job = running.synchronizer.scrubs.cancellable;
        return job === null ? err(noScrub(running)) : ok(null);
      }),
    "start-rehearsal": (command) =>
      leases.withRunning(command, async (_, running) =>
        foretellRehearsal(registry, running, command),
      ),
    "pause-rehearsal": (command) =>
      leases.withRunning(command, async (_, running) => {
        const job = pausable(running);
        return job.ok ? ok(restingJobStatus(job.value.status(), "paused")) : job;
      }),
    "cancel-job": async ({ id }) => {
      const job = registry.jobs.get(id);
      if (job === undefined) return err(unknownJob(id));
      const holder = `looking at job ${id}`;
      return leases.holding(holder, [arrayKey(job.arrayUuid)], async () => foretoldCancel(job));
    },
    "add-fault": async ({ fault }) => faults.foretellAdd(fault),
    "clear-faults": async ({ id }) => faults.foretellClear(id),
  };
}

async function foretoldStart(
  registry: Registry,
  record: ArrayRecord,
  { force, readOnly }: CommandOf<"start-array">,
): Promise<Result<ArrayStatus, CommandError>> {
  const judged = await foretellStart(registry, record, { force, readOnly });
  if (!judged.ok) return judged;
  if (judged.value === null) return ok(arrayStatus(registry, record));
  return ok(startedStatus(registry, record, judged.value, { readOnly }));
}

function foretoldSet(
  registry: Registry,
  record: ArrayRecord,
  command: CommandOf<"set-array">,
): Result<ArrayStatus, CommandError> {
  const { kind: _kind, array: _array, dryRun: _dryRun, ...changes } = command;
  const { consistencyPolicy, memberSizeBytes, ...tuning } = changes;
  let status: ArrayStatus = { ...arrayStatus(registry, record), ...tuning };
  if (record.running !== null) {
    status = { ...status, forecast: forecastOf(record.running, record.rates, status) };
  }
  if (consistencyPolicy !== undefined) {
    const judged = judgePolicy(record, consistencyPolicy);
    if (!judged.ok) return judged;
    const { eventCount } = NOT_YET;
    if (!judged.value.isSo) status = { ...status, consistencyPolicy, eventCount };
  }
  if (memberSizeBytes !== undefined) {
    const judged = judgeGrowthOf(record, memberSizeBytes);
    if (!judged.ok) return judged;
    const sync = { ...status.sync, action: "grow" } as const;
    if (!judged.value.isSo) status = { ...status, sync, eventCount: NOT_YET.eventCount };
  }
  return ok(status);
}

function foretoldCancel(job: Job): Result<JobStatus, CommandError> {
  const obstacle = cancelObstacle(job);
  return obstacle === null ? ok(restingJobStatus(job.status(), "cancelled")) : err(obstacle);
}
