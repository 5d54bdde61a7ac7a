/**
 * Goal: each client verb makes its call and says what came of it, in its words and its exit code.
 * Method: the verbs over the real API with a fake reactor; serve and attach with a fake start.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StartedReactor, StartReactor } from "../../../src/appliance/start-reactor.ts";
import { ok } from "../../../src/base/result.ts";
import type { CliHost } from "../../../src/cli/host.ts";
import { scrubExit } from "../../../src/cli/verbs/scrub.ts";
import { addTestArray, startFakeAppliance } from "../../helpers/fake-appliance.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { FakeOpener, FakeReactor } from "../../helpers/fake-reactor.ts";
import { until } from "../../helpers/until.ts";

async function testDaemon() {
  const daemon = await startFakeAppliance();
  await addTestArray(daemon);
  return daemon;
}

test("drive: add, list, remove; a refusal is the API's own sentence", async () => {
  const daemon = await startFakeAppliance();
  const added = await runCli("drive add d0 /dev/a --no-direct", { daemon });
  expect(added).toMatchObject({ exitCode: 0, stdout: "d0 (1.0 MiB) is available" });
  expect(daemon.store.state.drives.get("d0")?.direct).toBe(false);
  const list = await runCli("drive list", { daemon });
  expect(list.stdout.split("\n")[1]).toBe("d0     available  -       1.0 MiB  /dev/a");
  expect(JSON.parse((await runCli("drive list --json", { daemon })).stdout)).toHaveLength(1);
  const refused = await runCli("drive add d1 /dev/none", { daemon });
  expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
  expect(refused.stderr).toBe("parityd: /dev/none cannot be opened (ENOENT): check the path");
  expect((await runCli("drive remove d0", { daemon })).exitCode).toBe(0);
  expect(daemon.store.state.drives.size).toBe(0);
});

test("array: create with its sizes, dry run, list, show, stop, start", async () => {
  const daemon = await startFakeAppliance();
  for (const name of ["a", "b", "c", "d"])
    await runCli(`drive add ${name} /dev/${name}`, { daemon });
  const line = "array create x a b c --spare d --chunk 128KiB --size 1MiB --assume-clean";
  const plan = await runCli(`${line} --dry-run`, { daemon });
  expect(plan.stdout.split("\n")).toHaveLength(5);
  expect(daemon.reactor.arrays.size).toBe(0);
  expect((await runCli(line, { daemon })).stdout).toBe("x is there: 2.0 MiB, ready for use");
  const create = daemon.reactor.commands.find((command) => command.kind === "create-array");
  expect(create).toMatchObject({
    spares: ["d"],
    chunkBytes: 131_072,
    memberSizeBytes: 1_048_576,
    assumeClean: true,
  });
  expect((await runCli("array list", { daemon })).stdout).toContain(
    "x      clean  2.0 MiB        3",
  );
  expect((await runCli("array show x", { daemon })).stdout).toContain("array: x   state: clean");
  expect((await runCli("array stop x", { daemon })).stdout).toBe("x is inactive");
  expect((await runCli("array start x --read-only", { daemon })).stdout).toBe("x is read-only");
  const bad = await runCli("array create y a b", { daemon });
  expect(bad).toMatchObject({ exitCode: 1, stderr: "parityd: #/drives: 3 to 16 drives" });
});

test("array delete: only with the name, typed or given", async () => {
  const daemon = await testDaemon();
  const line = "array delete raid_test";
  expect((await runCli(`${line} --dry-run`, { daemon })).stdout).toContain("would stop raid_test");
  expect((await runCli(line, { daemon })).exitCode).toBe(64);
  expect((await runCli(line, { daemon, typed: "raid" })).exitCode).toBe(64);
  expect((await runCli(`${line} --yes other`, { daemon })).exitCode).toBe(64);
  expect(daemon.reactor.arrays.size).toBe(1);
  expect((await runCli(line, { daemon, typed: "raid_test" })).exitCode).toBe(0);
  expect(daemon.reactor.arrays.size).toBe(0);
});

test("member: fail, add with a rebuild that is waited for, remove", async () => {
  const daemon = await testDaemon();
  const failed = await runCli("member fail raid_test b", { daemon });
  expect(failed.stdout).toBe("raid_test is degraded");
  const waiting = runCli("member add raid_test d --wait", { daemon });
  await until("the job is there", () => daemon.reactor.jobs.has(1));
  daemon.reactor.finishJob(1, "done", { result: { drive: "d" } });
  const rebuilt = await waiting;
  expect(rebuilt).toMatchObject({
    exitCode: 0,
    stdout: "rebuild job 1 of raid_test: done, drive d",
  });
  expect((await runCli("member remove raid_test a", { daemon })).exitCode).toBe(0);
});

test("export: add by the array's name, list, remove", async () => {
  const daemon = await testDaemon();
  const uri = "nbd+unix:///raid_test?socket=/run/parityd/nbd.sock";
  expect((await runCli("export add raid_test", { daemon })).stdout).toBe(uri);
  await runCli("export add raid_test ro --read-only", { daemon });
  expect((await runCli("export list", { daemon })).stdout).toContain(
    "ro         raid_test  read-only",
  );
  expect((await runCli("export remove ro", { daemon })).exitCode).toBe(0);
});

test("scrub: start, pause, resume, stop; with --wait the outcome is the exit code", async () => {
  const daemon = await testDaemon();
  const started = await runCli("scrub start raid_test --limit 2MiB/s", { daemon });
  expect(started.stdout).toContain("check job 1 has begun");
  expect(daemon.reactor.commands.at(-1)).toMatchObject({ limitBytesPerSecond: 2_097_152 });
  expect((await runCli("scrub pause raid_test", { daemon })).stdout).toContain("paused");
  expect((await runCli("scrub resume raid_test", { daemon })).stdout).toContain("job 1");
  expect((await runCli("scrub stop raid_test", { daemon })).exitCode).toBe(0);
  for (const [mismatchBytes, exitCode] of [
    [0, 0],
    [4_096, 1],
  ] as const) {
    const count = daemon.reactor.jobs.size;
    const waiting = runCli("scrub start raid_test --wait", { daemon });
    await until("one more job is there", () => daemon.reactor.jobs.size > count);
    const id = Math.max(...daemon.reactor.jobs.keys());
    daemon.reactor.finishJob(id, "done", { result: { mismatchBytes } });
    expect((await waiting).exitCode).toBe(exitCode);
  }
  expect((await runCli("scrub start nowhere --wait", { daemon })).exitCode).toBe(2);
  const job = daemon.reactor.jobs.get(1)!;
  expect(scrubExit(job)).toBe(2);
  expect(scrubExit({ ...job, state: "done", result: { lostBytes: 512 } })).toBe(1);
});

test("scrub start --wait: mismatches: a line for each range, and that there are more", async () => {
  const daemon = await testDaemon();
  const waiting = runCli("scrub start raid_test --wait", { daemon });
  await until("the job is there", () => daemon.reactor.jobs.has(1));
  const ranges = [
    { firstSector: 16, sectorCount: 8 },
    { firstSector: 4_096, sectorCount: 24 },
  ];
  const mismatchRanges = { ranges, truncated: true };
  const result = { mismatchBytes: 16_384, mismatchRanges };
  daemon.reactor.finishJob(1, "done", { result });
  const { stdout, exitCode } = await waiting;
  expect(exitCode).toBe(1);
  expect(stdout.trimEnd().split("\n")).toEqual([
    "check job 1 of raid_test: done, mismatchBytes 16384",
    "mismatch: sectors 16 to 23 of each member's data",
    "mismatch: sectors 4096 to 4119 of each member's data",
    "mismatch: more behind these",
  ]);
  const job = await daemon.call("GET", "/v1/jobs/1");
  expect(await job.json()).toMatchObject({ result: { mismatchRanges } });
});

test("progress: a bar on a terminal, a line every 10 % elsewhere", async () => {
  for (const isTerminal of [true, false]) {
    const daemon = await testDaemon();
    await daemon.call("POST", "/v1/arrays/raid_test/scrub");
    const job = daemon.reactor.jobs.get(1)!;
    daemon.reactor.jobs.set(1, { ...job, done: 524_288, rateBytesPerSecond: 1_048_576 });
    let looks = 0;
    const send: CliHost["send"] = async (_socketPath, { method, path }) => {
      looks += 1;
      return daemon.call(method, path);
    };
    const waiting = runCli("job wait 1", { daemon, isTerminal, overrides: { send } });
    // The second look has nothing new to show, and is over when there is a third.
    await until("a third look", () => looks >= 3);
    daemon.reactor.finishJob(1);
    const { stderr, redrawn, exitCode } = await waiting;
    expect(exitCode).toBe(0);
    const text = "50.0 %  512.0 KiB of 1.0 MiB  1.0 MiB/s";
    const bar = `check [############------------]  ${text}`;
    if (isTerminal) expect(redrawn).toEqual([...new Array(looks - 1).fill(bar), ""]);
    else expect(stderr).toBe(`check raid_test: ${text}`);
  }
});

test("job: list, show, cancel, unknown", async () => {
  const daemon = await testDaemon();
  await daemon.call("POST", "/v1/arrays/raid_test/scrub");
  const list = await runCli("job list", { daemon });
  expect(list.stdout).toContain(" 1  check  raid_test  running  0.0 %  0 B of 1.0 MiB");
  expect((await runCli("job show 1", { daemon })).stdout).toContain(
    "check job 1 of raid_test: running",
  );
  expect((await runCli("job cancel 1", { daemon })).stdout).toContain("cancelled");
  expect((await runCli("job wait 1", { daemon })).exitCode).toBe(1);
  expect((await runCli("job show 9", { daemon })).exitCode).toBe(1);
});

test("events: page by page to the end, and followed", async () => {
  const daemon = await testDaemon();
  // Setting up left some: the calls themselves.
  const before = daemon.appliance.events.lastId;
  for (let index = 0; index < 1_500; index += 1) daemon.reactor.emit("rebuild.progress");
  const all = await runCli("events", { daemon });
  const progress = all.stdout.split("\n").filter((line) => line.includes(" rebuild.progress "));
  expect(progress).toHaveLength(1_500);
  const some = await runCli(`events --since ${before + 1_498} --json`, { daemon });
  expect(some.stdout.split("\n").map((line) => JSON.parse(line).id)).toEqual([
    before + 1_499,
    before + 1_500,
  ]);
  const printed: string[] = [];
  const enough = new Error("enough");
  const print = (line: string): void => {
    printed.push(line);
    if (printed.length === 3) throw enough;
  };
  const following = runCli(`events --follow --since ${before + 1_498}`, {
    daemon,
    overrides: { print },
  });
  await Bun.sleep(10);
  daemon.reactor.emit("scrub.finished", { message: "no mismatch" });
  await expect(following).rejects.toBe(enough);
  expect(printed[2]).toBe(
    `${before + 1_501} 2026-01-02T03:04:05.000Z info scrub.finished raid_test: no mismatch`,
  );
});

test("config: flags over the file, printed; errors exit 78", async () => {
  const directory = mkdtempSync(join(tmpdir(), "parityd-cli-"));
  const file = join(directory, "c.toml");
  writeFileSync(file, 'memoryMib = 512\nrunDir = "/run/x"');
  const shown = await runCli(`config --config ${file} --memory-mib 128 --nbd-tcp [::1]:1`);
  expect(JSON.parse(shown.stdout)).toMatchObject({
    memoryMib: 128,
    runDir: "/run/x",
    nbdTcp: { host: "::1", port: 1 },
  });
  for (const flags of ["--memory-mib 1", "--memory-mib lots", "--api-tcp 80", "--config /none"]) {
    for (const verb of ["config", "serve"]) {
      expect([flags, (await runCli(`${verb} ${flags}`)).exitCode]).toEqual([flags, 78]);
    }
  }
  rmSync(directory, { recursive: true });
});

test("examine: no superblock, no file: one line each and exit 1", async () => {
  const directory = mkdtempSync(join(tmpdir(), "parityd-cli-"));
  const file = join(directory, "empty.img");
  writeFileSync(file, new Uint8Array(65_536));
  const { exitCode, stderr, stdout } = await runCli(`examine ${file} ${directory}/none`);
  expect([exitCode, stdout, stderr.split("\n").length]).toEqual([1, "", 2]);
  expect(stderr).toContain("no md v1.2 superblock");
  rmSync(directory, { recursive: true });
});

interface FakeStart {
  readonly reactor: FakeReactor;
  readonly started: StartedReactor;
  /** Calls the listeners for SIGTERM. */
  stop(): void;
  readonly overrides: {
    startReactor: StartReactor;
    onSignal: (listener: (signal: string) => void) => void;
  };
}

