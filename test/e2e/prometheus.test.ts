/**
 * Goal: who watches by Prometheus sees what happens: each query of the dashboard and each alert
 * rule that are installed has an answer where there is something to see: what the API says.
 * Method: a real Prometheus on loopback asks the executable over TCP with a read token, as the head
 * of the rules says. An array of files with clients, a bad sector, a scrub, a member that fails and
 * a rebuild; then every query that is in the files, as Grafana would expand it.
 */
import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { binaryPath, Daemon, keepTrack, makeFiles, mustRun } from "../helpers/daemon.ts";
import { listeningPortOf } from "../helpers/listening-port.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const CAN_RUN = needs("libaio", "direct-io", "prometheus");
const NEEDS = "[needs libaio, direct-io, prometheus]";
const MEMBER_BYTES = 96 * MIB;
const SLOW = MIB;
const FAST = 2 ** 30;
const TOKEN = "read-token-0123456789abcdef";

interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: number;
}

interface Rule {
  readonly alert: string;
  readonly expr: string;
}

interface Panel {
  readonly title: string;
  readonly targets: readonly { readonly expr: string }[];
}

/** Panels and rules that are empty in this story, and why. */
const EMPTY: Readonly<Record<string, string>> = {
  "Members: suspect, or read around": "one bad sector makes no suspect",
  "Disks: temperature": "a file says nothing of its health",
  "Disks: sectors by SMART": "a file says nothing of its health",
  "Disks: life": "a file says nothing of its health",
  ParitydAbsent: "it is there",
  ParitydGone: "it is there",
  ParitydArrayUnusable: "it serves",
  ParitydArrayReadOnly: "it takes writes",
  ParitydLostBytes: "what could not be read was rewritten from parity",
  ParitydScrubMismatch: "the scrub found none",
  ParitydMemberSuspect: "one bad sector makes no suspect",
  ParitydMemberAvoided: "all are as slow",
  ParitydSectorsRepaired: "it was one",
  ParitydSpareUnusable: "no spare is shared",
  ParitydScrubFailed: "there is no schedule",
  ParitydScrubOverdue: "there is no schedule",
  ParitydScrubMissed: "there is no schedule",
  ParitydStateNotRecorded: "state.db takes all",
  ParitydAlertsLost: "the program takes all",
  ParitydDiskFailing: "a file says nothing of its health",
  ParitydNotAttached: "no export is to be attached",
};
/** By where the files lie: on one disk, or on none that the host can name. */
const EITHER: ReadonlySet<string> = new Set(["ParitydMembersShareDisk"]);

/** A Prometheus that asks one daemon each second. */
class Prometheus {
  private readonly url: string;

  private constructor(port: number) {
    this.url = `http://127.0.0.1:${port}`;
  }

  static async start(folder: string, port: number, rules: string): Promise<Prometheus> {
    mkdirSync(folder);
    writeFileSync(join(folder, "token"), `${TOKEN}\n`, { mode: 0o400 });
    const config = {
      global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
      rule_files: [rules],
      scrape_configs: [
        {
          job_name: "parityd",
          authorization: { credentials_file: join(folder, "token") },
          static_configs: [{ targets: [`127.0.0.1:${port}`] }],
        },
      ],
    };
    writeFileSync(join(folder, "prometheus.yml"), JSON.stringify(config));
    const child = keepTrack(
      Bun.spawn(
        [
          ...[toolPath("prometheus")!, "--config.file", join(folder, "prometheus.yml")],
          ...["--storage.tsdb.path", join(folder, "data"), "--web.listen-address", "127.0.0.1:0"],
        ],
        { stdin: "ignore", stdout: "ignore", stderr: Bun.file(join(folder, "log")), cwd: folder },
      ),
    );
    await until("it listens", () => {
      assert(child.exitCode === null, `it runs: ${readFileSync(join(folder, "log"), "utf8")}`);
      return listeningPortOf(child.pid) !== 0;
    });
    const prometheus = new Prometheus(listeningPortOf(child.pid));
    await until("it is ready", async () => (await fetch(`${prometheus.url}/-/ready`)).ok);
    return prometheus;
  }

  async get(path: string) {
    const answer = await fetch(`${this.url}/api/v1/${path}`);
    const { status, data, error } = (await answer.json()) as Record<string, never>;
    expect([path, status, error]).toEqual([path, "success", undefined]);
    return data as never;
  }

