/**
 * Attaches and detaches the kernel's NBD devices: calls that may block, made by a helper thread.
 *
 * A connection is opened and negotiated here, and then belongs to the kernel, which keeps it when
 * this process has closed its own descriptor of it.
 */
import { Arena, cString } from "../../../ffi/arena.ts";
import { lastErrno, libc } from "../../../ffi/libc.ts";
import {
  Netlink,
  OpenFlag,
  SOCKADDR_UNIX_BYTES,
  Socket,
  UNIX_PATH_BYTES_MAX,
} from "../../../ffi/structs.ts";
import type { CommandError } from "../../array/protocol.ts";
import { assert } from "../../base/assert.ts";
import { EBUSY, EINTR, EINVAL, ENOENT, ENXIO, EPERM, EPIPE, errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";
import {
  encodeOption,
  GREETING_BYTES,
  GREETING_MAGIC_HIGH,
  GREETING_MAGIC_LOW,
  HandshakeFlag,
  OptionCode,
  readOffset,
} from "../../nbd/wire-format.ts";
import {
  deviceInUse,
  type NbdConnection,
  type NbdDisconnection,
  NO_DRIVER,
  NO_PERMISSION,
} from "./nbd-driver.ts";
import {
  decodeNetlink,
  encodeFamilyRequest,
  encodeNbdDisconnect,
  encodeNbdSetting,
  familyOf,
  type NetlinkPart,
} from "./nbd-netlink.ts";

/** What the data thread takes to answer a handshake, at the most. */
const HANDSHAKE_SECONDS = 5;
/**
 * The kernel's own default. What was under way when the server went is sent again after so long;
 * one that is only slow is asked twice, behind the first in the same array.
 */
const REQUEST_SECONDS = 30;
/** A package's upgrade, a start with slow drives: the file system waits, and then has errors. */
const DEAD_CONNECTION_SECONDS = 600;
const BLOCK_BYTES = 4096;
/** Behind the name of an export: its size and its flags, since zeros were asked away. */
const EXPORT_NAME_ANSWER_BYTES = 10;
const NETLINK_ANSWER_BYTES_MAX = 8192;

const CLAIMED = "it is mounted, swapped to or part of another device: end that first, or say force";

interface Negotiated {
  readonly fd: number;
  readonly sizeBytes: number;
  readonly flags: number;
}

export function connectNbd(connection: NbdConnection): Result<null, CommandError> {
  const { index, socketPath, exportName, backend, count, isNew } = connection;
  const open: Negotiated[] = [];
  try {
    for (let number = 0; number < count; number += 1) {
      const negotiated = negotiate(socketPath, exportName);
      if (typeof negotiated === "number") return err(notNegotiated(exportName, negotiated));
      open.push(negotiated);
    }
    const { sizeBytes, flags } = open[0]!;
    const setting = {
      ...{ index, sizeBytes, backend, serverFlags: flags, blockBytes: BLOCK_BYTES },
      timeoutSeconds: REQUEST_SECONDS,
      deadConnectionSeconds: DEAD_CONNECTION_SECONDS,
      fds: open.map(({ fd }) => fd),
    };
    const command = isNew ? "connect" : "reconfigure";
    return askDriver(index, (family) => encodeNbdSetting(family, command, setting));
  } finally {
    for (const { fd } of open) libc.close(fd);
  }
}

export function disconnectNbd(disconnection: NbdDisconnection): Result<null, CommandError> {
  const { index, force, isDry } = disconnection;
  const path = `/dev/nbd${index}`;
  const disconnect = () => askDriver(index, (family) => encodeNbdDisconnect(family, index));
  if (force) return isDry ? ok(null) : disconnect();
  // A mount, a swap or a device above has it for itself, in whatever namespace; until it is closed
  // again, none of them gets it.
  const flags = OpenFlag.readOnly | OpenFlag.exclusive | OpenFlag.closeOnExec;
  const fd = libc.open(cString(path)!, flags, 0);
  if (fd < 0) {
    const errno = lastErrno();
    return err(errno === EBUSY ? deviceInUse(path, CLAIMED) : refusedByKernel(index, errno));
  }
  try {
    if (isDry) return ok(null);
    // What a program has written to the device, and not synced, would be lost without an error.
    if (libc.fdatasync(fd) !== 0) return err(refusedByKernel(index, lastErrno()));
    return disconnect();
  } finally {
    libc.close(fd);
  }
}

/** An open connection in its transmission phase, or -errno. */
function negotiate(socketPath: string, exportName: string): Negotiated | number {
  const path = cString(socketPath);
  if (path === null || path.length - 1 > UNIX_PATH_BYTES_MAX) return -EINVAL;
  const fd = libc.socket(Socket.unix, Socket.stream | Socket.closeOnExec, 0);
  if (fd < 0) return -lastErrno();
  const answer = handshake(fd, path, exportName);
  if (typeof answer === "number") {
    libc.close(fd);
    return answer;
  }
  return { fd, ...answer };
}

function handshake(
  fd: number,
  path: Uint8Array,
  exportName: string,
): { sizeBytes: number; flags: number } | number {
  setWait(fd, HANDSHAKE_SECONDS);
  const address = new Uint8Array(SOCKADDR_UNIX_BYTES);
  address[0] = Socket.unix;
  address.set(path, 2);
  if (libc.connect(fd, address, address.length) !== 0) return -lastErrno();
  const greeting = readAll(fd, GREETING_BYTES);
  if (typeof greeting === "number") return greeting;
  const isNbd =
    greeting.getUint32(0) === GREETING_MAGIC_HIGH && greeting.getUint32(4) === GREETING_MAGIC_LOW;
  if (!isNbd) return -EINVAL;
  const flags = new Uint8Array(4);
  flags[3] = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;
  const option = encodeOption(OptionCode.exportName, new TextEncoder().encode(exportName));
  for (const bytes of [flags, option]) {
    if (libc.write(fd, bytes, bytes.length) !== bytes.length) return -EPIPE;
  }
  const answer = readAll(fd, EXPORT_NAME_ANSWER_BYTES);
  if (typeof answer === "number") return answer;
  // From now on the kernel waits for it, and it would take a limit for an error.
  setWait(fd, 0);
  return { sizeBytes: readOffset(answer, 0), flags: answer.getUint16(8) };
}

/** Of each call on the socket; 0: for ever. */
function setWait(fd: number, seconds: number): void {
  const time = new Uint8Array(16);
  new DataView(time.buffer).setBigInt64(0, BigInt(seconds), true);
  for (const option of [Socket.receiveTimeout, Socket.sendTimeout]) {
    const set = libc.setsockopt(fd, Socket.levelSocket, option, time, time.length);
    assert(set === 0, "a socket takes a limit of time");
  }
}

/** -EPIPE: the server has closed the connection, which is its no. */
function readAll(fd: number, bytes: number): DataView | number {
  const target = new Uint8Array(bytes);
  let done = 0;
  while (done < bytes) {
    const part = new Uint8Array(bytes - done);
    const answer = libc.read(fd, part, part.length);
    if (answer === 0) return -EPIPE;
    if (answer < 0) {
      const errno = lastErrno();
      if (errno !== EINTR) return -errno;
      continue;
    }
    target.set(part.subarray(0, answer), done);
    done += answer;
  }
  return new DataView(target.buffer);
}

const arena = new Arena(NETLINK_ANSWER_BYTES_MAX);

function askDriver(
  index: number,
  encode: (family: number) => Uint8Array<ArrayBuffer>,
): Result<null, CommandError> {
  const fd = libc.socket(Netlink.family, Netlink.raw | Socket.closeOnExec, Netlink.generic);
  if (fd < 0) return err(refusedByKernel(index, lastErrno()));
  try {
    setWait(fd, HANDSHAKE_SECONDS);
    const named = exchange(fd, encodeFamilyRequest());
    if (typeof named === "number") return err(refusedByKernel(index, named));
    const family = named.map(({ attributes }) => familyOf(attributes)).find((id) => id !== null);
    if (family === undefined || family === null) return err(NO_DRIVER);
    const done = exchange(fd, encode(family));
    return typeof done === "number" ? err(refusedByKernel(index, done)) : ok(null);
  } finally {
    libc.close(fd);
  }
}

type NetlinkAnswer = Extract<NetlinkPart, { kind: "answer" }>;

/** What came before the end of the answer, or the errno that it ended with. */
function exchange(fd: number, request: Uint8Array<ArrayBuffer>): NetlinkAnswer[] | number {
  if (libc.write(fd, request, request.length) < 0) return lastErrno();
  const answers: NetlinkAnswer[] = [];
  for (;;) {
    const received = libc.recv(fd, arena.baseAddress, arena.bytes.length, 0);
    if (received < 0) {
      const errno = lastErrno();
      if (errno === EINTR) continue;
      return errno;
    }
    for (const part of decodeNetlink(arena.bytes.slice(0, received))) {
      if (part.kind === "answer") answers.push(part);
      else return part.errno === 0 ? answers : part.errno;
    }
  }
}

function refusedByKernel(index: number, errno: number): CommandError {
  const path = `/dev/nbd${index}`;
  if (errno === EBUSY) {
    return deviceInUse(
      path,
      "something is attached to it: name another one, or none for a free one",
    );
  }
  if (errno === ENOENT || errno === ENXIO) return NO_DRIVER;
  // A container's root has the capability, but not where it counts.
  if (errno === EPERM) return NO_PERMISSION;
  const way = "the kernel's log (dmesg) may say why";
  const detail = `the kernel refused to change ${path} (${errnoName(errno)}): ${way}`;
  return { kind: "io", code: "attach-failed", detail };
}

function notNegotiated(exportName: string, negative: number): CommandError {
  const why = negative === -EPIPE ? "the server does not serve it now" : errnoName(-negative);
  const detail = `export ${exportName} could not be opened for the kernel (${why}): try again`;
  return { kind: "io", code: "attach-failed", detail };
}