function fakeStart(paths: readonly string[]): FakeStart {
  const reactor = new FakeReactor();
  const listeners: ((signal: string) => void)[] = [];
  const started = { channel: reactor, opener: new FakeOpener(paths), expectEnd: () => {} };
  return {
    reactor,
    started,
    stop: () => {
      for (const listener of listeners) listener("SIGTERM");
    },
    overrides: {
      startReactor: async () => ok(started),
      onSignal: (listener) => listeners.push(listener),
    },
  };
}

test("attach: assembles, exports, prints ready, and stops clean at SIGTERM", async () => {
  const start = fakeStart(["/m/0", "/m/1", "/m/2"]);
  start.reactor.onDisk.set("raid_test", ["/m/0", "/m/1", "/m/2"]);
  const printed: string[] = [];
  const running = runCli("attach /m/0 /m/1 /m/2 --socket /run/s --read-only --force --name n", {
    overrides: { ...start.overrides, print: (line) => printed.push(line) },
  });
  while (printed.length === 0) await Bun.sleep(1);
  expect(printed).toEqual(["ready nbd+unix:///n?socket=/run/s"]);
  const kinds = start.reactor.commands.map((command) => command.kind);
  const last = ["start-array", "listen-nbd", "put-export", "exports-settle"] as const;
  expect(kinds.slice(-last.length)).toEqual([...last]);
  expect(start.reactor.commands.find((command) => command.kind === "start-array")).toMatchObject({
    readOnly: true,
    force: true,
  });
  expect([...start.reactor.drives.values()].every(({ open }) => open.isReadOnly)).toBe(true);
  start.stop();
  expect((await running).exitCode).toBe(0);
  expect(start.reactor.commands.at(-1)?.kind).toBe("shutdown");
});

