/**
 * A reactor that keeps plausible statuses in memory and moves no data: for tests of the control
 * thread. It answers through the same channel as the real one, in a later microtask.
 *
 * Resyncs end at once. A rebuild or scrub runs until the test calls `finishJob`.
 */

import type {
  DriveOpener,
  LookRequest,
  LookResult,
  OpenRequest,
} from "../../src/appliance/helper/drive-opener.ts";
import type { ReactorChannel } from "../../src/appliance/reactor-client.ts";
import type {
  ArrayEvent,
  ArrayStatus,
  Command,
  CommandError,
  CommandKind,
  CommandMap,
  CommandOf,
  DriveStatus,
  Envelope,
  EventKind,
  ExportStatus,
  FaultStatus,
  JobKind,
  JobState,
  JobStatus,
  MemberStatus,
  NbdAddress,
  NbdStats,
  OpenDrive,
  ReactorMessage,
} from "../../src/array/protocol.ts";
import { err, ok, type Result } from "../../src/base/result.ts";

const NO_IDENTITY = { byId: null, wwn: null, serial: null, model: null };
const STARTED_AT = "2026-01-02T03:04:05.000Z";

type Handlers = {
  [K in CommandKind]: (command: CommandOf<K>) => Result<CommandMap[K]["value"], CommandError>;
};

interface FakeDrive {
  readonly open: OpenDrive;
  status: DriveStatus;
}

export class FakeReactor implements ReactorChannel {
  readonly drives = new Map<string, FakeDrive>();
  readonly arrays = new Map<string, ArrayStatus>();
  readonly jobs = new Map<number, JobStatus>();
  nbdStats: NbdStats = {
    connections: 0,
    answers: [],
    payloadPoolBytes: 1,
    payloadPoolFreeBytes: 1,
  };
  readonly exports = new Map<string, ExportStatus>();
  readonly faults = new Map<number, FaultStatus>();
  readonly commands: Command[] = [];
  /** Names of arrays that come to life once all of these drives are attached. */
  readonly onDisk = new Map<string, readonly string[]>();
  /** By uuid: what control said of arrays. */
  readonly introduced = new Map<string, { name: string; mayStart: boolean; tuning: object }>();
  nextJobId = 1;
  /** While true, nothing is answered. */
  isHung = false;
  /** Answers the next command of this kind with this error. */
  readonly refusals = new Map<CommandKind, CommandError>();
  private listener: (message: ReactorMessage) => void = () => {};
  private nextFaultId = 1;

  post(envelope: Envelope): void {
    this.commands.push(envelope.command);
    if (this.isHung) return;
    void Promise.resolve().then(() => {
      const result = this.handle(envelope.command);
      this.listener({ kind: "reply", id: envelope.id, result });
    });
  }

  onMessage(listener: (message: ReactorMessage) => void): void {
    this.listener = listener;
    void Promise.resolve().then(() => listener({ kind: "ready" }));
  }

  emit(kind: EventKind, rest: Partial<ArrayEvent> = {}): void {
    const event: ArrayEvent = {
      kind,
      severity: "info",
      array: "raid_test",
      arrayUuid: fakeUuid("raid_test"),
      drive: null,
      job: null,
      atMs: Date.parse(STARTED_AT),
      message: `${kind} happened`,
      ...rest,
    };
    this.listener({ kind: "event", event });
  }

  finishJob(id: number, state: JobState = "done", change: Partial<JobStatus> = {}): void {
    const job = this.jobs.get(id);
    if (job === undefined) throw new Error(`no job ${id}`);
    const ended = { ...job, state, done: job.total, finishedAt: STARTED_AT, ...change };
    this.jobs.set(id, ended);
    this.listener({ kind: "job", job: ended });
  }

  private handle(command: Command): Result<CommandMap[CommandKind]["value"], CommandError> {
    const refusal = this.refusals.get(command.kind);
    if (refusal !== undefined) {
      this.refusals.delete(command.kind);
      return err(refusal);
    }
    const handler = this.handlers[command.kind] as (
      command: Command,
    ) => Result<CommandMap[CommandKind]["value"], CommandError>;
    return handler(command);
  }

