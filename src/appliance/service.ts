/**
 * The appliance as its faces see it: drives, arrays, exports and jobs, over the reactor, the helper
 * and state.db.
 *
 * Who knows what: an array is what its members' superblocks say, so arrays are never stored here
 * and come back by themselves as their drives attach. state.db names the drives to open and the
 * exports to offer. A drive whose path cannot be opened is `missing`; it is tried again when it is
 * added again and at every `start` of an array.
 *
 * Order: the reactor accepts first, then state.db remembers. A crash in between leaves a change
 * that was not acknowledged undone after the restart, never one that was acknowledged.
 */
import type {
  ArrayEvent,
  ArrayStatus,
  CommandError,
  CommandMap,
  CommandResult,
  DriveStatus,
  ExportStatus,
  JobStatus,
  NbdAddress,
} from "../array/protocol.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { DriveOpener } from "./drive-opener.ts";
import type { EventLog } from "./event-log.ts";
import type { JobBook } from "./jobs.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { ArrayPatch, StateDb, StoredDrive, StoredExport } from "./state-db.ts";

export type Answer<T> = Promise<Result<T, CommandError>>;

export interface ExportView extends ExportStatus {
  /** Empty while the array is not there. */
  readonly uris: readonly string[];
}

export interface ApplianceParts {
  readonly client: ReactorClient;
  readonly opener: DriveOpener;
  readonly db: StateDb;
  readonly events: EventLog;
  readonly jobs: JobBook;
  readonly log: Log;
  readonly allowFaultInjection: boolean;
}

export class Appliance {
  readonly client: ReactorClient;
  readonly events: EventLog;
  readonly jobs: JobBook;
  readonly db: StateDb;
  readonly allowFaultInjection: boolean;
  private readonly opener: DriveOpener;
  private readonly log: Log;
  private nbdAddresses: readonly NbdAddress[] = [];
  /** Why a drive of state.db is not attached. */
  private readonly missing = new Map<string, string>();
  /** Names between open and attach or between detach and close: nobody else may use them. */
  private readonly busyDrives = new Set<string>();
  private phase: "starting" | "ready" | "stopping" = "starting";

  constructor(parts: ApplianceParts) {
    this.client = parts.client;
    this.opener = parts.opener;
    this.db = parts.db;
    this.events = parts.events;
    this.jobs = parts.jobs;
    this.log = parts.log;
    this.allowFaultInjection = parts.allowFaultInjection;
    this.client.onEvent((event) => this.onEvent(event));
  }

  get state(): "starting" | "ready" | "stopping" {
    return this.phase;
  }

  /** Opens the known drives, lets arrays assemble, and offers the exports again. */
  async restore(): Promise<void> {
    const drives = this.db.listDrives();
    await Promise.all(drives.map((drive) => this.attachStored(drive)));
    for (const [name, reason] of this.missing) {
      this.log.write("warn", "drive is missing", { drive: name, reason });
    }
    const arrays = await this.client.call({ kind: "list-arrays" });
    if (arrays.ok) for (const array of arrays.value) await this.applySettings(array);
    await this.offerExports(() => true);
    this.phase = "ready";
  }

  /**
   * Starts the arrays that still wait for a drive without it, where that can be done safely: a host
   * that comes up with a dead drive serves its arrays, degraded. One that is dirty too, or that was
   * stopped by the user, stays as it is.
   */
  async startLacking(): Promise<void> {
    await this.retryMissing();
    const arrays = await this.client.call({ kind: "list-arrays" });
    if (!arrays.ok || this.phase !== "ready") return;
    for (const { name, state, isHeld } of arrays.value) {
      if (state !== "inactive" || isHeld) continue;
      const request = { array: name, force: false, readOnly: false };
      const started = await this.client.call({ kind: "start-array", ...request });
      const outcome = started.ok ? "started without a drive" : started.error.detail;
      this.log.write("warn", "array was waiting for a drive", { array: name, outcome });
    }
    await this.client.call({ kind: "exports-settle" });
  }

  /** Refuses what comes from now on. The reactor drains and stops every array clean. */
  async shutdown(): Promise<void> {
    this.phase = "stopping";
    const answer = await this.client.call({ kind: "shutdown" });
    if (!answer.ok)
      this.log.write("error", "the reactor did not stop cleanly", { ...answer.error });
  }

  setNbdAddresses(addresses: readonly NbdAddress[]): void {
    this.nbdAddresses = addresses;
  }

  // Drives --------------------------------------------------------------------------------------

  async listDrives(): Answer<DriveStatus[]> {
    const attached = await this.client.call({ kind: "list-drives" });
    if (!attached.ok) return attached;
    const names = new Set(attached.value.map((drive) => drive.name));
    const rest = this.db.listDrives().filter((drive) => !names.has(drive.name));
    const all = [...attached.value, ...rest.map((drive) => this.missingStatus(drive))];
    return ok(all.sort((left, right) => (left.name < right.name ? -1 : 1)));
  }

