/**
 * `npm test`: sets up the host, builds dist/parityd, runs every test, and says how it went.
 *
 *   bun test/run.ts [--all] [--require-packages] [--budget-minutes=N] [words] [paths]
 *
 * Without paths it runs all of test/**\/*.test.ts; of the long enumerations the share of the day
 * (helpers/share.ts), with --all everything. --update-timings writes test/timings.json, by which
 * the longest files begin first. The last line is always
 * `N passed, N failed, N skipped`, and the exit code is 1 when a test failed or anything that was
 * to run did not. With --require-packages, or CI=true in the environment, a test that is skipped
 * for want of a package counts as failed where the package could have been installed.
 */
import { existsSync, rmSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative, resolve } from "node:path";
import { runBunTest } from "./helpers/bun-test.ts";
import {
  countLine,
  judge,
  namedNeeds,
  slowestFiles,
  type Verdict,
  withProblems,
} from "./helpers/junit.ts";
import { packageOf } from "./helpers/needs.ts";
import { dateOfDay, TAKES_ALL, TODAY } from "./helpers/share.ts";
import { makeOwnedDir, tempBase } from "./helpers/temp.ts";
import { canInstall, installMissing, prepareLab, realHost, realLabHost } from "./setup.ts";

const TOP = resolve(import.meta.dir, "..");
const BUDGET_MINUTES = 40;
const ALL_BUDGET_MINUTES = 240;
/** Many tests wait for a disk, a guest or a deadline: one more than there are cores. */
const PROCESSES_BESIDE = 1;
const PROCESSES_MAX = 4;
/** With one, Bun 1.4.5 runs the files in the runner itself, which a bad test then takes along. */
const PROCESSES_MIN = 2;

const SLOWEST_COUNT = 10;
const TIMINGS = "test/timings.json";

/** Options of `bun test` whose value is the next word. */
const VALUED_OPTIONS = new Set(["-t", "--test-name-pattern", "--seed", "--retry", "--rerun-each"]);

interface Plan {
  readonly files: readonly string[];
  readonly words: readonly string[];
  readonly budgetMs: number;
  readonly requiresPackages: boolean;
  readonly takesAll: boolean;
  readonly problems: readonly string[];
}

function testFiles(folder: string): string[] {
  const found = [...new Bun.Glob("**/*.test.ts").scanSync({ cwd: folder })];
  return found.map((name) => relative(TOP, join(folder, name))).sort();
}

function plan(argumentList: readonly string[]): Plan {
  const words: string[] = [];
  const problems: string[] = [];
  const files = new Set<string>();
  const ci = process.env["CI"] ?? "";
  let requiresPackages = ci !== "" && ci !== "false";
  let takesAll = TAKES_ALL;
  let budgetMinutes = argumentList.includes("--all") ? ALL_BUDGET_MINUTES : BUDGET_MINUTES;
  let hasPaths = false;
  for (let index = 0; index < argumentList.length; index += 1) {
    const word = argumentList[index]!;
    if (word === "--require-packages") requiresPackages = true;
    else if (word === "--all") takesAll = true;
    else if (word.startsWith("--budget-minutes=")) budgetMinutes = Number(word.split("=")[1]);
    else if (VALUED_OPTIONS.has(word)) {
      words.push(word, argumentList[index + 1] ?? "");
      index += 1;
    } else if (word.startsWith("-")) words.push(word);
    else {
      hasPaths = true;
      const path = resolve(word);
      if (!existsSync(path)) problems.push(`${word}: no such file or folder`);
      else if (!statSync(path).isDirectory()) files.add(relative(TOP, path));
      else for (const file of testFiles(path)) files.add(file);
    }
  }
  if (!(budgetMinutes > 0)) {
    problems.push("--budget-minutes takes a number above 0");
    budgetMinutes = BUDGET_MINUTES;
  }
  const chosen = hasPaths ? [...files] : testFiles(join(TOP, "test"));
  const budgetMs = budgetMinutes * 60_000;
  return { files: chosen, words, budgetMs, requiresPackages, takesAll, problems };
}

