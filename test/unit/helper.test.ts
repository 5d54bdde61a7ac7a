/**
 * Goal: a drive is opened by one user only, told truly what it is like, and a call that hangs fails
 * its own drive alone. Method: the real open on files (and loop devices, where the host lets us
 * make them); the helper client with threads that the test plays.
 */
import { afterAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  constants,
  linkSync,
  mkdtempSync,
  openSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { libc } from "../../ffi/libc.ts";
import { FlockOperation } from "../../ffi/structs.ts";
import { Helper, type HelperThread } from "../../src/appliance/helper.ts";
import type {
  HelperEnvelope,
  HelperReply,
  OpenedDevice,
} from "../../src/appliance/helper-protocol.ts";
import { closeAll, openDrive, punchHole } from "../../src/appliance/linux-drive.ts";
import type { OpenDrive } from "../../src/array/protocol.ts";
import { ok } from "../../src/base/result.ts";
import { MIB } from "../../src/base/units.ts";

const directory = mkdtempSync("/tmp/parityd-helper-");
afterAll(() => rmSync(directory, { recursive: true }));

function makeFile(name: string, sizeBytes = 4 * MIB): string {
  const path = join(directory, name);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

const request = (path: string, options: { direct?: boolean; readOnly?: boolean } = {}) => ({
  name: "drive0",
  path,
  direct: options.direct ?? true,
  readOnly: options.readOnly ?? false,
});

function opened(path: string): OpenedDevice {
  const result = openDrive(request(path), []);
  if (!result.ok) throw new Error(result.error.detail);
  return result.value;
}

function refusal(path: string, inUse: Parameters<typeof openDrive>[1] = [], readOnly = false) {
  const result = openDrive(request(path, { readOnly }), inUse);
  if (result.ok) throw new Error(`${path} was opened`);
  return result.error;
}

test("open drive: a fresh file: size, block, cache, zeros, no signature", () => {
  const path = makeFile("fresh");
  const device = opened(path);
  expect(device.drive).toMatchObject({
    name: "drive0",
    path,
    sizeBytes: 4 * MIB,
    logicalBlockBytes: 512,
    isDirect: true,
    isReadOnly: false,
    hasVolatileCache: true,
    readsZeros: true,
    signature: null,
  });
  closeAll([device.drive.fd]);
});

test("open drive: a file with content: does not read zeros, its signature is named", () => {
  const path = makeFile("ext4");
  const fd = openSync(path, "r+");
  writeSync(fd, new Uint8Array([0x53, 0xef]), 0, 2, 0x438);
  closeSync(fd);
  const device = opened(path);
  expect(device.drive.readsZeros).toBe(false);
  expect(device.drive.signature).toBe("ext2 file system");
  closeAll([device.drive.fd]);
});

test("open drive: rule 12: the lock of a file is held while open, against everybody", () => {
  const path = makeFile("locked");
  const device = opened(path);
  expect(refusal(path)).toMatchObject({ kind: "busy", code: "drive-in-use" });
  const flock = () => spawnSync("flock", ["--nonblock", path, "true"]).status;
  expect(flock()).toBe(1);
  closeAll([device.drive.fd]);
  expect(flock()).toBe(0);
  closeAll([opened(path).drive.fd]);
});

test("open drive: one inode under another name: the drive that has it is named", () => {
  const path = makeFile("original");
  const [hard, soft] = [join(directory, "hard"), join(directory, "soft")];
  linkSync(path, hard);
  symlinkSync(path, soft);
  const device = opened(path);
  const inUse = device.identities.map((identity) => ({ identity, drive: "drive7" }));
  for (const name of [path, hard, soft]) {
    const error = refusal(name, inUse);
    expect(error.kind).toBe("busy");
    expect(error.detail).toContain("drive7 already has this device");
  }
  closeAll([device.drive.fd]);
});

test("open drive: nothing there, a directory, a character device, too small: each says why", () => {
  expect(refusal(join(directory, "absent")).detail).toContain("no such file");
  expect(refusal(directory).code).toBe("not-a-drive");
  expect(refusal("/dev/null").code).toBe("not-a-drive");
  expect(refusal("/tmp/a\0b").kind).toBe("invalid");
  expect(refusal(makeFile("small", 4095)).code).toBe("drive-too-small");
});

test("open drive: a file system without O_DIRECT: the answer tells the way out", () => {
  const path = "/proc/sys/kernel/ostype";
  expect(statSync(path).isFile()).toBe(true);
  const error = refusal(path, [], true);
  expect(error.code).toBe("no-direct-io");
  expect(error.detail).toContain('"direct": false');
});

test("open drive: read-only: opens what cannot be written, and says so", () => {
  const path = makeFile("read-only");
  const result = openDrive(request(path, { readOnly: true, direct: false }), []);
  if (!result.ok) throw new Error(result.error.detail);
  expect(result.value.drive).toMatchObject({ isReadOnly: true, isDirect: false });
  expect(() => writeSync(result.value.drive.fd, "x")).toThrow("EBADF");
  closeAll([result.value.drive.fd]);
});

test("open drive: a loop device and its file: one of them at a time", () => {
  const path = makeFile("backing");
  const setUp = spawnSync("losetup", ["--find", "--show", path], { encoding: "utf8" });
  // A host without loop devices, or a user who may not make them, has nothing to protect here.
  if (setUp.status !== 0) return;
  const loop = setUp.stdout.trim();
  try {
    expect(refusal(path)).toMatchObject({ kind: "busy" });
    const mount = openSync(loop, constants.O_RDONLY | constants.O_EXCL);
    expect(refusal(loop).detail).toContain("it is mounted");
    closeSync(mount);
    const holder = openSync(path, "r");
    expect(libc.flock(holder, FlockOperation.exclusive | FlockOperation.nonBlock)).toBe(0);
    expect(refusal(loop).detail).toContain("holds the lock of its file");
    closeSync(holder);
    const device = opened(loop);
    expect(device.drive.sizeBytes).toBe(4 * MIB);
    expect(device.lockFds.length).toBe(1);
    expect(refusal(loop).kind).toBe("busy");
    const inUse = device.identities.map((identity) => ({ identity, drive: "drive3" }));
    expect(refusal(path, inUse).detail).toContain("drive3");
    closeAll([device.drive.fd, ...device.lockFds]);
  } finally {
    spawnSync("losetup", ["--detach", loop]);
  }
});

test("punch hole: a range of data: reads zeros, the size stays", () => {
  const path = makeFile("punched");
  writeFileSync(path, new Uint8Array(MIB).fill(7));
  const device = opened(path);
  const { fd } = device.drive;
  expect(punchHole({ fd, offset: 4096, bytes: 8192 })).toEqual(ok(null));
  const bytes = new Uint8Array(spawnSync("cat", [path], { maxBuffer: 2 * MIB }).stdout);
  expect(bytes.length).toBe(MIB);
  expect(bytes.subarray(4096, 12_288).every((byte) => byte === 0)).toBe(true);
  expect(bytes[4095]).toBe(7);
  expect(bytes[12_288]).toBe(7);
  closeAll([fd]);
});

// The client -------------------------------------------------------------------------------------

class PlayedThread implements HelperThread {
  readonly posted: HelperEnvelope[] = [];
  isTerminated = false;
  private listener: (reply: HelperReply) => void = () => {};

  post(envelope: HelperEnvelope): void {
    this.posted.push(envelope);
  }

  onReply(listener: (reply: HelperReply) => void): void {
    this.listener = listener;
  }

  terminate(): void {
    this.isTerminated = true;
  }

  /** Answers the last call: an open with the fd, others with success. */
  answer(fd = 0): void {
    const { id, call } = this.posted.at(-1)!;
    this.listener({ id, result: call.kind === "open" ? ok(device(fd)) : ok(null) });
  }
}

function device(fd: number): OpenedDevice {
  const drive = { name: `drive${fd}`, path: `/dev/${fd}`, fd } as OpenDrive;
  return { drive, identities: [`block:8:${fd}`], lockFds: [fd + 100] };
}

function setUpHelper(deadlineMs = 10_000) {
  const threads: PlayedThread[] = [];
  const startThread = () => {
    threads.push(new PlayedThread());
    return threads.at(-1)!;
  };
  return { helper: new Helper({ startThread, deadlineMs }), threads };
}

test("helper: several calls: one at a time, each told what is open by then", async () => {
  const { helper, threads } = setUpHelper();
  const first = helper.open(request("/dev/1"));
  const second = helper.open(request("/dev/2"));
  const thread = threads[0]!;
  expect(thread.posted.length).toBe(1);
  thread.answer(1);
  expect(await first).toMatchObject({ ok: true, value: { fd: 1 } });
  expect(thread.posted.length).toBe(2);
  expect(thread.posted[1]!.call).toMatchObject({
    inUse: [{ identity: "block:8:1", drive: "drive1" }],
  });
  thread.answer(2);
  expect((await second).ok).toBe(true);
  const closing = helper.close(1);
  expect(thread.posted[2]!.call).toEqual({ kind: "close", fds: [1, 101] });
  thread.answer();
  await closing;
  const third = helper.open(request("/dev/3"));
  expect(thread.posted[3]!.call).toMatchObject({ inUse: [{ drive: "drive2" }] });
  thread.answer(3);
  await third;
  expect(threads.length).toBe(1);
});

test("helper: a call past its deadline: fails alone; the next one gets a fresh thread", async () => {
  const { helper, threads } = setUpHelper(20);
  const hung = helper.open(request("/dev/1"));
  const next = helper.open(request("/dev/2"));
  expect(await hung).toMatchObject({ ok: false, error: { kind: "io", code: "drive-timeout" } });
  expect(threads.length).toBe(2);
  threads[1]!.answer(2);
  expect((await next).ok).toBe(true);
  // The hung open succeeds after all: nobody waits for it, so it is closed and the thread ends.
  threads[0]!.answer(1);
  expect(threads[0]!.posted.at(-1)!.call).toEqual({ kind: "close", fds: [1, 101] });
  expect(threads[0]!.isTerminated).toBe(false);
  threads[0]!.answer();
  expect(threads[0]!.isTerminated).toBe(true);
  expect(threads[1]!.isTerminated).toBe(false);
});

test("helper: eight stuck threads: further calls are refused until one comes back", async () => {
  const { helper, threads } = setUpHelper(1);
  for (let index = 0; index < 8; index += 1) {
    expect((await helper.open(request(`/dev/${index}`))).ok).toBe(false);
  }
  expect(await helper.open(request("/dev/9"))).toMatchObject({ error: { code: "drives-stuck" } });
  expect(threads.length).toBe(8);
  threads[0]!.answer(1);
  threads[0]!.answer();
  const last = helper.open(request("/dev/9"));
  expect(threads.length).toBe(9);
  threads[8]!.answer(9);
  expect((await last).ok).toBe(true);
});

test("helper: the real thread: opens and closes over messages", async () => {
  const path = makeFile("threaded");
  const helper = new Helper({
    startThread: () => {
      const worker = new Worker(new URL("../../src/helper-main.ts", import.meta.url));
      return {
        post: (envelope) => worker.postMessage(envelope),
        onReply: (listener) => {
          worker.onmessage = ({ data }: MessageEvent<HelperReply>) => listener(data);
        },
        terminate: () => worker.terminate(),
      };
    },
  });
  const result = await helper.open(request(path));
  if (!result.ok) throw new Error(result.error.detail);
  expect(result.value.sizeBytes).toBe(4 * MIB);
  const again = await helper.open({ ...request(path), name: "drive1" });
  expect(again).toMatchObject({ ok: false, error: { kind: "busy" } });
  const { fd } = result.value;
  expect(await helper.punchHole(fd, { offset: 0, bytes: 4096 })).toEqual(ok(null));
  await helper.close(fd);
  expect((await helper.open(request(path))).ok).toBe(true);
  helper.stop();
});
