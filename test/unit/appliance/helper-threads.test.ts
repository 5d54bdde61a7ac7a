/**
 * Goal: drives are opened independently of each other, a call that hangs fails its own drive alone
 * and costs its deadline once, and one device is opened once, whatever its names and however opens
 * overlap. Method: the helper client on a virtual clock, with threads that the test plays.
 */
import { expect, test } from "bun:test";
import { STUCK_LOOKS_MAX } from "../../../src/appliance/helper/drive-look.ts";
import { Helper } from "../../../src/appliance/helper/helper.ts";
import type {
  HelperEnvelope,
  HelperReply,
  HelperResult,
  OpenedDevice,
} from "../../../src/appliance/helper/helper-protocol.ts";
import {
  type HelperThread,
  IDLE_MAX,
  QUICK_MAX,
  SLOW_MS,
  THREADS_MAX,
} from "../../../src/appliance/helper/helper-threads.ts";
import type { OpenDrive } from "../../../src/array/protocol.ts";
import { ok } from "../../../src/base/result.ts";
import { GIB } from "../../../src/base/units.ts";

const DEADLINE_MS = 30_000;

const LISTED = { path: "/dev/sdx", identity: "block:/dev/sdx", sizeBytes: 4096, claim: null };

class VirtualTime {
  nowMs = 0;
  private timers: { readonly atMs: number; readonly run: () => void }[] = [];

  readonly setTimer = (afterMs: number, run: () => void) => {
    const timer = { atMs: this.nowMs + afterMs, run };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  };

  get timerCount(): number {
    return this.timers.length;
  }

  /** Runs what falls due on the way, in order, and lets those who waited go on. */
  async advance(byMs: number): Promise<void> {
    const endMs = this.nowMs + byMs;
    await settle();
    for (;;) {
      const due = this.timers.filter(({ atMs }) => atMs <= endMs);
      const next = due.sort((left, right) => left.atMs - right.atMs)[0];
      if (next === undefined) break;
      this.nowMs = next.atMs;
      this.timers = this.timers.filter((other) => other !== next);
      next.run();
      await settle();
    }
    this.nowMs = endMs;
  }
}

/** One turn of the loop: all promises that can go on have gone on. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

class PlayedThread implements HelperThread {
  readonly calls: HelperEnvelope[] = [];
  isTerminated = false;
  private listener: (reply: HelperReply) => void = () => {};
  private endListener: (why: string) => void = () => {};

  private readonly host: PlayedHost;

  constructor(host: PlayedHost) {
    this.host = host;
  }

  post(envelope: HelperEnvelope): void {
    this.calls.push(envelope);
    queueMicrotask(() => this.host.take(this, envelope));
  }

  onReply(listener: (reply: HelperReply) => void): void {
    this.listener = listener;
  }

  onEnd(listener: (why: string) => void): void {
    this.endListener = listener;
  }

  terminate(): void {
    this.isTerminated = true;
  }

  reply(reply: HelperReply): void {
    this.listener(reply);
  }

  die(why: string): void {
    this.endListener(why);
  }
}

/** The kernel as the helpers see it: paths that lead to devices, some of which do not answer. */
class PlayedHost {
  readonly threads: PlayedThread[] = [];
  /** Calls in the order in which they were begun: "open /dev/sda". */
  readonly log: string[] = [];
  /** Calls that wait until they are released. */
  readonly hanging = new Set<string>();
  readonly openFds = new Set<number>();
  /** More than one path to a device. */
  readonly devices = new Map<string, string>();
  /** Runs before a call is answered. */
  onCall: (what: string) => void = () => {};
  private readonly held = new Map<string, () => void>();

  startThread = (): HelperThread => {
    const thread = new PlayedThread(this);
    this.threads.push(thread);
    return thread;
  };

  get liveCount(): number {
    return this.threads.filter((thread) => !thread.isTerminated).length;
  }

  take(thread: PlayedThread, { id, call }: HelperEnvelope): void {
    const what = describe(call);
    this.log.push(what);
    const answer = () => {
      this.onCall(what);
      thread.reply({ id, result: this.result(call) });
    };
    if (this.hanging.has(what)) this.held.set(what, answer);
    else answer();
  }

  release(what: string): void {
    this.hanging.delete(what);
    const answer = this.held.get(what);
    this.held.delete(what);
    if (answer === undefined) throw new Error(`nothing hangs in ${what}`);
    answer();
  }

