/**
 * Runs inside the kernel lab's guest, started by ../lab-nbd.test.ts, which says what it is for.
 *
 * The kernel's own NBD client is attached to the host's export, a file system is made on it, and
 * files are written in rounds. Host and guest go through the stages of the array
 * together, by empty files in $OUT: the host puts `FS-STAGE` when the array is in that stage, the
 * guest answers `FS-STAGE-done` after some rounds in it.
 */
import { expect } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mustRun } from "../../helpers/daemon.ts";
import { FileLoad } from "../../helpers/file-load.ts";
import { guestFolder, guestTest } from "../../helpers/lab.ts";
import {
  FILE_SYSTEMS,
  type FileSystem,
  NBD_CONNECTIONS,
  nbdTestOf,
  STAGES,
} from "../../helpers/nbd-lab.ts";
import { toolPath } from "../../helpers/needs.ts";

const DEVICE = "/dev/nbd0";
const MOUNT_POINT = "/mnt/nbd";
/** Rounds of files in each stage. */
const ROUNDS = 3;

async function run(tool: string, ...words: readonly string[]): Promise<string> {
  return mustRun([toolPath(tool)!, ...words]);
}

async function waitFor(name: string): Promise<void> {
  while (!existsSync(join(guestFolder(), name))) await Bun.sleep(20);
}

async function goThroughStages(system: FileSystem, load: FileLoad): Promise<void> {
  for (const stage of STAGES) {
    await waitFor(`${system}-${stage}`);
    for (let round = 0; round < ROUNDS; round += 1) await load.writeRound();
    await load.runFio();
    writeFileSync(join(guestFolder(), `${system}-${stage}-done`), "");
  }
}

/** Fails on the least thing that is not as it should be. */
async function expectSound(system: FileSystem): Promise<void> {
  if (system === "ext4") await run("fsck.ext4", "-fn", DEVICE);
  else await run("xfs_repair", "-n", DEVICE);
}

async function mount(system: FileSystem): Promise<void> {
  await run("mount", "-t", system, DEVICE, MOUNT_POINT);
}

for (const system of FILE_SYSTEMS) {
  guestTest(nbdTestOf(system), async () => {
    const { HOSTIP = "", NBD_PORT = "", NBD_EXPORT = "" } = process.env;
    const server = [HOSTIP, NBD_PORT, DEVICE, "-N", NBD_EXPORT];
    await run("nbd-client", ...server, "-C", String(NBD_CONNECTIONS));
    const quiet = system === "ext4" ? ["-F", "-q"] : ["-f", "-q"];
    await run(`mkfs.${system}`, ...quiet, DEVICE);
    mkdirSync(MOUNT_POINT, { recursive: true });
    await mount(system);
    const load = new FileLoad({ folder: MOUNT_POINT, seed: system.length });
    await goThroughStages(system, load);
    await run("umount", MOUNT_POINT);
    await expectSound(system);
    await mount(system);
    await load.expectFiles();
    // What is free becomes holes of the array; what is not must stay.
    expect(await run("fstrim", "--verbose", MOUNT_POINT)).toMatch(/\([1-9]\d* bytes\) trimmed/);
    await run("umount", MOUNT_POINT);
    await expectSound(system);
    await mount(system);
    await load.expectFiles();
    await run("umount", MOUNT_POINT);
    await run("nbd-client", "-d", DEVICE);
  });
}
