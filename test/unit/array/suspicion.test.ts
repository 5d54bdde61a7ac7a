/**
 * Goal: a member becomes suspect when it has crossed a limit, is told of once, and stops being
 * suspect when less than half of that is left of the last day; reads go around a member that is far
 * slower than all of its peers, and no other one.
 * Method: the decision is pure. Each counter with each limit around its edges, over days in virtual
 * time; every assignment of latencies to the members of arrays of 3 and 5; every kind of probe.
 */
import { expect, test } from "bun:test";
import {
  type Health,
  judgeProbe,
  LOOK_MS,
  lookAt,
  type Member,
  type MemberVerdict,
  NEW_HEALTH,
  type ProbeVerdict,
  SLOW_MS,
  SLOW_SECONDS_MAX,
  type SuspectLimits,
  suspectOf,
} from "../../../src/array/drives/suspicion.ts";
import { SUSPECT_REASONS, type SuspectReason } from "../../../src/array/protocol.ts";
import { lists } from "../../helpers/orders.ts";

const HOUR_MS = 3_600_000;
const WALL_MS = 1_800_000_000_000;
const FACTOR = 8;
const LIMITS: SuspectLimits = {
  suspectWriteErrors: 4,
  suspectFixedSectors: 4,
  suspectLateReads: 4,
  suspectLatencyFactor: FACTOR,
};
const COUNTERS = {
  "write-errors": "writeErrors",
  "fixed-sectors": "fixedSectors",
  "late-reads": "lateReads",
} as const;
type Counted = keyof typeof COUNTERS;
const NO_TROUBLE = { writeErrors: 0, fixedSectors: 0, lateReads: 0 };

/** One member beside others of which nothing is known, looked at again and again. */
class OneMember {
  health: Health = NEW_HEALTH;
  nowMs = 0;
  private counters = NO_TROUBLE;

  look(
    more: Partial<typeof NO_TROUBLE> = {},
    { limits = LIMITS, probe = null }: { limits?: SuspectLimits; probe?: ProbeVerdict | null } = {},
  ): MemberVerdict {
    const { counters } = this;
    this.counters = {
      writeErrors: counters.writeErrors + (more.writeErrors ?? 0),
      fixedSectors: counters.fixedSectors + (more.fixedSectors ?? 0),
      lateReads: counters.lateReads + (more.lateReads ?? 0),
    };
    const facts = { counters: this.counters, times: null, probe };
    const look = { nowMs: this.nowMs, wallMs: WALL_MS + this.nowMs, limits, isComparable: true };
    const [verdict] = lookAt([{ health: this.health, facts }], look);
    this.health = verdict!.health;
    return verdict!;
  }

  get isSuspect(): boolean {
    return suspectOf(this.health, LIMITS) !== null;
  }
}

/** A member that has been looked at once. */
function known(): OneMember {
  const member = new OneMember();
  member.look();
  return member;
}

for (const reason of ["write-errors", "fixed-sectors", "late-reads"] as const) {
  const counter = COUNTERS[reason as Counted];

  test(`suspicion: ${reason}: crossed at the limit, told once, gone below half of it`, () => {
    for (let limit = 1; limit <= 6; limit += 1) {
      const limits = { ...LIMITS, [limitOf(reason)]: limit };
      const member = known();
      const told: number[] = [];
      for (let count = 1; count <= 2 * limit; count += 1) {
        member.nowMs += HOUR_MS / 2;
        if (member.look({ [counter]: 1 }, { limits }).crossed.length > 0) told.push(count);
      }
      expect([reason, limit, told]).toEqual([reason, limit, [limit]]);
      expect(suspectOf(member.health, limits)?.reason).toBe(reason);
      // Nothing more happens: the hours go out of the day one by one.
      const lastMs = member.nowMs;
      let cleared = 0;
      while (member.nowMs < lastMs + 25 * HOUR_MS) {
        member.nowMs += HOUR_MS / 2;
        const { isCleared, crossed, health } = member.look({}, { limits });
        expect(crossed).toEqual([]);
        const left = health.hours.reduce((sum, { counts }) => sum + counts[reason], 0);
        if (isCleared) cleared += 1;
        expect([left, suspectOf(health, limits) !== null]).toEqual([left, left >= limit / 2]);
      }
      expect(cleared).toBe(1);
    }
  });

  test(`suspicion: ${reason}: before the first look: it is found then`, () => {
    const member = new OneMember();
    expect(member.look({ [counter]: 4 }).crossed).toEqual([reason]);
  });

  test(`suspicion: ${reason}: as many, but over more than a day: nothing`, () => {
    const member = known();
    for (let count = 0; count < 50; count += 1) {
      member.nowMs += 8 * HOUR_MS;
      expect(member.look({ [counter]: 1 }).crossed).toEqual([]);
    }
  });

  test(`suspicion: ${reason}: a limit of 0 is never crossed, and ends a suspicion`, () => {
    const limits = { ...LIMITS, [limitOf(reason)]: 0 };
    const member = known();
    expect(member.look({ [counter]: 1e6 }, { limits }).crossed).toEqual([]);
    expect(member.look({}).crossed).toEqual([reason]);
    expect(member.look({}, { limits })).toMatchObject({ isCleared: true });
    expect(member.isSuspect).toBe(false);
  });

  test(`suspicion: ${reason}: crossed again after it was gone: told again`, () => {
    const member = known();
    const told = [1, 2, 3].map(() => {
      const { crossed } = member.look({ [counter]: 4 });
      member.nowMs += 30 * HOUR_MS;
      return [crossed, member.look().isCleared];
    });
    expect(told).toEqual([1, 2, 3].map(() => [[reason], true]));
  });
}

