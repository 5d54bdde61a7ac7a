/**
 * What `parityd ui` lets through from its port to the daemon's Unix socket.
 *
 *   /, /assets/*     the page: to anybody, it holds nothing
 *   POST /-/session  a ticket (behind the # of the link, so that no log has it) for a token; once
 *   all else         with that token; the daemon gets neither it nor any other header than it needs
 *
 * Every user of the machine reaches the port, and every page in the browser: so the token is kept
 * by the page for its own origin (a cookie would go to all ports of 127.0.0.1), and `Host` and
 * `Origin` have to be the port's own.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { HttpApp } from "../api/http-front.ts";
import { isPagePath, TOKEN_HEADER } from "../api/page/page-routes.ts";
import { type ApiError, problemResponse } from "../api/problem.ts";
import { json } from "../api/route.ts";
import type { HttpRequest } from "./host.ts";

export interface UiGateParts {
  /** To the daemon; rejects where nobody answers. */
  readonly send: (request: HttpRequest) => Promise<Response>;
  readonly newSecret: () => string;
  /** The ticket was used: the link is good no more. */
  readonly onUsed: () => void;
}

type Bindings = Parameters<HttpApp["fetch"]>[1];

const SESSIONS_MAX = 64;
const PASSED_ON = [
  ...["accept", "content-type", "if-match", "if-none-match", "idempotency-key", "last-event-id"],
];
/** Of one hop. */
const NOT_PASSED_BACK = ["connection", "keep-alive", "transfer-encoding", "content-length", "date"];

export class UiGate implements HttpApp {
  private readonly parts: UiGateParts;
  private port = 0;
  private ticket: string;
  private readonly sessions: string[] = [];

  constructor(parts: UiGateParts) {
    this.parts = parts;
    this.ticket = parts.newSecret();
  }

  /** The port that it is reached by; before it is told nothing is let through. */
  opened(port: number): void {
    this.port = port;
  }

  get link(): string {
    return `http://127.0.0.1:${this.port}/#ticket=${this.ticket}`;
  }

  async fetch(request: Request, bindings: Bindings): Promise<Response> {
    const refusal = this.refuse(request);
    if (refusal !== null) return problemResponse(refusal);
    const { pathname } = new URL(request.url);
    const isReading = request.method === "GET" || request.method === "HEAD";
    if (pathname === "/-/session" && request.method === "POST") return this.exchange(request);
    if (isReading && isPagePath(pathname))
      return this.pass(request, { [TOKEN_HEADER]: "required" });
    const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
    const isKnown = this.sessions.some((session) => isSame(session, token));
    if (!isKnown) return problemResponse({ kind: "unauthorized" });
    bindings.onKnown?.();
    return this.pass(request, {});
  }

  private refuse(request: Request): ApiError | null {
    const host = request.headers.get("host");
    const hosts = [`127.0.0.1:${this.port}`, `localhost:${this.port}`];
    if (host === null || !hosts.includes(host)) {
      const detail = "use the link that parityd ui has printed";
      return { kind: "forbidden", code: "unknown-host", detail };
    }
    const origin = request.headers.get("origin");
    if (origin === null || origin === `http://${host}`) return null;
    const detail = `calls from pages of ${origin} are not taken`;
    return { kind: "forbidden", code: "foreign-origin", detail };
  }

  private async exchange(request: Request): Promise<Response> {
    if (!isSame(await ticketIn(request), this.ticket)) {
      return problemResponse({ kind: "unauthorized" });
    }
    this.ticket = this.parts.newSecret();
    const token = this.parts.newSecret();
    this.sessions.push(token);
    if (this.sessions.length > SESSIONS_MAX) this.sessions.shift();
    this.parts.onUsed();
    return json({ token }, { headers: { "Cache-Control": "no-store" } });
  }

  private async pass(request: Request, extra: Readonly<Record<string, string>>): Promise<Response> {
    const url = new URL(request.url);
    // What is compressed would be unpacked on the way.
    const headers: Record<string, string> = { "accept-encoding": "identity" };
    for (const name of PASSED_ON) {
      const value = request.headers.get(name);
      if (value !== null) headers[name] = value;
    }
    const body = await request.text();
    const leaving = new AbortController();
    const leave = (): void => leaving.abort();
    request.signal.addEventListener("abort", leave);
    try {
      const answer = await this.parts.send({
        method: request.method,
        path: url.pathname + url.search,
        headers,
        signal: leaving.signal,
        ...(body === "" ? {} : { body }),
      });
      const back = new Headers(answer.headers);
      for (const name of NOT_PASSED_BACK) back.delete(name);
      for (const [name, value] of Object.entries(extra)) back.set(name, value);
      return new Response(untilItEnds(answer.body), { status: answer.status, headers: back });
    } catch {
      const detail = "parityd does not answer on its socket: is it running?";
      return problemResponse({ kind: "stopping", code: "no-daemon", detail });
    } finally {
      // From here on the body is what ends: it is cancelled, and not broken off.
      request.signal.removeEventListener("abort", leave);
    }
  }
}

/** The same, and a daemon that goes away in the midst of it is an end like any other. */
function untilItEnds(body: ReadableStream<Uint8Array> | null): ReadableStream<Uint8Array> | null {
  if (body === null) return null;
  const reader = body.getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch {
        controller.close();
      }
    },
    cancel: () => reader.cancel().catch(() => {}),
  });
}

async function ticketIn(request: Request): Promise<string> {
  try {
    const body: unknown = await request.json();
    const isObject = typeof body === "object" && body !== null && "ticket" in body;
    return isObject ? String(body.ticket) : "";
  } catch {
    return "";
  }
}

/** In constant time. */
function isSame(one: string, other: string): boolean {
  return timingSafeEqual(digest(one), digest(other));
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