/** How many files run at a time. */
function processCount(): number {
  const wanted = availableParallelism() + PROCESSES_BESIDE;
  return Math.max(PROCESSES_MIN, Math.min(wanted, PROCESSES_MAX));
}

function report(xml: string | undefined, cpuSeconds: number): void {
  console.log(`the slowest of ${cpuSeconds.toFixed(0)} CPU seconds in all:`);
  for (const { file, seconds } of slowestFiles(xml, SLOWEST_COUNT)) {
    console.log(`${seconds.toFixed(1).padStart(8)} s  ${file}`);
  }
}

/** Builds the executable; what went wrong, if anything did. */
function build(): string[] {
  rmSync(join(TOP, "dist", "parityd"), { force: true }); // No test may run yesterday's program.
  const { success } = Bun.spawnSync([process.execPath, "build.ts"], {
    cwd: TOP,
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
  });
  return success ? [] : ["build.ts: the executable could not be built"];
}

/** Whether a pattern chooses tests by name: the report then calls all others skipped. */
function isFiltered(words: readonly string[]): boolean {
  return words.some((word) => word === "-t" || word.startsWith("--test-name-pattern"));
}

/** Tests skipped for want of a package that could have been installed. */
function avoidableSkips({ skippedTests }: Verdict): string[] {
  const problems: string[] = [];
  for (const { file, name } of skippedTests) {
    for (const need of namedNeeds(name)) {
      const debianPackage = packageOf(need);
      if (debianPackage === undefined) continue;
      problems.push(`${file}: skipped for want of ${debianPackage}: ${name}`);
    }
  }
  return problems;
}

async function main(): Promise<Verdict> {
  const chosen = plan(process.argv.slice(2));
  const { files, words, budgetMs, requiresPackages, takesAll, problems } = chosen;
  const host = realHost();
  installMissing(host);
  const { isUnready: isLabUnready } = prepareLab(realLabHost());
  const buildProblems = build();
  if (files.length === 0) {
    // Without a file to run, `bun test` would run them all.
    const nothing = judge({ xml: undefined, exitCode: 0, expectedFiles: [] });
    return withProblems(nothing, [...problems, ...buildProblems]);
  }
  const folder = makeOwnedDir(tempBase());
  const share: Record<string, string> = {
    PARITYD_TEST_DAY: dateOfDay(TODAY),
    ...(takesAll ? { PARITYD_TEST_SHARE: "all" } : {}),
  };
  try {
    const result = await runBunTest({
      folder: TOP,
      files,
      words,
      processCount: processCount(),
      timingsPath: TIMINGS,
      budgetMs,
      reportPath: join(folder, "junit.xml"),
      environment: { PARITYD_TEST_TMP: folder, ...share },
    });
    report(result.xml, result.cpuSeconds);
    const judged = judge({ ...result, expectedFiles: files });
    const verdict = isFiltered(words) ? { ...judged, skippedTests: [] } : judged;
    const further = [...problems, ...buildProblems];
    if (result.isOverBudget) {
      further.push(`the time budget of ${budgetMs / 60_000} minutes is used up: stopped`);
    }
    if (requiresPackages && canInstall(host)) {
      further.push(...avoidableSkips(verdict));
      if (isLabUnready) further.push("the kernel lab is there, and could not be set up");
    }
    return withProblems(verdict, further);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const verdict = await main();
console.log(`shares of PARITYD_TEST_DAY=${dateOfDay(TODAY)}`);
for (const { file, name } of verdict.skippedTests) console.log(`skipped: ${file}: ${name}`);
for (const problem of verdict.problems) console.log(`failed: ${problem}`);
console.log(countLine(verdict));
process.exit(verdict.failed === 0 ? 0 : 1);
