/**
 * Goal: every way into and out of a sync action, in every order, leaves superblocks that say what
 * is true (write-rules 23), and what was clean at the stop starts with any one member missing.
 *
 * Method: all sequences of what an operator and the world do to a small array, each step in the
 * middle of what runs and at its end. The drives held other things before, so that parity is wrong
 * wherever nobody has made it right. After each step the members are looked at from outside: below
 * what their superblocks claim, parity holds. At rest nothing is left in question. At the end the
 * array is stopped, and started from all its drives and without each of them; whatever was
 * written reads back, every time.
 *
 * A day takes its share of the sequences; 122 days in a row take all. `SYNC_DAYS=1 bun test
 * ./test/sim/raid5/sync-orders.test.ts` takes all of them, `SYNC_DEPTH=4` longer ones; a failure names
 * its sequence, which `SYNC_ORDER="ppl: pull half, add, stop"` repeats.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { STEPS, type Step, SyncLife } from "../workload/sync-life.ts";

const DEPTH = Number(process.env["SYNC_DEPTH"] ?? 3);
const DAYS = Number(process.env["SYNC_DAYS"] ?? 122);
const LIMIT_MS = 7_200_000;
const ORDER = process.env["SYNC_ORDER"];

/** What the sequences came to, so that none of it is missed unseen. */
const seen = new Map<string, number>();

/** Up to the first step that is not possible. */
function live(policy: ConsistencyPolicy, steps: readonly Step[], seed: number): void {
  const life = new SyncLife({ policy, seed });
  try {
    for (const step of steps) if (!life.take(step)) break;
    life.end();
  } catch (error) {
    const text = `SYNC_ORDER="${policy}: ${steps.join(", ")}"\n${life.story()}`;
    throw new Error(text, { cause: error });
  }
  for (const fact of life.facts) seen.set(fact, (seen.get(fact) ?? 0) + 1);
}

/** The digits of a number are the steps. */
function orderOf(index: number): Step[] {
  const steps: Step[] = [];
  for (let rest = index; steps.length < DEPTH; rest = Math.floor(rest / STEPS.length)) {
    steps.push(STEPS[rest % STEPS.length]!);
  }
  return steps;
}

for (const policy of POLICIES) {
  test.if(ORDER === undefined)(
    `rule 23: ${policy}: sync actions and what ends them, in all orders: superblocks are true`,
    () => {
      const today = new Share(`sync orders ${policy}`, DAYS);
      withShare(() => {
        for (let index = 0; index < STEPS.length ** DEPTH; index += 1) {
          if (today.takes(index)) live(policy, orderOf(index), index);
        }
      });
    },
    LIMIT_MS,
  );
}

/** Three that left another story on disk than what was true, and some that need force. */
const ALWAYS: readonly (readonly Step[])[] = [
  ["pull half", "add", "scrub", "stop"],
  ["pull half", "stop half", "add", "stop"],
  ["pull half", "add half", "stop half"],
  ["crash half", "pull half", "stop"],
  ["crash half", "pull half", "crash"],
];

for (const steps of ALWAYS) {
  for (const policy of POLICIES) {
    test.if(ORDER === undefined)(`rule 23: ${policy}: ${steps.join(", ")}: all is told`, () => {
      live(policy, steps, 1);
    });
  }
}

if (ORDER === undefined) {
  test("rule 23: the orders met every kind of state", () => {
    const facts = ["clean", "degraded", "rebuilding", "resync due", "read-only", "forced"];
    expect(facts.filter((fact) => (seen.get(fact) ?? 0) < 3)).toEqual([]);
  });
}

if (ORDER !== undefined) {
  test("rule 23: the order that was asked for", () => {
    const [policy, steps] = ORDER.split(": ");
    for (let seed = 0; seed < 8; seed += 1) {
      live(policy as ConsistencyPolicy, steps!.split(", ") as Step[], seed);
    }
  });
}
