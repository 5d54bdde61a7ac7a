/**
 * `onEvent`: a program that is run once for each alert, which it reads as one line of JSON.
 *
 * One at a time, tests between alerts included. It has a deadline, by which its process group is
 * killed. It is not run again for an alert that it failed at: what it has done by then nobody
 * knows. Its environment holds what is named here and nothing of the daemon's.
 */
import type { Severity } from "../../array/protocol.ts";
import { printable } from "../../base/printable.ts";
import type { Alarms } from "../state/alarms.ts";
import type { Alert, AlertWay, Delivery } from "./alert.ts";

export interface ScriptRun {
  readonly path: string;
  readonly input: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Kills its process group. */
  readonly signal: AbortSignal;
}

/** `output`: the first of what it wrote, on stdout and stderr. */
export type ScriptEnd =
  | { readonly kind: "exited"; readonly code: number; readonly output: string }
  | { readonly kind: "signalled"; readonly signal: string; readonly output: string }
  /** It was killed, and has still not ended. */
  | { readonly kind: "stuck" }
  | { readonly kind: "not-run"; readonly why: string };

/** Runs a program to its end. Never rejects. */
export type RunScript = (run: ScriptRun) => Promise<ScriptEnd>;

const SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface ScriptParts {
  readonly path: string;
  readonly least: Severity;
  readonly timeoutSeconds: number;
  readonly language: string;
  readonly run: RunScript;
  readonly alarms: Alarms;
}

export class Script implements AlertWay {
  readonly via = "onEvent";
  readonly key = "onEvent";
  readonly target: string;
  readonly least: Severity;
  private readonly parts: ScriptParts;
  /** Ends when the run has that was asked for last. */
  private last: Promise<unknown> = Promise.resolve();
  private readonly stopping = new AbortController();

  constructor(parts: ScriptParts) {
    this.parts = parts;
    this.target = parts.path;
    this.least = parts.least;
  }

  deliver(alert: Alert): Promise<Delivery> {
    const delivery = this.last.then(() => this.runFor(alert));
    this.last = delivery;
    return delivery;
  }

  abort(): void {
    this.stopping.abort();
  }

  private async runFor(alert: Alert): Promise<Delivery> {
    const { path, timeoutSeconds, language, run, alarms } = this.parts;
    const late = new AbortController();
    const stopTimer = alarms.after(timeoutSeconds * 1_000, () => late.abort());
    const end = await run({
      path,
      input: `${JSON.stringify(alert)}\n`,
      environment: environmentOf(alert, language),
      signal: AbortSignal.any([late.signal, this.stopping.signal]),
    });
    stopTimer();
    if (this.stopping.signal.aborted) {
      return { kind: "failed", detail: "parityd stops", retryAfterMs: null };
    }
    if (late.signal.aborted && end.kind !== "exited") {
      const still = end.kind === "stuck" ? ", and it has not ended yet" : "";
      const detail = `killed after ${timeoutSeconds} s${still}${outputOf(end)}`;
      return { kind: "refused", detail };
    }
    if (end.kind === "exited" && end.code === 0) return { kind: "arrived", detail: "exit code 0" };
    return { kind: "refused", detail: `${howItEnded(end)}${outputOf(end)}` };
  }
}

function environmentOf(alert: Alert, language: string): Record<string, string> {
  return {
    PATH: SEARCH_PATH,
    LANG: language,
    PARITYD_EVENT_KIND: alert.kind,
    PARITYD_EVENT_SEVERITY: alert.severity,
    PARITYD_EVENT_ARRAY: alert.array,
    PARITYD_EVENT_ID: String(alert.id),
  };
}

function howItEnded(end: ScriptEnd): string {
  switch (end.kind) {
    case "exited":
      return `exit code ${end.code}`;
    case "signalled":
      return `ended by ${end.signal}`;
    case "stuck":
      return "it does not end";
    case "not-run":
      return `it cannot be run: ${end.why}`;
  }
}

function outputOf(end: ScriptEnd): string {
  if (end.kind === "stuck" || end.kind === "not-run" || end.output.trim() === "") return "";
  return `: ${printable(
    end.output
      .trim()
      .split(/\s*\n\s*/)
      .join(" | "),
  )}`;
}
