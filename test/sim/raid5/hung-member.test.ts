/**
 * Goal: a member that stops answering costs a reader the read deadline and no more, its buffers are
 * nobody else's until it answers, and members that stall together fail nobody (R8 of the fault
 * goals, write-rules 10 and 14).
 *
 * Method: an array in virtual time under four readers and two writers, which goes silent in one
 * member from each of its requests on. The simulated drive poisons the buffer of each read at its
 * submit, and asserts, for as long as it hangs, that nobody has touched it. A reader of a stripe in
 * which a write waits for the hung member may wait with it, at most by the write deadline: so
 * readers and writers are in different stripes, and once in the same. A day takes its share of the
 * members, of the requests, of the groups and of the delays; six days in a row take all of them.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share, withShare } from "../../helpers/share.ts";
import type { SimClient } from "../world/sim-clients.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c", "d"];
const CHUNK_BYTES = 8 * KIB;
const STRIPES = 6;
const ARRAY_BYTES = 3 * STRIPES * CHUNK_BYTES;
const ARRAY_ROWS = ARRAY_BYTES / ROW_BYTES;
/** Where writers and readers are when they keep apart: whole stripes each. */
const HALF_ROWS = ARRAY_ROWS / 2;
const READ_DEADLINE_MS = 2000;
const WRITE_DEADLINE_MS = 8000;
/** Slack that the goal gives. */
const SLACK_MS = 1000;
const DAYS = 6;
/** Which member hangs, from which of its requests on. */
const HANGS = NAMES.flatMap((name, place) =>
  [0, 4, 8, 12, 16, 20].map((skip) => ({ name, place, skip })),
);
/** Two or more of the members, as bits, and for how long they stall. */
const STALLS = Array.from({ length: 1 << NAMES.length }, (_, mask) => mask)
  .filter((mask) => mask.toString(2).replaceAll("0", "").length >= 2)
  .flatMap((mask) =>
    [READ_DEADLINE_MS / 2, WRITE_DEADLINE_MS / 2, 4 * WRITE_DEADLINE_MS].map((stallMs) => ({
      mask,
      stallMs,
    })),
  );

function make(policy: ConsistencyPolicy, seed: number): SimWorld {
  const world = new SimWorld({ seed });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  const memberSizeBytes = STRIPES * CHUNK_BYTES;
  const shape = { chunkBytes: CHUNK_BYTES, memberSizeBytes, consistencyPolicy: policy };
  world.createArray({ drives: NAMES, ...shape });
  world.settle();
  world.must<"set-array">({
    kind: "set-array",
    array: ARRAY_NAME,
    readDeadlineMs: READ_DEADLINE_MS,
    writeDeadlineMs: WRITE_DEADLINE_MS,
  });
  world.run(world.client().write(0, new Uint8Array(ARRAY_BYTES).fill(1)));
  return world;
}

/** Readers and writers that go on until they are told to stop; every answer is looked at. */
class Load {
  slowestReadMs = 0;
  slowestWriteMs = 0;
  reads = 0;
  writes = 0;
  private readonly world: SimWorld;
  private readonly client: SimClient;
  private readonly running: Promise<void>[] = [];
  /** Writers are below it, readers in the last so many. */
  private readonly rows: number;
  private isOver = false;

  constructor(
    world: SimWorld,
    { readers, writers, isApart = false }: { readers: number; writers: number; isApart?: boolean },
  ) {
    this.world = world;
    this.client = world.client();
    this.rows = isApart ? HALF_ROWS : ARRAY_ROWS;
    for (let index = 0; index < readers; index += 1) this.running.push(this.read(index));
    for (let index = 0; index < writers; index += 1) this.running.push(this.write(index));
  }

  /** Ends when all that is under way has been answered. */
  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.running);
  }

  private async read(index: number): Promise<void> {
    const { world } = this;
    const first = ARRAY_ROWS - this.rows;
    for (let at = index * 5; !this.isOver; at = (at + 7) % this.rows) {
      const row = first + at;
      const startMs = world.nowMs;
      const { status, data } = await this.client.read(row * ROW_BYTES, ROW_BYTES);
      // Everything that is ever written is ones.
      expect([status, data.every((byte) => byte === 1)]).toEqual([0, true]);
      this.slowestReadMs = Math.max(this.slowestReadMs, world.nowMs - startMs);
      this.reads += 1;
      await world.context.timers.sleep(10);
    }
  }

  private async write(index: number): Promise<void> {
    const { world } = this;
    const bytes = 2 * ROW_BYTES;
    for (let row = index * 11; !this.isOver; row = (row + 10) % (this.rows - 1)) {
      const startMs = world.nowMs;
      const status = await this.client.write(row * ROW_BYTES, new Uint8Array(bytes).fill(1));
      expect(status).toBe(0);
      this.slowestWriteMs = Math.max(this.slowestWriteMs, world.nowMs - startMs);
      this.writes += 1;
      await world.context.timers.sleep(10);
    }
  }
}

