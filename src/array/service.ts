/**
 * The commands of the control thread, carried out: drives, arrays, members, scrubs, jobs, faults.
 *
 * Commands run concurrently; each gets one answer. What must not happen at the same time is kept
 * apart by the records (`isChanging`) and by the superblock writer of each array.
 */
import { err, ok, type Result } from "../base/result.ts";
import { isDone } from "../block/async-io.ts";
import { SLAB_BYTES } from "../block/pool.ts";
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "../md/superblock.ts";
import { arrayStatus, driveStatus } from "./array-status.ts";
import { takeRun } from "./buffers.ts";
import { changePolicy } from "./change-policy.ts";
import type { ReactorContext } from "./context.ts";
import { createArray } from "./create-array.ts";
import { Drive } from "./drive.ts";
import { FaultBook } from "./fault-commands.ts";
import type { ArrayFront } from "./front.ts";
import type { Job } from "./jobs.ts";
import {
  addMember,
  failMember,
  notRunning,
  rejoinSpare,
  removalObstacle,
  removeMember,
} from "./member-commands.ts";
import type { CommandError, CommandKind, CommandMap, CommandOf, JobStatus } from "./protocol.ts";
import type { RaidArray } from "./raid-array.ts";
import { type ArrayRecord, commandError, Registry } from "./registry.ts";
import { autoStart, startArray, stopArray } from "./start-array.ts";

type Answer<K extends CommandKind> = Promise<Result<CommandMap[K]["value"], CommandError>>;

/** The commands that are about exports are carried out above this layer. */
export type ArrayCommandKind = Exclude<
  CommandKind,
  "listen-nbd" | "adopt-nbd" | "nbd-stats" | "put-export" | "delete-export" | "list-exports"
>;
export type ArrayCommand = { [K in ArrayCommandKind]: CommandOf<K> }[ArrayCommandKind];

const POLL_MS = 5;

export class ArrayService {
  readonly registry: Registry;
  private readonly faults: FaultBook;
  private readonly handlers: { [K in ArrayCommandKind]: (command: CommandOf<K>) => Answer<K> };

  constructor(context: ReactorContext, options: { autoAssemble: boolean }) {
    const registry = new Registry(context);
    this.registry = registry;
    this.faults = new FaultBook(registry);
    this.handlers = {
      "attach-drive": (command) => this.attachDrive(command, options.autoAssemble),
      "detach-drive": (command) => this.detachDrive(command, options.autoAssemble),
      "list-drives": async () =>
        ok([...registry.drives.values()].map((drive) => driveStatus(registry, drive))),
      "create-array": async (command) => {
        const created = await createArray(registry, command);
        return created.ok ? ok(arrayStatus(registry, created.value)) : created;
      },
      "list-arrays": async () =>
        ok([...registry.arrays.values()].map((record) => arrayStatus(registry, record))),
      "get-array": ({ array }) =>
        this.withRecord(array, async (record) => ok(arrayStatus(registry, record))),
      "start-array": ({ array, force, readOnly }) =>
        this.withRecord(array, async (record) => {
          record.isHeld = false;
          const started = await startArray(registry, record, { force, readOnly });
          return started.ok ? ok(arrayStatus(registry, record)) : started;
        }),
      "stop-array": ({ array }) =>
        this.withRunning(array, async (record) => {
          record.isHeld = true;
          await stopArray(registry, record);
          return ok(arrayStatus(registry, record));
        }),
      "delete-array": (command) => this.deleteArray(command),
      "set-array": ({ kind: _kind, array, consistencyPolicy, ...tuning }) =>
        this.withRecord(array, async (record) => {
          if (consistencyPolicy !== undefined) {
            const changed = await changePolicy(registry, record, consistencyPolicy);
            if (!changed.ok) return changed;
          }
          Object.assign(record.tuning, tuning);
          return ok(arrayStatus(registry, record));
        }),
      "add-member": ({ array, drive, force }) =>
        this.withDrive(array, drive, (record, found) =>
          addMember(registry, record, found, { force }),
        ),
      "fail-member": ({ array, drive }) =>
        this.withDrive(array, drive, (record, found) => failMember(registry, record, found)),
      "remove-member": ({ array, drive }) =>
        this.withDrive(array, drive, (record, found) => removeMember(record, found)),
      "start-scrub": (command) => this.startScrub(command),
      "pause-scrub": ({ array }) => this.withRunning(array, (_, running) => this.pause(running)),
      "cancel-scrub": ({ array }) => this.withRunning(array, (_, running) => this.cancel(running)),
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
      shutdown: () => this.shutdown(),
    };
  }

