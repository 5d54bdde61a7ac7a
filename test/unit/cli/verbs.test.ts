/**
 * Goal: each client verb makes its call and says what came of it, in its words and its exit code.
 * Method: the verbs over the real API and services on simulated drives, also of serve and attach.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NO_NBD_DRIVER } from "../../../src/appliance/attach/nbd-driver.ts";
import type { StartReactor } from "../../../src/appliance/start-reactor.ts";
import { ok } from "../../../src/base/result.ts";
import { formatBytes, MIB } from "../../../src/base/units.ts";
import type { CliHost } from "../../../src/cli/host.ts";
import { scrubExit } from "../../../src/cli/verbs/scrub.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { diskAt, hostWithDisks, rotRanges, SimReactor } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";
import type { SimHost } from "../../life/sim-host.ts";

async function testDaemon() {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  return daemon;
}

test("drive: add, list, remove; a refusal is the API's own sentence", async () => {
  const daemon = await startSimAppliance();
  const added = await runCli("drive add d0 /dev/a --no-direct", { daemon });
  expect(added).toMatchObject({ exitCode: 0, stdout: "d0 (3.0 MiB) is available" });
  expect(daemon.store.state.drives.get("d0")?.direct).toBe(false);
  const list = await runCli("drive list", { daemon });
  expect(list.stdout.split("\n")[1]).toBe("d0     available  -       3.0 MiB  /dev/a  ssd");
  expect(JSON.parse((await runCli("drive list --json", { daemon })).stdout).drives).toHaveLength(1);
  const refused = await runCli("drive add d1 /dev/none", { daemon });
  expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
  expect(refused.stderr).toBe("parityd: /dev/none: ENOENT");
  expect((await runCli("drive remove d0", { daemon })).exitCode).toBe(0);
  expect(daemon.store.state.drives.size).toBe(0);
});

test("array: create with its sizes, dry run, list, show, stop, start", async () => {
  const daemon = await startSimAppliance();
  for (const name of ["a", "b", "c", "d"])
    await runCli(`drive add ${name} /dev/${name}`, { daemon });
  const line = "array create x a b c --spare d --chunk 128KiB --size 1MiB --assume-clean --force";
  const plan = await runCli(`${line} --dry-run`, { daemon });
  expect(plan.stdout.split("\n")).toHaveLength(5);
  expect(daemon.reactor.arrays().length).toBe(0);
  expect((await runCli(line, { daemon })).stdout).toBe("x is there: 2.0 MiB, ready for use");
  const create = daemon.reactor.commands.find((command) => command.kind === "create-array");
  expect(create).toMatchObject({
    spares: ["d"],
    chunkBytes: 131_072,
    memberSizeBytes: 1_048_576,
    assumeClean: true,
  });
  daemon.reactor.world.settle({ array: "x" });
  expect((await runCli("array list", { daemon })).stdout).toContain(
    "x      clean  2.0 MiB        3",
  );
  expect((await runCli("array show x", { daemon })).stdout).toContain("array: x   state: clean");
  expect((await runCli("array stop x", { daemon })).stdout).toBe("x is inactive");
  expect((await runCli("array start x --read-only", { daemon })).stdout).toBe("x is read-only");
  const bad = await runCli("array create y a b", { daemon });
  expect(bad).toMatchObject({ exitCode: 1, stderr: "parityd: the drives: 3 to 16 drives" });
});

test("array delete: only with the name, typed or given", async () => {
  const daemon = await testDaemon();
  const line = "array delete raid_test";
  const listed = async () =>
    JSON.parse((await runCli("array list --json", { daemon })).stdout).arrays;
  expect((await runCli(`${line} --dry-run`, { daemon })).stdout).toBe(
    "would stop and forget raid_test (2.0 MiB on a, b, c)",
  );
  expect((await runCli(line, { daemon })).exitCode).toBe(64);
  expect((await runCli(line, { daemon, typed: "raid" })).exitCode).toBe(64);
  expect((await runCli(`${line} --yes other`, { daemon })).exitCode).toBe(64);
  expect(await listed()).toHaveLength(1);
  const deleted = await runCli(line, { daemon, typed: "raid_test" });
  expect(deleted).toMatchObject({ exitCode: 0, stdout: "raid_test is deleted" });
  expect(await listed()).toHaveLength(0);
});

test("member: fail, add with a rebuild that is waited for, remove", async () => {
  const daemon = await testDaemon();
  const failed = await runCli("member fail raid_test b", { daemon });
  expect(failed.stdout).toBe("raid_test is degraded");
  const waiting = runCli("member add raid_test d --wait", { daemon });
  await until("the job is there", () => daemon.reactor.jobs().length === 1);
  daemon.reactor.world.waitJob(1);
  const rebuilt = await waiting;
  expect(rebuilt.exitCode).toBe(0);
  expect(rebuilt.stdout).toStartWith("rebuild job 1 of raid_test: done");
  expect(rebuilt.stdout).toContain("drive d");
  await runCli("member fail raid_test a", { daemon });
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
  await runCli("export add raid_test far --allow-address ::1 --allow-certificate b", { daemon });
  expect((await runCli("export list", { daemon })).stdout).toMatch(/far .* ::1 with b +nbd/);
});

test("scrub: start, pause, resume, stop; with --wait the outcome is the exit code", async () => {
  const daemon = await testDaemon();
  const started = await runCli("scrub start raid_test --limit 2MiB/s", { daemon });
  expect(started.stdout).toContain("check job 1 has begun");
  const command = daemon.reactor.commands.find(({ kind }) => kind === "start-scrub");
  expect(command).toMatchObject({ limitBytesPerSecond: 2_097_152 });
  expect((await runCli("scrub pause raid_test", { daemon })).stdout).toContain("paused");
  expect((await runCli("scrub resume raid_test", { daemon })).stdout).toContain("job 1");
  expect((await runCli("scrub stop raid_test", { daemon })).exitCode).toBe(0);
  for (const [isDamaged, exitCode] of [
    [false, 0],
    [true, 1],
  ] as const) {
    if (isDamaged) rotRanges(daemon.reactor, [{ firstSector: 16, sectorCount: 8 }]);
    const count = daemon.reactor.jobs().length;
    const waiting = runCli("scrub start raid_test --wait", { daemon });
    await until("one more job is there", () => daemon.reactor.jobs().length > count);
    daemon.reactor.world.waitJob(Math.max(...daemon.reactor.jobs().map(({ id }) => id)));
    expect((await waiting).exitCode).toBe(exitCode);
  }
  expect((await runCli("scrub start nowhere --wait", { daemon })).exitCode).toBe(2);
  const job = daemon.reactor.world.job(1);
  expect(scrubExit(job)).toBe(2);
  expect(scrubExit({ ...job, state: "done", result: { lostBytes: 512 } })).toBe(1);
});

test("scrub start --wait: mismatches: a line for each range, and that there are more", async () => {
  const daemon = await testDaemon();
  // One range more than a job remembers.
  const ranges = Array.from({ length: 65 }, (_, index) => ({
    firstSector: 16 + 24 * index,
    sectorCount: index === 1 ? 16 : 8,
  }));
  rotRanges(daemon.reactor, ranges);
  const waiting = runCli("scrub start raid_test --wait", { daemon });
  await until("the job is there", () => daemon.reactor.jobs().length === 1);
  const { result } = daemon.reactor.world.waitJob(1);
  const { stdout, exitCode } = await waiting;
  expect(exitCode).toBe(1);
  const lines = stdout.trimEnd().split("\n");
  const mismatchBytes = (64 * 8 + 16) * 512;
  expect(lines[0]).toBe(
    `check job 1 of raid_test: done, mismatchBytes ${mismatchBytes}, lostBytes 0`,
  );
  expect(lines.slice(1, 3)).toEqual([
    "mismatch: sectors 16 to 23 of each member's data " +
      "(stripe 0, byte 8192 of the array, role unknown)",
    "mismatch: sectors 40 to 55 of each member's data " +
      "(stripe 0, byte 20480 of the array, role unknown)",
  ]);
  expect(lines.at(-1)).toBe("mismatch: more behind these");
  const job = await daemon.call("GET", "/v1/jobs/1");
  expect(await job.json()).toMatchObject({ result: { mismatchRanges: result["mismatchRanges"] } });
});

test("progress: a bar on a terminal, a line every 10 % elsewhere", async () => {
  for (const isTerminal of [true, false]) {
    const daemon = await testDaemon();
    await daemon.call("POST", "/v1/arrays/raid_test/scrub", { limitBytesPerSecond: MIB });
    // Half of it takes a while at that rate.
    const { world } = daemon.reactor;
    const isHalfDone = () => world.job(1).done * 2 >= world.job(1).total;
    while (!isHalfDone()) world.simulation.runFor(5);
    const { rateBytesPerSecond } = world.job(1);
    let looks = 0;
    const send: CliHost["send"] = async (_socketPath, { method, path }) => {
      looks += 1;
      return daemon.call(method, path);
    };
    const waiting = runCli("job wait 1", { daemon, isTerminal, overrides: { send } });
    // The second look has nothing new to show, and is over when there is a third.
    await until("a third look", () => looks >= 3);
    world.waitJob(1);
    const { stderr, redrawn, exitCode } = await waiting;
    expect(exitCode).toBe(0);
    const rate = `${formatBytes(rateBytesPerSecond)}/s`;
    const text = `50.0 %  512.0 KiB of 1.0 MiB  ${rate}  1 s left`;
    const bar = `check [############------------]  ${text}`;
    if (isTerminal) expect(redrawn).toEqual([...new Array(looks - 1).fill(bar), ""]);
    else expect(stderr).toBe(`check raid_test: ${text}`);
  }
});

test("job: list, show, cancel, unknown", async () => {
  const daemon = await testDaemon();
  await daemon.call("POST", "/v1/arrays/raid_test/scrub");
  const list = await runCli("job list", { daemon });
  expect(list.stdout).toContain(" 1  check  raid_test  running  0.0 %  0 B of ");
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

test("events: followed with --timeout: ends by itself then, with exit 0", async () => {
  const daemon = await testDaemon();
  const begunMs = performance.now();
  const followed = await runCli("events --follow --timeout 0.3", { daemon });
  expect([followed.exitCode, followed.stderr]).toEqual([0, ""]);
  expect(followed.stdout).toContain("array.created");
  expect(performance.now() - begunMs).toBeGreaterThan(290);
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

interface SimStart {
  /** Of the process that was started. */
  readonly reactor: () => SimReactor;
  /** Calls the listeners for SIGTERM. */
  stop(): void;
  readonly overrides: {
    startReactor: StartReactor;
    onSignal: (listener: (signal: string) => void) => void;
  };
}

