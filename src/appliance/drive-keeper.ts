/**
 * The drives that this host was told about: opens and closes them, and looks for those that are
 * missing.
 *
 * A drive is what its superblock says (the device UUID), else its hardware's identity, else its
 * path; its name follows the disk. So where a path leads to another known drive's disk, that drive
 * gets it. Drives that are missing are looked for every few seconds: at their paths, in the folder
 * where a file was, and now and then on all block devices.
 *
 * Whoever renames a drive's file means something by it. So a file that lay beside the drive's path
 * under another name when the drive was first missed is only told of, and taken when it is named;
 * one that appears there later is the drive that comes back.
 */
import type { CommandError, DriveStatus, OpenDrive } from "../array/protocol.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import { FilesBeside, foldersOf, isDevicePath, isItself, pathsOf } from "./drive-places.ts";
import {
  driveBusy,
  driveExists,
  driveNotFound,
  notThisDrive,
  pathInUse,
  withHolder,
} from "./drive-refusals.ts";
import { allocateAll, isSparse, lackOfRoom } from "./drive-space.ts";
import type { DriveOpener, FoundDevice } from "./helper/drive-opener.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { Alarms } from "./state/alarms.ts";
import type { Effects } from "./state/effects.ts";
import type { StoredDrive } from "./state/state.ts";
import type { StateStore } from "./state/state-store.ts";

const LOOK_MS = 5_000;
/** All block devices are read in the first looks, then now and then: it wakes sleeping disks. */
const FIRST_LOOKS = 6;
const DEEP_LOOK_EVERY = 10;
/** What appears in so short a time (a disk, its partitions) is looked at together. */
const APPEARED_MS = 50;

type Answer<T> = Promise<Result<T, CommandError>>;

export interface DriveKeeperParts {
  readonly client: ReactorClient;
  readonly opener: DriveOpener;
  readonly store: StateStore;
  readonly alarms: Alarms;
  readonly log: Log;
  /** Told of each drive that has been attached. */
  readonly onAttached: (drive: DriveStatus) => Promise<void>;
  /** Told when a drive that was missing has been attached. */
  readonly onReturned: () => void;
}

export class DriveKeeper {
  private readonly parts: DriveKeeperParts;
  /** Why a drive that is known is not attached. */
  private readonly missing = new Map<string, CommandError>();
  /** By name: what is attached, as it was opened. */
  private readonly opened = new Map<string, OpenDrive>();
  /** Names between open and attach or between detach and close: nobody else may use them. */
  private readonly busy = new Set<string>();
  /** By name: those that are opened to be added, and are not recorded yet. */
  private readonly adding = new Map<string, StoredDrive>();
  private readonly beside = new FilesBeside();
  private readonly appearedPaths = new Set<string>();
  private looks = 0;
  /** All drives have been opened once: until then a look may miss a disk that another one tries. */
  private isSettled = false;
  private isStopped = false;

  constructor(parts: DriveKeeperParts) {
    this.parts = parts;
  }

  get known(): readonly StoredDrive[] {
    return [...this.parts.store.state.drives.values()];
  }

  /** Opens all known drives, each as soon as it answers. */
  async attachAll(): Promise<void> {
    const { log } = this.parts;
    await Promise.all(this.known.map((drive) => this.attachKnown(drive)));
    this.isSettled = true;
    await this.retryMissing();
    for (const [drive, { detail: reason }] of this.missing) {
      log.write("warn", "drive is missing", { drive, reason });
    }
  }

  /** From now on missing drives are looked for. */
  watch(): void {
    // Polls: a path or a disk that appears need not be told of here.
    this.parts.alarms.after(LOOK_MS, () => {
      if (this.isStopped) return;
      this.looks += 1;
      const isDeep = this.looks <= FIRST_LOOKS || this.looks % DEEP_LOOK_EVERY === 0;
      void this.lookForMissing(isDeep).then(() => this.watch());
    });
  }

  stop(): void {
    this.isStopped = true;
  }

