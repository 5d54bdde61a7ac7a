/**
 * What the daemon has promised by its answers, and so must say again when it is asked, also after
 * it was killed: the arrays with their labels, the exports, the schedules, the drives.
 *
 * A command that was alone with what it is about settles that: by its answer, everything is known
 * (201: it is there; 204: it is gone; refused: nothing has changed). Where two commands were about
 * one thing at a time, or a command had no answer when the daemon ended, the order is anybody's:
 * the thing is blurred, until the next audit takes it as it is found.
 */

import type { ScheduleView } from "../../src/appliance/schedules/schedule-view.ts";
import type { SpareView } from "../../src/appliance/spares/shared-spares.ts";
import type { ExportView } from "../../src/appliance/state/export-book.ts";
import type { ArrayStatus, DriveStatus } from "../../src/array/protocol.ts";

export interface LedgerArray {
  label: string;
  standing: "known" | "deleted";
}

export interface LedgerExport {
  readonly uuid: string;
  readonly readOnly: boolean;
}

/** A command under way. */
export interface Entry {
  readonly text: string;
  readonly subjects: ReadonlySet<string>;
  isBlurred: boolean;
}

export interface Found {
  readonly arrays: readonly ArrayStatus[];
  readonly exports: readonly ExportView[];
  readonly schedules: readonly ScheduleView[];
  readonly drives: readonly DriveStatus[];
  readonly spares: readonly SpareView[];
}

export const arraySubject = (uuid: string): string => `array:${uuid}`;
export const labelSubject = (label: string): string => `label:${label}`;
export const exportSubject = (name: string): string => `export:${name}`;
export const scheduleSubject = (uuid: string): string => `schedule:${uuid}`;
export const driveSubject = (name: string): string => `drive:${name}`;
export const spareSubject = (drive: string): string => `spare:${drive}`;

export class Ledger {
  readonly arrays = new Map<string, LedgerArray>();
  readonly exports = new Map<string, LedgerExport>();
  /** The cron expression of each, by the UUID of its array. */
  readonly schedules = new Map<string, string>();
  readonly drives = new Set<string>();
  /** Drives that were shared, and that no array was seen to have since. */
  readonly spares = new Set<string>();
  private readonly blurred = new Set<string>();
  private readonly open = new Set<Entry>();
  private isAllBlurred = false;
  /** Rows of the state were lost once: an export may be of an array that is not known again yet. */
  private wasLost = false;

  get isQuiet(): boolean {
    return this.open.size === 0;
  }

  get openTexts(): string[] {
    return [...this.open].map(({ text }) => text);
  }

  begin(text: string, subjects: Iterable<string>): Entry {
    const entry: Entry = { text, subjects: new Set(subjects), isBlurred: false };
    for (const other of this.open) {
      if (![...other.subjects].some((subject) => entry.subjects.has(subject))) continue;
      other.isBlurred = true;
      entry.isBlurred = true;
    }
    if ([...entry.subjects].some((subject) => this.isBlurred(subject))) entry.isBlurred = true;
    this.open.add(entry);
    return entry;
  }

  /** The answer has come; `apply` says what follows from it. */
  end(entry: Entry, apply: () => void): void {
    if (!this.open.delete(entry)) return;
    apply();
    if (entry.isBlurred) this.blur(entry.subjects);
  }

  /** The daemon has ended: nothing that is open will be answered. */
  abandon(): void {
    for (const { subjects } of this.open) this.blur(subjects);
    this.open.clear();
  }

  blur(subjects: Iterable<string>): void {
    for (const subject of subjects) this.blurred.add(subject);
  }

  /** Drives that are not shared, as far as is known: they may be found to be so again. */
  blurTakenSpares(): void {
    this.blur([...this.drives].filter((drive) => !this.spares.has(drive)).map(spareSubject));
  }

  /** The state was lost in part, as it may be where its file was damaged. */
  blurAll(): void {
    this.isAllBlurred = true;
    this.wasLost = true;
  }

  isBlurred(subject: string): boolean {
    return this.isAllBlurred || this.blurred.has(subject);
  }

  isTouched(subject: string): boolean {
    return [...this.open].some(({ subjects }) => subjects.has(subject));
  }

  /** The array that has this label or UUID, as far as is known. */
  resolve(reference: string): string | null {
    if (this.arrays.has(reference)) return reference;
    const named = [...this.arrays].filter(([, { label }]) => label === reference);
    const known = named.find(([, { standing }]) => standing === "known");
    if (known !== undefined) return known[0];
    return named.length === 1 ? named[0]![0] : null;
  }

  /** It is not offered any more, it has no schedule, and its label is free. */
  give(uuid: string): void {
    const array = this.arrays.get(uuid);
    if (array !== undefined) array.standing = "deleted";
    for (const [name, entry] of this.exports) if (entry.uuid === uuid) this.exports.delete(name);
    this.schedules.delete(uuid);
  }