/** A process on this host. Only one that comes as far as its reactor ends the one before it. */
function simStart(host: SimHost): SimStart {
  let reactor: SimReactor | null = null;
  const listeners: ((signal: string) => void)[] = [];
  return {
    reactor: () => {
      if (reactor === null) throw new Error("no reactor was asked for");
      return reactor;
    },
    stop: () => {
      for (const listener of listeners) listener("SIGTERM");
    },
    overrides: {
      startReactor: async ({ firstJobId }) => {
        reactor = new SimReactor(host, { firstJobId });
        const { opener } = reactor;
        return ok({ channel: reactor, opener, nbdDriver: NO_NBD_DRIVER, expectEnd: () => {} });
      },
      onSignal: (listener) => listeners.push(listener),
    },
  };
}

/** A host with an array on the disks at these paths: stopped, or killed in mid-write. */
async function hostWithArray(
  paths: readonly string[],
  { isDirty = false }: { isDirty?: boolean } = {},
): Promise<SimHost> {
  const host = hostWithDisks(paths);
  const { world, opener } = new SimReactor(host);
  for (const path of paths) {
    const opened = await opener.open({ name: path, path, direct: true, readOnly: false });
    if (!opened.ok) throw new Error(opened.error.detail);
    world.must({ kind: "attach-drive", drive: opened.value });
  }
  world.createArray({ name: "raid_test", drives: paths, assumeClean: true, force: true });
  world.settle({ array: "raid_test" });
  if (isDirty) {
    const client = world.run(world.nbdClient("raid_test"));
    expect(world.run(client.write(0, new Uint8Array(4_096).fill(1)))).toBe(0);
  } else world.must({ kind: "shutdown" });
  return host;
}

