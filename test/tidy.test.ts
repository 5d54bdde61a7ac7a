/**
 * The tree keeps its own rules: layers, purity, sizes, headers, nothing left over.
 *
 * Method: the rules (helpers/tidy/) are pure functions. First they meet planted violations
 * of every kind, and the nearest thing that is allowed; then every file of the tree. The rules that
 * look at more than one file are planted in unit/tests/tidy-*.test.ts.
 */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkAssertions } from "./helpers/tidy/assertions.ts";
import { checkCircles } from "./helpers/tidy/circles.ts";
import { checkFile, checkLists } from "./helpers/tidy/file.ts";
import {
  checkLayers,
  checkPage,
  checkPurity,
  checkSets,
  checkWorkers,
  LAYERS,
  ROOTS,
} from "./helpers/tidy/layers.ts";
import { checkReadmes } from "./helpers/tidy/readmes.ts";
import { checkLeftovers, checkShape, checkTopEntries } from "./helpers/tidy/shape.ts";
import { blank, type Violation } from "./helpers/tidy/source.ts";
import { checkThreats } from "./helpers/tidy/threats.ts";
import { checkWriteRules } from "./helpers/tidy/write-rules.ts";
import { MUTATIONS } from "./mutations/mutations.ts";

const TOP = resolve(import.meta.dir, "..");

function messages(violations: readonly Violation[]): string[] {
  return violations.map(({ line, message }) => `${line}: ${message}`);
}

test("threats: a line without its test, a test that is not there: found", () => {
  const table = (rows: string[]) =>
    [
      "## Threat model",
      "",
      "| who | test |",
      "|---|---|",
      ...rows,
      "",
      "## Next",
      "| x | y |",
    ].join("\n");
  const judge = (rows: string[]) => {
    const texts = new Map([
      ["src/api/README.md", table(rows)],
      ["test/a.test.ts", 'test("one: two", () => {});\n'],
    ]);
    return messages(checkThreats(texts));
  };
  expect(judge(["| me | `test/a.test.ts`: two |"])).toEqual([]);
  expect(judge(["| me | `test/a.test.ts`: three |"])).toEqual([
    '5: no test of test/a.test.ts has "three" in its name',
  ]);
  expect(judge(["| me | `test/b.test.ts`: two |"])).toEqual([
    "5: names test/b.test.ts, which is not there",
  ]);
  expect(judge(["| me | nothing |"])).toEqual(["1: 1 threats name no test"]);
  expect(messages(checkThreats(new Map()))).toContain('0: has no "## Threat model"');
});

