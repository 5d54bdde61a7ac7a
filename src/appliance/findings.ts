/**
 * What is wrong with what parityd keeps, and what to do: a sentence each (`status:` what happened,
 * `action:` what to do, as a command line) for whoever tells it, the command line and the page. Pure.
 */

import { type ArrayStatus, type MemberStatus, silenceText } from "../array/statuses.ts";
import { unreachable } from "../base/assert.ts";
import { counted } from "../base/counted.ts";
import { formatSeconds } from "../base/quantity.ts";
import { formatBytes } from "../base/units.ts";
import type { StuckAlerts } from "./alerts/alert-queue.ts";
import { type DriveOffers, offerDrives, ownStaleDrives } from "./drive-offers.ts";
import { sharedDiskText } from "./drives/shared-disks.ts";
import { isFailing, type ShownDrive, whyOf } from "./drives/shown-drive.ts";
import type { SpareView } from "./spares/shared-spares.ts";
import type { RecordingHealth } from "./state/state-store.ts";

export interface Finding {
  readonly status: string;
  readonly action: string;
}

export type Health = "fine" | "degraded" | "unusable";

/**
 * As `mdadm --detail --test` judges: with losses, mismatches or without a member not fine; nor with
 * one that is likely to fail, or that does not answer.
 */
export function healthOf(array: ArrayStatus, drives: readonly ShownDrive[] = []): Health {
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
      const isWhole = degraded === 0 && lostBytes === 0 && mismatchBytes === 0;
      const isFine = isWhole && !hasSuspect && silentFindings(array, drives).length === 0;
      return isFine ? "fine" : "degraded";
    }
    default:
      return unreachable(array.state);
  }
}

/**
 * All that is wrong with an array, the weightiest first, each with what to do. `offers`: over all
 * arrays that are shown together.
 */
export function findingsOf(
  array: ArrayStatus,
  drives: readonly ShownDrive[] = [],
  offers: DriveOffers = offerDrives([array], drives),
): Finding[] {
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
      return [...silentFindings(array, drives), inactiveFinding(array, reason)];
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
        ...lossFindings(array, drives, offers),
      ];
    case "degraded":
    case "active":
    case "clean":
      return lossFindings(array, drives, offers);
    default:
      return unreachable(array.state);
  }
}

