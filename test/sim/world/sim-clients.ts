/**
 * Clients of a simulated array: straight to its front, or over a simulated socket.
 *
 * A status is 0 or a positive errno. Offsets and lengths are any bytes.
 */
import { type ArrayFront, FrontFlag, FrontOp, type FrontOpCode } from "../../../src/array/front.ts";
import { assert } from "../../../src/base/assert.ts";
import { ESHUTDOWN } from "../../../src/base/errno.ts";
import type { Result } from "../../../src/base/result.ts";
import { MIB, ROW_BYTES, roundUp } from "../../../src/base/units.ts";
import type { NbdClient, NbdTransport } from "../../../src/nbd/client/client.ts";
import { TransmissionFlag } from "../../../src/nbd/wire-format.ts";
import type { SimWorld } from "./sim-world.ts";

const PAYLOAD_WAIT_MS = 0.5;

export interface ZeroOptions {
  readonly fua?: boolean;
  readonly noHole?: boolean;
  readonly fastZero?: boolean;
}

export interface SimClient {
  write(offset: number, data: Uint8Array, options?: { fua?: boolean }): Promise<number>;
  read(offset: number, bytes: number): Promise<{ status: number; data: Uint8Array }>;
  flush(): Promise<number>;
  /** The range reads zeros afterwards. */
  zero(offset: number, bytes: number, options?: ZeroOptions): Promise<number>;
  /** Nobody needs the range any more. */
  trim(offset: number, bytes: number): Promise<number>;
}

/** A transport that can be cut after so many more bytes, as by a client that dies. */
export class CuttableTransport implements NbdTransport {
  onData: (chunk: Uint8Array) => void = () => {};
  onClose: () => void = () => {};
  isCut = false;
  private readonly inner: NbdTransport;
  private bytesLeft = Number.POSITIVE_INFINITY;

  constructor(inner: NbdTransport) {
    this.inner = inner;
    inner.onData = (chunk) => {
      if (!this.isCut) this.onData(chunk);
    };
    inner.onClose = () => this.onClose();
  }

  /** Of what is written from now on only so many bytes are sent; 0: it is cut at once. */
  cutAfter(bytes: number): void {
    this.bytesLeft = bytes;
    if (bytes === 0) this.cut();
  }

  write(bytes: Uint8Array): void {
    if (this.isCut) return;
    const sent = bytes.subarray(0, this.bytesLeft);
    if (sent.length > 0) this.inner.write(sent);
    this.bytesLeft -= sent.length;
    if (this.bytesLeft === 0) this.cut();
  }

  close(): void {
    this.inner.close();
  }

  private cut(): void {
    this.isCut = true;
    this.inner.close();
    this.onClose();
  }
}

/** See FrontCompletion. */
interface Answer {
  readonly status: number;
  readonly address: number;
}

/** Where a front lives: what its client needs of a world. */
type FrontWorld = Pick<SimWorld, "context" | "requestTurn">;

/** Straight to the engine, with buffers of the payload pool. */
export class FrontClient implements SimClient {
  private readonly world: FrontWorld;
  private readonly frontNow: () => ArrayFront | null;
  private readonly handles = new WeakMap<ArrayFront, number>();
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private nextTag = 1;

  constructor(world: FrontWorld, frontNow: () => ArrayFront | null) {
    this.world = world;
    this.frontNow = frontNow;
  }

  async write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<number> {
    const { buffer, bytes } = await this.takeBuffer(offset, data.length);
    const { memory, payloadPool } = this.world.context;
    memory.bytes.set(data, buffer + (offset % ROW_BYTES));
    const flags = options.fua === true ? FrontFlag.fua : 0;
    const { status } = await this.submit(FrontOp.write, offset, data.length, buffer, flags);
    payloadPool.free(buffer, bytes);
    return status;
  }

  /** A write that begins here is being received, or will not come after all. */
  noteComing(offset: number, isComing: boolean): void {
    this.frontNow()?.noteComing(offset, isComing);
    this.world.requestTurn();
  }

  async read(offset: number, length: number): Promise<{ status: number; data: Uint8Array }> {
    const { buffer, bytes } = await this.takeBuffer(offset, length);
    const { memory, payloadPool } = this.world.context;
    const lead = offset % ROW_BYTES;
    const { status, address } = await this.submit(FrontOp.read, offset, length, buffer, 0);
    // The array may have kept the buffer for a member that hangs, and given another one.
    const owned = address > 0 ? address - lead : buffer;
    const data = memory.bytes.slice(owned + lead, owned + lead + length);
    payloadPool.free(owned, bytes);
    return { status, data };
  }

