/**
 * NBD clients beside a crowd of API clients and open pages, against the same with the crowd held
 * still (its connections stay): both in one run, turn about.
 *
 * The crowd (helpers/crowd-main.ts) has the least claim to a CPU, since its clients would be other
 * machines; what it asks for, the daemon answers at its own.
 */
import { join } from "node:path";
import { KIB } from "../../src/base/units.ts";
import { raiseDescriptorLimit } from "../../src/reactor/linux-descriptors.ts";
import { Crowd } from "../helpers/crowd.ts";
import type { Bench, Section } from "./bench.ts";
import { hasFioEngine, runFio } from "./fio.ts";
import { removeFolder, tmpfsFolder } from "./ground.ts";
import { paritydWithArray } from "./peers.ts";
import { keep } from "./processes.ts";
import { type RowPlan, value } from "./statistics.ts";

const NAME = "api load";
const MEMORY_MIB = 128;
const DEPTH = 4;
/** The daemon has a place for each of the crowd where it may open so many. */
const FILES_NEEDED = 16_384;
const CROWD = { idle: 1_000, busy: 200, pages: 300 };
const SMALL_CROWD = { idle: 20, busy: 10, pages: 10 };
/** What piled up while it was held still is over then. */
const SETTLE_MS = 700;

async function runApi(bench: Bench): Promise<void> {
  const { binary, settings, isSmoke } = bench;
  const arrayBytes = 2 * settings.memberBytes;
  const found = tmpfsFolder(4 * arrayBytes);
  const reason = "reason" in found ? found.reason : obstacle(isSmoke);
  if ("reason" in found || reason !== null) {
    bench.leaveOut(NAME, reason ?? "");
    return;
  }
  const { folder } = found;
  const options = { binary, folder, memoryMib: MEMORY_MIB, arrayBytes };
  const { server } = await paritydWithArray(options);
  const unix = join(folder, "run", "api.sock");
  const crowd = new Crowd({ unix, ...(isSmoke ? SMALL_CROWD : CROWD) }, keep);
  await crowd.isThere();
  const sample = async () => {
    const target = { kind: "nbd", uri: server.uri, connections: 1 } as const;
    const job = { rw: "randrw", blockBytes: 4 * KIB, depth: DEPTH, target } as const;
    const { p99Micros } = await runFio({ ...job, runtimeMs: 2 * settings.sampleMs, timed: true });
    return p99Micros ?? Number.NaN;
  };
  const { idle, busy, pages } = isSmoke ? SMALL_CROWD : CROWD;
  const row: RowPlan = {
    name:
      `${NAME}: p99 of random 4 KiB mixed, depth ${DEPTH}, ` +
      `beside ${idle} idle and ${busy} busy clients and ${pages} pages`,
    unit: "µs",
    better: "lower",
    ours: value("beside"),
    reference: { name: "they hold still", of: value("alone") },
    target: 1.5,
  };
  const alone = async () => {
    crowd.pause();
    await Bun.sleep(SETTLE_MS);
    return sample();
  };
  const beside = async () => {
    crowd.goOn();
    await Bun.sleep(SETTLE_MS);
    return sample();
  };
  await bench.measure(
    [
      { name: "alone", sample: alone, warmUp: sample },
      { name: "beside", sample: beside },
    ],
    [row],
  );
  await crowd.leave();
  await server.stop();
  removeFolder(folder);
}

function obstacle(isSmoke: boolean): string | null {
  if (!hasFioEngine("nbd")) return "fio has no nbd engine here";
  const isRoomy = isSmoke || raiseDescriptorLimit() >= FILES_NEEDED;
  return isRoomy ? null : `a process may open fewer than ${FILES_NEEDED} files here`;
}

export const apiSection: Section = { name: NAME, run: runApi };
