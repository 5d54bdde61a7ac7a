/**
 * Goal: runs of slabs never overlap, come back whole, and a dry pool answers 0 instead of growing.
 * Method: small pools by hand, then random allocations against a map of used slabs.
 */
import { expect, test } from "bun:test";
import {
  createPools,
  MEMORY_MIB_MIN,
  memoryWayOut,
  poolBytesOf,
} from "../../../src/array/memory-shares.ts";
import { CONTROL_BYTES } from "../../../src/base/memory.ts";
import { SeededRandom } from "../../../src/base/random.ts";
import { MIB } from "../../../src/base/units.ts";
import { SLAB_BYTES, SlabPool } from "../../../src/block/pool.ts";

const START = 1024 * 1024;
const setUp = (slabCount: number) => new SlabPool({ startAddress: START, slabCount });

test("pool: one byte, one slab, one byte more: take whole slabs", () => {
  const pool = setUp(8);
  expect(pool.totalBytes).toBe(8 * SLAB_BYTES);
  for (const [bytes, slabs] of [
    [1, 1],
    [SLAB_BYTES, 1],
    [SLAB_BYTES + 1, 2],
  ] as const) {
    const before = pool.freeBytes;
    const address = pool.allocate(bytes);
    expect((address - START) % SLAB_BYTES).toBe(0);
    expect(before - pool.freeBytes).toBe(slabs * SLAB_BYTES);
    pool.free(address, bytes);
    expect(pool.freeBytes).toBe(before);
  }
});

test("pool: dry: answers 0 until a run is freed, and says so to listeners", () => {
  const pool = setUp(2);
  let freedCount = 0;
  pool.onFreed(() => {
    freedCount += 1;
  });
  const first = pool.allocate(SLAB_BYTES);
  const second = pool.allocate(SLAB_BYTES);
  expect(second).not.toBe(first);
  expect(pool.allocate(1)).toBe(0);
  pool.free(first, SLAB_BYTES);
  expect(freedCount).toBe(1);
  expect(pool.allocate(1)).toBe(first);
});

test("pool: enough slabs but no run: answers 0, and the run once a neighbour is freed", () => {
  const pool = setUp(4);
  const slabs = [0, 1, 2, 3].map(() => pool.allocate(SLAB_BYTES));
  pool.free(slabs[0]!, SLAB_BYTES);
  pool.free(slabs[2]!, SLAB_BYTES);
  expect(pool.allocate(2 * SLAB_BYTES)).toBe(0);
  pool.free(slabs[1]!, SLAB_BYTES);
  expect(pool.allocate(3 * SLAB_BYTES)).toBe(slabs[0]!);
});

test("pool: a slab that was pinned when it was given back: is found when it is unpinned", () => {
  const pool = setUp(4);
  const slabs = [0, 1, 2, 3].map(() => pool.allocate(SLAB_BYTES));
  pool.pin(slabs[0]!, SLAB_BYTES);
  for (const slab of slabs) pool.free(slab, SLAB_BYTES);
  expect(pool.allocate(2 * SLAB_BYTES)).toBe(slabs[1]!);
  pool.unpin(slabs[0]!, SLAB_BYTES);
  expect(pool.allocate(SLAB_BYTES)).toBe(slabs[0]!);
});

test("pool: a wrong free: twice, beside a slab, out of the pool: stops", () => {
  const pool = setUp(4);
  const address = pool.allocate(SLAB_BYTES);
  expect(() => pool.free(address + 4096, SLAB_BYTES)).toThrow("starts on a slab");
  expect(() => pool.free(address, 8 * SLAB_BYTES)).toThrow("ends in the pool");
  pool.free(address, SLAB_BYTES);
  expect(() => pool.free(address, SLAB_BYTES)).toThrow("freed once");
  expect(() => pool.allocate(5 * SLAB_BYTES)).toThrow("fits in the pool");
});

test("pool: random runs: never overlap, and the lowest is found whenever there is one", () => {
  const random = new SeededRandom(3);
  const slabCount = 40;
  const pool = setUp(slabCount);
  const used = new Array<boolean>(slabCount).fill(false);
  const runs: { address: number; bytes: number }[] = [];
  const mark = (run: { address: number; bytes: number }, isUsed: boolean) => {
    const first = (run.address - START) / SLAB_BYTES;
    for (let slab = first; slab < first + Math.ceil(run.bytes / SLAB_BYTES); slab += 1) {
      expect(used[slab]).toBe(!isUsed);
      used[slab] = isUsed;
    }
  };
  for (let round = 0; round < 20_000; round += 1) {
    const bytes = 1 + (random.nextU32() % (6 * SLAB_BYTES));
    const address = pool.allocate(bytes);
    const count = Math.ceil(bytes / SLAB_BYTES);
    const map = used.map((u) => (u ? "x" : ".")).join("");
    const lowest = map.indexOf(".".repeat(count));
    expect(address).toBe(lowest < 0 ? 0 : START + lowest * SLAB_BYTES);
    if (address !== 0) {
      runs.push({ address, bytes });
      mark(runs.at(-1)!, true);
    }
    while (runs.length > 0 && random.nextU32() % 2 === 0) {
      const [run] = runs.splice(random.nextU32() % runs.length, 1);
      pool.free(run!.address, run!.bytes);
      mark(run!, false);
    }
  }
});