describe("layers", () => {
  const files = [...LAYERS.map((layer) => `src/${layer}/x.ts`), ...ROOTS];
  const rank = (path: string): number => Math.min(files.indexOf(path), LAYERS.length);

  for (const from of files) {
    for (const to of files) {
      const isAllowed = rank(to) <= rank(from);
      test(`layers: ${from} imports ${to}: ${isAllowed ? "allowed" : "refused"}`, () => {
        const specifier = `${"../".repeat(from.split("/").length - 1)}${to}`;
        for (const source of [
          `import { x } from "${specifier}";`,
          `import type { X } from '${specifier}';`,
          `export * from "${specifier}";`,
          `import "${specifier}";`,
          `const x = await import("${specifier}");`,
          `let x: import("${specifier}").X;`,
          `import {\n  x,\n  type Y,\n} from\n  "${specifier}";`,
        ]) {
          expect(checkLayers(from, source)).toHaveLength(isAllowed ? 0 : 1);
        }
      });
    }
  }

  test("layers: ffi: only its users import it", () => {
    const importing = (from: string): number => {
      const up = "../".repeat(from.split("/").length - 1);
      return checkLayers(from, `import { x } from "${up}ffi/libc.ts";`).length;
    };
    const users = [
      ...ROOTS,
      "src/reactor/linux-aio.ts",
      "src/block/aio-device.ts",
      "src/appliance/linux-system.ts",
      "ffi/libaio.ts",
    ];
    for (const user of users) expect([user, importing(user)]).toEqual([user, 0]);
    const others = [
      ...LAYERS.map((layer) => `src/${layer}/x.ts`),
      "src/block/linux-x.ts",
      "src/nbd/linux-x.ts",
      "src/reactor/deeper/linux-x.ts",
      "src/reactor/not-linux-x.ts",
      "src/appliance/aio-device.ts",
    ];
    for (const other of others) expect([other, importing(other)]).toEqual([other, 1]);
  });

  test("layers: other places: ffi only ffi, src nothing outside, no file without layer", () => {
    expect(messages(checkLayers("ffi/a.ts", 'import "../src/base/assert.ts";'))).toEqual([
      "1: ffi/ imports only ffi/, not src/base/assert.ts",
    ]);
    expect(messages(checkLayers("src/main.ts", '\nimport "../test/helpers/x.ts";'))).toEqual([
      "2: imports from outside src/ and ffi/: test/helpers/x.ts",
    ]);
    for (const path of ["src/other.ts", "src/misc/x.ts"]) {
      expect(messages(checkLayers(path, ""))).toEqual(["0: in no layer, and no composition root"]);
    }
    expect(checkLayers("test/unit/x.test.ts", 'import "../../src/main.ts";')).toEqual([]);
  });

  test("layers: a computed import: refused", () => {
    for (const source of ["await import(name);", "await import(`../api/x.ts`);", "require(name)"]) {
      expect(messages(checkLayers("src/base/x.ts", source))).toEqual([
        "1: a computed import cannot be checked",
      ]);
    }
  });

  test("layers: an import in a comment or a string: not one", () => {
    const source = `
      // import { x } from "../api/x.ts";
      /* import("../api/x.ts") */
      const a = 'import "../api/x.ts"';
      const b = \`from "../api/x.ts" \${"import '../api/x.ts'"}\`;
      const c = /import "..\\/api\\/x.ts"/;
    `;
    expect(checkLayers("src/base/x.ts", source)).toEqual([]);
  });
});

describe("purity", () => {
  const impure = [
    "const now = Date.now();",
    "new Date()",
    "globalThis.Date.now()",
    "performance.now()",
    "const { now } = performance;",
    "Math.random()",
    "Math . random",
    "crypto.getRandomValues(bytes)",
    "crypto.randomUUID()",
    "randomBytes(4)",
    "setTimeout(f, 1)",
    "setInterval(f, 1)",
    "setImmediate(f)",
    "globalThis.setTimeout(f)",
    "queueMicrotask(f)",
    'import { readFileSync } from "node:fs";',
    'import type { Socket } from "node:net";',
    'import { ptr } from "bun:ffi";',
    'import { sleep } from "bun";',
    'const fs = require("node:fs");',
    'await import("node:fs")',
    "Bun.sleepSync(1)",
    "f(...Bun.argv)",
    "process.env.HOME",
    'process.env["HOME"]',
    "process.hrtime()",
    'process["env"]',
    "`#{Date.now()}`".replaceAll("#", "$"),
    "`a #{`b #{{ c: 1 }.c} #{performance.now()}`} d`".replaceAll("#", "$"),
    "const half = width / 2; Date.now(); const x = y / 3;",
    "if (/[/'\"]/.test(x)) Date.now();",
  ];
  const pure = [
    "// Date.now() in a comment",
    "/* setTimeout */",
    'const text = "Date.now() Bun.x process.env node:fs";',
    "const text = 'it\\'s Math.random()';",
    "const text = `performance #{x} Bun.x`;".replaceAll("#", "$"),
    "const pattern = /Date|setTimeout/;",
    "timers.setTimeout(f)",
    "clock.performance",
    "const upDate = Dates + BunDate;",
    "function process(x: number) { return x; } process(1);",
    "sub.process.env",
    "Math.floor(1)",
    'import { x } from "./node-list.ts";',
  ];
  const pureLayers = LAYERS.slice(0, LAYERS.indexOf("nbd") + 1);

  for (const [index, source] of impure.entries()) {
    test(`purity: planted ${index} ${JSON.stringify(source)}: refused from base to nbd`, () => {
      for (const layer of pureLayers) {
        expect(checkPurity(`src/${layer}/x.ts`, source)).toHaveLength(1);
        expect(checkPurity(`src/${layer}/deeper/x.ts`, source)).toHaveLength(1);
        expect(checkPurity(`src/${layer}/linux-x.ts`, source)).toEqual([]);
      }
      expect(checkPurity("src/block/aio-device.ts", source)).toEqual([]);
      expect(checkPurity("src/raid5/aio-device.ts", source)).toHaveLength(1);
      for (const layer of ["appliance", "api", "cli"]) {
        expect(checkPurity(`src/${layer}/x.ts`, source)).toEqual([]);
      }
      for (const root of ROOTS) expect(checkPurity(root, source)).toEqual([]);
    });
  }

  for (const [index, source] of pure.entries()) {
    test(`purity: innocent ${index} ${JSON.stringify(source)}: allowed`, () => {
      expect(checkPurity("src/base/x.ts", source)).toEqual([]);
    });
  }

  test("purity: a violation on the third line: named with line, layer and word", () => {
    expect(messages(checkPurity("src/md/x.ts", "/*\n*/\nconst t = Date.now();"))).toEqual([
      "3: md may not use Date",
    ]);
  });
});

