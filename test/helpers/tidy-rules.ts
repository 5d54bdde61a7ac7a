/**
 * The rules of the tree that no linter knows: layers, purity, sizes, headers. Pure functions from
 * a path (from the top of the repository) and a source text to the violations in it.
 *
 *   src/<layer>/…   imports its own layer and lower ones (LAYERS, lowest first)
 *   src/*.ts        the composition roots: any layer, and ffi/
 *   ffi/…           only ffi/; imported by the roots and the adapters of FFI_USERS
 *
 * Code is looked at with its comments and the contents of its strings blanked out, so that prose
 * cannot break a rule. Regular expressions are told from divisions by what stands before them.
 */
import { posix } from "node:path";

export interface Violation {
  readonly path: string;
  /** 1-based; 0 when the whole file is meant. */
  readonly line: number;
  readonly message: string;
}

/** Lowest first. */
export const LAYERS = [
  "base",
  "reactor",
  "block",
  "parity",
  "md",
  "raid5",
  "array",
  "nbd",
  "wiring",
  "appliance",
  "api",
  "cli",
] as const;

export const ROOTS = ["src/main.ts", "src/reactor-main.ts", "src/helper-main.ts"] as const;

/** The highest layer of those that take time, randomness and I/O as constructor arguments. */
const HIGHEST_PURE_LAYER = LAYERS.indexOf("wiring");

const FFI_USERS =
  /^src\/(?:(?:reactor|appliance(?:\/[^/]+)?)\/linux-[^/]*\.ts|block\/aio-device\.ts)$/;
const ADAPTERS = /^src\/(?:(?:[^/]+\/)+linux-[^/]*\.ts|block\/aio-device\.ts)$/;

/** `test.only`, `describe.concurrent.skip`, and the short forms with an x before. */
const SWITCHED_OFF = new RegExp(
  "\\b(?:test|it|describe)\\s*(?:\\.\\s*\\w+\\s*)*\\.\\s*(?:skip|only|todo)\\b" +
    "|\\bx(?:test|it|describe)\\s*\\(",
  "g",
);

const FILE_LINES_MAX = 560;
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

interface StringToken {
  /** Index of the opening quote in the source. */
  readonly start: number;
  readonly text: string;
}

interface Blanked {
  /** As long as the source, with the same line ends. */
  readonly code: string;
  readonly strings: readonly StringToken[];
}

/** Words after which a slash begins a regular expression. */
const WORDS_BEFORE_REGEX =
  /(?:^|[^\w$.])(?:return|typeof|case|in|of|delete|void|throw|new|else|do|await|yield)$/;

