/**
 * Load for an NBD server that is not itself the limit: one thread, raw sockets, and nothing
 * allocated per request.
 *
 * Each connection keeps `depth` requests under way. What has been answered is taken by one `recv`
 * into a buffer that all connections share and that stays in the cache; the requests that take its
 * place leave by one `sendmsg`. A single connection is waited for in `recv` itself, several in
 * epoll_wait. The requests of a batch lie side by side: only place, cookie and stamps change.
 *
 * What is written is stamped by rows (stamps.ts: number of the row, generation; a run is one
 * generation), and every row that is read is held against what was written there last.
 */
import { Arena } from "../../ffi/arena.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { Epoll, MessageHeader, Socket } from "../../ffi/structs.ts";
import { assert } from "../../src/base/assert.ts";
import { EAGAIN, EINTR, errnoName } from "../../src/base/errno.ts";
import { KIB, ROW_BYTES, roundUp, withinRow } from "../../src/base/units.ts";
import {
  Command,
  encodeRequest,
  REQUEST_BYTES,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  writeOffset,
} from "../../src/nbd/wire-format.ts";
import { Latencies } from "./latencies.ts";
import { CARRY_BYTES, Connection } from "./nbd-connection.ts";
import { closeLink, type NbdLink } from "./nbd-link.ts";
import { fillBodies, stampRow, WORDS_PER_ROW } from "./stamps.ts";

export interface NbdWorkload {
  readonly kind: "read" | "write";
  /** At any place of the export; else each connection goes through a range of its own, in order. */
  readonly isRandom: boolean;
  readonly blockBytes: number;
  readonly connections: number;
  readonly depth: number;
}

export interface NbdLimits {
  readonly warmMs: number;
  readonly measureMs: number;
}

export interface NbdResult {
  /** In the measured time, errors included. */
  readonly operations: number;
  readonly bytes: number;
  readonly seconds: number;
  /** Answers that carry an error. */
  readonly errors: number;
  /** With those before and after the measured time. */
  readonly operationsInAll: number;
  /** Microseconds. */
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly longest: number;
}

/** What a server holds: the generation of each row. Rows of generation 0 are not checked. */
export interface NbdContent {
  readonly generations: Uint32Array;
  /** The latest generation that was written. */
  generation: number;
}

const RECEIVE_BYTES = 256 * KIB;
/** Payloads of one batch: what a socket takes at once is less, and it all stays in the cache. */
const BATCH_BYTES_MAX = 256 * KIB;
const STAMP_BYTES = 8;
const VECTOR_BYTES = 16;
const FILLER = 0x6e62_6421;
const SILENCE_MS_MAX = 30_000;

export class NbdLoad {
  private readonly workload: NbdWorkload;
  private readonly content: NbdContent;
  private readonly isWrite: boolean;
  private readonly rowsPerBlock: number;
  private readonly blockCount: number;
  private readonly batchMax: number;
  /** Bytes that a request takes on the wire. */
  private readonly requestBytes: number;
  private readonly arena: Arena;
  private readonly view: DataView;
  private readonly words: Uint32Array;
  private readonly eventsAt = CARRY_BYTES + RECEIVE_BYTES;
  private readonly messageAt: number;
  private readonly eventAt: number;
  private readonly epollFd = libc.epoll_create1(Epoll.closeOnExec);
  private readonly connections: readonly Connection[];
  private readonly latencies = new Latencies();
  private randomState = 0x9e3779b9;
  private underWay = 0;
  private operations = 0;
  private operationsInAll = 0;
  private errors = 0;
  /** How many requests may still start: Infinity, but for a run that has ended. */
  private budget = 0;