describe("sets", () => {
  test("sets: bits of roles by the operators: refused in raid5 and array", () => {
    for (const source of [
      "const bits = 1 << role;",
      "if ((unknown & ~(1<<(role))) !== 0) return;",
      "const first = 31 - Math.clz32(bits);",
    ]) {
      for (const path of ["src/raid5/x.ts", "src/array/x.ts"]) {
        expect(checkSets(path, source)).toHaveLength(1);
      }
      expect(checkSets("src/block/x.ts", source)).toEqual([]);
    }
  });

  test("sets: a place in a word of a map, and text: allowed", () => {
    const source = "words[index >>> 5]! |= 1 << (index & 31); // 1 << role";
    expect(checkSets("src/raid5/x.ts", source)).toEqual([]);
  });
});

describe("page", () => {
  const count = (path: string, source: string): number => checkPage(path, source).length;

  test("page: types of the daemon, values of base and its own: allowed, others refused", () => {
    for (const source of [
      'import type { A } from "../array/statuses.ts";',
      'import type {\n  A,\n  B,\n} from "../../appliance/findings.ts";',
      'import { formatBytes } from "../base/units.ts";',
      'import { x } from "./x.ts";',
      'import { render } from "preact";',
      'import uPlot from "uplot";',
    ]) {
      expect([source, count("src/page/x.tsx", source)]).toEqual([source, 0]);
    }
    for (const source of [
      'import { A } from "../array/statuses.ts";',
      'import type { B } from "../array/x.ts";\nimport { A, type B } from "../array/statuses.ts";',
      'import "../api/app.ts";',
      'import { z } from "zod";',
      'import { readFileSync } from "node:fs";',
      "Bun.sleep(1);",
      "process.exit(1);",
    ]) {
      expect([source, count("src/page/x.tsx", source)]).toEqual([source, 1]);
    }
  });

  test("page: its libraries elsewhere: refused", () => {
    expect(count("src/cli/x.ts", 'import { h } from "preact";')).toBe(1);
    expect(count("src/cli/x.ts", 'import { h } from "preact-render";')).toBe(0);
  });
});

describe("workers", () => {
  test("workers: new Worker: allowed in main.ts only", () => {
    const source = 'const worker = new Worker(new URL("./x.ts", import.meta.url));';
    expect(checkWorkers("src/main.ts", source)).toEqual([]);
    expect(checkWorkers("test/bench/run.ts", source)).toEqual([]);
    for (const path of ["src/reactor-main.ts", "src/cli/x.ts", "src/base/x.ts", "ffi/x.ts"]) {
      expect(checkWorkers(path, source)).toHaveLength(1);
    }
    expect(checkWorkers("src/cli/x.ts", "// new Worker(\nnew WorkerPool()")).toEqual([]);
  });
});

