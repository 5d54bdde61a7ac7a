/**
 * The write rules are at home in src/raid5/README.md: a comment or a test that cites one finds it
 * there, and each rule there says who keeps it and which tests guard it.
 *
 *   #### 7. What says "done" comes after a flush …      numbered from 1, without a gap
 *   - Prevents: …
 *   - Kept by: `members/flusher.ts`, …                  from src/raid5/ or from src/
 *   - Tests: `test/sim/raid5/rules.test.ts`, …          one of them has a test named "rule 7: …"
 *
 * A mutation that breaks a rule (test/mutations) changes a line that keeps it: its file is among
 * those that are named.
 */
import { lineOf, type Violation } from "./source.ts";

export const WRITE_RULES_HOME = "src/raid5/README.md";

interface WriteRule {
  readonly number: number;
  readonly line: number;
  readonly text: string;
}

/** "write-rules 7", "rule 7", "rules 8, 9 and 22", also where a comment breaks its line. */
const CITATION =
  /\b(?:write-)?rules?[\s*/]+(\d+(?:(?:,[\s*/]+(?:and[\s*/]+)?|[\s*/]+and[\s*/]+)\d+)*)/gi;

/** A line that keeps a rule, as test/mutations knows it. */
export interface RuleBreak {
  /** Null: it keeps none of them. */
  readonly rule: number | null;
  readonly file: string;
}

/** `texts`: every source and README of src/ and test/, by path. */
export function checkWriteRules(
  texts: ReadonlyMap<string, string>,
  breaks: readonly RuleBreak[],
): Violation[] {
  const rules = rulesIn(texts.get(WRITE_RULES_HOME) ?? "");
  const numbers = new Set(rules.map(({ number }) => number));
  const violations: Violation[] = [];
  const home = (line: number, message: string): void => {
    violations.push({ path: WRITE_RULES_HOME, line, message });
  };
  if (rules.length === 0) home(0, "lists no write rules");
  for (const [index, rule] of rules.entries()) {
    const { number, line, text } = rule;
    if (number !== index + 1) home(line, `rule ${number} stands where ${index + 1} belongs`);
    if (!/^- Prevents: \S/m.test(text)) home(line, `rule ${number} does not say what it prevents`);
    const files = breaks.filter((each) => each.rule === number).map(({ file }) => file);
    for (const message of keepersAmiss(rule, texts, files)) home(line, message);
    for (const message of testsAmiss(rule, texts)) home(line, message);
  }
  for (const [path, text] of texts) {
    for (const { number, line } of citationsIn(text)) {
      if (numbers.has(number)) continue;
      violations.push({ path, line, message: `cites rule ${number}, which does not exist` });
    }
  }
  return violations;
}

function rulesIn(readme: string): WriteRule[] {
  return [...readme.matchAll(/^#{2,5} (\d+)\. .*$/gm)].map((match) => {
    const rest = readme.slice(match.index + match[0].length);
    const end = rest.search(/^#/m);
    const text = end < 0 ? rest : rest.slice(0, end);
    return { number: Number(match[1]), line: lineOf(readme, match.index), text };
  });
}

/** The names in backquotes of the item of a list that begins with `label`. */
function namesOf(text: string, label: string): string[] {
  const item = text.split(/^(?=- )|\n\s*\n/m).find((each) => each.startsWith(`- ${label}:`));
  return [...(item ?? "").matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
}

function keepersAmiss(
  { number, text }: WriteRule,
  texts: ReadonlyMap<string, string>,
  broken: readonly string[],
): string[] {
  const names = namesOf(text, "Kept by");
  if (names.length === 0) return [`rule ${number} names no file that keeps it`];
  const strangers = names.filter((name) => !pathsOf(name).some((path) => texts.has(path)));
  const keepers = new Set(names.flatMap(pathsOf));
  const unnamed = [...new Set(broken)].filter((file) => !keepers.has(file));
  return [
    ...strangers.map((name) => `rule ${number} is kept by ${name}, which does not exist`),
    ...unnamed.map((file) => `a mutation breaks rule ${number} in ${file}, which it does not name`),
  ];
}

function pathsOf(name: string): string[] {
  return [`src/raid5/${name}`, `src/${name}`];
}

function testsAmiss({ number, text }: WriteRule, texts: ReadonlyMap<string, string>): string[] {
  const names = namesOf(text, "Tests");
  if (names.length === 0) return [`rule ${number} names no test that guards it`];
  const strangers = names.filter((name) => !name.endsWith(".test.ts") || !texts.has(name));
  if (strangers.length > 0) {
    return strangers.map((name) => `rule ${number} names ${name}, which is no test`);
  }
  const guard = new RegExp(`\\brule ${number}\\b`);
  if (names.some((name) => guard.test(texts.get(name)!))) return [];
  return [`none of its tests is named for rule ${number}`];
}

function citationsIn(text: string): { number: number; line: number }[] {
  return [...text.matchAll(CITATION)].flatMap((match) => {
    const line = lineOf(text, match.index);
    return [...match[1]!.matchAll(/\d+/g)].map((digits) => ({ number: Number(digits[0]), line }));
  });
}
