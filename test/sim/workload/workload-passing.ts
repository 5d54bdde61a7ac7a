/**
 * A fault that passes while the array has no redundancy: reads of a survivor fail in a rebuild, and
 * it is sound again afterwards. The rows that this put on the bad-block logs come off them in the
 * next scrub: nothing is lost but where a client wrote into such a row before, for then the truth
 * about the rebuilt chunk has gone with what was overwritten.
 */

import type { MismatchList } from "../../../src/array/protocol.ts";
import { EILSEQ, EIO, ENODATA } from "../../../src/base/errno.ts";
import { nextBelow } from "../../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { areasOf } from "../world/member-oracle.ts";
import { RunCounts } from "../world/run-counts.ts";
import { ARRAY_NAME } from "../world/sim-world.ts";
import type { Run } from "./workload.ts";
import { newDrive } from "./workload-admin.ts";

const ROUNDS = 2;
const REBUILD_LIMIT_MS = 600_000;
const PLACES_MAX = 4;
const ROWS_MAX = 24;
const WRITES_MAX = 6;
const ERRNOS = [EIO, ENODATA, EILSEQ];
const SECTORS_PER_ROW = ROW_BYTES / SECTOR_BYTES;

export function passFaults(run: Run): void {
  for (let round = 0; round < ROUNDS; round += 1) {
    rebuildOverFault(run);
    run.world.settle();
    if (nextBelow(run.random, 2) === 0) run.crashWith(() => "keep");
    const touched = nextBelow(run.random, 2) === 0 ? writeBeside(run) : new Set<number>();
    scrub(run, touched);
    run.world.settle();
    // What was lost is written anew.
    if (touched.size > 0) run.writeAll();
    run.world.settle();
    run.verify();
  }
}

/** A member is replaced, while another one cannot be read here and there. */
function rebuildOverFault(run: Run): void {
  const { world, random } = run;
  const { members, spares } = world.status();
  const names = members.map(({ drive }) => drive!);
  const [target] = names.splice(nextBelow(random, names.length), 1);
  const survivor = world.device(names[nextBelow(random, names.length)]!);
  const data = areasOf(survivor.image()).find(({ name }) => name === "data")!;
  const rows = data.bytes / ROW_BYTES;
  for (let places = 1 + nextBelow(random, PLACES_MAX); places > 0; places -= 1) {
    const first = nextBelow(random, rows);
    const count = Math.min(1 + nextBelow(random, ROWS_MAX), rows - first);
    const result = -ERRNOS[nextBelow(random, ERRNOS.length)]!;
    survivor.faults.plan({
      op: Op.read,
      fault: { kind: "result", result },
      offset: data.offset + first * ROW_BYTES,
      bytes: count * ROW_BYTES,
      count: Number.POSITIVE_INFINITY,
    });
  }
  RunCounts.bump(run.counts.faults, "passes in a rebuild");
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: target! });
  // A spare may have taken its role by now.
  world.call({ kind: "remove-member", array: ARRAY_NAME, drive: target! });
  world.must({ kind: "detach-drive", name: target!, force: false });
  run.present = run.present.filter((name) => name !== target);
  if (spares.length === 0) {
    world.call({ kind: "add-member", array: ARRAY_NAME, drive: newDrive(run), force: false });
  }
  const endMs = world.nowMs + REBUILD_LIMIT_MS;
  while (world.status().degraded > 0 && world.nowMs < endMs) world.simulation.runFor(20);
  const { state, degraded } = world.settle();
  if (degraded > 0) run.fail(`a rebuild over bad sectors ends ${state}`);
  survivor.faults.quiet();
}

/** Whole rows here and there; the answer is which rows of the members they lie in. */
function writeBeside(run: Run): Set<number> {
  const { world, random, plan, load, oracle } = run;
  const chunkSectors = plan.chunkBytes / SECTOR_BYTES;
  const stripeSectors = chunkSectors * (plan.memberCount - 1);
  const touched = new Set<number>();
  for (let count = 1 + nextBelow(random, WRITES_MAX); count > 0; count -= 1) {
    const lba = nextBelow(random, oracle.sectorCount / SECTORS_PER_ROW) * SECTORS_PER_ROW;
    world.run(load.write(run.seats[0]!, lba, SECTORS_PER_ROW, false));
    run.check();
    const stripe = Math.floor(lba / stripeSectors);
    touched.add((stripe * chunkSectors + (lba % chunkSectors)) / SECTORS_PER_ROW);
  }
  world.settle();
  return touched;
}

function scrub(run: Run, touched: ReadonlySet<number>): void {
  const { world, random } = run;
  const mode = nextBelow(random, 2) === 0 ? "check" : "repair";
  const start = { kind: "start-scrub", array: ARRAY_NAME, mode, restart: true } as const;
  world.untilNoScrub();
  const job = world.must<"start-scrub">({ ...start, limitBytesPerSecond: null });
  const { state, error, result } = world.waitJob(job.id);
  if (state !== "done") run.fail(`the ${mode} ended ${state}: ${error}`);
  if (result["mismatchBytes"] !== 0) run.fail(`${result["mismatchBytes"]} bytes do not match`);
  const { lostBytes } = world.status();
  if (result["lostBytes"] !== lostBytes) run.fail(`lost ${lostBytes}, told ${result["lostBytes"]}`);
  for (const { firstSector, sectorCount } of (result["lostRanges"] as MismatchList).ranges) {
    for (let sector = 0; sector < sectorCount; sector += SECTORS_PER_ROW) {
      const row = (firstSector + sector) / SECTORS_PER_ROW;
      if (!touched.has(row)) run.fail(`row ${row} is lost, and all of it lies on the members`);
    }
  }
  if (lostBytes === 0) run.readAll();
  else RunCounts.bump(run.counts.faults, "lost beside a write");
}
