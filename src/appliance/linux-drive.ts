/**
 * Opens a drive: the calls that can block, made by the helper thread only.
 *
 * A drive is a regular file or a block device that nobody else has (write-rules 12):
 *
 * | drive        | held by                                   | against                           |
 * |--------------|-------------------------------------------|-----------------------------------|
 * | block device | O_EXCL                                    | mounts, md, dm, another parityd   |
 * | file         | flock(LOCK_EX), no loop device over it    | another parityd, its loop devices |
 * | loop device  | O_EXCL, flock(LOCK_EX) on the backing file | both                             |
 *
 * One inode or device is opened once, whatever the names. O_DIRECT is asked for at open and tried
 * with one aligned read, because some file systems only refuse there.
 */
import { Arena, cString } from "../../ffi/arena.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { FallocateMode, FlockOperation, Ioctl, OpenFlag, Seek } from "../../ffi/structs.ts";
import type { CommandError, OpenDrive } from "../array/protocol.ts";
import { EBUSY, EINVAL, ENXIO, EOPNOTSUPP, errnoName } from "../base/errno.ts";
import { err, ok, type Result } from "../base/result.ts";
import { ROW_BYTES, roundDown } from "../base/units.ts";
import type { OpenRequest } from "./drive-opener.ts";
import type { DeviceInUse, OpenedDevice } from "./helper-protocol.ts";
import {
  deviceQueue,
  type FileStatus,
  loopBackingFile,
  loopOver,
  statPath,
} from "./linux-sysfs.ts";
import { findSignature, PROBE_BYTES } from "./signatures.ts";

/** A file has no logical block; 512 is what O_DIRECT on one asks for at least. */
const FILE_BLOCK_BYTES = 512;

const arena = new Arena(2 * PROBE_BYTES);

export function openDrive(
  request: OpenRequest,
  inUse: readonly DeviceInUse[],
): Result<OpenedDevice, CommandError> {
  const status = statPath(request.path);
  if (!status.ok) return fail("invalid", "no-such-drive", `${request.path}: ${status.error}`);
  if (status.value.kind === "other") {
    const detail = `${request.path} is neither a regular file nor a block device`;
    return fail("invalid", "not-a-drive", detail);
  }
  const backing = backingFileOf(status.value);
  const identities = [status.value.identity];
  if (backing !== null) identities.push(backing.status.identity);
  const user = inUse.find(({ identity }) => identities.includes(identity));
  if (user !== undefined) {
    return busy(`drive ${user.drive} already has this device (${request.path})`);
  }
  const opened = openExclusively(request, status.value);
  if (!opened.ok) return opened;
  const fds = [opened.value];
  const drive = lockAndDescribe({ request, status: status.value, backing, fds });
  if (!drive.ok) {
    closeAll(fds);
    return drive;
  }
  return ok({ drive: drive.value, identities, lockFds: fds.slice(1) });
}

export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) libc.close(fd);
}

/** Punches a hole and makes it durable. Never BLKDISCARD: what that reads as is up to the drive. */
export function punchHole(options: {
  fd: number;
  offset: number;
  bytes: number;
}): Result<null, CommandError> {
  const { fd, offset, bytes } = options;
  const mode = FallocateMode.punchHole | FallocateMode.keepSize;
  if (libc.fallocate(fd, mode, offset, bytes) !== 0) {
    const errno = lastErrno();
    const kind = errno === EOPNOTSUPP ? "unsupported" : "io";
    return fail(kind, "punch-hole-failed", `a hole could not be punched: ${errnoName(errno)}`);
  }
  if (libc.fdatasync(fd) === 0) return ok(null);
  return fail("io", "flush-failed", `the drive could not be flushed: ${errnoName(lastErrno())}`);
}

interface BackingFile {
  readonly path: string;
  readonly status: FileStatus;
}

/** The file under a loop device, or null for anything else. */
function backingFileOf(status: FileStatus): BackingFile | null {
  const path = status.kind === "block" ? loopBackingFile(status.deviceNumber) : null;
  if (path === null) return null;
  const backing = statPath(path);
  return backing.ok ? { path, status: backing.value } : null;
}

function openExclusively(request: OpenRequest, status: FileStatus): Result<number, CommandError> {
  const { path, direct, readOnly } = request;
  let flags: number = OpenFlag.closeOnExec | (readOnly ? OpenFlag.readOnly : OpenFlag.readWrite);
  if (direct) flags |= OpenFlag.direct;
  if (status.kind === "block") flags |= OpenFlag.exclusive;
  const name = cString(path);
  if (name === null) return fail("invalid", "no-such-drive", "a path has no zero byte");
  const fd = libc.open(name, flags, 0);
  if (fd >= 0) return ok(fd);
  const errno = lastErrno();
  if (errno === EBUSY) {
    const detail = "it is mounted, part of another volume, or open in another parityd";
    return busy(`${path} is in use: ${detail}`);
  }
  if (errno === EINVAL && direct) return noDirectIo(path);
  return fail("invalid", "cannot-open", `${path} cannot be opened: ${errnoName(errno)}`);
}

