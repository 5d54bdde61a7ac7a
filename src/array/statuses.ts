/**
 * What the outside sees of drives, arrays, exports and faults, and of jobs (job-statuses.ts), as
 * values: they cross from the reactor to the control thread and are what the API answers. Offsets
 * and sizes are bytes.
 */
import type { ExportRange } from "../raid5/sync/export-ranges.ts";
import type { JobKind } from "./job-statuses.ts";

export * from "./job-statuses.ts";

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
  /** Of the md superblock that it carries; null: none that can be used. */
  readonly deviceUuid?: string | null;
  /** Absent: nobody looked. All null for a file. */
  readonly identity?: DriveIdentity;
  /** What a file takes of its file system; less than `sizeBytes`: sparse. Absent: no file. */
  readonly allocatedBytes?: number;
  /** A file whose file system copies on write: space that is allocated is no promise there. */
  readonly isCopyOnWrite?: boolean;
  /**
   * The physical disks that it lies on ("sda"), or what stands for them where the host cannot tell
   * (the number of its file system). Drives with one in common move the same heads. Absent: nobody
   * looked.
   */
  readonly disks?: readonly string[];
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

/** What a drive does not answer, and what follows. */
export interface DriveSilence {
  readonly seconds: number;
  /** A flush is a write here. */
  readonly waits: "read" | "write";
  /** Half a sentence: what waits, and what becomes of the drive when. */
  readonly follows: string;
}

/** "has not answered a write for 12 s: it is failed after 180 s, until then clients wait". */
export function silenceText({ seconds, waits, follows }: DriveSilence): string {
  return `has not answered a ${waits} for ${seconds} s: ${follows}`;
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
  /** What the device is, whatever its path; null where the host cannot tell. Absent: not open. */
  readonly byId?: string | null;
  readonly wwn?: string | null;
  readonly serial?: string | null;
  readonly model?: string | null;
  /** It has a spindle, so far as its host knows; of a file, the disk below. Absent: not open. */
  readonly isRotational?: boolean;
  /** It has not answered for a while, or still owes what was given up for lost. */
  readonly isSilent?: true;
  /** It has not answered for some seconds: who needs it waits. */
  readonly silence?: DriveSilence;
  /** A file that has not all of its space: a full file system will refuse its writes. */
  readonly isSparse?: boolean;
  /** Stale, and it may hold what its array lacks: to take it back gives that up. */
  readonly needsForce?: boolean;
  /** One sentence on how the drive came to be in this state, where that is not plain. */
  readonly detail?: string;
}

