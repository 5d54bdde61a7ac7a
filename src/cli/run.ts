/** Runs one command line; the answer is the exit code. */
import { usageFailure } from "./client.ts";
import { type CommandSpec, parseCommandLine } from "./command.ts";
import { DryHost } from "./dry-run.ts";
import { Exit } from "./exit.ts";
import type { CliHost } from "./host.ts";
import { dress } from "./terminal-text.ts";
import { helpText } from "./usage.ts";

export async function runCommandLine(
  table: readonly CommandSpec[],
  arguments_: readonly string[],
  host: CliHost,
): Promise<number> {
  const parsed = parseCommandLine(table, arguments_);
  if (!parsed.ok) {
    const { message, topic } = parsed.error;
    // Nothing else is known of a line that cannot be read.
    const asked = arguments_.includes("--json") ? withJson(host) : host;
    return usageFailure(asked, `${message} (parityd ${[...topic, "--help"].join(" ")})`);
  }
  if (parsed.value.kind === "help") {
    forTerminal(host).print(helpText(table, parsed.value.topic));
    return Exit.ok;
  }
  const { command, invocation } = parsed.value;
  const isJson = invocation.isSet("json");
  const shown = isJson ? withJson(host) : command.isVerbatim === true ? host : forTerminal(host);
  if (!invocation.isSet("dry-run")) return command.run(invocation, shown, table);
  const dry = new DryHost(shown, { isJson });
  return dry.end(await command.run(invocation, dry.host, table));
}

function withJson(host: CliHost): CliHost {
  return {
    ...host,
    get terminal() {
      return host.terminal;
    },
    saysJson: true,
  };
}

/** Lines that fit the terminal, in colours; documents are no affair of it. */
function forTerminal(host: CliHost): CliHost {
  const { terminal } = host;
  if (terminal === null) return host;
  return {
    ...host,
    get terminal() {
      return host.terminal;
    },
    print: (line) => host.print(line, (clean) => dress(clean, host.terminal ?? terminal)),
  };
}
