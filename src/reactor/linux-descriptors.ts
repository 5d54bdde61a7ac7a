/** Open files: how many there may be, and how large one is by now. */
import { libc } from "../../ffi/libc.ts";
import { ResourceLimit, Seek } from "../../ffi/structs.ts";

/** What a host without a limit is taken to have. */
const PLENTY = 2 ** 20;
/** What POSIX lets every process have; where the limit cannot be read. */
const LEAST = 20;

/**
 * How many files and sockets the process may have open. The soft limit is there for programs that
 * still use select(); it is raised to the hard one, once, by whoever asks first.
 */
export function raiseDescriptorLimit(): number {
  const limit = new Uint8Array(ResourceLimit.bytes);
  const view = new DataView(limit.buffer);
  if (libc.getrlimit(ResourceLimit.openFiles, limit) !== 0) return LEAST;
  const soft = view.getBigUint64(ResourceLimit.soft, true);
  const hard = view.getBigUint64(ResourceLimit.hard, true);
  view.setBigUint64(ResourceLimit.soft, hard, true);
  const isRaised = soft < hard && libc.setrlimit(ResourceLimit.openFiles, limit) === 0;
  return Math.min(Number(isRaised ? hard : soft), PLENTY);
}

/** Bytes of an open file or block device: none of a disk that was pulled. */
export function sizeOf(fd: number): number {
  // Nobody reads or writes where the descriptor stands.
  return Number(libc.lseek(fd, 0, Seek.end));
}
