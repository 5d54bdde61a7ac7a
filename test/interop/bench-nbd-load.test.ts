/**
 * Goal: the load generator of the NBD rows says what it has done and no more: its counts are those
 * of the servers, what it wrote lies where it says, and data that is not as written, an error and a
 * server that has gone are all found.
 *
 * Method: the executable and nbdkit, a fraction of a second of each kind of load over two
 * connections; then the file below nbdkit is changed behind it, and a proxy takes answers apart.
 * Nothing is timed.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { closeSync, existsSync, openSync, readFileSync, writeSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { KIB, MIB, ROW_BYTES } from "../../src/base/units.ts";
import { NbdGenerator } from "../bench/generator.ts";
import type { NbdWorkload } from "../bench/nbd-load.ts";
import { startPeer } from "../bench/peers.ts";
import { keep, killAll, waitUntil } from "../bench/processes.ts";
import { isRowIntact, WORDS_PER_ROW } from "../bench/stamps.ts";
import { Daemon, makeFiles } from "../helpers/daemon.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

afterAll(killAll);

const BYTES = 8 * MIB;
const LIMITS = { warmMs: 10, measureMs: 40 };
const BASE = { connections: 2, depth: 4, blockBytes: 4 * KIB } as const;
const WORKLOADS: readonly NbdWorkload[] = [
  { ...BASE, kind: "write", isRandom: true },
  { ...BASE, kind: "read", isRandom: true },
  { ...BASE, kind: "write", isRandom: false, blockBytes: 64 * KIB },
  // More than a socket holds, so that requests leave and answers come in parts.
  { ...BASE, kind: "write", isRandom: true, blockBytes: MIB },
  { ...BASE, kind: "read", isRandom: false, blockBytes: MIB },
  { ...BASE, kind: "read", isRandom: true, connections: 1 },
];

async function clientOf(uri: string): Promise<NbdGenerator> {
  const client = new NbdGenerator(null);
  await client.call("open", { uri, cpu: null });
  return client;
}

/** Runs each kind of load; how many requests of each command there were in all. */
async function runAll(client: NbdGenerator): Promise<{ read: number; write: number }> {
  const counts = { read: 0, write: 0 };
  counts.write += (await client.call("fill", {})).operations;
  for (const workload of WORKLOADS) {
    const result = await client.call("run", { workload, limits: LIMITS });
    expect(result.errors).toBe(0);
    expect(result.operations).toBeGreaterThan(0);
    expect(result.operationsInAll).toBeGreaterThan(result.operations);
    expect(result.bytes).toBe(result.operations * workload.blockBytes);
    expect(result.seconds).toBeGreaterThanOrEqual(LIMITS.measureMs / 1000);
    expect(result.p50).toBeGreaterThan(0);
    expect(result.p99).toBeGreaterThanOrEqual(result.p50);
    expect(result.p999).toBeGreaterThanOrEqual(result.p99);
    expect(result.longest).toBeGreaterThanOrEqual(result.p999);
    counts[workload.kind] += result.operationsInAll;
  }
  counts.read += (await client.call("check", {})).operations;
  return counts;
}

async function startNbdkit(folder: string, words: readonly string[]): Promise<string> {
  const socket = join(folder, "sock");
  const child = keep(
    Bun.spawn([toolPath("nbdkit")!, "--foreground", "--unix", socket, ...words], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    }),
  );
  await waitUntil(child, () => existsSync(socket));
  return `nbd+unix:///?socket=${socket}`;
}

/** A way to a server on which answers come in pieces of a few bytes and of a few rows. */
class Dribble {
  readonly uri: string;
  /** A connection is closed once so many bytes have come to it. */
  bytesMax = Number.POSITIVE_INFINITY;
  private readonly proxy: Server;

  constructor(folder: string, uri: string) {
    const path = join(folder, "dribble");
    const target = new URL(uri).searchParams.get("socket")!;
    this.uri = `nbd+unix:///?socket=${path}`;
    this.proxy = createServer((client) => void this.serve(client, target)).listen(path);
  }

  close(): void {
    this.proxy.close();
  }

