/**
 * Who may call over TCP. The Unix socket needs nothing of this: its mode decides.
 *
 * The token file (0400, in the state directory) holds one `SCOPE TOKEN` a line, scope `admin` or
 * `read`; two lines of one scope are both good, so that a token can be rotated without a gap. It is
 * read again when it has changed.
 *
 * `Host` and `Origin` are checked on calls that change something, so that a page in a browser
 * cannot make them, not even by a name that it has pointed at this address.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, statSync, writeSync } from "node:fs";
import { isIP } from "node:net";
import { err, ok, type Result } from "../base/result.ts";
import type { ApiError } from "./problem.ts";

export type Scope = "read" | "admin";

export interface Token {
  readonly scope: Scope;
  readonly token: string;
}

export interface TcpGuard {
  /** The scope of a bearer token, or null for one that is not known. */
  scopeOf(token: string): Scope | null;
  /** Names besides IP addresses and localhost under which this API is called. */
  readonly hosts: readonly string[];
}

/** Lines of the token file; anything else in it is an error, not a token. */
export function parseTokens(text: string): Result<Token[], string> {
  const tokens: Token[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const match = /^(read|admin)\s+(\S{16,})$/.exec(line.trim());
    if (match === null) {
      return err(`line ${index + 1} is not "read TOKEN" or "admin TOKEN" (16 characters or more)`);
    }
    tokens.push({ scope: match[1] as Scope, token: match[2] ?? "" });
  }
  return ok(tokens);
}

/** Compares with every token in constant time: neither which nor how far it matched is told. */
export function findScope(tokens: readonly Token[], given: string): Scope | null {
  const digest = sha256(given);
  let found: Scope | null = null;
  for (const { scope, token } of tokens) {
    if (timingSafeEqual(sha256(token), digest) && found !== "admin") found = scope;
  }
  return found;
}

/** Opens the token file, made with one admin token where there is none. */
export function openTokenFile(path: string): Result<(token: string) => Scope | null, string> {
  try {
    createTokenFile(path);
    let changedMs = -1;
    let tokens: readonly Token[] = [];
    const reload = (): Result<undefined, string> => {
      const { mtimeMs } = statSync(path);
      if (mtimeMs === changedMs) return ok();
      const parsed = parseTokens(readFileSync(path, "utf8"));
      if (!parsed.ok) return parsed;
      tokens = parsed.value;
      changedMs = mtimeMs;
      return ok();
    };
    const first = reload();
    if (!first.ok) return err(`${path}: ${first.error}`);
    return ok((token) => {
      // A file that is being written is read at the next call; until then the old tokens hold.
      try {
        reload();
      } catch {
        return null;
      }
      return findScope(tokens, token);
    });
  } catch (error) {
    return err(`cannot use ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function createTokenFile(path: string): void {
  let fd: number;
  try {
    fd = openSync(path, "wx", 0o400);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return;
    throw error;
  }
  writeSync(fd, `admin ${randomBytes(32).toString("base64url")}\n`);
  fsyncSync(fd);
  closeSync(fd);
}

/** Judges a request that came over TCP; null lets it pass. */
export function refuseTcp(request: Request, guard: TcpGuard): ApiError | null {
  const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  const scope = token === undefined ? null : guard.scopeOf(token);
  if (scope === null) return { kind: "unauthorized" };
  if (request.method === "GET" || request.method === "HEAD") return null;
  if (scope !== "admin") {
    const detail = "this token may only read: use one of the admin scope";
    return { kind: "forbidden", code: "read-only-token", detail };
  }
  const host = hostName(`http://${request.headers.get("host") ?? ""}`);
  if (host === null || !isKnownHost(host, guard.hosts)) {
    const detail = "call it by IP address or localhost, or name this host in apiHosts";
    return { kind: "forbidden", code: "unknown-host", detail };
  }
  const origin = request.headers.get("origin");
  if (origin !== null && hostName(origin) !== host) {
    const detail = `calls from pages of ${origin} are not taken`;
    return { kind: "forbidden", code: "foreign-origin", detail };
  }
  return null;
}

function hostName(url: string): string | null {
  return URL.canParse(url) ? new URL(url).hostname : null;
}

function isKnownHost(host: string, hosts: readonly string[]): boolean {
  const bare = host.replace(/^\[|\]$/g, "");
  return bare === "localhost" || isIP(bare) !== 0 || hosts.includes(bare);
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
