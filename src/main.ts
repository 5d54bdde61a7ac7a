/**
 * parityd: the composition root of the control thread, and the only file that makes workers.
 *
 * It makes the one shared memory, the eventfd and the channel to the reactor, and hands them to the
 * verbs as `startReactor`. A reactor that ends without having been told to takes the process with it
 * (exit 70): the arrays stay dirty, which is safe. A helper that ends costs the call it was in.
 */

import { hostname } from "node:os";
import { createInterface } from "node:readline/promises";
import { MessageChannel, Worker } from "node:worker_threads";
import { libcProblem } from "../ffi/libc.ts";
import { Helper, type HelperThread } from "./appliance/helper/helper.ts";
import type { HelperReply } from "./appliance/helper/helper-protocol.ts";
import { createWakeUp } from "./appliance/host/linux-eventfd.ts";
import type { ReactorOptions, StartedReactor } from "./appliance/start-reactor.ts";
import { poolBytesOf } from "./array/memory-shares.ts";
import type { ReactorConfig, ReactorMessage } from "./array/protocol.ts";
import { createMemory } from "./base/memory.ts";
import { printable, printableLines } from "./base/printable.ts";
import { err, ok, type Result } from "./base/result.ts";
import { Exit } from "./cli/exit.ts";
import type { CliHost, HttpRequest, Terminal } from "./cli/host.ts";
import { runCommandLine } from "./cli/run.ts";
import { SERVED_SIGNALS } from "./cli/signals.ts";
import { pageLines } from "./cli/terminal-text.ts";
import { ALL_COMMANDS } from "./install/table.ts";
import type { Defect } from "./reactor/linux-defect.ts";
import { becomeIoFlusher } from "./reactor/linux-io-flusher.ts";

/** Messages of a worker that has ended may still be on their way. */
const LAST_WORDS_MS = 200;

let hasWorkers = false;
let onOutputClosed = (): void => process.exit(Exit.ok);

async function startReactor(options: ReactorOptions): Promise<Result<StartedReactor, string>> {
  hasWorkers = true;
  // Before there are workers: they inherit it. Whoever attaches without is told.
  becomeIoFlusher();
  const wakeUp = createWakeUp();
  if (!wakeUp.ok) return wakeUp;
  const memory = makeMemory(options.memoryMib);
  if (!memory.ok) return memory;
  const { port1: port, port2: reactorPort } = new MessageChannel();
  const config: ReactorConfig = {
    ...memory.value,
    wakeFd: wakeUp.value.fd,
    firstJobId: options.firstJobId,
    allowFaultInjection: options.allowFaultInjection,
    autoAssemble: options.autoAssemble,
  };
  const worker = new Worker(new URL("./reactor-main.ts", import.meta.url), {
    workerData: { config, port: reactorPort },
    transferList: [reactorPort],
  });
  let listener: ((message: ReactorMessage) => void) | null = null;
  const early: ReactorMessage[] = [];
  let isExpected = false;
  return new Promise((resolve) => {
    let isReady = false;
    const onEnd = (why: string): void => {
      if (!isReady) resolve(err(why));
      else if (!isExpected) leave(why);
    };
    worker.on("error", (error) => onEnd(`the reactor failed: ${describe(error)}`));
    // What it has posted before comes first.
    worker.on("exit", (code) => {
      setTimeout(() => onEnd(`the reactor ended (${code})`), LAST_WORDS_MS);
    });
    port.on("message", (message: ReactorMessage) => {
      if (message.kind === "defect") {
        onEnd(`the reactor failed: ${isReady ? message.stack : message.message}`);
        return;
      }
      if (listener === null) early.push(message);
      else listener(message);
      if (message.kind !== "ready") return;
      isReady = true;
      const { protectedPaths = [] } = options;
      const helper = new Helper({ startThread: startHelperThread, protectedPaths });
      resolve(
        ok({
          opener: helper,
          nbdDriver: helper,
          expectEnd: () => {
            isExpected = true;
          },
          channel: {
            post: (envelope) => {
              port.postMessage(envelope);
              wakeUp.value.ring();
            },
            onMessage: (to) => {
              listener = to;
              for (const missed of early.splice(0)) to(missed);
            },
          },
        }),
      );
    });
  });
}

function makeMemory(
  memoryMib: number,
): Result<{ memory: WebAssembly.Memory; poolBytes: number }, string> {
  const poolBytes = poolBytesOf(memoryMib);
  try {
    return ok({ memory: createMemory(poolBytes), poolBytes });
  } catch (error) {
    return err(`cannot get ${memoryMib} MiB of memory (lower memoryMib): ${describe(error)}`);
  }
}

