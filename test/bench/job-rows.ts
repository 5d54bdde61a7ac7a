/**
 * Jobs against what the members allow, and clients beside a job against clients alone.
 *
 * | row              | ours                | held against                                        |
 * |------------------|---------------------|-----------------------------------------------------|
 * | scrub            | bytes of a member/s | all members read at once, same requests, same depth |
 * | rebuild, replace | the same            | its sources read at once and its target: the slower |
 * | reshape          | the same            | a member read, and then written; no target          |
 * | p99 beside a job | p99 of 4 KiB        | the same load without the job                       |
 * | rate of that job | bytes of a member/s | `syncSpeedMin`                                      |
 *
 * The raw sides go through the same aio layer from the same thread. Clients beside a rebuild are
 * held against clients of the degraded array. On a memory file a read is a copy that the reactor's
 * own thread makes: copies add up there, and parity is made on the same core, so what a job could
 * reach is shown without a target. On a paced drive (paced-device.ts) the drive is the limit, as it
 * is where arrays live. Both are timed by stopwatch.ts. Loop devices lie on one disk: what is read
 * and what is written share that, and their times add up as on memory files.
 */

import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { DEFAULT_SYNC_SPEED_MIN } from "../../src/array/registry.ts";
import { WINDOW_BYTES_MAX } from "../../src/array/sync/sweep.ts";
import { assert } from "../../src/base/assert.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { MEMBER_OVERHEAD_BYTES } from "./array-size.ts";
import type { Bench, Section, Settings } from "./bench.ts";
import { Generator } from "./generator.ts";
import type { BesideJob } from "./generator-protocol.ts";
import {
  diskFolder,
  loopDevices,
  loopObstacle,
  memberFiles,
  releaseLoopDevices,
  removeFolder,
  tmpfsFolder,
} from "./ground.ts";
import type { Workload } from "./load.ts";
import type { Pace } from "./paced-device.ts";
import { limit, type Quantity, type RowPlan, type Values, value } from "./statistics.ts";

const MEMBER_COUNT = 4;
const CHUNK_BYTES = 64 * KIB;
const MEMORY_MIB = 128;
const LOAD_DEPTH = 8;
/** What a scrub and a rebuild have under way; a replace has twice as much. */
const DEPTH = Math.floor(WINDOW_BYTES_MAX / (CHUNK_BYTES * MEMBER_COUNT));
/** Like a SATA SSD. */
const PACE: Pace = { bytesPerSecond: 500 * MIB, perRequestMicros: 10, latencyMicros: 60 };

const BESIDE: readonly (readonly ["read" | "write", BesideJob])[] = [
  ["read", "scrub"],
  ["write", "scrub"],
  ["read", "rebuild"],
  ["write", "rebuild"],
];
const BESIDE_SMOKE = BESIDE.slice(1, 3);

type JobPlace = "tmpfs" | "paced" | "loop";

interface Stand {
  readonly place: JobPlace;
  readonly generator: Generator;
  readonly sampleMs: number;
  readonly warmMs: number;
}

/**
 * A job at `syncSpeedMin` is not to end before the load beside it has. What a job does at its begin
 * and its end (flushes, superblocks) takes 30 to 60 ms on a real disk, whatever its length; on loop
 * devices it is long enough for that not to be what is measured.
 */
function memberBytesOf({ mode }: Settings, place: JobPlace): number {
  if (mode === "smoke") return 32 * MIB;
  return (place === "loop" ? 1024 : 256) * MIB;
}

function jobQuantity({ generator, sampleMs }: Stand, kind: "scrub" | "rebuild" | "replace") {
  const run = async () => {
    const result = await generator.call(kind, { ms: sampleMs });
    if ("mismatchBytes" in result) assert(result.mismatchBytes === 0, "parity is as it has to be");
    return result.bytes / result.seconds / MIB;
  };
  return { name: kind, sample: run, warmUp: run } satisfies Quantity;
}

