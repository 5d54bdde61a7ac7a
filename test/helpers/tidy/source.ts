/**
 * Source text as the rules of the tree look at it: with its comments and the contents of its
 * strings blanked out, so that prose cannot break a rule. Regular expressions are told from
 * divisions by what stands before them.
 */

export interface Violation {
  readonly path: string;
  /** 1-based; 0 when the whole file is meant. */
  readonly line: number;
  readonly message: string;
}

interface StringToken {
  /** Index of the opening quote in the source. */
  readonly start: number;
  readonly text: string;
}

export interface Blanked {
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

/** What was blanked last: the rules look at one file after the other, each several times. */
let last = { source: "", blanked: { code: "", strings: [] } as Blanked };

/** Blanks comments, regular expressions, and the insides of strings and templates. */
export function blank(source: string): Blanked {
  if (last.source !== source) last = { source, blanked: blankAnew(source) };
  return last.blanked;
}

function blankAnew(source: string): Blanked {
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

export function lineOf(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

/** A file that the rules read as TypeScript. */
export function isSource(path: string): boolean {
  return /\.tsx?$/.test(path);
}

interface Import {
  readonly specifier: string;
  readonly line: number;
  /** Nothing of it is there when the program runs. */
  readonly isType: boolean;
}

/** Every module that a file names: static, type-only, re-exported, dynamic. */
export function importsOf({ code, strings }: Blanked): Import[] {
  const imports: Import[] = [];
  for (const { start, text } of strings) {
    const before = code.slice(Math.max(0, start - 200), start).trimEnd();
    if (/(?:^|[^\w$.])(?:from|import|(?:import|require)\s*\()$/.test(before)) {
      const statement = before.slice(before.lastIndexOf(";") + 1);
      const isType = /(?:^|\n)\s*(?:import|export)\s+type\b[^;]*$/.test(statement);
      imports.push({ specifier: text, line: lineOf(code, start), isType });
    }
  }
  return imports;
}
