/**
 * Goal: a short pause is polled through, a long one is waited for, whatever came before.
 *
 * Method: a reactor over sockets that the test plays: each poll says how long it would wait and
 * gets to know when the next event comes.
 */
import { expect, test } from "bun:test";
import { Carver, CONTROL_BYTES, SharedMemory } from "../../../src/base/memory.ts";
import { ROW_BYTES } from "../../../src/base/units.ts";
import { AioQueue } from "../../../src/reactor/aio-queue.ts";
import { IoTable, Op } from "../../../src/reactor/io-table.ts";
import type { SocketKernel } from "../../../src/reactor/kernel.ts";
import { Reactor } from "../../../src/reactor/reactor.ts";
import { Timers } from "../../../src/reactor/timers.ts";
import { TurnClock } from "../../../src/reactor/turn-clock.ts";
import { FakeAioKernel } from "../../helpers/fake-aio-kernel.ts";
import { ManualClock } from "../../helpers/manual-clock.ts";
import { testMemory } from "../../helpers/reactor.ts";

const BUSY_POLL_MS = 0.05;
const POLL_MS = 0.001;
const WAIT_MS = 100;
/** Whatever the last pause was: what is left for the next turn is not waited out. */
const QUIET_TURNS = 1;
/** The completions' eventfd has the first token. */
const WAKE_TOKEN = 1;

function setUp() {
  const time = new ManualClock();
  const clock = new TurnClock(time);
  const memory = new SharedMemory(testMemory().memory);
  const carver = new Carver({ start: ROW_BYTES, end: CONTROL_BYTES });
  const kernel = new FakeAioKernel(memory);
  const table = new IoTable(16);
  const queue = new AioQueue({ kernel, table, carver, memory, eventFd: 7, slotCount: 16 });
  let eventAtMs = 0;
  let polls = 0;
  let waits = 0;
  let onEvent = () => {};
  const sockets: Pick<SocketKernel, "watch" | "poll"> = {
    watch: () => {},
    poll: (timeoutMs, onReady) => {
      time.advance(POLL_MS);
      if (timeoutMs === 0) polls += 1;
      else {
        waits += 1;
        time.advance(Math.max(0, eventAtMs - time.nowMs()));
      }
      if (time.nowMs() < eventAtMs) return 0;
      onReady(WAKE_TOKEN, 0);
      return 1;
    },
  };
  const reactor = new Reactor({
    clock,
    timers: new Timers(clock),
    queue,
    sockets: sockets as SocketKernel,
    host: { drainMicrotasks: () => {}, yieldToEngine: () => Promise.resolve() },
    eventFd: 7,
    wakeFd: 8,
    onWake: () => onEvent(),
    busyPollMs: BUSY_POLL_MS,
  });
  function readsOnEvent(): void {
    const onComplete = (request: number) => table.free(request);
    const handle = queue.openDevice({ fd: 5, maxInFlight: 1, onComplete });
    onEvent = () => {
      const request = table.allocate();
      table.op[request] = Op.read;
      table.bytes[request] = ROW_BYTES;
      table.address[request] = CONTROL_BYTES;
      queue.enqueue(handle, request);
    };
    const submit = kernel.submit.bind(kernel);
    kernel.submit = (listAddress, count) => {
      const taken = submit(listAddress, count);
      kernel.completeAll();
      return taken;
    };
  }
  /** The next event comes after `pauseMs`: how often the loop polled and waited until then. */
  function pause(pauseMs: number): { polls: number; waits: number } {
    eventAtMs = time.nowMs() + pauseMs;
    polls = 0;
    waits = 0;
    while (time.nowMs() < eventAtMs) reactor.turn(WAIT_MS);
    while (queue.outstandingTotal > 0) reactor.turn(WAIT_MS);
    return { polls, waits };
  }
  return { pause, readsOnEvent };
}

test("reactor: pauses of every order: polled through exactly where the last one was short", () => {
  for (const last of [0.01, 0.03, 0.2, 5]) {
    for (const next of [0.01, 0.03, 0.2, 5]) {
      const { pause } = setUp();
      pause(last);
      const isPolled = last < BUSY_POLL_MS && next < BUSY_POLL_MS;
      const { polls, waits } = pause(next);
      expect(waits).toBe(isPolled ? 0 : 1);
      expect(polls > QUIET_TURNS).toBe(last < BUSY_POLL_MS);
      expect(polls).toBeGreaterThanOrEqual(QUIET_TURNS);
    }
  }
});

test("reactor: completions that are there at once: say nothing about the next pause", () => {
  const { pause, readsOnEvent } = setUp();
  readsOnEvent();
  for (let count = 0; count < 5; count += 1) {
    expect(pause(5)).toEqual({ polls: QUIET_TURNS, waits: 1 });
    expect(pause(0.2)).toEqual({ polls: QUIET_TURNS, waits: 1 });
  }
});
