/**
 * Exports as block devices of the host's own kernel (/dev/nbd0): attached when asked for, at each
 * start where that is remembered, and kept in touch while the daemon comes and goes.
 *
 * | its array    | the device                  | then                                         |
 * |--------------|-----------------------------|----------------------------------------------|
 * | does not run |                             | nothing: requests wait in the kernel         |
 * | runs         | attached, since before us   | it gets all its connections anew             |
 * |              | attached, some are missing  | it gets those                                |
 * |              | remembered, not attached    | it is attached; told once where that fails   |
 * | has no export by that name any more | attached here | it is detached: nobody would answer |
 * | a clean stop | attached, nobody has it     | it is detached until the next start          |
 * |              | mounted, or the like        | it stays, and loses its connections          |
 *
 * What is attached to what only the kernel knows (`backend`), across every crash of ours. state.db
 * has the wish alone, and what a stop has detached: a device that stayed would hold up whoever
 * syncs it behind us, as a power-off does, for as long as requests wait for a server.
 *
 * Nobody tells that a connection has ended, so it is looked at now and then, by the number of the
 * export's clients: others among them may hide one that is missing, but not all, since an array that
 * begins to run gives its device all of them.
 */
import type { ArrayEvent, CommandError } from "../array/protocol.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import {
  backendOf,
  deviceInUse,
  type NbdDevice,
  type NbdDriver,
  NO_DRIVER,
  NO_PERMISSION,
} from "./attach/nbd-driver.ts";
import { Lookout } from "./lookout.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { Alarms } from "./state/alarms.ts";
import type { ArrayBook } from "./state/array-book.ts";
import type { CallOrder } from "./state/call-order.ts";
import type { Effects } from "./state/effects.ts";
import type { EventLog } from "./state/event-log.ts";
import {
  deviceToBe,
  type ExportBook,
  type ExportView,
  exportNotFound,
} from "./state/export-book.ts";
import type { StoredExport } from "./state/state.ts";
import type { StateStore } from "./state/state-store.ts";

type Answer<T> = Promise<Result<T, CommandError>>;
type BoundExport = StoredExport & { readonly arrayUuid: string };

/** Of one device: as many as its requests are spread over. */
export const NBD_CONNECTIONS = 4;
/** A free device is looked for and taken by one call at a time. */
const DEVICES = "nbd-devices";

export class Attachments {
  readonly lookout: Lookout;
  private readonly parts: {
    readonly client: ReactorClient;
    readonly driver: NbdDriver;
    readonly exports: ExportBook;
    readonly arrays: ArrayBook;
    readonly store: StateStore;
    readonly calls: CallOrder;
    readonly events: EventLog;
    readonly alarms: Alarms;
    readonly log: Log;
  };
  /** Devices that have their connections since the array began to run, by `backend`. */
  private readonly joined = new Map<string, number>();
  private isWarned = false;
  /** What was told last of an export that could not be attached. */
  private readonly told = new Map<string, string>();

  constructor(parts: Attachments["parts"]) {
    this.parts = parts;
    this.lookout = new Lookout(parts.alarms, () => this.lookOnce());
  }

  onEvent({ kind, arrayUuid }: ArrayEvent): void {
    // With its connections the kernel gets the size.
    if (kind === "array.grown" && arrayUuid !== null) this.leave(arrayUuid);
    this.lookout.soon();
  }

  /**
   * Before the reactor stops: detaches what nobody has. What somebody has waits for the next run.
   *
   * What a server answers that stops (ESHUTDOWN) is an error of the disk
   * to the kernel, and to the file system on it: its connections end without an answer. What they
   * still wanted is sent again to the next run.
   */
  async release(): Promise<void> {
    this.lookout.stop();
    await this.lookout.now();
    const bound = [...this.parts.store.state.exports.values()].filter(isBound);
    await Promise.all(
      bound.map(async (entry) => {
        const device = this.deviceOf(entry);
        if (device === null || (await this.isDetachedToStop(entry, device))) return;
        await this.parts.client.call({ kind: "delete-export", name: entry.name, force: true });
      }),
    );
  }