/** How large a drive would have to be for an array. */
export interface DriveFit {
  /** Its UUID. */
  readonly array: string;
  /** What its members need at least; null: the drive has that. */
  readonly neededBytes: number | null;
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

export type SyncAction = "idle" | JobKind;

export interface MemberErrors {
  readonly read: number;
  readonly write: number;
  readonly fixed: number;
  readonly slow: number;
  readonly retried: number;
}

/** What a member may be suspect for, the weightiest first (drives/suspicion.ts). */
export const SUSPECT_REASONS = ["write-errors", "fixed-sectors", "late-reads", "latency"] as const;
export type SuspectReason = (typeof SUSPECT_REASONS)[number];

export interface SuspectStatus {
  /** The weightiest. */
  readonly reason: SuspectReason;
  /** All of them, with what was counted and its limit. */
  readonly detail: string;
  readonly since: string;
}

export interface MemberStatus {
  readonly role: number;
  /** Null where no drive is known for this role. */
  readonly drive: string | null;
  readonly state: MemberState;
  readonly recoveredBytes?: number;
  /** The drive that is to replace it, and how much of it has been copied. */
  readonly replacement?: { readonly drive: string; readonly copiedBytes: number };
  /** It is likely to fail, and serves still. */
  readonly suspect?: SuspectStatus;
  /** Reads go around it, because it does not answer or is far slower than its peers. */
  readonly isAvoided?: true;
  /** Its bad-block log: bytes from the begin of its data. Absent: it is empty. */
  readonly badBlocks?: readonly { readonly offset: number; readonly bytes: number }[];
  readonly errors: MemberErrors;
  /** Completions by errno name or kind ("short"), as judged by the retry filter. */
  readonly errorKinds: Readonly<Record<string, number>>;
  /** The same by operation ("read"); one without is absent. */
  readonly errorsByOp: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly io: {
    readonly reads: number;
    readonly writes: number;
    readonly flushes: number;
    readonly bytesRead: number;
    readonly bytesWritten: number;
    /** That they took, all together. */
    readonly readMs: number;
    readonly writeMs: number;
  };
}

export interface SyncStatus {
  readonly action: SyncAction;
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly rateBytesPerSecond: number;
  readonly etaSeconds: number | null;
  /** What it waits for: "no space on a member". Absent: for nothing. */
  readonly waits?: string;
}

/** Whether clients did I/O. */
export type ClientLoad = "idle" | "busy";

/** How fast work on stripes was, in bytes of each member. */
export interface SyncRate {
  readonly kind: JobKind;
  readonly load: ClientLoad;
  readonly bytesPerSecond: number;
  /** What it was allowed to be then; null: as fast as it could. */
  readonly limitBytesPerSecond: number | null;
  /** Over how many bytes of a member that was measured. */
  readonly measuredBytes: number;
  readonly measuredAt: string;
}

/** How long something would take, by a rate that was measured. */
export interface RebuildTime {
  readonly seconds: number;
  readonly bytesPerSecond: number;
  /** The kind of work that was so fast. */
  readonly measuredBy: JobKind;
  readonly measuredAt: string;
}

/** By load; null: not measured yet. */
export type RebuildTimes = { readonly [load in ClientLoad]: RebuildTime | null };

/** What a rebuild would meet on a member that it has to read. */
export interface ForecastMeeting {
  /** Entries of its bad-block log. */
  readonly kind: "bad-blocks";
  readonly role: number;
  readonly drive: string;
  readonly count: number;
  readonly bytes: number;
}

/** What a rebuild of one member would take now, and be without. */
export interface MemberForecast {
  readonly role: number;
  readonly drive: string | null;
  /** Of the member; of one that is being rebuilt, what is left. */
  readonly rebuildBytes: number;
  readonly rebuild: RebuildTimes;
  readonly meets: readonly ForecastMeeting[];
  /** Of the array, that nobody can give without this member; null: it cannot do without it. */
  readonly unreadableBytes: number | null;
}

export interface ArrayForecast {
  /** Now. */
  readonly load: ClientLoad;
  readonly members: readonly MemberForecast[];
}

/** What follows where a member is taken for faulty. */
export interface FailPlan {
  /** The label of the array. */
  readonly array: string;
  readonly drive: string;
  readonly role: number;
  /** What the array would be then. */
  readonly state: ArrayState;
  readonly degraded: number;
  readonly unreadable: {
    readonly bytes: number;
    /** Bytes of the array. */
    readonly ranges: readonly ExportRange[];
    /** More lie behind the last range. */
    readonly truncated: boolean;
  };
  readonly meets: readonly ForecastMeeting[];
  /** Who takes the role; "replacement": the drive that the member is being copied to. */
  readonly spare: { readonly drive: string; readonly from: SpareSource } | null;
  readonly load: ClientLoad;
  readonly rebuildBytes: number;
  readonly rebuild: RebuildTimes;
}

export type SpareSource = "own" | "shared" | "replacement";

export interface ScrubSummary {
  readonly mode: "check" | "repair";
  readonly finishedAt: string;
  readonly mismatchBytes: number;
  /** Data that no member could give, after all that could be cured was. */
  readonly lostBytes: number;
}

export interface PausedScrub {
  readonly job: number;
  readonly mode: "check" | "repair";
  /** Of each member. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** What set it aside: it goes on by itself afterwards. Null: somebody paused it. */
  readonly asideReason: string | null;
}

/** A physical disk ("sda"), and the drives of one array that lie on it. */
export type SharedDisk = { readonly disk: string; readonly drives: readonly string[] };

export interface ArrayStatus {
  readonly name: string;
  readonly uuid: string;
  readonly state: ArrayState;
  readonly level: "raid5";
  readonly layout: string;
  readonly chunkBytes: number;
  readonly sizeBytes: number;
  readonly consistencyPolicy: ConsistencyPolicy;
  /** What it gets back when its growth in members has ended. Absent: it has its policy. */
  readonly policyAfterGrowth?: ConsistencyPolicy;
  readonly eventCount: number;
  /** The name on the members, where it is not the label. */
  readonly nameOnDisk: string | null;
  /** Missing members. */
  readonly degraded: number;
  /** Why the array is in this state, where it is not plain ("stopped", "dirty and degraded: …"). */
  readonly reason: string | null;
  /** Stopped by the user: it does not start by itself. */
  readonly isHeld: boolean;
  /** What a start of it takes; null: it runs. */
  readonly startNeeds: "nothing" | "force" | "drives" | "fewer-drives" | null;
  readonly members: readonly MemberStatus[];
  /** Its own. */
  readonly spares: readonly string[];
  /** Drives that are nobody's, and that would be taken for a role here without force. */
  readonly candidates: readonly string[];
  /** Drives that arrays share and that could take a role here. Absent: nobody has looked. */
  readonly sharedSpares?: readonly string[];
  /** Physical disks that carry several of its drives: with one all of those are lost. */
  readonly sharedDisks?: readonly SharedDisk[];
  readonly sync: SyncStatus;
  /**
   * Writes since its start, by stripe and plan: those that filled their stripe needed no reads.
   * Absent: it does not run.
   */
  readonly stripeWrites?: { readonly full: number; readonly partial: number };
  readonly mismatchBytes: number;
  readonly lostBytes: number;
  readonly lastScrub: ScrubSummary | null;
  /** One that does not run and has a place; null: there is none. */
  readonly pausedScrub: PausedScrub | null;
  /** What work on stripes was measured at; empty: nothing yet. */
  readonly syncRates: readonly SyncRate[];
  /** Null: it does not run. */
  readonly forecast: ArrayForecast | null;
  readonly syncSpeedMin: number;
  readonly syncSpeedMax: number;
  readonly readDeadlineMs: number;
  readonly writeDeadlineMs: number;
  readonly suspectWriteErrors: number;
  readonly suspectFixedSectors: number;
  readonly suspectLateReads: number;
  readonly suspectLatencyFactor: number;
  readonly replaceSuspects: boolean;
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
