/**
 * A connection to an NBD server for a load: a blocking Unix socket, past the handshake.
 *
 * The handshake is that of the project's own client, with simple replies: they are what a server
 * has least work with, and each server speaks them. What comes after it is up to the load.
 */
import { Arena } from "../../ffi/arena.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { SOCKADDR_UNIX_BYTES, Socket, UNIX_PATH_BYTES_MAX } from "../../ffi/structs.ts";
import { assert } from "../../src/base/assert.ts";
import { errnoName } from "../../src/base/errno.ts";
import { NbdClient, type NbdTransport } from "../../src/nbd/client/client.ts";
import { Command, encodeRequest, REQUEST_BYTES } from "../../src/nbd/wire-format.ts";

const RECEIVE_BYTES = 4096;
/** A server that says nothing for so long never will. */
const SILENCE_SECONDS_MAX = 30;

export interface NbdLink {
  readonly fd: number;
  readonly sizeBytes: number;
}

/** `uri`: nbd+unix:///EXPORT?socket=PATH */
export async function openLink(uri: string): Promise<NbdLink> {
  const { pathname, searchParams } = new URL(uri);
  const fd = connect(searchParams.get("socket") ?? "");
  const arena = new Arena(RECEIVE_BYTES);
  const transport: NbdTransport = {
    write: (bytes) => sendAll(fd, bytes),
    onData: () => {},
    onClose: () => {},
    close: () => libc.close(fd),
  };
  const exportName = decodeURIComponent(pathname.slice(1));
  let result: Awaited<ReturnType<typeof NbdClient.connect>> | null = null;
  void NbdClient.connect(transport, { exportName }).then((value) => {
    result = value;
  });
  for (;;) {
    // The client has said what it has to say when nothing of it is left to run.
    await new Promise((resolve) => setImmediate(resolve));
    if (result !== null) break;
    const bytes = libc.recv(fd, arena.baseAddress, RECEIVE_BYTES, 0);
    if (bytes > 0) transport.onData(arena.bytes.slice(0, bytes));
    else transport.onClose();
  }
  // Assigned in the callback above, which the compiler does not follow.
  const opened = result as Awaited<ReturnType<typeof NbdClient.connect>>;
  assert(opened.ok, `the server opens the export: ${JSON.stringify(opened)}`);
  return { fd, sizeBytes: opened.value.sizeBytes };
}

export function closeLink(fd: number): void {
  const goodbye = new Uint8Array(REQUEST_BYTES);
  const request = { flags: 0, command: Command.disconnect, cookie: 0, offset: 0, bytes: 0 };
  encodeRequest(new DataView(goodbye.buffer), 0, request);
  sendAll(fd, goodbye);
  libc.close(fd);
}

function connect(path: string): number {
  const bytes = new TextEncoder().encode(path);
  assert(bytes.length > 0 && bytes.length <= UNIX_PATH_BYTES_MAX, "a socket has a short path");
  const address = new Uint8Array(SOCKADDR_UNIX_BYTES);
  address[0] = Socket.unix;
  address.set(bytes, 2);
  const fd = libc.socket(Socket.unix, Socket.stream | Socket.closeOnExec, 0);
  assert(fd >= 0, "the process may open a socket");
  const timeval = new Uint8Array(16);
  timeval[0] = SILENCE_SECONDS_MAX;
  libc.setsockopt(fd, Socket.levelSocket, Socket.receiveTimeout, timeval, timeval.length);
  const isConnected = libc.connect(fd, address, address.length) === 0;
  assert(isConnected, isConnected ? "" : `${path}: ${errnoName(lastErrno())}`);
  return fd;
}

function sendAll(fd: number, bytes: Uint8Array): void {
  assert(libc.write(fd, bytes, bytes.length) === bytes.length, "a socket takes a short message");
}
