/**
 * What a consistency policy costs: an array with it beside one without, on equal members.
 *
 * Members without a volatile cache need no flush between a log and its data; with one every write
 * of a log waits for a flush, so those rows are shown without a target.
 */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { MEMBER_OVERHEAD_BYTES } from "./array-size.ts";
import type { Bench, Section } from "./bench.ts";
import { Generator } from "./generator.ts";
import { memberFiles, removeFolder, subFolder, tmpfsFolder } from "./ground.ts";
import type { Workload } from "./load.ts";
import { POLICIES, POLICY_TARGETS } from "./policies.ts";
import { type Quantity, type RowPlan, value } from "./statistics.ts";

const MEMBER_COUNT = 4;
const CHUNK_BYTES = 64 * KIB;
const MEMORY_MIB = 128;

const STRIPES: Workload = {
  kind: "write",
  isRandom: false,
  requestBytes: (MEMBER_COUNT - 1) * CHUNK_BYTES,
  depth: 8,
};
const SMALL: Workload = { kind: "write", isRandom: true, requestBytes: 4 * KIB, depth: 32 };

async function openArray(
  bench: Bench,
  folder: string,
  { policy, hasVolatileCache }: { policy: ConsistencyPolicy; hasVolatileCache: boolean },
): Promise<Generator> {
  const { memberBytes } = bench.settings;
  const own = subFolder(folder, policy);
  const generator = new Generator(bench.profileFolder);
  await generator.call("open", {
    members: memberFiles(own, MEMBER_COUNT, memberBytes + MEMBER_OVERHEAD_BYTES),
    chunkBytes: CHUNK_BYTES,
    memberSizeBytes: memberBytes,
    windowBytes: null,
    memoryMib: MEMORY_MIB,
    policy,
    hasVolatileCache,
    timesKernels: false,
  });
  await generator.call("fill", {});
  return generator;
}

function quantity(bench: Bench, name: string, generator: Generator, workload: Workload): Quantity {
  const { sampleMs, warmMs } = bench.settings;
  const run = async (warm: number) => {
    const limits = { warmMs: warm, measureMs: sampleMs };
    const { operations, bytes, seconds } = await generator.call("run", { workload, limits });
    return { operations: operations / seconds, bytes: bytes / seconds };
  };
  return { name, warmUp: () => run(sampleMs), sample: () => run(warmMs) };
}

async function comparePolicy(
  bench: Bench,
  folder: string,
  { policy, hasVolatileCache }: { policy: ConsistencyPolicy; hasVolatileCache: boolean },
): Promise<void> {
  const ours = await openArray(bench, folder, { policy, hasVolatileCache });
  const plain = await openArray(bench, folder, { policy: "resync", hasVolatileCache });
  const targets = POLICY_TARGETS[policy];
  const cache = hasVolatileCache ? "a volatile cache" : "no volatile cache";
  const row = (
    what: string,
    unit: string,
    key: string,
    divisor: number,
    target: number | null,
  ): RowPlan => ({
    name: `${policy}: ${what}, ${cache}`,
    unit,
    better: "higher",
    ours: (values) => value(`${policy} ${key}`)(values) / divisor,
    reference: { name: "resync", of: (values) => value(`resync ${key}`)(values) / divisor },
    target: hasVolatileCache ? null : target,
  });
  await bench.measure(
    [
      quantity(bench, `${policy} stripes`, ours, STRIPES),
      quantity(bench, "resync stripes", plain, STRIPES),
      quantity(bench, `${policy} small`, ours, SMALL),
      quantity(bench, "resync small", plain, SMALL),
    ],
    [
      row("full-stripe sequential write", "MiB/s", "stripes.bytes", MIB, targets.stripeWrite),
      row("random 4 KiB write, depth 32", "IOPS", "small.operations", 1, targets.smallWrite),
    ],
  );
  for (const generator of [ours, plain]) await generator.call("fail", {});
  await bench.measure(
    [
      quantity(bench, `${policy} degraded`, ours, STRIPES),
      quantity(bench, "resync degraded", plain, STRIPES),
    ],
    [
      row(
        "full-stripe sequential write, degraded",
        "MiB/s",
        "degraded.bytes",
        MIB,
        targets.degradedStripeWrite,
      ),
    ],
  );
  for (const generator of [ours, plain]) {
    await generator.call("verify", { rowCount: 4096 });
    await generator.quit();
  }
}

export const policySection: Section = {
  name: "policy rows",
  run: async (bench) => {
    const policies = POLICIES.filter((policy) => policy !== "resync");
    if (policies.length === 0) return;
    const found = tmpfsFolder(2 * MEMBER_COUNT * (bench.settings.memberBytes + 16 * MIB));
    if ("reason" in found) {
      bench.leaveOut("policy rows", found.reason);
      return;
    }
    for (const policy of policies) {
      for (const hasVolatileCache of bench.isFull ? [false, true] : [false]) {
        await comparePolicy(bench, found.folder, { policy, hasVolatileCache });
      }
    }
    removeFolder(found.folder);
  },
};
