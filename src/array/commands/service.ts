/**
 * The commands of the control thread, carried out: drives, arrays, members, scrubs, jobs, faults.
 *
 * Commands run concurrently; each gets one answer. One that changes something holds its drives and
 * its array while it runs (leases.ts); what only asks holds nothing.
 */
import { inBackground } from "../../base/background.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { ReactorContext } from "../context.ts";
import { Drive } from "../drives/drive.ts";
import { eraseSuperblock } from "../drives/erase-superblock.ts";
import type { ArrayFront } from "../front.ts";
import type { Job } from "../jobs.ts";
import type { CommandError, CommandKind, CommandMap, CommandOf, JobStatus } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, arrayKey, commandError, driveKey, Registry } from "../registry.ts";
import { holderText, isShut } from "../running/fence.ts";
import { takeBack } from "../start/returning-member.ts";
import { autoStart, startArray, stopArray } from "../start/start.ts";
import { CommandDoor } from "./command-door.ts";
import { checkCreate, createArray, newUuid } from "./create.ts";
import { FaultBook } from "./faults.ts";
import {
  addMember,
  checkMember,
  failMember,
  notRunning,
  rejoinSpare,
  removalObstacle,
  removeMember,
} from "./members.ts";
import { writeName } from "./names.ts";
import { changePolicy } from "./policy.ts";
import { arrayStatus, driveStatus } from "./status.ts";

type Answer<K extends CommandKind> = Promise<Result<CommandMap[K]["value"], CommandError>>;

/** The commands that are about exports are carried out above this layer. */
export type ArrayCommandKind = Exclude<
  CommandKind,
  | "listen-nbd"
  | "adopt-nbd"
  | "nbd-stats"
  | "put-export"
  | "delete-export"
  | "list-exports"
  | "exports-settle"
>;
export type ArrayCommand = { [K in ArrayCommandKind]: CommandOf<K> }[ArrayCommandKind];

const POLL_MS = 5;
/** A command waits so long for those before it. */
const LEASE_WAIT_MS = 60_000;

export class ArrayService {
  readonly registry: Registry;
  private readonly faults: FaultBook;
  private readonly door: CommandDoor;
  private readonly handlers: { [K in ArrayCommandKind]: (command: CommandOf<K>) => Answer<K> };

  constructor(context: ReactorContext, options: { autoAssemble: boolean }) {
    const registry = new Registry(context, { startsByThemselves: options.autoAssemble });
    this.registry = registry;
    this.faults = new FaultBook(registry);
    this.door = new CommandDoor(registry);
    this.handlers = {
      "attach-drive": (command) => this.attachDrive(command),
      "note-content": async ({ name, signature }) => {
        const drive = registry.drives.get(name);
        if (drive !== undefined) drive.signature = signature;
        return ok(null);
      },
      "detach-drive": (command) => this.detachDrive(command),
      "list-drives": async () =>
        ok([...registry.drives.values()].map((drive) => driveStatus(registry, drive))),
      "create-array": (command) => this.createArray(command),
      "check-create": async (command) => checkCreate(registry, command),
      "list-arrays": async () =>
        ok([...registry.arrays.values()].map((record) => arrayStatus(registry, record))),
      "get-array": async ({ array }) => {
        const record = registry.find(array);
        return record === null ? err(unknownArray(array)) : ok(arrayStatus(registry, record));
      },
      "introduce-array": (command) => this.introduceArray(command),
      "write-name": (command) =>
        this.withRunning(command, async (record, running) => {
          const isDurable = await writeName(running, command.name);
          return isDurable ? ok(arrayStatus(registry, record)) : err(notWritten(record));
        }),
      "start-array": (command) =>
        this.withRecord(command, async (record) => {
          record.isHeld = false;
          record.mayStart = true;
          const { force, readOnly } = command;
          const started = await startArray(registry, record, { force, readOnly });
          return started.ok ? ok(arrayStatus(registry, record)) : started;
        }),
      "stop-array": (command) =>
        this.withRunning(command, async (record) => {
          record.isHeld = true;
          await stopArray(registry, record);
          const status = arrayStatus(registry, record);
          // All its drives may have been removed while it ran.
          registry.dropIfEmpty(record);
          return ok(status);
        }),
      "delete-array": (command) => this.deleteArray(command),
      "set-array": (command) =>
        this.withRecord(command, async (record) => {
          const { kind: _kind, array: _array, consistencyPolicy, ...tuning } = command;
          if (consistencyPolicy !== undefined) {
            const changed = await changePolicy(record, consistencyPolicy);
            if (!changed.ok) return changed;
          }
          Object.assign(record.tuning, tuning);
          return ok(arrayStatus(registry, record));
        }),
      "add-member": (command) =>
        this.withDrive(command, (record, drive) =>
          addMember(registry, record, drive, { force: command.force }),
        ),
      "check-member": (command) =>
        this.withDrive(command, async (record, drive) =>
          checkMember(registry, record, drive, { force: command.force }),
        ),
      "fail-member": (command) =>
        this.withDrive(command, (record, drive) => failMember(registry, record, drive)),
      "remove-member": (command) =>
        this.withDrive(command, (record, drive) => removeMember(record, drive)),
      "start-scrub": (command) => this.startScrub(command),
      "pause-scrub": (command) => this.withRunning(command, (_, running) => this.pause(running)),
      "cancel-scrub": (command) => this.withRunning(command, (_, running) => this.cancel(running)),
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
      return Promise.resolve(err(STOPPING));
    }
    const work = (): Answer<K> => this.handlers[command.kind](command);
    return this.door.pass(command as unknown as ArrayCommand, work);
  }

