/**
 * What grows with the array: the same work on a small array and on a large one, side by side.
 *
 * Both use a window of the same size at the very end of the array, filled first, so that the file
 * system does the same on both sides. Large arrays are sparse files.
 */
import { formatBytes, GIB, KIB, MIB, TIB } from "../../src/base/units.ts";
import { memberBytesFor } from "./array-size.ts";
import type { Bench, Section } from "./bench.ts";
import { Generator } from "./generator.ts";
import { memberFiles, removeFolder, subFolder, tmpfsFolder } from "./ground.ts";
import type { Workload } from "./load.ts";
import { type Quantity, type RowPlan, value } from "./statistics.ts";

const WINDOW_BYTES = 48 * MIB;
const ASSEMBLIES = 50;
/** One takes some 50 microseconds. */
const CHECKPOINTS = 2000;
/** The noise of two equal runs. */
const TOLERANCE = 1.25;
/** A small write to 16 members reads two rows and writes two; three members need one less. */
const WRITE_TOLERANCE = 1.67;

interface Size {
  readonly name: string;
  readonly memberCount: number;
  readonly arrayBytes: number;
}

const READS: Workload = { kind: "read", isRandom: true, requestBytes: 4 * KIB, depth: 32 };

/** One array of that size; its generator answers in microseconds. */
class Sized {
  readonly size: Size;
  private readonly bench: Bench;
  private readonly generator: Generator;

  private constructor(size: Size, bench: Bench, generator: Generator) {
    this.size = size;
    this.bench = bench;
    this.generator = generator;
  }

  static async open(bench: Bench, folder: string, size: Size): Promise<Sized> {
    const bytes = memberBytesFor(size.arrayBytes, size.memberCount);
    const own = subFolder(folder, size.name.replaceAll(" ", "-"));
    const generator = new Generator(bench.profileFolder);
    await generator.call("open", {
      members: memberFiles(own, size.memberCount, bytes),
      chunkBytes: 64 * KIB,
      memberSizeBytes: null,
      windowBytes: WINDOW_BYTES,
      memoryMib: 64,
      policy: "resync",
      hasVolatileCache: true,
      timesKernels: false,
    });
    await generator.call("fill", {});
    return new Sized(size, bench, generator);
  }

  request(kind: "read" | "write"): Quantity {
    const { sampleMs: measureMs, warmMs } = this.bench.settings;
    const workload = { ...READS, kind };
    const run = async (warm: number) => {
      const limits = { warmMs: warm, measureMs };
      const result = await this.generator.call("run", { workload, limits });
      return (result.seconds * 1e6) / result.operations;
    };
    const name = `${this.size.name}: ${kind}`;
    return { name, warmUp: () => run(measureMs), sample: () => run(warmMs) };
  }

  assembly(): Quantity {
    const run = async () => {
      let seconds = 0;
      for (let count = 0; count < ASSEMBLIES; count += 1) {
        seconds += (await this.generator.call("assemble", {})).seconds;
      }
      return (seconds / ASSEMBLIES) * 1e6;
    };
    return { name: `${this.size.name}: assemble`, warmUp: run, sample: run };
  }

  checkpoint(): Quantity {
    const run = async () =>
      (await this.generator.call("checkpoint", { count: CHECKPOINTS })).seconds * 1e6;
    return { name: `${this.size.name}: checkpoint`, warmUp: run, sample: run };
  }

  async close(): Promise<void> {
    await this.generator.call("verify", { rowCount: 4096 });
    await this.generator.quit();
  }
}

function row(what: string, key: string, sizes: readonly [Size, Size], target: number | null) {
  const [small, large] = sizes;
  return {
    name: `growth: ${what}, ${large.name}`,
    unit: "µs",
    better: "lower",
    ours: value(`${large.name}: ${key}`),
    reference: { name: small.name, of: value(`${small.name}: ${key}`) },
    target,
  } satisfies RowPlan;
}

async function runGrowth(bench: Bench): Promise<void> {
  const found = tmpfsFolder(512 * MIB);
  if ("reason" in found) {
    bench.leaveOut("growth rows", found.reason);
    return;
  }
  const { folder } = found;
  const ofBytes = (arrayBytes: number): Size => {
    return { name: formatBytes(arrayBytes).replace(".0", ""), memberCount: 4, arrayBytes };
  };
  const ofMembers = (memberCount: number): Size => {
    return { name: `${memberCount} members`, memberCount, arrayBytes: GIB };
  };
  const sizes = [ofBytes(GIB), ofBytes(64 * TIB)] as const;
  const [small, large] = [
    await Sized.open(bench, folder, sizes[0]),
    await Sized.open(bench, folder, sizes[1]),
  ];
  await bench.measure(
    [
      ...[small.request("read"), large.request("read")],
      ...[small.request("write"), large.request("write")],
      ...[small.assembly(), large.assembly()],
      ...[small.checkpoint(), large.checkpoint()],
    ],
    [
      row("random 4 KiB read", "read", sizes, TOLERANCE),
      row("random 4 KiB write", "write", sizes, TOLERANCE),
      row("assembly", "assemble", sizes, TOLERANCE),
      row("checkpoint", "checkpoint", sizes, TOLERANCE),
    ],
  );
  await small.close();
  await large.close();
  if (!bench.isSmoke) {
    const counts = [ofMembers(3), ofMembers(16)] as const;
    const few = await Sized.open(bench, folder, counts[0]);
    const many = await Sized.open(bench, folder, counts[1]);
    await bench.measure(
      [
        ...[few.request("read"), many.request("read")],
        ...[few.request("write"), many.request("write")],
      ],
      [
        row("random 4 KiB read", "read", counts, TOLERANCE),
        row("random 4 KiB write", "write", counts, WRITE_TOLERANCE),
      ],
    );
    await few.close();
    await many.close();
  }
  removeFolder(folder);
}

export const growthSection: Section = { name: "growth rows", run: runGrowth };
