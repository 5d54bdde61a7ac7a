/**
 * Sockets inside the simulation: the SocketKernel under the real NbdServer, and the transports of
 * NBD clients on the other side. Bytes take time, arrive in fragments, and keep their order.
 *
 *   client transport --latency--> receive queue --recv--> server
 *   client transport <--latency-- send window  <--sendv-- server     (a slow client fills it)
 *
 * Readiness is level-triggered, as epoll's is: what is ready is reported again until it is not.
 */
import { assert } from "../../../src/base/assert.ts";
import { EAGAIN, ECONNRESET, EPIPE } from "../../../src/base/errno.ts";
import type { SharedMemory } from "../../../src/base/memory.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../../src/base/random.ts";
import { KIB } from "../../../src/base/units.ts";
import type { NbdTransport } from "../../../src/nbd/client/client.ts";
import { Ready, type SocketKernel } from "../../../src/reactor/kernel.ts";
import type { Simulation } from "./simulation.ts";

/** Any number: it only has to come off again. */
const BASE_ADDRESS = 0x1000_0000;
const IOVEC_BYTES = 16;
const WINDOW_BYTES = 256 * KIB;
const LATENCY_MS_MIN = 0.01;
const LATENCY_MS_TAIL = 0.05;
const POLL_AFTER_MS = 0.001;
const TCP_PORT = 10_809;

interface Connection {
  readonly fd: number;
  readonly transport: SimTransport;
  /** What has arrived and was not received yet. */
  readonly arrived: Uint8Array[];
  /** Bytes that the server may still send before the client has taken some. */
  windowBytes: number;
  /** The client has said that it sends no more, and that has arrived. */
  isEnded: boolean;
  /** The client is gone in both directions. */
  isGone: boolean;
}

interface Watch {
  readonly token: number;
  readonly interest: number;
}

interface SimTransport extends NbdTransport {
  /** What was sent last arrives no earlier than this, in each direction. */
  toServerAtMs: number;
  toClientAtMs: number;
  isClosed: boolean;
}

export class SimSocketKernel implements SocketKernel {
  readonly baseAddress = BASE_ADDRESS;
  readonly descriptorLimit = 1_000_000;
  private readonly simulation: Simulation;
  private readonly memory: SharedMemory;
  private readonly random: SeededRandom;
  private readonly connections = new Map<number, Connection>();
  private readonly backlogs = new Map<number, Connection[]>();
  private readonly watches = new Map<number, Watch>();
  private nextFd = 1000;
  private isPollDue = false;

  constructor(options: { simulation: Simulation; memory: SharedMemory }) {
    this.simulation = options.simulation;
    this.memory = options.memory;
    this.random = options.simulation.splitRandom();
  }

  /** A new connection to the first listener; the transport is for NbdClient. */
  connect(): NbdTransport {
    const [listener] = this.backlogs.keys();
    assert(listener !== undefined, "somebody listens");
    const fd = this.takeFd();
    const transport: SimTransport = {
      toServerAtMs: 0,
      toClientAtMs: 0,
      isClosed: false,
      onData: () => {},
      onClose: () => {},
      write: (bytes) => this.sendToServer(fd, bytes),
      close: () => this.closeByClient(fd),
    };
    const connection: Connection = {
      fd,
      transport,
      arrived: [],
      windowBytes: WINDOW_BYTES,
      isEnded: false,
      isGone: false,
    };
    this.connections.set(fd, connection);
    this.backlogs.get(listener)!.push(connection);
    this.wake();
    return transport;
  }

  listenUnix(_options: { path: string; mode: number }): number {
    return this.listen();
  }

  fileAt(path: string): string {
    return path;
  }

  removeFile(_path: string, _file: string): void {}

  /** Each client is a process of its own. */
  peerOf(fd: number): string {
    return `client ${fd}`;
  }

  addressOf(_fd: number): string {
    return "192.0.2.1";
  }

  listenTcp(_options: { host: string; port: number }): number {
    return this.listen();
  }

  localPort(_fd: number): number {
    return TCP_PORT;
  }

  accept(fd: number): number {
    return this.backlogs.get(fd)!.shift()?.fd ?? -EAGAIN;
  }

  recv(fd: number, address: number, bytes: number): number {
    const connection = this.connection(fd);
    const first = connection.arrived[0];
    if (first === undefined) {
      if (connection.isGone) return -ECONNRESET;
      return connection.isEnded ? 0 : -EAGAIN;
    }
    const taken = Math.min(bytes, first.length);
    this.memory.bytes.set(first.subarray(0, taken), address);
    if (taken === first.length) connection.arrived.shift();
    else connection.arrived[0] = first.subarray(taken);
    return taken;
  }

