/**
 * Goal: writes that come in one turn for one stripe are one plan, whichever client they are of, and
 * a stripe that a client is filling in order is waited for: it costs no reads, and one write for
 * each member. Nobody who keeps one request under way waits, and nobody waits for long.
 * Method: a dirty array in the simulator; what its drives are asked for, and when, is counted.
 */
import { expect, test } from "bun:test";
import { KIB, MIB } from "../../../src/base/units.ts";
import { POLICIES } from "../../helpers/policies.ts";
import type { FrontClient } from "../world/sim-clients.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK = 8 * KIB;
const NAMES = ["a", "b", "c", "d"];
const STRIPE = (NAMES.length - 1) * CHUNK;

/** What a drive takes for each request. */
const DRIVE_MS = 1;

/** Dirty, so that a write begins in the turn in which it comes. */
function dirtyWorld(policy: (typeof POLICIES)[number]): SimWorld {
  const world = new SimWorld({ seed: 7, latency: { minMs: DRIVE_MS, tailMs: 0 } });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  world.createArray({ drives: NAMES, chunkBytes: CHUNK, consistencyPolicy: policy });
  world.settle();
  expect(world.run(world.client().write(8 * STRIPE, new Uint8Array(CHUNK)))).toBe(0);
  return world;
}

interface Counts {
  readonly reads: number;
  readonly writes: number;
}

/** Reads and writes of data so far. */
function counts(world: SimWorld): Counts {
  const { members } = world.status();
  const sum = (of: (io: (typeof members)[number]["io"]) => number) =>
    members.reduce((total, { io }) => total + of(io), 0);
  return { reads: sum(({ reads }) => reads), writes: sum(({ writes }) => writes) };
}

for (const policy of POLICIES) {
  for (const clientCount of [1, 3]) {
    test(`full stripes: ${policy}: a stripe by chunks, ${clientCount} clients, one turn: no reads, one write a member`, () => {
      const world = dirtyWorld(policy);
      const clients = Array.from({ length: clientCount }, () => world.client());
      const before = counts(world);
      // In no order that helps.
      const writes = [2, 0, 1].map((chunk) => {
        const data = new Uint8Array(CHUNK).fill(chunk + 1);
        return clients[chunk % clientCount]!.write(chunk * CHUNK, data);
      });
      expect(world.run(Promise.all(writes))).toEqual([0, 0, 0]);
      const after = counts(world);
      const logged = policy === "ppl" ? 1 : 0;
      expect(after.reads - before.reads).toBe(0);
      expect(after.writes - before.writes).toBe(NAMES.length + logged);
      const { data } = world.run(world.client().read(0, STRIPE));
      expect([data[0], data[CHUNK], data[2 * CHUNK]]).toEqual([1, 2, 3]);
      world.settle();
      expect(world.check()).toBe(0);
    });
  }
}

test("full stripes: two writes of the same rows in one turn: the later one holds", () => {
  const world = dirtyWorld("resync");
  const client = world.client();
  const first = client.write(0, new Uint8Array(CHUNK).fill(1));
  const second = client.write(0, new Uint8Array(CHUNK).fill(2));
  expect(world.run(Promise.all([first, second]))).toEqual([0, 0]);
  expect(world.run(client.read(0, CHUNK)).data[0]).toBe(2);
});

/** Two chunks of a stripe behind a whole one, which is under way or answered: a stream. */
function beginStream(world: SimWorld): { first: Promise<number>; chunk: (index: number) => Chunk } {
  const client = world.client() as FrontClient;
  const first = client.write(0, new Uint8Array(STRIPE).fill(9));
  const chunk = (index: number): Chunk => {
    const offset = STRIPE + index * CHUNK;
    return {
      write: (options) => client.write(offset, new Uint8Array(CHUNK).fill(index + 1), options),
      noteComing: async (isComing) => {
        // Writes before it have reached the array by then, and no turn has passed.
        for (let step = 0; step < 10; step += 1) await null;
        client.noteComing(offset, isComing);
      },
    };
  };
  return { first, chunk };
}

interface Chunk {
  write(options?: { fua: boolean }): Promise<number>;
  noteComing(isComing: boolean): Promise<void>;
}

/** Both stripes were written whole: no reads, one write of each member for each of them. */
function expectWhole(world: SimWorld, policy: (typeof POLICIES)[number], before: Counts): void {
  const after = counts(world);
  const logged = policy === "ppl" ? 2 : 0;
  expect(after.reads - before.reads).toBe(0);
  expect(after.writes - before.writes).toBe(2 * NAMES.length + logged);
  // One chunk made it dirty.
  expect(world.status().stripeWrites).toEqual({ full: 2, partial: 1 });
  const { data } = world.run(world.client().read(STRIPE, STRIPE));
  expect([data[0], data[CHUNK], data[2 * CHUNK]]).toEqual([1, 2, 3]);
  world.settle();
  expect(world.check()).toBe(0);
}

for (const policy of POLICIES) {
  test(`full stripes: ${policy}: filled in order over turns, others under way: waited for`, () => {
    const world = dirtyWorld(policy);
    const before = counts(world);
    const { first, chunk } = beginStream(world);
    const writes = [first];
    for (const index of [0, 1, 2]) {
      writes.push(chunk(index).write());
      world.simulation.runFor(DRIVE_MS / 10);
    }
    expect(world.run(Promise.all(writes))).toEqual([0, 0, 0, 0]);
    expectWhole(world, policy, before);
  });

  test(`full stripes: ${policy}: filled in order, the next one being received: waited for`, async () => {
    const world = dirtyWorld(policy);
    const before = counts(world);
    const { first, chunk } = beginStream(world);
    expect(world.run(first)).toBe(0);
    world.simulation.runFor(1);
    const writes: Promise<number>[] = [];
    for (const index of [0, 1, 2]) {
      writes.push(chunk(index).write());
      if (index < 2) await chunk(index + 1).noteComing(true);
      world.simulation.runFor(0.5);
    }
    expect(world.run(Promise.all(writes))).toEqual([0, 0, 0]);
    expectWhole(world, policy, before);
  });
}

