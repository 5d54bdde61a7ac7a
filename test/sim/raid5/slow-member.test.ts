/**
 * Goal: a member that answers, but far slower than its peers, is read from no more: parity answers
 * at once, in rows that all the others can give, and nothing else changes. It comes back when it is
 * fast again, and one that is slow for long is told of as suspect. A degraded array goes around
 * nobody.
 *
 * Method: an array in virtual time with a member that takes long for each read; what reads take is
 * measured, and everything that is read is looked at.
 */
import { expect, test } from "bun:test";
import type { MemberStatus } from "../../../src/array/protocol.ts";
import { EIO } from "../../../src/base/errno.ts";
import { KIB, MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c", "d"];
const SLOW = "b";
const STRIPES = 24;
const CHUNK_BYTES = 8 * KIB;
const ROWS = (STRIPES * 3 * CHUNK_BYTES) / ROW_BYTES;
const SLOW_MS = 400;
/** Two looks with reads, and what the reads before them took. */
const NOTICED_MS = 15_000;
const BACK_MS = 10_000;
const ALWAYS = Number.POSITIVE_INFINITY;
const LIMIT_MS = 120_000;

/** Its first resync is under way. */
function fresh(names: readonly string[]): SimWorld {
  const world = new SimWorld({ seed: 1, latency: { minMs: 0.1, tailMs: 0 } });
  for (const name of names) world.addDrive({ name, sizeBytes: 4 * MIB });
  const shape = { chunkBytes: CHUNK_BYTES, memberSizeBytes: STRIPES * CHUNK_BYTES };
  world.createArray({ drives: NAMES, ...shape, consistencyPolicy: "resync" });
  return world;
}

function make(names: readonly string[] = NAMES): SimWorld {
  const world = fresh(names);
  world.settle();
  for (let row = 0; row < ROWS; row += 1) write(world, row, byteOf(row));
  world.simulation.runFor(5_000);
  return world;
}

function slowDown(world: SimWorld, delayMs = SLOW_MS): void {
  const fault = { kind: "slow", delayMs } as const;
  world.device(SLOW).faults.plan({ op: Op.read, fault, count: ALWAYS });
}

function byteOf(row: number): number {
  return (row % 251) + 1;
}

function write(world: SimWorld, row: number, byte: number): void {
  const data = new Uint8Array(ROW_BYTES).fill(byte);
  expect(world.run(world.client().write(row * ROW_BYTES, data))).toBe(0);
}

/** Reads rows all over the array, one after the other, for so long; what each took at most. */
function readFor(world: SimWorld, forMs: number, pauseMs = 10): number {
  const endMs = world.nowMs + forMs;
  let longestMs = 0;
  for (let turn = 0; world.nowMs < endMs; turn += 1) {
    const row = (turn * 7) % ROWS;
    const startMs = world.nowMs;
    const { status, data } = world.run(world.client().read(row * ROW_BYTES, ROW_BYTES));
    expect([row, status, data.every((byte) => byte === byteOf(row))]).toEqual([row, 0, true]);
    longestMs = Math.max(longestMs, world.nowMs - startMs);
    world.simulation.runFor(pauseMs);
  }
  return longestMs;
}

function memberOf(world: SimWorld, name: string): MemberStatus {
  return world.status().members.find(({ drive }) => drive === name)!;
}

function told(world: SimWorld, kind: string): number {
  return world.events.filter((event) => event.kind === kind).length;
}

/** A world in which reads go around the slow member. */
function goneAround(names: readonly string[] = NAMES): SimWorld {
  const world = make(names);
  slowDown(world);
  readFor(world, NOTICED_MS);
  expect(memberOf(world, SLOW).isAvoided).toBe(true);
  return world;
}

test(
  "slow member: reads are fast, writes go to it, a scrub compares it, nobody fails",
  () => {
    const world = goneAround();
    expect(readFor(world, 5_000)).toBeLessThan(SLOW_MS / 10);
    const { io } = memberOf(world, SLOW);
    for (let row = 0; row < ROWS; row += 3) write(world, row, byteOf(row));
    expect(readFor(world, 2_000)).toBeLessThan(SLOW_MS / 10);
    const after = memberOf(world, SLOW);
    expect(after.io.writes).toBeGreaterThan(io.writes + ROWS / 12);
    // Probes alone: one in two seconds.
    expect(after.io.reads - io.reads).toBeLessThan(8);
    expect(world.status().degraded).toBe(0);
    const scrub = { kind: "start-scrub", array: ARRAY_NAME, mode: "check" } as const;
    const { id } = world.must<"start-scrub">({
      ...{ ...scrub, limitBytesPerSecond: null, restart: true },
    });
    expect(world.waitJob(id)).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
    expect(memberOf(world, SLOW).isAvoided).toBe(true);
  },
  LIMIT_MS,
);

test(
  "slow member: fast again: it is read from again; slow again: more probes are wanted",
  () => {
    const world = goneAround();
    const backMs: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      world.device(SLOW).faults.quiet();
      const startMs = world.nowMs;
      while (memberOf(world, SLOW).isAvoided === true) {
        readFor(world, 500);
        expect(world.nowMs - startMs).toBeLessThan(6 * BACK_MS);
      }
      backMs.push(world.nowMs - startMs);
      const { reads } = memberOf(world, SLOW).io;
      readFor(world, 1_000);
      expect(memberOf(world, SLOW).io.reads).toBeGreaterThan(reads + 5);
      slowDown(world);
      readFor(world, NOTICED_MS);
      expect(memberOf(world, SLOW).isAvoided).toBe(true);
    }
    expect(backMs[0]).toBeLessThan(BACK_MS);
    expect(backMs[1]!).toBeGreaterThan(1.5 * backMs[0]!);
    expect(backMs[2]!).toBeGreaterThan(1.5 * backMs[1]!);
    expect(told(world, "member.failed")).toBe(0);
  },
  LIMIT_MS,
);