/** MiB/s of each of so many drives. */
function rawQuantity({ generator, sampleMs: ms }: Stand, kind: "read" | "write", count: number) {
  const run = async () => {
    const request = { kind, count, requestBytes: CHUNK_BYTES, depth: DEPTH, ms };
    const { bytes, seconds } = await generator.call("move-raw", request);
    return bytes / seconds / count / MIB;
  };
  return { name: `raw ${kind} ${count}`, sample: run, warmUp: run } satisfies Quantity;
}

function jobPart(stand: Stand) {
  const { place } = stand;
  const sources = MEMBER_COUNT - 1;
  const row = (kind: string, name: string, of: (values: Values) => number) => {
    const target = place === "tmpfs" ? null : kind === "scrub" ? 0.95 : 0.9;
    const unit = "MiB/s";
    const reference = { name, of };
    const title = `job: ${kind}, ${place}`;
    return { name: title, unit, better: "higher", ours: value(kind), reference, target } as const;
  };
  const both = (count: number) => (values: Values) => {
    const [source, drain] = [values(`raw read ${count}`), values("raw write 1")];
    return place === "paced" ? Math.min(source, drain) : 1 / (1 / source + 1 / drain);
  };
  const how = place === "paced" ? "the slower" : "one after the other";
  return {
    quantities: [
      jobQuantity(stand, "scrub"),
      rawQuantity(stand, "read", MEMBER_COUNT),
      jobQuantity(stand, "rebuild"),
      rawQuantity(stand, "read", sources),
      rawQuantity(stand, "write", 1),
      jobQuantity(stand, "replace"),
      rawQuantity(stand, "read", 1),
    ],
    rows: [
      row("scrub", "all members read at once", value(`raw read ${MEMBER_COUNT}`)),
      row("rebuild", `sources, target: ${how}`, both(sources)),
      row("replace", `source, target: ${how}`, both(1)),
    ],
  };
}

/** Clients alone and beside a job, one after the other. */
function besidePart(stand: Stand, kind: "read" | "write", job: BesideJob) {
  const { generator, sampleMs, warmMs, place } = stand;
  const workload: Workload = { kind, isRandom: true, requestBytes: 4 * KIB, depth: LOAD_DEPTH };
  const run = (beside: BesideJob | null) => {
    const limits = { warmMs: 2 * warmMs, measureMs: 2 * sampleMs };
    return generator.call("beside", { workload, limits, job: beside });
  };
  const alone = `${kind}, ${job === "rebuild" ? "degraded" : "alone"}`;
  const beside = `${kind} beside a ${job}`;
  const quantities: Quantity[] = [
    {
      name: alone,
      sample: async () => {
        // The rebuild behind it fills the member again.
        if (job === "rebuild") await generator.call("fail", {});
        return run(null);
      },
    },
    { name: beside, sample: () => run(job) },
  ];
  const title = `random 4 KiB ${kind}, depth ${LOAD_DEPTH}`;
  const rows: RowPlan[] = [
    {
      name: `job: p99 of ${title}, beside a ${job}, ${place}`,
      unit: "µs",
      better: "lower",
      ours: value(`${beside}.p99`),
      reference: {
        name: job === "rebuild" ? "degraded, no job" : "no job",
        of: value(`${alone}.p99`),
      },
      target: 2,
    },
    {
      name: `job: rate of a ${job} beside ${title}, ${place}`,
      unit: "MiB/s",
      better: "higher",
      ours: (values) => values(`${beside}.jobRate`) / MIB,
      reference: limit(DEFAULT_SYNC_SPEED_MIN / MIB, "syncSpeedMin"),
      target: 0.95,
    },
  ];
  return { quantities, rows };
}

async function measureStand(bench: Bench, stand: Stand): Promise<void> {
  const { quantities, rows } = jobPart(stand);
  await bench.measure(quantities, rows);
  for (const [kind, job] of bench.isSmoke ? BESIDE_SMOKE : BESIDE) {
    const part = besidePart(stand, kind, job);
    await bench.measure(part.quantities, part.rows);
  }
  await stand.generator.call("verify", { rowCount: 4096 });
  const { mismatchBytes } = await stand.generator.call("scrub", { ms: 0 });
  assert(mismatchBytes === 0, "a scrub finds parity as it has to be");
  await stand.generator.quit();
}

