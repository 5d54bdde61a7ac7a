/**
 * Goal: the socket adapter keeps the contract of SocketKernel on real sockets. Method: listeners
 * and clients in one thread, driven by `poll`; socket files of every kind in a temporary directory.
 */
import { afterAll, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { lastErrno, libc } from "../../../ffi/libc.ts";
import { Socket } from "../../../ffi/structs.ts";
import {
  EADDRINUSE,
  EAGAIN,
  EEXIST,
  EINVAL,
  ENAMETOOLONG,
  EPIPE,
} from "../../../src/base/errno.ts";
import { Ready } from "../../../src/reactor/kernel.ts";
import { openEventFd } from "../../../src/reactor/linux-mailbox.ts";
import { ringEventFd, startTestReactor } from "../../helpers/reactor.ts";

const reactor = startTestReactor();
const { sockets } = reactor.reactor;
const { memory, payloadPool } = reactor.context;
const directory = mkdtempSync("/tmp/parityd-socket-");
const buffer = payloadPool.allocate(4096);
afterAll(() => {
  reactor.stop();
  rmSync(directory, { recursive: true });
});

function connectUnix(path: string): number {
  const address = new Uint8Array(110);
  address[0] = Socket.unix;
  address.set(new TextEncoder().encode(path), 2);
  return connect(Socket.unix, address);
}

function connect(family: number, address: Uint8Array): number {
  const fd = libc.socket(family, Socket.stream | Socket.nonBlock, 0);
  const isRefused = libc.connect(fd, address, address.length) !== 0 && lastErrno() !== 115;
  if (!isRefused) return fd;
  libc.close(fd);
  return -1;
}

function accepted(listener: number): number {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const fd = sockets.accept(listener);
    if (fd !== -EAGAIN) return fd;
    sockets.poll(1, () => {});
  }
  throw new Error("nobody connected");
}

function send(fd: number, texts: readonly string[]): number {
  let at = buffer + 1024;
  for (const [index, text] of texts.entries()) {
    const iovec = buffer + index * 16;
    memory.bytes.set(new TextEncoder().encode(text), at);
    memory.view.setBigUint64(iovec, BigInt(sockets.baseAddress + at), true);
    memory.view.setBigUint64(iovec + 8, BigInt(text.length), true);
    at += text.length + 8;
  }
  return sockets.sendv(fd, buffer, texts.length);
}

function receive(fd: number): string | number {
  const bytes = sockets.recv(fd, buffer + 2048, 1024);
  if (bytes <= 0) return bytes;
  return new TextDecoder().decode(memory.bytes.slice(buffer + 2048, buffer + 2048 + bytes));
}

test("sockets: a Unix listener: has its mode from birth, whatever the umask is", () => {
  for (const mode of [0o600, 0o660, 0o666]) {
    for (const umask of [0o000, 0o022, 0o077]) {
      const path = join(directory, `mode-${mode}-${umask}`);
      const before = process.umask(umask);
      const fd = sockets.listenUnix({ path, mode });
      process.umask(before);
      expect(fd).toBeGreaterThan(0);
      expect(statSync(path).mode & 0o777).toBe(mode);
      sockets.close(fd);
    }
  }
});

test("sockets: a stale socket file: is replaced; one that answers is not", () => {
  const path = join(directory, "stale");
  const first = sockets.listenUnix({ path, mode: 0o600 });
  expect(sockets.listenUnix({ path, mode: 0o600 })).toBe(-EADDRINUSE);
  expect(connectUnix(path)).toBeGreaterThan(0);
  sockets.close(first);
  expect(existsSync(path)).toBe(true);
  const second = sockets.listenUnix({ path, mode: 0o600 });
  expect(second).toBeGreaterThan(0);
  sockets.close(second);
});

test("sockets: a socket's file: told from another's at its path, which is never removed", () => {
  const path = join(directory, "own");
  expect(sockets.fileAt(path)).toBe("");
  expect(sockets.fileAt(join(path, "below", "nothing"))).toBe("");
  const first = sockets.listenUnix({ path, mode: 0o600 });
  const file = sockets.fileAt(path);
  expect(file).not.toBe("");
  unlinkSync(path);
  // While the first is open its inode is not given to anybody else.
  const second = sockets.listenUnix({ path, mode: 0o600 });
  const other = sockets.fileAt(path);
  expect([second > 0, other === file]).toEqual([true, false]);
  sockets.removeFile(path, file);
  expect(sockets.fileAt(path)).toBe(other);
  sockets.removeFile(path, other);
  expect(existsSync(path)).toBe(false);
  for (const fd of [first, second]) sockets.close(fd);
});

test("sockets: who is at the other end: the process of a Unix socket, the address of TCP", () => {
  const path = join(directory, "who");
  const listener = sockets.listenUnix({ path, mode: 0o600 });
  const client = connectUnix(path);
  const server = accepted(listener);
  const self = `process ${process.pid} of user ${process.getuid!()}`;
  expect([sockets.peerOf(server), sockets.addressOf(server)]).toEqual([self, ""]);
  for (const fd of [client, server, listener]) sockets.close(fd);
  expect(sockets.peerOf(server)).toBe("");
});

test("sockets: the limit of open files: the hard one, and held to by the kernel", () => {
  const limits = readFileSync("/proc/self/limits", "utf8");
  const [, soft, hard] = /^Max open files +(\S+) +(\S+)/m.exec(limits)!;
  expect(soft).toBe(hard!);
  expect(sockets.descriptorLimit).toBe(Math.min(Number(hard), 2 ** 20));
});