  async query(expression: string): Promise<Sample[]> {
    const { resultType, result } = await this.get(`query?query=${encodeURIComponent(expression)}`);
    expect([expression, resultType]).toEqual([expression, "vector"]);
    return (result as { metric: Record<string, string>; value: [number, string] }[]).map(
      ({ metric, value }) => ({ metric, value: Number(value[1]) }),
    );
  }

  /** The value of a query that has one. */
  async value(expression: string): Promise<number | undefined> {
    const samples = await this.query(expression);
    expect([expression, samples.length <= 1]).toEqual([expression, true]);
    return samples[0]?.value;
  }

  /** Waits until an expression has this value: it asks each second. */
  async reaches(expression: string, value: number): Promise<void> {
    await until(`${expression} is ${value}`, async () => (await this.value(expression)) === value);
  }
}

/** As Grafana does it for "All" of a variable of several values. */
async function expanded(prometheus: Prometheus, dashboard: Dashboard, expr: string) {
  let text = expr;
  for (const { name, query } of dashboard.templating.list) {
    const [, series, label] = /^label_values\((\w+), (\w+)\)$/.exec(query) ?? [];
    if (series === undefined) continue;
    const values = await prometheus.get(`label/${label}/values?match[]=${series}`);
    expect(values).toEqual(["tank"] as never);
    text = text.replaceAll(`$${name}`, `(${(values as string[]).join("|")})`);
  }
  expect(text).not.toContain("$");
  return text;
}

interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { name: string; query: string }[] };
}

