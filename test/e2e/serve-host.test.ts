/**
 * Goal: the daemon depends on nothing of the folder that it is started in and on no sources, keeps
 * others out of its directories, and ends with the right exit code and one line where it cannot
 * run.
 *
 * Method: the executable alone in a folder, started with an empty environment among files that
 * such programs tend to obey; then every way of a wrong start.
 */
import { expect, test } from "bun:test";
import { copyFileSync, existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { binaryPath, Daemon, makeFiles, runVerb, serveWords } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs, SYSTEM_PYTHON } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const CAN_RUN = needs("libaio", "direct-io");
const HAS_PYTHON = CAN_RUN && existsSync(SYSTEM_PYTHON);
const MEMBER_BYTES = 24 * MIB;

/** Files that a program built with the runtime's defaults would obey. */
function plantHostileFiles(folder: string, notifySocket: string): string {
  const proof = join(folder, "obeyed");
  writeFileSync(join(folder, ".env"), `NOTIFY_SOCKET=${notifySocket}\nBUN_OPTIONS=--version\n`);
  writeFileSync(join(folder, ".env.production"), `NOTIFY_SOCKET=${notifySocket}\n`);
  writeFileSync(join(folder, "bunfig.toml"), 'preload = ["./evil.ts"]\n[run]\npreload = 1\n');
  const write = `require("node:fs").writeFileSync(${JSON.stringify(proof)}, "yes");\n`;
  writeFileSync(join(folder, "evil.ts"), write);
  writeFileSync(join(folder, "tsconfig.json"), "{ this is no JSON");
  writeFileSync(join(folder, "package.json"), '{ "type": "commonjs", "imports": 7, broken');
  return proof;
}

/** Prints datagrams up to the one that says READY=1; "nothing" when its input ends without one. */
const LISTENER = `
import select, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
heard = ""
while "READY=1" not in heard and s in select.select([s, sys.stdin], [], [])[0]:
    heard = s.recv(4096).decode()
    print(heard)
if not heard: print("nothing")
`;

test.skipIf(!HAS_PYTHON).each([
  ["in its environment", true],
  ["in files of its working directory", false],
] as const)(
  "serve: settings %s: only a real environment counts [needs libaio, direct-io, python3]",
  async (_, isReal) => {
    const folder = makeTempDir("host");
    const alone = makeTempDir("bin");
    // Away from its sources.
    const program = join(alone, "parityd");
    copyFileSync(binaryPath(), program);
    expect(readdirSync(alone)).toEqual(["parityd"]);
    const notifySocket = join(folder, "notify.sock");
    const proof = plantHostileFiles(folder, notifySocket);
    const listener = Bun.spawn([SYSTEM_PYTHON, "-c", LISTENER, notifySocket], {
      stdin: "pipe",
      stdout: "pipe",
    });
    await until("the listener is there", () => existsSync(notifySocket));
    const words = serveWords(folder).map((word) => `'${word}'`);
    const script = `cd '${folder}' && exec '${program}' ${words.join(" ")}`;
    const settings = isReal ? [`NOTIFY_SOCKET=${notifySocket}`] : [];
    const child = Bun.spawn(["env", "-i", ...settings, "/bin/sh", "-c", script], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const errors = child.stderr.text();
    const decoder = new TextDecoder();
    let stdout = "";
    for await (const chunk of child.stdout) {
      stdout += decoder.decode(chunk, { stream: true });
      if (stdout.endsWith("\n")) child.kill("SIGTERM");
    }
    const [stderr, exitCode] = await Promise.all([errors, child.exited]);
    await listener.stdin.end();
    const heard = await listener.stdout.text();
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stdout).toStartWith("ready api=");
    expect(heard).toMatch(isReal ? /^bound\nSTATUS=[\s\S]*READY=1/ : /^bound\nnothing\n$/);
    expect(existsSync(proof)).toBe(false);
  },
);

test.skipIf(!CAN_RUN)(
  "serve: from the root folder with an empty environment: array and export work [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("root");
    const files = makeFiles(folder, 3, MEMBER_BYTES);
    const daemon = await Daemon.start(folder, { cwd: "/", environment: {} });
    const drives = await daemon.addDrives(files);
    await daemon.must("POST", "/v1/arrays", { name: "a", drives });
    await daemon.must("PUT", "/v1/exports/a", { array: "a" });
    const client = await daemon.connect("a");
    await mustWrite(client, 12_345, randomBytes(4, 100_000));
    await expectData(client, 12_345, randomBytes(4, 100_000));
    await client.disconnect();
    const status = await runVerb(["status", "--run-dir", join(folder, "run")], { cwd: "/" });
    expect(status).toMatchObject({ exitCode: 0 });
    expect(status.stdout).toContain("array: a");
    expect(await daemon.stop()).toBe(0);
    expect(readdirSync(folder).sort()).toEqual([
      ...["member0.img", "member1.img", "member2.img", "run", "state"],
    ]);
  },
);

