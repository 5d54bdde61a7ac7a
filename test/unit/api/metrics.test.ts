/**
 * Goal: /metrics has what was promised to who watches (names, labels, types), in words and shapes
 * that Prometheus's own linter takes.
 * Method: the text of a daemon with an array, an export, a schedule, clients' requests and a bad
 * sector, parsed, against a table.
 */
import { beforeAll, expect, test } from "bun:test";
import { renderMetrics } from "../../../src/api/metrics.ts";
import { LatencyHistogram } from "../../../src/base/latency-histogram.ts";
import { needs, toolPath } from "../../helpers/needs.ts";
import { startMeasuredAppliance } from "../../helpers/sim-appliance.ts";

type MetricType = "gauge" | "counter" | "histogram";

/** What the interface promises: the type, and all labels of a sample. */
const PROMISED: Readonly<Record<string, readonly [MetricType, ...labels: string[]]>> = {
  parityd_build_info: ["gauge", "version"],
  parityd_array_state: ["gauge", "array", "state"],
  parityd_array_members: ["gauge", "array", "state"],
  parityd_array_degraded: ["gauge", "array"],
  parityd_array_size_bytes: ["gauge", "array"],
  parityd_array_sync_bytes: ["gauge", "array", "action"],
  parityd_array_sync_done_bytes: ["gauge", "array", "action"],
  parityd_array_last_scrub_timestamp_seconds: ["gauge", "array"],
  parityd_array_scrub_mismatch_bytes: ["gauge", "array"],
  parityd_array_lost_bytes: ["gauge", "array"],
  parityd_member_io_total: ["counter", "array", "role", "op"],
  parityd_array_stripe_writes_total: ["counter", "array", "kind"],
  parityd_member_io_bytes_total: ["counter", "array", "role", "op"],
  parityd_member_io_seconds: ["histogram", "array", "role", "op"],
  parityd_member_errors_total: ["counter", "array", "role", "op", "kind"],
  parityd_sectors_repaired_total: ["counter", "array", "role"],
  parityd_nbd_connections: ["gauge", "export"],
  parityd_nbd_requests_total: ["counter", "export", "op", "error"],
  parityd_nbd_request_seconds: ["histogram", "export", "op"],
  parityd_aio_inflight: ["gauge"],
  parityd_pool_free_bytes: ["gauge", "pool"],
  parityd_reactor_loop_seconds: ["histogram"],
};

interface Family {
  readonly type: string;
  readonly help: string;
  /** Labels of each sample, as they come; `le` of a bucket is left out. */
  readonly labels: string[][];
}

let text = "";
let families: Map<string, Family>;

function parse(metrics: string): Map<string, Family> {
  const found = new Map<string, Family>();
  for (const [, name, help] of metrics.matchAll(/^# HELP (\w+) (.*)$/gm)) {
    const type = new RegExp(`^# TYPE ${name} (\\w+)$`, "m").exec(metrics)?.[1] ?? "none";
    expect([name, found.has(name!)]).toEqual([name, false]);
    found.set(name!, { type, help: help!, labels: [] });
  }
  for (const [, name, labels = ""] of metrics.matchAll(/^(\w+)(?:\{(.*)\})? [\d.e+-]+$/gm)) {
    const family = found.get(name!) ?? found.get(name!.replace(/_(bucket|sum|count)$/, ""));
    expect([name, family === undefined]).toEqual([name, false]);
    const names = [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label!);
    family!.labels.push(names.filter((label) => label !== "le"));
  }
  return found;
}

beforeAll(async () => {
  const daemon = await startMeasuredAppliance();
  const nbd = await daemon.appliance.nbdStats();
  const latencies = await daemon.appliance.latencies();
  const arrays = await daemon.appliance.listArrays();
  const exports = await daemon.appliance.exports.list();
  if (!nbd.ok || !latencies.ok || !arrays.ok || !exports.ok) throw new Error("the daemon answers");
  const times = new LatencyHistogram();
  times.note(3);
  // Clients of the simulated daemon come by no socket: what they did is put in.
  text = renderMetrics({
    ...{ version: "1.0.0", arrays: arrays.value, exports: exports.value },
    ...{ spares: [], schedules: [], drives: [] },
    nbd: { ...nbd.value, answers: [{ export: "raid_test", op: "read", error: "none", count: 1 }] },
    latencies: {
      ...latencies.value,
      exports: [{ export: "raid_test", op: "read", times: times.read() }],
    },
    recording: daemon.appliance.recording,
    alerts: [{ via: "onEvent", sent: 1, failed: 0, dropped: 0, pending: 0 }],
  });
  families = parse(text);
});

test.each(Object.entries(PROMISED))("metrics: %s: its type, labels and help", (name, promised) => {
  const [type, ...labels] = promised;
  const family = families.get(name);
  expect([name, family?.type]).toEqual([name, type]);
  expect(family!.labels.length).toBeGreaterThan(0);
  for (const found of family!.labels) expect([name, found]).toEqual([name, labels]);
});

test("metrics: each has a sentence of help, and a type that its name says", () => {
  expect(families.size).toBeGreaterThan(Object.keys(PROMISED).length);
  for (const [name, { type, help }] of families) {
    expect([name, help]).toEqual([name, expect.stringMatching(/^[A-Z1].*\w\.$/)]);
    expect([name, type === "counter"]).toEqual([name, name.endsWith("_total")]);
    expect([name, type === "histogram"]).toEqual([
      name,
      name.endsWith("_seconds") && !name.endsWith("timestamp_seconds") && !/rebuild/.test(name),
    ]);
  }
});

test.skipIf(!needs("prometheus"))(
  "metrics: promtool finds nothing to say [needs prometheus]",
  async () => {
    const child = Bun.spawn([toolPath("promtool")!, "check", "metrics"], {
      stdin: new TextEncoder().encode(text),
      stdout: "pipe",
      stderr: "pipe",
    });
    const said = (await child.stdout.text()) + (await child.stderr.text());
    expect([await child.exited, said]).toEqual([0, ""]);
  },
);
