/**
 * Finds out whether what is open holds anything that somebody could miss.
 *
 * Both ends are read for known signatures. Of a regular file any byte that is not zero counts as
 * well: nobody makes a file of text for parityd. It is looked at in WINDOWS equal windows, in each
 * from its first stored byte on (SEEK_DATA), so that holes and space that is only allocated cost
 * nothing, small files are read whole, and the largest one costs 16 MiB. A block device without a
 * signature is free, as wipefs has it: used disks are full of old bytes.
 */
import { Arena } from "../../../ffi/arena.ts";
import { lastErrno, libc } from "../../../ffi/libc.ts";
import { Seek } from "../../../ffi/structs.ts";
import { ENXIO } from "../../base/errno.ts";
import { KIB, ROW_BYTES, roundDown, roundUp } from "../../base/units.ts";
import { findSignature, PROBE_BYTES } from "./signatures.ts";

const WINDOWS = 256;
const SAMPLE_BYTES = 64 * KIB;

/** Each end is read from a whole block on, and one block further where the file ends within one. */
const END_BYTES = PROBE_BYTES + ROW_BYTES;

const arena = new Arena(2 * END_BYTES);
const ZEROS = new Uint8Array(END_BYTES);

export interface ProbedDevice {
  readonly fd: number;
  readonly sizeBytes: number;
  /** What offsets and lengths of reads are multiples of: a file system may want whole rows. */
  readonly blockBytes: number;
  readonly isFile: boolean;
}

/** A noun for people ("an ext4 file system"), or null: nothing. */
export function probeContent(device: ProbedDevice): string | null {
  const { fd, sizeBytes, blockBytes, isFile } = device;
  if (isFile && hasNoExtent(fd)) return null;
  const tailOffset = roundDown(Math.max(0, sizeBytes - PROBE_BYTES), blockBytes);
  const probeBytes = roundUp(Math.min(PROBE_BYTES, sizeBytes), blockBytes);
  const headBytes = read(fd, probeBytes, 0, 0);
  const tailBytes = read(fd, roundUp(sizeBytes - tailOffset, blockBytes), tailOffset, END_BYTES);
  // Nobody can tell what it holds: that counts as something, and overwriting it takes `force`.
  if (headBytes < 0 || tailBytes < 0) return UNREADABLE;
  const head = arena.bytes.subarray(0, headBytes);
  const tail = arena.bytes.subarray(END_BYTES, END_BYTES + tailBytes);
  const signature = findSignature({ sizeBytes, head, tail, tailOffset });
  if (signature !== null || !isFile) return signature;
  if (hasByte(head) || hasByte(tail)) return DATA;
  return probeWindows(device);
}

/** True where no byte of a file is stored, so that all of it reads as zeros. */
export function hasNoExtent(fd: number): boolean {
  return nextData(fd, 0) === Number.POSITIVE_INFINITY;
}

const UNREADABLE = "something that cannot be read";
const DATA = "data that is not zero";

function probeWindows({ fd, sizeBytes, blockBytes }: ProbedDevice): string | null {
  const windowBytes = roundUp(Math.max(SAMPLE_BYTES, Math.ceil(sizeBytes / WINDOWS)), SAMPLE_BYTES);
  let offset = 0;
  while (offset < sizeBytes) {
    // Where the file system cannot tell holes, all of it counts as stored.
    const start = roundDown(nextData(fd, offset) ?? offset, blockBytes);
    if (start >= sizeBytes) return null;
    const readBytes = read(fd, SAMPLE_BYTES, start, 0);
    if (readBytes < 0) return UNREADABLE;
    if (hasByte(arena.bytes.subarray(0, readBytes))) return DATA;
    offset = roundDown(start, windowBytes) + windowBytes;
  }
  return null;
}

/** The first stored byte at or after `offset`; infinity: none; null: it cannot be told. */
function nextData(fd: number, offset: number): number | null {
  const answer = Number(libc.lseek(fd, offset, Seek.data));
  if (answer >= 0) return answer;
  return lastErrno() === ENXIO ? Number.POSITIVE_INFINITY : null;
}

/** Fewer bytes where the device ends; or -errno. */
function read(fd: number, bytes: number, offset: number, arenaOffset: number): number {
  const answer = Number(libc.pread(fd, arena.baseAddress + arenaOffset, bytes, offset));
  return answer < 0 ? -lastErrno() : answer;
}

/** By the C library's comparison: a loop here is not compiled yet when drives are opened. */
function hasByte(bytes: Uint8Array): boolean {
  return Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) !== 0;
}
