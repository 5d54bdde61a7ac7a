/**
 * Drives that arrays share as spares: which there are, for whom, and how each stands. A shared one
 * carries no superblock until an array takes it (spare-keeper.ts), and nothing else either.
 *
 * What a drive is stands on the drive, and the row here only says what it is to be: one whose drive
 * carries a superblock is a member or was one, and is shared no more, whatever the row says. So a
 * crash at any moment leaves a drive in one place: before its superblock is written it is still
 * shared, after that it is its array's; and no array waits for its spare because state.db is full.
 *
 * Calls about one drive run one after the other (`drive:NAME`).
 */
import type { CommandError, DriveFit, DriveStatus } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { DriveKeeper } from "../drive-keeper.ts";
import { driveNotFound } from "../drive-refusals.ts";
import type { ReactorClient } from "../reactor-client.ts";
import type { ArrayBook } from "../state/array-book.ts";
import type { CallOrder } from "../state/call-order.ts";
import type { Effects } from "../state/effects.ts";
import type { StoredSpare } from "../state/state.ts";
import type { StateStore } from "../state/state-store.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export const SPARE_STATES = ["ready", "seating", "missing", "foreign", "failed"] as const;
/**
 * `seating`: an array is getting it at this moment. `foreign`: it holds something since it was
 * shared. `failed`: it could not be read or written.
 */
export type SpareState = (typeof SPARE_STATES)[number];

export interface SpareView {
  readonly drive: string;
  /** Labels of the arrays that it is for; null: all. */
  readonly arrays: readonly string[] | null;
  /** Of those the ones that run and that it is large enough for. */
  readonly fits: readonly string[];
  readonly state: SpareState;
  readonly sizeBytes: number;
  /** When all of it was read the last time, in a scrub. */
  readonly readAt: string | null;
  readonly detail?: string;
}

/** One that is there, as the keeper sees it: arrays by UUID. */
export interface SurveyedSpare {
  readonly spare: StoredSpare;
  readonly state: SpareState;
  readonly sizeBytes: number;
  readonly fits: ReadonlySet<string>;
  readonly detail: string | null;
}

export interface SharedSparesParts {
  readonly client: ReactorClient;
  readonly store: StateStore;
  readonly drives: DriveKeeper;
  readonly arrays: ArrayBook;
  readonly calls: CallOrder;
  /** Told when there is one more or one less, or somebody says that one may be tried again. */
  readonly onChanged: (drive: string) => Promise<void>;
}

export class SharedSpares {
  private readonly parts: SharedSparesParts;
  /** By drive: the array that is getting it. */
  readonly seating = new Map<string, string>();

  constructor(parts: SharedSparesParts) {
    this.parts = parts;
  }

  get known(): readonly StoredSpare[] {
    return [...this.parts.store.state.spares.values()];
  }

  get(drive: string): StoredSpare | undefined {
    return this.parts.store.state.spares.get(drive);
  }

  async list(): Answer<SpareView[]> {
    const surveyed = await this.survey();
    if (!surveyed.ok) return surveyed;
    const views = surveyed.value.map((each) => this.viewOf(each));
    return ok(views.sort((left, right) => (left.drive < right.drive ? -1 : 1)));
  }

  /** What `GET /v1/drives` says of a drive that is shared. */
  driveView(drive: DriveStatus): DriveStatus {
    const spare = this.get(drive.name);
    if (spare === undefined || drive.state !== "available") return drive;
    if (spare.failure !== null) return { ...drive, state: "faulty", detail: spare.failure };
    return { ...drive, state: "spare", detail: `shared, for ${this.forWhom(spare)}` };
  }

  private forWhom({ arrays }: StoredSpare): string {
    return forWhom(this.labelsOf(arrays));
  }

  private labelsOf(arrays: readonly string[] | null): string[] | null {
    if (arrays === null) return null;
    const { arrays: book } = this.parts;
    const known = arrays.filter((uuid) => book.isKnown(uuid));
    return known.map((uuid) => book.labelOf(uuid)).sort();
  }

