/** Runs one command line; the answer is the exit code. */
import { type CommandSpec, parseCommandLine } from "./command.ts";
import { Exit } from "./exit.ts";
import type { CliHost } from "./host.ts";
import { helpText } from "./usage.ts";

export async function runCommandLine(
  table: readonly CommandSpec[],
  arguments_: readonly string[],
  host: CliHost,
): Promise<number> {
  const parsed = parseCommandLine(table, arguments_);
  if (!parsed.ok) {
    const { message, topic } = parsed.error;
    host.warn(`parityd: ${message} (parityd ${[...topic, "--help"].join(" ")})`);
    return Exit.usage;
  }
  if (parsed.value.kind === "help") {
    host.print(helpText(table, parsed.value.topic));
    return Exit.ok;
  }
  const { command, invocation } = parsed.value;
  return command.run(invocation, host, table);
}