  /** Null where the array does not run, and until its start is through. */
  frontOf(array: string): ArrayFront | null {
    const record = this.registry.find(array);
    // One that broke has its front still, which answers EIO.
    const running = record?.running ?? record?.broken?.array ?? null;
    return running?.hasStarted === true ? running.front : null;
  }

  // Drives -----------------------------------------------------------------------------------

  private attachDrive({ drive: info }: CommandOf<"attach-drive">): Answer<"attach-drive"> {
    const { registry } = this;
    const holder = `adding drive ${info.name}`;
    return this.holding(holder, [driveKey(info.name)], async () => {
      if (registry.drives.has(info.name)) {
        const detail = `there is a drive ${info.name} already`;
        return err(commandError("conflict", "name-in-use", detail));
      }
      const drive = new Drive(registry.context, registry.router, info);
      drive.io.onFenced = () => registry.fenced(drive);
      registry.passing.add(drive);
      const probed = await registry.probe(drive);
      if (!probed.ok) {
        inBackground(this.letGo(drive), null);
        if (isShut(drive)) return err(commandError("conflict", "fenced", holderText(drive)));
        return err(commandError("io", "drive-unreadable", probed.error.detail));
      }
      registry.passing.delete(drive);
      registry.drives.set(info.name, drive);
      const keys = drive.claim === null ? [] : [arrayKey(drive.claim.arrayUuid)];
      return this.holding(holder, keys, async () => {
        await this.join(drive);
        return ok(driveStatus(registry, drive));
      });
    });
  }

  /** It is no drive here; its requests have their places until they are answered. */
  private async letGo(drive: Drive): Promise<void> {
    const { context, passing } = this.registry;
    while (!(await drive.hasAnswered(context)));
    passing.delete(drive);
    drive.device.close();
  }

  /** Brings a drive together with the array that it says that it belongs to. */
  private async join(drive: Drive): Promise<void> {
    const { registry } = this;
    if (drive.superblock === null) {
      await this.tellWaiting(drive);
      return;
    }
    // Its array was started with it while this waited for that.
    if (registry.holderOf(drive) !== null) return;
    const record = registry.ensureRecord(drive);
    const { running } = record;
    if (running === null) await autoStart(registry, record);
    else if (!(await rejoinSpare(running, drive))) await takeBack(registry, running, drive);
  }

  /** An array that waits for a role says whether this drive, which cannot be used, has it. */
  private async tellWaiting({ claim }: Drive): Promise<void> {
    const record = claim === null ? undefined : this.registry.arrays.get(claim.arrayUuid);
    if (record !== undefined) await autoStart(this.registry, record);
  }

