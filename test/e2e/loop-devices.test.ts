/**
 * Goal: block devices are members like files: the whole story works on them, nobody else can take
 * them meanwhile, and mdadm reads them.
 *
 * Method: loop devices over files in a temporary folder, each detached by its own name at the end.
 */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { encodeSuperblock } from "../../src/md/superblock.ts";
import { Attached, Daemon, makeFiles, mustRun, sums } from "../helpers/daemon.ts";
import { canMakeLoopDevices, detachLoopDevice, makeLoopDevice } from "../helpers/loop-devices.ts";
import { testSuperblock, writeMember } from "../helpers/md-members.ts";
import { needs, SYSTEM_PYTHON, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const MEMBER_BYTES = 24 * MIB;
const CAN_RUN = needs("root", "libaio", "direct-io") && canMakeLoopDevices();

async function freshLoops(count: number): Promise<{ files: string[]; devices: string[] }> {
  const files = makeFiles(makeTempDir("backing"), count, MEMBER_BYTES);
  const devices: string[] = [];
  for (const file of files) devices.push(await makeLoopDevice(file));
  return { files, devices };
}

test.skipIf(!CAN_RUN)(
  "loop devices: create, write, lose, rebuild, scrub, restart: mdadm agrees [needs root, libaio, direct-io, losetup]",
  async () => {
    const folder = makeTempDir("ld");
    const { devices } = await freshLoops(4);
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(devices);
    const drive = await daemon.must("GET", "/v1/drives/drive0");
    expect(drive).toMatchObject({ state: "available", sizeBytes: MEMBER_BYTES });
    expect(drive.logicalBlockBytes).toBe(512);
    const body = { name: "loops", drives: drives.slice(0, 3), chunkKiB: 32 };
    await daemon.must("POST", "/v1/arrays", body);
    await daemon.must("PUT", "/v1/exports/loops", { array: "loops" });
    const data = new Uint8Array(5 * MIB + 512);
    fillRandom(new SeededRandom(9), data);
    let client = await daemon.connect("loops");
    expect((await client.write(3 * KIB, data, { fua: true })).ok).toBe(true);
    await daemon.must("POST", "/v1/arrays/loops/members/drive2/fail", {});
    const read = await client.read(3 * KIB, data.length);
    expect(read.ok && Buffer.compare(read.value, data)).toBe(0);
    await daemon.must("DELETE", "/v1/arrays/loops/members/drive2");
    const job = await daemon.must("POST", "/v1/arrays/loops/members?wait=60", { drive: "drive3" });
    expect(job.state).toBe("done");
    const scrub = await daemon.must("POST", "/v1/arrays/loops/scrub?wait=60", {});
    expect(scrub).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
    await client.disconnect();
    await daemon.kill();

    daemon = await Daemon.start(folder);
    client = await daemon.connect("loops");
    const again = await client.read(3 * KIB, data.length);
    expect(again.ok && Buffer.compare(again.value, data)).toBe(0);
    await client.disconnect();
    await daemon.settle("loops");
    expect(await daemon.stop()).toBe(0);
    if (needs("mdadm")) {
      for (const device of [devices[0]!, devices[1]!, devices[3]!]) {
        const text = await mustRun([toolPath("mdadm")!, "--examine", device]);
        expect(text).toMatch(/State : clean/);
        expect(text).toMatch(/Array State : AAA /);
        expect(text).toMatch(/Checksum : \w+ - correct/);
      }
    }
    const { attached, uri } = await Attached.start([devices[3]!, devices[0]!], ["--read-only"]);
    expect(uri).not.toBeNull();
    expect(await attached.stop()).toBe(0);
    for (const device of devices) detachLoopDevice(device);
  },
);

/** Opens a block device exclusively, says so, and waits for its stdin to end. */
const HOLDER = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)
print("held", flush=True)
sys.stdin.read()
`;

test.skipIf(!CAN_RUN || !existsSync(SYSTEM_PYTHON))(
  "loop devices: in use by others, or by us: busy both ways [needs root, libaio, direct-io, losetup, python3]",
  async () => {
    const { files, devices } = await freshLoops(2);
    const daemon = await Daemon.start(makeTempDir("lb"));
    const add = (name: string, path: string) => daemon.call("POST", "/v1/drives", { name, path });
    const holder = Bun.spawn([SYSTEM_PYTHON, "-c", HOLDER, devices[0]!], {
      stdin: "pipe",
      stdout: "pipe",
    });
    await holder.stdout.getReader().read();
    const refused = await add("a", devices[0]!);
    expect(refused).toMatchObject({
      status: 423,
      body: { type: "urn:parityd:problem:drive-in-use" },
    });
    holder.kill();
    await holder.exited;
    // The file under a loop device is the same bytes.
    const under = await add("a", files[0]!);
    expect(under.status).toBe(423);
    expect(under.body.detail).toContain(devices[0]!);
    expect((await add("a", devices[0]!)).status).toBe(201);
    const twice = await add("b", devices[0]!);
    expect(twice.status).toBe(409);
    const other = Bun.spawnSync([SYSTEM_PYTHON, "-c", HOLDER, devices[0]!], { stdin: "ignore" });
    expect(other.exitCode).not.toBe(0);
    expect(other.stderr.toString()).toContain("busy");
    expect(await daemon.stop()).toBe(0);
    for (const device of devices) detachLoopDevice(device);
  },
);

test.skipIf(!CAN_RUN || toolPath("mkfs.ext4") === undefined)(
  "loop devices: a file system on one: refused without force [needs root, libaio, direct-io, losetup, mkfs.ext4]",
  async () => {
    const { devices } = await freshLoops(3);
    await mustRun([toolPath("mkfs.ext4")!, "-q", "-F", devices[1]!]);
    const daemon = await Daemon.start(makeTempDir("lf"));
    const drives = await daemon.addDrives(devices);
    const body = { name: "a", drives };
    const refused = await daemon.call("POST", "/v1/arrays", body);
    expect(refused).toMatchObject({
      status: 409,
      body: { type: "urn:parityd:problem:drive-has-data" },
    });
    expect(refused.body.detail).toContain("ext4");
    expect(await daemon.stop()).toBe(0);
    for (const device of devices) detachLoopDevice(device);
  },
);

test.skipIf(!CAN_RUN)(
  "loop devices: rule 17: blocks of 4 KiB under a data offset in half rows: refused, nothing written [needs root, libaio, direct-io, losetup]",
  async () => {
    const folder = makeTempDir("4kn");
    const deviceBytes = 4 * MIB;
    for (const dataOffsetSectors of [2052, 2048]) {
      const files: string[] = [];
      const devices: string[] = [];
      for (let devNumber = 0; devNumber < 3; devNumber += 1) {
        const path = join(folder, `${dataOffsetSectors}-${devNumber}`);
        const plain = testSuperblock(devNumber, { deviceBytes: deviceBytes - 4096 });
        const block = encodeSuperblock({ ...plain, dataOffsetSectors });
        writeMember(path, block, deviceBytes);
        files.push(path);
        devices.push(await makeLoopDevice(path, ["--sector-size", "4096"]));
      }
      const before = sums(files);
      const { attached, uri } = await Attached.start(devices);
      if (dataOffsetSectors === 2048) {
        expect(uri).not.toBeNull();
        expect(await attached.stop()).toBe(0);
        continue;
      }
      expect([uri, attached.child.exitCode]).toEqual([null, 1]);
      expect(attached.stderr).toMatch(
        /Drive \/dev\/loop\d+ takes whole blocks of 4096 bytes.*data.*sector 2052.*Move the array/,
      );
      for (const device of devices) detachLoopDevice(device);
      expect(sums(files)).toEqual(before);
    }
  },
);