/** Locks what is open in `fds[0]`, adds lock fds to `fds`, and finds out what the drive is like. */
function lockAndDescribe(options: {
  request: OpenRequest;
  status: FileStatus;
  backing: BackingFile | null;
  fds: number[];
}): Result<OpenDrive, CommandError> {
  const { request, status, backing, fds } = options;
  const { path } = request;
  const fd = fds[0]!;
  const now = statPath(path);
  if (!now.ok || now.value.identity !== status.identity) {
    return fail("io", "drive-changed", `${path} changed while it was opened; try again`);
  }
  const locked = takeLocks({ path, status, backing, fds });
  if (!locked.ok) return locked;
  const isFile = status.kind === "file";
  const sizeBytes = isFile ? status.sizeBytes : blockDeviceSize(fd);
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < ROW_BYTES) {
    return fail("invalid", "drive-too-small", `${path} has no room for even one 4 KiB row`);
  }
  if (request.direct && pread(fd, ROW_BYTES, 0) === -EINVAL) return noDirectIo(path);
  const logicalBlockBytes = isFile ? FILE_BLOCK_BYTES : logicalBlockSize(fd);
  const queue = deviceQueue(isFile ? status.containerNumber : status.deviceNumber);
  return ok({
    name: request.name,
    path,
    fd,
    sizeBytes,
    logicalBlockBytes,
    isDirect: request.direct,
    isReadOnly: request.readOnly,
    isRotational: queue.isRotational,
    hasVolatileCache: isFile || queue.hasVolatileCache,
    readsZeros: isFile && hasNoExtent(fd),
    canPunchHoles: isFile && !request.readOnly,
    // A file system under a file may want whole rows for O_DIRECT.
    signature: probeSignature(fd, sizeBytes, isFile ? ROW_BYTES : logicalBlockBytes),
  });
}

function takeLocks(options: {
  path: string;
  status: FileStatus;
  backing: BackingFile | null;
  fds: number[];
}): Result<undefined, CommandError> {
  const { path, status, backing, fds } = options;
  if (status.kind === "file") {
    if (!tryLock(fds[0]!)) return busy(`${path} is in use: another program holds its lock`);
    const loop = loopOver(status.identity);
    if (loop !== null) {
      return busy(
        `${path} is in use: it backs /dev/${loop}; add that, or detach it with losetup -d`,
      );
    }
  }
  if (backing !== null && backing.status.kind === "file") {
    const name = cString(backing.path);
    const fd = name === null ? -1 : libc.open(name, OpenFlag.readOnly | OpenFlag.closeOnExec, 0);
    // A backing file that cannot be opened here cannot be locked here by anybody else either.
    if (fd < 0) return ok();
    fds.push(fd);
    if (!tryLock(fd)) {
      return busy(`${path} is in use: another program holds the lock of its file ${backing.path}`);
    }
  }
  return ok();
}

function tryLock(fd: number): boolean {
  return libc.flock(fd, FlockOperation.exclusive | FlockOperation.nonBlock) === 0;
}

function blockDeviceSize(fd: number): number {
  if (libc.ioctl(fd, Ioctl.blkGetSize64, arena.baseAddress) !== 0) return 0;
  return Number(arena.view.getBigUint64(0, true));
}

function logicalBlockSize(fd: number): number {
  if (libc.ioctl(fd, Ioctl.blkSectorSize, arena.baseAddress) !== 0) return FILE_BLOCK_BYTES;
  return arena.view.getInt32(0, true);
}

/** True where no byte of the file is stored, so that all of it reads as zeros. */
function hasNoExtent(fd: number): boolean {
  return Number(libc.lseek(fd, 0, Seek.data)) === -1 && lastErrno() === ENXIO;
}

/** Reads into the arena at `arenaOffset`: the bytes read, or -errno. */
function pread(fd: number, bytes: number, offset: number, arenaOffset = 0): number {
  const answer = Number(libc.pread(fd, arena.baseAddress + arenaOffset, bytes, offset));
  return answer < 0 ? -lastErrno() : answer;
}

function probeSignature(fd: number, sizeBytes: number, blockBytes: number): string | null {
  const wholeBytes = roundDown(sizeBytes, blockBytes);
  const probeBytes = Math.min(PROBE_BYTES, wholeBytes);
  const tailOffset = wholeBytes - probeBytes;
  const headBytes = pread(fd, probeBytes, 0);
  const tailBytes = pread(fd, probeBytes, tailOffset, PROBE_BYTES);
  // Nobody can tell what it holds: that counts as something, and overwriting it takes `force`.
  if (headBytes < 0 || tailBytes < 0) return "something that cannot be read";
  return findSignature({
    sizeBytes,
    head: arena.bytes.subarray(0, headBytes),
    tail: arena.bytes.subarray(PROBE_BYTES, PROBE_BYTES + tailBytes),
    tailOffset,
  });
}

function noDirectIo(path: string): Result<never, CommandError> {
  const detail = `the file system of ${path} has no O_DIRECT; add the drive with "direct": false`;
  return fail("unsupported", "no-direct-io", detail);
}

function busy(detail: string): Result<never, CommandError> {
  return fail("busy", "drive-in-use", detail);
}

function fail(
  kind: CommandError["kind"],
  code: string,
  detail: string,
): Result<never, CommandError> {
  return err({ kind, code, detail });
}
