/**
 * Goal: every request that enters the queue completes exactly once with its own result, whatever
 * io_submit and the completions say. Method: a fake AIO kernel that checks each iocb; short and
 * failed merged transfers are enumerated at every 4 KiB step.
 */
import { expect, test } from "bun:test";
import {
  EAGAIN,
  EBADF,
  EBUSY,
  EINTR,
  EIO,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  ESHUTDOWN,
} from "../../../src/base/errno.ts";
import { Carver, CONTROL_BYTES, SharedMemory } from "../../../src/base/memory.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { AioDevice } from "../../../src/block/aio-device.ts";
import { AioQueue } from "../../../src/reactor/aio-queue.ts";
import { IoTable, Op, type OpCode } from "../../../src/reactor/io-table.ts";
import { FakeAioKernel } from "../../helpers/fake-aio-kernel.ts";
import { testMemory } from "../../helpers/reactor.ts";

const memory = new SharedMemory(testMemory().memory);

interface Spec {
  readonly op?: OpCode;
  readonly offset?: number;
  readonly bytes?: number;
  readonly address?: number;
  readonly isFua?: boolean;
}

function setUp({ slotCount = 64, maxInFlight = 64 } = {}) {
  memory.bytes.fill(0, 0, MIB);
  const kernel = new FakeAioKernel(memory);
  const carver = new Carver({ start: ROW_BYTES, end: CONTROL_BYTES });
  const table = new IoTable(256);
  const queue = new AioQueue({ kernel, table, carver, memory, eventFd: 77, slotCount });
  const answers: [number, number][] = [];
  function openDevice(fd: number): AioDevice {
    const device = new AioDevice({
      name: `drive${fd}`,
      fd,
      sizeBytes: 1024 * MIB,
      logicalBlockBytes: 512,
      queue,
      table,
      sizeNow: () => 1024 * MIB,
      maxInFlight,
    });
    device.onComplete = (request, result) => {
      answers.push([request, result]);
      table.free(request);
    };
    return device;
  }
  function add(device: AioDevice, spec: Spec = {}): number {
    const request = table.allocate();
    const op = spec.op ?? Op.write;
    table.op[request] = op;
    table.offset[request] = spec.offset ?? 0;
    table.bytes[request] = op === Op.flush ? 0 : (spec.bytes ?? ROW_BYTES);
    table.address[request] = spec.address ?? CONTROL_BYTES;
    table.isFua[request] = spec.isFua === true ? 1 : 0;
    device.submit(request);
    return request;
  }
  /** Submits and reaps, completing everything in full, until nothing is outstanding. */
  function drain(): void {
    for (let turn = 0; queue.outstandingTotal > 0; turn += 1) {
      expect(turn).toBeLessThan(1000);
      queue.submit();
      kernel.completeAll();
      queue.reap();
    }
  }
  return { kernel, table, queue, answers, device: openDevice(5), openDevice, add, drain };
}

/** A buffer address whose neighbours are not contiguous with it. */
const scattered = (index: number) => CONTROL_BYTES + index * 64 * KIB;

test("aio queue: one read: its iocb says exactly that", () => {
  const { kernel, queue, device, answers, add } = setUp();
  const offset = 5 * 2 ** 40 + ROW_BYTES;
  const request = add(device, { op: Op.read, offset, bytes: 8 * KIB, address: scattered(3) });
  expect(queue.hasWork).toBe(true);
  queue.submit();
  expect(queue.hasWork).toBe(false);
  expect(kernel.held).toEqual([
    {
      command: "read",
      fd: 5,
      offset,
      bytes: 8 * KIB,
      isDurable: false,
      iovecs: [{ address: scattered(3), bytes: 8 * KIB }],
      eventFd: 77,
      data: expect.any(BigInt),
    },
  ]);
  expect(answers).toEqual([]);
  kernel.completeAll();
  expect(queue.reap()).toBe(1);
  expect(answers).toEqual([[request, 8 * KIB]]);
});

