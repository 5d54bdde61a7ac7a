/**
 * HTTP/1 in front of the app: connections come from a listener, requests go to the app.
 *
 * The runtime's own server does not tell of connections before their first byte, counts none, and
 * makes URLs of the Host header (without one, the path is cut). So connections are accepted and
 * counted here, the runtime's HTTP/1 parser is put behind them, and the target alone makes the URL.
 *
 *   accept ──► idle ──whole request──► serving ──answer taken──► idle ──► ...
 *               └─ requestMs, idleMs: dropped      └─ sendMs without taking it: dropped
 *
 * TLS, where it is on, is the first part of the first idle: who dribbles its handshake in has the
 * one deadline for that and the request, and counts as any other connection meanwhile.
 *
 * A request is whole with its body: who dribbles it in has one deadline for all of it. Answers are
 * sent whole, event streams as the client takes them.
 */
import {
  createServer,
  type IncomingMessage,
  type Server as NodeServer,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import { beginTls, type TlsFiles } from "../appliance/tls-files.ts";
import { assert } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import { isPowerOfTwo } from "../base/units.ts";
import { BODY_LIMIT_BYTES } from "./body.ts";
import { type BudgetLimits, ConnectionBudget, type Place } from "./connection-budget.ts";
import { problemResponse } from "./problem.ts";
import type { ApiEnvironment } from "./route.ts";
import { unixCallerOf } from "./unix-caller.ts";

export interface FrontTimes {
  /** For the first whole request of a connection. */
  readonly requestMs: number;
  /** Between an answer and the next whole request. */
  readonly idleMs: number;
  /** For taking an answer. */
  readonly sendMs: number;
}

const TIMES: FrontTimes = { requestMs: 10_000, idleMs: 15_000, sendMs: 30_000 };
/** A client that has vanished without a word is noticed. */
const KEEP_ALIVE_MS = 60_000;
/** So much of a body is read to its end before it is refused. */
const DISCARD_BYTES_MAX = 4 * 1024 * 1024;
const BODILESS = new Set([204, 304]);
/** The request line and the headers together. */
const HEAD_BYTES_MAX = 16 * 1024;

/** What answers requests: the API, or what stands before it (`parityd ui`). */
export interface HttpApp {
  fetch(request: Request, bindings: ApiEnvironment["Bindings"]): Response | Promise<Response>;
}

export interface HttpFrontOptions {
  readonly app: HttpApp;
  readonly transport: "unix" | "tcp";
  readonly limits: BudgetLimits;
  readonly log: Log;
  readonly times?: FrontTimes;
  /** Null or absent: in the clear. */
  readonly tls?: TlsFiles | null;
}

class Connection implements Place {
  readonly peer: string;
  /** Where HTTP is spoken: the socket that was accepted, later the TLS socket over it. */
  socket: Socket;
  isKnown: boolean;
  isIdle = true;
  isLong = false;
  /** Requests of one connection are answered one after another. */
  turn: Promise<void> = Promise.resolve();
  private readonly accepted: Socket;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(socket: Socket, { peer, isKnown }: { peer: string; isKnown: boolean }) {
    this.accepted = socket;
    this.socket = socket;
    this.peer = peer;
    this.isKnown = isKnown;
  }

  drop(): void {
    this.socket.destroy();
    this.accepted.destroy();
  }

  /** Null: no limit. A connection that has ended has none: a timer would keep the process. */
  limit(milliseconds: number | null): void {
    if (this.timer !== null) clearTimeout(this.timer);
    const isOver = milliseconds === null || this.socket.destroyed;
    this.timer = isOver ? null : setTimeout(() => this.drop(), milliseconds);
  }
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly connection: Connection;
}

export class HttpFront {
  private readonly options: HttpFrontOptions;
  private readonly times: FrontTimes;
  private readonly http: NodeServer;
  private readonly budget: ConnectionBudget;
  private readonly connections = new WeakMap<object, Connection>();
  private tls: TlsFiles | null;
  private refusedCount = 0;
  private failedCount = 0;

  constructor(options: HttpFrontOptions) {
    this.options = options;
    this.times = options.times ?? TIMES;
    this.tls = options.tls ?? null;
    this.budget = new ConnectionBudget(options.limits);
    this.http = createServer({ maxHeaderSize: HEAD_BYTES_MAX }, (request, response) => {
      const connection = this.connections.get(request.socket);
      assert(connection !== undefined, "requests come over connections that were accepted");
      response.on("error", () => {}); // "close" follows.
      connection.turn = connection.turn.then(() => this.serve({ request, response, connection }));
    });
    this.http.keepAliveTimeout = this.times.idleMs;
    this.http.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      const isLong = error.code === "HPE_HEADER_OVERFLOW";
      void endWith(socket as Socket, isLong ? TOO_LONG : { ...BAD_HTTP, detail: error.message });
    });
  }

  accept(socket: Socket): void {
    const isKnown = this.options.transport === "unix";
    const peer = isKnown ? unixCallerOf(socket) : (socket.remoteAddress ?? "");
    const connection = new Connection(socket, { peer, isKnown });
    socket.on("error", () => {}); // "close" follows.
    if (!this.budget.admit(connection)) {
      this.sayRefused(peer);
      // In the clear a client that waits for TLS would read nonsense.
      if (this.tls === null) void endWith(socket, TOO_MANY);
      else socket.destroy();
      return;
    }
    socket.once("close", () => this.forget(connection));
    if (!isKnown) socket.setKeepAlive(true, KEEP_ALIVE_MS);
    connection.limit(this.times.requestMs);
    if (this.tls === null) this.speak(connection);
    else this.secure(connection, this.tls);
  }

  /** For a front with TLS: clients that come from now on get these files. */
  setFiles(files: TlsFiles): void {
    assert(this.tls !== null, "whether there is TLS is settled at the start");
    this.tls = files;
  }

  private forget(connection: Connection): void {
    connection.limit(null);
    this.budget.release(connection);
  }

  private speak(connection: Connection): void {
    this.connections.set(connection.socket, connection);
    this.http.emit("connection", connection.socket);
  }

  private secure(connection: Connection, files: TlsFiles): void {
    const fail = (reason: string): void => {
      this.sayFailed(connection.peer, reason);
      connection.drop();
    };
    let isThrough = false;
    const secure = beginTls(connection.socket, files, {
      onRefused: fail,
      onSecure: () => {
        isThrough = true;
        this.speak(connection);
      },
    });
    connection.socket = secure;
    secure.on("error", (error) => (isThrough ? connection.drop() : fail(error.message)));
    secure.once("close", () => {
      connection.drop();
      this.forget(connection);
    });
  }

  /** Ends all connections, also those with a request under way. */
  close(): void {
    for (const place of this.budget.all) place.drop();
  }

  private sayRefused(peer: string): void {
    this.refusedCount += 1;
    // At the first and at each power of two: a flood of clients must not be one of lines.
    if (!isPowerOfTwo(this.refusedCount)) return;
    const fields = { transport: this.options.transport, peer, refused: this.refusedCount };
    this.options.log.write("warn", "api connection refused: too many at one time", fields);
  }

  private sayFailed(peer: string, reason: string): void {
    this.failedCount += 1;
    if (!isPowerOfTwo(this.failedCount)) return;
    const fields = { peer, reason, failed: this.failedCount };
    this.options.log.write("warn", "api connection dropped: no TLS came about", fields);
  }

  private async serve(exchange: Exchange): Promise<void> {
    const { connection } = exchange;
    if (connection.socket.destroyed) return;
    const body = await readBody(exchange.request);
    // The client has gone, or lost its place meanwhile.
    if (body === null || connection.socket.destroyed) return;
    connection.isIdle = false;
    connection.limit(null);
    await this.send(await this.answer(exchange, body), exchange);
    connection.isLong = false;
    connection.isIdle = true;
    if (!connection.socket.destroyed) connection.limit(this.times.idleMs);
  }

  private async answer(exchange: Exchange, body: Buffer): Promise<Response> {
    const { request, connection, response } = exchange;
    const path = pathOf(request.url ?? "");
    const asked = path === null ? null : toRequest(request, { path, body });
    if (asked === null) return problemResponse({ ...BAD_HTTP, detail: "there is no such URL" });
    if (isLong(asked.url) && !this.budget.lengthen(connection)) return problemResponse(TOO_MANY);
    const leaving = new AbortController();
    response.once("close", () => leaving.abort());
    return this.options.app.fetch(new Request(asked, { signal: leaving.signal }), {
      transport: this.options.transport,
      peer: connection.peer,
      onKnown: () => {
        connection.isKnown = true;
      },
    });
  }

  private async send(answer: Response, exchange: Exchange): Promise<void> {
    const { request, response, connection } = exchange;
    if (connection.socket.destroyed) {
      await answer.body?.cancel();
      return;
    }
    const headers: Record<string, string> = Object.fromEntries(answer.headers);
    // What is left of a body that was too long is not read: no other request can follow it.
    if (!request.complete) headers["Connection"] = "close";
    const isStream = headers["content-type"] === "text/event-stream";
    const taken = new Promise<void>((resolve) => response.once("close", () => resolve()));
    if (isStream && answer.body !== null && request.method !== "HEAD") {
      response.writeHead(answer.status, headers);
      await this.pump(answer.body, exchange);
    } else {
      const bytes = Buffer.from(await answer.arrayBuffer());
      const hasBody = !BODILESS.has(answer.status) && request.method !== "HEAD";
      if (hasBody) headers["Content-Length"] = String(bytes.length);
      response.writeHead(answer.status, headers);
      response.end(hasBody ? bytes : undefined);
    }
    connection.limit(this.times.sendMs);
    await taken;
  }

  /** As fast as the client takes it, until the stream or the client ends. */
  private async pump(body: ReadableStream<Uint8Array>, exchange: Exchange): Promise<void> {
    const { response, connection } = exchange;
    const reader = body.getReader();
    let wake: () => void = () => {};
    response.on("drain", () => wake());
    response.once("close", () => {
      wake();
      void reader.cancel();
    });
    for (;;) {
      const { done, value } = await reader.read();
      if (done || connection.socket.destroyed) break;
      if (response.write(value)) continue;
      connection.limit(this.times.sendMs);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      connection.limit(null);
    }
    response.end();
  }
}