  private async serve(client: Socket, target: string): Promise<void> {
    const server = connect(target);
    client.on("error", () => {}).on("close", () => server.destroy());
    client.pipe(server);
    let bytes = 0;
    let sentBytes = 0;
    for await (const chunk of server as AsyncIterable<Uint8Array>) {
      for (let at = 0; at < chunk.length && sentBytes < this.bytesMax; at += bytes) {
        bytes = 1 + ((bytes * 31 + 6) % (bytes > 8192 ? 23 : 12_289));
        client.write(chunk.subarray(at, at + bytes));
        sentBytes += bytes;
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (sentBytes >= this.bytesMax) break;
    }
    client.end();
  }
}

describe("NBD load", () => {
  test.skipIf(!needs("libaio", "direct-io"))(
    "NBD load: parityd: as many requests as the server has counted [needs libaio, direct-io]",
    async () => {
      const folder = makeTempDir("load");
      const daemon = await Daemon.start(folder);
      const drives = await daemon.addDrives(makeFiles(folder, 3, 20 * MIB));
      const size = { chunkKiB: 64, sizeKiB: BYTES / 2 / KIB, assumeClean: true };
      await daemon.must("POST", "/v1/arrays", { name: "tank", drives, ...size });
      await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
      const client = await clientOf(daemon.uri("tank"));
      const counts = await runAll(client);
      await client.quit();
      const metrics: string = (await daemon.call("GET", "/metrics")).body;
      for (const [command, count] of Object.entries(counts)) {
        const lines = metrics.match(/^parityd_nbd_requests_total.*/gm) ?? [];
        const own = lines.filter((line) => line.includes(`"${command}"`));
        const counted = own.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
        expect(`${command} ${counted}`).toBe(`${command} ${count}`);
      }
      expect(await daemon.stop()).toBe(0);
    },
  );

  test.skipIf(!needs("nbdkit"))(
    "NBD load: nbdkit: each row in its place; one that is changed: found [needs nbdkit]",
    async () => {
      const folder = makeTempDir("load");
      const server = await startPeer("nbdkit file", { folder, bytes: BYTES });
      const client = await clientOf(server.uri);
      await runAll(client);
      const image = join(folder, "nbdkit-file", "image");
      const bytes = readFileSync(image);
      const words = new Uint32Array(bytes.buffer, bytes.byteOffset, BYTES / 4);
      for (let row = 0; row < BYTES / ROW_BYTES; row += 1) {
        const at = row * WORDS_PER_ROW;
        expect(`${row} ${isRowIntact(words, at, row, words[at + 1]!)}`).toBe(`${row} true`);
      }
      // The right row, but of a write before the last one.
      const row = 1234;
      const fd = openSync(image, "r+");
      writeSync(
        fd,
        new Uint32Array([row + 1, words[row * WORDS_PER_ROW + 1]! - 1]),
        0,
        8,
        row * 4096,
      );
      closeSync(fd);
      const workload = { ...BASE, kind: "read", isRandom: false, blockBytes: 64 * KIB } as const;
      const run = client.call("run", { workload, limits: { warmMs: 0, measureMs: 1000 } });
      await expect(run).rejects.toThrow(`row ${row} is read as written`);
    },
  );

  test.skipIf(!needs("nbdkit"))(
    "NBD load: a server that answers with errors: each is counted [needs nbdkit]",
    async () => {
      const filter = ["--filter=error", "memory", String(BYTES), "error-pread-rate=50%"];
      const client = await clientOf(await startNbdkit(makeTempDir("load"), filter));
      const workload = { ...BASE, kind: "read", isRandom: true } as const;
      const result = await client.call("run", { workload, limits: LIMITS });
      expect(result.errors).toBeGreaterThan(0);
      expect(result.errors).toBeLessThan(result.operations);
      await client.quit();
    },
  );

  test.skipIf(!needs("nbdkit"))(
    "NBD load: answers in pieces, and then an end: put together, and the run fails [needs nbdkit]",
    async () => {
      const folder = makeTempDir("load");
      const server = await startPeer("nbdkit memory", { folder, bytes: BYTES });
      const dribble = new Dribble(folder, server.uri);
      const client = await clientOf(dribble.uri);
      await client.call("fill", {});
      for (const blockBytes of [4 * KIB, 64 * KIB]) {
        const workload = { ...BASE, kind: "read", isRandom: true, blockBytes } as const;
        const result = await client.call("run", { workload, limits: LIMITS });
        expect(result.errors).toBe(0);
      }
      const workload = { ...BASE, kind: "read", isRandom: true } as const;
      dribble.bytesMax = 100_000;
      const run = client.call("run", { workload, limits: { warmMs: 0, measureMs: 2000 } });
      await expect(run).rejects.toThrow("the server answers: it has gone");
      dribble.close();
    },
  );

  test.skipIf(!needs("nbdkit"))(
    "NBD load: a server that goes: the run fails and does not wait for it [needs nbdkit]",
    async () => {
      const folder = makeTempDir("load");
      const server = await startPeer("nbdkit memory", { folder, bytes: BYTES });
      const client = await clientOf(server.uri);
      await client.call("fill", {});
      const workload = { ...BASE, kind: "read", isRandom: true } as const;
      const run = client.call("run", { workload, limits: { warmMs: 0, measureMs: 60_000 } });
      process.kill(server.pid, "SIGKILL");
      await expect(run).rejects.toThrow();
    },
  );
});
