/**
 * Sockets and readiness for real: raw system calls behind `SocketKernel`.
 *
 * - Everything is non-blocking and close-on-exec. Writing to a closed peer is -EPIPE, no signal.
 * - A Unix socket is never more open than its mode, not even between bind and chmod: bind takes
 *   the mode of the socket's own inode, less the umask. The umask, which belongs to the whole
 *   process and so to the other threads too, is left alone.
 * - A TCP peer that has vanished without a word is noticed after two minutes, and then hung up on.
 * - `poll` is level-triggered, except where `Ready.edge` asks otherwise.
 */
import { type Address, baseAddressOf, cString } from "../../ffi/arena.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import * as Linux from "../../ffi/structs.ts";
import { assert } from "../base/assert.ts";
import {
  EADDRINUSE,
  EEXIST,
  EINTR,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  ENOTDIR,
  errnoName,
} from "../base/errno.ts";
import type { Carver, SharedMemory } from "../base/memory.ts";
import { MIB } from "../base/units.ts";
import { Ready, type SocketKernel } from "./kernel.ts";
import { raiseDescriptorLimit } from "./linux-descriptors.ts";
import { unixPeerOf } from "./linux-peer.ts";

const { Socket, Epoll } = Linux;
const EVENTS_MAX = 256;
const BACKLOG = 128;
/** A whole large answer fits, so that a client that reads late costs few turns of the loop. */
const UNIX_SEND_BUFFER_BYTES = 4 * MIB;
/** Two minutes in all: of silence, and then of probes without an answer. */
const KEEP_IDLE_SECONDS = 60;
const KEEP_INTERVAL_SECONDS = 15;
const KEEP_COUNT = 4;
const STREAM_TYPE = Socket.stream | Socket.nonBlock | Socket.closeOnExec;

export class LinuxSockets implements SocketKernel {
  readonly baseAddress: number;
  readonly descriptorLimit = raiseDescriptorLimit();
  private readonly memory: SharedMemory;
  private readonly epollFd: number;
  private readonly eventsAddress: number;
  private readonly messageAddress: number;
  private readonly watched = new Set<number>();
  private readonly unixListeners = new Set<number>();

  constructor({ memory, carver }: { memory: SharedMemory; carver: Carver }) {
    this.memory = memory;
    this.baseAddress = baseAddressOf(memory.memory);
    this.eventsAddress = carver.carve({ bytes: EVENTS_MAX * Epoll.eventBytes, alignment: 64 });
    this.messageAddress = carver.carve({ bytes: Linux.MessageHeader.bytes, alignment: 64 });
    this.epollFd = libc.epoll_create1(Epoll.closeOnExec);
    assert(this.epollFd >= 0, "the process can open an epoll instance");
  }

  listenUnix({ path, mode }: { path: string; mode: number }): number {
    const pathBytes = cString(path);
    if (pathBytes === null) return -EINVAL;
    if (pathBytes.length - 1 > Linux.UNIX_PATH_BYTES_MAX) return -ENAMETOOLONG;
    const address = new Uint8Array(Linux.SOCKADDR_UNIX_BYTES);
    address[0] = Socket.unix;
    address.set(pathBytes, 2);
    const stale = removeStaleSocket(pathBytes, address);
    if (stale < 0) return stale;
    const fd = libc.socket(Socket.unix, STREAM_TYPE, 0);
    if (fd < 0) return -lastErrno();
    const isListening =
      libc.fchmod(fd, mode) === 0 &&
      libc.bind(fd, address, address.length) === 0 &&
      libc.chmod(pathBytes, mode) === 0 &&
      libc.listen(fd, BACKLOG) === 0;
    if (!isListening) return closeAfterError(fd);
    this.unixListeners.add(fd);
    return fd;
  }

  listenTcp({ host, port }: { host: string; port: number }): number {
    const address = internetAddress(host, port);
    if (address === null) return -EINVAL;
    const fd = libc.socket(address[0]!, STREAM_TYPE, 0);
    if (fd < 0) return -lastErrno();
    setOption(fd, Socket.levelSocket, Socket.reuseAddress, 1);
    keepAlive(fd);
    if (address[0] === Socket.inet6) setOption(fd, Socket.levelIpv6, Socket.ipv6Only, 1);
    const isListening =
      libc.bind(fd, address, address.length) === 0 && libc.listen(fd, BACKLOG) === 0;
    return isListening ? fd : closeAfterError(fd);
  }

  fileAt(path: string): string {
    const pathBytes = cString(path);
    const status = pathBytes === null ? -EINVAL : statusOf(pathBytes);
    if (typeof status !== "number") return identityOf(status);
    return status === -ENOENT || status === -ENOTDIR ? "" : errnoName(-status);
  }

