/**
 * Which members are suspect, so that they can be replaced before they fail, and which one reads had
 * better go around. Pure: one look after the other, each from the counters of the drives as they
 * stand. A suspect is never failed for being one.
 *
 * | reason          | counted over a day                                 | limit (0: never)       |
 * |-----------------|----------------------------------------------------|------------------------|
 * | `write-errors`  | writes answered with an error, each try            | `suspectWriteErrors`   |
 * | `fixed-sectors` | sectors of 512 bytes that were unreadable, and     | `suspectFixedSectors`  |
 * |                 | rewritten from the other members                   |                        |
 * | `late-reads`    | reads that were given up at the read deadline      | `suspectLateReads`     |
 * | `latency`       | seconds in which its reads took                    | SLOW_SECONDS_MAX; none |
 * |                 | `suspectLatencyFactor` times as long as the median | where the factor is 0  |
 * |                 | of its peers, or it did not answer                 |                        |
 *
 * **Crossing.** A limit is crossed when as much has been counted, and that is told once: it counts
 * as crossed until less than half of it is left. A day is the hour that runs and the 23 before it.
 * What a drive did before its first look, as a spare or in the first second, counts as of then.
 *
 * **Latency** is the mean of the latest reads, at least five, over 30 looks at most, without the
 * longest one: a single late answer says nothing. It is compared where all members serve, nothing
 * is resynced or copied, and all peers have been read from too: only then are they asked alike.
 *
 * **Going around.** One member at a time, from the second look in a row at which it takes the
 * factor times as long as the *slowest* of its peers, all of which are asked instead. While reads
 * go around it there is nothing to compare but probes (running/reads-around.ts):
 *
 * | a probe took                                     | it says   | seconds of `latency`        |
 * |--------------------------------------------------|-----------|-----------------------------|
 * | longer than the read deadline, or nothing came   | `slow`    | count                       |
 * | no longer than SLOW_MS                           | `fast`    | do not                      |
 * | longer, and nobody reads from the peers          | `unknown` | do not                      |
 * | half the factor times the slowest peer, or less  | `fast`    | do not                      |
 * | longer than that                                 | `slow`    | count                       |
 */
import { assert } from "../../base/assert.ts";
import { isoTime } from "../../base/time.ts";
import {
  type ArrayTuning,
  SUSPECT_REASONS,
  type SuspectReason,
  type SuspectStatus,
} from "../protocol.ts";

/** Between two looks. */
export const LOOK_MS = 1_000;
/** Five minutes a day. */
export const SLOW_SECONDS_MAX = 300;
/** What is not longer than this is slow beside nobody: a disk that has to seek takes it too. */
export const SLOW_MS = 20;
const HOUR_MS = 3_600_000;
const HOURS = 24;
const READS_MIN = 5;
const LOOKS_MAX = 30;
const PEERS_MIN = 2;
const SLOW_LOOKS_MIN = 2;

export type SuspectLimits = Pick<
  ArrayTuning,
  "suspectWriteErrors" | "suspectFixedSectors" | "suspectLateReads" | "suspectLatencyFactor"
>;

/** As they stand; none ever goes down. */
export interface Counters {
  readonly writeErrors: number;
  readonly fixedSectors: number;
  readonly lateReads: number;
}

/** Of the reads since the last look. */
export interface ReadTimes {
  readonly reads: number;
  readonly sumMs: number;
  readonly longestMs: number;
}

export type ProbeVerdict = "slow" | "fast" | "unknown";

export interface MemberFacts {
  readonly counters: Counters;
  /** Null: its latency is no concern (it is read through the page cache). */
  readonly times: ReadTimes | null;
  /** What the last probe said; null: reads do not go around it. */
  readonly probe: ProbeVerdict | null;
}

type Counts = Readonly<Record<SuspectReason, number>>;

interface HourCounts {
  /** Its number, by the monotonic clock. */
  readonly hour: number;
  readonly counts: Counts;
}

export interface Crossing {
  readonly reason: SuspectReason;
  readonly sinceWallMs: number;
}

/** What is known of a drive. */
export interface Health {
  /** At the last look; all 0 before the first one, as the counters of a drive begin. */
  readonly seen: Counters;
  /** The latest last. */
  readonly hours: readonly HourCounts[];
  readonly looks: readonly ReadTimes[];
  /** In a row, at which it was far slower than all of its peers. */
  readonly slowLooks: number;
  readonly crossings: readonly Crossing[];
}

