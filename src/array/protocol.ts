/**
 * What the control thread and the reactor say to each other: a closed union.
 *
 * Control sends `Envelope`s on a MessagePort and rings the reactor's eventfd. The reactor posts
 * `ReactorMessage`s back. Errors cross as values. Offsets and sizes are bytes. No message per I/O.
 */

import type { LogFields, LogLevel } from "../base/log.ts";
import type { Result } from "../base/result.ts";

import type { LatencyReport, NbdStats } from "./latencies.ts";
import type {
  ArrayStatus,
  ConsistencyPolicy,
  DriveFit,
  DriveStatus,
  ExportStatus,
  FailPlan,
  FaultSpec,
  FaultStatus,
  JobStatus,
  NbdAddress,
  OpenDrive,
  ScrubSummary,
  SyncRate,
} from "./statuses.ts";

export * from "./latencies.ts";
export * from "./statuses.ts";

// Errors ----------------------------------------------------------------------------------------

/**
 * Why a command was refused. `detail` is a sentence that says what to do. The API maps `kind` to
 * a status: not-found 404, conflict 409 (wrong state), busy 423, invalid 422, io 500, stopping 503,
 * unrecorded (state.db does not take it, and nothing has changed) 507, unimplemented (this host has
 * not got what it needs) 501.
 */
export interface CommandError {
  readonly kind:
    | "not-found"
    | "conflict"
    | "busy"
    | "invalid"
    | "io"
    | "stopping"
    | "unsupported"
    | "unrecorded"
    | "unimplemented";
  /** Stable slug, the tail of the problem `type`: "drive-in-use", "too-few-drives". */
  readonly code: string;
  readonly detail: string;
  /** Where the same can be had in another way. */
  readonly uri?: string;
}

// Commands --------------------------------------------------------------------------------------

/** Said of a command that only tells what it would answer: it stops before its first effect. */
export interface MayBeDry {
  readonly dryRun?: boolean;
}

/**
 * What a dry run answers in the place of what only the doing gives: the id of a job or a fault, the
 * UUID of a new array, the time of a start, an event count. The API leaves these out.
 */
export const NOT_YET = { id: 0, uuid: "", time: "", eventCount: -1 } as const;

export interface CreateArrayRequest extends MayBeDry {
  readonly name: string;
  readonly drives: readonly string[];
  readonly spares: readonly string[];
  readonly chunkBytes: number;
  readonly consistencyPolicy: ConsistencyPolicy;
  readonly assumeClean: boolean;
  readonly force: boolean;
  /** Bytes used of every member; absent: all that fits. */
  readonly memberSizeBytes?: number;
  /** What the array will be; absent: a random one. */
  readonly uuid?: string;
}

export interface AddMembersRequest extends MayBeDry {
  readonly array: string;
  readonly drives: readonly string[];
  readonly force: boolean;
  /** The policy that the array is to have behind that: its log gets room. */
  readonly policyAfter: ConsistencyPolicy;
}

/** What the control thread says of an array. */
export interface ArrayIntroduction {
  /** Its label here. */
  readonly name: string;
  readonly mayStart: boolean;
  readonly tuning: Partial<ArrayTuning>;
  readonly scrub: ScrubMemory;
  readonly rates: readonly SyncRate[];
}

/** Bytes a second, and milliseconds. */
export interface ArrayTuning {
  syncSpeedMin: number;
  syncSpeedMax: number;
  readDeadlineMs: number;
  writeDeadlineMs: number;
  /** What makes a member suspect, a day; 0: never (drives/suspicion.ts). */
  suspectWriteErrors: number;
  suspectFixedSectors: number;
  suspectLateReads: number;
  /** So many times as slow as its peers is too slow; 0: latency is no concern. */
  suspectLatencyFactor: number;
  /** A suspect member is replaced by a spare without anybody's doing. */
  replaceSuspects: boolean;
}

/** What is kept of the scrubs of an array while it does not run. */
export interface ScrubMemory {
  readonly mismatchBytes: number;
  readonly last: ScrubSummary | null;
  /** A scrub that is paused or set aside goes on where it was, under its own id. */
  readonly paused: JobStatus | null;
}

