/**
 * What the appliance remembers between runs, as values: the state in memory, and the changes that
 * lead from one to the next. Pure; the file is state-file.ts, when it is written state-store.ts.
 *
 * | what      | key  | says                                                               |
 * |-----------|------|--------------------------------------------------------------------|
 * | drives    | name | what to open at start, and by what the disk is known again         |
 * | arrays    | UUID | the label here, how it stands, settings, what was last seen of it  |
 * | exports   | name | which array (by UUID) is offered                                   |
 * | spares    | drive| which arrays share it as a spare, and what was met about it        |
 * | smart     | drive| what its disk said of its health, and what was told of that        |
 * | schedules | UUID | when its array is scrubbed, and how far that has got               |
 * | jobs      | id   | the job's last known status                                        |
 * | events    | id   | what happened; the latest are in memory, all of them in the file   |
 * | answers   | key  | what a POST with an Idempotency-Key was answered                   |
 * | alerts    | way, | events that are still to be told to somebody outside               |
 * |           | event|                                                                    |
 *
 * What an array *is* stands in the superblocks of its members alone, never here.
 */
import { z } from "zod";
import {
  type ArrayEvent,
  type ExportAllow,
  JOB_KINDS,
  type JobStatus,
} from "../../array/protocol.ts";
import { unreachable } from "../../base/assert.ts";
import { ANSWER_KEPT_MS, ANSWERS_MAX, EVENTS_IN_MEMORY, KEPT_JOBS } from "../../base/limits.ts";
import { TIME_MS_MAX } from "../../base/time.ts";
import { type StoredSmart, storedSmartSchema } from "./smart-row.ts";

const count = z.int().min(0);

const storedDriveSchema = z.object({
  name: z.string(),
  path: z.string(),
  direct: z.boolean(),
  /** /dev/disk/by-id/..., which stays with the disk. */
  byId: z.string().nullable().default(null),
  /** Of its superblock, once it has carried one: what the disk is known by. */
  deviceUuid: z.string().nullable().default(null),
  /** The array whose member it was last. */
  arrayUuid: z.string().nullable().default(null),
});
export type StoredDrive = z.output<typeof storedDriveSchema>;

const allowSchema: z.ZodType<ExportAllow> = z.object({
  addresses: z.array(z.string()).optional(),
  certificates: z.array(z.string()).optional(),
});

const storedExportSchema = z.object({
  name: z.string(),
  /** Null: written by a version that went by names, and not bound yet. */
  arrayUuid: z.string().nullable(),
  /** The label that the array had when the export was put. */
  array: z.string(),
  readOnly: z.boolean(),
  /** Which clients over TCP may open it; null: all, as in rows of versions without it. */
  allow: allowSchema.nullable().default(null),
  /** "/dev/nbd0": the device of this host's kernel that it is attached to at each start, if any. */
  attachAtStart: z.string().nullable().default(null),
  /** "/dev/nbd0": a clean stop has detached it there, and the next start attaches it again. */
  detachedAtStop: z.string().nullable().default(null),
});
export type StoredExport = z.output<typeof storedExportSchema>;

const storedSpareSchema = z.object({
  drive: z.string(),
  /** UUIDs of the arrays that it is for; null: all. */
  arrays: z.array(z.string()).nullable(),
  /** Why it is not taken any more; null: nothing is known against it. */
  failure: z.string().nullable().default(null),
  /** When all of it was read the last time. */
  readAt: z.string().nullable().default(null),
});
export type StoredSpare = z.output<typeof storedSpareSchema>;

/** A maximum of 0, which could be set once, stopped a rebuild for good: it is read as none. */
const speedMaximum = count.transform((bytes) => (bytes === 0 ? Number.MAX_SAFE_INTEGER : bytes));

const arraySettingsSchema = z.object({
  syncSpeedMin: count.optional(),
  syncSpeedMax: speedMaximum.optional(),
  readDeadlineMs: count.optional(),
  writeDeadlineMs: count.optional(),
  suspectWriteErrors: count.optional(),
  suspectFixedSectors: count.optional(),
  suspectLateReads: count.optional(),
  suspectLatencyFactor: count.optional(),
  replaceSuspects: z.boolean().optional(),
});
export type ArraySettings = z.output<typeof arraySettingsSchema>;

