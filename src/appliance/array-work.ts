/**
 * What is asked of an array as it runs, and is remembered as a job or not at all: its members, its
 * scrubs and its rehearsals.
 */
import type {
  ArrayStatus,
  CommandError,
  CommandMap,
  CommandOf,
  CommandResult,
  ForetoldKind,
  JobStatus,
} from "../array/protocol.ts";
import { ok, type Result } from "../base/result.ts";
import type { DriveKeeper } from "./drive-keeper.ts";
import { type FailForecast, failForecast, needsShared } from "./fail-forecast.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { SharedSpares } from "./spares/shared-spares.ts";
import type { SpareKeeper } from "./spares/spare-keeper.ts";
import type { SpareReader } from "./spares/spare-reader.ts";
import type { ArrayBook } from "./state/array-book.ts";
import type { Effects } from "./state/effects.ts";
import type { JobBook } from "./state/job-book.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

/** Commands about one array, which calls name by label or UUID. */
type ArrayCommandOf<K extends ForetoldKind> = CommandOf<K> & { readonly array: string };

export interface ArrayWorkParts {
  readonly client: ReactorClient;
  readonly arrays: ArrayBook;
  readonly drives: DriveKeeper;
  readonly spares: SharedSpares;
  readonly jobs: JobBook;
  readonly keeper: SpareKeeper;
  readonly reader: SpareReader;
  readonly dry: Effects;
  readonly getArray: (uuid: string) => Answer<ArrayStatus>;
}

export class ArrayWork {
  private readonly parts: ArrayWorkParts;

  constructor(parts: ArrayWorkParts) {
    this.parts = parts;
  }

  async addMember(
    request: CommandMap["add-member"]["request"],
    { allocate }: { allocate: boolean },
    effects: Effects,
  ): Promise<CommandResult<"add-member">> {
    const added = await this.parts.spares.using([request.drive], effects, () =>
      this.addUnshared({ kind: "add-member", ...request }, allocate, effects),
    );
    effects.have(() => this.parts.keeper.lookout.soon());
    return added;
  }

  private async addUnshared(
    command: CommandOf<"add-member">,
    allocate: boolean,
    effects: Effects,
  ): Promise<CommandResult<"add-member">> {
    const looked = await this.parts.drives.readContents([command.drive]);
    if (!looked.ok) return looked;
    if (allocate) {
      const judged = await this.arrayCommand<"add-member">(command, this.parts.dry);
      if (!judged.ok) return judged;
      const given = await this.parts.drives.giveSpace([command.drive], effects);
      if (!given.ok) return given;
    }
    const added = await this.arrayCommand<"add-member">(command, effects);
    if (added.ok && added.value.role === "rebuild") this.recorded(ok(added.value.job), effects);
    return added;
  }

  async replaceMember(
    request: CommandMap["replace-member"]["request"],
    effects: Effects,
  ): Answer<JobStatus> {
    const command = { kind: "replace-member", ...request } as const;
    const begun = await this.parts.spares.using([request.with], effects, async () => {
      const looked = await this.parts.drives.readContents([request.with]);
      return looked.ok ? this.arrayCommand<"replace-member">(command, effects) : looked;
    });
    return this.recorded(begun, effects);
  }

  async failMember(request: CommandMap["fail-member"]["request"]): Answer<ArrayStatus> {
    const array = this.parts.arrays.resolve(request.array);
    if (!array.ok) return array;
    return this.parts.client.call({ kind: "fail-member", ...request, array: array.value });
  }

  /** What `failMember` would lead to: asked before a drive is pulled, and changes nothing. */
  async checkFail(request: CommandMap["check-fail"]["request"]): Answer<FailForecast> {
    const array = this.parts.arrays.resolve(request.array);
    if (!array.ok) return array;
    const plan = await this.parts.client.call({
      kind: "check-fail",
      ...request,
      array: array.value,
    });
    if (!plan.ok) return plan;
    const isAsked = needsShared(plan.value);
    const shared = isAsked ? await this.parts.keeper.nextFor(array.value) : null;
    return ok(failForecast(plan.value, shared));
  }

  async startScrub(
    request: CommandMap["start-scrub"]["request"],
    effects: Effects,
  ): Answer<JobStatus> {
    const command = { kind: "start-scrub", ...request } as const;
    const job = await this.arrayCommand<"start-scrub">(command, effects);
    if (!job.ok || effects.isDry) return job;
    void this.readSpares(job.value, request.limitBytesPerSecond);
    return this.recorded(job, effects);
  }

  /** Beside a scrub that has begun, or goes on. */
  private async readSpares(job: JobStatus, limitBytesPerSecond: number | null): Promise<void> {
    const array = await this.parts.getArray(job.arrayUuid);
    if (array.ok) this.parts.reader.begin(array.value, job, limitBytesPerSecond);
  }

  /** `drive` null: the member with the most errors. */
  async startRehearsal(array: string, drive: string | null, effects: Effects): Answer<JobStatus> {
    const uuid = this.parts.arrays.resolve(array);
    if (!uuid.ok) return uuid;
    const spare = await this.parts.keeper.nextFor(uuid.value);
    const request = { array: uuid.value, drive, spare };
    return this.recorded(await effects.command({ kind: "start-rehearsal", ...request }), effects);
  }

  async pauseRehearsal(array: string, effects: Effects): Answer<JobStatus> {
    const command = { kind: "pause-rehearsal", array } as const;
    return this.recorded(await this.arrayCommand<"pause-rehearsal">(command, effects), effects);
  }

  private recorded(
    job: Result<JobStatus, CommandError>,
    effects: Effects,
  ): Result<JobStatus, CommandError> {
    if (job.ok) effects.have(() => this.parts.jobs.record(job.value));
    return job;
  }

  async pauseScrub(array: string, effects: Effects): Answer<JobStatus> {
    const command = { kind: "pause-scrub", array } as const;
    return this.recorded(await this.arrayCommand<"pause-scrub">(command, effects), effects);
  }

  /** A command about one array that changes nothing which is remembered here. */
  async arrayCommand<K extends ForetoldKind>(
    command: ArrayCommandOf<K>,
    effects: Effects,
  ): Promise<CommandResult<K>> {
    const uuid = this.parts.arrays.resolve(command.array);
    if (!uuid.ok) return uuid as CommandResult<K>;
    const answer = await effects.command<K>({ ...command, array: uuid.value });
    // A spare that was taken away is no event.
    if (command.kind === "remove-member") effects.have(() => this.parts.keeper.lookout.soon());
    return answer;
  }
}
