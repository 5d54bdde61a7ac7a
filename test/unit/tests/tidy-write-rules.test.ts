/**
 * Goal: the check that the write rules are at home in one README (helpers/tidy/write-rules.ts)
 * finds each way in which a rule, a citation or a test can be lost.
 *
 * Method: a small tree with two rules that is right; one change at a time.
 */
import { expect, test } from "bun:test";
import {
  checkWriteRules,
  type RuleBreak,
  WRITE_RULES_HOME,
} from "../../helpers/tidy/write-rules.ts";

/** In two parts, so that nothing here is a citation itself. */
const RULES = "write-" + "rules";

const README = `# raid5

### Rows
#### 1. Parity first
What it asks for.
- Prevents: a loss.
- Kept by: \`stripe/write-strategy.ts\`,
  \`array/x.ts\`
- Tests: \`test/unit/plan.test.ts\`

#### 2. A flush
What it asks for.
- Prevents: another loss.
- Kept by: \`stripe/write-strategy.ts\`
- Tests: \`test/unit/plan.test.ts\`, \`test/sim/rules.test.ts\`
`;

const BREAKS: readonly RuleBreak[] = [
  { rule: 1, file: "src/array/x.ts" },
  { rule: 1, file: "src/raid5/stripe/write-strategy.ts" },
  { rule: null, file: "src/md/x.ts" },
];

function tree(changes: Readonly<Record<string, string | null>> = {}): Map<string, string> {
  const files = new Map([
    [WRITE_RULES_HOME, README],
    ["src/raid5/stripe/write-strategy.ts", `/** Keeps ${RULES} 1 and 2. */`],
    ["src/array/x.ts", `// (${RULES}\n * 1).`],
    ["test/unit/plan.test.ts", 'test("rule 1: x", f);\ntest("plan: rule 2: y", f);'],
    ["test/sim/rules.test.ts", 'test("rule 2: z", f);'],
  ]);
  for (const [path, text] of Object.entries(changes)) {
    if (text === null) files.delete(path);
    else files.set(path, text);
  }
  return files;
}

function amiss(changes: Readonly<Record<string, string | null>>): string[] {
  return checkWriteRules(tree(changes), BREAKS).map(({ path, message }) => `${path}: ${message}`);
}

function readmeAmiss(from: string, to: string): string[] {
  expect(README).toContain(from);
  return amiss({ [WRITE_RULES_HOME]: README.replace(from, to) }).map((line) => {
    return line.replace(`${WRITE_RULES_HOME}: `, "");
  });
}

test("write rules: a tree that is right: no word", () => {
  expect(checkWriteRules(tree(), BREAKS)).toEqual([]);
});

test("write rules: cited and not listed: told with the place, in every wording", () => {
  for (const citation of [
    `${RULES} 3`,
    `${RULES}\n * 3`,
    `${RULES}\n// 3`,
    `${RULES} 1 and 3`,
    `${RULES} 1, 2 and 3`,
    `${RULES} 1, 3`,
    `${"rule"} 3`,
    `${"Rule"} 3: x`,
    `${"rules"} 1, and 3`,
  ]) {
    const [violation, ...more] = checkWriteRules(tree({ "src/md/x.ts": `x\n${citation}` }), BREAKS);
    expect(violation).toEqual({
      path: "src/md/x.ts",
      line: 2,
      message: "cites rule 3, which does not exist",
    });
    expect(more).toEqual([]);
  }
  for (const prose of ["rules, 3 of them", "ruler 3", "rule three", "rules of 3", "rule-3"]) {
    expect(amiss({ "src/md/x.ts": prose })).toEqual([]);
  }
});

test("write rules: no list at all: told", () => {
  const lines = amiss({ [WRITE_RULES_HOME]: null });
  expect(lines).toContain(`${WRITE_RULES_HOME}: lists no write rules`);
});

test("write rules: a number left out, or twice: told", () => {
  expect(readmeAmiss("#### 2.", "#### 3.")).toContain("rule 3 stands where 2 belongs");
  expect(readmeAmiss("#### 2.", "#### 1.")).toContain("rule 1 stands where 2 belongs");
});

test("write rules: what it prevents is not said: told", () => {
  const message = "rule 1 does not say what it prevents";
  expect(readmeAmiss("- Prevents: a loss.\n", "")).toEqual([message]);
  expect(readmeAmiss("Prevents: a loss.", "Prevents:")).toEqual([message]);
});

test("write rules: nobody keeps it, or a file that is not there: told", () => {
  expect(readmeAmiss("- Kept by: `stripe/write-strategy.ts`,\n  `array/x.ts`\n", "")).toEqual([
    "rule 1 names no file that keeps it",
  ]);
  expect(amiss({ "src/array/x.ts": null })).toEqual([
    `${WRITE_RULES_HOME}: rule 1 is kept by array/x.ts, which does not exist`,
  ]);
  expect(readmeAmiss("`array/x.ts`", "`array/x.ts`, `write-strategy.ts`")).toEqual([
    "rule 1 is kept by write-strategy.ts, which does not exist",
  ]);
});

test("write rules: no test guards it, or one that is none: told", () => {
  expect(readmeAmiss("- Tests: `test/unit/plan.test.ts`\n", "")).toEqual([
    "rule 1 names no test that guards it",
  ]);
  expect(amiss({ "test/sim/rules.test.ts": null })).toEqual([
    `${WRITE_RULES_HOME}: rule 2 names test/sim/rules.test.ts, which is no test`,
  ]);
  expect(readmeAmiss("`test/unit/plan.test.ts`\n\n", "`src/array/x.ts`\n\n")).toEqual([
    "rule 1 names src/array/x.ts, which is no test",
  ]);
});

test("write rules: no test is named for it: told; one of several is enough", () => {
  const misnamed = 'test("rule 1: rule 22: z", f);';
  expect(amiss({ "test/sim/rules.test.ts": misnamed })).toEqual([
    "test/sim/rules.test.ts: cites rule 22, which does not exist",
  ]);
  expect(amiss({ "test/unit/plan.test.ts": 'test("rule 1: x", f);' })).toEqual([]);
  expect(amiss({ "test/unit/plan.test.ts": 'test("rule 2: x", f);' })).toEqual([
    `${WRITE_RULES_HOME}: none of its tests is named for rule 1`,
  ]);
});

test("write rules: a mutation breaks it in a file that is not named: told once", () => {
  const more = { rule: 2, file: "src/array/x.ts" };
  expect(checkWriteRules(tree(), [...BREAKS, more, more]).map(({ message }) => message)).toEqual([
    "a mutation breaks rule 2 in src/array/x.ts, which it does not name",
  ]);
});