test("aio queue: requests of several devices: go in one io_submit", () => {
  const { kernel, queue, device, openDevice, add } = setUp();
  const other = openDevice(6);
  add(device, { offset: 0 });
  add(other, { offset: 0 });
  add(device, { offset: MIB });
  queue.submit();
  expect(kernel.submitCount).toBe(1);
  expect(kernel.taken.map(({ fd, offset }) => [fd, offset])).toEqual([
    [5, 0],
    [5, MIB],
    [6, 0],
  ]);
  queue.submit();
  expect(kernel.submitCount).toBe(1);
});

test("aio queue: contiguous neighbours: share one vectored iocb, joined where memory is", () => {
  const { kernel, queue, device, add } = setUp();
  add(device, { offset: 0, address: scattered(0) });
  add(device, { offset: ROW_BYTES, address: scattered(0) + ROW_BYTES });
  add(device, { offset: 2 * ROW_BYTES, address: scattered(1) });
  queue.submit();
  expect(kernel.held.length).toBe(1);
  expect(kernel.held[0]!.iovecs).toEqual([
    { address: scattered(0), bytes: 2 * ROW_BYTES },
    { address: scattered(1), bytes: ROW_BYTES },
  ]);
});

const neighbours: [string, Spec, Spec][] = [
  ["a gap on the device", { offset: 0 }, { offset: 2 * ROW_BYTES }],
  ["the wrong order", { offset: ROW_BYTES }, { offset: 0 }],
  ["another direction", { offset: 0 }, { offset: ROW_BYTES, op: Op.read }],
  ["FUA behind none", { offset: 0 }, { offset: ROW_BYTES, isFua: true }],
  ["no FUA behind one", { offset: 0, isFua: true }, { offset: ROW_BYTES }],
  ["zeroes behind data", { offset: 0 }, { offset: ROW_BYTES, op: Op.writeZeroes }],
  ["zeroes behind zeroes", { op: Op.writeZeroes }, { offset: ROW_BYTES, op: Op.writeZeroes }],
  ["a flush", { offset: 0 }, { op: Op.flush }],
];
for (const [name, left, right] of neighbours) {
  test(`aio queue: neighbours with ${name}: are not merged and keep their order`, () => {
    const { kernel, queue, device, answers, add } = setUp();
    const first = add(device, left);
    const second = add(device, right);
    queue.submit();
    expect(kernel.held.length).toBe(2);
    expect(kernel.held[0]!.isDurable).toBe(left.isFua === true);
    expect(kernel.held[1]!.isDurable).toBe(right.isFua === true);
    expect(kernel.held[1]!.command === "flush").toBe(right.op === Op.flush);
    kernel.completeAll();
    queue.reap();
    expect(answers.map(([request]) => request)).toEqual([first, second]);
  });
}

test("aio queue: two FUA neighbours: are merged and stay FUA", () => {
  const { kernel, queue, device, add } = setUp();
  add(device, { offset: 0, isFua: true });
  add(device, { offset: ROW_BYTES, isFua: true });
  queue.submit();
  expect(kernel.held.map(({ isDurable }) => isDurable)).toEqual([true]);
});

test("aio queue: a flush in the slot of a FUA write: carries nothing of it", () => {
  const { kernel, queue, device, answers, add, drain } = setUp({ slotCount: 1 });
  add(device, { offset: MIB, isFua: true });
  drain();
  const flush = add(device, { op: Op.flush });
  queue.submit();
  expect(kernel.held).toMatchObject([{ command: "flush", fd: 5, bytes: 0, eventFd: 77 }]);
  kernel.complete();
  queue.reap();
  expect(answers[1]).toEqual([flush, 0]);
});

test("aio queue: a FUA bit on a read: does not reach the kernel", () => {
  const { kernel, queue, device, add } = setUp();
  add(device, { op: Op.read, isFua: true });
  queue.submit();
  expect(kernel.held[0]!.isDurable).toBe(false);
});

test("aio queue: many neighbours: at most 16 iovecs and 1 MiB in an iocb", () => {
  const { kernel, queue, device, add } = setUp();
  for (let index = 0; index < 20; index += 1) {
    add(device, { offset: index * ROW_BYTES, address: scattered(index) });
  }
  queue.submit();
  expect(kernel.taken.map(({ iovecs }) => iovecs.length)).toEqual([16, 4]);
  const start = 2 * MIB;
  for (let index = 0; index < 5; index += 1) {
    add(device, { offset: start + index * 256 * KIB, bytes: 256 * KIB, address: scattered(index) });
  }
  queue.submit();
  expect(kernel.taken.slice(2).map(({ bytes }) => bytes)).toEqual([MIB, 256 * KIB]);
});

