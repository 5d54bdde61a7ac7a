/** Loop devices over files, each detached by its own name, at the latest after the tests. */
import { afterAll } from "bun:test";
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";
import { MIB } from "../../src/base/units.ts";
import { makeFile, runProgram } from "./daemon.ts";
import { toolPath } from "./needs.ts";
import { makeTempDir } from "./temp.ts";

const ATTEMPTS = 10;
const RETRY_MS = 50;

const mine = new Set<string>();

function losetup(): string {
  return toolPath("losetup")!;
}

/** Attaches one and detaches it again. */
export function canMakeLoopDevices(): boolean {
  if (toolPath("losetup") === undefined) return false;
  const path = join(makeTempDir("loop"), "probe.img");
  makeFile(path, MIB);
  const { success, stdout } = Bun.spawnSync([losetup(), "--find", "--show", path]);
  if (!success) return false;
  Bun.spawnSync([losetup(), "--detach", stdout.toString().trim()]);
  return true;
}

export async function makeLoopDevice(file: string, flags: readonly string[] = []): Promise<string> {
  // Another process may take the free number in between: losetup then says busy.
  for (let attempt = 1; ; attempt += 1) {
    const { exitCode, stdout, stderr } = await runProgram([
      losetup(),
      "--find",
      "--show",
      ...flags,
      file,
    ]);
    if (exitCode === 0) {
      mine.add(stdout.trim());
      return stdout.trim();
    }
    assert(attempt < ATTEMPTS, `losetup attaches ${file}: ${stderr}`);
    await Bun.sleep(RETRY_MS);
  }
}

export function detachLoopDevice(device: string): void {
  mine.delete(device);
  Bun.spawnSync([losetup(), "--detach", device]);
}

afterAll(() => {
  for (const device of [...mine]) detachLoopDevice(device);
});