test.skipIf(!CAN_RUN)(
  "serve: relative directories: what it says of its sockets holds anywhere [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("rel");
    const flags = ["--state-dir", "state", "--run-dir", "run"];
    const daemon = await Daemon.start(folder, { cwd: folder, flags });
    expect(daemon.stdout).toBe(`ready api=${daemon.apiSocket} nbd=${daemon.nbdSocket}\n`);
    const drives = await daemon.addDrives(makeFiles(folder, 3, MEMBER_BYTES));
    await daemon.must("POST", "/v1/arrays", { name: "a", drives });
    const { uris } = await daemon.must("PUT", "/v1/exports/a", { array: "a" });
    expect(uris).toEqual([daemon.uri("a")]);
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "serve: directories that another daemon has: one line, exit 69 [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("two");
    const first = await Daemon.start(folder);
    const other = makeTempDir("oth");
    const mine = (name: string) => join(folder, name);
    for (const words of [
      ["--state-dir", mine("state"), "--run-dir", mine("run")],
      ["--state-dir", join(other, "state"), "--run-dir", mine("run")],
      ["--state-dir", mine("state"), "--run-dir", join(other, "run")],
    ]) {
      const second = await runVerb(["serve", "--config", "/dev/null", ...words]);
      expect(second).toMatchObject({ exitCode: 69, stdout: "" });
      expect(second.stderr).toMatch(/^[^\n]*in use by another parityd[^\n]*\n$/);
    }
    expect((await first.call("GET", "/-/ready")).status).toBe(200);
    expect(await first.stop()).toBe(0);
  },
);

test("serve: a bad configuration: exit 78 and a line that names the fault", async () => {
  const folder = makeTempDir("conf");
  const cases: [string, string][] = [
    ["memoryMib = 1", "memoryMib"],
    ["memoryMib = 'much'", "memoryMib"],
    ["colour = 'green'", "colour"],
    ["this is no TOML", "toml"],
  ];
  for (const [index, [text, word]] of cases.entries()) {
    const path = join(folder, `${index}.toml`);
    writeFileSync(path, `${text}\n`);
    const words = [...serveWords(folder).slice(0, 5), "--config", path];
    const { exitCode, stdout, stderr } = await runVerb(words);
    expect({ text, exitCode, stdout }).toEqual({ text, exitCode: 78, stdout: "" });
    expect(stderr.toLowerCase()).toContain(word.toLowerCase());
    expect(stderr).toEndWith("\n");
    expect(existsSync(join(folder, "state"))).toBe(false);
  }
  const missing = await runVerb(["serve", "--config", join(folder, "none.toml")]);
  expect(missing.exitCode).toBe(78);
  expect((await runVerb([...serveWords(folder), "--memory-mib", "7"])).exitCode).toBe(78);
});

test.skipIf(!CAN_RUN)(
  "serve: NBD for other hosts without TLS: a warning, and none on loopback [needs libaio, direct-io]",
  async () => {
    // An address that no host has: it is not listened on, which comes after the warning.
    const words = [...serveWords(makeTempDir("open")), "--nbd-tcp", "192.0.2.1:10809"];
    const { exitCode, stderr } = await runVerb(words);
    expect(exitCode).toBe(69);
    expect(stderr).toMatch(/level=warn .*NBD without TLS.* host=192\.0\.2\.1/);
    const daemon = await Daemon.start(makeTempDir("own"), { flags: ["--nbd-tcp", "127.0.0.1:0"] });
    expect(daemon.stderr).not.toContain("level=warn");
    expect(await daemon.stop()).toBe(0);
  },
);

test("serve: what nobody knows: exit 64 and a line on stderr", async () => {
  for (const words of [
    ["serve", "--frobnicate"],
    ["serve", "extra"],
    ["serve", "--memory-mib"],
    ["frobnicate"],
    ["array", "frobnicate"],
    [],
  ]) {
    const { exitCode, stdout, stderr } = await runVerb(words);
    expect({ words, exitCode, stdout }).toEqual({ words, exitCode: 64, stdout: "" });
    expect(stderr).toMatch(/^parityd: [^\n]+\n$/);
  }
});

test("serve: nobody serves there: client verbs end with 69", async () => {
  const folder = makeTempDir("none");
  const { exitCode, stderr } = await runVerb(["status", "--run-dir", folder]);
  expect(exitCode).toBe(69);
  expect(stderr).toMatch(/^parityd: [^\n]+\n$/);
});
