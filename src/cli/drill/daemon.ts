/** The daemon under test: this same executable as `serve`, a child process. */
import { readFileSync } from "node:fs";
import { err, ok, type Result } from "../../base/result.ts";
import { attempt } from "./attempt.ts";
import { within } from "./deadline.ts";

const START_SECONDS = 30;
const STOP_SECONDS = 30;
/** One that was not asked to stop in time is killed. */
const END_SECONDS = 5;
const LOG_TAIL_LINES = 12;
const READY_PATTERN = /^ready api=(.+) nbd=(.+)$/m;

export interface DaemonOptions {
  /** What runs parityd: the executable alone, or the runtime and main.ts. */
  readonly command: readonly string[];
  readonly stateDir: string;
  readonly runDir: string;
  readonly logPath: string;
}

/** How this process was started. */
export function ownCommand(): string[] {
  const isCompiled = Bun.main.startsWith("/$bunfs/");
  return isCompiled ? [process.execPath] : [process.execPath, Bun.main];
}

export class DrillDaemon {
  readonly nbdPath: string;
  private readonly child: Bun.Subprocess<"ignore", "pipe", Bun.BunFile>;
  private readonly logPath: string;

  private constructor(options: {
    child: Bun.Subprocess<"ignore", "pipe", Bun.BunFile>;
    logPath: string;
    nbdPath: string;
  }) {
    this.child = options.child;
    this.logPath = options.logPath;
    this.nbdPath = options.nbdPath;
  }

  /** Starts it and waits for its `ready` line. `onChild` is handed what ends it before that. */
  static async start(
    { command, stateDir, runDir, logPath }: DaemonOptions,
    onChild: (end: () => Promise<void>) => void,
  ): Promise<Result<DrillDaemon, string>> {
    // The configuration of the host is for the host's own daemon.
    const words = ["serve", "--config", "/dev/null", "--state-dir", stateDir, "--run-dir", runDir];
    const child = Bun.spawn([...command, ...words, "--allow-fault-injection"], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: Bun.file(logPath),
    });
    onChild(async () => {
      child.kill("SIGTERM");
      const ended = await within(child.exited, { seconds: END_SECONDS, what: "the daemon" });
      if (!ended.ok) child.kill("SIGKILL");
      await child.exited;
    });
    const ready = await within(readyLine(child.stdout), {
      seconds: START_SECONDS,
      what: "the start of the daemon",
    });
    if (!ready.ok) return ready;
    const match = READY_PATTERN.exec(ready.value);
    if (match === null) {
      const exitCode = await child.exited;
      return err(`the daemon did not start (exit code ${exitCode}): ${lastLine(logPath)}`);
    }
    return ok(new DrillDaemon({ child, logPath, nbdPath: match[2]! }));
  }

  /** Why the daemon is not there any more, or null. */
  get failure(): string | null {
    const { exitCode, signalCode } = this.child;
    if (exitCode === null && signalCode === null) return null;
    return `the daemon ended (${signalCode ?? `exit code ${exitCode}`}): ${lastLine(this.logPath)}`;
  }

  /** SIGTERM; it must drain, mark the array clean and exit 0. */
  async stop(): Promise<Result<undefined, string>> {
    if (this.failure !== null) return err(this.failure);
    this.child.kill("SIGTERM");
    const what = "the stop of the daemon";
    const ended = await within(this.child.exited, { seconds: STOP_SECONDS, what });
    if (!ended.ok) return ended;
    return ended.value === 0 ? ok() : err(this.failure ?? "the daemon did not exit 0");
  }

  logTail(): string[] {
    return logLines(this.logPath).slice(-LOG_TAIL_LINES);
  }
}

/** What the daemon says until its first line is whole; all there is where it ends before that. */
async function readyLine(stdout: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  const reader = stdout.getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
  }
  reader.releaseLock();
  return text;
}

/** None where it was never written. */
function logLines(path: string): string[] {
  const text = attempt(() => readFileSync(path, "utf8"));
  return text.ok ? text.value.trimEnd().split("\n") : [];
}

function lastLine(path: string): string {
  return logLines(path).at(-1) ?? "it said nothing";
}
