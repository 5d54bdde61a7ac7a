/**
 * An NBD client over any byte stream: fixed newstyle, GO, simple replies, up to 64 requests under
 * way and answers in any order. For the drill and for tests.
 *
 * The cookie is the index of the request; a request past the 64th waits for its turn. A lost
 * connection answers everything with ECONNRESET. Errors are those of the wire (errno numbers).
 */

import { assert } from "../../base/assert.ts";
import { ECONNRESET } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { ByteSource } from "../byte-source.ts";
import {
  Command,
  CommandFlag,
  encodeInfoRequest,
  encodeOption,
  encodeRequest,
  GREETING_BYTES,
  GREETING_MAGIC_HIGH,
  GREETING_MAGIC_LOW,
  HandshakeFlag,
  InfoType,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionCode,
  OptionReply,
  REQUEST_BYTES,
  readOffset,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
} from "../wire-format.ts";

/** A connected byte stream. `onData` and `onClose` are set by the client. */
export interface NbdTransport {
  write(bytes: Uint8Array): void;
  onData: (chunk: Uint8Array) => void;
  onClose: () => void;
  close(): void;
}

export type NbdClientError =
  | { readonly kind: "disconnected" }
  /** The server's answer is not NBD, or not what was asked for. */
  | { readonly kind: "protocol"; readonly detail: string }
  /** The server said no: the type of its option reply, and its message. */
  | { readonly kind: "refused"; readonly reply: number; readonly detail: string };

export const CLIENT_DEPTH = 64;

const NOTHING = new Uint8Array(0);
const DECODER = new TextDecoder();
/** More than any option reply of a sane server. */
const OPTION_REPLY_BYTES_MAX = 1 << 20;

interface OptionReplyMessage {
  readonly type: number;
  readonly data: Uint8Array;
}

/** The handshake, step by step. Every read answers null once the connection has ended. */
class Negotiator {
  readonly source = new ByteSource();
  isClosed = false;
  private readonly transport: NbdTransport;
  private onClosed: () => void = () => {};

  constructor(transport: NbdTransport) {
    this.transport = transport;
    transport.onData = (chunk) => this.source.push(chunk);
    transport.onClose = () => {
      this.isClosed = true;
      this.onClosed();
    };
  }

  /** Reads the greeting and answers it. */
  async greet(): Promise<Result<undefined, NbdClientError>> {
    const greeting = await this.read(GREETING_BYTES);
    if (greeting === null) return err({ kind: "disconnected" });
    const isRight =
      greeting.getUint32(0) === GREETING_MAGIC_HIGH &&
      greeting.getUint32(4) === GREETING_MAGIC_LOW &&
      greeting.getUint32(8) === OPTION_MAGIC_HIGH &&
      greeting.getUint32(12) === OPTION_MAGIC_LOW;
    const flags = greeting.getUint16(16);
    const needed = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;
    if (!isRight || (flags & needed) !== needed) {
      return err({ kind: "protocol", detail: "not a fixed newstyle server" });
    }
    const answer = new Uint8Array(4);
    new DataView(answer.buffer).setUint32(0, needed);
    this.transport.write(answer);
    return ok();
  }

  /** Sends an option and hands all replies but the last (ACK) to `onReply`. */
  async option(
    code: number,
    data: Uint8Array,
    onReply: (reply: OptionReplyMessage) => void,
  ): Promise<Result<undefined, NbdClientError>> {
    this.transport.write(encodeOption(code, data));
    for (;;) {
      const reply = await this.readReply(code);
      if (!reply.ok) return reply;
      const { type, data: content } = reply.value;
      if (type === OptionReply.ack) return ok();
      if (type >= OptionReply.errorUnsupported) {
        return err({ kind: "refused", reply: type, detail: DECODER.decode(content) });
      }
      onReply(reply.value);
    }
  }

  private async readReply(code: number): Promise<Result<OptionReplyMessage, NbdClientError>> {
    const header = await this.read(OPTION_REPLY_HEADER_BYTES);
    if (header === null) return err({ kind: "disconnected" });
    const bytes = header.getUint32(16);
    if (
      header.getUint32(0) !== OPTION_REPLY_MAGIC_HIGH ||
      header.getUint32(4) !== OPTION_REPLY_MAGIC_LOW ||
      header.getUint32(8) !== code ||
      bytes > OPTION_REPLY_BYTES_MAX
    ) {
      return err({ kind: "protocol", detail: "malformed option reply" });
    }
    const type = header.getUint32(12);
    if (bytes === 0) return ok({ type, data: NOTHING });
    const content = await this.read(bytes);
    if (content === null) return err({ kind: "disconnected" });
    return ok({ type, data: new Uint8Array(content.buffer) });
  }

