/**
 * The commands of the control thread, carried out: drives, arrays, members, scrubs, jobs, faults.
 *
 * Commands run concurrently; each gets one answer. One that changes something holds its drives and
 * its array while it runs (command-leases.ts); what only asks holds nothing.
 */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { eraseSuperblock } from "../drives/erase-superblock.ts";
import type { ArrayFront } from "../front.ts";
import type { Job } from "../jobs.ts";
import type { CommandError, CommandKind, CommandMap, CommandOf, JobStatus } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import type { ReactorContext } from "../reactor-context.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import { arrayKey, driveKey, Registry } from "../registry.ts";
import { autoStart, startArray, stopArray } from "../start/start.ts";
import {
  cancelObstacle,
  deleteObstacle,
  noScrub,
  replaceObstacle,
  scrubObstacle,
  unknownJob,
} from "./checks.ts";
import type { ArrayCommand, ArrayCommandKind } from "./command.ts";
import { CommandDoor } from "./command-door.ts";
import { CommandLeases, STOPPING } from "./command-leases.ts";
import { createArray, newUuid } from "./create.ts";
import { watchLoneDrives } from "./drive-deadlines.ts";
import { watchSilences } from "./drive-silences.ts";
import { DriveCommands } from "./drives.ts";
import { type DryRuns, dryRunsOf } from "./dry-runs.ts";
import { planFail } from "./fail-plan.ts";
import { FaultBook } from "./faults.ts";
import { growArray } from "./grow.ts";
import { addMember, failMember, removeMember } from "./members.ts";
import { changePolicy } from "./policy.ts";
import { unknownArray } from "./refusals.ts";
import { pauseRehearsal, startRehearsal } from "./rehearsal.ts";
import { writeName } from "./rename.ts";
import { replaceMember } from "./replace.ts";
import { reshapeArray } from "./reshape.ts";
import { fitDrive, readDrive } from "./spare-drives.ts";
import { arrayStatus, driveStatus } from "./status.ts";
import { unstoppedArrays } from "./unstopped.ts";

type Answer<K extends CommandKind> = Promise<Result<CommandMap[K]["value"], CommandError>>;

/** A zeroing that the stop waits for goes on, and who waits may ask for what. */
const DURING_STOP: ReadonlySet<ArrayCommandKind> = new Set(["hole-punched", "list-unstopped"]);

export class ArrayService {
  readonly registry: Registry;
  private readonly leases: CommandLeases;
  private readonly faults: FaultBook;
  private readonly drives: DriveCommands;
  private readonly door: CommandDoor;
  private readonly dryRuns: DryRuns;
  private readonly handlers: { [K in ArrayCommandKind]: (command: CommandOf<K>) => Answer<K> };