  // Put and remove ------------------------------------------------------------------------------

  /** The same again changes nothing, but lets one be tried again that had failed. */
  async put(
    wanted: {
      drive: string;
      /** Labels or UUIDs; absent: all. */
      arrays?: readonly string[] | undefined;
      /** A file gets all its space now. */
      allocate: boolean;
    },
    effects: Effects,
  ): Answer<{ created: boolean; view: SpareView }> {
    const { calls, onChanged } = this.parts;
    const { drive } = wanted;
    const arrays = this.uuidsOf(wanted.arrays);
    if (!arrays.ok) return arrays;
    const put = await calls.holding([`drive:${drive}`], () =>
      this.putHeld({ drive, arrays: arrays.value, allocate: wanted.allocate }, effects),
    );
    if (!put.ok) return put;
    if (!effects.isDry) await onChanged(drive);
    const kept = this.known.filter((spare) => spare.drive !== drive);
    const surveyed = await this.survey({
      forgets: false,
      ...(effects.isDry ? { known: [...kept, put.value.spare] } : {}),
    });
    if (!surveyed.ok) return surveyed;
    const found = surveyed.value.find(({ spare }) => spare.drive === drive);
    // An array may have been waiting for it: then it is a member by now.
    const gone = { spare: put.value.spare, state: "seating", sizeBytes: 0, detail: null } as const;
    const view = this.viewOf(found ?? { ...gone, fits: new Set<string>() });
    return ok({ created: put.value.created, view });
  }

  private uuidsOf(
    references: readonly string[] | undefined,
  ): Result<string[] | null, CommandError> {
    if (references === undefined) return ok(null);
    const uuids = new Set<string>();
    for (const reference of references) {
      const uuid = this.parts.arrays.resolve(reference);
      if (!uuid.ok) return uuid;
      if (!this.parts.arrays.isKnown(uuid.value)) return err(isDeletedArray(reference));
      uuids.add(uuid.value);
    }
    return ok([...uuids].sort());
  }

  private async putHeld(
    wanted: { drive: string; arrays: string[] | null; allocate: boolean },
    effects: Effects,
  ): Answer<{ created: boolean; spare: StoredSpare }> {
    const { drives } = this.parts;
    const { drive, arrays } = wanted;
    const before = this.get(drive);
    if (before !== undefined && !isSame(before.arrays, arrays)) {
      return err(sharedAlready(drive, this.forWhom(before)));
    }
    const obstacle = await this.obstacleTo(drive, arrays);
    if (obstacle !== null) return err(obstacle);
    if (wanted.allocate) {
      const given = await drives.giveSpace([drive], effects);
      if (!given.ok) return given;
    }
    const spare: StoredSpare = { drive, arrays, failure: null, readAt: before?.readAt ?? null };
    const isThere = before !== undefined && before.failure === null;
    const recorded = isThere ? ok(null) : await effects.commit({ kind: "put-spare", spare });
    return recorded.ok ? ok({ created: before === undefined, spare }) : recorded;
  }

  /** Why a drive cannot be shared, with the way out; null: it can. */
  private async obstacleTo(name: string, arrays: string[] | null): Promise<CommandError | null> {
    const { client, drives } = this.parts;
    if (!drives.known.some((known) => known.name === name)) return driveNotFound(name);
    // Somebody may have put something there since it was opened.
    const looked = await drives.readContents([name]);
    if (!looked.ok) return looked.error;
    const listed = await drives.list();
    if (!listed.ok) return listed.error;
    const status = listed.value.find((drive) => drive.name === name);
    if (status === undefined) return driveNotFound(name);
    if (status.state !== "available") return notFree(status);
    // What was a member here may be written over without a word, until the daemon ends.
    const content = await drives.contentOf(name);
    if (!content.ok) return content.error;
    if (content.value !== null) return holdsData(name, content.value);
    const fits = await client.call({ kind: "fit-drive", drive: name });
    return fits.ok ? this.tooSmall(status, arrays, fits.value) : fits.error;
  }

