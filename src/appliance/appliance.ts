/**
 * The appliance as its faces see it: drives, arrays, exports, jobs and schedules, over the reactor,
 * the helper threads and what is remembered.
 *
 * Who knows what: an array is what its members' superblocks say. The state (state.ts) names the
 * drives to open, the arrays with their labels, and the exports to offer. Calls name an array by
 * its label or UUID; from here down it is the UUID alone.
 *
 * Order: what a call changes in the state is recorded before the reactor is asked, and taken back
 * where the reactor refuses (array-standing.ts, export-book.ts); so a change that cannot be
 * recorded (507) has changed nothing.
 */
import {
  type ArrayEvent,
  type ArrayStatus,
  type ArrayTuning,
  type CommandError,
  type CommandMap,
  type CommandResult,
  type DriveStatus,
  NOT_YET,
} from "../array/protocol.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import { Alerts } from "./alerts/alerts.ts";
import type { ApplianceParts } from "./appliance-parts.ts";
import { ArrayStanding, type CreateRequest, calledHere } from "./array-standing.ts";
import { ArrayWork } from "./array-work.ts";
import { Attachments } from "./attachments.ts";
import { DriveKeeper } from "./drive-keeper.ts";
import { driveNotFound } from "./drive-refusals.ts";
import { DriveCare, type DriveView } from "./drives/drive-care.ts";
import { FaultInjection } from "./fault-injection.ts";
import { FenceHolders } from "./fence-holders.ts";
import { tellForcedLeave } from "./forced-leave.ts";
import { MemberGrowth } from "./member-growth.ts";
import type { ReactorClient } from "./reactor-client.ts";
import { ScheduleBook } from "./schedules/schedule-book.ts";
import { Scheduler } from "./schedules/scheduler.ts";
import { SharedSpares } from "./spares/shared-spares.ts";
import { SpareKeeper } from "./spares/spare-keeper.ts";
import { SpareReader } from "./spares/spare-reader.ts";
import type { Alarms } from "./state/alarms.ts";
import { ArrayBook, definedOf } from "./state/array-book.ts";
import { CallOrder } from "./state/call-order.ts";
import { Effects } from "./state/effects.ts";
import type { EventLog } from "./state/event-log.ts";
import { ExportBook } from "./state/export-book.ts";
import type { JobBook } from "./state/job-book.ts";
import type { ArraySettings } from "./state/state.ts";
import type { RecordingHealth, StateStore } from "./state/state-store.ts";

export type Answer<T> = Promise<Result<T, CommandError>>;

interface ArrayRemembered extends ArraySettings {
  readonly name?: string;
}

/** What a PATCH may change: the label, settings that are remembered, what the superblocks say. */
export interface ArrayPatch extends ArrayRemembered {
  readonly consistencyPolicy?: CommandMap["set-array"]["request"]["consistencyPolicy"];
  readonly memberSizeBytes?: number | "max";
}

/** What happens to an array is looked at once for all events of so long. */
const OBSERVE_MS = 50;

export class Appliance {
  readonly events: EventLog;
  readonly jobs: JobBook;
  readonly store: StateStore;
  readonly drives: DriveKeeper;
  readonly arrays: ArrayBook;
  readonly exports: ExportBook;
  readonly attachments: Attachments;
  readonly spares: SharedSpares;
  readonly schedules: ScheduleBook;
  readonly faults: FaultInjection;
  readonly growth: MemberGrowth;
  readonly alerts: Alerts;
  readonly care: DriveCare;
  readonly work: ArrayWork;
  /** For calls that do what they say. */
  readonly really: Effects;
  /** For calls that only tell what they would answer. */
  readonly dry: Effects;
  private readonly client: ReactorClient;
  readonly alarms: Alarms;
  private readonly log: Log;
  private readonly calls: CallOrder;
  private readonly standing: ArrayStanding;
  private readonly spareKeeper: SpareKeeper;
  private readonly spareReader: SpareReader;
  private readonly scheduler: Scheduler;
  private readonly toObserve = new Set<string>();
  /** How long arrays wait for their drives; null: nobody has said yet. */
  private lackingMs: number | null = null;
  private isLackingDue = false;
  private readonly holders: FenceHolders;
  private phase: "starting" | "ready" | "stopping" = "starting";