  private read(bytes: number): Promise<DataView | null> {
    return new Promise((resolve) => {
      const target = new Uint8Array(bytes);
      this.onClosed = () => resolve(null);
      this.source.expect(target, () => resolve(new DataView(target.buffer)));
      // What arrived before the end still counts, so this comes second.
      if (this.isClosed) resolve(null);
    });
  }
}

interface Request {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly bytes: number;
  /** The payload of a write. */
  readonly data: Uint8Array | null;
  /** Where a read goes. */
  readonly into: Uint8Array;
  readonly resolve: (result: Result<Uint8Array, number>) => void;
}

export class NbdClient {
  readonly sizeBytes: number;
  /** TransmissionFlag bits. */
  readonly flags: number;
  private readonly transport: NbdTransport;
  private readonly source: ByteSource;
  private readonly pending: (Request | null)[] = new Array(CLIENT_DEPTH).fill(null);
  private readonly freeCookies: number[] = [];
  private readonly waiting: Request[] = [];
  private readonly reply = new Uint8Array(SIMPLE_REPLY_BYTES);
  private readonly replyView = new DataView(this.reply.buffer);
  private readonly onReplyHeader = () => this.takeReply();
  private isClosed = false;
  private readonly onEnded: (() => void)[] = [];

  private constructor(options: {
    transport: NbdTransport;
    negotiator: Negotiator;
    sizeBytes: number;
    flags: number;
  }) {
    const { transport, negotiator, sizeBytes, flags } = options;
    this.sizeBytes = sizeBytes;
    this.flags = flags;
    this.transport = transport;
    this.source = negotiator.source;
    for (let cookie = CLIENT_DEPTH - 1; cookie >= 0; cookie -= 1) this.freeCookies.push(cookie);
    transport.onClose = () => this.end();
    this.source.expect(this.reply, this.onReplyHeader);
    if (negotiator.isClosed) this.end();
  }