for (const policy of POLICIES) {
  for (const isApart of [true, false]) {
    const where = isApart ? "" : ", also in stripes that are written";
    const boundMs = READ_DEADLINE_MS + SLACK_MS + (isApart ? 0 : WRITE_DEADLINE_MS);
    test(`R8: ${policy}: a member hangs from its Nth request on${where}: reads by ${boundMs} ms`, () => {
      const today = new Share(`hangs ${policy} ${isApart}`, DAYS).of(HANGS);
      withShare(() => {
        for (const hang of today) hangFrom({ ...hang, isApart, boundMs });
      });
    });
  }

  function hangFrom(options: {
    readonly place: number;
    readonly name: string;
    readonly skip: number;
    readonly isApart: boolean;
    readonly boundMs: number;
  }): void {
    const { place, name, skip, isApart, boundMs } = options;
    const world = make(policy, skip + 1);
    const device = world.device(name);
    const count = Number.POSITIVE_INFINITY;
    const hits = device.faults.plan({ fault: { kind: "hang" }, skip, count });
    const load = new Load(world, { readers: 4, writers: 2, isApart });
    for (let second = 0; second < 16; second += 1) {
      world.simulation.runFor(1000);
      device.checkBuffers();
    }
    expect([name, skip, hits() > 0]).toEqual([name, skip, true]);
    world.run(load.end());
    expect(load.slowestReadMs).toBeLessThanOrEqual(boundMs);
    // The writes wait for the write deadline, which fails the member, and its record.
    expect(load.slowestWriteMs).toBeLessThan(READ_DEADLINE_MS + WRITE_DEADLINE_MS + 2 * SLACK_MS);
    expect([load.reads > 100, load.writes > 0]).toEqual([true, true]);
    expect(world.status().members[place]!.state).toBe("faulty");
    // Late answers land in buffers that are still the request's own: it asserts that.
    device.faults.quiet();
    device.release();
    world.simulation.runFor(1000);
    expect(device.outstandingCount).toBe(0);
    const { status, data } = world.run(world.client().read(0, ARRAY_BYTES));
    expect([status, data.every((byte) => byte === 1)]).toEqual([0, true]);
  }

  test(`R8: ${policy}: only reads, a member hangs: by the deadline, and it stays a member`, () => {
    const today = new Share(`only reads ${policy}`, NAMES.length).of(NAMES);
    withShare(() => {
      for (const name of today) onlyReads(name);
    });
  });

  function onlyReads(name: string): void {
    const world = make(policy, 3);
    // Until the bitmap has rested too: a write to it that hangs would cost the member.
    world.settle();
    world.simulation.runFor(60_000);
    const device = world.device(name);
    device.hang();
    const load = new Load(world, { readers: 8, writers: 0 });
    world.simulation.runFor(60_000);
    device.checkBuffers();
    world.run(load.end());
    expect(load.slowestReadMs).toBeGreaterThanOrEqual(READ_DEADLINE_MS);
    expect(load.slowestReadMs).toBeLessThanOrEqual(READ_DEADLINE_MS + SLACK_MS);
    expect(world.status().degraded).toBe(0);
    device.release();
    world.simulation.runFor(1000);
    expect(device.outstandingCount).toBe(0);
  }

  test(`R8: ${policy}: two or more members stall together: nobody fails, all is answered`, () => {
    const today = new Share(`stalls ${policy}`, DAYS).of(STALLS);
    withShare(() => {
      for (const stall of today) stallTogether(policy, stall);
    });
  });
}

function stallTogether(
  policy: ConsistencyPolicy,
  { mask, stallMs }: { mask: number; stallMs: number },
): void {
  const stalled = NAMES.filter((_, index) => (mask >> index) & 1);
  const world = make(policy, mask);
  const load = new Load(world, { readers: 4, writers: 2 });
  world.simulation.runFor(500);
  for (const name of stalled) world.device(name).hang();
  world.simulation.runFor(stallMs);
  // One after the other, and the watch looks in between.
  for (const name of stalled) {
    world.device(name).release();
    world.simulation.runFor(1700);
  }
  world.run(load.end());
  const { degraded, state } = world.settle();
  expect([stalled, stallMs, degraded, state]).toEqual([stalled, stallMs, 0, "clean"]);
  expect(world.check()).toBe(0);
}

test("R8: two members stall, and one gets its first request late: nobody fails", () => {
  let ran = 0;
  const today = new Share("late first request", DAYS);
  for (let delayMs = 1000; delayMs < 2 * WRITE_DEADLINE_MS; delayMs += 200) {
    if (!today.takes(delayMs / 200)) continue;
    const world = make("resync", 2);
    const client = world.client();
    const write = (row: number) => client.write(row * ROW_BYTES, new Uint8Array(ROW_BYTES).fill(1));
    // Row 0: data on a, parity on d. Row 6: data on d, parity on c. The array is dirty already.
    world.run(write(0));
    // Not the read before it, or the write would ask c for what a does not give.
    const fault = { kind: "hang" } as const;
    world.device("a").faults.plan({ fault, op: Op.write, count: Number.POSITIVE_INFINITY });
    world.device("c").hang();
    const answers = [write(0)];
    world.simulation.runFor(delayMs);
    // Nothing tells that c hangs, as long as it is asked for nothing.
    if (world.status().degraded > 0) break;
    answers.push(write(6));
    world.simulation.runFor(3 * WRITE_DEADLINE_MS);
    world.device("a").faults.quiet();
    for (const name of ["a", "c"]) world.device(name).release();
    expect(world.run(Promise.all(answers))).toEqual([0, 0]);
    expect([delayMs, world.settle().degraded]).toEqual([delayMs, 0]);
    ran += 1;
  }
  expect(ran).toBeGreaterThan(30 / DAYS);
});