test("sockets: a path that is a file, a directory or a link: is left alone", () => {
  const file = join(directory, "file");
  writeFileSync(file, "mine");
  const link = join(directory, "link");
  symlinkSync(file, link);
  for (const path of [file, link, directory]) {
    expect(sockets.listenUnix({ path, mode: 0o600 })).toBe(-EEXIST);
  }
  expect(existsSync(file)).toBe(true);
  expect(existsSync(link)).toBe(true);
});

test("sockets: a path that is too long, or holds a zero byte: ENAMETOOLONG, EINVAL", () => {
  const path = `/tmp/${"x".repeat(103)}`;
  expect(sockets.listenUnix({ path, mode: 0o600 })).toBe(-ENAMETOOLONG);
  expect(sockets.listenUnix({ path: "/tmp/a\0b", mode: 0o600 })).toBe(-EINVAL);
});

test("sockets: a Unix connection: gathers, scatters, ends, and EPIPE afterwards", () => {
  const path = join(directory, "talk");
  const listener = sockets.listenUnix({ path, mode: 0o600 });
  expect(sockets.accept(listener)).toBe(-EAGAIN);
  const client = connectUnix(path);
  const server = accepted(listener);
  expect(receive(server)).toBe(-EAGAIN);
  expect(send(client, ["hello ", "from ", "three"])).toBe(16);
  expect(receive(server)).toBe("hello from three");
  libc.close(client);
  expect(receive(server)).toBe(0);
  expect(send(server, ["too late"])).toBe(-EPIPE);
  sockets.close(server);
  sockets.close(listener);
});

for (const host of ["127.0.0.1", "localhost", "::1", "[::1]"]) {
  test(`sockets: TCP on ${host} with port 0: listens on the port it tells`, () => {
    const listener = sockets.listenTcp({ host, port: 0 });
    expect(listener).toBeGreaterThan(0);
    const port = sockets.localPort(listener);
    expect(port).toBeGreaterThan(1023);
    const isIpv6 = host.includes(":");
    const address = new Uint8Array(isIpv6 ? 28 : 16);
    address[0] = isIpv6 ? Socket.inet6 : Socket.inet;
    address[2] = port >> 8;
    address[3] = port & 0xff;
    if (isIpv6) address[23] = 1;
    else address.set([127, 0, 0, 1], 4);
    const client = connect(address[0], address);
    const server = accepted(listener);
    expect(send(server, ["ping"])).toBe(4);
    sockets.watch(client, 1, Ready.read);
    while (sockets.poll(100, () => {}) === 0);
    expect(sockets.peerOf(server)).toBe(isIpv6 ? "0:0:0:0::/64" : "127.0.0.1");
    expect(sockets.addressOf(server)).toBe(isIpv6 ? "0:0:0:0:0:0:0:1" : "127.0.0.1");
    expect(receive(client)).toBe("ping");
    expect(sockets.listenTcp({ host, port })).toBe(-EADDRINUSE);
    for (const fd of [client, server, listener]) sockets.close(fd);
  });
}

test("sockets: a host that is no literal address, a port out of range: EINVAL", () => {
  for (const host of ["example.test", "", "1.2.3", "::g"]) {
    expect(sockets.listenTcp({ host, port: 0 })).toBe(-EINVAL);
  }
  for (const port of [-1, 65_536, 1.5]) {
    expect(sockets.listenTcp({ host: "127.0.0.1", port })).toBe(-EINVAL);
  }
});

test("sockets: poll: tells what is watched, follows changes, and hang-ups always", () => {
  const path = join(directory, "poll");
  const listener = sockets.listenUnix({ path, mode: 0o600 });
  const client = connectUnix(path);
  const server = accepted(listener);
  const seen: [number, number][] = [];
  const poll = () => {
    seen.length = 0;
    sockets.poll(0, (token, ready) => seen.push([token, ready]));
    return seen;
  };
  sockets.watch(server, 4_000_000_000, Ready.read);
  expect(poll()).toEqual([]);
  send(client, ["x"]);
  expect(poll()).toEqual([[4_000_000_000, Ready.read]]);
  expect(poll()).toEqual([[4_000_000_000, Ready.read]]);
  sockets.watch(server, 8, Ready.read | Ready.write);
  expect(poll()).toEqual([[8, Ready.read | Ready.write]]);
  sockets.watch(server, 8, Ready.write);
  expect(poll()).toEqual([[8, Ready.write]]);
  sockets.watch(server, 8, 0);
  expect(poll()).toEqual([]);
  libc.close(client);
  expect(poll()).toEqual([[8, Ready.hangUp]]);
  sockets.unwatch(server);
  expect(poll()).toEqual([]);
  sockets.close(server);
  sockets.close(listener);
});

test("sockets: an eventfd watched for edges: told once for each ring, never read", () => {
  const fd = openEventFd();
  let count = 0;
  sockets.watch(fd, 1, Ready.read | Ready.edge);
  for (let ring = 1; ring <= 3; ring += 1) {
    ringEventFd(fd);
    sockets.poll(0, () => {
      count += 1;
    });
    sockets.poll(0, () => {
      count += 1;
    });
    expect(count).toBe(ring);
  }
  sockets.unwatch(fd);
  closeSync(fd);
});
