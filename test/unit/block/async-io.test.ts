/**
 * Goal: a request as a promise gives back what it took, whatever the outcome, and waits its turn
 * when the table is full.
 * Method: the real filter stack over a device that answers by script.
 */
import { expect, test } from "bun:test";
import { EIO, ENXIO } from "../../../src/base/errno.ts";
import { AsyncIo, type IoAnswer, isDone } from "../../../src/block/async-io.ts";
import { Outcome } from "../../../src/block/io-error.ts";
import { OutcomeRouter } from "../../../src/block/outcome-router.ts";
import { RetryFilter } from "../../../src/block/retry-filter.ts";
import { IoTable, Op } from "../../../src/reactor/io-table.ts";
import { Timers } from "../../../src/reactor/timers.ts";
import { ManualClock } from "../../helpers/manual-clock.ts";
import { ScriptedDevice } from "../../helpers/scripted-device.ts";

const RANGE = { offset: 4096, bytes: 8192, address: 65_536 };

function makeBench(capacity: number) {
  const clock = new ManualClock();
  const timers = new Timers(clock);
  const table = new IoTable(capacity);
  const device = new ScriptedDevice(table);
  const router = new OutcomeRouter(table);
  const filter = new RetryFilter({
    next: device,
    table,
    timers,
    router,
    limits: { transientLimit: 2, mediaLimit: 0, backOffMsMax: 1 },
  });
  const io = new AsyncIo({ table, router });
  return { clock, timers, table, device, router, filter, io };
}

test("async-io: each operation: submitted as asked, answered when done", async () => {
  const { io, filter, device, table } = makeBench(2);
  const calls = [
    { run: () => io.read(filter, RANGE), op: Op.read, range: RANGE, isFua: false },
    {
      run: () => io.write(filter, RANGE, { isFua: false }),
      op: Op.write,
      range: RANGE,
      isFua: false,
    },
    {
      run: () => io.write(filter, RANGE, { isFua: true }),
      op: Op.write,
      range: RANGE,
      isFua: true,
    },
    {
      run: () => io.flush(filter),
      op: Op.flush,
      range: { offset: 0, bytes: 0, address: 0 },
      isFua: false,
    },
  ];
  for (const { run, op, range, isFua } of calls) {
    const answer = run();
    const { request } = device.last;
    expect(device.last).toEqual({ request, op, ...range, isFua });
    expect(table.available).toBe(1);
    device.answerLast();
    expect(await answer).toEqual({ outcome: Outcome.done, errno: 0 });
    expect(table.available).toBe(2);
  }
});

test("async-io: a device fails: the outcome is the value, the request is free", async () => {
  const { io, filter, device, table } = makeBench(1);
  for (const [errno, outcome] of [
    [EIO, Outcome.mediaError],
    [ENXIO, Outcome.memberLost],
  ] as const) {
    const answer = io.read(filter, RANGE);
    device.answerLast(-errno);
    const value = await answer;
    expect(value).toEqual({ outcome, errno });
    expect(isDone(value)).toBe(false);
    expect(table.available).toBe(1);
  }
});

test("async-io: answers come in another order: each caller gets its own", async () => {
  const { io, filter, device } = makeBench(4);
  const answers = [0, 1, 2].map((index) => io.read(filter, { ...RANGE, offset: 8192 * index }));
  const [first, second, third] = device.submissions;
  device.answer(second!.request, -ENXIO);
  device.answer(third!.request, third!.bytes);
  device.answer(first!.request, -EIO);
  expect((await Promise.all(answers)).map(({ errno }) => errno)).toEqual([EIO, ENXIO, 0]);
});

test("async-io: the table is full: waits until a request is free", async () => {
  const { io, filter, device, clock, timers, table } = makeBench(1);
  const answered: IoAnswer[] = [];
  const first = io.read(filter, RANGE);
  const second = io.flush(filter).then((answer) => answered.push(answer));
  for (let turn = 0; turn < 3; turn += 1) {
    // It is woken when there is room: no timer has it ask again.
    expect(clock.runNextTimer(timers)).toBe(false);
    await Promise.resolve();
    await Promise.resolve();
  }
  expect(device.submissions).toHaveLength(1);
  device.answerLast();
  await first;
  while (device.submissions.length === 1) await Promise.resolve();
  expect(device.last.op).toBe(Op.flush);
  device.answerLast();
  await second;
  expect(answered).toEqual([{ outcome: Outcome.done, errno: 0 }]);
  expect(table.available).toBe(1);
});

test("async-io: a write that failed: told in the reap itself, before whoever waits", async () => {
  const { io, filter, device } = makeBench(2);
  const order: string[] = [];
  const write = (name: string) =>
    io
      .write(filter, RANGE, {
        isFua: true,
        onFailed: ({ errno }) => order.push(`${name} ${errno}`),
      })
      .then(() => order.push(`${name} answered`));
  const failed = write("one");
  device.answerLast(-ENXIO);
  expect(order).toEqual([`one ${ENXIO}`]);
  await failed;
  const done = write("two");
  device.answerLast();
  await done;
  expect(order).toEqual([`one ${ENXIO}`, "one answered", "two answered"]);
});