/** What lies before the data of a member. */
function forgetArray(path: string): void {
  const file = openSync(path, "r+");
  writeSync(file, new Uint8Array(64 * KIB), 0, 64 * KIB, 0);
  fsyncSync(file);
  closeSync(file);
}

/** In an array of its own each time: there is no way back. */
async function measureReshape(
  bench: Bench,
  place: JobPlace,
  drives: readonly string[],
): Promise<void> {
  const sample = async () => {
    for (const drive of drives) forgetArray(drive);
    const stand = await openStand(bench, place, drives);
    try {
      const read = await rawQuantity(stand, "read", MEMBER_COUNT).sample();
      const write = await rawQuantity(stand, "write", 1).sample();
      const { bytes, seconds } = await stand.generator.call("reshape", {});
      await stand.generator.quit();
      return { rate: bytes / seconds / MIB, limit: 1 / (1 / read + 1 / write) };
    } finally {
      await stand.generator.kill();
    }
  };
  const reference = { name: "members read, then written", of: value("reshape.limit") };
  const row: RowPlan = {
    ...{ name: `job: reshape, ${place}`, unit: "MiB/s", better: "higher", target: null },
    ...{ ours: value("reshape.rate"), reference },
  };
  await bench.measure([{ name: "reshape", sample }], [row]);
}

async function openStand(bench: Bench, place: JobPlace, drives: readonly string[]): Promise<Stand> {
  const { sampleMs, warmMs } = bench.settings;
  const generator = new Generator(bench.profileFolder);
  await generator.call("open", {
    members: drives.slice(0, MEMBER_COUNT),
    outsider: drives[MEMBER_COUNT]!,
    chunkBytes: CHUNK_BYTES,
    memberSizeBytes: memberBytesOf(bench.settings, place),
    windowBytes: null,
    memoryMib: MEMORY_MIB,
    policy: "resync",
    hasVolatileCache: true,
    timesKernels: false,
    takesThreadTime: place !== "loop",
    ...(place === "paced" ? { pace: PACE } : {}),
  });
  await generator.call("fill", {});
  return { place, generator, sampleMs, warmMs };
}

async function runPlace(bench: Bench, place: JobPlace, name: string): Promise<void> {
  const memberBytes = memberBytesOf(bench.settings, place);
  const isLoop = place === "loop";
  const obstacle = isLoop ? await loopObstacle() : null;
  if (obstacle !== null) {
    bench.leaveOut(name, obstacle);
    return;
  }
  const found = isLoop
    ? { folder: diskFolder() }
    : tmpfsFolder((MEMBER_COUNT + 1) * (memberBytes + 16 * MIB));
  if ("reason" in found) {
    bench.leaveOut(name, found.reason);
    return;
  }
  const fileBytes = memberBytes + MEMBER_OVERHEAD_BYTES;
  const files = memberFiles(found.folder, MEMBER_COUNT + 1, fileBytes);
  const drives = isLoop ? await loopDevices(files) : files;
  const stand = await openStand(bench, place, drives);
  try {
    await measureStand(bench, stand);
    await measureReshape(bench, place, drives);
  } finally {
    await stand.generator.kill();
    if (isLoop) releaseLoopDevices();
    removeFolder(found.folder);
  }
}

const PLACES: Readonly<Record<Settings["mode"], readonly JobPlace[]>> = {
  smoke: ["paced"],
  quick: ["tmpfs", "paced"],
  full: ["tmpfs", "paced", "loop"],
};

export function jobSections(mode: Settings["mode"]): Section[] {
  return PLACES[mode].map((place) => {
    const name = `job rows, ${place}`;
    return { name, run: (bench) => runPlace(bench, place, name) };
  });
}