const scrubSummarySchema = z.object({
  mode: z.enum(["check", "repair"]),
  finishedAt: z.string(),
  mismatchBytes: count,
  lostBytes: count.default(0),
});

const syncRateSchema = z.object({
  kind: z.enum(JOB_KINDS),
  load: z.enum(["idle", "busy"]),
  bytesPerSecond: count,
  limitBytesPerSecond: count.nullable(),
  measuredBytes: count,
  measuredAt: z.string(),
});

const consistencyPolicySchema = z.enum(["resync", "bitmap", "ppl"]);

const wallMs = z.number().min(0).max(TIME_MS_MAX);

/** States of an array that are told of again each day. */
export const TROUBLE_STATES = ["degraded", "read-only", "failed", "broken"] as const;

const arrayTroubleSchema = z.object({
  state: z.enum(TROUBLE_STATES),
  /** Unix time in milliseconds, as `toldMs`: when there was an event of it last. */
  sinceMs: wallMs,
  toldMs: wallMs,
});
export type ArrayTrouble = z.output<typeof arrayTroubleSchema>;

const storedArraySchema = z.object({
  uuid: z.string(),
  /** Null: not known since it was seen last by a version without labels. */
  label: z.string().nullable(),
  /**
   * `creating`: its superblocks may have been written or not. `deleted`: its members are shown as
   * such and start only when asked.
   */
  standing: z.enum(["creating", "known", "deleted"]),
  settings: arraySettingsSchema.default({}),
  /** A spare was there for it when it was last seen to run. */
  hasSpare: z.boolean().optional(),
  /** What its policy was before a growth in members, for which that was changed (md has it so). */
  policyAfterGrowth: consistencyPolicySchema.optional(),
  /** Absent: it was whole when it was last seen to run. */
  trouble: arrayTroubleSchema.optional(),
  /** What was last seen of it; null: nothing yet. */
  seen: z
    .object({
      nameOnDisk: z.string().nullable(),
      layout: z.string(),
      chunkBytes: count,
      sizeBytes: count,
      consistencyPolicy: consistencyPolicySchema,
      eventCount: count,
      memberCount: count,
      mismatchBytes: count,
      lastScrub: scrubSummarySchema.nullable(),
      /** What its rebuilds and scrubs were measured at. */
      syncRates: z.array(syncRateSchema).default([]),
    })
    .nullable()
    .default(null),
});
export type StoredArray = z.output<typeof storedArraySchema>;

const scheduleMemorySchema = z.object({
  /** Unix time in milliseconds. Windows that opened up to then were used, told of, or before it. */
  accountedMs: z.number(),
  /** The scrub of the array that was seen last, and whose it is (schedules/decision.ts). */
  pass: z
    .object({
      jobId: z.int().min(1),
      state: z.enum(["runs", "pausing", "paused", "theirs-runs", "theirs-paused"]),
    })
    .nullable(),
  /** When the window opened in which nothing is begun any more. */
  passedMs: z.number().nullable(),
  /** A window was missed and has not been made up for. */
  isOwed: z.boolean(),
  /** The window that makes up for it. */
  makeUp: z.object({ opensMs: z.number(), closesMs: z.number() }).nullable(),
  /** How the last pass of the schedule's own ended. */
  last: z
    .object({
      jobId: z.int().min(1),
      endedAt: z.string(),
      result: z.enum(["clean", "mismatches", "lost", "failed", "cancelled"]),
      error: z.string().nullable(),
    })
    .nullable(),
});
export type ScheduleMemory = Readonly<z.output<typeof scheduleMemorySchema>>;

const storedScheduleSchema = z.object({
  arrayUuid: z.string(),
  cron: z.string(),
  timezone: z.string(),
  windowMinutes: z.int().min(1),
  maxAgeDays: z.int().min(1),
  mode: z.enum(["check", "repair"]),
  limitBytesPerSecond: z.int().min(1).nullable(),
  memory: scheduleMemorySchema,
});
export type StoredSchedule = Readonly<z.output<typeof storedScheduleSchema>>;

