/** The process as the verbs see it, so that tests can run them without one. */
import type { StartReactor } from "../appliance/start-reactor.ts";

export interface CliHost {
  /**
   * A line on stdout: what was asked for. `dress` adds what only a terminal gets, when all else that a
   * terminal would obey has been made harmless.
   */
  print(line: string, dress?: (line: string) => string): void;
  /** Where stdout is one. */
  readonly terminal: Terminal | null;
  /** A line on stderr: everything else. */
  warn(line: string): void;
  /** --json: a refusal on stderr is an object, too. */
  readonly saysJson?: boolean;
  /** Draws over the last line of the terminal, for progress. */
  redraw(text: string): void;
  /** A person watches stderr, where progress is drawn. */
  readonly isTerminal: boolean;
  /** How wide that is. */
  readonly progressColumns: number;
  /** What others call this host. */
  readonly networkName: string;
  /** Draws a page over the former one, as far as it fits; null gives the terminal back. */
  draw(page: readonly string[] | null): void;
  /** Asks on the terminal; null where there is none. */
  ask(question: string): Promise<string | null>;
  /** Sends an HTTP request to a Unix socket; rejects where nobody answers. */
  send(socketPath: string, request: HttpRequest): Promise<Response>;
  readonly startReactor: StartReactor;
  /** Calls back for each of SERVED_SIGNALS (signals.ts), which then end nothing by themselves. */
  onSignal(listener: (signal: string) => void): void;
  /** Calls back when nobody reads stdout any more; without a listener the process ends, with 0. */
  onOutputClosed(listener: () => void): void;
  /** Ends the process at once. */
  exit(code: number): never;
}

export interface Terminal {
  readonly columns: number;
  readonly rows: number;
  readonly hasColours: boolean;
}

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Gives the request up. */
  readonly signal?: AbortSignal;
}
