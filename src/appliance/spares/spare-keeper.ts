/**
 * Gives shared spares to the arrays that need one, and tells when an array has no spare any more.
 * What is left then may replace suspect members (suspect-replacer.ts).
 *
 * It looks when something has happened that may change who needs what: to an array, to a drive, to
 * the shared spares. An array's own spares come first: it seats them itself, and a look finds it
 * rebuilding then. What a look decides is pick-spare.ts; what is done is the add of a member, as
 * anybody's, never by force.
 *
 *   ready ──► seating ──► a member: it is shared no more
 *     ▲          │ refused
 *     └──────────┤ it is as before: not tried for this array until something changes there
 *                ├ it does not take a write: failed, and told (spare.failed); the next one is taken
 *                └ it holds something: foreign, and told
 */
import type {
  ArrayEvent,
  ArrayStatus,
  CommandError,
  EventKind,
  Severity,
} from "../../array/protocol.ts";
import type { Log } from "../../base/log.ts";
import { ok, type Result } from "../../base/result.ts";
import type { DriveKeeper } from "../drive-keeper.ts";
import { Lookout, RETRY_MS } from "../lookout.ts";
import type { ReactorClient } from "../reactor-client.ts";
import type { Alarms } from "../state/alarms.ts";
import type { ArrayBook } from "../state/array-book.ts";
import type { CallOrder } from "../state/call-order.ts";
import type { EventLog } from "../state/event-log.ts";
import type { JobBook } from "../state/job-book.ts";
import type { StateStore } from "../state/state-store.ts";
import { needsSpare, pickSpares, type ReadySpare, type SparePick } from "./pick-spare.ts";
import type { SharedSpares, SurveyedSpare } from "./shared-spares.ts";
import { SuspectReplacer } from "./suspect-replacer.ts";

const LOOK_KINDS: ReadonlySet<EventKind> = new Set<EventKind>([
  "member.failed",
  "member.in-sync",
  "member.returned",
  "member.suspect",
  "array.created",
  "array.assembled",
  "array.stopped",
  "array.policy",
  "array.grown",
  "reshape.started",
  "array.degraded",
  "spare.failed",
  "rebuild.started",
  "rebuild.finished",
  "rebuild.aborted",
  "replace.started",
  "replace.finished",
  "replace.aborted",
  "resync.finished",
  "scrub.finished",
  "scrub.paused",
]);
const RUNNING: ReadonlySet<ArrayStatus["state"]> = new Set<ArrayStatus["state"]>([
  "read-only",
  "degraded",
  "active",
  "clean",
]);

export interface SpareKeeperParts {
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

export class SpareKeeper {
  private readonly parts: SpareKeeperParts;
  private readonly replacer: SuspectReplacer;
  /** By array: since when it has been seen to need one. */
  private readonly needySince = new Map<string, number>();
  /** By array: drives that it was refused, for as long as nothing changes. */
  private readonly refused = new Map<string, Set<string>>();
  /** By array: the shared spares that could take a role in it. */
  private usable = new Map<string, string[]>();
  /** Before its start an array's own spare may just not be there yet. */
  readonly lookout: Lookout;

  constructor(parts: SpareKeeperParts) {
    this.parts = parts;
    this.lookout = new Lookout(parts.alarms, () => this.lookOnce());
    this.replacer = new SuspectReplacer({
      parts,
      notTaken: (array, drive, error) => this.notTaken(array, drive, error),
      taken: ({ array, spare, member, isShared }) => {
        if (!isShared) return;
        const label = parts.arrays.labelOf(array);
        const text = `shared spare ${spare} replaces the suspect drive ${member} of array ${label}`;
        this.tell("spare.taken", "info", { array, drive: spare, text });
      },
      lookSoon: () => this.lookout.soon(),
      lookLater: () => this.lookout.later(),
    });
  }

  onEvent({ kind, arrayUuid }: ArrayEvent): void {
    if (!LOOK_KINDS.has(kind)) return;
    if (arrayUuid !== null) this.refused.delete(arrayUuid);
    this.lookout.soon();
  }

  /** The drive is another one than it was when it was refused. */
  driveChanged(drive: string): void {
    for (const drives of this.refused.values()) drives.delete(drive);
    this.lookout.soon();
  }

  /** The shared spares that could take a role in this array, as of the last look. */
  usableFor(arrayUuid: string): readonly string[] {
    return this.usable.get(arrayUuid) ?? [];
  }

  /** The one that this array would get if it needed one now; null: none. */
  async nextFor(arrayUuid: string): Promise<string | null> {
    const surveyed = await this.parts.spares.survey();
    if (!surveyed.ok) return null;
    const ready = surveyed.value.filter(({ state }) => state === "ready");
    const [pick] = pickSpares([{ uuid: arrayUuid, sinceMs: 0 }], this.candidates(ready));
    return pick?.drive ?? null;
  }

  private async lookOnce(): Promise<void> {
    const { client, spares } = this.parts;
    const arrays = await client.call({ kind: "list-arrays" });
    const surveyed = await spares.survey({ forgets: true });
    if (!arrays.ok || !surveyed.ok || !this.lookout.isLooking) return;
    const ready = surveyed.value.filter(({ state }) => state === "ready");
    this.noteUsable(arrays.value, ready);
    this.noteNeed(arrays.value);
    for (const array of arrays.value) this.tellMissing(array);
    const candidates = this.candidates(ready);
    const picks = this.picks(candidates);
    for (const pick of picks) void this.take(pick);
    const given = new Set(picks.map(({ drive }) => drive));
    const left = candidates.filter(({ drive }) => !given.has(drive));
    this.replacer.look(arrays.value, left);
  }

