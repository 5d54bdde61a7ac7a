/**
 * Goal: a scrub that something else pushes aside goes on from its place when that is over, under
 * its own id, and has found in the end what one that nobody disturbed finds; one that somebody
 * paused waits for somebody.
 * Method: an array with a rotten row in each stripe, scrubbed slowly; at each stripe in turn it is
 * disturbed, in each of the ways that there are.
 */
import { expect, test } from "bun:test";
import type { JobStatus } from "../../../src/array/protocol.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 64 * KIB;
const STRIPES = 6;
const DATA = MIB;
const MEMBERS = ["a", "b", "c"];
/** One stripe a second. */
const LIMIT = CHUNK_BYTES;

const LIMIT_MS = 60_000;

type Mode = "check" | "repair";

class Scrubbed {
  /** What the control thread was told of a scrub that ran: stripes. */
  readonly told: number[] = [];
  readonly world = new SimWorld({
    seed: 5,
    onMessage: (message) => {
      if (message.kind !== "job" || message.job.state !== "running") return;
      this.told.push(message.job.done / CHUNK_BYTES);
    },
  });
  readonly mode: Mode;
  readonly id: number;

  constructor(mode: Mode) {
    const { world } = this;
    this.mode = mode;
    for (const name of [...MEMBERS, "new"]) world.addDrive({ name, sizeBytes: 3 * MIB });
    const memberSizeBytes = STRIPES * CHUNK_BYTES;
    world.createArray({ drives: MEMBERS, chunkBytes: CHUNK_BYTES, memberSizeBytes });
    world.settle();
    const data = new Uint8Array(2 * CHUNK_BYTES).fill(7);
    for (let stripe = 0; stripe < STRIPES; stripe += 1) {
      expect(world.run(world.client().write(stripe * data.length, data))).toBe(0);
    }
    world.settle();
    for (let stripe = 0; stripe < STRIPES; stripe += 1) {
      world.device("a").rot(DATA + stripe * CHUNK_BYTES, 512);
    }
    this.id = this.start(false).id;
  }

  start(restart: boolean): JobStatus {
    const { mode } = this;
    return this.world.must<"start-scrub">({
      ...{ kind: "start-scrub", array: ARRAY_NAME, mode, limitBytesPerSecond: LIMIT, restart },
    });
  }

  get job(): JobStatus {
    return this.world.job(this.id);
  }

  /** Until so many stripes have been looked at. */
  runTo(stripes: number): void {
    const { simulation } = this.world;
    while (this.job.done < stripes * CHUNK_BYTES) simulation.runFor(50);
    expect(this.job).toMatchObject({ state: "running", done: stripes * CHUNK_BYTES });
  }

  /** It is through, and has found the rotten row of so many stripes, each once. */
  expectDone({ resumedFrom, found }: { resumedFrom: number; found: number }): void {
    const { simulation } = this.world;
    const limitMs = simulation.nowMs() + LIMIT_MS;
    const isOpen = (): boolean => ["running", "paused"].includes(this.job.state);
    while (isOpen() && simulation.nowMs() < limitMs) simulation.runFor(100);
    const { job } = this;
    expect(job).toMatchObject({ state: "done", error: null });
    expect(job.result).toMatchObject({
      mismatchBytes: found * ROW_BYTES,
      resumedFrom: resumedFrom * CHUNK_BYTES,
      limitBytesPerSecond: LIMIT,
    });
    const scrubs = this.world.must<"list-jobs">({ kind: "list-jobs" });
    expect(scrubs.filter(({ kind }) => kind === this.mode)).toHaveLength(1);
    expect(this.world.status()).toMatchObject({ pausedScrub: null, degraded: 0 });
    const goesOn = this.world.events.filter(({ message }) => message.includes("goes on from"));
    expect(goesOn.length).toBeGreaterThan(0);
    this.world.must({ kind: "shutdown" });
  }

  expectAside(reason: RegExp, stripes: number): void {
    expect(this.job).toMatchObject({ state: "paused", error: expect.stringMatching(reason) });
    expect(this.world.status().pausedScrub).toEqual({
      ...{ job: this.id, mode: this.mode, asideReason: this.job.error },
      ...{ doneBytes: stripes * CHUNK_BYTES, totalBytes: STRIPES * CHUNK_BYTES },
    });
  }
}

interface Disturbance {
  readonly name: string;
  readonly act: (scrubbed: Scrubbed, stripes: number) => void;
  /** What it rebuilds fits what is rotten on another member: nothing is left to be found. */
  readonly isRebuild?: boolean;
}

const DISTURBANCES: readonly Disturbance[] = [
  {
    name: "the array is stopped, and started",
    act: ({ world }) => {
      world.must({ kind: "stop-array", array: ARRAY_NAME });
      expect(world.status().pausedScrub?.asideReason).toBe("the array was stopped");
      world.must({ kind: "start-array", array: ARRAY_NAME, force: false, readOnly: false });
    },
  },
  {
    name: "a spare is added",
    act: ({ world }) => {
      world.must({ kind: "add-member", array: ARRAY_NAME, drive: "new", force: false });
    },
  },
  {
    name: "a member is replaced",
    act: (scrubbed, stripes) => {
      const drives = { drive: "b", with: "new" };
      scrubbed.world.must({
        ...{ kind: "replace-member", array: ARRAY_NAME, force: false, ...drives },
      });
      scrubbed.expectAside(/^drive b is replaced$/, stripes);
    },
  },
  {
    name: "a member fails, and a drive takes its role",
    act: (scrubbed, stripes) => {
      const { world } = scrubbed;
      world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
      world.simulation.runFor(3_000);
      scrubbed.expectAside(/^drive b \(role 1\) failed/, stripes);
      world.must({ kind: "add-member", array: ARRAY_NAME, drive: "new", force: false });
      scrubbed.expectAside(/^drive b \(role 1\) failed/, stripes);
    },
    isRebuild: true,
  },
];

