/**
 * The NBD server against others over a Unix socket: parityd with an array of four members and the
 * policy `resync`, another one for writes with the policy `ppl`, the peers with a plain file or
 * plain memory, all on the same tmpfs, all filled first.
 *
 * The client is a load generator (nbd-load.ts) that has far less work with a request than any of
 * the servers; a client that has more makes all servers look alike. One row is of fio, beside ours,
 * and shows that.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";
import { KIB, MIB, roundUp } from "../../src/base/units.ts";
import { toolPath } from "../helpers/needs.ts";
import type { Bench, Section, Settings } from "./bench.ts";
import { hasFioEngine, runFio, verifyWithFio } from "./fio.ts";
import { NbdGenerator } from "./generator.ts";
import { removeFolder, subFolder, tmpfsFolder } from "./ground.ts";
import type { NbdWorkload } from "./nbd-load.ts";
import {
  type MemberCounts,
  type NbdServer,
  Parityd,
  type PeerKind,
  paritydWithArray,
  peerObstacle,
  startPeer,
} from "./peers.ts";
import { cpuMicros, runToEnd } from "./processes.ts";
import { type Better, type Quantity, type RowPlan, value } from "./statistics.ts";

const MEMORY_MIB = 128;
const WARM_UP_MS = 1000;
const VERIFIED_BYTES = 8 * MIB;

interface Traffic extends NbdWorkload {
  readonly name: string;
  /** Against nbdkit with a file, which keeps one copy; null: no row with this policy. */
  readonly targets: Readonly<Record<Policy, number | null>>;
  readonly client: "generator" | "fio";
}

interface Ours {
  readonly server: Parityd;
  readonly policy: Policy;
}

/** A server, and its client. */
interface Side {
  readonly server: NbdServer;
  readonly client: NbdGenerator;
}

type Kind = NbdWorkload["kind"];
type Policy = "resync" | "ppl";
type Targets = Traffic["targets"];

/** User and system time of a server per request, of nbdkit file's. */
const CPU_TARGETS: Readonly<Record<Policy, number>> = { resync: 0.8, ppl: 1 };

/** Reads are the same with each policy. */
function reads(target: number): Targets {
  return { resync: target, ppl: null };
}

function writes(resync: number, ppl: number): Targets {
  return { resync, ppl };
}

function small(kind: Kind, connections: number, depth: number, targets: Targets): Traffic {
  const name = `4 KiB random ${kind}, ${connections} x ${depth}`;
  const workload = { kind, isRandom: true, blockBytes: 4 * KIB, connections, depth };
  return { ...workload, name, targets, client: "generator" };
}

function large(
  kind: Kind,
  blockBytes: number,
  connections: number,
  depth: number,
  targets: Targets,
): Traffic {
  const size = blockBytes === MIB ? "1 MiB" : "64 KiB";
  const name = `${size} sequential ${kind}, ${connections} x ${depth}`;
  const workload = { kind, isRandom: false, blockBytes, connections, depth };
  return { ...workload, name, targets, client: "generator" };
}

const WITH_FIO: Traffic = {
  ...small("read", 1, 16, reads(1.5)),
  name: "4 KiB random read, 1 x 16, client fio",
  client: "fio",
};

const ALL: readonly Traffic[] = [
  small("read", 1, 1, reads(1.2)),
  small("read", 1, 16, reads(1.5)),
  WITH_FIO,
  small("read", 1, 64, reads(1.5)),
  small("read", 4, 16, reads(1.5)),
  small("read", 8, 16, reads(1)),
  small("read", 16, 16, reads(1)),
  small("write", 1, 1, writes(1.3, 1)),
  small("write", 1, 16, writes(1.6, 1.2)),
  small("write", 4, 16, writes(0.9, 0.75)),
  small("write", 8, 16, writes(1.2, 1)),
  large("read", 64 * KIB, 1, 16, reads(1)),
  large("write", 64 * KIB, 1, 16, writes(1, 0.8)),
  large("write", 64 * KIB, 4, 16, writes(0.8, 0.65)),
  large("write", 64 * KIB, 8, 16, writes(0.8, 0.65)),
  large("read", MIB, 1, 4, reads(1.2)),
  large("read", MIB, 4, 4, reads(1.2)),
  large("read", MIB, 8, 4, reads(1.2)),
  large("write", MIB, 1, 4, writes(1, 0.9)),
  large("write", MIB, 4, 4, writes(1, 0.9)),
  large("write", MIB, 8, 4, writes(1, 0.9)),
];