  constructor(links: readonly NbdLink[], workload: NbdWorkload, content: NbdContent) {
    const { blockBytes, depth, kind } = workload;
    assert(blockBytes > 0 && withinRow(blockBytes) === 0, "blocks are of whole rows");
    this.workload = workload;
    this.content = content;
    this.isWrite = kind === "write";
    this.rowsPerBlock = blockBytes / ROW_BYTES;
    this.blockCount = Math.floor(links[0]!.sizeBytes / blockBytes);
    this.requestBytes = REQUEST_BYTES + (this.isWrite ? blockBytes : 0);
    const batchMax = Math.max(1, Math.floor(BATCH_BYTES_MAX / blockBytes));
    this.batchMax = this.isWrite ? Math.min(depth, batchMax) : depth;
    const headerBytes = roundUp(this.batchMax * REQUEST_BYTES, 64);
    const vectorBytes = roundUp(this.batchMax * 2 * VECTOR_BYTES, 64);
    const ownBytes = roundUp(headerBytes + vectorBytes, ROW_BYTES) + this.payloadBytes;
    this.messageAt = this.eventsAt + roundUp(links.length * Epoll.eventBytes, 64);
    this.eventAt = this.messageAt + 64;
    const first = roundUp(this.eventAt + 64, ROW_BYTES);
    this.arena = new Arena(first + links.length * ownBytes);
    const { buffer, byteOffset, length } = this.arena.bytes;
    this.view = this.arena.view;
    this.words = new Uint32Array(buffer, byteOffset, length / 4);
    const rangeBlocks = Math.floor(this.blockCount / links.length);
    assert(rangeBlocks > 0, "the export has a block for each connection");
    this.connections = links.map(({ fd }, index) => {
      const headers = first + index * ownBytes;
      return new Connection({
        fd,
        depth,
        headers,
        vectors: headers + headerBytes,
        payloads: headers + ownBytes - this.payloadBytes,
        firstBlock: index * rangeBlocks,
        blockCount: rangeBlocks,
      });
    });
    for (const [index, connection] of this.connections.entries()) {
      this.prepare(connection);
      this.control(Epoll.add, connection, index, Epoll.in);
    }
  }

  private get payloadBytes(): number {
    return this.isWrite ? this.batchMax * this.workload.blockBytes : 0;
  }

  /** Runs for a time, to the end of what is under way. Throws where a row is not as written. */
  run({ warmMs, measureMs }: NbdLimits): NbdResult {
    this.begin(Number.POSITIVE_INFINITY);
    const warmEndNs = Bun.nanoseconds() + warmMs * 1e6;
    while (Bun.nanoseconds() < warmEndNs) this.turn();
    this.latencies.clear();
    this.operations = 0;
    this.errors = 0;
    const startNs = Bun.nanoseconds();
    let nowNs = startNs;
    while (nowNs - startNs < measureMs * 1e6) {
      this.turn();
      nowNs = Bun.nanoseconds();
    }
    const measured = this.result((nowNs - startNs) / 1e9);
    this.budget = 0;
    while (this.underWay > 0) this.turn();
    return { ...measured, operationsInAll: this.operationsInAll };
  }

  /** Writes or reads each block once. */
  once(): NbdResult {
    assert(!this.workload.isRandom && this.connections.length === 1, "in order, each block once");
    const startNs = Bun.nanoseconds();
    this.begin(this.blockCount);
    while (this.underWay > 0) this.turn();
    return this.result((Bun.nanoseconds() - startNs) / 1e9);
  }

  close(): void {
    libc.close(this.epollFd);
    for (const { fd } of this.connections) closeLink(fd);
  }

  private result(seconds: number): NbdResult {
    const { latencies, operations, operationsInAll, errors } = this;
    return {
      operations,
      bytes: operations * this.workload.blockBytes,
      seconds,
      errors,
      operationsInAll,
      p50: latencies.percentile(0.5),
      p99: latencies.percentile(0.99),
      p999: latencies.percentile(0.999),
      longest: latencies.longest,
    };
  }

  /** Sets what is the same in all batches. */
  private prepare({ headers, vectors, payloads }: Connection): void {
    const { blockBytes } = this.workload;
    const command = this.isWrite ? Command.write : Command.read;
    const request = { flags: 0, command, cookie: 0, offset: 0, bytes: blockBytes };
    for (let index = 0; index < this.batchMax; index += 1) {
      const header = headers + index * REQUEST_BYTES;
      encodeRequest(this.view, header, request);
      if (!this.isWrite) continue;
      const vector = vectors + index * 2 * VECTOR_BYTES;
      this.setVector(vector, header, REQUEST_BYTES);
      this.setVector(vector + VECTOR_BYTES, payloads + index * blockBytes, blockBytes);
    }
    if (this.isWrite) {
      fillBodies(this.words, payloads / 4, this.batchMax * this.rowsPerBlock, FILLER);
    }
  }

  private begin(budget: number): void {
    if (this.isWrite) this.content.generation += 1;
    this.budget = budget;
    for (const connection of this.connections) this.refill(connection);
  }

  private turn(): void {
    const single = this.connections[0]!;
    if (this.connections.length === 1 && !single.waitsForRoom) {
      this.receive(single, 0);
      return;
    }
    const events = this.arena.baseAddress + this.eventsAt;
    const count = libc.epoll_wait(this.epollFd, events, this.connections.length, SILENCE_MS_MAX);
    if (count < 0 && lastErrno() === EINTR) return;
    assert(count > 0, "the server answers");
    for (let index = 0; index < count; index += 1) {
      const event = this.eventsAt + index * Epoll.eventBytes;
      const bits = this.view.getUint32(event, true);
      const connection = this.connections[this.view.getUint32(event + Epoll.dataOffset, true)]!;
      if ((bits & Epoll.out) !== 0) this.refill(connection);
      if ((bits & ~Epoll.out) !== 0) this.receive(connection, Socket.messageDontWait);
    }
  }