/** Who may open an export over TCP: each list that is there must have the client in it. */
export interface ExportAllow {
  /** Networks and addresses as text: `parseIpNetwork`. */
  readonly addresses?: readonly string[] | undefined;
  /** Names that a client's certificate may have. */
  readonly certificates?: readonly string[] | undefined;
}

/** A client of NBD over TCP. */
export interface NbdCaller {
  /** The whole address; "" where nobody knows it. */
  readonly address: string;
  /** The names of its certificate; none where none was verified. */
  readonly certificates: readonly string[];
}

/**
 * Each command with what it takes and what it answers. `array` is a UUID; the reactor takes its
 * label as well.
 */
export interface CommandMap {
  /**
   * Probes the drive; joins it to its array, and assembles that when all its members are here and
   * it may start by itself.
   */
  "attach-drive": { request: MayBeDry & { drive: OpenDrive }; value: DriveStatus };
  /** What its content is now, by a fresh look; null: nothing that anybody could miss. */
  "note-content": { request: { name: string; signature: string | null }; value: null };
  /**
   * Forgets the drive. The answer comes when nothing is outstanding: control closes the fd then.
   */
  "detach-drive": {
    request: MayBeDry & { name: string; force: boolean };
    value: { fd: number };
  };
  "list-drives": { request: object; value: readonly DriveStatus[] };
  "create-array": { request: CreateArrayRequest; value: ArrayStatus };
  "list-arrays": { request: object; value: readonly ArrayStatus[] };
  "get-array": { request: { array: string }; value: ArrayStatus };
  /** Assembles from the drives present. `readOnly` writes not one byte to any member. */
  "start-array": {
    request: MayBeDry & { array: string; force: boolean; readOnly: boolean };
    value: ArrayStatus;
  };
  /**
   * Says what an array is called here, whether it may start by itself and what is remembered of it,
   * also before anything of it is here; one that may and can starts now. Null: nothing of it is.
   */
  "introduce-array": {
    request: { array: string } & ArrayIntroduction;
    value: ArrayStatus | null;
  };
  /** The name on the members; needs the array to run. */
  "write-name": { request: { array: string; name: string }; value: ArrayStatus };
  /** Refused while NBD clients are connected to an export of it, unless forced. */
  "stop-array": { request: MayBeDry & { array: string; force?: boolean }; value: ArrayStatus };
  /**
   * Stops it and forgets it; its drives become available (or foreign, with superblocks kept).
   * Refused while NBD clients are connected, as a stop is.
   */
  "delete-array": {
    request: MayBeDry & { array: string; zeroSuperblocks: boolean; force?: boolean };
    value: null;
  };
  "set-array": {
    request: Partial<ArrayTuning> &
      MayBeDry & {
        array: string;
        /** Takes effect before the answer; the array is clean for a moment. */
        consistencyPolicy?: ConsistencyPolicy;
        /** Bytes used of every member; "max": all that fits. More takes effect when its job ends. */
        memberSizeBytes?: number | "max";
      };
    value: ArrayStatus;
  };
  "add-member": {
    request: MayBeDry & {
      array: string;
      drive: string;
      force: boolean;
      /** Only where a role is free, at the end too: it does not become a spare. */
      isForRole?: boolean;
    };
    value: { role: "rebuild"; job: JobStatus } | { role: "spare"; array: ArrayStatus };
  };
  /**
   * Lays the array out over these drives too, while it serves: a job that cannot be cancelled. Its
   * dry run is that of an array that has the policy `resync`, whatever it has now.
   */
  "add-members": { request: AddMembersRequest; value: JobStatus };
  /** The drive is to replace a member, which serves while it is copied. */
  "replace-member": {
    request: MayBeDry & { array: string; drive: string; with: string; force: boolean };
    value: JobStatus;
  };
  /** Which of the arrays that run it is large enough for. */
  "fit-drive": { request: { drive: string }; value: readonly DriveFit[] };
  /**
   * Reads a part of a spare, or of a drive that no array holds, for nothing but to know whether it
   * can be read. Not null: why it cannot. A spare of an array leaves it then.
   */
  "read-drive": {
    request: { drive: string; offset: number; bytes: number };
    value: { failure: string | null };
  };
  "fail-member": { request: { array: string; drive: string }; value: ArrayStatus };
  /** What `fail-member` would lead to, or why it would be refused; changes nothing. */
  "check-fail": { request: { array: string; drive: string }; value: FailPlan };
  "remove-member": { request: MayBeDry & { array: string; drive: string }; value: null };
  "start-scrub": {
    request: MayBeDry & {
      array: string;
      mode: "check" | "repair";
      limitBytesPerSecond: number | null;
      restart: boolean;
    };
    value: JobStatus;
  };
  "pause-scrub": { request: MayBeDry & { array: string }; value: JobStatus };
  "cancel-scrub": { request: MayBeDry & { array: string }; value: null };
  /**
   * Rehearses the loss of a member and its rebuild onto the array's spare, on overlays: nothing is
   * written to any drive. A rehearsal that is paused goes on, if it is of the same.
   */
  "start-rehearsal": {
    request: MayBeDry & {
      array: string;
      /** Who is lost; null: the member with the most errors. */
      drive: string | null;
      /** The shared spare that the array would get, if it has none of its own; null: none. */
      spare: string | null;
    };
    value: JobStatus;
  };
  "pause-rehearsal": { request: MayBeDry & { array: string }; value: JobStatus };
  "list-jobs": { request: object; value: readonly JobStatus[] };
  "get-job": { request: { id: number }; value: JobStatus };
  "cancel-job": { request: MayBeDry & { id: number }; value: JobStatus };
  "listen-nbd": {
    request: { address: NbdAddress; mode: number };
    value: { address: NbdAddress };
  };
  /**
   * Serves an NBD client that control has greeted, and perhaps put behind TLS. `fd` is one end of a
   * socket pair. It is the reactor's with the command, even where the command is refused. `peer` is
   * who the client is, as it counts for the places that one may have; `caller` as exports judge it.
   */
  "adopt-nbd": {
    request: {
      fd: number;
      isSecure: boolean;
      isWithoutZeroes: boolean;
      peer: string;
      caller: NbdCaller;
    };
    value: null;
  };
  /**
   * `array` is a uuid, of an array that need not be here yet, or the name of one that is. The
   * export serves that array or nothing. `allow` null or absent: everybody may open it. `force`:
   * also where clients have another array open, which are disconnected, or may write until now.
   */
  "put-export": {
    request: MayBeDry & {
      name: string;
      array: string;
      readOnly: boolean;
      allow?: ExportAllow | null;
      force?: boolean;
    };
    value: { created: boolean; export: ExportStatus };
  };
  "delete-export": { request: MayBeDry & { name: string; force: boolean }; value: null };
  /**
   * The start is over: what has not come until now is not awaited any more. Before it, clients of
   * every export that is not served wait (bounded) for its array.
   */
  "exports-settle": { request: object; value: null };
  "nbd-stats": { request: object; value: NbdStats };
  latencies: { request: object; value: LatencyReport };
  "list-exports": { request: object; value: readonly ExportStatus[] };
  "add-fault": { request: MayBeDry & { fault: FaultSpec }; value: FaultStatus };
  "list-faults": { request: object; value: readonly FaultStatus[] };
  /** With an id only that one. */
  "clear-faults": { request: MayBeDry & { id?: number }; value: null };
  /** The answer to `punch-hole`. */
  "hole-punched": { request: { id: number; error: CommandError | null }; value: null };
  /** The arrays that still run; answered also during the stop, as nothing else is. */
  "list-unstopped": { request: object; value: readonly UnstoppedArray[] };
  /** Stops accepting, drains, stops every array clean. The reactor ends after the answer. */
  shutdown: { request: object; value: null };
}

