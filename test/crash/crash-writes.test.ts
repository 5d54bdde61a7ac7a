/**
 * Goal: whatever is being written when the power is cut, with all drives there nothing that was
 * promised is lost and nothing that nobody wrote has changed; with a drive lost too, a dirty array
 * is refused, and forced it differs only in rows in flight.
 * Method: each way of writing a stripe runs once; every event of its trace is a crash, with every
 * fate of what was not flushed (matrix.ts). CRASH_FACTOR=100 makes a hundred times the images.
 */
import { expect, test } from "bun:test";
import { MIB, SECTOR_BYTES } from "../../src/base/units.ts";
import { patchImage } from "../sim/world/media.ts";
import { cleanBase, type Shape } from "./bases.ts";
import { LightCheck, Promises } from "./light-check.ts";
import { realCheck } from "./real-check.ts";
import { runScenarios } from "./run-scenarios.ts";
import { writeScenarios } from "./scenarios-write.ts";

const SHAPE: Shape = { memberCount: 3, chunkKib: 4, stripes: 4 };

/** What both checks say about a base of which one sector of one drive was zeroed. */
function judgeHarmed(device: number, lost: number): [light: string | null, real: string | null] {
  const { images, oracle } = cleanBase(SHAPE);
  const crashed = oracle.clone();
  crashed.crash();
  const promises = new Promises(crashed);
  const harmed = images.map((image, index) =>
    index === device ? patchImage(image, MIB, new Uint8Array(SECTOR_BYTES)) : image,
  );
  const present = harmed.filter((_, index) => index !== lost);
  const light = new LightCheck();
  const expected = light.expect(present);
  if (!("plan" in expected)) return [expected.kind, null];
  const options = { images: present, promises, isTorn: false, mayLose: false };
  return [
    light.readAll(expected.plan, options),
    realCheck({ ...options, expected, seed: 1, isHealed: true }),
  ];
}

test("crash matrix: a data sector that is not there: both checks find it", () => {
  const [light, real] = judgeHarmed(0, -1);
  expect(light).toContain("sector 0 holds zeros");
  expect(real).toContain("sector 0 holds zeros");
});

test("crash matrix: a parity sector that is wrong: found, also with a drive lost", () => {
  // Parity of the first stripe lies on the last role.
  expect(judgeHarmed(2, -1)[0]).toContain("parity of a clean row");
  expect(judgeHarmed(2, -1)[1]).toContain("parity does not hold");
  expect(judgeHarmed(2, 0)[0]).toContain("sector 0 holds version 1 of sector 8");
  expect(judgeHarmed(2, 0)[1]).toContain("sector 0 holds version 1 of sector 8");
});

runScenarios({
  title: "writes",
  scenarios: writeScenarios,
  imagesEach: 6000,
  imagesWanted: 180_000,
  realWanted: 8000,
});
