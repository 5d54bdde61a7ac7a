/** What /sys and statx tell about files and block devices: identity, queue, loop backing files. */
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { cString } from "../../ffi/arena.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { FileType, Statx } from "../../ffi/structs.ts";
import { ENOENT, errnoName } from "../base/errno.ts";
import { err, ok, type Result } from "../base/result.ts";

export interface FileStatus {
  readonly kind: "file" | "block" | "other";
  /** The same for every name of one inode or one device. */
  readonly identity: string;
  readonly sizeBytes: number;
  /** "8:16" of a block device itself; "0:0" for anything else. */
  readonly deviceNumber: string;
  /** "8:1" of the device that holds the inode. */
  readonly containerNumber: string;
}

/** Follows symbolic links, as open does. The error is a phrase for people. */
export function statPath(path: string): Result<FileStatus, string> {
  const name = cString(path);
  if (name === null) return err("a path has no zero byte");
  const bytes = new Uint8Array(new ArrayBuffer(Statx.bytes));
  if (libc.statx(Statx.atCurrentDirectory, name, 0, Statx.maskBasic, bytes) !== 0) {
    const errno = lastErrno();
    return err(errno === ENOENT ? "there is no such file" : errnoName(errno));
  }
  const view = new DataView(bytes.buffer);
  const format = view.getUint16(Statx.mode, true) & FileType.mask;
  const kind =
    format === FileType.regular ? "file" : format === FileType.blockDevice ? "block" : "other";
  const number = (major: number, minor: number) =>
    `${view.getUint32(major, true)}:${view.getUint32(minor, true)}`;
  const deviceNumber = number(Statx.rdevMajor, Statx.rdevMinor);
  const containerNumber = number(Statx.deviceMajor, Statx.deviceMinor);
  const inode = view.getBigUint64(Statx.inode, true);
  const identity = kind === "block" ? `block:${deviceNumber}` : `file:${containerNumber}:${inode}`;
  const sizeBytes = Number(view.getBigUint64(Statx.sizeBytes, true));
  return ok({ kind, identity, sizeBytes, deviceNumber, containerNumber });
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

/** The loop device whose backing file has this identity ("loop3"), or null. */
export function loopOver(identity: string): string | null {
  for (const device of listDirectory("/sys/block")) {
    if (!device.startsWith("loop")) continue;
    const path = readText(`/sys/block/${device}/loop/backing_file`);
    if (path === null) continue;
    const status = statPath(path);
    if (status.ok && status.value.identity === identity) return device;
  }
  return null;
}

function readAttribute(deviceNumber: string, attribute: string): string | null {
  try {
    const device = realpathSync(`/sys/dev/block/${deviceNumber}`);
    return readText(join(device, attribute)) ?? readText(join(dirname(device), attribute));
  } catch {
    return null; // Not a block device: a file on tmpfs, for instance.
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