function lossFindings(
  array: ArrayStatus,
  drives: readonly ShownDrive[],
  offers: DriveOffers,
): Finding[] {
  const findings = [
    ...silentFindings(array, drives),
    lostFinding(array),
    waitsFinding(array),
    memberFinding(array, drives, offers),
    ...smartFindings(array, drives, offers),
    ...suspectFindings(array, offers),
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

/** One for each drive of an array, running or just starting, that does not answer. */
function silentFindings(
  { name: array, uuid }: ArrayStatus,
  drives: readonly ShownDrive[],
): Finding[] {
  return drives.flatMap(({ name, silence, member, superblock }): Finding[] => {
    const isOfIt = member?.array === array || superblock?.arrayUuid === uuid;
    if (silence === undefined || !isOfIt) return [];
    return [
      {
        status: `drive ${name} ${silenceText(silence)}.`,
        action: `look after the drive, its cable and what it lies on: parityd drive show ${name}`,
      },
    ];
  });
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

function memberFinding(
  array: ArrayStatus,
  drives: readonly ShownDrive[],
  offers: DriveOffers,
): Finding | null {
  const lost = array.members.find(({ state }) => state === "faulty" || state === "missing");
  if (lost !== undefined) {
    const who = lost.drive === null ? `role ${lost.role}` : `${lost.drive} (role ${lost.role})`;
    const verb = lost.state === "faulty" ? "failed" : "is missing";
    return {
      status: `member ${who} ${verb}${errorText(lost)}.`,
      action: replaceAction(array, ownStaleDrives(array, drives, lost.role), {
        free: offers.for(array, lost.role),
      }),
    };
  }
  // Of both, where a member failed in a replace, the rebuild comes first.
  const target = array.members.find(({ state }) => state === "rebuilding");
  if (target !== undefined) {
    return {
      status: `member ${target.drive ?? "?"} (role ${target.role}) is being rebuilt.`,
      action: `wait for the rebuild: parityd job list`,
    };
  }
  const replaced = array.members.find(({ replacement }) => replacement !== undefined);
  if (replaced?.replacement === undefined) return null;
  return {
    status: `member ${replaced.drive ?? "?"} is being replaced by ${replaced.replacement.drive}.`,
    action: "wait for the replace: parityd job list",
  };
}

/** `own`: the drives that had the role; `free`: the one that is offered for it, where one is. */
function replaceAction(
  { name, members }: ArrayStatus,
  own: readonly ShownDrive[],
  { free }: { free: string | undefined },
): string {
  const back = own.find(({ needsForce }) => needsForce !== true);
  if (back !== undefined) return `take its drive back: parityd member add ${name} ${back.name}`;
  const target = members.find(({ replacement }) => replacement !== undefined)?.replacement?.drive;
  const add = `parityd member add ${name}`;
  const replace =
    free === undefined && target !== undefined
      ? `use drive ${target}, which waits to replace another: parityd member remove ${name} ` +
        `${target}, then ${add} ${target}`
      : `replace it: ${add} ${free ?? "NEW_DRIVE"}`;
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

/** One for each member that is not being replaced, and each spare, whose disk is failing. */
function smartFindings(
  array: ArrayStatus,
  drives: readonly ShownDrive[],
  offers: DriveOffers,
): Finding[] {
  const failingOf = (name: string): ShownDrive | undefined =>
    drives.find((drive) => drive.name === name && isFailing(drive));
  const members = array.members.flatMap(({ drive, role, replacement }): Finding[] => {
    const failing = drive === null ? undefined : failingOf(drive);
    if (failing === undefined || replacement !== undefined) return [];
    return [
      {
        status: `member ${drive} (role ${role}) is failing by its own account: ${whyOf(failing)}.`,
        action:
          `replace it while it serves: parityd member replace ${array.name} ${drive} ` +
          `${offers.for(array, role) ?? "NEW_DRIVE"}`,
      },
    ];
  });
  const spares = array.spares.flatMap((spare): Finding[] => {
    const failing = failingOf(spare);
    if (failing === undefined) return [];
    return [
      {
        status: `spare ${spare} is failing by its own account: ${whyOf(failing)}.`,
        action: `let go of it, and add another: parityd member remove ${array.name} ${spare}`,
      },
    ];
  });
  return [...members, ...spares];
}

/** One for each that is not being replaced. */
function suspectFindings(array: ArrayStatus, offers: DriveOffers): Finding[] {
  return array.members.flatMap(({ drive, role, suspect, replacement }) => {
    if (suspect === undefined || drive === null || replacement !== undefined) return [];
    const status = `member ${drive} (role ${role}) is suspect since ${suspect.since}: ${suspect.detail}.`;
    const other = offers.for(array, role) ?? "NEW_DRIVE";
    const byHand = `parityd member replace ${array.name} ${drive} ${other}`;
    const action = array.replaceSuspects
      ? `a spare replaces it, where one is at hand and it was not tried today; by hand: ${byHand}`
      : `replace it while it serves: ${byHand}`;
    return [{ status, action }];
  });
}

/** What is worth knowing of an array that is no fault of it. */
export function notesOf(array: ArrayStatus, drives: readonly ShownDrive[]): string[] {
  const notes: string[] = [];
  const sparse = drives.filter(
    ({ isSparse, superblock }) => isSparse === true && superblock?.arrayUuid === array.uuid,
  );
  if (sparse.length > 0) {
    const names = sparse.map(({ name }) => name).join(", ");
    notes.push(`sparse files, whose writes a full file system refuses: ${names}`);
  }
  for (const shared of array.sharedDisks ?? []) {
    notes.push(`${sharedDiskText(shared)}: with the disk all of them are lost`);
  }
  const avoided = array.members.find(({ isAvoided }) => isAvoided === true);
  if (avoided === undefined) return notes;
  const who = `${avoided.drive ?? "?"} (role ${avoided.role})`;
  return [...notes, `member ${who} is too slow: reads are answered by the others`];
}

/** Shared spares that no array could take. */
export function spareFindings(spares: readonly SpareView[]): Finding[] {
  const useless = spares.filter(({ state }) => state !== "ready" && state !== "seating");
  return useless.map(({ drive, state, detail }) => {
    const first = state === "missing" ? "connect it, or " : "";
    return {
      status: `no array can take the shared spare ${drive}: ${detail ?? state}.`,
      action: `${first}share it no more: parityd spare remove ${drive}`,
    };
  });
}

/** Alerts that nobody gets. */
export function alertFindings(stuck: readonly StuckAlerts[]): Finding[] {
  return stuck.map(({ via, target, waiting, seconds, why }) => {
    const number = /^webhook(\d+)$/.exec(via)?.[1];
    const which = number === undefined ? "" : ` --webhook ${number}`;
    const count = waiting === 1 ? "an alert waits" : `${waiting} alerts wait`;
    const since = `for ${formatSeconds(seconds)} now (${why ?? "it has not answered yet"})`;
    return {
      status: `${count} for ${via} (${target}), ${since}.`,
      action: `look after what should take it, then try it: parityd events test${which}`,
    };
  });
}

/** Why what happens is not written down. */
export function recordingFindings({ reason, waiting, problems }: RecordingHealth): Finding[] {
  const findings: Finding[] = [];
  if (reason !== null) {
    findings.push({
      status: `state.db is not written (${reason}); ${counted(waiting, "change waits", "changes wait")} in memory.`,
      action: "make room in the state directory, or give it back to parityd",
    });
  }
  if (problems.length === 0) return findings;
  const status = problems.map((problem) => `state.db at the start: ${problem}.`).join(" ");
  const action = "add the drives, exports and schedules again that are missing, if any";
  return [...findings, { status, action }];
}

/** ": 3 write errors (EIO)". */
function errorText(member: MemberStatus): string {
  const { write, read } = member.errors;
  if (write === 0 && read === 0) return "";
  const errors = write > 0 ? counted(write, "write error") : counted(read, "read error");
  const kinds = Object.keys(member.errorKinds);
  const names = kinds.length === 0 ? "" : ` (${kinds.join(", ")})`;
  return `: ${errors}${names}`;
}
