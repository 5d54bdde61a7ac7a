/**
 * The two kernels that a reactor talks to: asynchronous disk I/O and sockets.
 *
 * Each has a real adapter (linux-aio.ts, linux-socket.ts) and a simulated one in the tests. All
 * calls return at once; a negative answer is -errno. Addresses are offsets in the shared memory.
 */

/**
 * Linux AIO. `submit` and `getEvents` work on arrays in the shared memory:
 *
 * iocb (64 bytes, linux/aio_abi.h)         io_event (32 bytes)
 *   0 u64 data (the caller's number)         0 u64 data
 *   8 u32 key   12 u32 rw_flags              8 u64 obj
 *  16 u16 opcode 18 s16 reqprio 20 u32 fd   16 s64 res
 *  24 u64 buf   32 u64 nbytes  40 s64 offset 24 s64 res2
 *  48 u64 reserved  56 u32 flags  60 u32 resfd
 */
export interface AioKernel {
  /** What is added to an address to make the pointer that `buf`, iovecs and pointer lists hold. */
  readonly baseAddress: number;
  /**
   * Submits `count` iocbs from the list of pointers at `listAddress`. The number taken, or -errno.
   */
  submit(listAddress: number, count: number): number;
  /** Completions that are there to be taken; 0 also where only `getEvents` can tell. */
  readonly eventCount: number;
  /** Moves up to `max` completions to `eventsAddress`; 0 when there are none. Never waits. */
  getEvents(eventsAddress: number, max: number): number;
}

/**
 * Readiness bits of `SocketKernel.watch` and of the poll callback. `edge` is for `watch` only: the
 * callback comes once for each time that the fd becomes ready, so an eventfd need not be read.
 */
export const Ready = { read: 1, write: 2, hangUp: 4, edge: 8 } as const;

export interface SocketKernel {
  readonly baseAddress: number;
  /** How many files and sockets the process may have open at once. */
  readonly descriptorLimit: number;
  /**
   * A listening, non-blocking Unix stream socket. A stale socket file is removed first; -EADDRINUSE
   * where a server still answers on it, -EEXIST where the path is another kind of file,
   * -ENAMETOOLONG where it has more than 107 bytes.
   */
  listenUnix(options: { path: string; mode: number }): number;
  /** A listening, non-blocking TCP socket on a literal address. `port` 0 takes any. */
  listenTcp(options: { host: string; port: number }): number;
  /** What is at `path`, as a word by which files are told apart; "" where nothing is. */
  fileAt(path: string): string;
  /** Removes what is at `path` where that is still `file`. */
  removeFile(path: string, file: string): void;
  /** The port a TCP listener got. */
  localPort(fd: number): number;
  /** A connected, non-blocking, close-on-exec socket, or -errno (-EAGAIN when there is none). */
  accept(fd: number): number;
  /**
   * Who is at the other end: the address of a host (an IPv6 network of 64 bits, which one customer
   * has), or the user and process of a Unix socket. "" where that cannot be told.
   */
  peerOf(fd: number): string;
  /** The whole address of the host at the other end of a TCP socket; "" where there is none. */
  addressOf(fd: number): string;
  /** Bytes received to `address`; 0 at the end of the stream; -EAGAIN when there is nothing. */
  recv(fd: number, address: number, bytes: number): number;
  /**
   * sendmsg of `count` iovecs ({u64 pointer, u64 bytes}) at `iovAddress`; bytes taken or -errno.
   */
  sendv(fd: number, iovAddress: number, count: number): number;
  close(fd: number): void;
  /**
   * Starts (or changes) watching `fd` for `interest` (Ready bits); `token` comes back. A hang-up is
   * reported whatever the interest is, in every poll, until the fd is closed or unwatched.
   */
  watch(fd: number, token: number, interest: number): void;
  unwatch(fd: number): void;
  /**
   * Waits up to `timeoutMs` (0: not at all) and calls `onReady(token, ready)` for each ready fd.
   * Returns how many there were.
   */
  poll(timeoutMs: number, onReady: (token: number, ready: number) => void): number;
}
