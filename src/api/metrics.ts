/**
 * The Prometheus text (exposition format 0.0.4) from statuses: names and shapes after
 * node_exporter's `node_md_*`, sizes in bytes.
 */

import type { AlertCounts } from "../appliance/alerts/alert-queue.ts";
import type { DriveView } from "../appliance/drives/drive-care.ts";
import { LAST_RESULTS, type ScheduleView } from "../appliance/schedules/schedule-view.ts";
import { SPARE_STATES, type SpareView } from "../appliance/spares/shared-spares.ts";
import type { ExportView } from "../appliance/state/export-book.ts";
import type { RecordingHealth } from "../appliance/state/state-store.ts";
import {
  ARRAY_STATES,
  type ArrayStatus,
  type LatencyReport,
  type MemberState,
  type MemberStatus,
  type NbdStats,
  SUSPECT_REASONS,
} from "../array/protocol.ts";
import { LATENCY_BOUNDS_SECONDS, type LatencyCounts } from "../base/latency-histogram.ts";

export interface MetricsInput {
  readonly version: string;
  readonly arrays: readonly ArrayStatus[];
  readonly exports: readonly ExportView[];
  readonly spares: readonly SpareView[];
  readonly schedules: readonly ScheduleView[];
  readonly drives: readonly DriveView[];
  readonly nbd: NbdStats;
  readonly latencies: LatencyReport;
  readonly recording: RecordingHealth;
  readonly alerts: readonly AlertCounts[];
}

type Labels = Readonly<Record<string, string | number>>;
type Sample = readonly [labels: Labels, value: number];

const MEMBER_STATES: readonly MemberState[] = [
  "in-sync",
  "rebuilding",
  "spare",
  "faulty",
  "missing",
];