  constructor(context: ReactorContext, options: { autoAssemble: boolean }) {
    const registry = new Registry(context, { startsByThemselves: options.autoAssemble });
    this.registry = registry;
    this.leases = new CommandLeases(registry);
    this.faults = new FaultBook(registry);
    this.drives = new DriveCommands({ registry, leases: this.leases, faults: this.faults });
    watchLoneDrives(registry);
    watchSilences(registry);
    this.door = new CommandDoor(registry);
    const { leases, drives, faults } = this;
    this.dryRuns = dryRunsOf({ registry, leases, drives, faults });
    this.handlers = {
      "attach-drive": (command) => this.drives.attach(command),
      "note-content": async ({ name, signature }) => {
        const drive = registry.drives.get(name);
        if (drive !== undefined) drive.signature = signature;
        return ok(null);
      },
      "detach-drive": (command) => this.drives.detach(command),
      "list-drives": async () =>
        ok([...registry.drives.values()].map((drive) => driveStatus(registry, drive))),
      "create-array": (command) => this.createArray(command),
      "list-arrays": async () =>
        ok([...registry.arrays.values()].map((record) => arrayStatus(registry, record))),
      "get-array": async ({ array }) => {
        const record = registry.find(array);
        if (record === null) return err(unknownArray(registry, array));
        return ok(arrayStatus(registry, record));
      },
      "introduce-array": (command) => this.introduceArray(command),
      "write-name": (command) =>
        this.leases.withRunning(command, async (record, running) => {
          const isDurable = await writeName(running, command.name);
          return isDurable ? ok(arrayStatus(registry, record)) : err(notWritten(record));
        }),
      "start-array": (command) =>
        this.leases.withRecord(command, async (record) => {
          record.isHeld = false;
          record.mayStart = true;
          const { force, readOnly } = command;
          const started = await startArray(registry, record, { force, readOnly });
          return started.ok ? ok(arrayStatus(registry, record)) : started;
        }),
      "stop-array": (command) =>
        this.leases.withRunning(command, async (record) => {
          record.isHeld = true;
          await stopArray(registry, record);
          const status = arrayStatus(registry, record);
          // All its drives may have been removed while it ran.
          registry.dropIfEmpty(record);
          return ok(status);
        }),
      "delete-array": (command) => this.deleteArray(command),
      "set-array": (command) =>
        this.leases.withRecord(command, async (record) => {
          const { kind: _kind, array: _array, dryRun: _dryRun, ...changes } = command;
          const { consistencyPolicy, memberSizeBytes, ...tuning } = changes;
          if (consistencyPolicy !== undefined) {
            const changed = await changePolicy(record, consistencyPolicy);
            if (!changed.ok) return changed;
          }
          if (memberSizeBytes !== undefined) {
            const begun = await growArray(record, memberSizeBytes);
            if (!begun.ok) return begun;
          }
          Object.assign(record.tuning, tuning);
          return ok(arrayStatus(registry, record));
        }),
      "add-member": (command) =>
        this.leases.withDrive(command, (record, drive) =>
          addMember(registry, record, drive, {
            force: command.force,
            isForRole: command.isForRole === true,
          }),
        ),
      "add-members": (command) => this.addMembers(command),
      "replace-member": (command) => this.replaceMember(command),
      "fit-drive": async ({ drive }) => fitDrive(registry, drive),
      "read-drive": (command) => readDrive(registry, command),
      "fail-member": (command) =>
        this.leases.withDrive(command, (record, drive) => failMember(registry, record, drive)),
      "check-fail": (command) =>
        this.leases.withDrive(command, async (record, drive) => planFail(record, drive)),
      "remove-member": (command) =>
        this.leases.withDrive(command, (record, drive) => removeMember(registry, record, drive)),
      "start-scrub": (command) => this.startScrub(command),
      "pause-scrub": (command) =>
        this.leases.withRunning(command, (_, running) => this.pause(running)),
      "cancel-scrub": (command) =>
        this.leases.withRunning(command, (_, running) => this.cancel(running)),
      "start-rehearsal": (command) =>
        this.leases.withRunning(command, async (_, running) =>
          startRehearsal(registry, running, command),
        ),
      "pause-rehearsal": (command) =>
        this.leases.withRunning(command, (_, running) => pauseRehearsal(running)),
      "list-jobs": async () => ok(registry.jobs.list().map((job) => job.status())),
      "get-job": async ({ id }) => {
        const job = registry.jobs.get(id);
        return job === undefined ? err(unknownJob(id)) : ok(job.status());
      },
      "cancel-job": (command) => this.cancelJob(command),
      "add-fault": async ({ fault }) => this.faults.add(fault),
      "list-faults": async () => ok(this.faults.list()),
      "clear-faults": async ({ id }) => this.faults.clear(id),
      "hole-punched": async ({ id, error }) => {
        registry.punchCalls.answered(id, error);
        return ok(null);
      },
      "list-unstopped": async () => ok(unstoppedArrays(registry)),
      shutdown: () => this.shutdown(),
    };
  }

  handle<K extends ArrayCommandKind>(command: CommandOf<K>): Answer<K> {
    if (this.registry.isStopping && !DURING_STOP.has(command.kind)) {
      return Promise.resolve(err(STOPPING));
    }
    const work = (): Answer<K> => this.handlerOf(command)(command);
    return this.door.pass(command as unknown as ArrayCommand, work);
  }

  private handlerOf<K extends ArrayCommandKind>({
    kind,
    ...request
  }: CommandOf<K>): (command: CommandOf<K>) => Answer<K> {
    const isDry = "dryRun" in request && request.dryRun === true;
    if (!isDry) return this.handlers[kind];
    const dryRun = (this.dryRuns as Partial<typeof this.handlers>)[kind];
    assert(dryRun !== undefined, "a command that is dry tells what it would answer");
    return dryRun;
  }

  /** Null where the array does not run, and until its start is through. */
  frontOf(array: string): ArrayFront | null {
    const record = this.registry.find(array);
    // One that broke has its front still, which answers EIO.
    const running = record?.running ?? record?.broken?.array ?? null;
    return running?.core.hasStarted === true ? running.front : null;
  }

  // Arrays -----------------------------------------------------------------------------------

  private createArray(command: CommandOf<"create-array">): Answer<"create-array"> {
    const { registry } = this;
    const names = [...command.drives, ...command.spares];
    const holder = `creating array ${command.name}`;
    return this.leases.holding(holder, names.map(driveKey), () => {
      const drives = names.flatMap((name) => registry.drives.get(name) ?? []);
      const uuid = command.uuid ?? newUuid(registry);
      // Its own, too: it can be named as soon as it is begun.
      const keys = [arrayKey(uuid), ...drives.flatMap((drive) => registry.arrayKeysOf(drive))];
      return this.leases.holding(holder, keys, async () => {
        const created = await createArray(registry, { ...command, uuid });
        return created.ok ? ok(arrayStatus(registry, created.value)) : created;
      });
    });
  }

  private introduceArray(command: CommandOf<"introduce-array">): Answer<"introduce-array"> {
    const { registry } = this;
    const { array, kind: _kind, ...introduction } = command;
    const holder = `introducing array ${introduction.name}`;
    return this.leases.holding(holder, [arrayKey(array)], async () => {
      const record = registry.introduce(array, introduction);
      if (record === null) return ok(null);
      await autoStart(registry, record);
      return ok(arrayStatus(registry, record));
    });
  }