  private deviceOf(path: string): string {
    return this.devices.get(path) ?? `block:${path}`;
  }

  private result(call: HelperEnvelope["call"]): HelperResult {
    switch (call.kind) {
      case "identify":
        return ok({ identities: [this.deviceOf(call.path)] });
      case "open": {
        // As the kernel does it: the lowest number that is free.
        let fd = 10;
        while (this.openFds.has(fd)) fd += 1;
        this.openFds.add(fd);
        const drive = { name: call.open.name, path: call.open.path, fd } as OpenDrive;
        return ok<OpenedDevice>({ drive, lockFds: [] });
      }
      case "close":
        for (const fd of call.fds) this.openFds.delete(fd);
        return ok(null);
      case "list-folder":
        return ok([`${call.folder}/a`, `${call.folder}/b`]);
      case "list-block-devices":
        return ok([LISTED, { ...LISTED, path: "/dev/sdy", claim: "mounted at /" }]);
      case "look": {
        const identity = this.deviceOf(call.path);
        if (call.inUse.includes(identity)) return ok(null);
        const known = { byId: null, wwn: null, serial: null, model: null };
        const device = { ...known, path: call.path, sizeBytes: 4096, member: null, unusable: null };
        return ok({ identity, device });
      }
      default:
        return ok(null);
    }
  }
}

function describe(call: HelperEnvelope["call"]): string {
  switch (call.kind) {
    case "open":
      return `open ${call.open.path}`;
    case "identify":
    case "look":
    case "reservation":
      return `${call.kind} ${call.path}`;
    case "close":
      return `close ${call.fds[0]}`;
    case "list-folder":
      return `list ${call.folder}`;
    case "allocate":
      return `allocate ${call.fd} ${call.offset}+${call.bytes}`;
    case "punch-hole":
      return `punch ${call.fd} ${call.offset}`;
    default:
      return call.kind;
  }
}

function setUp() {
  const host = new PlayedHost();
  const time = new VirtualTime();
  const helper = new Helper({ startThread: host.startThread, setTimer: time.setTimer });
  return { host, time, helper };
}

const request = (path: string, name = path) => ({ name, path, direct: true, readOnly: false });

/** What a promise has come to by now. */
async function stateOf<T>(promise: Promise<T>): Promise<T | "pending"> {
  await settle();
  return await Promise.race([promise, Promise.resolve("pending" as const)]);
}

async function mustOpen(helper: Helper, path: string): Promise<OpenDrive> {
  const opened = await helper.open(request(path));
  if (!opened.ok) throw new Error(opened.error.detail);
  return opened.value;
}

/** Nothing here takes time: what does not end by itself has failed. */
function bounded(name: string, run: () => Promise<void>): void {
  test(name, run, 10_000);
}

const TIMED_OUT = { ok: false, error: { kind: "io", code: "drive-timeout" } } as const;

for (const kind of ["identify", "open"]) {
  for (const hungCount of [1, 3, 8, 20]) {
    bounded(
      `helper: ${hungCount} of 24 drives hang in ${kind}: the others wait for none of them`,
      async () => {
        const { host, time, helper } = setUp();
        const paths = Array.from({ length: 24 }, (_, index) => `/dev/${index}`);
        // The hung ones first: the worst order.
        for (const path of paths.slice(0, hungCount)) host.hanging.add(`${kind} ${path}`);
        const opens = paths.map((path) => helper.open(request(path)));
        const delayMs = Math.floor(hungCount / QUICK_MAX) * SLOW_MS;
        await time.advance(delayMs);
        for (const open of opens.slice(hungCount))
          expect(await stateOf(open)).toMatchObject({ ok: true });
        for (const open of opens.slice(0, hungCount)) expect(await stateOf(open)).toBe("pending");
        await time.advance(2 * DEADLINE_MS);
        for (const open of opens.slice(0, hungCount))
          expect(await stateOf(open)).toMatchObject(TIMED_OUT);
        expect(helper.stuckCount).toBe(hungCount);
        expect(host.liveCount).toBe(
          hungCount + Math.min(IDLE_MAX, host.threads.length - hungCount),
        );
        expect(time.timerCount).toBe(0);
      },
    );
  }
}