  private noteUsable(arrays: readonly ArrayStatus[], ready: readonly SurveyedSpare[]): void {
    this.usable = new Map(
      arrays.map(({ uuid }) => {
        const fitting = ready.filter(({ fits }) => fits.has(uuid));
        return [uuid, fitting.map(({ spare }) => spare.drive).sort()];
      }),
    );
  }

  private noteNeed(arrays: readonly ArrayStatus[]): void {
    const needy = new Set(arrays.filter(needsSpare).map(({ uuid }) => uuid));
    for (const uuid of this.needySince.keys()) if (!needy.has(uuid)) this.needySince.delete(uuid);
    const nowMs = this.parts.alarms.nowMs();
    for (const uuid of needy) if (!this.needySince.has(uuid)) this.needySince.set(uuid, nowMs);
  }

  private picks(candidates: readonly ReadySpare[]): SparePick[] {
    const served = new Set(this.parts.spares.seating.values());
    const needy = [...this.needySince]
      .filter(([uuid]) => !served.has(uuid))
      .map(([uuid, sinceMs]) => ({ uuid, sinceMs }));
    return pickSpares(needy, candidates);
  }

  private candidates(ready: readonly SurveyedSpare[]): ReadySpare[] {
    const isRefused = (uuid: string, drive: string) => this.refused.get(uuid)?.has(drive) === true;
    return ready.map(({ spare: { drive }, sizeBytes, fits }) => {
      const wanted = [...fits].filter((uuid) => !isRefused(uuid, drive));
      return { drive, sizeBytes, fits: new Set(wanted) };
    });
  }

  // One spare -----------------------------------------------------------------------------------

  private async take({ array, drive }: SparePick): Promise<void> {
    const { calls, spares } = this.parts;
    // At once: the next look gives neither of them away again.
    spares.seating.set(drive, array);
    await calls.holding([`drive:${drive}`], () => this.giveTo(array, drive));
    spares.seating.delete(drive);
    this.lookout.soon();
  }

  private async giveTo(array: string, drive: string): Promise<Result<null, CommandError>> {
    const { client, drives, spares, jobs, arrays } = this.parts;
    // Whoever had the drive until now may have withdrawn it, used it, or shared it with others.
    const spare = spares.get(drive);
    const isStillFor = spare?.arrays === null || spare?.arrays.includes(array) === true;
    if (!isStillFor || spare.failure !== null || !this.lookout.isLooking) return ok(null);
    const looked = await drives.readContents([drive]);
    // Never by force: what it holds, if anything, is somebody's.
    const request = { array, drive, force: false, isForRole: true };
    const added = looked.ok ? await client.call({ kind: "add-member", ...request }) : looked;
    if (!added.ok) {
      await this.notTaken(array, drive, added.error);
      return ok(null);
    }
    await drives.observeAll();
    spares.forget(drive);
    if (added.value.role === "rebuild") jobs.record(added.value.job);
    const text = `shared spare ${drive} takes the free role of array ${arrays.labelOf(array)}`;
    this.tell("spare.taken", "info", { array, drive, text });
    return ok(null);
  }

  private async notTaken(array: string, drive: string, error: CommandError): Promise<void> {
    const { drives, spares, store, alarms, log, arrays } = this.parts;
    const { detail } = error;
    log.write("warn", "shared spare not taken", { array: arrays.labelOf(array), drive, detail });
    const listed = await drives.list();
    const status = listed.ok ? listed.value.find(({ name }) => name === drive) : undefined;
    const spare = spares.get(drive);
    if (status === undefined || spare === undefined) return;
    if (status.superblock !== undefined) {
      // It has come as far as to be the array's: what became of it there is told by that.
      spares.forget(drive);
      return;
    }
    // A full file system is no fault of a file that was left sparse.
    const isBroken = error.kind === "io" && status.isSparse !== true;
    if (isBroken) {
      store.note({ kind: "put-spare", spare: { ...spare, failure: detail } });
    }
    if (isBroken || status.state === "foreign") {
      const text = `shared spare ${drive} cannot be used: ${status.detail ?? detail}`;
      this.tell("spare.failed", "warning", { array, drive, text });
      return;
    }
    const refusedDrives = this.refused.get(array) ?? new Set();
    this.refused.set(array, refusedDrives.add(drive));
    // What was in the way of these passes, and nobody tells when.
    if (!["busy", "io"].includes(error.kind) && error.code !== "no-free-role") return;
    alarms.after(RETRY_MS, () => {
      refusedDrives.delete(drive);
      this.lookout.soon();
    });
  }

  // What is told --------------------------------------------------------------------------------

  /** Once, when the last one of an array is gone; again after there was one in between. */
  private tellMissing({ uuid, state, spares }: ArrayStatus): void {
    const { arrays, store, spares: shared } = this.parts;
    const known = arrays.get(uuid);
    if (!RUNNING.has(state) || known === undefined) return;
    // It is not known yet whether it keeps the one that it is getting.
    if ([...shared.seating.values()].includes(uuid)) return;
    const hasSpare = spares.length > 0 || this.usableFor(uuid).length > 0;
    const hadSpare = known.hasSpare === true;
    if (hasSpare === hadSpare) return;
    store.note({ kind: "put-array", array: { ...known, hasSpare } });
    if (hasSpare) return;
    const text = `array ${arrays.labelOf(uuid)} has no spare left: add one, or share one`;
    this.tell("spares.missing", "warning", { array: uuid, drive: null, text });
  }

  private tell(
    kind: EventKind,
    severity: Severity,
    { array, drive, text }: { array: string; drive: string | null; text: string },
  ): void {
    const { events, alarms, arrays } = this.parts;
    const about = { array: arrays.labelOf(array), arrayUuid: array, drive, job: null };
    events.append({ kind, severity, ...about, atMs: alarms.wallMs(), message: text });
  }
}
