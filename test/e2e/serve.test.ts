/**
 * Goal: the executable does what a user with `curl` asks of it, comes back after a stop and after
 * a crash with all that it knew, and depends on nothing of the folder that it is started in.
 *
 * Method: `parityd serve` over files in a temporary folder; every call of the story is a plain
 * `curl --unix-socket`; data goes over NBD with the project's own client.
 */
import { expect, test } from "bun:test";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client.ts";
import {
  binaryPath,
  Daemon,
  makeFile,
  makeFiles,
  mustRun,
  runProgram,
  runVerb,
  serveWords,
  sha256,
  tryConnectNbd,
} from "../helpers/daemon.ts";
import { needs, SYSTEM_PYTHON, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const HAS_CURL = CAN_RUN && toolPath("curl") !== undefined;
const HAS_PYTHON = CAN_RUN && existsSync(SYSTEM_PYTHON);
const MEMBER_BYTES = 24 * MIB;

/** One call as a user makes it. `words` are further arguments of curl. */
async function curl(daemon: Daemon, path: string, words: readonly string[] = []) {
  const stdout = await mustRun([
    ...[toolPath("curl")!, "-sS", "--unix-socket", daemon.apiSocket, "-D", "-"],
    ...["-w", "\n%{http_code}", ...words, `http://localhost${path}`],
  ]);
  const [head = "", ...rest] = stdout.split("\r\n\r\n");
  const text = rest.join("\r\n\r\n");
  const end = text.lastIndexOf("\n");
  const body = text.slice(0, end);
  return {
    status: Number(text.slice(end + 1)),
    head: head.toLowerCase(),
    body: body.startsWith("{") || body.startsWith("[") ? JSON.parse(body) : body,
  };
}

function post(body: object, method = "POST"): string[] {
  return ["-X", method, "-H", "Content-Type: application/json", "-d", JSON.stringify(body)];
}

function randomBytes(seed: number, bytes: number): Uint8Array {
  const data = new Uint8Array(bytes);
  fillRandom(new SeededRandom(seed), data);
  return data;
}

async function mustWrite(client: NbdClient, offset: number, data: Uint8Array): Promise<void> {
  expect(await client.write(offset, data)).toEqual({ ok: true, value: undefined });
  expect(await client.flush()).toEqual({ ok: true, value: undefined });
}

async function expectData(client: NbdClient, offset: number, data: Uint8Array): Promise<void> {
  const read = await client.read(offset, data.length);
  expect(read.ok && Buffer.compare(read.value, data)).toBe(0);
}

/** Changes bytes of a file behind the daemon's back. */
function corrupt(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, offset);
  fsyncSync(file);
  closeSync(file);
}

