/**
 * Goal: background work that cannot get the lock of one stripe waits for it, and no stripe beyond
 * the window in which its progress is kept is begun.
 * Method: a first resync of more stripes than the window, with the lock of an early one held.
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