test("aio queue: a merged transfer short at every row: covered ones done, the rest go alone", () => {
  const sizes = [1, 3, 2].map((rows) => rows * ROW_BYTES);
  for (let result = 0; result < 6 * ROW_BYTES; result += ROW_BYTES) {
    const { kernel, queue, device, answers, add } = setUp();
    let offset = 0;
    const requests = sizes.map((bytes, index) => {
      const request = add(device, { offset, bytes, address: scattered(index) });
      offset += bytes;
      return request;
    });
    const behind = add(device, { offset: 64 * MIB });
    queue.submit();
    const merged = kernel.held[0]!;
    expect(merged.bytes).toBe(6 * ROW_BYTES);
    kernel.complete(result, merged);
    queue.reap();
    let end = 0;
    const reached: [number, number][] = [];
    const again: number[] = [];
    for (const [index, bytes] of sizes.entries()) {
      const start = end;
      end += bytes;
      if (result > start) reached.push([requests[index]!, Math.min(bytes, result - start)]);
      else again.push(start);
    }
    expect(answers).toEqual(reached);
    queue.submit();
    expect(kernel.taken.slice(2).map(({ offset: at }) => at)).toEqual(again);
    kernel.completeAll();
    queue.reap();
    expect(answers.map(([request]) => request).sort()).toEqual([...requests, behind].sort());
    expect(device.outstanding).toBe(0);
  }
});

test("aio queue: an error of a merged iocb: each request is judged by its own answer", () => {
  for (const errno of [EIO, EAGAIN, ENOSPC]) {
    const { kernel, queue, device, answers, add } = setUp();
    const requests = [0, 1, 2].map((row) =>
      add(device, { offset: row * ROW_BYTES, address: scattered(row) }),
    );
    queue.submit();
    kernel.complete(-errno);
    expect(queue.reap()).toBe(0);
    expect(queue.hasWork).toBe(true);
    queue.submit();
    expect(kernel.held.map(({ offset }) => offset)).toEqual([0, ROW_BYTES, 2 * ROW_BYTES]);
    const [first, second, third] = [...kernel.held];
    kernel.complete(undefined, third);
    kernel.complete(-errno, second);
    kernel.complete(512, first);
    expect(queue.reap()).toBe(3);
    expect(answers).toEqual([
      [requests[2]!, ROW_BYTES],
      [requests[1]!, -errno],
      [requests[0]!, 512],
    ]);
  }
});

test("aio queue: a merged iocb that moved more than asked: the excess is not hidden", () => {
  const { kernel, queue, device, answers, add } = setUp();
  add(device, { offset: 0 });
  add(device, { offset: ROW_BYTES });
  queue.submit();
  kernel.complete(3 * ROW_BYTES);
  queue.reap();
  expect(answers.map(([, result]) => result)).toEqual([ROW_BYTES, 2 * ROW_BYTES]);
});

for (const errno of [EAGAIN, EINTR, ENOMEM, EBUSY]) {
  test(`aio queue: io_submit answers -${errno}: never surfaces, is tried again`, () => {
    const { kernel, queue, device, answers, add } = setUp();
    const request = add(device);
    kernel.submitAnswers.push(-errno);
    queue.submit();
    expect(kernel.submitCount).toBe(1);
    expect(queue.retryDelayMs).toBeGreaterThan(0);
    expect(queue.hasWork).toBe(false);
    expect(queue.reap()).toBe(0);
    queue.submit();
    expect(queue.retryDelayMs).toBe(-1);
    expect(kernel.taken.length).toBe(1);
    kernel.completeAll();
    queue.reap();
    expect(answers).toEqual([[request, ROW_BYTES]]);
  });
}

