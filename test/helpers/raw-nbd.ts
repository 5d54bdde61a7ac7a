/**
 * An NBD client without manners: it sends any bytes at any pace, and hangs up when it likes.
 *
 * What it expects is asked for by number of bytes, so that an answer too many or too few shows.
 * Every wait has a limit, and a connection that ends while bytes are expected is an error.
 */
import { connect, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { assert } from "../../src/base/assert.ts";
import {
  CHUNK_HEADER_BYTES,
  CHUNK_MAGIC,
  ChunkFlag,
  ChunkType,
  concatenate,
  encodeGreeting,
  encodeInfoRequest,
  encodeOption,
  GREETING_BYTES,
  HandshakeFlag,
  InfoType,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionCode,
  OptionReply,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
} from "../../src/nbd/wire-format.ts";

const WAIT_LIMIT_MS = 60_000;
const ENCODER = new TextEncoder();
const NOTHING = new Uint8Array(0);

export const BOTH_FLAGS = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;

export interface OptionAnswer {
  readonly type: number;
  readonly data: Uint8Array;
}

export interface RawRequest {
  readonly command: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  readonly bytes?: number;
  readonly cookie?: bigint;
  readonly magic?: number;
}

export interface RawReply {
  readonly error: number;
  readonly cookie: bigint;
  readonly data: Uint8Array;
  readonly isChunk: boolean;
}

/** A reply of one chunk, as it came. */
export interface RawChunk {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly payload: Uint8Array;
}

export interface Opened {
  readonly sizeBytes: number;
  readonly flags: number;
  readonly maxRequestBytes: number;
}

export type Where =
  | { readonly path: string }
  | { readonly host: string; readonly port: number; readonly localAddress?: string };

export function rawRequest(request: RawRequest): Uint8Array {
  const { command, flags = 0, offset = 0, bytes = 0, cookie = 1n, magic = REQUEST_MAGIC } = request;
  const header = new Uint8Array(REQUEST_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, magic);
  view.setUint16(4, flags);
  view.setUint16(6, command);
  view.setBigUint64(8, cookie);
  view.setBigUint64(16, BigInt(offset));
  view.setUint32(24, bytes);
  return header;
}

export function clientFlags(flags: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, flags);
  return bytes;
}

/** The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextQuery(name: string, queries: readonly string[]): Uint8Array {
  const count = new Uint8Array(4);
  new DataView(count.buffer).setUint32(0, queries.length);
  return concatenate([prefixed(name), count, ...queries.map(prefixed)]);
}

export function prefixed(text: string): Uint8Array {
  const bytes = ENCODER.encode(text);
  const data = new Uint8Array(4 + bytes.length);
  new DataView(data.buffer).setUint32(0, bytes.length);
  data.set(bytes, 4);
  return data;
}

/** Connections of this process that have not been closed. */
const open = new Set<RawNbd>();

export class RawNbd {
  private socket: Socket;
  private received: Uint8Array[] = [];
  private receivedBytes = 0;
  private isOver = false;
  private pausesAtData = false;
  private wake: () => void = () => {};

  private constructor(where: Where) {
    this.socket = connect({ ...where, allowHalfOpen: true });
    open.add(this);
    this.listen();
  }

  private listen(): void {
    this.socket.on("data", (chunk: Uint8Array) => {
      this.received.push(chunk);
      this.receivedBytes += chunk.length;
      if (this.pausesAtData) this.socket.pause();
      this.wake();
    });
    const end = (): void => {
      this.isOver = true;
      this.wake();
    };
    this.socket.on("end", end);
    this.socket.on("close", () => {
      open.delete(this);
      end();
    });
    this.socket.on("error", end);
  }

  /** Connects; nothing is read from the stream yet. */
  static open(where: Where): RawNbd {
    return new RawNbd(where);
  }

  /** Connects, takes the greeting and sends these flags. */
  static async greeted(where: Where, flags: number = BOTH_FLAGS): Promise<RawNbd> {
    const raw = RawNbd.open(where);
    await raw.greeting();
    raw.send(clientFlags(flags));
    return raw;
  }

  send(...parts: readonly Uint8Array[]): void {
    this.socket.write(concatenate(parts));
  }

