/**
 * Goal: `parityd drill` passes on this host, fails where a byte was changed behind the array's
 * back, and leaves nothing behind, whichever way it ends.
 *
 * Method: the compiled executable over small files. The byte is changed in a member file by this
 * test, right before the drill verifies: in data and in parity, on a survivor and on the rebuilt
 * member. The drill is then run in this process with the compiled executable as its daemon. Of the
 * sizes a day takes one in two, of the bytes one in three.
 */
import { expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { err } from "../../src/base/result.ts";
import { MIB } from "../../src/base/units.ts";
import { type DrillParts, runDrill } from "../../src/cli/drill/drill.ts";
import { readMember } from "../../src/cli/drill/member-files.ts";
import type { CliHost } from "../../src/cli/host.ts";
import { binaryPath, runProgram } from "../helpers/daemon.ts";
import { needs } from "../helpers/needs.ts";
import { Share, withShare } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const NEEDED = "[needs libaio] [needs direct-io]";

function shareTest(name: string, body: () => Promise<void>): void {
  test.skipIf(!CAN_RUN)(name, () => withShare(body));
}
const PHASES = [
  "whole",
  "degraded",
  "rebuild-before-cursor",
  "rebuild-after-cursor",
  "verify",
  "target-dies",
  "rebuild-again",
  "verify-again",
];

/** A folder for the files and one for everything else that the drill makes. */
function makeFolders(): { files: string; other: string; environment: Record<string, string> } {
  const top = makeTempDir("dr");
  const files = join(top, "f");
  const other = join(top, "t");
  mkdirSync(files);
  mkdirSync(other);
  return { files, other, environment: { TMPDIR: other } };
}

for (const members of new Share("drill members", 2).of([3, 5])) {
  shareTest(
    `drill: ${members} members of 32 MiB, --json: PASS, exit 0, nothing is left ${NEEDED}`,
    async () => {
      const { files, other, environment } = makeFolders();
      const words = [
        "drill",
        "--members",
        `${members}`,
        "--size",
        "32MiB",
        "--dir",
        files,
        "--json",
      ];
      const run = await runProgram([binaryPath(), ...words], { environment });
      expect(run.stderr).toContain("check: 0 mismatches");
      expect(run.stdout.trimEnd().split("\n")).toHaveLength(1);
      const report = JSON.parse(run.stdout);
      expect(report).toMatchObject({ verdict: "PASS", failures: [] });
      expect(run.exitCode).toBe(0);
      expect(report.schema).toBe("parityd.drill/1");
      expect(report.phases.map(({ name }: { name: string }) => name)).toEqual(PHASES);
      for (const phase of report.phases.slice(0, 4)) {
        expect(phase.writesAcknowledged).toBeGreaterThan(50);
        expect(phase.seconds).toBeGreaterThan(0.5);
      }
      for (const name of ["verify", "target-dies", "verify-again"]) {
        const phase = report.phases[PHASES.indexOf(name)];
        expect(phase.bytesVerified).toBeGreaterThanOrEqual(32 * MIB);
      }
      for (const kind of ["EAGAIN", "EINTR", "short-read", "short-write", "EIO-cured", "slow"]) {
        expect([kind, report.faults[kind]]).toEqual([kind, expect.any(Number)]);
        expect(report.faults[kind]).toBeGreaterThan(0);
      }
      expect(report.retries).toBeGreaterThan(0);
      expect(report.rebuild.bytes).toBe((32 * MIB) / (members - 1));
      expect(report.rebuild.seconds).toBeGreaterThan(0);
      expect([...readdirSync(files), ...readdirSync(other)]).toEqual([]);
    },
  );
}

shareTest(
  `drill: SIGINT in the middle: exit 1, the daemon is gone, nothing is left ${NEEDED}`,
  async () => {
    const { files, other, environment } = makeFolders();
    const child = Bun.spawn([binaryPath(), "drill", "--size", "16MiB", "--dir", files], {
      env: environment,
      stdout: "pipe",
      stderr: "ignore",
    });
    let said = "";
    const decoder = new TextDecoder();
    let isInterrupted = false;
    for await (const chunk of child.stdout) {
      said += decoder.decode(chunk, { stream: true });
      if (isInterrupted || !said.includes("goes on degraded")) continue;
      isInterrupted = true;
      child.kill("SIGINT");
    }
    expect(await child.exited).toBe(1);
    expect(said).not.toContain("PASS");
    expect([...readdirSync(files), ...readdirSync(other)]).toEqual([]);
  },
);

shareTest(
  `drill: nobody reads what it says: exit 1, the daemon is gone, nothing is left ${NEEDED}`,
  async () => {
    const { files, other, environment } = makeFolders();
    const line = `"$@" | head -n 2; exit "\${PIPESTATUS[0]}"`;
    const words = [binaryPath(), "drill", "--size", "16MiB", "--dir", files];
    const run = await runProgram(["bash", "-c", line, "bash", ...words], { environment });
    expect(run.stderr).toContain("nobody reads what the drill says");
    expect(run.exitCode).toBe(1);
    expect([...readdirSync(files), ...readdirSync(other)]).toEqual([]);
  },
);

for (const [words, exitCode] of [
  [["--members", "2"], 64],
  [["--size", "1MiB"], 64],
  [["--dir", "/dev/null/nowhere"], 1],
  [["--dir", "/tmp/parityd-nowhere"], 1],
] as const) {
  shareTest(`drill: ${words.join(" ")}: exit ${exitCode} with a sentence ${NEEDED}`, async () => {
    const { environment } = makeFolders();
    const run = await runProgram([binaryPath(), "drill", ...words], { environment });
    expect(run.exitCode).toBe(exitCode);
    expect(run.stderr + run.stdout).toMatch(/--members takes|--size takes|is not there: make it/);
    expect(existsSync("/tmp/parityd-nowhere")).toBe(false);
  });
}

interface Outcome {
  readonly exitCode: number;
  readonly report: { verdict: string; failures: string[] };
}

/** Runs the drill in this process; its daemon is the executable. */
async function drillHere(parts: DrillParts): Promise<Outcome> {
  const printed: string[] = [];
  const host: CliHost = {
    print: (line) => printed.push(line),
    warn: () => {},
    redraw: () => {},
    isTerminal: false,
    progressColumns: 80,
    networkName: "box",
    terminal: null,
    draw: () => {},
    ask: async () => null,
    send: (socketPath, { method, path, headers, body }) =>
      fetch(`http://parityd${path}`, {
        unix: socketPath,
        method,
        ...(headers === undefined ? {} : { headers }),
        ...(body === undefined ? {} : { body }),
        timeout: false,
      } as BunFetchRequestInit),
    startReactor: async () => err("the daemon is another process"),
    onSignal: () => {},
    onOutputClosed: () => {},
    exit: (code) => {
      throw new Error(`exit ${code}`);
    },
  };
  const { files } = makeFolders();
  const options = { members: 3, sizeBytes: 16 * MIB, directory: files, json: true };
  const command = [binaryPath()];
  const exitCode = await runDrill(options, host, { command, ...parts });
  expect(readdirSync(files)).toEqual([]);
  return { exitCode, report: JSON.parse(printed.join("\n")) };
}

function flipByte(path: string, offset: number): void {
  const fd = openSync(path, "r+");
  const byte = new Uint8Array(1);
  readSync(fd, byte, 0, 1, offset);
  byte[0]! ^= 0x80;
  writeSync(fd, byte, 0, 1, offset);
  closeSync(fd);
}

/** In the data region; of three members, role 0 has the parity of stripe 5. */
const BYTE_IN_STRIPE_5 = 5 * 64 * 1024 + 1_234;

const CHANGES = [
  [0, "parity on a survivor"],
  [1, "data on a survivor"],
  [2, "data on the rebuilt member"],
] as const;

for (const [role, what] of new Share("drill changes", 3).of(CHANGES)) {
  shareTest(
    `drill: one byte of ${what} is changed behind its back: FAIL and exit 1 ${NEEDED}`,
    async () => {
      let isFlipped = false;
      const { exitCode, report } = await drillHere({
        beforeVerify: (paths) => {
          const path = paths[role]!;
          const member = readMember(path);
          if (!member.ok) throw new Error(member.error);
          flipByte(path, member.value.dataOffsetBytes + BYTE_IN_STRIPE_5);
          isFlipped = true;
        },
      });
      expect(isFlipped).toBe(true);
      expect(report.verdict).toBe("FAIL");
      expect(exitCode).toBe(1);
      const all = report.failures.join("\n");
      if (role === 0) expect(all).toContain("differs from the XOR of the others in stripe 5");
      else expect(all).toContain("verify: byte ");
      expect(all).toContain("check found 4096 bytes");
    },
  );
}