test("attach: what does not assemble: the reason in one line, exit 1, shut down", async () => {
  const missing = fakeStart(["/m/0"]);
  const gone = await runCli("attach /m/0 /m/1 --socket /s", { overrides: missing.overrides });
  expect(gone).toMatchObject({ exitCode: 1, stdout: "" });
  expect(gone.stderr).toContain("/m/1");
  expect(missing.reactor.commands.at(-1)?.kind).toBe("shutdown");
  const foreign = fakeStart(["/m/0"]);
  const none = await runCli("attach /m/0 --socket /s", { overrides: foreign.overrides });
  expect(none.stderr).toContain("no file belongs to an array: /m/0: it has no superblock");
  const refused = fakeStart(["/m/0"]);
  refused.reactor.onDisk.set("x", ["/m/0"]);
  const detail = "dirty and degraded: --force starts it, with stale parity";
  refused.reactor.refusals.set("start-array", { kind: "conflict", code: "dirty", detail });
  const dirty = await runCli("attach /m/0 --socket /s", { overrides: refused.overrides });
  expect([dirty.exitCode, dirty.stderr]).toEqual([1, `parityd: ${detail}`]);
  expect((await runCli("attach /m/0 --socket /s")).exitCode).toBe(69);
});

test("serve: ready, its socket is 0660 and answers, a second daemon is refused", async () => {
  const directory = mkdtempSync(join(tmpdir(), "parityd-serve-"));
  const start = fakeStart([]);
  const flags = `serve --log-level error --state-dir ${directory}/state --run-dir ${directory}/run`;
  const printed: string[] = [];
  const running = runCli(flags, {
    overrides: { ...start.overrides, print: (line) => printed.push(line) },
  });
  while (printed.length === 0) await Bun.sleep(1);
  const socket = `${directory}/run/api.sock`;
  expect(printed).toEqual([`ready api=${socket} nbd=${directory}/run/nbd.sock`]);
  const { statSync, existsSync } = await import("node:fs");
  expect(statSync(socket).mode & 0o777).toBe(0o660);
  const answer = await fetch("http://parityd/-/ready", { unix: socket } as BunFetchRequestInit);
  expect(answer.status).toBe(200);

  const second = await runCli(flags, { overrides: fakeStart([]).overrides });
  expect([second.exitCode, second.stdout]).toEqual([69, ""]);
  expect(second.stderr.split("\n")).toHaveLength(1);
  expect(second.stderr).toContain("is in use by another parityd");

  start.stop();
  expect((await running).exitCode).toBe(0);
  expect(start.reactor.commands.at(-1)?.kind).toBe("shutdown");
  expect(existsSync(socket)).toBe(false);
  rmSync(directory, { recursive: true });
});

test("serve: no reactor to be had: 69 with the reason", async () => {
  const directory = mkdtempSync(join(tmpdir(), "parityd-serve-"));
  const line = `serve --state-dir ${directory}/s --run-dir ${directory}/r`;
  const { exitCode, stderr } = await runCli(line);
  expect([exitCode, stderr]).toEqual([69, "parityd: there is no AIO here"]);
  rmSync(directory, { recursive: true });
});
