/**
 * The daemon as the client verbs see it: HTTP over `<run-dir>/api.sock`.
 *
 * A refusal carries the API's own `detail`, which says what to do. An answer that is not of the API
 * is an error as well: something else listens there. No call waits for ever: what only reads has a
 * deadline, what may take long goes on while the daemon answers probes. --timeout limits both.
 */

import { join } from "node:path";
import { socketPathProblem } from "../appliance/config.ts";
import type { JobStatus } from "../array/protocol.ts";
import { printable } from "../base/printable.ts";
import { err, ok, type Result } from "../base/result.ts";
import { inWordsOfFlags } from "./api-words.ts";
import type { Invocation } from "./command.ts";
import { Exit } from "./exit.ts";
import type { CliHost, HttpRequest } from "./host.ts";
import { beginWait, DEFAULT_TIMES, type Patience, type PatienceTimes } from "./patience.ts";
import { type ApiProblem, problemOf, refusalText } from "./refusal.ts";
import { runDirOf } from "./run-dir.ts";
import { ownerText } from "./socket-owner.ts";

export interface CallError {
  readonly exitCode: number;
  readonly message: string;
  /** Where the API has refused. */
  readonly problem?: ApiProblem;
}

export interface Answered<T> {
  readonly status: number;
  readonly value: T;
}

export class DaemonClient {
  private readonly host: CliHost;
  readonly socketPath: string;
  private readonly times: PatienceTimes;
  /** What --timeout says, for the whole of the verb; null: nothing. */
  private readonly timeout: string | null;
  private readonly begunMs = performance.now();

  constructor(host: CliHost, invocation: Invocation, times: PatienceTimes = DEFAULT_TIMES) {
    this.host = host;
    this.socketPath = join(runDirOf(invocation.text("run-dir")), "api.sock");
    this.times = times;
    this.timeout = invocation.text("timeout") ?? null;
  }

  get<T>(path: string): Promise<Result<Answered<T>, CallError>> {
    return this.call<T>("GET", path);
  }

  /** Calls the API and reads a JSON answer (null for an empty one). */
  call<T>(method: string, path: string, body?: object): Promise<Result<Answered<T>, CallError>> {
    const patience = method === "GET" ? "brief" : "patient";
    return this.ask<T>({ method, path, patience }, body);
  }

