/**
 * Keeps the scrub schedules: looks, decides (decision.ts says by which rules), and acts by the
 * appliance's own calls.
 *
 * No timer holds anything: one only brings about the next look, at the latest in a minute, sooner
 * where a window opens or closes, or something has happened to an array. Each look reads the clock
 * on the wall and what is, so that it does not matter when it comes, how late, or in which run of
 * the daemon.
 *
 * Arrays are looked at in the order of their last scrubs, the oldest first: where two share a
 * physical disk, that one has it, and the other waits as long as it is being scrubbed, by whomever.
 *
 * Order: a pause is noted before it is asked for, else the next look would take it for a person's;
 * a start after it, since the id of its job is not known before. A daemon that is killed in between
 * takes the scrub with it.
 */
import type { CommandError, JobStatus } from "../../array/protocol.ts";
import type { Log } from "../../base/log.ts";
import { ok, type Result } from "../../base/result.ts";
import { isoTime } from "../../base/time.ts";
import type { EventLog } from "../state/event-log.ts";
import { isFinished } from "../state/job-book.ts";
import type { StoredSchedule } from "../state/state.ts";
import type { StateStore } from "../state/state-store.ts";
import { type Action, begun, decide, type Facts, pausing, restartedMemory } from "./decision.ts";
import { Scene, type SceneParts } from "./scene.ts";
import { nextWindow, type Window, windowAt } from "./schedule.ts";
import type { ScheduleBook } from "./schedule-book.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export interface SchedulerParts {
  readonly book: ScheduleBook;
  readonly scene: SceneParts;
  readonly store: StateStore;
  readonly events: EventLog;
  readonly log: Log;
  readonly startScrub: (request: {
    readonly array: string;
    readonly mode: "check" | "repair";
    readonly limitBytesPerSecond: number | null;
    readonly restart: boolean;
  }) => Answer<JobStatus>;
  readonly pauseScrub: (array: string) => Answer<JobStatus>;
}

const LOOK_MS = 60_000;
/** What has happened is looked at once for all events of so long. */
const SOON_MS = 200;
/** A clock that stands at the edge of a window brings about no storm of looks. */
const LOOK_MS_MIN = 1_000;

export class Scheduler {
  private readonly parts: SchedulerParts;
  private isRunning = false;
  private isSoon = false;
  /** By array: why its scrub was refused the last time, which is told once. */
  private readonly refusals = new Map<string, string>();
  private stopTimer: () => void = () => {};

  constructor(parts: SchedulerParts) {
    this.parts = parts;
    parts.book.whenPut(() => this.lookSoon());
  }

  private get all(): StoredSchedule[] {
    return this.parts.book.all;
  }

  /** All drives have been opened: from now on it looks. */
  begin(): void {
    const { book, store } = this.parts;
    const isOpen = (jobId: number): boolean => {
      const job = store.state.jobs.get(jobId);
      return job !== undefined && !isFinished(job);
    };
    for (const { arrayUuid } of this.all) {
      book.remember(arrayUuid, (memory) => restartedMemory(memory, isOpen));
    }
    this.isRunning = true;
    this.lookSoon();
  }

  /** The daemon stops: what runs by a schedule is paused, so that it goes on at the next start. */
  async stop(): Promise<void> {
    this.isRunning = false;
    this.stopTimer();
    await this.parts.book.alone(async () => {
      const running = this.all.filter(({ memory }) => memory.pass?.state === "runs");
      await Promise.all(running.map(({ arrayUuid }) => this.pause(arrayUuid)));
      return ok(null);
    });
  }

  /** Something has happened, which may matter here. */
  lookSoon(): void {
    if (!this.isRunning || this.isSoon || this.all.length === 0) return;
    this.isSoon = true;
    this.parts.scene.alarms.after(SOON_MS, () => {
      this.isSoon = false;
      void this.look();
    });
  }

  private async look(): Promise<void> {
    await this.parts.book.alone(async () => {
      if (this.isRunning && this.all.length > 0) await this.lookAtAll();
      return ok(null);
    });
    this.stopTimer();
    if (!this.isRunning || this.all.length === 0) return;
    // Polls: of a window that opens only the clock tells, and nobody tells of a clock that is set.
    this.stopTimer = this.parts.scene.alarms.after(this.nextLookMs(), () => void this.look());
  }

