/**
 * Goal: a drive that does not answer is told of while clients still wait for it, long before it is
 * failed: in its status, by one event for the begin of its silence and one for the end.
 *
 * Method: arrays in virtual time, whole and degraded, of which members hang at reads, at writes or
 * while the array starts.
 */
import { expect, test } from "bun:test";
import { SILENCE_MS } from "../../../src/array/commands/drive-silences.ts";
import type { DriveSilence } from "../../../src/array/protocol.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c"];
const LOOK_MS = 1_000;

function make(): SimWorld {
  const world = new SimWorld({ seed: 1 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  const shape = { chunkBytes: 8 * KIB, memberSizeBytes: 64 * KIB };
  world.createArray({ drives: NAMES, ...shape, consistencyPolicy: "resync" });
  world.settle();
  world.simulation.runFor(60_000);
  return world;
}

function silenceOf(world: SimWorld, name: string): DriveSilence | undefined {
  return world.must<"list-drives">({ kind: "list-drives" }).find((drive) => drive.name === name)
    ?.silence;
}

function told(world: SimWorld): string[] {
  return world.events
    .filter(({ kind }) => kind === "drive.silent" || kind === "drive.answers")
    .map(({ kind, array, drive }) => `${kind} ${array} ${drive}`);
}

const BEGIN = `drive.silent ${ARRAY_NAME} b`;
const END = `drive.answers ${ARRAY_NAME} b`;
const count = Number.POSITIVE_INFINITY;

test("silent: writes of a member hang, reads do not: told once, and again when it has answered", () => {
  const world = make();
  world.device("b").faults.plan({ op: Op.write, fault: { kind: "hang" }, count });
  const writes = [0, 1, 2, 3].map((at) => world.client().write(at * 16 * KIB, new Uint8Array(KIB)));
  world.simulation.runFor(SILENCE_MS - LOOK_MS);
  expect([silenceOf(world, "b"), told(world)]).toEqual([undefined, []]);
  for (let second = 0; second < 60; second += 1) {
    world.simulation.runFor(1_000);
    world.run(world.client().read(8 * KIB, KIB));
  }
  expect(silenceOf(world, "b")).toEqual({
    ...{ seconds: expect.any(Number), waits: "write" },
    follows: "it is failed after 180 s, until then clients wait",
  });
  expect(silenceOf(world, "b")!.seconds).toBeGreaterThan(60);
  expect([silenceOf(world, "a"), silenceOf(world, "c")]).toEqual([undefined, undefined]);
  expect(told(world)).toEqual([BEGIN]);
  expect(world.events.at(-1)).toMatchObject({ severity: "warning" });
  world.device("b").faults.quiet();
  world.device("b").release();
  expect(world.run(Promise.all(writes))).toEqual([0, 0, 0, 0]);
  world.simulation.runFor(2 * LOOK_MS);
  expect([silenceOf(world, "b"), told(world)]).toEqual([undefined, [BEGIN, END]]);
});

test("silent: it falls silent again and again: told of once a minute", () => {
  const world = make();
  for (let turn = 0; turn < 12; turn += 1) {
    world.device("b").hang();
    const write = world.client().write(0, new Uint8Array(KIB).fill(turn));
    world.simulation.runFor(SILENCE_MS + 2 * LOOK_MS);
    expect(silenceOf(world, "b")).toBeDefined();
    world.device("b").release();
    expect(world.run(write)).toBe(0);
    world.simulation.runFor(3_000);
  }
  expect(told(world).filter((text) => text === BEGIN).length).toBeLessThanOrEqual(3);
});

test("silent: one that is failed for it does not answer again", () => {
  const world = make();
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, writeDeadlineMs: 20_000 });
  world.device("b").hang();
  const write = world.client().write(0, new Uint8Array(64 * KIB));
  world.simulation.runFor(30_000);
  expect(world.run(write)).toBe(0);
  expect([world.status().degraded, silenceOf(world, "b")]).toEqual([1, undefined]);
  expect(told(world)).toEqual([BEGIN]);
});

test("silent: what follows: reads, a degraded array, two at once", () => {
  const read = make();
  read.device("b").faults.plan({ op: Op.read, fault: { kind: "hang" }, count });
  void read.client().read(0, 64 * KIB);
  read.simulation.runFor(SILENCE_MS + 2 * LOOK_MS);
  expect(silenceOf(read, "b")?.follows).toBe("reads are answered from parity after 5 s");

  const degraded = make();
  degraded.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "c" });
  degraded.device("b").hang();
  void degraded.client().write(0, new Uint8Array(64 * KIB));
  degraded.simulation.runFor(SILENCE_MS + 2 * LOOK_MS);
  expect(silenceOf(degraded, "b")?.follows).toBe(
    "it is failed, and the array with it, after 180 s, until then clients wait",
  );

  const two = make();
  for (const name of ["a", "b"]) two.device(name).hang();
  void two.client().write(0, new Uint8Array(64 * KIB));
  two.simulation.runFor(SILENCE_MS + 2 * LOOK_MS);
  const together = "other members are silent too: while they are none is failed, and all waits";
  for (const name of ["a", "b"]) expect(silenceOf(two, name)?.follows).toBe(together);
});

test("silent: a member hangs while its array starts: the start waits, and that is told", () => {
  const world = make();
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  world.device("b").hang();
  const start = { kind: "start-array", array: ARRAY_NAME, force: false, readOnly: false } as const;
  void world.command(start);
  world.simulation.runFor(SILENCE_MS + 2 * LOOK_MS);
  expect(world.status().state).toBe("inactive");
  expect(silenceOf(world, "b")).toMatchObject({ waits: "read" });
  expect(told(world)).toEqual([BEGIN]);
});
