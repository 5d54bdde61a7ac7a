/**
 * Goal: a suspect member is replaced only where that is wanted and nothing else is going on, one at
 * a time, by the array's own spare or else the smallest shared one that fits, and not again for the
 * same suspicion within a day.
 * Method: every state of an array and of what runs in it; lists of suspects, spares and attempts.
 */
import { expect, test } from "bun:test";
import type { ReadySpare } from "../../../src/appliance/spares/pick-spare.ts";
import {
  AGAIN_MS,
  type Attempt,
  pickSuspects,
} from "../../../src/appliance/spares/pick-suspect.ts";
import { ARRAY_STATES, type ArrayStatus, type SyncAction } from "../../../src/array/protocol.ts";
import { exampleArray } from "../../helpers/sim-reactor.ts";

const PLAIN = exampleArray("raid_test", ["a", "b", "c"]);
const EARLY = "2026-11-01T00:00:00.000Z";
const LATE = "2026-11-02T00:00:00.000Z";
const NOW = { attempts: [], nowMs: 0 };
const ACTIONS: SyncAction[] = ["idle", "resync", "rebuild", "replace", "check", "repair"];

/** Suspects by drive, since when. */
function array(suspects: Record<string, string>, rest: Partial<ArrayStatus> = {}): ArrayStatus {
  const members = PLAIN.members.map((member) => {
    const since = suspects[member.drive ?? ""];
    if (since === undefined) return member;
    return { ...member, suspect: { reason: "latency" as const, detail: "", since } };
  });
  return { ...PLAIN, replaceSuspects: true, members, ...rest };
}

function spare(drive: string, sizeBytes: number, ...fits: string[]): ReadySpare {
  return { drive, sizeBytes, fits: new Set(fits) };
}

const FITTING = spare("s", 1, PLAIN.uuid);

test("suspects: every state of an array and all that may run in it: at rest and whole alone", () => {
  for (const state of ARRAY_STATES) {
    for (const action of ACTIONS) {
      for (const replaceSuspects of [true, false]) {
        const sync = { ...PLAIN.sync, action };
        const picks = pickSuspects(
          [array({ b: EARLY }, { state, sync, replaceSuspects })],
          [FITTING],
          NOW,
        );
        const isRest = action === "idle" && (state === "clean" || state === "active");
        const isPicked = picks.length > 0;
        expect([state, action, replaceSuspects, isPicked]).toEqual([
          ...[state, action, replaceSuspects, isRest && replaceSuspects],
        ]);
      }
    }
  }
});

test("suspects: a member that is missing, rebuilt or replaced: none is picked", () => {
  const suspect = array({ b: EARLY });
  expect(pickSuspects([suspect], [FITTING], NOW)).toHaveLength(1);
  for (const change of [
    { state: "faulty" },
    { state: "missing" },
    { state: "rebuilding" },
    { replacement: { drive: "x", copiedBytes: 0 } },
  ] as const) {
    for (const role of [0, 1, 2]) {
      const members = suspect.members.map((member) =>
        member.role === role ? { ...member, ...change } : member,
      );
      expect(pickSuspects([{ ...suspect, members }], [FITTING], NOW)).toEqual([]);
    }
  }
});

test("suspects: one of an array at a time, the one that has been suspect for longest", () => {
  const both = array({ a: LATE, c: EARLY });
  const spares = [FITTING, spare("t", 2, PLAIN.uuid)];
  const [first, ...rest] = pickSuspects([both], spares, NOW);
  expect([first?.member, first?.since, rest]).toEqual(["c", EARLY, []]);
  expect(pickSuspects([array({})], spares, NOW)).toEqual([]);
});

test("suspects: the array's own spare; else the smallest that fits; each is given once", () => {
  const other = { ...array({ b: EARLY }), uuid: "other" };
  const small = spare("small", 1, "other");
  const middle = spare("middle", 2, PLAIN.uuid, "other");
  const large = spare("large", 3, PLAIN.uuid, "other");
  const given = (arrays: ArrayStatus[], spares: ReadySpare[]) =>
    pickSuspects(arrays, spares, NOW).map((pick) => [pick.array, pick.spare, pick.isShared]);
  const own = array({ b: EARLY }, { spares: ["own", "own2"] });
  expect(given([own], [large])).toEqual([[PLAIN.uuid, "own", false]]);
  expect(given([array({ b: EARLY })], [large, middle, small])).toEqual([
    [PLAIN.uuid, "middle", true],
  ]);
  expect(given([array({ b: EARLY }), other], [large, middle])).toEqual([
    [PLAIN.uuid, "middle", true],
    ["other", "large", true],
  ]);
  expect(given([array({ b: EARLY }), other], [middle])).toEqual([[PLAIN.uuid, "middle", true]]);
  expect(given([array({ b: EARLY })], [small])).toEqual([]);
});

test("suspects: what was tried: not within a day, unless it is another suspicion or member", () => {
  const attempt: Attempt = { array: PLAIN.uuid, drive: "b", since: EARLY, atMs: 0 };
  const cases: [Partial<Attempt>, number, boolean][] = [
    [{}, 0, false],
    [{}, AGAIN_MS - 1, false],
    [{}, AGAIN_MS, true],
    [{ since: LATE }, 0, true],
    [{ drive: "a" }, 0, true],
    [{ array: "other" }, 0, true],
  ];
  for (const [change, nowMs, isPicked] of cases) {
    const attempts = [{ ...attempt, ...change }];
    const picks = pickSuspects([array({ b: EARLY })], [FITTING], { attempts, nowMs });
    expect([change, nowMs, picks.length > 0]).toEqual([change, nowMs, isPicked]);
  }
  // The other one has its turn.
  const both = array({ b: EARLY, c: LATE });
  const [next] = pickSuspects([both], [FITTING], { attempts: [attempt], nowMs: 0 });
  expect(next?.member).toBe("c");
});
