/** A worker whose reactor runs into a planted bug: a throw or an unhandled rejection in a timer. */
import { parentPort } from "node:worker_threads";
import { startTestReactor } from "./reactor.ts";

async function fail(): Promise<void> {
  await undefined;
  throw new Error("planted rejection");
}

async function run(mode: string): Promise<void> {
  const { context, reactor } = startTestReactor();
  context.timers.scheduleAfter(20, () => {
    if (mode === "throw") throw new Error("planted throw");
    void fail();
  });
  context.timers.scheduleAfter(3000, () => reactor.stop());
  await reactor.run();
}

parentPort?.once("message", (mode: string) => void run(mode));
