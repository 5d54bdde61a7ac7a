/**
 * Has suspect members replaced by spares, before they fail. It is given each look of the spare
 * keeper, after the arrays that are degraded have had their pick; which member is next and by which
 * drive is pick-suspect.ts. What is done is the replace of a member, as anybody's, never by force.
 *
 * A refusal is no attempt: what was in the way may pass, and then it is tried again.
 */
import type { ArrayStatus, CommandError, CommandResult } from "../../array/protocol.ts";
import type { Log } from "../../base/log.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { DriveKeeper } from "../drive-keeper.ts";
import type { ReactorClient } from "../reactor-client.ts";
import type { Alarms } from "../state/alarms.ts";
import type { ArrayBook } from "../state/array-book.ts";
import type { CallOrder } from "../state/call-order.ts";
import type { JobBook } from "../state/job-book.ts";
import type { ReadySpare } from "./pick-spare.ts";
import { AGAIN_MS, type Attempt, pickSuspects, type SuspectPick } from "./pick-suspect.ts";
import type { SharedSpares } from "./shared-spares.ts";

export interface SuspectHost {
  readonly parts: {
    readonly client: ReactorClient;
    readonly drives: DriveKeeper;
    readonly arrays: ArrayBook;
    readonly calls: CallOrder;
    readonly spares: SharedSpares;
    readonly jobs: JobBook;
    readonly alarms: Alarms;
    readonly log: Log;
  };
  /** The shared spare was not taken: what that says of it. */
  notTaken(array: string, drive: string, error: CommandError): Promise<void>;
  taken(pick: SuspectPick): void;
  lookSoon(): void;
  lookLater(): void;
}

export class SuspectReplacer {
  private readonly host: SuspectHost;
  private attempts: readonly Attempt[] = [];
  /** Arrays in which one is about to begin. */
  private readonly busy = new Set<string>();
  /** By array: what was told of it last. */
  private readonly refusals = new Map<string, string>();

  constructor(host: SuspectHost) {
    this.host = host;
  }

  /** `spares` are those that are shared and that no other array gets. */
  look(arrays: readonly ArrayStatus[], spares: readonly ReadySpare[]): void {
    const nowMs = this.host.parts.alarms.nowMs();
    this.attempts = this.attempts.filter(({ atMs }) => nowMs - atMs < AGAIN_MS);
    // Whoever began it: what becomes of it is not to be undone by another one.
    for (const { uuid, members } of arrays) {
      for (const { drive, suspect, replacement } of members) {
        if (drive === null || suspect === undefined || replacement === undefined) continue;
        this.note({ array: uuid, drive, since: suspect.since, atMs: nowMs });
      }
    }
    const free = arrays.filter(({ uuid }) => !this.busy.has(uuid));
    for (const pick of pickSuspects(free, spares, { attempts: this.attempts, nowMs })) {
      void this.replace(pick);
    }
  }

  private note(attempt: Attempt): void {
    const { array, drive, since } = attempt;
    const isSame = (past: Attempt): boolean =>
      past.array === array && past.drive === drive && past.since === since;
    this.attempts = [...this.attempts.filter((past) => !isSame(past)), attempt];
  }

  private async replace(pick: SuspectPick): Promise<void> {
    const { host } = this;
    const { calls, spares } = host.parts;
    const { array, spare, isShared } = pick;
    // At once: the next look gives neither of them away again.
    this.busy.add(array);
    if (isShared) spares.seating.set(spare, array);
    const begun = await calls.holding([`drive:${spare}`], () => this.begin(pick));
    if (!begun.ok) await this.refused(pick, begun.error);
    if (isShared) spares.seating.delete(spare);
    this.busy.delete(array);
    if (begun.ok) host.lookSoon();
  }

  private async begin(pick: SuspectPick): Promise<Result<null, CommandError>> {
    const { client, jobs, spares, alarms } = this.host.parts;
    const { array, member, spare, isShared, since } = pick;
    const asked = isShared ? await this.canBeTaken(pick) : ok(null);
    if (!asked.ok) return asked;
    const command = { array, drive: member, with: spare, force: false };
    const job: CommandResult<"replace-member"> = await client.call({
      ...{ kind: "replace-member", ...command },
    });
    if (job.ok || job.error.code === "replace-not-started") {
      this.note({ array, drive: member, since, atMs: alarms.nowMs() });
    }
    if (!job.ok) return job;
    if (isShared) spares.forget(spare);
    this.refusals.delete(array);
    jobs.record(job.value);
    this.host.taken(pick);
    return ok(null);
  }

  /** Whoever had the drive until now may have withdrawn it, used it, or put something on it. */
  private async canBeTaken({ array, spare }: SuspectPick): Promise<Result<null, CommandError>> {
    const { drives, spares } = this.host.parts;
    const shared = spares.get(spare);
    const isStillFor = shared?.arrays === null || shared?.arrays.includes(array) === true;
    if (isStillFor && shared.failure === null) return drives.readContents([spare]);
    const detail = `drive ${spare} is not shared with the array any more`;
    return err({ kind: "conflict", code: "spare-not-found", detail });
  }

  private async refused({ array, spare, isShared, member }: SuspectPick, error: CommandError) {
    const { host } = this;
    const { log, arrays } = host.parts;
    const { detail } = error;
    if (this.refusals.get(array) !== detail) {
      const about = { array: arrays.labelOf(array), drive: member, detail };
      log.write("warn", "a suspect drive cannot be replaced now", about);
    }
    this.refusals.set(array, detail);
    if (isShared) await host.notTaken(array, spare, error);
    host.lookLater();
  }
}