const SMOKE: readonly Traffic[] = [
  small("read", 1, 16, reads(1.5)),
  WITH_FIO,
  small("write", 4, 16, writes(0.9, 0.75)),
  large("read", MIB, 1, 4, reads(1.2)),
];

function quantity(side: Side, traffic: Traffic, settings: Settings): Quantity {
  const { server } = side;
  const name = `${server.name}: ${traffic.name}`;
  const measure = traffic.client === "fio" ? measureWithFio : measureOne;
  const counts = async () => (server instanceof Parityd ? server.counts() : null);
  return {
    name,
    sample: async () => {
      const countsBefore = await counts();
      const before = cpuMicros(server.pid);
      const { operationsInAll, ...measured } = await measure(side, traffic, settings);
      const cpu = (cpuMicros(server.pid) - before) / operationsInAll;
      const moved = movedBetween(
        countsBefore,
        await counts(),
        operationsInAll * traffic.blockBytes,
      );
      return { ...measured, ...moved, cpu };
    },
  };
}

/** See Moved in statistics.ts; of a peer nothing. */
function movedBetween(
  before: MemberCounts | null,
  after: MemberCounts | null,
  clientBytes: number,
): Readonly<Record<string, number>> {
  if (before === null || after === null) return {};
  const full = after.full - before.full;
  return {
    readPerByte: (after.bytesRead - before.bytesRead) / clientBytes,
    writtenPerByte: (after.bytesWritten - before.bytesWritten) / clientBytes,
    fullStripes: full / Math.max(1, full + after.partial - before.partial),
  };
}

async function measureOne(
  { server, client }: Side,
  { kind, isRandom, blockBytes, connections, depth }: NbdWorkload,
  { warmMs, sampleMs }: Settings,
) {
  const workload = { kind, isRandom, blockBytes, connections, depth };
  const limits = { warmMs, measureMs: sampleMs };
  const result = await client.call("run", { workload, limits });
  const { errors, operations, bytes, seconds, operationsInAll, p50, p99, p999 } = result;
  assert(errors === 0, `${server.name} answers without an error (${errors})`);
  const rates = { operations: operations / seconds, bytes: bytes / seconds };
  return { ...rates, operationsInAll, p50, p99, p999 };
}

async function measureWithFio(
  { server }: Side,
  { kind, blockBytes, connections, depth }: NbdWorkload,
  { sampleMs }: Settings,
) {
  const target = { kind: "nbd", uri: server.uri, connections } as const;
  const rw = kind === "read" ? "randread" : "randwrite";
  const result = await runFio({ rw, blockBytes, depth, runtimeMs: sampleMs, target });
  const { operations: operationsInAll, operationsPerSecond, bytesPerSecond } = result;
  return { operations: operationsPerSecond, bytes: bytesPerSecond, operationsInAll };
}

function rowsOf({ server: ours, policy }: Ours, peer: NbdServer, traffic: Traffic): RowPlan[] {
  const { name, blockBytes, client } = traffic;
  const target = traffic.targets[policy];
  const isSmall = blockBytes < 64 * KIB;
  const hasTarget = peer.name === "nbdkit file";
  const pick =
    (server: NbdServer, key: string, divisor = 1) =>
    (values: (name: string) => number) =>
      values(`${server.name}: ${name}.${key}`) / divisor;
  const key = isSmall ? "operations" : "bytes";
  const divisor = isSmall ? 1 : MIB;
  const rowName = policy === "ppl" ? `${name}, ppl` : name;
  const rows: RowPlan[] = [
    {
      name: `NBD ${rowName}`,
      unit: isSmall ? "IOPS" : "MiB/s",
      better: "higher",
      ours: pick(ours, key, divisor),
      reference: { name: peer.name, of: pick(peer, key, divisor) },
      target: hasTarget ? target : null,
      ...(client === "fio"
        ? {}
        : { latencies: { ours: `${ours.name}: ${name}`, reference: `${peer.name}: ${name}` } }),
      ...(traffic.kind === "write" && hasTarget ? { moved: `${ours.name}: ${name}` } : {}),
    },
  ];
  if (client === "generator") {
    rows.push({
      name: `NBD server CPU per request, ${rowName}`,
      unit: "µs",
      better: "lower" satisfies Better,
      ours: pick(ours, "cpu"),
      reference: { name: peer.name, of: pick(peer, "cpu") },
      target: hasTarget ? CPU_TARGETS[policy] : null,
    });
  }
  return rows;
}

/** nbdcopy of the whole export to nowhere. */
function copyQuantity(server: NbdServer, bytes: number): Quantity {
  return {
    name: `${server.name}: nbdcopy`,
    sample: async () => {
      const startMs = performance.now();
      await runToEnd([toolPath("nbdcopy")!, server.uri, "null:"]);
      return bytes / ((performance.now() - startMs) / 1000);
    },
  };
}