  removeFile(path: string, file: string): void {
    const pathBytes = cString(path);
    if (pathBytes !== null && this.fileAt(path) === file) libc.unlink(pathBytes);
  }

  localPort(fd: number): number {
    const address = new Uint8Array(Linux.SOCKADDR_INET6_BYTES);
    const length = new Uint8Array(4);
    length[0] = address.length;
    if (libc.getsockname(fd, address, length) !== 0) return -lastErrno();
    return address[2]! * 256 + address[3]!;
  }

  accept(fd: number): number {
    for (;;) {
      const accepted = libc.accept4(fd, 0, 0, Socket.nonBlock | Socket.closeOnExec);
      if (accepted < 0) {
        const errno = lastErrno();
        if (errno === EINTR) continue;
        return -errno;
      }
      if (!this.unixListeners.has(fd)) setOption(accepted, Socket.levelTcp, Socket.tcpNoDelay, 1);
      else if (
        setOption(accepted, Socket.levelSocket, Socket.sendBufferForce, UNIX_SEND_BUFFER_BYTES) !==
        0
      ) {
        // Without privilege the system's limit holds, and that is fine too.
        setOption(accepted, Socket.levelSocket, Socket.sendBuffer, UNIX_SEND_BUFFER_BYTES);
      }
      return accepted;
    }
  }

  peerOf(fd: number): string {
    const address = peerAddressOf(fd);
    if (address === null) return "";
    if (address[0] === Socket.inet) return address.subarray(4, 8).join(".");
    if (address[0] === Socket.inet6) return `${groupsOf(address.subarray(8, 16))}::/64`;
    return unixPeerOf(fd);
  }

  addressOf(fd: number): string {
    const address = peerAddressOf(fd);
    if (address?.[0] === Socket.inet) return address.subarray(4, 8).join(".");
    return address?.[0] === Socket.inet6 ? groupsOf(address.subarray(8, 24)) : "";
  }

  recv(fd: number, address: number, bytes: number): number {
    for (;;) {
      const answer = libc.recv(fd, this.baseAddress + address, bytes, Socket.messageDontWait);
      if (answer >= 0) return answer;
      const errno = lastErrno();
      if (errno !== EINTR) return -errno;
    }
  }

  sendv(fd: number, iovAddress: number, count: number): number {
    const { view } = this.memory;
    const pointer = this.baseAddress + iovAddress;
    const iovField = this.messageAddress + Linux.MessageHeader.iov;
    view.setUint32(iovField, pointer >>> 0, true);
    view.setUint32(iovField + 4, Math.floor(pointer / 2 ** 32), true);
    view.setUint32(this.messageAddress + Linux.MessageHeader.iovCount, count, true);
    for (;;) {
      const answer = libc.sendmsg(
        fd,
        this.baseAddress + this.messageAddress,
        Socket.messageNoSignal | Socket.messageDontWait,
      );
      if (answer >= 0) return answer;
      const errno = lastErrno();
      if (errno !== EINTR) return -errno;
    }
  }

  close(fd: number): void {
    this.unwatch(fd);
    this.unixListeners.delete(fd);
    libc.close(fd);
  }

  watch(fd: number, token: number, interest: number): void {
    let events = 0;
    if ((interest & Ready.read) !== 0) events |= Epoll.in;
    if ((interest & Ready.write) !== 0) events |= Epoll.out;
    if ((interest & Ready.edge) !== 0) events += Epoll.edgeTriggered;
    const event = new Uint8Array(Epoll.eventBytes);
    const view = new DataView(event.buffer);
    view.setUint32(0, events, true);
    view.setUint32(Epoll.dataOffset, token, true);
    const operation = this.watched.has(fd) ? Epoll.modify : Epoll.add;
    assert(libc.epoll_ctl(this.epollFd, operation, fd, event) === 0, "an open fd can be watched");
    this.watched.add(fd);
  }

  unwatch(fd: number): void {
    if (!this.watched.delete(fd)) return;
    libc.epoll_ctl(this.epollFd, Epoll.remove, fd, 0);
  }

  poll(timeoutMs: number, onReady: (token: number, ready: number) => void): number {
    const events = this.baseAddress + this.eventsAddress;
    const count = libc.epoll_wait(this.epollFd, events, EVENTS_MAX, Math.ceil(timeoutMs));
    if (count < 0) {
      assert(lastErrno() === EINTR, "epoll_wait fails only by our own mistake");
      return 0;
    }
    for (let index = 0; index < count; index += 1) {
      const address = this.eventsAddress + index * Epoll.eventBytes;
      const bits = Atomics.load(this.memory.i32, address / 4);
      const token = Atomics.load(this.memory.i32, (address + Epoll.dataOffset) / 4) >>> 0;
      let ready = 0;
      if ((bits & Epoll.in) !== 0) ready |= Ready.read;
      if ((bits & Epoll.out) !== 0) ready |= Ready.write;
      if ((bits & (Epoll.error | Epoll.hangUp)) !== 0) ready |= Ready.hangUp;
      onReady(token, ready);
    }
    return count;
  }
}

