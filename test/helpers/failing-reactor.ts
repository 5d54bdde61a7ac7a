/**
 * Starts failing-reactor-worker.ts with the mode that is the one argument, and prints the defect
 * that it tells of as a line of JSON. The `error` events of the engine are not listened to. A
 * process of its own: the test runner keeps unhandled rejections of its workers to itself.
 */
import type { Defect } from "../../src/reactor/linux-defect.ts";

const worker = new Worker(new URL("failing-reactor-worker.ts", import.meta.url));
worker.addEventListener("error", (event) => event.preventDefault());
worker.addEventListener("message", ({ data }: MessageEvent<Defect>) => {
  process.stdout.write(`${JSON.stringify(data)}\n`);
  process.exit(0);
});
worker.addEventListener("close", () => process.exit(1));
worker.postMessage(process.argv[2]);
