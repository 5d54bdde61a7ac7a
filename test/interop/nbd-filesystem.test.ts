/**
 * Goal: a mounted ext4 on an export keeps its files, through trims and the loss of a member, and is
 * found sound; no NBD driver in the kernel is needed for that.
 *
 * Method: nbdfuse makes the export a file, over four connections, a loop device makes that file a
 * block device. Files with known sums are compared after each mount, for which all of that is made
 * anew: what the page cache of an old nbdfuse holds proves nothing. The holes of fstrim must show
 * in `base:allocation`.
 */
import { afterEach, expect, test } from "bun:test";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, mustRun } from "../helpers/daemon.ts";
import { FileLoad } from "../helpers/file-load.ts";
import { canMakeLoopDevices, detachLoopDevice, makeLoopDevice } from "../helpers/loop-devices.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const NEEDS = "[needs root, fuse, libaio, direct-io, nbdfuse, nbdinfo, fio, losetup, mkfs.ext4]";
const CAN_RUN =
  needs("root", "fuse", "libaio", "direct-io", "nbdfuse", "nbdinfo", "fio") &&
  ["mkfs.ext4", "e2fsck", "fstrim", "mount"].every((tool) => toolPath(tool) !== undefined) &&
  canMakeLoopDevices();
const MEMBER_BYTES = 32 * MIB;
const CONNECTIONS = 4;

/** Mount points, to be undone from the last one. */
const mounted: string[] = [];

async function run(tool: string, ...words: readonly string[]): Promise<string> {
  return mustRun([toolPath(tool)!, ...words]);
}

async function unmount(point: string): Promise<void> {
  await run("umount", point);
  mounted.splice(mounted.indexOf(point), 1);
}

// Whatever happened: the folder is removed after the tests, and nothing may be mounted in it then.
afterEach(() => {
  for (const point of mounted.toReversed()) Bun.spawnSync([toolPath("umount")!, "-l", point]);
});

/** The export as a file, and as a block device over that. */
class Disk {
  readonly device: string;
  private readonly point: string;
  private readonly child: Bun.Subprocess;

  private constructor(made: { device: string; point: string; child: Bun.Subprocess }) {
    this.device = made.device;
    this.point = made.point;
    this.child = made.child;
  }

  static async attach(point: string, uri: string): Promise<Disk> {
    mkdirSync(point, { recursive: true });
    const file = join(point, "disk");
    const words = [toolPath("nbdfuse")!, `--connections=${CONNECTIONS}`, file, uri];
    const child = Bun.spawn(words, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    mounted.push(point);
    while (statSync(file, { throwIfNoEntry: false }) === undefined) {
      expect(child.exitCode).toBe(null);
      await Bun.sleep(10);
    }
    return new Disk({ device: await makeLoopDevice(file), point, child });
  }

  async detach(): Promise<void> {
    detachLoopDevice(this.device);
    await unmount(this.point);
    expect(await this.child.exited).toBe(0);
  }
}

async function holeBytes(uri: string): Promise<number> {
  const map = JSON.parse(await run("nbdinfo", "--map", "--json", uri));
  const holes = map.filter(({ type }: { type: number }) => type === 3);
  return holes.reduce((sum: number, { length }: { length: number }) => sum + length, 0);
}

test.skipIf(!CAN_RUN)(
  `nbdfuse: ext4: fio, fstrim, a member lost, e2fsck, mounted again: every file as written ${NEEDS}`,
  async () => {
    const folder = makeTempDir("fs");
    const daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(makeFiles(folder, 4, MEMBER_BYTES));
    const body = { name: "disk", drives: drives.slice(0, 3), chunkKiB: 32 };
    await daemon.must("POST", "/v1/arrays", body);
    await daemon.must("PUT", "/v1/exports/disk", { array: "disk" });
    await daemon.settle("disk");
    const uri = daemon.uri("disk");
    const fusePoint = join(folder, "fuse");
    const point = join(folder, "mnt");
    mkdirSync(point);
    let disk = await Disk.attach(fusePoint, uri);
    expect((await daemon.must("GET", "/v1/exports"))[0].connections).toBe(CONNECTIONS);
    const load = new FileLoad({ folder: point, seed: 5 });
    const mount = async (): Promise<void> => {
      await run("mount", "-t", "ext4", disk.device, point);
      mounted.push(point);
    };
    /** Away, there again, checked, compared. */
    const remount = async (): Promise<void> => {
      await unmount(point);
      await disk.detach();
      disk = await Disk.attach(fusePoint, uri);
      await run("e2fsck", "-f", "-n", disk.device);
      await mount();
      await load.expectFiles();
    };

    await run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", disk.device);
    await mount();
    for (let round = 0; round < 4; round += 1) await load.writeRound();
    await load.runFio();
    await remount();
    await load.removeHalf();
    await run("sync", "-f", point);
    const before = await holeBytes(uri);
    expect(await run("fstrim", "--verbose", point)).toMatch(/\([1-9]\d* bytes\) trimmed/);
    expect(await holeBytes(uri)).toBeGreaterThan(before);
    await remount();

    const lost = daemon.must("POST", "/v1/arrays/disk/members/drive1/fail", {});
    await Promise.all([lost, load.writeRound(), load.runFio()]);
    await remount();
    await daemon.must("DELETE", "/v1/arrays/disk/members/drive1");
    const rebuilt = daemon.must("POST", "/v1/arrays/disk/members?wait=60", { drive: "drive3" });
    await Promise.all([rebuilt, load.writeRound(), load.runFio()]);
    expect(await rebuilt).toMatchObject({ state: "done" });
    await remount();

    await unmount(point);
    await disk.detach();
    const job = await daemon.must("POST", "/v1/arrays/disk/scrub?wait=60", {});
    expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
    expect(await daemon.stop()).toBe(0);
  },
);