/** A helper that ends costs the call that it was in: the arrays go on. */
function startHelperThread(): HelperThread {
  const worker = new Worker(new URL("./helper-main.ts", import.meta.url));
  let isExpected = false;
  let onEnd: (why: string) => void = () => {};
  const end = (why: string): void => {
    if (isExpected) return;
    isExpected = true;
    process.stderr.write(`parityd: a helper thread ended: ${why}\n`);
    onEnd(why);
  };
  worker.on("error", (error) => end(describe(error)));
  worker.on("exit", (code) => end(`exit code ${code}`));
  return {
    post: (envelope) => worker.postMessage(envelope),
    onReply: (listener) => {
      worker.on("message", (message: HelperReply | Defect) => {
        if ("kind" in message) end(message.stack);
        else listener(message);
      });
    },
    onEnd: (listener) => {
      onEnd = listener;
    },
    terminate: () => {
      isExpected = true;
      void worker.terminate();
    },
  };
}

/** A defect: nothing here can be trusted to go on. */
function leave(why: string): never {
  process.stderr.write(`parityd: ${why}\n`);
  process.exit(Exit.internal);
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function ask(question: string): Promise<string | null> {
  if (!process.stdin.isTTY) return null;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(question);
  terminal.close();
  return answer.trim();
}

function send(socketPath: string, request: HttpRequest): Promise<Response> {
  const { method, path, headers, body, signal } = request;
  return fetch(`http://parityd${path}`, {
    unix: socketPath,
    method,
    ...(headers === undefined ? {} : { headers }),
    ...(body === undefined ? {} : { body }),
    ...(signal === undefined ? {} : { signal }),
    // The client has limits of its own, by what it asks for.
    timeout: false,
  } as BunFetchRequestInit);
}

/** Of a terminal that does not say. */
const COLUMNS = 80;
const ROWS = 24;

function terminalOf({ isTTY, columns, rows }: typeof process.stdout): Terminal | null {
  if (isTTY !== true) return null;
  const { NO_COLOR = "", TERM } = process.env;
  const hasColours = NO_COLOR === "" && TERM !== "dumb";
  return { columns: columns || COLUMNS, rows: rows || ROWS, hasColours };
}

let isDrawing = false;

/** On the alternate screen: what was there before is there again when the last page is gone. */
function drawPage(page: readonly string[] | null): void {
  const terminal = terminalOf(process.stdout);
  if (terminal === null) return;
  const begin = page === null || isDrawing ? "" : "\u001b[?1049h\u001b[?25l";
  const end = page === null && isDrawing ? "\u001b[?25h\u001b[?1049l" : "";
  isDrawing = page !== null;
  const lines = page === null ? [] : pageLines(page.map(printable), terminal);
  // Each line over the former one: nothing is blank in between.
  const body = page === null ? "" : `\u001b[H${lines.join("\u001b[K\r\n")}\u001b[K\u001b[J`;
  process.stdout.write(`${begin}${body}${end}`);
}

const host: CliHost = {
  // What names and paths hold never reaches a terminal as it is, whoever has put it together.
  print: (line, dressed = (clean) => clean) =>
    void process.stdout.write(`${dressed(printableLines(line))}\n`),
  get terminal() {
    return terminalOf(process.stdout);
  },
  warn: (line) => void process.stderr.write(`${printableLines(line)}\n`),
  // A line that began a second one could not be drawn over.
  redraw: (text) => {
    const line = printable(text).slice(0, (process.stderr.columns || COLUMNS) - 1);
    process.stderr.write(`\r\u001b[2K${line}`);
  },
  isTerminal: process.stderr.isTTY === true,
  progressColumns: process.stderr.columns || COLUMNS,
  networkName: hostname(),
  draw: drawPage,
  ask,
  send,
  startReactor,
  onSignal: (listener) => {
    for (const signal of SERVED_SIGNALS) process.on(signal, () => listener(signal));
  },
  onOutputClosed: (listener) => {
    onOutputClosed = listener;
  },
  exit: (code) => process.exit(code),
};

// Whoever read the output has seen enough (`parityd examine ... | head`). A daemon goes on, also
// where its log cannot be written: there is nobody to tell.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (hasWorkers) return;
  if (error.code !== "EPIPE") leave(error.message);
  onOutputClosed();
});
process.stderr.on("error", () => {});

process.on("uncaughtException", (error) => leave(error.stack ?? error.message));
process.on("unhandledRejection", (error) =>
  leave(error instanceof Error ? (error.stack ?? error.message) : String(error)),
);

/** These call the C library themselves; the other verbs need no more than HTTP. */
const CALLS_LIBC: ReadonlySet<string> = new Set(["serve", "attach", "drill", "examine"]);

const words = process.argv.slice(2);
if (libcProblem !== null && CALLS_LIBC.has(words[0] ?? "")) {
  process.stderr.write(`parityd: ${libcProblem}\n`);
  process.exit(Exit.unavailable);
}
const exitCode = await runCommandLine(ALL_COMMANDS, words, host);
// Workers would keep the process alive. Without any, it ends by itself when stdout has been taken.
if (hasWorkers) process.exit(exitCode);
process.exitCode = exitCode;
