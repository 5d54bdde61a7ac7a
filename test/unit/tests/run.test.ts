/**
 * The test runner reports what happened: goal, that no failure can pass for a success.
 *
 * Method: the pure judging of JUnit reports on samples as Bun 1.4.5 writes them; the set-up of the
 * host on a pretended host; then the real runner on the canary, which fails on purpose, and on
 * small test files that fail in the ways that leave no trace in the report.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { runBunTest } from "../../helpers/bun-test.ts";
import {
  countLine,
  judge,
  namedNeeds,
  parseJunit,
  slowestFiles,
  withProblems,
} from "../../helpers/junit.ts";
import {
  type MissingPackage,
  missingPackages,
  needs,
  packageOf,
  toolPath,
} from "../../helpers/needs.ts";
import { makeOwnedDir, makeTempDir, sweepTempDirs, takesDirectIo } from "../../helpers/temp.ts";
import { type Host, installMissing } from "../../setup.ts";

const TOP = resolve(import.meta.dir, "../../..");
/** Time for the good file under any load; the hanging one sleeps in it. */
const HANG_BUDGET_MS = 8_000;
const HANG = 'test("hang", () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));';
const BUDGET_MS = 300_000;

interface Counts {
  readonly tests: number;
  readonly failures: number;
  readonly skipped: number;
}

/** A report with the given root counts and a flat suite for each of `files`. */
function report({ tests, failures, skipped }: Counts, ...files: string[]): string {
  const suites = files.map((file) => `<testsuite name="${file}" file="${file}"></testsuite>`);
  const counts = `tests="${tests}" assertions="0" failures="${failures}" skipped="${skipped}"`;
  return `<?xml version="1.0"?>\n<testsuites ${counts}>${suites.join("\n")}</testsuites>\n`;
}

const A = "test/unit/a.test.ts";
const B = "test/unit/b.test.ts";

const NESTED = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="bun test" tests="4" assertions="1" failures="1" skipped="2" time="3.6">
  <testsuite name="${A}" file="${A}" tests="3" assertions="0" failures="0" skipped="2" time="1">
    <testsuite name="group" file="${A}" line="3" tests="2" failures="0" skipped="1" time="0">
      <testcase name="a1 &lt;x&gt; &amp; &quot;q&quot;" classname="group" file="${A}" line="3" />
      <testcase name="a2 [needs mdadm]" classname="group" time="0" file="${A}" line="3">
        <skipped />
      </testcase>
    </testsuite>
    <testcase name="a3 &lt;&#10;&#x41;&gt;" classname="" time="0" file="${A}" line="4">
      <skipped />
    </testcase>
  </testsuite>
  <testsuite name="${B}" file="${B}" tests="1" assertions="1" failures="1" skipped="0" time="1">
    <testcase name="b1" classname="" time="1" file="${B}" line="3" assertions="1">
      <failure type="AssertionError" message="&lt;skipped /&gt;">&lt;testsuite&gt;</failure>
    </testcase>
  </testsuite>
