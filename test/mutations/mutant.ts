/**
 * A copy of the tree in which one mutation at a time is made, and its test run.
 *
 * A mutant is caught when its test fails by itself. A test that does not come to its end within
 * the budget, or that could not even be loaded, has noticed nothing.
 */
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Mutation } from "./mutations.ts";

/** So many waits in vain fit into the budget of one mutant. */
const WAITS_IN_BUDGET = 4;

const TOP = resolve(import.meta.dir, "../..");
const COPIED = ["src", "ffi", "test", "package.json", "tsconfig.json", "bunfig.toml", "build.ts"];
/** A mutant's test runs whole, whatever the day, with a part of the usual crash images. */
const WHOLE = { PARITYD_TEST_SHARE: "all", CRASH_FACTOR: "0.2" };

export type Verdict =
  /** With the name of the first test that failed. */
  | { readonly kind: "caught"; readonly by: string }
  | { readonly kind: "survived" }
  | { readonly kind: "over-budget" }
  /** `find` does not occur exactly once, or nothing could be run. */
  | { readonly kind: "broken"; readonly why: string };

export function occurrences(mutation: Pick<Mutation, "file" | "find">, folder = TOP): number {
  const path = join(folder, mutation.file);
  if (!existsSync(path)) return 0;
  return readFileSync(path, "utf8").split(mutation.find).length - 1;
}

export class MutantTree {
  readonly folder: string;

  constructor() {
    this.folder = mkdtempSync(join(process.env["PARITYD_TEST_TMP"] ?? tmpdir(), "mutants-"));
    for (const name of COPIED) {
      cpSync(join(TOP, name), join(this.folder, name), { recursive: true });
    }
    symlinkSync(join(TOP, "node_modules"), join(this.folder, "node_modules"));
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Makes the mutation, runs its test, and takes the mutation back. */
  async judge(mutation: Mutation, budgetMs: number): Promise<Verdict> {
    const count = occurrences(mutation, this.folder);
    if (count !== 1) return { kind: "broken", why: `find occurs ${count} times` };
    const path = join(this.folder, mutation.file);
    const original = readFileSync(path, "utf8");
    writeFileSync(
      path,
      original.replace(mutation.find, () => mutation.replace),
    );
    try {
      return await this.run(mutation.test, budgetMs);
    } finally {
      writeFileSync(path, original);
    }
  }

  private async run(words: readonly string[], budgetMs: number): Promise<Verdict> {
    const environment: Record<string, string | undefined> = {
      ...{ ...process.env, ...WHOLE },
      // What a mutant's test waits for may never come.
      PARITYD_TEST_LIMIT_MS: String(budgetMs / WAITS_IN_BUDGET),
    };
    for (const name of ["BUN_TEST_WORKER_ID", "JEST_WORKER_ID", "NODE_ENV"]) {
      delete environment[name];
    }
    const runner = Bun.spawn([process.execPath, "test", `--timeout=${budgetMs}`, ...words], {
      cwd: this.folder,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
      detached: true,
      env: environment,
    });
    let isOverBudget = false;
    const timer = setTimeout(() => {
      isOverBudget = true;
      process.kill(-runner.pid, "SIGKILL");
    }, budgetMs);
    const text = await new Response(runner.stderr).text();
    const exitCode = await runner.exited;
    clearTimeout(timer);
    if (isOverBudget) return { kind: "over-budget" };
    if (exitCode === 0) return { kind: "survived" };
    const failed = /^\(fail\) (.*?)(?: \[[\d.]+m?s\])?$/m.exec(text);
    if (failed === null) return { kind: "broken", why: text.trim().slice(-400) };
    return { kind: "caught", by: failed[1]! };
  }
}