  /** Opens `exportName` ("" is the server's only export) over a fresh connection. */
  static async connect(
    transport: NbdTransport,
    { exportName }: { exportName: string },
  ): Promise<Result<NbdClient, NbdClientError>> {
    const negotiator = new Negotiator(transport);
    const greeted = await negotiator.greet();
    if (!greeted.ok) return giveUp(transport, greeted.error);
    let sizeBytes = -1;
    let flags = 0;
    const opened = await negotiator.option(
      OptionCode.go,
      encodeInfoRequest(exportName, []),
      ({ type, data }) => {
        if (type !== OptionReply.info || data.length !== 12) return;
        const view = new DataView(data.buffer);
        if (view.getUint16(0) !== InfoType.export) return;
        sizeBytes = readOffset(view, 2);
        flags = view.getUint16(10);
      },
    );
    if (!opened.ok) return giveUp(transport, opened.error);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
      return giveUp(transport, { kind: "protocol", detail: "the export has no usable size" });
    }
    return ok(new NbdClient({ transport, negotiator, sizeBytes, flags }));
  }

  /** The names of the exports; uses up the connection. */
  static async list(transport: NbdTransport): Promise<Result<string[], NbdClientError>> {
    const negotiator = new Negotiator(transport);
    const greeted = await negotiator.greet();
    if (!greeted.ok) return giveUp(transport, greeted.error);
    const names: string[] = [];
    const listed = await negotiator.option(OptionCode.list, NOTHING, ({ type, data }) => {
      if (type !== OptionReply.server || data.length < 4) return;
      const nameBytes = new DataView(data.buffer).getUint32(0);
      names.push(DECODER.decode(data.subarray(4, 4 + nameBytes)));
    });
    if (!listed.ok) return giveUp(transport, listed.error);
    await negotiator.option(OptionCode.abort, NOTHING, () => {});
    transport.close();
    return ok(names);
  }

  read(offset: number, bytes: number): Promise<Result<Uint8Array, number>> {
    return this.request({ command: Command.read, flags: 0, offset, bytes, data: null });
  }

  /** `data` must not change until the answer. */
  write(
    offset: number,
    data: Uint8Array,
    { fua = false }: { fua?: boolean } = {},
  ): Promise<Result<undefined, number>> {
    const flags = fua ? CommandFlag.fua : 0;
    return this.order({ command: Command.write, flags, offset, bytes: data.length, data });
  }

  /** The range reads zeros afterwards. `noHole`: it takes room; `fastZero`: or EOPNOTSUPP. */
  writeZeroes(
    offset: number,
    bytes: number,
    options: { fua?: boolean; noHole?: boolean; fastZero?: boolean } = {},
  ): Promise<Result<undefined, number>> {
    const flags =
      (options.fua === true ? CommandFlag.fua : 0) |
      (options.noHole === true ? CommandFlag.noHole : 0) |
      (options.fastZero === true ? CommandFlag.fastZero : 0);
    return this.order({ command: Command.writeZeroes, flags, offset, bytes, data: null });
  }

  trim(offset: number, bytes: number): Promise<Result<undefined, number>> {
    return this.order({ command: Command.trim, flags: 0, offset, bytes, data: null });
  }

  flush(): Promise<Result<undefined, number>> {
    return this.order({ command: Command.flush, flags: 0, offset: 0, bytes: 0, data: null });
  }

  /** Says goodbye; resolves when the server has closed, which it does after what is under way. */
  disconnect(): Promise<void> {
    return new Promise((resolve) => {
      if (this.isClosed) {
        resolve();
        return;
      }
      this.onEnded.push(resolve);
      this.sendHeader({ command: Command.disconnect, flags: 0, offset: 0, bytes: 0 }, 0);
    });
  }

  /** A request that is answered without data. */
  private async order(
    fields: Omit<Request, "into" | "resolve">,
  ): Promise<Result<undefined, number>> {
    const result = await this.request(fields);
    return result.ok ? ok() : result;
  }

  private request(fields: Omit<Request, "into" | "resolve">): Promise<Result<Uint8Array, number>> {
    return new Promise((resolve) => {
      const isRead = fields.command === Command.read;
      const request = { ...fields, into: isRead ? new Uint8Array(fields.bytes) : NOTHING, resolve };
      if (this.isClosed) resolve(err(ECONNRESET));
      else if (this.freeCookies.length === 0) this.waiting.push(request);
      else this.start(request);
    });
  }

  private start(request: Request): void {
    const cookie = this.freeCookies.pop();
    assert(cookie !== undefined, "a request starts when a cookie is free");
    this.pending[cookie] = request;
    this.sendHeader(request, cookie);
    if (request.data !== null && request.data.length > 0) this.transport.write(request.data);
  }

  private sendHeader(
    request: { command: number; flags: number; offset: number; bytes: number },
    cookie: number,
  ): void {
    // A buffer of its own: the transport may hold it until it has been sent.
    const header = new Uint8Array(REQUEST_BYTES);
    encodeRequest(new DataView(header.buffer), 0, { ...request, cookie });
    this.transport.write(header);
  }

  private takeReply(): void {
    const view = this.replyView;
    const cookie = view.getUint32(8) === 0 ? view.getUint32(12) : CLIENT_DEPTH;
    const request = this.pending[cookie] ?? null;
    if (view.getUint32(0) !== SIMPLE_REPLY_MAGIC || request === null) {
      this.transport.close();
      this.end();
      return;
    }
    const error = view.getUint32(4);
    if (error === 0 && request.into.length > 0) {
      this.source.expect(request.into, () => this.complete(cookie, request, 0));
    } else {
      this.complete(cookie, request, error);
    }
  }

  private complete(cookie: number, request: Request, error: number): void {
    this.pending[cookie] = null;
    this.freeCookies.push(cookie);
    request.resolve(error === 0 ? ok(request.into) : err(error));
    const next = this.waiting.shift();
    if (next !== undefined) this.start(next);
    this.source.expect(this.reply, this.onReplyHeader);
  }

  private end(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const [cookie, request] of this.pending.entries()) {
      this.pending[cookie] = null;
      request?.resolve(err(ECONNRESET));
    }
    for (const request of this.waiting) request.resolve(err(ECONNRESET));
    this.waiting.length = 0;
    for (const resolve of this.onEnded) resolve();
  }
}

function giveUp(transport: NbdTransport, error: NbdClientError): Result<never, NbdClientError> {
  transport.close();
  return err(error);
}