  sendv(fd: number, iovAddress: number, count: number): number {
    const connection = this.connection(fd);
    if (connection.isGone) return -EPIPE;
    const { view, bytes } = this.memory;
    const parts: Uint8Array[] = [];
    let room = connection.windowBytes;
    // A socket buffer may fill up anywhere.
    if (nextBelow(this.random, 4) === 0) room = Math.min(room, 1 + nextBelow(this.random, 4096));
    let taken = 0;
    for (let index = 0; index < count && taken < room; index += 1) {
      const at = iovAddress + index * IOVEC_BYTES;
      const address = Number(view.getBigUint64(at, true)) - BASE_ADDRESS;
      const length = Number(view.getBigUint64(at + 8, true));
      assert(address > 0 && address + length <= bytes.length, "an iovec lies in the memory");
      const part = Math.min(length, room - taken);
      parts.push(bytes.slice(address, address + part));
      taken += part;
    }
    if (taken === 0) return -EAGAIN;
    connection.windowBytes -= taken;
    this.sendToClient(connection, parts, taken);
    return taken;
  }

  close(fd: number): void {
    this.watches.delete(fd);
    this.backlogs.delete(fd);
    const connection = this.connections.get(fd);
    this.connections.delete(fd);
    if (connection === undefined) return;
    const { transport } = connection;
    transport.toClientAtMs = this.arrivalMs(transport.toClientAtMs);
    this.simulation.scheduleAt(transport.toClientAtMs, () => {
      if (transport.isClosed) return;
      transport.isClosed = true;
      transport.onClose();
    });
  }

  watch(fd: number, token: number, interest: number): void {
    this.watches.set(fd, { token, interest });
    this.wake();
  }

  unwatch(fd: number): void {
    this.watches.delete(fd);
  }

  poll(_timeoutMs: number, onReady: (token: number, ready: number) => void): number {
    // Fetched first and handled then, as epoll_wait does: some may be out of date by their turn.
    const events: { token: number; ready: number }[] = [];
    for (const [fd, { token, interest }] of this.watches) {
      const ready = this.readiness(fd, interest);
      if (ready !== 0) events.push({ token, ready });
    }
    for (const { token, ready } of events) onReady(token, ready);
    return events.length;
  }

  private readiness(fd: number, interest: number): number {
    const backlog = this.backlogs.get(fd);
    if (backlog !== undefined) return backlog.length > 0 ? interest & Ready.read : 0;
    const { arrived, isEnded, isGone, windowBytes } = this.connection(fd);
    const readable = arrived.length > 0 || isEnded || isGone ? Ready.read : 0;
    const writable = windowBytes > 0 || isGone ? Ready.write : 0;
    return ((readable | writable) & interest) | (isGone ? Ready.hangUp : 0);
  }

  private wake(): void {
    if (this.isPollDue) return;
    this.isPollDue = true;
    this.simulation.scheduleAfter(POLL_AFTER_MS, () => {
      this.isPollDue = false;
      const count = this.poll(0, (token, ready) => this.simulation.raiseReady(token, ready));
      if (count > 0) this.wake();
    });
  }

  private sendToServer(fd: number, bytes: Uint8Array): void {
    const connection = this.connections.get(fd);
    if (connection === undefined || connection.isGone || bytes.length === 0) return;
    const { transport } = connection;
    const copy = bytes.slice();
    const cut = nextBelow(this.random, 4) === 0 ? nextBelow(this.random, copy.length) : 0;
    for (const part of [copy.subarray(0, cut), copy.subarray(cut)]) {
      if (part.length === 0) continue;
      transport.toServerAtMs = this.arrivalMs(transport.toServerAtMs);
      this.simulation.scheduleAt(transport.toServerAtMs, () => {
        connection.arrived.push(part);
        this.wake();
      });
    }
  }

  private sendToClient(connection: Connection, parts: Uint8Array[], bytes: number): void {
    const { transport } = connection;
    transport.toClientAtMs = this.arrivalMs(transport.toClientAtMs);
    this.simulation.scheduleAt(transport.toClientAtMs, () => {
      connection.windowBytes += bytes;
      if (!transport.isClosed) for (const part of parts) transport.onData(part);
      this.wake();
    });
  }

  private closeByClient(fd: number): void {
    const connection = this.connections.get(fd);
    if (connection === undefined || connection.transport.isClosed) return;
    const { transport } = connection;
    transport.isClosed = true;
    transport.toServerAtMs = this.arrivalMs(transport.toServerAtMs);
    this.simulation.scheduleAt(transport.toServerAtMs, () => {
      connection.isEnded = true;
      connection.isGone = true;
      this.wake();
    });
  }

  private arrivalMs(lastMs: number): number {
    const delayMs = LATENCY_MS_MIN + LATENCY_MS_TAIL * -Math.log(1 - nextFraction(this.random));
    return Math.max(lastMs, this.simulation.nowMs() + delayMs);
  }

  private listen(): number {
    const fd = this.takeFd();
    this.backlogs.set(fd, []);
    return fd;
  }

  private takeFd(): number {
    this.nextFd += 1;
    return this.nextFd;
  }

  private connection(fd: number): Connection {
    const connection = this.connections.get(fd);
    assert(connection !== undefined, "the descriptor is a connection");
    return connection;
  }
}
