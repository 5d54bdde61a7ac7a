/** What a reactor counts and times, for whoever watches from outside. */
import type { LatencyCounts } from "../base/latency-histogram.ts";

/** Of a member, since its drive was opened. */
export interface MemberLatency {
  readonly array: string;
  readonly role: number;
  readonly op: "read" | "write" | "flush";
  readonly times: LatencyCounts;
}

/** Of requests of NBD clients that were answered, since the export was made. */
export interface ExportLatency {
  readonly export: string;
  /** As in NbdAnswerCount. */
  readonly op: string;
  readonly times: LatencyCounts;
}

export interface LatencyReport {
  readonly members: readonly MemberLatency[];
  readonly exports: readonly ExportLatency[];
  /** Turns of the reactor, less their waits: nobody else gets one meanwhile. */
  readonly turns: LatencyCounts;
  /** Requests that drives have not answered. */
  readonly requestsToDrives: number;
}

/** Requests of NBD clients that were answered, since the export was made. */
export interface NbdAnswerCount {
  readonly export: string;
  /** "read", "write", "write_zeroes", or "unknown". */
  readonly op: string;
  /** "none", or the name of the errno. */
  readonly error: string;
  readonly count: number;
}

export interface NbdStats {
  /** Those without an export yet among them. */
  readonly connections: number;
  readonly answers: readonly NbdAnswerCount[];
  readonly payloadPoolBytes: number;
  readonly payloadPoolFreeBytes: number;
}
