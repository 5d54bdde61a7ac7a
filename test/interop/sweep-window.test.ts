/**
 * Goal: background work that cannot get the lock of one stripe waits for it, and no stripe beyond
 * the window in which its progress is kept is begun; it gives way to clients that are at work, not
 * to those that were.
 * Method: a first resync of more stripes than the window, with the lock of an early one held;
 * scrubs that may do next to nothing beside clients.
 */
import { afterEach, expect, test } from "bun:test";
import { KIB, MIB } from "../../src/base/units.ts";
import { SYNC_WINDOW_STRIPES } from "../../src/raid5/members/sync-progress.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";

const HELD_STRIPE = 100;

let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

test("sweep: a stripe is locked for long: the others are done up to the window, then all", () => {
  harness = new ArrayHarness();
  const drives = ["drive0", "drive1", "drive2"];
  for (const name of drives) harness.addDrive(name, 16 * MIB);
  harness.createArray({ drives, chunkBytes: 4 * KIB, name: "held" });
  const { members, engine, geometry } = harness.service.registry.byName("held")!.running!.core;
  expect(geometry.stripeCount).toBeGreaterThan(HELD_STRIPE + 2 * SYNC_WINDOW_STRIPES);
  const { reactor } = harness;
  const held = reactor.pump(engine.holdStripe(HELD_STRIPE));
  const progress = members.resync!;
  const last = HELD_STRIPE + SYNC_WINDOW_STRIPES - 1;
  reactor.pumpUntil(() => progress.isDone(last));
  for (let turn = 0; turn < 50; turn += 1) reactor.reactor.turn(1);
  expect([progress.cursor, progress.isDone(last)]).toEqual([HELD_STRIPE, true]);
  engine.releaseStripe(held);
  harness.settle("held");
  expect(members.resync).toBeNull();
});

test("sweep: clients were at work before it began: it does not go slowly", () => {
  harness = new ArrayHarness();
  const drives = ["drive0", "drive1", "drive2"];
  for (const name of drives) harness.addDrive(name, 16 * MIB);
  harness.createArray({ drives, chunkBytes: 64 * KIB, assumeClean: true });
  harness.must({ kind: "set-array", array: "raid_test", syncSpeedMin: 1 });
  const { reactor } = harness;
  const clock = reactor.context.clock;
  const tookMs: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    expect(reactor.pump(harness.write(0, new Uint8Array(4 * KIB)))).toBe(0);
    const startMs = clock.nowMs();
    const scrub = { kind: "start-scrub", array: "raid_test", mode: "check" } as const;
    const job = harness.must({ ...scrub, limitBytesPerSecond: null, restart: true });
    expect(harness.waitJob(job.id).state).toBe("done");
    tookMs.push(clock.nowMs() - startMs);
  }
  // Clients count as at work for 100 ms. The fastest round is not disturbed by anything else.
  expect(Math.min(...tookMs)).toBeLessThan(100);
});
