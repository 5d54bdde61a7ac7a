/**
 * What `parityd status` prints: two lines (`status:` what happened, `action:` what to do) whenever
 * something is not clean, then the sync under way and the members with their error counters. Pure.
 */
import type { ArrayStatus, DriveStatus, MemberStatus } from "../array/protocol.ts";
import { unreachable } from "../base/assert.ts";
import { formatBytes } from "../base/units.ts";
import { CheckExit } from "./exit.ts";
import { formatProgress } from "./quantity.ts";
import { renderTable } from "./table-text.ts";

export type Health = "fine" | "degraded" | "unusable";

export interface Finding {
  readonly status: string;
  readonly action: string;
}

/** As `mdadm --detail --test` judges: with losses or without a member it is not fine. */
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
    case "clean":
      return array.degraded > 0 || array.lostBytes > 0 ? "degraded" : "fine";
    default:
      return unreachable(array.state);
  }
}

/** The exit code of `status --check` over everything that is known. */
export function checkExit(arrays: readonly ArrayStatus[], drives: readonly DriveStatus[]): number {
  const healths = arrays.map(healthOf);
  if (healths.includes("unusable")) return CheckExit.unusable;
  const hasLostDrive = drives.some(({ state }) => state === "missing" || state === "faulty");
  return healths.includes("degraded") || hasLostDrive ? CheckExit.degraded : CheckExit.fine;
}

/** What is wrong with an array and what to do, or null. */
export function findingOf(array: ArrayStatus): Finding | null {
  const { name } = array;
  const reason = array.reason === null ? "" : `: ${array.reason}`;
  switch (array.state) {
    case "absent":
      return {
        status: `nothing of the array is present${reason}.`,
        action: `connect its drives; to forget it: parityd array delete ${name} --yes ${name}`,
      };
    case "broken":
      return {
        status: `a defect of parityd stopped the array${reason}.`,
        action: "report it with the log; restart parityd to start the array again",
      };
    case "fenced":
      return {
        status: `another host has taken the array over${reason}.`,
        action: `when it has let go of it: parityd array stop ${name} && parityd array start ${name}`,
      };
    case "inactive":
      return {
        status: `the array is not running${reason}.`,
        action: `start it: parityd array start ${name}`,
      };
    case "failed":
      return {
        status: `two or more members are missing${reason}; only what can be proved is served.`,
        action: `bring the members back, then: parityd array start ${name}`,
      };
    case "read-only":
      return readOnlyFinding(array, reason);
    case "degraded":
    case "active":
    case "clean":
      return lossFinding(array) ?? memberFinding(array) ?? mismatchFinding(array);
    default:
      return unreachable(array.state);
  }
}

function readOnlyFinding(array: ArrayStatus, reason: string): Finding {
  const { name } = array;
  return {
    status: `the array takes no writes${reason}.`,
    action: `when the cause is gone: parityd array stop ${name} && parityd array start ${name}`,
  };
}

function lossFinding(array: ArrayStatus): Finding | null {
  if (array.lostBytes === 0) return null;
  return {
    status: `${formatBytes(array.lostBytes)} cannot be read from any member.`,
    action: "restore those files from a backup: writing the sectors anew cures them",
  };
}

function memberFinding(array: ArrayStatus): Finding | null {
  const lost = array.members.find(({ state }) => state === "faulty" || state === "missing");
  if (lost !== undefined) {
    const who = lost.drive === null ? `role ${lost.role}` : `${lost.drive} (role ${lost.role})`;
    const verb = lost.state === "faulty" ? "failed" : "is missing";
    return {
      status: `member ${who} ${verb}${errorText(lost)}.`,
      action: `replace it: parityd member add ${array.name} NEW_DRIVE`,
    };
  }
  const target = array.members.find(({ state }) => state === "rebuilding");
  if (target === undefined) return null;
  return {
    status: `member ${target.drive ?? "?"} (role ${target.role}) is being rebuilt.`,
    action: `wait for the rebuild: parityd job list`,
  };
}

function mismatchFinding(array: ArrayStatus): Finding | null {
  if (array.mismatchBytes === 0) return null;
  const { name } = array;
  return {
    status: `the last scrub found ${formatBytes(array.mismatchBytes)} whose parity does not match.`,
    action: `check the data; to make parity match it: parityd scrub start ${name} --mode repair`,
  };
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

export function renderArray(array: ArrayStatus, drives: readonly DriveStatus[]): string[] {
  const present = array.members.length - array.degraded;
  const members = array.degraded > 0 ? ` (${present} of ${array.members.length} members)` : "";
  const facts = [
    `array: ${array.name}`,
    `state: ${array.state}${members}`,
    `size: ${formatBytes(array.sizeBytes)}`,
    `policy: ${array.consistencyPolicy}`,
  ];
  const lines = [`  ${facts.join("   ")}`];
  const finding = findingOf(array);
  if (finding !== null) lines.push(` status: ${finding.status}`, ` action: ${finding.action}`);
  const { action, doneBytes: done, totalBytes: total, ...speed } = array.sync;
  if (action !== "idle") {
    lines.push(`${action.padStart(7)}: ${formatProgress({ done, total, ...speed })}`);
  }
  return [...lines, ...renderMembers(array, drives)];
}

function renderMembers(array: ArrayStatus, drives: readonly DriveStatus[]): string[] {
  const header = ["role", "drive", "device", "state", "read", "write", "fixed", "slow"];
  const deviceOf = (drive: string | null): string =>
    drives
      .find(({ name }) => name === drive)
      ?.path.split("/")
      .at(-1) ?? "-";
  const rows: (string | number)[][] = array.members.map((member) => [
    String(member.role).padStart(4),
    member.drive ?? "-",
    deviceOf(member.drive),
    member.state,
    member.errors.read,
    member.errors.write,
    member.errors.fixed,
    member.errors.slow,
  ]);
  for (const spare of array.spares) {
    rows.push(["   -", spare, deviceOf(spare), "spare", 0, 0, 0, 0]);
  }
  return renderTable(header, rows).map((line) => `  ${line}`);
}

/** Drives that belong to no array but should: shown under the arrays. */
export function renderLostDrives(drives: readonly DriveStatus[]): string[] {
  return drives
    .filter(({ state }) => state === "missing" || state === "faulty" || state === "stale")
    .map(({ name, path, state, detail }) => {
      const why = detail === undefined ? "" : `: ${detail}`;
      return `  drive: ${name} (${path}) is ${state}${why}`;
    });
}
