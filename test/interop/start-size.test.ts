/**
 * Goal: requests leave nothing behind: after a hundred thousand and more small ones every pool,
 * table, map and list of the reactor is as large as before (R22 of the fault goals).
 * Method: an array on real files through real libaio, with each policy; reads, writes, FUA writes,
 * flushes, zeroes and trims of up to two rows, 16 at a time. Everything that is reachable from the
 * service is counted by its path before and after: what may grow is listed here. A day takes one
 * policy; three days in a row take all.
 *
 * `IO_COUNT=1000000 bun test test/interop/start-size.test.ts` runs more.
 */
import { afterEach, expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";
import { needs } from "../helpers/needs.ts";
import { Share } from "../helpers/share.ts";
import { TEST_LIMIT_MS } from "../helpers/test-limit.ts";

const CAN_RUN = needs("libaio", "direct-io");
const IO_COUNT = Number(process.env["IO_COUNT"] ?? 100_000);
/** A million takes longer than a test may. */
const LIMIT_MS = Math.max(TEST_LIMIT_MS, 2 * IO_COUNT);
/** Before the first count: what is made on demand, once, is there then. */
const WARM_COUNT = 5_000;
const DEPTH = 16;
const POLICIES = ["resync", "bitmap", "ppl"] as const;
const NAMES = ["a", "b", "c", "d"];

let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

async function load(target: ArrayHarness, sizeBytes: number, count: number): Promise<void> {
  const random = new SeededRandom(count);
  const data = new Uint8Array(8 * KIB).fill(3);
  let started = 0;
  const lane = async (): Promise<void> => {
    while (started < count) {
      started += 1;
      const bytes = 1 + nextBelow(random, data.length);
      const from = nextBelow(random, sizeBytes - bytes);
      const kind = nextBelow(random, 20);
      if (kind < 9) expect((await target.read(from, bytes)).status).toBe(0);
      else if (kind < 16) expect(await target.write(from, data.subarray(0, bytes))).toBe(0);
      else if (kind === 16)
        expect(await target.write(from, data.subarray(0, bytes), { fua: true })).toBe(0);
      else if (kind === 17) expect(await target.flush()).toBe(0);
      else if (kind === 18) expect(await target.writeZeroes(from, bytes)).toBe(0);
      else expect(await target.trim(from, bytes)).toBe(0);
    }
  };
  await Promise.all(Array.from({ length: DEPTH }, lane));
}

/** How many entries each map, set and list has that can be reached, by the path to it. */
function census(root: object): Map<string, number> {
  const sizes = new Map<string, number>();
  const seen = new Set<object>();
  const todo: { path: string; value: object }[] = [{ path: "service", value: root }];
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const { path, value } = next;
    if (seen.has(value) || ArrayBuffer.isView(value)) continue;
    seen.add(value);
    const isList = Array.isArray(value) || value instanceof Map || value instanceof Set;
    if (isList) {
      const size = Array.isArray(value) ? value.length : value.size;
      sizes.set(path, (sizes.get(path) ?? 0) + size);
    }
    const entries: [string, unknown][] = isList
      ? [...value.values()].map((entry) => ["[]", entry])
      : Object.entries(value).map(([key, entry]) => [`.${key}`, entry]);
    for (const [key, entry] of entries) {
      if (typeof entry === "object" && entry !== null)
        todo.push({ path: path + key, value: entry });
    }
  }
  return sizes;
}

interface Sizes {
  readonly engineFree: number;
  readonly payloadFree: number;
  readonly requestsFree: number;
  readonly outstanding: number;
  readonly lists: Record<string, number>;
}

/** The windows by which members are judged fill up with time, to these lengths. */
const WINDOWS: readonly (readonly [RegExp, number])[] = [
  [/\.health\.looks$/, 30],
  [/\.health\.hours$/, 24],
  [/\.suspicions\.seen$/, 1],
];

function sizesOf({ reactor, service }: ArrayHarness): Sizes {
  const { enginePool, payloadPool, table } = reactor.context;
  const lists = census(service);
  for (const [path, size] of lists) {
    const window = WINDOWS.find(([pattern]) => pattern.test(path));
    if (window === undefined) continue;
    expect(size).toBeLessThanOrEqual(window[1] * NAMES.length);
    lists.delete(path);
  }
  return {
    engineFree: enginePool.freeBytes,
    payloadFree: payloadPool.freeBytes,
    requestsFree: table.available,
    outstanding: reactor.queue.outstandingTotal,
    lists: Object.fromEntries(lists),
  };
}

/** Until the array is marked clean, and that is written. */
function rest(target: ArrayHarness): void {
  const { queue } = target.reactor;
  const isAtRest = (): boolean => target.status().state === "clean" && queue.outstandingTotal === 0;
  target.reactor.pumpUntil(isAtRest);
}

for (const policy of new Share("start size", 3).of(POLICIES)) {
  test.skipIf(!CAN_RUN)(
    `R22: ${policy}: ${IO_COUNT} small requests: everything is at its start size [needs libaio, direct-io]`,
    () => {
      harness = new ArrayHarness();
      for (const name of NAMES) harness.addDrive(name, 12 * MIB);
      const { sizeBytes } = harness.createArray({
        drives: NAMES,
        chunkBytes: 64 * KIB,
        consistencyPolicy: policy,
      });
      harness.settle();
      harness.reactor.pump(load(harness, sizeBytes, WARM_COUNT));
      rest(harness);
      const before = sizesOf(harness);
      expect(Object.keys(before.lists).length).toBeGreaterThan(30);
      harness.reactor.pump(load(harness, sizeBytes, IO_COUNT), LIMIT_MS);
      rest(harness);
      const after = sizesOf(harness);
      expect(after.outstanding).toBe(0);
      expect(after).toEqual(before);
    },
    LIMIT_MS,
  );
}