for (const { name, act, isRebuild = false } of DISTURBANCES) {
  for (const mode of ["check", "repair"] as const) {
    test(`${mode}: ${name}, at each stripe: it goes on from there, and finds what there is`, () => {
      for (let stripes = 1; stripes < STRIPES; stripes += 1) {
        const scrubbed = new Scrubbed(mode);
        scrubbed.runTo(stripes);
        act(scrubbed, stripes);
        scrubbed.expectDone({ resumedFrom: stripes, found: isRebuild ? stripes : STRIPES });
      }
    });
  }
}

test("paused by somebody: a stop and a start, another work: it waits for somebody", () => {
  const scrubbed = new Scrubbed("check");
  const { world } = scrubbed;
  scrubbed.runTo(2);
  world.must({ kind: "pause-scrub", array: ARRAY_NAME });
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  world.must({ kind: "start-array", array: ARRAY_NAME, force: false, readOnly: false });
  world.must({ kind: "replace-member", array: ARRAY_NAME, force: false, drive: "b", with: "new" });
  world.simulation.runFor(LIMIT_MS);
  expect(world.status()).toMatchObject({
    sync: { action: "idle" },
    pausedScrub: { job: scrubbed.id, asideReason: null, doneBytes: 2 * CHUNK_BYTES },
  });
  expect(scrubbed.start(false).id).toBe(scrubbed.id);
  scrubbed.expectDone({ resumedFrom: 2, found: STRIPES });
});

test("set aside: a pause makes it somebody's, an end ends it, and so does another host", () => {
  for (const how of ["pause", "cancel", "cancel the job", "fence"] as const) {
    const scrubbed = new Scrubbed("check");
    const { world } = scrubbed;
    scrubbed.runTo(2);
    world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
    world.simulation.runFor(1_000);
    scrubbed.expectAside(/failed/, 2);
    if (how === "pause") {
      world.must({ kind: "pause-scrub", array: ARRAY_NAME });
      expect(world.status().pausedScrub).toMatchObject({ job: scrubbed.id, asideReason: null });
    } else if (how === "cancel") world.must({ kind: "cancel-scrub", array: ARRAY_NAME });
    else if (how === "cancel the job") world.must({ kind: "cancel-job", id: scrubbed.id });
    else {
      world.device("a").reserve("nothing");
      expect(world.run(world.client().write(0, new Uint8Array(4096)))).not.toBe(0);
      expect(scrubbed.job).toMatchObject({ state: "failed", error: expect.any(String) });
      continue;
    }
    if (how !== "pause") expect(scrubbed.job.state).toBe("cancelled");
    world.must({ kind: "add-member", array: ARRAY_NAME, drive: "new", force: false });
    world.simulation.runFor(LIMIT_MS);
    expect(world.status()).toMatchObject({ degraded: 0, sync: { action: "idle" } });
    expect(scrubbed.job.state).toBe(how === "pause" ? "paused" : "cancelled");
  }
});

test("no memory for its window: it waits, and a cancel or a stop ends it all the same", () => {
  const scrubbed = new Scrubbed("check");
  const { world } = scrubbed;
  world.must({ kind: "cancel-scrub", array: ARRAY_NAME });
  const { enginePool } = world.context;
  const held: number[] = [];
  for (let slab = enginePool.allocate(1); slab !== 0; slab = enginePool.allocate(1)) {
    held.push(slab);
  }
  const { id } = scrubbed.start(false);
  world.simulation.runFor(LIMIT_MS);
  expect(world.job(id)).toMatchObject({ state: "running", done: 0 });
  world.must({ kind: "cancel-job", id });
  expect(world.job(id).state).toBe("cancelled");
  const again = scrubbed.start(false);
  for (const slab of held.splice(0, 64)) enginePool.free(slab, 1);
  const stopped = world.command({ kind: "stop-array", array: ARRAY_NAME });
  world.run(stopped);
  expect(world.job(again.id)).toMatchObject({ state: "paused" });
  for (const slab of held) enginePool.free(slab, 1);
  world.must({ kind: "start-array", array: ARRAY_NAME, force: false, readOnly: false });
  const limitMs = world.nowMs + LIMIT_MS;
  while (world.job(again.id).state !== "done" && world.nowMs < limitMs)
    world.simulation.runFor(100);
  expect(world.job(again.id).state).toBe("done");
  world.must({ kind: "shutdown" });
});

test("told where it is: at each part in 16 of the array, and every ten seconds", () => {
  const scrubbed = new Scrubbed("check");
  scrubbed.told.length = 0;
  scrubbed.world.waitJob(scrubbed.id);
  // Of six stripes each is more than a part in sixteen; and each takes a second.
  expect(scrubbed.told).toEqual([1, 2, 3, 4, 5, 6]);
});
