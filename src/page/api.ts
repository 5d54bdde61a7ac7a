/**
 * The daemon as the page sees it: calls with the token of this tab, problems as values.
 *
 * The token (of the token file over TCP, or of `parityd ui`) is kept in sessionStorage alone: it
 * ends with the tab, and no other page reads it. `parityd ui` opens the page with a ticket behind
 * the # of its link, which is good once: it is exchanged for a token before anything else.
 */
import type { StatusDocument } from "../appliance/status-document.ts";
import type { Answer, Problem } from "./answer.ts";

const TOKEN_KEY = "parityd-token";
/** A daemon that takes longer is as good as away. */
const STATUS_LIMIT_MS = 5_000;
const TICKET = /^#ticket=([\w-]+)$/;

export function setToken(token: string | null): void {
  if (token === null) sessionStorage.removeItem(TOKEN_KEY);
  else sessionStorage.setItem(TOKEN_KEY, token);
}

function authorization(): Record<string, string> {
  const token = sessionStorage.getItem(TOKEN_KEY);
  return token === null ? {} : { Authorization: `Bearer ${token}` };
}

/** Another link was opened in a tab that has the page already: the page begins anew. */
export function followTickets(): void {
  addEventListener("hashchange", () => {
    if (TICKET.test(location.hash)) location.reload();
  });
}

/** Whether this tab may begin to call; false: a token is to be asked for first. */
export async function mayCall(): Promise<boolean> {
  const ticket = TICKET.exec(location.hash)?.[1];
  if (ticket !== undefined) {
    // Away with it at once: it is not to stay in the history.
    history.replaceState(null, "", "/");
    const session = await call<{ token: string }>("POST", "/-/session", { ticket });
    if (session.ok) setToken(session.value.token);
  }
  if (sessionStorage.getItem(TOKEN_KEY) !== null) return true;
  try {
    const { headers } = await fetch("/", { method: "HEAD" });
    return headers.get("Parityd-Token") === null;
  } catch {
    return true; // Nobody answers: the first call says so.
  }
}

export async function call<T>(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<Answer<T>> {
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, {
      method,
      headers: {
        Accept: "application/json",
        ...authorization(),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
    text = await response.text();
  } catch {
    return refused({ status: 0, code: "no-answer", detail: "parityd does not answer" });
  }
  const value: unknown = parse(text);
  if (response.ok) return { ok: true, value: value as T };
  const { type = "", detail = `status ${response.status}` } = (value ?? {}) as {
    readonly type?: string;
    readonly detail?: string;
  };
  return refused({ status: response.status, code: type.split(":").at(-1) ?? "", detail });
}

export function getStatus(): Promise<Answer<StatusDocument>> {
  const signal = AbortSignal.timeout(STATUS_LIMIT_MS);
  return call<StatusDocument>("GET", "/v1/status", undefined, signal);
}

/** The text of an event stream as it comes; null: there is none now. */
export async function openEvents(
  sinceId: number,
  signal: AbortSignal,
): Promise<ReadableStreamDefaultReader<string> | null> {
  try {
    const headers = { Accept: "text/event-stream", ...authorization() };
    const { ok, body } = await fetch(`/v1/events?since=${sinceId}`, { headers, signal });
    if (!ok || body === null) return null;
    return body.pipeThrough(new TextDecoderStream()).getReader();
  } catch {
    return null;
  }
}

function refused(problem: Problem): { readonly ok: false; readonly problem: Problem } {
  return { ok: false, problem };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** A name in a path. */
export function part(name: string): string {
  return encodeURIComponent(name);
}