  handle<K extends ArrayCommandKind>(command: CommandOf<K>): Answer<K> {
    // A zeroing that the stop waits for goes on.
    if (this.registry.isStopping && command.kind !== "hole-punched") {
      const error = commandError("stopping", "stopping", "the daemon is stopping");
      return Promise.resolve(err(error));
    }
    return this.handlers[command.kind](command);
  }

  /** The front of a running array, or null. */
  /** Null where the array does not run, and until its start is through. */
  frontOf(array: string): ArrayFront | null {
    const running = this.registry.byName(array)?.running ?? null;
    return running?.hasStarted === true ? running.front : null;
  }

  hasArray(array: string): boolean {
    return this.registry.byName(array) !== null;
  }

  // Drives -----------------------------------------------------------------------------------

  private async attachDrive(
    { drive: info }: CommandOf<"attach-drive">,
    autoAssemble: boolean,
  ): Answer<"attach-drive"> {
    const { registry } = this;
    if (registry.drives.has(info.name)) {
      const detail = `there is a drive ${info.name} already`;
      return err(commandError("conflict", "name-in-use", detail));
    }
    const drive = new Drive(registry.context, registry.router, info);
    const probed = await registry.probe(drive);
    if (!probed.ok) {
      drive.device.close();
      return err(commandError("io", "drive-unreadable", probed.error.detail));
    }
    registry.drives.set(info.name, drive);
    if (drive.superblock !== null) {
      const record = registry.ensureRecord(drive);
      const { running } = record;
      if (running !== null && !record.isChanging) await rejoinSpare(record, running, drive);
      else if (autoAssemble) await autoStart(registry, record);
    } else if (autoAssemble) await this.tellWaiting(drive);
    return ok(driveStatus(registry, drive));
  }

  /** An array that waits for a role says whether this drive, which cannot be used, has it. */
  private async tellWaiting({ claim }: Drive): Promise<void> {
    const record = claim === null ? undefined : this.registry.arrays.get(claim.arrayUuid);
    if (record !== undefined) await autoStart(this.registry, record);
  }

  private async detachDrive(
    { name, force }: CommandOf<"detach-drive">,
    autoAssemble: boolean,
  ): Answer<"detach-drive"> {
    const { registry } = this;
    const drive = registry.drives.get(name);
    if (drive === undefined) {
      return err(commandError("not-found", "unknown-drive", `there is no drive ${name}`));
    }
    const holder = registry.holderOf(drive);
    const running = holder?.running ?? null;
    if (running !== null) {
      const obstacle = force ? null : removalObstacle(running, drive);
      if (obstacle !== null) return err(obstacle);
      await running.removeDrive(drive, "the drive was removed");
    }
    if (!(await drive.hasAnswered(registry.context))) {
      const detail =
        `drive ${name} has left its array, but ${drive.outstanding} requests are still ` +
        "outstanding on it: it can be let go when they have ended";
      return err(commandError("busy", "drive-busy", detail));
    }
    const record = registry.recordOf(drive);
    registry.drives.delete(name);
    this.faults.forget(name);
    drive.device.close();
    if (record !== null) registry.dropIfEmpty(record);
    else if (autoAssemble) await this.tellWaiting(drive);
    return ok({ fd: drive.info.fd });
  }

  // Arrays -----------------------------------------------------------------------------------

  private deleteArray({
    array,
    zeroSuperblocks,
  }: CommandOf<"delete-array">): Answer<"delete-array"> {
    return this.withRecord(array, async (record) => {
      const { registry } = this;
      if (record.isChanging) return err(commandError("busy", "array-changing", "try again"));
      await stopArray(registry, record);
      record.isChanging = true;
      const failed: string[] = [];
      for (const drive of registry.drivesOf(record.uuid)) {
        if (!zeroSuperblocks) continue;
        if (!(await this.zeroSuperblock(drive))) {
          failed.push(drive.name);
          continue;
        }
        drive.probe = { kind: "none" };
        drive.failure = "";
      }
      registry.arrays.delete(record.uuid);
      registry.onRunningChanged(record);
      if (failed.length === 0) return ok(null);
      const detail = `the superblocks of ${failed.join(", ")} could not be erased`;
      return err(commandError("io", "superblock-write-failed", detail));
    });
  }

