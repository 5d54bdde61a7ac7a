/**
 * The time of the load generator: that of the wall, or the CPU time of its thread.
 *
 * On memory files all work is done by the reactor's own thread, which is kept from sleeping here;
 * then the CPU time of that thread is what the clock on the wall would show on a core of its own.
 * Others on the same machine would otherwise decide about every percentile: they take the core for
 * milliseconds, and a request takes microseconds.
 */
import { dlopen, ptr } from "bun:ffi";
import { assert } from "../../src/base/assert.ts";
import { linuxClock } from "../../src/reactor/linux-clock.ts";

const CLOCK_THREAD_CPUTIME_ID = 3;
const TURN_WAIT_MS = 10;

export const stopwatch = {
  nowNs: (): number => Bun.nanoseconds(),
  nowMs: (): number => performance.now(),
  /** How long a turn of the reactor may wait. */
  turnWaitMs: TURN_WAIT_MS,
};

/** Everything in this process goes by the CPU time of this thread from now on. */
export function useThreadTime(): void {
  const { symbols } = dlopen("libc.so.6", {
    clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  });
  const time = new Float64Array(2);
  const words = new Uint32Array(time.buffer);
  const address = ptr(time);
  stopwatch.nowNs = () => {
    const answer = symbols.clock_gettime(CLOCK_THREAD_CPUTIME_ID, address);
    assert(answer === 0, "a thread has a clock");
    return words[0]! * 1e9 + words[2]!;
  };
  stopwatch.nowMs = () => stopwatch.nowNs() / 1e6;
  stopwatch.turnWaitMs = 0;
  Object.assign(linuxClock, { nowMs: stopwatch.nowMs });
}
