/**
 * What a person sees of a running drill: a line for each thing that happened, with the time since
 * the start, and on a terminal a progress bar below.
 */
import type { CliHost } from "../host.ts";
import { progressBar } from "../progress.ts";

const REDRAW_MS = 100;

export class Timeline {
  private readonly host: CliHost;
  private readonly toStderr: boolean;
  private readonly nowMs: () => number;
  private readonly startMs: number;
  private drawnMs = Number.NEGATIVE_INFINITY;

  /** `toStderr` keeps stdout for a document. */
  constructor(host: CliHost, { toStderr, nowMs }: { toStderr: boolean; nowMs: () => number }) {
    this.host = host;
    this.toStderr = toStderr;
    this.nowMs = nowMs;
    this.startMs = nowMs();
  }

  note(text: string): void {
    this.clear();
    const seconds = ((this.nowMs() - this.startMs) / 1_000).toFixed(1).padStart(6);
    const line = `${seconds} s  ${text}`;
    if (this.toStderr) this.host.warn(line);
    else this.host.print(line);
  }

  progress(label: string, state: { done: number; total: number }, detail = ""): void {
    if (!this.host.isTerminal) return;
    const nowMs = this.nowMs();
    if (nowMs - this.drawnMs < REDRAW_MS) return;
    this.drawnMs = nowMs;
    this.host.redraw(`          ${label.padEnd(10)} ${progressBar(state)}  ${detail}`);
  }

  clear(): void {
    if (this.host.isTerminal) this.host.redraw("");
  }
}