  async getDrive(name: string): Answer<DriveStatus> {
    const drives = await this.listDrives();
    if (!drives.ok) return drives;
    const drive = drives.value.find((candidate) => candidate.name === name);
    return drive === undefined ? err(driveNotFound(name)) : ok(drive);
  }

  /** Opens and attaches a drive. The same name and path again retries one that is missing. */
  async addDrive(drive: StoredDrive): Answer<DriveStatus> {
    if (this.busyDrives.has(drive.name)) return err(driveBusy(drive.name));
    const stored = this.db.listDrives();
    const same = stored.find((known) => known.name === drive.name);
    const isRetry = same !== undefined && this.missing.has(drive.name) && same.path === drive.path;
    if (same !== undefined && !isRetry) {
      return err({
        kind: "conflict",
        code: "drive-exists",
        detail:
          `a drive named ${drive.name} is there already (${same.path}): ` +
          "choose another name, or remove that one first",
      });
    }
    const twin = stored.find((known) => known.path === drive.path && known.name !== drive.name);
    if (twin !== undefined) {
      return err({
        kind: "conflict",
        code: "path-in-use",
        detail: `${drive.path} is there already, as drive ${twin.name}`,
      });
    }
    const attached = await this.attach(drive);
    if (!attached.ok) return attached;
    this.db.putDrive(drive);
    this.missing.delete(drive.name);
    return attached;
  }

  async removeDrive(name: string, force: boolean): Answer<null> {
    if (this.busyDrives.has(name)) return err(driveBusy(name));
    this.busyDrives.add(name);
    try {
      const detached = await this.client.call({ kind: "detach-drive", name, force });
      if (detached.ok) await this.opener.close(detached.value.fd);
      else if (!this.missing.has(name) || detached.error.kind !== "not-found") return detached;
      this.db.deleteDrive(name);
      this.missing.delete(name);
      return ok(null);
    } finally {
      this.busyDrives.delete(name);
    }
  }

  /** Tries to open every missing drive again. */
  async retryMissing(): Promise<void> {
    const stored = this.db.listDrives().filter((drive) => this.missing.has(drive.name));
    await Promise.all(stored.map((drive) => this.attachStored(drive)));
  }

  // Arrays --------------------------------------------------------------------------------------

  createArray(request: CommandMap["create-array"]["request"]): Answer<ArrayStatus> {
    return this.client.call({ kind: "create-array", ...request });
  }

  listArrays(): Promise<CommandResult<"list-arrays">> {
    return this.client.call({ kind: "list-arrays" });
  }

  getArray(array: string): Answer<ArrayStatus> {
    return this.client.call({ kind: "get-array", array });
  }

  async startArray(request: CommandMap["start-array"]["request"]): Answer<ArrayStatus> {
    await this.retryMissing();
    return this.client.call({ kind: "start-array", ...request });
  }

  /** The consistency policy stands in the superblocks; the settings are remembered here. */
  async patchArray(array: string, wanted: ArrayPatch): Answer<ArrayStatus> {
    const changed = await this.client.call({ kind: "set-array", array, ...wanted });
    const { consistencyPolicy: _, ...settings } = wanted;
    if (changed.ok) this.db.putArraySettings(changed.value.uuid, settings);
    return changed;
  }

  async deleteArray(
    array: string,
    { zeroSuperblocks, force }: { zeroSuperblocks: boolean; force: boolean },
  ): Answer<null> {
    const before = await this.getArray(array);
    if (!before.ok) return before;
    const deleted = await this.client.call({ kind: "delete-array", array, zeroSuperblocks, force });
    if (!deleted.ok) return deleted;
    this.db.deleteArraySettings(before.value.uuid);
    for (const entry of this.db.listExports()) {
      if (entry.array === array) await this.deleteExport(entry.name, true);
    }
    return deleted;
  }

  async addMember(
    request: CommandMap["add-member"]["request"],
  ): Promise<CommandResult<"add-member">> {
    const added = await this.client.call({ kind: "add-member", ...request });
    if (added.ok && added.value.role === "rebuild") this.jobs.record(added.value.job);
    return added;
  }

  async startScrub(request: CommandMap["start-scrub"]["request"]): Answer<JobStatus> {
    const job = await this.client.call({ kind: "start-scrub", ...request });
    if (job.ok) this.jobs.record(job.value);
    return job;
  }

  // Exports -------------------------------------------------------------------------------------