  private readonly handlers: Handlers = {
    "attach-drive": ({ drive }) => this.attachDrive(drive),
    "note-content": () => ok(null),
    "detach-drive": ({ name, force }) => {
      const drive = this.drives.get(name);
      if (drive === undefined) return notFound("drive", name);
      const array = drive.status.member?.array;
      const degraded = array === undefined ? 0 : (this.arrays.get(array)?.degraded ?? 0);
      if (degraded > 0 && !force) {
        return conflict("would-lose-data", `${array} is degraded already: use ?force=true`);
      }
      if (array !== undefined) this.setMember(array, name, { state: "missing" });
      this.drives.delete(name);
      return ok({ fd: drive.open.fd });
    },
    "list-drives": () => ok([...this.drives.values()].map((drive) => drive.status)),
    "create-array": (request) => {
      if (this.arrays.has(request.name)) return conflict("array-exists", "choose another name");
      for (const drive of [...request.drives, ...request.spares]) {
        const known = this.drives.get(drive);
        if (known === undefined) return notFound("drive", drive);
        if (known.status.state !== "available") return conflict("drive-in-use", `${drive} is used`);
      }
      const { name, drives, spares, chunkBytes } = request;
      return ok({ ...this.newArray(name, drives, chunkBytes, request.uuid), spares });
    },
    "introduce-array": ({ array, name, mayStart, tuning }) => {
      this.introduced.set(array, { name, mayStart, tuning });
      const known = this.array(array);
      if (!known.ok) return this.startOnDisk(array, mayStart);
      this.arrays.delete(known.value.name);
      this.arrays.set(name, { ...known.value, ...tuning, name });
      return ok(this.arrays.get(name)!);
    },
    "write-name": ({ array, name }) => this.change(array, { nameOnDisk: name }),
    "list-arrays": () => ok([...this.arrays.values()]),
    "get-array": ({ array }) => this.array(array),
    "start-array": ({ array, readOnly }) =>
      this.change(array, { state: readOnly ? "read-only" : "clean", reason: null }),
    "stop-array": ({ array }) => {
      const clients = [...this.exports.values()].some(
        (entry) => entry.array === this.uuidOf(array) && entry.connections > 0,
      );
      if (clients) return busy("clients-connected", "disconnect the clients first");
      return this.change(array, { state: "inactive", reason: "stopped" });
    },
    "delete-array": ({ array }) => {
      const known = this.array(array);
      if (!known.ok) return known;
      this.arrays.delete(known.value.name);
      return ok(null);
    },
    "set-array": ({ kind: _kind, array, ...settings }) => this.change(array, settings),
    "add-member": ({ array, drive }) => this.addMember(array, drive),
    "check-member": ({ array, drive }) => {
      const known = this.array(array);
      if (!known.ok) return known;
      return this.drives.has(drive) ? ok(null) : notFound("drive", drive);
    },
    "fail-member": ({ array, drive }) => this.setMember(array, drive, { state: "faulty" }),
    "remove-member": ({ array, drive }) => {
      const removed = this.setMember(array, drive, { state: "missing", drive: null });
      return removed.ok ? ok(null) : removed;
    },
    "start-scrub": ({ array, mode, restart }) => {
      const known = this.array(array);
      if (!known.ok) return known;
      if (known.value.degraded > 0) return conflict("array-degraded", "replace the member first");
      const current = this.scrubOf(array);
      if (current?.state === "running") return busy("scrub-running", "a scrub is running");
      if (current?.state === "paused" && !restart) {
        const resumed: JobStatus = { ...current, state: "running" };
        this.jobs.set(current.id, resumed);
        return ok(resumed);
      }
      return ok(this.newJob(mode, array));
    },
    "pause-scrub": ({ array }) => {
      const current = this.scrubOf(array);
      if (current === undefined) return conflict("no-scrub", "no scrub is running");
      const paused: JobStatus = { ...current, state: "paused" };
      this.jobs.set(current.id, paused);
      return ok(paused);
    },
    "cancel-scrub": ({ array }) => {
      const current = this.scrubOf(array);
      if (current === undefined) return conflict("no-scrub", "no scrub is running");
      this.finishJob(current.id, "cancelled", { error: "asked for" });
      return ok(null);
    },
    "list-jobs": () => ok([...this.jobs.values()]),
    "get-job": ({ id }) => {
      const job = this.jobs.get(id);
      return job === undefined ? notFound("job", String(id)) : ok(job);
    },
    "cancel-job": ({ id }) => {
      if (!this.jobs.has(id)) return notFound("job", String(id));
      this.finishJob(id, "cancelled", { error: "asked for" });
      return ok(this.jobs.get(id)!);
    },
    "listen-nbd": ({ address }) => ok({ address: withPort(address) }),
    "adopt-nbd": () => ok(null),
    "put-export": ({ name, array, readOnly }) => {
      const created = !this.exports.has(name);
      const isServed = this.array(array).ok;
      const entry = { name, array: this.uuidOf(array), readOnly, connections: 0, isServed };
      this.exports.set(name, entry);
      return ok({ created, export: entry });
    },
    "delete-export": ({ name, force }) => {
      const entry = this.exports.get(name);
      if (entry === undefined) return notFound("export", name);
      if (entry.connections > 0 && !force) {
        return conflict("export-in-use", "clients are connected: use ?force=true");
      }
      this.exports.delete(name);
      return ok(null);
    },
    "nbd-stats": () => ok(this.nbdStats),
    "list-exports": () =>
      ok(
        [...this.exports.values()].map((entry) => {
          const array = this.array(entry.array);
          return { ...entry, isServed: array.ok && array.value.state !== "inactive" };
        }),
      ),
    "exports-settle": () => ok(null),
    "check-create": ({ name, drives }) =>
      this.arrays.has(name)
        ? conflict("array-exists", "choose another name")
        : ok({ sizeBytes: (drives.length - 1) * 1_048_576 }),
    "add-fault": ({ fault }) => {
      if (!this.drives.has(fault.drive)) return notFound("drive", fault.drive);
      const added = { ...fault, id: this.nextFaultId, injected: 0 };
      this.nextFaultId += 1;
      this.faults.set(added.id, added);
      return ok(added);
    },
    "list-faults": () => ok([...this.faults.values()]),
    "clear-faults": ({ id }) => {
      if (id === undefined) this.faults.clear();
      else if (!this.faults.delete(id)) return notFound("fault", String(id));
      return ok(null);
    },
    "hole-punched": () => ok(null),
    shutdown: () => ok(null),
  };

