/**
 * NBD over TCP with TLS. TLS ends here, on the control thread; the reactor serves plain bytes.
 *
 *   client <-TCP-> TlsFront <-TLS-> pump <-socket pair-> session of the reactor
 *
 * The front (nbd/tls-front.ts) takes the options until STARTTLS. Then the same socket goes on as a
 * TLS socket, and once the handshake is through, and the client's certificate has been found good
 * where there is a CA, one end of a socket pair goes to the reactor (`adopt-nbd`), where options
 * begin anew. In `optional` mode clients without TLS are pumped too.
 *
 * Bounds: connections, the time until the reactor has a client (its own limit counts from there),
 * and what waits in memory: a side that does not take its bytes stops the reading of the other.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { CommandError, NbdAddress } from "../../array/protocol.ts";
import { errnoByName } from "../../base/errno.ts";
import type { Log } from "../../base/log.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { Signal } from "../../base/signal.ts";
import { Admission, type Place } from "../../nbd/admission.ts";
import { DEFAULT_NBD_LIMITS, type NbdLimits } from "../../nbd/limits.ts";
import { listenError } from "../../nbd/listen-problem.ts";
import { TlsFront, type TlsMode } from "../../nbd/tls-front.ts";
import { encodeGreeting } from "../../nbd/wire-format.ts";
import { raiseDescriptorLimit } from "../../reactor/linux-descriptors.ts";
import { createSocketPair } from "../host/linux-socket-pair.ts";
import { listenEverywhere, peerOfAddress } from "../nbd-address.ts";
import type { ReactorClient } from "../reactor-client.ts";
import { beginTls, type TlsFiles } from "../tls-files.ts";
import { certificateNames } from "./certificate-names.ts";

/** A client that has vanished without a word is noticed. */
const KEEP_IDLE_MS = 60_000;

export interface NbdTlsOptions {
  readonly address: { readonly host: string; readonly port: number };
  /** Whether clients need TLS stays as it is at the start, with the addresses. */
  readonly mode: TlsMode;
  readonly tls: TlsFiles;
  readonly client: ReactorClient;
  readonly log: Log;
  readonly limits?: Partial<NbdLimits>;
}

export interface NbdTlsListener {
  /** With the real port; twice where clients may come with TLS and without. */
  readonly addresses: readonly NbdAddress[];
  /** New clients get these files; those that are here go on with theirs. */
  setFiles(files: TlsFiles): void;
  /** No more clients; those that are here go on. */
  stopListening(): void;
  /** Waits until all have got what the reactor sent them before it stopped, or until a limit. */
  close(): Promise<void>;
}

export async function listenNbdTls(
  options: NbdTlsOptions,
): Promise<Result<NbdTlsListener, string>> {
  const limits = { ...DEFAULT_NBD_LIMITS, ...options.limits };
  const front = new ConnectionSet(options, limits);
  const servers: Server[] = [];
  const bound = await listenEverywhere(options.address, async (address) => {
    const listening = await listenOn(address, (socket) => front.take(socket));
    if (!listening.ok) return listening;
    servers.push(listening.value);
    return ok({ ...address, port: portOf(listening.value) });
  });
  const stopListening = (): void => {
    for (const server of servers) server.close();
  };
  if (!bound.ok) {
    stopListening();
    return bound;
  }
  const secure = bound.value.map((address) => ({ ...address, isSecure: true }) as NbdAddress);
  const addresses = options.mode === "required" ? secure : [...secure, ...bound.value];
  const setFiles = (files: TlsFiles): void => front.setFiles(files);
  return ok({ addresses, setFiles, stopListening, close: () => front.close() });
}

function listenOn(
  address: NbdAddress & { kind: "tcp" },
  onSocket: (socket: Socket) => void,
): Promise<Result<Server, CommandError>> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, onSocket);
  return new Promise((resolve) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const errno = errnoByName(error.code ?? "");
      if (errno !== undefined) resolve(err(listenError(address, errno)));
      else resolve(err({ kind: "io", code: "nbd-listen-failed", detail: error.message }));
    });
    server.listen(address.port, address.host, () => resolve(ok(server)));
  });
}

function portOf(server: Server): number {
  const bound = server.address();
  return typeof bound === "object" && bound !== null ? bound.port : 0;
}

