/**
 * The trail of the API: every call that changed something, and every login that failed.
 *
 *   api.call          after the answer, with method, path, status and who called; a refused call
 *                     changed nothing and leaves none
 *   api.login-failed  over TCP; per peer at the first and at each power of two
 *
 * Never the token, the query or the body.
 */
import type { Appliance } from "../appliance/appliance.ts";
import type { ArrayEvent } from "../array/protocol.ts";

const PATH_CHARACTERS_MAX = 200;
/** udev says so of each device of a boot, and it changes nothing. */
const HINT = "/v1/drives/appeared";
/** Peers whose failures are counted; the longest forgotten one makes room. */
const PEERS_MAX = 1_024;

export interface Call {
  readonly method: string;
  /** As it was sent, escapes and all. */
  readonly path: string;
  /** "process PID of user UID", or "ADDRESS, token NAME". */
  readonly caller: string;
  readonly status: number;
}

export class CallEvents {
  private readonly events: Pick<Appliance["events"], "append">;
  private readonly failures = new Map<string, number>();

  constructor(events: Pick<Appliance["events"], "append">) {
    this.events = events;
  }

  called({ method, path, caller, status }: Call): void {
    if ((status >= 400 && status < 500) || path === HINT) return;
    const message = `${method} ${shortened(path)}: ${status} (${caller})`;
    this.append({ kind: "api.call", severity: "info", array: arrayOf(path), message });
  }

  loginFailed(peer: string, reason: string): void {
    const count = (this.failures.get(peer) ?? 0) + 1;
    this.failures.delete(peer);
    this.failures.set(peer, count);
    const oldest = this.failures.keys().next().value;
    if (this.failures.size > PEERS_MAX && oldest !== undefined) this.failures.delete(oldest);
    if ((count & (count - 1)) !== 0) return;
    const times = count === 1 ? "" : `, ${count} times so far`;
    const message = `login failed from ${peer}: ${reason}${times}`;
    this.append({ kind: "api.login-failed", severity: "warning", array: "", message });
  }

  private append(event: Pick<ArrayEvent, "kind" | "severity" | "array" | "message">): void {
    this.events.append({ ...event, arrayUuid: null, drive: null, job: null, atMs: Date.now() });
  }
}

function shortened(path: string): string {
  if (path.length <= PATH_CHARACTERS_MAX) return path;
  return `${path.slice(0, PATH_CHARACTERS_MAX)}...`;
}

/** The array that a path is about, or "". */
export function arrayOf(path: string): string {
  const name = /^\/v1\/arrays\/([^/]+)/.exec(path)?.[1];
  return name === undefined ? "" : decodeURIComponent(name);
}
