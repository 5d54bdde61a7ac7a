/**
 * Where the API listens: `<run-dir>/api.sock`, and TCP only where it was asked for.
 *
 * The socket is 0660 from its birth (umask), not by a later chmod: in between anybody could
 * connect. A stale socket file is removed; one that still answers is another daemon's.
 */
import { unlinkSync } from "node:fs";
import { connect } from "node:net";
import type { TcpAddress } from "../appliance/config.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { ApiApp } from "./route.ts";

const SOCKET_UMASK = 0o117;
const LIMITS = {
  // A `?wait=` is silent until its job ends.
  idleTimeout: 0,
  // The API's own limit (64 KiB) answers with a reason, this one only with a status.
  maxRequestBodySize: 16 * 1024 * 1024,
};

export interface ApiServer {
  /** Stops accepting and ends what is still open, such as event streams. */
  close(): Promise<void>;
}

export async function listenUnix(app: ApiApp, path: string): Promise<Result<ApiServer, string>> {
  if (await isAnswering(path)) {
    return err(`${path} is in use: another parityd runs there (stop it, or choose --run-dir)`);
  }
  removeStale(path);
  const umask = process.umask(SOCKET_UMASK);
  try {
    const options: Bun.Serve.Options<undefined, never> = {
      unix: path,
      fetch: (request: Request) => app.fetch(request, { transport: "unix" }),
    };
    // The types know `idleTimeout` for TCP only; the runtime heeds it here too (after 10 s of
    // silence it would cut a `?wait=`).
    const server = Bun.serve(Object.assign(options, LIMITS));
    return ok({
      close: async () => {
        await server.stop(true);
        removeStale(path);
      },
    });
  } catch (error) {
    return err(`cannot listen on ${path}: ${messageOf(error)}`);
  } finally {
    process.umask(umask);
  }
}

export function listenTcp(app: ApiApp, address: TcpAddress): Result<ApiServer, string> {
  try {
    const server = Bun.serve({
      hostname: address.host,
      port: address.port,
      ...LIMITS,
      fetch: (request) => app.fetch(request, { transport: "tcp" }),
    });
    return ok({ close: () => server.stop(true) });
  } catch (error) {
    return err(`cannot listen on ${address.host}:${address.port}: ${messageOf(error)}`);
  }
}

/** True where somebody accepts connections on this socket. */
function isAnswering(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

function removeStale(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It was not there, or `listen` says what is wrong with it.
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