  private attachDrive(open: OpenDrive): Result<DriveStatus, CommandError> {
    const { name, path, sizeBytes, logicalBlockBytes } = open;
    if (this.drives.has(name)) return conflict("drive-exists", `${name} is attached`);
    const status: DriveStatus = { name, path, sizeBytes, logicalBlockBytes, state: "available" };
    this.drives.set(name, { open, status });
    for (const [array, drives] of this.onDisk) {
      if (!drives.includes(name)) continue;
      this.carry(name, array, drives.indexOf(name));
      this.startOnDisk(fakeUuid(array), this.introduced.get(fakeUuid(array))?.mayStart ?? true);
    }
    return ok(this.drives.get(name)!.status);
  }

  /** The array of `onDisk` comes to life, once it may and all its drives are attached. */
  private startOnDisk(uuid: string, mayStart: boolean): Result<ArrayStatus | null, CommandError> {
    for (const [name, drives] of this.onDisk) {
      const isComplete = drives.every((drive) => this.drives.has(drive));
      if (fakeUuid(name) !== uuid || !mayStart || !isComplete) continue;
      const label = this.introduced.get(uuid)?.name ?? name;
      if (this.arrays.has(label)) continue;
      const array = this.newArray(label, drives, 65_536, uuid);
      Object.assign(array, this.introduced.get(uuid)?.tuning);
      this.emit("array.assembled", { array: label, arrayUuid: uuid });
      return ok(array);
    }
    return ok(null);
  }

