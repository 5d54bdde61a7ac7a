/**
 * Goal: the daemon lives as services do: no signal but a stop ends it, what may change is read
 * again, its sockets are its own, silent clients keep nobody out, and where it cannot run it says
 * why.
 *
 * Method: the executable under real signals, real sockets and hostile hosts.
 */
import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import {
  Attached,
  binaryPath,
  Daemon,
  makeFiles,
  runProgram,
  runVerb,
  serveWords,
} from "../helpers/daemon.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { RawNbd } from "../helpers/raw-nbd.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const NEEDS = "[needs libaio, direct-io]";
const CAN_RUN = needs("libaio", "direct-io");
const USER_NEEDS = "[needs root, libaio, direct-io, curl, setpriv]";
const HAS_USERS = needs("root", "curl", "setpriv");

function listenersOf(pid: number): string[] {
  const inodes = new Set<string>();
  for (const line of readFileSync(`/proc/${pid}/net/tcp`, "utf8").split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (fields[3] === "0A") inodes.add(fields[9] ?? "");
  }
  const listed = Bun.spawnSync(["ls", "-l", `/proc/${pid}/fd`]).stdout.toString();
  return [...inodes].filter((inode) => listed.includes(`socket:[${inode}]`));
}

describe.skipIf(!CAN_RUN)("service", () => {
  test(`signals: those that are no stop: it lives, says so, opens no port ${NEEDS}`, async () => {
    const daemon = await Daemon.start(makeTempDir("sig"));
    for (const signal of ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGIO", "SIGHUP"] as const) {
      daemon.child.kill(signal);
      await until("the signal is told", () => daemon.stderr.includes(signal));
    }
    for (const signal of ["SIGPIPE", "SIGWINCH"] as const) daemon.child.kill(signal);
    expect((await daemon.call("GET", "/-/ready")).status).toBe(200);
    expect(listenersOf(daemon.child.pid)).toEqual([]);
    expect(await daemon.stop()).toBe(0);
    expect(daemon.stderr).toContain("msg=stopped");
  });

  test(`signals: two SIGINT of one key press: one stop, clean ${NEEDS}`, async () => {
    const daemon = await Daemon.start(makeTempDir("two"));
    daemon.child.kill("SIGINT");
    daemon.child.kill("SIGINT");
    daemon.child.kill("SIGTERM");
    expect(await daemon.child.exited).toBe(0);
    expect(daemon.stderr).not.toContain("left at once");
  });

  test(`signals: attach takes no notice of SIGHUP and SIGUSR1 ${NEEDS}`, async () => {
    const folder = makeTempDir("atsig");
    const files = makeFiles(folder, 3, 24 * MIB);
    const daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files);
    await daemon.must("POST", "/v1/arrays", { name: "a", drives, assumeClean: true });
    expect(await daemon.stop()).toBe(0);
    const { attached } = await Attached.start(files);
    for (const signal of ["SIGHUP", "SIGUSR1"] as const) {
      attached.child.kill(signal);
      await until("the signal is told", () => attached.stderr.includes(signal));
    }
    expect(attached.child.exitCode).toBeNull();
    expect(await attached.stop()).toBe(0);
  });

  test(`SIGHUP: the log level and the tokens of the files as they are now ${NEEDS}`, async () => {
    const folder = makeTempDir("hup");
    const config = join(folder, "c.toml");
    const tokens = join(folder, "state", "api-token");
    mkdirSync(join(folder, "state"));
    writeFileSync(config, 'apiTcp = "127.0.0.1:0"\n');
    writeFileSync(tokens, "read read-token-0123456789\n", { mode: 0o600 });
    const daemon = await Daemon.start(folder, { flags: ["--config", config] });
    writeFileSync(config, 'apiTcp = "127.0.0.1:0"\nlogFormat = "json"\n');
    daemon.child.kill("SIGHUP");
    await until("the format is read again", () => daemon.stderr.includes("format json"));
    writeFileSync(config, 'apiTcp = "127.0.0.1:0"\nlogFormat = "verse"\n');
    writeFileSync(tokens, "reed read-token-0123456789\n");
    daemon.child.kill("SIGHUP");
    await until("the refused files are told", () =>
      daemon.stderr.includes("SIGHUP: read again: nothing"),
    );
    const lines = daemon.stderr.split("\n").filter((line) => line.startsWith("{"));
    const errors = lines.map((line) => JSON.parse(line)).filter(({ level }) => level === "error");
    expect(errors).toMatchObject([
      { why: expect.stringContaining("logFormat") },
      { problem: expect.stringContaining("line 1 is not") },
    ]);
    expect(await daemon.stop()).toBe(0);
  });

  test(`stop: a rebuild reads a drive that hangs: it is left in time, and goes on ${NEEDS}`, async () => {
    const folder = makeTempDir("hang");
    const flags = ["--allow-fault-injection", "--stop-seconds", "2"];
    const first = await Daemon.start(folder, { flags });
    const names = await first.addDrives(makeFiles(folder, 4, 16 * MIB));
    const [one, two, three, spare] = names;
    await first.must("POST", "/v1/arrays", { name: "tank", drives: [one, two, three] });
    await first.settle("tank");
    await first.must("POST", `/v1/arrays/tank/members/${three}/fail`);
    await first.must("POST", "/v1/faults", {
      ...{ drive: one, op: "read", at: "submit", delayMs: 600_000 },
    });
    const job = await first.must("POST", "/v1/arrays/tank/members", { drive: spare });
    expect(job).toMatchObject({ kind: "rebuild", state: "running" });
    // A stop that finds no read under way ends the rebuild, and is clean.
    const isMet = async () => (await first.must("GET", "/v1/faults"))[0].injected > 0;
    await until("the drive hangs", isMet);
    expect(await first.stop()).toBe(1);
    const left = first.stderr.split("\n").find((line) => line.includes("left though drives"));
    expect(left).toContain(` seconds=2 arrays=tank drives=${one}`);
    const again = await Daemon.start(folder);
    const events: { kind: string }[] = await again.must("GET", "/v1/events?since=0");
    expect(events.filter(({ kind }) => kind === "array.left")).toEqual([
      expect.objectContaining({
        ...{ array: "tank", drive: one, severity: "warning" },
        message: expect.stringContaining(`after 2 s of its stop, which is safe: drive ${one} does`),
      }),
    ]);
    expect((await again.settle("tank")).degraded).toBe(0);
    expect(await again.stop()).toBe(0);
  });

  test(`api.sock: gone with its directory: made again; another's is left at the stop ${NEEDS}`, async () => {
    const folder = makeTempDir("sock");
    const daemon = await Daemon.start(folder);
    rmSync(join(folder, "run"), { recursive: true });
    await until("the socket is made again", () => existsSync(daemon.apiSocket));
    expect((await daemon.call("GET", "/-/ready")).status).toBe(200);
    expect(existsSync(join(folder, "run", "parityd.lock"))).toBe(true);
    expect(statSync(daemon.apiSocket).mode & 0o777).toBe(0o660);
    unlinkSync(daemon.apiSocket);
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(daemon.apiSocket, () => resolve()));
    try {
      await until("the socket is in use", () => daemon.stderr.includes("in use"));
      expect(await daemon.stop()).toBe(0);
      expect(existsSync(daemon.apiSocket)).toBe(true);
    } finally {
      other.close();
    }
  });

  test.skipIf(!HAS_USERS)(
    `another user: no socket and no file of the daemon is open to it ${USER_NEEDS}`,
    async () => {
      const folder = makeTempDir("other-user");
      // Whoever may not enter a folder above would prove nothing.
      chmodSync(folder, 0o755);
      const daemon = await Daemon.start(folder);
      const drives = await daemon.addDrives(makeFiles(folder, 3, 16 * MIB));
      await daemon.must("POST", "/v1/arrays", { name: "a", drives, assumeClean: true });
      await daemon.must("PUT", "/v1/exports/a", { array: "a" });
      const asOther = (words: string[]) =>
        runProgram([toolPath("setpriv")!, "--reuid=65534", "--clear-groups", ...words]);
      const nbdSocket = daemon.apiSocket.replace("api.sock", "nbd.sock");
      const state = join(folder, "state", "state.db");
      expect([existsSync(nbdSocket), existsSync(state)]).toEqual([true, true]);
      const curl = [toolPath("curl")!, "-sS", "--unix-socket"];
      const url = "http://parityd/v1/arrays/a";
      for (const words of [
        [...curl, daemon.apiSocket, url],
        [...curl, daemon.apiSocket, "-X", "DELETE", url],
        [...curl, nbdSocket, url],
        ["cat", state],
      ]) {
        const outcome = await asOther(words);
        expect({ words, code: outcome.exitCode === 0, out: outcome.stdout }).toEqual({
          ...{ words, code: false, out: "" },
        });
      }
      // The same words of ours arrive.
      expect((await runProgram([...curl, daemon.apiSocket, url])).stdout).toContain('"name":"a"');
      expect(await daemon.stop()).toBe(0);
    },
  );

  test(`api: silent clients beyond count over both transports: a verb is answered ${NEEDS}`, async () => {
    const folder = makeTempDir("crowd");
    // So that each listener has 128 places.
    const before = [toolPath("prlimit")!, "--nofile=1024:1024"];
    const daemon = await Daemon.start(folder, { before, flags: ["--api-tcp", "localhost:0"] });
    const silent: Socket[] = [];
    for (let count = 0; count < 300; count += 1) {
      const socket = connect(daemon.apiSocket);
      socket.on("error", () => {});
      silent.push(socket);
    }
    const fds = (): number =>
      Bun.spawnSync(["ls", `/proc/${daemon.child.pid}/fd`])
        .stdout.toString()
        .split("\n").length;
    const status = await runVerb(["status", "--run-dir", join(folder, "run")]);
    expect(status.exitCode).toBe(0);
    expect(fds()).toBeLessThan(200);
    for (const socket of silent) socket.destroy();
    expect(await daemon.stop()).toBe(0);
  });

  test(`nbd: more clients than 256 descriptors: the API and a verb are answered all the same ${NEEDS}`, async () => {
    const folder = makeTempDir("few");
    const before = [toolPath("prlimit")!, "--nofile=256:256"];
    const daemon = await Daemon.start(folder, { before });
    const drives = await daemon.addDrives(makeFiles(folder, 3, 16 * MIB));
    await daemon.must("POST", "/v1/arrays", { name: "a", drives });
    await daemon.must("PUT", "/v1/exports/a", { array: "a" });
    const clients: RawNbd[] = [];
    for (let count = 0; count < 400; count += 1) {
      const client = await RawNbd.greeted({ path: daemon.nbdSocket }).catch(() => null);
      if (client === null) break;
      clients.push(client);
      await client.go("a");
    }
    expect(clients.length).toBeGreaterThan(10);
    await daemon.must("GET", "/v1/arrays");
    const status = await runVerb(["status", "--run-dir", join(folder, "run")]);
    expect(status.exitCode).toBe(0);
    for (const client of clients) client.close();
    expect(await daemon.stop()).toBe(0);
  });

  test.skipIf(!needs("strace"))(
    "aio: no contexts left on the host: serve says which limit, and ends [needs libaio, direct-io, strace]",
    async () => {
      const words = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=io_setup:error=EAGAIN"];
      const { exitCode, stderr } = await runProgram([
        toolPath("strace")!,
        ...words,
        binaryPath(),
        ...serveWords(makeTempDir("aio")),
      ]);
      expect([exitCode === 0, stderr]).toEqual([false, expect.stringContaining("fs.aio-max-nr")]);
    },
  );

  test(`verbs: a daemon that is stopped (SIGSTOP): 4 and 69 in time ${NEEDS}`, async () => {
    const folder = makeTempDir("stuck");
    const daemon = await Daemon.start(folder);
    daemon.child.kill("SIGSTOP");
    const words = ["--timeout", "0.3", "--run-dir", join(folder, "run")];
    const check = await runVerb(["status", "--check", ...words]);
    expect([check.exitCode, check.stdout]).toEqual([4, ""]);
    expect(check.stderr).toContain("has not answered");
    expect((await runVerb(["array", "stop", "a", ...words])).exitCode).toBe(69);
    daemon.child.kill("SIGCONT");
    expect(await daemon.stop()).toBe(0);
  });

  test(`api.sock: a file that is no socket: refused at the start, left alone ${NEEDS}`, async () => {
    const folder = makeTempDir("file");
    mkdirSync(join(folder, "run"));
    writeFileSync(join(folder, "run", "api.sock"), "a letter");
    const { exitCode, stderr } = await runVerb(serveWords(folder));
    expect(exitCode).toBe(69);
    expect(stderr).toContain("is no socket");
    expect(readFileSync(join(folder, "run", "api.sock"), "utf8")).toBe("a letter");
  });

  test(`tokens: a file that others may write: refused at the start ${NEEDS}`, async () => {
    const folder = makeTempDir("tok");
    const path = join(folder, "state", "api-token");
    mkdirSync(join(folder, "state"));
    writeFileSync(path, "admin 0123456789abcdef0\n");
    chmodSync(path, 0o666);
    const words = [...serveWords(folder), "--api-tcp", "127.0.0.1:0"];
    const { exitCode, stderr } = await runVerb(words);
    expect([exitCode, stderr.includes("mode 0666")]).toEqual([78, true]);
  });
});

test("serve: a run directory that no socket fits in: 78 and the limit", async () => {
  const words = ["serve", "--run-dir", `/tmp/${"r".repeat(120)}`];
  const { exitCode, stderr } = await runVerb(words);
  expect(exitCode).toBe(78);
  expect(stderr).toMatch(/^parityd: runDir: a socket path holds at most 107 bytes[^\n]*\n$/);
});

test("host: no executable memory: 69 and what to look for; verbs that need none work", async () => {
  const environment = { BUN_JSC_useJIT: "0" };
  for (const words of [serveWords(makeTempDir("jit")), ["examine", "/dev/null"]]) {
    const { exitCode, stderr } = await runVerb(words, { environment });
    expect(exitCode).toBe(69);
    expect(stderr).toMatch(
      /^parityd: [^\n]*executable memory[^\n]*MemoryDenyWriteExecute[^\n]*\n$/,
    );
  }
  expect(await runVerb(["--version"], { environment })).toMatchObject({ exitCode: 0, stderr: "" });
});
