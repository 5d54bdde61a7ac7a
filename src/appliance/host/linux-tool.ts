/**
 * Programs of the host that parityd asks (smartctl, ledctl): each a child process with a deadline
 * and a bound on what it may print, which nothing here ever waits for longer.
 *
 * | it                                    | the answer                | and then               |
 * |---------------------------------------|---------------------------|------------------------|
 * | is not installed                      | `absent`                  |                        |
 * | cannot be started                     | `failed`                  |                        |
 * | ends                                  | `exited`, with its output |                        |
 * | has not ended at its deadline         | `late`                    | all of it is killed    |
 * | prints more than it may               | `flooded`                 | the same               |
 * | was `late` for this key, and is alive | `stuck`                   | nothing is started     |
 *
 * A process that waits in the kernel for a drive cannot be killed: it stays until the drive
 * answers, and `key` (a drive) costs one such process at most. It gets the environment that it
 * needs and none of ours; a folder of PATH counts where it is whole.
 */
import { isAbsolute } from "node:path";

export type ToolAnswer =
  | { readonly kind: "absent" }
  | { readonly kind: "failed"; readonly detail: string }
  | {
      readonly kind: "exited";
      /** Null: ended by a signal. */
      readonly exitCode: number | null;
      readonly stdout: string;
      /** The first line of it. */
      readonly complaint: string;
    }
  | { readonly kind: "late" }
  | { readonly kind: "flooded" }
  | { readonly kind: "stuck" };

export interface ToolRequest {
  readonly program: string;
  readonly words: readonly string[];
  /** What it is about: nothing is started for a key whose last process is still there. */
  readonly key: string;
  readonly deadlineMs: number;
  readonly outputBytesMax: number;
}

export interface ToolRunner {
  /** Processes that are past their deadline, and still there. */
  readonly overdueCount: number;
  run(request: ToolRequest): Promise<ToolAnswer>;
  /** Ends what runs. */
  stop(): void;
}

/** A host without any tool. */
export const NO_TOOLS: ToolRunner = {
  overdueCount: 0,
  run: () => Promise.resolve({ kind: "absent" }),
  stop: () => {},
};

const STANDARD_PATH = [
  "/usr/local/sbin",
  "/usr/sbin",
  "/sbin",
  "/usr/local/bin",
  "/usr/bin",
  "/bin",
];
const COMPLAINT_BYTES_MAX = 4_096;

/** As one PATH; an empty or relative folder would be wherever the daemon was started. */
export function toolFolders(path: string | undefined): string {
  const given = (path ?? "").split(":").filter(isAbsolute);
  return [...given, ...STANDARD_PATH].join(":");
}

export class ProcessTools implements ToolRunner {
  private readonly path: string;
  /** By key. */
  private readonly alive = new Map<string, Bun.Subprocess>();
  private readonly overdue = new Set<Bun.Subprocess>();

  constructor(path: string | undefined = process.env["PATH"]) {
    this.path = toolFolders(path);
  }

  async run(request: ToolRequest): Promise<ToolAnswer> {
    const { key, program } = request;
    if (this.alive.has(key)) return { kind: "stuck" };
    const file = Bun.which(program, { PATH: this.path });
    if (file === null) return { kind: "absent" };
    try {
      const child = Bun.spawn([file, ...request.words], {
        ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe", cwd: "/" },
        env: { PATH: this.path, LC_ALL: "C" },
        // A process group of its own, so that what it has started ends with it.
        detached: true,
      } as const);
      this.alive.set(key, child);
      void child.exited.then(() => {
        this.alive.delete(key);
        this.overdue.delete(child);
      });
      const outcome = await outcomeOf(child, request);
      if (outcome.kind === "late" && this.alive.get(key) === child) this.overdue.add(child);
      return outcome;
    } catch (error) {
      return { kind: "failed", detail: error instanceof Error ? error.message : String(error) };
    }
  }

  get overdueCount(): number {
    return this.overdue.size;
  }

  stop(): void {
    for (const child of this.alive.values()) killAll(child);
  }
}

type Child = Bun.Subprocess<"ignore", "pipe", "pipe">;

async function outcomeOf(child: Child, request: ToolRequest): Promise<ToolAnswer> {
  const { deadlineMs, outputBytesMax } = request;
  const out = new Output(child.stdout, outputBytesMax);
  const complaints = new Output(child.stderr, COMPLAINT_BYTES_MAX);
  const late = Promise.withResolvers<"late">();
  const timer = setTimeout(() => late.resolve("late"), deadlineMs);
  const ended = Promise.all([child.exited, out.end, complaints.end]).then(() => "ended" as const);
  const flood = out.flood.then(() => "flooded" as const);
  const first = await Promise.race([ended, flood, late.promise]);
  clearTimeout(timer);
  if (first !== "ended") {
    killAll(child);
    out.leave();
    complaints.leave();
    return { kind: first };
  }
  const complaint = complaints.text().trim().split("\n")[0] ?? "";
  return { kind: "exited", exitCode: child.exitCode, stdout: out.text(), complaint };
}

function killAll(child: Bun.Subprocess): void {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
}

interface ByteReader {
  read(): Promise<{ readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
}

/** What a process prints, up to a bound; beyond it is read no more. */
class Output {
  /** When all of it is there, or nobody wants more. */
  readonly end: Promise<void>;
  /** Resolves when there is more than was allowed; else never. */
  readonly flood: Promise<void>;
  private readonly reader: ByteReader;
  private readonly parts: Uint8Array[] = [];
  private bytes = 0;

  constructor(stream: ReadableStream<Uint8Array>, bytesMax: number) {
    const flood = Promise.withResolvers<void>();
    this.flood = flood.promise;
    this.reader = stream.getReader() as ByteReader;
    this.end = this.read(bytesMax, flood.resolve).catch(() => {});
  }

  private async read(bytesMax: number, flooded: () => void): Promise<void> {
    for (;;) {
      const { value } = await this.reader.read();
      if (value === undefined) return;
      this.bytes += value.length;
      if (this.bytes > bytesMax) {
        flooded();
        return;
      }
      this.parts.push(value);
    }
  }

  leave(): void {
    void this.reader.cancel().catch(() => {});
  }

  text(): string {
    return Buffer.concat(this.parts).toString("utf8");
  }
}
