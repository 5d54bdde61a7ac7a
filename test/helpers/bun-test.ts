/**
 * Runs `bun test` over a list of files in a process group of its own, within a time budget.
 *
 * Always with `--parallel` of 2 or more: each file then has its own globals, a crash costs one
 * file, and a runner that is stopped still writes its report and names the files that were under
 * way (Bun 1.4.5). When the budget is used up the runner is asked to stop, then the whole group is
 * killed, with whatever programs the tests had started.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { TEST_LIMIT_MS } from "./test-limit.ts";

const STOP_GRACE_MS = 10_000;

export interface BunTestOptions {
  /** Folder from which the paths of `files` count. */
  readonly folder: string;
  readonly files: readonly string[];
  /** Passed through to `bun test`. */
  readonly words: readonly string[];
  /** At least 2. */
  readonly processCount: number;
  /** How long files took before: the longest begin first. */
  readonly timingsPath?: string;
  readonly budgetMs: number;
  /** Where the JUnit report goes. */
  readonly reportPath: string;
  readonly isQuiet?: boolean;
  /** Added to the environment. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface BunTestResult {
  readonly exitCode: number;
  readonly xml: string | undefined;
  readonly isOverBudget: boolean;
  /** Of the runner and all that it waited for. */
  readonly cpuSeconds: number;
}

/** A test runner inside of another one is no worker of it. */
function environmentOutsideTests(): Record<string, string | undefined> {
  const environment: Record<string, string | undefined> = { ...process.env };
  for (const name of ["BUN_TEST_WORKER_ID", "JEST_WORKER_ID", "NODE_ENV"]) delete environment[name];
  return environment;
}

function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal);
  } catch {
    // The group is gone already.
  }
}

export async function runBunTest(options: BunTestOptions): Promise<BunTestResult> {
  const { folder, files, words, processCount, budgetMs, reportPath } = options;
  rmSync(reportPath, { force: true });
  const output = options.isQuiet === true ? "ignore" : "inherit";
  const runner = Bun.spawn(
    [
      process.execPath,
      "test",
      `--parallel=${processCount}`,
      `--timeout=${TEST_LIMIT_MS}`,
      "--reporter=junit",
      `--reporter-outfile=${reportPath}`,
      ...(options.timingsPath === undefined ? [] : [`--timings=${options.timingsPath}`]),
      ...words,
      ...files.map((file) => `./${file}`),
    ],
    {
      cwd: folder,
      stdin: "ignore",
      stdout: output,
      stderr: output,
      detached: true,
      env: { ...environmentOutsideTests(), ...options.environment },
    },
  );

  let isOverBudget = false;
  const stop = (): void => {
    runner.kill("SIGINT");
    setTimeout(() => signalGroup(runner.pid, "SIGKILL"), STOP_GRACE_MS).unref();
  };
  const budget = setTimeout(() => {
    isOverBudget = true;
    stop();
  }, budgetMs);
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  const exitCode = await runner.exited;
  clearTimeout(budget);
  process.off("SIGINT", stop);
  process.off("SIGTERM", stop);
  // A runner that was stopped leaves behind what its tests had started.
  if (exitCode > 1) signalGroup(runner.pid, "SIGKILL");

  const xml = existsSync(reportPath) ? readFileSync(reportPath, "utf8") : undefined;
  const cpuSeconds = Number(runner.resourceUsage()?.cpuTime.total ?? 0) / 1e6;
  return { exitCode, xml, isOverBudget, cpuSeconds };
}
