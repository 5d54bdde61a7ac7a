/**
 * Goal: an update of the superblocks may be cut short at any copy, again and again, and with all
 * members there the array still assembles whole, by itself (write-rules 19, goal R13).
 * Method: every subset of copies of an update is dropped; the array starts from that, and the
 * next update is cut short at every subset too.
 */
import { expect, test } from "bun:test";
import { type CrashImages, crashImages } from "../sim/world/crash-images.ts";
import { DeviceTrace } from "../sim/world/device-trace.ts";
import type { DeviceImage } from "../sim/world/media.ts";
import { SimWorld } from "../sim/world/sim-world.ts";
import { cleanBase, type Shape } from "./bases.ts";
import { CrashLoad, type CrashMark } from "./crash-load.ts";
import { LightCheck } from "./light-check.ts";

const SHAPE: Shape = { memberCount: 4, chunkKib: 4, stripes: 2, sectorBytes: 4096 };

/** The images of the dirty mark of one write, and of the clean mark after it. */
function cutShort(images: readonly DeviceImage[]): CrashImages[] {
  const trace = new DeviceTrace<CrashMark>();
  const world = SimWorld.restart(images, { seed: 1, trace });
  const oracle = cleanBase(SHAPE).oracle.clone();
  const load = new CrashLoad({ world, oracle, trace });
  world.run(load.write(0, 8));
  world.settle();
  const found = new Map<string, CrashImages>();
  const light = new LightCheck();
  for (const crash of crashImages({ trace, seed: 1 })) {
    const events = crash.images.map((image) => light.superblockOf(image)?.events);
    const key = `${events.join()} ${crash.images.map((image) => light.superblockOf(image)?.resyncOffsetSectors)}`;
    if (!found.has(key)) found.set(key, crash);
  }
  return [...found.values()];
}

function eventsOf({ images }: CrashImages): string {
  const light = new LightCheck();
  return images.map((image) => light.superblockOf(image)?.events).join(" ");
}

test("rule 19: an update cut short at any copies: the array assembles whole", () => {
  const light = new LightCheck();
  const cuts = cutShort(cleanBase(SHAPE).images);
  expect(cuts.length).toBeGreaterThan(2 * 2 ** SHAPE.memberCount - 4);
  for (const cut of cuts)
    expect([eventsOf(cut), light.expect(cut.images).kind]).toEqual([eventsOf(cut), "whole"]);
});

test("rule 19: and the next update after that too: it still assembles whole", () => {
  const light = new LightCheck();
  const wrong: string[] = [];
  for (const first of cutShort(cleanBase(SHAPE).images)) {
    for (const second of cutShort(first.images)) {
      const { kind } = light.expect(second.images);
      if (kind !== "whole") wrong.push(`${eventsOf(first)}, then ${eventsOf(second)}: ${kind}`);
    }
  }
  expect(wrong.slice(0, 5)).toEqual([]);
});
