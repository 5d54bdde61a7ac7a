/**
 * What `parityd status` prints: two lines (`status:` what happened, `action:` what to do) whenever
 * something is not clean, then the sync under way and the members with their error counters. Pure.
 */

import { sharedDiskText } from "../appliance/drives/shared-disks.ts";
import type { ScheduleView } from "../appliance/schedules/schedule-view.ts";
import { forWhom, type SpareView } from "../appliance/spares/shared-spares.ts";
import type { RecordingHealth } from "../appliance/state/state-store.ts";
import type { ArrayStatus, MemberStatus } from "../array/protocol.ts";
import { unreachable } from "../base/assert.ts";
import { printable } from "../base/printable.ts";
import { formatBytes } from "../base/units.ts";
import { deviceName } from "./drive-text.ts";
import { CheckExit } from "./exit.ts";
import { forecastLines } from "./forecast-text.ts";
import { formatPercent, formatProgress, formatSeconds } from "./quantity.ts";
import { isFailing, type ShownDrive, smartFindings, whyOf } from "./smart-text.ts";
import { avoidedLines, candidateOf, type Finding, suspectFindings } from "./suspect-text.ts";
import { renderTable } from "./table-text.ts";

export type Health = "fine" | "degraded" | "unusable";

/**
 * As `mdadm --detail --test` judges: with losses, mismatches or without a member not fine; nor with
 * one that is likely to fail.
 */
export function healthOf(array: ArrayStatus): Health {
  switch (array.state) {
    case "absent":
    case "inactive":
    case "broken":
    case "fenced":
    case "failed":
      return "unusable";
    case "degraded":
      return "degraded";
    case "read-only":
    case "active":
    case "clean": {
      const { degraded, lostBytes, mismatchBytes, members } = array;
      const hasSuspect = members.some(({ suspect }) => suspect !== undefined);
      const isFine = degraded === 0 && lostBytes === 0 && mismatchBytes === 0 && !hasSuspect;
      return isFine ? "fine" : "degraded";
    }
    default:
      return unreachable(array.state);
  }
}

/** The exit code of `status --check` over everything that is known. */
export function checkExit(
  arrays: readonly ArrayStatus[],
  drives: readonly ShownDrive[],
  recording: RecordingHealth = { reason: null, waiting: 0, problems: [] },
): number {
  const healths = arrays.map(healthOf);
  if (healths.includes("unusable")) return CheckExit.unusable;
  const isLost = ({ state }: ShownDrive): boolean => state === "missing" || state === "faulty";
  const hasBadDrive = drives.some((drive) => isLost(drive) || isFailing(drive));
  const isUnrecorded = recording.reason !== null || recording.problems.length > 0;
  const isBad = healths.includes("degraded") || hasBadDrive || isUnrecorded;
  return isBad ? CheckExit.degraded : CheckExit.fine;
}

/** All that is wrong with an array, the weightiest first, each with what to do. */
export function findingsOf(array: ArrayStatus, drives: readonly ShownDrive[] = []): Finding[] {
  const { name } = array;
  const reason = array.reason === null ? "" : `: ${array.reason}`;
  const restart = `parityd array stop ${name} --force && parityd array start ${name}`;
  switch (array.state) {
    case "absent":
      return [
        {
          status: `nothing of the array is present${reason}.`,
          action: `connect its drives; to forget it: parityd array delete ${name} --yes ${name}`,
        },
      ];
    case "broken":
      return [
        {
          status: `a defect of parityd stopped the array${reason}.`,
          action: "report it with the log; restart parityd to start the array again",
        },
      ];
    case "fenced":
      return [
        {
          status: `another host has taken the array over${reason}.`,
          action: `when that has let go of it: ${restart}`,
        },
      ];
    case "inactive":
      return [inactiveFinding(array, reason)];
    case "failed":
      return [
        {
          status: `two or more members are missing${reason}; only what can be proved is served.`,
          action: `connect the drives again, then: ${restart}`,
        },
      ];
    case "read-only":
      return [
        {
          status: `the array takes no writes${reason}.`,
          action: `when the cause is gone: ${restart}`,
        },
        ...lossFindings(array, drives),
      ];
    case "degraded":
    case "active":
    case "clean":
      return lossFindings(array, drives);
    default:
      return unreachable(array.state);
  }
}

