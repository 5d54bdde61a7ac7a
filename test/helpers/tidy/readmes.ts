/**
 * A README is a map: it names every file of its folder, and no file that is not there.
 *
 * A README has the .ts and .tsx files of its folder and of the folders below, down to those that
 * have a README of their own. A name is in backquotes, and leads from the README's folder:
 *
 *   src/raid5/README.md   has src/raid5/members/flusher.ts as   `members/flusher.ts`
 *   test/README.md        has test/unit/base/time.test.ts as    `unit/base/`
 *
 * Below test/ a folder stands for the files that lie directly in it, as tests say themselves what
 * they are for; what lies beside the README is named file by file.
 */
import { posix } from "node:path";
import { LAYERS } from "./layers.ts";
import { isSource, lineOf, type Violation } from "./source.ts";

/** `wiring` is two files: they are told of in src/README.md. */
export const README_FOLDERS: readonly string[] = [
  "src",
  ...LAYERS.filter((layer) => layer !== "wiring").map((layer) => `src/${layer}`),
  "test",
  "test/sim",
  "test/life",
];

const README = "README.md";
const SOURCE_NAME = /(?<![\w./*-])[\w./-]*\w\.tsx?\b(?!\.\w)/g;
const FOLDER_NAME = /`([\w.-][\w./-]*\/)`/g;

/** `readmes`: their texts by path. `paths`: all files of src/, test/ and ffi/. */
export function checkReadmes(
  readmes: ReadonlyMap<string, string>,
  paths: readonly string[],
  folders: readonly string[] = README_FOLDERS,
): Violation[] {
  const violations: Violation[] = [];
  for (const folder of folders) {
    const path = `${folder}/${README}`;
    if (!readmes.has(path)) violations.push({ path, line: 0, message: "is not there" });
  }
  const homes = [...readmes.keys()].map((path) => posix.dirname(path));
  for (const [path, text] of readmes) {
    const home = posix.dirname(path);
    const named = new Set([...text.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!));
    for (const file of paths) {
      if (!isSource(file) || homeOf(file, homes) !== home) continue;
      const name = posix.relative(home, file);
      const folder = `${posix.dirname(name)}/`;
      const isInFolder = home.startsWith("test") && folder !== "./" && named.has(folder);
      if (named.has(name) || isInFolder) continue;
      violations.push({ path, line: 0, message: `does not name ${name}` });
    }
    violations.push(...strangersIn(path, text, paths));
  }
  return violations;
}

/** The deepest folder with a README that a file lies in. */
function homeOf(file: string, homes: readonly string[]): string | undefined {
  const above = homes.filter((home) => file.startsWith(`${home}/`));
  return above.sort((one, other) => other.length - one.length)[0];
}

/** Names that lead nowhere: from the README's folder, from src/ or test/, or from the top. */
function strangersIn(path: string, text: string, paths: readonly string[]): Violation[] {
  const home = posix.dirname(path);
  const from = [home, home.split("/")[0]!, "."];
  const leads = (name: string, isThere: (target: string) => boolean): boolean =>
    from.some((folder) => isThere(posix.normalize(posix.join(folder, name))));
  const files = new Set(paths);
  const violations: Violation[] = [];
  for (const match of text.matchAll(SOURCE_NAME)) {
    if (leads(match[0], (target) => files.has(target))) continue;
    const message = `names ${match[0]}, which is not there`;
    violations.push({ path, line: lineOf(text, match.index), message });
  }
  for (const match of text.matchAll(FOLDER_NAME)) {
    const name = match[1]!;
    if (leads(name, (target) => paths.some((file) => file.startsWith(target)))) continue;
    const message = `names the folder ${name}, which is not there`;
    violations.push({ path, line: lineOf(text, match.index), message });
  }
  return violations;
}
