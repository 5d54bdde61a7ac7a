/**
 * What the control thread and the reactor say to each other: a closed union.
 *
 * Control sends `Envelope`s on a MessagePort and rings the reactor's eventfd. The reactor posts
 * `ReactorMessage`s back. Errors cross as values. Offsets and sizes are bytes. No message per I/O.
 */

import type { LogFields, LogLevel } from "../base/log.ts";
import type { Result } from "../base/result.ts";
import type { MismatchList } from "../raid5/mismatch-ranges.ts";

// Drives ----------------------------------------------------------------------------------------

/** What a device is, whatever its path is today. Each is null where the host cannot tell. */
export interface DriveIdentity {
  /** The whole path of its most lasting link: "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4". */
  readonly byId: string | null;
  /** As the kernel says it ("naa.5000c500a1b2c3d4"); of a partition with "-part1" behind it. */
  readonly wwn: string | null;
  /** As the kernel says it; of a partition with "-part1" behind it. */
  readonly serial: string | null;
  readonly model: string | null;
}

/** A drive that a helper thread has opened. The reactor never opens or closes a file itself. */
export interface OpenDrive {
  readonly name: string;
  readonly path: string;
  readonly fd: number;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  /** False: opened without O_DIRECT; writes go through the page cache. */
  readonly isDirect: boolean;
  readonly isReadOnly: boolean;
  readonly isRotational: boolean;
  /** Files always; block devices by their queue. */
  readonly hasVolatileCache: boolean;
  /** True only where every byte is known to read as zero (a file without any allocated extent). */
  readonly readsZeros: boolean;
  /** A regular file: a hole that is punched reads zeros. Absent: no. */
  readonly canPunchHoles?: boolean;
  /**
   * What is on it, found by the helper, as a noun with its article where it takes one ("an ext4
   * file system", "data that is not zero"). Null: nothing that anybody could miss.
   */
  readonly signature: string | null;
  /** Absent: nobody looked. All null for a file. */
  readonly identity?: DriveIdentity;
  /** What a file takes of its file system; less than `sizeBytes`: sparse. Absent: no file. */
  readonly allocatedBytes?: number;
  /** A file whose file system copies on write: space that is allocated is no promise there. */
  readonly isCopyOnWrite?: boolean;
}

export type DriveState =
  | "available"
  | "member"
  | "spare"
  | "stale"
  | "foreign"
  | "missing"
  | "faulty";

export interface DriveSuperblock {
  readonly arrayUuid: string;
  readonly deviceUuid: string;
  /** The array's own name on disk, without a host. */
  readonly arrayName: string;
  /** Null: a spare, or faulty. */
  readonly role: number | null;
  readonly eventCount: number;
}

export interface DriveStatus {
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly state: DriveState;
  readonly member?: { readonly array: string; readonly role: number };
  /** What its superblock says, where it carries one that can be used. */
  readonly superblock?: DriveSuperblock;
  /** One sentence on how the drive came to be in this state, where that is not plain. */
  readonly detail?: string;
}

// Arrays ----------------------------------------------------------------------------------------

export type ConsistencyPolicy = "resync" | "bitmap" | "ppl";

/**
 * The first that applies: `absent` (known here, nothing of it present), `inactive`, `broken` (an
 * invariant broke in it: stopped until the daemon starts again), `fenced` (another host took it
 * over), `failed` (two or more members missing), `read-only`, `degraded`, `active`, `clean`.
 */
export const ARRAY_STATES = [
  "absent",
  "inactive",
  "broken",
  "fenced",
  "failed",
  "read-only",
  "degraded",
  "active",
  "clean",
] as const;
export type ArrayState = (typeof ARRAY_STATES)[number];

export type MemberState = "in-sync" | "rebuilding" | "spare" | "faulty" | "missing";

export type SyncAction = "idle" | "resync" | "rebuild" | "check" | "repair";

export interface MemberErrors {
  readonly read: number;
  readonly write: number;
  readonly fixed: number;
  readonly slow: number;
  readonly retried: number;
}

export interface MemberStatus {
  readonly role: number;
  /** Null where no drive is known for this role. */
  readonly drive: string | null;
  readonly state: MemberState;
  readonly recoveredBytes?: number;
  readonly errors: MemberErrors;
  /** Completions by errno name or kind ("short"), as judged by the retry filter. */
  readonly errorKinds: Readonly<Record<string, number>>;
  readonly io: {
    readonly reads: number;
    readonly writes: number;
    readonly flushes: number;
    readonly bytesRead: number;
    readonly bytesWritten: number;
  };
}

export interface SyncStatus {
  readonly action: SyncAction;
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly rateBytesPerSecond: number;
  readonly etaSeconds: number | null;
}

export interface ScrubSummary {
  readonly mode: "check" | "repair";
  readonly finishedAt: string;
  readonly mismatchBytes: number;
}

