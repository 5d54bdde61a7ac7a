/**
 * Goal: a shared spare goes to the array that has waited longest, the smallest that fits; none is
 * given twice, and no array waits beside a spare that it could have.
 * Method: every pair of up to three arrays and up to three spares, over all sizes, fits and orders
 * of need, against what must hold of any answer; every state of an array for whether it needs one.
 */
import { expect, test } from "bun:test";
import {
  type NeedyArray,
  needsSpare,
  pickSpares,
  type ReadySpare,
} from "../../../src/appliance/spares/pick-spare.ts";
import { ARRAY_STATES, type MemberState } from "../../../src/array/protocol.ts";
import { lists } from "../../helpers/orders.ts";
import { exampleArray } from "../../helpers/sim-reactor.ts";

const ARRAYS = ["a", "b", "c"] as const;

function* needs(): Generator<readonly NeedyArray[]> {
  for (let count = 0; count <= ARRAYS.length; count += 1) {
    for (const times of lists([1, 2], count)) {
      yield times.map((sinceMs, index) => ({ uuid: ARRAYS[index]!, sinceMs }));
    }
  }
}

function* stocks(): Generator<readonly ReadySpare[]> {
  const subsets = [[], ["a"], ["b"], ["a", "b"], ["b", "c"], ["a", "b", "c"]];
  const kinds = subsets.flatMap((fits) => [1, 2].map((sizeBytes) => ({ sizeBytes, fits })));
  for (let count = 0; count <= 3; count += 1) {
    for (const list of lists(kinds, count)) {
      yield list.map(({ sizeBytes, fits }, index) => {
        return { drive: `d${index}`, sizeBytes, fits: new Set(fits) };
      });
    }
  }
}

function faultOf(arrays: readonly NeedyArray[], spares: readonly ReadySpare[]): string | null {
  const picks = pickSpares(arrays, spares);
  if (new Set(picks.map(({ drive }) => drive)).size !== picks.length) return "a spare twice";
  if (new Set(picks.map(({ array }) => array)).size !== picks.length) return "an array twice";
  const left = new Map(spares.map((spare) => [spare.drive, spare]));
  const inOrder = arrays.toSorted((one, other) => one.sinceMs - other.sinceMs);
  for (const { uuid } of inOrder) {
    const could = [...left.values()].filter(({ fits }) => fits.has(uuid));
    const drive = picks.find(({ array }) => array === uuid)?.drive;
    if (drive === undefined) {
      if (could.length > 0) return `${uuid} waits beside ${could[0]!.drive}`;
      continue;
    }
    const spare = left.get(drive);
    if (spare === undefined || !spare.fits.has(uuid)) return `${uuid} gets what is not for it`;
    const isSmallest = could.every(({ sizeBytes }) => sizeBytes >= spare.sizeBytes);
    if (!isSmallest) return `${uuid} gets ${drive}, and a smaller one fits`;
    left.delete(drive);
  }
  return null;
}

test("pick: all arrays, spares, sizes and fits: the one in need for longest, the smallest", () => {
  let count = 0;
  for (const arrays of needs()) {
    for (const spares of stocks()) {
      count += 1;
      const fault = faultOf(arrays, spares);
      if (fault !== null) expect({ fault, arrays, spares }).toBeNull();
    }
  }
  expect(count).toBeGreaterThan(20_000);
});

test("pick: what is alike: the same answer in whatever order it is listed", () => {
  const arrays = ARRAYS.map((uuid) => ({ uuid, sinceMs: 1 }));
  const spares = ["d1", "d2"].map((drive) => ({ drive, sizeBytes: 1, fits: new Set(ARRAYS) }));
  const picks = pickSpares(arrays, spares);
  expect(picks).toEqual([
    { array: "a", drive: "d1" },
    { array: "b", drive: "d2" },
  ]);
  expect(pickSpares(arrays.toReversed(), spares.toReversed())).toEqual(picks);
});

test("need: every state of an array, its members and its own spares", () => {
  const example = exampleArray("tank", ["x", "y", "z"]);
  const states: readonly MemberState[] = ["in-sync", "faulty", "missing", "rebuilding"];
  for (const state of ARRAY_STATES) {
    for (const degraded of [0, 1, 2]) {
      for (const member of states) {
        for (const spares of [[], ["s"]]) {
          const [first, ...rest] = example.members;
          const members = [{ ...first!, state: member }, ...rest];
          const isNeedy =
            state === "degraded" &&
            degraded === 1 &&
            member !== "rebuilding" &&
            spares.length === 0;
          expect(needsSpare({ ...example, state, degraded, members, spares })).toBe(isNeedy);
        }
      }
    }
  }
});