const BAD_HTTP = { kind: "bad-request", code: "bad-http", detail: "" } as const;
const TOO_LONG = {
  kind: "head-too-large",
  limitBytes: HEAD_BYTES_MAX,
} as const;
const TOO_MANY = {
  kind: "stopping",
  code: "too-many-connections",
  detail: "too many clients are connected or waiting: try again in a moment",
} as const;

/** Answers a connection that has no request, and ends it. */
async function endWith(
  socket: Socket,
  error: Parameters<typeof problemResponse>[0],
): Promise<void> {
  const response = problemResponse(error);
  const body = await response.text();
  const headers = { ...Object.fromEntries(response.headers), Connection: "close" };
  const lines = Object.entries({ ...headers, "Content-Length": String(Buffer.byteLength(body)) });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  if (!socket.writable) return void socket.destroy();
  socket.end(`HTTP/1.1 ${response.status} Refused\r\n${head}\r\n${body}`, () => socket.destroy());
}

/** Path and query of a request target; null for one that is neither a path nor a URL. */
export function pathOf(target: string): string | null {
  const path = target.replace(/^https?:\/\/[^/?#]*/i, "");
  if (path === "" || path.startsWith("?")) return `/${path}`;
  return path.startsWith("/") ? path : null;
}

function toRequest(
  request: IncomingMessage,
  { path, body }: { path: string; body: Buffer },
): Request | null {
  const method = request.method ?? "GET";
  const url = `http://parityd${path}`;
  if (!URL.canParse(url)) return null;
  try {
    const headers = new Headers();
    for (let at = 0; at + 1 < request.rawHeaders.length; at += 2) {
      headers.append(request.rawHeaders[at] ?? "", request.rawHeaders[at + 1] ?? "");
    }
    const hasBody = method !== "GET" && method !== "HEAD" && body.length > 0;
    return new Request(url, {
      method,
      headers,
      ...(hasBody ? { body: new Uint8Array(body) } : {}),
    });
  } catch {
    return null; // A header or a method that no Request takes.
  }
}

/** A stream of events, or a call that answers when something has ended. */
function isLong(url: string): boolean {
  const { pathname, searchParams } = new URL(url);
  return pathname === "/v1/events" || searchParams.has("wait");
}

/**
 * The body; null when the client went away before its end. Of one that the app refuses as too long
 * the rest is read and forgotten, within reason: a client that still sends reads no answer.
 */
function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve) => {
    request.on("data", (chunk: Buffer) => {
      if (bytes <= BODY_LIMIT_BYTES) chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > DISCARD_BYTES_MAX) resolve(Buffer.concat(chunks));
    });
    request.once("end", () => resolve(Buffer.concat(chunks)));
    request.once("error", () => resolve(null));
    request.once("close", () => resolve(null));
  });
}
