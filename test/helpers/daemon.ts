/**
 * The compiled executable under test: runs its verbs, starts `serve` and `attach`, talks to them.
 *
 * PARITYD_BINARY names the executable; without it dist/parityd is taken, which test/run.ts has
 * just built, and which is built here where it is missing or older than the source. Every process
 * started here is killed, by its own id, when the tests of the file are over (files that share one
 * process, as they do without test/run.ts: those of the first file). Output goes to files: a pipe
 * that nobody reads would stop the daemon.
 */
import { afterAll } from "bun:test";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
} from "node:fs";
import { createConnection } from "node:net";
import { dirname, join, resolve } from "node:path";
import { assert } from "../../src/base/assert.ts";
import type { Result } from "../../src/base/result.ts";
import { NbdClient, type NbdClientError, type NbdTransport } from "../../src/nbd/client/client.ts";
import { makeTempDir } from "./temp.ts";
import { TEST_LIMIT_MS } from "./test-limit.ts";

const TOP = resolve(import.meta.dir, "../..");
const READY_LIMIT_MS = TEST_LIMIT_MS / 2;
const POLL_MS = 5;

let binary: string | undefined;

/** The absolute path of the executable; builds it where there is none of this source. */
export function binaryPath(): string {
  binary ??= findBinary();
  return binary;
}

function findBinary(): string {
  const given = process.env["PARITYD_BINARY"];
  if (given !== undefined) return resolve(given);
  const standard = join(TOP, "dist", "parityd");
  if (existsSync(standard) && statSync(standard).mtimeMs > newestSourceMs()) return standard;
  // Under a name of its own first: another test process may be about to do the same.
  const own = join(TOP, "dist", `parityd-${process.pid}`);
  mkdirSync(dirname(own), { recursive: true });
  const built = Bun.spawnSync([process.execPath, "build.ts", "--outfile", own], { cwd: TOP });
  assert(built.success, `the executable is built: ${built.stderr}`);
  renameSync(own, standard);
  return standard;
}

function newestSourceMs(): number {
  const files = ["build.ts", "package.json"];
  for (const folder of ["src", "ffi"]) {
    for (const name of readdirSync(join(TOP, folder), { recursive: true, encoding: "utf8" })) {
      files.push(join(folder, name));
    }
  }
  return Math.max(...files.map((file) => statSync(join(TOP, file)).mtimeMs));
}

/** It is killed when the tests of the file are over, if it has not ended by then. */
export function keepTrack<T extends Bun.Subprocess>(child: T): T {
  alive.add(child);
  void child.exited.then(() => alive.delete(child));
  return child;
}

export interface Finished {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
}

/** Runs a verb to its end. */
export async function runVerb(words: readonly string[], options: RunOptions = {}) {
  return runProgram([binaryPath(), ...words], options);
}

/** Runs any program to its end. */
export async function runProgram(
  words: readonly string[],
  { cwd, environment }: RunOptions = {},
): Promise<Finished> {
  const child = Bun.spawn([...words], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    ...(cwd === undefined ? {} : { cwd }),
    ...(environment === undefined ? {} : { env: environment }),
  });
  alive.add(child);
  const [stdout, stderr, exitCode] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  alive.delete(child);
  return { exitCode, stdout, stderr };
}