function limitOf(reason: SuspectReason): keyof SuspectLimits {
  return {
    "write-errors": "suspectWriteErrors",
    "fixed-sectors": "suspectFixedSectors",
    "late-reads": "suspectLateReads",
    latency: "suspectLatencyFactor",
  }[reason] as keyof SuspectLimits;
}

test("suspicion: several reasons: each is told, the weightiest is shown, all are said", () => {
  const member = known();
  expect(member.look({ lateReads: 4 }).crossed).toEqual(["late-reads"]);
  member.nowMs += LOOK_MS;
  expect(member.look({ writeErrors: 5 }).crossed).toEqual(["write-errors"]);
  expect(suspectOf(member.health, LIMITS)).toEqual({
    reason: "write-errors",
    detail:
      "5 write errors in a day, the limit is 4; 4 reads not answered in time in a day, the limit is 4",
    since: new Date(WALL_MS).toISOString(),
  });
});

// Latency ---------------------------------------------------------------------------------------

/** Members with these latencies, each read `reads` times a look; null: none. */
class Members {
  healths: readonly Health[];
  private readonly readsEach: number;

  constructor(count: number, readsEach = 20) {
    this.healths = new Array<Health>(count).fill(NEW_HEALTH);
    this.readsEach = readsEach;
  }

  look(
    latencies: readonly (number | null)[],
    options: { isComparable?: boolean; factor?: number; probes?: (ProbeVerdict | null)[] } = {},
  ): MemberVerdict[] {
    const members: Member[] = latencies.map((latencyMs, index) => {
      const reads = latencyMs === null ? 0 : this.readsEach;
      const times = { reads, sumMs: reads * (latencyMs ?? 0), longestMs: latencyMs ?? 0 };
      const probe = options.probes?.[index] ?? null;
      return { health: this.healths[index]!, facts: { counters: NO_TROUBLE, times, probe } };
    });
    const limits = { ...LIMITS, suspectLatencyFactor: options.factor ?? FACTOR };
    const { isComparable = true } = options;
    const verdicts = lookAt(members, { nowMs: 0, wallMs: WALL_MS, limits, isComparable });
    this.healths = verdicts.map(({ health }) => health);
    return verdicts;
  }

  /** Looks of one kind in a row; the outliers of the last. */
  outliers(looks: number, ...rest: Parameters<Members["look"]>): number[] {
    let last: MemberVerdict[] = [];
    for (let look = 0; look < looks; look += 1) last = this.look(...rest);
    return last.flatMap(({ isOutlier }, index) => (isOutlier ? [index] : []));
  }

  seconds(): number[] {
    return this.healths.map(({ hours }) =>
      hours.reduce((sum, each) => sum + each.counts.latency, 0),
    );
  }
}

test("suspicion: latency: every assignment: who is far slower than all others is the outlier", () => {
  // Fast, a bit slow, at the edge, beyond it, far beyond that; and not read from.
  const choices = [1, 10, 80, 81, 800, null];
  let outlierCount = 0;
  for (const memberCount of [3, 5]) {
    for (const latencies of lists(choices, memberCount)) {
      const members = new Members(memberCount);
      const outliers = members.outliers(2, latencies);
      const wanted = latencies.flatMap((ownMs, index) => {
        const peers = latencies.filter((_, at) => at !== index);
        const isBeyond = (peerMs: number | null): boolean =>
          ownMs !== null && peerMs !== null && ownMs > Math.max(SLOW_MS, FACTOR * peerMs);
        return peers.every(isBeyond) ? [index] : [];
      });
      expect([latencies, outliers]).toEqual([latencies, wanted]);
      outlierCount += outliers.length;
      // Beside the median one: two of five may be suspect at a time.
      const seconds = members.seconds();
      const isKnown = !latencies.includes(null);
      for (const [index, ownMs] of latencies.entries()) {
        const peers = latencies.filter((_, at) => at !== index).map((peerMs) => peerMs ?? 0);
        const medianMs = peers.sort((one, other) => one - other)[Math.floor(peers.length / 2)]!;
        if (!isKnown) continue;
        const isSlow = ownMs! > Math.max(SLOW_MS, FACTOR * medianMs);
        expect([latencies, index, seconds[index]]).toEqual([latencies, index, isSlow ? 2 : 0]);
      }
    }
  }
  expect(outlierCount).toBeGreaterThan(50);
});

