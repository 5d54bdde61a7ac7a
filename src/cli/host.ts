/** The process as the verbs see it, so that tests can run them without one. */
import type { StartReactor } from "../appliance/start-reactor.ts";

export interface CliHost {
  /** A line on stdout: what was asked for. */
  print(line: string): void;
  /** A line on stderr: everything else. */
  warn(line: string): void;
  /** Draws over the last line of the terminal, for progress. */
  redraw(text: string): void;
  /** A person watches stderr, where progress is drawn. */
  readonly isTerminal: boolean;
  /** Asks on the terminal; null where there is none. */
  ask(question: string): Promise<string | null>;
  /** Sends an HTTP request to a Unix socket; rejects where nobody answers. */
  send(socketPath: string, request: HttpRequest): Promise<Response>;
  readonly startReactor: StartReactor;
  /** Calls back for each of SERVED_SIGNALS (signals.ts), which then end nothing by themselves. */
  onSignal(listener: (signal: string) => void): void;
  /** Ends the process at once. */
  exit(code: number): never;
}

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Gives the request up. */
  readonly signal?: AbortSignal;
}
