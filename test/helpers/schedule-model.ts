/**
 * A host for scrub schedules alone: the real book, scheduler and job book over arrays that are only
 * numbers, in virtual time. A scrub takes so long, can be paused and goes on; nothing else is of
 * the reactor, so that months pass in seconds.
 */

import type { DriveKeeper } from "../../src/appliance/drive-keeper.ts";
import type { ReactorClient } from "../../src/appliance/reactor-client.ts";
import type { SceneParts } from "../../src/appliance/schedules/scene.ts";
import type { Schedule } from "../../src/appliance/schedules/schedule.ts";
import { ScheduleBook } from "../../src/appliance/schedules/schedule-book.ts";
import type { ScheduleView } from "../../src/appliance/schedules/schedule-view.ts";
import { Scheduler } from "../../src/appliance/schedules/scheduler.ts";
import { ArrayBook } from "../../src/appliance/state/array-book.ts";
import { CallOrder } from "../../src/appliance/state/call-order.ts";
import { Effects } from "../../src/appliance/state/effects.ts";
import { EventLog } from "../../src/appliance/state/event-log.ts";
import { JobBook } from "../../src/appliance/state/job-book.ts";
import type { StoredEvent } from "../../src/appliance/state/state.ts";
import type { StateStore } from "../../src/appliance/state/state-store.ts";
import {
  type ArrayStatus,
  type CommandError,
  isSetAside,
  type JobStatus,
} from "../../src/array/protocol.ts";
import { silentLog } from "../../src/base/log.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import { Simulation, WALL_START_MS } from "../sim/world/simulation.ts";
import { simAlarms } from "./sim-alarms.ts";
import { memoryStore } from "./sim-appliance.ts";
import { testUuid } from "./sim-reactor.ts";

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;
/** The place of a scrub is told so often. */
const TOLD_MS = 10_000;

interface ModelArray {
  readonly uuid: string;
  readonly name: string;
  readonly disks: readonly string[];
  readonly passMs: number;
  state: ArrayStatus["state"];
  lastScrub: ArrayStatus["lastScrub"];
  job: JobStatus | null;
  leftMs: number;
  /** When the scrub that runs went on. */
  sinceMs: number;
}

export class ScheduleModel {
  readonly simulation = new Simulation({ seed: 1 });
  readonly store: StateStore = memoryStore();
  readonly events: EventLog;
  private readonly arrays = new Map<string, ModelArray>();
  /** False: a scrub that is to be paused is, and nobody is told. */
  answersPauses = true;
  private nextJobId = 1;
  /** Null: the daemon is not there. */
  private daemon: {
    book: ScheduleBook;
    scheduler: Scheduler;
    jobs: JobBook;
    effects: Effects;
  } | null = null;

  constructor(startIso: string) {
    this.simulation.jumpWall(Date.parse(startIso) - WALL_START_MS);
    this.events = new EventLog({ store: this.store, log: silentLog });
  }

  /** An array on these disks, whose pass takes so long. */
  add(name: string, options: { passMs: number; disks?: readonly string[] }): void {
    const uuid = testUuid(name);
    const { passMs, disks = [`disk of ${name}`] } = options;
    this.arrays.set(uuid, {
      ...{ uuid, name, disks, passMs, state: "clean", lastScrub: null, job: null },
      ...{ leftMs: 0, sinceMs: 0 },
    });
    const stored = { uuid, label: name, standing: "known", settings: {}, seen: null } as const;
    this.store.note({ kind: "put-array", array: stored });
  }

  get wallMs(): number {
    return this.simulation.wallMs();
  }

  run(forMs: number): void {
    this.simulation.runFor(forMs);
  }

  // The daemon -------------------------------------------------------------------------------

  start(): void {
    const { simulation, store, events } = this;
    const alarms = simAlarms(simulation, () => this.daemon?.book === book);
    const client = this.client();
    const jobs = new JobBook({ store, client, alarms });
    jobs.closeFormerRun(new Date(this.wallMs).toISOString());
    const arrays: ArrayBook = new ArrayBook({
      store,
      client,
      log: silentLog,
      isClaimed: () => false,
    });
    const drives = {
      disksOf: (names: Iterable<string>) => new Set(names),
    } as unknown as DriveKeeper;
    const scene: SceneParts = {
      arrays,
      drives,
      jobs,
      alarms,
      listArrays: async () => ok(this.list()),
    };
    const book = new ScheduleBook({ scene, store, calls: new CallOrder(arrays) });
    const scheduler = new Scheduler({
      ...{ book, scene, store, events, log: silentLog },
      startScrub: async ({ array, mode }) => this.startScrub(array, mode),
      pauseScrub: async (array) => {
        const paused = this.pauseScrub(array);
        return this.answersPauses ? paused : new Promise(() => {});
      },
    });
    const effects = new Effects({ client, store, isDry: false });
    this.daemon = { book, scheduler, jobs, effects };
    this.goOn();
    scheduler.begin();
  }