/** An array that runs, and those of its drives that do not answer. */
export interface UnstoppedArray {
  readonly name: string;
  readonly uuid: string;
  readonly drives: readonly string[];
}

export type CommandKind = keyof CommandMap;

/** Those that tell what they would answer, where `dryRun` is said. */
export type ForetoldKind = {
  [K in CommandKind]: "dryRun" extends keyof CommandMap[K]["request"] ? K : never;
}[CommandKind];

export type Command = {
  [K in CommandKind]: { readonly kind: K } & Readonly<CommandMap[K]["request"]>;
}[CommandKind];

export type CommandOf<K extends CommandKind> = { readonly kind: K } & Readonly<
  CommandMap[K]["request"]
>;

export type CommandResult<K extends CommandKind = CommandKind> = Result<
  CommandMap[K]["value"],
  CommandError
>;

/** What travels from control to the reactor. */
export interface Envelope {
  readonly id: number;
  readonly command: Command;
}

// Events ----------------------------------------------------------------------------------------

export type EventKind =
  | "member.failed"
  | "member.in-sync"
  | "member.returned"
  | "member.suspect"
  | "member.cleared"
  | "array.created"
  | "array.assembled"
  | "array.stopped"
  | "array.left"
  | "array.policy"
  | "array.grown"
  | "reshape.started"
  /** A reshape of Linux's goes on without the bitmap that the array had. */
  | "bitmap.set-aside"
  | "array.degraded"
  | "array.failed"
  | "array.broken"
  | "array.read-only"
  | "array.fenced"
  | "array.shared-disk"
  | "spare.failed"
  | "spare.taken"
  | "spares.missing"
  | "resync.started"
  | "resync.finished"
  | "rebuild.started"
  | "rebuild.progress"
  | "rebuild.finished"
  | "rebuild.aborted"
  | "replace.started"
  | "replace.finished"
  | "replace.aborted"
  | "replace.paused"
  | "rehearsal.started"
  | "rehearsal.paused"
  | "rehearsal.finished"
  | "rehearsal.aborted"
  | "scrub.started"
  | "scrub.paused"
  | "scrub.finished"
  | "drive.silent"
  | "drive.answers"
  | "drive.smart-failing"
  | "drive.smart-worse"
  | "export.not-attached"
  | "schedule.missed"
  | "sector.repaired"
  | "sector.lost"
  | "io.error"
  | "api.call"
  | "api.login-failed"
  | "alerts.dropped"
  | "alerts.test";