  private async zeroSuperblock(drive: Drive): Promise<boolean> {
    const { enginePool, memory } = this.registry.context;
    const address = await takeRun(this.registry.context, SLAB_BYTES);
    memory.bytes.fill(0, address, address + SUPERBLOCK_BYTES);
    const range = { offset: SUPERBLOCK_OFFSET_BYTES, bytes: SUPERBLOCK_BYTES, address };
    const answer = await this.registry.asyncIo.write(drive.io, range, { isFua: true });
    enginePool.free(address, SLAB_BYTES);
    return isDone(answer);
  }

  private async shutdown(): Answer<"shutdown"> {
    const { registry } = this;
    registry.isStopping = true;
    await Promise.all([...registry.arrays.values()].map((record) => stopArray(registry, record)));
    return ok(null);
  }

  // Scrubs and jobs --------------------------------------------------------------------------

  private startScrub({
    array,
    mode,
    limitBytesPerSecond,
    restart,
  }: CommandOf<"start-scrub">): Answer<"start-scrub"> {
    return this.withRunning(array, async (_, running) => {
      const obstacle = running.synchronizer.scrubObstacle();
      if (obstacle !== null) return err(commandError("conflict", "scrub-not-possible", obstacle));
      const limit = limitBytesPerSecond;
      return ok(running.synchronizer.startScrub({ mode, limit, restart }).status());
    });
  }

  private async pause(running: RaidArray): Promise<Result<JobStatus, CommandError>> {
    const scrub = running.synchronizer.pausableScrub();
    if (scrub === null) return err(noScrub(running));
    scrub.wish = "pause";
    await this.settled(scrub);
    return ok(scrub.status());
  }

  private async cancel(running: RaidArray): Promise<Result<null, CommandError>> {
    const scrub = running.synchronizer.cancelScrub();
    if (scrub === null) return err(noScrub(running));
    await this.settled(scrub);
    return ok(null);
  }

  private async cancelJob({ id }: CommandOf<"cancel-job">): Answer<"cancel-job"> {
    const job = this.registry.jobs.get(id);
    if (job === undefined) return err(unknownJob(id));
    if (job.state !== "running" && job.state !== "paused") {
      return err(commandError("conflict", "job-ended", `job ${id} has ended: ${job.state}`));
    }
    if (job.kind === "resync") {
      const detail =
        "a resync makes the array safe and cannot be cancelled; stop the array instead";
      return err(commandError("conflict", "resync-needed", detail));
    }
    if (job.state === "paused") {
      this.registry.byName(job.array)?.running?.synchronizer.cancelScrub();
    } else {
      job.wish = "cancel";
      await this.settled(job);
    }
    return ok(job.status());
  }

  private async settled(job: Job): Promise<void> {
    while (job.state === "running") await this.registry.context.timers.sleep(POLL_MS);
  }

  // Look-ups ---------------------------------------------------------------------------------

  private async withRecord<T>(
    array: string,
    work: (record: ArrayRecord) => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    const record = this.registry.byName(array);
    if (record === null) {
      return err(commandError("not-found", "unknown-array", `there is no array ${array}`));
    }
    return work(record);
  }

  private withRunning<T>(
    array: string,
    work: (record: ArrayRecord, running: RaidArray) => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    return this.withRecord(array, async (record) => {
      // A start or stop that is just under way comes first.
      while (record.isChanging) await this.registry.context.timers.sleep(POLL_MS);
      if (record.running === null) return err(notRunning(record));
      return work(record, record.running);
    });
  }

  private withDrive<T>(
    array: string,
    name: string,
    work: (record: ArrayRecord, drive: Drive) => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    return this.withRecord(array, async (record) => {
      const drive = this.registry.drives.get(name);
      if (drive === undefined) {
        const detail = `there is no drive ${name}: add it with POST /v1/drives first`;
        return err(commandError("not-found", "unknown-drive", detail));
      }
      return work(record, drive);
    });
  }
}

function unknownJob(id: number): CommandError {
  return commandError("not-found", "unknown-job", `there is no job ${id}`);
}

function noScrub({ name }: RaidArray): CommandError {
  return commandError("conflict", "no-scrub", `no scrub of array ${name} is running`);
}
