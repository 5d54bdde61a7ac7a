/**
 * Goal: whatever is thrown in code of one array stops that array alone, and loses nothing. Method:
 * two arrays live under load in the simulator, and a function of theirs throws at one of its calls
 * (planted-throws.ts, two-arrays.ts): any function of src/array, src/raid5, src/md and src/parity
 * that the life calls. A process of its own, because the sources are changed as they are loaded.
 * Each day tries others of the points.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { TODAY } from "../../helpers/share.ts";

/** One in so many points is tried. */
const EVERY = 40;
/** What is first behind the doors: turns, answers, requests, timers, commands. */
const DOORS = "(?: turn| onIo| split| look| clean| mark| judge| settle| startArray| joinArray)$";

interface Totals {
  readonly points: number;
  readonly tried: number;
  readonly sites: number;
  readonly brokenCount: number;
  readonly failures: readonly string[];
}

async function run(...words: readonly string[]): Promise<Totals> {
  const preload = join(import.meta.dir, "../workload/planted-throws.ts");
  const script = join(import.meta.dir, "../workload/broken-arrays-run.ts");
  const child = Bun.spawn([process.execPath, "--preload", preload, script, ...words], {
    stdout: "pipe",
  });
  const text = await child.stdout.text();
  expect(await child.exited).toBe(0);
  return JSON.parse(text) as Totals;
}

test("broken array: a throw anywhere in it: it stops, the other goes on, no loss", async () => {
  const offset = TODAY % EVERY;
  const { points, tried, brokenCount, failures } = await run(String(EVERY), String(offset));
  expect(failures).toEqual([]);
  expect(points).toBeGreaterThan(3000);
  // Some throw where a drive is read, and some in what has been stopped.
  expect(brokenCount).toBeGreaterThan(tried * 0.7);
});

test("broken array: a throw behind each door: it stops, the other goes on, no loss", async () => {
  const { sites, brokenCount, failures } = await run("2", "1", DOORS);
  expect(failures).toEqual([]);
  expect(sites).toBeGreaterThan(12);
  expect(brokenCount).toBeGreaterThan(20);
});
