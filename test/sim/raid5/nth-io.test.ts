/**
 * Goal: one bad member never takes the array down, whichever of its requests goes wrong, and how.
 * Method: the life of a small array (small-life.ts) is lived without a fault, which counts the
 * requests of each drive. Then it is lived again for each member, each kind of error and each N:
 * once with the Nth request of that member failing, once with all from the Nth on. A day takes its
 * share of the Ns of every sweep; 24 days in a row take them all.
 */
import { afterAll, expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { AssertionError } from "../../../src/base/assert.ts";
import { POLICIES, policySuffix } from "../../helpers/policies.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { liveSmallLife, VICTIMS, type Victim } from "../workload/small-life.ts";
import type { SimDevice } from "../world/sim-device.ts";
import type { FaultPlan, SimFault } from "../world/sim-faults.ts";

/** Its member is not failed for it: see no-space.test.ts for one that lasts. */
const NO_SPACE: SimFault = { kind: "result", result: -28 };

/** One of each class of src/block/io-error.ts, and each way in which it can come. */
const FAULTS: readonly (readonly [string, SimFault])[] = [
  ["EIO", { kind: "result", result: -5 }],
  ["EILSEQ", { kind: "result", result: -84 }],
  ["EAGAIN", { kind: "result", result: -11 }],
  ["EAGAIN of io_submit", { kind: "refuse", errno: 11 }],
  ["EIO of io_submit", { kind: "refuse", errno: 5 }],
  ["ENOSPC", NO_SPACE],
  ["ENXIO", { kind: "result", result: -6 }],
  ["EOPNOTSUPP", { kind: "result", result: -95 }],
  ["EINVAL", { kind: "result", result: -22 }],
  ["errno 131", { kind: "result", result: -131 }],
  ["nothing moved", { kind: "result", result: 0 }],
  ["slow", { kind: "slow", delayMs: 2000 }],
];

const DAYS = 24;
const baseline = new Map<string, number>();
let lives = 0;

/** 0 answers a flush that went well: that is no fault of a flush. */
function planOf(fault: SimFault, skip: number, count: number): FaultPlan {
  return { fault, skip, count };
}

function live(victim: Victim, policy: ConsistencyPolicy, plan: FaultPlan | null): number {
  lives += 1;
  const harm = ({ faults }: SimDevice): void => {
    if (plan !== null) faults.plan(plan);
  };
  const mayRefuse = plan?.fault === NO_SPACE;
  return liveSmallLife(victim, harm, policy, { mayRefuse }).requests;
}

function requestsOf(victim: Victim, policy: ConsistencyPolicy): number {
  const key = `${victim} ${policy}`;
  const known = baseline.get(key) ?? live(victim, policy, null);
  baseline.set(key, known);
  return known;
}

/** Lives with the Nth request going wrong, for today's N; the first few that broke something. */
function sweep(
  victim: Victim,
  policy: ConsistencyPolicy,
  { fault, count }: { fault: SimFault; count: number },
): string[] {
  const broken: string[] = [];
  const today = new Share(`${victim} ${policy} ${JSON.stringify(fault)} ${count}`, DAYS);
  let swept = 0;
  for (let skip = 0; skip < requestsOf(victim, policy) && broken.length < 3; skip += 1) {
    if (!today.takes(skip)) continue;
    swept += 1;
    try {
      live(victim, policy, planOf(fault, skip, count));
    } catch (error) {
      const { message, stack } = error as Error;
      const where = error instanceof AssertionError ? `\n${stack}` : "";
      broken.push(`request ${skip + 1} of ${victim}: ${message}${where}`);
    }
  }
  expect(swept).toBeGreaterThan(0);
  return broken;
}

test("a small array's life: without a fault: each drive is used in it", () => {
  for (const policy of POLICIES) {
    for (const victim of VICTIMS) expect(requestsOf(victim, policy)).toBeGreaterThan(20);
  }
});

function testFault(name: string, fault: SimFault, policy: ConsistencyPolicy): void {
  for (const victim of VICTIMS) {
    const who = `${victim}${policySuffix(policy)}`;
    test(`${who}: ${name} at the Nth request, once: all that was written reads back`, () => {
      withShare(() => expect(sweep(victim, policy, { fault, count: 1 })).toEqual([]));
    });

    if (fault === NO_SPACE) continue;
    test(`${who}: ${name} from the Nth request on: all that was written reads back`, () => {
      const count = Number.POSITIVE_INFINITY;
      withShare(() => expect(sweep(victim, policy, { fault, count })).toEqual([]));
    });
  }
}

for (const policy of POLICIES) {
  for (const [name, fault] of FAULTS) testFault(name, fault, policy);
}

afterAll(() => {
  console.log(`${lives} lives of a small array`);
});
