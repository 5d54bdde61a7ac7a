/** An NBD server over the fake kernel, loop and array, with raw peers and clients to try it. */
import { assert } from "../../src/base/assert.ts";
import type { Log } from "../../src/base/log.ts";
import { Carver, CONTROL_BYTES } from "../../src/base/memory.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { SLAB_BYTES, SlabPool } from "../../src/block/pool.ts";
import { NbdClient } from "../../src/nbd/client/client.ts";
import type { ExportObstacle } from "../../src/nbd/handshake.ts";
import type { NbdLimits } from "../../src/nbd/limits.ts";
import { NbdServer } from "../../src/nbd/server.ts";
import {
  Command,
  encodeInfoRequest,
  encodeOption,
  encodeRequest,
  GREETING_BYTES,
  OptionCode,
  REQUEST_BYTES,
} from "../../src/nbd/wire-format.ts";
import { FakeArrayFront } from "./fake-array-front.ts";
import { FakeEventLoop, type FakePeer, FakeSocketKernel } from "./fake-socket-kernel.ts";
import { testMemory } from "./memory.ts";

export const CLIENT_FLAGS = new Uint8Array([0, 0, 0, 3]);

export interface BenchOptions {
  readonly limits?: Partial<NbdLimits>;
  readonly poolBytes?: number;
  readonly sizeBytes?: number;
  readonly readOnly?: boolean;
  readonly descriptorLimit?: number;
  readonly obstacleOf?: (array: string) => ExportObstacle;
}

export class NbdBench {
  readonly memory = testMemory();
  readonly kernel = new FakeSocketKernel(this.memory);
  readonly loop = new FakeEventLoop(this.kernel);
  readonly pool: SlabPool;
  readonly front: FakeArrayFront;
  readonly server: NbdServer;
  readonly listener: number;
  readonly messages: string[] = [];
  /** The connections of `client()`. */
  readonly peers: FakePeer[] = [];
  private readonly deliveries: (() => void)[] = [];

  constructor(options: BenchOptions = {}) {
    const { limits = {}, poolBytes = 4 * MIB, sizeBytes = MIB, readOnly = false } = options;
    if (options.descriptorLimit !== undefined) {
      this.kernel.descriptorLimit = options.descriptorLimit;
    }
    const slabCount = poolBytes / SLAB_BYTES;
    this.pool = new SlabPool({ startAddress: CONTROL_BYTES, slabCount });
    const log: Log = {
      write: (_level, message, fields) => {
        const detail = fields?.["reason"] ?? fields?.["trouble"] ?? fields?.["peer"] ?? "";
        this.messages.push(`${message}: ${detail}`);
      },
    };
    this.server = new NbdServer({
      loop: this.loop,
      memory: this.memory,
      carver: new Carver({ start: 64 * KIB, end: CONTROL_BYTES }),
      payloadPool: this.pool,
      log,
      limits: { maxConnections: 8, ...limits },
      ...(options.obstacleOf === undefined ? {} : { obstacleOf: options.obstacleOf }),
    });
    this.front = new FakeArrayFront({ memory: this.memory, sizeBytes });
    const set = this.server.setExport({ name: "a", array: "md0", front: this.front, readOnly });
    const listening = this.server.listen({ kind: "unix", path: "nbd.sock" }, 0o600);
    assert(set.ok && listening.ok, "the server starts");
    this.listener = this.kernel.lastListener;
  }

  /** A connection that has said nothing yet. */
  peer(name?: string): FakePeer {
    const peer = this.kernel.connect(this.listener, name);
    this.loop.turns(2);
    return peer;
  }

  /** A raw peer in the transmission phase. */
  opened({ structured = false, name }: { structured?: boolean; name?: string } = {}): FakePeer {
    const peer = this.peer(name);
    assert(peer.take().length === GREETING_BYTES, "the server greets");
    peer.send(CLIENT_FLAGS);
    if (structured) peer.send(encodeOption(OptionCode.structuredReply, new Uint8Array(0)));
    peer.send(encodeOption(OptionCode.go, encodeInfoRequest("a", [])));
    this.loop.turns(4);
    peer.take();
    return peer;
  }

  /** A client in the transmission phase. */
  async client(): Promise<NbdClient> {
    const peer = this.kernel.connect(this.listener);
    this.peers.push(peer);
    const transport = peer.transport();
    this.deliveries.push(() => transport.deliver());
    const result = await this.run(NbdClient.connect(transport, { exportName: "a" }));
    assert(result.ok, "the client connects");
    return result.value;
  }

  addDelivery(deliver: () => void): void {
    this.deliveries.push(deliver);
  }

  /** Turns until the promise resolves; `step` runs before each turn. */
  async run<T>(promise: Promise<T>, step: () => void = () => {}): Promise<T> {
    let isDone = false;
    const watched = promise.then((value) => {
      isDone = true;
      return value;
    });
    for (let count = 0; !isDone && count < 100_000; count += 1) {
      step();
      this.loop.turn();
      for (const deliver of this.deliveries) deliver();
      for (let drain = 0; drain < 4; drain += 1) await Promise.resolve();
    }
    assert(isDone, "the promise resolves within the turns given");
    return watched;
  }

  /** The client says good-bye: the connection ends, and with it all that it took. */
  finish(peer: FakePeer): void {
    peer.send(request({ command: Command.disconnect }));
    this.loop.turns(3);
    assert(peer.isClosedByServer, "the server closes when the client is done");
    this.checkNoLeak();
  }

  /** Fails unless everything that requests and connections took has been given back. */
  checkNoLeak(): void {
    assert(this.pool.freeBytes === this.pool.totalBytes, "the pool is full again");
    assert(this.server.gate.waiting === 0, "nobody waits for payload memory");
    for (const state of this.server.requests.state) assert(state === 0, "all slots are free");
    assert(this.server.connectionCount === 0, "all connections have ended");
    for (const status of this.server.exports()) assert(status.connections === 0, "none counted");
  }
}

/** The errors of the replies that have come. */
export function errorsOf(peer: FakePeer): number[] {
  return parseReplies(peer.take()).map((reply) => reply.error);
}

export function request(fields: {
  command: number;
  offset?: number;
  bytes?: number;
  flags?: number;
  cookie?: number;
}): Uint8Array {
  const { command, offset = 0, bytes = 0, flags = 0, cookie = 1 } = fields;
  const header = new Uint8Array(REQUEST_BYTES);
  encodeRequest(new DataView(header.buffer), 0, { command, offset, bytes, flags, cookie });
  return header;
}

export interface Reply {
  readonly error: number;
  readonly cookie: number;
  readonly data: Uint8Array;
}

/** Parses simple replies; `readBytes` says how many data bytes follow a success, by cookie. */
export function parseReplies(
  bytes: Uint8Array,
  readBytes: (cookie: number) => number = () => 0,
): Reply[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const replies: Reply[] = [];
  let at = 0;
  while (at < bytes.length) {
    assert(view.getUint32(at) === 0x67446698, "a simple reply begins here");
    const error = view.getUint32(at + 4);
    const cookie = view.getUint32(at + 12);
    const dataBytes = error === 0 ? readBytes(cookie) : 0;
    replies.push({ error, cookie, data: bytes.slice(at + 16, at + 16 + dataBytes) });
    at += 16 + dataBytes;
  }
  assert(at === bytes.length, "replies end where the bytes end");
  return replies;
}