function copyRow(ours: NbdServer, peer: NbdServer): RowPlan {
  const rate = (server: NbdServer) => (values: (name: string) => number) =>
    values(`${server.name}: nbdcopy`) / MIB;
  return {
    name: "NBD nbdcopy of the whole export",
    unit: "MiB/s",
    better: "higher",
    ours: rate(ours),
    reference: { name: peer.name, of: rate(peer) },
    target: null,
  };
}

/** A file of random words. */
function patternFile(path: string, bytes: number): string {
  const block = new Uint32Array(MIB / 4);
  const fd = openSync(path, "w");
  for (let done = 0; done < bytes; done += MIB) {
    // A call takes 64 KiB at most.
    for (let at = 0; at < block.length; at += 16 * KIB) {
      crypto.getRandomValues(block.subarray(at, at + 16 * KIB));
    }
    writeSync(fd, block, 0, Math.min(MIB, bytes - done));
  }
  closeSync(fd);
  return path;
}

export function filesAreEqual(left: string, right: string): boolean {
  const fds = [openSync(left, "r"), openSync(right, "r")] as const;
  const blocks = [new Uint8Array(MIB), new Uint8Array(MIB)] as const;
  try {
    for (;;) {
      const counts = [readSync(fds[0], blocks[0]), readSync(fds[1], blocks[1])] as const;
      if (counts[0] !== counts[1] || Buffer.compare(blocks[0], blocks[1]) !== 0) return false;
      if (counts[0] === 0) return true;
    }
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

/** Fills each server with the pattern and reads ours back. */
async function fill(servers: readonly NbdServer[], folder: string, bytes: number): Promise<void> {
  const nbdcopy = toolPath("nbdcopy")!;
  const pattern = patternFile(join(folder, "pattern"), bytes);
  for (const { uri } of servers) await runToEnd([nbdcopy, pattern, uri]);
  const copy = join(folder, "copy");
  await runToEnd([nbdcopy, servers[0]!.uri, copy]);
  assert(filesAreEqual(pattern, copy), "the array gives back what was written to it");
  removeFolder(pattern);
  removeFolder(copy);
}

/** A client that has stamped the whole export. */
async function startClient(server: NbdServer, bench: Bench): Promise<Side> {
  const client = new NbdGenerator(bench.profileFolder);
  await client.call("open", { uri: server.uri, cpu: bench.clientCpu });
  await client.call("fill", {});
  return { server, client };
}

/** A server runs for months: its code is compiled long before what is measured here. */
async function warmUp(side: Side, settings: Settings): Promise<void> {
  const longer = { ...settings, sampleMs: WARM_UP_MS };
  for (const kind of ["write", "read"] as const) {
    await measureOne(side, small(kind, 4, 16, reads(0)), longer);
    await measureOne(side, large(kind, MIB, 4, 16, reads(0)), longer);
  }
}

async function verify(server: Parityd): Promise<void> {
  await verifyWithFio(server.uri, VERIFIED_BYTES);
  const scrub = (await server.must("POST", "/v1/arrays/bench/scrub?wait=60", {})) as {
    state: string;
    result: { mismatchBytes: number };
  };
  const isClean = scrub.state === "done" && scrub.result.mismatchBytes === 0;
  assert(isClean, `a scrub finds parity as it has to be: ${JSON.stringify(scrub)}`);
}

function obstacle(): string | null {
  if (!hasFioEngine("nbd")) return "fio has no nbd engine here";
  return toolPath("nbdcopy") === undefined ? "there is no nbdcopy" : null;
}

function presentPeers(bench: Bench): PeerKind[] {
  const kinds: readonly PeerKind[] = bench.hasAllPeers
    ? ["nbdkit file", "nbdkit memory", "qemu-nbd"]
    : ["nbdkit file"];
  return kinds.filter((kind) => {
    const missing = peerObstacle(kind);
    if (missing !== null) bench.leaveOut(`NBD rows against ${kind}`, missing);
    return missing === null;
  });
}

async function runNbd(bench: Bench): Promise<void> {
  const { settings, binary } = bench;
  const arrayBytes = roundUp(2 * settings.memberBytes, MIB);
  const kinds = presentPeers(bench);
  if (kinds.length === 0) return;
  const found = tmpfsFolder(arrayBytes * (kinds.length + 5));
  const reason = "reason" in found ? found.reason : obstacle();
  if ("reason" in found || reason !== null) {
    bench.leaveOut("NBD rows", reason ?? "");
    return;
  }
  const { folder } = found;
  const arrays: Ours[] = [];
  let bytes = 0;
  for (const policy of ["resync", "ppl"] as const) {
    const { server, sizeBytes } = await paritydWithArray({
      ...{ binary, memoryMib: MEMORY_MIB, arrayBytes, folder: subFolder(folder, policy) },
      ...{ name: policy === "ppl" ? "parityd, ppl" : "parityd", consistencyPolicy: policy },
    });
    arrays.push({ server, policy });
    bytes = sizeBytes;
  }
  const peers: NbdServer[] = [];
  for (const kind of kinds) peers.push(await startPeer(kind, { folder, bytes }));
  const servers = [...arrays.map(({ server }) => server), ...peers];
  await fill(servers, folder, bytes);
  const sides = new Map<NbdServer, Side>();
  for (const one of servers) sides.set(one, await startClient(one, bench));
  if (!bench.isSmoke) for (const side of sides.values()) await warmUp(side, settings);
  for (const traffic of bench.isSmoke ? SMOKE : ALL) {
    const measured = arrays.filter(({ policy }) => traffic.targets[policy] !== null);
    const inRow = [...measured.map(({ server }) => server), ...peers];
    await bench.measure(
      inRow.map((one) => quantity(sides.get(one)!, traffic, settings)),
      peers.flatMap((peer) => measured.flatMap((ours) => rowsOf(ours, peer, traffic))),
    );
  }
  const { server } = arrays[0]!;
  await bench.measure(
    [server, ...peers].map((one) => copyQuantity(one, bytes)),
    peers.map((peer) => copyRow(server, peer)),
  );
  if (!bench.isSmoke) await measureConnections(bench, sides.get(server)!);
  if (!bench.isSmoke) await measureFairness(bench, server);
  for (const { client } of sides.values()) {
    await client.call("check", {});
    await client.quit();
  }
  for (const one of arrays) await verify(one.server);
  for (const one of servers) await one.stop();
  removeFolder(folder);
}

/**
 * What a request costs the server over 64 connections and over one, with as many under way. One
 * brings many requests with each system call, so the cost per request is higher over many.
 */
async function measureConnections(bench: Bench, side: Side): Promise<void> {
  const { server } = side;
  const few = small("read", 1, 64, reads(0));
  const many = small("read", 64, 1, reads(0));
  await bench.measure(
    [quantity(side, few, bench.settings), quantity(side, many, bench.settings)],
    [
      {
        name: "growth: server CPU per request, 64 connections x 1",
        unit: "µs",
        better: "lower",
        ours: value(`${server.name}: ${many.name}.cpu`),
        reference: { name: "1 connection x 64", of: value(`${server.name}: ${few.name}.cpu`) },
        target: null,
      },
    ],
  );
}

/** One client with the largest requests that there are, and another with small ones. */
async function measureFairness(bench: Bench, server: NbdServer): Promise<void> {
  const { warmMs, sampleMs } = bench.settings;
  const [ours, theirs] = [new NbdGenerator(null), new NbdGenerator(null)];
  for (const client of [ours, theirs]) {
    // Neither has stamped anything, so neither checks what the other one writes.
    await client.call("open", { uri: server.uri, cpu: bench.clientCpu });
  }
  const reads4k = { kind: "read", isRandom: true, blockBytes: 4 * KIB, connections: 1 } as const;
  const p99 = async (measureMs: number) => {
    const limits = { warmMs, measureMs };
    return (await ours.call("run", { workload: { ...reads4k, depth: 4 }, limits })).p99;
  };
  for (const kind of ["read", "write"] as const) {
    const largest = { kind, isRandom: false, blockBytes: 32 * MIB, connections: 1, depth: 2 };
    const beside = async () => {
      const limits = { warmMs: 0, measureMs: warmMs + 2 * sampleMs };
      const large = theirs.call("run", { workload: largest, limits });
      await Bun.sleep(sampleMs / 4);
      const measured = await p99(sampleMs);
      await large;
      return measured;
    };
    await bench.measure(
      [
        { name: "alone", sample: () => p99(sampleMs) },
        { name: "beside", sample: beside },
      ],
      [
        {
          name: `NBD p99 of 4 KiB reads, 1 x 4, beside ${kind}s of 32 MiB`,
          unit: "µs",
          better: "lower",
          ours: value("beside"),
          reference: { name: "alone", of: value("alone") },
          target: 3,
        },
      ],
    );
  }
  for (const client of [ours, theirs]) await client.quit();
}

export const nbdSection: Section = { name: "NBD rows", run: runNbd };
