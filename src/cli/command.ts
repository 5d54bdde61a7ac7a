/**
 * What a command is, and how a command line is read against the table of them. Pure.
 *
 * An unknown verb, flag or a missing operand is an error with a sentence; nothing is guessed.
 */
import { parseArgs } from "node:util";
import { err, ok, type Result } from "../base/result.ts";
import type { AnswerWord } from "./answers.ts";
import type { CliHost } from "./host.ts";

/** What the daemon, or the file system, can name: a shell completes with it. */
export type Nameable = "arrays" | "drives" | "exports" | "jobs" | "schedules" | "spares" | "files";

/** What a word of the line may be, where that is known. */
interface Completable {
  readonly names?: Nameable;
  readonly choices?: readonly string[];
}

export interface OptionSpec extends Completable {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: true;
  /** What stands for the value in the help: `--limit RATE`. */
  readonly value?: string;
  /** Its value where no number follows: `--watch` is `--watch 2`. */
  readonly fallback?: string;
  readonly help: string;
}

export interface OperandSpec extends Completable {
  readonly name: string;
  /** The last operand may take the rest of the line. */
  readonly many?: true;
  readonly optional?: true;
}

export interface CommandSpec {
  /** ["array", "create"]. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly operands: readonly OperandSpec[];
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** Lines of the help, as they are typed. */
  readonly examples?: readonly string[];
  /** What --json may print of it; absent: it has no such flag. */
  readonly answers?: readonly AnswerWord[];
  /** Prints a document that is read by others: never laid out for a terminal. */
  readonly isVerbatim?: true;
  /** For programs: neither help nor manual name it. */
  readonly isHidden?: true;
  /** `table`: all commands, for those that speak about them. */
  readonly run: (
    invocation: Invocation,
    host: CliHost,
    table: readonly CommandSpec[],
  ) => Promise<number> | number;
}

/** The values of one command line. */
export class Invocation {
  readonly operands: readonly string[];
  private readonly values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>, operands: readonly string[]) {
    this.values = values;
    this.operands = operands;
  }

  /** The operand at `index`; the table says that it is there. */
  operand(index: number): string {
    return this.operands[index] ?? "";
  }

  isSet(option: string): boolean {
    return this.values[option] === true;
  }

  text(option: string): string | undefined {
    const value = this.values[option];
    return typeof value === "string" ? value : undefined;
  }

  texts(option: string): readonly string[] {
    const value = this.values[option];
    return Array.isArray(value) ? value.map(String) : [];
  }
}

export type Parsed =
  | { readonly kind: "run"; readonly command: CommandSpec; readonly invocation: Invocation }
  | { readonly kind: "help"; readonly topic: readonly string[] };

export interface UsageError {
  readonly message: string;
  /** The command that was meant, as far as it is known: `parityd array --help` helps. */
  readonly topic: readonly string[];
}

/** Reads `arguments_` (without the program's own name) against the table. */
export function parseCommandLine(
  table: readonly CommandSpec[],
  arguments_: readonly string[],
): Result<Parsed, UsageError> {
  if (arguments_[0] === "--version") return parseCommandLine(table, ["version"]);
  const words = leadingWords(arguments_);
  if (words.length === 0 || words[0] === "help") {
    const isHelp = words[0] === "help" || arguments_.some(isHelpFlag);
    if (isHelp) return ok({ kind: "help", topic: words.slice(1) });
    const flag = arguments_[0];
    const message = flag === undefined ? "a verb is missing" : `${flag} comes before any verb`;
    return err({ message, topic: [] });
  }
  const command = findCommand(table, words);
  if (command === undefined) {
    const group = table.filter((candidate) => candidate.path[0] === words[0]);
    if (group.length > 0 && arguments_.some(isHelpFlag)) {
      return ok({ kind: "help", topic: words.slice(0, 1) });
    }
    return err(unknownVerb(group, words));
  }
  const rest = arguments_.slice(command.path.length);
  const end = rest.indexOf("--");
  if (rest.slice(0, end < 0 ? undefined : end).some(isHelpFlag)) {
    return ok({ kind: "help", topic: command.path });
  }
  return readValues(command, rest);
}

function readValues(command: CommandSpec, rest: readonly string[]): Result<Parsed, UsageError> {
  const options: Record<string, { type: "string" | "boolean"; short?: string; multiple?: true }> =
    {};
  for (const [name, { type, short, multiple }] of Object.entries(command.options)) {
    options[name] = {
      type,
      ...(short === undefined ? {} : { short }),
      ...(multiple === undefined ? {} : { multiple }),
    };
  }
  const topic = command.path;
  try {
    const config = {
      args: withFallbacks(command, rest),
      options,
      allowPositionals: true,
      strict: true,
    } as const;
    const { values, positionals } = parseArgs(config);
    const wrong = operandProblem(command.operands, positionals);
    if (wrong !== null) return err({ message: wrong, topic });
    return ok({ kind: "run", command, invocation: new Invocation(values, positionals) });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return err({ message: message.split(". To specify")[0] ?? message, topic });
  }
}

function withFallbacks({ options }: CommandSpec, words: readonly string[]): string[] {
  return words.map((word, index) => {
    const { fallback } = options[word.replace(/^--/, "")] ?? {};
    if (!word.startsWith("--") || fallback === undefined) return word;
    return /^\d+(\.\d+)?$/.test(words[index + 1] ?? "") ? word : `${word}=${fallback}`;
  });
}

function operandProblem(specs: readonly OperandSpec[], given: readonly string[]): string | null {
  const required = specs.filter((spec) => spec.optional !== true);
  const missing = required[given.length];
  if (missing !== undefined) return `${missing.name} is missing`;
  const takesRest = specs.some((spec) => spec.many === true);
  if (!takesRest && given.length > specs.length) {
    return `"${given[specs.length]}" is one word too many`;
  }
  return null;
}

/** A verb with a subverb wins over one of the same first word alone. */
function findCommand(table: readonly CommandSpec[], words: readonly string[]) {
  return [...table]
    .sort((left, right) => right.path.length - left.path.length)
    .find((candidate) => candidate.path.every((word, index) => words[index] === word));
}

function unknownVerb(group: readonly CommandSpec[], words: readonly string[]): UsageError {
  if (group.length === 0) return { message: `there is no verb "${words[0]}"`, topic: [] };
  const choices = group.map((candidate) => candidate.path[1]).join(", ");
  const given = words[1] === undefined ? "needs one of" : `knows no "${words[1]}", but`;
  return { message: `${words[0]} ${given}: ${choices}`, topic: words.slice(0, 1) };
}

function leadingWords(arguments_: readonly string[]): string[] {
  const end = arguments_.findIndex((argument) => argument.startsWith("-"));
  return arguments_.slice(0, end < 0 ? undefined : end);
}

function isHelpFlag(argument: string): boolean {
  return argument === "--help" || argument === "-h";
}
