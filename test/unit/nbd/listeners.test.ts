/**
 * Goal: the socket's file is there for as long as the server listens, without a connected client
 * noticing; what others put at its path is theirs; every failure to listen says what it means.
 * Method: the server over the scripted kernel, whose paths a test changes between two looks; then
 * once more on real sockets.
 */
import { afterAll, expect, test } from "bun:test";
import { existsSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  ENAMETOOLONG,
  errnoName,
} from "../../../src/base/errno.ts";
import { silentLog } from "../../../src/base/log.ts";
import { listenProblem } from "../../../src/nbd/listen-problem.ts";
import { Listeners } from "../../../src/nbd/listeners.ts";
import { NbdBench, request } from "../../helpers/nbd-bench.ts";
import { startTestReactor } from "../../helpers/reactor.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const PATH = "nbd.sock";

/** As long as it takes until the server looks again. */
function look(bench: NbdBench): void {
  bench.loop.clock.advance(2_000);
  bench.loop.turns(2);
}

test("socket: removed by a cleaner: made again; clients, and who waits at the old one, stay", () => {
  const bench = new NbdBench();
  const before = bench.opened();
  bench.kernel.files.delete(PATH);
  // It comes behind the poll of the very turn in which the socket is made again.
  let waiting = before;
  bench.loop.onReap = () => {
    waiting = bench.kernel.connect(bench.listener);
    bench.loop.onReap = () => {};
  };
  look(bench);
  expect(bench.kernel.fileAt(PATH)).not.toBe("");
  expect(bench.kernel.lastListener).not.toBe(bench.listener);
  expect(bench.kernel.openFds.has(bench.listener)).toBe(false);
  expect([before.isClosedByServer, waiting.isClosedByServer]).toEqual([false, false]);
  expect(waiting.take().length).toBeGreaterThan(0);
  const after = bench.kernel.connect(bench.kernel.lastListener);
  bench.loop.turns(2);
  expect(after.take().length).toBeGreaterThan(0);
  for (const peer of [waiting, after]) peer.close();
  before.send(request({ command: 2 }));
  bench.loop.turns(3);
  bench.checkNoLeak();
});

test("socket: another's file at its path: left alone, said once, made again when it goes", () => {
  const bench = new NbdBench();
  bench.kernel.files.set(PATH, "a stranger's");
  for (let count = 0; count < 50; count += 1) look(bench);
  expect(bench.kernel.fileAt(PATH)).toBe("a stranger's");
  expect(bench.kernel.openFds.has(bench.listener)).toBe(true);
  expect(bench.messages.filter((message) => message.includes("lost its path")).length).toBe(1);
  bench.kernel.files.delete(PATH);
  look(bench);
  expect(bench.kernel.fileAt(PATH)).toBe(`file ${bench.kernel.lastListener}`);
});

test("socket: another's, seen once: is not even asked whether it listens yet", () => {
  const bench = new NbdBench();
  const listener = bench.kernel.lastListener;
  bench.kernel.listenUnix = () => {
    throw new Error("it was touched");
  };
  for (const file of ["one", "two", "three"]) {
    bench.kernel.files.set(PATH, file);
    look(bench);
  }
  bench.kernel.files.set(PATH, `file ${listener}`);
  look(bench);
  expect(bench.messages).toEqual([]);
});

test("socket: its folder is gone: said once, made again when that is back", () => {
  const bench = new NbdBench();
  bench.kernel.files.delete(PATH);
  bench.kernel.listenErrno = 2;
  for (let count = 0; count < 50; count += 1) look(bench);
  expect(bench.messages.length).toBe(1);
  expect(bench.messages[0]).toContain("ENOENT: there is no such folder");
  bench.kernel.listenErrno = 0;
  look(bench);
  expect(bench.kernel.fileAt(PATH)).not.toBe("");
});

for (const isOurs of [true, false]) {
  test(`socket: at the end: its file is ${isOurs ? "removed" : "another's, and left"}`, async () => {
    const bench = new NbdBench();
    if (!isOurs) bench.kernel.files.set(PATH, "a stranger's");
    const done = bench.server.shutdown();
    bench.loop.turns(2);
    await done;
    expect(bench.kernel.fileAt(PATH)).toBe(isOurs ? "" : "a stranger's");
    look(bench);
    expect(bench.kernel.fileAt(PATH)).toBe(isOurs ? "" : "a stranger's");
  });
}

test("listen: every errno: a sentence with its name, and none that says a bare number", () => {
  const addresses = [
    { kind: "unix", path: "/run/parityd/nbd.sock" },
    { kind: "tcp", host: "::1", port: 10_809 },
  ] as const;
  for (const address of addresses) {
    for (let errno = 1; errno <= 133; errno += 1) {
      if (errno === 41 || errno === 58) continue;
      const text = listenProblem(address, errno);
      expect(text).toContain(`: ${errnoName(errno)}`);
      expect(text).not.toMatch(/errno \d/);
    }
  }
  const [unix, tcp] = addresses;
  expect(listenProblem(unix, ENAMETOOLONG)).toContain(
    "a socket path holds at most 107 bytes: choose a shorter --run-dir",
  );
  expect(listenProblem(tcp, EADDRNOTAVAIL)).toContain("[::1]:10809: EADDRNOTAVAIL: this host has");
  expect(listenProblem(tcp, EADDRINUSE)).toContain("ss -ltnp sport = :10809");
  expect(listenProblem({ ...tcp, port: 80 }, EACCES)).toContain("ports below 1024");
  expect(listenProblem(tcp, EACCES)).not.toContain("ports below 1024");
});

// On real sockets -------------------------------------------------------------------------------

const reactor = startTestReactor();
afterAll(() => reactor.stop());

test("socket: on a real file system: removed, replaced and made again; a stranger's survives", async () => {
  const path = join(makeTempDir("listeners"), "nbd.sock");
  const { loop } = reactor.context;
  const looks: (() => void)[] = [];
  // The loop of the reactor, with timers that run when the test says so.
  const timers = { scheduleAfter: (_ms: number, run: () => void) => looks.push(run), cancel() {} };
  const manual = {
    ...{ sockets: loop.sockets, timers: timers as never, turnTimes: loop.turnTimes },
    addHandler: loop.addHandler.bind(loop),
    removeHandler: loop.removeHandler.bind(loop),
    onTurn: () => {},
  };
  const listeners = new Listeners({ loop: manual, log: silentLog, onReady: () => {} });
  expect(listeners.add({ kind: "unix", path }, 0o600).ok).toBe(true);
  const lookNow = (): void => looks.shift()!();
  const own = loop.sockets.fileAt(path);
  lookNow();
  expect(loop.sockets.fileAt(path)).toBe(own);
  unlinkSync(path);
  lookNow();
  const second = loop.sockets.fileAt(path);
  expect([second === "", second === own]).toEqual([false, false]);

  // Another program listens there now.
  renameSync(path, `${path}.old`);
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(path, resolve));
  const stranger = loop.sockets.fileAt(path);
  for (let count = 0; count < 4; count += 1) lookNow();
  expect(loop.sockets.fileAt(path)).toBe(stranger);
  await new Promise((resolve) => other.close(resolve));
  unlinkSync(`${path}.old`);
  lookNow();
  expect(existsSync(path)).toBe(true);

  unlinkSync(path);
  writeFileSync(path, "somebody's notes");
  for (let count = 0; count < 4; count += 1) lookNow();
  listeners.close();
  expect(await Bun.file(path).text()).toBe("somebody's notes");
});
