/** The dashboard for Grafana: a table of panels over the metrics of api/metrics.ts, as JSON. */

type PanelKind = "stat" | "timeseries" | "table";

interface Panel {
  readonly title: string;
  readonly kind: PanelKind;
  readonly unit: string;
  /** Queries, each with what its series are called. */
  readonly queries: readonly (readonly [expression: string, legend: string])[];
  /** Of the 24 columns. */
  readonly columns: number;
}

const MEMBER = "{{array}}/{{role}}";
const OF_ARRAY = '{array=~"$array"}';
const ERRORS = `parityd_member_errors_total${OF_ARRAY}`;

const PANELS: readonly Panel[] = [
  {
    ...{ title: "State", kind: "stat", unit: "none", columns: 12 },
    queries: [['parityd_array_state{array=~"$array"} == 1', "{{array}}: {{state}}"]],
  },
  {
    ...{ title: "Members missing", kind: "stat", unit: "none", columns: 4 },
    queries: [[`parityd_array_degraded${OF_ARRAY}`, "{{array}}"]],
  },
  {
    ...{ title: "Bytes lost", kind: "stat", unit: "bytes", columns: 4 },
    queries: [[`parityd_array_lost_bytes${OF_ARRAY}`, "{{array}}"]],
  },
  {
    ...{ title: "Mismatches of the last scrub", kind: "stat", unit: "bytes", columns: 4 },
    queries: [[`parityd_array_scrub_mismatch_bytes${OF_ARRAY}`, "{{array}}"]],
  },
  {
    ...{ title: "Requests of clients", kind: "timeseries", unit: "reqps", columns: 12 },
    queries: [["sum by (export, op) (rate(parityd_nbd_requests_total[5m]))", "{{export}} {{op}}"]],
  },
  {
    ...{ title: "Requests answered with an error", kind: "timeseries", unit: "reqps", columns: 6 },
    queries: [
      [
        'sum by (export, op, error) (rate(parityd_nbd_requests_total{error!="none"}[5m]))',
        "{{export}} {{op}} {{error}}",
      ],
    ],
  },
  {
    ...{ title: "Clients", kind: "timeseries", unit: "none", columns: 6 },
    queries: [["parityd_nbd_connections", "{{export}}"]],
  },
  {
    ...{ title: "Members: bytes", kind: "timeseries", unit: "Bps", columns: 12 },
    queries: [[`rate(parityd_member_io_bytes_total${OF_ARRAY}[5m])`, `${MEMBER} {{op}}`]],
  },
  {
    ...{ title: "Members: requests", kind: "timeseries", unit: "iops", columns: 12 },
    queries: [[`rate(parityd_member_io_total${OF_ARRAY}[5m])`, `${MEMBER} {{op}}`]],
  },
  {
    ...{ title: "Writes: full stripes and parts of one", kind: "timeseries", unit: "iops" },
    columns: 24,
    queries: [[`rate(parityd_array_stripe_writes_total${OF_ARRAY}[5m])`, "{{array}} {{kind}}"]],
  },
  {
    ...{ title: "Clients: time of 99 of 100 requests", kind: "timeseries", unit: "s", columns: 12 },
    queries: [
      [
        "histogram_quantile(0.99, sum by (le, export, op) " +
          "(rate(parityd_nbd_request_seconds_bucket[5m])))",
        "{{export}} {{op}}",
      ],
    ],
  },
  {
    ...{ title: "Members: time of 99 of 100 requests", kind: "timeseries", unit: "s", columns: 12 },
    queries: [
      [
        "histogram_quantile(0.99, sum by (le, array, role, op) " +
          `(rate(parityd_member_io_seconds_bucket${OF_ARRAY}[5m])))`,
        `${MEMBER} {{op}}`,
      ],
    ],
  },
  {
    ...{ title: "Members: errors", kind: "timeseries", unit: "none", columns: 8 },
    // A kind of error has no sample before it is met: what begins within the hour counts whole.
    queries: [
      [
        `increase(${ERRORS}[1h]) > 0 or (${ERRORS} unless ${ERRORS} offset 1h)`,
        `${MEMBER} {{op}} {{kind}}`,
      ],
    ],
  },
  {
    ...{ title: "Members: sectors repaired", kind: "timeseries", unit: "none", columns: 8 },
    queries: [[`increase(parityd_sectors_repaired_total${OF_ARRAY}[1h])`, MEMBER]],
  },
  {
    ...{ title: "Members: suspect, or read around", kind: "timeseries", unit: "none", columns: 8 },
    queries: [
      [`parityd_member_suspect${OF_ARRAY} == 1`, `${MEMBER} {{reason}}`],
      [`parityd_member_avoided${OF_ARRAY} == 1`, `${MEMBER} is read around`],
    ],
  },
  {
    ...{ title: "Rebuild, resync, scrub", kind: "timeseries", unit: "percentunit", columns: 12 },
    queries: [
      [
        `parityd_array_sync_done_bytes${OF_ARRAY} / (parityd_array_sync_bytes${OF_ARRAY} > 0)`,
        "{{array}} {{action}}",
      ],
    ],
  },
  {
    ...{ title: "A rebuild would take", kind: "timeseries", unit: "s", columns: 6 },
    queries: [[`parityd_array_rebuild_seconds${OF_ARRAY}`, "{{array}} {{load}}"]],
  },
  {
    ...{ title: "Unreadable without this member", kind: "timeseries", unit: "bytes", columns: 6 },
    queries: [[`parityd_member_loss_unreadable_bytes${OF_ARRAY}`, MEMBER]],
  },
  {
    ...{ title: "Since the last scrub", kind: "stat", unit: "s", columns: 8 },
    queries: [[`time() - parityd_array_last_scrub_timestamp_seconds${OF_ARRAY}`, "{{array}}"]],
  },
  {
    ...{ title: "Spares", kind: "stat", unit: "none", columns: 8 },
    queries: [
      [`parityd_array_spares${OF_ARRAY}`, "for {{array}}"],
      ["parityd_spares > 0", "shared: {{state}}"],
    ],
  },
  {
    ...{ title: "Free memory for requests", kind: "timeseries", unit: "bytes", columns: 8 },
    queries: [["parityd_pool_free_bytes", "{{instance}} {{pool}}"]],
  },
  {
    ...{ title: "Disks: temperature", kind: "timeseries", unit: "celsius", columns: 12 },
    queries: [["parityd_drive_temperature_celsius", "{{drive}}"]],
  },
  {
    ...{ title: "Disks: sectors by SMART", kind: "timeseries", unit: "none", columns: 12 },
    queries: [
      ["parityd_drive_smart_reallocated_sectors", "{{drive}} reallocated"],
      ["parityd_drive_smart_pending_sectors", "{{drive}} pending"],
      ["parityd_drive_smart_uncorrectable_sectors", "{{drive}} uncorrectable"],
      ["parityd_drive_smart_media_errors", "{{drive}} errors of the media"],
    ],
  },
  {
    ...{ title: "Disks: life", kind: "timeseries", unit: "percent", columns: 12 },
    queries: [
      ["parityd_drive_smart_used_percent", "{{drive}} used"],
      ["parityd_drive_smart_spare_percent", "{{drive}} spare"],
    ],
  },
  {
    ...{ title: "Alerts an hour", kind: "timeseries", unit: "none", columns: 12 },
    queries: [
      ["increase(parityd_alerts_sent_total[1h])", "{{via}} arrived"],
      ["increase(parityd_alerts_failed_total[1h])", "{{via}} failed"],
      ["parityd_alerts_pending", "{{via}} waits"],
    ],
  },
  {
    ...{ title: "Requests with the drives", kind: "timeseries", unit: "none", columns: 12 },
    queries: [["parityd_aio_inflight", "{{instance}}"]],
  },
  {
    ...{ title: "The longest of 1000 turns", kind: "timeseries", unit: "s", columns: 12 },
    queries: [
      [
        "histogram_quantile(0.999, sum by (le, instance) " +
          "(rate(parityd_reactor_loop_seconds_bucket[5m])))",
        "{{instance}}",
      ],
    ],
  },
];

