/**
 * Looks what is at a path without getting in anybody's way: opened for reading only, not for
 * oneself alone, no lock taken, O_NONBLOCK. The superblock is read past the page cache where that
 * is possible, so that what is seen is what is on the drive.
 */
import { readdirSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { Arena, cString } from "../../../ffi/arena.ts";
import { libc } from "../../../ffi/libc.ts";
import { Ioctl, OpenFlag } from "../../../ffi/structs.ts";
import type { CommandError } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../md/superblock.ts";
import { type FoundMember, foundMember } from "./drive-opener.ts";
import type { HelperCallOf, HelperResult, ListedDevice } from "./helper-protocol.ts";
import { DeviceTree, NO_IDENTITY } from "./linux-device-tree.ts";
import { type FileStatus, loopOver, statFd, statPath } from "./linux-sysfs.ts";

const READ_FLAGS = OpenFlag.readOnly | OpenFlag.closeOnExec | OpenFlag.nonBlock;

const arena = new Arena(SUPERBLOCK_BYTES);
const tree = new DeviceTree();

export function listFilesIn(
  folder: string,
  limit: number,
): Result<readonly string[], CommandError> {
  try {
    const names = isAbsolute(folder) ? readdirSync(folder).sort() : [];
    return ok(names.slice(0, limit).map((name) => join(folder, name)));
  } catch (error) {
    const why = error instanceof Error && "code" in error ? String(error.code) : String(error);
    const detail = `the folder cannot be read: ${why}`;
    return err({ kind: "not-found", code: "no-such-folder", detail });
  }
}

export function listBlockDevices(
  inUse: readonly string[],
  limit: number,
): Result<readonly ListedDevice[], CommandError> {
  const numbers = inUse.map((identity) => /^block:(.*)/.exec(identity)?.[1] ?? "");
  const devices = tree.devices(new Set(numbers)).slice(0, limit);
  return ok(
    devices.map(({ deviceNumber, ...device }) => ({
      ...device,
      identity: `block:${deviceNumber}`,
    })),
  );
}

export function diskTrouble(disk: string): Result<string | null, CommandError> {
  return ok(tree.troubleOf(disk));
}

export function lookAt({ path, inUse }: HelperCallOf<"look">): HelperResult<"look"> {
  if (!isAbsolute(path)) return ok(null);
  const found = statPath(path);
  if (!found.ok || !canBeDrive(found.value) || inUse.includes(found.value.identity))
    return ok(null);
  const fd = openForReading(path);
  if (fd < 0) return ok(null);
  try {
    const status = statFd(fd);
    // The path may lead elsewhere by now: to something that is not to be read at all.
    if (!status.ok || status.value.identity !== found.value.identity) return ok(null);
    return ok(describe(path, fd, status.value));
  } finally {
    libc.close(fd);
  }
}

function canBeDrive(status: FileStatus): boolean {
  if (status.kind === "block") return true;
  // A file under a loop device is that device's: as a drive it would be refused.
  return status.kind === "file" && loopOver(status) === null;
}

function describe(path: string, fd: number, status: FileStatus) {
  const isFile = status.kind === "file";
  const sizeBytes = isFile ? status.sizeBytes : blockDeviceSize(fd);
  if (sizeBytes === 0) return null;
  const known = isFile ? NO_IDENTITY : tree.identityOf(status.deviceNumber);
  const read = readSuperblock(fd, sizeBytes);
  const carried = { member: read.ok ? read.value : null, unusable: read.ok ? null : read.error };
  return { identity: status.identity, device: { ...known, path, sizeBytes, ...carried } };
}

function openForReading(path: string): number {
  const name = cString(path);
  if (name === null) return -1;
  const fd = libc.open(name, READ_FLAGS | OpenFlag.direct, 0);
  return fd >= 0 ? fd : libc.open(name, READ_FLAGS, 0);
}

function blockDeviceSize(fd: number): number {
  if (libc.ioctl(fd, Ioctl.blkGetSize64, arena.baseAddress) !== 0) return 0;
  return Number(arena.view.getBigUint64(0, true));
}

/** Null: it carries no superblock that can be used. */
export function readMember(fd: number, sizeBytes: number): FoundMember | null {
  const read = readSuperblock(fd, sizeBytes);
  return read.ok ? read.value : null;
}

/** The error says why a superblock cannot be used; null: there is none. */
function readSuperblock(fd: number, sizeBytes: number): Result<FoundMember, string | null> {
  const count = libc.pread(fd, arena.baseAddress, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES);
  if (Number(count) !== SUPERBLOCK_BYTES) return err(null);
  const decoded = decodeSuperblock(arena.bytes.slice(), { deviceBytes: sizeBytes });
  if (decoded.ok) return ok(foundMember(decoded.value));
  const { kind, detail } = decoded.error;
  return err(kind === "no-magic" || kind === "too-short" ? null : detail);
}