  private detachDrive(command: CommandOf<"detach-drive">): Answer<"detach-drive"> {
    const { registry } = this;
    const { name } = command;
    const holder = `removing drive ${name}`;
    return this.holding(holder, [driveKey(name)], async () => {
      const drive = registry.drives.get(name);
      if (drive === undefined) {
        return err(commandError("not-found", "unknown-drive", `there is no drive ${name}`));
      }
      return this.holding(holder, registry.arrayKeysOf(drive), () => this.detach(drive, command));
    });
  }

  private async detach(
    drive: Drive,
    { name, force }: CommandOf<"detach-drive">,
  ): Answer<"detach-drive"> {
    const { registry } = this;
    const running = registry.holderOf(drive)?.running ?? null;
    if (running !== null) {
      const obstacle = force ? null : removalObstacle(running, drive);
      if (obstacle !== null) return err(obstacle);
      const isMember =
        running.roleOf(drive) >= 0 && running.members.isPresent(running.roleOf(drive));
      // One that had failed is only let go: it may come back.
      if (isMember) running.dismissed.add(drive.superblock!.deviceUuid);
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
    else await this.tellWaiting(drive);
    return ok({ fd: drive.info.fd });
  }

  // Arrays -----------------------------------------------------------------------------------

  private createArray(command: CommandOf<"create-array">): Answer<"create-array"> {
    const { registry } = this;
    const names = [...command.drives, ...command.spares];
    const holder = `creating array ${command.name}`;
    return this.holding(holder, names.map(driveKey), () => {
      const drives = names.flatMap((name) => registry.drives.get(name) ?? []);
      const uuid = command.uuid ?? newUuid(registry);
      // Its own, too: it can be named as soon as it is begun.
      const keys = [arrayKey(uuid), ...drives.flatMap((drive) => registry.arrayKeysOf(drive))];
      return this.holding(holder, keys, async () => {
        const created = await createArray(registry, { ...command, uuid });
        return created.ok ? ok(arrayStatus(registry, created.value)) : created;
      });
    });
  }

  private introduceArray(command: CommandOf<"introduce-array">): Answer<"introduce-array"> {
    const { registry } = this;
    const { array, kind: _kind, ...introduction } = command;
    const holder = `introducing array ${introduction.name}`;
    return this.holding(holder, [arrayKey(array)], async () => {
      const record = registry.introduce(array, introduction);
      if (record === null) return ok(null);
      await autoStart(registry, record);
      return ok(arrayStatus(registry, record));
    });
  }

  private deleteArray(command: CommandOf<"delete-array">): Answer<"delete-array"> {
    return this.withRecord(command, async (record) => {
      const { registry } = this;
      const held = registry.drivesOf(record.uuid).find(isShut);
      if (command.zeroSuperblocks && held !== undefined) {
        const detail = `${holderText(held)}: leave its superblocks, and those of its fellows, alone`;
        return err(commandError("conflict", "fenced", detail));
      }
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
    registry.isStopping = true;
    registry.leases.refuseWaiting();
    // One that breaks on the way keeps nobody from going.
    const stops = [...registry.arrays.values()].map((record) =>
      this.door.within(record, async () => {
        const lease = await registry.leases.take([arrayKey(record.uuid)], "stopping");
        await stopArray(registry, record);
        lease?.release();
      }),
    );
    await Promise.all(stops);
    return ok(null);
  }

  // Scrubs and jobs --------------------------------------------------------------------------

  private startScrub(command: CommandOf<"start-scrub">): Answer<"start-scrub"> {
    return this.withRunning(command, async (_, running) => {
      const obstacle = running.synchronizer.scrubObstacle();
      if (obstacle !== null) return err(commandError("conflict", "scrub-not-possible", obstacle));
      const { mode, limitBytesPerSecond: limit, restart } = command;
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

  private cancelJob({ id }: CommandOf<"cancel-job">): Answer<"cancel-job"> {
    const job = this.registry.jobs.get(id);
    if (job === undefined) return Promise.resolve(err(unknownJob(id)));
    const holder = `cancelling job ${id}`;
    return this.holding(holder, [arrayKey(job.arrayUuid)], () => this.cancelHeldJob(job));
  }

  private async cancelHeldJob(job: Job): Answer<"cancel-job"> {
    const { id } = job;
    if (job.state !== "running" && job.state !== "paused") {
      return err(commandError("conflict", "job-ended", `job ${id} has ended: ${job.state}`));
    }
    if (job.kind === "resync") {
      const detail =
        "a resync makes the array safe and cannot be cancelled; stop the array instead";
      return err(commandError("conflict", "resync-needed", detail));
    }
    if (job.state === "paused") {
      this.registry.arrays.get(job.arrayUuid)?.running?.synchronizer.cancelScrub();
    } else {
      job.wish = "cancel";
      await this.settled(job);
    }
    return ok(job.status());
  }

  private async settled(job: Job): Promise<void> {
    while (job.state === "running") await this.registry.context.timers.sleep(POLL_MS);
  }

  // Look-ups and leases ----------------------------------------------------------------------

  /** Runs `work` while nothing else is done with these drives or arrays. */
  private async holding<T>(
    holder: string,
    keys: readonly string[],
    work: () => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    const { leases, context } = this.registry;
    let timer = 0;
    let isLate = false;
    const lease = await leases.take(keys, holder, (giveUp) => {
      timer = context.timers.scheduleAfter(LEASE_WAIT_MS, () => {
        isLate = true;
        giveUp();
      });
    });
    if (timer !== 0) context.timers.cancel(timer);
    if (lease === null) return err(isLate ? busyWith(leases.holderOf(keys)) : STOPPING);
    try {
      return await work();
    } finally {
      lease.release();
    }
  }

  private withRecord<T>(
    command: { readonly kind: string; readonly array: string },
    work: (record: ArrayRecord) => Promise<Result<T, CommandError>>,
    drives: readonly string[] = [],
  ): Promise<Result<T, CommandError>> {
    const { registry } = this;
    const holder = `${command.kind} of ${command.array}`;
    return this.holding(holder, drives.map(driveKey), async () => {
      const { uuid } = registry.find(command.array) ?? { uuid: command.array };
      const held = drives.flatMap((name) => registry.drives.get(name) ?? []);
      const keys = [arrayKey(uuid), ...held.flatMap((drive) => registry.arrayKeysOf(drive))];
      return this.holding(holder, keys, async () => {
        // It may have gone while the command waited.
        const record = registry.arrays.get(uuid);
        return record === undefined ? err(unknownArray(command.array)) : work(record);
      });
    });
  }

  private withRunning<T>(
    command: { readonly kind: string; readonly array: string },
    work: (record: ArrayRecord, running: RaidArray) => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    return this.withRecord(command, async (record) =>
      record.running === null ? err(notRunning(record)) : work(record, record.running),
    );
  }

  private withDrive<T>(
    command: { readonly kind: string; readonly array: string; readonly drive: string },
    work: (record: ArrayRecord, drive: Drive) => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    const { drive: name } = command;
    const withDrive = async (record: ArrayRecord): Promise<Result<T, CommandError>> => {
      const drive = this.registry.drives.get(name);
      if (drive === undefined) {
        const detail = `there is no drive ${name}: add it with POST /v1/drives first`;
        return err(commandError("not-found", "unknown-drive", detail));
      }
      return work(record, drive);
    };
    return this.withRecord(command, withDrive, [name]);
  }
}

const STOPPING: CommandError = commandError("stopping", "stopping", "the daemon is stopping");

function unknownArray(array: string): CommandError {
  return commandError("not-found", "unknown-array", `there is no array ${array}`);
}

function busyWith(holder: string | null): CommandError {
  const detail = `waited ${LEASE_WAIT_MS / 1000} s for another command (${holder ?? "?"}): try again`;
  return commandError("busy", "command-under-way", detail);
}

function notWritten({ name }: ArrayRecord): CommandError {
  const detail = `the superblocks of array ${name} cannot be written; check its drives`;
  return commandError("io", "superblock-write-failed", detail);
}

function unknownJob(id: number): CommandError {
  return commandError("not-found", "unknown-job", `there is no job ${id}`);
}

function noScrub({ name }: RaidArray): CommandError {
  return commandError("conflict", "no-scrub", `no scrub of array ${name} is running`);
}