  /** Starts as many requests as there are free cookies, and sends. */
  private refill(connection: Connection): void {
    for (;;) {
      if (connection.sentBytes === connection.batchBytes) {
        if (connection.freeCount === 0 || this.budget === 0) break;
        this.batch(connection);
      }
      if (!this.send(connection)) break;
    }
    const waits = connection.sentBytes < connection.batchBytes;
    if (waits === connection.waitsForRoom) return;
    connection.waitsForRoom = waits;
    const interest = waits ? Epoll.in | Epoll.out : Epoll.in;
    this.control(Epoll.modify, connection, this.connections.indexOf(connection), interest);
  }

  private batch(connection: Connection): void {
    const { view, words, isWrite, rowsPerBlock } = this;
    const { blockBytes } = this.workload;
    const { generation, generations } = this.content;
    const count = Math.min(connection.freeCount, this.batchMax, this.budget);
    const nowNs = Bun.nanoseconds();
    for (let index = 0; index < count; index += 1) {
      connection.freeCount -= 1;
      const cookie = connection.free[connection.freeCount]!;
      const block = this.nextBlock(connection);
      const header = connection.headers + index * REQUEST_BYTES;
      view.setUint32(header + 12, cookie);
      writeOffset(view, header + 16, block * blockBytes);
      connection.blockOf[cookie] = block;
      connection.sentNs[cookie] = nowNs;
      if (!isWrite) continue;
      const word = (connection.payloads + index * blockBytes) / 4;
      const row = block * rowsPerBlock;
      for (let at = 0; at < rowsPerBlock; at += 1) {
        stampRow(words, word + at * WORDS_PER_ROW, row + at, generation, FILLER);
        generations[row + at] = generation;
      }
    }
    this.budget -= count;
    this.underWay += count;
    connection.sentBytes = 0;
    connection.batchBytes = count * this.requestBytes;
  }

  private nextBlock(connection: Connection): number {
    if (!this.workload.isRandom) {
      const block = connection.firstBlock + connection.nextBlock;
      connection.nextBlock += 1;
      if (connection.nextBlock === connection.blockCount) connection.nextBlock = 0;
      return block;
    }
    let state = this.randomState;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.randomState = state;
    return Math.floor(((state >>> 0) / 0x1_0000_0000) * this.blockCount);
  }

  /** Sends on; false where the socket takes no more for now. */
  private send(connection: Connection): boolean {
    const { sentBytes, batchBytes, vectors } = connection;
    let vector = vectors;
    let count = 1;
    let skip = 0;
    if (this.isWrite) {
      const index = Math.floor(sentBytes / this.requestBytes);
      skip = sentBytes - index * this.requestBytes;
      const isInPayload = skip >= REQUEST_BYTES;
      if (isInPayload) skip -= REQUEST_BYTES;
      const first = index * 2 + (isInPayload ? 1 : 0);
      vector += first * VECTOR_BYTES;
      count = (batchBytes / this.requestBytes) * 2 - first;
      if (skip > 0) this.moveVector(vector, skip);
    } else {
      this.setVector(vector, connection.headers + sentBytes, batchBytes - sentBytes);
    }
    this.setAddress(this.messageAt + MessageHeader.iov, vector);
    this.view.setUint32(this.messageAt + MessageHeader.iovCount, count, true);
    const flags = Socket.messageDontWait | Socket.messageNoSignal;
    const message = this.arena.baseAddress + this.messageAt;
    const bytes = libc.sendmsg(connection.fd, message, flags);
    const errno = bytes < 0 ? lastErrno() : 0;
    if (this.isWrite && skip > 0) this.moveVector(vector, -skip);
    if (bytes < 0) {
      assert(errno === EAGAIN || errno === EINTR, `the server takes requests: ${errno}`);
      return errno === EINTR;
    }
    connection.sentBytes += bytes;
    return true;
  }