  /** Sends piece by piece, each one in a packet of its own as far as that is ours to say. */
  async sendPieces(bytes: Uint8Array, pieceBytes: number): Promise<void> {
    this.socket.setNoDelay?.(true);
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      this.socket.write(bytes.slice(at, at + pieceBytes));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Stops reading: the server's answers pile up. */
  pause(): void {
    this.socket.pause();
  }

  /** As `pause`, as soon as anything has come: the rest cannot have come meanwhile. */
  async pauseAtOnce(): Promise<void> {
    assert(this.receivedBytes === 0, "what comes next is what is waited for");
    this.pausesAtData = true;
    assert(await this.wait(() => this.receivedBytes > 0), "the server sends something");
  }

  resume(): void {
    this.pausesAtData = false;
    this.socket.resume();
  }

  /** Sends no more, but reads on. */
  halfClose(): void {
    this.socket.end();
  }

  /** Hangs up. */
  close(): void {
    this.socket.destroy();
  }

  /** Hangs up all connections but `kept`: what a test that failed has left is not in the way. */
  static closeAllBut(kept: readonly RawNbd[]): void {
    for (const each of open) {
      if (!kept.includes(each)) each.close();
    }
  }

  /** Hangs up with a reset, on TCP. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  get unreadBytes(): number {
    return this.receivedBytes;
  }

  /** Exactly so many bytes. */
  async read(bytes: number): Promise<Uint8Array> {
    const isThere = await this.wait(() => this.receivedBytes >= bytes);
    assert(isThere, `the server sends ${bytes} bytes; there are ${this.receivedBytes}`);
    if (bytes === 0) return NOTHING;
    const taken = this.peek(bytes);
    const rest = this.received.shift()!.subarray(bytes);
    if (rest.length > 0) this.received.unshift(rest);
    this.receivedBytes -= bytes;
    return taken;
  }

  /**
   * The first bytes of what has come, which stays where it is. Only as many pieces are joined as
   * that takes: what lies behind them may be long, and is asked for piece by piece.
   */
  private peek(bytes: number): Uint8Array {
    let count = 0;
    for (let joined = 0; joined < bytes; count += 1) joined += this.received[count]!.length;
    if (count > 1) this.received.unshift(concatenate(this.received.splice(0, count)));
    return this.received[0]?.subarray(0, bytes) ?? NOTHING;
  }

  /** Whether the server hangs up now, having sent nothing that was not read. */
  async isHungUp(): Promise<boolean> {
    await this.wait(() => this.receivedBytes > 0);
    return this.isOver && this.receivedBytes === 0;
  }

  /** Whether the connection has ended by now. */
  get hasEnded(): boolean {
    return this.isOver;
  }

  /** All bytes until the server hangs up. */
  async readToEnd(): Promise<Uint8Array> {
    await this.wait(() => false);
    return concatenate(this.received);
  }

  private async wait(isEnough: () => boolean): Promise<boolean> {
    const endMs = Date.now() + WAIT_LIMIT_MS;
    while (!isEnough() && !this.isOver) {
      const leftMs = endMs - Date.now();
      assert(leftMs > 0, "the server does something in time");
      let timer: ReturnType<typeof setTimeout> | undefined;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
        timer = setTimeout(resolve, leftMs);
      });
      clearTimeout(timer);
    }
    return isEnough();
  }

  // Negotiation ---------------------------------------------------------------------------------

  async greeting(): Promise<void> {
    const greeting = await this.read(GREETING_BYTES);
    assert(
      Buffer.compare(greeting, encodeGreeting()) === 0,
      "the greeting is that of the protocol",
    );
  }

  /** Sends an option and takes its answers, the last one (ACK or an error) included. */
  async option(option: number, data: Uint8Array = NOTHING): Promise<OptionAnswer[]> {
    this.send(encodeOption(option, data));
    return this.answers(option);
  }

  /** The types of the answers. */
  async optionTypes(option: number, data?: Uint8Array): Promise<number[]> {
    return (await this.option(option, data)).map(({ type }) => type);
  }

  async answers(option: number): Promise<OptionAnswer[]> {
    const answers: OptionAnswer[] = [];
    for (;;) {
      const view = viewOf(await this.read(OPTION_REPLY_HEADER_BYTES));
      const isMagicRight =
        view.getUint32(0) === OPTION_REPLY_MAGIC_HIGH &&
        view.getUint32(4) === OPTION_REPLY_MAGIC_LOW;
      assert(isMagicRight, "an option reply begins here");
      assert(view.getUint32(8) === option, "the answer is to the option that was sent");
      const type = view.getUint32(12);
      answers.push({ type, data: await this.read(view.getUint32(16)) });
      if (type === OptionReply.ack || type >= OptionReply.errorUnsupported) return answers;
    }
  }

  /** GO, which must succeed. */
  async go(name: string): Promise<Opened> {
    const answers = await this.option(OptionCode.go, encodeInfoRequest(name, []));
    assert(answers.at(-1)!.type === OptionReply.ack, `export ${name} opens`);
    const info = (type: number): DataView =>
      viewOf(answers.map(({ data }) => data).find((data) => viewOf(data).getUint16(0) === type)!);
    const { export: exportInfo, blockSize } = InfoType;
    return {
      sizeBytes: Number(info(exportInfo).getBigUint64(2)),
      flags: info(exportInfo).getUint16(10),
      maxRequestBytes: info(blockSize).getUint32(10),
    };
  }

  /**
   * Asks for TLS, with `extra` behind the question in the same packet, and goes on over it. False
   * where the server does not let the client in: that shows in TLS 1.3 with the first answer.
   */
  async startTls(options: ConnectionOptions, extra: Uint8Array = NOTHING): Promise<boolean> {
    const { starttls } = OptionCode;
    this.send(encodeOption(starttls, NOTHING), extra);
    const answers = await this.answers(starttls);
    assert(answers.at(-1)!.type === OptionReply.ack, "the server offers TLS");
    assert(this.receivedBytes === 0, "the server waits for the handshake");
    this.socket.removeAllListeners("data");
    const secure = connectTls({ ...options, socket: this.socket, servername: "localhost" });
    this.socket = secure;
    const isThrough = await new Promise<boolean>((resolve) => {
      secure.once("secureConnect", () => resolve(true));
      secure.once("close", () => resolve(false));
      secure.once("error", () => resolve(false));
    });
    this.listen();
    return isThrough;
  }

  // Transmission --------------------------------------------------------------------------------

  request(request: RawRequest, payload: Uint8Array = NOTHING): void {
    this.send(rawRequest(request), payload);
  }

  /** One simple reply, with so many bytes where there is no error. */
  reply(dataBytes = 0): Promise<RawReply> {
    return this.replyTo(() => dataBytes);
  }

  /** As `reply`, where the cookie says how many bytes a success brings. */
  async replyTo(dataBytesOf: (cookie: bigint) => number): Promise<RawReply> {
    const view = viewOf(await this.read(SIMPLE_REPLY_BYTES));
    assert(view.getUint32(0) === SIMPLE_REPLY_MAGIC, "a simple reply begins here");
    const error = view.getUint32(4);
    const cookie = view.getBigUint64(8);
    const data = error === 0 ? await this.read(dataBytesOf(cookie)) : NOTHING;
    return { error, cookie, data, isChunk: false };
  }

  /** One chunk. */
  async chunk(): Promise<RawChunk> {
    const view = viewOf(await this.read(CHUNK_HEADER_BYTES));
    assert(view.getUint32(0) === CHUNK_MAGIC, "a chunk begins here");
    const payload = await this.read(view.getUint32(16));
    const [flags, type] = [view.getUint16(4), view.getUint16(6)];
    return { flags, type, cookie: view.getBigUint64(8), payload };
  }

  /**
   * One reply, simple or of one chunk, whichever the server sends: the data are those of a read,
   * or the payload of a block status chunk.
   */
  async anyReply(dataBytes = 0): Promise<RawReply> {
    const isThere = await this.wait(() => this.receivedBytes >= 4);
    assert(isThere, "a reply comes");
    const magic = viewOf(this.peek(4)).getUint32(0);
    if (magic === SIMPLE_REPLY_MAGIC) return this.reply(dataBytes);
    const { flags, type, cookie, payload } = await this.chunk();
    assert((flags & ChunkFlag.done) !== 0, "a reply has one chunk");
    const isError = type >= ChunkType.error;
    const error = isError ? viewOf(payload).getUint32(0) : 0;
    const data = isError ? NOTHING : type === ChunkType.offsetData ? payload.subarray(8) : payload;
    return { error, cookie, data, isChunk: true };
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
