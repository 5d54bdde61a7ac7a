/**
 * What the last word of an unfinished line may become, by the command table. Pure: names that only
 * the daemon knows are said by kind.
 *
 * `words` are those behind the program's name up to the cursor; the last is the one being written
 * (perhaps empty). bash takes `--mode=check` for three words, of which the second is "=".
 */
import type { CommandSpec, Nameable, OptionSpec } from "./command.ts";

export interface Completion {
  /** All that there are at this place, whatever has been written of one. */
  readonly words: readonly string[];
  readonly names: Nameable | null;
  /** What has been written of it. */
  readonly begun: string;
  /** What the line says of this flag: the daemon that is meant. */
  readonly runDir: string | undefined;
}

const NOTHING: readonly string[] = [];

export function completionAt(table: readonly CommandSpec[], given: readonly string[]): Completion {
  const words = given.filter((word, index) => word !== "=" || index === given.length - 1);
  const last = words.at(-1) ?? "";
  const begun = last === "=" ? "" : last;
  const before = words.slice(0, -1);
  const shown = table.filter(({ isHidden }) => isHidden !== true);
  const command = shown
    .filter(({ path }) => path.every((word, index) => before[index] === word))
    .sort((left, right) => right.path.length - left.path.length)[0];
  const verbs = shown
    .filter(({ path }) => path.length > before.length)
    .filter(({ path }) => before.every((word, index) => path[index] === word))
    .map(({ path }) => path[before.length]!);
  const rest = command === undefined ? [] : before.slice(command.path.length);
  const line = readLine(command, rest);
  const here = command === undefined ? plain(["help", "--help"]) : placeOf(command, line, begun);
  const isFirst = before.length === 0 || command !== undefined;
  return {
    words: [...new Set([...verbs, ...(isFirst ? here.words : NOTHING)])],
    names: here.names,
    begun,
    runDir: line.runDir,
  };
}

interface Line {
  readonly operandCount: number;
  /** The flag whose value comes next. */
  readonly open: OptionSpec | null;
  readonly isBehindFlags: boolean;
  readonly used: ReadonlySet<string>;
  readonly runDir: string | undefined;
}

function readLine(command: CommandSpec | undefined, rest: readonly string[]): Line {
  let operandCount = 0;
  let open: [name: string, option: OptionSpec] | null = null;
  let isBehindFlags = false;
  let runDir: string | undefined;
  const used = new Set<string>();
  for (const word of rest) {
    if (open !== null) {
      if (open[0] === "run-dir") runDir = word;
      open = null;
    } else if (isBehindFlags || !word.startsWith("-")) operandCount += 1;
    else if (word === "--") isBehindFlags = true;
    else {
      const [name = "", value] = word.replace(/^--?/, "").split("=", 2);
      used.add(name);
      if (name === "run-dir" && value !== undefined) runDir = value;
      const option = command?.options[name];
      const takesNext = option?.type === "string" && option.fallback === undefined;
      if (takesNext && value === undefined) open = [name, option];
    }
  }
  return { operandCount, open: open?.[1] ?? null, isBehindFlags, used, runDir };
}

type Place = Pick<Completion, "words" | "names">;

function plain(words: readonly string[]): Place {
  return { words, names: null };
}

function placeOf(command: CommandSpec, line: Line, begun: string): Place {
  const { open, used } = line;
  if (open !== null) return { words: open.choices ?? NOTHING, names: open.names ?? null };
  if (begun.startsWith("-") && !line.isBehindFlags) {
    const flags = Object.entries(command.options)
      .filter(([name, { multiple }]) => multiple === true || !used.has(name))
      .map(([name]) => `--${name}`);
    return plain([...flags, "--help"]);
  }
  const { operands } = command;
  const final = operands.at(-1);
  const operand = operands[line.operandCount] ?? (final?.many === true ? final : undefined);
  return { words: operand?.choices ?? NOTHING, names: operand?.names ?? null };
}