const jobStatusSchema = z.looseObject({
  id: z.int().min(1),
  kind: z.enum(JOB_KINDS),
  array: z.string(),
  arrayUuid: z.string().default(""),
  state: z.enum(["running", "paused", "done", "failed", "cancelled"]),
  done: z.number(),
  total: z.number(),
});

export interface StoredEvent extends ArrayEvent {
  readonly id: number;
}

/** An event that is still to be delivered by one way. */
export interface StoredAlert {
  /** What the way is known by, whatever else is configured. */
  readonly way: string;
  readonly event: StoredEvent;
  readonly queuedMs: number;
  /** Tries of that way that failed in a row; until when it rests. */
  readonly failures: number;
  readonly notBeforeMs: number;
}
const storedAlertSchema = z.object({
  way: z.string(),
  event: z.object({
    id: z.int().min(1),
    kind: z.string(),
    severity: z.enum(["critical", "warning", "info"]),
    array: z.string(),
    arrayUuid: z.string().nullable(),
    drive: z.string().nullable(),
    job: z.int().nullable(),
    atMs: wallMs,
    message: z.string(),
  }),
  queuedMs: wallMs,
  failures: count,
  notBeforeMs: wallMs,
});

export function alertKey(way: string, eventId: number): string {
  return `${way}/${eventId}`;
}

/** The answer that a POST with an Idempotency-Key got. */
export interface StoredAnswer {
  readonly fingerprint: string;
  readonly status: number;
  readonly location: string | null;
  readonly contentType: string | null;
  readonly body: string;
}
const storedAnswerSchema = z.object({
  fingerprint: z.string(),
  status: count,
  location: z.string().nullable(),
  contentType: z.string().nullable(),
  body: z.string(),
});

export type StateChange =
  | { readonly kind: "put-drive"; readonly drive: StoredDrive }
  | { readonly kind: "delete-drive"; readonly name: string }
  | { readonly kind: "put-array"; readonly array: StoredArray }
  | { readonly kind: "forget-array"; readonly uuid: string }
  | { readonly kind: "put-export"; readonly entry: StoredExport }
  | { readonly kind: "delete-export"; readonly name: string }
  | { readonly kind: "put-spare"; readonly spare: StoredSpare }
  | { readonly kind: "delete-spare"; readonly drive: string }
  | { readonly kind: "put-smart"; readonly smart: StoredSmart }
  | { readonly kind: "put-schedule"; readonly schedule: StoredSchedule }
  | { readonly kind: "delete-schedule"; readonly arrayUuid: string }
  | { readonly kind: "put-job"; readonly job: JobStatus }
  | { readonly kind: "add-event"; readonly event: StoredEvent }
  | { readonly kind: "put-alert"; readonly alert: StoredAlert }
  | { readonly kind: "delete-alert"; readonly way: string; readonly eventId: number }
  | {
      readonly kind: "put-answer";
      readonly key: string;
      readonly answer: StoredAnswer;
      readonly atMs: number;
    }
  /** No id up to these is given again, also after a crash. */
  | { readonly kind: "reserve-ids"; readonly lastEventId: number; readonly lastJobId: number };

/** Rows as they are kept, checked when they are read: what is in a file may be anything. */
export const ROW_SCHEMAS = {
  drives: storedDriveSchema,
  arrays: storedArraySchema,
  exports: storedExportSchema,
  spares: storedSpareSchema,
  smart: storedSmartSchema,
  schedules: storedScheduleSchema,
  jobs: jobStatusSchema,
  answers: storedAnswerSchema,
  alerts: storedAlertSchema,
} as const;

export class State {
  readonly drives = new Map<string, StoredDrive>();
  readonly arrays = new Map<string, StoredArray>();
  readonly exports = new Map<string, StoredExport>();
  /** By drive. */
  readonly spares = new Map<string, StoredSpare>();
  /** By drive; forgotten with it. */
  readonly smart = new Map<string, StoredSmart>();
  /** By the UUID of the array. */
  readonly schedules = new Map<string, StoredSchedule>();
  readonly jobs = new Map<number, JobStatus>();
  /** Oldest first, ids ascending. */
  readonly events: StoredEvent[] = [];
  /** By `alertKey`. */
  readonly alerts = new Map<string, StoredAlert>();
  readonly answers = new Map<string, { readonly answer: StoredAnswer; readonly atMs: number }>();
  lastEventId = 0;
  lastJobId = 0;