test.skipIf(!HAS_CURL)(
  "serve: drives, array, export, loss, rebuild, scrub, events by curl [needs libaio, direct-io, curl]",
  async () => {
    const folder = makeTempDir("story");
    const daemon = await Daemon.start(folder, { flags: ["--allow-fault-injection"] });
    const files = makeFiles(folder, 4, MEMBER_BYTES);
    for (const [index, path] of files.entries()) {
      const added = await curl(daemon, "/v1/drives", post({ name: `drive${index}`, path }));
      expect(added).toMatchObject({ status: 201, body: { state: "available" } });
      expect(added.head).toContain(`location: /v1/drives/drive${index}`);
    }
    const drives = ["drive0", "drive1", "drive2"];
    const created = await curl(
      daemon,
      "/v1/arrays",
      post({ name: "raid_test", drives, chunkKiB: 64, consistencyPolicy: "resync" }),
    );
    expect(created).toMatchObject({ status: 201, body: { level: "raid5", degraded: 0 } });
    expect(created.head).toContain("etag:");
    expect((await curl(daemon, "/v1/drives/drive2")).body.member).toEqual({
      array: "raid_test",
      role: 2,
    });
    const wanted = post({ array: "raid_test" }, "PUT");
    expect((await curl(daemon, "/v1/exports/raid_test", wanted)).status).toBe(201);
    const exported = await curl(daemon, "/v1/exports/raid_test", wanted);
    expect(exported.status).toBe(200);
    expect(exported.body.uris).toEqual([daemon.uri("raid_test")]);

    const data = randomBytes(1, 3 * MIB + 512);
    const client = await daemon.connect("raid_test");
    expect(client.sizeBytes).toBe(created.body.sizeBytes);
    await mustWrite(client, 4 * KIB + 512, data);
    await daemon.settle("raid_test");

    // A bad sector: the reader gets its bytes all the same.
    const fault = { drive: "drive0", op: "read", errno: "EIO", untilWritten: true };
    const range = { offset: MIB, bytes: MIB };
    const injected = await curl(daemon, "/v1/faults", post({ ...fault, ...range }));
    expect(injected.status).toBe(201);
    await expectData(client, 4 * KIB + 512, data);
    const faults = await curl(daemon, "/v1/faults");
    expect(faults.body[0]).toMatchObject({ drive: "drive0", errno: "EIO" });
    expect(faults.body[0].injected).toBeGreaterThan(0);
    expect((await curl(daemon, "/v1/faults", ["-X", "DELETE"])).status).toBe(204);

    // A drive that takes no writes any more: the array goes on without it.
    const dead = { drive: "drive1", op: "any", errno: "ENXIO" };
    expect((await curl(daemon, "/v1/faults", post(dead))).status).toBe(201);
    const more = randomBytes(2, MIB);
    await mustWrite(client, 8 * MIB, more);
    const degraded = await curl(daemon, "/v1/arrays/raid_test");
    expect(degraded.body).toMatchObject({ state: "degraded", degraded: 1 });
    expect(degraded.body.members[1].state).toBe("faulty");
    await expectData(client, 4 * KIB + 512, data);
    await expectData(client, 8 * MIB, more);
    expect((await curl(daemon, "/v1/drives/drive1")).body.state).toBe("faulty");
    const removed = await curl(daemon, "/v1/arrays/raid_test/members/drive1", ["-X", "DELETE"]);
    expect(removed.status).toBe(204);

    const adding = await curl(daemon, "/v1/arrays/raid_test/members", post({ drive: "drive3" }));
    expect(adding).toMatchObject({ status: 202, body: { kind: "rebuild" } });
    const job = /location: (\S+)/.exec(adding.head)?.[1];
    expect(job).toBe(`/v1/jobs/${adding.body.id}`);
    const rebuilt = await curl(daemon, `${job}?wait=60`);
    expect(rebuilt).toMatchObject({ status: 200, body: { state: "done", error: null } });
    const whole = await curl(daemon, "/v1/arrays/raid_test");
    expect(whole.body.degraded).toBe(0);
    expect(whole.body.members[1]).toMatchObject({ drive: "drive3", state: "in-sync" });

    // Silent corruption: a check finds it and changes nothing, a repair makes parity fit.
    const examined = await runVerb(["examine", "--json", files[3]!]);
    const dataOffset = JSON.parse(examined.stdout).dataOffsetSectors * 512;
    expect(dataOffset).toBeGreaterThan(0);
    await daemon.calmDown("raid_test");
    corrupt(files[3]!, dataOffset + 5 * MIB, randomBytes(3, 4 * KIB));
    const before = sha256(files[3]!);
    const scrub = "/v1/arrays/raid_test/scrub?wait=60";
    const checked = await curl(daemon, scrub, post({ mode: "check" }));
    expect(checked).toMatchObject({ status: 200, body: { state: "done" } });
    expect(checked.body.result.mismatchBytes).toBe(4 * KIB);
    expect((await curl(daemon, "/v1/arrays/raid_test")).body.mismatchBytes).toBe(4 * KIB);
    expect(sha256(files[3]!)).toBe(before);
    const repaired = await curl(daemon, scrub, post({ mode: "repair" }));
    expect(repaired).toMatchObject({ status: 200, body: { state: "done" } });
    const again = await curl(daemon, scrub, post({ mode: "check" }));
    expect(again.body.result.mismatchBytes).toBe(0);
    expect((await curl(daemon, "/v1/arrays/raid_test")).body.lastScrub.mode).toBe("check");

    const listed = await curl(daemon, "/v1/events?since=0", ["-H", "Accept: application/json"]);
    const kinds = listed.body.map(({ kind }: { kind: string }) => kind);
    expect(kinds).toContain("array.created");
    for (const kind of ["member.failed", "array.degraded", "rebuild.finished", "scrub.finished"]) {
      expect(kinds).toContain(kind);
    }
    const stream = await runProgram([
      ...[toolPath("curl")!, "-sSN", "--max-time", "1", "--unix-socket", daemon.apiSocket],
      "http://localhost/v1/events?since=0",
    ]);
    expect(stream.exitCode).toBe(28); // It never ends by itself.
    expect(stream.stdout).toContain("event: array.created\n");
    expect(stream.stdout).toMatch(/id: \d+\nevent: rebuild.finished\ndata: \{/);
    const metrics = await curl(daemon, "/metrics");
    expect(metrics.body).toContain('parityd_array_degraded{array="raid_test"} 0');

    await client.disconnect();
    expect(await daemon.stop()).toBe(0);
    expect(daemon.stdout).toBe(`ready api=${daemon.apiSocket} nbd=${daemon.nbdSocket}\n`);
  },
  60_000,
);

test.skipIf(!CAN_RUN)(
  "serve: the sockets: 0660, and gone or replaced after a stop [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("mode");
    const first = await Daemon.start(folder);
    for (const path of [first.apiSocket, first.nbdSocket]) {
      expect((statSync(path).mode & 0o7777).toString(8)).toBe("660");
    }
    expect(statSync(join(folder, "state")).mode & 0o007).toBe(0);
    await first.kill();
    const second = await Daemon.start(folder);
    expect((await second.call("GET", "/-/ready")).status).toBe(200);
    expect(await second.stop()).toBe(0);
    expect(existsSync(second.apiSocket)).toBe(false);
  },
);

