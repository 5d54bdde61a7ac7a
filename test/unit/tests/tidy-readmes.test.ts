/**
 * Goal: the check that READMEs are maps of their folders (helpers/tidy/readmes.ts) finds each file
 * that is left out and each name that leads nowhere.
 *
 * Method: a small tree that is right; one change at a time.
 */
import { expect, test } from "bun:test";
import { checkReadmes, README_FOLDERS } from "../../helpers/tidy/readmes.ts";

const PATHS = [
  "src/main.ts",
  "src/wiring/x.ts",
  "src/raid5/engine.ts",
  "src/raid5/rows/row.ts",
  "src/raid5/rows/row.json",
  "test/run.ts",
  "test/unit/raid5/engine.test.ts",
  "test/unit/raid5/row.test.ts",
  "test/sim/sim.test.ts",
  "ffi/libc.ts",
];
const READMES: Readonly<Record<string, string>> = {
  "src/README.md": "`main.ts` and `wiring/x.ts`; see `raid5/rows/row.ts` and ffi/libc.ts.",
  "src/raid5/README.md": "| `engine.ts` | x |\n| `rows/row.ts`, `md/` | y, main.ts |",
  "test/README.md": "`run.ts`\n`unit/raid5/`: `bun test ./test/sim/sim.test.ts`",
  "test/sim/README.md": "`sim.test.ts`, `unit/raid5/row.test.ts`, `linux-*.ts`, x.tsb",
};
const FOLDERS = ["src", "src/raid5", "test", "test/sim"];

function amiss(
  changes: Readonly<Record<string, string | null>> = {},
  paths: readonly string[] = PATHS,
): string[] {
  const readmes = new Map(Object.entries(READMES));
  for (const [path, text] of Object.entries(changes)) {
    if (text === null) readmes.delete(path);
    else readmes.set(path, text);
  }
  return checkReadmes(readmes, [...paths, "src/md/y.ts"], FOLDERS)
    .filter(({ message }) => message !== "does not name md/y.ts")
    .map(({ path, line, message }) => `${path}:${line}: ${message}`);
}

test("readmes: every file named, every name leads somewhere: no word", () => {
  expect(amiss()).toEqual([]);
});

test("readmes: a folder without one: told, and its files fall to the one above", () => {
  expect(amiss({ "src/raid5/README.md": null })).toEqual([
    "src/raid5/README.md:0: is not there",
    "src/README.md:0: does not name raid5/engine.ts",
  ]);
});

test("readmes: a file left out, beside it or below it: told", () => {
  for (const [path, name] of [
    ["src/raid5/new.ts", "new.ts"],
    ["src/raid5/rows/new.ts", "rows/new.ts"],
    ["src/raid5/deep/er/new.ts", "deep/er/new.ts"],
  ] as const) {
    expect(amiss({}, [...PATHS, path])).toEqual([`src/raid5/README.md:0: does not name ${name}`]);
  }
});

test("readmes: another form of a name: not enough", () => {
  for (const form of ["row.ts", "`row.ts`", "rows/row.ts", "`./rows/row.ts`", "`rows/`"]) {
    const text = `\`engine.ts\` ${form}`;
    expect(amiss({ "src/raid5/README.md": text })).toContain(
      "src/raid5/README.md:0: does not name rows/row.ts",
    );
  }
});

test("readmes: below test a folder stands for its files, not for those below, nor beside", () => {
  expect(amiss({}, [...PATHS, "test/unit/raid5/new.test.ts"])).toEqual([]);
  expect(amiss({}, [...PATHS, "test/unit/raid5/deep/new.test.ts"])).toEqual([
    "test/README.md:0: does not name unit/raid5/deep/new.test.ts",
  ]);
  expect(amiss({}, [...PATHS, "test/new.ts"])).toEqual(["test/README.md:0: does not name new.ts"]);
  expect(amiss({ "test/README.md": "`run.ts` `unit/`" })).toEqual([
    "test/README.md:0: does not name unit/raid5/engine.test.ts",
    "test/README.md:0: does not name unit/raid5/row.test.ts",
  ]);
});

test("readmes: a name that leads nowhere, in whatever form: told with its line", () => {
  for (const name of ["gone.ts", "`rows/gone.ts`", "`../raid5/gone.ts`", "src/gone.ts", "-x.ts"]) {
    const text = `${READMES["src/raid5/README.md"]}\nsee ${name}`;
    const bare = name.replaceAll("`", "");
    expect(amiss({ "src/raid5/README.md": text })).toEqual([
      `src/raid5/README.md:3: names ${bare}, which is not there`,
    ]);
  }
  const text = `${READMES["src/raid5/README.md"]}\n\`gone/\``;
  expect(amiss({ "src/raid5/README.md": text })).toEqual([
    "src/raid5/README.md:3: names the folder gone/, which is not there",
  ]);
});

test("readmes: paths of the system and words: no names of ours", () => {
  const text = `${READMES["src/raid5/README.md"]}\n\`/dev/\` \`a b/\` and/or x.ts.bak`;
  expect(amiss({ "src/raid5/README.md": text })).toEqual([]);
});

test("readmes: the folders that have one: each layer but wiring, and the tests", () => {
  expect(README_FOLDERS).toContain("src/array");
  expect(README_FOLDERS).toContain("test/life");
  expect(README_FOLDERS).not.toContain("src/wiring");
});