test(
  "slow member: a peer has a bad sector: that row is read from the slow one, and is right",
  () => {
    const world = goneAround();
    const superblock = superblockOf(world.device("a").image());
    if (typeof superblock === "string") throw new Error(superblock);
    const first = superblock.dataOffsetSectors * SECTOR_BYTES;
    // All of the peer: each row of the slow one has a bad sector in its stripe.
    const bytes = STRIPES * CHUNK_BYTES;
    const fault = { kind: "result", result: -EIO } as const;
    world.device("a").faults.plan({ op: Op.read, fault, offset: first, bytes, count: 40 });
    expect(readFor(world, 4_000)).toBeGreaterThan(SLOW_MS);
    readFor(world, 10_000);
    expect(world.status()).toMatchObject({ degraded: 0, lostBytes: 0 });
    world.device("a").faults.quiet();
    expect(world.check()).toBe(0);
  },
  LIMIT_MS,
);

test(
  "slow member: another one is lost: the slow one is read, late but right",
  () => {
    for (let wait = 0; wait < 3; wait += 1) {
      const world = goneAround();
      const reads = Array.from({ length: 24 }, (_, row) =>
        world.client().read(row * ROW_BYTES, ROW_BYTES),
      );
      world.simulation.runFor(0.06 * wait);
      world.device("a").vanish("keep");
      for (const [row, { status, data }] of world.run(Promise.all(reads)).entries()) {
        expect([wait, row, status, data[0]]).toEqual([wait, row, 0, byteOf(row)]);
      }
      expect(readFor(world, 3_000)).toBeGreaterThan(SLOW_MS / 2);
      expect(world.status()).toMatchObject({ degraded: 1 });
    }
  },
  LIMIT_MS,
);

test(
  "slow member: a degraded array goes around nobody",
  () => {
    const world = make();
    world.must<"detach-drive">({ kind: "detach-drive", name: "d", force: true });
    slowDown(world);
    expect(readFor(world, 2 * NOTICED_MS)).toBeGreaterThan(SLOW_MS);
    expect(memberOf(world, SLOW).isAvoided).toBeUndefined();
    expect(world.events.some(({ message }) => message.includes("go around"))).toBe(false);
  },
  LIMIT_MS,
);

test(
  "slow member: in rows that await parity the member itself is read",
  () => {
    const world = fresh(NAMES);
    const speed = { syncSpeedMax: 1, syncSpeedMin: 1 };
    world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...speed });
    for (let row = 0; row < ROWS; row += 1) write(world, row, byteOf(row));
    slowDown(world);
    expect(readFor(world, NOTICED_MS)).toBeGreaterThan(SLOW_MS);
    expect(world.status().sync.action).toBe("resync");
    expect(memberOf(world, SLOW).isAvoided).toBeUndefined();
  },
  LIMIT_MS,
);

test(
  "slow member: for five minutes: suspect, once; where latency is no concern it is not",
  () => {
    const world = goneAround();
    // While nobody reads there is nothing to compare.
    world.simulation.runFor(600_000);
    expect(told(world, "member.suspect")).toBe(0);
    readFor(world, 320_000, 300);
    expect(told(world, "member.suspect")).toBe(1);
    expect(memberOf(world, SLOW).suspect).toMatchObject({ reason: "latency" });
    const others = world.status().members.filter(({ drive }) => drive !== SLOW);
    expect(others.every(({ suspect }) => suspect === undefined)).toBe(true);
    world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, suspectLatencyFactor: 0 });
    world.simulation.runFor(BACK_MS);
    expect(memberOf(world, SLOW)).not.toHaveProperty("suspect");
    expect(memberOf(world, SLOW)).not.toHaveProperty("isAvoided");
    expect([told(world, "member.suspect"), told(world, "member.cleared")]).toEqual([1, 1]);
    expect(world.status()).toMatchObject({ degraded: 0, state: "clean" });
  },
  LIMIT_MS,
);

