/**
 * Goal: with the executable, the members of an array come to be drives by one scan of the host's
 * block devices and folders; what is in use is left alone, and nobody is disturbed.
 * Method: loop devices over files of the test. The daemon has a /dev of its own (a mount
 * namespace), in which no other block device of the host is: those of other tests are members, too.
 */
import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { ScanResult } from "../../src/appliance/drives/drive-scan.ts";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, mustRun, runVerb, sums } from "../helpers/daemon.ts";
import { canMakeLoopDevices, detachLoopDevice, makeLoopDevice } from "../helpers/loop-devices.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const MEMBER_BYTES = 24 * MIB;
const CAN_UNSHARE = Bun.spawnSync(["unshare", "--mount", "true"]).success;
const CAN_RUN = needs("root", "libaio", "direct-io") && canMakeLoopDevices() && CAN_UNSHARE;

async function scan(daemon: Daemon, words: readonly string[]): Promise<ScanResult> {
  const line = ["drive", "scan", ...words, "--json", "--run-dir", join(daemon.folder, "run")];
  const { stdout, stderr, exitCode } = await runVerb(line);
  expect([exitCode, stderr]).toEqual([0, ""]);
  const told = JSON.parse(stdout);
  return words.includes("--dry-run") ? told.answer : told;
}

/** A daemon that sees these block devices and no others. */
function startAmong(devices: readonly string[], folder = makeTempDir("scan")): Promise<Daemon> {
  const kept = ["/dev/null", "/dev/zero", "/dev/urandom", ...devices];
  const script =
    'mkdir -p "$0" && cp -a -t "$0" $1 && mount --bind "$0" /dev && shift && exec "$@"';
  const before = ["unshare", "--mount", "sh", "-c", script, join(folder, "dev"), kept.join(" ")];
  return Daemon.start(folder, { before, environment: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } });
}

test.skipIf(!CAN_RUN)(
  "scan: the members on loop devices are added and their array runs; what is in use is left [needs root, libaio, direct-io, losetup]",
  async () => {
    const files = makeFiles(makeTempDir("backing"), 4, MEMBER_BYTES);
    const devices: string[] = [];
    for (const file of files) devices.push(await makeLoopDevice(file));
    const [free, ...members] = devices as [string, ...string[]];
    let daemon = await startAmong(devices);
    const drives = await daemon.addDrives(members);
    await daemon.must("POST", "/v1/arrays", { name: "found", drives });
    await daemon.settle("found");
    const inUse = await scan(daemon, ["--dry-run"]);
    const entryOf = ({ found }: ScanResult, path: string) =>
      found.find((entry) => entry.path === path)!;
    expect(entryOf(inUse, members[0]!)).toMatchObject({
      outcome: "left",
      drive: "drive0",
      reason: "open here as drive drive0",
    });
    const stopped = await daemon.must("GET", "/v1/arrays/found");
    expect(await daemon.stop()).toBe(0);

    const before = sums(files);
    daemon = await startAmong(devices);
    const plan = await scan(daemon, ["--dry-run"]);
    for (const [role, path] of members.entries()) {
      expect(entryOf(plan, path)).toMatchObject({
        ...{ outcome: "would-be-added", array: "found", arrayUuid: stopped.uuid, role },
        ...{ sizeBytes: MEMBER_BYTES, drive: path.slice("/dev/".length) },
      });
    }
    expect(entryOf(plan, free)).toMatchObject({
      outcome: "left",
      reason: "it carries no md superblock",
    });
    expect(sums(files)).toEqual(before);
    expect(await daemon.must("GET", "/v1/drives")).toEqual([]);
    const done = await scan(daemon, []);
    for (const path of members) {
      expect(entryOf(done, path)).toMatchObject({ outcome: "added", state: "member" });
    }
    const array = await daemon.settle("found");
    expect(array).toMatchObject({ uuid: stopped.uuid, degraded: 0, reason: null });
    // All of them lie on the disk of the temporary folder, where that is one.
    const { sharedDisks = [] } = array;
    const [one] = await daemon.must("GET", "/v1/drives");
    expect(one.isRotational).toBeBoolean();
    for (const { drives: on } of sharedDisks) expect(on).toHaveLength(3);
    expect(await daemon.stop()).toBe(0);
    for (const device of devices) detachLoopDevice(device);
  },
);

test.skipIf(!CAN_RUN || toolPath("mkfs.ext4") === undefined)(
  "scan: mounted, and part of nothing: left with the reason; files of a folder are found [needs root, libaio, direct-io, losetup, mkfs.ext4]",
  async () => {
    const folder = makeTempDir("scan");
    const [image] = makeFiles(makeTempDir("backing"), 1, MEMBER_BYTES);
    const device = await makeLoopDevice(image!);
    await mustRun([toolPath("mkfs.ext4")!, "-q", "-F", device]);
    const place = join(folder, "mnt");
    mkdirSync(place);
    const mounted = Bun.spawnSync(["mount", device, place]).success;
    const shelf = join(folder, "shelf");
    mkdirSync(shelf);
    const files = makeFiles(shelf, 4, MEMBER_BYTES);
    let daemon = await startAmong([device], folder);
    const drives = await daemon.addDrives(files.slice(0, 3));
    await daemon.must("POST", "/v1/arrays", { name: "shelf", drives });
    await daemon.settle("shelf");
    expect(await daemon.stop()).toBe(0);
    daemon = await startAmong([device]);
    const plan = await scan(daemon, ["--dry-run", "--folder", shelf]);
    const entry = plan.found.find(({ path }) => path === device)!;
    const why = mounted ? `in use: mounted at ${place}` : "it carries no md superblock";
    expect(entry).toMatchObject({ outcome: "left", reason: why });
    const found = plan.found.filter(({ path }) => path.startsWith(shelf));
    expect(found.map(({ path, array }) => [path, array])).toEqual(
      files.slice(0, 3).map((path) => [path, "shelf"]),
    );
    await scan(daemon, ["--folder", shelf]);
    expect(await daemon.settle("shelf")).toMatchObject({ degraded: 0 });
    expect(await daemon.stop()).toBe(0);
    if (mounted) Bun.spawnSync(["umount", place]);
    detachLoopDevice(device);
  },
);