  async list(): Answer<DriveStatus[]> {
    const attached = await this.parts.client.call({ kind: "list-drives" });
    if (!attached.ok) return attached;
    const names = new Set(attached.value.map((drive) => drive.name));
    const rest = this.known.filter((drive) => !names.has(drive.name));
    const here = attached.value.map((drive) => ({ ...drive, ...this.facts(drive.name) }));
    const all = [...here, ...rest.map((drive) => this.missingStatus(drive))];
    return ok(all.sort((left, right) => (left.name < right.name ? -1 : 1)));
  }

  /**
   * Opens and attaches a drive. The same name again retries one that is missing: at the same path,
   * or where its superblock is now.
   */
  async add(
    wanted: { name: string; path: string; direct: boolean },
    effects: Effects,
  ): Answer<DriveStatus> {
    const { name, path } = wanted;
    const same = this.parts.store.state.drives.get(name);
    const isRetry = same !== undefined && (await this.isRetry(same, path));
    const obstacle = this.obstacleTo(name, path, isRetry);
    if (obstacle !== null) return err(obstacle);
    if (isRetry) return this.attach({ ...same, path, direct: wanted.direct }, effects);
    const drive: StoredDrive = { ...wanted, byId: null, deviceUuid: null, arrayUuid: null };
    this.adding.set(name, drive);
    const added = await this.alone(drive, (opened) => this.addOpen(drive, opened, effects));
    this.adding.delete(name);
    return added;
  }

  async remove(name: string, force: boolean, effects: Effects): Answer<null> {
    const { opener, store } = this.parts;
    const known = store.state.drives.get(name);
    if (known === undefined) return err(driveNotFound(name));
    if (this.busy.has(name)) return err(driveBusy(name));
    this.busy.add(name);
    try {
      // Order: what cannot be forgotten durably is not let go of.
      const recorded = await effects.commit({ kind: "delete-drive", name });
      if (!recorded.ok) return recorded;
      const detached = await effects.command({ kind: "detach-drive", name, force });
      if (effects.isDry && detached.ok) return ok(null);
      if (detached.ok) {
        this.opened.delete(name);
        await opener.close(detached.value.fd);
      } else if (!this.missing.has(name) || detached.error.kind !== "not-found") {
        effects.note({ kind: "put-drive", drive: known });
        return detached;
      }
      effects.have(() => this.missing.delete(name));
      return ok(null);
    } finally {
      this.busy.delete(name);
    }
  }

  /** Something has appeared at a path, or changed: it is looked at now, if a drive is missing. */
  appeared(path: string): void {
    if (this.appearedPaths.size === 0) {
      this.parts.alarms.after(APPEARED_MS, () => void this.lookAtAppeared());
    }
    this.appearedPaths.add(path);
  }

  /** Looks for all missing drives now, on all devices. */
  async retryMissing(): Promise<void> {
    await this.lookForMissing(true);
  }

  /**
   * Whether a drive that was of this array is another host's: its array must not start without it,
   * or the host that has the drives would find one stale (write-rules 21).
   */
  isFenced(arrayUuid: string): boolean {
    return this.known.some(
      (drive) => drive.arrayUuid === arrayUuid && this.missing.get(drive.name)?.code === "fenced",
    );
  }

  /** Which host holds the reservation of a drive that is attached; null: it cannot be told. */
  async holderOf(name: string): Promise<string | null> {
    const drive = this.opened.get(name);
    return drive === undefined ? null : this.parts.opener.reservation(drive.path);
  }

  /** Of the drives that are known and not attached: why. */
  get missingReasons(): ReadonlyMap<string, string> {
    return new Map([...this.missing].map(([name, { detail }]) => [name, detail]));
  }

  /** The physical disks that these drives lie on, as far as they are attached and it was seen. */
  disksOf(names: Iterable<string>): Set<string> {
    return new Set([...names].flatMap((name) => this.opened.get(name)?.disks ?? []));
  }