const GRID_COLUMNS = 24;
const PANEL_ROWS = 7;
const DATA_SOURCE = { type: "prometheus", uid: "$datasource" };

/** Its JSON, to be imported as it is. */
export function dashboard(): string {
  let x = 0;
  let y = 0;
  const panels = PANELS.map(({ title, kind, unit, queries, columns }, index) => {
    if (x + columns > GRID_COLUMNS) {
      x = 0;
      y += PANEL_ROWS;
    }
    const gridPos = { x, y, w: columns, h: PANEL_ROWS };
    x += columns;
    return {
      id: index + 1,
      ...{ title, type: kind, gridPos },
      datasource: DATA_SOURCE,
      fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
      targets: queries.map(([expr, legendFormat], place) => ({
        refId: String.fromCharCode("A".charCodeAt(0) + place),
        ...{ expr, legendFormat },
        datasource: DATA_SOURCE,
      })),
    };
  });
  const whole = {
    ...{ title: "parityd", uid: "parityd", schemaVersion: 38, version: 1, editable: true },
    tags: ["storage"],
    time: { from: "now-6h", to: "now" },
    refresh: "30s",
    templating: {
      list: [
        { name: "datasource", label: "Data source", type: "datasource", query: "prometheus" },
        {
          ...{ name: "array", label: "Array", type: "query", datasource: DATA_SOURCE },
          query: "label_values(parityd_array_state, array)",
          ...{ includeAll: true, multi: true, refresh: 2 },
          current: { text: "All", value: "$__all" },
        },
      ],
    },
    panels,
  };
  return `${JSON.stringify(whole, null, 2)}\n`;
}
