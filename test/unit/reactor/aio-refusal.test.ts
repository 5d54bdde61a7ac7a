/**
 * Goal: a host that gives no AIO is told what helps, not a number.
 * Method: each errno of io_setup, with and without the counts of /proc.
 */
import { expect, test } from "bun:test";
import { EAGAIN, EFAULT, ENOMEM, ENOSYS, EPERM } from "../../../src/base/errno.ts";
import { aioRefusal } from "../../../src/reactor/aio-refusal.ts";

test("aio refusal: each errno: what it means here and what helps", () => {
  const counts = { used: 65_000, max: 65_536, wanted: 2_048 };
  for (const [errno, words] of [
    [EAGAIN, ["EAGAIN", "fs.aio-nr 65000 of fs.aio-max-nr 65536", "2048", "sysctl -w fs.aio-max"]],
    [ENOSYS, ["ENOSYS", "CONFIG_AIO", "seccomp", "gVisor"]],
    [EPERM, ["EPERM", "seccomp"]],
    [ENOMEM, ["ENOMEM", "memory limit"]],
    [EFAULT, ["EFAULT"]],
  ] as const) {
    const text = aioRefusal(errno, counts);
    for (const word of words) expect(text).toContain(word);
    expect(text).not.toMatch(/errno \d|[:,] *$/);
  }
  const unknown = aioRefusal(EAGAIN, { used: null, max: null, wanted: 2_048 });
  expect(unknown).toContain("fs.aio-max-nr=1048576");
  expect(unknown).not.toMatch(/null|NaN/);
});