/** Those that are here. Who may be is judged as the reactor judges its own (nbd/admission.ts). */
class ConnectionSet {
  private readonly options: NbdTlsOptions;
  private readonly limits: NbdLimits;
  private readonly connections = new Set<TlsConnection>();
  /** Raised when a connection has ended. */
  private readonly left = new Signal();
  private readonly admission: Admission<TlsConnection>;
  private count = 0;
  private tls: TlsFiles;

  constructor(options: NbdTlsOptions, limits: NbdLimits) {
    this.options = options;
    this.limits = limits;
    this.tls = options.tls;
    this.admission = new Admission({
      limits,
      descriptorLimit: raiseDescriptorLimit(),
      clock: { nowMs: () => performance.now(), wallMs: () => Date.now() },
      log: options.log,
    });
  }

  setFiles(files: TlsFiles): void {
    this.tls = files;
  }

  take(socket: Socket): void {
    socket.setKeepAlive(true, KEEP_IDLE_MS);
    const peer = peerOfAddress(socket.remoteAddress);
    const { maxConnections } = this.admission;
    const isWelcome = this.admission.isWelcome(peer, this.connections);
    if (isWelcome && this.connections.size >= maxConnections) this.dropSilent();
    if (!isWelcome || this.connections.size >= maxConnections) {
      this.admission.noteRefusal(isWelcome ? "too many" : "too many of this peer", peer);
      // A socket that fails while it is ended is no news.
      socket.on("error", () => {});
      socket.destroy();
      return;
    }
    this.count += 1;
    const { tls, limits, count: serial } = this;
    const remoteAddress = (socket.remoteAddress ?? "").replace(/%.*$/, "");
    const parts = { ...this.options, tls, limits, socket, peer, remoteAddress, serial };
    const connection = new TlsConnection(parts, () => {
      this.connections.delete(connection);
      this.left.raise();
    });
    this.connections.add(connection);
    if (this.admission.hasTooManySilent(this.connections)) this.dropSilent();
  }

  async close(): Promise<void> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.left.raise();
    }, this.limits.shutdownTimeoutMs);
    await this.left.until(() => isLate || this.connections.size === 0);
    clearTimeout(timer);
    for (const connection of [...this.connections]) connection.close(null);
  }

  /** Silent clients must not keep others out until their time is over. */
  private dropSilent(): void {
    const victim = this.admission.victim(this.connections);
    victim?.close("it had asked for nothing yet, and another client came");
  }
}

interface ConnectionOptions extends NbdTlsOptions {
  readonly limits: NbdLimits;
  readonly socket: Socket;
  readonly peer: string;
  /** Without the zone that a link-local one has. */
  readonly remoteAddress: string;
  readonly serial: number;
}

class TlsConnection implements Place {
  readonly peer: string;
  readonly serial: number;
  private readonly options: ConnectionOptions;
  private readonly onClosed: () => void;
  private readonly front: TlsFront;
  /** The client: its TCP socket, later the TLS socket over it. */
  private client: Socket;
  /** Our end of the pair; null while no session of the reactor stands behind. */
  private session: Socket | null = null;
  /** Of the client's certificate, once that was found good. */
  private certificates: readonly string[] = [];
  private timer: ReturnType<typeof setTimeout>;
  private isFinishing = false;
  private isClosed = false;
  private readonly onPlain = (chunk: Buffer): void => {
    this.front.fromClient(chunk);
    if (!this.front.wantsClient) this.client.pause();
  };

  constructor(options: ConnectionOptions, onClosed: () => void) {
    this.options = options;
    this.peer = options.peer;
    this.serial = options.serial;
    this.onClosed = onClosed;
    this.client = options.socket;
    this.front = new TlsFront({
      mode: options.mode,
      limits: options.limits,
      actions: {
        answer: (bytes) => this.send(bytes),
        forward: (bytes) => this.forward(bytes),
        startTls: () => this.startTls(),
        close: (reason) => this.finish(reason),
      },
    });
    this.timer = this.limitHandshake();
    this.client.on("data", this.onPlain);
    this.watchClient(this.client);
    this.client.write(encodeGreeting());
  }

  get hasSocket(): boolean {
    return !this.isClosed;
  }

