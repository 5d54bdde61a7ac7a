/**
 * Goal: what the allocation map says of a byte is never more than is certain.
 * Method: random writes and zeroings on small and on coarse maps against a state per stripe; the
 * map may say less than the model (coarse regions), never more.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { AllocationMap, REGIONS_MAX } from "../../../src/raid5/zero/allocation.ts";

const STRIPE_BYTES = 24;

function stateOf(map: AllocationMap, stripe: number): number {
  return map.stateAt(stripe * STRIPE_BYTES);
}

test("allocation: a new map: data everywhere; empty: holes that read zeros", () => {
  for (const stripeCount of [1, 31, 32, 33, 1000]) {
    const map = new AllocationMap({ stripeBytes: STRIPE_BYTES, stripeCount });
    const sizeBytes = stripeCount * STRIPE_BYTES;
    expect([map.stateAt(0), map.endAt(0, sizeBytes), map.isHole(0)]).toEqual([0, sizeBytes, false]);
    map.noteEmpty();
    expect([map.stateAt(sizeBytes - 1), map.endAt(0, sizeBytes)]).toEqual([3, sizeBytes]);
    expect(map.isHole(stripeCount - 1)).toBe(true);
  }
});

test("allocation: random writes and zeroings, a bit for each stripe: exactly the model", () => {
  const random = new SeededRandom(5);
  const stripeCount = 300;
  const map = new AllocationMap({ stripeBytes: STRIPE_BYTES, stripeCount });
  const model = new Array<number>(stripeCount).fill(0);
  for (let round = 0; round < 2000; round += 1) {
    const first = nextBelow(random, stripeCount);
    const end = first + 1 + nextBelow(random, Math.min(80, stripeCount - first));
    const kind = nextBelow(random, 3);
    if (kind === 0) {
      const offset = first * STRIPE_BYTES + nextBelow(random, STRIPE_BYTES);
      map.noteData(offset, end * STRIPE_BYTES - offset);
    } else map.noteZeros(first, end, { isHole: kind === 1 });
    model.fill([0, 3, 2][kind]!, first, end);
    const at = nextBelow(random, stripeCount * STRIPE_BYTES);
    const state = model[Math.floor(at / STRIPE_BYTES)]!;
    expect(map.stateAt(at)).toBe(state);
    expect(map.isHole(Math.floor(at / STRIPE_BYTES))).toBe(state === 3);
    const limit = at + 1 + nextBelow(random, stripeCount * STRIPE_BYTES - at);
    let stripe = Math.floor(at / STRIPE_BYTES);
    while (stripe < stripeCount && model[stripe] === state) stripe += 1;
    expect(map.endAt(at, limit)).toBe(Math.min(limit, stripe * STRIPE_BYTES));
  }
  expect(Array.from(model, (_, stripe) => stateOf(map, stripe))).toEqual(model);
});

test("allocation: no bytes written: nothing changes", () => {
  const map = new AllocationMap({ stripeBytes: STRIPE_BYTES, stripeCount: 4 });
  map.noteEmpty();
  for (let offset = 0; offset < 3 * STRIPE_BYTES; offset += 1) map.noteData(offset, 0);
  expect(map.endAt(0, 4 * STRIPE_BYTES)).toBe(4 * STRIPE_BYTES);
});

test("allocation: regions of several stripes: zeros only where all of a region is", () => {
  // Regions of four stripes; the last one has a single stripe.
  const stripeCount = 2 * REGIONS_MAX + 1;
  const map = new AllocationMap({ stripeBytes: STRIPE_BYTES, stripeCount });
  map.noteZeros(1, 8, { isHole: true });
  expect([0, 3, 4, 7, 8].map((stripe) => stateOf(map, stripe))).toEqual([0, 0, 3, 3, 0]);
  map.noteZeros(0, 4, { isHole: false });
  expect([0, 3, 4].map((stripe) => stateOf(map, stripe))).toEqual([2, 2, 3]);
  map.noteData(6 * STRIPE_BYTES + 1, 1);
  expect([3, 4, 7].map((stripe) => stateOf(map, stripe))).toEqual([2, 0, 0]);
  map.noteZeros(stripeCount - 1, stripeCount, { isHole: true });
  expect(stateOf(map, stripeCount - 1)).toBe(3);
  expect(stateOf(map, stripeCount - 2)).toBe(0);
});

test("allocation: a larger array: what was known stays so, of the new stripes nothing is", () => {
  for (const [before, after] of [
    [31, 32],
    [33, 100],
    [64, 65],
    [1000, 5000],
  ] as const) {
    const map = new AllocationMap({ stripeBytes: STRIPE_BYTES, stripeCount: before });
    map.noteEmpty();
    map.noteZeros(0, 7, { isHole: false });
    map.noteData(9 * STRIPE_BYTES, 1);
    map.grow(after);
    expect([0, 8, 9, before - 1, before, after - 1].map((stripe) => stateOf(map, stripe))).toEqual([
      2, 3, 0, 3, 0, 0,
    ]);
    map.noteZeros(before, after, { isHole: true });
    expect(map.endAt(before * STRIPE_BYTES, after * STRIPE_BYTES)).toBe(after * STRIPE_BYTES);
  }
});

test("allocation: a larger array of coarser regions: one is known where all of it was", () => {
  const map = new AllocationMap({ stripeBytes: STRIPE_BYTES, stripeCount: REGIONS_MAX });
  map.noteEmpty();
  map.noteData(5 * STRIPE_BYTES, 1);
  map.grow(2 * REGIONS_MAX + 3);
  const states = [0, 3, 4, 7, 8, REGIONS_MAX - 1, REGIONS_MAX].map((stripe) =>
    stateOf(map, stripe),
  );
  expect(states).toEqual([3, 3, 0, 0, 3, 3, 0]);
});
