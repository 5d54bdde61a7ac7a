/**
 * Growth in members: an array is laid out over more drives while it serves
 * (array/sync/reshape.ts).
 *
 * A reshape keeps no log, so an array of policy `ppl` or `bitmap` is changed to
 * `resync` first, and changed back when its reshape is through. Order: which policy it had is on
 * record before anything is changed, and until the array has it again: whatever ends in between,
 * the next look finds it.
 *
 * A reshape that Linux began may have a bitmap, which the reactor leaves when it goes on with that
 * (array/start/consistency.ts): what it tells of that then is put on record here.
 *
 * | an array with a policy on record          | then                                         |
 * |-------------------------------------------|----------------------------------------------|
 * | has that policy, or one but `resync`      | the record goes: nothing was changed, or     |
 * |                                           | somebody has chosen                          |
 * | is told to have one, `resync` too         | the record goes: that is the later word, and |
 * |                                           | told                                         |
 * | has `resync`, and nothing works on it     | the policy is put back, and told             |
 * | is being reshaped, or does not run        | its end, its start are waited for            |
 * | is rebuilt, resynced, rehearsed, ...      | the same, and it is looked at now and then   |
 * | has `resync`, and refuses (it is degraded)| told once; tried again when something        |
 * |                                           | happens to it, and at each start             |
 */
import type {
  ArrayEvent,
  ArrayStatus,
  CommandError,
  CommandMap,
  ConsistencyPolicy,
  EventKind,
  JobStatus,
  Severity,
} from "../array/protocol.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { DriveKeeper } from "./drive-keeper.ts";
import { Lookout } from "./lookout.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { SharedSpares } from "./spares/shared-spares.ts";
import type { Alarms } from "./state/alarms.ts";
import type { ArrayBook } from "./state/array-book.ts";
import type { CallOrder } from "./state/call-order.ts";
import type { Effects } from "./state/effects.ts";
import type { EventLog } from "./state/event-log.ts";
import type { JobBook } from "./state/job-book.ts";
import type { StateStore } from "./state/state-store.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export interface GrowthRequest {
  /** A label or a UUID. */
  readonly array: string;
  readonly drives: readonly string[];
  readonly force: boolean;
  /** Those that are files get all their space first. */
  readonly allocate: boolean;
}

export interface MemberGrowthParts {
  readonly client: ReactorClient;
  readonly store: StateStore;
  readonly drives: DriveKeeper;
  readonly arrays: ArrayBook;
  readonly calls: CallOrder;
  readonly spares: SharedSpares;
  readonly events: EventLog;
  readonly jobs: JobBook;
  readonly alarms: Alarms;
  readonly log: Log;
}

const LOOK_KINDS: ReadonlySet<EventKind> = new Set<EventKind>([
  "array.grown",
  "array.assembled",
  "member.in-sync",
  "rebuild.finished",
  "rebuild.aborted",
  "replace.finished",
  "replace.aborted",
  "resync.finished",
  "rehearsal.finished",
  "rehearsal.aborted",
]);

export class MemberGrowth {
  private readonly parts: MemberGrowthParts;
  /** By array: why its policy could not be put back, as it was told. */
  private readonly told = new Map<string, string>();
  readonly lookout: Lookout;

  constructor(parts: MemberGrowthParts) {
    this.parts = parts;
    this.lookout = new Lookout(parts.alarms, () => this.look());
  }

  onEvent({ kind, arrayUuid }: ArrayEvent): void {
    if (arrayUuid === null) return;
    if (kind === "bitmap.set-aside") this.noteBitmap(arrayUuid);
    if (this.policyOnRecord(arrayUuid) === null) return;
    if (LOOK_KINDS.has(kind)) this.lookout.soon();
  }

  /**
   * Somebody has chosen the policy of this array, which is being held: the later word, also where
   * that is the policy that it has only for its growth.
   */
  policyChosen(uuid: string, policy: ConsistencyPolicy): void {
    const onRecord = this.policyOnRecord(uuid);
    if (onRecord === null) return;
    this.forget(uuid);
    if (onRecord === policy) return;
    const text = `array ${this.parts.arrays.labelOf(uuid)} keeps the policy ${policy}, as was asked`;
    this.tell(uuid, "info", `${text} for meanwhile: ${onRecord} is not put back when it has grown`);
  }

  /** The array with what it does not know itself. */
  view(status: ArrayStatus): ArrayStatus {
    const policyAfterGrowth = this.policyOnRecord(status.uuid);
    return policyAfterGrowth === null ? status : { ...status, policyAfterGrowth };
  }

  /** Answers with the job of the reshape. Where it is refused, all is as it was. */
  grow(request: GrowthRequest, effects: Effects): Answer<JobStatus> {
    const { spares, calls } = this.parts;
    return spares.using(request.drives, effects, () =>
      calls.withArray(request.array, (uuid) => this.growHeld({ ...request, array: uuid }, effects)),
    );
  }

