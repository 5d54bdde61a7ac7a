/**
 * What no parity can detect, at the end of a run (promise 5): sectors that rot, writes that are
 * lost or land elsewhere, a drive that does not flush. Reads may be wrong then, but everything is
 * answered, a check counts exactly the rows whose parity does not hold and changes none of them, a
 * repair makes parity match and touches no data, and what is written after that reads back.
 */
import { nextBelow } from "../../../src/base/random.ts";
import { KIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { type DeviceImage, readImage } from "../world/media.ts";
import { areasOf, type MemberView, parityMismatches, viewMembers } from "../world/member-oracle.ts";
import { RunCounts } from "../world/run-counts.ts";
import type { SimFault } from "../world/sim-faults.ts";
import { ARRAY_NAME } from "../world/sim-world.ts";
import { expectationOf, type Run } from "./workload.ts";

const SECTORS_PER_ROW = ROW_BYTES / SECTOR_BYTES;
/** Writes of this phase are no longer than that on one member. */
const MISDIRECTED_BYTES_MAX = 64 * KIB;
const ROWS_MAX = 4;

/** Drives answer well, and do not what they say. The array is whole and clean. */
export function harmSilently(run: Run): void {
  const { random, load } = run;
  run.writeAll(); // No row is in a bad-block log any more.
  load.isLawless = true;
  for (let count = 1 + nextBelow(random, 3); count > 0; count -= 1) {
    const kind = nextBelow(random, 3);
    if (kind === 0) rot(run);
    else loseWrite(run, { isMisdirected: kind === 1 });
  }
  run.world.settle();
  const before = viewOf(run);
  const wrong = parityMismatches(before);
  for (let turn = 0; turn < 2; turn += 1) {
    const found = run.world.check();
    if (found !== wrong.length * ROW_BYTES) {
      run.fail(`the check finds ${found} bytes, and the parity of ${wrong.length} rows is wrong`);
    }
  }
  run.world.settle();
  const after = viewOf(run);
  if (!isSame(before, after, () => true)) run.fail("a check has changed a member");
  run.readAll();
  repair(run);
  const repaired = viewOf(run);
  if (parityMismatches(repaired).length > 0) run.fail("a repair has left wrong parity");
  const isData = (role: number, row: number) => {
    const stripe = Math.floor(row / before.chunkBytes);
    return before.memberCount - 1 - (stripe % before.memberCount) !== role;
  };
  if (!isSame(before, repaired, isData)) run.fail("a repair has changed data");
  load.isLawless = false;
  run.writeAll();
  run.verify();
}

/** A drive that makes nothing durable, and a power cut. */
export function lieAboutFlushes(run: Run): void {
  const { world, random, load, counts } = run;
  const drives = world.status().members.map(({ drive }) => drive!);
  const liar = drives[nextBelow(random, drives.length)]!;
  run.writeAll();
  world.device(liar).doesFlushLie = true;
  world.device(liar).faults.count("flush lie");
  load.isLawless = true;
  load.start(world, run.seats);
  world.simulation.runFor(nextBelow(random, 2000));
  const before = run.crashWith((name) => (name === liar ? "drop" : "random"));
  const expected = expectationOf(before);
  const isDetected = expected !== "whole";
  RunCounts.bump(counts.crashes, isDetected ? "lie detected" : "lie not detected");
  run.heal();
  run.readAll();
  repair(run);
  load.isLawless = false;
  run.writeAll();
  run.verify();
}

function rot(run: Run): void {
  const { world, random } = run;
  const { drive } = world.status().members[nextBelow(random, run.plan.memberCount)]!;
  const device = world.device(drive!);
  const data = areasOf(device.image()).find(({ name }) => name === "data")!;
  const sector = nextBelow(random, data.bytes / SECTOR_BYTES);
  const sectors = Math.min(1 + nextBelow(random, 12), data.bytes / SECTOR_BYTES - sector);
  device.rot(data.offset + sector * SECTOR_BYTES, sectors * SECTOR_BYTES);
}

/** Some writes, of which one does not get where it should. */
function loseWrite(run: Run, { isMisdirected }: { isMisdirected: boolean }): void {
  const { world, random, load, oracle } = run;
  const { drive } = world.status().members[nextBelow(random, run.plan.memberCount)]!;
  const device = world.device(drive!);
  const data = areasOf(device.image()).find(({ name }) => name === "data")!;
  const rows = (data.bytes - MISDIRECTED_BYTES_MAX) / ROW_BYTES;
  const toOffset = data.offset + nextBelow(random, Math.max(1, rows)) * ROW_BYTES;
  const canMiss = isMisdirected && rows > 0;
  const fault: SimFault = canMiss ? { kind: "misdirect", toOffset } : { kind: "lose" };
  device.faults.plan({ fault, op: Op.write, offset: data.offset, bytes: data.bytes });
  for (let turn = 0; turn < 6; turn += 1) {
    const sectors = 1 + nextBelow(random, ROWS_MAX * SECTORS_PER_ROW);
    const lba = nextBelow(random, Math.max(1, oracle.sectorCount - sectors));
    const written = load.write(run.seats[0]!, lba, Math.min(sectors, oracle.sectorCount), false);
    if (world.run(written) !== 0) run.fail("a write over a silent fault is not answered");
  }
  world.run(load.flush(run.seats[0]!));
  device.faults.quiet();
}

function repair(run: Run): void {
  const { world } = run;
  const scrub = { kind: "start-scrub", array: ARRAY_NAME, mode: "repair", restart: true } as const;
  world.untilNoScrub();
  const job = world.must<"start-scrub">({ ...scrub, limitBytesPerSecond: null });
  const ended = world.waitJob(job.id);
  if (ended.state !== "done") run.fail(`the repair ended ${ended.state}`);
  world.settle();
  const found = world.check();
  if (found !== 0) run.fail(`after a repair the check finds ${found} bytes`);
  world.settle();
}

function viewOf(run: Run): MemberView {
  const names = new Set(run.world.status().members.map(({ drive }) => drive));
  return viewMembers(run.world.images().filter(({ name }) => names.has(name)));
}

/** Whether the wanted rows of the members hold the same. */
function isSame(
  one: MemberView,
  other: MemberView,
  isWanted: (role: number, row: number) => boolean,
): boolean {
  for (const [role, image] of one.images.entries()) {
    const from = one.dataOffsets[role]!;
    for (let row = 0; row < one.memberSizeBytes; row += ROW_BYTES) {
      if (!isWanted(role, row)) continue;
      const left = rowOf(image!, from + row);
      const right = rowOf(other.images[role]!, from + row);
      if (left !== right && Buffer.compare(left, right) !== 0) return false;
    }
  }
  return true;
}

function rowOf(image: DeviceImage, offset: number): Uint8Array {
  return image.pages.get(offset / ROW_BYTES) ?? readImage(image, offset, ROW_BYTES);
}
