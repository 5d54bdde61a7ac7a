/**
 * Identifies, opens and closes drives: the calls that can block, made by helper threads only.
 *
 * A drive is a regular file or a block device that nobody else has (write-rules 12):
 *
 * | drive        | held by                                    | against                           |
 * |--------------|--------------------------------------------|-----------------------------------|
 * | block device | O_EXCL                                     | mounts, md, dm, another parityd   |
 * | file         | flock(LOCK_EX), no loop device over it     | another parityd, its loop devices |
 * | loop device  | O_EXCL, flock(LOCK_EX) on the backing file | both                              |
 *
 * Nothing is opened before statx has said what it is, and what was opened is looked at again by its
 * fd: a path may lead elsewhere a moment later. O_DIRECT is asked for at open and tried with one
 * aligned read, because some file systems only refuse there.
 */
import { isAbsolute } from "node:path";
import { Arena, cString } from "../../../ffi/arena.ts";
import { lastErrno, libc } from "../../../ffi/libc.ts";
import { FallocateMode, FlockOperation, Ioctl, OpenFlag, Statfs } from "../../../ffi/structs.ts";
import type { CommandError, OpenDrive } from "../../array/protocol.ts";
import { EBUSY, EDQUOT, EINVAL, ENOSPC, EOPNOTSUPP, EROFS, errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes, ROW_BYTES } from "../../base/units.ts";
import { listFolder } from "../host/linux-text.ts";
import type { FileRoom, OpenRequest } from "./drive-opener.ts";
import type { OpenedDevice } from "./helper-protocol.ts";
import { hasNoExtent, probeContent } from "./linux-content.ts";
import { DeviceTree, NO_IDENTITY } from "./linux-device-tree.ts";
import { readMember } from "./linux-look.ts";
import {
  deviceQueue,
  type FileKind,
  type FileStatus,
  loopBackingFile,
  loopOver,
  statFd,
  statPath,
} from "./linux-sysfs.ts";

/** A file has no logical block; 512 is what O_DIRECT on one asks for at least. */
const FILE_BLOCK_BYTES = 512;

/** File systems that put what is written again somewhere else (statfs(2)). */
const COPY_ON_WRITE_TYPES: readonly number[] = [
  0x9123683e, // btrfs
  0x2fc12fc1, // ZFS
  0xca451a4e, // bcachefs
  0x3434, // NILFS
];

const arena = new Arena(ROW_BYTES);
const tree = new DeviceTree();

interface Identified {
  readonly status: FileStatus;
  readonly backing: BackingFile | null;
  readonly identities: readonly string[];
}

/** What `path` leads to, where that may be a drive at all. */
export function identifyDrive(
  path: string,
  protectedPaths: readonly string[],
): Result<{ identities: readonly string[] }, CommandError> {
  const identified = identify(path);
  if (!identified.ok) return identified;
  const { identities } = identified.value;
  const own = ownPathOf(identities, protectedPaths);
  if (own !== null) {
    const name = own === path ? path : `${path} is ${own}: that`;
    return fail("invalid", "own-file", `${name} is a file of parityd itself, and never a drive`);
  }
  return ok({ identities });
}

/** Opens `request.path` if it still leads to `identities`. */
export function openDrive(
  request: OpenRequest,
  identities: readonly string[],
): Result<OpenedDevice, CommandError> {
  const { path } = request;
  const identified = identify(path);
  if (!identified.ok) return identified;
  const { status, backing } = identified.value;
  if (identified.value.identities.join() !== identities.join()) return changed(path);
  const opened = openExclusively(request, status);
  if (!opened.ok) return opened;
  const fds = [opened.value];
  const drive = lockAndDescribe({ request, status, backing, fds });
  if (!drive.ok) {
    closeAll(fds);
    return drive;
  }
  return ok({ drive: drive.value, lockFds: fds.slice(1) });
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
  return flush(fd);
}

/**
 * Gives a range of a file its space, durably. At its begin the space of all of it is asked for: a
 * file system that was filled to the brim in vain would take others down.
 */