  private async ask<T>(
    { method, path, patience }: { method: string; path: string; patience: Patience },
    body?: object,
  ): Promise<Result<Answered<T>, CallError>> {
    const json = { Accept: "application/json" };
    const request: HttpRequest = {
      ...{ method, path },
      headers: body === undefined ? json : { ...json, "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
    const answered = await this.within(request, patience, async (response) => ({
      status: response.status,
      text: await response.text(),
    }));
    if (!answered.ok) return answered;
    const { status, text } = answered.value;
    try {
      const value: unknown = text === "" ? null : JSON.parse(text);
      if (status < 400) return ok({ status, value: value as T });
      return err(refusal(status, value));
    } catch (error) {
      return err(refusal(status, { detail: `no JSON (${messageOf(error)})` }));
    }
  }

  /** Resolves when the time of --timeout is over; never where none is said. */
  get timeIsUp(): Promise<"time is up"> {
    return new Promise((resolve) => {
      if (this.timeout === null) return;
      const leftMs = this.begunMs + Number(this.timeout) * 1_000 - performance.now();
      setTimeout(() => resolve("time is up"), Math.max(0, leftMs)).unref();
    });
  }

  /** Whether the time of --timeout is over. */
  get isTimeUp(): boolean {
    if (this.timeout === null) return false;
    // A timer may fire a little early.
    return performance.now() - this.begunMs >= Number(this.timeout) * 1_000 - TIMER_SLACK_MS;
  }

  /** A call whose answer is read by the caller, such as a stream of events. */
  open(
    method: string,
    path: string,
    rest: { headers: Record<string, string>; body?: string },
  ): Promise<Result<Response, CallError>> {
    return this.within({ method, path, ...rest }, "brief", async (response) => response);
  }

  /** Of an answer of `open`: why it is none that was asked for, or null. */
  async refusalOf(response: Response): Promise<CallError | null> {
    if (response.ok) return null;
    const text = await response.text().catch(() => "");
    try {
      return refusal(response.status, JSON.parse(text));
    } catch {
      return refusal(response.status, null);
    }
  }

  job(id: number, waitSeconds: number): Promise<Result<Answered<JobStatus>, CallError>> {
    const path = `/v1/jobs/${id}?wait=${waitSeconds}`;
    return this.ask<JobStatus>({ method: "GET", path, patience: "patient" });
  }

  /** Sends it and reads the answer, and gives up where nothing comes of it. */
  private async within<T>(
    request: HttpRequest,
    patience: Patience,
    read: (response: Response) => Promise<T>,
  ): Promise<Result<T, CallError>> {
    const { timeout } = this;
    const allMs = timeout === null ? null : Number(timeout) * 1_000;
    if (allMs !== null && !(allMs > 0 && allMs <= LIMIT_MS_MAX)) {
      return err({ exitCode: Exit.usage, message: `--timeout ${timeout} is no time in seconds` });
    }
    const limitMs = allMs === null ? null : Math.max(1, this.begunMs + allMs - performance.now());
    const { host, socketPath, times } = this;
    const what = `${request.method} ${request.path.split("?")[0]}`;
    const wait = beginWait({ host, socketPath, patience, limitMs, times, what });
    const leaving = new AbortController();
    const sent = host
      .send(socketPath, { ...request, signal: leaving.signal })
      .then(read)
      .then(ok<T>, (error: unknown) => err(this.unreachable(error)));
    const late = wait.over.then((seconds) => err(this.late(what, { seconds, patience })));
    const outcome = await Promise.race([sent, late]);
    wait.end();
    if (!outcome.ok) leaving.abort();
    return outcome;
  }

  private unreachable(error: unknown): CallError {
    const refused = this.forbidden(messageOf(error));
    if (refused !== null) return refused;
    const where = socketPathProblem(this.socketPath) ?? `no daemon answers at ${this.socketPath}`;
    const why = messageOf(error);
    const message = `${where} (${why}): start parityd serve, or name its --run-dir`;
    return { exitCode: Exit.unavailable, message };
  }

  /** A daemon may well be there: it is this user who is not let in. */
  private forbidden(why: string): CallError | null {
    if (why !== "EACCES" && why !== "EPERM") return null;
    const owner = ownerText(this.socketPath);
    const whose = owner === null ? "is another user's" : `is not this user's (${owner})`;
    const message = `${this.socketPath} ${whose}: ${why}: run it as root, or as one of its group`;
    return { exitCode: Exit.unavailable, message };
  }

  private late(
    what: string,
    { seconds, patience }: { seconds: number; patience: Patience },
  ): CallError {
    const rest = patience === "brief" ? "" : "; what was asked for may still be done";
    const message =
      `the daemon at ${this.socketPath} has not answered ${what} within ` +
      `${Number(seconds.toPrecision(2))} s: it is stopped, hangs or is overloaded; ` +
      `its log may say why${rest}`;
    return { exitCode: Exit.unavailable, message };
  }
}

const TIMER_SLACK_MS = 20;
/** The longest that a timer of the runtime takes. */
const LIMIT_MS_MAX = 0x7fffffff;

/** Says why a call was refused, on stderr: a line, or an object. The answer is the exit code. */
export function fail(host: CliHost, error: CallError): number {
  host.warn(host.saysJson === true ? refusalText(error) : `parityd: ${error.message}`);
  return error.exitCode;
}

/** A value that the API would refuse anyway, or a flag that makes no sense. */
export function usageFailure(host: CliHost, message: string): number {
  return fail(host, { exitCode: Exit.usage, message });
}

function refusal(status: number, body: unknown): CallError {
  const problem = typeof body === "object" && body !== null ? body : {};
  const detail = "detail" in problem ? String(problem.detail) : `status ${status}`;
  const exitCode = status === 503 ? Exit.unavailable : Exit.failed;
  const message = printable(inWordsOfFlags(detail.replaceAll("\n", " ")));
  const named = problemOf(problem);
  return { exitCode, message, ...(named === undefined ? {} : { problem: named }) };
}

function messageOf(error: unknown): string {
  // The runtime's own sentence asks for typos in a URL that nobody typed.
  if (error instanceof Error && "code" in error) return String(error.code);
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