  private async lookAtAll(): Promise<void> {
    const scene = await Scene.read(this.parts.scene);
    if (!scene.ok) return;
    const ageOf = ({ arrayUuid }: StoredSchedule): number =>
      scene.value.lastScrubMs(arrayUuid) ?? 0;
    const inOrder = this.all.sort(
      (one, other) => ageOf(one) - ageOf(other) || (one.arrayUuid < other.arrayUuid ? -1 : 1),
    );
    for (const { arrayUuid } of inOrder) await this.tend(arrayUuid, scene.value);
  }

  private async tend(arrayUuid: string, scene: Scene): Promise<void> {
    const { book } = this.parts;
    const stored = book.of(arrayUuid);
    // Its array may have been deleted while another one was tended.
    if (stored === null || !this.isRunning) return;
    const facts = scene.factsOf(stored);
    const { action, memory, window } = decide(facts);
    book.remember(arrayUuid, () => memory);
    switch (action.kind) {
      case "missed":
        this.tellMissed(arrayUuid, action, facts);
        // It is owed from now on: what is done about it is decided next.
        await this.tend(arrayUuid, scene);
        return;
      case "pause":
        await this.pause(arrayUuid);
        return;
      case "start":
      case "resume":
        if (await this.start(stored, { action, window: window! })) scene.take(arrayUuid);
        return;
      case "nothing":
        return;
    }
  }

  private async start(
    { arrayUuid: array, limitBytesPerSecond, mode: wanted }: StoredSchedule,
    { action, window }: { action: Action & { kind: "start" | "resume" }; window: Window },
  ): Promise<boolean> {
    const { book, scene, log, startScrub } = this.parts;
    // One that is paused goes on as what it is, also where the schedule has another mode by now.
    const mode = action.kind === "resume" ? this.modeOf(action.jobId, wanted) : wanted;
    const job = await startScrub({ array, mode, limitBytesPerSecond, restart: false });
    const label = scene.arrays.labelOf(array);
    if (!job.ok) {
      const { detail } = job.error;
      if (this.refusals.get(array) === detail) return false;
      this.refusals.set(array, detail);
      log.write("info", "a scrub that is due cannot run now", { array: label, detail });
      return false;
    }
    this.refusals.delete(array);
    book.remember(array, (memory) => begun(memory, job.value.id, window));
    log.write("info", "a scrub runs by its schedule", { array: label, job: job.value.id });
    return true;
  }

  private modeOf(jobId: number, otherwise: "check" | "repair"): "check" | "repair" {
    const kind = this.parts.store.state.jobs.get(jobId)?.kind;
    return kind === "check" || kind === "repair" ? kind : otherwise;
  }

  private async pause(arrayUuid: string): Promise<void> {
    const { book, pauseScrub } = this.parts;
    const jobId = book.of(arrayUuid)?.memory.pass?.jobId;
    if (jobId === undefined) return;
    book.remember(arrayUuid, (memory) => pausing(memory, jobId));
    const paused = await pauseScrub(arrayUuid);
    // One that has ended in this moment, or cannot be paused, is for the next look.
    if (!paused.ok || paused.value.state !== "paused") return;
    book.remember(arrayUuid, (memory) => {
      const { pass } = memory;
      return pass?.jobId === jobId ? { ...memory, pass: { jobId, state: "paused" } } : memory;
    });
  }

  private tellMissed(
    arrayUuid: string,
    { window, nextMs }: Action & { kind: "missed" },
    { nowMs, obstacle }: Facts,
  ): void {
    const array = this.parts.scene.arrays.labelOf(arrayUuid);
    const atOnce = obstacle === null ? "in one that opens now" : "as soon as it can be scrubbed";
    const madeUp = nextMs === null ? atOnce : `in that of ${isoTime(nextMs)}`;
    const message =
      `array ${array} is due for a scrub, and its window from ${isoTime(window.opensMs)} to ` +
      `${isoTime(window.closesMs)} was missed: it is made up for ${madeUp}`;
    const what = { kind: "schedule.missed", severity: "warning", message } as const;
    this.parts.events.append({ ...what, array, arrayUuid, drive: null, job: null, atMs: nowMs });
  }

  /** Up to the nearest edge of a window. */
  private nextLookMs(): number {
    const nowMs = this.parts.scene.alarms.wallMs();
    const edges = this.all.flatMap((stored) => [
      windowAt(stored, nowMs)?.closesMs,
      stored.memory.makeUp?.closesMs,
      nextWindow(stored, nowMs)?.opensMs,
    ]);
    const ahead = edges.filter((edgeMs) => edgeMs !== undefined && edgeMs > nowMs) as number[];
    return Math.max(LOOK_MS_MIN, Math.min(LOOK_MS, Math.min(...ahead) - nowMs));
  }
}
