/**
 * The reactor worker: the composition root of the data path.
 *
 * The worker never returns to its event loop while it serves. It takes commands from a MessagePort
 * when the wake eventfd is written, and posts answers, events and log lines back. A defect that no
 * array or session keeps to itself is told to main (linux-defect.ts), which answers with exit 70:
 * the arrays stay dirty, which is safe.
 */
import { readFileSync } from "node:fs";
import { type MessagePort, workerData } from "node:worker_threads";
import type { Envelope, ReactorConfig, ReactorMessage } from "./array/protocol.ts";
import type { ReactorContext, ReactorService } from "./array/reactor-context.ts";
import { assert } from "./base/assert.ts";
import { watchBackground } from "./base/background.ts";
import type { Log } from "./base/log.ts";
import { PARITY_SCRATCH_BYTES, verifyParityKernels } from "./parity/self-test.ts";
import { type AioCounts, aioRefusal } from "./reactor/aio-refusal.ts";
import { tellDefects } from "./reactor/linux-defect.ts";
import { PortMailbox } from "./reactor/linux-mailbox.ts";
import { AIO_EVENT_COUNT, createLinuxReactor } from "./wiring/linux-context.ts";
import { createService } from "./wiring/reactor-service.ts";

/** What main starts this worker with. */
export interface ReactorWorkerData {
  readonly config: ReactorConfig;
  readonly port: MessagePort;
  /** The compiled kernels: a module that is posted brings its compiled code along. */
  readonly parityModule?: WebAssembly.Module;
}

const { config, port, parityModule } = workerData as ReactorWorkerData;
const mailbox = new PortMailbox<Envelope, ReactorMessage>(port);
const defect = tellDefects((met) => mailbox.post(met));
watchBackground(defect);

async function main(): Promise<void> {
  const log: Log = {
    write: (level, message, fields = {}) => mailbox.post({ kind: "log", level, message, fields }),
  };
  const built = createLinuxReactor({
    config,
    ...(parityModule === undefined ? {} : { parityModule }),
    log,
    post: (message) => mailbox.post(message),
    onWake: () => takeCommands(),
  });
  if (!built.ok) throw new Error(aioRefusal(built.error, aioCounts()));
  const { context, reactor } = built.value;
  testKernels(context);
  const service: ReactorService = createService(context);

  async function answer({ id, command }: Envelope): Promise<void> {
    const result = await service.handle(command);
    mailbox.post({ kind: "reply", id, result });
    if (command.kind === "shutdown" && result.ok) reactor.stop();
  }

  function takeCommands(): void {
    for (;;) {
      const envelope = mailbox.receive();
      if (envelope === undefined) return;
      answer(envelope).catch(defect);
    }
  }

  mailbox.post({ kind: "ready" });
  // Commands may have been posted before the eventfd was watched.
  takeCommands();
  await reactor.run();
  port.close();
}

/** Throws where this processor or engine computes parity wrong: then no array may be touched. */
function testKernels({ kernels, memory, enginePool }: ReactorContext): void {
  const scratch = enginePool.allocate(PARITY_SCRATCH_BYTES);
  assert(scratch !== 0, "a pool that nobody uses yet has room");
  const tested = verifyParityKernels(kernels, memory, scratch);
  enginePool.free(scratch, PARITY_SCRATCH_BYTES);
  if (tested.ok) return;
  const { kernel, sourceCount } = tested.error;
  throw new Error(`this machine computes ${kernel} of ${sourceCount} wrong: no array is touched`);
}

function aioCounts(): AioCounts {
  const read = (name: string): number | null => {
    try {
      return Number(readFileSync(`/proc/sys/fs/${name}`, "utf8"));
    } catch {
      return null; // No /proc here: the sentence does without.
    }
  };
  return { used: read("aio-nr"), max: read("aio-max-nr"), wanted: AIO_EVENT_COUNT };
}

await main().catch(defect);
