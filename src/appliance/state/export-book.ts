/**
 * The exports: which array is offered under which name.
 *
 * An export refers to its array's UUID, and serves that array or nothing, whatever the array is
 * called and whether it is there. The reactor is told of every export before any drive is attached,
 * so that a client that comes early waits instead of being refused.
 */
import type { CommandError, ExportAllow, ExportStatus, NbdAddress } from "../../array/protocol.ts";
import { assert } from "../../base/assert.ts";
import type { Log } from "../../base/log.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { backendOf, type NbdDevice, type NbdDriver } from "../attach/nbd-driver.ts";
import type { ReactorClient } from "../reactor-client.ts";
import type { ArrayBook } from "./array-book.ts";
import type { CallOrder } from "./call-order.ts";
import type { Effects } from "./effects.ts";
import type { StoredExport } from "./state.ts";
import type { StateStore } from "./state-store.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export interface ExportView extends Omit<ExportStatus, "array"> {
  /** The label of its array. */
  readonly array: string;
  readonly arrayUuid: string | null;
  /** Null: everybody. */
  readonly allow: ExportAllow | null;
  /** Empty while the array is not there. */
  readonly uris: readonly string[];
  /** Null: it is attached to none, and is not to be. */
  readonly attachment: Attachment | null;
}

/** Of an export to a block device of this host's kernel. */
export interface Attachment {
  /** "/dev/nbd0" */
  readonly device: string;
  /** False: it is to be, as soon as its array runs. */
  readonly isAttached: boolean;
  /** At each start of the daemon. */
  readonly atStart: boolean;
}

export class ExportBook {
  private readonly store: StateStore;
  private readonly client: ReactorClient;
  private readonly arrays: ArrayBook;
  private readonly calls: CallOrder;
  private readonly log: Log;
  private readonly driver: NbdDriver;
  private nbdAddresses: readonly NbdAddress[] = [];

  constructor(options: {
    store: StateStore;
    client: ReactorClient;
    arrays: ArrayBook;
    calls: CallOrder;
    log: Log;
    driver: NbdDriver;
  }) {
    this.store = options.store;
    this.client = options.client;
    this.arrays = options.arrays;
    this.calls = options.calls;
    this.log = options.log;
    this.driver = options.driver;
  }

  setNbdAddresses(addresses: readonly NbdAddress[]): void {
    this.nbdAddresses = addresses;
  }

  /** Of the NBD server on this host. */
  get socketPath(): string {
    const local = this.nbdAddresses.find((address) => address.kind === "unix");
    assert(local !== undefined, "the NBD server listens on this host");
    return local.path;
  }

  /** Where clients on this host find it. */
  localUri(name: string): string {
    return nbdUri({ kind: "unix", path: this.socketPath }, name);
  }

  /** Tells the reactor of all that are remembered. */
  async offerAll(): Promise<void> {
    for (const entry of this.store.state.exports.values()) await this.offer(entry);
  }

  async list(): Answer<ExportView[]> {
    const offered = await this.client.call({ kind: "list-exports" });
    if (!offered.ok) return offered;
    const byName = new Map(offered.value.map((entry) => [entry.name, entry]));
    const devices = this.driver.nbdDevices();
    const views = [...this.store.state.exports.values()].map((entry) =>
      this.viewOf(entry, byName.get(entry.name), devices),
    );
    return ok(views.sort((left, right) => (left.name < right.name ? -1 : 1)));
  }

  async get(name: string): Answer<ExportView> {
    const listed = await this.list();
    if (!listed.ok) return listed;
    const view = listed.value.find((entry) => entry.name === name);
    return view === undefined ? err(exportNotFound(name)) : ok(view);
  }

  /** With force also where clients that have it open lose it, or may not write any more. */
  async put(
    wanted: {
      name: string;
      array: string;
      readOnly: boolean;
      allow: ExportAllow | null;
      force: boolean;
    },
    effects: Effects,
  ): Answer<{ created: boolean; view: ExportView }> {
    const { name, readOnly, allow, force } = wanted;
    return this.calls.withArray(wanted.array, (arrayUuid) =>
      this.calls.holding([`export:${name}`], async () => {
        if (this.arrays.isDeleted(arrayUuid)) return err(isDeletedArray(wanted.array));
        if (this.arrays.isUnfinished(arrayUuid)) return err(isUnfinishedArray(wanted.array));
        const before = this.store.state.exports.get(name);
        const attached = before === undefined ? null : this.attachmentOf(before);
        const isOther = before?.arrayUuid !== arrayUuid || before.readOnly !== readOnly;
        if (attached !== null && isOther) return err(isAttached(name, attached));
        const array = this.arrays.labelOf(arrayUuid);
        const attachAtStart = before?.attachAtStart ?? null;
        const detachedAtStop = before?.detachedAtStop ?? null;
        const attach = { attachAtStart, detachedAtStop };
        const entry = { name, arrayUuid, array, readOnly, allow, ...attach };
        const recorded = await effects.commit({ kind: "put-export", entry });
        if (!recorded.ok) return recorded;
        const put = await effects.command({
          ...{ kind: "put-export", name, array: arrayUuid, readOnly, allow, force },
        });
        if (put.ok) {
          const view = this.viewOf(entry, put.value.export);
          return ok({ created: before === undefined, view });
        }
        effects.note(
          before === undefined
            ? { kind: "delete-export", name }
            : { kind: "put-export", entry: before },
        );
        return put;
      }),
    );
  }