describe.skipIf(!CAN_RUN)("prometheus", () => {
  test(`dashboard and rules: each query has what it is to have ${NEEDS}`, async () => {
    const folder = makeTempDir("prometheus");
    mkdirSync(join(folder, "state"));
    const tokens = `read ${TOKEN} prometheus\n`;
    writeFileSync(join(folder, "state", "api-token"), tokens, { mode: 0o400 });
    const program = join(folder, "tell");
    writeFileSync(program, "#!/bin/sh\nexec cat >/dev/null\n", { mode: 0o700 });
    const config = join(folder, "config.toml");
    writeFileSync(
      config,
      `apiTcp = "127.0.0.1:0"\nonEvent = "${program}"\nonEventLeast = "info"\n`,
    );
    const daemon = await Daemon.start(folder, {
      flags: ["--config", config, "--allow-fault-injection"],
    });
    const installed = join(folder, "installed");
    await mustRun([binaryPath(), "install-files", "--prefix", installed]);
    const rulesPath = join(installed, "share/parityd/prometheus-rules.yaml");
    const port = listeningPortOf(daemon.child.pid);
    const prometheus = await Prometheus.start(join(folder, "prometheus"), port, rulesPath);
    await prometheus.reaches('up{job="parityd"}', 1);

    const drives = await daemon.addDrives(makeFiles(folder, 4, MEMBER_BYTES));
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives: drives.slice(0, 3) });
    await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
    await daemon.settle("tank");
    const client = await daemon.connect("tank");
    const data = randomBytes(1, 4 * MIB);
    await mustWrite(client, 0, data);
    const fault = { drive: "drive0", op: "read", errno: "EIO", untilWritten: true };
    await daemon.must("POST", "/v1/faults", { ...fault, offset: 2 * MIB, bytes: 4 * KIB });
    // Between two looks, so that the first sample of these errors is the last.
    const lookedAt = () => prometheus.value('timestamp(up{job="parityd"})');
    const before = await lookedAt();
    await until("it has just looked", async () => (await lookedAt()) !== before);
    const scrub = await daemon.must("POST", "/v1/arrays/tank/scrub?wait=300", { mode: "check" });
    expect(scrub.state).toBe("done");
    await prometheus.reaches("sum(parityd_sectors_repaired_total)", 8);

    await daemon.must("PATCH", "/v1/arrays/tank", { syncSpeedMin: SLOW, syncSpeedMax: SLOW });
    await daemon.must("POST", "/v1/arrays/tank/members/drive1/fail", {});
    await daemon.must("POST", "/v1/arrays/tank/members", { drive: "drive3" });
    // Of a rate there must be two samples: the clients go on until each has been asked of twice.
    await until("requests are seen", async () => {
      await mustWrite(client, 4 * MIB, data);
      await expectData(client, 0, data);
      expect(await client.read(client.sizeBytes, 512)).toMatchObject({ ok: false });
      const rate = await prometheus.query("rate(parityd_nbd_requests_total[5m]) > 0");
      return ["read", "write", "flush"].every((op) =>
        rate.some(({ metric }) => metric["op"] === op),
      );
    });
    await prometheus.reaches('parityd_array_members{state="rebuilding"}', 1);

    const dashboard: Dashboard = JSON.parse(
      readFileSync(join(installed, "share/parityd/grafana-dashboard.json"), "utf8"),
    );
    const { groups } = Bun.YAML.parse(readFileSync(rulesPath, "utf8")) as {
      groups: { rules: Rule[] }[];
    };
    const asked = [
      ...dashboard.panels.map(({ title, targets }) => ({
        title,
        expressions: targets.map(({ expr }) => expr),
      })),
      ...groups[0]!.rules.map(({ alert, expr }) => ({ title: alert, expressions: [expr] })),
    ];
    expect(Object.keys(EMPTY).filter((name) => !asked.some(({ title }) => title === name))).toEqual(
      [],
    );
    const wrong: string[] = [];
    for (const { title, expressions } of asked) {
      let count = 0;
      for (const expression of expressions) {
        const samples = await prometheus.query(await expanded(prometheus, dashboard, expression));
        count += samples.length;
        // A quantile of nothing is NaN: somebody has done something.
        const isSeen = samples.length === 0 || samples.some(({ value }) => Number.isFinite(value));
        if (!isSeen) wrong.push(`${title}: ${expression}: only NaN`);
      }
      if (EITHER.has(title)) continue;
      if ((count === 0) !== title in EMPTY) wrong.push(`${title}: ${count} series`);
    }
    expect(wrong).toEqual([]);
    await until("the rules are evaluated", async () => {
      const { groups: found } = await prometheus.get("rules");
      const states = (found as { rules: { health: string }[] }[])[0]!.rules.map(
        ({ health }) => health,
      );
      expect(states).not.toContain("err");
      return states.every((health) => health === "ok");
    });

    // What is said is what the API says: nothing moves any more but the rebuild.
    await client.disconnect();
    await prometheus.reaches('parityd_nbd_connections{export="tank"}', 0);
    const array = await daemon.must("GET", "/v1/arrays/tank");
    const total = async (expression: string) => prometheus.value(`sum(${expression})`);
    expect(await total("parityd_array_size_bytes")).toBe(array.sizeBytes);
    expect(await total("parityd_array_degraded")).toBe(array.degraded);
    expect(await total('parityd_array_state{state="degraded"}')).toBe(1);
    expect(await total('parityd_array_sync_bytes{action="rebuild"}')).toBe(array.sync.totalBytes);
    expect(await total("parityd_array_last_scrub_timestamp_seconds")).toBe(
      Date.parse(array.lastScrub.finishedAt) / 1_000,
    );
    expect(await total("parityd_array_scrub_mismatch_bytes")).toBe(0);
    const [first] = array.members;
    expect(first.errorsByOp).toEqual({ read: { EIO: expect.any(Number) } });
    expect(await total('parityd_member_errors_total{role="0",op="read",kind="EIO"}')).toBe(
      first.errorsByOp.read.EIO,
    );
    expect(await total('parityd_nbd_request_seconds_count{op="write"}')).toBe(
      (await total('parityd_nbd_requests_total{op="write",error="none"}'))!,
    );

    await daemon.must("PATCH", "/v1/arrays/tank", { syncSpeedMin: FAST, syncSpeedMax: FAST });
    expect(await daemon.settle("tank")).toMatchObject({ degraded: 0 });
    await prometheus.reaches("parityd_array_degraded", 0);
    // Marked clean: nothing is written by itself any more.
    await daemon.calmDown("tank");
    const { members } = await daemon.must("GET", "/v1/arrays/tank");
    const io = members.map((member: { io: { writes: number } }) => member.io.writes);
    for (const role of [0, 1, 2]) {
      await prometheus.reaches(`parityd_member_io_total{role="${role}",op="write"}`, io[role]);
    }
    const isAlerted = async () =>
      (await prometheus.query("ALERTS{alertname='ParitydArrayDegraded'}")).length > 0;
    await until("the alert is over", async () => !(await isAlerted()));
    expect(await daemon.stop()).toBe(0);
    await prometheus.reaches('up{job="parityd"}', 0);
  });
});
