/**
 * The engine on members, against fio on the same members.
 *
 *   member   | array: memberBytes | fio: memberBytes |
 *
 * Both parts are allocated before anything is measured. Before the healthy array is left and after
 * the degraded rows the generator verifies rows of the whole window.
 */
import { assert } from "../../src/base/assert.ts";
import { formatBytes, KIB, MIB } from "../../src/base/units.ts";
import { MEMBER_OVERHEAD_BYTES } from "./array-size.ts";
import type { Bench, Section, Shape } from "./bench.ts";
import { type FioJob, runFio } from "./fio.ts";
import { Generator } from "./generator.ts";
import {
  diskFolder,
  fillFile,
  loopDevices,
  loopObstacle,
  memberFiles,
  releaseLoopDevices,
  removeFolder,
  tmpfsFolder,
} from "./ground.ts";
import type { Workload } from "./load.ts";
import { POLICIES } from "./policies.ts";
import type { Quantity, RowPlan } from "./statistics.ts";
import { value } from "./statistics.ts";
import {
  memberTraffic,
  type RequestKind,
  readPercent,
  rebuildLimit,
  requestLimit,
} from "./traffic.ts";

const STRIPE_DEPTH = 8;
const VERIFIED_ROWS = 16_384;
const MEMORY_MIB = 256;
const RAW_BYTES = 64 * MIB;

/** An array of this shape with its load generator, and fio beside it. */
class Stand {
  readonly bench: Bench;
  readonly shape: Shape;
  readonly members: readonly string[];
  readonly generator: Generator;
  readonly stripeBytes: number;
  readonly title: string;
  isDegraded = false;

  private constructor(
    bench: Bench,
    shape: Shape,
    members: readonly string[],
    generator: Generator,
  ) {
    this.bench = bench;
    this.shape = shape;
    this.members = members;
    this.generator = generator;
    this.stripeBytes = (shape.memberCount - 1) * shape.chunkBytes;
    this.title = titleOf(shape);
  }

  static async open(bench: Bench, shape: Shape, members: readonly string[]): Promise<Stand> {
    const { memberBytes } = bench.settings;
    const fioOffset = memberBytes + MEMBER_OVERHEAD_BYTES;
    for (const member of members) fillFile(member, fioOffset, memberBytes);
    const generator = new Generator(bench.profileFolder);
    await generator.call("open", {
      members,
      chunkBytes: shape.chunkBytes,
      memberSizeBytes: memberBytes,
      windowBytes: null,
      memoryMib: MEMORY_MIB,
      policy: shape.policy,
      hasVolatileCache: true,
      timesKernels: false,
    });
    await generator.call("fill", {});
    return new Stand(bench, shape, members, generator);
  }

  /** Members that take part. */
  get memberCount(): number {
    return this.shape.memberCount - (this.isDegraded ? 1 : 0);
  }

  ours(name: string, workload: Workload): Quantity {
    const { sampleMs, warmMs } = this.bench.settings;
    const run = async (warm: number) => {
      const limits = { warmMs: warm, measureMs: sampleMs };
      const { operations, bytes, seconds } = await this.generator.call("run", {
        workload,
        limits,
      });
      return { operations: operations / seconds, bytes: bytes / seconds };
    };
    return { name, warmUp: () => run(sampleMs), sample: () => run(warmMs) };
  }

  /** fio on as many members as the array has left, or on those given. */
  fio(
    name: string,
    job: Pick<FioJob, "rw" | "blockBytes" | "depth" | "readPercent">,
    members = this.members.slice(0, this.memberCount),
  ): Quantity {
    const { memberBytes, sampleMs } = this.bench.settings;
    const offset = memberBytes + MEMBER_OVERHEAD_BYTES;
    const target = { kind: "files", paths: members, offset, bytes: memberBytes } as const;
    return {
      name,
      sample: async () => {
        const result = await runFio({ ...job, runtimeMs: sampleMs, target });
        return { operations: result.operationsPerSecond, bytes: result.bytesPerSecond };
      },
    };
  }

  /** On loop devices only rebuild and scrub have a target. */
  judged(target: number): number | null {
    return this.shape.place === "tmpfs" ? target : null;
  }

  async verify(): Promise<void> {
    await this.generator.call("verify", { rowCount: VERIFIED_ROWS });
  }
}

/** "4 x 64 KiB, tmpfs", with the policy where it is not resync. */
function titleOf({ memberCount, chunkBytes, place, policy }: Shape): string {
  const size = formatBytes(chunkBytes).replace(".0", "");
  return `${memberCount} x ${size}, ${place}${policy === "resync" ? "" : `, ${policy}`}`;
}

interface Part {
  readonly quantities: readonly Quantity[];
  readonly rows: readonly RowPlan[];
}

