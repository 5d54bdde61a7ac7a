/**
 * Goal: a command has an answer, whatever drive does not: a hung drive costs its deadline, and no
 * command waits for it for ever, nor the stop that waits for the command.
 *
 * Method: each command that asks drives for something, with one drive that hangs from the Nth
 * request on which the command causes, for every N; and with a second one that hangs at the same
 * request. The answer comes by the deadline, and lists are answered at once meanwhile. Then the
 * drives answer what they owe, and the same drives make an array that is written and read.
 */
import { expect, test } from "bun:test";
import { LONE_DEADLINE_MS } from "../../../src/array/commands/drive-deadlines.ts";
import type { Result } from "../../../src/base/result.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { blankImage } from "../world/media.ts";
import type { SimDevice } from "../world/sim-device.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const WRITE_DEADLINE_MS = 8_000;
/** Until a watch looks; what a superblock update that comes after a failure takes. */
const SLACK_MS = 3_000;
/** A drive that owes an answer is waited for before it is written to. */
const ANSWER_WAIT_MS = 10_000;
const ARRAY_BYTES = 64 * KIB;
const REQUESTS_MAX = 60;
const LOOK_MS = 100;

interface Case {
  readonly name: string;
  /** What has happened before the drive begins to hang. */
  readonly before: (world: SimWorld) => void;
  readonly command: Parameters<SimWorld["command"]>[0] | "attach a";
  /** The drives that hang. */
  readonly hung: readonly string[];
  readonly limitMs: number;
}

const create = {
  kind: "create-array",
  name: ARRAY_NAME,
  drives: ["a", "b", "c"],
  spares: ["d"],
  chunkBytes: 8 * KIB,
  memberSizeBytes: 4 * 8 * KIB,
  consistencyPolicy: "ppl",
  assumeClean: false,
  force: true,
} as const;
const array = ARRAY_NAME;
const start = { kind: "start-array", array, force: false, readOnly: false } as const;

function attachAll(world: SimWorld): void {
  for (const name of ["a", "b", "c", "d"]) expect(world.attach(name).ok).toBe(true);
}

function running(world: SimWorld): void {
  attachAll(world);
  world.must({ ...create, spares: [] });
  world.settle();
  world.must<"set-array">({ kind: "set-array", array, writeDeadlineMs: WRITE_DEADLINE_MS });
}

function runningWithSpare(world: SimWorld): void {
  running(world);
  world.must<"add-member">({ kind: "add-member", array, drive: "d", force: false });
}

function degraded(world: SimWorld): void {
  running(world);
  world.must<"fail-member">({ kind: "fail-member", array, drive: "c" });
}

/** A write is not flushed, and the array is marked dirty. */
function written(world: SimWorld): void {
  runningWithSpare(world);
  expect(world.run(world.client().write(0, new Uint8Array(KIB)))).toBe(0);
}

/** The one that failed is back, and stale. */
function besideStale(world: SimWorld): void {
  degraded(world);
  expect(world.run(world.client().write(0, new Uint8Array(KIB)))).toBe(0);
  world.must<"detach-drive">({ kind: "detach-drive", name: "c", force: false });
  expect(world.attach("c")).toMatchObject({ ok: true, value: { state: "stale" } });
}

function stopped(world: SimWorld): void {
  running(world);
  world.must<"stop-array">({ kind: "stop-array", array });
}

const alone = LONE_DEADLINE_MS + SLACK_MS;
const inArray = WRITE_DEADLINE_MS + SLACK_MS;
const CASES: readonly Case[] = [
  { name: "attach", before: () => {}, command: "attach a", hung: ["a"], limitMs: alone },
  {
    name: "create",
    before: attachAll,
    command: create,
    hung: ["b"],
    limitMs: alone + ANSWER_WAIT_MS,
  },
  {
    name: "create",
    before: attachAll,
    command: create,
    hung: ["b", "c"],
    limitMs: alone + ANSWER_WAIT_MS,
  },
  {
    name: "create, its spare",
    before: attachAll,
    command: create,
    hung: ["d"],
    limitMs: alone + ANSWER_WAIT_MS,
  },
  {
    name: "delete and erase",
    before: stopped,
    command: { kind: "delete-array", array, zeroSuperblocks: true },
    hung: ["b"],
    limitMs: alone,
  },
  {
    name: "delete and erase a running one",
    before: running,
    command: { kind: "delete-array", array, zeroSuperblocks: true },
    hung: ["b"],
    limitMs: inArray + ANSWER_WAIT_MS + LONE_DEADLINE_MS,
  },
  { name: "start", before: stopped, command: start, hung: ["b"], limitMs: alone + inArray },
  { name: "start", before: stopped, command: start, hung: ["b", "c"], limitMs: alone + inArray },
  {
    name: "start read-only",
    before: stopped,
    command: { ...start, readOnly: true },
    hung: ["b"],
    limitMs: alone,
  },
  {
    name: "stop",
    before: written,
    command: { kind: "stop-array", array },
    hung: ["b"],
    limitMs: inArray,
  },
  {
    name: "add a member",
    before: degraded,
    command: { kind: "add-member", array, drive: "d", force: false },
    hung: ["d"],
    limitMs: alone + inArray,
  },
  {
    name: "add a member beside a stale drive",
    before: besideStale,
    command: { kind: "add-member", array, drive: "d", force: false },
    hung: ["d"],
    limitMs: alone + inArray,
  },
  {
    name: "add a spare",
    before: running,
    command: { kind: "add-member", array, drive: "d", force: false },
    hung: ["d"],
    limitMs: alone,
  },
  {
    name: "fail a member beside a spare",
    before: runningWithSpare,
    command: { kind: "fail-member", array, drive: "c" },
    hung: ["d"],
    limitMs: alone + inArray,
  },
  {
    name: "remove a spare",
    before: runningWithSpare,
    command: { kind: "remove-member", array, drive: "d" },
    hung: ["b"],
    limitMs: inArray,
  },
  {
    name: "remove a drive",
    before: runningWithSpare,
    command: { kind: "detach-drive", name: "b", force: true },
    hung: ["d"],
    limitMs: alone + inArray,
  },
  {
    name: "another policy",
    before: running,
    command: { kind: "set-array", array, consistencyPolicy: "bitmap" },
    hung: ["b"],
    limitMs: 2 * inArray,
  },
  {
    name: "another name on disk",
    before: running,
    command: { kind: "write-name", array, name: "other" },
    hung: ["b"],
    limitMs: inArray,
  },
  {
    name: "shutdown",
    before: written,
    command: { kind: "shutdown" },
    hung: ["b"],
    limitMs: inArray,
  },
  {
    name: "shutdown, the spare",
    before: written,
    command: { kind: "shutdown" },
    hung: ["d"],
    limitMs: inArray,
  },
];

