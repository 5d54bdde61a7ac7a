/**
 * From samples to rows: medians with their extremes, ratios, and whether the target is met.
 *
 * The samples of a group are taken round by round (A B A B): what disturbs the machine for a while
 * then disturbs both sides of a ratio.
 */
import { assert } from "../../src/base/assert.ts";

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Whether more or less of the unit is better; the target is a lower or an upper bound then. */
export type Better = "higher" | "lower";

/** Microseconds: medians of the rounds. */
export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly better: Better;
  readonly ours: Summary;
  readonly reference: Summary & { readonly name: string };
  /** Our median over that of the reference. */
  readonly ratio: number;
  /** Null: the row only informs. */
  readonly target: number | null;
  readonly ok: boolean | null;
  /** How long the requests took whose rate the row is, where that was taken. */
  readonly latencyMicros?: { readonly ours: Percentiles; readonly reference: Percentiles };
  /** What the members of ours moved for that, where that was taken. */
  readonly moved?: Moved;
}

/** Medians of the rounds. */
export interface Moved {
  /** Bytes read from and written to members, for each byte that a client wrote. */
  readonly readPerByte: number;
  readonly writtenPerByte: number;
  /** The share of writes, by stripe, that had all of it. */
  readonly fullStripes: number;
}

/** The value that a quantity had in the round, by its name. */
export type Values = (name: string) => number;

/** Something measured in every round. Several values at once come as a record: "name.key". */
export interface Quantity {
  readonly name: string;
  readonly sample: () => Promise<number | Readonly<Record<string, number>>>;
  /** Called once before the first round. */
  readonly warmUp?: () => Promise<unknown>;
}

export interface RowPlan {
  readonly name: string;
  readonly unit: string;
  readonly better: Better;
  readonly ours: (values: Values) => number;
  readonly reference: { readonly name: string; readonly of: (values: Values) => number };
  readonly target: number | null;
  /** Names of quantities that have p50, p99 and p999. */
  readonly latencies?: { readonly ours: string; readonly reference: string };
  /** Name of a quantity that has what Moved has. */
  readonly moved?: string;
}

export function summarize(samples: readonly number[]): Summary {
  assert(samples.length > 0, "a row has at least one sample");
  const sorted = samples.toSorted((left, right) => left - right);
  const middle = sorted.length >> 1;
  const isOdd = sorted.length % 2 === 1;
  const median = isOdd ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Null without a target. */
export function meets(ratio: number, target: number | null, better: Better): boolean | null {
  if (target === null) return null;
  return better === "higher" ? ratio >= target : ratio <= target;
}

/** A row out of the values of every round. */
export function toRow(plan: RowPlan, rounds: readonly Values[]): Row {
  const { name, unit, better, target } = plan;
  const ours = summarize(rounds.map(plan.ours));
  const reference = { name: plan.reference.name, ...summarize(rounds.map(plan.reference.of)) };
  const ratio = ours.median / reference.median;
  const ok = meets(ratio, target, better);
  const row = { name, unit, better, ours, reference, ratio, target, ok };
  const { latencies, moved } = plan;
  return {
    ...row,
    ...(latencies === undefined
      ? {}
      : {
          latencyMicros: {
            ours: percentilesOf(latencies.ours, rounds),
            reference: percentilesOf(latencies.reference, rounds),
          },
        }),
    ...(moved === undefined ? {} : { moved: movedOf(moved, rounds) }),
  };
}

function medianOf(quantity: string, rounds: readonly Values[]): (key: string) => number {
  return (key) => summarize(rounds.map((values) => values(`${quantity}.${key}`))).median;
}

function percentilesOf(quantity: string, rounds: readonly Values[]): Percentiles {
  const median = medianOf(quantity, rounds);
  return { p50: median("p50"), p99: median("p99"), p999: median("p999") };
}

function movedOf(quantity: string, rounds: readonly Values[]): Moved {
  const median = medianOf(quantity, rounds);
  const [readPerByte, writtenPerByte] = [median("readPerByte"), median("writtenPerByte")];
  return { readPerByte, writtenPerByte, fullStripes: median("fullStripes") };
}

/** Takes all quantities in turn, `rounds` times. */
export async function measure(
  quantities: readonly Quantity[],
  plans: readonly RowPlan[],
  rounds: number,
): Promise<Row[]> {
  for (const { warmUp } of quantities) await warmUp?.();
  const measured: Values[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const values = new Map<string, number>();
    for (const { name, sample } of quantities) {
      const value = await sample();
      if (typeof value === "number") values.set(name, value);
      else for (const [key, part] of Object.entries(value)) values.set(`${name}.${key}`, part);
    }
    measured.push((name) => {
      const value = values.get(name);
      assert(value !== undefined, `${name} is measured in every round`);
      return value;
    });
  }
  return plans.map((plan) => toRow(plan, measured));
}

/** A fixed number as a reference: a limit that is set. */
export function limit(value: number, name = "limit"): RowPlan["reference"] {
  return { name, of: () => value };
}

export function value(name: string): (values: Values) => number {
  return (values) => values(name);
}