bounded("helper: 24 drives that answer: few threads, and fewer are kept", async () => {
  const { host, helper } = setUp();
  const paths = Array.from({ length: 24 }, (_, index) => `/dev/${index}`);
  await Promise.all(paths.map((path) => mustOpen(helper, path)));
  expect(host.threads.length).toBe(QUICK_MAX);
  expect(host.liveCount).toBe(IDLE_MAX);
  expect(host.log.filter((what) => what.startsWith("open ")).length).toBe(24);
  helper.stop();
  expect(host.liveCount).toBe(0);
});

bounded("helper: calls for one drive: in order, one at a time, whatever others do", async () => {
  const { host, helper } = setUp();
  const { fd } = await mustOpen(helper, "/dev/1");
  host.log.length = 0;
  host.hanging.add(`punch ${fd} 0`);
  const punches = [0, 1, 2].map((offset) => helper.punchHole(fd, { offset, bytes: 1 }));
  const closing = helper.close(fd);
  const reopened = helper.open(request("/dev/1"));
  await settle();
  expect(host.log).toEqual([`punch ${fd} 0`]);
  await mustOpen(helper, "/dev/2");
  host.log.length = 0;
  host.release(`punch ${fd} 0`);
  await Promise.all([...punches, closing]);
  expect((await reopened).ok).toBe(true);
  const expected = [
    `punch ${fd} 1`,
    `punch ${fd} 2`,
    `close ${fd}`,
    "identify /dev/1",
    "open /dev/1",
  ];
  expect(host.log).toEqual(expected);
});

bounded(
  "helper: a drive that hangs: asked for again, refused at once, by one thread in all",
  async () => {
    const { host, time, helper } = setUp();
    host.hanging.add("open /dev/1");
    const first = helper.open(request("/dev/1"));
    const second = helper.open(request("/dev/1"));
    await time.advance(DEADLINE_MS);
    expect(await stateOf(first)).toMatchObject(TIMED_OUT);
    expect(await stateOf(second)).toMatchObject({ ok: false, error: { code: "drive-in-use" } });
    for (let retry = 0; retry < 10; retry += 1) {
      expect(await stateOf(helper.open(request("/dev/1")))).toMatchObject(TIMED_OUT);
      await time.advance(5_000);
    }
    expect(host.threads.length).toBe(1);
    // It comes back: what was opened for nobody is closed, and then it can be had.
    host.release("open /dev/1");
    await settle();
    expect(host.openFds.size).toBe(0);
    expect((await helper.open(request("/dev/1"))).ok).toBe(true);
    expect(host.threads.length).toBe(1);
  },
);

bounded("helper: a device whose open hangs: not opened under another name meanwhile", async () => {
  const { host, time, helper } = setUp();
  for (const path of ["/dev/1", "/dev/by-id/1"]) host.devices.set(path, "block:8:1");
  host.hanging.add("open /dev/1");
  const first = helper.open(request("/dev/1", "drive1"));
  const other = await helper.open(request("/dev/by-id/1", "drive2"));
  expect(other).toMatchObject({ ok: false, error: { kind: "busy", code: "drive-in-use" } });
  if (!other.ok) expect(other.error.detail).toContain("drive drive1 is still opening this device");
  await time.advance(DEADLINE_MS);
  expect(await first).toMatchObject(TIMED_OUT);
  expect(await helper.open(request("/dev/by-id/1", "drive2"))).toMatchObject({ ok: false });
  host.release("open /dev/1");
  await settle();
  expect((await helper.open(request("/dev/by-id/1", "drive2"))).ok).toBe(true);
  const opens = host.log.filter((what) => what.startsWith("open "));
  expect(opens).toEqual(["open /dev/1", "open /dev/by-id/1"]);
});

bounded(
  "helper: one device under many names at once: opened once, in any order of answers",
  async () => {
    const paths = Array.from({ length: 6 }, (_, index) => `/dev/${index}`);
    for (let first = 0; first < paths.length; first += 1) {
      const { host, time, helper } = setUp();
      for (const path of paths) host.devices.set(path, "block:8:1");
      for (const path of paths) host.hanging.add(`identify ${path}`);
      const opens = paths.map((path) => helper.open(request(path)));
      await time.advance(2 * SLOW_MS);
      const order = [...paths.slice(first), ...paths.slice(0, first)];
      for (const path of order) host.release(`identify ${path}`);
      const results = await Promise.all(opens);
      expect(results.filter((result) => result.ok).length).toBe(1);
      expect(results[first]!.ok).toBe(true);
      expect(host.openFds.size).toBe(1);
    }
  },
);