  apply(change: StateChange): void {
    switch (change.kind) {
      case "put-drive":
        this.drives.set(change.drive.name, change.drive);
        return;
      case "delete-drive":
        this.drives.delete(change.name);
        this.smart.delete(change.name);
        return;
      case "put-array":
        this.arrays.set(change.array.uuid, change.array);
        return;
      case "forget-array":
        this.arrays.delete(change.uuid);
        return;
      case "put-export":
        this.exports.set(change.entry.name, change.entry);
        return;
      case "delete-export":
        this.exports.delete(change.name);
        return;
      case "put-spare":
        this.spares.set(change.spare.drive, change.spare);
        return;
      case "delete-spare":
        this.spares.delete(change.drive);
        return;
      case "put-smart":
        this.smart.set(change.smart.drive, change.smart);
        return;
      case "put-schedule":
        this.schedules.set(change.schedule.arrayUuid, change.schedule);
        return;
      case "delete-schedule":
        this.schedules.delete(change.arrayUuid);
        return;
      case "put-job":
        this.putJob(change.job);
        return;
      case "add-event":
        this.addEvent(change.event);
        return;
      case "put-alert":
        this.alerts.set(alertKey(change.alert.way, change.alert.event.id), change.alert);
        return;
      case "delete-alert":
        this.alerts.delete(alertKey(change.way, change.eventId));
        return;
      case "put-answer":
        this.putAnswer(change.key, change);
        return;
      case "reserve-ids":
        this.lastEventId = Math.max(this.lastEventId, change.lastEventId);
        this.lastJobId = Math.max(this.lastJobId, change.lastJobId);
        return;
      default:
        unreachable(change);
    }
  }

  /** The changes that make this state anew, for a file that takes the place of a lost one. */
  *asChanges(): Generator<StateChange> {
    const { lastEventId, lastJobId } = this;
    yield { kind: "reserve-ids", lastEventId, lastJobId };
    for (const drive of this.drives.values()) yield { kind: "put-drive", drive };
    for (const array of this.arrays.values()) yield { kind: "put-array", array };
    for (const entry of this.exports.values()) yield { kind: "put-export", entry };
    for (const spare of this.spares.values()) yield { kind: "put-spare", spare };
    for (const smart of this.smart.values()) yield { kind: "put-smart", smart };
    for (const schedule of this.schedules.values()) yield { kind: "put-schedule", schedule };
    for (const job of this.jobs.values()) yield { kind: "put-job", job };
    for (const event of this.events) yield { kind: "add-event", event };
    for (const alert of this.alerts.values()) yield { kind: "put-alert", alert };
    for (const [key, { answer, atMs }] of this.answers) {
      yield { kind: "put-answer", key, answer, atMs };
    }
  }

  private putJob(job: JobStatus): void {
    this.jobs.set(job.id, job);
    this.lastJobId = Math.max(this.lastJobId, job.id);
    // By their number: a crash leaves ids out, and the jobs before it are no older for that.
    for (const id of this.jobs.keys()) {
      if (this.jobs.size <= KEPT_JOBS) break;
      this.jobs.delete(id);
    }
  }

  private addEvent(event: StoredEvent): void {
    this.events.push(event);
    this.lastEventId = Math.max(this.lastEventId, event.id);
    if (this.events.length > EVENTS_IN_MEMORY) this.events.shift();
  }

  private putAnswer(key: string, kept: { answer: StoredAnswer; atMs: number }): void {
    this.answers.delete(key);
    this.answers.set(key, { answer: kept.answer, atMs: kept.atMs });
    for (const [old, { atMs }] of this.answers) {
      const isOld = atMs < kept.atMs - ANSWER_KEPT_MS || this.answers.size > ANSWERS_MAX;
      if (!isOld) break;
      this.answers.delete(old);
    }
  }
}
