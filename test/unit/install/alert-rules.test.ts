/**
 * Goal: each alert rule that is installed fires on what it is for, as soon as it says and no
 * sooner, with words that name what is wrong; and not on what nearly is that.
 * Method: promtool runs the rules over series of the table below, a step a minute. A rule without a
 * line in it, and a line without a rule, fails.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileList } from "../../../src/install/file-list.ts";
import { ALL_COMMANDS } from "../../../src/install/table.ts";
import { runProgram } from "../../helpers/daemon.ts";
import { needs, toolPath } from "../../helpers/needs.ts";
import { makeTempDir } from "../../helpers/temp.ts";

/** Series and their values, in promtool's notation: `1x5` is six ones, `_` no sample. */
type Series = Readonly<Record<string, string>>;

interface RuleCase {
  readonly fires: Series;
  /** From when on, in minutes: one before it does not. */
  readonly afterMinutes: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly summary: string;
  /** Where it holds what is of the series; else it is as in the file. */
  readonly description?: string;
  /** What does not fire, and why; from this minute on, 0 where it is not said. */
  readonly nearlyFromMinutes?: number;
  readonly nearly: Readonly<Record<string, Series>>;
}

const HOST = 'instance="nas:8080"';
const TANK = { instance: "nas:8080", array: "tank" };
const HOUR = 60;
const DAY = 24 * HOUR;

function ofTank(name: string, labels = ""): string {
  return `parityd_${name}{${HOST},array="tank"${labels === "" ? "" : `,${labels}`}}`;
}

const DEGRADED = ofTank("array_degraded");
const SPARES = ofTank("array_spares");
const ERRORS = ofTank("member_errors_total", 'role="1",op="read",kind="EIO"');
const REPAIRED = ofTank("sectors_repaired_total", 'role="1"');
const ATTACHED = `parityd_export_attached{${HOST},export="disk",device="/dev/nbd0"}`;
const BUILD = `parityd_build_info{${HOST}}`;
const OTHER_BUILD = 'parityd_build_info{instance="other:8080"}';

function state(name: string): string {
  return ofTank("array_state", `state="${name}"`);
}

