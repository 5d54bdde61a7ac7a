/**
 * What `parityd status` prints: two lines (`status:` what happened, `action:` what to do) whenever
 * something is not clean (appliance/findings.ts), then the sync under way and the members with
 * their error counters. Pure.
 */

import type { StuckAlerts } from "../appliance/alerts/alert-queue.ts";
import type { DriveOffers } from "../appliance/drive-offers.ts";
import { isFailing, type ShownDrive, whyOf } from "../appliance/drives/shown-drive.ts";
import {
  alertFindings,
  type Finding,
  findingsOf,
  healthOf,
  notesOf,
  recordingFindings,
  spareFindings,
} from "../appliance/findings.ts";
import type { ScheduleView } from "../appliance/schedules/schedule-view.ts";
import { forWhom, type SpareView } from "../appliance/spares/shared-spares.ts";
import type { ExportView } from "../appliance/state/export-book.ts";
import type { RecordingHealth } from "../appliance/state/state-store.ts";
import { type ArrayStatus, type JobStatus, silenceText } from "../array/protocol.ts";
import { printable } from "../base/printable.ts";
import { formatPercent, formatProgress, formatSeconds } from "../base/quantity.ts";
import { formatBytes } from "../base/units.ts";
import { deviceName } from "./drive-text.ts";
import { CheckExit } from "./exit.ts";
import { forecastLines } from "./forecast-text.ts";
import { renderTable } from "./table-text.ts";

const INDENT = "  ";

/** The exit code of `status --check` over everything that is known. */
export function checkExit(
  arrays: readonly ArrayStatus[],
  drives: readonly ShownDrive[],
  recording: RecordingHealth = { reason: null, waiting: 0, problems: [] },
  alerts: readonly StuckAlerts[] = [],
): number {
  const healths = arrays.map((array) => healthOf(array, drives));
  if (healths.includes("unusable")) return CheckExit.unusable;
  const isLost = ({ state }: ShownDrive): boolean => state === "missing" || state === "faulty";
  const isBadDrive = (drive: ShownDrive): boolean =>
    isLost(drive) || isFailing(drive) || drive.silence !== undefined;
  const hasBadDrive = drives.some(isBadDrive);
  const isUnrecorded = recording.reason !== null || recording.problems.length > 0;
  const isUntold = alerts.length > 0;
  const isBad = healths.includes("degraded") || hasBadDrive || isUnrecorded || isUntold;
  return isBad ? CheckExit.degraded : CheckExit.fine;
}

/** The shared spares; of each that no array could take, what to do. */
export function renderSpares(spares: readonly SpareView[]): string[] {
  const lines = spares.map(({ drive, arrays, fits, state }) => {
    const fitting = fits.length === 0 ? "" : `; large enough for ${fits.join(", ")}`;
    return `  spare: ${drive} (shared, for ${forWhom(arrays)}) is ${state}${fitting}`;
  });
  return [...lines, ...spareFindings(spares).flatMap(findingLines)].map(printable);
}

/** Why what happens is not written down, or not told to anybody, with the way out. */
export function renderDaemonTroubles(
  recording: RecordingHealth,
  alerts: readonly StuckAlerts[],
): string[] {
  return [...recordingFindings(recording), ...alertFindings(alerts)].flatMap(findingLines);
}

function findingLines({ status, action }: Finding): string[] {
  return [` status: ${status}`, ` action: ${action}`];
}

/** What a schedule says, its next window and how the last scrub went. */
export function scheduleLines(schedule: ScheduleView): string[] {
  const { array, cron, timezone, windowMinutes, mode, maxAgeDays } = schedule;
  const length = formatSeconds(windowMinutes * 60);
  const lines = [
    `  array: ${array}   ${mode} when the last is older than ${maxAgeDays} d, in windows of ` +
      `${length} at ${cron} (${timezone})`,
    windowLine(schedule),
  ];
  if (schedule.last === null) lines.push("   last: never");
  else lines.push(`   last: ${schedule.last}, ${resultText(schedule)}`);
  return lines.map(printable);
}

function resultText({ lastResult, lastError }: ScheduleView): string {
  return `${lastResult ?? "unknown"}${lastError === null ? "" : ` (${lastError})`}`;
}

