/**
 * Who may call over TCP. The Unix socket needs nothing of this: its mode decides.
 *
 * The token file (0400, in the state directory) holds one `SCOPE TOKEN [NAME]` a line, scope
 * `admin` or `read`; two lines of one scope are both good, so that a token can be rotated without
 * a gap. The name is what the trail of calls says. The file is read again when it has changed, and
 * holds no token while others may write it or a line is broken.
 *
 * `Host` and `Origin` are checked on calls that change something, so that a page in a browser
 * cannot make them, not even by a name that it has pointed at this address.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  writeSync,
} from "node:fs";
import { isIP } from "node:net";
import { isReadableByOthers, trustProblem } from "../appliance/host/trusted-file.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { LoginLimit } from "./login-limit.ts";
import type { ApiError } from "./problem.ts";

export type Scope = "read" | "admin";

/** What a token opens, and what it is called where it must not be shown itself. */
export interface Grant {
  readonly scope: Scope;
  readonly name: string;
}

export interface Token extends Grant {
  readonly token: string;
}

export interface TcpGuard {
  /** What a bearer token opens, or null for one that is not known. */
  grantOf(token: string): Grant | null;
  /** Names besides IP addresses and localhost under which this API is called. */
  readonly hosts: readonly string[];
}

const TOKEN_LINE = /^(read|admin)\s+(\S{16,})(?:\s+([A-Za-z0-9._-]{1,64}))?$/;

/** Lines of the token file; anything else in it is an error, not a token. */
export function parseTokens(text: string): Result<Token[], string> {
  const tokens: Token[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const match = TOKEN_LINE.exec(line.trim());
    if (match === null) {
      return err(
        `line ${index + 1} is not "read TOKEN [NAME]" or "admin TOKEN [NAME]" ` +
          "(16 characters or more; a name of letters, digits, dots, - and _)",
      );
    }
    const [, scope, token = "", name = `line-${index + 1}`] = match;
    tokens.push({ scope: scope as Scope, token, name });
  }
  return ok(tokens);
}

/** Compares with every token in constant time: neither which nor how far it matched is told. */
export function findGrant(tokens: readonly Token[], given: string): Grant | null {
  const digest = sha256(given);
  let found: Grant | null = null;
  for (const { scope, name, token } of tokens) {
    if (timingSafeEqual(sha256(token), digest) && found?.scope !== "admin") found = { scope, name };
  }
  return found;
}

/** Beyond this it is no token file. */
const TOKEN_FILE_BYTES_MAX = 64 * 1024;
/** A change within so short a time after another may leave all that `stat` tells as it was. */
const SETTLED_MS = 2_000;

/**
 * The token file, read again whenever it has changed. A file that cannot be trusted (a broken line,
 * others may write it, it is gone) holds no token: what it held before opens nothing any more. The
 * log says so once, with the reason, and once that it is good again.
 */
export class TokenFile {
  private readonly path: string;
  private readonly log: Log;
  private readonly nowMs: () => number;
  private tokens: readonly Token[] = [];
  private problem: string | null = null;
  /** What `stat` said of the file as it was read; null: read it in any case. */
  private version: string | null = null;
  private isToldReadable = false;

  private constructor(path: string, { log, nowMs }: { log: Log; nowMs: () => number }) {
    this.path = path;
    this.log = log;
    this.nowMs = nowMs;
  }

  /** Opens it, made with one admin token where there is none. */
  static open(
    path: string,
    { log, nowMs = Date.now }: { log: Log; nowMs?: () => number },
  ): Result<TokenFile, string> {
    const file = new TokenFile(path, { log, nowMs });
    try {
      createTokenFile(path);
    } catch (error) {
      return err(`cannot make ${path}: ${messageOf(error)}`);
    }
    const first = file.read();
    return first.ok ? ok(file) : err(`${path}: ${first.error}`);
  }

  /** What a token opens by the file as it is now. */
  grantOf(token: string): Grant | null {
    this.refresh();
    return findGrant(this.tokens, token);
  }

  /** Reads it also where it has not changed; the answer is how many tokens it holds. */
  readAgain(): Result<number, string> {
    this.version = null;
    this.refresh();
    return this.problem === null ? ok(this.tokens.length) : err(this.problem);
  }

