/** The NBD servers that are compared: parityd over an array, and the peers over a plain file. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ArrayStatus, ConsistencyPolicy } from "../../src/array/protocol.ts";
import { assert } from "../../src/base/assert.ts";
import { toolPath } from "../helpers/needs.ts";
import { memberBytesFor } from "./array-size.ts";
import { memberFiles, sparseFile, subFolder } from "./ground.ts";
import { keep, stop, waitUntil } from "./processes.ts";

export interface NbdServer {
  readonly name: string;
  readonly uri: string;
  readonly pid: number;
  stop(): Promise<void>;
}

export interface ParitydOptions {
  /** In the table. */
  readonly name?: string;
  readonly binary: string;
  readonly folder: string;
  readonly memoryMib: number;
}

/** `parityd serve`, up to its "ready" line. */
export class Parityd implements NbdServer {
  readonly name: string;
  readonly startMs: number;
  private readonly child: Bun.Subprocess;
  private readonly folder: string;

  private constructor(name: string, child: Bun.Subprocess, folder: string, startMs: number) {
    this.name = name;
    this.child = child;
    this.folder = folder;
    this.startMs = startMs;
  }

  static async start(options: ParitydOptions): Promise<Parityd> {
    const { name = "parityd", binary, folder, memoryMib } = options;
    const directories = ["--state-dir", join(folder, "state"), "--run-dir", join(folder, "run")];
    const words = [
      binary,
      "serve",
      ...directories,
      "--memory-mib",
      String(memoryMib),
      "--config",
      "/dev/null",
    ];
    const startedMs = performance.now();
    const child = keep(
      Bun.spawn([...words, "--log-level", "error"], {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "inherit",
      }),
    );
    const { value } = await child.stdout.getReader().read();
    const line = new TextDecoder().decode(value);
    assert(line.startsWith("ready "), `parityd gets ready: ${line}`);
    return new Parityd(name, child, folder, performance.now() - startedMs);
  }

  get pid(): number {
    return this.child.pid;
  }

  get uri(): string {
    return `nbd+unix:///bench?socket=${join(this.folder, "run", "nbd.sock")}`;
  }

  /** Creates an array of these members and exports it as "bench"; answers with its size. */
  async createArray(members: readonly string[], options: object): Promise<number> {
    const drives = members.map((_, index) => `drive${index}`);
    for (const [index, path] of members.entries()) {
      await this.must("POST", "/v1/drives", { name: drives[index], path });
    }
    const body = { name: "bench", drives, assumeClean: true, ...options };
    const { sizeBytes } = (await this.must("POST", "/v1/arrays", body)) as { sizeBytes: number };
    await this.must("PUT", "/v1/exports/bench", { array: "bench" });
    return sizeBytes;
  }

  async must(method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(`http://parityd${path}`, {
      unix: join(this.folder, "run", "api.sock"),
      method,
      headers: { "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    assert(response.ok, `${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text);
  }

  /** What its members have moved since its start, and how its writes were planned. */
  async counts(): Promise<MemberCounts> {
    const { members, stripeWrites } = (await this.must("GET", "/v1/arrays/bench")) as ArrayStatus;
    const sum = (of: (io: (typeof members)[number]["io"]) => number) =>
      members.reduce((total, { io }) => total + of(io), 0);
    const { full, partial } = stripeWrites!;
    const bytesRead = sum((io) => io.bytesRead);
    return { bytesRead, bytesWritten: sum((io) => io.bytesWritten), full, partial };
  }

  stop(): Promise<void> {
    return stop(this.child);
  }
}

export interface MemberCounts {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Writes by stripe. */
  readonly full: number;
  readonly partial: number;
}

/** parityd with an array of four members on files in this folder. */
export async function paritydWithArray(
  options: ParitydOptions & { arrayBytes: number; consistencyPolicy?: ConsistencyPolicy },
): Promise<{ server: Parityd; sizeBytes: number }> {
  const server = await Parityd.start(options);
  const memberCount = 4;
  const bytes = memberBytesFor(options.arrayBytes, memberCount);
  const members = memberFiles(options.folder, memberCount, bytes);
  const sizeKiB = Math.ceil(options.arrayBytes / (memberCount - 1) / 1024);
  const sizeBytes = await server.createArray(members, {
    chunkKiB: 64,
    sizeKiB,
    consistencyPolicy: options.consistencyPolicy ?? "resync",
  });
  return { server, sizeBytes };
}

export type PeerKind = "nbdkit file" | "nbdkit memory" | "qemu-nbd";

/** Why the peer cannot be had, or null. */
export function peerObstacle(kind: PeerKind): string | null {
  const tool = kind === "qemu-nbd" ? "qemu-nbd" : "nbdkit";
  return toolPath(tool) === undefined ? `there is no ${tool}` : null;
}

export async function startPeer(
  kind: PeerKind,
  { folder: parent, bytes }: { folder: string; bytes: number },
): Promise<NbdServer> {
  const folder = subFolder(parent, kind.replace(" ", "-"));
  const socket = join(folder, "sock");
  const pidFile = join(folder, "pid");
  const file = join(folder, "image");
  if (kind !== "nbdkit memory") sparseFile(file, bytes);
  const nbdkit = [toolPath("nbdkit") ?? "", "--foreground", "--unix", socket, "--pidfile", pidFile];
  const words = {
    "nbdkit file": [...nbdkit, "file", file],
    "nbdkit memory": [...nbdkit, "memory", String(bytes)],
    "qemu-nbd": [
      ...[toolPath("qemu-nbd") ?? "", "--persistent", "--shared=64", "--format=raw"],
      ...[`--socket=${socket}`, `--pid-file=${pidFile}`, file],
    ],
  }[kind];
  const child = keep(Bun.spawn(words, { stdin: "ignore", stdout: "ignore", stderr: "inherit" }));
  await waitUntil(child, () => existsSync(pidFile) && existsSync(socket));
  const uri = `nbd+unix:///?socket=${socket}`;
  return { name: kind, uri, pid: child.pid, stop: () => stop(child) };
}
