/**
 * Asks the disks below the drives for their health by smartctl, an hour apart, and tells what has
 * become worse. What a disk says is shown of each drive that lies on it.
 *
 * | a disk is not asked while                                | because                        |
 * |----------------------------------------------------------|--------------------------------|
 * | any member or spare does not answer, or a drive on it    | who is in trouble gets no more |
 * |                                                          | commands on top                |
 * | the kernel has it blocked, or its controller in recovery | the same                       |
 * | it sleeps (smartctl sees to that)                        | it is not to be woken for it   |
 * | its last smartctl has not ended                          | it costs one process at most   |
 * | too many disks are like that                             | so do all of them together     |
 *
 * One disk is asked after the other. A drive that lies on several disks, or on none that the host
 * can name, has no reading. What was read and told is kept with the drive (state.db): a restart
 * asks again, and tells nothing twice.
 */
import type { CommandError, DriveStatus } from "../../array/protocol.ts";
import type { Result } from "../../base/result.ts";
import { isoTime } from "../../base/time.ts";
import { MIB } from "../../base/units.ts";
import type { ToolAnswer, ToolRunner } from "../host/linux-tool.ts";
import type { Alarms } from "../state/alarms.ts";
import type { EventLog } from "../state/event-log.ts";
import type { SmartNumbers, SmartReading, StoredSmart } from "../state/smart-row.ts";
import type { StateStore } from "../state/state-store.ts";
import { type DriveDisks, diskPath, isDisk } from "./drive-disks.ts";
import { judgeSmart } from "./smart-judge.ts";
import { readSmart, SMARTCTL_WORDS } from "./smart-report.ts";

const FIRST_LOOK_MS = 5_000;
/** Between two looks which disks are to be asked. */
const LOOK_MS = 60_000;
const ASK_EVERY_MS = 3_600_000;
const DEADLINE_MS = 30_000;
const OUTPUT_BYTES_MAX = MIB;
const OVERDUE_MAX = 4;

/** What is shown of a drive. */
export interface DriveSmart extends SmartNumbers {
  readonly health: SmartReading["health"];
  /** Why it is failing; empty where it is not. */
  readonly failures: readonly string[];
  readonly kind: SmartReading["kind"];
  /** When that was read; null: never. */
  readonly readAt: string | null;
  /** Why there is no reading, or none since; null: nothing is in the way. */
  readonly reason: string | null;
}

export interface SmartWatchParts {
  readonly drives: DriveDisks;
  readonly opener: { diskTrouble(disk: string): Promise<string | null> };
  /** All drives, as they stand at this moment. */
  readonly listDrives: () => Promise<Result<DriveStatus[], CommandError>>;
  readonly labelOf: (arrayUuid: string) => string;
  readonly tools: ToolRunner;
  readonly store: StateStore;
  readonly events: EventLog;
  readonly alarms: Alarms;
}

const NO_NUMBERS: SmartNumbers = {
  ...{ temperatureCelsius: null, powerOnHours: null, reallocatedSectors: null },
  ...{ pendingSectors: null, uncorrectableSectors: null, mediaErrors: null },
  ...{ percentageUsed: null, availableSparePercent: null },
};

export class SmartWatch {
  private readonly parts: SmartWatchParts;
  /** By disk: when it was asked last, on the clock that never jumps. */
  private readonly askedMs = new Map<string, number>();
  /** By disk: why its last reading is not of the last hour. */
  private readonly reasons = new Map<string, string>();
  private phase: "starting" | "looking" | "stopped" = "starting";

  constructor(parts: SmartWatchParts) {
    this.parts = parts;
  }

  start(): void {
    if (this.phase !== "starting") return;
    this.phase = "looking";
    this.lookAfter(FIRST_LOOK_MS);
  }

  stop(): void {
    this.phase = "stopped";
    this.parts.tools.stop();
  }

  view({ name, state }: DriveStatus): DriveSmart {
    const kept = this.parts.store.state.smart.get(name);
    const reason = this.reasonFor(name, state, kept === undefined);
    if (kept === undefined) {
      return { ...NO_NUMBERS, health: "unknown", failures: [], kind: null, readAt: null, reason };
    }
    const { serial: _serial, isOutsideTemperature: _is, ...shown } = kept.reading;
    return { ...shown, readAt: kept.readAt, reason };
  }

  private reasonFor(name: string, state: DriveStatus["state"], isUnread: boolean): string | null {
    if (state === "missing") return "the drive is missing";
    const disks = this.disksOf(name);
    const [disk] = disks;
    if (disk === undefined) return "it lies on no disk that this host can name";
    if (disks.length > 1) return `it lies on several disks: ${disks.join(", ")}`;
    return this.reasons.get(disk) ?? (isUnread ? "the disk has not been asked yet" : null);
  }

  private disksOf(name: string): string[] {
    return [...this.parts.drives.disksOf([name])].filter(isDisk).sort();
  }

  // Looking -------------------------------------------------------------------------------------

  private lookAfter(delayMs: number): void {
    this.parts.alarms.after(delayMs, () => {
      if (this.phase !== "looking") return;
      void this.look().then(() => this.lookAfter(LOOK_MS));
    });
  }