test("suspicion: latency: what is no outlier", () => {
  const slow = [1, 500, 1];
  expect(new Members(3).outliers(2, slow)).toEqual([1]);
  // One look, a degraded array or one that is copied, no factor, peers that take as long.
  expect(new Members(3).outliers(1, slow)).toEqual([]);
  expect(new Members(3).outliers(9, slow, { isComparable: false })).toEqual([]);
  expect(new Members(3).outliers(9, slow, { factor: 0 })).toEqual([]);
  expect(new Members(3).outliers(9, [1, 500, 400])).toEqual([]);
  expect(new Members(3).outliers(9, [0.01, SLOW_MS, 0.01])).toEqual([]);
  // Not enough reads of it, or of a peer; and one single late answer among fast ones.
  expect(new Members(3, 4).outliers(1, slow)).toEqual([]);
  expect(new Members(3).outliers(9, [1, 500, null])).toEqual([]);
  expect(new Members(2).outliers(9, [1, 500])).toEqual([]);
});

test("suspicion: latency: one single late answer among fast ones: says nothing", () => {
  const members = new Members(3);
  for (let look = 0; look < 40; look += 1) {
    const times = (sumMs: number, longestMs: number) => ({ reads: 6, sumMs, longestMs });
    const facts = [times(6, 1), times(5 + 5_000, 5_000), times(6, 1)].map((each, index) => ({
      health: members.healths[index]!,
      facts: { counters: NO_TROUBLE, times: each, probe: null },
    }));
    const verdicts = lookAt(facts, { nowMs: 0, wallMs: 0, limits: LIMITS, isComparable: true });
    members.healths = verdicts.map(({ health }) => health);
    expect(verdicts.map(({ isOutlier }) => isOutlier)).toEqual([false, false, false]);
  }
});

test("suspicion: latency: few reads a look: those of the last half minute count", () => {
  const members = new Members(3, 1);
  const found = [1, 2, 3, 4, 5, 6, 7].map(() => members.outliers(1, [1, 500, 1]).length);
  expect(found).toEqual([0, 0, 0, 0, 0, 1, 1]);
  // None comes any more: no second is counted for it.
  const before = members.seconds();
  members.outliers(60, [null, null, null]);
  expect(members.seconds()).toEqual(before);
});

test("suspicion: latency: five minutes of a day: suspect; of another day each: not", () => {
  const members = new Members(3);
  const crossed = (): SuspectReason[][] => {
    return members.look([1, 500, 1]).map((verdict) => [...verdict.crossed]);
  };
  for (let second = 1; second < SLOW_SECONDS_MAX; second += 1) {
    expect([second, crossed()]).toEqual([second, [[], [], []]]);
  }
  expect(crossed()).toEqual([[], ["latency"], []]);
  expect(crossed()).toEqual([[], [], []]);
});

test("suspicion: gone around: only what the probes say counts", () => {
  for (const probe of ["slow", "fast", "unknown"] as const) {
    const members = new Members(3);
    const options = { probes: [null, probe, null] };
    expect([probe, members.outliers(9, [1, 500, 1], options)]).toEqual([probe, []]);
    expect([probe, members.seconds()]).toEqual([probe, [0, probe === "slow" ? 9 : 0, 0]]);
    // It is measured anew, and its peers are not compared with it meanwhile.
    expect(members.outliers(1, [1, 500, 1])).toEqual([]);
    expect(members.outliers(9, [500, 1, 1], { probes: [null, "slow", null] })).toEqual([]);
  }
});

test("suspicion: a probe: every kind", () => {
  const facts = { readDeadlineMs: 5_000, latencyFactor: FACTOR };
  const cases: [number, number, number | null, ProbeVerdict][] = [];
  for (const slowestPeerMs of [null, 1, 10, 1_000]) {
    cases.push([5_001, FACTOR, slowestPeerMs, "slow"], [5_001, 0, slowestPeerMs, "slow"]);
    cases.push([5_000, 0, slowestPeerMs, "fast"], [SLOW_MS, FACTOR, slowestPeerMs, "fast"]);
  }
  cases.push([SLOW_MS + 1, FACTOR, null, "unknown"], [SLOW_MS + 1, FACTOR, 1, "slow"]);
  cases.push([40, FACTOR, 10, "fast"], [41, FACTOR, 10, "slow"], [4_000, FACTOR, 1_000, "fast"]);
  for (const [elapsedMs, latencyFactor, slowestPeerMs, verdict] of cases) {
    const said = judgeProbe(elapsedMs, { ...facts, latencyFactor, slowestPeerMs });
    expect([elapsedMs, latencyFactor, slowestPeerMs, said]).toEqual([
      ...[elapsedMs, latencyFactor, slowestPeerMs, verdict],
    ]);
  }
});

test("suspicion: each reason has a text", () => {
  for (const reason of SUSPECT_REASONS) {
    const health = { ...NEW_HEALTH, crossings: [{ reason, sinceWallMs: WALL_MS }] };
    expect(suspectOf(health, LIMITS)?.detail).toMatch(/^\d+ .* the limit is \d+/);
  }
});