  constructor(parts: ApplianceParts) {
    const { client, opener, store, alarms, log } = parts;
    this.client = client;
    this.events = parts.events;
    this.jobs = parts.jobs;
    this.store = store;
    this.alarms = alarms;
    this.log = log;
    this.really = new Effects({ client, store, isDry: false });
    this.dry = new Effects({ client, store, isDry: true });
    this.faults = new FaultInjection({ client, isAllowed: parts.allowFaultInjection });
    const isClaimed = (label: string): boolean => this.calls.isHeld(`label:${label}`);
    this.arrays = new ArrayBook({ store, client, log, isClaimed });
    this.calls = new CallOrder(this.arrays);
    const books = { store, client, arrays: this.arrays, calls: this.calls, log };
    this.exports = new ExportBook({ ...books, driver: parts.nbdDriver });
    const onAttached = async ({ name, superblock }: DriveStatus): Promise<void> => {
      if (superblock !== undefined) await this.arrays.learn(superblock);
      this.spareKeeper.driveChanged(name);
    };
    const onReturned = (): void => {
      if (this.lackingMs !== null) this.startLackingAfter(this.lackingMs);
    };
    this.drives = new DriveKeeper({ client, opener, store, alarms, log, onAttached, onReturned });
    this.standing = new ArrayStanding({
      ...{ client, store, drives: this.drives, arrays: this.arrays, exports: this.exports, log },
      ...{ calls: this.calls, newUuid: parts.newUuid, isStarting: () => this.phase === "starting" },
    });
    const { drives, arrays, calls, events } = this;
    const onChanged = (drive: string): Promise<void> => {
      this.spareKeeper.driveChanged(drive);
      return this.spareKeeper.lookout.now();
    };
    this.spares = new SharedSpares({ client, store, drives, arrays, calls, onChanged });
    const { spares, jobs } = this;
    const services = { client, store, drives, arrays, calls, spares, events, jobs, alarms, log };
    this.spareKeeper = new SpareKeeper(services);
    this.growth = new MemberGrowth(services);
    const { exports } = this;
    this.attachments = new Attachments({ ...services, exports, driver: parts.nbdDriver });
    this.alerts = new Alerts({ ...services, ways: parts.alertWays ?? [] });
    const getArray = (uuid: string): Answer<ArrayStatus> => this.getArray(uuid);
    this.care = new DriveCare({ ...services, opener, tools: parts.tools, getArray });
    this.holders = new FenceHolders({ drives, events });
    const keeper = this.spareKeeper;
    this.spareReader = new SpareReader({ client, store, events, keeper, alarms, log });
    const { spareReader: reader, dry } = this;
    this.work = new ArrayWork({ ...services, keeper, reader, dry, getArray });
    const scene = {
      ...{ arrays: this.arrays, drives: this.drives, jobs: this.jobs, alarms },
      listArrays: () => this.listArrays(),
    };
    this.schedules = new ScheduleBook({ scene, store, calls: this.calls });
    this.scheduler = new Scheduler({
      ...{ book: this.schedules, scene, store, events: this.events, log },
      startScrub: (request) => this.work.startScrub(request, this.really),
      pauseScrub: (array) => this.work.pauseScrub(array, this.really),
    });
    client.onEvent((event) => this.onEvent(event));
  }

  get state(): "starting" | "ready" | "stopping" {
    return this.phase;
  }

  get recording(): RecordingHealth {
    return this.store.health;
  }

  /**
   * Tells the reactor what is remembered: before anybody can connect, so that clients of a known
   * export wait, and before any drive is there, so that no array starts under a wrong name.
   */
  async announce(): Promise<void> {
    await this.arrays.introduceAll();
    await this.exports.offerAll();
  }

  /**
   * After `announce`: opens the known drives; each array starts as soon as its own members are
   * there. Answers when all drives have answered or were given up.
   */
  async restore(): Promise<void> {
    this.alerts.begin();
    // Each export as soon as its own array runs.
    this.attachments.lookout.start();
    await this.drives.attachAll();
    await this.exports.bindOld();
    this.arrays.forgetUnfinished();
    if (this.phase === "starting") this.phase = "ready";
    this.drives.watch();
    this.spareKeeper.lookout.start();
    this.growth.lookout.start();
    this.care.start();
    if (this.phase === "ready") this.scheduler.begin();
  }

  /**
   * After so long the arrays that still wait for a drive are started without it; and again so long
   * after a drive that was missing has come back: it may have been the last but one.
   */
  startLackingAfter(delayMs: number): void {
    this.lackingMs = delayMs;
    if (this.isLackingDue) return;
    this.isLackingDue = true;
    this.alarms.after(delayMs, () => {
      this.isLackingDue = false;
      void this.startLacking();
    });
  }

