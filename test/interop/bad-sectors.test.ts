/**
 * Goal: bad sectors cost what they must and no more (write-rules 8, 9, 11; faults R4, R5, R6).
 * Method: an array on real files; bad sectors by the fault filter, cured by writing, as drives do.
 */
import { afterEach, expect, test } from "bun:test";
import type { FaultSpec } from "../../src/array/protocol.ts";
import { EIO } from "../../src/base/errno.ts";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";

const DATA_OFFSET = MIB;
const CHUNK = 64 * KIB;
let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

function filledArray(members = 3): { harness: ArrayHarness; content: Uint8Array } {
  harness = new ArrayHarness();
  const names: string[] = [];
  for (let index = 0; index < members; index += 1) {
    names.push(`drive${index}`);
    harness.addDrive(`drive${index}`, 4 * MIB);
  }
  const { sizeBytes } = harness.createArray({ drives: names, chunkBytes: CHUNK });
  const content = new Uint8Array(sizeBytes);
  fillRandom(new SeededRandom(7), content);
  expect(harness.reactor.pump(harness.write(0, content))).toBe(0);
  harness.settle();
  return { harness, content };
}

function inject(target: ArrayHarness, fault: Partial<FaultSpec> & { drive: string }): number {
  const full: FaultSpec = { op: "read", at: "completion", errno: EIO, ...fault };
  return target.must<"add-fault">({ kind: "add-fault", fault: full }).id;
}

function badRow(target: ArrayHarness, drive: string, memberByte: number, bytes = 4096): number {
  return inject(target, { drive, offset: DATA_OFFSET + memberByte, bytes, untilWritten: true });
}

function readAll(target: ArrayHarness, bytes: number): { status: number; data: Uint8Array } {
  return target.reactor.pump(target.read(0, bytes));
}

test("bad-sectors: read, array whole: from parity, rewritten, read again, counted", () => {
  const { harness: target, content } = filledArray();
  badRow(target, "drive1", 8 * KIB);
  badRow(target, "drive0", CHUNK + 12 * KIB, 8192);
  const { status, data } = readAll(target, content.length);
  expect(status).toBe(0);
  expect(Buffer.compare(data, content)).toBe(0);
  const members = target.status().members;
  const fixed = members.reduce((sum, { errors }) => sum + errors.fixed, 0);
  // Parity rows are not read here, so what counts is that the data rows were fixed.
  expect(fixed).toBeGreaterThan(0);
  expect(target.status().state).not.toBe("degraded");
  expect(target.mismatchBytes()).toBe(0);
  expect(target.status().members.reduce((sum, { errors }) => sum + errors.fixed, 0)).toBe(24);
});

test("bad-sectors: write over a bad sector: read-modify-write goes on, nothing is lost", () => {
  const { harness: target, content } = filledArray(5);
  for (const drive of ["drive0", "drive2"])
    badRow(target, drive, drive === "drive0" ? 0 : CHUNK, CHUNK);
  const random = new SeededRandom(3);
  for (let round = 0; round < 60; round += 1) {
    const length = 1 + (random.nextU32() % (20 * KIB));
    const offset = random.nextU32() % (8 * CHUNK - length);
    const data = new Uint8Array(length);
    fillRandom(random, data);
    expect(target.reactor.pump(target.write(offset, data))).toBe(0);
    content.set(data, offset);
  }
  const { status, data } = readAll(target, content.length);
  expect(status).toBe(0);
  expect(Buffer.compare(data, content)).toBe(0);
  expect(target.mismatchBytes()).toBe(0);
});

test("bad-sectors: writes fail for good: entered in the log, still readable, member stays", () => {
  const { harness: target, content } = filledArray();
  inject(target, { drive: "drive1", op: "write", offset: DATA_OFFSET + 4096, bytes: 4096 });
  inject(target, { drive: "drive1", op: "read", offset: DATA_OFFSET + 4096, bytes: 4096 });
  const patch = new Uint8Array(2 * CHUNK).fill(0x5a);
  expect(target.reactor.pump(target.write(0, patch))).toBe(0);
  content.set(patch, 0);
  expect(target.reactor.pump(target.flush())).toBe(0);
  const { status, data } = readAll(target, content.length);
  expect(status).toBe(0);
  expect(Buffer.compare(data, content)).toBe(0);
  expect(target.status().members[1]!.state).toBe("in-sync");
  const drive = target.service.registry.drives.get("drive1")!;
  expect(drive.badBlocks.ranges).toEqual([
    { sector: (DATA_OFFSET + 4096) / 512, lengthSectors: 8 },
  ]);
  expect(drive.superblock!.hasBadBlocks).toBe(true);
  expect(target.status().lostBytes).toBe(0);
});

test("bad-sectors: read, array degraded: EIO for those bytes, logged, member stays; write cures", () => {
  const { harness: target, content } = filledArray();
  target.must({ kind: "fail-member", array: "raid_test", drive: "drive2" });
  badRow(target, "drive0", 0);
  badRow(target, "drive1", 0);
  const { status } = readAll(target, content.length);
  expect(status).toBe(EIO);
  expect(target.status().degraded).toBe(1);
  const lost = target.status().lostBytes;
  expect(lost).toBeGreaterThanOrEqual(8192);
  // What lies beside it is served.
  const beside = target.reactor.pump(target.read(4096, CHUNK - 4096));
  expect(beside.status).toBe(0);
  expect(Buffer.compare(beside.data, content.subarray(4096, CHUNK))).toBe(0);
  // Row 0 of stripe 0: drive2 holds parity there, so both data chunks are cured by writing them.
  for (const offset of [0, CHUNK]) {
    const data = new Uint8Array(4096).fill(0x77 + offset / CHUNK);
    expect(target.reactor.pump(target.write(offset, data))).toBe(0);
    content.set(data, offset);
  }
  expect(target.status().lostBytes).toBe(0);
  const again = readAll(target, content.length);
  expect(again.status).toBe(0);
  expect(Buffer.compare(again.data, content)).toBe(0);
});