bounded("helper: an open that fails: its device can be had under another name", async () => {
  const { host, helper } = setUp();
  for (const path of ["/dev/1", "/dev/2"]) host.devices.set(path, "block:8:1");
  const thread = () => host.threads.find(({ calls }) => calls.at(-1)?.call.kind === "open")!;
  host.hanging.add("open /dev/1");
  const failing = helper.open(request("/dev/1"));
  await settle();
  thread().die("out of memory");
  expect(await failing).toMatchObject({ ok: false, error: { kind: "io", code: "helper-ended" } });
  expect((await helper.open(request("/dev/2"))).ok).toBe(true);
});

bounded(
  "helper: a number that is given again before its close is answered: the new drive's",
  async () => {
    const { host, time, helper } = setUp();
    const { fd } = await mustOpen(helper, "/dev/1");
    host.hanging.add(`close ${fd}`);
    const closing = helper.close(fd);
    await settle();
    // The kernel has closed it; the answer is on its way.
    host.openFds.delete(fd);
    const next = await mustOpen(helper, "/dev/2");
    expect(next.fd).toBe(fd);
    host.openFds.add(99);
    host.release(`close ${fd}`);
    await closing;
    expect(await helper.punchHole(fd, { offset: 0, bytes: 1 })).toEqual(ok(null));
    await time.advance(0);
    await helper.close(next.fd);
  },
);

bounded(
  "helper: a close behind a call that hangs: answered, and done when that has ended",
  async () => {
    const { host, time, helper } = setUp();
    const { fd } = await mustOpen(helper, "/dev/1");
    host.hanging.add(`punch ${fd} 0`);
    const punching = helper.punchHole(fd, { offset: 0, bytes: 1 });
    const closing = helper.close(fd);
    await time.advance(DEADLINE_MS);
    expect(await punching).toMatchObject(TIMED_OUT);
    await closing;
    // Nobody lets go of a drive that still works on something (write-rules 10).
    expect(host.openFds).toContain(fd);
    expect(await helper.open(request("/dev/1"))).toMatchObject({ ok: false });
    host.release(`punch ${fd} 0`);
    await settle();
    expect(host.openFds.size).toBe(0);
    expect((await helper.open(request("/dev/1"))).ok).toBe(true);
  },
);

bounded("helper: all threads stuck: refused, until one comes back", async () => {
  const { host, time, helper } = setUp();
  const paths = Array.from({ length: THREADS_MAX }, (_, index) => `/dev/${index}`);
  for (const path of paths) host.hanging.add(`identify ${path}`);
  const hung = paths.slice(1).map((path) => helper.open(request(path)));
  await time.advance(2 * DEADLINE_MS);
  for (const open of hung) expect(await open).toMatchObject(TIMED_OUT);
  // One way is left, and it is enough for all the others.
  const healthy = ["/dev/a", "/dev/b", "/dev/c"];
  const opens = await Promise.all(healthy.map((path) => helper.open(request(path))));
  expect(opens.map((open) => open.ok)).toEqual([true, true, true]);
  const last = helper.open(request("/dev/0"));
  const behind = helper.open(request("/dev/d"));
  await time.advance(2 * DEADLINE_MS);
  expect(await last).toMatchObject(TIMED_OUT);
  expect(await behind).toMatchObject({ ok: false, error: { code: "drives-stuck" } });
  expect(host.liveCount).toBe(THREADS_MAX);
  host.release("identify /dev/7");
  await settle();
  expect((await helper.open(request("/dev/d"))).ok).toBe(true);
});

bounded(
  "helper: a thread that ends by itself: its call fails, the next one has another thread",
  async () => {
    const { host, time, helper } = setUp();
    host.hanging.add("identify /dev/1");
    const failing = helper.open(request("/dev/1"));
    const behind = helper.open(request("/dev/1"));
    await settle();
    host.hanging.clear();
    host.threads[0]!.die("no memory for a thread");
    const result = await failing;
    expect(result).toMatchObject({ ok: false, error: { kind: "io", code: "helper-ended" } });
    if (!result.ok) expect(result.error.detail).toContain("no memory for a thread");
    expect((await behind).ok).toBe(true);
    // An idle one that ends is not used again.
    host.threads[1]!.die("killed");
    expect((await helper.open(request("/dev/2"))).ok).toBe(true);
    expect(host.threads.length).toBe(3);
    expect(time.timerCount).toBe(0);
  },
);

