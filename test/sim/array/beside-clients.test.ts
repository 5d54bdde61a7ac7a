/**
 * Goal: beside clients a job keeps its minimum and begins little at once, as their requests wait
 * behind it; without them it moves large pieces.
 * Method: a scrub in the simulator, over chunks of several pieces, with a client that writes every
 * few milliseconds of virtual time; the reads that reach a member, with their times. What the scrub
 * began before the client's first write was begun at full speed.
 */
import { expect, test } from "bun:test";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c"];
const CHUNK_BYTES = 256 * KIB;
const STRIPES = 64;
const SPEED = 8 * MIB;
const PIECES = CHUNK_BYTES / (64 * KIB);
const PERIOD_MS = (1_000 * CHUNK_BYTES) / SPEED;

interface PieceRead {
  readonly atMs: number;
  readonly bytes: number;
}

function make(): { world: SimWorld; reads: PieceRead[] } {
  const world = new SimWorld({ seed: 5 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 20 * MIB });
  const memberSizeBytes = STRIPES * CHUNK_BYTES;
  world.createArray({ drives: NAMES, chunkBytes: CHUNK_BYTES, memberSizeBytes });
  world.settle();
  world.must({ kind: "set-array", array: ARRAY_NAME, syncSpeedMin: SPEED });
  const reads: PieceRead[] = [];
  const device = world.device("a");
  const { table } = world.context;
  const submit = device.submit.bind(device);
  device.submit = (request) => {
    const bytes = table.bytes[request]!;
    if (table.op[request] === Op.read && bytes > ROW_BYTES)
      reads.push({ atMs: world.nowMs, bytes });
    submit(request);
  };
  return { world, reads };
}

function startScrub(world: SimWorld): number {
  const request = { array: ARRAY_NAME, mode: "check", limitBytesPerSecond: null } as const;
  return world.must<"start-scrub">({ kind: "start-scrub", ...request, restart: true }).id;
}

test("a scrub without clients: reads pieces of 128 KiB", () => {
  const { world, reads } = make();
  world.waitJob(startScrub(world));
  expect(new Set(reads.map(({ bytes }) => bytes))).toEqual(new Set([128 * KIB]));
});

test("a scrub beside a client: small pieces, stripes begun evenly, and its minimum", () => {
  const { world, reads } = make();
  const client = world.client();
  const id = startScrub(world);
  while (world.job(id).state === "running") {
    world.run(client.write(0, new Uint8Array(ROW_BYTES).fill(7)));
    world.run(world.context.timers.sleep(3));
  }
  const first = reads.findIndex(({ bytes }) => bytes === 64 * KIB);
  const small = reads.slice(first);
  expect(small.length).toBeGreaterThan(100);
  expect(new Set(small.map(({ bytes }) => bytes))).toEqual(new Set([64 * KIB]));
  const seconds = (small.at(-1)!.atMs - small[0]!.atMs) / 1_000;
  expect(((small.length - PIECES) * 64 * KIB) / seconds / SPEED).toBeGreaterThan(0.95);
  // What is begun in half of the time that a chunk has is never more than one chunk.
  for (const { atMs } of small) {
    const near = small.filter((read) => read.atMs >= atMs && read.atMs < atMs + PERIOD_MS / 2 - 1);
    expect(near.length).toBeLessThanOrEqual(PIECES);
  }
});
