/**
 * The programs that a benchmark starts: run to the end, or kept until the benchmark is over.
 *
 * Whatever is still running when this process exits is killed, by its own id.
 */
import { readdirSync, readFileSync } from "node:fs";
import { assert } from "../../src/base/assert.ts";

const alive = new Set<Bun.Subprocess>();

export function keep<T extends Bun.Subprocess>(child: T): T {
  alive.add(child);
  void child.exited.then(() => alive.delete(child));
  return child;
}

export function killAll(): void {
  for (const child of alive) child.kill("SIGKILL");
}

process.on("exit", killAll);

/** Runs a program that must succeed; answers with its stdout. */
export async function runToEnd(words: readonly string[]): Promise<string> {
  const child = Bun.spawn([...words], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  keep(child);
  const [stdout, stderr, exitCode] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  assert(exitCode === 0, `${words.slice(0, 3).join(" ")} succeeds: exit ${exitCode}: ${stderr}`);
  return stdout;
}

/** Waits until `isReady`, as long as the process lives. */
export async function waitUntil(child: Bun.Subprocess, isReady: () => boolean): Promise<void> {
  const endMs = performance.now() + 30_000;
  while (!isReady()) {
    const isAlive = child.exitCode === null && child.signalCode === null;
    assert(isAlive && performance.now() < endMs, "the program gets ready");
    await Bun.sleep(1);
  }
}

export async function stop(child: Bun.Subprocess): Promise<void> {
  child.kill("SIGTERM");
  await child.exited;
}

/** Microseconds of CPU that a process has used, threads that have ended included: 10 ms steps. */
export function cpuMicros(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, "latin1");
  // Fields count from behind the name, which may hold anything.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

/** Microseconds of CPU of the threads that live now: exact. */
export function threadMicros(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const [running] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ");
    nanoseconds += Number(running);
  }
  return nanoseconds / 1000;
}

/** Bytes of memory that a process has in RAM. */
export function residentBytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1]) * 1024;
}
