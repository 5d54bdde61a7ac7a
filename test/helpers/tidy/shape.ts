/**
 * How a file looks: its length, its columns, its header, tests that are switched off, what is left
 * over from the work on it; and what may lie at the top of the repository.
 */
import { blank, isSource, lineOf, type Violation } from "./source.ts";

/** `test.only`, `describe.concurrent.skip`, and the short forms with an x before. */
const SWITCHED_OFF = new RegExp(
  "\\b(?:test|it|describe)\\s*(?:\\.\\s*\\w+\\s*)*\\.\\s*(?:skip|only|todo)\\b" +
    "|\\bx(?:test|it|describe)\\s*\\(",
  "g",
);

const FILE_LINES_MAX = 500;
const LISTED_FILE_LINES_MAX = 560;

/** Files that are longer still. One that is not any more has to leave the list. */
export const LONG_FILES: ReadonlySet<string> = new Set();

const COLUMNS_MAX = 100;
const LONG_STRING = /["'`][^"'`]{24,}/;

const TOP_ENTRIES = new Set([
  "src",
  "ffi",
  "test",
  "build.ts",
  "bunfig.toml",
  "package.json",
  "tsconfig.json",
  "README.md",
  "LICENSE",
  "CHANGELOG.md",
  "biome.json",
  "package-lock.json",
  ".gitignore",
  ".ci",
  ".git",
]);

/** Sizes, the header comment, tests that are switched off. */
export function checkShape(
  path: string,
  source: string,
  longFiles: ReadonlySet<string> = LONG_FILES,
): Violation[] {
  if (!isSource(path)) return [];
  const violations: Violation[] = [];
  const lines = source.replace(/\n$/, "").split("\n");
  const most = longFiles.has(path) ? LISTED_FILE_LINES_MAX : FILE_LINES_MAX;
  if (!path.startsWith("test/") && lines.length > most) {
    violations.push({ path, line: 0, message: `${lines.length} lines; at most ${most}` });
  }
  if (longFiles.has(path) && lines.length <= FILE_LINES_MAX) {
    const message = `at most ${FILE_LINES_MAX} lines now: take it off LONG_FILES`;
    violations.push({ path, line: 0, message });
  }
  if (!/\w/.test(/^\/\*\*.*?\*\//s.exec(source)?.[0] ?? "")) {
    violations.push({ path, line: 1, message: "begins with no header comment" });
  }
  for (const [index, line] of lines.entries()) {
    const columns = [...line].length;
    // The formatter cannot break a string: a long message may stand on one line.
    if (columns <= COLUMNS_MAX || LONG_STRING.test(line)) continue;
    violations.push({
      path,
      line: index + 1,
      message: `${columns} columns; at most ${COLUMNS_MAX}`,
    });
  }
  const { code } = blank(source);
  for (const match of code.matchAll(SWITCHED_OFF)) {
    const message = `a test that is switched off or alone: ${match[0]}`;
    violations.push({ path, line: lineOf(code, match.index), message });
  }
  return violations;
}

/** Words for unfinished work, and paths of the machine that it was written on, in any text. */
export function checkLeftovers(path: string, source: string): Violation[] {
  const rules = [
    { pattern: /\b(?:TO(?:DO)|FIX(?:ME)|X{3})\b/g, message: "unfinished work" },
    { pattern: /(?<!\w)\/(?:work|farm)\//g, message: "a path of one machine" },
  ];
  return rules.flatMap(({ pattern, message }) =>
    [...source.matchAll(pattern)].map((match) => ({
      path,
      line: lineOf(source, match.index),
      message: `${message}: ${match[0]}`,
    })),
  );
}

/** Nothing at the top of the repository but what the design lists. */
export function checkTopEntries(names: readonly string[]): Violation[] {
  const message = "at the top level, but not in the design";
  const strangers = names.filter((name) => !TOP_ENTRIES.has(name));
  return strangers.map((path) => ({ path, line: 0, message }));
}
