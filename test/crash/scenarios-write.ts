/** Crash scenarios of writes: every way in which a stripe is written, whole and degraded. */
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { cleanBase, degradedBase, type Shape, sectorCountOf } from "./bases.ts";
import type { CrashLoad } from "./crash-load.ts";
import type { Scenario } from "./matrix.ts";

const SAFE_MODE_MS = 500;

/** Whatever is written comes to rest, and is marked clean. */
export function rest({ world }: CrashLoad): void {
  world.simulation.runFor(SAFE_MODE_MS);
}

type Written = readonly [lba: number, sectors: number, options?: { fua?: boolean }];

/** Writes at once, a flush, and rest. */
function writes(name: string, shape: Shape, list: (seed: number) => readonly Written[]): Scenario {
  return {
    name,
    base: () => cleanBase(shape),
    body: (load, seed) => {
      const { world } = load;
      const all = list(seed).map(([lba, sectors, options]) => load.write(lba, sectors, options));
      world.run(Promise.all(all));
      world.run(load.flush());
      rest(load);
    },
  };
}

const THREE: Shape = { memberCount: 3, chunkKib: 4, stripes: 4 };
const FOUR: Shape = { memberCount: 4, chunkKib: 4, stripes: 4 };
const FIVE: Shape = { memberCount: 5, chunkKib: 8, stripes: 3 };
const FOUR_4K: Shape = { memberCount: 4, chunkKib: 8, stripes: 4, sectorBytes: 4096 };

/** First sector of a stripe of `shape`. */
function stripe(shape: Shape, index: number): number {
  return (sectorCountOf(shape) / shape.stripes) * index;
}

export const WRITE_SCENARIOS: readonly Scenario[] = [
  writes("read-modify-write", FIVE, (seed) => [[stripe(FIVE, seed % 3) + 16 * (seed % 4), 8]]),
  writes("reconstruct-write", FOUR, (seed) => [[stripe(FOUR, seed % 4) + 8 * (seed % 2), 16]]),
  writes("full stripe", THREE, (seed) => [[stripe(THREE, seed % 4), 16]]),
  writes("partial rows", FOUR, (seed) => [
    [stripe(FOUR, seed % 4) + 3 + (seed % 4), 1],
    [stripe(FOUR, (seed + 1) % 4) + 6, 5],
  ]),
  writes("two writes to one row", FOUR, (seed) => [
    [stripe(FOUR, seed % 4) + 1, 2],
    [stripe(FOUR, seed % 4) + 4, 2],
    [stripe(FOUR, seed % 4) + 9, 3],
  ]),
  writes("many writes, some FUA", FOUR_4K, (seed) => [
    [0, 16],
    [24, 8, { fua: true }],
    [stripe(FOUR_4K, 1) + 8 * (seed % 6), 8],
    [stripe(FOUR_4K, 2), 48, { fua: true }],
    [stripe(FOUR_4K, 3) + 4, 3],
  ]),
  {
    name: "writes that nobody flushes",
    base: () => cleanBase(FOUR),
    body: (load, seed) => {
      load.world.run(load.write(stripe(FOUR, seed % 4) + 8, 16));
      rest(load);
    },
  },
  {
    name: "the same sectors again and again",
    base: () => cleanBase(FOUR),
    body: (load, seed) => {
      const { world } = load;
      const lba = stripe(FOUR, seed % 4);
      for (let turn = 0; turn < 4; turn += 1) {
        world.run(load.write(lba + (turn % 2) * 2, 4, { fua: turn === 1 }));
        if (turn === 2) world.run(load.flush());
      }
      rest(load);
    },
  },
  {
    name: "a flush beside writes",
    base: () => cleanBase(FOUR),
    body: (load, seed) => {
      const { world } = load;
      const first = load.write(stripe(FOUR, seed % 4), 4);
      world.simulation.runFor(0.5 + 0.1 * (seed % 8));
      const second = load.write(stripe(FOUR, (seed + 1) % 4) + 8, 4);
      const flush = load.flush();
      world.run(Promise.all([first, second, flush]));
      world.run(load.write(stripe(FOUR, (seed + 2) % 4) + 2, 2));
      world.run(load.flush());
      rest(load);
    },
  },
  ...[null, 2].map((missing) => ({
    name: `a random mix${missing === null ? "" : ", degraded"}`,
    base: () => (missing === null ? cleanBase(FOUR_4K) : degradedBase(FOUR_4K, { role: missing })),
    body: (load: CrashLoad, seed: number) => {
      const { world } = load;
      if (missing !== null) world.startArray();
      const random = new SeededRandom(seed);
      const answers: Promise<number>[] = [];
      for (let turn = 0; turn < 12; turn += 1) {
        const sectors = 1 + nextBelow(random, nextBelow(random, 3) === 0 ? 60 : 9);
        const lba = nextBelow(random, load.oracle.sectorCount - sectors);
        const isFlush = nextBelow(random, 4) === 0;
        const fua = nextBelow(random, 4) === 0;
        answers.push(isFlush ? load.flush() : load.write(lba, sectors, { fua }));
        world.simulation.runFor(nextBelow(random, 12) * (nextBelow(random, 6) === 0 ? 40 : 0.1));
      }
      world.run(Promise.all(answers));
      rest(load);
    },
  })),
  {
    name: "superblocks torn",
    base: () => cleanBase(THREE),
    withGarbage: true,
    body: (load, seed) => {
      load.world.run(load.write(stripe(THREE, seed % 4) + 2, 1));
      rest(load);
    },
  },
  ...[0, 1, 2, 3].map((role) => ({
    name: `degraded write, role ${role} missing`,
    base: (seed: number) => degradedBase(FOUR, { role, keepDrive: seed % 2 === 0 }),
    body: (load: CrashLoad, seed: number) => {
      const { world } = load;
      world.startArray();
      const at = stripe(FOUR, seed % 4);
      const all = [
        load.write(at + 8 * (seed % 3), 8),
        load.write(stripe(FOUR, (seed + 1) % 4) + 2, 3),
        load.write(stripe(FOUR, (seed + 2) % 4), 24),
      ];
      world.run(Promise.all(all));
      world.run(load.flush());
      rest(load);
    },
  })),
];
