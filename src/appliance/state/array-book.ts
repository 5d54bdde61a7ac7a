/**
 * The arrays that this host knows, by UUID: the label of each, how it stands, what was last seen.
 *
 * A label is given when an array is created or first seen, and never moves to another array by
 * itself. The reactor hears of every array before it may start (`introduce`): it knows no labels of
 * its own.
 *
 * | standing   | starts by itself | label           | with nothing of it present                  |
 * |------------|------------------|-----------------|---------------------------------------------|
 * | `creating` | yes              | taken           | forgotten at the next start                 |
 * | `known`    | yes              | taken           | shown as `absent`                           |
 * | `deleted`  | when asked       | free for others | not shown                                   |
 */
import type {
  ArrayStatus,
  CommandError,
  DriveSuperblock,
  JobStatus,
  ScrubMemory,
} from "../../array/protocol.ts";
import { DEFAULT_TUNING } from "../../array/registry.ts";
import type { Log } from "../../base/log.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { ReactorClient } from "../reactor-client.ts";
import { labelFor, parseUuid } from "./labels.ts";
import type { StoredArray } from "./state.ts";
import type { StateStore } from "./state-store.ts";

export class ArrayBook {
  private readonly store: StateStore;
  private readonly client: ReactorClient;
  private readonly log: Log;
  private readonly isClaimed: (label: string) => boolean;
  /** By uuid: the reactor has been told, or is being told. */
  private readonly introduced = new Map<string, Promise<void>>();

  constructor(options: {
    store: StateStore;
    client: ReactorClient;
    log: Log;
    /** Whether a call is about to give this label: it may just be waiting for the state file. */
    isClaimed: (label: string) => boolean;
  }) {
    this.store = options.store;
    this.client = options.client;
    this.log = options.log;
    this.isClaimed = options.isClaimed;
  }

  /** Those that are remembered, deleted ones among them. */
  all(): StoredArray[] {
    return [...this.store.state.arrays.values()];
  }

  get(uuid: string): StoredArray | undefined {
    return this.store.state.arrays.get(uuid);
  }

  isKnown(uuid: string): boolean {
    return this.get(uuid)?.standing === "known";
  }

  isDeleted(uuid: string): boolean {
    return this.get(uuid)?.standing === "deleted";
  }

  /** Its making has no end yet: it may never have come to be. */
  isUnfinished(uuid: string): boolean {
    return this.get(uuid)?.standing === "creating";
  }

  labelOf(uuid: string): string {
    return this.get(uuid)?.label ?? uuid;
  }

  /** The array that has this label, or null. A deleted one has none. */
  holderOf(label: string): StoredArray | null {
    return (
      this.all().find((array) => array.label === label && array.standing !== "deleted") ?? null
    );
  }

  /** The UUID of the array that a label or a UUID means; of deleted ones the only one so named. */
  resolve(reference: string): Result<string, CommandError> {
    const holder = this.holderOf(reference);
    if (holder !== null) return ok(holder.uuid);
    const uuid = parseUuid(reference);
    if (uuid !== null && this.get(uuid) !== undefined) return ok(uuid);
    const deleted = this.all().filter(({ label }) => label === reference);
    if (deleted.length === 1) return ok(deleted[0]!.uuid);
    const detail =
      deleted.length > 1
        ? `${deleted.length} deleted arrays were called ${reference}: say which by its UUID`
        : `there is no array ${reference}; GET /v1/arrays lists those that are known`;
    return err({ kind: "not-found", code: "unknown-array", detail });
  }

  /** Tells the reactor of every array that is remembered, before any drive is attached. */
  async introduceAll(): Promise<void> {
    await Promise.all(
      this.all().map(({ uuid, label }) =>
        label === null ? Promise.resolve() : this.introduce(uuid),
      ),
    );
  }

  /** A drive says that it belongs to an array: that is remembered, and may start. */
  async learn({ arrayUuid: uuid, arrayName: nameOnDisk }: DriveSuperblock): Promise<void> {
    const known = this.get(uuid);
    if (known === undefined || known.label === null || known.standing === "creating") {
      const isTaken = (label: string): boolean =>
        this.holderOf(label) !== null || this.isClaimed(label);
      const label = known?.label ?? labelFor({ nameOnDisk, uuid }, isTaken);
      const settings = known?.settings ?? {};
      const seen = known?.seen ?? null;
      const array: StoredArray = { uuid, label, standing: "known", settings, seen };
      this.store.note({ kind: "put-array", array });
    }
    await this.introduce(uuid);
  }