  /** Compares with what the daemon says, with nothing under way; what differs, in sentences. */
  audit({ arrays, exports, schedules, drives, spares }: Found): string[] {
    const faults: string[] = [];
    this.auditSpares({ arrays, drives, spares }, faults);
    this.auditArrays(arrays, faults);
    this.auditExports(exports, faults);
    this.auditSchedules(schedules, faults);
    for (const { name, arrayUuid } of exports) {
      if (arrayUuid === null || arrays.some(({ uuid }) => uuid === arrayUuid)) continue;
      if (!this.wasLost) faults.push(`export ${name} offers ${arrayUuid}, which is no array`);
    }
    const names = new Set(drives.map(({ name }) => name));
    for (const name of new Set([...names, ...this.drives])) {
      const isThere = names.has(name);
      if (isThere === this.drives.has(name)) continue;
      if (!this.isBlurred(driveSubject(name))) {
        faults.push(`drive ${name} is ${isThere ? "listed, and was not added" : "not listed"}`);
      }
      if (isThere) this.drives.add(name);
      else this.drives.delete(name);
    }
    this.blurred.clear();
    this.isAllBlurred = false;
    return faults;
  }

  /** A drive that is shared is in that place alone; one that is not any more is in another. */
  private auditSpares(
    { arrays, drives, spares }: Pick<Found, "arrays" | "drives" | "spares">,
    faults: string[],
  ): void {
    const placed = new Set(
      arrays.flatMap((array) => [
        ...array.members.flatMap(({ drive }) => drive ?? []),
        ...array.spares,
      ]),
    );
    const listed = new Map(spares.map((spare) => [spare.drive, spare]));
    for (const { drive, state } of spares) {
      if (state === "ready" && placed.has(drive)) faults.push(`${drive} is a spare in two places`);
      // Of one that is missing its superblock would tell that an array has it: where that could not
      // be recorded before the end of the daemon, nothing else does.
      if (state === "missing") continue;
      if (!this.spares.has(drive) && !this.isBlurred(spareSubject(drive))) {
        faults.push(`drive ${drive} is shared, and nobody has said so`);
      }
    }
    for (const drive of this.spares) {
      if (listed.has(drive) || this.isBlurred(spareSubject(drive))) continue;
      const status = drives.find(({ name }) => name === drive);
      if (status?.state === "available") faults.push(`drive ${drive} is shared no more`);
    }
    this.spares.clear();
    for (const { drive } of spares) this.spares.add(drive);
  }

  private auditArrays(arrays: readonly ArrayStatus[], faults: string[]): void {
    const found = new Map(arrays.map((array) => [array.uuid, array]));
    const labels = new Set<string>();
    for (const { uuid, name } of arrays) {
      if (labels.has(name)) faults.push(`two arrays are called ${name}`);
      labels.add(name);
      const known = this.arrays.get(uuid);
      if (known === undefined) {
        this.arrays.set(uuid, { label: name, standing: "known" });
        continue;
      }
      const isBlurred = this.isArrayBlurred(uuid, known.label, name);
      if (known.standing === "deleted" && !isBlurred) faults.push(`${name} (${uuid}) was deleted`);
      if (known.label !== name && !isBlurred) {
        faults.push(`array ${known.label} (${uuid}) is called ${name} now`);
      }
      this.arrays.set(uuid, { label: name, standing: "known" });
    }
    for (const [uuid, known] of this.arrays) {
      if (found.has(uuid)) continue;
      // What was lost with the state is known again when its drives are, also what was deleted.
      if (this.isAllBlurred) this.arrays.delete(uuid);
      if (this.isAllBlurred || known.standing === "deleted") continue;
      if (!this.isArrayBlurred(uuid, known.label)) {
        faults.push(`array ${known.label} (${uuid}) is not listed`);
      }
      known.standing = "deleted";
    }
  }

  private isArrayBlurred(uuid: string, ...labels: readonly string[]): boolean {
    return [arraySubject(uuid), ...labels.map(labelSubject)].some((each) => this.isBlurred(each));
  }

  private auditSchedules(schedules: readonly ScheduleView[], faults: string[]): void {
    const found = new Map(schedules.map(({ arrayUuid, cron }) => [arrayUuid, cron]));
    for (const uuid of new Set([...found.keys(), ...this.schedules.keys()])) {
      const now = found.get(uuid);
      const known = this.schedules.get(uuid);
      if (now === known) continue;
      const isBlurred = [scheduleSubject(uuid), arraySubject(uuid)].some((each) =>
        this.isBlurred(each),
      );
      if (!isBlurred) faults.push(`the schedule of ${uuid} is ${now ?? "none"}, not ${known}`);
      if (now === undefined) this.schedules.delete(uuid);
      else this.schedules.set(uuid, now);
    }
  }

  private auditExports(exports: readonly ExportView[], faults: string[]): void {
    const found = new Map(exports.map((entry) => [entry.name, entry]));
    for (const name of new Set([...found.keys(), ...this.exports.keys()])) {
      const now = found.get(name);
      const known = this.exports.get(name);
      const isSame = now?.arrayUuid === known?.uuid && now?.readOnly === known?.readOnly;
      if (isSame) continue;
      const isBlurred =
        this.isBlurred(exportSubject(name)) ||
        [known?.uuid, now?.arrayUuid].some(
          (uuid) => typeof uuid === "string" && this.isBlurred(arraySubject(uuid)),
        );
      if (!isBlurred) {
        const text = (uuid: string | null | undefined) => uuid ?? "nothing";
        faults.push(`export ${name} offers ${text(now?.arrayUuid)}, not ${text(known?.uuid)}`);
      }
      if (now === undefined || now.arrayUuid === null) this.exports.delete(name);
      else this.exports.set(name, { uuid: now.arrayUuid, readOnly: now.readOnly });
    }
  }
}