  /** What the end of the last daemon has set aside goes on by itself. */
  private goOn(): void {
    for (const { uuid, job } of this.arrays.values()) {
      if (job !== null && isSetAside(job)) this.startScrub(uuid, "check");
    }
  }

  stop(how: "SIGTERM" | "SIGKILL"): void {
    const stopped = how === "SIGTERM" ? this.daemon!.scheduler.stop() : null;
    if (stopped !== null && this.answersPauses) this.settle(stopped);
    else this.run(1);
    this.daemon = null;
    for (const array of this.arrays.values()) this.setAside(array);
  }

  /** What runs ends with the process, at the place that was told last. */
  private setAside(array: ModelArray): void {
    const { job, sinceMs } = array;
    if (job?.state !== "running") return;
    const doneMs = this.simulation.nowMs() - sinceMs;
    array.leftMs -= doneMs - (doneMs % TOLD_MS);
    array.job = { ...job, state: "paused", error: "parityd ended" };
  }

  put(name: string, schedule: Schedule, force = false): ScheduleView {
    const { book, effects } = this.daemon!;
    const put = this.settle(book.put(name, schedule, { force }, effects));
    if (!put.ok) throw new Error(JSON.stringify(put.error));
    return put.value.view;
  }

  view(name: string): ScheduleView {
    const got = this.settle(this.daemon!.book.get(name));
    if (!got.ok) throw new Error(got.error.detail);
    return got.value;
  }

  missed(): StoredEvent[] {
    return this.events.since(0, 100_000).filter(({ kind }) => kind === "schedule.missed");
  }

  settle<T>(promise: Promise<T>): T {
    return this.simulation.settle(promise, { limitMs: HOUR_MS });
  }

  // The arrays, as a person has them ---------------------------------------------------------

  array(name: string): ModelArray {
    return this.arrays.get(testUuid(name))!;
  }

  isRunning(name: string): boolean {
    return this.array(name).job?.state === "running";
  }

  /** What anybody's call does. */
  startScrub(uuid: string, mode: "check" | "repair"): Result<JobStatus, CommandError> {
    const array = this.arrays.get(uuid)!;
    const isWhole = array.state === "clean" && array.job?.state !== "running";
    if (!isWhole) return err({ kind: "conflict", code: "scrub-not-possible", detail: "not now" });
    const now = new Date(this.wallMs).toISOString();
    if (array.job === null || array.job.kind !== mode) {
      array.leftMs = array.passMs;
      array.job = {
        ...{ id: this.nextJobId, kind: mode, array: array.name, arrayUuid: uuid },
        ...{ done: 0, total: 1, unit: "bytes", rateBytesPerSecond: 0, etaSeconds: null },
        ...{ state: "running", error: null, result: {}, startedAt: now, finishedAt: null },
      };
      this.nextJobId += 1;
    }
    array.job = { ...array.job, state: "running", error: null };
    array.sinceMs = this.simulation.nowMs();
    const { id } = array.job;
    const { sinceMs } = array;
    this.record(array.job);
    this.simulation.scheduleAfter(array.leftMs, () => {
      const isSame = array.job?.id === id && array.sinceMs === sinceMs;
      if (isSame && array.job?.state === "running") this.finish(array, "done");
    });
    return ok(array.job);
  }

  pauseScrub(uuid: string): Result<JobStatus, CommandError> {
    const array = this.arrays.get(uuid)!;
    if (array.job?.state !== "running") {
      return err({ kind: "conflict", code: "no-scrub", detail: "no scrub is running" });
    }
    array.leftMs -= this.simulation.nowMs() - array.sinceMs;
    array.job = { ...array.job, state: "paused" };
    this.record(array.job);
    return ok(array.job);
  }

  cancelScrub(name: string): void {
    this.finish(this.array(name), "cancelled");
  }

  private finish(array: ModelArray, state: "done" | "cancelled"): void {
    const finishedAt = new Date(this.wallMs).toISOString();
    const ended: JobStatus = { ...array.job!, state, finishedAt };
    array.job = null;
    if (state === "done") {
      array.lastScrub = { mode: "check", finishedAt, mismatchBytes: 0, lostBytes: 0 };
    }
    this.record(ended);
  }

  private record(job: JobStatus): void {
    this.daemon?.jobs.record(job);
    this.daemon?.scheduler.lookSoon();
  }

  private client(): ReactorClient {
    const call = async ({ kind }: { kind: string }): Promise<unknown> => {
      if (kind !== "list-jobs") throw new Error(`${kind} is not asked here`);
      return ok([...this.arrays.values()].flatMap(({ job }) => job ?? []));
    };
    return { onJob: () => {}, call } as unknown as ReactorClient;
  }

  private list(): ArrayStatus[] {
    return [...this.arrays.values()].map(({ uuid, name, state, lastScrub, disks }) => {
      const members = disks.map((drive) => ({ drive }));
      const sync = { action: "idle" };
      const status = { uuid, name, state, lastScrub, members, sync, degraded: 0 };
      return status as unknown as ArrayStatus;
    });
  }
}