  /**
   * Starts the arrays that still wait for a drive without it, where that can be done safely: a host
   * that comes up with a dead drive serves its arrays, degraded. One that is dirty too, or that was
   * stopped or deleted by the user, stays as it is. From now on clients of what is not served are
   * refused.
   */
  async startLacking(): Promise<void> {
    await this.drives.retryMissing();
    const arrays = await this.client.call({ kind: "list-arrays" });
    if (!arrays.ok || this.phase === "stopping") return;
    await Promise.all(
      arrays.value.map(async ({ name, uuid, state, isHeld }) => {
        if (state !== "inactive" || isHeld || this.arrays.isDeleted(uuid)) return;
        if (this.drives.isFenced(uuid)) return;
        const request = { array: uuid, force: false, readOnly: false };
        const started = await this.client.call({ kind: "start-array", ...request });
        const outcome = started.ok ? "started without a drive" : started.error.detail;
        this.log.write("warn", "array was waiting for a drive", { array: name, outcome });
      }),
    );
    await this.client.call({ kind: "exports-settle" });
  }

  /** Refuses what comes from now on. The reactor drains and stops every array clean. */
  async shutdown(): Promise<void> {
    this.phase = "stopping";
    this.drives.stop();
    this.spareKeeper.lookout.stop();
    this.spareReader.stop();
    this.growth.lookout.stop();
    this.care.stop();
    await this.scheduler.stop();
    await this.attachments.release();
    // What has happened a moment ago is remembered, too.
    await this.observe();
    const answer = await this.client.call({ kind: "shutdown" });
    if (!answer.ok)
      this.log.write("error", "the reactor did not stop cleanly", { ...answer.error });
    await this.alerts.stop();
  }

  /** After so long a stop, before the process leaves without its end. */
  async leave(seconds: number): Promise<void> {
    const { client, events, alarms, log, store } = this;
    await tellForcedLeave({ client, events, alarms, log, seconds });
    store.close();
  }

  // Drives --------------------------------------------------------------------------------------

  async listDrives(): Answer<DriveView[]> {
    const drives = await this.drives.list();
    return drives.ok ? ok(drives.value.map((drive) => this.care.driveView(drive))) : drives;
  }

  async getDrive(name: string): Answer<DriveView> {
    const drives = await this.listDrives();
    if (!drives.ok) return drives;
    const drive = drives.value.find((candidate) => candidate.name === name);
    return drive === undefined ? err(driveNotFound(name)) : ok(drive);
  }

  async addDrive(
    drive: { name: string; path: string; direct: boolean },
    effects: Effects,
  ): Answer<DriveStatus & Partial<DriveView>> {
    const added = await this.drives.add(drive, effects);
    if (!added.ok) return added;
    // Of a disk that is only looked at, nobody asks for its health.
    if (effects.isDry) return ok(this.care.standingView(added.value));
    return ok(this.care.driveView(added.value));
  }

  async removeDrive(name: string, force: boolean, effects: Effects): Answer<null> {
    const removed = await this.drives.remove(name, force, effects);
    if (!removed.ok || effects.isDry) return removed;
    this.spares.forget(name);
    this.spareKeeper.driveChanged(name);
    return removed;
  }

  // Arrays --------------------------------------------------------------------------------------

  /** `allocate`: its files get all their space first. */
  createArray(
    request: CreateRequest,
    options: { allocate: boolean },
    effects: Effects,
  ): Answer<ArrayStatus> {
    const drives = [...request.drives, ...request.spares];
    const create = () => this.standing.create(request, options, effects);
    return this.viewed(this.spares.using(drives, effects, create));
  }

  /** Those that are here, and those that ought to be. */
  async listArrays(): Answer<ArrayStatus[]> {
    const listed = await this.client.call({ kind: "list-arrays" });
    if (!listed.ok) return listed;
    const here = listed.value
      .filter((status) => doesRun(status) || !this.arrays.isDeleted(status.uuid))
      .map((status) => this.arrayView(status));
    const absent = this.arrays.absent(new Set(listed.value.map(({ uuid }) => uuid)));
    return ok([...here, ...absent].sort((left, right) => (left.name < right.name ? -1 : 1)));
  }

  async getArray(reference: string): Answer<ArrayStatus> {
    const uuid = this.arrays.resolve(reference);
    if (!uuid.ok) return uuid;
    const found = await this.viewed(this.client.call({ kind: "get-array", array: uuid.value }));
    if (found.ok || found.error.kind !== "not-found") return found;
    const absent = this.arrays.absent(new Set()).find((array) => array.uuid === uuid.value);
    return absent === undefined ? found : ok(absent);
  }

  startArray(request: CommandMap["start-array"]["request"], effects: Effects): Answer<ArrayStatus> {
    return this.standing.start(request, effects);
  }

