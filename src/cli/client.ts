/**
 * The daemon as the client verbs see it: HTTP over `<run-dir>/api.sock`.
 *
 * A refusal carries the API's own `detail`, which says what to do. An answer that is not of the API
 * is an error as well: something else listens there.
 */
import { join } from "node:path";
import type { JobStatus } from "../array/protocol.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { Invocation } from "./command.ts";
import { Exit } from "./exit.ts";
import type { CliHost } from "./host.ts";

export const DEFAULT_RUN_DIR = "/run/parityd";

export interface CallError {
  readonly exitCode: number;
  readonly message: string;
}

export interface Answered<T> {
  readonly status: number;
  readonly value: T;
}

export class DaemonClient {
  private readonly host: CliHost;
  private readonly socketPath: string;

  constructor(host: CliHost, invocation: Invocation) {
    this.host = host;
    this.socketPath = join(invocation.text("run-dir") ?? DEFAULT_RUN_DIR, "api.sock");
  }

  get<T>(path: string): Promise<Result<Answered<T>, CallError>> {
    return this.call<T>("GET", path);
  }

  /** Calls the API and reads a JSON answer (null for an empty one). */
  async call<T>(
    method: string,
    path: string,
    body?: object,
  ): Promise<Result<Answered<T>, CallError>> {
    const json = { Accept: "application/json" };
    const response = await this.open(method, path, {
      headers: body === undefined ? json : { ...json, "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) return response;
    const { status } = response.value;
    try {
      const text = await response.value.text();
      const value: unknown = text === "" ? null : JSON.parse(text);
      if (status < 400) return ok({ status, value: value as T });
      return err(refusal(status, value));
    } catch (error) {
      return err(refusal(status, { detail: `no JSON (${messageOf(error)})` }));
    }
  }

  /** A call whose answer is read by the caller, such as a stream of events. */
  async open(
    method: string,
    path: string,
    rest: { headers: Record<string, string>; body?: string },
  ): Promise<Result<Response, CallError>> {
    try {
      return ok(await this.host.send(this.socketPath, { method, path, ...rest }));
    } catch (error) {
      const message =
        `no daemon answers at ${this.socketPath} (${messageOf(error)}): ` +
        "start parityd serve, or name its --run-dir";
      return err({ exitCode: Exit.unavailable, message });
    }
  }

  job(id: number, waitSeconds: number): Promise<Result<Answered<JobStatus>, CallError>> {
    return this.get<JobStatus>(`/v1/jobs/${id}?wait=${waitSeconds}`);
  }
}

/** Says why a call was refused, on stderr; the answer is the exit code. */
export function fail(host: CliHost, error: CallError): number {
  host.warn(`parityd: ${error.message}`);
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
  return { exitCode, message: detail.replaceAll("\n", " ") };
}

function messageOf(error: unknown): string {
  // The runtime's own sentence asks for typos in a URL that nobody typed.
  if (error instanceof Error && "code" in error) return String(error.code);
  return (error instanceof Error ? error.message : String(error)).split("\n")[0] ?? "";
}
