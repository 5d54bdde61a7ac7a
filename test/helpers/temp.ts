/**
 * Folders for the files of tests, on a file system that takes O_DIRECT where there is one.
 *
 *   <base>/parityd-<pid>-XXXXXX/<prefix>-XXXXXX/
 *
 * Candidates for <base>, in order: PARITYD_TEST_TMP (test/run.ts sets it to a folder that it
 * removes at its end, whatever happened), the system's folder for temporary files, /var/tmp,
 * /dev/shm. Memory file systems come last: they take O_DIRECT only since Linux 6.6 and do all the
 * work inside io_submit, so nothing is ever really in flight on them.
 *
 * Everything is removed after the tests of the file that made it. Exit handlers do not run under
 * `bun test`, so what a killed process leaves is swept by the next one. Paths are short: the
 * address of a Unix socket holds 107 bytes.
 */
import { afterAll } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const OWNER_PATTERN = /^parityd-(\d+)-\w{6}$/;

let ownFolder: string | undefined;

export function takesDirectIo(folder: string): boolean {
  const path = join(folder, `.direct-io-${process.pid}`);
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT, 0o600));
    return true;
  } catch {
    return false; // Not writable, or EINVAL: the file system has no direct I/O.
  } finally {
    rmSync(path, { force: true });
  }
}

function candidates(): string[] {
  const given = process.env["PARITYD_TEST_TMP"];
  const standard = [tmpdir(), "/var/tmp", "/dev/shm"];
  return given === undefined ? standard : [given, ...standard];
}

/** The first candidate that takes O_DIRECT, or else the first. */
export function tempBase(): string {
  const all = candidates();
  return all.find(takesDirectIo) ?? all[0]!;
}

/** Whether `makeTempDir` gives folders in which O_DIRECT works. */
export function directIoTempExists(): boolean {
  return candidates().some(takesDirectIo);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Removes what killed processes left in `base`. */
export function sweepTempDirs(base: string): void {
  for (const name of readdirSync(base)) {
    const pid = OWNER_PATTERN.exec(name)?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    try {
      rmSync(join(base, name), { recursive: true, force: true });
    } catch {
      // Another user's, or in use as a mount point: not ours to clear.
    }
  }
}

/** A folder of this process in `base` that `sweepTempDirs` removes once the process is dead. */
export function makeOwnedDir(base: string): string {
  sweepTempDirs(base);
  return mkdtempSync(join(base, `parityd-${process.pid}-`));
}

/** Makes an empty folder; it is gone after the tests of this file. */
export function makeTempDir(prefix: string): string {
  ownFolder ??= makeOwnedDir(tempBase());
  return mkdtempSync(join(ownFolder, `${prefix}-`));
}

function removeOwnFolder(): void {
  if (ownFolder !== undefined) rmSync(ownFolder, { recursive: true, force: true });
  ownFolder = undefined;
}

// Bun sets NODE_ENV in its test runner; benchmarks and test/run.ts import this file too.
if (process.env["NODE_ENV"] === "test") afterAll(removeOwnFolder);
else process.on("exit", removeOwnFolder);
