/**
 * A socket kernel without a kernel: streams between a server under test and peers that a test
 * scripts. Every unpleasantness is a setting of the peer: fragments, full buffers, partial sends,
 * half-closed and reset connections. Readiness is level-triggered, as with epoll; a hang-up is
 * reported whatever the interest is.
 *
 * Pointers in iovecs carry a base address with high bits set, so a lost half of a pointer fails.
 */
import { assert } from "../../src/base/assert.ts";
import { EADDRINUSE, EAGAIN, ECONNRESET, EPIPE } from "../../src/base/errno.ts";
import { LatencyHistogram } from "../../src/base/latency-histogram.ts";
import type { SharedMemory } from "../../src/base/memory.ts";
import type { NbdTransport } from "../../src/nbd/client/client.ts";
import { concatenate } from "../../src/nbd/wire-format.ts";
import { Ready, type SocketKernel } from "../../src/reactor/kernel.ts";
import type { EventLoop } from "../../src/reactor/loop.ts";
import { Timers } from "../../src/reactor/timers.ts";
import { ManualClock } from "./manual-clock.ts";

const BASE_ADDRESS = 0x7f12_3400_0000;

/** The other end of a connection, in the hands of the test. */
export class FakePeer {
  readonly fd: number;
  /** As `peerOf` tells it. */
  name: string;
  /** As `addressOf` tells it. */
  address = "";
  /** At most so many bytes per recv of the server. */
  fragmentBytes = Number.POSITIVE_INFINITY;
  /** At most so many bytes per send of the server. */
  sendFragmentBytes = Number.POSITIVE_INFINITY;
  /** What the server can still send before its socket buffer is full. */
  windowBytes = Number.POSITIVE_INFINITY;
  isEnded = false;
  isReset = false;
  isGone = false;
  /** The server has closed its side. */
  isClosedByServer = false;
  sendCalls = 0;
  recvCalls = 0;
  private readonly toServer: Uint8Array[] = [];
  private firstTaken = 0;
  private fromServer: Uint8Array[] = [];

  constructor(fd: number) {
    this.fd = fd;
    this.name = `peer ${fd}`;
  }

  /** Sends to the server. The bytes are copied. */
  send(...parts: readonly Uint8Array[]): void {
    for (const part of parts) if (part.length > 0) this.toServer.push(part.slice());
  }

  /** Ends this peer's stream (a half-close); it can still receive. */
  end(): void {
    this.isEnded = true;
  }

  /** Closes both directions: the server can read what was sent, but send no more. */
  close(): void {
    this.isEnded = true;
    this.isGone = true;
  }

  reset(): void {
    this.isReset = true;
    this.isGone = true;
  }

  /** Everything that the server has sent since the last call. */
  take(): Uint8Array {
    const bytes = concatenate(this.fromServer);
    this.fromServer = [];
    return bytes;
  }

  get hasUnread(): boolean {
    return this.toServer.length > 0;
  }

  /** As a transport for NbdClient; `deliver` hands over what has arrived. */
  transport(): NbdTransport & { deliver(): void } {
    let isClosed = false;
    const transport = {
      write: (bytes: Uint8Array) => this.send(bytes),
      onData: (_chunk: Uint8Array) => {},
      onClose: () => {},
      close: () => this.close(),
      deliver: () => {
        const chunks = this.fromServer;
        this.fromServer = [];
        for (const chunk of chunks) transport.onData(chunk);
        if (!this.isClosedByServer || isClosed) return;
        isClosed = true;
        transport.onClose();
      },
    };
    return transport;
  }

  /** For the kernel: moves up to `target.length` bytes; -EAGAIN, 0 or an error without any. */
  receiveInto(target: Uint8Array): number {
    this.recvCalls += 1;
    if (this.isReset) return -ECONNRESET;
    const chunk = this.toServer[0];
    if (chunk === undefined) return this.isEnded ? 0 : -EAGAIN;
    const left = chunk.length - this.firstTaken;
    const bytes = Math.min(target.length, left, this.fragmentBytes);
    target.set(chunk.subarray(this.firstTaken, this.firstTaken + bytes));
    this.firstTaken += bytes;
    if (bytes === left) {
      this.toServer.shift();
      this.firstTaken = 0;
    }
    return bytes;
  }

  /** For the kernel: how many of `bytes` the socket takes now, or an error. */
  room(bytes: number): number {
    this.sendCalls += 1;
    if (this.isGone) return -EPIPE;
    const taken = Math.min(bytes, this.windowBytes, this.sendFragmentBytes);
    if (taken === 0) return -EAGAIN;
    this.windowBytes -= taken;
    return taken;
  }

  accept(bytes: Uint8Array): void {
    this.fromServer.push(bytes);
  }
}

interface Watch {
  readonly token: number;
  readonly interest: number;
}

export class FakeSocketKernel implements SocketKernel {
  readonly baseAddress = BASE_ADDRESS;
  /** Descriptors that the server holds, listeners among them. */
  readonly openFds = new Set<number>();
  /** The errno of the next listen and of the next accepts; 0 for none. */
  listenErrno = 0;
  acceptErrno = 0;
  acceptCalls = 0;
  descriptorLimit = 1_000_000;
  /** What is at each path: the files of listeners, and what a test puts there. */
  readonly files = new Map<string, string>();
  /** The longest list of iovecs so far. */
  mostIovecs = 0;
  private readonly memory: SharedMemory;
  private readonly peers = new Map<number, FakePeer>();
  private readonly backlogs = new Map<number, FakePeer[]>();
  private readonly watches = new Map<number, Watch>();
  private nextFd = 100;