  private async look(): Promise<void> {
    for (const [disk, names] of this.disksToAsk()) {
      if (this.phase !== "looking") return;
      await this.ask(disk, names);
    }
  }

  /** With the drives on each. */
  private disksToAsk(): Map<string, string[]> {
    const nowMs = this.parts.alarms.nowMs();
    const due = new Map<string, string[]>();
    for (const { name } of this.parts.drives.known) {
      const [disk, ...others] = this.disksOf(name);
      if (disk === undefined || others.length > 0) continue;
      const askedMs = this.askedMs.get(disk) ?? Number.NEGATIVE_INFINITY;
      if (nowMs - askedMs >= ASK_EVERY_MS) due.set(disk, [...(due.get(disk) ?? []), name]);
    }
    return due;
  }

  private async ask(disk: string, names: readonly string[]): Promise<void> {
    const { opener, tools, alarms } = this.parts;
    const trouble = await opener.diskTrouble(disk);
    if (trouble !== null) return this.leave(disk, `not asked: ${trouble}`);
    const drives = await this.parts.listDrives();
    if (!drives.ok) return this.leave(disk, `not asked: ${drives.error.detail}`);
    const obstacle = this.obstacleTo(names, drives.value);
    if (obstacle !== null) return this.leave(disk, obstacle);
    if (this.phase !== "looking") return;
    // Order: nothing is waited for between that look at the drives and this.
    const answer = await tools.run({
      ...{ program: "smartctl", words: [...SMARTCTL_WORDS, diskPath(disk)], key: `smart ${disk}` },
      ...{ deadlineMs: DEADLINE_MS, outputBytesMax: OUTPUT_BYTES_MAX },
    });
    if (this.phase !== "looking") return;
    // Somebody may install it; to look for it costs nothing.
    if (answer.kind !== "absent") this.askedMs.set(disk, alarms.nowMs());
    const reading = readingOf(answer);
    if (typeof reading === "string") return this.leave(disk, reading);
    this.reasons.delete(disk);
    for (const name of names) {
      // Another disk may have its name by now.
      const drive = drives.value.find((candidate) => candidate.name === name);
      if (drive !== undefined && this.disksOf(name).includes(disk)) this.take(drive, reading);
    }
  }

  private leave(disk: string, reason: string): void {
    this.reasons.set(disk, reason);
  }

  private obstacleTo(names: readonly string[], drives: readonly DriveStatus[]): string | null {
    const silent = drives.find(
      ({ name, state, isSilent }) =>
        isSilent === true && (state === "member" || state === "spare" || names.includes(name)),
    );
    if (silent !== undefined) return `not asked: drive ${silent.name} does not answer`;
    const { overdueCount } = this.parts.tools;
    if (overdueCount < OVERDUE_MAX) return null;
    return `not asked: ${overdueCount} programs still wait for other disks`;
  }

  // What a disk says ----------------------------------------------------------------------------

  private take(drive: DriveStatus, reading: SmartReading): void {
    const { store, alarms } = this.parts;
    const { name } = drive;
    const before = store.state.smart.get(name);
    const isSame = before !== undefined && before.reading.serial === reading.serial;
    const { told, failing, worse } = judgeSmart(reading, isSame ? before.told : {});
    const readAt = isoTime(alarms.wallMs());
    const smart: StoredSmart = { drive: name, readAt, reading, told };
    // Order: that it was told is kept first. A crash between the two may cost the event's place in
    // state.db, as of any event, and never tells it twice.
    store.note({ kind: "put-smart", smart });
    if (failing !== null) {
      const text = `drive ${name} is failing by its own account (SMART): ${failing}`;
      this.tell("drive.smart-failing", drive, text);
    }
    if (worse.length > 0) {
      this.tell("drive.smart-worse", drive, `drive ${name} (SMART): ${worse.join("; ")}`);
    }
  }

  private tell(
    kind: "drive.smart-failing" | "drive.smart-worse",
    { name, superblock }: DriveStatus,
    message: string,
  ): void {
    const arrayUuid = superblock?.arrayUuid ?? null;
    this.parts.events.append({
      ...{ kind, severity: kind === "drive.smart-failing" ? "critical" : "warning" },
      ...{ array: arrayUuid === null ? "" : this.parts.labelOf(arrayUuid), arrayUuid },
      ...{ drive: name, job: null, atMs: this.parts.alarms.wallMs(), message },
    });
  }
}

/** A sentence: why there is no reading. */
function readingOf(answer: ToolAnswer): SmartReading | string {
  switch (answer.kind) {
    case "exited": {
      if (answer.exitCode === null) return "smartctl was ended by a signal";
      const reading = readSmart(answer.stdout, answer.exitCode);
      return reading.ok ? reading.value : reading.error;
    }
    case "absent":
      return "smartctl is not installed on this host (smartmontools)";
    case "failed":
      return `smartctl could not be started: ${answer.detail}`;
    case "late":
      return `smartctl did not answer within ${DEADLINE_MS / 1_000} s`;
    case "stuck":
      return "smartctl still waits for the disk since it was asked last";
    case "flooded":
      return "smartctl printed far more than it should";
  }
}