export function allocate(options: {
  fd: number;
  offset: number;
  bytes: number;
  endBytes: number;
}): Result<null, CommandError> {
  const { fd, offset, bytes, endBytes } = options;
  const lacking = offset === 0 ? lackingBytes(fd, endBytes) : 0;
  if (lacking > 0) return noSpace(`${formatBytes(lacking)} more (${lacking} bytes) are needed`);
  if (libc.fallocate(fd, 0, offset, bytes) === 0) return flush(fd);
  const errno = lastErrno();
  if (errno === ENOSPC || errno === EDQUOT) {
    const after = lackingBytes(fd, endBytes);
    const limit = errno === EDQUOT ? "a quota ends it" : "it is full now";
    return noSpace(after > 0 ? `${formatBytes(after)} more (${after} bytes) are needed` : limit);
  }
  const isUnsupported = errno === EOPNOTSUPP;
  const detail = isUnsupported
    ? "the file system cannot give a file its space in advance"
    : `space could not be allocated: ${errnoName(errno)}`;
  return fail(isUnsupported ? "unsupported" : "io", "allocate-failed", detail);
}

/** What an open drive holds now. */
export function contentOf(fd: number, blockBytes: number): Result<string | null, CommandError> {
  const status = statFd(fd);
  if (!status.ok) return fail("io", "cannot-look", `an open drive: ${status.error}`);
  const isFile = status.value.kind === "file";
  const sizeBytes = isFile ? status.value.sizeBytes : blockDeviceSize(fd);
  return ok(probeContent({ fd, sizeBytes, blockBytes: isFile ? ROW_BYTES : blockBytes, isFile }));
}

export function roomOf(fd: number): Result<FileRoom | null, CommandError> {
  const status = statFd(fd);
  const space = fileSystemOf(fd);
  if (!status.ok || status.value.kind !== "file" || space === null) return ok(null);
  const { containerNumber, allocatedBytes } = status.value;
  const { availableBytes } = space;
  return ok({ fileSystem: containerNumber, availableBytes, allocatedBytes });
}

/** What a file of `wholeBytes` lacks, beyond what it has and what its file system has left. */
function lackingBytes(fd: number, wholeBytes: number): number {
  const status = statFd(fd);
  const space = fileSystemOf(fd);
  if (!status.ok || space === null) return 0;
  return Math.max(0, wholeBytes - status.value.allocatedBytes - space.availableBytes);
}

function fileSystemOf(fd: number): { type: number; availableBytes: number } | null {
  const bytes = new Uint8Array(new ArrayBuffer(Statfs.bytes));
  if (libc.fstatfs(fd, bytes) !== 0) return null;
  const view = new DataView(bytes.buffer);
  const number = (offset: number) => Number(view.getBigUint64(offset, true));
  return {
    type: number(Statfs.type),
    availableBytes: number(Statfs.availableBlocks) * number(Statfs.blockBytes),
  };
}

function flush(fd: number): Result<null, CommandError> {
  if (libc.fdatasync(fd) === 0) return ok(null);
  return fail("io", "flush-failed", `the drive could not be flushed: ${errnoName(lastErrno())}`);
}

const NO_DRIVE: Readonly<Record<Exclude<FileKind, "file" | "block">, string>> = {
  folder: "is a folder",
  pipe: "is a pipe",
  character: "is a character device",
  socket: "is a socket",
  other: "is of an unknown kind",
};

function identify(path: string): Result<Identified, CommandError> {
  if (!isAbsolute(path)) {
    const detail = `${path} is no whole path: give it from / on, it must mean the same at each start`;
    return fail("invalid", "relative-path", detail);
  }
  const found = statPath(path);
  if (!found.ok) return fail("invalid", "no-such-drive", `${path}: ${found.error}`);
  const status = found.value;
  if (status.kind !== "file" && status.kind !== "block") {
    const detail = `${path} ${NO_DRIVE[status.kind]}: a drive is a regular file or a block device`;
    return fail("invalid", "not-a-drive", detail);
  }
  const backing = backingFileOf(status);
  const identities = [status.identity];
  if (backing !== null) identities.push(backing.status.identity);
  return ok({ status, backing, identities });
}

