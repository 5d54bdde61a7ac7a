/**
 * Goal: the rules against polls (helpers/tidy/polls.ts) and for assertions
 * (helpers/tidy/assertions.ts) find what they are to find, and the lists of files shrink only.
 *
 * Method: planted polls of every shape, each with the nearest wait that is none.
 */
import { describe, expect, test } from "bun:test";
import { checkAssertions } from "../../helpers/tidy/assertions.ts";
import { checkLists } from "../../helpers/tidy/file.ts";
import { checkPolls } from "../../helpers/tidy/polls.ts";

const NONE: ReadonlySet<string> = new Set();

function pollsOf(source: string): number[] {
  return checkPolls("src/array/x.ts", source, NONE).map(({ line }) => line);
}

describe("polls", () => {
  const planted = [
    "while (isBusy) await timers.sleep(1);",
    "while (await timers.sleep(1)) look();",
    "while (isBusy) {\n  look();\n  await this.timers.sleep(POLL_MS);\n}",
    "for (;;) {\n  if (isDone()) return;\n  await sleep(alarms, 5);\n}",
    "for (const x of list) if (x) {\n  a();\n} else await sleep(1);",
    "for await (const x of list) await sleep(1);",
    "do {\n  await sleep(1);\n} while (isBusy);",
    "do await sleep(1);\nwhile (isBusy);",
    "while (a) {\n  try {\n    b();\n  } finally {\n    await Bun.sleep(1);\n  }\n}",
    "while (a) Bun.sleepSync(1);",
    "function look() {\n  sleep(1).then(() => look());\n}",
    "class X {\n  private async look(): Promise<void> {\n    await sleep(1);\n    await this.look();\n  }\n}",
    "const look = async (x: number): Promise<void> => {\n  await sleep(1);\n  return look(x + 1);\n};",
    "while (a) {\n  // Waits a moment.\n  await sleep(1);\n}",
    "while (a) {\n  // Polls:\n  await sleep(1);\n}",
    "// Polls: nothing tells of it.\nlook();\nwhile (a) {\n  look();\n  await sleep(1);\n}",
  ];
  const allowed = [
    "await timers.sleep(1);",
    "while (isBusy) look();\nawait timers.sleep(1);",
    "while (isBusy) {\n  look();\n}\nawait timers.sleep(1);",
    "for (const x of list) if (x) {\n  a();\n}\nawait sleep(1);",
    "do {\n  look();\n} while (isBusy);\nawait sleep(1);",
    "function sleep(ms: number): Promise<void> {\n  return new Promise((f) => later(f, ms));\n}",
    "class X {\n  sleep(ms: number): Promise<void> {\n    while (a) b();\n    return c;\n  }\n}",
    "function look() {\n  return sleep(1);\n}\nfunction other() {\n  return look();\n}",
    "while (a) daemonSleep(1);",
    "while (a) b(sleepMs);",
    'while (a) print("sleep(1)"); // sleep(1)',
    "list.for(1); await sleep(1);",
    "while (a) await sleep(1); // Polls: nothing tells that there is room again.",
    "while (a) {\n  // Polls: nothing tells that there is room again.\n  await sleep(1);\n}",
    "while (a) {\n  // Polls: nothing tells that a file system\n  // has room again.\n  await sleep(1);\n}",
  ];

  for (const [index, source] of planted.entries()) {
    test(`polls: planted ${index} ${JSON.stringify(source)}: found`, () => {
      const line = source.slice(0, source.search(/\bsleep(?:Sync)?\(/)).split("\n").length;
      expect(pollsOf(source)).toEqual([line]);
    });
  }

  for (const [index, source] of allowed.entries()) {
    test(`polls: allowed ${index} ${JSON.stringify(source)}: no word`, () => {
      expect(pollsOf(source)).toEqual([]);
    });
  }

  test("polls: outside of src: not the rule's business", () => {
    expect(checkPolls("test/helpers/until.ts", planted[0]!, NONE)).toEqual([]);
  });

  test("polls: a listed file: allowed, until it polls no longer", () => {
    const listed = new Set(["src/array/x.ts"]);
    expect(checkPolls("src/array/x.ts", planted[0]!, listed)).toEqual([]);
    expect(checkPolls("src/array/y.ts", planted[0]!, listed)).toHaveLength(1);
    for (const source of [allowed[0]!, allowed[12]!]) {
      expect(checkPolls("src/array/x.ts", source, listed)).toEqual([
        { path: "src/array/x.ts", line: 0, message: "polls no longer: take it off KNOWN_POLLS" },
      ]);
    }
  });
});

describe("assertions", () => {
  const lines = (count: number, ...sources: string[]): string =>
    `${[...sources, ...new Array<string>(count - sources.length).fill("x;")].join("\n")}\n`;

  test("assertions: one in so many lines of the layer as a whole: enough", () => {
    const sources = new Map([
      ["src/raid5/x.ts", lines(3)],
      ["src/raid5/rows/y.ts", lines(17, "assert(x > 0, text);", "return unreachable(x);")],
      ["src/array/z.ts", lines(500)],
    ]);
    expect(checkAssertions(sources, { raid5: 10 })).toEqual([]);
    sources.set("src/raid5/x.ts", lines(4));
    expect(checkAssertions(sources, { raid5: 10 })).toEqual([
      { path: "src/raid5", line: 0, message: "2 assertions in 21 lines; at least one in 10" },
    ]);
  });

  test("assertions: only calls count: no import, comment, string or other name", () => {
    for (const source of [
      'import { assert } from "x";',
      "// assert(x)",
      'print("assert(x)");',
      "this.assert(x);",
      "assertIsFine(x);",
      "my_assert(x);",
    ]) {
      expect(checkAssertions(new Map([["src/md/x.ts", source]]), { md: 10 })).toHaveLength(1);
    }
    for (const source of ["assertShared(x);", "if (a) assert\n(x);", "unreachable(x);"]) {
      expect(checkAssertions(new Map([["src/md/x.ts", source]]), { md: 10 })).toEqual([]);
    }
  });
});

describe("lists", () => {
  test("lists: a file that is not there: told", () => {
    const exists = (path: string): boolean => path === "src/a.ts";
    expect(checkLists(exists, [new Set(["src/a.ts"])])).toEqual([]);
    const [violation, ...more] = checkLists(exists, [new Set(["src/a.ts"]), new Set(["src/b.ts"])]);
    expect(violation?.path).toBe("src/b.ts");
    expect(more).toEqual([]);
  });
});