describe("shape", () => {
  const header = "/** What it is. */\n";

  test("shape: lines: 500 allowed, 501 refused, and tests are free", () => {
    const fits = header + "x;\n".repeat(499);
    for (const path of ["src/base/x.ts", "ffi/x.ts"]) {
      expect(checkShape(path, fits)).toEqual([]);
      expect(messages(checkShape(path, `${fits}x;\n`))).toEqual(["0: 501 lines; at most 500"]);
    }
    expect(checkShape("test/unit/x.test.ts", `${fits}x;\n`)).toEqual([]);
  });

  test("shape: lines: a listed file may have 560, and leaves the list with 500", () => {
    const listed = new Set(["src/base/x.ts"]);
    const check = (lines: number): string[] =>
      messages(checkShape("src/base/x.ts", header + "x;\n".repeat(lines - 1), listed));
    expect(check(501)).toEqual([]);
    expect(check(560)).toEqual([]);
    expect(check(561)).toEqual(["0: 561 lines; at most 560"]);
    expect(check(500)).toEqual(["0: at most 500 lines now: take it off LONG_FILES"]);
  });

  test("shape: columns: 100 allowed, 101 refused", () => {
    expect(checkShape("test/x.ts", `${header}${"é".repeat(100)}\n`)).toEqual([]);
    expect(messages(checkShape("test/x.ts", `${header}${"é".repeat(101)}\n`))).toEqual([
      "2: 101 columns; at most 100",
    ]);
  });

  test("shape: header: a block comment with words comes first", () => {
    for (const source of ["", "const x = 1;", "// What it is.\n", "/** */\n", '"/** x */"']) {
      expect(messages(checkShape("src/base/x.ts", source))).toEqual([
        "1: begins with no header comment",
      ]);
    }
    expect(checkShape("src/base/x.ts", "/**\n * What it is.\n */\n")).toEqual([]);
  });

  test("shape: tests switched off: refused, and conditional ones allowed", () => {
    for (const word of ["skip", "only", "todo"]) {
      for (const object of ["test", "it", "describe", "test.concurrent", "describe\n  "]) {
        const source = `${header}${object}.${word}("name", f);`;
        expect(checkShape("test/x.test.ts", source)).toHaveLength(1);
      }
      expect(checkShape("test/x.test.ts", `${header}const x = "test.${word}(";`)).toEqual([]);
    }
    for (const word of ["xtest", "xit", "xdescribe"]) {
      expect(checkShape("test/x.test.ts", `${header}${word}("name", f);`)).toHaveLength(1);
    }
    const conditional = `${header}test.skipIf(!needs("fio"))("name [needs fio]", f);`;
    expect(checkShape("test/x.test.ts", conditional)).toEqual([]);
  });
});

describe("leftovers", () => {
  test("leftovers: words for unfinished work: refused in any text", () => {
    for (const word of ["TO DO", "FIX ME", "XX X"].map((parts) => parts.replace(" ", ""))) {
      expect(checkLeftovers("README.md", `a\n${word}: b`)).toHaveLength(1);
      expect(checkLeftovers("src/base/x.ts", `"${word}"`)).toHaveLength(1);
      expect(checkLeftovers("src/base/x.ts", `x${word}x`)).toEqual([]);
    }
  });

  test("leftovers: paths of one machine: refused", () => {
    for (const folder of ["work", "farm"]) {
      expect(checkLeftovers("test/x.ts", `cd /${folder}/x`)).toHaveLength(1);
      expect(checkLeftovers("test/x.ts", `"/${folder}/x"`)).toHaveLength(1);
      expect(checkLeftovers("test/x.ts", `net/${folder}/x`)).toEqual([]);
      expect(checkLeftovers("test/x.ts", `/${folder}er`)).toEqual([]);
    }
  });

  test("leftovers: top level: only what the design lists", () => {
    expect(checkTopEntries(["src", "README.md", ".ci"])).toEqual([]);
    expect(checkTopEntries(["docs", "src", "notes.md"]).map(({ path }) => path)).toEqual([
      "docs",
      "notes.md",
    ]);
  });
});

