/** What can be done with an array, its members and its spares. */
import type { FailForecast } from "../../appliance/fail-forecast.ts";
import type { ArrayStatus, DriveStatus } from "../../array/statuses.ts";
import { type ActionSpec, isChecked, numberOf, textOf } from "../action-spec.ts";
import { call, part } from "../api.ts";
import { failLines, freeDrives } from "./array-words.ts";

const MIB = 1024 * 1024;

const FORCE_HINT = "what the drive holds is lost";

function pathOf({ uuid }: ArrayStatus): string {
  return `/v1/arrays/${part(uuid)}`;
}

export function scrubAction(array: ArrayStatus): ActionSpec {
  const paused = array.pausedScrub;
  return {
    title: paused === null ? `Scrub ${array.name}` : `Go on with the scrub of ${array.name}`,
    says:
      "All members are read and their parity compared. A check counts what does not match and " +
      "cures sectors that cannot be read; a repair also writes parity anew to match the data.",
    fields: [
      {
        name: "mode",
        label: "Mode",
        kind: "choice",
        first: paused?.mode ?? "check",
        options: [
          { value: "check", label: "check" },
          { value: "repair", label: "repair: rewrite parity that does not match" },
        ],
      },
      { name: "limit", label: "At most MiB a second", kind: "number", isOptional: true },
    ],
    verb: "Scrub",
    run: (values) => {
      const limit = numberOf(values, "limit");
      const limitBytesPerSecond = limit === null ? null : Math.round(limit * MIB);
      const mode = textOf(values, "mode");
      return call("POST", `${pathOf(array)}/scrub`, { mode, limitBytesPerSecond });
    },
  };
}

export function exportAction(array: ArrayStatus): ActionSpec {
  return {
    title: `Export ${array.name}`,
    says: "The array is offered as a network block device under this name.",
    fields: [
      { name: "name", label: "Name of the export", kind: "text", first: array.name },
      { name: "readOnly", label: "Read-only", kind: "check" },
    ],
    verb: "Export",
    run: (values) =>
      call("PUT", `/v1/exports/${part(textOf(values, "name"))}`, {
        array: array.uuid,
        readOnly: isChecked(values, "readOnly"),
      }),
  };
}

export function addMemberAction(array: ArrayStatus, drives: readonly DriveStatus[]): ActionSpec {
  const says =
    array.degraded > 0
      ? "The drive takes the role that is free, and is rebuilt from the other members."
      : "No role is free: the drive becomes a spare of this array.";
  return {
    title: `Add a drive to ${array.name}`,
    says: `${says} It gets a superblock of the array.`,
    fields: [
      { name: "drive", label: "Drive", kind: "choice", options: freeDrives(drives) },
      { name: "force", label: "Also where it holds something", hint: FORCE_HINT, kind: "check" },
    ],
    verb: "Add",
    run: (values) => {
      const body = { drive: textOf(values, "drive"), force: isChecked(values, "force") };
      return call("POST", `${pathOf(array)}/members`, body);
    },
  };
}

export function growAction(array: ArrayStatus, drives: readonly DriveStatus[]): ActionSpec {
  const spares = array.spares.map((name) => ({ value: name, label: `${name} (spare)` }));
  return {
    title: `More members for ${array.name}`,
    says:
      "All data is laid out anew over one drive more, while the array serves. There is no way " +
      "back, and it cannot be cancelled. Meanwhile the policy is resync.",
    fields: [
      {
        ...{ name: "drive", label: "Drive", kind: "choice" },
        options: [...spares, ...freeDrives(drives)],
      },
      { name: "force", label: "Also where it holds something", hint: FORCE_HINT, kind: "check" },
    ],
    typed: array.name,
    verb: "Grow",
    run: (values) => {
      const body = { drives: [textOf(values, "drive")], force: isChecked(values, "force") };
      return call("POST", `${pathOf(array)}/grow`, body);
    },
  };
}

