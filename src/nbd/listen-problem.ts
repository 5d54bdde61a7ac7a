/**
 * Why a listener cannot be opened, in a sentence with the errno's name, what it means here, and
 * what to do.
 */
import type { CommandError, NbdAddress } from "../array/protocol.ts";
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EEXIST,
  EINVAL,
  EMFILE,
  ENAMETOOLONG,
  ENFILE,
  ENOENT,
  ENOSPC,
  ENOTDIR,
  EPERM,
  EROFS,
  errnoName,
} from "../base/errno.ts";

export const ADDRESS_TAKEN = "nbd-address-taken";
export const ADDRESS_ABSENT = "nbd-address-absent";
const LISTEN_FAILED = "nbd-listen-failed";

/** Ports below it are for whoever administers the host. */
const FIRST_FREE_PORT = 1024;

export function listenError(address: NbdAddress, errno: number): CommandError {
  const code = address.kind === "tcp" ? codeOf(errno) : LISTEN_FAILED;
  return { kind: "io", code, detail: listenProblem(address, errno) };
}

export function listenProblem(address: NbdAddress, errno: number): string {
  const meaning = address.kind === "unix" ? unixMeaning(errno) : tcpMeaning(address, errno);
  const cause = meaning === null ? errnoName(errno) : `${errnoName(errno)}: ${meaning}`;
  return `cannot listen on ${textOf(address)}: ${cause}`;
}

/** What the caller may do something about has a code of its own. */
function codeOf(errno: number): string {
  if (errno === EADDRINUSE) return ADDRESS_TAKEN;
  return errno === EADDRNOTAVAIL || errno === EAFNOSUPPORT ? ADDRESS_ABSENT : LISTEN_FAILED;
}

/** As it is written in a configuration. */
function textOf(address: NbdAddress): string {
  if (address.kind === "unix") return address.path;
  const { host, port } = address;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function unixMeaning(errno: number): string | null {
  switch (errno) {
    case ENAMETOOLONG:
      return "a socket path holds at most 107 bytes: choose a shorter --run-dir (or --socket)";
    case EADDRINUSE:
      return "another program listens there: stop it, or choose another path";
    case EEXIST:
      return "there is a file that is no socket: remove it, or choose another path";
    case ENOENT:
    case ENOTDIR:
      return "there is no such folder: make it first";
    case EACCES:
    case EPERM:
      return "this user may not make a file there";
    case EROFS:
      return "the file system is read-only: choose a path on another one";
    case ENOSPC:
      return "the file system is full";
    default:
      return commonMeaning(errno);
  }
}

function tcpMeaning(address: NbdAddress & { kind: "tcp" }, errno: number): string | null {
  const { port } = address;
  switch (errno) {
    case EADDRNOTAVAIL:
      return "this host has no such address: `ip address` lists those it has";
    case EADDRINUSE:
      return (
        "another program listens there: stop it, or choose another port " +
        `(\`ss -ltnp sport = :${port}\` shows which)`
      );
    case EACCES:
      return port > 0 && port < FIRST_FREE_PORT
        ? "ports below 1024 are for root: choose another one, or grant CAP_NET_BIND_SERVICE"
        : "a rule of this host forbids it";
    case EAFNOSUPPORT:
      return "this host has no IPv6";
    case EINVAL:
      return "it is no address and port";
    default:
      return commonMeaning(errno);
  }
}

function commonMeaning(errno: number): string | null {
  switch (errno) {
    case EMFILE:
      return "the process has no file descriptors left: raise its limit of open files";
    case ENFILE:
      return "the host has no file descriptors left";
    default:
      return null;
  }
}