const MEMBERS = ["/m/0", "/m/1", "/m/2"];

test("attach: assembles, exports, prints ready, and stops clean at SIGTERM", async () => {
  const host = await hostWithArray(MEMBERS);
  const start = simStart(host);
  const before = MEMBERS.map((path) => host.imageOf(diskAt(host, path)));
  const printed: string[] = [];
  const running = runCli("attach /m/0 /m/1 /m/2 --socket /run/s --read-only --force --name n", {
    overrides: { ...start.overrides, print: (line) => printed.push(line) },
  });
  await until("it is ready", () => printed.length > 0);
  expect(printed).toEqual(["ready nbd+unix:///n?socket=/run/s"]);
  const reactor = start.reactor();
  const kinds = reactor.commands.map((command) => command.kind);
  const last = ["start-array", "listen-nbd", "put-export", "exports-settle"] as const;
  expect(kinds.slice(-last.length)).toEqual([...last]);
  expect(reactor.commands.find((command) => command.kind === "start-array")).toMatchObject({
    readOnly: true,
    force: true,
  });
  const attached = reactor.commands.filter((command) => command.kind === "attach-drive");
  expect(attached.map(({ drive }) => drive.isReadOnly)).toEqual([true, true, true]);
  expect(reactor.array("raid_test")?.state).toBe("read-only");
  start.stop();
  expect((await running).exitCode).toBe(0);
  expect(reactor.commands.at(-1)?.kind).toBe("shutdown");
  // Not one byte was written.
  expect(reactor.world.changesSubmitted).toBe(0);
  expect(MEMBERS.map((path) => host.imageOf(diskAt(host, path)))).toEqual(before);
});