/** Full-stripe writes and reads. */
function sequential(stand: Stand): Part {
  const { shape, isDegraded, stripeBytes } = stand;
  const n = shape.memberCount;
  const state = isDegraded ? "degraded " : "";
  const stripes = { isRandom: false, requestBytes: stripeBytes, depth: STRIPE_DEPTH };
  const chunks = { blockBytes: shape.chunkBytes, depth: STRIPE_DEPTH * stand.memberCount };
  // A degraded array writes n-1 chunks for n-1 chunks of data.
  const writeShare = isDegraded ? 1 : (n - 1) / n;
  return {
    quantities: [
      stand.ours("write", { ...stripes, kind: "write" }),
      stand.fio("fio write", { ...chunks, rw: "write" }),
      stand.ours("read", { ...stripes, kind: "read" }),
      stand.fio("fio read", { ...chunks, rw: "read" }),
    ],
    rows: [
      {
        name: `${state}full-stripe sequential write, ${stand.title}`,
        unit: "MiB/s",
        better: "higher",
        ours: (values) => values("write.bytes") / MIB,
        reference: {
          name: isDegraded ? "fio on n-1 members" : "fio x (n-1)/n",
          of: (values) => (values("fio write.bytes") * writeShare) / MIB,
        },
        target: stand.judged(0.85),
      },
      {
        name: `${state}sequential read, ${stand.title}`,
        unit: "MiB/s",
        better: "higher",
        ours: (values) => values("read.bytes") / MIB,
        reference: { name: "fio", of: (values) => values("fio read.bytes") / MIB },
        target: isDegraded ? null : stand.judged(0.95),
      },
    ],
  };
}

/** Random requests, against the member traffic that they need. */
function random(
  stand: Stand,
  options: {
    name: string;
    kind: RequestKind;
    requestBytes: number;
    depth: number;
    target: number | null;
  },
): Part {
  const { kind, requestBytes, depth, target } = options;
  const traffic = memberTraffic(kind, stand.shape.memberCount, stand.isDegraded);
  const name = `${stand.isDegraded ? "degraded " : ""}${options.name}`;
  const { reads, writes } = traffic;
  const needs = `${reads.toFixed(1)} reads${writes > 0 ? `, ${writes.toFixed(1)} writes` : ""}`;
  return {
    quantities: [
      stand.ours(name, { kind, isRandom: true, requestBytes, depth }),
      stand.fio(`fio ${name}`, {
        rw: writes === 0 ? "randread" : "randrw",
        blockBytes: requestBytes,
        depth,
        readPercent: readPercent(traffic),
      }),
    ],
    rows: [
      {
        name: `${name}, ${stand.title}`,
        unit: "IOPS",
        better: "higher",
        ours: value(`${name}.operations`),
        reference: {
          name: `fio / (${needs})`,
          of: (values) => requestLimit(traffic, values(`fio ${name}.operations`)),
        },
        target: target === null ? null : stand.judged(target),
      },
    ],
  };
}

function randomParts(stand: Stand): Part[] {
  const { isDegraded } = stand;
  const small = { requestBytes: 4 * KIB };
  const readTarget = isDegraded ? 0.8 : 0.9;
  const read = { ...small, kind: "read", target: readTarget } as const;
  const all = [
    random(stand, { ...read, name: "random 4 KiB read, depth 32", depth: 32 }),
    random(stand, {
      ...small,
      name: "random 4 KiB write, depth 32",
      kind: "write",
      depth: 32,
      target: isDegraded ? null : 0.75,
    }),
    random(stand, { ...read, name: "random 4 KiB read, depth 1", depth: 1 }),
    random(stand, {
      name: "64 KiB mixed, depth 16",
      kind: "mixed",
      requestBytes: 64 * KIB,
      depth: 16,
      target: null,
    }),
  ];
  return stand.bench.isSmoke && isDegraded ? all.slice(0, 1) : all;
}

/** Rebuild and scrub. Rates are bytes of one member; "fio read" and "fio write" are known. */
function jobs(stand: Stand): Part {
  const { shape, generator, members } = stand;
  const n = shape.memberCount;
  const { sampleMs } = stand.bench.settings;
  const isLoop = shape.place === "loop";
  const chunks = { blockBytes: shape.chunkBytes, depth: STRIPE_DEPTH * (n - 1) };
  return {
    quantities: [
      {
        name: "scrub",
        sample: async () => {
          const result = await generator.call("scrub", { ms: sampleMs });
          assert(result.mismatchBytes === 0, "a scrub finds parity as it has to be");
          return result.bytes / result.seconds;
        },
      },
      {
        name: "rebuild",
        sample: async () => {
          const result = await generator.call("rebuild", { ms: sampleMs });
          return result.bytes / result.seconds;
        },
      },
      ...(isLoop
        ? [
            stand.fio("fio sources", { ...chunks, rw: "read" }, members.slice(0, -1)),
            stand.fio("fio target", { ...chunks, rw: "write" }, members.slice(-1)),
          ]
        : []),
    ],
    rows: [
      {
        name: `scrub, ${stand.title}`,
        unit: "MiB/s",
        better: "higher",
        ours: (values) => values("scrub") / MIB,
        reference: {
          name: "fio reading all members",
          of: (values) => values("fio read.bytes") / n / MIB,
        },
        target: 0.9,
      },
      {
        name: `rebuild, ${stand.title}`,
        unit: "MiB/s",
        better: "higher",
        ours: (values) => values("rebuild") / MIB,
        reference: isLoop
          ? {
              name: "fio min(source, target)",
              of: (values) =>
                Math.min(values("fio sources.bytes") / (n - 1), values("fio target.bytes")) / MIB,
            }
          : {
              name: "fio 1/((n-1)/R + 1/W)",
              of: (values) =>
                rebuildLimit(n, values("fio read.bytes"), values("fio write.bytes")) / MIB,
            },
        target: 0.9,
      },
    ],
  };
}