  private async isDetachedToStop(before: BoundExport, device: NbdDevice): Promise<boolean> {
    const { driver, store, exports, log } = this.parts;
    const view = await exports.get(before.name);
    // Without its array it has no connections, and to sync it would take until there are some.
    if (!driver.isNbdPermitted() || !view.ok || !view.value.isServed) return false;
    const { index, path } = device;
    const entry = { ...before, detachedAtStop: path };
    const recorded = await store.commit({ kind: "put-export", entry });
    if (!recorded.ok) return false;
    const done = await driver.disconnectNbd({ index, force: false, isDry: false });
    if (done.ok) return true;
    store.note({ kind: "put-export", entry: before });
    const { detail: reason } = done.error;
    log.write("warn", "a device stays attached over this stop", { device: path, reason });
    return false;
  }

  /** `device` null: the first that is free. It is there already: nothing is done to it. */
  async attach(
    name: string,
    { device, atStart }: { readonly device: string | null; readonly atStart: boolean },
    effects: Effects,
  ): Answer<ExportView> {
    const attached = await this.holding(name, async () => {
      const entry = this.boundExport(name);
      if (entry === null) return err(exportNotFound(name));
      const found = this.choose(entry, device);
      if (!found.ok) return found;
      const { path } = found.value;
      const work = () => this.connect(entry, found.value, effects.isDry);
      const done = await this.remembering({ entry, atStart: atStart ? path : null, effects }, work);
      return done.ok ? ok(path) : done;
    });
    if (!attached.ok) return attached;
    effects.have(() => this.lookout.soon());
    const view = await this.parts.exports.get(name);
    if (!view.ok || !effects.isDry) return view;
    return ok({ ...view.value, attachment: { device: attached.value, isAttached: true, atStart } });
  }

  /** Also takes back that it is attached at each start. */
  async detach(name: string, force: boolean, effects: Effects): Answer<null> {
    return this.holding(name, async () => {
      const entry = this.boundExport(name);
      if (entry === null) return err(exportNotFound(name));
      const device = this.deviceOf(entry);
      if (device === null && deviceToBe(entry) === null) return err(notAttached(name));
      return this.remembering({ entry, atStart: null, effects }, async () => {
        if (device === null) return ok(null);
        if (!this.parts.driver.isNbdPermitted()) return err(NO_PERMISSION);
        const { index } = device;
        const { isDry } = effects;
        const done = await this.parts.driver.disconnectNbd({ index, force, isDry });
        if (done.ok) effects.have(() => this.joined.delete(backendOf(entry)));
        return done;
      });
    });
  }

  /** As a document of the configuration wants it: it is attached when its array runs. */
  async remember(name: string, atStart: string | null, effects: Effects): Answer<null> {
    const recorded = await this.holding(name, async () => {
      const entry = this.boundExport(name);
      // A dry run has not made it.
      if (entry === null) return effects.isDry ? ok(null) : err(exportNotFound(name));
      return this.remembering({ entry, atStart, effects }, () => Promise.resolve(ok(null)));
    });
    effects.have(() => this.lookout.soon());
    return recorded;
  }

  private async lookOnce(): Promise<void> {
    await this.letGo();
    const entries = [...this.parts.store.state.exports.values()];
    const kept = entries.filter(
      (entry) => isBound(entry) && (deviceToBe(entry) !== null || this.deviceOf(entry) !== null),
    );
    for (const { name } of kept) await this.holding(name, () => this.keep(name));
    if (kept.length > 0) this.lookout.later();
  }

  /** Detaches what has no export any more. */
  private async letGo(): Promise<void> {
    const { store, driver } = this.parts;
    const wanted = new Set([...store.state.exports.values()].filter(isBound).map(backendOf));
    for (const [backend, index] of this.joined) {
      if (wanted.has(backend)) continue;
      this.joined.delete(backend);
      const isOurs = driver
        .nbdDevices()
        .some((one) => one.index === index && one.backend === backend);
      if (isOurs) await driver.disconnectNbd({ index, force: true, isDry: false });
    }
  }