  /** Once a run; `introduceAnew` where something has changed. */
  private introduce(uuid: string): Promise<void> {
    const before = this.introduced.get(uuid);
    if (before !== undefined) return before;
    return this.introduceAnew(uuid);
  }

  introduceAnew(uuid: string): Promise<void> {
    const told = this.tell(uuid);
    this.introduced.set(uuid, told);
    return told;
  }

  private async tell(uuid: string): Promise<void> {
    const array = this.get(uuid)!;
    const label = array.label ?? uuid;
    const told = await this.client.call({
      kind: "introduce-array",
      array: uuid,
      // Its label may be another array's by now.
      name: array.standing === "deleted" ? labelFor({ nameOnDisk: label, uuid }, isNever) : label,
      mayStart: array.standing !== "deleted",
      tuning: definedOf(array.settings),
      scrub: this.scrubMemory(array),
      rates: array.seen?.syncRates ?? [],
    });
    if (told.ok) {
      if (told.value !== null) this.observe(told.value);
      return;
    }
    this.introduced.delete(uuid);
    this.log.write("warn", "array not introduced", { array: label, ...told.error });
  }

  private scrubMemory({ uuid, seen }: StoredArray): ScrubMemory {
    const paused = [...this.store.state.jobs.values()].findLast((job) => isPausedScrub(job, uuid));
    const last = seen?.lastScrub ?? null;
    return { mismatchBytes: seen?.mismatchBytes ?? 0, last, paused: paused ?? null };
  }

  /** Remembers how an array was last seen. */
  observe(status: ArrayStatus): void {
    const known = this.get(status.uuid);
    if (known === undefined) return;
    const seen = seenOf(status);
    if (Bun.deepEquals(known.seen, seen)) return;
    this.store.note({ kind: "put-array", array: { ...known, seen } });
  }

  /** Nothing of these was there when all drives had been looked at: they never came to be. */
  forgetUnfinished(): void {
    for (const { uuid, standing } of this.all()) {
      if (standing === "creating") this.store.note({ kind: "forget-array", uuid });
    }
  }

  /** Those that ought to be there and are not among `present`. */
  absent(present: ReadonlySet<string>): ArrayStatus[] {
    return this.all()
      .filter(({ uuid, standing }) => standing === "known" && !present.has(uuid))
      .map(absentStatus);
  }
}

/** With which a label gets digits of the UUID. */
function isNever(label: string): boolean {
  return !/-[0-9a-f]{8,}$/.test(label);
}

export function isScrub({ kind }: JobStatus): boolean {
  return kind === "check" || kind === "repair";
}

export function isPausedScrub(job: JobStatus, arrayUuid: string): boolean {
  return isScrub(job) && job.state === "paused" && job.arrayUuid === arrayUuid;
}

function seenOf(status: ArrayStatus): StoredArray["seen"] {
  const { nameOnDisk, layout, chunkBytes, sizeBytes, consistencyPolicy, eventCount } = status;
  const { mismatchBytes, lastScrub } = status;
  const syncRates = [...status.syncRates];
  const memberCount = status.members.length;
  return {
    ...{ nameOnDisk, layout, chunkBytes, sizeBytes, consistencyPolicy, eventCount },
    ...{ memberCount, mismatchBytes, lastScrub, syncRates },
  };
}

function absentStatus({ uuid, label, seen, settings }: StoredArray): ArrayStatus {
  const memberCount = seen?.memberCount ?? 0;
  return {
    name: label ?? uuid,
    uuid,
    nameOnDisk: seen?.nameOnDisk ?? null,
    state: "absent",
    level: "raid5",
    layout: seen?.layout ?? "unknown",
    chunkBytes: seen?.chunkBytes ?? 0,
    sizeBytes: seen?.sizeBytes ?? 0,
    consistencyPolicy: seen?.consistencyPolicy ?? "resync",
    eventCount: seen?.eventCount ?? 0,
    degraded: memberCount,
    reason: "no drive that is here carries its superblock",
    isHeld: false,
    startNeeds: "drives",
    members: [],
    spares: [],
    candidates: [],
    sync: {
      action: "idle",
      doneBytes: 0,
      totalBytes: 0,
      rateBytesPerSecond: 0,
      etaSeconds: null,
    },
    mismatchBytes: seen?.mismatchBytes ?? 0,
    lostBytes: 0,
    lastScrub: seen?.lastScrub ?? null,
    pausedScrub: null,
    syncRates: seen?.syncRates ?? [],
    forecast: null,
    ...DEFAULT_TUNING,
    ...definedOf(settings),
  };
}

/** Without the settings that are not set. */
export function definedOf<T extends object>(
  settings: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(
    Object.entries(settings).filter(([, value]) => value !== undefined),
  ) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
