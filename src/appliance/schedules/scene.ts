/** What is at one look: the clock on the wall, the arrays, their scrubs, and who has which disk. */
import {
  type ArrayStatus,
  type CommandError,
  isSetAside,
  type JobStatus,
} from "../../array/protocol.ts";
import { ok, type Result } from "../../base/result.ts";
import type { DriveKeeper } from "../drive-keeper.ts";
import type { Alarms } from "../state/alarms.ts";
import { type ArrayBook, isScrub } from "../state/array-book.ts";
import { isFinished, type JobBook } from "../state/job-book.ts";
import type { StoredSchedule } from "../state/state.ts";
import type { Facts, Scrub } from "./decision.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export interface SceneParts {
  readonly arrays: ArrayBook;
  readonly drives: DriveKeeper;
  readonly jobs: JobBook;
  readonly alarms: Alarms;
  readonly listArrays: () => Answer<ArrayStatus[]>;
}

export class Scene {
  readonly nowMs: number;
  private readonly parts: SceneParts;
  private readonly statuses: ReadonlyMap<string, ArrayStatus>;
  private readonly jobs: readonly JobStatus[];
  /** By disk: the label of the array whose scrub has it. */
  private readonly taken = new Map<string, string>();

  private constructor(
    parts: SceneParts,
    seen: { readonly jobs: readonly JobStatus[]; readonly arrays: readonly ArrayStatus[] },
  ) {
    this.parts = parts;
    this.nowMs = parts.alarms.wallMs();
    this.jobs = seen.jobs;
    this.statuses = new Map(seen.arrays.map((status) => [status.uuid, status]));
    for (const job of this.jobs) {
      if (job.state === "running" && isScrub(job)) this.take(job.arrayUuid);
    }
  }

  static async read(parts: SceneParts): Answer<Scene> {
    // Order: jobs first. A scrub that has ended by then is the last one of its array.
    const jobs = await parts.jobs.list();
    if (!jobs.ok) return jobs;
    const arrays = await parts.listArrays();
    return arrays.ok ? ok(new Scene(parts, { jobs: jobs.value, arrays: arrays.value })) : arrays;
  }

  lastScrubOf(arrayUuid: string): ArrayStatus["lastScrub"] {
    return this.statuses.get(arrayUuid)?.lastScrub ?? null;
  }

  lastScrubMs(arrayUuid: string): number | null {
    const atMs = Date.parse(this.lastScrubOf(arrayUuid)?.finishedAt ?? "");
    return Number.isNaN(atMs) ? null : atMs;
  }

  /** A scrub of this array runs from now on. */
  take(arrayUuid: string): void {
    const label = this.parts.arrays.labelOf(arrayUuid);
    for (const disk of this.disksOf(arrayUuid)) this.taken.set(disk, label);
  }

  /** The physical disks under an array, as far as its drives are here. */
  disksOf(arrayUuid: string): ReadonlySet<string> {
    const drives = this.statuses.get(arrayUuid)?.members.map(({ drive }) => drive) ?? [];
    return this.parts.drives.disksOf(drives.filter((drive) => drive !== null));
  }

  factsOf(stored: StoredSchedule): Facts {
    const { arrayUuid, memory } = stored;
    const job = this.jobs.find(({ id }) => id === memory.pass?.jobId);
    return {
      nowMs: this.nowMs,
      schedule: stored,
      memory,
      lastScrubMs: this.lastScrubMs(arrayUuid),
      scrub: this.scrubOf(arrayUuid),
      ended: job !== undefined && isFinished(job) ? job : null,
      obstacle: obstacleOf(this.statuses.get(arrayUuid)),
      diskTaken: this.whoTook(arrayUuid),
    };
  }

  private whoTook(arrayUuid: string): string | null {
    for (const disk of this.disksOf(arrayUuid)) {
      const label = this.taken.get(disk);
      if (label === undefined) continue;
      return `the end of the scrub of array ${label}, which lies on disk ${disk} too`;
    }
    return null;
  }

  /** The one that runs, or the newest that is paused. One that is set aside runs: by itself. */
  private scrubOf(uuid: string): Scrub {
    const own = this.jobs.filter((job) => job.arrayUuid === uuid && isScrub(job));
    const running = own.find((job) => job.state === "running" || isSetAside(job));
    if (running !== undefined) return { kind: "running", jobId: running.id };
    const paused = own.filter(({ state }) => state === "paused").map(({ id }) => id);
    return paused.length === 0 ? { kind: "none" } : { kind: "paused", jobId: Math.max(...paused) };
  }
}

/** What a scrub of it would have to wait for, or null. */
function obstacleOf(status: ArrayStatus | undefined): string | null {
  if (status === undefined) return "the array, which is not there";
  const { state, sync, degraded } = status;
  if (state !== "clean" && state !== "active") return `the array, which is ${state}`;
  if (degraded > 0) return "the array, which lacks a member";
  const { action } = sync;
  const goesBefore = ["resync", "rebuild", "grow", "reshape", "rehearsal"].includes(action);
  return goesBefore ? `the end of the ${action}` : null;
}
