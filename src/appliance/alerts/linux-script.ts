/**
 * Runs the program of `onEvent` in a process group of its own, and kills the group where it is to
 * end. The program is root's command: one that others may write is not run.
 *
 * What it writes is kept up to `OUTPUT_BYTES_MAX`, then read on slowly and forgotten: a program that
 * floods is held back by its own pipe, and one that only says much still comes to its end.
 */
import { statSync } from "node:fs";
import { trustProblem } from "../host/trusted-file.ts";
import type { ScriptRecord } from "./linux-script-record.ts";
import type { RunScript, ScriptEnd, ScriptRun } from "./script.ts";

const OUTPUT_BYTES_MAX = 1_024;
const SLOW_READ_MS = 50;
/** After its end: a process that it left behind may hold the pipe for ever. */
const LAST_WORDS_MS = 200;
/** A process in the middle of a call to a hung drive dies only when that answers. */
const STUCK_MS = 5_000;

export function scriptRunner(record: ScriptRecord): RunScript {
  return async (run) => runScript(run, record);
}

async function runScript(
  { path, input, environment, signal }: ScriptRun,
  record: ScriptRecord,
): Promise<ScriptEnd> {
  const problem = programProblem(path);
  if (problem !== null) return { kind: "not-run", why: problem };
  let child: Bun.Subprocess<Uint8Array, "pipe", "pipe">;
  try {
    child = Bun.spawn([path], {
      stdin: new TextEncoder().encode(input),
      stdout: "pipe",
      stderr: "pipe",
      env: { ...environment },
      cwd: "/",
      detached: true, // A session and process group of its own, named by its id.
    });
  } catch (error) {
    return { kind: "not-run", why: codeOf(error) };
  }
  record.keep(child.pid);
  const output = new Output();
  const readers = [child.stdout, child.stderr].map((stream) => stream.getReader());
  const read = Promise.all(readers.map((reader) => readAll(reader, output)));
  const killed = new Promise<"killed">((resolve) => {
    const kill = (): void => {
      killGroup(child);
      setTimeout(() => resolve("killed"), STUCK_MS);
    };
    if (signal.aborted) kill();
    else signal.addEventListener("abort", kill, { once: true });
  });
  const isStuck = (await Promise.race([child.exited, killed])) === "killed";
  if (!isStuck) record.forget();
  const cut = new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS));
  await Promise.race([read, cut]);
  for (const reader of readers) void reader.cancel().catch(() => {});
  return isStuck ? { kind: "stuck" } : endOf(child, output.text);
}

/** Why a program is not run, or null. */
export function programProblem(path: string): string | null {
  try {
    const stats = statSync(path);
    if ((stats.mode & 0o111) === 0) return "it is not executable (chmod +x)";
    return trustProblem(stats);
  } catch (error) {
    return codeOf(error);
  }
}

function endOf({ exitCode, signalCode }: Bun.Subprocess, output: string): ScriptEnd {
  if (signalCode !== null) return { kind: "signalled", signal: String(signalCode), output };
  return { kind: "exited", code: exitCode ?? 0, output };
}

/** Only while it has not been waited for: until then its id is nobody else's. */
function killGroup(child: Bun.Subprocess): void {
  if (child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended in this moment.
  }
}

class Output {
  private readonly parts: Uint8Array[] = [];
  private bytes = 0;

  get isFull(): boolean {
    return this.bytes >= OUTPUT_BYTES_MAX;
  }

  get text(): string {
    const text = new TextDecoder().decode(Buffer.concat(this.parts));
    return this.isFull ? `${text}...` : text;
  }

  add(part: Uint8Array): void {
    const kept = part.slice(0, OUTPUT_BYTES_MAX - this.bytes);
    this.parts.push(kept);
    this.bytes += kept.length;
  }
}

interface ByteReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
}

async function readAll(reader: ByteReader, output: Output): Promise<void> {
  for (;;) {
    const part = await reader.read().catch(() => ({ done: true, value: undefined }));
    if (part.done || part.value === undefined) return;
    if (!output.isFull) output.add(part.value);
    // Polls: nothing. What nobody keeps is read so slowly that it costs this thread nothing.
    else await Bun.sleep(SLOW_READ_MS);
  }
}

function codeOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : null;
  return typeof code === "string" ? code : "it cannot be started";
}