  async listExports(): Answer<ExportView[]> {
    const offered = await this.client.call({ kind: "list-exports" });
    if (!offered.ok) return offered;
    const names = new Set(offered.value.map((entry) => entry.name));
    const waiting = this.db.listExports().filter((entry) => !names.has(entry.name));
    const views = [
      ...offered.value.map((entry) => this.exportView(entry)),
      ...waiting.map((entry) => ({ ...entry, connections: 0, isServed: false, uris: [] })),
    ];
    return ok(views.sort((left, right) => (left.name < right.name ? -1 : 1)));
  }

  nbdStats(): Promise<CommandResult<"nbd-stats">> {
    return this.client.call({ kind: "nbd-stats" });
  }

  async putExport(entry: StoredExport): Answer<{ created: boolean; view: ExportView }> {
    const put = await this.client.call({ kind: "put-export", ...entry });
    if (!put.ok) return put;
    this.db.putExport(entry);
    return ok({ created: put.value.created, view: this.exportView(put.value.export) });
  }

  async deleteExport(name: string, force: boolean): Answer<null> {
    const isStored = this.db.listExports().some((entry) => entry.name === name);
    const deleted = await this.client.call({ kind: "delete-export", name, force });
    // One that waits for its array is known here alone.
    if (!deleted.ok && !(isStored && deleted.error.kind === "not-found")) return deleted;
    this.db.deleteExport(name);
    return ok(null);
  }

  // Inside --------------------------------------------------------------------------------------

  private onEvent(event: ArrayEvent): void {
    this.events.append(event);
    if (event.kind === "array.assembled" && this.phase === "ready") {
      void this.onAssembled(event.array);
    }
  }

  private async onAssembled(name: string): Promise<void> {
    const array = await this.getArray(name);
    if (array.ok) await this.applySettings(array.value);
    await this.offerExports((entry) => entry.array === name);
  }

  private async applySettings(array: ArrayStatus): Promise<void> {
    const settings = this.db.arraySettings(array.uuid);
    if (Object.keys(settings).length === 0) return;
    const changed = await this.client.call({ kind: "set-array", array: array.name, ...settings });
    if (!changed.ok) {
      this.log.write("warn", "settings not applied", { array: array.name, ...changed.error });
    }
  }

  private async offerExports(isWanted: (entry: StoredExport) => boolean): Promise<void> {
    const offered = await this.client.call({ kind: "list-exports" });
    const names = new Set(offered.ok ? offered.value.map((entry) => entry.name) : []);
    for (const entry of this.db.listExports()) {
      if (names.has(entry.name) || !isWanted(entry)) continue;
      const put = await this.client.call({ kind: "put-export", ...entry });
      if (put.ok) continue;
      this.log.write("warn", "export waits for its array", { export: entry.name, ...put.error });
    }
  }

  private async attachStored(drive: StoredDrive): Promise<void> {
    const attached = await this.attach(drive);
    if (attached.ok) this.missing.delete(drive.name);
    else this.missing.set(drive.name, attached.error.detail);
  }

  private async attach(drive: StoredDrive): Answer<DriveStatus> {
    if (this.busyDrives.has(drive.name)) return err(driveBusy(drive.name));
    this.busyDrives.add(drive.name);
    try {
      const opened = await this.opener.open({ ...drive, readOnly: false });
      if (!opened.ok) return opened;
      const attached = await this.client.call({ kind: "attach-drive", drive: opened.value });
      if (!attached.ok) await this.opener.close(opened.value.fd);
      return attached;
    } finally {
      this.busyDrives.delete(drive.name);
    }
  }

  private missingStatus(drive: StoredDrive): DriveStatus {
    const reason = this.missing.get(drive.name) ?? "not open yet";
    const status = { name: drive.name, path: drive.path, sizeBytes: 0, logicalBlockBytes: 0 };
    return { ...status, state: "missing", detail: reason };
  }

  private exportView(entry: ExportStatus): ExportView {
    const uris = this.nbdAddresses.map((address) => nbdUri(address, entry.name));
    // The reactor knows the uuid; what is shown is the name that the export was made with.
    const stored = this.db.listExports().find(({ name }) => name === entry.name);
    return { ...entry, array: stored?.array ?? entry.array, uris };
  }
}

/** Names are `[a-zA-Z0-9._-]`, so only the socket's path may need escaping. */
export function nbdUri(address: NbdAddress, exportName: string): string {
  if (address.kind === "unix") {
    const path = encodeURIComponent(address.path).replaceAll("%2F", "/");
    return `nbd+unix:///${exportName}?socket=${path}`;
  }
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  const scheme = address.isSecure === true ? "nbds" : "nbd";
  return `${scheme}://${host}:${address.port}/${exportName}`;
}

function driveNotFound(name: string): CommandError {
  const detail = `there is no drive named ${name}; GET /v1/drives lists those that are known`;
  return { kind: "not-found", code: "drive-not-found", detail };
}

function driveBusy(name: string): CommandError {
  const detail = `drive ${name} is being opened or closed at this moment; try again`;
  return { kind: "busy", code: "drive-busy", detail };
}