/** "  scrub: next window 2026-12-01T01:00:00.000Z, a pass is due"; or how it goes in one. */
function windowLine({ window, pass, job, waitsFor, next, isMissed, isDue }: ScheduleView): string {
  const missed = isMissed ? "; a window was missed" : "";
  if (window === null) {
    const due =
      pass === "paused" ? "the pass goes on then" : isDue ? "a pass is due" : "none is due";
    return next === null
      ? "  scrub: no window ever opens again"
      : `  scrub: next window ${next}, ${due}${missed}`;
  }
  const until = `a window is open until ${window.closesAt}`;
  const begins = pass === "none" && isDue ? "a pass is about to begin" : PASS_TEXT[pass];
  const what = waitsFor !== null ? `a pass waits for ${waitsFor}` : begins;
  const which = job === null || waitsFor !== null ? "" : ` (job ${job})`;
  return `  scrub: ${until}: ${what}${which}${missed}`;
}

const PASS_TEXT: Readonly<Record<ScheduleView["pass"], string>> = {
  none: "nothing is due",
  running: "a pass runs",
  paused: "a pass is paused",
  "running-by-hand": "a scrub runs that somebody started",
  "paused-by-hand": "a scrub is paused that somebody paused",
};

/** What there is beside an array; what is left out is not told of. */
export interface Surroundings {
  readonly drives: readonly ShownDrive[];
  readonly schedules?: readonly ScheduleView[];
  readonly exports?: readonly ExportView[];
  readonly jobs?: readonly JobStatus[];
  /** Over all arrays. */
  readonly offers?: DriveOffers;
  /** How wide a line of the table may be. */
  readonly columns?: number;
}

export function renderArray(array: ArrayStatus, around: Surroundings): string[] {
  const { drives, schedules = [], exports, jobs = [], offers, columns } = around;
  const present = array.members.length - array.degraded;
  const members =
    array.degraded > 0 && array.members.length > 0
      ? ` (${present} of ${array.members.length} members)`
      : "";
  const facts = [
    `array: ${array.name}${array.nameOnDisk === null ? "" : ` (on disk: ${array.nameOnDisk})`}`,
    `state: ${array.state}${members}`,
    `size: ${formatBytes(array.sizeBytes)}`,
    `policy: ${policyText(array)}`,
  ];
  const lines = [`  ${facts.join("   ")}`];
  lines.push(...findingsOf(array, drives, offers).flatMap(findingLines));
  lines.push(...notesOf(array, drives).map((note) => `   note: ${note}`));
  const { action, doneBytes: done, totalBytes: total, ...speed } = array.sync;
  if (action !== "idle") {
    const job = jobs.find(
      ({ arrayUuid, kind, state }) =>
        arrayUuid === array.uuid && kind === action && state === "running",
    );
    const which = job === undefined ? "" : `  (job ${job.id})`;
    lines.push(`${action.padStart(7)}: ${formatProgress({ done, total, ...speed })}${which}`);
  }
  if (array.pausedScrub !== null) lines.push(pausedLine(array.name, array.pausedScrub));
  lines.push(...forecastLines(array));
  const schedule = schedules.find(({ arrayUuid }) => arrayUuid === array.uuid);
  if (array.members.length > 0) lines.push(lastScrubLine(array));
  if (schedule !== undefined) lines.push(windowLine(schedule));
  if (exports !== undefined) lines.push(clientsLine(array, exports));
  const table = array.members.length === 0 ? [] : renderMembers(array, drives, columns);
  return [...lines, ...table].map(printable);
}

/** "   last: check ended 2026-12-01T01:00:00.000Z, no mismatches". */
function lastScrubLine({ lastScrub }: ArrayStatus): string {
  if (lastScrub === null) return "   last: no scrub yet";
  const { mode, finishedAt, mismatchBytes, lostBytes } = lastScrub;
  const found = [
    mismatchBytes === 0 ? "no mismatches" : `${formatBytes(mismatchBytes)} of mismatches`,
    ...(lostBytes === 0 ? [] : [`${formatBytes(lostBytes)} lost`]),
  ];
  return `   last: ${mode} ended ${finishedAt}, ${found.join(", ")}`;
}

