/** What is printed of drives: the table, what a scan has found. Pure. */

import { isDevicePath } from "../appliance/drive-places.ts";
import type { DriveView } from "../appliance/drives/drive-care.ts";
import type { ScanEntry, ScanResult } from "../appliance/drives/drive-scan.ts";
import { type ArrayStatus, type DriveStatus, silenceText } from "../array/protocol.ts";
import { counted, wordFor } from "../base/counted.ts";
import { printable } from "../base/printable.ts";
import { formatBytes } from "../base/units.ts";
import { smartLines } from "./smart-text.ts";
import { renderTable } from "./table-text.ts";

export function driveLine(drive: DriveStatus): string {
  const of =
    drive.member === undefined ? "" : `, array ${drive.member.array} (role ${drive.member.role})`;
  const why = drive.detail === undefined ? "" : `: ${drive.detail}`;
  return printable(`${drive.name} (${formatBytes(drive.sizeBytes)}) is ${drive.state}${of}${why}`);
}

/** `parityd drive show`. */
export function driveLines(drive: DriveView): string[] {
  const { path, byId, model, serial, wwn, smart } = drive;
  const facts: readonly (readonly [string, string | null | undefined])[] = [
    ["path", path],
    ["by-id", byId],
    ["kind", kindOf(drive)],
    ["model", model],
    ["serial", serial],
    ["wwn", wwn],
  ];
  const known = facts.filter(([, fact]) => fact !== undefined && fact !== null && fact !== "-");
  if (drive.silence !== undefined) known.push(["silent", silenceText(drive.silence)]);
  const lines = known.map(([name, fact]) => `${name.padStart(7)}: ${fact}`);
  return [driveLine(drive), ...[...lines, ...smartLines(smart)].map(printable)];
}

const ALWAYS = 5;

/** Columns that no drive has anything for are left out: files have no serials. */
export function driveTable(drives: readonly DriveStatus[], columns?: number): string[] {
  const header = ["drive", "state", "member", "size", "path", "kind", "model", "serial"];
  const rows = drives.map((drive) => [
    drive.name,
    drive.state,
    drive.member === undefined ? "-" : `${drive.member.array}/${drive.member.role}`,
    formatBytes(drive.sizeBytes),
    drive.path,
    kindOf(drive),
    drive.model ?? "-",
    drive.serial ?? "-",
    drive.wwn ?? "-",
    baseName(drive.byId ?? "-"),
  ]);
  const all = [...header, "wwn", "by-id"];
  const shown = all.flatMap((_, column) =>
    column < ALWAYS || rows.some((row) => row[column] !== "-") ? [column] : [],
  );
  const pick = (row: readonly string[]): string[] => shown.map((column) => row[column]!);
  return renderTable(pick(all), rows.map(pick), columns);
}

/** Of a file nobody says what it is on. */
function kindOf({ isRotational, path }: DriveStatus): string {
  if (isRotational === undefined || !isDevicePath(path)) return "-";
  return isRotational ? "disk" : "ssd";
}

/** What a drive is shown as where there is little room: its lasting name, else its path's last. */
export function deviceName({ byId, path }: Pick<DriveStatus, "byId" | "path">): string {
  return baseName(byId ?? path);
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/**
 * Of a member that was taken out: what has become of its array, and the way on. In a dry run the
 * array is as it was before.
 */
export function removedLines(
  drive: string,
  array: ArrayStatus,
  { isDry }: { isDry: boolean },
): string[] {
  const { name, members, state, spares, sharedSpares = [] } = array;
  const first = `${drive} ${isDry ? "would be" : "is"} removed`;
  if (state === "inactive" || state === "absent") return [`${first}: array ${name} does not run`];
  const isCounted = members.some((member) => member.drive === drive && member.state === "in-sync");
  const missing = array.degraded + (isDry && isCounted ? 1 : 0);
  const count = `${missing} of ${members.length} members ${wordFor(missing, "is", "are")} missing`;
  if (missing > 1) {
    const standing = isDry ? "would fail" : "has failed";
    const restart = `parityd array stop ${name} --force && parityd array start ${name}`;
    const back = `parityd drive add ${drive} PATH; ${restart}`;
    return [`${first}: array ${name} ${standing}: ${count}`, `to have it back: ${back}`];
  }
  const way = `parityd drive add NAME PATH; parityd member add ${name} NAME`;
  const [spare] = [...spares, ...sharedSpares];
  return [
    `${first}: array ${name} ${isDry ? "would run" : "runs"} on degraded: ${count}`,
    spare === undefined
      ? `to make it whole: ${way}`
      : `drive ${spare} takes its role; for another spare: ${way}`,
  ];
}

/** A line for each, those that are to be used first; then what it comes to. */
export function scanLines({ dryRun, found, isCut }: ScanResult, columns: number): string[] {
  const used = found.filter(({ outcome }) => outcome !== "left");
  const left = found.filter(({ outcome }) => outcome === "left");
  const rows = [...used, ...left].map((entry) => [
    entry.path,
    entry.sizeBytes === null ? "-" : formatBytes(entry.sizeBytes),
    entry.array ?? "-",
    entry.role === null ? "-" : String(entry.role),
    outcomeText(entry),
  ]);
  const header = ["path", "size", "array", "role", "what"];
  const { length } = used;
  const verb = dryRun ? "would be" : wordFor(length, "was", "were");
  const sum = `${counted(length, "member")} ${verb} added`;
  const lines = rows.length === 0 ? [sum] : [...renderTable(header, rows, columns), sum];
  return isCut ? [...lines, "there is more: name fewer folders, and scan again"] : lines;
}

function outcomeText({ outcome, drive, reason, state }: ScanEntry): string {
  const more = reason === null ? "" : `: ${reason}`;
  switch (outcome) {
    case "added":
      return `added as ${drive}, ${state}${more}`;
    case "would-be-added":
      return `would be added as ${drive}`;
    default:
      return `left alone${more}`;
  }
}