  /** Takes what has come, and sends the requests that take the place of those answered. */
  private receive(connection: Connection, flags: number): void {
    const to = this.arena.baseAddress + CARRY_BYTES;
    const bytes = libc.recv(connection.fd, to, RECEIVE_BYTES, flags);
    if (bytes < 0) {
      const errno = lastErrno();
      const isNothing = errno === EINTR || (errno === EAGAIN && flags !== 0);
      assert(isNothing, isNothing ? "" : `the server answers: ${errnoName(errno)}`);
      return;
    }
    assert(bytes > 0, "the server answers: it has gone");
    this.take(connection, bytes);
    this.refill(connection);
  }

  private take(connection: Connection, bytes: number): void {
    const { view } = this;
    const nowNs = Bun.nanoseconds();
    const end = CARRY_BYTES + bytes;
    let at = CARRY_BYTES - connection.carryBytes;
    for (let index = 0; index < connection.carryBytes; index += 1) {
      view.setUint8(at + index, connection.carry[index]!);
    }
    while (at < end) {
      if (connection.payloadLeft === 0) {
        if (end - at < SIMPLE_REPLY_BYTES) break;
        this.takeHead(connection, at, nowNs);
        at += SIMPLE_REPLY_BYTES;
        continue;
      }
      const within = withinRow(this.workload.blockBytes - connection.payloadLeft);
      if (within === 0) {
        if (end - at < STAMP_BYTES) break;
        this.check(connection, at);
      }
      const step = Math.min(ROW_BYTES - within, end - at);
      at += step;
      connection.payloadLeft -= step;
      if (connection.payloadLeft === 0) this.complete(connection, connection.cookie, nowNs);
    }
    connection.carryBytes = end - at;
    for (let index = 0; at + index < end; index += 1) {
      connection.carry[index] = view.getUint8(at + index);
    }
  }

  private takeHead(connection: Connection, at: number, nowNs: number): void {
    const { view } = this;
    const error = view.getUint32(at + 4);
    const cookie = view.getUint32(at + 12);
    const isReply = view.getUint32(at) === SIMPLE_REPLY_MAGIC && view.getUint32(at + 8) === 0;
    const isAwaited = cookie < this.workload.depth && connection.sentNs[cookie]! > 0;
    assert(isReply && isAwaited, "the answer is one to a request that is under way");
    if (error !== 0) this.errors += 1;
    if (error !== 0 || this.isWrite) this.complete(connection, cookie, nowNs);
    else {
      connection.cookie = cookie;
      connection.payloadLeft = this.workload.blockBytes;
    }
  }

  /** The stamp of the row that begins at `at`. */
  private check(connection: Connection, at: number): void {
    const within = (this.workload.blockBytes - connection.payloadLeft) / ROW_BYTES;
    const row = connection.blockOf[connection.cookie]! * this.rowsPerBlock + within;
    const written = this.content.generations[row]!;
    if (written === 0) return;
    const found = this.view.getUint32(at, true);
    const generation = this.view.getUint32(at + 4, true);
    if (found === row + 1 && generation === written) return;
    const what = `row ${found - 1} of generation ${generation}`;
    throw new Error(`row ${row} is read as written, in generation ${written}; it holds ${what}`);
  }

  private complete(connection: Connection, cookie: number, nowNs: number): void {
    this.latencies.note(nowNs - connection.sentNs[cookie]!);
    connection.sentNs[cookie] = 0;
    connection.free[connection.freeCount] = cookie;
    connection.freeCount += 1;
    this.underWay -= 1;
    this.operations += 1;
    this.operationsInAll += 1;
  }

  private control(operation: number, { fd }: Connection, index: number, interest: number): void {
    this.view.setUint32(this.eventAt, interest, true);
    this.view.setUint32(this.eventAt + Epoll.dataOffset, index, true);
    const event = this.arena.baseAddress + this.eventAt;
    assert(libc.epoll_ctl(this.epollFd, operation, fd, event) === 0, "an open fd can be watched");
  }

  /** struct iovec: address, length. */
  private setVector(vector: number, address: number, bytes: number): void {
    this.setAddress(vector, address);
    this.view.setUint32(vector + 8, bytes, true);
  }

  /** Takes `skip` bytes off the front of a vector, or gives them back where it is negative. */
  private moveVector(vector: number, skip: number): void {
    const low = this.view.getUint32(vector, true);
    const address = this.view.getUint32(vector + 4, true) * 2 ** 32 + low;
    this.setAddress(vector, address - this.arena.baseAddress + skip);
    this.view.setUint32(vector + 8, this.view.getUint32(vector + 8, true) - skip, true);
  }

  private setAddress(at: number, address: number): void {
    const pointer = this.arena.baseAddress + address;
    this.view.setUint32(at, pointer >>> 0, true);
    this.view.setUint32(at + 4, Math.floor(pointer / 2 ** 32), true);
  }
}