  /** Where an array does not run, nobody can tell what its members need. */
  private tooSmall(
    { name, sizeBytes }: DriveStatus,
    arrays: readonly string[] | null,
    fits: readonly DriveFit[],
  ): CommandError | null {
    const { arrays: book } = this.parts;
    const wanted = arrays ?? book.all().flatMap(({ uuid }) => (book.isKnown(uuid) ? uuid : []));
    let least: { readonly array: string; readonly bytes: number } | null = null;
    for (const uuid of wanted) {
      const fit = fits.find(({ array }) => array === uuid);
      if (fit === undefined || fit.neededBytes === null) return null;
      if (least === null || fit.neededBytes < least.bytes) {
        least = { array: uuid, bytes: fit.neededBytes };
      }
    }
    if (least === null) return null;
    const detail =
      `drive ${name} has ${sizeBytes} bytes and is too small for every array that it would be ` +
      `for: the smallest is ${book.labelOf(least.array)}, whose members need at least ` +
      `${least.bytes} bytes. Take a larger drive`;
    return { kind: "invalid", code: "drive-too-small", detail };
  }

  async remove(drive: string, effects: Effects): Answer<null> {
    const { calls, onChanged } = this.parts;
    const removed = await calls.holding([`drive:${drive}`], async () => {
      if (this.get(drive) === undefined) return err(notShared(drive));
      return effects.commit({ kind: "delete-spare", drive });
    });
    if (removed.ok && !effects.isDry) await onChanged(drive);
    return removed;
  }

  /** It is shared no more: an array has it, or it is no drive here any more. */
  forget(drive: string): void {
    if (this.get(drive) !== undefined) this.parts.store.note({ kind: "delete-spare", drive });
  }

  /**
   * Runs a call that makes members of these drives; once it is done they are shared no more, and
   * which disks they are is on record: from now on the array is told by it where they are.
   */
  async using<T>(drives: readonly string[], effects: Effects, work: () => Answer<T>): Answer<T> {
    const keys = drives.map((drive) => `drive:${drive}`);
    return this.parts.calls.holding(keys, async () => {
      const done = await work();
      if (!done.ok || effects.isDry) return done;
      await this.parts.drives.observeAll();
      for (const drive of drives) this.forget(drive);
      return done;
    });
  }

  // How they stand ------------------------------------------------------------------------------

  /** All that are shared still. With `forgets` the rows of the others go. */
  async survey(
    { forgets, known = this.known }: { forgets: boolean; known?: readonly StoredSpare[] } = {
      forgets: false,
    },
  ): Answer<SurveyedSpare[]> {
    if (known.length === 0) return ok([]);
    const { drives, calls } = this.parts;
    const listed = await drives.list();
    if (!listed.ok) return listed;
    const surveyed: SurveyedSpare[] = [];
    for (const spare of known) {
      const status = listed.value.find(({ name }) => name === spare.drive);
      const isSeating = this.seating.has(spare.drive);
      if (!isSeating && (status === undefined || isOfAnArray(status))) {
        // A call that is under way may still take back what it has done to the drive.
        if (forgets && !calls.isHeld(`drive:${spare.drive}`)) this.forget(spare.drive);
        continue;
      }
      if (status !== undefined) surveyed.push(await this.surveyOne(spare, status));
    }
    return ok(surveyed);
  }

  private async surveyOne(spare: StoredSpare, status: DriveStatus): Promise<SurveyedSpare> {
    const { drive, arrays } = spare;
    const { sizeBytes } = status;
    const { state, detail } = standingOf(spare, status, this.seating.has(drive));
    const fits = new Set<string>();
    const known = { spare, state, sizeBytes, fits, detail };
    if (state === "missing" || state === "seating") return known;
    const answer = await this.parts.client.call({ kind: "fit-drive", drive });
    for (const { array, neededBytes } of answer.ok ? answer.value : []) {
      if (neededBytes === null && (arrays === null || arrays.includes(array))) fits.add(array);
    }
    return known;
  }

