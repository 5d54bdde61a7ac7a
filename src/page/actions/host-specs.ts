/** What can be done with drives, exports, jobs and schedules. */

import type { ScheduleView } from "../../appliance/schedules/schedule-view.ts";
import type { SpareView } from "../../appliance/spares/shared-spares.ts";
import type { ExportView } from "../../appliance/state/export-book.ts";
import type { ArrayStatus, DriveStatus, JobStatus } from "../../array/statuses.ts";
import { counted } from "../../base/counted.ts";
import { type ActionSpec, isChecked, numberOf, textOf } from "../action-spec.ts";
import { call, part } from "../api.ts";

export function addDriveAction(): ActionSpec {
  return {
    title: "Add a drive",
    says: "A block device or a file is opened and looked at. Nothing is written to it.",
    fields: [
      { name: "name", label: "Name", kind: "text", hint: "as it is to be called here" },
      { name: "path", label: "Path", kind: "text", hint: "/dev/disk/by-id/… or a file" },
    ],
    verb: "Add",
    run: (values) => {
      const body = { name: textOf(values, "name"), path: textOf(values, "path") };
      return call("POST", "/v1/drives", body);
    },
  };
}

export function removeDriveAction({ name, state }: DriveStatus): ActionSpec {
  const isMember = state === "member";
  return {
    title: `Remove drive ${name}`,
    says: isMember
      ? "It is a member: its array goes on without it, degraded."
      : "It is closed and forgotten. What is on it stays.",
    fields: [{ name: "force", label: "Also where data would be lost", kind: "check" }],
    ...(isMember ? { typed: name } : {}),
    verb: "Remove",
    run: (values) => call("DELETE", `/v1/drives/${part(name)}?force=${isChecked(values, "force")}`),
  };
}

export function shareAction({ name }: DriveStatus): ActionSpec {
  return {
    title: `Share ${name} as a spare`,
    says: "Any array that loses a member may take it, where it is large enough.",
    verb: "Share",
    run: () => call("PUT", `/v1/spares/${part(name)}`, {}),
  };
}

export function withdrawSpareAction({ drive }: SpareView): ActionSpec {
  return {
    title: `Share ${drive} no more`,
    says: "No array takes it by itself then.",
    verb: "Withdraw",
    run: () => call("DELETE", `/v1/spares/${part(drive)}`),
  };
}

export function withdrawExportAction({ name, connections }: ExportView): ActionSpec {
  const isUsed = connections > 0;
  return {
    title: `Withdraw export ${name}`,
    says: isUsed
      ? `${counted(connections, "client is", "clients are")} connected, and will be cut off.`
      : "Nobody uses it now.",
    ...(isUsed ? { typed: name } : {}),
    verb: "Withdraw",
    run: () => call("DELETE", `/v1/exports/${part(name)}?force=${isUsed}`),
  };
}

/** Null: this kind of work does not rest. */
export function pausePath({ kind, arrayUuid }: JobStatus): string | null {
  const what = kind === "check" || kind === "repair" ? "scrub" : kind;
  return what === "scrub" || what === "rehearsal"
    ? `/v1/arrays/${part(arrayUuid)}/${what}/pause`
    : null;
}

export function resume({ kind, arrayUuid, result }: JobStatus) {
  const path = `/v1/arrays/${part(arrayUuid)}`;
  return kind === "rehearsal"
    ? call("POST", `${path}/rehearsal`, { drive: result["fails"] ?? null })
    : call("POST", `${path}/scrub`, { mode: kind });
}

export function cancelAction({ id, kind, array }: JobStatus): ActionSpec {
  return {
    title: `Cancel job ${id}`,
    says: `The ${kind} of ${array} ends here; what it has done stays.`,
    verb: "Cancel the job",
    run: () => call("DELETE", `/v1/jobs/${id}`),
  };
}

export function scheduleAction(
  { name, uuid }: Pick<ArrayStatus, "name" | "uuid">,
  known: ScheduleView | undefined,
): ActionSpec {
  return {
    title: `Schedule of ${name}`,
    says: "The array is scrubbed in these windows by itself, when its last scrub is old enough.",
    fields: [
      {
        ...{ name: "cron", label: "A window opens at", kind: "text" },
        first: known?.cron ?? "0 1 * * *",
        hint: "minute hour day month weekday",
      },
      { name: "timezone", label: "Time zone", kind: "text", first: known?.timezone ?? "UTC" },
      {
        ...{ name: "windowMinutes", label: "Minutes it is open", kind: "number" },
        first: String(known?.windowMinutes ?? 360),
      },
      {
        ...{ name: "maxAgeDays", label: "Days a scrub is good for", kind: "number" },
        first: String(known?.maxAgeDays ?? 30),
      },
      {
        ...{ name: "mode", label: "Mode", kind: "choice", first: known?.mode ?? "check" },
        options: [
          { value: "check", label: "check" },
          { value: "repair", label: "repair" },
        ],
      },
    ],
    verb: "Set",
    run: (values) =>
      call("PUT", `/v1/schedules/${part(uuid)}`, {
        cron: textOf(values, "cron"),
        timezone: textOf(values, "timezone"),
        windowMinutes: numberOf(values, "windowMinutes"),
        maxAgeDays: numberOf(values, "maxAgeDays"),
        mode: textOf(values, "mode"),
        limitBytesPerSecond: known?.limitBytesPerSecond ?? null,
      }),
  };
}

export function removeScheduleAction({ array, arrayUuid }: ScheduleView): ActionSpec {
  return {
    title: `Remove the schedule of ${array}`,
    says: "It is scrubbed no more by itself.",
    verb: "Remove",
    run: () => call("DELETE", `/v1/schedules/${part(arrayUuid)}`),
  };
}