export function renderMetrics(input: MetricsInput): string {
  const { version, arrays, exports, spares, schedules, drives, nbd } = input;
  const { latencies, recording, alerts } = input;
  const perArray = (value: (array: ArrayStatus) => number): Sample[] =>
    arrays.map((array) => [{ array: array.name }, value(array)]);
  const perSync = (value: (array: ArrayStatus) => number): Sample[] =>
    arrays.map((array) => [{ array: array.name, action: array.sync.action }, value(array)]);
  const scrubbed = arrays.filter((array) => array.lastScrub !== null);
  return [
    gauge("parityd_build_info", "The version that runs.", [[{ version }, 1]]),
    gauge("parityd_array_state", "1 for the state that the array is in.", arrayStates(arrays)),
    gauge("parityd_array_members", "Members by state.", memberStates(arrays)),
    gauge(
      "parityd_array_spares",
      "Spares that could take a role now, shared ones counted for each array.",
      perArray((array) => array.spares.length + (array.sharedSpares?.length ?? 0)),
    ),
    gauge("parityd_spares", "Shared spares by state.", spareStates(spares)),
    gauge(
      "parityd_array_degraded",
      "Missing members.",
      perArray((a) => a.degraded),
    ),
    gauge(
      "parityd_array_size_bytes",
      "Usable size.",
      perArray((a) => a.sizeBytes),
    ),
    gauge(
      "parityd_array_sync_bytes",
      "Bytes that the sync action covers.",
      perSync((array) => array.sync.totalBytes),
    ),
    gauge(
      "parityd_array_sync_done_bytes",
      "Bytes that it has done.",
      perSync((array) => array.sync.doneBytes),
    ),
    gauge(
      "parityd_array_last_scrub_timestamp_seconds",
      "When the last scrub ended.",
      scrubbed.map((array) => [
        { array: array.name },
        Date.parse(array.lastScrub?.finishedAt ?? "") / 1_000,
      ]),
    ),
    gauge(
      "parityd_array_scrub_mismatch_bytes",
      "Parity mismatches that the last scrub found.",
      perArray((array) => array.mismatchBytes),
    ),
    gauge(
      "parityd_array_lost_bytes",
      "Bytes that cannot be read any more.",
      perArray((array) => array.lostBytes),
    ),
    gauge(
      "parityd_array_rebuild_seconds",
      "How long a whole rebuild would take, by rates that were measured; absent: none was yet.",
      rebuildSeconds(arrays),
    ),
    gauge(
      "parityd_member_loss_unreadable_bytes",
      "Bytes of the array that could not be read without this member; absent: it is needed.",
      arrays.flatMap(({ name: array, forecast }) =>
        (forecast?.members ?? []).flatMap(({ role, unreadableBytes }): Sample[] =>
          unreadableBytes === null ? [] : [[{ array, role }, unreadableBytes]],
        ),
      ),
    ),
    gauge(
      "parityd_schedule_next_timestamp_seconds",
      "When the next window for a scrub opens.",
      schedules
        .filter(({ next }) => next !== null)
        .map(({ array, next }) => [{ array }, Date.parse(next ?? "") / 1_000]),
    ),
    gauge(
      "parityd_schedule_last_result",
      "1 for how the last scrub of an array with a schedule ended.",
      schedules.flatMap(({ array, lastResult }) =>
        LAST_RESULTS.map((result): Sample => [{ array, result }, result === lastResult ? 1 : 0]),
      ),
    ),
    gauge(
      "parityd_schedule_due",
      "1 while the last scrub is older than the schedule lets it become.",
      schedules.map(({ array, isDue }) => [{ array }, isDue ? 1 : 0]),
    ),
    gauge(
      "parityd_schedule_missed",
      "1 from a window that was missed until it has been made up for.",
      schedules.map(({ array, isMissed }) => [{ array }, isMissed ? 1 : 0]),
    ),
    gauge(
      "parityd_array_shared_disks",
      "Physical disks that several drives of the array lie on.",
      perArray(({ sharedDisks }) => sharedDisks?.length ?? 0),
    ),
    ...smartMetrics(drives),
    counter(
      "parityd_array_stripe_writes_total",
      "Writes by stripe and whether they had all of it, which needs no reads.",
      arrays.flatMap(({ name: array, stripeWrites }) =>
        Object.entries(stripeWrites ?? {}).map(([kind, value]): Sample => [{ array, kind }, value]),
      ),
    ),
    counter("parityd_member_io_total", "Requests to members.", perMember(arrays, ioCounts)),
    counter("parityd_member_io_bytes_total", "Bytes moved.", perMember(arrays, ioBytes)),
    counter(
      "parityd_member_errors_total",
      "Completions of members that were judged errors.",
      perMember(arrays, ({ errorsByOp }) =>
        Object.entries(errorsByOp).flatMap(([op, kinds]) =>
          Object.entries(kinds).map(
            ([kind, value]): Sample => [{ op: snakeCase(op), kind }, value],
          ),
        ),
      ),
    ),
    gauge(
      "parityd_member_suspect",
      "1 for what the member is suspect for: it is likely to fail.",
      perMember(arrays, ({ suspect }) =>
        SUSPECT_REASONS.map((reason) => [{ reason }, suspect?.reason === reason ? 1 : 0]),
      ),
    ),
    gauge(
      "parityd_member_avoided",
      "1 while reads go around the member.",
      perMember(arrays, ({ isAvoided }) => [[{}, isAvoided === true ? 1 : 0]]),
    ),
    histogram(
      "parityd_member_io_seconds",
      "How long requests to members took.",
      latencies.members.map(({ times, ...labels }) => [labels, times]),
    ),
    counter(
      "parityd_sectors_repaired_total",
      "Unreadable sectors rewritten from parity.",
      perMember(arrays, (member) => [[{}, member.errors.fixed]]),
    ),
    gauge(
      "parityd_nbd_connections",
      "Clients connected.",
      exports.map((entry) => [{ export: entry.name }, entry.connections]),
    ),
    gauge(
      "parityd_export_attached",
      "1: it is this block device of the host's kernel; 0: it is to be.",
      exports.flatMap(({ name, attachment }) =>
        attachment === null
          ? []
          : [[{ export: name, device: attachment.device }, attachment.isAttached ? 1 : 0]],
      ),
    ),
    counter(
      "parityd_nbd_requests_total",
      "Requests of clients that were answered.",
      nbd.answers.map(({ count, ...labels }) => [labels, count]),
    ),
    histogram(
      "parityd_nbd_request_seconds",
      "How long requests of clients took, from the header to the reply.",
      latencies.exports.map(({ times, ...labels }) => [labels, times]),
    ),
    histogram("parityd_reactor_loop_seconds", "How long turns of the reactor took.", [
      [{}, latencies.turns],
    ]),
    gauge("parityd_aio_inflight", "Requests that drives have not answered.", [
      [{}, latencies.requestsToDrives],
    ]),
    gauge("parityd_state_recording", "1 while state.db takes what happens.", [
      [{}, recording.reason === null ? 1 : 0],
    ]),
    gauge("parityd_state_waiting", "Changes that wait for state.db.", [[{}, recording.waiting]]),
    counter("parityd_alerts_sent_total", "Alerts that arrived.", perWay(alerts, "sent")),
    counter(
      "parityd_alerts_failed_total",
      "Alerts that were refused, or did not arrive for a day.",
      perWay(alerts, "failed"),
    ),
    counter(
      "parityd_alerts_dropped_total",
      "Alerts that were dropped because too many waited.",
      perWay(alerts, "dropped"),
    ),
    gauge("parityd_alerts_pending", "Alerts that wait.", perWay(alerts, "pending")),
    gauge("parityd_pool_free_bytes", "Free payload memory.", [
      [{ pool: "payload" }, nbd.payloadPoolFreeBytes],
    ]),
  ].join("");
}

/** What each says; what a drive does not say of is absent. */
const SMART_GAUGES = [
  ["drive_temperature_celsius", "Temperature of the disk.", "temperatureCelsius"],
  ["drive_smart_power_on_hours", "Hours that the disk was on.", "powerOnHours"],
  ["drive_smart_reallocated_sectors", "Sectors reallocated.", "reallocatedSectors"],
  ["drive_smart_pending_sectors", "Sectors that wait to be reallocated.", "pendingSectors"],
  ["drive_smart_uncorrectable_sectors", "Uncorrectable sectors.", "uncorrectableSectors"],
  ["drive_smart_media_errors", "Errors of the media.", "mediaErrors"],
  ["drive_smart_used_percent", "How much of its expected life is used.", "percentageUsed"],
  ["drive_smart_spare_percent", "Spare blocks that are left.", "availableSparePercent"],
] as const;