  /** Holds its array, too: whoever deletes that takes its exports away as they are. */
  async remove(name: string, force: boolean, effects: Effects): Answer<null> {
    const arrayUuid = this.arrayOf(name);
    const work = () =>
      this.calls.holding([`export:${name}`], () => this.removeHeld(name, force, effects));
    if (arrayUuid === null) return work();
    return this.calls.holding([`array:${arrayUuid}`], work);
  }

  /** The label and the UUID of its array; null: there is no such export. */
  arrayBehind(name: string): { array: string; arrayUuid: string | null } | null {
    const entry = this.store.state.exports.get(name);
    if (entry === undefined) return null;
    return { array: this.labelBehind(entry), arrayUuid: entry.arrayUuid };
  }

  private labelBehind({ array, arrayUuid }: StoredExport): string {
    return arrayUuid === null ? array : this.arrays.labelOf(arrayUuid);
  }

  private async removeHeld(name: string, force: boolean, effects: Effects): Answer<null> {
    const before = this.store.state.exports.get(name);
    if (before !== undefined) {
      const listed = await this.get(name);
      if (!listed.ok) return listed;
      // With clients the reactor refuses, and says how many there are.
      const { connections, attachment } = listed.value;
      if (!force && connections === 0 && attachment?.isAttached === true) {
        return err(isAttached(name, attachment));
      }
      const recorded = await effects.commit({ kind: "delete-export", name });
      if (!recorded.ok) return recorded;
    }
    const deleted = await effects.command({ kind: "delete-export", name, force });
    if (deleted.ok || before === undefined) return deleted;
    // One that was never offered is known here alone.
    if (deleted.error.kind === "not-found") return ok(null);
    effects.note({ kind: "put-export", entry: before });
    return deleted;
  }

  private arrayOf(name: string): string | null {
    return this.store.state.exports.get(name)?.arrayUuid ?? null;
  }

  of(arrayUuid: string): StoredExport[] {
    return [...this.store.state.exports.values()].filter((entry) => entry.arrayUuid === arrayUuid);
  }

  private async offer({ name, arrayUuid, readOnly, allow }: StoredExport): Promise<void> {
    if (arrayUuid === null) return;
    const request = { name, array: arrayUuid, readOnly, allow };
    const put = await this.client.call({ kind: "put-export", ...request });
    if (!put.ok) this.log.write("warn", "export not offered", { export: name, ...put.error });
  }

  /** An export of a version that went by names is bound where only one array can be meant. */
  async bindOld(): Promise<void> {
    for (const entry of this.store.state.exports.values()) {
      if (entry.arrayUuid !== null) continue;
      const called = this.arrays
        .all()
        .filter(({ label, seen }) => (seen?.nameOnDisk ?? label) === entry.array);
      if (called.length !== 1) {
        const why = `${called.length} arrays have its name: put it again`;
        this.log.write("warn", "export waits for its array", { export: entry.name, why });
        continue;
      }
      const bound = { ...entry, arrayUuid: called[0]!.uuid };
      this.store.note({ kind: "put-export", entry: bound });
      await this.offer(bound);
    }
  }

  private attachmentOf(
    entry: StoredExport,
    devices: readonly NbdDevice[] = this.driver.nbdDevices(),
  ): Attachment | null {
    const { name, arrayUuid } = entry;
    const atStart = entry.attachAtStart !== null;
    if (arrayUuid !== null) {
      const backend = backendOf({ name, arrayUuid });
      const found = devices.find((device) => device.backend === backend);
      if (found !== undefined) return { device: found.path, isAttached: true, atStart };
    }
    const device = deviceToBe(entry);
    return device === null ? null : { device, isAttached: false, atStart };
  }

  private viewOf(
    entry: StoredExport,
    offered: ExportStatus | undefined,
    devices?: readonly NbdDevice[],
  ): ExportView {
    const { name, arrayUuid, readOnly, allow } = entry;
    const isServed = offered?.isServed ?? false;
    return {
      name,
      arrayUuid,
      readOnly,
      allow,
      isServed,
      array: this.labelBehind(entry),
      connections: offered?.connections ?? 0,
      uris: isServed ? this.nbdAddresses.map((address) => nbdUri(address, name)) : [],
      attachment: this.attachmentOf(entry, devices),
    };
  }
}

/** A name that was read from a member may be anything. */
export function nbdUri(address: NbdAddress, exportName: string): string {
  const name = encodeURIComponent(exportName);
  if (address.kind === "unix") {
    const path = encodeURIComponent(address.path).replaceAll("%2F", "/");
    return `nbd+unix:///${name}?socket=${path}`;
  }
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  const scheme = address.isSecure === true ? "nbds" : "nbd";
  return `${scheme}://${host}:${address.port}/${name}`;
}

/** The device that it is attached to as soon as its array runs, if any. */
export function deviceToBe({ attachAtStart, detachedAtStop }: StoredExport): string | null {
  return attachAtStart ?? detachedAtStop;
}

export function exportNotFound(name: string): CommandError {
  const detail = `there is no export named ${name}: put it first`;
  return { kind: "not-found", code: "export-not-found", detail };
}

function isAttached(name: string, { device }: Attachment): CommandError {
  const detail = `export ${name} is attached to ${device} of this host: detach it first`;
  return { kind: "conflict", code: "export-attached", detail };
}

function isUnfinishedArray(reference: string): CommandError {
  const detail =
    `array ${reference} was being made when the daemon ended, and none of its drives has been ` +
    "found yet: try again when it is ready";
  return { kind: "conflict", code: "array-unfinished", detail };
}

function isDeletedArray(reference: string): CommandError {
  const detail = `array ${reference} was deleted here: start it first to have it back`;
  return { kind: "conflict", code: "array-deleted", detail };
}