  constructor(memory: SharedMemory) {
    this.memory = memory;
  }

  /** A new connection to a listener. */
  connect(listenerFd: number, name?: string): FakePeer {
    const backlog = this.backlogs.get(listenerFd);
    assert(backlog !== undefined, "there is such a listener");
    const peer = new FakePeer(this.nextFd);
    if (name !== undefined) peer.name = name;
    this.nextFd += 1;
    backlog.push(peer);
    return peer;
  }

  /** The listener that was opened last. */
  get lastListener(): number {
    return Math.max(...this.backlogs.keys());
  }

  interestOf(fd: number): number {
    return this.watches.get(fd)?.interest ?? -1;
  }

  listenUnix({ path }: { path: string; mode: number }): number {
    if (this.files.has(path)) return -EADDRINUSE;
    const fd = this.listen();
    if (fd > 0) this.files.set(path, `file ${fd}`);
    return fd;
  }

  fileAt(path: string): string {
    return this.files.get(path) ?? "";
  }

  removeFile(path: string, file: string): void {
    if (this.fileAt(path) === file) this.files.delete(path);
  }

  peerOf(fd: number): string {
    return this.peer(fd).name;
  }

  addressOf(fd: number): string {
    return this.peer(fd).address;
  }

  listenTcp(_options: { host: string; port: number }): number {
    return this.listen();
  }

  localPort(_fd: number): number {
    return 10_809;
  }

  accept(fd: number): number {
    this.acceptCalls += 1;
    if (this.acceptErrno !== 0) return -this.acceptErrno;
    const peer = this.backlogs.get(fd)!.shift();
    if (peer === undefined) return -EAGAIN;
    this.peers.set(peer.fd, peer);
    this.openFds.add(peer.fd);
    return peer.fd;
  }

  recv(fd: number, address: number, bytes: number): number {
    assert(bytes > 0, "a recv asks for something");
    return this.peer(fd).receiveInto(this.memory.bytes.subarray(address, address + bytes));
  }

  sendv(fd: number, iovAddress: number, count: number): number {
    const { view, bytes } = this.memory;
    assert(count > 0 && count <= 1024, "the kernel takes up to 1024 iovecs");
    this.mostIovecs = Math.max(this.mostIovecs, count);
    let total = 0;
    const parts: Uint8Array[] = [];
    for (let index = 0; index < count; index += 1) {
      const pointer = view.getBigUint64(iovAddress + index * 16, true);
      const length = Number(view.getBigUint64(iovAddress + index * 16 + 8, true));
      const address = Number(pointer) - BASE_ADDRESS;
      assert(address > 0 && address + length <= bytes.length, "an iovec lies in the memory");
      assert(length > 0, "an iovec is not empty");
      parts.push(bytes.subarray(address, address + length));
      total += length;
    }
    const peer = this.peer(fd);
    const taken = peer.room(total);
    if (taken > 0) peer.accept(concatenate(parts).slice(0, taken));
    return taken;
  }

  close(fd: number): void {
    assert(this.openFds.delete(fd), "an open descriptor is closed once");
    this.watches.delete(fd);
    this.backlogs.delete(fd);
    const peer = this.peers.get(fd);
    if (peer !== undefined) peer.isClosedByServer = true;
    this.peers.delete(fd);
  }

  watch(fd: number, token: number, interest: number): void {
    assert(this.openFds.has(fd), "an open descriptor is watched");
    this.watches.set(fd, { token, interest });
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
    if (backlog !== undefined) {
      const isReady = backlog.length > 0 || this.acceptErrno !== 0;
      return isReady ? interest & Ready.read : 0;
    }
    const peer = this.peer(fd);
    const readable = peer.hasUnread || peer.isEnded || peer.isReset ? Ready.read : 0;
    const writable = peer.windowBytes > 0 || peer.isGone ? Ready.write : 0;
    return ((readable | writable) & interest) | (peer.isGone ? Ready.hangUp : 0);
  }

  private peer(fd: number): FakePeer {
    const peer = this.peers.get(fd);
    assert(peer !== undefined, "the descriptor is a connection");
    return peer;
  }

  private listen(): number {
    if (this.listenErrno !== 0) return -this.listenErrno;
    const fd = this.nextFd;
    this.nextFd += 1;
    this.openFds.add(fd);
    this.backlogs.set(fd, []);
    return fd;
  }
}

/** The turns of a reactor over the fake kernel, on a clock that the test moves. */
export class FakeEventLoop implements EventLoop {
  readonly clock = new ManualClock();
  readonly timers = new Timers(this.clock);
  readonly turnTimes = new LatencyHistogram();
  readonly sockets: FakeSocketKernel;
  /** Stands for the reaping of completions. */
  onReap: () => void = () => {};
  private readonly handlers: (((ready: number) => void) | undefined)[] = [];
  private readonly hooks: (() => void)[] = [];

  constructor(sockets: FakeSocketKernel) {
    this.sockets = sockets;
  }

  addHandler(onReady: (ready: number) => void): number {
    this.handlers.push(onReady);
    return this.handlers.length - 1;
  }

  removeHandler(token: number): void {
    this.handlers[token] = undefined;
  }

  onTurn(hook: () => void): void {
    this.hooks.push(hook);
  }

  /** One turn; the number of ready descriptors. */
  turn(): number {
    const count = this.sockets.poll(0, (token, ready) => this.handlers[token]?.(ready));
    this.onReap();
    this.timers.runDue();
    for (const hook of this.hooks) hook();
    return count;
  }

  turns(count: number): void {
    for (let index = 0; index < count; index += 1) this.turn();
  }
}
