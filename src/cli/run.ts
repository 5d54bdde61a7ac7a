/** Runs one command line; the answer is the exit code. */
import { type CommandSpec, parseCommandLine } from "./command.ts";
import { DryHost } from "./dry-run.ts";
import { Exit } from "./exit.ts";
import type { CliHost } from "./host.ts";
import { helpText } from "./usage.ts";
import { DRY_RUN } from "./verbs/shared-options.ts";

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
  if (!invocation.isSet("dry-run")) {
    if (!invocation.isSet("json") || command.options["json"] !== DRY_RUN["json"]) {
      return command.run(invocation, host, table);
    }
    host.warn("parityd: --json goes with --dry-run here");
    return Exit.usage;
  }
  const dry = new DryHost(host, { isJson: invocation.isSet("json") });
  return dry.end(await command.run(invocation, dry.host, table));
}