  /** What the reactor says of a drive is remembered: by it the disk is known again. */
  async observeAll(): Promise<void> {
    const attached = await this.parts.client.call({ kind: "list-drives" });
    if (attached.ok) for (const drive of attached.value) this.observe(drive);
  }

  private observe({ name, superblock }: DriveStatus): void {
    const { store } = this.parts;
    const known = store.state.drives.get(name);
    if (known === undefined || superblock === undefined) return;
    const { deviceUuid, arrayUuid } = superblock;
    if (known.deviceUuid === deviceUuid && known.arrayUuid === arrayUuid) return;
    store.note({ kind: "put-drive", drive: { ...known, deviceUuid, arrayUuid } });
  }

  /** Looks what drives hold now: somebody may have put something there since they were opened. */
  async readContents(names: readonly string[]): Answer<null> {
    const { client } = this.parts;
    const results = await Promise.all(
      names.map(async (name): Answer<null> => {
        if (!this.opened.has(name)) return ok(null);
        const content = await this.contentOf(name);
        if (!content.ok) return content;
        return client.call({ kind: "note-content", name, signature: content.value });
      }),
    );
    return results.find(({ ok: isOk }) => !isOk) ?? ok(null);
  }

  /** What a drive that is attached holds, as a noun; null: nothing, or it is not attached. */
  async contentOf(name: string): Answer<string | null> {
    const drive = this.opened.get(name);
    return drive === undefined ? ok(null) : this.parts.opener.content(drive.fd);
  }

  /** Gives files all of their space (drive-space.ts); the names of those that have it now. */
  async giveSpace(names: readonly string[], { isDry }: Effects): Answer<readonly string[]> {
    const { opener } = this.parts;
    const sparse = names.flatMap((name) => this.opened.get(name) ?? []).filter(isSparse);
    const lacking = await lackOfRoom(sparse, opener);
    if (lacking !== null) return err(lacking);
    if (isDry) return ok([]);
    const { full, failure } = await allocateAll(sparse, opener);
    for (const drive of full) {
      this.opened.set(drive.name, { ...drive, allocatedBytes: drive.sizeBytes });
    }
    return failure === null ? ok(full.map(({ name }) => name)) : err(failure);
  }

  /** What only the helper knows of a drive. */
  private facts(name: string): Partial<DriveStatus> {
    const drive = this.opened.get(name);
    return drive === undefined ? {} : factsOf(drive);
  }

  // Attaching -----------------------------------------------------------------------------------

  private obstacleTo(name: string, path: string, isRetry: boolean): CommandError | null {
    if (this.busy.has(name)) return driveBusy(name);
    const same = this.known.find((known) => known.name === name);
    if (same !== undefined && !isRetry) return driveExists(same);
    const twin = [...this.known, ...this.adding.values()].find(
      (other) => other.path === path && other.name !== name,
    );
    return twin === undefined ? null : pathInUse(twin);
  }

  /** Whether this path is where the missing drive was, or is now. */
  private async isRetry(drive: StoredDrive, path: string): Promise<boolean> {
    if (!this.missing.has(drive.name) || drive.path === path) return this.missing.has(drive.name);
    const { found } = await this.parts.opener.look({
      paths: [path],
      folders: [],
      blockDevices: false,
    });
    return found.some((device) => isItself(drive, device)) && this.missing.has(drive.name);
  }

  private async attachKnown(drive: StoredDrive): Promise<void> {
    const attached = await this.attach(drive);
    if (!attached.ok) this.missing.set(drive.name, attached.error);
  }

  private attach(
    drive: StoredDrive,
    { isDry }: Pick<Effects, "isDry"> = { isDry: false },
  ): Answer<DriveStatus> {
    return this.alone(drive, (opened) =>
      isDry ? this.lookAtOpen(opened) : this.attachOpen(drive, opened),
    );
  }