  /** No session of the reactor stands behind it yet. */
  get isSilent(): boolean {
    return this.session === null && !this.isClosed;
  }

  private limitHandshake(): ReturnType<typeof setTimeout> {
    const { handshakeTimeoutMs } = this.options.limits;
    return setTimeout(() => this.close("the handshake took too long"), handshakeTimeoutMs);
  }

  /** Ends it at once. `reason` null: as it should be. */
  close(reason: string | null): void {
    if (this.isClosed) return;
    this.isClosed = true;
    clearTimeout(this.timer);
    if (reason !== null) this.options.log.write("info", "nbd connection dropped", { reason });
    this.client.destroy();
    // Under a TLS socket lies the TCP socket; of the two only one may know that it is over.
    this.options.socket.destroy();
    this.session?.destroy();
    this.onClosed();
  }

  /** Ends it when the client has what was sent to it, or after a while. */
  private finish(reason: string | null): void {
    if (reason !== null) {
      this.close(reason);
      return;
    }
    if (this.isFinishing || this.isClosed) return;
    this.isFinishing = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.close(null), this.options.limits.shutdownTimeoutMs);
    this.client.end();
  }

  private watchClient(client: Socket): void {
    client.on("error", (error) => this.close(error.message));
    client.on("close", () => {
      if (client === this.client) this.close(null);
    });
    client.on("end", () => {
      if (client !== this.client) return;
      // What is under way is still answered: the session ends its side after that.
      if (this.session === null) this.close(null);
      else this.session.end();
    });
    client.on("drain", () => {
      if (client === this.client) this.session?.resume();
    });
  }

  private send(bytes: Uint8Array): void {
    if (!this.client.write(bytes)) this.session?.pause();
  }

  private forward(bytes: Uint8Array): void {
    this.session ??= this.openSession(false);
    if (this.session !== null && !this.session.write(bytes)) this.client.pause();
  }

  /** Makes a pair and gives one end to the reactor; null where that is not to be had. */
  private openSession(isSecure: boolean): Socket | null {
    const pair = createSocketPair();
    if (!pair.ok) {
      this.close(`no socket pair: ${pair.error}`);
      return null;
    }
    const session = connect({ fd: pair.value.ownFd, allowHalfOpen: true } as never);
    session.on("data", (chunk: Buffer) => {
      if (session !== this.session) return;
      if (isSecure) this.send(chunk);
      else this.front.fromSession(chunk);
      if (this.front.wantsClient) this.client.resume();
    });
    session.on("drain", () => {
      if (session === this.session && this.front.wantsClient) this.client.resume();
    });
    session.on("error", () => {}); // "close" follows.
    session.on("end", () => {
      if (session === this.session) this.finish(null);
    });
    session.on("close", () => {
      if (session === this.session) this.finish(null);
    });
    void this.adopt(session, pair.value.reactorFd, isSecure);
    return session;
  }

  private async adopt(session: Socket, fd: number, isSecure: boolean): Promise<void> {
    const { isWithoutZeroes } = this.front;
    const { client, peer, remoteAddress: address } = this.options;
    const caller = { address, certificates: this.certificates };
    const greeted = { isSecure, isWithoutZeroes, peer, caller };
    const adopted = await client.call({ kind: "adopt-nbd", fd, ...greeted });
    if (session !== this.session || this.isFinishing) return;
    // From here the reactor's own limit counts.
    if (adopted.ok) clearTimeout(this.timer);
    else this.close(adopted.error.detail);
  }

  private startTls(): void {
    const { socket, tls } = this.options;
    const old = this.session;
    this.session = null;
    old?.destroy();
    clearTimeout(this.timer);
    this.timer = this.limitHandshake();
    socket.off("data", this.onPlain);
    const secure = beginTls(socket, tls, {
      onRefused: (reason) => this.close(reason),
      onSecure: () => {
        // Without a CA nobody has looked whose certificate it is.
        if (tls.ca !== undefined) this.certificates = certificateNames(secure);
        this.passOn(secure);
      },
    });
    this.client = secure;
    this.watchClient(secure);
  }

  private passOn(secure: Socket): void {
    this.session = this.openSession(true);
    secure.on("data", (chunk: Buffer) => {
      if (this.session !== null && !this.session.write(chunk)) secure.pause();
    });
  }
}