test("pool: the pools of a reactor: halves side by side, one slab more for payloads", () => {
  for (const slabs of [1024, 1025]) {
    const { enginePool, payloadPool } = createPools(slabs * SLAB_BYTES);
    expect(enginePool.startAddress).toBe(CONTROL_BYTES);
    expect(enginePool.totalBytes).toBe(32 * MIB);
    expect(payloadPool.startAddress).toBe(CONTROL_BYTES + 32 * MIB);
    expect(payloadPool.totalBytes).toBe((slabs - 512 + 1) * SLAB_BYTES);
  }
});

test("pool: a reserve: only for those who ask for it, and back in it when it is freed", () => {
  const pool = setUp(16);
  pool.reserve(4);
  expect([pool.largestRunBytes, pool.freeBytes]).toEqual([12 * SLAB_BYTES, 16 * SLAB_BYTES]);
  const runs: number[] = [];
  for (let run = pool.allocate(1); run !== 0; run = pool.allocate(1)) runs.push(run);
  expect([runs.length, Math.max(...runs)]).toEqual([12, START + 11 * SLAB_BYTES]);
  const reserved = pool.allocateReserved(3 * SLAB_BYTES);
  expect([reserved, pool.hasReserved]).toEqual([START + 12 * SLAB_BYTES, true]);
  expect(pool.allocateReserved(2 * SLAB_BYTES)).toBe(0);
  expect(pool.allocateReserved(1)).toBe(START + 15 * SLAB_BYTES);
  expect([pool.allocateReserved(1), pool.hasReserved, pool.freeBytes]).toEqual([0, false, 0]);
  pool.free(reserved, 3 * SLAB_BYTES);
  expect([pool.allocate(1), pool.hasReserved]).toEqual([0, true]);
  // Round and round, never over the border.
  for (const run of runs) pool.free(run, 1);
  for (let count = 0; count < 20; count += 1) {
    const run = pool.allocate(5 * SLAB_BYTES);
    expect(run + 5 * SLAB_BYTES).toBeLessThanOrEqual(START + 12 * SLAB_BYTES);
    pool.free(run, 5 * SLAB_BYTES);
  }
});

test("pool: the memory that is named for a use: takes it, and a mebibyte less does not", () => {
  const { enginePool: least } = createPools(poolBytesOf(MEMORY_MIB_MIN));
  for (const bytes of [12 * MIB, 16 * MIB, 16 * MIB + 1, 53 * SLAB_BYTES * 7, 500 * MIB]) {
    const named = Number(/--memory-mib (\d+) or more/.exec(memoryWayOut(least, bytes)!)?.[1]);
    const takes = (mebibytes: number): boolean => {
      const { enginePool } = createPools(poolBytesOf(mebibytes));
      return memoryWayOut(enginePool, bytes) === undefined;
    };
    expect([bytes, takes(named), takes(named - 1)]).toEqual([bytes, true, false]);
  }
  expect(memoryWayOut(least, 10 * MIB)).toBeUndefined();
  expect(memoryWayOut(least, 1024 * MIB)).toContain("no --memory-mib is enough (the most is 4096)");
});

test("pool: take: in the order of asking where a run fits, and none for an ended array", async () => {
  const pool = setUp(4);
  const gone = pool.share();
  const slabs = [0, 1, 2, 3].map(() => pool.allocate(SLAB_BYTES));
  const got: string[] = [];
  const note = (name: string) => (address: number) => {
    got.push(`${name} ${(address - START) / SLAB_BYTES}`);
    return address;
  };
  void gone.take(SLAB_BYTES).then(note("gone"));
  const long = pool.take(2 * SLAB_BYTES).then(note("long"));
  const rows = ["first", "second"].map((name) => pool.take(1).then(note(name)));
  gone.reclaim();
  // Who waits for a row may have what the long run needs: it does not wait behind that.
  pool.free(slabs[3]!, SLAB_BYTES);
  await Bun.sleep(0);
  expect(got).toEqual(["first 3"]);
  pool.free(slabs[0]!, SLAB_BYTES);
  await Promise.all(rows);
  expect(got).toEqual(["first 3", "second 0"]);
  const high = pool.take(1, { staysLong: true }).then(note("high"));
  pool.free(slabs[1]!, SLAB_BYTES);
  pool.free(slabs[2]!, SLAB_BYTES);
  await high;
  expect(got.at(-1)).toBe("high 1");
  pool.free(START, SLAB_BYTES);
  expect(pool.allocate(SLAB_BYTES)).not.toBe(0);
  pool.free(START + SLAB_BYTES, SLAB_BYTES);
  await long;
  expect(got.at(-1)).toBe("long 1");
  const neverComes = gone.take(1).then(note("ended"));
  pool.free(START + SLAB_BYTES, 2 * SLAB_BYTES);
  expect(await Promise.race([neverComes, Bun.sleep(1)])).toBe(undefined);
});