bounded("helper: allocate: in steps, and none of them into another drive's file", async () => {
  const { host, helper } = setUp();
  const { fd } = await mustOpen(helper, "/dev/1");
  expect(await helper.allocate(fd, 40 * GIB)).toEqual(ok(null));
  const steps = host.log.filter((what) => what.startsWith("allocate"));
  expect(steps).toEqual([
    `allocate ${fd} 0+${16 * GIB}`,
    `allocate ${fd} ${16 * GIB}+${16 * GIB}`,
    `allocate ${fd} ${32 * GIB}+${8 * GIB}`,
  ]);
  const allocating = helper.allocate(fd, 40 * GIB);
  const closing = helper.close(fd);
  const other = mustOpen(helper, "/dev/2");
  expect(await allocating).toMatchObject({ ok: false, error: { code: "drive-not-open" } });
  await closing;
  await other;
  expect(host.log.filter((what) => what.startsWith("allocate")).length).toBe(4);
});

bounded(
  "helper: a look: every place once, nothing that is open here, one path at a time",
  async () => {
    const { host, helper } = setUp();
    await mustOpen(helper, "/srv/b");
    host.devices.set("/dev/by-id/x", "block:/dev/sdx");
    host.log.length = 0;
    const paths = ["/dev/by-id/x", "/dev/by-id/x"];
    const result = await helper.look({ paths, folders: ["/srv", "/srv"], blockDevices: true });
    expect(result.found.map(({ path }) => path)).toEqual(["/dev/by-id/x", "/srv/a"]);
    expect(result).toMatchObject({ unanswered: [], isCut: false });
    const looks = ["look /dev/by-id/x", "look /srv/a", "look /srv/b", "look /dev/sdx"];
    expect(host.log).toEqual(["list /srv", "list-block-devices", ...looks]);
  },
);

bounded(
  "helper: a look among paths that hang: the others wait for nobody, and it ends",
  async () => {
    const { host, time, helper } = setUp();
    const paths = Array.from({ length: 40 }, (_, index) => `/net/${index}`);
    for (const path of paths.slice(1)) host.hanging.add(`look ${path}`);
    const looking = helper.look({ paths, folders: [], blockDevices: false });
    await time.advance(1_000);
    for (let index = 0; index < 20; index += 1) await mustOpen(helper, `/dev/${index}`);
    await time.advance(60_000);
    const result = await looking;
    expect(result.found.map(({ path }) => path)).toEqual(["/net/0"]);
    expect(result.unanswered).toEqual(paths.slice(1));
    expect(helper.stuckCount).toBe(STUCK_LOOKS_MAX);
    // Looking again asks nobody else, and drives are opened all the same.
    const again = await helper.look({ paths, folders: [], blockDevices: true });
    expect(again.found.length).toBe(0);
    expect(helper.stuckCount).toBe(STUCK_LOOKS_MAX);
    expect((await helper.open(request("/dev/x"))).ok).toBe(true);
    // They come back: the next look sees them.
    for (const path of paths.slice(1, 1 + STUCK_LOOKS_MAX)) host.release(`look ${path}`);
    host.hanging.clear();
    await settle();
    expect((await helper.look({ paths, folders: [], blockDevices: false })).found.length).toBe(40);
  },
);

bounded("helper: a look at a drive that is busy: left out at once", async () => {
  const { host, helper } = setUp();
  host.hanging.add("open /dev/1");
  const opening = helper.open(request("/dev/1"));
  await settle();
  const result = await helper.look({ paths: ["/dev/1"], folders: [], blockDevices: false });
  expect(result).toMatchObject({ found: [], unanswered: ["/dev/1"] });
  host.release("open /dev/1");
  expect((await opening).ok).toBe(true);
});

bounded("helper: a look at more than it goes through: says that it was cut", async () => {
  const { helper } = setUp();
  const paths = Array.from({ length: 1025 }, (_, index) => `/dev/${index}`);
  const result = await helper.look({ paths, folders: [], blockDevices: false });
  expect(result.isCut).toBe(true);
  expect(result.found.length).toBe(1024);
});
