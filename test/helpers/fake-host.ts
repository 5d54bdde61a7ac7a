/** A process for the verbs: what they print is kept, the daemon is an app in this process. */

import { err } from "../../src/base/result.ts";
import type { CliHost } from "../../src/cli/host.ts";
import { runCommandLine } from "../../src/cli/run.ts";
import { ALL_COMMANDS } from "../../src/install/table.ts";
import type { SimAppliance } from "./sim-appliance.ts";

export interface CommandOutcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly redrawn: readonly string[];
}

export interface FakeHostOptions {
  /** Absent: nobody answers. */
  readonly daemon?: SimAppliance;
  readonly isTerminal?: boolean;
  /** What is typed at a question; absent: there is no terminal. */
  readonly typed?: string;
  readonly overrides?: Partial<CliHost>;
}

/** Runs `parityd <line>`, split at blanks; words may have some. */
export async function runCli(
  line: string | readonly string[],
  options: FakeHostOptions = {},
): Promise<CommandOutcome> {
  const stdout: string[] = [];
  const stderr: string[] = [];
  const redrawn: string[] = [];
  const host: CliHost = {
    print: (text) => stdout.push(text),
    warn: (text) => stderr.push(text),
    redraw: (text) => redrawn.push(text),
    isTerminal: options.isTerminal ?? false,
    progressColumns: 120,
    networkName: "box",
    terminal: null,
    draw: () => {},
    ask: async () => options.typed ?? null,
    send: async (_socketPath, { method, path, headers, body }) => {
      if (options.daemon === undefined) throw new Error("ECONNREFUSED");
      const init = { method, headers: { ...headers }, ...(body === undefined ? {} : { body }) };
      return options.daemon.app.request(path, init, { transport: "unix" });
    },
    startReactor: async () => err("there is no AIO here"),
    onSignal: () => {},
    onOutputClosed: () => {},
    exit: (code) => {
      throw new Error(`exit ${code}`);
    },
    ...options.overrides,
  };
  const words = typeof line === "string" ? line.split(" ").filter((word) => word !== "") : line;
  const exitCode = await runCommandLine(ALL_COMMANDS, words, host);
  return { exitCode, stdout: stdout.join("\n"), stderr: stderr.join("\n"), redrawn };
}
