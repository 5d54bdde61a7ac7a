/**
 * Bindings of libc. Nothing here decides, retries or logs.
 *
 * Hot calls get plain numbers only: null or a missing argument leaves the engine's fast path, and
 * conversions of wrong values are silent. Sizes are `usize`, because a 32-bit argument does not
 * fill the register. Answers that fit are read as i32. -1 means: see `lastErrno()`, at once.
 */
import { dlopen, type FFIFunction, FFIType, type Pointer, toArrayBuffer } from "bun:ffi";
import type { Address } from "./arena.ts";

const LIBRARY_NAMES = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];

/** A 64-bit number that arrives as a plain number while that is exact. */
const i64 = FFIType.i64_fast;

const DEFINITIONS = {
  accept4: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  chmod: { args: ["ptr", "u32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  epoll_create1: { args: ["i32"], returns: "i32" },
  epoll_ctl: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  epoll_wait: { args: ["i32", "ptr", "i32", "i32"], returns: "i32" },
  eventfd: { args: ["u32", "i32"], returns: "i32" },
  fallocate: { args: ["i32", "i32", i64, i64], returns: "i32" },
  fchmod: { args: ["i32", "u32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", i64], returns: "i32" },
  fdatasync: { args: ["i32"], returns: "i32" },
  flock: { args: ["i32", "i32"], returns: "i32" },
  fstatfs: { args: ["i32", "ptr"], returns: "i32" },
  getpeername: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  inet_pton: { args: ["i32", "ptr", "ptr"], returns: "i32" },
  ioctl: { args: ["i32", "usize", "ptr"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  lseek: { args: ["i32", i64, "i32"], returns: i64 },
  open: { args: ["ptr", "i32", "u32"], returns: "i32" },
  pread: { args: ["i32", "ptr", "usize", i64], returns: i64 },
  prctl: { args: ["i32", i64, i64, i64, i64], returns: "i32" },
  pwrite: { args: ["i32", "ptr", "usize", i64], returns: i64 },
  read: { args: ["i32", "ptr", "usize"], returns: "i32" },
  recv: { args: ["i32", "ptr", "usize", "i32"], returns: "i32" },
  sendmsg: { args: ["i32", "ptr", "i32"], returns: "i32" },
  setrlimit: { args: ["i32", "ptr"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  statx: { args: ["i32", "ptr", "i32", "u32", "ptr"], returns: "i32" },
  syscall: {
    args: [i64, i64, i64, i64, i64, i64],
    returns: i64,
  },
  unlink: { args: ["ptr"], returns: "i32" },
  write: { args: ["i32", "ptr", "usize"], returns: "i32" },
  __errno_location: { args: [], returns: "ptr" },
} as const satisfies Record<string, FFIFunction>;

export interface Libc {
  accept4(fd: number, address: number, lengthAddress: number, flags: number): number;
  bind(fd: number, address: Address, bytes: number): number;
  chmod(path: Address, mode: number): number;
  close(fd: number): number;
  connect(fd: number, address: Address, bytes: number): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epollFd: number, operation: number, fd: number, event: Address): number;
  epoll_wait(epollFd: number, events: number, max: number, timeoutMs: number): number;
  eventfd(initial: number, flags: number): number;
  fallocate(fd: number, mode: number, offset: number, bytes: number): number;
  fchmod(fd: number, mode: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  fdatasync(fd: number): number;
  flock(fd: number, operation: number): number;
  fstatfs(fd: number, to: Address): number;
  getpeername(fd: number, address: Address, lengthAddress: Address): number;
  getrlimit(resource: number, limit: Address): number;
  getsockopt(
    fd: number,
    level: number,
    option: number,
    value: Address,
    lengthAddress: Address,
  ): number;
  getsockname(fd: number, address: Address, lengthAddress: Address): number;
  inet_pton(family: number, text: Address, to: Address): number;
  ioctl(fd: number, request: number, argument: Address): number;
  listen(fd: number, backlog: number): number;
  lseek(fd: number, offset: number, whence: number): number | bigint;
  open(path: Address, flags: number, mode: number): number;
  pread(fd: number, to: Address, bytes: number, offset: number): number | bigint;
  prctl(option: number, a: number, b: number, c: number, d: number): number;
  pwrite(fd: number, from: Address, bytes: number, offset: number): number | bigint;
  read(fd: number, to: Address, bytes: number): number;
  recv(fd: number, to: number, bytes: number, flags: number): number;
  sendmsg(fd: number, message: number, flags: number): number;
  setrlimit(resource: number, limit: Address): number;
  setsockopt(fd: number, level: number, option: number, value: Address, bytes: number): number;
  socket(family: number, type: number, protocol: number): number;
  socketpair(family: number, type: number, protocol: number, fds: Address): number;
  statx(directory: number, path: Address, flags: number, mask: number, to: Address): number;
  syscall(n: number, a: number, b: number, c: number, d: number, e: number): number | bigint;
  unlink(path: Address): number;
  write(fd: number, from: Address, bytes: number): number;
  __errno_location(): Pointer;
}

/** Opens the first of `names` that the loader finds; null when it finds none. */
export function openFirst(
  names: readonly string[],
  definitions: Record<string, FFIFunction>,
): unknown {
  for (const name of names) {
    try {
      return dlopen(name, definitions).symbols;
    } catch {
      // Not on this host under that name: the next one, and null after the last.
    }
  }
  return null;
}

const NO_EXECUTABLE_MEMORY =
  "this process may not make executable memory (the runtime needs it to call the C library): " +
  "look for MemoryDenyWriteExecute= in the unit, execmem of SELinux, PR_SET_MDWE, BUN_JSC_useJIT, " +
  "or a limit of the address space below 2.5 GB (ulimit -v, LimitAS=)";

/** Why the C library cannot be called; it lies in every host that runs this program. */
function whyNone(): string {
  for (const name of LIBRARY_NAMES) {
    try {
      dlopen(name, { getpid: { args: [], returns: "i32" } });
    } catch (error) {
      if (error instanceof Error && error.message.includes("JIT")) return NO_EXECUTABLE_MEMORY;
    }
  }
  return `no C library found (tried ${LIBRARY_NAMES.join(", ")})`;
}

const found = openFirst(LIBRARY_NAMES, DEFINITIONS);

/** Why nothing here can be called, or null: the root of the program says so before it calls. */
export const libcProblem: string | null = found === null ? whyNone() : null;

/** Stands in where there is none: to import this module fails nobody who calls nothing. */
const noLibc = new Proxy(
  {},
  {
    get: () => {
      throw new Error(libcProblem ?? "");
    },
  },
);

export const libc: Libc = (found ?? noLibc) as Libc;

// One errno per thread: this module is evaluated in each worker anew, and so is the view.
const errnoView =
  found === null ? new Int32Array(1) : new Int32Array(toArrayBuffer(libc.__errno_location(), 0, 4));

/** The errno of this thread's last failed call. */
export function lastErrno(): number {
  return Atomics.load(errnoView, 0);
}