test("attach: what does not assemble: the reason in one line, exit 1, shut down", async () => {
  const missing = simStart(hostWithDisks(["/m/0"]));
  const gone = await runCli("attach /m/0 /m/1 --socket /s", { overrides: missing.overrides });
  expect(gone).toMatchObject({ exitCode: 1, stdout: "" });
  expect(gone.stderr).toContain("/m/1");
  expect(missing.reactor().commands.at(-1)?.kind).toBe("shutdown");
  const foreign = simStart(hostWithDisks(["/m/0"]));
  const none = await runCli("attach /m/0 --socket /s", { overrides: foreign.overrides });
  expect(none.stderr).toContain("no file belongs to an array: /m/0: it has no superblock");
  const refused = simStart(await hostWithArray(MEMBERS, { isDirty: true }));
  const dirty = await runCli("attach /m/0 /m/1 --socket /s", { overrides: refused.overrides });
  expect([dirty.exitCode, dirty.stdout]).toEqual([1, ""]);
  expect(dirty.stderr).toMatch(/^parityd: The array was not stopped cleanly .*force[^\n]*$/);
  expect(refused.reactor().commands.at(-1)?.kind).toBe("shutdown");
  expect((await runCli("attach /m/0 --socket /s")).exitCode).toBe(69);
});

test("serve: ready, its socket is 0660 and answers, a second daemon is refused", async () => {
  const directory = mkdtempSync(join(tmpdir(), "parityd-serve-"));
  const start = simStart(hostWithDisks([]));
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

  const second = await runCli(flags, { overrides: simStart(hostWithDisks([])).overrides });
  expect([second.exitCode, second.stdout]).toEqual([69, ""]);
  expect(second.stderr.split("\n")).toHaveLength(1);
  expect(second.stderr).toContain("is in use by another parityd");

  start.stop();
  expect((await running).exitCode).toBe(0);
  expect(start.reactor().commands.at(-1)?.kind).toBe("shutdown");
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
