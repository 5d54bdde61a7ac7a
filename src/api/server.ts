/**
 * Where the API listens: `<run-dir>/api.sock`, and TCP only where it was asked for.
 *
 * The socket is 0660 from its birth (umask), not by a later chmod: in between anybody could
 * connect. One that nobody listens on is removed; another daemon's never is. A file that is gone
 * (cleaners of /tmp and /run, a removed directory) is made again within seconds; who is connected
 * stays so.
 */
import { randomBytes } from "node:crypto";
import { readFileSync, unlinkSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dirname, join } from "node:path";
import type { TcpAddress } from "../appliance/config.ts";
import type { TlsFiles } from "../appliance/tls-files.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import { limitsFor } from "./connection-budget.ts";
import { type HttpApp, HttpFront } from "./http-front.ts";
import { occupantOf, publish, type SocketFile } from "./socket-file.ts";

const SOCKET_UMASK = 0o117;
const LOOK_MS = 2_000;
const OPEN_FILES_UNKNOWN = 1_024;

export interface ApiServer {
  /** Stops accepting and ends what is still open, such as event streams. */
  close(): Promise<void>;
}

export interface UnixOptions {
  readonly path: string;
  readonly log: Log;
  /** Makes the directory of the socket again, where it is gone. */
  readonly claimDirectory: () => Result<undefined, string>;
  readonly lookMs?: number;
}

export async function listenUnix(
  app: HttpApp,
  { path, log, claimDirectory, lookMs = LOOK_MS }: UnixOptions,
): Promise<Result<ApiServer, string>> {
  const front = new HttpFront({ app, transport: "unix", limits: ownLimits(), log });
  const first = await openSocket(path, front);
  if (!first.ok) return first;
  let current = first.value;
  let problem: string | null = null;
  let isLooking = false;
  const look = async (): Promise<void> => {
    if (isLooking || current.file.isThere() === true) return;
    isLooking = true;
    const claimed = claimDirectory();
    const again = claimed.ok ? await openSocket(path, front) : claimed;
    isLooking = false;
    if (again.ok) {
      current.server.close();
      current = again.value;
      log.write("warn", "the API's socket was gone: it was made again", { path });
    } else if (again.error !== problem) {
      log.write("error", "the API's socket is gone and cannot be made again", { why: again.error });
    }
    problem = again.ok ? null : again.error;
  };
  // Polls: a file that is removed tells nobody, least of all where its directory goes with it.
  const timer = setInterval(() => void look(), lookMs);
  return ok({
    close: async () => {
      clearInterval(timer);
      current.file.remove();
      current.server.close();
      front.close();
    },
  });
}

interface OpenSocket {
  readonly server: Server;
  readonly file: SocketFile;
}

async function openSocket(path: string, front: HttpFront): Promise<Result<OpenSocket, string>> {
  const occupant = await occupantOf(path);
  if (occupant === "listening") {
    return err(`${path} is in use: another parityd runs there (stop it, or choose --run-dir)`);
  }
  if (occupant === "no-socket") {
    return err(`${path} is no socket: it is left alone (move it away, or choose --run-dir)`);
  }
  // Shorter than the public name, so that it fits wherever that does.
  const bound = join(dirname(path), `.${randomBytes(3).toString("hex")}`);
  const server = createServer((socket) => front.accept(socket));
  const umask = process.umask(SOCKET_UMASK);
  const listening = listen(server, (done) => server.listen({ path: bound }, done));
  process.umask(umask);
  const why = await listening;
  if (why !== null) return err(`cannot listen on ${path}: ${why}`);
  if (occupant === "stale") removeStale(path);
  const file = publish(bound, path);
  if (file.ok) return ok({ server, file: file.value });
  server.close();
  return err(`cannot listen on ${path}: ${file.error}`);
}

export interface TcpServer extends ApiServer {
  readonly port: number;
  /** New clients get these files; those that are here go on with theirs. Only where TLS is on. */
  setFiles(files: TlsFiles): void;
}

export interface TcpOptions extends TcpAddress {
  readonly log: Log;
  /** Null: in the clear. */
  readonly tls?: TlsFiles | null;
}

export async function listenTcp(
  app: HttpApp,
  { host, port, log, tls = null }: TcpOptions,
): Promise<Result<TcpServer, string>> {
  const front = new HttpFront({ app, transport: "tcp", limits: ownLimits(), log, tls });
  const accept = (socket: Socket): void => front.accept(socket);
  const server = createServer({ noDelay: true }, accept);
  const why = await listen(server, (done) => server.listen(port, host, done));
  if (why !== null) return err(`cannot listen on ${host}:${port}: ${why}`);
  const bound = server.address();
  return ok({
    port: typeof bound === "object" && bound !== null ? bound.port : port,
    setFiles: (files) => front.setFiles(files),
    close: async () => {
      server.close();
      front.close();
    },
  });
}

/** Null when it listens, or why it does not. */
function listen(server: Server, start: (done: () => void) => void): Promise<string | null> {
  return new Promise((resolve) => {
    server.once("error", (error) => resolve(error.message));
    try {
      start(() => resolve(null));
    } catch (error) {
      resolve(error instanceof Error ? error.message : String(error));
    }
  });
}

/** By the descriptors that this process may have: the runtime raises that to the hard limit. */
function ownLimits() {
  return limitsFor(openFilesMax());
}

function openFilesMax(): number {
  try {
    const line = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"));
    return line === null ? OPEN_FILES_UNKNOWN : Number(line[1]);
  } catch {
    return OPEN_FILES_UNKNOWN;
  }
}

function removeStale(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It has gone by itself, or the link to it says what is wrong.
  }
}