const CASES: Readonly<Record<string, RuleCase>> = {
  ParitydAbsent: {
    fires: { 'up{job="parityd"}': "0x10" },
    ...{ afterMinutes: 5, labels: {}, summary: "No parityd is seen" },
    nearly: { "one of two answers": { [OTHER_BUILD]: "1x20" } },
  },
  ParitydGone: {
    fires: { [BUILD]: "1x9 _x60", [OTHER_BUILD]: "1x80" },
    // A series that is not scraped is stale after five minutes, and the rule waits five more.
    ...{ afterMinutes: 20, labels: { instance: "nas:8080" } },
    summary: "nas:8080 does not answer with the metrics of parityd any more",
    nearly: {
      "a restart": { [BUILD]: "1x9 _x5 1x20" },
      "another version": {
        [`parityd_build_info{${HOST},version="1"}`]: "1x9 stale",
        [`parityd_build_info{${HOST},version="2"}`]: "_x9 1x30",
      },
    },
  },
  ParitydArrayUnusable: {
    fires: { [state("failed")]: "1x5", [state("clean")]: "0x5" },
    ...{ afterMinutes: 1, labels: { ...TANK, state: "failed" } },
    summary: "Array tank is failed",
    nearly: { "states that serve": { [state("degraded")]: "1x60", [state("failed")]: "0x60" } },
  },
  ParitydArrayReadOnly: {
    fires: { [state("read-only")]: "1x20" },
    ...{ afterMinutes: 10, labels: { ...TANK, state: "read-only" } },
    summary: "Array tank takes no writes",
    nearly: { "for a moment": { [state("read-only")]: "1x8 0x60" } },
  },
  ParitydArrayDegraded: {
    fires: { [DEGRADED]: "1x5" },
    ...{ afterMinutes: 1, labels: TANK, summary: "Array tank runs without 1 of its members" },
    nearly: { "all are there": { [DEGRADED]: "0x60" } },
  },
  ParitydDegradedWithoutSpare: {
    fires: { [DEGRADED]: "1x9", [SPARES]: "0x9" },
    ...{ afterMinutes: 5, labels: TANK },
    summary: "Array tank is degraded, and nothing can take the place",
    nearly: {
      "a spare is there": { [DEGRADED]: "1x60", [SPARES]: "1x60" },
      "no spare, and none needed": { [DEGRADED]: "0x60", [SPARES]: "0x60" },
      "the array without a spare is another": {
        [DEGRADED]: "1x60",
        [SPARES]: "1x60",
        [`parityd_array_spares{${HOST},array="pool"}`]: "0x60",
      },
      "the host without a spare is another": {
        [DEGRADED]: "1x60",
        [SPARES]: "1x60",
        'parityd_array_spares{instance="other:8080",array="tank"}': "0x60",
      },
    },
  },
  ParitydLostBytes: {
    fires: { [ofTank("array_lost_bytes")]: "0 4096" },
    ...{ afterMinutes: 1, labels: TANK, summary: "Array tank has lost 4kiB" },
    nearly: { "none is lost": { [ofTank("array_lost_bytes")]: "0x60" } },
  },
  ParitydScrubMismatch: {
    fires: { [ofTank("array_scrub_mismatch_bytes")]: "0 8192" },
    ...{ afterMinutes: 1, labels: TANK, summary: "Parity of tank does not match in 8kiB" },
    nearly: { "it matches": { [ofTank("array_scrub_mismatch_bytes")]: "0x60" } },
  },
  ParitydMemberSuspect: {
    fires: { [ofTank("member_suspect", 'role="1",reason="late-reads"')]: "0 1" },
    ...{ afterMinutes: 1, labels: { ...TANK, role: "1", reason: "late-reads" } },
    summary: "Member 1 of tank is likely to fail",
    description: "By its late-reads. `parityd member replace` copies it while it serves.",
    nearly: { "it is not": { [ofTank("member_suspect", 'role="1",reason="late-reads"')]: "0x60" } },
  },
  ParitydMemberAvoided: {
    fires: { [ofTank("member_avoided", 'role="1"')]: "1x15" },
    ...{ afterMinutes: 10, labels: { ...TANK, role: "1" } },
    summary: "Member 1 of tank is far slower than its peers",
    nearly: { "for a while": { [ofTank("member_avoided", 'role="1"')]: "1x8 0x60" } },
  },
  ParitydMemberErrors: {
    // The first error that there ever was: no sample stands before it.
    fires: { [ERRORS]: "_ _ 1x100" },
    ...{ afterMinutes: 2, labels: { ...TANK, role: "1" } },
    summary: "Member 1 of tank has answered with errors",
    nearlyFromMinutes: HOUR,
    nearly: { "in the hour before": { [ERRORS]: `7x${3 * HOUR}` } },
  },
  ParitydSectorsRepaired: {
    fires: { [REPAIRED]: `0x${DAY - 1} 70x9` },
    ...{ afterMinutes: DAY, labels: { ...TANK, role: "1" } },
    summary: "Member 1 of tank had 70 sectors rewritten",
    nearly: { "64 in a day": { [REPAIRED]: `0x${DAY / 2} 64x${DAY}` } },
  },
  ParitydSpareUnusable: {
    fires: { [`parityd_spares{${HOST},state="missing"}`]: "2x9" },
    ...{ afterMinutes: 5, labels: { instance: "nas:8080", state: "missing" } },
    summary: "2 shared spares are missing",
    nearly: {
      "spares that are ready": {
        [`parityd_spares{${HOST},state="ready"}`]: "2x60",
        [`parityd_spares{${HOST},state="missing"}`]: "0x60",
      },
    },
  },
  ParitydScrubFailed: {
    fires: { [ofTank("schedule_last_result", 'result="lost"')]: "0 1" },
    ...{ afterMinutes: 1, labels: { ...TANK, result: "lost" } },
    summary: "The last scrub of tank ended as lost",
    nearly: {
      "somebody ended it": { [ofTank("schedule_last_result", 'result="cancelled"')]: "1x9" },
    },
  },
  ParitydScrubOverdue: {
    fires: { [ofTank("schedule_due")]: `1x${3 * DAY}` },
    ...{ afterMinutes: 2 * DAY, labels: TANK },
    summary: "The last scrub of tank is older than its schedule lets it become",
    nearly: { "the next night did it": { [ofTank("schedule_due")]: `1x${DAY} 0x${3 * DAY}` } },
  },
  ParitydScrubMissed: {
    fires: { [ofTank("schedule_missed")]: `1x${2 * DAY}` },
    ...{ afterMinutes: DAY, labels: TANK },
    summary: "A window for a scrub of tank went by unused",
    nearly: { "made up for": { [ofTank("schedule_missed")]: `1x${DAY / 2} 0x${2 * DAY}` } },
  },
  ParitydStateNotRecorded: {
    fires: { [`parityd_state_recording{${HOST}}`]: "0x9" },
    ...{ afterMinutes: 5, labels: { instance: "nas:8080" }, summary: "state.db takes nothing" },
    description: "nas:8080: arrays go on; what changes is refused or waits.",
    nearly: { "it was locked": { [`parityd_state_recording{${HOST}}`]: "0x3 1x60" } },
  },
  ParitydAlertsLost: {
    fires: { [`parityd_alerts_dropped_total{${HOST},via="webhook1"}`]: "0x59 6x60" },
    ...{ afterMinutes: HOUR, labels: { instance: "nas:8080", via: "webhook1" } },
    summary: "6 events did not go out by webhook1: too many waited",
    nearly: {
      "long ago": { [`parityd_alerts_dropped_total{${HOST},via="webhook1"}`]: `3x${3 * HOUR}` },
    },
  },
  ParitydDiskFailing: {
    fires: { [`parityd_drive_smart_failing{${HOST},drive="drive1"}`]: "0 1" },
    ...{ afterMinutes: 1, labels: { instance: "nas:8080", drive: "drive1" } },
    summary: "The disk of drive drive1 says that it is failing",
    description: "nas:8080: replace it while it serves: parityd member replace",
    nearly: { "it is well": { [`parityd_drive_smart_failing{${HOST},drive="drive1"}`]: "0x60" } },
  },
  ParitydMembersShareDisk: {
    fires: { [ofTank("array_shared_disks")]: "0 1" },
    ...{ afterMinutes: 1, labels: TANK },
    summary: "Members of tank lie on one disk, which would take them all",
    nearly: { "each its own": { [ofTank("array_shared_disks")]: "0x60" } },
  },
  ParitydNotAttached: {
    fires: { [ATTACHED]: "1 0x60" },
    ...{ afterMinutes: 6, labels: { instance: "nas:8080", export: "disk", device: "/dev/nbd0" } },
    summary: "Export disk is not attached to /dev/nbd0",
    description: "nas:8080: its array does not run, or the event says why.",
    nearly: { attached: { [ATTACHED]: "1x60" }, "at a start": { [ATTACHED]: "0x4 1x60" } },
  },
};