export interface ArrayStatus {
  readonly name: string;
  readonly uuid: string;
  readonly state: ArrayState;
  readonly level: "raid5";
  readonly layout: string;
  readonly chunkBytes: number;
  readonly sizeBytes: number;
  readonly consistencyPolicy: ConsistencyPolicy;
  readonly eventCount: number;
  /** The name on the members, where it is not the label. */
  readonly nameOnDisk: string | null;
  /** Missing members. */
  readonly degraded: number;
  /** Why the array is in this state, where it is not plain ("stopped", "dirty and degraded: …"). */
  readonly reason: string | null;
  /** Stopped by the user: it does not start by itself. */
  readonly isHeld: boolean;
  readonly members: readonly MemberStatus[];
  readonly spares: readonly string[];
  readonly sync: SyncStatus;
  readonly mismatchBytes: number;
  readonly lostBytes: number;
  readonly lastScrub: ScrubSummary | null;
  readonly syncSpeedMin: number;
  readonly syncSpeedMax: number;
  readonly readDeadlineMs: number;
  readonly writeDeadlineMs: number;
}

// Jobs ------------------------------------------------------------------------------------------

export type JobKind = "resync" | "rebuild" | "check" | "repair";
export type JobState = "running" | "paused" | "done" | "failed" | "cancelled";

/**
 * What a job found or did: of a scrub and resync mismatchBytes, of a rebuild retries and drive. A
 * scrub lists where it found mismatches as well.
 */
export interface JobResult {
  readonly [fact: string]: number | string | MismatchList;
}

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
  readonly error: string | null;
  readonly result: JobResult;
  readonly startedAt: string;
  readonly finishedAt: string | null;
}

// Exports ---------------------------------------------------------------------------------------

export interface ExportStatus {
  readonly name: string;
  /** The uuid of its array: names of arrays can change hands, and an export never does. */
  readonly array: string;
  readonly readOnly: boolean;
  readonly connections: number;
  /** Its array runs. False: clients wait while that is starting, and are refused otherwise. */
  readonly isServed: boolean;
}

export type NbdAddress =
  | { readonly kind: "unix"; readonly path: string }
  | {
      readonly kind: "tcp";
      readonly host: string;
      readonly port: number;
      /** Clients speak TLS there. */
      readonly isSecure?: true;
    };

/** Requests of NBD clients that were answered, since the export was made. */
export interface NbdAnswerCount {
  readonly export: string;
  /** "read", "write", "write_zeroes", or "unknown". */
  readonly op: string;
  /** "none", or the name of the errno. */
  readonly error: string;
  readonly count: number;
}

export interface NbdStats {
  /** Those without an export yet among them. */
  readonly connections: number;
  readonly answers: readonly NbdAnswerCount[];
  readonly payloadPoolBytes: number;
  readonly payloadPoolFreeBytes: number;
}

// Faults ----------------------------------------------------------------------------------------

export interface FaultSpec {
  readonly drive: string;
  readonly op: "read" | "write" | "flush" | "any";
  readonly at: "submit" | "completion";
  /** The positive errno to answer with; absent when only `delayMs` or `resultBytes` is meant. */
  readonly errno?: number;
  /** Only requests that touch [offset, offset + bytes) of the device. */
  readonly offset?: number;
  readonly bytes?: number;
  /** How many requests it hits; absent: every one until it is cleared. */
  readonly count?: number;
  /** Hits one request in `every` (default 1). */
  readonly every?: number;
  /** Bad sectors: reads fail until the range has been written. */
  readonly untilWritten?: boolean;
  readonly delayMs?: number;
  /** Pretends that so many bytes were moved: fewer, or more, than asked. */
  readonly resultBytes?: number;
}

export interface FaultStatus extends FaultSpec {
  readonly id: number;
  readonly injected: number;
}

// Errors ----------------------------------------------------------------------------------------

/**
 * Why a command was refused. `detail` is a sentence that says what to do. The API maps `kind` to
 * a status: not-found 404, conflict 409 (wrong state), busy 423, invalid 422, io 500, stopping 503,
 * unrecorded (state.db does not take it, and nothing has changed) 507.
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
    | "unrecorded";
  /** Stable slug, the tail of the problem `type`: "drive-in-use", "too-few-drives". */
  readonly code: string;
  readonly detail: string;
}

// Commands --------------------------------------------------------------------------------------