/** The file of the daemon that has one of these identities, by any of its names; or null. */
function ownPathOf(
  identities: readonly string[],
  protectedPaths: readonly string[],
): string | null {
  const isOwn = (path: string): boolean => {
    const status = statPath(path);
    return status.ok && identities.includes(status.value.identity);
  };
  for (const path of protectedPaths) {
    if (isOwn(path)) return path;
    const inside = listFolder(path).find((name) => isOwn(`${path}/${name}`));
    if (inside !== undefined) return `${path}/${inside}`;
  }
  return null;
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
  // It means nothing for a file, and keeps a pipe that took the file's place from holding us up.
  flags |= status.kind === "block" ? OpenFlag.exclusive : OpenFlag.nonBlock;
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
  const why = errno === EROFS ? "it, or its file system, is read-only (EROFS)" : errnoName(errno);
  return fail("invalid", "cannot-open", `${path} cannot be opened: ${why}`);
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
  const now = statFd(fd);
  if (!now.ok || now.value.identity !== status.identity) return changed(path);
  const locked = takeLocks({ path, status, backing, fds });
  if (!locked.ok) return locked;
  const isFile = status.kind === "file";
  const sizeBytes = isFile ? now.value.sizeBytes : blockDeviceSize(fd);
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < ROW_BYTES) {
    return fail("invalid", "drive-too-small", `${path} has no room for even one 4 KiB row`);
  }
  if (request.direct && refusesDirectRead(fd)) return noDirectIo(path);
  const logicalBlockBytes = isFile ? FILE_BLOCK_BYTES : logicalBlockSize(fd);
  const queue = deviceQueue(isFile ? status.containerNumber : status.deviceNumber);
  const blockBytes = isFile ? ROW_BYTES : logicalBlockBytes;
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
    signature: probeContent({ fd, sizeBytes, blockBytes, isFile }),
    deviceUuid: readMember(fd, sizeBytes)?.deviceUuid ?? null,
    identity: isFile ? NO_IDENTITY : tree.identityOf(status.deviceNumber),
    disks: tree.disksUnder(isFile ? status.containerNumber : deviceUnder(status, backing)),
    ...(isFile ? storage(fd, now.value) : {}),
  });
}

/** A loop device is where its file lies. */
function deviceUnder({ deviceNumber }: FileStatus, backing: BackingFile | null): string {
  if (backing === null) return deviceNumber;
  const { kind, containerNumber, deviceNumber: below } = backing.status;
  return kind === "block" ? below : containerNumber;
}

function storage(fd: number, { allocatedBytes }: FileStatus) {
  const type = fileSystemOf(fd)?.type ?? 0;
  return { allocatedBytes, isCopyOnWrite: COPY_ON_WRITE_TYPES.includes(type) };
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
    const loop = loopOver(status);
    if (loop !== null) {
      return busy(
        `${path} is in use: it backs /dev/${loop}; add that, or detach it with losetup -d`,
      );
    }
  }
  if (backing !== null && backing.status.kind === "file") {
    const name = cString(backing.path);
    const flags = OpenFlag.readOnly | OpenFlag.closeOnExec | OpenFlag.nonBlock;
    const fd = name === null ? -1 : libc.open(name, flags, 0);
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

function refusesDirectRead(fd: number): boolean {
  const answer = Number(libc.pread(fd, arena.baseAddress, ROW_BYTES, 0));
  return answer < 0 && lastErrno() === EINVAL;
}

function changed(path: string): Result<never, CommandError> {
  return fail("io", "drive-changed", `${path} changed while it was opened; try again`);
}

function noDirectIo(path: string): Result<never, CommandError> {
  const detail = `the file system of ${path} has no O_DIRECT; add the drive with "direct": false`;
  return fail("unsupported", "no-direct-io", detail);
}

function noSpace(why: string): Result<never, CommandError> {
  return fail("io", "no-space", `the file system has no room for the whole file: ${why}`);
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