  /** Opens a drive and works on it; nobody else has its name meanwhile. */
  private async alone(
    drive: StoredDrive,
    work: (opened: OpenDrive) => Answer<DriveStatus>,
  ): Answer<DriveStatus> {
    if (this.busy.has(drive.name)) return err(driveBusy(drive.name));
    this.busy.add(drive.name);
    try {
      const opened = await this.open(drive);
      return opened.ok ? await work(opened.value) : opened;
    } finally {
      this.busy.delete(drive.name);
    }
  }

  /**
   * Order: opened before it is recorded, which a device that hangs or is not there would have to
   * undo, maybe with a state.db that is not written any more; recorded before it is attached, so
   * that what cannot be recorded never is.
   */
  private async addOpen(
    drive: StoredDrive,
    opened: OpenDrive,
    effects: Effects,
  ): Answer<DriveStatus> {
    const recorded = await effects.commit({ kind: "put-drive", drive });
    if (!recorded.ok) {
      await this.parts.opener.close(opened.fd);
      return recorded;
    }
    if (effects.isDry) return this.lookAtOpen(opened);
    const attached = await this.attachOpen(drive, opened);
    if (!attached.ok) effects.note({ kind: "delete-drive", name: drive.name });
    return attached;
  }

  /** What attaching it would answer; it is closed again. */
  private async lookAtOpen(opened: OpenDrive): Answer<DriveStatus> {
    const { client, opener } = this.parts;
    const looked = await client.call({ kind: "attach-drive", drive: opened, dryRun: true });
    await opener.close(opened.fd);
    return looked.ok
      ? ok({ ...looked.value, ...factsOf(opened) })
      : this.withHolder(looked.error, opened);
  }

  private async withHolder(error: CommandError, { path }: OpenDrive): Answer<never> {
    if (error.code !== "fenced") return err(error);
    const holder = await this.parts.opener.reservation(path);
    return err({ ...error, detail: withHolder(error.detail, holder) });
  }

  private async attachOpen(drive: StoredDrive, opened: OpenDrive): Answer<DriveStatus> {
    const { client, opener, store, onAttached } = this.parts;
    const attached = await client.call({ kind: "attach-drive", drive: opened });
    if (!attached.ok) {
      await opener.close(opened.fd);
      return this.withHolder(attached.error, opened);
    }
    this.opened.set(drive.name, opened);
    const wasMissing = this.missing.delete(drive.name);
    const byId = opened.identity?.byId ?? drive.byId;
    const { path } = opened;
    if (wasMissing || path !== drive.path || byId !== drive.byId) {
      store.note({ kind: "put-drive", drive: { ...drive, path, byId } });
    }
    this.observe(attached.value);
    await onAttached(attached.value);
    // The array may have started in the meantime.
    const now = await this.list();
    return ok((now.ok && now.value.find(({ name }) => name === drive.name)) || attached.value);
  }

  /** Opens the disk that the drive is, where its paths lead, or where it has gone to. */
  private async open(drive: StoredDrive): Answer<OpenDrive> {
    const { opener } = this.parts;
    let failure: CommandError = driveNotFound(drive.name);
    for (const path of pathsOf(drive)) {
      const opened = await opener.open({ ...drive, path, readOnly: false });
      if (!opened.ok) {
        failure = opened.error;
        continue;
      }
      const stranger = await this.strangerAt(drive, opened.value);
      if (stranger === null) return opened;
      await opener.close(opened.value.fd);
      failure = stranger;
    }
    return err(failure);
  }

  /** Why what is open is not this drive's disk, or null. */
  private async strangerAt(drive: StoredDrive, opened: OpenDrive): Promise<CommandError | null> {
    const { deviceUuid = null, path, identity } = opened;
    if (deviceUuid !== null) {
      const owner = this.known.find((known) => known.deviceUuid === deviceUuid);
      if (owner !== undefined && owner.name !== drive.name) {
        return notThisDrive(`${path} holds drive ${owner.name}, or a copy of it`);
      }
    }
    if (drive.deviceUuid === null || drive.deviceUuid === deviceUuid) return null;
    // Its superblock is not there: the same disk without it, or another one in its place.
    const byId = identity?.byId ?? null;
    if (byId !== null) {
      // A disk that has one had it when it was added.
      return byId === drive.byId ? null : notThisDrive(`${path} is another disk (${byId})`);
    }
    if (!this.isSettled) return notThisDrive(`${path} holds something else`);
    // On all devices: without a lasting name its path may be another disk's since the last boot.
    const found = await this.look([drive], true);
    const itself = found.find((device) => isItself(drive, device));
    return itself === undefined
      ? null
      : notThisDrive(`${path} holds something else; the drive is at ${itself.path}`);
  }