  private async keep(name: string): Answer<null> {
    const entry = this.boundExport(name);
    const view = await this.parts.exports.get(name);
    if (entry === null || !view.ok) return ok(null);
    const backend = backendOf(entry);
    if (!view.value.isServed) {
      this.joined.delete(backend);
      return ok(null);
    }
    const device = this.deviceOf(entry);
    const path = deviceToBe(entry);
    const missing = NBD_CONNECTIONS - (this.joined.has(backend) ? view.value.connections : 0);
    if (device !== null && missing <= 0) return ok(null);
    if (device === null && path === null) return ok(null);
    const kept =
      device === null
        ? await this.attachAgain(entry, path!)
        : await this.join(entry, device, { count: missing, isNew: false });
    this.tell(entry, kept);
    return kept;
  }

  private async attachAgain(entry: BoundExport, path: string): Answer<null> {
    const found = this.choose(entry, path);
    if (!found.ok) return found;
    const done = await this.connect(entry, found.value, false);
    if (done.ok && entry.detachedAtStop !== null) {
      const { store } = this.parts;
      store.note({ kind: "put-export", entry: { ...entry, detachedAtStop: null } });
    }
    return done;
  }

  private async connect(entry: BoundExport, device: NbdDevice, isDry: boolean): Answer<null> {
    if (device.backend === backendOf(entry)) return ok(null);
    const view = await this.parts.exports.get(entry.name);
    if (!view.ok) return view;
    if (!view.value.isServed) return err(notServed(view.value));
    if (!this.parts.driver.isNbdPermitted()) {
      return err(withUri(NO_PERMISSION, this.parts.exports.localUri(entry.name)));
    }
    if (isDry) return ok(null);
    const joined = await this.join(entry, device, { count: NBD_CONNECTIONS, isNew: true });
    if (!joined.ok || this.deviceOf(entry) !== null) return joined;
    // It would be nobody's after a restart.
    this.joined.delete(backendOf(entry));
    const { index } = device;
    await this.parts.driver.disconnectNbd({ index, force: true, isDry: false });
    return err(withUri(TOO_OLD, this.parts.exports.localUri(entry.name)));
  }

  private async join(
    entry: BoundExport,
    { index }: NbdDevice,
    { count, isNew }: { readonly count: number; readonly isNew: boolean },
  ): Answer<null> {
    const backend = backendOf(entry);
    const exportName = entry.name;
    const { socketPath } = this.parts.exports;
    const request = { index, socketPath, exportName, backend, count, isNew };
    const joined = await this.parts.driver.connectNbd(request);
    if (!joined.ok) return joined;
    this.joined.set(backend, index);
    this.warnOfMemory();
    return joined;
  }

  /** What is remembered is changed before the kernel is asked, and taken back where it refuses. */
  private async remembering(
    wish: {
      readonly entry: BoundExport;
      readonly atStart: string | null;
      readonly effects: Effects;
    },
    work: () => Answer<null>,
  ): Answer<null> {
    const { entry: before, atStart: attachAtStart, effects } = wish;
    if (before.attachAtStart === attachAtStart && before.detachedAtStop === null) return work();
    const entry = { ...before, attachAtStart, detachedAtStop: null };
    const recorded = await effects.commit({ kind: "put-export", entry });
    if (!recorded.ok) return recorded;
    const done = await work();
    if (!done.ok) effects.note({ kind: "put-export", entry: before });
    return done;
  }

  /** The device that it is attached to, that was named, or that is free. */
  private choose(entry: BoundExport, path: string | null): Result<NbdDevice, CommandError> {
    const { driver, exports } = this.parts;
    const devices = driver.nbdDevices();
    if (devices.length === 0) return err(withUri(NO_DRIVER, exports.localUri(entry.name)));
    const own = this.deviceOf(entry);
    if (own !== null) {
      return path === null || path === own.path ? ok(own) : err(attachedTo(entry.name, own.path));
    }
    const others = this.reservedPaths(entry);
    if (path === null) {
      const free = devices.find((one) => one.isFree && !others.has(one.path));
      return free === undefined ? err(noFreeDevice(devices.length)) : ok(free);
    }
    const named = devices.find((one) => one.path === path);
    if (named === undefined) return err(noSuchDevice(path, devices.length));
    const other = others.get(path);
    if (other !== undefined) {
      return err(deviceInUse(path, `export ${other} is attached to it at each start`));
    }
    if (named.isFree) return ok(named);
    return err(deviceInUse(path, "something is attached to it; name none for one that is free"));
  }