test(
  "slow member: it is replaced: what is copied is had from the others",
  () => {
    const world = goneAround([...NAMES, "new"]);
    const slowReads = () => world.device(SLOW).faults.injected.get("slow") ?? 0;
    const before = slowReads();
    const replace = { array: ARRAY_NAME, drive: SLOW, with: "new", force: false };
    const job = world.must<"replace-member">({ kind: "replace-member", ...replace });
    expect(world.waitJob(job.id)).toMatchObject({ state: "done" });
    // Probes, and its superblock.
    expect(slowReads() - before).toBeLessThan(4);
    expect(world.status().members[1]).toMatchObject({ drive: "new", state: "in-sync" });
    expect(world.status().members[1]).not.toHaveProperty("isAvoided");
    readFor(world, 1_000);
    expect(world.check()).toBe(0);
  },
  LIMIT_MS,
);

test(
  "slow member: a copy of which some reads are late: it goes on, and ends",
  () => {
    const world = make([...NAMES, "new"]);
    const deadlines = { readDeadlineMs: 1_000, syncSpeedMax: 64 * KIB, syncSpeedMin: 64 * KIB };
    world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...deadlines });
    const fault = { kind: "slow", delayMs: 9_000 } as const;
    for (const skip of [3, 8, 9, 10]) {
      world.device(SLOW).faults.plan({ op: Op.read, fault, skip, count: 1 });
    }
    const replace = { array: ARRAY_NAME, drive: SLOW, with: "new", force: false };
    const job = world.must<"replace-member">({ kind: "replace-member", ...replace });
    expect(world.waitJob(job.id)).toMatchObject({ state: "done" });
    expect(world.status().members[1]).toMatchObject({ drive: "new", state: "in-sync" });
    world.simulation.runFor(10_000);
    world.device(SLOW).checkBuffers();
    readFor(world, 1_000);
    expect(world.check()).toBe(0);
  },
  LIMIT_MS,
);

test(
  "slow member: the array is stopped, or the member is lost, at any moment of a probe",
  () => {
    for (let wait = 0; wait < 6; wait += 1) {
      const world = goneAround();
      world.simulation.runFor(400 * wait + 100);
      if (wait % 2 === 0) {
        world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
        world.must<"start-array">({
          ...{ kind: "start-array", array: ARRAY_NAME, force: false, readOnly: false },
        });
        expect(world.status()).toMatchObject({ state: "clean", degraded: 0 });
      } else {
        world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: SLOW });
        expect(world.status()).toMatchObject({ state: "degraded", degraded: 1 });
      }
      expect(memberOf(world, SLOW).isAvoided).toBeUndefined();
      world.simulation.runFor(5_000);
      world.device(SLOW).faults.quiet();
      readFor(world, 500);
    }
  },
  LIMIT_MS,
);

test(
  "slow member: another one hangs: it is gone around in its place; who reads waits for the slow one",
  () => {
    const world = goneAround();
    world.device("c").faults.plan({ op: Op.read, fault: { kind: "hang" }, count: ALWAYS });
    readFor(world, 60_000);
    expect([memberOf(world, SLOW).isAvoided, memberOf(world, "c").isAvoided]).toEqual([
      undefined,
      true,
    ]);
    const { readDeadlineMs } = world.status();
    expect(readFor(world, 5_000)).toBeLessThan(readDeadlineMs);
    expect(world.status()).toMatchObject({ degraded: 0, lostBytes: 0 });
  },
  LIMIT_MS,
);

test(
  "slow member: another one hangs as well: who reads and writes waits for the slow one, without an error",
  () => {
    for (const hung of ["a", "c", "d"]) {
      const world = goneAround();
      const { faults } = world.device(hung);
      faults.plan({ op: Op.read, fault: { kind: "hang" }, count: 40 });
      for (let row = 0; row < ROWS; row += 5) {
        const { status, data } = world.run(world.client().read(row * ROW_BYTES, ROW_BYTES));
        expect([hung, row, status, data[0]]).toEqual([hung, row, 0, byteOf(row)]);
        // Less than a chunk: old data and parity are read, of whoever has them.
        write(world, row, byteOf(row));
      }
      expect(world.status()).toMatchObject({ degraded: 0, lostBytes: 0 });
      faults.quiet();
      world.simulation.runFor(BACK_MS);
      readFor(world, 1_000);
    }
  },
  LIMIT_MS,
);
