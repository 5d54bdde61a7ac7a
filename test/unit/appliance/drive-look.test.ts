/**
 * Goal: members are found wherever they are, and looking at them disturbs nobody. Method: the real
 * look at files with superblocks, at what is no drive, and at loop devices where the host lets us
 * make them; whoever has a file meanwhile keeps it.
 */
import { expect, test } from "bun:test";
import {
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  openSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { libc } from "../../../ffi/libc.ts";
import { FlockOperation } from "../../../ffi/structs.ts";
import { identifyDrive } from "../../../src/appliance/helper/linux-drive.ts";
import { listBlockDevices, listFilesIn, lookAt } from "../../../src/appliance/helper/linux-look.ts";
import { MIB } from "../../../src/base/units.ts";
import { encodeSuperblock, Role } from "../../../src/md/superblock.ts";
import {
  canMakeLoopDevices,
  detachLoopDevice,
  makeLoopDevice,
} from "../../helpers/loop-devices.ts";
import {
  TEST_ARRAY_UUID,
  TEST_DEVICE_BYTES,
  testSuperblock,
  writeMember,
} from "../../helpers/md-members.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const folder = makeTempDir("look");

function makeMember(name: string, devNumber: number): string {
  const path = join(folder, name);
  writeMember(path, encodeSuperblock(testSuperblock(devNumber)), TEST_DEVICE_BYTES);
  return path;
}

function seen(path: string, inUse: readonly string[] = []) {
  const result = lookAt({ kind: "look", path, inUse });
  if (!result.ok) throw new Error(result.error.detail);
  return result.value;
}

function identitiesOf(path: string): readonly string[] {
  const known = identifyDrive(path, []);
  if (!known.ok) throw new Error(known.error.detail);
  return known.value.identities;
}

test("look: a member, a spare: what the superblock says", () => {
  const path = makeMember("member", 1);
  expect(seen(path)).toEqual({
    identity: identitiesOf(path)[0]!,
    device: {
      path,
      sizeBytes: TEST_DEVICE_BYTES,
      byId: null,
      wwn: null,
      serial: null,
      model: null,
      member: {
        arrayUuid: TEST_ARRAY_UUID,
        deviceUuid: "deadbeef:00000000:00000000:00000001",
        level: 5,
        role: 1,
        events: 100,
        setName: "tower:tank",
      },
      unusable: null,
    },
  });
  expect(seen(makeMember("spare", 3))?.device.member?.role).toBe(Role.spare);
});

test("look: no superblock, a damaged one, a file too short for one: no member", () => {
  const empty = join(folder, "empty");
  writeFileSync(empty, "");
  expect(seen(empty)).toBe(null);
  truncateSync(empty, MIB);
  expect(seen(empty)?.device).toMatchObject({ sizeBytes: MIB, member: null, unusable: null });
  truncateSync(empty, 5000);
  expect(seen(empty)?.device).toMatchObject({ sizeBytes: 5000, member: null });
  const damaged = join(folder, "damaged");
  const block = encodeSuperblock(testSuperblock(0));
  block[40] = block[40]! ^ 1;
  writeMember(damaged, block, TEST_DEVICE_BYTES);
  expect(seen(damaged)?.device).toMatchObject({
    member: null,
    unusable: expect.stringContaining("torn or damaged"),
  });
});

test("look: what is no drive, is not there, is open here: nothing, and no waiting", () => {
  const pipe = join(folder, "pipe");
  expect(Bun.spawnSync(["mkfifo", pipe]).success).toBe(true);
  const path = makeMember("open-here", 0);
  for (const other of [pipe, folder, "/dev/null", "/dev/tty", join(folder, "absent"), "here"]) {
    expect(seen(other)).toBe(null);
  }
  expect(seen(path, identitiesOf(path))).toBe(null);
  const [hard, soft] = [`${path}-hard`, `${path}-soft`];
  linkSync(path, hard);
  symlinkSync(path, soft);
  for (const name of [hard, soft]) {
    expect(seen(name)?.identity).toBe(identitiesOf(path)[0]!);
    expect(seen(name, identitiesOf(path))).toBe(null);
  }
});

test("look: a file that somebody has locked: read all the same, and the lock is theirs", () => {
  const path = makeMember("locked", 2);
  const before = statSync(path);
  const owner = openSync(path, "r+");
  expect(libc.flock(owner, FlockOperation.exclusive | FlockOperation.nonBlock)).toBe(0);
  expect(seen(path)?.device.member?.role).toBe(2);
  closeSync(owner);
  const after = statSync(path);
  expect([after.mtimeMs, after.ctimeMs]).toEqual([before.mtimeMs, before.ctimeMs]);
});

test("look: a folder: the files directly in it, up to a limit; none where there is none", () => {
  const place = join(folder, "place");
  mkdirSync(join(place, "below"), { recursive: true });
  for (const name of ["b", "a", "below/c"]) writeFileSync(join(place, name), "x");
  const names = (at: string, limit: number) => {
    const listed = listFilesIn(at, limit);
    return listed.ok ? listed.value : null;
  };
  expect(names(place, 10)).toEqual([join(place, "a"), join(place, "b"), join(place, "below")]);
  expect(names(place, 2)).toEqual([join(place, "a"), join(place, "b")]);
  expect(listFilesIn(join(place, "absent"), 10)).toMatchObject({
    error: { code: "no-such-folder", detail: "the folder cannot be read: ENOENT" },
  });
  expect(listFilesIn(join(place, "a"), 10)).toMatchObject({
    error: { detail: "the folder cannot be read: ENOTDIR" },
  });
  expect(names("place", 10)).toEqual([]);
});

test.skipIf(!canMakeLoopDevices())(
  "look: a loop device: it, not its file; not held [needs losetup]",
  async () => {
    const path = makeMember("backing", 1);
    const loop = await makeLoopDevice(path);
    const listed = (inUse: readonly string[]) => {
      const result = listBlockDevices(inUse, 1000);
      const free = (result.ok ? result.value : []).filter(({ claim }) => claim === null);
      return free.map(({ path: device }) => device);
    };
    expect(listed([])).toContain(loop);
    expect(listed(identitiesOf(loop))).not.toContain(loop);
    expect(seen(loop)?.device).toMatchObject({ sizeBytes: TEST_DEVICE_BYTES, member: { role: 1 } });
    // The kernel would refuse whoever opens the file beside it.
    expect(seen(path)).toBe(null);
    const owner = openSync(loop, constants.O_RDWR | constants.O_EXCL);
    expect(seen(loop)?.device.member?.role).toBe(1);
    closeSync(owner);
    detachLoopDevice(loop);
    expect(seen(path)?.device.member?.role).toBe(1);
  },
);
