/** The help texts, from the command table: no line is wider than a terminal of 80 columns. */
import type { CommandSpec, OptionSpec } from "./command.ts";
import { wrapLine } from "./terminal-text.ts";

const COLUMNS = 80;
/** A term that is wider has its text below itself. */
const TERM_WIDTH_MAX = 30;
const INDENT = "  ";
const GAP = "  ";

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
  const lines = columned(commands.map((command) => [synopsis(command), command.summary]));
  return [title, ...lines, "", "parityd VERB --help says more."].join("\n");
}

/** Terms, and what they mean beside them. */
function columned(rows: readonly (readonly [term: string, text: string])[]): string[] {
  const width = Math.min(TERM_WIDTH_MAX, Math.max(0, ...rows.map(([term]) => term.length)));
  const behind = INDENT.length + width + GAP.length;
  return rows.flatMap(([term, text]) => {
    const lines = wrapLine(text, COLUMNS - behind, "").split("\n");
    const isBelow = term.length > width;
    const first = isBelow ? term : term.padEnd(width) + GAP + lines.shift();
    return [INDENT + first, ...lines.map((line) => " ".repeat(behind) + line)];
  });
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
  const lines = columned(flags);
  const usage = `usage: ${synopsis(command)}${lines.length === 0 ? "" : " [flags]"}`;
  const examples = (command.examples ?? []).map((example) => INDENT + example);
  return [
    ...[usage, "", command.summary],
    ...(lines.length === 0 ? [] : ["", ...lines]),
    ...(examples.length === 0 ? [] : ["", "examples:", ...examples]),
  ]
    .flatMap((line) => wrapLine(line, COLUMNS).split("\n"))
    .join("\n");
}
