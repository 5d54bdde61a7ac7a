/**
 * Where the benchmark keeps its files: members on a memory file system, and loop devices.
 *
 * Everything lies in folders that name this process, which the next benchmark or test sweeps when
 * this one is killed. A loop device is detached at once while this process holds it open: the
 * kernel then frees it by itself when the process ends, however it ends.
 */
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";
import { MIB } from "../../src/base/units.ts";
import { toolPath } from "../helpers/needs.ts";
import { makeOwnedDir, takesDirectIo, tempBase } from "../helpers/temp.ts";
import { runToEnd } from "./processes.ts";

/** f_type of statfs. */
const TMPFS_MAGIC = 0x01021994;
const TMPFS_CANDIDATES = ["/dev/shm", "/tmp", "/run"];

export type Place = "tmpfs" | "loop";

const folders: string[] = [];
const heldFds: number[] = [];

process.on("exit", () => {
  releaseLoopDevices();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder on a tmpfs with direct I/O and room for `bytes`, or why there is none. */
export function tmpfsFolder(bytes: number): { folder: string } | { reason: string } {
  let reason = "there is no tmpfs";
  for (const base of TMPFS_CANDIDATES) {
    try {
      const { type, bavail, bsize } = statfsSync(base);
      if (type !== TMPFS_MAGIC) continue;
      if (!takesDirectIo(base)) reason = "tmpfs takes no direct I/O here (Linux 6.6 does)";
      else if (bavail * bsize < bytes) reason = `no ${Math.ceil(bytes / MIB)} MiB free on tmpfs`;
      else return { folder: ownFolder(base) };
    } catch {
      // Not there.
    }
  }
  return { reason };
}

export function diskFolder(): string {
  return ownFolder(tempBase());
}

function ownFolder(base: string): string {
  const folder = makeOwnedDir(base);
  folders.push(folder);
  return folder;
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
}

/** A fresh folder in `parent`. */
export function subFolder(parent: string, name: string): string {
  const folder = join(parent, name);
  removeFolder(folder);
  mkdirSync(folder);
  return folder;
}

export function sparseFile(path: string, bytes: number): string {
  const fd = openSync(path, "w+");
  ftruncateSync(fd, bytes);
  closeSync(fd);
  return path;
}

/** Sparse files of this size: member0, member1, ... */
export function memberFiles(folder: string, count: number, bytes: number): string[] {
  return Array.from({ length: count }, (_, index) =>
    sparseFile(join(folder, `member${index}`), bytes),
  );
}

/** Fills a part of a file or device, so that all of it is allocated. */
export function fillFile(path: string, offset: number, bytes: number): void {
  const block = new Uint32Array(MIB / 4);
  for (let index = 0; index < block.length; index += 1) block[index] = Math.imul(index, 0x9e3779b1);
  const fd = openSync(path, "r+");
  for (let done = 0; done < bytes; done += MIB) {
    const part = Math.min(MIB, bytes - done);
    assert(writeSync(fd, block, 0, part, offset + done) === part, "the file system has room");
  }
  fsyncSync(fd);
  closeSync(fd);
}

/** Why loop devices with direct I/O cannot be had, or null. */
export async function loopObstacle(): Promise<string | null> {
  if (process.getuid?.() !== 0) return "loop devices need root";
  if (toolPath("losetup") === undefined) return "there is no losetup";
  const folder = diskFolder();
  if (!takesDirectIo(folder)) return "no file system here takes direct I/O";
  try {
    await loopDevices([sparseFile(join(folder, "probe"), MIB)]);
    return null;
  } catch {
    return "losetup --direct-io=on fails here";
  } finally {
    releaseLoopDevices();
    removeFolder(folder);
  }
}

/** One loop device with direct I/O over each file. */
export async function loopDevices(files: readonly string[]): Promise<string[]> {
  const devices: string[] = [];
  for (const file of files) devices.push(await loopDevice(file));
  return devices;
}

async function loopDevice(file: string): Promise<string> {
  const losetup = toolPath("losetup")!;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const words = [losetup, "--find", "--show", "--direct-io=on", file];
      const device = (await runToEnd(words)).trim();
      heldFds.push(openSync(device, "r"));
      await runToEnd([losetup, "--detach", device]);
      return device;
    } catch (error) {
      // Another process may take the free number in between: losetup then says busy.
      if (attempt === 10) throw error;
      await Bun.sleep(50);
    }
  }
}

/** Lets go of all loop devices. */
export function releaseLoopDevices(): void {
  for (const fd of heldFds.splice(0)) closeSync(fd);
}