  private carry(drive: string, array: string, role: number, uuid = fakeUuid(array)): void {
    const known = this.drives.get(drive)!;
    const superblock = {
      arrayUuid: uuid,
      deviceUuid: fakeUuid(drive),
      arrayName: array,
      role,
      eventCount: 7,
    };
    known.status = { ...known.status, state: "member", member: { array, role }, superblock };
  }

  private newArray(
    name: string,
    drives: readonly string[],
    chunkBytes: number,
    uuid = fakeUuid(name),
  ): ArrayStatus {
    for (const [role, drive] of drives.entries()) this.carry(drive, name, role, uuid);
    const array = { ...fakeArray(name, drives, chunkBytes), uuid };
    this.arrays.set(name, array);
    return array;
  }

  private addMember(
    name: string,
    drive: string,
  ): Result<CommandMap["add-member"]["value"], CommandError> {
    const array = this.array(name);
    if (!array.ok) return array;
    if (!this.drives.has(drive)) return notFound("drive", drive);
    const free = array.value.members.find(
      (member) => member.state === "missing" || member.state === "faulty",
    );
    if (free === undefined) {
      const changed = this.change(name, { spares: [...array.value.spares, drive] });
      return changed.ok ? ok({ role: "spare", array: changed.value }) : changed;
    }
    const members = array.value.members.map((member) =>
      member.role === free.role ? { ...member, drive, state: "rebuilding" as const } : member,
    );
    this.change(name, { members });
    return ok({ role: "rebuild", job: this.newJob("rebuild", name) });
  }

  private newJob(kind: JobKind, array: string): JobStatus {
    const job: JobStatus = {
      id: this.nextJobId,
      kind,
      array: this.array(array).ok ? this.nameOf(array) : array,
      arrayUuid: this.uuidOf(array),
      state: "running",
      done: 0,
      total: 1_048_576,
      unit: "bytes",
      rateBytesPerSecond: 0,
      etaSeconds: null,
      error: null,
      result: {},
      startedAt: STARTED_AT,
      finishedAt: null,
    };
    this.nextJobId += 1;
    this.jobs.set(job.id, job);
    this.listener({ kind: "job", job });
    return job;
  }

  private scrubOf(array: string): JobStatus | undefined {
    return [...this.jobs.values()].find(
      (job) =>
        job.arrayUuid === this.uuidOf(array) &&
        (job.kind === "check" || job.kind === "repair") &&
        (job.state === "running" || job.state === "paused"),
    );
  }

  /** By uuid or name. */
  private array(reference: string): Result<ArrayStatus, CommandError> {
    const array = [...this.arrays.values()].find(
      ({ uuid, name }) => uuid === reference || name === reference,
    );
    return array === undefined ? notFound("array", reference) : ok(array);
  }

  private nameOf(reference: string): string {
    const array = this.array(reference);
    return array.ok ? array.value.name : reference;
  }

  private uuidOf(reference: string): string {
    const array = this.array(reference);
    return array.ok ? array.value.uuid : reference;
  }

  private change(name: string, change: Partial<ArrayStatus>): Result<ArrayStatus, CommandError> {
    const array = this.array(name);
    if (!array.ok) return array;
    const changed = { ...array.value, ...change, eventCount: array.value.eventCount + 1 };
    this.arrays.set(changed.name, changed);
    return ok(changed);
  }

  private setMember(
    name: string,
    drive: string,
    change: Partial<MemberStatus>,
  ): Result<ArrayStatus, CommandError> {
    const array = this.array(name);
    if (!array.ok) return array;
    if (!array.value.members.some((member) => member.drive === drive)) {
      return notFound("member", drive);
    }
    const members = array.value.members.map((member) =>
      member.drive === drive ? { ...member, ...change } : member,
    );
    const degraded = members.filter((member) => member.state !== "in-sync").length;
    return this.change(name, { members, degraded, state: degraded > 1 ? "failed" : "degraded" });
  }
}

