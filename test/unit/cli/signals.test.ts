/**
 * Goal: no signal ends a serving program by accident, and the ones that stop it do what was meant.
 * Method: every signal at each moment against each way of taking SIGHUP; then the shell around it.
 */
import { expect, test } from "bun:test";
import type { Log } from "../../../src/base/log.ts";
import type { CliHost } from "../../../src/cli/host.ts";
import { SERVED_SIGNALS, SignalCourse, watchSignals } from "../../../src/cli/signals.ts";

test("signals: two of one key press are one stop, a later one leaves at once", () => {
  for (const first of ["SIGTERM", "SIGINT"]) {
    for (const second of ["SIGTERM", "SIGINT"]) {
      const course = new SignalCourse("read-again");
      expect(course.next(first, 5_000)).toBe("stop");
      expect([course.next(second, 5_000), course.next(second, 5_999)]).toEqual([
        ...(["nothing", "nothing"] as const),
      ]);
      expect(course.next(second, 6_000)).toBe("leave");
    }
  }
});

test("signals: SIGHUP as the program takes it, before and after the stop", () => {
  const taken = (["read-again", "ignore", "stop"] as const).map((hangUp) => {
    const course = new SignalCourse(hangUp);
    const before = [course.next("SIGHUP", 0), course.next("SIGHUP", 2_000)];
    const stop = course.next("SIGTERM", 4_000);
    return [...before, stop, course.next("SIGHUP", 9_000)];
  });
  expect(taken).toEqual([
    ["read-again", "read-again", "stop", "nothing"],
    ["say-ignored", "nothing", "stop", "nothing"],
    ["stop", "leave", "leave", "leave"],
  ]);
});

test("signals: all others are ignored, and said once each", () => {
  const others = SERVED_SIGNALS.filter((name) => !["SIGTERM", "SIGINT", "SIGHUP"].includes(name));
  expect(others).toContain("SIGUSR1");
  expect(others).toContain("SIGUSR2");
  expect(others).toContain("SIGALRM");
  const course = new SignalCourse("ignore");
  for (const signal of others) {
    expect([course.next(signal, 0), course.next(signal, 9_000)]).toEqual([
      ...(["say-ignored", "nothing"] as const),
    ]);
  }
  expect(course.next("SIGTERM", 10_000)).toBe("stop");
});

test("signals: a SIGHUP during the start is made up for; leaving says so first", async () => {
  const done: string[] = [];
  let send: (signal: string) => void = () => {};
  const host = {
    onSignal: (listener: (signal: string) => void) => {
      send = listener;
    },
    exit: (code: number) => {
      done.push(`exit ${code}`);
    },
  } as unknown as CliHost;
  const log: Log = { write: (level, message) => done.push(`${level} ${message.split(",")[0]}`) };
  const signals = watchSignals(host, "read-again", log);
  send("SIGHUP");
  expect(done).toEqual([]);
  signals.onReadAgain(() => done.push("read"));
  send("SIGHUP");
  send("SIGUSR1");
  send("SIGTERM");
  await signals.stop;
  await Bun.sleep(1_001);
  send("SIGTERM");
  expect(done).toEqual([
    ...["read", "read", "info a signal that means nothing here is ignored"],
    ...["error left at once", "exit 1"],
  ]);
});
