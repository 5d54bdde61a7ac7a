/**
 * Goal: the loop loses nothing: completions end its wait, async code of any depth gets its requests
 * submitted before it waits, timers and wake-ups are on time, and bugs end the process. Method: a
 * real reactor on this thread, and a worker for what only a worker shows.
 */
import { afterAll, expect, test } from "bun:test";
import { closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";
import { MessageChannel, Worker as NodeWorker } from "node:worker_threads";
import type { ReactorConfig, ReactorMessage } from "../../../src/array/protocol.ts";
import { createMemory } from "../../../src/base/memory.ts";
import { MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { assembleParityCode } from "../../../src/parity/kernels.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { Ready } from "../../../src/reactor/kernel.ts";
import type { Defect } from "../../../src/reactor/linux-defect.ts";
import { openEventFd } from "../../../src/reactor/linux-mailbox.ts";
import { ringEventFd, startTestReactor } from "../../helpers/reactor.ts";
import { makeTempDir } from "../../helpers/temp.ts";

let wakeCount = 0;
const test_ = startTestReactor({
  onWake: () => {
    wakeCount += 1;
  },
});
const { reactor, context, queue } = test_;
const device = context.openDevice(test_.createDrive({ name: "loop", sizeBytes: MIB }));
const waiting = new Map<number, (result: number) => void>();
/** Of a poll that nothing ends: far more than any load makes of the rest. */
const POLL_MS = 60_000;
device.onComplete = (request, result) => {
  context.table.free(request);
  waiting.get(request)?.(result);
};
const buffer = context.enginePool.allocate(ROW_BYTES);
afterAll(() => test_.stop());

function read(): Promise<number> {
  const request = context.table.allocate();
  context.table.op[request] = Op.read;
  context.table.offset[request] = 0;
  context.table.bytes[request] = ROW_BYTES;
  context.table.address[request] = buffer;
  device.submit(request);
  return new Promise((resolve) => waiting.set(request, resolve));
}

async function nested(depth: number): Promise<number> {
  if (depth === 0) return read();
  return await nested(depth - 1);
}

test("reactor: async code a hundred calls deep: never waits out a poll between two requests", () => {
  const startMs = performance.now();
  let done = 0;
  async function work(): Promise<void> {
    for (let round = 0; round < 20; round += 1) {
      expect(await nested(100)).toBe(ROW_BYTES);
      done += 1;
    }
  }
  const working = work();
  // Each poll would wait so long, if nothing ended it.
  while (done < 20 && performance.now() - startMs < POLL_MS) reactor.turn(POLL_MS);
  expect(done).toBe(20);
  expect(performance.now() - startMs).toBeLessThan(POLL_MS);
  return working;
});

test("reactor: a timer: bounds the wait, and runs on time", () => {
  const startMs = performance.now();
  let firedMs = 0;
  context.timers.scheduleAfter(20, () => {
    firedMs = performance.now();
  });
  while (firedMs === 0 && performance.now() - startMs < POLL_MS) reactor.turn(POLL_MS);
  expect(firedMs - startMs).toBeGreaterThanOrEqual(20);
  expect(firedMs - startMs).toBeLessThan(POLL_MS);
});

test("reactor: a wake-up: ends the wait and is told once", () => {
  while (reactor.turn(0));
  wakeCount = 0;
  test_.wake();
  const startMs = performance.now();
  while (wakeCount === 0 && performance.now() - startMs < POLL_MS) reactor.turn(POLL_MS);
  reactor.turn(0);
  expect(wakeCount).toBe(1);
  expect(performance.now() - startMs).toBeLessThan(POLL_MS);
});

test("reactor: the clock: stands still within a turn, and is new behind a wait", () => {
  const { clock } = context;
  const times: number[] = [];
  const path = join(makeTempDir("loop"), "fifo");
  expect(Bun.spawnSync(["mkfifo", path]).exitCode).toBe(0);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const token = reactor.addHandler(() => {
    times.push(clock.nowMs());
    Bun.sleepSync(5);
    times.push(clock.nowMs());
  });
  context.timers.scheduleAfter(0, () => times.push(clock.nowMs()));
  while (reactor.turn(0));
  reactor.sockets.watch(fd, token, Ready.read | Ready.edge);
  const startMs = performance.now();
  const writer = Bun.spawn(["sh", "-c", `sleep 0.1; echo > ${path}`]);
  while (times.length === 1 && performance.now() - startMs < POLL_MS) reactor.turn(POLL_MS);
  expect(times[1]! - startMs).toBeGreaterThanOrEqual(100);
  expect(times[2]).toBe(times[1]!);
  expect(clock.nowMs()).toBeGreaterThanOrEqual(times[2]! + 5);
  reactor.sockets.unwatch(fd);
  reactor.removeHandler(token);
  closeSync(fd);
  return writer.exited;
});

test("reactor: each turn: the hooks run once", () => {
  let hookCount = 0;
  context.loop.onTurn(() => {
    hookCount += 1;
  });
  for (let turn = 0; turn < 5; turn += 1) reactor.turn(0);
  expect(hookCount).toBe(5);
});

test("reactor: a hook that has something left to do: the loop does not wait", () => {
  let left = 0;
  let runs = 0;
  context.loop.onTurn(
    () => {
      runs += 1;
      left = Math.max(0, left - 1);
    },
    () => left > 0,
  );
  while (reactor.turn(0));
  // Longer than the loop polls by itself.
  Bun.sleepSync(5);
  left = 3;
  runs = 0;
  const startMs = performance.now();
  while (left > 0) reactor.turn(POLL_MS);
  expect(runs).toBe(3);
  expect(performance.now() - startMs).toBeLessThan(POLL_MS);
});

test("reactor: a handler removed by another in the same turn: is not called, nor its token reused", () => {
  const [left, right] = [openEventFd(), openEventFd()];
  const calls: string[] = [];
  const tokens = { left: 0, right: 0 };
  const remove = (mine: string, other: "left" | "right") => () => {
    calls.push(mine);
    reactor.removeHandler(tokens[other]);
    expect(reactor.addHandler(() => calls.push("reused"))).not.toBe(tokens[other]);
  };
  tokens.left = reactor.addHandler(remove("left", "right"));
  tokens.right = reactor.addHandler(remove("right", "left"));
  reactor.sockets.watch(left, tokens.left, Ready.read);
  reactor.sockets.watch(right, tokens.right, Ready.read);
  ringEventFd(left);
  ringEventFd(right);
  reactor.turn(0);
  expect(calls.length).toBe(1);
  for (const fd of [left, right]) {
    reactor.sockets.unwatch(fd);
    closeSync(fd);
  }
  const survivor = calls[0] === "left" ? tokens.left : tokens.right;
  reactor.removeHandler(survivor);
  expect(() => reactor.removeHandler(survivor)).toThrow("removed once");
});

test("reactor: run: goes on until stop, and yields to the engine meanwhile", async () => {
  let didYield = false;
  setTimeout(() => {
    didYield = true;
  }, 1);
  // Something to do now and then, as in a reactor that serves.
  const tick = (): number => context.timers.scheduleAfter(10, tick);
  tick();
  context.timers.scheduleAfter(300, () => reactor.stop());
  const startMs = performance.now();
  await reactor.run();
  expect(performance.now() - startMs).toBeGreaterThanOrEqual(300);
  expect(didYield).toBe(true);
  expect(queue.outstandingTotal).toBe(0);
});

// Whether the engine raises an `error` for these differs from machine to machine: nobody listens.
for (const mode of ["rejection", "throw", "background"]) {
  test(`reactor: an unhandled ${mode} in a worker's loop: is told with its stack`, async () => {
    const script = join(import.meta.dir, "../../helpers/failing-reactor.ts");
    const child = Bun.spawn([process.execPath, script, mode], { stdout: "pipe" });
    const [text, code] = await Promise.all([child.stdout.text(), child.exited]);
    expect(code).toBe(0);
    const told = JSON.parse(text) as Defect;
    expect(told.kind).toBe("defect");
    expect(told.message).toContain("planted");
    expect(told.stack).toContain("failing-reactor-worker.ts");
  });
}

/** Starts the product's worker, and gives it a command that it does not know once it is ready. */
async function defectOfWorker(
  parts: { parityModule?: WebAssembly.Module } = {},
): Promise<{ readonly defect: Defect; readonly wasReady: boolean }> {
  const { port1: port, port2: reactorPort } = new MessageChannel();
  const poolBytes = 16 * MIB;
  // The worker carves its own.
  const memory = createMemory(poolBytes);
  const wakeFd = openEventFd();
  const numbers = { poolBytes, wakeFd, firstJobId: 1 };
  const config: ReactorConfig = { memory, ...numbers, allowFaultInjection: false };
  const thread = new NodeWorker(new URL("../../../src/reactor-main.ts", import.meta.url), {
    workerData: { config, port: reactorPort, ...parts },
    transferList: [reactorPort],
  });
  thread.on("error", () => {});
  let wasReady = false;
  const defect = await new Promise<Defect>((resolve) => {
    port.on("message", (message: ReactorMessage) => {
      if (message.kind === "defect") resolve(message);
      if (message.kind !== "ready") return;
      wasReady = true;
      port.postMessage({ id: 1, command: { kind: "nonsense" } });
      ringEventFd(wakeFd);
    });
  });
  await thread.terminate();
  closeSync(wakeFd);
  return { defect, wasReady };
}

test("reactor: a defect in the product's worker: main is told what it was", async () => {
  const { defect, wasReady } = await defectOfWorker();
  expect(wasReady).toBe(true);
  expect(defect.stack).toContain("service.ts");
});

test("reactor: a processor that computes parity wrong: the worker does not begin", async () => {
  const code = assembleParityCode(createMemory(16 * MIB));
  // v128.or in place of each v128.xor.
  let changed = 0;
  for (let index = 1; index < code.length; index += 1) {
    if (code[index - 1] !== 0xfd || code[index] !== 0x51) continue;
    code[index] = 0x50;
    changed += 1;
  }
  expect(changed).toBeGreaterThan(100);
  const parityModule = new WebAssembly.Module(code);
  const { defect, wasReady } = await defectOfWorker({ parityModule });
  expect(wasReady).toBe(false);
  expect(defect.message).toContain("this machine computes xor of 2 wrong: no array is touched");
});