test("bad-sectors: on a survivor during the rebuild: that row is lost, the rebuild ends", () => {
  const { harness: target, content } = filledArray(4);
  target.must({ kind: "fail-member", array: "raid_test", drive: "drive3" });
  badRow(target, "drive1", 2 * CHUNK + 4096);
  target.addDrive("drive_new", 4 * MIB);
  const added = target.must<"add-member">({
    kind: "add-member",
    array: "raid_test",
    drive: "drive_new",
    force: false,
  });
  expect(added.role).toBe("rebuild");
  target.settle();
  const status = target.status();
  expect(status.degraded).toBe(0);
  expect(status.lostBytes).toBeGreaterThan(0);
  // Every row but the lost one is right.
  let lostRows = 0;
  for (let offset = 0; offset < content.length; offset += 4096) {
    const read = target.reactor.pump(target.read(offset, 4096));
    if (read.status === EIO) {
      lostRows += 1;
      const data = new Uint8Array(4096).fill(0x11);
      expect(target.reactor.pump(target.write(offset, data))).toBe(0);
      content.set(data, offset);
      continue;
    }
    expect(Buffer.compare(read.data, content.subarray(offset, offset + 4096))).toBe(0);
  }
  expect(lostRows * 4096).toBe(status.lostBytes);
  expect(target.status().lostBytes).toBe(0);
  const { status: readStatus, data } = readAll(target, content.length);
  expect(readStatus).toBe(0);
  expect(Buffer.compare(data, content)).toBe(0);
  expect(target.mismatchBytes()).toBe(0);
});

test("bad-sectors: a member that hangs: reads from parity at the deadline, buffers not reused", () => {
  const { harness: target, content } = filledArray();
  target.must({ kind: "set-array", array: "raid_test", readDeadlineMs: 300 });
  inject(target, { drive: "drive1", op: "read", delayMs: 4000, count: 3 });
  const { status, data } = readAll(target, content.length);
  expect(status).toBe(0);
  expect(Buffer.compare(data, content)).toBe(0);
  const status2 = target.status();
  expect(status2.members[1]!.errors.slow).toBeGreaterThan(0);
  expect(status2.degraded).toBe(0);
  const { payloadPool } = target.reactor.context;
  expect(payloadPool.freeBytes).toBeLessThan(payloadPool.totalBytes);
  const drive = target.service.registry.drives.get("drive1")!;
  expect(drive.io.outstanding).toBeGreaterThan(0);
  target.reactor.pumpUntil(() => drive.io.outstanding === 0);
  expect(payloadPool.freeBytes).toBe(payloadPool.totalBytes);
});

test("bad-sectors: a read of a stripe whose write hangs: from the others, before that write ends", () => {
  const { harness: target, content } = filledArray();
  target.must({ kind: "set-array", array: "raid_test", readDeadlineMs: 300 });
  // Stripe 0 of three members: chunk 0 lies on drive0, chunk 1 on drive1, parity on drive2.
  inject(target, { drive: "drive1", op: "any", delayMs: 3000, count: 2 });
  const patch = new Uint8Array(4096).fill(0x33);
  let isWritten = false;
  const written = target.write(CHUNK + 8192, patch).then((status) => {
    isWritten = true;
    return status;
  });
  target.reactor.pump(target.reactor.context.timers.sleep(50));
  const others = setOthersBusy(target);
  const read = target.reactor.pump(target.read(CHUNK, CHUNK));
  expect(read.status).toBe(0);
  expect(isWritten).toBe(false);
  content.set(patch, CHUNK + 8192);
  expect(Buffer.compare(read.data, content.subarray(CHUNK, 2 * CHUNK))).toBe(0);
  target.reactor.pump(others);
  expect(target.reactor.pump(written)).toBe(0);
  expect(target.mismatchBytes()).toBe(0);
});

test("bad-sectors: writes that hang: the member fails at the deadline, writes go on", () => {
  const { harness: target, content } = filledArray();
  target.must({ kind: "set-array", array: "raid_test", writeDeadlineMs: 500 });
  inject(target, { drive: "drive1", op: "write", delayMs: 5000, count: 2 });
  const patch = new Uint8Array(4 * CHUNK).fill(0x42);
  const written = target.write(0, patch);
  const other = setOthersBusy(target);
  expect(target.reactor.pump(written)).toBe(0);
  target.reactor.pump(other);
  content.set(patch, 0);
  expect(target.status().state).toBe("degraded");
  const { status, data } = readAll(target, content.length);
  expect(status).toBe(0);
  expect(Buffer.compare(data, content)).toBe(0);
  const added = target.call<"add-member">({
    kind: "add-member",
    array: "raid_test",
    drive: "drive1",
    force: false,
  });
  expect(added.ok ? "" : added.error.code).toBe("drive-busy");
  const drive = target.service.registry.drives.get("drive1")!;
  target.reactor.pumpUntil(() => drive.io.outstanding === 0);
});

/** Some reads, so that the other members are seen to answer. */
async function setOthersBusy(target: ArrayHarness): Promise<void> {
  for (let round = 0; round < 5; round += 1) {
    await target.read(MIB + round * CHUNK, 4096);
    await target.reactor.context.timers.sleep(100);
  }
}
