/** What the outside sees of work on an array: jobs, and what they found or did. */
import type { GeometryOptions } from "../raid5/geometry.ts";
import type { ExportRanges, RowPlaces } from "../raid5/sync/export-ranges.ts";
import type { RowRange } from "../raid5/sync/mismatch-ranges.ts";

export const JOB_KINDS = [
  "resync",
  "rebuild",
  "replace",
  "grow",
  "reshape",
  "check",
  "repair",
  "rehearsal",
] as const;
export type JobKind = (typeof JOB_KINDS)[number];
export type JobState = "running" | "paused" | "done" | "failed" | "cancelled";

/** Rows that a scrub has found: where they are on the members, and in the array. */
export interface MismatchRange extends RowRange, RowPlaces {
  /** Which bytes of the exported device they concern; absent: nobody has asked. */
  readonly exportRanges?: ExportRanges;
}

export interface MismatchList {
  readonly ranges: readonly MismatchRange[];
  /** Whether there are more than are listed; all those lie behind the last one. */
  readonly truncated: boolean;
}

/**
 * What a job found or did: of a scrub and resync mismatchBytes, of a rebuild retries and drive, of
 * a replace the drive, the one that it replaces, and lostBytes of the array at its end, of a growth
 * sizeBytes, of a reshape sizeBytes and members. A scrub also has lostBytes, lists where it found
 * mismatches (mismatchRanges) and rows with losses (lostRanges), and says where it went on after a
 * rest (resumedFrom, bytes of each member) and what shape the array had (geometry). A rehearsal
 * says what the rebuild would have met (sync/rehearsal-report.ts).
 */
export interface JobResult {
  readonly [fact: string]: number | string | MismatchList | GeometryOptions | PlaceList;
}

/** Ranges of bytes, the first ones by place. */
export interface PlaceList {
  readonly places: readonly Place[];
  /** Whether there are more than are listed. */
  readonly truncated: boolean;
}

export interface Place {
  /** Whose bytes they are; null: the array's, and so those of its exports. */
  readonly drive: string | null;
  readonly offset: number;
  readonly bytes: number;
}

/**
 * How the loss that was rehearsed would have ended: `rebuilt` (nothing lost), `lost` (rebuilt, and
 * some bytes lost or other than they are), `not-rebuilt`, `unproven` (a member did not answer in
 * time, so not all was looked at).
 */
export type RehearsalVerdict = "rebuilt" | "lost" | "not-rebuilt" | "unproven";

export interface JobStatus {
  readonly id: number;
  readonly kind: JobKind;
  /** Its label, and what it is. */
  readonly array: string;
  readonly arrayUuid: string;
  readonly state: JobState;
  readonly done: number;
  readonly total: number;
  readonly unit: "bytes";
  readonly rateBytesPerSecond: number;
  readonly etaSeconds: number | null;
  /**
   * Of a scrub that is paused: what set it aside, and it goes on by itself when that is over; null:
   * somebody paused it.
   */
  readonly error: string | null;
  readonly result: JobResult;
  readonly startedAt: string;
  readonly finishedAt: string | null;
}

/** A scrub that goes on by itself. */
export function isSetAside({ state, error }: Pick<JobStatus, "state" | "error">): boolean {
  return state === "paused" && error !== null;
}