export interface CreateArrayRequest {
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

/**
 * Each command with what it takes and what it answers. `array` is a UUID; the reactor takes its
 * label as well.
 */
export interface CommandMap {
  /**
   * Probes the drive; joins it to its array, and assembles that when all its members are here and
   * it may start by itself.
   */
  "attach-drive": { request: { drive: OpenDrive }; value: DriveStatus };
  /**
   * Forgets the drive. The answer comes when nothing is outstanding: control closes the fd then.
   */
  "detach-drive": {
    request: { name: string; force: boolean };
    value: { fd: number };
  };
  "list-drives": { request: object; value: readonly DriveStatus[] };
  "create-array": { request: CreateArrayRequest; value: ArrayStatus };
  "list-arrays": { request: object; value: readonly ArrayStatus[] };
  "get-array": { request: { array: string }; value: ArrayStatus };
  /** Assembles from the drives present. `readOnly` writes not one byte to any member. */
  "start-array": {
    request: { array: string; force: boolean; readOnly: boolean };
    value: ArrayStatus;
  };
  /**
   * Says what an array is called here and whether it may start by itself, also before anything of
   * it is here; one that may and can starts now. Null: nothing of it is here.
   */
  "introduce-array": {
    request: { array: string; name: string; mayStart: boolean };
    value: ArrayStatus | null;
  };
  /** The name on the members; needs the array to run. */
  "write-name": { request: { array: string; name: string }; value: ArrayStatus };
  /** Refused while NBD clients are connected to an export of it, unless forced. */
  "stop-array": { request: { array: string; force?: boolean }; value: ArrayStatus };
  /**
   * Stops it and forgets it; its drives become available (or foreign, with superblocks kept).
   * Refused while NBD clients are connected, as a stop is.
   */
  "delete-array": {
    request: { array: string; zeroSuperblocks: boolean; force?: boolean };
    value: null;
  };
  "set-array": {
    request: {
      array: string;
      syncSpeedMin?: number;
      syncSpeedMax?: number;
      readDeadlineMs?: number;
      writeDeadlineMs?: number;
      /** Takes effect before the answer; the array is clean for a moment. */
      consistencyPolicy?: ConsistencyPolicy;
    };
    value: ArrayStatus;
  };
  "add-member": {
    request: { array: string; drive: string; force: boolean };
    value: { role: "rebuild"; job: JobStatus } | { role: "spare"; array: ArrayStatus };
  };
  "fail-member": { request: { array: string; drive: string }; value: ArrayStatus };
  "remove-member": { request: { array: string; drive: string }; value: null };
  "start-scrub": {
    request: {
      array: string;
      mode: "check" | "repair";
      limitBytesPerSecond: number | null;
      restart: boolean;
    };
    value: JobStatus;
  };
  "pause-scrub": { request: { array: string }; value: JobStatus };
  "cancel-scrub": { request: { array: string }; value: null };
  "list-jobs": { request: object; value: readonly JobStatus[] };
  "get-job": { request: { id: number }; value: JobStatus };
  "cancel-job": { request: { id: number }; value: JobStatus };
  "listen-nbd": {
    request: { address: NbdAddress; mode: number };
    value: { address: NbdAddress };
  };
  /**
   * Serves an NBD client that control has greeted, and perhaps put behind TLS. `fd` is one end of a
   * socket pair. It is the reactor's with the command, even where the command is refused.
   */
  "adopt-nbd": {
    request: { fd: number; isSecure: boolean; isWithoutZeroes: boolean };
    value: null;
  };
  /**
   * `array` is a uuid, of an array that need not be here yet, or the name of one that is. The
   * export serves that array or nothing.
   */
  "put-export": {
    request: { name: string; array: string; readOnly: boolean };
    value: { created: boolean; export: ExportStatus };
  };
  "delete-export": { request: { name: string; force: boolean }; value: null };
  /**
   * The start is over: what has not come until now is not awaited any more. Before it, clients of
   * every export that is not served wait (bounded) for its array.
   */
  "exports-settle": { request: object; value: null };
  "nbd-stats": { request: object; value: NbdStats };
  "list-exports": { request: object; value: readonly ExportStatus[] };
  "add-fault": { request: { fault: FaultSpec }; value: FaultStatus };
  "list-faults": { request: object; value: readonly FaultStatus[] };
  /** With an id only that one. */
  "clear-faults": { request: { id?: number }; value: null };
  /** The answer to `punch-hole`. */
  "hole-punched": { request: { id: number; error: CommandError | null }; value: null };
  /** Stops accepting, drains, stops every array clean. The reactor ends after the answer. */
  shutdown: { request: object; value: null };
}

export type CommandKind = keyof CommandMap;

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
  | "array.created"
  | "array.assembled"
  | "array.stopped"
  | "array.policy"
  | "array.degraded"
  | "array.failed"
  | "array.read-only"
  | "spare.failed"
  | "spares.missing"
  | "resync.started"
  | "resync.finished"
  | "rebuild.started"
  | "rebuild.progress"
  | "rebuild.finished"
  | "rebuild.aborted"
  | "scrub.started"
  | "scrub.paused"
  | "scrub.finished"
  | "sector.repaired"
  | "sector.lost"
  | "io.error";

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
  /** A job began or ended; progress is asked for with get-job. */
  | { readonly kind: "job"; readonly job: JobStatus }
  /** Punch a hole, durably; control answers with the command `hole-punched`. */
  | {
      readonly kind: "punch-hole";
      readonly id: number;
      readonly fd: number;
      readonly offset: number;
      readonly bytes: number;
    }
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