</testsuites>
`;

describe("parse", () => {
  test("parse: nested suites: counts of the root, files of the top, skips by full name", () => {
    expect(parseJunit(NESTED)).toEqual({
      ok: true,
      value: {
        tests: 4,
        failures: 1,
        skipped: 2,
        files: [A, B],
        skippedTests: [
          { file: A, name: "group > a2 [needs mdadm]" },
          { file: A, name: "a3 <\nA>" },
        ],
      },
    });
  });

  test("parse: every cut of a report: refused", () => {
    for (let bytes = 0; bytes < NESTED.trimEnd().length; bytes += 1) {
      expect(parseJunit(NESTED.slice(0, bytes)).ok).toBe(false);
    }
  });

  test("parse: the slowest files: by the time of the file, not of its groups", () => {
    expect(
      slowestFiles(NESTED.replace('skipped="0" time="1"', 'skipped="0" time="12.5"'), 5),
    ).toEqual([
      { file: B, seconds: 12.5 },
      { file: A, seconds: 1 },
    ]);
    expect(slowestFiles(NESTED, 1)).toHaveLength(1);
    expect(slowestFiles(undefined, 5)).toEqual([]);
  });

  test("timings: each file that has one: is there", () => {
    const { files } = JSON.parse(readFileSync(join(TOP, "test/timings.json"), "utf8"));
    const gone = Object.keys(files).filter((file) => !existsSync(join(TOP, file)));
    expect(gone).toEqual([]);
  });

  test("parse: no counts: refused", () => {
    expect(parseJunit('<testsuites tests="1" failures="x" skipped="0"></testsuites>').ok).toBe(
      false,
    );
    expect(parseJunit('<testsuites tests="1" skipped="0"></testsuites>').ok).toBe(false);
  });

  test("parse: needs of a name: each of them", () => {
    expect(namedNeeds("x: y: z [needs mdadm]")).toEqual(["mdadm"]);
    expect(namedNeeds("[needs fio, root] and [needs lab]")).toEqual(["fio", "root", "lab"]);
    expect(namedNeeds("needs mdadm")).toEqual([]);
  });
});

describe("judge", () => {
  const line = (xml: string | undefined, exitCode: number, ...expectedFiles: string[]): string =>
    countLine(judge({ xml, exitCode, expectedFiles }));

  test("judge: all went well: counts as they are", () => {
    expect(line(report({ tests: 5, failures: 0, skipped: 2 }, A, B), 0, A, B)).toBe(
      "3 passed, 0 failed, 2 skipped",
    );
  });

  test("judge: failures: counted once", () => {
    expect(line(NESTED, 1, A, B)).toBe("1 passed, 1 failed, 2 skipped");
  });

  test("judge: a file failed to load, exit code 1: named and counted", () => {
    const verdict = judge({
      xml: report({ tests: 2, failures: 0, skipped: 0 }, A),
      exitCode: 1,
      expectedFiles: [A, B],
    });
    expect(countLine(verdict)).toBe("2 passed, 1 failed, 0 skipped");
    expect(verdict.problems.join()).toContain(B);
  });

  test("judge: a file without tests, exit code 0: named and counted", () => {
    expect(line(report({ tests: 2, failures: 0, skipped: 0 }, A), 0, A, B)).toBe(
      "2 passed, 1 failed, 0 skipped",
    );
  });

  test("judge: a failing beforeAll dropped its tests: at least one failed", () => {
    expect(line(report({ tests: 2, failures: 0, skipped: 0 }, A, B), 1, A, B)).toBe(
      "2 passed, 1 failed, 0 skipped",
    );
  });

  test("judge: nothing ran: failed", () => {
    for (const exitCode of [0, 1]) {
      expect(line(report({ tests: 0, failures: 0, skipped: 0 }), exitCode)).toBe(
        "0 passed, 1 failed, 0 skipped",
      );
    }
    expect(line(report({ tests: 3, failures: 0, skipped: 3 }, A), 0, A)).toBe(
      "0 passed, 1 failed, 3 skipped",
    );
    expect(line(report({ tests: 0, failures: 0, skipped: 0 }, A), 0, A)).toBe(
      "0 passed, 1 failed, 0 skipped",
    );
  });

  test("judge: no report, or a broken one: failed, whatever the exit code", () => {
    for (const exitCode of [0, 1, 139]) {
      for (const xml of [undefined, "", "<testsuites", NESTED.slice(0, -20)]) {
        expect(line(xml, exitCode, A)).toBe("0 passed, 1 failed, 0 skipped");
      }
    }
  });

  test("judge: further problems: added to the failures", () => {
    const verdict = judge({ xml: NESTED, exitCode: 1, expectedFiles: [A, B] });
    expect(countLine(withProblems(verdict, ["x", "y"]))).toBe("1 passed, 3 failed, 2 skipped");
  });
});

describe("set-up", () => {
  interface Pretence {
    readonly isRoot?: boolean;
    readonly hasAptGet?: boolean;
    /** Whether apt-get has package lists from the start. */
    readonly hasLists?: boolean;
    readonly unknown?: readonly string[];
    /** Of the two, the one that is not to be installed. */
    readonly unpacked?: string;
  }

  /** A host that lacks mdadm and fio. */
  function pretend(pretence: Pretence) {
    const { isRoot = true, hasAptGet = true, hasLists = true, unknown = [], unpacked } = pretence;
    const installed = new Set<string>();
    const calls: string[] = [];
    const said: string[] = [];
    let lists = hasLists;
    const host: Host = {
      isRoot,
      hasAptGet,
      missing: (): MissingPackage[] =>
        ["mdadm", "fio"]
          .filter((name) => !installed.has(name))
          .map((name) => ({ need: name, debianPackage: name, isUnpacked: name === unpacked })),
      aptGet(words) {
        calls.push(words.join(" "));
        if (words[0] === "update") lists = true;
        if (words[0] !== "install") return true;
        const names = words.filter((word) => word !== "install" && !word.startsWith("-"));
        if (!lists || names.some((name) => unknown.includes(name))) return false;
        for (const name of names) installed.add(name);
        return true;
      },
      unpack(name) {
        calls.push(`unpack ${name}`);
        if (!lists || unknown.includes(name)) return false;
        installed.add(name);
        return true;
      },
      say: (text) => said.push(text),
    };
    const left = installMissing(host).map(({ debianPackage }) => debianPackage);
    return { left, calls, said: said.join("\n") };
  }
  const installBoth = "install --no-install-recommends mdadm fio";

  test("set-up: root with package lists: one install", () => {
    const { left, calls } = pretend({});
    expect({ left, calls }).toEqual({ left: [], calls: [installBoth] });
  });

  test("set-up: no package lists yet: update, then install", () => {
    const { left, calls } = pretend({ hasLists: false });
    expect({ left, calls }).toEqual({ left: [], calls: [installBoth, "update", installBoth] });
  });

  test("set-up: one package unknown: the other is installed, the one is named", () => {
    const { left, said } = pretend({ unknown: ["mdadm"] });
    expect(left).toEqual(["mdadm"]);
    expect(said).toContain("could not install: mdadm");
  });

  test("set-up: a package with a service: unpacked, never installed", () => {
    const good = pretend({ unpacked: "fio" });
    const installOne = "install --no-install-recommends mdadm";
    expect([good.left, good.calls]).toEqual([[], [installOne, "unpack fio"]]);
    const fresh = pretend({ unpacked: "fio", hasLists: false });
    const both = [installOne, "unpack fio"];
    expect([fresh.left, fresh.calls]).toEqual([[], [...both, "update", ...both]]);
    const { left, calls } = pretend({ unpacked: "fio", unknown: ["fio"] });
    expect([
      left,
      calls.filter((call) => call.includes("install") && call.includes("fio")),
    ]).toEqual([...[["fio"], []]]);
  });

  test("set-up: not root, or no apt-get: nothing run, says which and why", () => {
    for (const [pretence, reason] of [
      [{ isRoot: false }, "not root"],
      [{ hasAptGet: false }, "no apt-get"],
    ] as const) {
      const { left, calls, said } = pretend(pretence);
      expect({ left, calls }).toEqual({ left: ["mdadm", "fio"], calls: [] });
      expect(said).toContain(reason);
      expect(said).toContain("mdadm fio");
    }
  });

  test("set-up: libaio: found where the linker's list has it", () => {
    const { stdout } = Bun.spawnSync([toolPath("ldconfig") ?? "ldconfig", "-p"]);
    expect(needs("libaio")).toBe(/\blibaio\.so\.1(?:t64)? /.test(stdout.toString()));
  });

  test("set-up: what needs() says and what is missing: the same", () => {
    const missing = missingPackages().map(({ need }) => need);
    for (const need of [
      "libaio",
      "mdadm",
      "nbdinfo",
      "python3-libnbd",
      "qemu-img",
      "fio",
    ] as const) {
      expect([need, needs(need)]).toEqual([need, !missing.includes(need)]);
      expect(packageOf(need)).toBeString();
    }
    expect(packageOf("root")).toBeUndefined();
    expect(packageOf("no such need")).toBeUndefined();
  });
});

describe("temp", () => {
  test("temp: folders: empty, apart from each other, with room for a socket name", () => {
    const one = makeTempDir("x");
    const two = makeTempDir("x");
    expect(one).not.toBe(two);
    expect(readdirSync(one)).toEqual([]);
    expect(one.length).toBeLessThan(80);
  });

  test("temp: direct I/O: refused where no file can be made", () => {
    expect(takesDirectIo("/proc")).toBe(false);
    expect(takesDirectIo("/no/such/folder")).toBe(false);
  });

  test("temp: sweep: takes the folders of dead processes only", async () => {
    const base = makeTempDir("sweep");
    const child = Bun.spawn(["true"]);
    await child.exited;
    const dead = `parityd-${child.pid}-abcdef`;
    writeFileSync(join(base, dead), "");
    writeFileSync(join(base, "parityd-other"), "");
    const own = makeOwnedDir(base);
    sweepTempDirs(base);
    expect(readdirSync(base).sort()).toEqual([own.slice(base.length + 1), "parityd-other"].sort());
  });
});

describe("runner", () => {
  const run = async (folder: string, files: readonly string[], budgetMs = BUDGET_MS) => {
    const result = await runBunTest({
      folder,
      files,
      words: [],
      processCount: 2,
      budgetMs,
      reportPath: join(makeTempDir("run"), "junit.xml"),
      isQuiet: true,
    });
    return { result, verdict: judge({ ...result, expectedFiles: files }) };
  };

  test("runner: the canary: one failed, one passed", async () => {
    const { result, verdict } = await run(TOP, ["test/canary/canary.ts"]);
    expect(result.exitCode).toBe(1);
    expect(countLine(verdict)).toBe("1 passed, 1 failed, 0 skipped");
    expect(verdict.problems).toEqual([]);
  });

  for (const { situation, source, expected } of [
    { situation: "a passing file", source: 'test("a", () => {});', expected: "2 passed, 0 failed" },
    {
      situation: "throws at load",
      source: 'throw new Error("x");',
      expected: "1 passed, 1 failed",
    },
    { situation: "no tests", source: "export {};", expected: "1 passed, 1 failed" },
    {
      situation: "a failing beforeAll",
      source: 'beforeAll(() => { throw new Error("x"); }); test("a", () => {});',
      expected: "1 passed, 1 failed",
    },
    {
      situation: "a failing afterAll",
      source: 'afterAll(() => { throw new Error("x"); }); test("a", () => {});',
      expected: "2 passed, 1 failed",
    },
    {
      situation: "an exit in the middle",
      source: 'test("a", () => process.exit(0));',
      expected: "1 passed, 1 failed",
    },
  ]) {
    test(`runner: ${situation}: ${expected}`, async () => {
      const folder = makeTempDir("files");
      const head = 'import { afterAll, beforeAll, test } from "bun:test";\n';
      writeFileSync(join(folder, "good.test.ts"), `${head}test("good", () => {});`);
      writeFileSync(join(folder, "other.test.ts"), head + source);
      const { verdict } = await run(folder, ["good.test.ts", "other.test.ts"]);
      expect(countLine(verdict)).toBe(`${expected}, 0 skipped`);
    });
  }

  test("runner: a test that never returns: stopped by the budget, the rest kept", async () => {
    const folder = makeTempDir("files");
    const head = 'import { test } from "bun:test";\n';
    writeFileSync(join(folder, "a-good.test.ts"), `${head}test("good", () => {});`);
    writeFileSync(join(folder, "hang.test.ts"), head + HANG);
    const files = ["a-good.test.ts", "hang.test.ts"];
    const { result, verdict } = await run(folder, files, HANG_BUDGET_MS);
    expect(result.isOverBudget).toBe(true);
    expect(verdict.passed).toBe(1);
    expect(verdict.failed).toBeGreaterThan(0);
  });
});
