/**
 * The threat model stands in src/api/README.md, a table whose last column names the test of each
 * line: a file, and words that the name of one of its tests has.
 */
import { lineOf, type Violation } from "./source.ts";

export const THREATS_HOME = "src/api/README.md";

const ROW = /^\|.*\| `([^`]+)`: ([^|]+) \|$/gm;
const HEADING = "## Threat model";

/** `texts`: every source and README of src/ and test/, by path. */
export function checkThreats(texts: ReadonlyMap<string, string>): Violation[] {
  const readme = texts.get(THREATS_HOME) ?? "";
  const begin = readme.indexOf(HEADING);
  const violations: Violation[] = [];
  const amiss = (line: number, message: string): void => {
    violations.push({ path: THREATS_HOME, line, message });
  };
  if (begin < 0) amiss(0, `has no "${HEADING}"`);
  const rest = readme.slice(Math.max(0, begin) + HEADING.length);
  const end = rest.search(/^## /m);
  const section = end < 0 ? rest : rest.slice(0, end);
  const offset = begin + HEADING.length;
  const lines = section.split("\n").filter((line) => line.startsWith("|")).length - 2;
  let rows = 0;
  for (const match of section.matchAll(ROW)) {
    rows += 1;
    const [, file, words] = match;
    const test = texts.get(file!);
    const line = lineOf(readme, offset + match.index);
    if (test === undefined) amiss(line, `names ${file}, which is not there`);
    else if (!titlesIn(test).some((title) => title.includes(words!))) {
      amiss(line, `no test of ${file} has "${words}" in its name`);
    }
  }
  if (rows !== lines) amiss(lineOf(readme, offset), `${lines - rows} threats name no test`);
  return violations;
}

/** What stands between the quotes of each test's name. */
function titlesIn(text: string): string[] {
  return [...text.matchAll(/\btest(?:\.skipIf\([^\n]*?\))?\(\s*(["`])((?:(?!\1).)*)\1/g)].map(
    (match) => match[2]!,
  );
}