function beginsRegex(codeBefore: string): boolean {
  const before = codeBefore.slice(-200).trimEnd();
  return (
    before === "" || /[(,=:[!&|?{};+\-*%<>~^]$/.test(before) || WORDS_BEFORE_REGEX.test(before)
  );
}

/** Index behind the regular expression that begins at `start`. */
function endOfRegex(source: string, start: number): number {
  let isInClass = false;
  for (let index = start + 1; index < source.length; index += 1) {
    const char = source[index];
    if (char === "\n") return index;
    if (char === "\\") index += 1;
    else if (char === "[") isInClass = true;
    else if (char === "]") isInClass = false;
    else if (char === "/" && !isInClass) return index + 1;
  }
  return source.length;
}

function spaces(text: string): string {
  return text.replace(/[^\n]/g, " ");
}

/** Blanks comments, regular expressions, and the insides of strings and templates. */
export function blank(source: string): Blanked {
  const strings: StringToken[] = [];
  /** Depth of braces inside each `${` that is open. */
  const templateBraces: number[] = [];
  let code = "";
  let index = 0;

  const skipTo = (end: number): void => {
    code += spaces(source.slice(index, end));
    index = end;
  };
  const quoted = (quote: string): void => {
    const start = index;
    let end = index + 1;
    while (end < source.length && source[end] !== quote && source[end] !== "\n") {
      end += source[end] === "\\" ? 2 : 1;
    }
    strings.push({ start, text: source.slice(start + 1, end) });
    code += quote + spaces(source.slice(start + 1, end));
    index = end;
    if (source[end] === quote) {
      code += quote;
      index += 1;
    }
  };
  /** From behind a backquote, or behind the brace that closes a `${`, to the next of either. */
  const template = (): void => {
    let end = index;
    while (end < source.length && source[end] !== "`" && !source.startsWith("${", end)) {
      end += source[end] === "\\" ? 2 : 1;
    }
    skipTo(Math.min(end, source.length));
    if (source[index] === "`") {
      code += "`";
      index += 1;
    } else if (index < source.length) {
      code += "${";
      index += 2;
      templateBraces.push(0);
    }
  };

  while (index < source.length) {
    const char = source[index]!;
    if (source.startsWith("//", index)) {
      const end = source.indexOf("\n", index);
      skipTo(end < 0 ? source.length : end);
    } else if (source.startsWith("/*", index)) {
      const end = source.indexOf("*/", index + 2);
      skipTo(end < 0 ? source.length : end + 2);
    } else if (char === '"' || char === "'") {
      quoted(char);
    } else if (char === "`") {
      code += char;
      index += 1;
      template();
    } else if (char === "}" && templateBraces.at(-1) === 0) {
      templateBraces.pop();
      code += char;
      index += 1;
      template();
    } else if (char === "/" && beginsRegex(code)) {
      // Its first slash stays, as the operand that a division may follow.
      code += char;
      index += 1;
      skipTo(endOfRegex(source, index - 1));
    } else {
      if (templateBraces.length > 0 && (char === "{" || char === "}")) {
        templateBraces[templateBraces.length - 1]! += char === "{" ? 1 : -1;
      }
      code += char;
      index += 1;
    }
  }
  return { code, strings };
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

interface Import {
  readonly specifier: string;
  readonly line: number;
}

/** Every module that a file names: static, type-only, re-exported, dynamic. */
export function importsOf({ code, strings }: Blanked): Import[] {
  const imports: Import[] = [];
  for (const { start, text } of strings) {
    const before = code.slice(Math.max(0, start - 200), start).trimEnd();
    if (/(?:^|[^\w$.])(?:from|import|(?:import|require)\s*\()$/.test(before)) {
      imports.push({ specifier: text, line: lineOf(code, start) });
    }
  }
  return imports;
}

/** The rank of a file in src/, a root above all; undefined outside of the layers. */
function rankOf(path: string): number | undefined {
  if ((ROOTS as readonly string[]).includes(path)) return LAYERS.length;
  const folder = /^src\/([^/]+)\//.exec(path)?.[1];
  const rank = (LAYERS as readonly string[]).indexOf(folder ?? "");
  return rank < 0 ? undefined : rank;
}

function layerName(rank: number): string {
  return LAYERS[rank] ?? "a composition root";
}

function importViolation(path: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  const target = posix.normalize(posix.join(posix.dirname(path), specifier));
  if (path.startsWith("ffi/")) {
    return target.startsWith("ffi/") ? undefined : `ffi/ imports only ffi/, not ${target}`;
  }
  if (target.startsWith("ffi/")) {
    const isAllowed = rankOf(path) === LAYERS.length || FFI_USERS.test(path);
    return isAllowed ? undefined : `ffi/ is not for this file: ${target}`;
  }
  if (!target.startsWith("src/")) return `imports from outside src/ and ffi/: ${target}`;
  const own = rankOf(path);
  const other = rankOf(target);
  if (own === undefined || other === undefined || other <= own) return undefined;
  return `${layerName(own)} may not import ${layerName(other)}: ${target}`;
}

/** The layer rule: imports point down, ffi/ only from its users, every file in a layer. */
export function checkLayers(path: string, source: string): Violation[] {
  if (!path.endsWith(".ts")) return [];
  if (!path.startsWith("src/") && !path.startsWith("ffi/")) return [];
  const violations: Violation[] = [];
  if (path.startsWith("src/") && rankOf(path) === undefined) {
    violations.push({ path, line: 0, message: "in no layer, and no composition root" });
  }
  const blanked = blank(source);
  for (const { specifier, line } of importsOf(blanked)) {
    const message = importViolation(path, specifier);
    if (message !== undefined) violations.push({ path, line, message });
  }
  for (const match of blanked.code.matchAll(/(?<![\w$.])(?:import|require)\s*\(\s*(?!["'\s])/g)) {
    const message = "a computed import cannot be checked";
    violations.push({ path, line: lineOf(blanked.code, match.index), message });
  }
  return violations;
}

/** A global by its name: not a property of some object, unless that is the global object. */
function globalName(names: string): RegExp {
  const alone = "(?<![\\w$.])";
  const spread = "(?<=\\.\\.\\.)";
  const ofGlobalObject = "(?<=\\b(?:globalThis|self|window)\\s*\\??\\.\\s*)";
  return new RegExp(`(?:${alone}|${spread}|${ofGlobalObject})(?:${names})(?![\\w$])`, "g");
}

const BANNED: readonly { readonly what: string; readonly pattern: RegExp }[] = [
  { what: "Date", pattern: globalName("Date") },
  { what: "performance", pattern: globalName("performance") },
  { what: "Math.random", pattern: /\bMath\s*\??\.\s*random\b/g },
  { what: "random numbers of crypto", pattern: /\b(?:getRandomValues|randomUUID|randomBytes)\b/g },
  { what: "a timer", pattern: globalName("setTimeout|setInterval|setImmediate") },
  { what: "queueMicrotask", pattern: globalName("queueMicrotask") },
  { what: "Bun", pattern: globalName("Bun") },
  // process.hrtime and process.nextTick are a clock and a queue just as well.
  { what: "process", pattern: globalName("process(?=\\s*\\??[.[])") },
];

/** The purity rule: base/ to nbd/ get time, randomness and I/O handed in. */
export function checkPurity(path: string, source: string): Violation[] {
  const rank = rankOf(path);
  if (!path.endsWith(".ts") || rank === undefined || rank > HIGHEST_PURE_LAYER) return [];
  if (ADAPTERS.test(path)) return [];
  const blanked = blank(source);
  const violations: Violation[] = [];
  for (const { specifier, line } of importsOf(blanked)) {
    if (!/^(?:node:|bun:|bun$)/.test(specifier)) continue;
    violations.push({ path, line, message: `${layerName(rank)} may not import ${specifier}` });
  }
  for (const { what, pattern } of BANNED) {
    for (const match of blanked.code.matchAll(pattern)) {
      const line = lineOf(blanked.code, match.index);
      violations.push({ path, line, message: `${layerName(rank)} may not use ${what}` });
    }
  }
  return violations;
}

/** Compiled code finds a Worker only from the entry file. */
export function checkWorkers(path: string, source: string): Violation[] {
  if (!path.endsWith(".ts") || path === "src/main.ts") return [];
  if (!path.startsWith("src/") && !path.startsWith("ffi/")) return [];
  const { code } = blank(source);
  const message = "a Worker is made in src/main.ts only";
  const uses = code.matchAll(/\bnew\s+(?:globalThis\s*\.\s*)?Worker\b/g);
  return [...uses].map((match) => ({ path, line: lineOf(code, match.index), message }));
}

/**
 * Roles and data chunks are sets of up to 53 (base/bit-set.ts), of which the operators see 32. A
 * shift by `& 31` is a place in a word of a map, which is none.
 */
export function checkSets(path: string, source: string): Violation[] {
  if (!/^src\/(?:raid5|array)\/.*\.ts$/.test(path)) return [];
  const { code } = blank(source);
  const message = "a set is made and asked by base/bit-set.ts";
  const uses = code.matchAll(/\b1\s*<<(?!\s*\([^()]*& 31\))|\bMath\s*\.\s*clz32\b/g);
  return [...uses].map((match) => ({ path, line: lineOf(code, match.index), message }));
}

/** Sizes, the header comment, tests that are switched off. */
export function checkShape(path: string, source: string): Violation[] {
  if (!path.endsWith(".ts")) return [];
  const violations: Violation[] = [];
  const lines = source.replace(/\n$/, "").split("\n");
  if (!path.startsWith("test/") && lines.length > FILE_LINES_MAX) {
    const message = `${lines.length} lines; at most ${FILE_LINES_MAX}`;
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

/** Every rule that looks at one file. */
export function checkFile(path: string, source: string): Violation[] {
  return [checkLayers, checkPurity, checkWorkers, checkSets, checkShape, checkLeftovers].flatMap(
    (check) => check(path, source),
  );
}
