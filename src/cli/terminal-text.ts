/**
 * What a terminal gets beyond what a pipe gets: lines that fit it, and colours. Pure; widths are
 * those of the text, colours come last.
 *
 *   " action: " lines                bold
 *   words that say how a thing is    green, yellow, red (as a cell, behind "state: " or " is ")
 */
import { counted } from "../base/counted.ts";
import type { Terminal } from "./host.ts";

const BOLD = 1;
const RED = 31;
const GREEN = 32;
const YELLOW = 33;

const COLOUR_OF: ReadonlyMap<string, number> = new Map([
  ...["in-sync", "clean", "active", "ready", "done", "arrived"].map(
    (word) => [word, GREEN] as const,
  ),
  ...["degraded", "rebuilding", "replacing", "paused", "stale", "inactive", "read-only"].map(
    (word) => [word, YELLOW] as const,
  ),
  ...["faulty", "failed", "missing", "absent", "broken", "fenced"].map(
    (word) => [word, RED] as const,
  ),
]);

const STATE_WORD = new RegExp(
  `(?<=^| {2}|state: | is )(${[...COLOUR_OF.keys()].join("|")})(?=$| {2}| \\(|[:,;])`,
  "gm",
);

/** One line or several, as they are to stand on this terminal. */
export function dress(text: string, { columns, hasColours }: Terminal): string {
  const lines = text.split("\n").map((line) => {
    const fitting = wrapLine(line, columns);
    if (!hasColours) return fitting;
    return line.startsWith(" action: ") ? paint(fitting, BOLD) : paintStates(fitting);
  });
  return lines.join("\n");
}

/** The lines of a page, dressed, as far as there is room; a last one says that there are more. */
export function pageLines(page: readonly string[], terminal: Terminal): readonly string[] {
  const lines = page.flatMap((line) => dress(line, terminal).split("\n"));
  if (lines.length <= terminal.rows) return lines;
  const shown = terminal.rows - 1;
  return [...lines.slice(0, shown), `and ${counted(lines.length - shown, "more line")}`];
}

function paintStates(text: string): string {
  return text.replace(STATE_WORD, (word) => paint(word, COLOUR_OF.get(word) ?? BOLD));
}

function paint(text: string, code: number): string {
  return text
    .split("\n")
    .map((line) => `\u001b[${code}m${line}\u001b[0m`)
    .join("\n");
}

/**
 * Broken at blanks, below where its text began. A command line stays whole where it can; a word
 * that is longer than the terminal (a URI) stays one. `hanging`: what the further lines begin with.
 */
export function wrapLine(line: string, columns: number, hanging: string | null = null): string {
  if (line.length <= columns) return line;
  const indent = hanging ?? " ".repeat(indentOf(line, columns));
  const lines: string[] = [];
  let open = line.slice(0, indent.length);
  let isFresh = true;
  for (const { gap, word } of partsOf(line.slice(indent.length), columns - indent.length)) {
    if (!isFresh && open.length + gap.length + word.length > columns) {
      lines.push(open);
      open = indent;
      isFresh = true;
    }
    open += isFresh ? word : gap + word;
    isFresh = false;
  }
  return [...lines, open].join("\n");
}

interface Part {
  /** The blanks before it. */
  readonly gap: string;
  readonly word: string;
}

/** Words, and commands that fit as they are. */
function partsOf(text: string, room: number): Part[] {
  const found = text.matchAll(/( *)(parityd [^;]*[^; ];?|[^ ]+)/g);
  return [...found].flatMap(([, gap = "", word = ""]) => {
    if (word.length <= room) return [{ gap, word }];
    const words = word.split(/ +/);
    return words.map((each, index) => ({ gap: index === 0 ? gap : " ", word: each }));
  });
}

/** Behind "  label: ", or behind the first gap of a list; a little further than it began else. */
function indentOf(line: string, columns: number): number {
  const begin = /^ */.exec(line)![0].length;
  const label = /^ *[a-z-]+: +/.exec(line)?.[0].length;
  const gap = /^ *\S+(?: \S+)* {2,}/.exec(line)?.[0].length;
  const indent = label ?? gap ?? begin + 2;
  return indent <= columns / 2 ? indent : begin + 4;
}
