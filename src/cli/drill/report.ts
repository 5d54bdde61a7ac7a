/** The verdict, and what is printed at the end. Pure. */
import { formatBytes } from "../../base/units.ts";
import type { PhaseRecord } from "../../nbd/client/load/ledger.ts";
import { renderTable } from "../table-text.ts";
import { FAULT_KINDS, type FaultCounts } from "./faults.ts";

export const DRILL_SCHEMA = "parityd.drill/1";

/** Phases in which clients must have written. */
export const WRITTEN_PHASES = [
  "whole",
  "degraded",
  "rebuild-before-cursor",
  "rebuild-after-cursor",
] as const;

export interface DrillFacts {
  /** True: every step was reached; what is missing then was not met. */
  readonly isComplete: boolean;
  readonly phases: readonly PhaseRecord[];
  readonly faults: FaultCounts;
  readonly retries: number;
  /** The rebuild of the second act, at full speed and without other load. */
  readonly rebuild: { readonly bytes: number; readonly seconds: number };
  /** The first act's: throttled at first, under load and faults. */
  readonly loadedRebuildSeconds: number;
  readonly bytesWritten: number;
  readonly bytesVerified: number;
  readonly failures: readonly string[];
}

export type Verdict = "PASS" | "FAIL";

export interface DrillReport {
  readonly schema: typeof DRILL_SCHEMA;
  readonly verdict: Verdict;
  readonly phases: readonly PhaseRecord[];
  readonly faults: FaultCounts;
  readonly retries: number;
  readonly rebuild: { readonly bytes: number; readonly seconds: number };
  readonly failures: readonly string[];
}

/** A drill in which a phase saw no write, or a fault was not injected, proves too little. */
export function judgeDrill(facts: DrillFacts): DrillReport {
  const failures = [...facts.failures];
  if (facts.isComplete) failures.push(...findGaps(facts));
  else if (failures.length === 0) failures.push("the drill did not come to its end");
  return {
    schema: DRILL_SCHEMA,
    verdict: failures.length === 0 ? "PASS" : "FAIL",
    phases: facts.phases.map((phase) => ({ ...phase, seconds: roundSeconds(phase.seconds) })),
    faults: facts.faults,
    retries: facts.retries,
    rebuild: { bytes: facts.rebuild.bytes, seconds: roundSeconds(facts.rebuild.seconds) },
    failures,
  };
}

function findGaps({ phases, faults, bytesVerified }: DrillFacts): string[] {
  const gaps: string[] = [];
  for (const name of WRITTEN_PHASES) {
    const phase = phases.find((candidate) => candidate.name === name);
    if ((phase?.writesAcknowledged ?? 0) > 0) continue;
    gaps.push(`no write was acknowledged in the phase ${name}`);
  }
  for (const kind of FAULT_KINDS) {
    if (faults[kind] === 0) gaps.push(`no ${kind} was injected during the rebuild`);
  }
  if (bytesVerified === 0) gaps.push("nothing was verified");
  return gaps;
}

function roundSeconds(seconds: number): number {
  return Math.round(seconds * 1_000) / 1_000;
}

export function renderReport(facts: DrillFacts, report: DrillReport): string {
  const { rebuild } = facts;
  const phases = report.phases.map(({ name, seconds, writesAcknowledged, bytesVerified }) => [
    name,
    Number(seconds.toFixed(1)),
    writesAcknowledged,
    formatBytes(bytesVerified),
  ]);
  const faults = FAULT_KINDS.map((kind) => `${kind} ${facts.faults[kind]}`);
  const rate = rebuild.seconds > 0 ? rebuild.bytes / rebuild.seconds : 0;
  const rows = [
    ["written", formatBytes(facts.bytesWritten)],
    ["verified", formatBytes(facts.bytesVerified)],
    ["faults injected", faults.join(", ")],
    ["retries", String(facts.retries)],
    [
      "rebuild",
      `${formatBytes(Math.round(rate))}/s of the member at full speed ` +
        `(${formatBytes(rebuild.bytes)} in ${rebuild.seconds.toFixed(1)} s); ` +
        `${facts.loadedRebuildSeconds.toFixed(1)} s throttled, under load and faults`,
    ],
  ];
  const width = Math.max(...rows.map(([name]) => name!.length));
  return [
    "",
    ...renderTable(["phase", "seconds", "writes", "verified"], phases),
    "",
    ...rows.map(([name, value]) => `${name!.padStart(width)}: ${value}`),
    `${"verdict".padStart(width)}: ${report.verdict === "PASS" ? "PASS: nothing was lost" : "FAIL"}`,
    ...report.failures.map((failure) => `${" ".repeat(width)}  - ${failure}`),
  ].join("\n");
}