  private async growHeld(
    { array, drives, force, allocate }: GrowthRequest,
    effects: Effects,
  ): Answer<JobStatus> {
    const { client, drives: keeper, jobs } = this.parts;
    const looked = await keeper.readContents(drives);
    if (!looked.ok) return looked;
    const found = await client.call({ kind: "get-array", array });
    if (!found.ok) return found;
    const { consistencyPolicy: policyNow } = found.value;
    const policyAfter = this.policyOnRecord(array) ?? policyNow;
    const request: CommandMap["add-members"]["request"] = { array, drives, force, policyAfter };
    const judged = await client.call({ kind: "add-members", ...request, dryRun: true });
    if (!judged.ok) return judged;
    const given = await keeper.giveSpace(allocate ? drives : [], effects);
    if (!given.ok) return given;
    const isLogged = policyNow !== "resync";
    const left = isLogged ? await this.leaveLog(array, policyNow, effects) : ok(null);
    if (effects.isDry) return left.ok ? judged : left;
    const job = left.ok ? await client.call({ kind: "add-members", ...request }) : left;
    if (job.ok) {
      jobs.record(job.value);
      return job;
    }
    await this.putBack(array);
    return err(this.withWhatStays(job.error, array, given.value));
  }

  /** The refusal, with what of this call cannot be taken back, or not yet. */
  private withWhatStays(
    error: CommandError,
    array: string,
    allocated: readonly string[],
  ): CommandError {
    const policy = this.policyOnRecord(array);
    const texts = [
      ...(allocated.length === 0 ? [] : [`what was allocated for ${allocated.join(", ")} stays`]),
      ...(policy === null ? [] : [`${policy} is put back as soon as that can be`]),
    ];
    return texts.length === 0 ? error : { ...error, detail: [error.detail, ...texts].join("; ") };
  }

  private async leaveLog(uuid: string, policy: ConsistencyPolicy, effects: Effects): Answer<null> {
    const { arrays } = this.parts;
    const array = { ...arrays.get(uuid)!, policyAfterGrowth: policy };
    const recorded = await effects.commit({ kind: "put-array", array });
    if (!recorded.ok) return recorded;
    const request = { array: uuid, consistencyPolicy: "resync" } as const;
    const changed = await effects.command({ kind: "set-array", ...request });
    if (!changed.ok || effects.isDry) return changed.ok ? ok(null) : changed;
    const label = arrays.labelOf(uuid);
    const text = `array ${label} has the policy resync while it gets more members`;
    this.tell(uuid, "info", `${text}; ${policy} is put back afterwards`);
    return ok(null);
  }

  // Putting back --------------------------------------------------------------------------------

  private async look(): Promise<void> {
    for (const { uuid, policyAfterGrowth } of this.parts.arrays.all()) {
      if (!this.lookout.isLooking) return;
      if (policyAfterGrowth === undefined) continue;
      await this.parts.calls.holding([`array:${uuid}`], async () => {
        await this.putBack(uuid);
        return ok(null);
      });
    }
  }

  private async putBack(uuid: string): Promise<void> {
    const { client } = this.parts;
    const policy = this.policyOnRecord(uuid);
    if (policy === null) return;
    const found = await client.call({ kind: "get-array", array: uuid });
    if (!found.ok || !isWritable(found.value)) return;
    const { consistencyPolicy, sync } = found.value;
    if (consistencyPolicy !== "resync") return this.forget(uuid);
    if (sync.action === "reshape") return;
    // A scrub gives way. What is at work may end without an event.
    if (!["idle", "check", "repair"].includes(sync.action)) return this.lookout.later();
    const request = { array: uuid, consistencyPolicy: policy };
    const changed = await client.call({ kind: "set-array", ...request });
    const label = this.parts.arrays.labelOf(uuid);
    if (changed.ok) {
      this.forget(uuid);
      return this.tell(uuid, "info", `array ${label} has its policy ${policy} back`);
    }
    // What is in the way (no room, say) may pass without an event.
    this.lookout.later();
    const { detail } = changed.error;
    if (this.told.get(uuid) === detail) return;
    this.told.set(uuid, detail);
    const text = `array ${label} keeps the policy resync for now: ${policy} cannot be put back`;
    this.tell(uuid, "warning", `${text} (${detail}); it is tried again, also at each start`);
  }

  private noteBitmap(uuid: string): void {
    const array = this.parts.arrays.get(uuid);
    if (array === undefined || array.policyAfterGrowth !== undefined) return;
    this.parts.store.note({ kind: "put-array", array: { ...array, policyAfterGrowth: "bitmap" } });
  }

  private policyOnRecord(uuid: string): ConsistencyPolicy | null {
    return this.parts.arrays.get(uuid)?.policyAfterGrowth ?? null;
  }

  private forget(uuid: string): void {
    const { policyAfterGrowth: _past, ...array } = this.parts.arrays.get(uuid)!;
    this.told.delete(uuid);
    this.parts.store.note({ kind: "put-array", array });
  }

  private tell(uuid: string, severity: Severity, message: string): void {
    const { events, alarms, arrays } = this.parts;
    const about = { array: arrays.labelOf(uuid), arrayUuid: uuid, drive: null, job: null };
    events.append({ kind: "array.policy", severity, ...about, atMs: alarms.wallMs(), message });
  }
}

function isWritable({ state }: ArrayStatus): boolean {
  return state === "clean" || state === "active" || state === "degraded";
}
