/**
 * The scrub schedules, one for each array, by its UUID: what calls set, show and remove, and what
 * is remembered of each. When they are due is for scheduler.ts.
 *
 * Calls that change a schedule and looks at it never overlap (`alone`).
 */
import type { CommandError } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { isoTime } from "../../base/time.ts";
import type { CallOrder } from "../state/call-order.ts";
import type { Effects } from "../state/effects.ts";
import type { ScheduleMemory, StoredSchedule } from "../state/state.ts";
import type { StateStore } from "../state/state-store.ts";
import { newMemory } from "./decision.ts";
import { Scene, type SceneParts } from "./scene.ts";
import { firstOverlap, type Schedule } from "./schedule.ts";
import { type ScheduleView, viewOf } from "./schedule-view.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

/** Values of a body that cannot be taken, each with where it stands in it. */
export interface BadValues {
  readonly kind: "bad-values";
  readonly issues: readonly { readonly pointer: string; readonly detail: string }[];
}

export interface Put {
  readonly created: boolean;
  readonly view: ScheduleView;
}

export class ScheduleBook {
  private readonly scene: SceneParts;
  private readonly store: StateStore;
  private readonly calls: CallOrder;
  private onPut: () => void = () => {};

  constructor(parts: { scene: SceneParts; store: StateStore; calls: CallOrder }) {
    this.scene = parts.scene;
    this.store = parts.store;
    this.calls = parts.calls;
  }

  get all(): StoredSchedule[] {
    return [...this.store.state.schedules.values()];
  }

  of(arrayUuid: string): StoredSchedule | null {
    return this.store.state.schedules.get(arrayUuid) ?? null;
  }

  /** Told when one is new or has changed. */
  whenPut(onPut: () => void): void {
    this.onPut = onPut;
  }

  /** Work that no call and no look is in the way of. */
  alone<T>(work: () => Answer<T>): Answer<T> {
    return this.calls.holding(["schedules"], work);
  }

  /** What comes of a look is written down when state.db takes it. */
  remember(arrayUuid: string, change: (memory: ScheduleMemory) => ScheduleMemory): void {
    const stored = this.of(arrayUuid);
    if (stored === null) return;
    const memory = change(stored.memory);
    if (Bun.deepEquals(memory, stored.memory)) return;
    this.store.note({ kind: "put-schedule", schedule: { ...stored, memory } });
  }

  // Calls ---------------------------------------------------------------------------------------

  /** Answers when it is recorded. With force also where it will have to wait for another one. */
  async put(
    reference: string,
    schedule: Schedule,
    options: { readonly force: boolean },
    effects: Effects,
  ): Promise<Result<Put, CommandError | BadValues>> {
    const { arrays } = this.scene;
    const put = await this.calls.withArray<Put | BadValues>(reference, async (arrayUuid) => {
      if (arrays.isDeleted(arrayUuid)) return err(isDeletedArray(reference));
      if (arrays.isUnfinished(arrayUuid)) return err(isUnfinishedArray(reference));
      return this.alone<Put | BadValues>(async () => {
        const scene = await Scene.read(this.scene);
        if (!scene.ok) return scene;
        const other = options.force ? null : this.overlapOf(arrayUuid, schedule, scene.value);
        return other === null ? this.record(arrayUuid, schedule, scene.value, effects) : ok(other);
      });
    });
    if (!put.ok) return put;
    return "kind" in put.value ? err(put.value) : ok(put.value);
  }

  private async record(
    arrayUuid: string,
    schedule: Schedule,
    scene: Scene,
    effects: Effects,
  ): Answer<Put> {
    const before = this.of(arrayUuid);
    const memory = newMemory(scene.nowMs, before?.memory ?? null);
    const stored: StoredSchedule = { arrayUuid, ...schedule, memory };
    const recorded = await effects.commit({ kind: "put-schedule", schedule: stored });
    if (!recorded.ok) return recorded;
    effects.have(() => this.onPut());
    return ok({ created: before === null, view: this.view(stored, scene) });
  }

  async get(reference: string): Answer<ScheduleView> {
    const uuid = this.scene.arrays.resolve(reference);
    if (!uuid.ok) return uuid;
    if (this.of(uuid.value) === null) return err(hasNone(reference));
    const scene = await Scene.read(this.scene);
    if (!scene.ok) return scene;
    const stored = this.of(uuid.value);
    return stored === null ? err(hasNone(reference)) : ok(this.view(stored, scene.value));
  }

  async list(): Answer<ScheduleView[]> {
    if (this.all.length === 0) return ok([]);
    const scene = await Scene.read(this.scene);
    if (!scene.ok) return scene;
    const views = this.all.map((stored) => this.view(stored, scene.value));
    return ok(views.sort((left, right) => (left.array < right.array ? -1 : 1)));
  }

  /** A scrub that runs by it goes on, as if a person had started it. */
  remove(reference: string, effects: Effects): Answer<null> {
    return this.calls.withArray(reference, (arrayUuid) =>
      this.alone(async () => {
        if (this.of(arrayUuid) === null) return err(hasNone(reference));
        return effects.commit({ kind: "delete-schedule", arrayUuid });
      }),
    );
  }

  /** Another array's schedule that has a window open at the same time, and a disk in common. */
  private overlapOf(arrayUuid: string, schedule: Schedule, scene: Scene): BadValues | null {
    const own = scene.disksOf(arrayUuid);
    for (const other of this.all) {
      if (other.arrayUuid === arrayUuid) continue;
      const shared = [...scene.disksOf(other.arrayUuid)].find((disk) => own.has(disk));
      if (shared === undefined) continue;
      const overlap = firstOverlap(schedule, other, scene.nowMs);
      if (overlap === null) continue;
      const name = this.scene.arrays.labelOf(other.arrayUuid);
      const detail =
        `it overlaps the schedule of array ${name}, which lies on disk ${shared} too: both have a ` +
        `window open at ${isoTime(overlap.opensMs)}. Open it at another time, or say force: then ` +
        "they take turns, the one whose last scrub is older first";
      return { kind: "bad-values", issues: [{ pointer: "#/cron", detail }] };
    }
    return null;
  }

  private view(stored: StoredSchedule, scene: Scene): ScheduleView {
    const { arrayUuid } = stored;
    const label = this.scene.arrays.labelOf(arrayUuid);
    const lastScrub = scene.lastScrubOf(arrayUuid);
    return viewOf(stored, scene.factsOf(stored), { label, lastScrub });
  }
}

function hasNone(reference: string): CommandError {
  const detail = `array ${reference} has no schedule: parityd schedule set ${reference} makes one`;
  return { kind: "not-found", code: "no-schedule", detail };
}

function isUnfinishedArray(reference: string): CommandError {
  const detail = `array ${reference} is not made yet: try again when the daemon is ready`;
  return { kind: "conflict", code: "array-unfinished", detail };
}

function isDeletedArray(reference: string): CommandError {
  const detail = `array ${reference} was deleted here: start it first to have it back`;
  return { kind: "conflict", code: "array-deleted", detail };
}