/** "clients: 2 on tank, none on tank-ro". */
function clientsLine({ uuid }: ArrayStatus, exports: readonly ExportView[]): string {
  const own = exports.filter(({ arrayUuid }) => arrayUuid === uuid);
  const texts = own.map(({ name, connections }) => `${connections || "none"} on ${name}`);
  return `clients: ${texts.join(", ") || "none, it is not exported"}`;
}

/** "resync (ppl when it has grown)". */
function policyText({ consistencyPolicy, policyAfterGrowth: after }: ArrayStatus): string {
  return after === undefined
    ? consistencyPolicy
    : `${consistencyPolicy} (${after} when it has grown)`;
}

/** "  check: paused at 41.3 % (job 3): parityd scrub resume tank"; or what set it aside. */
function pausedLine(name: string, paused: NonNullable<ArrayStatus["pausedScrub"]>): string {
  const { job, mode, doneBytes, totalBytes, asideReason } = paused;
  const percent = formatPercent({ done: doneBytes, total: totalBytes });
  const place = `at ${percent} % (job ${job})`;
  return asideReason === null
    ? `${mode.padStart(7)}: paused ${place}: parityd scrub resume ${name} --mode ${mode}`
    : `${mode.padStart(7)}: set aside ${place}, goes on by itself: ${asideReason}`;
}

function renderMembers(
  array: ArrayStatus,
  drives: readonly ShownDrive[],
  columns = Number.POSITIVE_INFINITY,
): string[] {
  const header = ["role", "drive", "device", "state", "read", "write", "fixed", "slow"];
  const deviceOf = (drive: string | null): string => {
    const known = drives.find(({ name }) => name === drive);
    return known === undefined ? "-" : deviceName(known);
  };
  const rows: (string | number)[][] = array.members.flatMap((member) => {
    const { errors, replacement } = member;
    const row = [
      String(member.role).padStart(4),
      member.drive ?? "-",
      deviceOf(member.drive),
      member.state,
      ...[errors.read, errors.write, errors.fixed, errors.slow],
    ];
    if (replacement === undefined) return [row];
    const { drive } = replacement;
    return [row, ["   >", drive, deviceOf(drive), "replacing", 0, 0, 0, 0]];
  });
  for (const spare of array.spares) {
    rows.push(["   -", spare, deviceOf(spare), "spare", 0, 0, 0, 0]);
  }
  return renderTable(header, rows, columns - INDENT.length).map((line) => INDENT + line);
}

/** Drives of no array that are failing by their own account. */
export function renderFailingDrives(drives: readonly ShownDrive[]): string[] {
  return drives
    .filter((drive) => isFailing(drive) && (drive.state === "available" || isShared(drive)))
    .map((drive) =>
      printable(`  drive: ${drive.name} (${drive.path}) is failing (SMART): ${whyOf(drive)}`),
    );
}

/** Drives that do not answer, and are of no array so far as is known. */
export function renderSilentDrives(drives: readonly ShownDrive[]): string[] {
  return drives.flatMap(({ name, path, silence, superblock, member }) => {
    if (silence === undefined || superblock !== undefined || member !== undefined) return [];
    return [printable(`  drive: ${name} (${path}) ${silenceText(silence)}`)];
  });
}

/** A spare that carries nothing yet. */
function isShared({ state, superblock }: ShownDrive): boolean {
  return state === "spare" && superblock === undefined;
}

/** Drives that belong to no array but should: shown under the arrays. */
export function renderLostDrives(drives: readonly ShownDrive[]): string[] {
  return drives
    .filter(
      ({ state, superblock, detail }) =>
        ["missing", "faulty", "stale"].includes(state) ||
        (state === "foreign" && (superblock !== undefined || !/^it holds /.test(detail ?? ""))),
    )
    .map(({ name, path, state, detail, member }) => {
      const why = detail === undefined ? "" : `: ${detail}`;
      const isIdle = (state === "missing" || state === "faulty") && member === undefined;
      const wayOut = isIdle ? `; to forget it: parityd drive remove ${name}` : "";
      return printable(`  drive: ${name} (${path}) is ${state}${why}${wayOut}`);
    });
}
