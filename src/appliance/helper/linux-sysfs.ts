/** What /sys and statx tell about files and block devices: identity, queue, loop backing files. */
import { dirname, join } from "node:path";
import { cString } from "../../../ffi/arena.ts";
import { lastErrno, libc } from "../../../ffi/libc.ts";
import { FileType, Statx } from "../../../ffi/structs.ts";
import { EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { listFolder, readText, realPath } from "../host/linux-text.ts";
import { isRemote, mountOf, readMounts } from "./linux-mounts.ts";

export type FileKind = "file" | "block" | "folder" | "pipe" | "character" | "socket" | "other";

export interface FileStatus {
  readonly kind: FileKind;
  /** The same for every name of one inode or one device. */
  readonly identity: string;
  readonly sizeBytes: number;
  /** What is stored of a file. */
  readonly allocatedBytes: number;
  /** "8:16" of a block device itself; "0:0" for anything else. */
  readonly deviceNumber: string;
  /** "8:1" of the device that holds the inode. */
  readonly containerNumber: string;
}

const KINDS: ReadonlyMap<number, FileKind> = new Map([
  [FileType.regular, "file"],
  [FileType.blockDevice, "block"],
  [FileType.directory, "folder"],
  [FileType.fifo, "pipe"],
  [FileType.characterDevice, "character"],
  [FileType.socket, "socket"],
]);

/** What errnos of a path mean to the one who typed it. */
const PATH_ERRORS: ReadonlyMap<number, string> = new Map([
  [ENOENT, "there is no such file"],
  [ELOOP, "its symbolic links lead round in a circle"],
  [ENOTDIR, "a part of the path is no folder"],
  [EACCES, "permission denied"],
  [ENAMETOOLONG, "the path is too long"],
]);

/** Follows symbolic links, as open does. The error is a phrase for people. */
export function statPath(path: string): Result<FileStatus, string> {
  const name = cString(path);
  if (name === null) return err("a path has no zero byte");
  return statx(Statx.atCurrentDirectory, name, 0);
}

/** What is open as `fd`, whatever has become of the path that it was opened by. */
export function statFd(fd: number): Result<FileStatus, string> {
  return statx(fd, EMPTY_PATH, Statx.atEmptyPath);
}

const EMPTY_PATH = new Uint8Array(1);

function statx(directory: number, name: Uint8Array, flags: number): Result<FileStatus, string> {
  const bytes = new Uint8Array(new ArrayBuffer(Statx.bytes));
  if (libc.statx(directory, name, flags, Statx.maskBasic, bytes) !== 0) {
    const errno = lastErrno();
    return err(PATH_ERRORS.get(errno) ?? errnoName(errno));
  }
  const view = new DataView(bytes.buffer);
  const kind = KINDS.get(view.getUint16(Statx.mode, true) & FileType.mask) ?? "other";
  const number = (major: number, minor: number) =>
    `${view.getUint32(major, true)}:${view.getUint32(minor, true)}`;
  const deviceNumber = number(Statx.rdevMajor, Statx.rdevMinor);
  const containerNumber = number(Statx.deviceMajor, Statx.deviceMinor);
  const inode = view.getBigUint64(Statx.inode, true);
  const identity = kind === "block" ? `block:${deviceNumber}` : `file:${containerNumber}:${inode}`;
  const sizeBytes = Number(view.getBigUint64(Statx.sizeBytes, true));
  const allocatedBytes = Number(view.getBigUint64(Statx.blocks, true)) * 512;
  return ok({ kind, identity, sizeBytes, allocatedBytes, deviceNumber, containerNumber });
}

/** The queue of a device, or of the device that a partition is part of. */
export function deviceQueue(deviceNumber: string): {
  readonly isRotational: boolean;
  readonly hasVolatileCache: boolean;
} {
  return {
    isRotational: readAttribute(deviceNumber, "queue/rotational") === "1",
    // Unknown counts as volatile: a flush too many is only slow.
    hasVolatileCache: readAttribute(deviceNumber, "queue/write_cache") !== "write through",
  };
}

/** The path of the file under a loop device or a partition of one; null for other devices. */
export function loopBackingFile(deviceNumber: string): string | null {
  return readAttribute(deviceNumber, "loop/backing_file");
}

/**
 * The loop device whose backing file has this status ("loop3"), or null. What lies on another host
 * is not touched unless the file itself lies there: that host may be gone.
 */
export function loopOver(file: FileStatus): string | null {
  const loops = listFolder("/sys/block").filter((device) => device.startsWith("loop"));
  const backed = loops.flatMap((device) => {
    const path = readText(`/sys/block/${device}/loop/backing_file`);
    return path === null ? [] : [{ device, path }];
  });
  if (backed.length === 0) return null;
  const mounts = readMounts();
  for (const { device, path } of backed) {
    const mount = mountOf(mounts, path);
    const isElsewhere = mount !== null && mount.deviceNumber !== file.containerNumber;
    if (isElsewhere && isRemote(mount)) continue;
    const status = statPath(path);
    if (status.ok && status.value.identity === file.identity) return device;
  }
  return null;
}

function readAttribute(deviceNumber: string, attribute: string): string | null {
  const device = realPath(`/sys/dev/block/${deviceNumber}`);
  if (device === null) return null; // Not a block device: a file on tmpfs, for instance.
  return readText(join(device, attribute)) ?? readText(join(dirname(device), attribute));
}
