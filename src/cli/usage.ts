/** The help texts, from the command table. */
import type { CommandSpec } from "./command.ts";

/** `parityd array create NAME DRIVE... [flags]`. */
function synopsis(command: CommandSpec): string {
  const operands = command.operands.map((operand) => {
    const name = operand.many === true ? `${operand.name}...` : operand.name;
    return operand.optional === true ? `[${name}]` : name;
  });
  return ["parityd", ...command.path, ...operands].join(" ");
}

/** Help on one command, on those that begin with `topic`, or on all. */
export function helpText(table: readonly CommandSpec[], topic: readonly string[]): string {
  const matching = table.filter((command) =>
    topic.every((word, index) => command.path[index] === word),
  );
  const commands = matching.length === 0 ? table : matching;
  const only = commands[0];
  if (commands.length === 1 && only !== undefined) return commandHelp(only);
  const width = Math.max(...commands.map((command) => synopsis(command).length));
  const lines = commands.map(
    (command) => `  ${synopsis(command).padEnd(width)}  ${command.summary}`,
  );
  return ["usage:", ...lines, "", "parityd VERB --help says more."].join("\n");
}

function commandHelp(command: CommandSpec): string {
  const flags = Object.entries(command.options).map(([name, option]) => {
    const short = option.short === undefined ? "    " : `-${option.short}, `;
    const value = option.type === "string" ? ` ${option.value ?? "VALUE"}` : "";
    return [`${short}--${name}${value}`, option.help] as const;
  });
  const width = Math.max(0, ...flags.map(([flag]) => flag.length));
  const lines = flags.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`);
  const usage = `usage: ${synopsis(command)}${lines.length === 0 ? "" : " [flags]"}`;
  return [usage, "", command.summary, ...(lines.length === 0 ? [] : ["", ...lines])].join("\n");
}