  private deleteArray(command: CommandOf<"delete-array">): Answer<"delete-array"> {
    return this.leases.withRecord(command, async (record) => {
      const { registry } = this;
      const obstacle = deleteObstacle(registry, record, command);
      if (obstacle !== null) return err(obstacle);
      await stopArray(registry, record);
      const failed: string[] = [];
      const erased = command.zeroSuperblocks ? registry.drivesOf(record.uuid) : [];
      await Promise.all(
        erased.map(async (drive) => {
          if (!(await eraseSuperblock(registry, drive))) failed.push(drive.name);
        }),
      );
      registry.forget(record);
      if (failed.length === 0) return ok(null);
      const detail = `the superblocks of ${failed.join(", ")} could not be erased`;
      return err(commandError("io", "superblock-write-failed", detail));
    });
  }

  /** Commands that run come to their end first; those that wait are refused. */
  private async shutdown(): Answer<"shutdown"> {
    const { registry } = this;
    assert(!registry.isStopping, "the daemon stops once");
    registry.isStopping = true;
    registry.leases.refuseWaiting();
    // One that breaks on the way keeps nobody from going.
    const stops = [...registry.arrays.values()].map((record) =>
      this.door.within(record, async () => {
        const lease = await registry.leases.take([arrayKey(record.uuid)], "stopping");
        assert(lease !== null, "nobody refuses the stop of the daemon its arrays");
        await stopArray(registry, record);
        lease.release();
      }),
    );
    await Promise.all(stops);
    return ok(null);
  }

  // Scrubs and jobs --------------------------------------------------------------------------

  private replaceMember(command: CommandOf<"replace-member">): Answer<"replace-member"> {
    const { drive, with: other, force } = command;
    const obstacle = replaceObstacle(command);
    if (obstacle !== null) return Promise.resolve(err(obstacle));
    const names = [drive, other];
    return this.leases.withDrives(command, names, async (record, [member, target]) =>
      replaceMember(this.registry, record, { member: member!, target: target! }, { force }),
    );
  }

  private addMembers(command: CommandOf<"add-members">): Answer<"add-members"> {
    const { registry } = this;
    const names = [...new Set(command.drives)];
    return this.leases.withDrives(command, names, async (record, drives) => {
      const before = registry.jobs.list().at(-1)?.id ?? 0;
      const begun = await reshapeArray(registry, record, drives, command);
      if (!begun.ok) return begun;
      // It may be over by now; and an array that has failed since begins nothing.
      const job = registry.jobs.list().findLast(({ id, kind, arrayUuid }) => {
        return id > before && kind === "reshape" && arrayUuid === record.uuid;
      });
      return job === undefined ? err(notUnderWay(record)) : ok(job.status());
    });
  }

  private startScrub(command: CommandOf<"start-scrub">): Answer<"start-scrub"> {
    return this.leases.withRunning(command, async (_, running) => {
      const obstacle = scrubObstacle(running);
      if (obstacle !== null) return err(obstacle);
      const { mode, limitBytesPerSecond: limit, restart } = command;
      return ok(running.synchronizer.scrubs.start({ mode, limit, restart }).status());
    });
  }

  private async pause(running: RaidArray): Promise<Result<JobStatus, CommandError>> {
    const scrub = await running.synchronizer.scrubs.pause();
    return scrub === null ? err(noScrub(running)) : ok(scrub.status());
  }

  private async cancel(running: RaidArray): Promise<Result<null, CommandError>> {
    const scrub = running.synchronizer.scrubs.cancel();
    if (scrub === null) return err(noScrub(running));
    await scrub.untilAtRest();
    return ok(null);
  }

  private cancelJob({ id }: CommandOf<"cancel-job">): Answer<"cancel-job"> {
    const job = this.registry.jobs.get(id);
    if (job === undefined) return Promise.resolve(err(unknownJob(id)));
    const holder = `cancelling job ${id}`;
    return this.leases.holding(holder, [arrayKey(job.arrayUuid)], () => this.cancelHeldJob(job));
  }

  private async cancelHeldJob(job: Job): Answer<"cancel-job"> {
    const obstacle = cancelObstacle(job);
    if (obstacle !== null) return err(obstacle);
    if (job.state === "paused") {
      this.registry.arrays.get(job.arrayUuid)?.running?.synchronizer.cancelPaused(job);
    } else {
      assert(job.finishedAtMs === null, "a job that runs has not ended");
      job.wish = "cancel";
      await job.untilAtRest();
    }
    return ok(job.status());
  }
}

function notWritten({ name }: ArrayRecord): CommandError {
  const detail = `the superblocks of array ${name} cannot be written; check its drives`;
  return commandError("io", "superblock-write-failed", detail);
}

function notUnderWay({ name }: ArrayRecord): CommandError {
  const detail = `array ${name} has failed, and gets more members when it starts again`;
  return commandError("io", "reshape-not-started", detail);
}