/** When the drives were first asked for something after this, in milliseconds from now. */
function untilAsked(world: SimWorld, from: Counts): number {
  const startMs = world.nowMs;
  const sum = ({ reads, writes }: Counts) => reads + writes;
  while (sum(counts(world)) === sum(from) && world.nowMs < startMs + 100) {
    world.simulation.runFor(0.01);
  }
  return world.nowMs - startMs;
}

test("full stripes: filled in order, and no more comes: begun soon after the last answer", () => {
  const world = dirtyWorld("resync");
  const { first, chunk } = beginStream(world);
  const second = chunk(0).write();
  expect(world.run(first)).toBe(0);
  // Its drives have been asked when they have answered.
  expect(untilAsked(world, counts(world))).toBeLessThan(DRIVE_MS + 0.2);
  expect(world.run(second)).toBe(0);
});

test("full stripes: the next one is received no further: not for long, and not when it is gone", async () => {
  for (const isWithdrawn of [false, true]) {
    const world = dirtyWorld("resync");
    const { first, chunk } = beginStream(world);
    expect(world.run(first)).toBe(0);
    const second = chunk(0).write();
    await chunk(1).noteComing(true);
    world.simulation.runFor(2);
    if (isWithdrawn) await chunk(1).noteComing(false);
    const startMs = world.nowMs;
    expect(world.run(second)).toBe(0);
    const heldMs = world.nowMs - startMs - 2 * DRIVE_MS;
    expect(Math.abs(heldMs - (isWithdrawn ? 0 : 3))).toBeLessThan(0.2);
  }
});

test("full stripes: a client at depth 1, in order: nothing is waited for", () => {
  const world = dirtyWorld("resync");
  const { first, chunk } = beginStream(world);
  expect(world.run(first)).toBe(0);
  for (const index of [0, 1, 2]) {
    const before = counts(world);
    const written = chunk(index).write();
    expect(untilAsked(world, before)).toBeLessThan(DRIVE_MS + 0.02);
    expect(world.run(written)).toBe(0);
  }
});

test("full stripes: FUA: nothing is waited for", async () => {
  const world = dirtyWorld("resync");
  const { first, chunk } = beginStream(world);
  const before = counts(world);
  const written = chunk(0).write({ fua: true });
  await chunk(1).noteComing(true);
  world.simulation.runFor(DRIVE_MS + 0.05);
  expect(counts(world).reads).toBeGreaterThan(before.reads);
  expect(world.run(Promise.all([first, written]))).toEqual([0, 0]);
});

test("full stripes: two are held, one a little later: neither for long", async () => {
  const world = dirtyWorld("resync");
  const client = world.client() as FrontClient;
  // Two streams, and the next of each is received no further.
  const ends = [2 * STRIPE, 5 * STRIPE];
  const firsts = ends.map((end) => client.write(end - STRIPE, new Uint8Array(STRIPE)));
  expect(world.run(Promise.all(firsts))).toEqual([0, 0]);
  const heldMs: number[] = [];
  const writes: Promise<unknown>[] = [];
  for (const end of ends) {
    const startMs = world.nowMs;
    const written = client.write(end, new Uint8Array(CHUNK));
    for (let step = 0; step < 10; step += 1) await null;
    client.noteComing(end + CHUNK, true);
    writes.push(written.then(() => heldMs.push(world.nowMs - startMs - 2 * DRIVE_MS)));
    // Times that a sum does not give exactly: seed 826999078 had timers for no time, without end.
    world.simulation.runFor(Math.PI / 3);
  }
  world.run(Promise.all(writes));
  expect(heldMs.map((held) => Math.abs(held - 5) < 0.2)).toEqual([true, true]);
});

test("full stripes: FUA behind one that is held: neither waits", async () => {
  const world = dirtyWorld("resync");
  const { first, chunk } = beginStream(world);
  expect(world.run(first)).toBe(0);
  const held = chunk(0).write();
  await chunk(1).noteComing(true);
  world.simulation.runFor(0.5);
  const startMs = world.nowMs;
  const durable = chunk(1).write({ fua: true });
  await chunk(2).noteComing(true);
  expect(world.run(Promise.all([held, durable]))).toEqual([0, 0]);
  expect(world.nowMs - startMs).toBeLessThan(3 * DRIVE_MS + 0.5);
});

test("full stripes: somebody else wants the stripe: it is not waited for", async () => {
  const world = dirtyWorld("resync");
  const { first, chunk } = beginStream(world);
  expect(world.run(first)).toBe(0);
  // A read of what was on it takes the stripe.
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "d" });
  world.simulation.runFor(10);
  const written = chunk(0).write();
  await chunk(1).noteComing(true);
  world.simulation.runFor(0.1);
  const startMs = world.nowMs;
  const reads = [0, 1, 2].map((index) => world.client().read(STRIPE + index * CHUNK, CHUNK));
  expect(world.run(Promise.all(reads)).map(({ status }) => status)).toEqual([0, 0, 0]);
  expect(world.nowMs - startMs).toBeLessThan(4);
  expect(world.run(written)).toBe(0);
});