function lossFindings(array: ArrayStatus, drives: readonly ShownDrive[]): Finding[] {
  const findings = [
    lostFinding(array),
    waitsFinding(array),
    memberFinding(array, drives),
    ...smartFindings(array, drives),
    ...suspectFindings(array, drives),
    mismatchFinding(array),
    ...leftBehind(array, drives),
  ];
  return findings.filter((finding) => finding !== null);
}

function inactiveFinding({ name, startNeeds }: ArrayStatus, reason: string): Finding {
  const status = `the array is not running${reason}.`;
  switch (startNeeds) {
    case "drives":
      return { status, action: `connect its other drives, then: parityd array start ${name}` };
    case "fewer-drives": {
      const action = `when that one is disconnected: parityd array start ${name}`;
      return { status, action };
    }
    case "force": {
      const action = `where that may be: parityd array start ${name} --force`;
      return { status, action };
    }
    default:
      return { status, action: `start it: parityd array start ${name}` };
  }
}

function lostFinding(array: ArrayStatus): Finding | null {
  if (array.lostBytes === 0) return null;
  return {
    status: `${formatBytes(array.lostBytes)} cannot be read from any member.`,
    action:
      `try the sectors again: parityd scrub start ${array.name} --wait; what stays, restore ` +
      "from a backup: writing it anew cures it",
  };
}

/** Of work that goes on by itself when there is what it waits for. */
function waitsFinding({ name, sync: { action, waits } }: ArrayStatus): Finding | null {
  if (waits === undefined) return null;
  const wayOut = waits.startsWith("no space")
    ? "make room on what its drives lie on"
    : `look after its drives (parityd array show ${name})`;
  return { status: `the ${action} waits: ${waits}.`, action: `${wayOut}: it goes on by itself` };
}

function memberFinding(array: ArrayStatus, drives: readonly ShownDrive[]): Finding | null {
  const lost = array.members.find(({ state }) => state === "faulty" || state === "missing");
  if (lost !== undefined) {
    const who = lost.drive === null ? `role ${lost.role}` : `${lost.drive} (role ${lost.role})`;
    const verb = lost.state === "faulty" ? "failed" : "is missing";
    return {
      status: `member ${who} ${verb}${errorText(lost)}.`,
      action: replaceAction(array, drives, lost.role),
    };
  }
  const replaced = array.members.find(({ replacement }) => replacement !== undefined);
  if (replaced?.replacement !== undefined) {
    return {
      status: `member ${replaced.drive ?? "?"} is being replaced by ${replaced.replacement.drive}.`,
      action: "wait for the replace: parityd job list",
    };
  }
  const target = array.members.find(({ state }) => state === "rebuilding");
  if (target === undefined) return null;
  return {
    status: `member ${target.drive ?? "?"} (role ${target.role}) is being rebuilt.`,
    action: `wait for the rebuild: parityd job list`,
  };
}

/** With the drive that is at hand for it, where one is. */
function replaceAction(
  { name, uuid, members, candidates }: ArrayStatus,
  drives: readonly ShownDrive[],
  role: number,
): string {
  const own = drives.filter(
    ({ state, superblock }) =>
      state === "stale" && superblock?.arrayUuid === uuid && superblock.role === role,
  );
  const back = own.find(({ needsForce }) => needsForce !== true);
  if (back !== undefined) return `take its drive back: parityd member add ${name} ${back.name}`;
  const free = candidateOf({ candidates }, drives);
  const target = members.find(({ replacement }) => replacement !== undefined)?.replacement?.drive;
  const add = `parityd member add ${name}`;
  const replace =
    free === undefined && target !== undefined
      ? `use drive ${target}, which waits to replace another: parityd member remove ${name} ` +
        `${target}, then ${add} ${target}`
      : `replace it: ${add} ${free?.name ?? "NEW_DRIVE"}`;
  const [other] = own;
  if (other === undefined) return replace;
  return (
    `${replace}; or give up what ${other.name} alone may hold: parityd member add ${name} ` +
    `${other.name} --force`
  );
}

function mismatchFinding(array: ArrayStatus): Finding | null {
  if (array.mismatchBytes === 0) return null;
  const { name } = array;
  return {
    status: `the last scrub found ${formatBytes(array.mismatchBytes)} whose parity does not match.`,
    action: `check the data; to make parity match it: parityd scrub start ${name} --mode repair`,
  };
}

