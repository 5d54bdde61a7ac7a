/**
 * What parityd costs where nobody looks: start, idle, memory, garbage, system calls.
 *
 * The references are fixed limits here, so ratios at or below the target are good.
 */
import { KIB, MIB } from "../../src/base/units.ts";
import { MEMBER_OVERHEAD_BYTES } from "./array-size.ts";
import type { Bench, Section } from "./bench.ts";
import { hasFioEngine, runFio } from "./fio.ts";
import { Generator } from "./generator.ts";
import { memberFiles, removeFolder, subFolder, tmpfsFolder } from "./ground.ts";
import type { Workload } from "./load.ts";
import { Parityd, paritydWithArray } from "./peers.ts";
import { residentBytes, threadMicros } from "./processes.ts";
import { limit, measure, type Quantity, type RowPlan, value } from "./statistics.ts";

const MEMBER_COUNT = 4;
const CHUNK_BYTES = 64 * KIB;
const MEMORY_MIB = 64;
const RESIDENT_EXTRA_BYTES = 80 * MIB;
const SETTLE_MS = 1500;

const READS: Workload = { kind: "read", isRandom: true, requestBytes: 4 * KIB, depth: 32 };
const WRITES: Workload = { ...READS, kind: "write" };
const STRIPES: Workload = {
  kind: "write",
  isRandom: false,
  requestBytes: (MEMBER_COUNT - 1) * CHUNK_BYTES,
  depth: 8,
};

interface Cost {
  readonly quantity: Quantity;
  readonly row: RowPlan;
}

function cost(options: {
  name: string;
  unit: string;
  reference: RowPlan["reference"];
  target: number | null;
  sample: () => Promise<number>;
}): Cost {
  const { name, unit, reference, target, sample } = options;
  const row: RowPlan = { name, unit, better: "lower", ours: value(name), reference, target };
  return { quantity: { name, sample }, row };
}

async function runCosts(bench: Bench, costs: readonly Cost[], rounds: number): Promise<void> {
  const quantities = costs.map(({ quantity }) => quantity);
  const rows = costs.map(({ row }) => row);
  bench.add(await measure(quantities, rows, rounds));
}

function startCost(bench: Bench, folder: string): Cost {
  return cost({
    name: "start to ready",
    unit: "ms",
    reference: limit(150),
    target: 1,
    sample: async () => {
      const own = subFolder(folder, "start");
      const options = { binary: bench.binary, folder: own, memoryMib: MEMORY_MIB };
      const server = await Parityd.start(options);
      await server.stop();
      return server.startMs;
    },
  });
}

function idleCosts(bench: Bench, server: Parityd): Cost[] {
  const { idleMs } = bench.settings;
  return [
    cost({
      name: "resident memory after load",
      unit: "MiB",
      reference: limit((MEMORY_MIB * MIB + RESIDENT_EXTRA_BYTES) / MIB, "pool + 80 MiB"),
      target: 1,
      sample: async () => residentBytes(server.pid) / MIB,
    }),
    cost({
      name: "CPU while idle",
      unit: "%",
      reference: limit(0.5),
      target: 1,
      sample: async () => {
        const before = threadMicros(server.pid);
        const startMs = performance.now();
        await Bun.sleep(idleMs);
        const elapsedMicros = (performance.now() - startMs) * 1000;
        return (100 * (threadMicros(server.pid) - before)) / elapsedMicros;
      },
    }),
  ];
}

async function daemonCosts(bench: Bench, folder: string): Promise<void> {
  await runCosts(bench, [startCost(bench, folder)], bench.isSmoke ? 1 : 5);
  const own = subFolder(folder, "idle");
  const options = { binary: bench.binary, folder: own, memoryMib: MEMORY_MIB };
  const { server } = await paritydWithArray({ ...options, arrayBytes: 48 * MIB });
  if (hasFioEngine("nbd")) {
    const target = { kind: "nbd", uri: server.uri, connections: 4 } as const;
    const runtimeMs = bench.settings.sampleMs * 2;
    await runFio({ rw: "randwrite", blockBytes: 4 * KIB, depth: 16, runtimeMs, target });
    await runFio({ rw: "read", blockBytes: MIB, depth: 4, runtimeMs, target });
  }
  await Bun.sleep(SETTLE_MS); // The array is marked clean meanwhile.
  await runCosts(bench, idleCosts(bench, server), 1);
  await server.stop();
}