test("aio queue: io_submit takes a part: the rest follows in order, once", () => {
  const { kernel, queue, device, answers, add, drain } = setUp();
  const requests = [0, 1, 2, 3, 4].map((index) => add(device, { offset: index * MIB }));
  kernel.submitAnswers.push(2, -EAGAIN);
  queue.submit();
  expect(kernel.held.length).toBe(2);
  const late = add(device, { offset: 5 * MIB });
  drain();
  expect(kernel.taken.map(({ offset }) => offset / MIB)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(answers.map(([request]) => request)).toEqual([...requests, late]);
});

test("aio queue: io_submit refuses the first iocb for good: only that request gets the error", () => {
  const { kernel, queue, device, answers, add } = setUp();
  const requests = [0, 1, 2].map((index) => add(device, { offset: index * MIB }));
  kernel.submitAnswers.push(1, -EBADF);
  queue.submit();
  expect(kernel.taken.map(({ offset }) => offset / MIB)).toEqual([0, 2]);
  expect(answers).toEqual([]);
  expect(queue.hasWork).toBe(true);
  expect(queue.reap()).toBe(1);
  expect(answers).toEqual([[requests[1]!, -EBADF]]);
});

test("aio queue: io_submit refuses a merged iocb for good: its requests are tried alone", () => {
  const { kernel, queue, device, answers, add, drain } = setUp();
  const requests = [0, 1].map((row) => add(device, { offset: row * ROW_BYTES }));
  kernel.submitAnswers.push(-EIO);
  queue.submit();
  expect(kernel.taken.length).toBe(0);
  expect(queue.reap()).toBe(0);
  drain();
  expect(kernel.taken.map(({ bytes }) => bytes)).toEqual([ROW_BYTES, ROW_BYTES]);
  expect(answers).toEqual(requests.map((request) => [request, ROW_BYTES]));
});

test("aio queue: more than a device may have in flight: waits for completions, in order", () => {
  const { kernel, queue, device, openDevice, add, drain, answers } = setUp({ maxInFlight: 2 });
  const other = openDevice(6);
  const requests = [0, 1, 2, 3, 4].map((index) => add(device, { offset: index * MIB }));
  const free = add(other);
  queue.submit();
  expect(kernel.held.map(({ fd }) => fd)).toEqual([5, 5, 6]);
  queue.submit();
  expect(kernel.held.length).toBe(3);
  expect(queue.hasWork).toBe(false);
  kernel.complete();
  queue.reap();
  queue.submit();
  expect(kernel.held.filter(({ fd }) => fd === 5).length).toBe(2);
  drain();
  const ofDevice = answers.map(([request]) => request).filter((request) => request !== free);
  expect(ofDevice).toEqual(requests);
});

test("aio queue: fewer slots than requests: every device gets its turn", () => {
  const { kernel, queue, device, openDevice, add, drain, answers } = setUp({ slotCount: 4 });
  const other = openDevice(6);
  for (let index = 0; index < 8; index += 1) {
    add(device, { offset: index * MIB });
    add(other, { offset: index * MIB });
  }
  queue.submit();
  kernel.completeAll();
  queue.reap();
  queue.submit();
  expect(new Set(kernel.taken.map(({ fd }) => fd)).size).toBe(2);
  drain();
  expect(answers.length).toBe(16);
});

test("aio queue: zeroes of 2.5 MiB: go as zero pages, part after part, one answer", () => {
  const bytes = 2.5 * MIB;
  const { kernel, queue, device, answers, add } = setUp();
  const request = add(device, { op: Op.writeZeroes, offset: MIB, bytes, isFua: true });
  for (const part of [MIB, MIB, MIB / 2]) {
    queue.submit();
    expect(kernel.held.map((iocb) => [iocb.bytes, iocb.isDurable])).toEqual([[part, true]]);
    for (const { address, bytes: length } of kernel.held[0]!.iovecs) {
      expect(memory.bytes.subarray(address, address + length).every((byte) => byte === 0)).toBe(
        true,
      );
    }
    expect(answers).toEqual([]);
    kernel.complete();
    queue.reap();
  }
  expect(kernel.taken.map(({ offset }) => offset / MIB)).toEqual([1, 2, 3]);
  expect(answers).toEqual([[request, bytes]]);
});

test("aio queue: zeroes that stop in the second part: are a short request", () => {
  for (const result of [-EIO, 0, 8 * KIB]) {
    const { kernel, queue, device, answers, add } = setUp();
    add(device, { op: Op.writeZeroes, bytes: 2 * MIB });
    queue.submit();
    kernel.complete();
    queue.reap();
    queue.submit();
    kernel.complete(result);
    queue.reap();
    expect(answers[0]![1]).toBe(MIB + Math.max(result, 0));
  }
});

test("aio queue: zeroes that fail in the first part: give the error", () => {
  const { kernel, queue, device, answers, add } = setUp();
  add(device, { op: Op.writeZeroes, bytes: 2 * MIB });
  queue.submit();
  kernel.complete(-EIO);
  queue.reap();
  expect(answers[0]![1]).toBe(-EIO);
});

test("aio queue: a discard: is not offered, and completes in the next reap", () => {
  const { kernel, queue, device, answers, add } = setUp();
  const request = add(device, { op: Op.discard });
  expect(answers).toEqual([]);
  expect(queue.hasWork).toBe(true);
  queue.submit();
  expect(kernel.submitCount).toBe(0);
  queue.reap();
  expect(answers).toEqual([[request, -EOPNOTSUPP]]);
});

test("aio queue: completions of one reap: what a handler makes complete is of the next", () => {
  const { kernel, queue, device, openDevice, add } = setUp();
  const other = openDevice(6);
  const trace: string[] = [];
  device.onComplete = (request, result) => {
    trace.push(`5:${result}`);
    // A request made in a handler belongs to a later batch, even one that completes at once.
    if (result > 0) add(device, { op: Op.discard });
    expect(request).toBeGreaterThanOrEqual(0);
  };
  other.onComplete = (_request, result) => trace.push(`6:${result}`);
  add(device, { offset: MIB });
  add(other, { offset: MIB });
  queue.submit();
  kernel.complete();
  kernel.complete(-EIO);
  expect(queue.reap()).toBe(2);
  expect(trace).toEqual([`5:${ROW_BYTES}`, `6:${-EIO}`]);
  expect(queue.reap()).toBe(1);
  expect(trace.slice(2)).toEqual([`5:${-EOPNOTSUPP}`]);
  expect(queue.reap()).toBe(0);
  expect(trace.length).toBe(3);
});

test("aio queue: rule 15: cancelled writes never reach the kernel, reads still do", () => {
  const { kernel, queue, device, answers, add, drain } = setUp({ maxInFlight: 2 });
  const inKernel = add(device, { offset: 0 });
  const pending = add(device, { offset: MIB });
  kernel.submitAnswers.push(1, -EAGAIN);
  queue.submit();
  const write = add(device, { offset: 2 * MIB });
  const read = add(device, { offset: 3 * MIB, op: Op.read });
  const flush = add(device, { op: Op.flush });
  expect(device.cancelQueuedWrites(ESHUTDOWN)).toBe(3);
  expect(answers).toEqual([]);
  drain();
  expect(kernel.taken.map(({ command, offset }) => [command, offset / MIB])).toEqual([
    ["write", 0],
    ["read", 3],
  ]);
  expect(new Map(answers)).toEqual(
    new Map([
      [pending, -ESHUTDOWN],
      [write, -ESHUTDOWN],
      [flush, -ESHUTDOWN],
      [inKernel, ROW_BYTES],
      [read, ROW_BYTES],
    ]),
  );
});

test("aio queue: rule 10: a device with a request outstanding is not closed", () => {
  const { kernel, queue, device, add } = setUp();
  add(device);
  expect(() => device.close()).toThrow("nothing is outstanding");
  queue.submit();
  expect(() => device.close()).toThrow("nothing is outstanding");
  kernel.completeAll();
  queue.reap();
  device.close();
  expect(() => add(device)).toThrow("the device is open");
});

test("aio queue: a closed device: its handle serves the next one", () => {
  const { kernel, queue, device, openDevice, add, drain } = setUp();
  add(device);
  drain();
  device.close();
  queue.submit();
  add(openDevice(9));
  drain();
  expect(kernel.taken.map(({ fd }) => fd)).toEqual([5, 9]);
});

test("aio queue: rule 10: a request that is out is not reissued", () => {
  const { queue, table, device, add } = setUp();
  const request = add(device);
  expect(() => device.submit(request)).toThrow("not reissued");
  queue.submit();
  expect(() => device.submit(request)).toThrow("not reissued");
  expect(table.op[request]).toBe(Op.write);
});

test("aio queue: rule 17: whatever is not whole rows is refused", () => {
  const wrong: Spec[] = [
    { offset: 511 },
    { bytes: 512 },
    { bytes: 0 },
    { address: CONTROL_BYTES + 512 },
    { address: 0 },
    { offset: -ROW_BYTES },
    { offset: 2 ** 53 },
    { op: Op.writeZeroes, bytes: 6 * KIB },
  ];
  for (const spec of wrong) {
    const { device, add } = setUp();
    expect(() => add(device, spec)).toThrow();
  }
});

test("aio queue: a completion nobody waits for: stops the reactor", () => {
  const { kernel, queue, device, add } = setUp();
  add(device);
  queue.submit();
  const iocb = kernel.complete();
  queue.reap();
  kernel.held.push(iocb);
  kernel.complete();
  expect(() => queue.reap()).toThrow("the slot is in use");
});

test("aio queue: many requests answered in any order: slots and requests all come back", () => {
  const { kernel, queue, table, device, answers, add, drain } = setUp({ slotCount: 16 });
  let seed = 1;
  const next = (bound: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return (seed >>> 8) % bound;
  };
  for (let round = 0; round < 20_000; round += 1) {
    while (table.available > 200) {
      add(device, { offset: next(8) * ROW_BYTES, op: next(2) === 0 ? Op.read : Op.write });
    }
    queue.submit();
    for (let count = next(8); count > 0 && kernel.held.length > 0; count -= 1) {
      const iocb = kernel.held[next(kernel.held.length)]!;
      kernel.complete(next(10) === 0 ? next(5) * ROW_BYTES : undefined, iocb);
      kernel.taken.length = 0;
    }
    queue.reap();
  }
  drain();
  expect(table.available).toBe(256);
  expect(answers.length).toBeGreaterThan(50_000);
});

test("aio queue: all done as io_submit returns, for long: no eventfd, until one is not", () => {
  const { kernel, queue, device, add, answers } = setUp();
  /** io_submit completes what it takes. */
  function turn(): number {
    const submit = kernel.submit.bind(kernel);
    kernel.submit = (list, count) => {
      const taken = submit(list, count);
      for (const iocb of [...kernel.held]) {
        if (iocb.command === "write") kernel.complete(undefined, iocb);
      }
      return taken;
    };
    add(device);
    queue.submit();
    kernel.submit = submit;
    expect(queue.hasCompletions).toBe(true);
    queue.reap();
    return kernel.taken.at(-1)!.eventFd;
  }
  for (let count = 0; count < 63; count += 1) expect(turn()).toBe(77);
  add(device, { op: Op.flush });
  queue.submit();
  kernel.complete();
  queue.reap();
  expect([turn(), turn()]).toEqual([77, -1]);
  expect(queue.retryDelayMs).toBe(-1);
  // A flush is not through at once: it has its signal, and says nothing about transfers.
  add(device, { op: Op.flush });
  queue.submit();
  expect(kernel.held.map(({ command, eventFd }) => [command, eventFd])).toEqual([["flush", 77]]);
  expect(queue.retryDelayMs).toBe(-1);
  expect([turn(), turn()]).toEqual([-1, -1]);
  kernel.complete();
  queue.reap();
  // Not through at once: nothing will end the wait, so it is short.
  const late = add(device);
  queue.submit();
  expect(kernel.held.map(({ eventFd }) => eventFd)).toEqual([-1]);
  expect(queue.hasCompletions).toBe(false);
  expect(queue.retryDelayMs).toBe(1);
  add(device, { offset: MIB });
  queue.submit();
  expect(kernel.held.map(({ eventFd }) => eventFd)).toEqual([-1, 77]);
  kernel.complete();
  queue.reap();
  expect(answers.at(-1)).toEqual([late, ROW_BYTES]);
  expect(queue.retryDelayMs).toBe(-1);
  kernel.completeAll();
  queue.reap();
  for (let count = 0; count < 64; count += 1) expect(turn()).toBe(77);
  expect(turn()).toBe(-1);
});