/** The aio layer alone on a file of its own, against fio on the same file. */
async function rawPart(stand: Stand, path: string): Promise<Part> {
  const { generator, bench } = stand;
  const { sampleMs, warmMs } = bench.settings;
  await generator.call("stamp-raw", { path, bytes: RAW_BYTES });
  const read = async (warm: number) => {
    const options = { depth: 32, warmMs: warm, ms: sampleMs };
    const { operations, seconds } = await generator.call("read-raw", options);
    return operations / seconds;
  };
  const target = { kind: "files", paths: [path], offset: 0, bytes: RAW_BYTES } as const;
  const job = { rw: "randread", blockBytes: 4 * KIB, depth: 32, runtimeMs: sampleMs } as const;
  return {
    quantities: [
      { name: "aio", warmUp: () => read(sampleMs), sample: () => read(warmMs) },
      {
        name: "fio aio",
        sample: async () => (await runFio({ ...job, target })).operationsPerSecond,
      },
    ],
    rows: [
      {
        name: "aio layer, random 4 KiB read of one member, depth 32, tmpfs",
        unit: "IOPS",
        better: "higher",
        ours: value("aio"),
        reference: { name: "fio", of: value("fio aio") },
        target: 1,
      },
    ],
  };
}

function measureParts(bench: Bench, parts: readonly Part[]): Promise<void> {
  return bench.measure(
    parts.flatMap(({ quantities }) => quantities),
    parts.flatMap(({ rows }) => rows),
  );
}

async function measureStand(stand: Stand, rawPath: string | null): Promise<void> {
  const { bench, generator } = stand;
  const raw = rawPath === null ? [] : [await rawPart(stand, rawPath)];
  await measureParts(bench, [...raw, sequential(stand), jobs(stand), ...randomParts(stand)]);
  await stand.verify();
  await generator.call("fail", {});
  stand.isDegraded = true;
  await measureParts(bench, [sequential(stand), ...randomParts(stand)]);
  await stand.verify();
  // Parity of what was written while degraded: rebuild, scrub, read again.
  await generator.call("rebuild", { ms: 0 });
  const { mismatchBytes } = await generator.call("scrub", { ms: 0 });
  assert(mismatchBytes === 0, "a scrub finds parity as it has to be");
  await stand.verify();
  await generator.quit();
}

function section(shape: Shape, hasRaw: boolean): Section {
  const name = `engine rows, ${titleOf(shape)}`;
  return { name, run: (bench) => runShape(bench, shape, { name, hasRaw }) };
}

async function runShape(
  bench: Bench,
  shape: Shape,
  { name, hasRaw }: { name: string; hasRaw: boolean },
): Promise<void> {
  const fileBytes = 2 * bench.settings.memberBytes + MEMBER_OVERHEAD_BYTES;
  const isLoop = shape.place === "loop";
  const obstacle = isLoop ? await loopObstacle() : null;
  if (obstacle !== null) {
    bench.leaveOut(name, obstacle);
    return;
  }
  const found = isLoop
    ? { folder: diskFolder() }
    : tmpfsFolder(shape.memberCount * 2 * bench.settings.memberBytes + RAW_BYTES);
  if ("reason" in found) {
    bench.leaveOut(name, found.reason);
    return;
  }
  const files = memberFiles(found.folder, shape.memberCount, fileBytes);
  const members = isLoop ? await loopDevices(files) : files;
  try {
    const stand = await Stand.open(bench, shape, members);
    try {
      await measureStand(stand, hasRaw ? `${found.folder}/raw` : null);
    } finally {
      await stand.generator.kill();
    }
  } finally {
    if (isLoop) releaseLoopDevices();
    removeFolder(found.folder);
  }
}

export function engineSections(mode: Bench["settings"]["mode"]): Section[] {
  const small = 64 * KIB;
  const usual = { place: "tmpfs", memberCount: 4, chunkBytes: small, policy: "resync" } as const;
  if (mode === "smoke") return [section({ ...usual, memberCount: 3 }, true)];
  const first = section(usual, true);
  if (mode === "quick") return [first];
  const sections: Section[] = [first];
  for (const place of ["tmpfs", "loop"] as const) {
    for (const memberCount of [3, 4, 8]) {
      for (const chunkBytes of [small, 512 * KIB]) {
        const shape: Shape = { ...usual, place, memberCount, chunkBytes };
        if (titleOf(shape) !== titleOf(usual)) sections.push(section(shape, false));
      }
    }
    for (const policy of POLICIES) {
      if (policy !== "resync") sections.push(section({ ...usual, place, policy }, false));
    }
  }
  return sections;
}
