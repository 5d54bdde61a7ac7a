/**
 * The faults that are injected below the array while it rebuilds, and the proof that the array met
 * them. Every one of them is to be survived without a trace but a counter.
 *
 * | kind        | injected as                                  | seen in errorKinds as    |
 * |-------------|----------------------------------------------|--------------------------|
 * | EAGAIN      | io_submit refuses                            | EAGAIN                   |
 * | EINTR       | a completion                                 | EINTR                    |
 * | short-read  | less than a row moved, or one row            | short                    |
 * | short-write | one row moved                                | short                    |
 * | EIO-cured   | one completion; the second try goes well     | EIO                      |
 * | slow        | every eighth answer of one member comes late | (only in its own count)  |
 *
 * They lie in the data region alone, and hit one request in `every`, so they spread over the whole
 * rebuild. An EIO rule hits once and is posted again and again: two hits on one request in a row
 * would be another fault than the one meant.
 */
import type { MemberStatus } from "../../array/protocol.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import type { FaultRequest, FaultView } from "./drill-api.ts";

export const FAULT_KINDS = [
  "EAGAIN",
  "EINTR",
  "short-read",
  "short-write",
  "EIO-cured",
  "slow",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];
export type FaultCounts = Record<FaultKind, number>;

export interface PlannedFault {
  readonly kind: FaultKind;
  readonly request: FaultRequest;
}

const SLOW_MS = 40;

/** Answers of the daemon's `errorKinds` that prove a kind; slow requests are no errors. */
const SEEN_AS: Readonly<Record<string, readonly FaultKind[]>> = {
  EAGAIN: ["EAGAIN"],
  EINTR: ["EINTR"],
  short: ["short-read", "short-write"],
  EIO: ["EIO-cured"],
};

/** `sources` are the members that are read (two or more), `target` the one that is written. */
export function planFaults(options: {
  sources: readonly string[];
  target: string;
  dataOffsetBytes: number;
}): PlannedFault[] {
  const { sources, target, dataOffsetBytes: offset } = options;
  const [first, second] = sources as readonly [string, string];
  const read = { op: "read", at: "completion", offset } as const;
  const write = { op: "write", at: "completion", offset } as const;
  const oneRow = { resultBytes: ROW_BYTES };
  return [
    {
      kind: "EAGAIN",
      request: { ...read, drive: first, at: "submit", errno: "EAGAIN", every: 29 },
    },
    {
      kind: "EAGAIN",
      request: { ...write, drive: target, at: "submit", errno: "EAGAIN", every: 23 },
    },
    { kind: "EINTR", request: { ...read, drive: second, errno: "EINTR", every: 31 } },
    { kind: "EINTR", request: { ...write, drive: target, errno: "EINTR", every: 37 } },
    { kind: "short-read", request: { ...read, drive: first, ...oneRow, every: 41 } },
    {
      kind: "short-read",
      request: { ...read, drive: second, resultBytes: SECTOR_BYTES, every: 47 },
    },
    { kind: "short-write", request: { ...write, drive: target, ...oneRow, every: 43 } },
    { kind: "short-write", request: { ...write, drive: second, ...oneRow, every: 53 } },
    {
      kind: "slow",
      request: { drive: second, op: "any", at: "completion", offset, delayMs: SLOW_MS, every: 8 },
    },
  ];
}

/** The EIO of round `round`: on each side in turn. */
export function planCuredError(options: {
  round: number;
  sources: readonly string[];
  target: string;
  dataOffsetBytes: number;
}): PlannedFault {
  const { round, sources, target, dataOffsetBytes: offset } = options;
  const common = { at: "completion", errno: "EIO", count: 1, offset } as const;
  const drive = sources[Math.floor(round / 2) % sources.length]!;
  const request =
    round % 2 === 0
      ? ({ ...common, drive: target, op: "write" } as const)
      : ({ ...common, drive, op: "read" } as const);
  return { kind: "EIO-cured", request };
}

export function noFaults(): FaultCounts {
  const counts = FAULT_KINDS.map((kind) => [kind, 0]);
  return Object.fromEntries(counts) as FaultCounts;
}

/** Keeps how often each posted fault has hit; a rule that is gone keeps its last count. */
export class FaultHarvest {
  private readonly kinds = new Map<number, FaultKind>();
  private readonly injected = new Map<number, number>();

  posted(id: number, kind: FaultKind): void {
    this.kinds.set(id, kind);
  }

  absorb(faults: readonly FaultView[]): void {
    for (const { id, injected } of faults) {
      this.injected.set(id, Math.max(injected, this.injected.get(id) ?? 0));
    }
  }

  counts(): FaultCounts {
    const counts = noFaults();
    for (const [id, kind] of this.kinds) counts[kind] += this.injected.get(id) ?? 0;
    return counts;
  }
}

export type ErrorKinds = ReadonlyMap<string, Readonly<Record<string, number>>>;

/** By drive, so that members that come and go do not mix. */
export function errorKindsOf(members: readonly MemberStatus[]): ErrorKinds {
  const byDrive = new Map<string, Readonly<Record<string, number>>>();
  for (const { drive, errorKinds } of members) if (drive !== null) byDrive.set(drive, errorKinds);
  return byDrive;
}

/** What was injected and is not in the counters of the members, as sentences. */
export function findUnseen(
  injected: FaultCounts,
  { before, after }: { before: ErrorKinds; after: ErrorKinds },
): string[] {
  const unseen: string[] = [];
  for (const [name, kinds] of Object.entries(SEEN_AS)) {
    let counted = 0;
    for (const [drive, now] of after) {
      counted += (now[name] ?? 0) - (before.get(drive)?.[name] ?? 0);
    }
    const due = kinds.reduce((sum, kind) => sum + injected[kind], 0);
    if (counted >= due) continue;
    unseen.push(
      `${due} faults were injected as ${kinds.join(" and ")}, and errorKinds counts ${counted}`,
    );
  }
  return unseen;
}
