/**
 * What is wrong with a configuration, for whoever wrote it: where it is no TOML, and which key was
 * meant. Pure.
 */
import type { z } from "zod";
import { WEBHOOK_KEYS } from "./alerts/alert-config.ts";

/** Beyond it no place is looked for: each prefix is parsed once. */
const LINES_MAX = 1_000;

/** `not TOML: line 3, column 12: Strings must be quoted`, of a text that `Bun.TOML` has refused. */
export function syntaxProblem(text: string, error: unknown): string {
  const message = messageOf(error);
  const place = placeOf(text, message);
  const what = message.replace(/^TOML Parse error: /, "");
  return `not TOML: ${place === null ? "" : `${place}: `}${what}`;
}

/**
 * The parser's own numbers are those of the call. But it reads forward: every text that ends behind
 * the fault is refused in the same words, so the fault is where the shortest of those ends.
 */
function placeOf(text: string, message: string): string | null {
  // Each with its end: what a line lacks is found there.
  const lines = text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  if (lines.length === 0 || lines.length > LINES_MAX) return null;
  const isRefused = (begin: string): boolean => refusalOf(begin) === message;
  let count = lines.length;
  while (count > 1 && isRefused(lines.slice(0, count - 1).join(""))) count--;
  const before = lines.slice(0, count - 1).join("");
  const line = lines[count - 1]!;
  let column = line.length;
  while (column > 1 && isRefused(before + line.slice(0, column - 1))) column--;
  // From inside a word to where it begins.
  const word = /[^\s=,[\]{}"']+$/.exec(line.slice(0, column))?.[0] ?? " ";
  return `line ${count}, column ${Math.max(1, column - word.length + 1)}`;
}

function refusalOf(text: string): string | null {
  try {
    Bun.TOML.parse(text);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split("\n")[0] ?? message;
}

export interface ConfigShape {
  /** What the file and the flags say, as it was judged. */
  readonly given: object;
  /** The settings that there are. */
  readonly settings: readonly string[];
}

/** One thing that is wrong, with the place: `webhook.1.url: it is no URL`. */
export function issueText(issue: z.core.$ZodIssue, shape: ConfigShape): string {
  // Tables are counted from 1, as in `parityd events test --webhook 1`.
  const path = issue.path.map((part) => (typeof part === "number" ? part + 1 : String(part)));
  const where = path.length === 0 ? "" : `${path.join(".")}: `;
  if (issue.code === "unrecognized_keys") {
    return where + issue.keys.map((key) => unknownKey(key, issue.path, shape)).join(", ");
  }
  if (issue.code === "invalid_type" && where === "webhook: ") {
    return `${where}each is a table of a list, which begins with [[webhook]]`;
  }
  return `${where}${issue.message}`;
}

function unknownKey(
  key: string,
  path: readonly PropertyKey[],
  { given, settings }: ConfigShape,
): string {
  const isOfAll = path.length === 0;
  const value: unknown = isOfAll ? Object.entries(given).find(([name]) => name === key)?.[1] : null;
  const isTable = typeof value === "object" && value !== null;
  const what = `unknown ${isTable ? "table" : "key"} "${key}"`;
  // TOML gives what stands behind a table to it.
  if (!isOfAll && settings.includes(key)) {
    return `${what}: it belongs above all tables ([[webhook]])`;
  }
  const meant = nearest(key, isOfAll ? settings : path.length === 2 ? WEBHOOK_KEYS : ["file"]);
  if (meant !== null)
    return `${what}: did you mean ${meant === "webhook" ? "[[webhook]]" : meant}?`;
  return isTable && !Array.isArray(value) ? `${what}: the only tables are [[webhook]]` : what;
}

/** The word that was meant, where one is near enough: a letter in three may be wrong. */
export function nearest(word: string, known: readonly string[]): string | null {
  const given = folded(word);
  const near = known
    .map((each) => ({ each, distance: distanceOf(given, folded(each)) }))
    .filter(({ each, distance }) => distance <= Math.floor(folded(each).length / 3))
    .sort((a, b) => a.distance - b.distance);
  return near[0]?.each ?? null;
}

/** `memory_mib` and `--memory-mib` are spellings of `memoryMib`. */
function folded(word: string): string {
  return word
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")
    .slice(0, 64);
}

/** How many letters have to be put in, left out or changed (Levenshtein). */
function distanceOf(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (const [index, letter] of [...from].entries()) {
    const next = [index + 1];
    for (let at = 1; at <= to.length; at++) {
      const isSame = letter === to[at - 1];
      next.push(Math.min(row[at]! + 1, next[at - 1]! + 1, row[at - 1]! + (isSame ? 0 : 1)));
    }
    row = next;
  }
  return row[to.length]!;
}