  /** Devices that other exports are attached to at each start: which by its path. */
  private reservedPaths({ name }: StoredExport): Map<string, string> {
    const others = [...this.parts.store.state.exports.values()].flatMap(
      (entry): [string, string][] =>
        entry.name === name || deviceToBe(entry) === null ? [] : [[deviceToBe(entry)!, entry.name]],
    );
    return new Map(others);
  }

  private deviceOf(entry: BoundExport): NbdDevice | null {
    const backend = backendOf(entry);
    return this.parts.driver.nbdDevices().find((device) => device.backend === backend) ?? null;
  }

  private boundExport(name: string): BoundExport | null {
    const entry = this.parts.store.state.exports.get(name);
    return entry !== undefined && isBound(entry) ? entry : null;
  }

  private holding<T>(name: string, work: () => Answer<T>): Answer<T> {
    return this.parts.calls.holding([`export:${name}`, DEVICES], work);
  }

  private leave(arrayUuid: string): void {
    for (const entry of this.parts.store.state.exports.values()) {
      if (isBound(entry) && entry.arrayUuid === arrayUuid) this.joined.delete(backendOf(entry));
    }
  }

  /** Once. */
  private warnOfMemory(): void {
    const { driver, log } = this.parts;
    if (this.isWarned || driver.isIoFlusher()) return;
    this.isWarned = true;
    log.write("warn", "an attached device may hang where memory is short", {
      reason: "this process is no I/O flusher (prctl): that needs CAP_SYS_RESOURCE, and Linux 5.6",
    });
  }

  /** Once for each reason. */
  private tell({ name, arrayUuid }: BoundExport, kept: Result<null, CommandError>): void {
    const { events, arrays, alarms } = this.parts;
    if (kept.ok) this.told.delete(name);
    if (kept.ok || this.told.get(name) === kept.error.detail) return;
    this.told.set(name, kept.error.detail);
    events.append({
      ...{ kind: "export.not-attached", severity: "warning", drive: null, job: null },
      ...{ array: arrays.labelOf(arrayUuid), arrayUuid, atMs: alarms.wallMs() },
      message: `export ${name} is not attached to its device: ${kept.error.detail}`,
    });
  }
}

/** Both for programs and for people. */
function withUri(error: CommandError, uri: string): CommandError {
  return { ...error, uri, detail: `${error.detail} (${uri})` };
}

const TOO_OLD: CommandError = {
  kind: "unimplemented",
  code: "nbd-driver-too-old",
  detail:
    "this kernel does not keep whose a device is (Linux 5.14 does): open the export by its URI",
};

function isBound(entry: StoredExport): entry is BoundExport {
  return entry.arrayUuid !== null;
}

function notAttached(name: string): CommandError {
  const detail = `export ${name} is attached to no device of this host`;
  return { kind: "not-found", code: "not-attached", detail };
}

function notServed({ name, array }: ExportView): CommandError {
  const detail = `array ${array} of export ${name} does not run: start it first`;
  return { kind: "conflict", code: "export-not-served", detail };
}

function attachedTo(name: string, path: string): CommandError {
  const detail = `export ${name} is attached to ${path} already: detach it first`;
  return { kind: "conflict", code: "already-attached", detail };
}

function noFreeDevice(count: number): CommandError {
  const detail =
    `something is attached to each of the ${count} devices: detach one, or load the driver with ` +
    "more of them (`modprobe nbd nbds_max=N`)";
  return { kind: "conflict", code: "no-free-device", detail };
}

function noSuchDevice(path: string, count: number): CommandError {
  const detail =
    `there is no ${path}: the driver has /dev/nbd0 to /dev/nbd${count - 1}; name one of these, or ` +
    "none for the first that is free";
  return { kind: "not-found", code: "device-not-found", detail };
}