  // Looking for what is missing -----------------------------------------------------------------

  private get absent(): StoredDrive[] {
    return this.known.filter(({ name }) => this.missing.has(name) && !this.busy.has(name));
  }

  private async lookForMissing(isDeep: boolean): Promise<void> {
    const drives = this.absent;
    if (drives.length === 0) return;
    const found = await this.look(drives, isDeep);
    this.beside.note(drives, found);
    await this.takeBack(drives, found);
  }

  private async lookAtAppeared(): Promise<void> {
    const paths = [...this.appearedPaths];
    this.appearedPaths.clear();
    const drives = this.absent;
    if (drives.length === 0 || this.isStopped) return;
    const { found } = await this.parts.opener.look({ paths, folders: [], blockDevices: false });
    await this.takeBack(drives, found);
  }

  /** Attaches those of these drives that are among what was found. */
  private async takeBack(
    drives: readonly StoredDrive[],
    found: readonly FoundDevice[],
  ): Promise<void> {
    await Promise.all(
      drives.map(async (drive) => {
        const device =
          found.find((candidate) => isItself(drive, candidate)) ??
          found.find((candidate) => this.mayBeAt(drive, candidate));
        // Another look may have found it meanwhile, and be opening it.
        const isWanted = this.missing.has(drive.name) && !this.busy.has(drive.name);
        if (device === undefined || !isWanted || this.isStopped) return;
        if (this.isLyingAround(device.path)) {
          const detail =
            `its file has the name ${device.path} now: to take it back: parityd drive add ` +
            `${drive.name} ${device.path}`;
          this.missing.set(drive.name, { kind: "not-found", code: "drive-renamed", detail });
          return;
        }
        await this.attachKnown({ ...drive, path: device.path });
        if (this.missing.has(drive.name)) return;
        const { path } = device;
        this.parts.log.write("info", "a missing drive is there again", { drive: drive.name, path });
        this.parts.onReturned();
      }),
    );
  }

  /** What is where these drives may be. */
  private async look(
    drives: readonly StoredDrive[],
    isDeep: boolean,
  ): Promise<readonly FoundDevice[]> {
    const { found } = await this.parts.opener.look({
      paths: drives.flatMap(pathsOf),
      folders: foldersOf(drives),
      blockDevices: isDeep && drives.some(({ path }) => isDevicePath(path)),
    });
    return found;
  }

  private isLyingAround(path: string): boolean {
    return this.beside.has(path) && !this.known.some((known) => known.path === path);
  }

  /** Its superblock may be new: of an array that was made just before the last run ended. */
  private mayBeAt(drive: StoredDrive, { path, member, byId }: FoundDevice): boolean {
    // Another known drive's disk is never taken for this one.
    if (member !== null && this.known.some((known) => known.deviceUuid === member.deviceUuid)) {
      return false;
    }
    if (drive.byId !== null && byId !== null) return drive.byId === byId;
    return path === drive.path;
  }

  private missingStatus(drive: StoredDrive): DriveStatus {
    const detail = this.missing.get(drive.name)?.detail ?? "not open yet";
    const status = { name: drive.name, path: drive.path, sizeBytes: 0, logicalBlockBytes: 0 };
    return { ...status, state: "missing", detail };
  }
}

function factsOf(drive: OpenDrive): Partial<DriveStatus> {
  const { identity, isRotational } = drive;
  return { ...identity, isRotational, ...(isSparse(drive) ? { isSparse: true } : {}) };
}