function smartMetrics(drives: readonly DriveView[]): string[] {
  const perDrive = (measure: (smart: DriveView["smart"]) => number | null): Sample[] =>
    drives.flatMap(({ name: drive, smart }): Sample[] => {
      const value = measure(smart);
      return value === null ? [] : [[{ drive }, value]];
    });
  return [
    gauge(
      "parityd_drive_smart_failing",
      "1 while the disk says that it is failing; absent: it does not say.",
      perDrive(({ health }) => (health === "unknown" ? null : health === "failing" ? 1 : 0)),
    ),
    gauge(
      "parityd_drive_smart_read_timestamp_seconds",
      "When the disk was asked last.",
      perDrive(({ readAt }) => (readAt === null ? null : Date.parse(readAt) / 1_000)),
    ),
    ...SMART_GAUGES.map(([name, help, key]) =>
      gauge(
        `parityd_${name}`,
        help,
        perDrive((smart) => smart[key]),
      ),
    ),
  ];
}

function arrayStates(arrays: readonly ArrayStatus[]): Sample[] {
  return arrays.flatMap((array) =>
    ARRAY_STATES.map(
      (state): Sample => [{ array: array.name, state }, array.state === state ? 1 : 0],
    ),
  );
}

function memberStates(arrays: readonly ArrayStatus[]): Sample[] {
  return arrays.flatMap((array) =>
    MEMBER_STATES.map((state): Sample => {
      const members = array.members.filter((member) => member.state === state).length;
      const spares = state === "spare" ? array.spares.length : 0;
      return [{ array: array.name, state }, members + spares];
    }),
  );
}

/** Of the member that takes longest: one that is being rebuilt already has less before it. */
function rebuildSeconds(arrays: readonly ArrayStatus[]): Sample[] {
  return arrays.flatMap(({ name: array, forecast }) =>
    (["idle", "busy"] as const).flatMap((load): Sample[] => {
      const times = (forecast?.members ?? []).flatMap(({ rebuild }) => rebuild[load] ?? []);
      if (times.length === 0) return [];
      return [[{ array, load }, Math.max(...times.map(({ seconds }) => seconds))]];
    }),
  );
}

function spareStates(spares: readonly SpareView[]): Sample[] {
  return SPARE_STATES.map((state): Sample => {
    return [{ state }, spares.filter((spare) => spare.state === state).length];
  });
}

function perMember(
  arrays: readonly ArrayStatus[],
  samplesOf: (member: MemberStatus) => Sample[],
): Sample[] {
  return arrays.flatMap((array) =>
    array.members.flatMap((member) =>
      samplesOf(member).map(
        ([labels, value]): Sample => [{ array: array.name, role: member.role, ...labels }, value],
      ),
    ),
  );
}

function perWay(alerts: readonly AlertCounts[], what: Exclude<keyof AlertCounts, "via">): Sample[] {
  return alerts.map(({ via, [what]: value }) => [{ via }, value]);
}

/** write_zeroes, as the requests of clients are called. */
function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function ioCounts({ io }: MemberStatus): Sample[] {
  return [
    [{ op: "read" }, io.reads],
    [{ op: "write" }, io.writes],
    [{ op: "flush" }, io.flushes],
  ];
}

function ioBytes({ io }: MemberStatus): Sample[] {
  return [
    [{ op: "read" }, io.bytesRead],
    [{ op: "write" }, io.bytesWritten],
  ];
}

function gauge(name: string, help: string, samples: readonly Sample[]): string {
  return family({ name, help, type: "gauge" }, samples);
}

function counter(name: string, help: string, samples: readonly Sample[]): string {
  return family({ name, help, type: "counter" }, samples);
}

function histogram(
  name: string,
  help: string,
  all: readonly (readonly [labels: Labels, times: LatencyCounts])[],
): string {
  const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`];
  for (const [labels, { counts, totalMs }] of all) {
    let count = 0;
    for (const [bucket, more] of counts.entries()) {
      count += more;
      const le = LATENCY_BOUNDS_SECONDS[bucket] ?? "+Inf";
      lines.push(`${name}_bucket${labelText({ ...labels, le })} ${count}`);
    }
    lines.push(`${name}_sum${labelText(labels)} ${totalMs / 1_000}`);
    lines.push(`${name}_count${labelText(labels)} ${count}`);
  }
  return `${lines.join("\n")}\n`;
}

function family(
  { name, help, type }: { name: string; help: string; type: string },
  samples: readonly Sample[],
): string {
  const lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
  for (const [labels, value] of samples) lines.push(`${name}${labelText(labels)} ${value}`);
  return `${lines.join("\n")}\n`;
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeLabel(value: string | number): string {
  return String(value).replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