  async flush(): Promise<number> {
    const { status } = await this.submit(FrontOp.flush, 0, 0, 0, 0);
    return status;
  }

  async zero(offset: number, bytes: number, options: ZeroOptions = {}): Promise<number> {
    const flags =
      (options.fua === true ? FrontFlag.fua : 0) |
      (options.noHole === true ? FrontFlag.noHole : 0) |
      (options.fastZero === true ? FrontFlag.fastZero : 0);
    const { status } = await this.submit(FrontOp.writeZeroes, offset, bytes, 0, flags);
    return status;
  }

  async trim(offset: number, bytes: number): Promise<number> {
    const { status } = await this.submit(FrontOp.trim, offset, bytes, 0, 0);
    return status;
  }

  private async takeBuffer(
    offset: number,
    length: number,
  ): Promise<{ buffer: number; bytes: number }> {
    const { payloadPool, timers } = this.world.context;
    const bytes = roundUp((offset % ROW_BYTES) + length, ROW_BYTES);
    assert(bytes <= MIB * 8, "requests keep well below the pool");
    for (;;) {
      const buffer = payloadPool.allocate(bytes);
      if (buffer !== 0) return { buffer, bytes };
      await timers.sleep(PAYLOAD_WAIT_MS);
    }
  }

  private submit(
    op: FrontOpCode,
    offset: number,
    length: number,
    buffer: number,
    flags: number,
  ): Promise<Answer> {
    const front = this.frontNow();
    if (front === null) return Promise.resolve({ status: ESHUTDOWN, address: 0 });
    const tag = this.nextTag;
    this.nextTag += 1;
    const address = buffer === 0 ? 0 : buffer + (offset % ROW_BYTES);
    const answer = new Promise<Answer>((resolve) => this.waiting.set(tag, resolve));
    front.submit(this.handleOf(front), op, offset, length, address, flags, tag);
    this.world.requestTurn();
    return answer;
  }

  private handleOf(front: ArrayFront): number {
    const known = this.handles.get(front);
    if (known !== undefined) return known;
    const handle = front.attach((tag, status, address) => {
      const resolve = this.waiting.get(tag);
      assert(resolve !== undefined, "a request is answered once");
      this.waiting.delete(tag);
      resolve({ status, address });
    });
    this.handles.set(front, handle);
    return handle;
  }
}

/** What an NBD client is asked for. */
export type NbdLink = Pick<NbdClient, "write" | "read" | "flush" | "writeZeroes" | "trim">;

/** Any NBD client, with statuses for its answers. */
export class StatusClient implements SimClient {
  private readonly link: NbdLink;

  constructor(link: NbdLink) {
    this.link = link;
  }

  async write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<number> {
    return statusOf(await this.link.write(offset, data, options));
  }

  async read(offset: number, bytes: number): Promise<{ status: number; data: Uint8Array }> {
    const result = await this.link.read(offset, bytes);
    if (result.ok) return { status: 0, data: result.value };
    return { status: result.error, data: new Uint8Array(bytes) };
  }

  async flush(): Promise<number> {
    return statusOf(await this.link.flush());
  }

  async zero(offset: number, bytes: number, options: ZeroOptions = {}): Promise<number> {
    return statusOf(await this.link.writeZeroes(offset, bytes, options));
  }

  async trim(offset: number, bytes: number): Promise<number> {
    return statusOf(await this.link.trim(offset, bytes));
  }
}

/** Over a socket. Its connection can be cut; then it is of no more use. */
export class SocketClient extends StatusClient {
  readonly transport: CuttableTransport;
  private readonly client: NbdClient;

  constructor(client: NbdClient, transport: CuttableTransport) {
    super(client);
    this.client = client;
    this.transport = transport;
  }

  /** Of the export, as it was when the client connected. */
  get sizeBytes(): number {
    return this.client.sizeBytes;
  }

  get canTrim(): boolean {
    return (this.client.flags & TransmissionFlag.sendTrim) !== 0;
  }

  get canFastZero(): boolean {
    return (this.client.flags & TransmissionFlag.sendFastZero) !== 0;
  }
}

function statusOf(result: Result<undefined, number>): number {
  return result.ok ? 0 : result.error;
}