/** As `runProgram`, for one that must succeed; answers with its stdout. */
export async function mustRun(words: readonly string[], options: RunOptions = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await runProgram(words, options);
  const what = words.map((word) => word.slice(0, 200)).join(" ");
  assert(exitCode === 0, `${what} succeeds: exit ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

const alive = new Set<Bun.Subprocess>();

async function endAll(): Promise<void> {
  const left = [...alive];
  for (const child of left) child.kill("SIGKILL");
  await Promise.all(left.map((child) => child.exited));
  alive.clear();
}

// Elsewhere too this file is imported: benchmarks, loads in a process of their own.
if (process.env["NODE_ENV"] === "test") afterAll(endAll);

/** A verb that runs until it is stopped and says "ready" on stdout. */
export class Running {
  readonly child: Bun.Subprocess;
  private readonly stdoutPath: string;
  private readonly stderrPath: string;

  protected constructor(
    words: readonly string[],
    { cwd, environment, before = [] }: RunOptions & { readonly before?: readonly string[] },
  ) {
    const folder = makeTempDir("out");
    this.stdoutPath = join(folder, "stdout");
    this.stderrPath = join(folder, "stderr");
    this.child = Bun.spawn([...before, binaryPath(), ...words], {
      stdin: "ignore",
      stdout: Bun.file(this.stdoutPath),
      stderr: Bun.file(this.stderrPath),
      cwd: cwd ?? "/",
      env: environment ?? {},
    });
    keepTrack(this.child);
  }

  get stdout(): string {
    return existsSync(this.stdoutPath) ? readFileSync(this.stdoutPath, "utf8") : "";
  }

  get stderr(): string {
    return existsSync(this.stderrPath) ? readFileSync(this.stderrPath, "utf8") : "";
  }

  /** Waits for the line; null when the process ended without it. */
  async ready(): Promise<string | null> {
    const endMs = Date.now() + READY_LIMIT_MS;
    for (;;) {
      const line = /^(ready .*)\n/.exec(this.stdout)?.[1];
      if (line !== undefined) return line;
      if (this.child.exitCode !== null || this.child.signalCode !== null) return null;
      assert(Date.now() < endMs, `it gets ready in time: ${this.stderr}`);
      await Bun.sleep(POLL_MS);
    }
  }

  /** SIGTERM; answers with the exit code. */
  async stop(): Promise<number> {
    this.child.kill("SIGTERM");
    return this.child.exited;
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // Answers are checked field by field by the tests.
  // biome-ignore lint/suspicious/noExplicitAny: the body is whatever the daemon sent.
  readonly body: any;
}

export interface ServeOptions extends RunOptions {
  /** What starts it ("prlimit --nofile=256:256"), in words. */
  readonly before?: readonly string[];
  readonly flags?: readonly string[];
}

/** `parityd serve` over a folder that holds its state and run directories. */
export class Daemon extends Running {
  readonly folder: string;

  private constructor(folder: string, options: ServeOptions) {
    super([...serveWords(folder), ...(options.flags ?? [])], options);
    this.folder = folder;
  }

  static async start(folder: string, options: ServeOptions = {}): Promise<Daemon> {
    const daemon = new Daemon(folder, options);
    const line = await daemon.ready();
    assert(line !== null, `serve gets ready: ${daemon.stderr}`);
    return daemon;
  }

  get apiSocket(): string {
    return join(this.folder, "run", "api.sock");
  }

  get nbdSocket(): string {
    return join(this.folder, "run", "nbd.sock");
  }

  async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await fetch(`http://parityd${path}`, {
      unix: this.apiSocket,
      method,
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      timeout: false,
      keepalive: false,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    } as BunFetchRequestInit);
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "");
    return {
      status: response.status,
      headers: response.headers,
      body: isJson ? JSON.parse(text) : text,
    };
  }

  /** As `call`, for one that must succeed; answers with the body. */
  async must(method: string, path: string, body?: unknown): Promise<Answer["body"]> {
    const answer = await this.call(method, path, body);
    const what = `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`;
    assert(answer.status < 300, what);
    return answer.body;
  }

  /** Adds each file as a drive: drive0, drive1, ... */
  async addDrives(files: readonly string[]): Promise<string[]> {
    const names = files.map((_, index) => `drive${index}`);
    for (const [index, path] of files.entries()) {
      await this.must("POST", "/v1/drives", { name: names[index], path });
    }
    return names;
  }

  /** Waits until the array has nothing to do in the background. */
  async settle(array: string): Promise<Answer["body"]> {
    for (;;) {
      const status = await this.must("GET", `/v1/arrays/${array}`);
      if (status.sync.action === "idle") return status;
      await Bun.sleep(20);
    }
  }

  /** As `settle`, and until the superblocks say clean: nothing is written by itself any more. */
  async calmDown(array: string): Promise<void> {
    while ((await this.settle(array)).state === "active") await Bun.sleep(20);
    while (!(await this.isMarkedClean(array))) await Bun.sleep(20);
  }

  private async isMarkedClean(array: string): Promise<boolean> {
    const { members } = await this.must("GET", `/v1/arrays/${array}`);
    const present = members.find(({ state }: { state: string }) => state === "in-sync");
    const { path } = await this.must("GET", `/v1/drives/${present.drive}`);
    return /State : clean/.test((await runVerb(["examine", path])).stdout);
  }

  connect(exportName: string): Promise<NbdClient> {
    return connectNbd(this.nbdSocket, exportName);
  }

  uri(exportName: string): string {
    return `nbd+unix:///${exportName}?socket=${this.nbdSocket}`;
  }
}

