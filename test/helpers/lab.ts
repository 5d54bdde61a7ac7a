/**
 * The kernel lab from the outside: runs a file of tests inside a scratch Linux that has md and dm.
 *
 *   const guest = await runGuest({ file: "test/interop/guest/dm.ts", disks, folder });
 *   expect(guest.passed).toContain("dm-dust: ...");
 *
 * The guest sees the host's file system read-only at the same paths, so it runs this tree, this
 * Bun and this parityd; `folder` is the only place that both write (OUT in the guest). The image
 * files are block devices there: D0, D1, ... in the environment. Its tests lie in files whose names
 * do not end in `.test.ts`, so that no run takes them on the host.
 */
import { test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { binaryPath, runProgram } from "./daemon.ts";
import { labPath } from "./needs.ts";

const TOP = resolve(import.meta.dir, "../..");
const MODULES = ["dm-dust", "dm-flakey", "dm-log-writes", "raid456", "loop"];
const LIMIT_SECONDS = 580;
const GUEST_TEST_LIMIT_MS = 560_000;
/** Names of tests have commas and spaces. */
const SEPARATOR = "|";
/** Of vm-run: the guest died, which is how a power cut ends. */
export const GUEST_DIED = 125;

export interface GuestOptions {
  /** A file of tests, from the top of the repository. */
  readonly file: string;
  /** Images: $D0, $D1, ... in the guest. */
  readonly disks: readonly string[];
  /** $OUT in the guest. */
  readonly folder: string;
  /** The names of the `guestTest`s to be run; default all. */
  readonly tests?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** A script of the lab's examples that sets something up and then runs the tests. */
  readonly through?: string;
  /** The guest reaches the host's loopback at $HOSTIP. */
  readonly hasNetwork?: boolean;
}

export interface GuestResult {
  /** That of `bun test`, or GUEST_DIED. */
  readonly exitCode: number;
  /** The names of the tests that passed. */
  readonly passed: readonly string[];
  readonly output: string;
}

export async function runGuest(options: GuestOptions): Promise<GuestResult> {
  const { file, disks, folder, tests, environment = {}, through, hasNetwork = false } = options;
  const script = join(folder, "guest.sh");
  const test = `'${process.execPath}' test --timeout=${GUEST_TEST_LIMIT_MS} ./${file}`;
  const before = through === undefined ? "" : `bash '${join(labPath(), "examples", through)}' `;
  const lines = [`modprobe -a ${MODULES.join(" ")}`, `cd '${TOP}' && exec ${before}${test} 2>&1`];
  writeFileSync(script, `#!/bin/bash\n${lines.join("\n")}\n`);
  const variables = {
    PARITYD_BINARY: binaryPath(),
    PARITYD_TEST_TMP: "/dev/shm",
    NO_COLOR: "1",
    ...(tests === undefined ? {} : { GUEST_TESTS: tests.join(SEPARATOR) }),
    ...environment,
  };
  const words = [join(labPath(), "vm-run"), "-t", String(LIMIT_SECONDS), "-o", folder];
  if (hasNetwork) words.push("-n");
  for (const disk of disks) words.push("-d", disk);
  for (const [name, value] of Object.entries(variables)) words.push("-e", `${name}=${value}`);
  const { exitCode, stdout, stderr } = await runProgram([...words, script]);
  const passed = [...stdout.matchAll(/^\(pass\) (.*?)(?: \[[\d.]+m?s\])?$/gm)];
  return { exitCode, passed: passed.map(([, name]) => name!), output: stdout + stderr };
}

/** The names of all tests in a file of the guest's, which calls `guestTest` so. */
export function guestTestsOf(file: string): string[] {
  const source = readFileSync(join(TOP, file), "utf8");
  return [...source.matchAll(/^test\("(.*?)", /gm)].map(([, name]) => name!);
}

/** In the guest: a test that is run where the host has not left it out. */
export function guestTest(name: string, body: () => Promise<void>): void {
  const chosen = process.env["GUEST_TESTS"]?.split(SEPARATOR);
  if (chosen === undefined || chosen.includes(name)) test(name, body);
}

/** In the guest: the block devices of the images. */
export function guestDisks(): string[] {
  const count = Number(process.env["NDISKS"]);
  return Array.from({ length: count }, (_, index) => process.env[`D${index}`]!);
}

/** In the guest: the folder that the host sees too. */
export function guestFolder(): string {
  return process.env["OUT"]!;
}
