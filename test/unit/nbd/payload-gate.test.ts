/**
 * Goal: payload memory goes round in arrival order, and a large request is not starved by small
 * ones.
 * Method: a small pool and connections that are only numbers; who is resumed is recorded.
 */
import { expect, test } from "bun:test";
import { SLAB_BYTES, SlabPool } from "../../../src/block/pool.ts";
import { PayloadGate } from "../../../src/nbd/payload-gate.ts";

interface Bench {
  readonly pool: SlabPool;
  readonly gate: PayloadGate;
  /** Takes for the connection, as often as it is resumed; remembers what it got. */
  readonly want: (connection: number, slabs: number) => void;
  readonly give: (connection: number) => void;
  readonly log: string[];
}

function bench(slabCount: number): Bench {
  const pool = new SlabPool({ startAddress: 65_536, slabCount });
  const gate = new PayloadGate({ pool, maxConnections: 4 });
  const wanted = new Map<number, number>();
  const held = new Map<number, [number, number][]>();
  const log: string[] = [];
  const attempt = (connection: number) => {
    const slabs = wanted.get(connection)!;
    const address = gate.take(connection, slabs * SLAB_BYTES);
    if (address === 0) return;
    log.push(`${connection}:${slabs}`);
    held.set(connection, [...(held.get(connection) ?? []), [address, slabs]]);
  };
  return {
    pool,
    gate,
    log,
    want(connection, slabs) {
      wanted.set(connection, slabs);
      attempt(connection);
    },
    give(connection) {
      for (const [address, slabs] of held.get(connection) ?? []) {
        pool.free(address, slabs * SLAB_BYTES);
      }
      held.delete(connection);
      if (gate.isPumpDue) gate.pump(attempt);
    },
  };
}

test("payload gate: room: given at once, nobody waits", () => {
  const { gate, want, log } = bench(4);
  want(0, 2);
  want(1, 2);
  expect(log).toEqual(["0:2", "1:2"]);
  expect(gate.waiting).toBe(0);
});

test("payload gate: a large request waits: small ones that fit do not pass it", () => {
  const { gate, want, give, log } = bench(4);
  want(0, 1);
  want(1, 1);
  want(2, 4);
  want(3, 1);
  expect(log).toEqual(["0:1", "1:1"]);
  expect(gate.waiting).toBe(2);
  give(0);
  expect(log).toEqual(["0:1", "1:1"]);
  give(1);
  expect(log).toEqual(["0:1", "1:1", "2:4"]);
  give(2);
  expect(log).toEqual(["0:1", "1:1", "2:4", "3:1"]);
  expect(gate.waiting).toBe(0);
  expect(gate.grants).toBe(2);
});

test("payload gate: one that was served: is last again", () => {
  const { pool, gate } = bench(1);
  const first = gate.take(0, SLAB_BYTES);
  expect(gate.take(1, SLAB_BYTES)).toBe(0);
  expect(gate.take(2, SLAB_BYTES)).toBe(0);
  pool.free(first, SLAB_BYTES);
  const resumed: number[] = [];
  let second = 0;
  gate.pump((connection) => {
    resumed.push(connection);
    const run = gate.take(connection, SLAB_BYTES);
    if (run === 0) return;
    second = run;
    // It has another request, which waits behind the other connection.
    gate.take(connection, SLAB_BYTES);
  });
  expect(resumed).toEqual([1, 2]);
  pool.free(second, SLAB_BYTES);
  const third: number[] = [];
  gate.pump((connection) => {
    third.push(connection);
    gate.take(connection, SLAB_BYTES);
  });
  expect(third).toEqual([2, 1]);
});

test("payload gate: the head leaves: the next goes on", () => {
  const { gate, want, give, log } = bench(4);
  want(0, 3);
  want(1, 4);
  want(2, 1);
  expect(gate.hasOthersWaiting(1)).toBe(true);
  gate.leave(1);
  expect(gate.hasOthersWaiting(2)).toBe(false);
  expect(gate.isPumpDue).toBe(true);
  give(3);
  expect(log).toEqual(["0:3", "2:1"]);
  expect(gate.isPumpDue).toBe(false);
});

test("payload gate: one leaves from the middle of a wrapped queue: order is kept", () => {
  const { pool, gate } = bench(1);
  let run = gate.take(3, SLAB_BYTES);
  for (let turn = 0; turn < 3; turn += 1) {
    expect(gate.take(0, SLAB_BYTES)).toBe(0);
    pool.free(run, SLAB_BYTES);
    gate.pump((connection) => {
      run = gate.take(connection, SLAB_BYTES);
    });
  }
  for (const connection of [0, 1, 2, 3]) expect(gate.take(connection, SLAB_BYTES)).toBe(0);
  gate.leave(1);
  const order: number[] = [];
  for (let turn = 0; turn < 3; turn += 1) {
    pool.free(run, SLAB_BYTES);
    gate.pump((connection) => {
      const got = gate.take(connection, SLAB_BYTES);
      if (got === 0) return;
      run = got;
      order.push(connection);
    });
  }
  expect(order).toEqual([0, 2, 3]);
});

test("payload gate: a reserve: small requests do not wait for a large one", () => {
  const { gate, want, give, log } = bench(64);
  want(0, 60);
  want(1, 30);
  expect(gate.waiting).toBe(1);
  want(2, 3);
  want(3, 2);
  expect([log, gate.waiting]).toEqual([["0:60", "2:3"], 2]);
  // What one of them gives back goes to the next small one, before the large one.
  give(2);
  expect([log, gate.waiting]).toEqual([["0:60", "2:3", "3:2"], 1]);
  give(0);
  expect([log.at(-1), gate.waiting]).toEqual(["1:30", 0]);
});

test("payload gate: a reserve: those that wait behind the first one keep their order", () => {
  const { pool, want, give, log } = bench(64);
  want(0, 60);
  for (const connection of [1, 2, 3]) want(connection, 20);
  pool.free(pool.allocateReserved(1), 1);
  give(3);
  expect(log).toEqual(["0:60"]);
  give(0);
  expect(log).toEqual(["0:60", "1:20", "2:20", "3:20"]);
});

test("payload gate: a reserve: never for large requests, which fit all the same in the rest", () => {
  const { pool, want, log } = bench(64);
  expect(pool.largestRunBytes).toBe(60 * SLAB_BYTES);
  want(0, 60);
  want(1, 5);
  want(2, 4);
  expect(log).toEqual(["0:60", "2:4"]);
});
