/**
 * Lives with two arrays once for each chosen function of theirs, in which something is thrown.
 *
 *   P=./test/sim/workload/planted-throws.ts
 *   bun --preload $P test/sim/workload/broken-arrays-run.ts [every [offset [pattern]]]
 *
 * Each function of src/array, src/raid5, src/md and src/parity that the life calls is a site; it
 * throws at its first call, at one in the middle, and at its last. Of all these every `every`th is
 * tried, beginning with `offset`. With a pattern only sites whose name matches it. Prints a line of JSON.
 */
import { liveTwoArrays } from "./two-arrays.ts";

const SEEDS = [1, 2, 3];
/** Enough to see what is wrong. */
const FAILURES_MAX = 5;
const planted = globalThis.plantedThrows!;
const every = Number(process.argv[2] ?? 1);
const offset = Number(process.argv[3] ?? 0);
const only = new RegExp(process.argv[4] ?? "");
const isTold = process.env["VERBOSE"] !== undefined;

interface Point {
  readonly seed: number;
  readonly site: number;
  readonly nth: number;
}

function pointsOf(seed: number): Point[] {
  planted.arm(-1, 0);
  liveTwoArrays(seed, planted);
  const points: Point[] = [];
  for (const [site, count] of planted.counts.entries()) {
    if (count === 0) continue;
    // By its name: its number goes by the order in which the sources are loaded.
    const middle = 1 + ((Bun.hash.crc32(planted.sites[site]!) + seed * 104_729) % count);
    for (const nth of new Set([1, middle, count])) points.push({ seed, site, nth });
  }
  return points;
}

/** The frame of a door; and the book of calls of the helper, which all arrays share. */
const NOT_OF_ONE_ARRAY = [
  /raid-front\.ts:\d+ (?:submit|enter|attach|detach)$/,
  /hole-puncher\.ts:\d+ answered$/,
];

/** What is said of any drive, held by an array or not, is the call's. */
function isOfAStatus(error: unknown): boolean {
  return planted.hasThrown && /commands\/status\.ts/.test((error as Error).stack ?? "");
}

const points = SEEDS.flatMap(pointsOf).filter(({ site }) => {
  const name = planted.sites[site]!;
  return only.test(name) && !NOT_OF_ONE_ARRAY.some((left) => left.test(name));
});
const failures: string[] = [];
const sites = new Set<number>();
let tried = 0;
let brokenCount = 0;
let loggedCount = 0;
for (let index = offset % every; index < points.length; index += every) {
  if (failures.length >= FAILURES_MAX) break;
  const { seed, site, nth } = points[index]!;
  const what = `seed ${seed}, call ${nth} of ${planted.sites[site]}`;
  planted.arm(site, nth);
  tried += 1;
  sites.add(site);
  try {
    const { broken, isLogged } = liveTwoArrays(seed, planted);
    brokenCount += broken.length;
    // Of a drive whose superblock was just read, or of an array that had been stopped.
    if (isLogged && broken.length === 0) loggedCount += 1;
    if (planted.hasThrown !== isLogged) failures.push(`${what}: logged: ${isLogged}`);
  } catch (error) {
    if (isOfAStatus(error)) continue;
    const text = error instanceof Error ? (isTold ? error.stack! : error.message) : String(error);
    failures.push(`${what}: ${text.slice(0, isTold ? 4000 : 300)}`);
  }
}
const totals = { points: points.length, tried, sites: sites.size, brokenCount, loggedCount };
process.stdout.write(`${JSON.stringify({ ...totals, failures })}\n`);
process.exit(0);
