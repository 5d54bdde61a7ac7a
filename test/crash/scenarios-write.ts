/** Crash scenarios of writes: every way in which a stripe is written, whole and degraded. */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { EIO, ENOSPC } from "../../src/base/errno.ts";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { SimSpace } from "../sim/world/sim-space.ts";
import { cleanBase, degradedBase, driveNames, type Shape, sectorCountOf } from "./bases.ts";
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

/** First sector of a stripe of `shape`. */
function stripe(shape: Shape, index: number): number {
  return (sectorCountOf(shape) / shape.stripes) * index;
}

export function writeScenarios(policy: ConsistencyPolicy): readonly Scenario[] {
  const three: Shape = { memberCount: 3, chunkKib: 4, stripes: 4, policy };
  const four: Shape = { memberCount: 4, chunkKib: 4, stripes: 4, policy };
  const five: Shape = { memberCount: 5, chunkKib: 8, stripes: 3, policy };
  const four4k: Shape = { memberCount: 4, chunkKib: 8, stripes: 4, sectorBytes: 4096, policy };
  return [
    writes("read-modify-write", five, (seed) => [[stripe(five, seed % 3) + 16 * (seed % 4), 8]]),
    writes("reconstruct-write", four, (seed) => [[stripe(four, seed % 4) + 8 * (seed % 2), 16]]),
    writes("full stripe", three, (seed) => [[stripe(three, seed % 4), 16]]),
    writes("partial rows", four, (seed) => [
      [stripe(four, seed % 4) + 3 + (seed % 4), 1],
      [stripe(four, (seed + 1) % 4) + 6, 5],
    ]),
    writes("two writes to one row", four, (seed) => [
      [stripe(four, seed % 4) + 1, 2],
      [stripe(four, seed % 4) + 4, 2],
      [stripe(four, seed % 4) + 9, 3],
    ]),
    writes("many writes, some FUA", four4k, (seed) => [
      [0, 16],
      [24, 8, { fua: true }],
      [stripe(four4k, 1) + 8 * (seed % 6), 8],
      [stripe(four4k, 2), 48, { fua: true }],
      [stripe(four4k, 3) + 4, 3],
    ]),
    {
      name: "writes that nobody flushes",
      base: () => cleanBase(four),
      body: (load, seed) => {
        load.world.run(load.write(stripe(four, seed % 4) + 8, 16));
        rest(load);
      },
    },
    {
      name: "the same sectors again and again",
      base: () => cleanBase(four),
      body: (load, seed) => {
        const { world } = load;
        const lba = stripe(four, seed % 4);
        for (let turn = 0; turn < 4; turn += 1) {
          world.run(load.write(lba + (turn % 2) * 2, 4, { fua: turn === 1 }));
          if (turn === 2) world.run(load.flush());
        }
        rest(load);
      },
    },
    {
      name: "a flush beside writes",
      base: () => cleanBase(four),
      body: (load, seed) => {
        const { world } = load;
        const first = load.write(stripe(four, seed % 4), 4);
        world.simulation.runFor(0.5 + 0.1 * (seed % 8));
        const second = load.write(stripe(four, (seed + 1) % 4) + 8, 4);
        const flush = load.flush();
        world.run(Promise.all([first, second, flush]));
        world.run(load.write(stripe(four, (seed + 2) % 4) + 2, 2));
        world.run(load.flush());
        rest(load);
      },
    },
    ...[null, 2].map((missing) => ({
      name: `a random mix${missing === null ? "" : ", degraded"}`,
      base: () => (missing === null ? cleanBase(four4k) : degradedBase(four4k, { role: missing })),
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
      name: "zeros that a member does not take at once",
      base: () => cleanBase(three),
      body: (load, seed) => {
        const { world } = load;
        world.run(load.write(0, 2 * 16));
        const { faults } = world.device(driveNames(three)[seed % 3]!);
        const fault = { kind: "dead", errno: seed % 2 === 0 ? ENOSPC : EIO } as const;
        faults.plan({ op: Op.writeZeroes, fault, count: 3 });
        const beside = load.write(16 + 3, 2, { fua: true });
        world.run(Promise.all([load.zero(0, 2 * 16, { fua: true }), beside]));
        world.run(load.flush());
        rest(load);
      },
    },
    {
      name: "no room",
      base: () => cleanBase(three),
      body: (load, seed) => {
        const { world } = load;
        const random = new SeededRandom(seed);
        const space = new SimSpace({ random, kind: "copy-on-write", chance: 0.3 });
        // Dirty, and with its bits set. Then any part of one chunk, of several, of a full stripe
        // may be refused, and parity waits until there is room.
        world.run(Promise.all([0, 1, 2].map((at) => load.write(stripe(three, at), 4))));
        space.fill(world.devices.values());
        world.run(load.write(stripe(three, seed % 3) + 8 * (seed % 2), 8));
        for (let turn = 0; turn < 3; turn += 1) world.run(load.write(stripe(three, turn), 16));
        rest(load);
        world.run(load.flush());
        SimSpace.giveRoom(world.devices.values());
        world.simulation.runFor(3000);
        world.run(load.write(0, 4));
        world.run(load.flush());
        rest(load);
      },
    },
    {
      name: "superblocks torn",
      base: () => cleanBase(three),
      withGarbage: true,
      body: (load, seed) => {
        load.world.run(load.write(stripe(three, seed % 4) + 2, 1));
        rest(load);
      },
    },
    ...[0, 1, 2, 3].map((role) => ({
      name: `degraded write, role ${role} missing`,
      base: (seed: number) => degradedBase(four, { role, keepDrive: seed % 2 === 0 }),
      body: (load: CrashLoad, seed: number) => {
        const { world } = load;
        world.startArray();
        const at = stripe(four, seed % 4);
        const all = [
          load.write(at + 8 * (seed % 3), 8),
          load.write(stripe(four, (seed + 1) % 4) + 2, 3),
          load.write(stripe(four, (seed + 2) % 4), 24),
        ];
        world.run(Promise.all(all));
        world.run(load.flush());
        rest(load);
      },
    })),
  ];
}