export const NEW_HEALTH: Health = {
  seen: { writeErrors: 0, fixedSectors: 0, lateReads: 0 },
  hours: [],
  looks: [],
  slowLooks: 0,
  crossings: [],
};

export interface Member {
  readonly health: Health;
  readonly facts: MemberFacts;
}

export interface LookFacts {
  readonly nowMs: number;
  readonly wallMs: number;
  readonly limits: SuspectLimits;
  /** All members serve, and are asked for alike. */
  readonly isComparable: boolean;
}

export interface MemberVerdict {
  readonly health: Health;
  /** Of the latest reads; null: too few. */
  readonly latencyMs: number | null;
  /** Of those that it is compared with; 0: with none. */
  readonly slowestPeerMs: number;
  /** Limits that it has crossed at this look. */
  readonly crossed: readonly SuspectReason[];
  /** It was suspect, and is not any more. */
  readonly isCleared: boolean;
  /** Reads had better go around it. */
  readonly isOutlier: boolean;
}

const NOTHING: Counts = { "write-errors": 0, "fixed-sectors": 0, "late-reads": 0, latency: 0 };

/** One look at all members of an array that serve. */
export function lookAt(members: readonly Member[], look: LookFacts): MemberVerdict[] {
  const windows = members.map(({ health, facts }) => windowOf(health, facts));
  const latencies = windows.map(latencyOf);
  return members.map(({ health, facts }, index) => {
    const latencyMs = latencies[index]!;
    const others = members.flatMap((peer, at) => {
      const isPeer = at !== index && peer.facts.times !== null && peer.facts.probe === null;
      return isPeer ? [latencies[at]!] : [];
    });
    const compared = look.isComparable ? compare(latencyMs, others, look.limits) : NOT_SLOW;
    // A look at which nothing came says neither.
    const isRead = facts.times !== null && facts.times.reads > 0;
    const isSlow = facts.probe === null ? isRead && compared.isSlow : facts.probe === "slow";
    const slowLooks = compared.isSlowest ? health.slowLooks + (isRead ? 1 : 0) : 0;
    const hours = counted(health, { counters: facts.counters, isSlow, nowMs: look.nowMs });
    const crossings = crossingsOf(health.crossings, sumOf(hours), look);
    const had = new Set(health.crossings.map(({ reason }) => reason));
    return {
      health: { seen: facts.counters, hours, looks: windows[index]!, slowLooks, crossings },
      latencyMs,
      slowestPeerMs: Math.max(0, ...others.flatMap((peerMs) => peerMs ?? [])),
      crossed: crossings.flatMap(({ reason }) => (had.has(reason) ? [] : [reason])),
      isCleared: had.size > 0 && crossings.length === 0,
      isOutlier: slowLooks >= SLOW_LOOKS_MIN,
    };
  });
}

/** What a probe of a member that reads go around says. */
export function judgeProbe(
  elapsedMs: number,
  facts: {
    readonly readDeadlineMs: number;
    readonly latencyFactor: number;
    /** Of the members that are read from; null: of none it is known. */
    readonly slowestPeerMs: number | null;
  },
): ProbeVerdict {
  const { readDeadlineMs, latencyFactor, slowestPeerMs } = facts;
  if (elapsedMs > readDeadlineMs) return "slow";
  if (latencyFactor === 0 || elapsedMs <= SLOW_MS) return "fast";
  if (slowestPeerMs === null) return "unknown";
  return elapsedMs <= (latencyFactor / 2) * slowestPeerMs ? "fast" : "slow";
}

/** How a drive stands, for people; null: nothing is held against it. */
export function suspectOf(health: Health, limits: SuspectLimits): SuspectStatus | null {
  const [first] = health.crossings;
  if (first === undefined) return null;
  const counts = sumOf(health.hours);
  const sinceMs = Math.min(...health.crossings.map(({ sinceWallMs }) => sinceWallMs));
  return {
    reason: first.reason,
    detail: health.crossings.map(({ reason }) => reasonText(reason, counts, limits)).join("; "),
    since: isoTime(sinceMs),
  };
}

/** "3 write errors in a day, the limit is 3". */
export function reasonText(reason: SuspectReason, counts: Counts, limits: SuspectLimits): string {
  const limit = limitOf(reason, limits);
  if (reason === "latency") {
    return (
      `${counts.latency} s in a day in which its reads took more than ` +
      `${limits.suspectLatencyFactor} times as long as those of its peers, the limit is ${limit} s`
    );
  }
  const what = {
    "write-errors": "write errors",
    "fixed-sectors": "sectors that had to be rewritten",
    "late-reads": "reads not answered in time",
  }[reason];
  return `${counts[reason]} ${what} in a day, the limit is ${limit}`;
}

