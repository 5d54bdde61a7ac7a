/**
 * Goal: a scrub, a resync and a rebuild neither starve client I/O nor are starved by it (R21 of the
 * fault goals).
 *
 * Method: virtual time, drives of fixed latency, four clients that never pause, all over the array
 * or on one stripe only. Clients: each answer comes within a bound, also with drives as slow as a
 * hard disk. The work: it ends within what its least speed allows, whatever the clients do. A day
 * takes one in three of the combinations.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c"];
const CHUNK_BYTES = 64 * KIB;
const STRIPES = 64;
const MEMBER_BYTES = STRIPES * CHUNK_BYTES;
/** Of one request of a drive. */
const LATENCY_MS = 4;
/**
 * A write waits for the lock of a stripe, then takes a read and a write of its members, with the
 * record of its policy; the work holds a stripe for a read and a write as well.
 */
const ANSWER_MS_MAX = 40 * LATENCY_MS;
const SPEED_MIN = 256 * KIB;

type Work = "check" | "repair" | "rebuild";

function make(policy: (typeof POLICIES)[number]): SimWorld {
  const world = new SimWorld({ seed: 21, latency: { minMs: LATENCY_MS, tailMs: 0 } });
  for (const name of [...NAMES, "new"]) world.addDrive({ name, sizeBytes: MEMBER_BYTES + 4 * MIB });
  const shape = { chunkBytes: CHUNK_BYTES, memberSizeBytes: MEMBER_BYTES };
  world.createArray({ drives: NAMES, consistencyPolicy: policy, ...shape });
  world.settle();
  world.must({ kind: "set-array", array: ARRAY_NAME, syncSpeedMin: SPEED_MIN });
  return world;
}

function begin(world: SimWorld, work: Work): number {
  if (work === "rebuild") {
    world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
    world.must({ kind: "remove-member", array: ARRAY_NAME, drive: "b" });
    const added = world.must<"add-member">({
      kind: "add-member",
      array: ARRAY_NAME,
      drive: "new",
      force: false,
    });
    if (added.role !== "rebuild") throw new Error("the new drive is rebuilt");
    return added.job.id;
  }
  const options = { mode: work, limitBytesPerSecond: null, restart: true } as const;
  return world.must<"start-scrub">({ kind: "start-scrub", array: ARRAY_NAME, ...options }).id;
}

/** Four clients without a pause, over so many rows, until they are stopped. */
function startClients(world: SimWorld, rows: number) {
  const seen = { slowestMs: 0, answers: 0 };
  let isOver = false;
  const run = async (index: number): Promise<void> => {
    const client = world.client();
    for (let turn = index; !isOver; turn += 4) {
      const offset = ((turn * 37) % rows) * ROW_BYTES;
      const startMs = world.nowMs;
      if (index % 2 === 0) expect((await client.read(offset, ROW_BYTES)).status).toBe(0);
      else expect(await client.write(offset, new Uint8Array(ROW_BYTES).fill(turn))).toBe(0);
      seen.slowestMs = Math.max(seen.slowestMs, world.nowMs - startMs);
      seen.answers += 1;
    }
  };
  const running = Promise.all([0, 1, 2, 3].map(run));
  return {
    seen,
    end: async (): Promise<void> => {
      isOver = true;
      await running;
    },
  };
}

const ARRAY_ROWS = (2 * MEMBER_BYTES) / ROW_BYTES;
const STRIPE_ROWS = (2 * CHUNK_BYTES) / ROW_BYTES;

const WORKS = POLICIES.flatMap((policy) =>
  (["check", "repair", "rebuild"] as const).flatMap((work) => [
    { policy, work, where: "all over", rows: ARRAY_ROWS },
    { policy, work, where: "on one stripe", rows: STRIPE_ROWS },
  ]),
);

for (const { policy, work, where, rows } of new Share("fair shares", 3).of(WORKS)) {
  const name = `R21: ${work}, ${policy}, clients ${where}: both go on within their bounds`;
  test(name, () => withShare(() => keepBounds({ policy, work, rows })));
}

function keepBounds({
  policy,
  work,
  rows,
}: {
  policy: ConsistencyPolicy;
  work: Work;
  rows: number;
}) {
  const world = make(policy);
  const clients = startClients(world, rows);
  world.simulation.runFor(1000);
  const before = clients.seen.answers;
  const id = begin(world, work);
  const startMs = world.nowMs;
  const leastMs = (MEMBER_BYTES / SPEED_MIN) * 1000;
  const boundMs = leastMs * 1.05;
  const job = world.waitJob(id, boundMs);
  const tookMs = world.nowMs - startMs;
  expect(job.state).toBe("done");
  // It kept to its least speed, too: the clients had the drives for the rest of the time. A
  // rebuild begins while they wait for the record of it, so that its first stripes are free.
  expect(tookMs).toBeGreaterThan(leastMs * (work === "rebuild" ? 0.4 : 0.95));
  const perSecond = ((clients.seen.answers - before) * 1000) / tookMs;
  expect(perSecond).toBeGreaterThan(before / 2);
  expect(clients.seen.slowestMs).toBeLessThan(ANSWER_MS_MAX);
  world.run(clients.end());
  // Alone, it does not keep to that.
  world.settle();
  const again = world.nowMs;
  expect(world.check()).toBe(0);
  expect(world.nowMs - again).toBeLessThan(tookMs / 4);
}