/** Of a listener: what it accepts takes after it. */
function keepAlive(fd: number): void {
  setOption(fd, Socket.levelTcp, Socket.tcpKeepIdle, KEEP_IDLE_SECONDS);
  setOption(fd, Socket.levelTcp, Socket.tcpKeepInterval, KEEP_INTERVAL_SECONDS);
  setOption(fd, Socket.levelTcp, Socket.tcpKeepCount, KEEP_COUNT);
  setOption(fd, Socket.levelSocket, Socket.keepAlive, 1);
}

function setOption(fd: number, level: number, option: number, value: number): number {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return libc.setsockopt(fd, level, option, bytes, bytes.length);
}

function closeAfterError(fd: number): number {
  const errno = lastErrno();
  libc.close(fd);
  return -errno;
}

/**
 * Removes the socket file that a server left which ended without doing so. 0, or -EADDRINUSE where
 * one still answers, or -EEXIST where the path is anything but a socket, which is never removed.
 */
function removeStaleSocket(path: Address, address: Uint8Array): number {
  const { Statx, FileType } = Linux;
  const status = statusOf(path);
  if (typeof status === "number") return status === -ENOENT ? 0 : status;
  const mode = status.getUint16(Statx.mode, true);
  if ((mode & FileType.mask) !== FileType.socket) return -EEXIST;
  const fd = libc.socket(Socket.unix, STREAM_TYPE, 0);
  if (fd < 0) return -lastErrno();
  const errno = libc.connect(fd, address, address.length) === 0 ? 0 : lastErrno();
  libc.close(fd);
  // Anything but a refusal (a full backlog is EAGAIN) means that somebody listens there.
  if (errno !== Socket.connectionRefused) return errno === ENOENT ? 0 : -EADDRINUSE;
  // Another one may have come to the path while the old one was asked.
  const now = statusOf(path);
  if (typeof now !== "number" && identityOf(now) !== identityOf(status)) return -EADDRINUSE;
  return libc.unlink(path) === 0 || lastErrno() === ENOENT ? 0 : -lastErrno();
}

/** The struct statx of what is at `path` itself, or -errno. */
function statusOf(path: Address): DataView | number {
  const { Statx } = Linux;
  const status = new Uint8Array(Statx.bytes);
  const flags = Statx.atSymlinkNoFollow;
  return libc.statx(Statx.atCurrentDirectory, path, flags, Statx.maskBasic, status) === 0
    ? new DataView(status.buffer)
    : -lastErrno();
}

/**
 * Device and inode. A socket holds on to the inode that it was bound to, so as long as it is open
 * no other file gets the same.
 */
function identityOf(status: DataView): string {
  const { Statx } = Linux;
  const major = status.getUint32(Statx.deviceMajor, true);
  const minor = status.getUint32(Statx.deviceMinor, true);
  return `${major}:${minor}:${status.getBigUint64(Statx.inode, true)}`;
}

/** The sockaddr of the other end; null where that is gone or was never there. */
function peerAddressOf(fd: number): Uint8Array | null {
  const address = new Uint8Array(Linux.SOCKADDR_UNIX_BYTES);
  const length = new Uint8Array([address.length, 0, 0, 0]);
  return libc.getpeername(fd, address, length) === 0 ? address : null;
}

/** Groups of an IPv6 address, as text. */
function groupsOf(bytes: Uint8Array): string {
  const groups: string[] = [];
  for (let at = 0; at < bytes.length; at += 2) {
    groups.push((bytes[at]! * 256 + bytes[at + 1]!).toString(16));
  }
  return groups.join(":");
}

/** A sockaddr_in or sockaddr_in6 for a literal address or "localhost"; null for anything else. */
function internetAddress(host: string, port: number): Uint8Array | null {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) return null;
  const literal = host === "localhost" ? "127.0.0.1" : host.replace(/^\[(.*)\]$/, "$1");
  const text = cString(literal);
  if (text === null) return null;
  const isIpv6 = literal.includes(":");
  const address = new Uint8Array(isIpv6 ? Linux.SOCKADDR_INET6_BYTES : Linux.SOCKADDR_INET_BYTES);
  const family = isIpv6 ? Socket.inet6 : Socket.inet;
  const binary = new Uint8Array(16);
  if (libc.inet_pton(family, text, binary) !== 1) return null;
  address[0] = family;
  address[2] = port >> 8;
  address[3] = port & 0xff;
  if (isIpv6) address.set(binary, 8);
  else address.set(binary.subarray(0, 4), 4);
  return address;
}
