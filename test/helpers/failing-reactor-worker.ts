/**
 * A worker whose reactor runs into a planted bug: a throw or an unhandled rejection in a timer, or
 * a rejection of work in the background. It tells of it as the product's worker does.
 */
import { parentPort } from "node:worker_threads";
import { inBackground, watchBackground } from "../../src/base/background.ts";
import { tellDefects } from "../../src/reactor/linux-defect.ts";
import { startTestReactor } from "./reactor.ts";

const defect = tellDefects((met) => parentPort!.postMessage(met));
watchBackground(defect);

async function fail(): Promise<void> {
  await undefined;
  throw new Error("planted rejection");
}

async function run(mode: string): Promise<void> {
  const { context, reactor } = startTestReactor();
  context.timers.scheduleAfter(20, () => {
    if (mode === "throw") throw new Error("planted throw");
    if (mode === "background") inBackground(fail(), null);
    else void fail();
  });
  context.timers.scheduleAfter(60_000, () => reactor.stop());
  await reactor.run();
}

parentPort!.once("message", (mode: string) => void run(mode).catch(defect));
