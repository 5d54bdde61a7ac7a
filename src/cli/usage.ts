/** The help texts, from the command table. */
import type { CommandSpec, OptionSpec } from "./command.ts";

/** `parityd array create NAME DRIVE... [flags]`. */
export function synopsis(command: CommandSpec): string {
  const operands = command.operands.map((operand) => {
    const name = operand.many === true ? `${operand.name}...` : operand.name;
    return operand.optional === true ? `[${name}]` : name;
  });
  return ["parityd", ...command.path, ...operands].join(" ");
}

/** Help on one command, on those that begin with `topic`, or on all. */
export function helpText(table: readonly CommandSpec[], topic: readonly string[]): string {
  const exact = table.find(({ path }) => path.join(" ") === topic.join(" "));
  const shown = table.filter(({ isHidden }) => isHidden !== true);
  const below = shown.filter(
    (command) => command !== exact && topic.every((word, index) => command.path[index] === word),
  );
  if (exact === undefined) return listHelp(below.length === 0 ? shown : below);
  if (below.length === 0) return commandHelp(exact);
  return `${commandHelp(exact)}\n\n${listHelp(below, "also:")}`;
}

function listHelp(commands: readonly CommandSpec[], title = "usage:"): string {
  const width = Math.max(...commands.map((command) => synopsis(command).length));
  const lines = commands.map(
    (command) => `  ${synopsis(command).padEnd(width)}  ${command.summary}`,
  );
  return [title, ...lines, "", "parityd VERB --help says more."].join("\n");
}

/** ` RATE`, ` [SECONDS]`, or nothing. */
export function valueText(option: OptionSpec): string {
  if (option.type !== "string") return "";
  const value = option.value ?? "VALUE";
  return option.fallback === undefined ? ` ${value}` : ` [${value}]`;
}

function commandHelp(command: CommandSpec): string {
  const flags = Object.entries(command.options).map(([name, option]) => {
    const short = option.short === undefined ? "    " : `-${option.short}, `;
    return [`${short}--${name}${valueText(option)}`, option.help] as const;
  });
  const width = Math.max(0, ...flags.map(([flag]) => flag.length));
  const lines = flags.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`);
  const usage = `usage: ${synopsis(command)}${lines.length === 0 ? "" : " [flags]"}`;
  const examples = (command.examples ?? []).map((example) => `  ${example}`);
  return [
    ...[usage, "", command.summary],
    ...(lines.length === 0 ? [] : ["", ...lines]),
    ...(examples.length === 0 ? [] : ["", "examples:", ...examples]),
  ].join("\n");
}