export type Severity = "critical" | "warning" | "info";

/** One state change. Control gives it its id and stores it. */
export interface ArrayEvent {
  readonly kind: EventKind;
  readonly severity: Severity;
  /** The label of the array that it is about, and its UUID; "" and null: none. */
  readonly array: string;
  readonly arrayUuid: string | null;
  readonly drive: string | null;
  readonly job: number | null;
  /** Unix time in milliseconds. */
  readonly atMs: number;
  readonly message: string;
}

/** What travels from the reactor to control. */
export type ReactorMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "reply"; readonly id: number; readonly result: CommandResult }
  | { readonly kind: "event"; readonly event: ArrayEvent }
  /** A job began or ended, or is one to be remembered with its place (a scrub, now and then). */
  | { readonly kind: "job"; readonly job: JobStatus }
  /** Punch a hole, durably; control answers with the command `hole-punched`. */
  | {
      readonly kind: "punch-hole";
      readonly id: number;
      readonly fd: number;
      readonly offset: number;
      readonly bytes: number;
    }
  /** The reactor met a defect and stands still: main ends the process. Nothing follows it. */
  | { readonly kind: "defect"; readonly message: string; readonly stack: string }
  | {
      readonly kind: "log";
      readonly level: LogLevel;
      readonly message: string;
      readonly fields: LogFields;
    };

/** What the reactor worker is started with (workerData). */
export interface ReactorConfig {
  readonly memory: WebAssembly.Memory;
  readonly poolBytes: number;
  /** eventfd that control writes after it has posted. */
  readonly wakeFd: number;
  /** Job ids begin here: control knows which were given before. */
  readonly firstJobId: number;
  readonly allowFaultInjection: boolean;
  /**
   * False: arrays start only when they are introduced, or by `start-array`. Absent: also by
   * themselves, once all members are here.
   */
  readonly autoAssemble?: boolean;
}