  private viewOf({ spare, state, sizeBytes, fits, detail }: SurveyedSpare): SpareView {
    const { drive, arrays, readAt } = spare;
    const { arrays: book } = this.parts;
    return {
      ...{ drive, state, sizeBytes, readAt },
      arrays: this.labelsOf(arrays),
      fits: [...fits].map((uuid) => book.labelOf(uuid)).sort(),
      ...(detail === null ? {} : { detail }),
    };
  }
}

/** "all arrays", "tank, pool"; for people. */
export function forWhom(arrays: SpareView["arrays"]): string {
  if (arrays === null) return "all arrays";
  return arrays.length === 0 ? "arrays that are gone" : arrays.join(", ");
}

/** A member, a spare, or what was one: its superblock says so. */
function isOfAnArray({ state, superblock }: DriveStatus): boolean {
  return state !== "missing" && superblock !== undefined;
}

function standingOf(
  { failure }: StoredSpare,
  status: DriveStatus,
  isSeating: boolean,
): { readonly state: SpareState; readonly detail: string | null } {
  const { state } = status;
  const detail = status.detail ?? null;
  if (isSeating) return { state: "seating", detail: null };
  switch (state) {
    case "missing":
      return { state, detail };
    case "available":
      return { state: failure === null ? "ready" : "failed", detail: failure };
    case "faulty":
      return { state: "failed", detail: detail ?? failure };
    default:
      return { state: "foreign", detail };
  }
}

function isSame(one: readonly string[] | null, other: readonly string[] | null): boolean {
  return one === null || other === null ? one === other : Bun.deepEquals([...one].sort(), other);
}

function conflict(code: string, detail: string): CommandError {
  return { kind: "conflict", code, detail };
}

function sharedAlready(drive: string, forWhom: string): CommandError {
  const detail =
    `drive ${drive} is shared already, for ${forWhom}: withdraw it first (DELETE ` +
    `/v1/spares/${drive})`;
  return conflict("spare-exists", detail);
}

function isDeletedArray(reference: string): CommandError {
  const detail = `array ${reference} was deleted here: start it first to have it back`;
  return conflict("array-deleted", detail);
}

function notShared(drive: string): CommandError {
  const detail =
    `drive ${drive} is no shared spare, or an array has taken it by now; GET /v1/spares lists ` +
    "those that there are";
  return { kind: "not-found", code: "spare-not-found", detail };
}

function holdsData(name: string, content: string): CommandError {
  const detail =
    `drive ${name} holds ${content}, and a shared spare holds nothing, so that nobody's data is ` +
    "written over by itself: wipe it (wipefs --all; of a file make a new one), or take another one";
  return conflict("drive-has-data", detail);
}

/** Why a drive in this state is no spare for others. */
function notFree({ name, state, member, detail, superblock }: DriveStatus): CommandError {
  const why = detail === undefined ? "" : ` (${detail})`;
  const array = member?.array ?? superblock?.arrayName ?? "its array";
  const release = `release it first (DELETE /v1/arrays/${array}/members/${name}), or take another one`;
  switch (state) {
    case "member":
      return conflict("drive-in-use", `drive ${name} is a member of array ${array}: ${release}`);
    case "spare":
      return conflict(
        "drive-in-use",
        `drive ${name} is a spare of array ${array} alone: ${release}. What it carries of the ` +
          "array is then to be wiped (wipefs --all)",
      );
    case "missing":
      return conflict("drive-missing", `drive ${name} is missing${why}: connect it first`);
    default:
      return superblock === undefined && state === "foreign"
        ? holdsData(name, detail?.replace(/^it holds /, "") ?? "something")
        : conflict(
            "drive-has-data",
            `drive ${name} is ${state}${why}: wipe it (wipefs --all) and add it again, or take ` +
              "another one",
          );
  }
}
