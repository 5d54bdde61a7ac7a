/**
 * `npm run soak -- --minutes N`: seeded runs without end, on all cores, with seeds that were never
 * run before. Stops at the first violation and prints the line that repeats it.
 *
 *   bun test/sim/soak.ts [--minutes N] [--first SEED] [--processes N] [--only sim|life]
 *
 * Each process takes every n-th seed, of the engine's runs (sim) and of the lives of the daemon
 * (test/life) by turns. At the end the counts of all of them are printed.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { LifeCounts, type LifeCountsData } from "../life/life-counts.ts";
import { LifeFailure, runLife } from "../life/life-run.ts";
import { RunFailure, runSeed } from "./workload/workload.ts";
import { type CountsData, RunCounts } from "./world/run-counts.ts";

const CHILD_OK = 0;
const CHILD_VIOLATION = 3;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    first: { type: "string" },
    processes: { type: "string" },
    only: { type: "string" },
    /** Set for a child: the distance of its seeds. */
    stride: { type: "string" },
  },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  console.error("--minutes takes a number above 0");
  process.exit(64);
}

if (values.stride === undefined) await runParent();
else runChild(Number(values.first), Number(values.stride));

async function runParent(): Promise<void> {
  const count = Number(values.processes ?? availableParallelism());
  // 32 bits of a clock: soaks of different days run different seeds.
  const first = Number(values.first ?? Date.now() >>> 0);
  console.log(`soak: ${minutes} minutes, ${count} processes, seeds from ${first}`);
  const children = Array.from({ length: count }, (_, index) =>
    Bun.spawn({
      cmd: [
        process.execPath,
        import.meta.path,
        `--minutes=${minutes}`,
        `--first=${first + index}`,
        `--stride=${count}`,
        ...(values.only === undefined ? [] : [`--only=${values.only}`]),
      ],
      stdout: "pipe",
      stderr: "inherit",
    }),
  );
  const total = new RunCounts();
  const lives = new LifeCounts();
  let isClean = true;
  await Promise.all(
    children.map(async (child) => {
      const [output, code] = await Promise.all([new Response(child.stdout).text(), child.exited]);
      const lines = output.trimEnd().split("\n");
      const counts = lines.pop();
      if (counts?.startsWith("{") === true) {
        const both = JSON.parse(counts) as { sim: CountsData; life: LifeCountsData };
        total.add(both.sim);
        lives.add(both.life);
      }
      if (lines.length > 0) console.log(lines.join("\n"));
      if (code === CHILD_OK) return;
      isClean = false;
      for (const other of children) other.kill();
    }),
  );
  console.log(total.text());
  console.log(`${lives.of("run: sequences")} lives\n${lives.text()}`);
  console.log(isClean ? "soak: no violation" : "soak: FAILED");
  process.exit(isClean ? 0 : 1);
}

function runChild(first: number, stride: number): void {
  const untilMs = performance.now() + minutes * 60_000;
  const counts = new RunCounts();
  const lives = new LifeCounts();
  let code = CHILD_OK;
  for (let seed = first; performance.now() < untilMs; seed += stride) {
    try {
      if (values.only !== "life") {
        counts.seeds += 1;
        runSeed(seed, counts);
      }
      if (values.only !== "sim") {
        lives.bump("run: sequences");
        runLife(seed, lives);
      }
    } catch (error) {
      if (!(error instanceof RunFailure || error instanceof LifeFailure)) throw error;
      console.log(error.message);
      code = CHILD_VIOLATION;
      break;
    }
  }
  console.log(JSON.stringify({ sim: counts.data(), life: lives.data() }));
  process.exit(code);
}
