/**
 * What a seed stands for: the shape of the array, the load, and which features take part. Each
 * feature is off in half of the runs, so that none can hide the faults of another.
 */
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../../src/base/units.ts";
import { POLICIES } from "../../helpers/policies.ts";
import type { SectorBytes } from "../world/media.ts";

/** Kinds of fault that the run may inject, each on one member at a time. */
export const FAULT_KINDS = [
  "transient",
  "refused",
  "short",
  "read-media",
  "write-media",
  "latent",
  "no-space",
  "lost",
  "slow",
  "stall",
  "hang",
  "vanish",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** Fault kinds that wait for their part of the engine, each with what it waits for. */
export const NOT_YET: readonly FaultKind[] = [];

export const OTHER_FEATURES = [
  "fua",
  "flush",
  "unaligned",
  "hot-spot",
  "pauses",
  "early", // Load before the first resync has ended.
  "used-drives", // The members did not hold zeros.
  "fail-member",
  "re-add",
  "spare",
  "scrub",
  "stop",
  "crash",
  "files", // Drives are files, in which holes can be punched.
  "zero",
  "trim",
  "disconnect", // Clients die in the middle of requests.
  "clock", // The wall clock jumps.
  "two-members", // Two at once, instead of a crash.
  "silent", // At the end: bit rot, lost and misdirected writes.
  "lies", // At the very end: a drive that does not flush.
] as const;

/** Drawn last, after the rest of a plan, which they do not change. */
const LATE_FEATURES = [
  "policy", // The consistency policy changes, also in the middle of a crash.
  "restart", // Stops while degraded and in the middle of rebuilds.
  "return", // Drives that were removed come back as members.
  "crash-in-start", // Another crash, while the array starts.
  "no-cache", // Drives without a volatile cache: all, or some.
  "fence", // At the end: another host takes the drives, one after the other.
  "passing", // At the end: rebuilds over faults that pass.
  "full", // There is no room under the drives, for a while.
] as const;
export type Feature = FaultKind | (typeof OTHER_FEATURES)[number] | (typeof LATE_FEATURES)[number];

export interface Plan {
  readonly seed: number;
  readonly memberCount: number;
  readonly chunkBytes: number;
  readonly memberSizeBytes: number;
  readonly driveBytes: number;
  readonly sectorBytes: SectorBytes;
  readonly policy: ConsistencyPolicy;
  readonly withNbd: boolean;
  readonly clientCount: number;
  readonly depth: number;
  readonly epochs: number;
  readonly requestsPerEpoch: number;
  readonly sectorsMax: number;
  /** Chances, 0 to 1. */
  readonly readShare: number;
  readonly thinkMsMean: number;
  readonly batchChance: number;
  readonly features: ReadonlySet<Feature>;
}

const CHUNKS_KIB = [4, 4, 4, 8, 8, 16, 16, 32, 64, 64, 128, 256, 512, 1024];
const MEMBER_BYTES_MAX = 2 * MIB;

export function drawPlan(seed: number, random: SeededRandom): Plan {
  const pick = (count: number) => nextBelow(random, count);
  const chunkBytes = CHUNKS_KIB[pick(CHUNKS_KIB.length)]! * KIB;
  const memberCount = 3 + pick(6);
  const stripesMax = Math.min(64, MEMBER_BYTES_MAX / chunkBytes);
  const stripes = 2 + pick(stripesMax - 1);
  const features = new Set<Feature>();
  for (const feature of [...FAULT_KINDS, ...OTHER_FEATURES]) {
    // Drawn for all, so that a kind that is added to the engine does not change the others.
    const isOn = pick(2) === 0;
    if (isOn && !NOT_YET.includes(feature as FaultKind)) features.add(feature);
  }
  const arraySectors = (stripes * chunkBytes * (memberCount - 1)) / SECTOR_BYTES;
  const withNbd = pick(3) === 0;
  const plan: Plan = {
    seed,
    memberCount,
    chunkBytes,
    memberSizeBytes: stripes * chunkBytes,
    // The data begins at 1 or 2 MiB; a replacement may be a little larger.
    driveBytes: stripes * chunkBytes + 4 * MIB,
    sectorBytes: pick(2) === 0 ? 512 : 4096,
    withNbd,
    clientCount: withNbd ? 1 + pick(4) : 1,
    depth: 2 ** pick(7),
    epochs: 1 + pick(3),
    requestsPerEpoch: 40 + pick(160),
    sectorsMax: Math.min(arraySectors, 8 << pick(8)),
    readShare: 0.1 + 0.6 * nextFraction(random),
    thinkMsMean: pick(3) === 0 ? 0 : 2 ** pick(7) / 4,
    batchChance: pick(2) === 0 ? 0 : 0.3,
    features,
    // Drawn last: a policy that is added does not change the rest of a plan.
    policy: POLICIES[pick(POLICIES.length)]!,
  };
  for (const feature of LATE_FEATURES) if (pick(2) === 0) features.add(feature);
  return plan;
}
