/** All that there is to see in one value: what the page at `/` draws, and a script may ask for. */
import type { ArrayStatus, CommandError, JobStatus, NbdStats } from "../array/protocol.ts";
import { ok, type Result } from "../base/result.ts";
import type { StuckAlerts } from "./alerts/alert-queue.ts";
import type { Appliance } from "./appliance.ts";
import { offerDrives } from "./drive-offers.ts";
import type { DriveView } from "./drives/drive-care.ts";
import {
  alertFindings,
  type Finding,
  findingsOf,
  type Health,
  healthOf,
  notesOf,
  recordingFindings,
  spareFindings,
} from "./findings.ts";
import type { ScheduleView } from "./schedules/schedule-view.ts";
import type { SpareView } from "./spares/shared-spares.ts";
import type { ExportView } from "./state/export-book.ts";
import type { RecordingHealth } from "./state/state-store.ts";
import { VERSION } from "./version.ts";

/** What `parityd status` says of an array. */
export interface Judgement {
  readonly arrayUuid: string;
  readonly health: Health;
  readonly findings: readonly Finding[];
  readonly notes: readonly string[];
}

export interface StatusDocument {
  readonly version: string;
  readonly arrays: readonly ArrayStatus[];
  /** One for each array, in their order. */
  readonly judgements: readonly Judgement[];
  /** Of the shared spares, of state.db and of alerts that do not arrive. */
  readonly findings: readonly Finding[];
  readonly drives: readonly DriveView[];
  readonly spares: readonly SpareView[];
  readonly exports: readonly ExportView[];
  readonly schedules: readonly ScheduleView[];
  /** Those under way or paused, and of each array the last one that looked for mismatches. */
  readonly jobs: readonly JobStatus[];
  readonly nbd: NbdStats;
  readonly recording: RecordingHealth;
  /** Ways by which alerts do not arrive. */
  readonly alerts: readonly StuckAlerts[];
  /** Events up to it are there to be read. */
  readonly lastEventId: number;
}

export async function statusDocument(
  appliance: Appliance,
): Promise<Result<StatusDocument, CommandError>> {
  const arrays = await appliance.listArrays();
  if (!arrays.ok) return arrays;
  const drives = await appliance.listDrives();
  if (!drives.ok) return drives;
  const spares = await appliance.spares.list();
  if (!spares.ok) return spares;
  const exports = await appliance.exports.list();
  if (!exports.ok) return exports;
  const schedules = await appliance.schedules.list();
  if (!schedules.ok) return schedules;
  const jobs = await appliance.jobs.list();
  if (!jobs.ok) return jobs;
  const nbd = await appliance.nbdStats();
  if (!nbd.ok) return nbd;
  const { recording } = appliance;
  const { stuck } = appliance.alerts;
  const offers = offerDrives(arrays.value, drives.value);
  return ok({
    version: VERSION,
    arrays: arrays.value,
    judgements: arrays.value.map((array) => ({
      arrayUuid: array.uuid,
      health: healthOf(array, drives.value),
      findings: findingsOf(array, drives.value, offers),
      notes: notesOf(array, drives.value),
    })),
    findings: [
      ...recordingFindings(recording),
      ...alertFindings(stuck),
      ...spareFindings(spares.value),
    ],
    drives: drives.value,
    spares: spares.value,
    exports: exports.value,
    schedules: schedules.value,
    jobs: jobsToShow(jobs.value),
    nbd: nbd.value,
    recording,
    alerts: stuck,
    lastEventId: appliance.events.lastId,
  });
}

/** `jobs`: the newest first. */
export function jobsToShow(jobs: readonly JobStatus[]): JobStatus[] {
  const looked = new Set<string>();
  return jobs.filter(({ state, kind, arrayUuid }) => {
    if (state === "running" || state === "paused") return true;
    if ((kind !== "check" && kind !== "repair") || looked.has(arrayUuid)) return false;
    looked.add(arrayUuid);
    return true;
  });
}
