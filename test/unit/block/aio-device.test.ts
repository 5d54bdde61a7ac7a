/**
 * Goal: the aio device moves the right bytes through the real kernel, by libaio and by the system
 * calls, with the completion ring and without. Method: files with O_DIRECT, compared byte for byte
 * through plain file reads.
 */
import { afterAll, expect, test } from "bun:test";
import { closeSync, constants, openSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import type { DriveDevice } from "../../../src/array/reactor-context.ts";
import { EBADF, ENXIO } from "../../../src/base/errno.ts";
import { Carver, CONTROL_BYTES, SharedMemory } from "../../../src/base/memory.ts";
import { fillRandom, SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { Op, type OpCode } from "../../../src/reactor/io-table.ts";
import { LinuxAio } from "../../../src/reactor/linux-aio.ts";
import { makeFile, runProgram } from "../../helpers/daemon.ts";
import { canMakeLoopDevices, makeLoopDevice } from "../../helpers/loop-devices.ts";
import { toolPath } from "../../helpers/needs.ts";
import { startTestReactor, testMemory } from "../../helpers/reactor.ts";
import { makeTempDir } from "../../helpers/temp.ts";

interface Spec {
  readonly op: OpCode;
  readonly offset?: number;
  readonly bytes?: number;
  readonly address?: number;
  readonly isFua?: boolean;
}

const WAYS = [
  { aioSource: "libaio", usesAioRing: true },
  { aioSource: "libaio", usesAioRing: false },
  { aioSource: "syscall", usesAioRing: true },
  { aioSource: "syscall", usesAioRing: false },
] as const;

for (const { aioSource, usesAioRing } of WAYS) {
  const way = `${aioSource}${usesAioRing ? ", ring" : ""}`;
  const reactor = startTestReactor({ aioSource, usesAioRing });
  const { context, pumpUntil } = reactor;
  const { memory, table } = context;
  const sizeBytes = 8 * MIB;
  afterAll(() => reactor.stop());

  function setUp(name: string) {
    const drive = reactor.createDrive({ name, sizeBytes });
    const device = context.openDevice(drive);
    const answers = new Map<number, number>();
    device.onComplete = (request, result) => answers.set(request, result);
    return { drive, device, answers };
  }

  function add(device: DriveDevice, spec: Spec): number {
    const request = table.allocate();
    table.op[request] = spec.op;
    table.offset[request] = spec.offset ?? 0;
    table.bytes[request] = spec.bytes ?? 0;
    table.address[request] = spec.address ?? 0;
    table.isFua[request] = spec.isFua === true ? 1 : 0;
    device.submit(request);
    return request;
  }

  test(`aio device (${way}): the binding is the one asked for`, () => {
    expect(reactor.aio.source).toBe(aioSource);
    expect(reactor.aio.usesRing).toBe(usesAioRing);
  });

  test(`aio device (${way}): written, flushed, read back: the same bytes, also on file`, () => {
    const { drive, device, answers } = setUp("round-trip");
    const bytes = 256 * KIB;
    const from = context.payloadPool.allocate(bytes);
    const to = context.payloadPool.allocate(bytes);
    fillRandom(new SeededRandom(1), memory.bytes.subarray(from, from + bytes));
    const write = add(device, { op: Op.write, offset: MIB, bytes, address: from });
    pumpUntil(() => answers.size === 1);
    const flush = add(device, { op: Op.flush });
    pumpUntil(() => answers.size === 2);
    const read = add(device, { op: Op.read, offset: MIB, bytes, address: to });
    pumpUntil(() => answers.size === 3);
    expect([write, flush, read].map((request) => answers.get(request))).toEqual([bytes, 0, bytes]);
    const written = memory.bytes.slice(from, from + bytes);
    expect(memory.bytes.slice(to, to + bytes)).toEqual(written);
    const file = readFileSync(drive.path);
    expect(file.subarray(MIB, MIB + bytes).equals(written)).toBe(true);
    expect(file.length).toBe(sizeBytes);
    context.payloadPool.free(from, bytes);
    context.payloadPool.free(to, bytes);
  });

  test(`aio device (${way}): scattered FUA neighbours: merged, each byte in its place`, () => {
    const { drive, device, answers } = setUp("merged");
    const rows = 40;
    const area = context.payloadPool.allocate(2 * rows * ROW_BYTES);
    const expected = new Uint8Array(rows * ROW_BYTES);
    for (let row = 0; row < rows; row += 1) {
      // Every third row follows its neighbour in memory, too.
      const address = area + (row * 2 - (row % 3 === 1 ? 1 : 0)) * ROW_BYTES;
      memory.bytes.fill(row + 1, address, address + ROW_BYTES);
      expected.fill(row + 1, row * ROW_BYTES, (row + 1) * ROW_BYTES);
      add(device, {
        op: Op.write,
        offset: row * ROW_BYTES,
        bytes: ROW_BYTES,
        address,
        isFua: true,
      });
    }
    pumpUntil(() => answers.size === rows);
    expect([...answers.values()].every((result) => result === ROW_BYTES)).toBe(true);
    const file = readFileSync(drive.path);
    expect(file.subarray(0, expected.length).equals(expected)).toBe(true);
    context.payloadPool.free(area, 2 * rows * ROW_BYTES);
  });

  test(`aio device (${way}): zeroes over data: exactly the range reads as zeros`, () => {
    const { drive, device, answers } = setUp("zeroes");
    const bytes = 4 * MIB;
    const area = context.payloadPool.allocate(bytes);
    memory.bytes.fill(0xa5, area, area + bytes);
    add(device, { op: Op.write, offset: 0, bytes, address: area });
    pumpUntil(() => answers.size === 1);
    const zeroed = 2 * MIB + 3 * ROW_BYTES;
    const request = add(device, { op: Op.writeZeroes, offset: ROW_BYTES, bytes: zeroed });
    pumpUntil(() => answers.size === 2);
    expect(answers.get(request)).toBe(zeroed);
    const file = readFileSync(drive.path);
    expect(file.subarray(0, ROW_BYTES).every((byte) => byte === 0xa5)).toBe(true);
    expect(file.subarray(ROW_BYTES, ROW_BYTES + zeroed).every((byte) => byte === 0)).toBe(true);
    expect(file.subarray(ROW_BYTES + zeroed, bytes).every((byte) => byte === 0xa5)).toBe(true);
    context.payloadPool.free(area, bytes);
  });

  test(`aio device (${way}): a read across the end: short; behind the end: 0 bytes`, () => {
    const { device, answers } = setUp("end");
    const area = context.payloadPool.allocate(64 * KIB);
    const offset = sizeBytes - ROW_BYTES;
    const across = add(device, { op: Op.read, offset, bytes: 4 * ROW_BYTES, address: area });
    const behind = add(device, {
      op: Op.read,
      offset: sizeBytes + MIB,
      bytes: ROW_BYTES,
      address: area + 32 * KIB,
    });
    pumpUntil(() => answers.size === 2);
    expect(answers.get(across)).toBe(ROW_BYTES);
    expect(answers.get(behind)).toBe(0);
    context.payloadPool.free(area, 64 * KIB);
  });

  test(`aio device (${way}): a write through a read-only fd: the errno of the kernel`, () => {
    const { drive } = setUp("read-only");
    const fd = openSync(drive.path, "r");
    const device = context.openDevice({ ...drive, fd });
    const answers: number[] = [];
    device.onComplete = (_request, result) => answers.push(result);
    const area = context.payloadPool.allocate(ROW_BYTES);
    add(device, { op: Op.write, offset: 0, bytes: ROW_BYTES, address: area });
    add(device, { op: Op.read, offset: MIB, bytes: ROW_BYTES, address: area });
    pumpUntil(() => answers.length === 2);
    expect(answers.toSorted((left, right) => left - right)).toEqual([-EBADF, ROW_BYTES]);
    device.close();
    closeSync(fd);
    context.payloadPool.free(area, ROW_BYTES);
  });

  test(`aio device (${way}): random writes at depth 64: the file is as the model`, () => {
    const { drive, device, answers } = setUp("random");
    const random = new SeededRandom(99);
    const model = new Uint8Array(sizeBytes);
    const area = context.payloadPool.allocate(64 * 16 * KIB);
    let expectedCount = 0;
    for (let round = 0; round < 20; round += 1) {
      const taken = new Set<number>();
      for (let index = 0; index < 64; index += 1) {
        const place = random.nextU32() % (sizeBytes / (16 * KIB));
        if (taken.has(place)) continue;
        taken.add(place);
        const bytes = (1 + (random.nextU32() % 4)) * ROW_BYTES;
        const address = area + index * 16 * KIB;
        const value = random.nextU32() & 0xff;
        memory.bytes.fill(value, address, address + bytes);
        model.fill(value, place * 16 * KIB, place * 16 * KIB + bytes);
        add(device, { op: Op.write, offset: place * 16 * KIB, bytes, address });
        expectedCount += 1;
      }
      pumpUntil(() => device.outstanding === 0);
      for (const request of answers.keys()) table.free(request);
      expectedCount -= answers.size;
      answers.clear();
    }
    expect(expectedCount).toBe(0);
    expect(readFileSync(drive.path).equals(model)).toBe(true);
    context.payloadPool.free(area, 64 * 16 * KIB);
  });
}

const HAS_LOOP = canMakeLoopDevices();

test.skipIf(!HAS_LOOP)(
  "aio device: a drive that has become smaller is no drive without room [needs loop]",
  async () => {
    const file = join(makeTempDir("shrinks"), "disk.img");
    makeFile(file, 8 * MIB);
    const path = await makeLoopDevice(file);
    const reactor = startTestReactor({});
    const { context, pumpUntil } = reactor;
    const fd = openSync(path, constants.O_RDWR | constants.O_DIRECT);
    const drive = { ...reactor.createDrive({ name: "any", sizeBytes: MIB }), path, fd };
    const device = context.openDevice({ ...drive, sizeBytes: 8 * MIB });
    let answer = 0;
    device.onComplete = (_request, result) => {
      answer = result;
    };
    const area = context.payloadPool.allocate(ROW_BYTES);
    const write = (offset: number): number => {
      const { table } = context;
      const request = table.allocate();
      table.op[request] = Op.write;
      table.offset[request] = offset;
      table.bytes[request] = ROW_BYTES;
      table.address[request] = area;
      table.isFua[request] = 0;
      device.submit(request);
      pumpUntil(() => device.outstanding === 0);
      table.free(request);
      return answer;
    };
    expect(write(4 * MIB)).toBe(ROW_BYTES);
    truncateSync(file, MIB);
    expect((await runProgram([toolPath("losetup")!, "--set-capacity", path])).exitCode).toBe(0);
    // The kernel says ENOSPC.
    expect(write(4 * MIB)).toBe(-ENXIO);
    expect(write(0)).toBe(ROW_BYTES);
    device.close();
    closeSync(fd);
    reactor.stop();
  },
);

test("linux aio: more events than any host gives: the errno, no crash", () => {
  const memory = new SharedMemory(testMemory().memory);
  const carver = new Carver({ start: ROW_BYTES, end: CONTROL_BYTES });
  const open = (eventCount: number) =>
    LinuxAio.open({ memory, carver, eventCount, source: "libaio", usesRing: true });
  expect(open(2 ** 30).ok).toBe(false);
  const few = open(16);
  expect(few.ok).toBe(true);
  if (few.ok) few.value.destroy();
});
