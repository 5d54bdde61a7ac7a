/**
 * Which requests of a simulated drive go wrong, and how: planned ones (for "fail the Nth request"
 * loops) and random ones (for seeded runs). What was injected is counted by kind.
 */
import { assert } from "../../../src/base/assert.ts";
import {
  EAGAIN,
  EBUSY,
  EILSEQ,
  EINTR,
  EIO,
  ENODATA,
  ENODEV,
  ENOMEM,
  ENOSPC,
  EREMOTEIO,
} from "../../../src/base/errno.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../../src/base/random.ts";
import { Op, type OpCode } from "../../../src/reactor/io-table.ts";

export type SimFault =
  /** The raw answer: -errno, 0, or fewer bytes than asked for. What landed of a write is chance. */
  | { readonly kind: "result"; readonly result: number }
  /** Answered with an error, and nothing of it reaches the media. */
  | { readonly kind: "dead"; readonly errno: number }
  /** io_submit does not take it. */
  | { readonly kind: "refuse"; readonly errno: number }
  | { readonly kind: "slow"; readonly delayMs: number }
  /** No answer until `SimDevice.release`. */
  | { readonly kind: "hang" }
  /** Answered as done, nothing written. */
  | { readonly kind: "lose" }
  /** Written somewhere else. */
  | { readonly kind: "misdirect"; readonly toOffset: number };

export interface FaultPlan {
  readonly fault: SimFault;
  /** Default: any. */
  readonly op?: OpCode;
  /** Default: the whole drive. */
  readonly offset?: number;
  readonly bytes?: number;
  /** Requests that match and are let through first. */
  readonly skip?: number;
  /** Requests that are hit. Default 1. */
  readonly count?: number;
}

/** Chances, 0 to 1, per request. */
export interface FaultRates {
  readonly transient: number;
  readonly refused: number;
  readonly short: number;
  readonly readMedia: number;
  readonly writeMedia: number;
  readonly noSpace: number;
  readonly lost: number;
  readonly slow: number;
  readonly hang: number;
}

export const NO_FAULTS: FaultRates = {
  transient: 0,
  refused: 0,
  short: 0,
  readMedia: 0,
  writeMedia: 0,
  noSpace: 0,
  lost: 0,
  slow: 0,
  hang: 0,
};

export interface RequestShape {
  readonly op: OpCode;
  readonly offset: number;
  readonly bytes: number;
  readonly sectorBytes: number;
}

interface ActivePlan {
  readonly plan: FaultPlan;
  matched: number;
  injected: number;
}

const TRANSIENT = [EAGAIN, EINTR, EBUSY, ENOMEM];
const MEDIA = [EIO, ENODATA, EILSEQ, EREMOTEIO];
/** Listed and unlisted errnos that mean that the drive is gone. */
const LOST = [ENODEV, 6, 67, 131];

export class SimFaults {
  rates: FaultRates = NO_FAULTS;
  /** By kind: the fault's own, with the errno where there is one. */
  readonly injected = new Map<string, number>();
  private plans: ActivePlan[] = [];
  private readonly random: SeededRandom;

  constructor(random: SeededRandom) {
    this.random = random;
  }

  /** The answer tells how many requests the plan has hit. */
  plan(plan: FaultPlan): () => number {
    const active = { plan, matched: 0, injected: 0 };
    this.plans.push(active);
    return () => active.injected;
  }

  /** Faults stop: no plan and no chance is left. */
  quiet(): void {
    this.plans = [];
    this.rates = NO_FAULTS;
  }

  /** What happens to a request, or null when nothing does. Asked once per submission. */
  take(shape: RequestShape): SimFault | null {
    const fault = this.planned(shape) ?? this.drawn(shape);
    if (fault !== null) this.count(nameOf(fault));
    return fault;
  }

  count(name: string): void {
    this.injected.set(name, (this.injected.get(name) ?? 0) + 1);
  }

  private planned(shape: RequestShape): SimFault | null {
    for (const active of this.plans) {
      const { plan } = active;
      if (active.injected >= (plan.count ?? 1) || !isHit(plan, shape)) continue;
      active.matched += 1;
      if (active.matched <= (plan.skip ?? 0)) continue;
      active.injected += 1;
      return plan.fault;
    }
    return null;
  }

  private drawn(shape: RequestShape): SimFault | null {
    const { rates } = this;
    if (rates === NO_FAULTS) return null;
    const isWrite = shape.op !== Op.read && shape.op !== Op.flush;
    const anErrno = (errnos: readonly number[]) => errnos[nextBelow(this.random, errnos.length)]!;
    const failWith = (errno: number): SimFault => ({ kind: "result", result: -errno });
    // One draw for each kind, always: a rate that changes does not shift the draws of the others.
    const draws = Object.keys(NO_FAULTS).map(() => nextFraction(this.random));
    const isDrawn = (kind: keyof FaultRates) =>
      draws[Object.keys(NO_FAULTS).indexOf(kind)]! < rates[kind];
    if (isDrawn("hang")) return { kind: "hang" };
    if (isDrawn("slow")) return { kind: "slow", delayMs: 100 + nextBelow(this.random, 1000) };
    if (isDrawn("lost")) return failWith(anErrno(LOST));
    if (isDrawn("refused")) return { kind: "refuse", errno: anErrno(TRANSIENT) };
    if (shape.op === Op.flush) return null; // Any error of a flush costs the member: see `lost`.
    if (isDrawn("transient")) return failWith(anErrno(TRANSIENT));
    if (isWrite && isDrawn("writeMedia")) return failWith(anErrno(MEDIA));
    if (isWrite && isDrawn("noSpace")) return failWith(ENOSPC);
    if (shape.op === Op.read && isDrawn("readMedia")) return failWith(anErrno(MEDIA));
    const sectors = shape.bytes / shape.sectorBytes;
    if (sectors < 2 || !isDrawn("short")) return null;
    return {
      kind: "result",
      result: (1 + nextBelow(this.random, sectors - 1)) * shape.sectorBytes,
    };
  }
}

function isHit(plan: FaultPlan, shape: RequestShape): boolean {
  if (plan.op !== undefined && plan.op !== shape.op) return false;
  if (shape.op === Op.flush) return plan.offset === undefined;
  const from = plan.offset ?? 0;
  const to = from + (plan.bytes ?? Number.POSITIVE_INFINITY);
  return shape.offset < to && shape.offset + shape.bytes > from;
}

function nameOf(fault: SimFault): string {
  switch (fault.kind) {
    case "result":
      return fault.result < 0 ? `errno ${-fault.result}` : "short";
    case "refuse":
      return `refuse ${fault.errno}`;
    default:
      return fault.kind;
  }
}

/** What the drive can carry out: the kernel moves whole sectors. */
export function checkFault(fault: SimFault, shape: RequestShape): void {
  if (fault.kind !== "result" || fault.result <= 0) return;
  assert(shape.op !== Op.flush, "a flush moves no bytes");
  assert(fault.result % shape.sectorBytes === 0, "whole sectors are moved");
}
