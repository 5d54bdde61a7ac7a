/**
 * Goal: a drive is opened by one user only, and told truly what it is like. Method: the real open
 * on files (and loop devices, where the host lets us make them), here and in real helper threads.
 */
import { afterAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { libc } from "../../../ffi/libc.ts";
import { FlockOperation } from "../../../ffi/structs.ts";
import { Helper } from "../../../src/appliance/helper/helper.ts";
import type { HelperReply, OpenedDevice } from "../../../src/appliance/helper/helper-protocol.ts";
import {
  allocate,
  closeAll,
  identifyDrive,
  openDrive,
  punchHole,
} from "../../../src/appliance/helper/linux-drive.ts";
import type { CommandError } from "../../../src/array/protocol.ts";
import { ok, type Result } from "../../../src/base/result.ts";
import { GIB, MIB } from "../../../src/base/units.ts";

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

/** As the helper does it: what is it, then open that. */
function tryOpen(
  path: string,
  options: { direct?: boolean; readOnly?: boolean; protectedPaths?: readonly string[] } = {},
): Result<OpenedDevice, CommandError> {
  const known = identifyDrive(path, options.protectedPaths ?? []);
  return known.ok ? openDrive(request(path, options), known.value.identities) : known;
}

function opened(path: string): OpenedDevice {
  const result = tryOpen(path);
  if (!result.ok) throw new Error(result.error.detail);
  return result.value;
}

function refusal(path: string, options: Parameters<typeof tryOpen>[1] = {}): CommandError {
  const result = tryOpen(path, options);
  if (result.ok) throw new Error(`${path} was opened`);
  return result.error;
}

function identitiesOf(path: string): readonly string[] {
  const known = identifyDrive(path, []);
  if (!known.ok) throw new Error(known.error.detail);
  return known.value.identities;
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
  expect(device.drive.signature).toBe("an ext2 file system");
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

test("open drive: one inode under other names: they are known to be one", () => {
  const path = makeFile("original");
  const [hard, soft] = [join(directory, "hard"), join(directory, "soft")];
  linkSync(path, hard);
  symlinkSync(path, soft);
  for (const name of [hard, soft]) expect(identitiesOf(name)).toEqual(identitiesOf(path));
  expect(identitiesOf(makeFile("another"))).not.toEqual(identitiesOf(path));
});

test("open drive: the path leads elsewhere since it was identified: nothing is opened", () => {
  const path = makeFile("exchanged");
  const identities = identitiesOf(path);
  renameSync(makeFile("exchanger"), path);
  const result = openDrive(request(path), identities);
  expect(result).toMatchObject({ ok: false, error: { code: "drive-changed" } });
  closeAll([opened(path).drive.fd]);
});

/** Everything that a path may lead to and that is no drive: its code, and what is said of it. */
const NO_DRIVES: readonly (readonly [string, () => string, string, string])[] = [
  ["nothing", () => join(directory, "absent"), "no-such-drive", "there is no such file"],
  ["a folder", () => directory, "not-a-drive", "is a folder"],
  ["a character device", () => "/dev/null", "not-a-drive", "is a character device"],
  ["a pipe", makePipe, "not-a-drive", "is a pipe"],
  ["a socket", makeSocket, "not-a-drive", "is a socket"],
  ["a circle of links", makeCircle, "no-such-drive", "round in a circle"],
  ["a link to nothing", makeDanglingLink, "no-such-drive", "there is no such file"],
  ["a path through a file", () => `${makeFile("way")}/on`, "no-such-drive", "is no folder"],
  ["a path too long", () => `/${"x".repeat(5000)}`, "no-such-drive", "path is too long"],
  ["a name too long", () => `/tmp/${"x".repeat(300)}`, "no-such-drive", "path is too long"],
  ["a zero byte", () => "/tmp/a\0b", "no-such-drive", "zero byte"],
  ["a path from here", () => "drive.img", "relative-path", "from / on"],
  ["no path", () => "", "relative-path", "from / on"],
  ["less than a row", () => makeFile("small", 4095), "drive-too-small", "4 KiB row"],
  ["an empty file", () => makeFile("empty", 0), "drive-too-small", "4 KiB row"],
];

for (const [what, make, code, detail] of NO_DRIVES) {
  test(`open drive: ${what}: refused at once, with what it is`, () => {
    const error = refusal(make());
    expect(error).toMatchObject({ kind: "invalid", code });
    expect(error.detail).toContain(detail);
  });
}

function makePipe(): string {
  const path = join(directory, "pipe");
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
  return path;
}

function makeSocket(): string {
  const path = join(directory, "socket");
  servers.push(Bun.listen({ unix: path, socket: { data: () => {} } }));
  return path;
}

function makeCircle(): string {
  const [path, other] = [join(directory, "circle"), join(directory, "circle-other")];
  symlinkSync(other, path);
  symlinkSync(path, other);
  return path;
}

function makeDanglingLink(): string {
  const path = join(directory, "dangling");
  symlinkSync(join(directory, "absent"), path);
  return path;
}

const servers: { stop(): void }[] = [];
afterAll(() => {
  for (const server of servers) server.stop();
});

test("open drive: a pipe that takes the place of a file: an error, and no waiting", () => {
  const path = makeFile("swapped");
  const identities = identitiesOf(path);
  const pipe = join(directory, "swapping-pipe");
  expect(spawnSync("mkfifo", [pipe]).status).toBe(0);
  renameSync(pipe, path);
  expect(openDrive(request(path, { readOnly: true }), identities).ok).toBe(false);
});

test("open drive: files of the daemon, by every name: never a drive", () => {
  const state = join(directory, "state");
  const token = makeFile("token-file");
  mkdirSync(join(state, "below"), { recursive: true });
  const database = makeFile("state/state.db");
  const below = makeFile("state/below/disk.img");
  const [hard, soft] = [join(directory, "database-hard"), join(directory, "database-soft")];
  linkSync(database, hard);
  symlinkSync(database, soft);
  const protectedPaths = [join(directory, "not-there"), state, token];
  for (const path of [database, hard, soft, token, `${state}/../token-file`]) {
    const error = refusal(path, { protectedPaths });
    expect(error).toMatchObject({ kind: "invalid", code: "own-file" });
    expect(error.detail).toContain("a file of parityd itself");
  }
  expect(refusal(hard, { protectedPaths }).detail).toContain(`is ${database}`);
  // A folder's own files are meant, not a folder within it that somebody keeps drives in.
  const result = tryOpen(below, { protectedPaths });
  expect(result.ok).toBe(true);
  if (result.ok) closeAll([result.value.drive.fd]);
});

test("allocate: a sparse file: has its space, its content and its size, and is told as stored", () => {
  const path = makeFile("to-allocate");
  const fd = openSync(path, "r+");
  writeSync(fd, new Uint8Array([7]), 0, 1, 2 * MIB);
  closeSync(fd);
  const sparse = opened(path).drive;
  expect(sparse.allocatedBytes).toBeLessThan(MIB);
  expect(allocate({ fd: sparse.fd, offset: 0, bytes: 4 * MIB, endBytes: 4 * MIB })).toEqual(
    ok(null),
  );
  closeAll([sparse.fd]);
  expect(statSync(path).size).toBe(4 * MIB);
  expect(readFileSync(path)[2 * MIB]).toBe(7);
  const whole = opened(path).drive;
  expect(whole.allocatedBytes).toBeGreaterThanOrEqual(4 * MIB);
  expect(whole.isCopyOnWrite).toBe(false);
  closeAll([whole.fd]);
});

test("allocate: more than the file system has: refused before anything is taken, with what lacks", () => {
  const { bavail, bsize } = statfsSync(directory);
  const sizeBytes = bavail * bsize + 1024 * GIB;
  const path = makeFile("too-large", sizeBytes);
  const { fd } = opened(path).drive;
  const result = allocate({ fd, offset: 0, bytes: 4 * MIB, endBytes: sizeBytes });
  if (result.ok) throw new Error("more than there is was allocated");
  expect(result.error).toMatchObject({ kind: "io", code: "no-space" });
  expect(result.error.detail).toMatch(/\d+\.\d [GT]iB more \(\d+ bytes\) are needed/);
  expect(statSync(path).blocks).toBe(0);
  closeAll([fd]);
});

test("allocate: a file system that cannot: unsupported, not an error of the drive", () => {
  const fd = openSync("/proc/sys/kernel/ostype", "r");
  const result = allocate({ fd, offset: 0, bytes: 4096, endBytes: 4096 });
  closeSync(fd);
  expect(result.ok).toBe(false);
});

test("open drive: a file system without O_DIRECT: the answer tells the way out", () => {
  const path = "/proc/sys/kernel/ostype";
  expect(statSync(path).isFile()).toBe(true);
  const error = refusal(path, { readOnly: true });
  expect(error.code).toBe("no-direct-io");
  expect(error.detail).toContain('"direct": false');
});

test("open drive: read-only: opens what cannot be written, and says so", () => {
  const path = makeFile("read-only");
  const result = tryOpen(path, { readOnly: true, direct: false });
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
    expect(identitiesOf(loop)).toContain(identitiesOf(path)[0]!);
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

function isLockFree(path: string): boolean {
  const fd = openSync(path, "r");
  const isFree = libc.flock(fd, FlockOperation.exclusive | FlockOperation.nonBlock) === 0;
  closeSync(fd);
  return isFree;
}

function realHelper(): Helper {
  return new Helper({
    startThread: () => {
      const worker = new Worker(new URL("../../../src/helper-main.ts", import.meta.url));
      return {
        post: (envelope) => worker.postMessage(envelope),
        onReply: (listener) => {
          worker.onmessage = ({ data }: MessageEvent<HelperReply>) => listener(data);
        },
        onEnd: (listener) => {
          worker.onerror = ({ message }) => listener(message);
        },
        terminate: () => worker.terminate(),
      };
    },
  });
}

test("helper: real threads: open, punch, allocate, look and close over messages", async () => {
  const path = makeFile("threaded");
  const helper = realHelper();
  const result = await helper.open(request(path));
  if (!result.ok) throw new Error(result.error.detail);
  expect(result.value.sizeBytes).toBe(4 * MIB);
  const again = await helper.open({ ...request(path), name: "drive1" });
  expect(again).toMatchObject({ ok: false, error: { kind: "busy" } });
  const { fd } = result.value;
  expect(await helper.punchHole(fd, { offset: 0, bytes: 4096 })).toEqual(ok(null));
  expect(await helper.allocate(fd, 4 * MIB)).toEqual(ok(null));
  const look = { paths: [path], folders: [], blockDevices: true };
  expect((await helper.look(look)).found.map((device) => device.path)).not.toContain(path);
  await helper.close(fd);
  expect((await helper.look(look)).found[0]).toMatchObject({ path, member: null });
  expect((await helper.open(request(path))).ok).toBe(true);
  helper.stop();
});

test("helper: real threads: 24 drives at once, two names each: each opened by one", async () => {
  const helper = realHelper();
  const paths = Array.from({ length: 24 }, (_, index) => makeFile(`many-${index}`));
  for (const path of paths) linkSync(path, `${path}-too`);
  const names = paths.flatMap((path) => [path, `${path}-too`]);
  const results = await Promise.all(names.map((path) => helper.open(request(path))));
  for (const [index, path] of paths.entries()) {
    const pair = [results[2 * index]!, results[2 * index + 1]!];
    expect(pair.map(({ ok: isOpen }) => isOpen).sort()).toEqual([false, true]);
    const refused = pair.find(({ ok: isOpen }) => !isOpen)!;
    expect(refused).toMatchObject({ error: { kind: "busy", code: "drive-in-use" } });
    expect(isLockFree(path)).toBe(false);
  }
  const fds = results.flatMap((result) => (result.ok ? [result.value.fd] : []));
  await Promise.all(fds.map((fd) => helper.close(fd)));
  for (const path of paths) expect(isLockFree(path)).toBe(true);
  helper.stop();
});

test("helper: real threads: the executable itself: never a drive", async () => {
  const helper = realHelper();
  const error = await helper.open(request(process.execPath, { readOnly: true }));
  expect(error).toMatchObject({ ok: false, error: { code: "own-file" } });
  helper.stop();
});