interface Rule {
  readonly alert: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

function rulesText(): string {
  const list = { prefix: "/usr", executable: "/tmp/parityd", table: ALL_COMMANDS, version: "1" };
  const file = fileList(list).find(({ path }) => path.endsWith("prometheus-rules.yaml"));
  return file?.content as string;
}

function rules(): Rule[] {
  const { groups } = Bun.YAML.parse(rulesText()) as { groups: { rules: Rule[] }[] };
  return groups.flatMap((group) => group.rules);
}

function series(all: Series): object[] {
  return Object.entries(all).map(([name, values]) => ({ series: name, values }));
}

function testsOf({ alert, labels, annotations }: Rule, each: RuleCase): object[] {
  const { fires, afterMinutes, summary, nearly } = each;
  const { description = annotations["description"] } = each;
  const expected = {
    exp_labels: { ...each.labels, ...labels },
    exp_annotations: { summary, ...(description === undefined ? {} : { description }) },
  };
  const at = (minutes: number, alerts: object[]) => {
    return { eval_time: `${minutes}m`, alertname: alert, exp_alerts: alerts };
  };
  const before = afterMinutes === 0 ? [] : [at(afterMinutes - 1, [])];
  const isTold = {
    ...{ interval: "1m", input_series: series(fires) },
    alert_rule_test: [...before, at(afterMinutes, [expected])],
  };
  // Where no sample is left, nothing is there at all: which is for ParitydAbsent alone.
  const untilMinutes = alert === "ParitydAbsent" ? 15 : Math.max(30, 2 * afterMinutes);
  const { nearlyFromMinutes = 0 } = each;
  const moments = [1, 2, 5, 10, 15, 30, HOUR, 2 * HOUR, DAY - 1, DAY, DAY + 1, 2 * DAY, 3 * DAY]
    .map((minutes) => minutes + nearlyFromMinutes)
    .filter((minutes) => minutes <= untilMinutes + nearlyFromMinutes);
  const quiet = Object.values(nearly).map((others) => ({
    ...{ interval: "1m", input_series: series(others) },
    alert_rule_test: moments.map((minutes) => at(minutes, [])),
  }));
  return [isTold, ...quiet];
}

test("alert rules: each has its cases, and is of a severity that is known", () => {
  expect(rules().map(({ alert }) => alert)).toEqual(Object.keys(CASES));
  for (const { labels } of rules()) {
    expect(["info", "warning", "critical"]).toContain(labels["severity"]!);
  }
  for (const { nearly } of Object.values(CASES)) expect(Object.keys(nearly)).not.toEqual([]);
});

test.skipIf(!needs("prometheus"))(
  "alert rules: fire on what they are for, then, and on nothing near it [needs prometheus]",
  async () => {
    const folder = makeTempDir("rules");
    writeFileSync(join(folder, "rules.yaml"), rulesText());
    const tests = rules().flatMap((rule) => testsOf(rule, CASES[rule.alert]!));
    // JSON is YAML.
    const document = { rule_files: ["rules.yaml"], evaluation_interval: "1m", tests };
    const path = join(folder, "tests.yaml");
    writeFileSync(path, JSON.stringify(document, null, 1));
    const promtool = toolPath("promtool")!;
    const { exitCode, stdout, stderr } = await runProgram([promtool, "test", "rules", path]);
    expect({ exitCode, said: stdout + stderr }).toEqual({
      exitCode: 0,
      said: expect.stringContaining("SUCCESS"),
    });
  },
);