describe("blank", () => {
  test("blank: every construct: as long as the source, line ends kept", () => {
    const path = join(import.meta.dir, "helpers", "tidy", "source.ts");
    for (const source of [
      readFileSync(path, "utf8"),
      readFileSync(import.meta.path, "utf8"),
      "'unclosed\nx",
      "`unclosed",
      "/* unclosed",
      "a / b / c",
      "x = /[/]/ / 2",
    ]) {
      const lineEnds = (text: string): string => text.replace(/[^\n]/g, "");
      expect(lineEnds(blank(source).code)).toBe(lineEnds(source));
    }
    expect(blank("x = /[/]'/ / y; 'a'").code).toBe("x = /      / y; ' '");
    const template = "f(`a#{b}c#{`d`}`)".replaceAll("#", "$");
    expect(blank(template).code).toBe("f(` #{b} #{` `}`)".replaceAll("#", "$"));
  });
});

describe("tree", () => {
  const ignored = readFileSync(join(TOP, ".gitignore"), "utf8").split("\n");
  const isIgnored = (name: string): boolean =>
    ignored.some(
      (pattern) => pattern !== "" && new Bun.Glob(pattern.replace(/\/$/, "")).match(name),
    );
  const topEntries = readdirSync(TOP).filter((name) => !isIgnored(name));
  const isText =
    /\.(?:tsx?|md|json|toml|service|timer|yml|yaml|sh|py|html|css)$|^\.ci\/|^\.gitignore$/;
  const filesBelow = (name: string): string[] => {
    if (!statSync(join(TOP, name)).isDirectory()) return [name];
    const glob = new Bun.Glob("**/*");
    return [...glob.scanSync({ cwd: join(TOP, name), dot: true })].map((file) => `${name}/${file}`);
  };
  const texts = topEntries
    .filter((name) => name !== ".git")
    .flatMap(filesBelow)
    .filter((path) => isText.test(path) && !path.startsWith("test/fixtures/"));

  test("tree: the top level: only what the design lists", () => {
    expect(checkTopEntries(topEntries)).toEqual([]);
  });

  test("tree: every text file: keeps every rule", () => {
    const isNotALock = (path: string): boolean => path !== "package-lock.json";
    const violations = texts
      .filter(isNotALock)
      .flatMap((path) => checkFile(path, readFileSync(join(TOP, path), "utf8")))
      .map(({ path, line, message }) => `${path}:${line}: ${message}`);
    expect(violations).toEqual([]);
    expect(texts).toContain("src/base/assert.ts");
    expect(texts).toContain("test/tidy.test.ts");
    expect(texts).toContain(".ci/run");
  });

  test("tree: src as a whole: no circle, enough assertions, no list beyond what there is", () => {
    const inSrc = texts.filter((path) => path.startsWith("src/"));
    const sources = new Map(inSrc.map((path) => [path, readFileSync(join(TOP, path), "utf8")]));
    expect(checkCircles(sources)).toEqual([]);
    expect(checkAssertions(sources)).toEqual([]);
    expect(checkLists((path) => sources.has(path))).toEqual([]);
  });

  test("tree: write rules and threats: at home, kept and guarded", () => {
    const cited = texts.filter((path) => /^(?:src|test)\/.*\.(?:ts|md)$/.test(path));
    const byPath = new Map(cited.map((path) => [path, readFileSync(join(TOP, path), "utf8")]));
    expect(checkWriteRules(byPath, MUTATIONS)).toEqual([]);
    expect(checkThreats(byPath)).toEqual([]);
  });

  test("tree: READMEs: one in each folder, with all of its files and no others", () => {
    const paths = ["src", "test", "ffi"].flatMap(filesBelow);
    const readmes = texts.filter((path) => /^(?:src|test)\/(?:.*\/)?README\.md$/.test(path));
    const byPath = new Map(readmes.map((path) => [path, readFileSync(join(TOP, path), "utf8")]));
    expect(checkReadmes(byPath, paths)).toEqual([]);
    expect(byPath.size).toBeGreaterThan(10);
  });

  test("tree: package-lock.json: names no registry host", () => {
    const lock = readFileSync(join(TOP, "package-lock.json"), "utf8");
    expect([...lock.matchAll(/"resolved"|https?:\/\/[^"]*\.tgz/g)]).toHaveLength(0);
  });
});