/** Drives that failed here, and whose place another one has taken, or nobody needs any more. */
function leftBehind({ name, uuid }: ArrayStatus, drives: readonly ShownDrive[]): Finding[] {
  return drives
    .filter(
      ({ state, member, superblock }) =>
        state === "faulty" && member === undefined && superblock?.arrayUuid === uuid,
    )
    .map((drive) => ({
      status: `drive ${drive.name} failed and has no role any more: ${drive.detail ?? "no reason"}.`,
      action: `let go of it: parityd member remove ${name} ${drive.name}`,
    }));
}

/** The shared spares; of each that no array could take, what to do. */
export function renderSpares(spares: readonly SpareView[]): string[] {
  const lines = spares.map(({ drive, arrays, fits, state }) => {
    const fitting = fits.length === 0 ? "" : `; large enough for ${fits.join(", ")}`;
    return `  spare: ${drive} (shared, for ${forWhom(arrays)}) is ${state}${fitting}`;
  });
  for (const { drive, state, detail } of spares) {
    if (state === "ready" || state === "seating") continue;
    const withdraw = `parityd spare remove ${drive}`;
    const first = state === "missing" ? "connect it, or " : "";
    lines.push(
      ` status: no array can take the shared spare ${drive}: ${detail ?? state}.`,
      ` action: ${first}share it no more: ${withdraw}`,
    );
  }
  return lines.map(printable);
}

/** Why what happens is not written down, with the way out. */
export function renderRecording({ reason, waiting, problems }: RecordingHealth): string[] {
  const lines: string[] = [];
  if (reason !== null) {
    lines.push(
      ` status: state.db is not written (${reason}); ${waiting} changes wait in memory.`,
      " action: make room in the state directory, or give it back to parityd",
    );
  }
  for (const problem of problems) lines.push(` status: state.db at the start: ${problem}.`);
  if (problems.length > 0) {
    lines.push(" action: add the drives, exports and schedules again that are missing, if any");
  }
  return lines;
}

/** ": 3 write errors (EIO)". */
function errorText(member: MemberStatus): string {
  const { write, read } = member.errors;
  const counted = write > 0 ? `${write} write` : read > 0 ? `${read} read` : null;
  if (counted === null) return "";
  const kinds = Object.keys(member.errorKinds);
  const names = kinds.length === 0 ? "" : ` (${kinds.join(", ")})`;
  return `: ${counted} error${counted.startsWith("1 ") ? "" : "s"}${names}`;
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

export function renderArray(
  array: ArrayStatus,
  drives: readonly ShownDrive[],
  schedules: readonly ScheduleView[] = [],
): string[] {
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
  for (const { status, action } of findingsOf(array, drives)) {
    lines.push(` status: ${status}`, ` action: ${action}`);
  }
  const sparse = drives.filter(
    ({ isSparse, superblock }) => isSparse === true && superblock?.arrayUuid === array.uuid,
  );
  if (sparse.length > 0) {
    const names = sparse.map(({ name }) => name).join(", ");
    lines.push(`   note: sparse files, whose writes a full file system refuses: ${names}`);
  }
  for (const shared of array.sharedDisks ?? []) {
    lines.push(`   note: ${sharedDiskText(shared)}: with the disk all of them are lost`);
  }
  lines.push(...avoidedLines(array));
  const { action, doneBytes: done, totalBytes: total, ...speed } = array.sync;
  if (action !== "idle") {
    lines.push(`${action.padStart(7)}: ${formatProgress({ done, total, ...speed })}`);
  }
  if (array.pausedScrub !== null) lines.push(pausedLine(array.name, array.pausedScrub));
  lines.push(...forecastLines(array));
  const schedule = schedules.find(({ arrayUuid }) => arrayUuid === array.uuid);
  if (schedule !== undefined) lines.push(windowLine(schedule));
  const all = array.members.length === 0 ? lines : [...lines, ...renderMembers(array, drives)];
  return all.map(printable);
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

function renderMembers(array: ArrayStatus, drives: readonly ShownDrive[]): string[] {
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
  return renderTable(header, rows).map((line) => `  ${line}`);
}

/** Drives of no array that are failing by their own account. */
export function renderFailingDrives(drives: readonly ShownDrive[]): string[] {
  return drives
    .filter((drive) => isFailing(drive) && (drive.state === "available" || isShared(drive)))
    .map((drive) =>
      printable(`  drive: ${drive.name} (${drive.path}) is failing (SMART): ${whyOf(drive)}`),
    );
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