for (const each of CASES) {
  const who = each.hung.join(" and ");
  test(`hung command: ${each.name}, ${who} from each request on: answered, and no harm`, () => {
    let tried = 0;
    for (let skip = 0; skip < REQUESTS_MAX; skip += 1) {
      if (!hangFrom(each, skip)) break;
      tried += 1;
    }
    expect(tried).toBeGreaterThan(0);
    expect(tried).toBeLessThan(REQUESTS_MAX);
  });
}

/** False: the command asks these drives for no more than `skip` requests. */
function hangFrom({ before, command, hung, limitMs }: Case, skip: number): boolean {
  const world = new SimWorld({ seed: skip + 1 });
  for (const name of ["a", "b", "c", "d"]) plug(world, name);
  before(world);
  const devices = hung.map((name) => world.device(name));
  const count = Number.POSITIVE_INFINITY;
  const hits = devices.map((device) =>
    device.faults.plan({ fault: { kind: "hang" }, skip, count }),
  );
  const sentMs = world.nowMs;
  const answered =
    command === "attach a"
      ? world.command<"attach-drive">({ kind: "attach-drive", drive: world.openDriveOf("a") })
      : world.command(command);
  // What is asked in between is answered at once.
  world.simulation.runFor(LOOK_MS);
  const lookMs = world.nowMs;
  const isStopping = typeof command !== "string" && command.kind === "shutdown";
  for (const kind of ["list-drives", "list-arrays"] as const) {
    expect(world.call({ kind }).ok).toBe(!isStopping);
  }
  expect(world.nowMs - lookMs).toBeLessThan(1);
  const { ok: isDone } = world.run<Result<unknown, unknown>>(answered, 10 * limitMs);
  expect([skip, world.nowMs - sentMs <= limitMs || world.nowMs - sentMs]).toEqual([skip, true]);
  for (const device of devices) device.checkBuffers();
  if (hits.every((hit) => hit() === 0)) return false;
  if (command === "attach a" || isStopping) return true;
  // What they owe comes late, on nothing that was written since: the device asserts that.
  for (const device of devices) {
    device.faults.quiet();
    device.release();
  }
  world.simulation.runFor(1_000);
  if (command === create && !isDone) {
    expect(world.must<"list-arrays">({ kind: "list-arrays" })).toEqual([]);
  }
  useAgain(world, devices);
  return true;
}

function plug(world: SimWorld, name: string): void {
  world.plug(blankImage({ name, sizeBytes: 4 * MIB }), { name });
}

function useAgain(world: SimWorld, devices: readonly SimDevice[]): void {
  for (const { outstandingCount } of devices) expect(outstandingCount).toBe(0);
  for (const { uuid, state } of world.must<"list-arrays">({ kind: "list-arrays" })) {
    if (state === "inactive") world.startArray({ array: uuid });
    world.must<"delete-array">({ kind: "delete-array", array: uuid, zeroSuperblocks: true });
  }
  const attached = world.must<"list-drives">({ kind: "list-drives" }).map(({ name }) => name);
  for (const name of ["a", "b", "c", "d"]) {
    if (!attached.includes(name)) expect(world.attach(name).ok).toBe(true);
  }
  world.must({ ...create, name: "again" });
  const client = world.client("again");
  const bytes = new Uint8Array(ARRAY_BYTES).fill(7);
  expect(world.run(client.write(0, bytes))).toBe(0);
  expect(world.run(client.read(0, ARRAY_BYTES)).data).toEqual(bytes);
}
