/**
 * Goal: one bad member never takes the array down, whichever of its requests goes wrong, and how.
 * Method: the life of a small array (small-life.ts) is lived without a fault, which counts the
 * requests of each drive. Then it is lived again for each member, each kind of error and each N:
 * once with the Nth request of that member failing, once with all from the Nth on.
 */
import { afterAll, expect, test } from "bun:test";
import { AssertionError } from "../../src/base/assert.ts";
import type { FaultPlan, SimFault } from "./sim-faults.ts";
import { liveSmallLife, VICTIMS, type Victim } from "./small-life.ts";

/** One of each class of src/block/io-error.ts, and each way in which it can come. */
const FAULTS: readonly (readonly [string, SimFault])[] = [
  ["EIO", { kind: "result", result: -5 }],
  ["EILSEQ", { kind: "result", result: -84 }],
  ["EAGAIN", { kind: "result", result: -11 }],
  ["EAGAIN of io_submit", { kind: "refuse", errno: 11 }],
  ["EIO of io_submit", { kind: "refuse", errno: 5 }],
  ["ENOSPC", { kind: "result", result: -28 }],
  ["ENXIO", { kind: "result", result: -6 }],
  ["EOPNOTSUPP", { kind: "result", result: -95 }],
  ["EINVAL", { kind: "result", result: -22 }],
  ["errno 131", { kind: "result", result: -131 }],
  ["nothing moved", { kind: "result", result: 0 }],
  ["slow", { kind: "slow", delayMs: 2000 }],
];

const LIMIT_MS = 600_000;
const baseline = new Map<Victim, number>();
let lives = 0;

/** 0 answers a flush that went well: that is no fault of a flush. */
function planOf(fault: SimFault, skip: number, count: number): FaultPlan {
  return { fault, skip, count };
}

function live(victim: Victim, plan: FaultPlan | null): number {
  lives += 1;
  const { requests } = liveSmallLife(victim, (device) => {
    if (plan !== null) device.faults.plan(plan);
  });
  return requests;
}

function requestsOf(victim: Victim): number {
  const known = baseline.get(victim) ?? live(victim, null);
  baseline.set(victim, known);
  return known;
}

/** Lives with the Nth request going wrong, for all N; the first few that broke something. */
function sweep(victim: Victim, fault: SimFault, count: number): string[] {
  const broken: string[] = [];
  for (let skip = 0; skip < requestsOf(victim) && broken.length < 3; skip += 1) {
    try {
      live(victim, planOf(fault, skip, count));
    } catch (error) {
      const { message, stack } = error as Error;
      const where = error instanceof AssertionError ? `\n${stack}` : "";
      broken.push(`request ${skip + 1} of ${victim}: ${message}${where}`);
    }
  }
  return broken;
}

test("a small array's life: without a fault: each drive is used in it", () => {
  for (const victim of VICTIMS) expect(requestsOf(victim)).toBeGreaterThan(20);
});

for (const [name, fault] of FAULTS) {
  for (const victim of VICTIMS) {
    test(
      `${victim}: ${name} at the Nth request, once: all that was written reads back`,
      () => {
        expect(sweep(victim, fault, 1)).toEqual([]);
      },
      LIMIT_MS,
    );

    test(
      `${victim}: ${name} from the Nth request on: all that was written reads back`,
      () => {
        expect(sweep(victim, fault, Number.POSITIVE_INFINITY)).toEqual([]);
      },
      LIMIT_MS,
    );
  }
}

afterAll(() => {
  console.log(`${lives} lives of a small array`);
});