  /** Policy, size and the name on disk stand in the superblocks; the rest is remembered here. */
  async patchArray(reference: string, wanted: ArrayPatch, effects: Effects): Answer<ArrayStatus> {
    const { consistencyPolicy, memberSizeBytes, ...remembered } = wanted;
    const onDisk = {
      ...(consistencyPolicy === undefined ? {} : { consistencyPolicy }),
      ...(memberSizeBytes === undefined ? {} : { memberSizeBytes }),
    };
    const { name: _label, ...tuning } = remembered;
    // What is recorded here comes to the reactor by that, which a dry run does not do.
    const foretold: Partial<ArrayTuning> = effects.isDry ? definedOf(tuning) : {};
    return this.calls.withArray(reference, async (array) => {
      const recorded = await this.standing.change(array, remembered, effects);
      if (!recorded.ok) return recorded;
      // There may be suspects that are to be replaced from now on.
      effects.have(() => this.spareKeeper.lookout.soon());
      if (Object.keys(onDisk).length === 0) {
        const status = await this.getArray(array);
        if (!status.ok || !effects.isDry) return status;
        // An absent one has no forecast.
        const told = await effects.command({ kind: "set-array", array, ...foretold });
        const forecast = told.ok ? told.value.forecast : null;
        return ok(withPatch({ ...status.value, forecast }, remembered));
      }
      const changed = await effects.command({ kind: "set-array", array, ...onDisk, ...foretold });
      if (!changed.ok) return changed;
      if (!effects.isDry) {
        if (consistencyPolicy !== undefined) this.growth.policyChosen(array, consistencyPolicy);
        return ok(this.arrayView(changed.value));
      }
      const { policyAfterGrowth: _past, ...chosen } = this.arrayView(changed.value);
      const shown = consistencyPolicy === undefined ? this.arrayView(changed.value) : chosen;
      return ok(withPatch(shown, remembered));
    });
  }

  stopArray(request: CommandMap["stop-array"]["request"], effects: Effects): Answer<ArrayStatus> {
    return this.calls.withArray(request.array, (uuid) =>
      effects.command({ kind: "stop-array", ...request, array: uuid }),
    );
  }

  /** Of an array of which nothing is here: it is forgotten. */
  async deleteArray(
    request: CommandMap["delete-array"]["request"],
    effects: Effects,
  ): Answer<null> {
    const uuid = this.arrays.resolve(request.array);
    const deleted = await this.standing.delete(request, effects);
    if (deleted.ok && uuid.ok) effects.have(() => this.jobs.endRestingScrubs(uuid.value));
    return deleted;
  }

  nbdStats(): Promise<CommandResult<"nbd-stats">> {
    return this.client.call({ kind: "nbd-stats" });
  }

  latencies(): Promise<CommandResult<"latencies">> {
    return this.client.call({ kind: "latencies" });
  }

  /** Whether the reactor answers a call, and that in time. */
  isAnsweringWithin(limitMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const stopTimer = this.alarms.after(limitMs, () => resolve(false));
      void this.client.call({ kind: "list-exports" }).then((answer) => {
        stopTimer();
        resolve(answer.ok);
      });
    });
  }

  // Inside --------------------------------------------------------------------------------------

  private onEvent(event: ArrayEvent): void {
    this.events.append(event);
    this.scheduler.lookSoon();
    if (event.kind === "array.fenced") void this.holders.ask(event);
    this.spareKeeper.onEvent(event);
    this.growth.onEvent(event);
    this.attachments.onEvent(event);
    if (event.arrayUuid === null) return;
    if (this.toObserve.size === 0) this.alarms.after(OBSERVE_MS, () => void this.observe());
    this.toObserve.add(event.arrayUuid);
  }

  /** With what the reactor does not know. */
  private arrayView(known: ArrayStatus): ArrayStatus {
    const status = { ...known, sharedSpares: this.spareKeeper.usableFor(known.uuid) };
    return this.care.arrayView(this.holders.view(this.growth.view(status)));
  }

  private async viewed(answer: Answer<ArrayStatus>): Answer<ArrayStatus> {
    const status = await answer;
    return status.ok ? ok(this.arrayView(status.value)) : status;
  }

  /** Remembers how arrays stand after an event, and which disks their drives are. */
  private async observe(): Promise<void> {
    const uuids = [...this.toObserve];
    this.toObserve.clear();
    for (const array of uuids) {
      const status = await this.client.call({ kind: "get-array", array });
      if (status.ok) this.arrays.observe(status.value);
    }
    await this.drives.observeAll();
  }
}

/** Its drives, if any are here, are only looked at. */
function doesRun({ state }: ArrayStatus): boolean {
  return state !== "inactive" && state !== "absent";
}

/** As an array would be shown that has these settings. */
function withPatch(status: ArrayStatus, { name, ...settings }: ArrayRemembered): ArrayStatus {
  const patched = { ...status, ...settings } as ArrayStatus;
  if (name === undefined || name === status.name) return patched;
  // One that does not run has its new name here alone.
  if (status.startNeeds !== null) return calledHere(patched, name);
  return { ...patched, name, nameOnDisk: null, eventCount: NOT_YET.eventCount };
}
