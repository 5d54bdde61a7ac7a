/**
 * Nobody sleeps and asks again: what is waited for tells that it has happened (base/signal.ts). A
 * poll costs up to its period for each wait, turns the loop for nothing, and hides who ends it.
 *
 * A `sleep(` is a poll where it is called in a loop, or in a function that calls itself again. Some
 * waits have nobody to tell them (a file system with room again, a drive that answers again): those
 * say so in a comment on their line or right above it, which begins with `Polls:`.
 */
import { blank, isSource, lineOf, type Violation } from "./source.ts";

/** Files that poll without a reason still. One whose last poll is gone has to leave the list. */
export const KNOWN_POLLS: ReadonlySet<string> = new Set();

const SLEEP = /\bsleep(?:Sync)?\s*\(/g;
const LOOP = /(?<![\w$.])(?:(?:while|for(?:\s+await)?)(?=\s*\()|do\b(?!\s*[:,(}]))/g;
/** A function's name, up to the parenthesis that its parameters begin with. */
const FUNCTION = new RegExp(
  "(?:\\bfunction\\s*\\*?\\s*" +
    "|\\b(?:const|let)\\s+" +
    "|(?:^|\\n)[ \\t]*(?:(?:public|private|protected|static|override|async)\\s+)*\\*?)" +
    "([\\w$]+)(?:\\s*=\\s*(?:async\\s*)?)?(?:<[^>()]*>)?\\(",
  "g",
);
const NO_FUNCTIONS = new Set(["if", "for", "while", "switch", "catch", "return", "await", "super"]);

/** From the first to behind the last character. */
interface Region {
  readonly start: number;
  readonly end: number;
}

export function checkPolls(
  path: string,
  source: string,
  known: ReadonlySet<string> = KNOWN_POLLS,
): Violation[] {
  if (!path.startsWith("src/") || !isSource(path)) return [];
  const found = pollsIn(source);
  if (!known.has(path)) return found.map((line) => ({ path, line, message: MESSAGE }));
  if (found.length > 0) return [];
  return [{ path, line: 0, message: "polls no longer: take it off KNOWN_POLLS" }];
}

const MESSAGE = "sleeps and asks again: wait for a signal, or say why not (// Polls: …)";

/** The lines of the polls that give no reason. */
function pollsIn(source: string): number[] {
  const { code } = blank(source);
  const calls = [...code.matchAll(SLEEP)].map(({ index }) => index);
  if (calls.length === 0) return [];
  const loops = loopsOf(code);
  const again = functionsThatCallThemselves(code);
  const lines = source.split("\n");
  return calls
    .filter((at) => !isDeclaration(code, at))
    .filter((at) => [...loops, ...again].some(({ start, end }) => at >= start && at < end))
    .map((at) => lineOf(code, at))
    .filter((line) => !hasReason(lines, line));
}

/** On the line itself, or in the comment whose last line is the one above. */
function hasReason(lines: readonly string[], line: number): boolean {
  const reason = /\/\/ Polls: \w+\W+\w+/;
  if (reason.test(lines[line - 1]!)) return true;
  for (let above = line - 2; above >= 0 && /^\s*\/\//.test(lines[above]!); above -= 1) {
    if (reason.test(lines[above]!)) return true;
  }
  return false;
}

function isDeclaration(code: string, at: number): boolean {
  const before = code.slice(code.lastIndexOf("\n", at) + 1, at);
  if (/\bfunction\s+$/.test(before)) return true;
  if (!/^\s*(?:(?:export|public|private|protected|static|override|async)\s+)*$/.test(before)) {
    return false;
  }
  return /^\s*[:{]/.test(code.slice(endOfBrackets(code, code.indexOf("(", at))));
}

/** Head and body of each loop. */
function loopsOf(code: string): Region[] {
  return [...code.matchAll(LOOP)].map(({ index, 0: word }) => {
    let at = skipSpace(code, index + word.length);
    if (code[at] === "(") at = skipSpace(code, endOfBrackets(code, at));
    return { start: index, end: endOfStatement(code, at) };
  });
}

function functionsThatCallThemselves(code: string): Region[] {
  const regions: Region[] = [];
  for (const match of code.matchAll(FUNCTION)) {
    const name = match[1]!;
    if (NO_FUNCTIONS.has(name)) continue;
    const behind = endOfBrackets(code, match.index + match[0].length - 1);
    const body = /^[^;]*?\{[ \t]*\n/.exec(code.slice(behind));
    if (body === null) continue;
    const start = behind + body[0].lastIndexOf("{");
    const end = endOfBrackets(code, start);
    const call = new RegExp(`(?<![\\w$])(?<!\\bfunction\\s)${name.replaceAll("$", "\\$")}\\s*\\(`);
    if (call.test(code.slice(start, end))) regions.push({ start, end });
  }
  return regions;
}

function skipSpace(code: string, at: number): number {
  let index = at;
  while (/\s/.test(code[index] ?? "")) index += 1;
  return index;
}

/** Behind the bracket that closes the one at `start`. */
function endOfBrackets(code: string, start: number): number {
  let depth = 0;
  for (let index = start; index < code.length; index += 1) {
    if ("([{".includes(code[index]!)) depth += 1;
    if (")]}".includes(code[index]!)) depth -= 1;
    if (depth === 0) return index + 1;
  }
  return code.length;
}

/** Behind the statement that begins at `start`: a block, or up to a semicolon. */
function endOfStatement(code: string, start: number): number {
  for (let index = start; index < code.length; index += 1) {
    const char = code[index]!;
    if (char === ";") return index + 1;
    if (")]}".includes(char)) return index;
    if (!"([{".includes(char)) continue;
    index = endOfBrackets(code, index) - 1;
    const goesOn = /^\s*(?:else|catch|finally|while)\b|^\s*[.,;)?:([]/.test(code.slice(index + 1));
    if (char === "{" && !goesOn) return index + 1;
  }
  return code.length;
}