const STOPS = { SIGTERM: true, SIGKILL: false } as const;

test.skipIf(!CAN_RUN).each(Object.entries(STOPS))(
  "serve: restarted after %s: drives, exports, whole and degraded arrays are back [needs libaio, direct-io]",
  async (_, isClean) => {
    const folder = makeTempDir("again");
    const files = makeFiles(folder, 7, MEMBER_BYTES);
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files);
    const whole = { name: "whole", drives: drives.slice(0, 3), chunkKiB: 16 };
    const degraded = { name: "degraded", drives: drives.slice(3, 7), chunkKiB: 256 };
    for (const body of [whole, degraded]) await daemon.must("POST", "/v1/arrays", body);
    await daemon.must("PUT", "/v1/exports/one", { array: "whole" });
    await daemon.must("PUT", "/v1/exports/two", { array: "whole", readOnly: true });
    await daemon.must("PUT", "/v1/exports/three", { array: "degraded" });
    await daemon.must("PATCH", "/v1/arrays/whole", { readDeadlineMs: 1234 });
    const contents = [randomBytes(1, MIB), randomBytes(2, MIB)] as const;
    for (const [index, name] of ["one", "three"].entries()) {
      const client = await daemon.connect(name);
      await mustWrite(client, 700 * KIB, contents[index]!);
      await client.disconnect();
    }
    await daemon.must("POST", "/v1/arrays/degraded/members/drive4/fail", {});
    // A crash while it is dirty and degraded would need force: let it be marked clean.
    for (const name of ["whole", "degraded"]) await daemon.calmDown(name);
    const member = (await daemon.must("GET", "/v1/arrays/degraded")).members[1];
    expect(member).toMatchObject({ drive: "drive4", state: "faulty" });
    const jobs = await daemon.must("GET", "/v1/jobs");
    if (isClean) expect(await daemon.stop()).toBe(0);
    else await daemon.kill();

    daemon = await Daemon.start(folder);
    const names = (await daemon.must("GET", "/v1/drives")).map((d: { name: string }) => d.name);
    expect(names).toEqual(drives);
    const arrays = await daemon.must("GET", "/v1/arrays");
    const states = Object.fromEntries(
      arrays.map((array: { name: string; degraded: number }) => [array.name, array.degraded]),
    );
    expect(states).toEqual({ whole: 0, degraded: 1 });
    expect((await daemon.must("GET", "/v1/arrays/whole")).readDeadlineMs).toBe(1234);
    const exports = await daemon.must("GET", "/v1/exports");
    expect(exports).toMatchObject([
      { name: "one", array: "whole", readOnly: false, uris: [daemon.uri("one")] },
      { name: "three", array: "degraded", readOnly: false, uris: [daemon.uri("three")] },
      { name: "two", array: "whole", readOnly: true, uris: [daemon.uri("two")] },
    ]);
    for (const [index, name] of ["two", "three"].entries()) {
      const client = await daemon.connect(name);
      await expectData(client, 700 * KIB, contents[index]!);
      await client.disconnect();
    }
    const old = jobs.map(({ id }: { id: number }) => id);
    const back = await daemon.must("GET", "/v1/jobs");
    expect(back.map(({ id }: { id: number }) => id)).toEqual(expect.arrayContaining(old));
    const rebuilt = await daemon.must("POST", "/v1/arrays/degraded/members?wait=60", {
      drive: "drive4",
    });
    expect(rebuilt.state).toBe("done");
    expect(old).not.toContain(rebuilt.id);
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "serve: a drive that is gone at the restart: shown as missing, its array waits for a word [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("gone");
    const files = makeFiles(folder, 3, MEMBER_BYTES);
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files.slice(0, 2));
    const elsewhere = join(folder, "elsewhere.img");
    makeFile(elsewhere, MEMBER_BYTES);
    await daemon.must("POST", "/v1/drives", { name: "drive9", path: elsewhere });
    await daemon.must("POST", "/v1/arrays", { name: "a", drives: [...drives, "drive9"] });
    await daemon.must("PUT", "/v1/exports/a", { array: "a" });
    await daemon.settle("a");
    expect(await daemon.stop()).toBe(0);
    mkdirSync(join(folder, "away"));
    await mustRun(["mv", elsewhere, join(folder, "away")]);

    daemon = await Daemon.start(folder);
    expect((await daemon.must("GET", "/v1/drives/drive9")).state).toBe("missing");
    const waiting = await daemon.must("GET", "/v1/arrays/a");
    expect(waiting.state).toBe("inactive");
    expect(waiting.reason).toContain("start the array to run degraded");
    expect(await daemon.must("GET", "/v1/exports")).toMatchObject([{ name: "a", array: "a" }]);
    const early = await tryConnectNbd(daemon.nbdSocket, "a");
    expect(early).toMatchObject({ ok: false, error: { kind: "refused" } });
    const started = await daemon.must("POST", "/v1/arrays/a/start", {});
    expect(started).toMatchObject({ state: "degraded", degraded: 1 });
    const client = await daemon.connect("a");
    await mustWrite(client, 0, randomBytes(5, MIB));
    await client.disconnect();
    expect(await daemon.stop()).toBe(0);
  },
);

// The host ----------------------------------------------------------------------------------------

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

/** Receives one datagram, or says "nothing" after two seconds. */
const LISTENER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
s.settimeout(2)
try: print(s.recv(4096).decode())
except TimeoutError: print("nothing")
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
    const listener = Bun.spawn([SYSTEM_PYTHON, "-c", LISTENER, notifySocket], { stdout: "pipe" });
    while (!existsSync(notifySocket)) await Bun.sleep(5);
    const words = serveWords(folder).map((word) => `'${word}'`);
    const script = `cd '${folder}' && exec '${program}' ${words.join(" ")}`;
    const settings = isReal ? [`NOTIFY_SOCKET=${notifySocket}`] : [];
    const child = Bun.spawn(["env", "-i", ...settings, "/bin/sh", "-c", script], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const heard = await listener.stdout.text();
    child.kill("SIGTERM");
    const [stdout, stderr, exitCode] = await Promise.all([
      child.stdout.text(),
      child.stderr.text(),
      child.exited,
    ]);
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stdout).toStartWith("ready api=");
    expect(heard).toStartWith(isReal ? "bound\nREADY=1" : "bound\nnothing");
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
      const second = await runVerb(["serve", ...words]);
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