/** Over the day. */
export function countsOf({ hours }: Health): Counts {
  return sumOf(hours);
}

// Counting --------------------------------------------------------------------------------------

function counted(
  { seen, hours }: Health,
  now: { readonly counters: Counters; readonly isSlow: boolean; readonly nowMs: number },
): HourCounts[] {
  const { counters, isSlow, nowMs } = now;
  assert(counters.writeErrors >= seen.writeErrors, "what is counted does not go down");
  const more: Counts = {
    "write-errors": counters.writeErrors - seen.writeErrors,
    "fixed-sectors": counters.fixedSectors - seen.fixedSectors,
    "late-reads": counters.lateReads - seen.lateReads,
    latency: isSlow ? LOOK_MS / 1_000 : 0,
  };
  const hour = Math.floor(nowMs / HOUR_MS);
  const kept = hours.filter((past) => past.hour > hour - HOURS);
  const current = kept.find((past) => past.hour === hour);
  const others = kept.filter((past) => past.hour !== hour);
  return [...others, { hour, counts: sum(current?.counts ?? NOTHING, more) }];
}

function sumOf(hours: readonly HourCounts[]): Counts {
  return hours.reduce((all, { counts }) => sum(all, counts), NOTHING);
}

function sum(one: Counts, other: Counts): Counts {
  return {
    "write-errors": one["write-errors"] + other["write-errors"],
    "fixed-sectors": one["fixed-sectors"] + other["fixed-sectors"],
    "late-reads": one["late-reads"] + other["late-reads"],
    latency: one.latency + other.latency,
  };
}

function crossingsOf(
  before: readonly Crossing[],
  counts: Counts,
  { limits, wallMs }: LookFacts,
): Crossing[] {
  return SUSPECT_REASONS.flatMap((reason) => {
    const limit = limitOf(reason, limits);
    const known = before.find((crossing) => crossing.reason === reason);
    const least = known === undefined ? limit : limit / 2;
    if (limit === 0 || counts[reason] < least) return [];
    return [known ?? { reason, sinceWallMs: wallMs }];
  });
}

function limitOf(reason: SuspectReason, limits: SuspectLimits): number {
  switch (reason) {
    case "write-errors":
      return limits.suspectWriteErrors;
    case "fixed-sectors":
      return limits.suspectFixedSectors;
    case "late-reads":
      return limits.suspectLateReads;
    case "latency":
      return limits.suspectLatencyFactor === 0 ? 0 : SLOW_SECONDS_MAX;
  }
}

// Latency ---------------------------------------------------------------------------------------

/** What came before reads went around it says nothing about how it is after that. */
function windowOf({ looks }: Health, { times, probe }: MemberFacts): readonly ReadTimes[] {
  if (times === null || probe !== null) return [];
  return [...looks, times].slice(-LOOKS_MAX);
}

function latencyOf(looks: readonly ReadTimes[]): number | null {
  let reads = 0;
  let sumMs = 0;
  let longestMs = 0;
  for (let index = looks.length - 1; index >= 0 && reads < READS_MIN; index -= 1) {
    const look = looks[index]!;
    reads += look.reads;
    sumMs += look.sumMs;
    longestMs = Math.max(longestMs, look.longestMs);
  }
  return reads < READS_MIN ? null : (sumMs - longestMs) / (reads - 1);
}

const NOT_SLOW = { isSlow: false, isSlowest: false } as const;

/** `isSlow` beside most of its peers, `isSlowest` beside each of them. */
function compare(
  ownMs: number | null,
  peersMs: readonly (number | null)[],
  { suspectLatencyFactor: factor }: SuspectLimits,
): { readonly isSlow: boolean; readonly isSlowest: boolean } {
  const known = peersMs.flatMap((latencyMs) => latencyMs ?? []).sort((one, other) => one - other);
  if (ownMs === null || factor === 0) return NOT_SLOW;
  if (known.length < peersMs.length || known.length < PEERS_MIN) return NOT_SLOW;
  const isBeyond = (peerMs: number): boolean => ownMs > Math.max(SLOW_MS, factor * peerMs);
  const medianMs = known[Math.floor(known.length / 2)]!;
  return { isSlow: isBeyond(medianMs), isSlowest: isBeyond(known.at(-1)!) };
}