  private refresh(): void {
    const read = this.read();
    const problem = read.ok ? null : read.error;
    if (problem !== null) this.tokens = [];
    if (problem === this.problem) return;
    this.problem = problem;
    const file = this.path;
    if (problem === null) {
      this.log.write("info", "the token file is good again", { file, tokens: this.tokens.length });
    } else this.log.write("error", "no token is good until the token file is", { file, problem });
  }

  private read(): Result<undefined, string> {
    let fd: number | null = null;
    try {
      // Not to wait for the other end of a pipe that lies there.
      fd = openSync(this.path, constants.O_RDONLY | constants.O_NONBLOCK);
      const stats = fstatSync(fd);
      const { dev, ino, size, mode, uid, mtimeMs, ctimeMs } = stats;
      const version = [dev, ino, size, mode, uid, mtimeMs, ctimeMs].join(" ");
      if (version === this.version) return ok();
      this.version = null;
      const untrusted = trustProblem(stats);
      if (untrusted !== null) return err(untrusted);
      if (size > TOKEN_FILE_BYTES_MAX) return err(`it has more than ${TOKEN_FILE_BYTES_MAX} bytes`);
      const parsed = parseTokens(readFileSync(fd, "utf8"));
      if (!parsed.ok) return parsed;
      if (parsed.value.length === 0) return err("it holds no token: remove it, and one is made");
      this.tokens = parsed.value;
      if (this.nowMs() - ctimeMs > SETTLED_MS) this.version = version;
      this.warnOfReaders(isReadableByOthers(stats));
      return ok();
    } catch (error) {
      this.version = null;
      return err(`it cannot be read: ${messageOf(error)}`);
    } finally {
      if (fd !== null) closeSync(fd);
    }
  }

  private warnOfReaders(isReadable: boolean): void {
    if (isReadable && !this.isToldReadable) {
      const file = this.path;
      this.log.write("warn", "other users may read the API's tokens: chmod 0400", { file });
    }
    this.isToldReadable = isReadable;
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

/** Judges a request that came over TCP: by whose token it passes, or why it does not. */
export function judgeTcp(
  request: Request,
  { guard, limit, address }: { guard: TcpGuard; limit: LoginLimit; address: string },
): Result<Grant, ApiError> {
  const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  // Without a token nothing was guessed.
  if (token === undefined) return err({ kind: "unauthorized" });
  // A good one passes whatever others tried from there: behind one address are many people.
  const grant = guard.grantOf(token);
  if (grant === null) {
    const waitSeconds = limit.waitSeconds(address);
    if (waitSeconds > 0) return err({ kind: "too-many-logins", waitSeconds });
    limit.failed(address);
    return err({ kind: "unauthorized" });
  }
  const refusal = refuseChange(request, grant, guard);
  return refusal === null ? ok(grant) : err(refusal);
}

/** Why a call that changes something is not taken from the holder of a good token, or null. */
function refuseChange(request: Request, { scope }: Grant, guard: TcpGuard): ApiError | null {
  if (request.method === "GET" || request.method === "HEAD") return null;
  if (scope !== "admin") {
    const detail = "this token may only read: use one of the admin scope";
    return { kind: "forbidden", code: "read-only-token", detail };
  }
  const host = requestHost(request);
  if (host === null || !isKnownHost(host, guard.hosts)) return UNKNOWN_HOST;
  return refuseForeignPage(request, guard.hosts);
}

const UNKNOWN_HOST: ApiError = {
  kind: "forbidden",
  code: "unknown-host",
  detail: "call it by IP address or localhost, or name this host in apiHosts",
};

/**
 * Judges a call that a page in a browser may have made, which says where the page is from; null
 * lets it pass. Also where a Unix socket is forwarded to a port, as `ssh -L` does.
 */
export function refuseForeignPage(request: Request, hosts: readonly string[]): ApiError | null {
  const origin = request.headers.get("origin");
  if (origin === null) return null;
  const host = requestHost(request);
  if (host === null || !isKnownHost(host, hosts)) return UNKNOWN_HOST;
  // With the port: what else runs on this machine has pages too.
  if (URL.canParse(origin) && new URL(origin).host === request.headers.get("host")) return null;
  const detail = `calls from pages of ${origin} are not taken`;
  return { kind: "forbidden", code: "foreign-origin", detail };
}

function requestHost(request: Request): string | null {
  return hostName(`http://${request.headers.get("host") ?? ""}`);
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

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