export function serveWords(folder: string): string[] {
  const directories = ["--state-dir", join(folder, "state"), "--run-dir", join(folder, "run")];
  return ["serve", ...directories, "--memory-mib", "64", "--config", "/dev/null"];
}

/** `parityd attach` with a socket of its own. */
export class Attached extends Running {
  readonly socket: string;

  private constructor(files: readonly string[], socket: string, flags: readonly string[]) {
    super(["attach", ...files, "--socket", socket, ...flags], {});
    this.socket = socket;
  }

  /** Starts it, and does not wait. */
  static launch(files: readonly string[], flags: readonly string[] = []): Attached {
    return new Attached(files, join(makeTempDir("at"), "nbd.sock"), flags);
  }

  /** Starts it, and waits until it is ready or has ended: then `uri` is null. */
  static async start(
    files: readonly string[],
    flags: readonly string[] = [],
  ): Promise<{ attached: Attached; uri: string | null }> {
    const attached = Attached.launch(files, flags);
    const line = await attached.ready();
    return { attached, uri: line === null ? null : line.slice("ready ".length) };
  }
}

/** An NBD connection of the project's own client over a Unix socket. */
export async function connectNbd(socketPath: string, exportName: string): Promise<NbdClient> {
  const client = await tryConnectNbd(socketPath, exportName);
  assert(client.ok, `NBD connects to ${exportName}: ${JSON.stringify(client)}`);
  return client.value;
}

export async function tryConnectNbd(
  socketPath: string,
  exportName: string,
): Promise<Result<NbdClient, NbdClientError>> {
  const socket = createConnection(socketPath);
  const transport: NbdTransport = {
    write: (bytes) => void socket.write(bytes),
    onData: () => {},
    onClose: () => {},
    close: () => socket.destroy(),
  };
  socket.on("data", (chunk: Uint8Array) => transport.onData(chunk));
  socket.on("error", () => {}); // "close" follows.
  socket.on("close", () => transport.onClose());
  return NbdClient.connect(transport, { exportName });
}

/** Makes `count` sparse files of this size: member0.img, member1.img, ... */
export function makeFiles(folder: string, count: number, sizeBytes: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const path = join(folder, `member${index}.img`);
    makeFile(path, sizeBytes);
    return path;
  });
}

export function makeFile(path: string, sizeBytes: number): void {
  const file = openSync(path, "wx");
  ftruncateSync(file, sizeBytes);
  closeSync(file);
}

export function sha256(path: string): string {
  const hasher = new Bun.CryptoHasher("sha256");
  const buffer = new Uint8Array(1024 * 1024);
  const file = openSync(path, "r");
  for (;;) {
    const bytes = readSync(file, buffer);
    if (bytes === 0) break;
    hasher.update(buffer.subarray(0, bytes));
  }
  closeSync(file);
  return hasher.digest("hex");
}

/** The sums of all files, to be compared before and after. */
export function sums(paths: readonly string[]): string[] {
  return paths.map(sha256);
}
