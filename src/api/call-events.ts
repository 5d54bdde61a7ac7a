/**
 * The trail of the API: every call that changed something, and every login that failed.
 *
 *   api.call          after the answer, with method, path, status and who called; a refused call
 *                     changed nothing and leaves none
 *   api.login-failed  over TCP; per peer at the first and at each power of two
 *
 * A call on an export is about the array that it serves behind the call, or served before it.
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
  /** What it was about before it was carried out (`subjectOf`). */
  readonly before: CallSubject;
}

/** The array that a call is about. */
export type CallSubject = Pick<ArrayEvent, "array" | "arrayUuid">;

const NO_ARRAY: CallSubject = { array: "", arrayUuid: null };

interface CallEventParts {
  readonly events: Pick<Appliance["events"], "append">;
  readonly exports: Pick<Appliance["exports"], "arrayBehind">;
}

export class CallEvents {
  private readonly events: Pick<Appliance["events"], "append">;
  private readonly exports: Pick<Appliance["exports"], "arrayBehind">;
  private readonly failures = new Map<string, number>();

  constructor({ events, exports }: CallEventParts) {
    this.events = events;
    this.exports = exports;
  }

  /** To be asked before the call: an export that is withdrawn has no array any more. */
  subjectOf(path: string): CallSubject {
    const name = nameIn(path, "exports");
    if (name !== null) return this.exports.arrayBehind(name) ?? NO_ARRAY;
    return { ...NO_ARRAY, array: arrayOf(path) || (nameIn(path, "schedules") ?? "") };
  }

  called({ method, path, caller, status, before }: Call): void {
    if ((status >= 400 && status < 500) || path === HINT) return;
    const message = `${method} ${shortened(path)}: ${status} (${caller})`;
    const after = this.subjectOf(path);
    const subject = after.array === "" ? before : after;
    this.append({ kind: "api.call", severity: "info", ...subject, message });
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
    this.append({ kind: "api.login-failed", severity: "warning", ...NO_ARRAY, message });
  }

  private append(event: CallSubject & Pick<ArrayEvent, "kind" | "severity" | "message">): void {
    this.events.append({ ...event, drive: null, job: null, atMs: Date.now() });
  }
}

function shortened(path: string): string {
  if (path.length <= PATH_CHARACTERS_MAX) return path;
  return `${path.slice(0, PATH_CHARACTERS_MAX)}...`;
}

/** The array that a path is about, or "". */
export function arrayOf(path: string): string {
  return nameIn(path, "arrays") ?? "";
}

/** "tank" of /v1/arrays/tank/stop; null where the path is about nothing of these. */
function nameIn(path: string, what: "arrays" | "exports" | "schedules"): string | null {
  const [, version, kind, name = ""] = path.split("/");
  return version === "v1" && kind === what && name !== "" ? decodeURIComponent(name) : null;
}