/** A uuid that follows from a name. */
export function fakeUuid(name: string): string {
  const digits = Buffer.from(name).toString("hex").padEnd(32, "0").slice(0, 32);
  return digits.replaceAll(/(.{8})(?=.)/g, "$1:");
}

export function fakeArray(
  name: string,
  drives: readonly (string | null)[],
  chunkBytes = 65_536,
): ArrayStatus {
  return {
    name,
    uuid: fakeUuid(name),
    nameOnDisk: null,
    state: "clean",
    level: "raid5",
    layout: "left-symmetric",
    chunkBytes,
    sizeBytes: (drives.length - 1) * 1_048_576,
    consistencyPolicy: "resync",
    eventCount: 7,
    degraded: 0,
    reason: null,
    isHeld: false,
    startNeeds: null,
    members: drives.map((drive, role) => ({
      role,
      drive,
      state: "in-sync",
      errors: { read: 0, write: 0, fixed: 0, slow: 0, retried: 0 },
      errorKinds: {},
      io: { reads: 5, writes: 4, flushes: 3, bytesRead: 20_480, bytesWritten: 16_384 },
    })),
    spares: [],
    sync: {
      action: "idle",
      doneBytes: 0,
      totalBytes: 0,
      rateBytesPerSecond: 0,
      etaSeconds: null,
    },
    mismatchBytes: 0,
    lostBytes: 0,
    lastScrub: null,
    syncSpeedMin: 1_048_576,
    syncSpeedMax: 209_715_200,
    readDeadlineMs: 5_000,
    writeDeadlineMs: 180_000,
  };
}

/** Opens paths that a test has named; every other one is not there. */
export class FakeOpener implements DriveOpener {
  readonly present = new Set<string>();
  readonly openFds = new Map<number, OpenRequest>();
  /** Which host has the reservations. */
  holder: string | null = null;
  private nextFd = 100;

  constructor(paths: readonly string[] = []) {
    for (const path of paths) this.present.add(path);
  }

  async open(request: OpenRequest): Promise<Result<OpenDrive, CommandError>> {
    if (!this.present.has(request.path)) {
      const detail = `${request.path} cannot be opened (ENOENT): check the path`;
      return err({ kind: "not-found", code: "path-not-found", detail });
    }
    const fd = this.nextFd;
    this.nextFd += 1;
    this.openFds.set(fd, request);
    return ok({
      name: request.name,
      path: request.path,
      fd,
      sizeBytes: 1_048_576,
      logicalBlockBytes: 512,
      isDirect: request.direct,
      isReadOnly: request.readOnly,
      isRotational: false,
      hasVolatileCache: true,
      readsZeros: false,
      signature: null,
    });
  }

  async close(fd: number): Promise<void> {
    this.openFds.delete(fd);
  }

  async punchHole(): Promise<Result<null, CommandError>> {
    return ok(null);
  }

  async allocate(): Promise<Result<null, CommandError>> {
    return ok(null);
  }

  async content(): Promise<Result<string | null, CommandError>> {
    return ok(null);
  }

  async room(): Promise<null> {
    return null;
  }

  async reservation(): Promise<string | null> {
    return this.holder;
  }

  async look({ paths }: LookRequest): Promise<LookResult> {
    const found = paths
      .filter((path) => this.present.has(path))
      .map((path) => ({ path, sizeBytes: 1_048_576, member: null, ...NO_IDENTITY }));
    return { found, unanswered: [], isCut: false };
  }
}

function withPort(address: NbdAddress): NbdAddress {
  return address.kind === "tcp" && address.port === 0 ? { ...address, port: 10_809 } : address;
}

function notFound(what: string, name: string): Result<never, CommandError> {
  const detail = `there is no ${what} ${name}`;
  return err({ kind: "not-found", code: `${what}-not-found`, detail });
}

function conflict(code: string, detail: string): Result<never, CommandError> {
  return err({ kind: "conflict", code, detail });
}

function busy(code: string, detail: string): Result<never, CommandError> {
  return err({ kind: "busy", code, detail });
}