export function stopAction(array: ArrayStatus): ActionSpec {
  return {
    title: `Stop ${array.name}`,
    says: "Its members are marked clean, and it does not start by itself until it is started.",
    fields: [{ name: "force", label: "Also with clients connected", kind: "check" }],
    typed: array.name,
    verb: "Stop",
    run: (values) => call("POST", `${pathOf(array)}/stop`, { force: isChecked(values, "force") }),
  };
}

export function startAction(array: ArrayStatus): ActionSpec {
  const { name, startNeeds, reason } = array;
  const isForced = startNeeds === "force";
  return {
    title: `Start ${name}`,
    says: isForced
      ? `It does not start by itself: ${reason ?? "no reason on record"}. Forced, what was being ` +
        "written at the crash may be lost."
      : "It is assembled from the drives that are present.",
    fields: [
      { name: "force", label: "Force", kind: "check" },
      { name: "readOnly", label: "Read-only: not one byte is written", kind: "check" },
    ],
    ...(isForced ? { typed: name } : {}),
    verb: "Start",
    run: (values) =>
      call("POST", `${pathOf(array)}/start`, {
        force: isChecked(values, "force"),
        readOnly: isChecked(values, "readOnly"),
      }),
  };
}

export function deleteAction(array: ArrayStatus): ActionSpec {
  return {
    title: `Delete ${array.name}`,
    says: "The array is stopped and forgotten. Without its superblocks its data is lost for good.",
    fields: [
      { name: "zero", label: "Erase the superblocks of its members", kind: "check" },
      { name: "force", label: "Also with clients connected", kind: "check" },
    ],
    typed: array.name,
    verb: "Delete",
    run: (values) => {
      const zero = isChecked(values, "zero");
      const query = `zeroSuperblocks=${zero}&force=${isChecked(values, "force")}`;
      return call("DELETE", `${pathOf(array)}?${query}`);
    },
  };
}

export function failAction(array: ArrayStatus, drive: string): ActionSpec {
  const path = `${pathOf(array)}/members/${part(drive)}/fail`;
  return {
    title: `Fail member ${drive}`,
    says: "The drive is taken for faulty: the array goes on without it.",
    typed: array.name,
    verb: "Fail",
    foretell: async () => {
      const answer = await call<FailForecast>("POST", `${path}?dryRun=true`, {});
      return answer.ok ? { ok: true, value: failLines(answer.value) } : answer;
    },
    run: () => call("POST", path, {}),
  };
}

export function replaceAction(
  array: ArrayStatus,
  drive: string,
  drives: readonly DriveStatus[],
): ActionSpec {
  const spares = array.spares.map((name) => ({ value: name, label: `${name} (spare)` }));
  return {
    title: `Replace member ${drive}`,
    says: "It is copied to another drive while it serves: the array is never degraded for it.",
    fields: [
      {
        ...{ name: "with", label: "By", kind: "choice" },
        options: [...spares, ...freeDrives(drives)],
      },
      { name: "force", label: "Also where it holds something", hint: FORCE_HINT, kind: "check" },
    ],
    verb: "Replace",
    run: (values) => {
      const body = { with: textOf(values, "with"), force: isChecked(values, "force") };
      return call("POST", `${pathOf(array)}/members/${part(drive)}/replace`, body);
    },
  };
}

export function rehearseAction(array: ArrayStatus, drive: string): ActionSpec {
  return {
    title: `Rehearse the loss of ${drive}`,
    says: "A rebuild is run against copies in memory; no drive gets a write. The job has a report.",
    verb: "Rehearse",
    run: () => call("POST", `${pathOf(array)}/rehearsal`, { drive }),
  };
}

export function removeMemberAction(array: ArrayStatus, drive: string): ActionSpec {
  return {
    title: `Let go of ${drive}`,
    says: "The drive belongs to no array then.",
    verb: "Remove",
    run: () => call("DELETE", `${pathOf(array)}/members/${part(drive)}`),
  };
}
