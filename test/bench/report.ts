/** The result of a benchmark as Markdown: rates, latencies, what members moved; and as JSON. */
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { toolPath } from "../helpers/needs.ts";
import type { LeftOut } from "./bench.ts";
import type { Percentiles, Row, Summary } from "./statistics.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMib: number;
  readonly kernel: string;
  readonly bun: string;
  readonly tools: Readonly<Record<string, string>>;
}

/** Load averages (1, 5, 15 minutes) and what else could run, at the start and at the end. */
export interface Load {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

export interface Report {
  readonly mode: string;
  readonly machine: Machine;
  readonly load: Load;
  readonly rows: readonly Row[];
  readonly leftOut: readonly LeftOut[];
  readonly failures: readonly LeftOut[];
}

function versionOf(tool: string): string {
  const path = toolPath(tool);
  if (path === undefined) return "none";
  const { stdout } = Bun.spawnSync([path, "--version"], { stdin: "ignore" });
  return /\d+(\.\d+)+/.exec(stdout.toString())?.[0] ?? "unknown";
}

export function describeMachine(): Machine {
  const all = cpus();
  const model = /^model name\s*:\s*(.+)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  const tools = ["fio", "nbdkit", "qemu-nbd", "nbdcopy"];
  return {
    cpu: model ?? all[0]?.model ?? "unknown",
    cores: all.length,
    memoryMib: Math.round(totalmem() / 1024 / 1024),
    kernel: release(),
    bun: Bun.version,
    tools: Object.fromEntries(tools.map((tool) => [tool, versionOf(tool)])),
  };
}

export function currentLoad(): readonly number[] {
  return loadavg().map((value) => Math.round(value * 100) / 100);
}

/** Three digits that count: 1234567 -> "1235k", 0.01234 -> "0.0123". */
export function formatNumber(value: number): string {
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (magnitude >= 10_000_000) return `${(value / 1e6).toFixed(1)}M`;
  if (magnitude >= 10_000) return `${(value / 1e3).toFixed(0)}k`;
  if (magnitude >= 100) return value.toFixed(0);
  if (magnitude >= 1) return value.toPrecision(3);
  return magnitude < 0.001 ? value.toExponential(1) : value.toPrecision(3);
}

function formatSummary({ median, min, max }: Summary): string {
  if (min === max) return formatNumber(median);
  return `${formatNumber(median)} (${formatNumber(min)} to ${formatNumber(max)})`;
}

export function formatTarget({ target, better }: Row): string {
  if (target === null) return "";
  return `${better === "higher" ? "≥" : "≤"} ${target}`;
}

const HEAD = ["Row", "Unit", "parityd", "Reference", "", "Ratio", "Target", "OK"];

export function cells(row: Row): string[] {
  const verdict = row.ok === null ? "" : row.ok ? "yes" : "**no**";
  return [
    row.name,
    row.unit,
    formatSummary(row.ours),
    row.reference.name,
    formatSummary(row.reference),
    row.ratio.toFixed(2),
    formatTarget(row),
    verdict,
  ];
}

const LATENCY_HEAD = ["µs: p50 / p99 / p99.9", "parityd", "Reference", ""];

function formatPercentiles({ p50, p99, p999 }: Percentiles): string {
  return [p50, p99, p999].map(formatNumber).join(" / ");
}

/** None where no latencies were taken. */
export function latencyCells({ name, reference, latencyMicros }: Row): string[] {
  if (latencyMicros === undefined) return [];
  const { ours, reference: theirs } = latencyMicros;
  return [name, formatPercentiles(ours), reference.name, formatPercentiles(theirs)];
}

function latencyTable(rows: readonly Row[]): string[] {
  const lines = rows.map(latencyCells).filter((words) => words.length > 0);
  if (lines.length === 0) return [];
  return ["", line(LATENCY_HEAD), line(["---", "--:", "---", "--:"]), ...lines.map(line)];
}

const MOVED_HEAD = ["Members, for each byte written", "Read", "Written", "Full stripes"];

function movedTable(rows: readonly Row[]): string[] {
  const lines = rows.flatMap(({ name, moved }) => {
    if (moved === undefined) return [];
    const { readPerByte, writtenPerByte, fullStripes } = moved;
    const bytes = [readPerByte, writtenPerByte].map((value) => value.toFixed(2));
    return [[name, ...bytes, `${Math.round(fullStripes * 100)} %`]];
  });
  if (lines.length === 0) return [];
  return ["", line(MOVED_HEAD), line(["---", "--:", "--:", "--:"]), ...lines.map(line)];
}

function line(words: readonly string[]): string {
  return `| ${words.join(" | ")} |`;
}

export function toMarkdown(report: Report): string {
  const { machine, load, rows, leftOut, failures, mode } = report;
  const tools = Object.entries(machine.tools).map(([name, version]) => `${name} ${version}`);
  const lines = [
    `parityd benchmark (${mode}): medians (least to most), ratio = parityd / reference`,
    "",
    `- Machine: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryMib} MiB, ` +
      `Linux ${machine.kernel}, Bun ${machine.bun}, ${tools.join(", ")}`,
    `- Load average: ${load.before.join(" ")} before, ${load.after.join(" ")} after`,
    "",
    line(HEAD),
    line(HEAD.map((_, index) => (index === 2 || index >= 4 ? "--:" : "---"))),
    ...rows.map((row) => line(cells(row))),
    ...latencyTable(rows),
    ...movedTable(rows),
  ];
  const judged = rows.filter(({ ok }) => ok !== null);
  const met = judged.filter(({ ok }) => ok).length;
  lines.push("", `${met} of ${judged.length} targets met.`);
  for (const { name, reason } of leftOut) lines.push(`Left out: ${name}: ${reason}.`);
  for (const { name, reason } of failures) lines.push(`FAILED: ${name}: ${reason}`);
  return `${lines.join("\n")}\n`;
}

export function toJson(report: Report): string {
  return `${JSON.stringify(report, null, 2)}\n`;
}