async function openGenerator(
  bench: Bench,
  folder: string,
  { timesKernels = false, collects = true },
): Promise<Generator> {
  const { memberBytes } = bench.settings;
  const own = subFolder(folder, `generator-${timesKernels}-${collects}`);
  const generator = new Generator(bench.profileFolder, { collects });
  await generator.call("open", {
    members: memberFiles(own, MEMBER_COUNT, memberBytes + MEMBER_OVERHEAD_BYTES),
    chunkBytes: CHUNK_BYTES,
    memberSizeBytes: memberBytes,
    windowBytes: null,
    memoryMib: MEMORY_MIB,
    policy: "resync",
    hasVolatileCache: true,
    timesKernels,
  });
  await generator.call("fill", {});
  return generator;
}

function heapCost(generator: Generator, workload: Workload, operations: number): Cost {
  return cost({
    name: `heap growth per I/O, random 4 KiB ${workload.kind}`,
    unit: "bytes",
    reference: limit(1),
    target: 1,
    sample: async () => {
      const result = await generator.call("heap", { workload, operations });
      return Math.max(0, result.grownBytes) / result.operations;
    },
  });
}

/** Says where heap growth comes from: what is allocated, kept or not. */
function allocationCost(generator: Generator, workload: Workload, operations: number): Cost {
  return cost({
    name: `allocated per I/O without collection, random 4 KiB ${workload.kind}`,
    unit: "bytes",
    reference: limit(1),
    target: null,
    sample: async () => {
      const result = await generator.call("allocated", { workload, operations });
      return result.allocatedBytes / result.operations;
    },
  });
}

function callCost(bench: Bench, generator: Generator, name: string, workload: Workload): Cost {
  const { sampleMs: measureMs, warmMs } = bench.settings;
  return cost({
    name: `system calls per I/O, ${name}`,
    unit: "calls",
    reference: limit(2, "submit and reap each alone"),
    target: null,
    sample: async () => {
      const limits = { warmMs, measureMs };
      const result = await generator.call("system-calls", { workload, limits });
      return result.calls / result.operations;
    },
  });
}

async function engineCosts(bench: Bench, folder: string): Promise<void> {
  const { heapOperations, sampleMs: measureMs, warmMs } = bench.settings;
  const generator = await openGenerator(bench, folder, {});
  await runCosts(
    bench,
    [
      heapCost(generator, READS, heapOperations),
      heapCost(generator, WRITES, bench.isFull ? heapOperations : heapOperations / 5),
    ],
    1,
  );
  await runCosts(
    bench,
    [
      callCost(bench, generator, "random 4 KiB read, depth 1", { ...READS, depth: 1 }),
      callCost(bench, generator, "random 4 KiB read, depth 32", READS),
      callCost(bench, generator, "random 4 KiB write, depth 32", WRITES),
    ],
    bench.settings.rounds,
  );
  await generator.call("verify", { rowCount: 4096 });
  await generator.quit();
  const hoarder = await openGenerator(bench, folder, { collects: false });
  const operations = heapOperations / 5;
  await runCosts(
    bench,
    [allocationCost(hoarder, READS, operations), allocationCost(hoarder, WRITES, operations)],
    1,
  );
  await hoarder.quit();
  const timed = await openGenerator(bench, folder, { timesKernels: true });
  const share = cost({
    name: "share of time in the parity kernels, full-stripe write",
    unit: "%",
    reference: limit(100, "the whole run"),
    target: null,
    sample: async () => {
      const limits = { warmMs: warmMs * 2, measureMs };
      return 100 * (await timed.call("kernel-share", { workload: STRIPES, limits })).share;
    },
  });
  await runCosts(bench, [share], bench.settings.rounds);
  await timed.quit();
}

export const costSection: Section = {
  name: "cost rows",
  run: async (bench) => {
    const found = tmpfsFolder(3 * MEMBER_COUNT * bench.settings.memberBytes + 128 * MIB);
    if ("reason" in found) {
      bench.leaveOut("cost rows", found.reason);
      return;
    }
    await daemonCosts(bench, found.folder);
    await engineCosts(bench, found.folder);
    removeFolder(found.folder);
  },
};
