/** An NBD connection to the daemon's Unix socket: the transport for the NBD client. */
import { err, ok, type Result } from "../../base/result.ts";
import { NbdClient, type NbdTransport } from "../../nbd/client/client.ts";

export async function openNbd(
  socketPath: string,
  exportName: string,
): Promise<Result<NbdClient, string>> {
  const transport = await openTransport(socketPath);
  if (!transport.ok) return transport;
  const client = await NbdClient.connect(transport.value, { exportName });
  if (client.ok) return client;
  const { error } = client;
  return err(`NBD export ${exportName}: ${"detail" in error ? error.detail : error.kind}`);
}

/** The part of Bun's socket that is needed here. */
interface ByteSocket {
  write(bytes: Uint8Array): number;
  end(): void;
}

async function openTransport(socketPath: string): Promise<Result<NbdTransport, string>> {
  const queue = new WriteQueue();
  const transport: NbdTransport = {
    write: (bytes) => queue.write(bytes),
    onData: () => {},
    onClose: () => {},
    close: () => queue.close(),
  };
  try {
    await Bun.connect({
      unix: socketPath,
      socket: {
        open: (socket) => queue.open(socket),
        data: (_socket, chunk) => transport.onData(chunk),
        drain: () => queue.drain(),
        close: () => transport.onClose(),
        error: () => transport.onClose(),
      },
    });
    return ok(transport);
  } catch (error) {
    return err(`${socketPath}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** What the socket did not take yet, in order. */
class WriteQueue {
  private socket: ByteSocket | null = null;
  private readonly waiting: Uint8Array[] = [];

  open(socket: ByteSocket): void {
    this.socket = socket;
    this.drain();
  }

  write(bytes: Uint8Array): void {
    this.waiting.push(bytes);
    if (this.waiting.length === 1) this.drain();
  }

  drain(): void {
    const { socket, waiting } = this;
    if (socket === null) return;
    let done = 0;
    for (const bytes of waiting) {
      const taken = socket.write(bytes);
      if (taken < bytes.length) {
        // A negative count is a socket that has closed: `close` follows.
        waiting[done] = bytes.subarray(Math.max(0, taken));
        break;
      }
      done += 1;
    }
    waiting.splice(0, done);
  }

  close(): void {
    this.socket?.end();
  }
}
