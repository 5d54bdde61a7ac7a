/**
 * Goal: the configuration can be checked and shown without a daemon, and each command finds the
 * daemon where flag, environment and file say, in this order.
 * Method: the verbs on files of their own; a state.db as the daemon writes it.
 */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defaultConfig, loadConfig, parseConfig } from "../../../src/appliance/config.ts";
import { keptArrayLabel } from "../../../src/appliance/state/kept-array.ts";
import { SqliteStateFile } from "../../../src/appliance/state/state-file.ts";
import { DEFAULT_TUNING } from "../../../src/array/registry.ts";
import { RUN_DIR_VARIABLE, runDirOf } from "../../../src/cli/run-dir.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { makeTempDir } from "../../helpers/temp.ts";

function fileOf(text: string): string {
  const path = join(makeTempDir("cfg"), "c.toml");
  writeFileSync(path, text);
  return path;
}

test("config check: a file that can be used, one that cannot, certificates that are not there", async () => {
  const good = fileOf("memoryMib = 128\n");
  expect(await runCli(`config check ${good}`)).toMatchObject({ exitCode: 0, stderr: "" });
  expect((await runCli(`config check --config ${good}`)).exitCode).toBe(0);
  const tls =
    'nbdTcp = "::1"\nnbdTls = "required"\nnbdTlsCert = "/none/c"\nnbdTlsKey = "/none/k"\n';
  for (const [text, word] of [
    ["memoryMib = 1\n", "memoryMib"],
    ["colour = 1\n", 'unknown key "colour"'],
    ['[[webhook]]\nurl = "http://x/"\nonEvent = "/x"\n', '"onEvent": it belongs above all tables'],
    ["this is none", "not TOML"],
    [tls, "/none/c"],
  ] as const) {
    const { exitCode, stdout, stderr } = await runCli(`config check ${fileOf(text)}`);
    expect([exitCode, stdout]).toEqual([78, ""]);
    expect(stderr).toContain(word);
  }
  expect((await runCli(`config check ${good} ${good}`)).exitCode).toBe(64);
});

test("config check: no TOML: the line and the column", async () => {
  for (const [text, place] of [
    ["memoryMib = 128\nlogLevel = warn\n# more\n", "line 2, column 12"],
    ["memoryMib = 128\nmemoryMib = 129\n[[webhook]]\n", "line 2, column "],
    ["# of two lines\nmemoryMib = \nlogLevel = 'info'\n", "line 2, column 13"],
    ["apiHosts = [\n  'a',\n]\n[[webhook]\nurl = 'x'\n", "line 4, column 1"],
    ["memoryMib = 64 65\n", "line 1, column 16"],
    ['\n\nrunDir = "/run/x\nmemoryMib = 64\n', "line 3, column "],
    ["\napiHosts = ['a'\n", "line 2, column "],
  ] as const) {
    const { exitCode, stderr } = await runCli(`config check ${fileOf(text)}`);
    expect([text, exitCode, stderr]).toEqual([
      ...[text, 78, expect.stringContaining(`not TOML: ${place}`)],
    ]);
    expect(stderr).not.toContain("\n");
  }
});

test("config check: a key or table that is none: the one that was meant", async () => {
  for (const [text, says] of [
    ["memory_mib = 128", 'unknown key "memory_mib": did you mean memoryMib?'],
    ["degradedStartSecond = 1", "did you mean degradedStartSeconds?"],
    ["logLevle = 'info'", "did you mean logLevel?"],
    ["[[webhok]]\nurl = 'http://x/'", 'unknown table "webhok": did you mean [[webhook]]?'],
    ["[nbd]\ntls = 'required'", 'unknown table "nbd": the only tables are [[webhook]]'],
    ["[webhook]\nurl = 'http://x/'", "webhook: each is a table of a list, which begins with [["],
    ["[[webhook]]\nurl = 'http://x/'\nsecret_file = 'x'", "did you mean secretFile?"],
    ["[[webhook]]\nurl = 'http://x/'\nheaders = { a = { fil = 'x' } }", "webhook.1.headers.a: "],
  ] as const) {
    const { exitCode, stderr } = await runCli(`config check ${fileOf(text)}`);
    expect([text, exitCode, stderr]).toEqual([text, 78, expect.stringContaining(says)]);
  }
  const { stderr } = await runCli(`config check ${fileOf("colour = 1")}`);
  expect(stderr).toEndWith('unknown key "colour"');
});

test("config check: all that is wrong is said at once", async () => {
  const values = "memoryMib = 1\ncolour = 1\nlogLevle = 'info'\nstopSeconds = 0\n";
  const { stderr } = await runCli(`config check ${fileOf(values)}`);
  for (const key of ["memoryMib", "colour", "logLevle", "stopSeconds"])
    expect(stderr).toContain(key);
  const secret = '[[webhook]]\nurl = "http://x/"\nsecretFile = "/none/s"\n';
  const tls = (face: string): string =>
    [
      `${face}Tcp = "127.0.0.1:1"\n${face}Tls = "required"\n`,
      `${face}TlsCert = "/none/${face}"\n${face}TlsKey = "/none/k"\n`,
    ].join("");
  const files = await runCli(`config check ${fileOf(tls("nbd") + tls("api") + secret)}`);
  expect(files.exitCode).toBe(78);
  for (const path of ["/none/nbd", "/none/api", "/none/s"]) expect(files.stderr).toContain(path);
});

test("config show: TOML that can be read again, JSON, the defaults", async () => {
  const words = `--config ${fileOf('runDir = "/run/x"\n')} --nbd-tcp [::1]:1 --memory-mib 99`;
  const { stdout } = await runCli(`config show ${words}`);
  const answer = JSON.parse((await runCli(`config show --json ${words}`)).stdout);
  const { schema, ...json } = answer;
  expect(schema).toBe("parityd.config/1");
  expect(json).toMatchObject({ runDir: "/run/x", memoryMib: 99, nbdTcp: { host: "::1", port: 1 } });
  expect(parseConfig(stdout, {})).toEqual({ ok: true, value: json });
  const defaults = await runCli("config show --defaults");
  expect(parseConfig(defaults.stdout, {})).toEqual({ ok: true, value: defaultConfig() });
  expect(defaults.stdout).toContain("#memoryMib = 256");
  expect(JSON.parse((await runCli("config show --defaults --json")).stdout)).toEqual({
    schema,
    ...defaultConfig(),
  });
  expect((await runCli(`config show --defaults ${words}`)).exitCode).toBe(64);
});

test("config: what the flags have wrong is not said of the file", () => {
  const path = fileOf("memoryMib = 128\n");
  expect(loadConfig(path, { memoryMib: 1 })).toMatchObject({
    ok: false,
    error: expect.not.stringContaining(path),
  });
});

test("run directory: flag, environment, file, default; a file that is broken says nothing", () => {
  const configPath = fileOf('runDir = "/run/file"\nunknownKey = 1\n');
  const environment = { [RUN_DIR_VARIABLE]: "/run/env" };
  expect(runDirOf("/run/flag", { environment, configPath })).toBe("/run/flag");
  expect(runDirOf(undefined, { environment, configPath })).toBe("/run/env");
  expect(runDirOf(undefined, { environment: {}, configPath })).toBe("/run/file");
  for (const path of ["/none/such", fileOf("runDir = "), fileOf("runDir = 7\n"), fileOf("\n")]) {
    expect(runDirOf(undefined, { environment: {}, configPath: path })).toBe("/run/parityd");
  }
});

test("PARITYD_RUN_DIR: for the commands, and for serve over its file", async () => {
  process.env[RUN_DIR_VARIABLE] = "/run/env";
  try {
    const asked: string[] = [];
    const send = async (path: string): Promise<Response> => {
      asked.push(path);
      throw new Error("nobody");
    };
    await runCli("drive list", { overrides: { send } });
    await runCli("drive list --run-dir /run/flag", { overrides: { send } });
    expect(asked).toEqual(["/run/env/api.sock", "/run/flag/api.sock"]);
    const words = `--json --config ${fileOf('runDir = "/run/file"\n')}`;
    const shown = JSON.parse((await runCli(`config show ${words}`)).stdout);
    expect(shown.runDir).toBe("/run/env");
  } finally {
    delete process.env[RUN_DIR_VARIABLE];
  }
});

test("keeps: an array that is known here, one that was deleted, one that nobody knows", async () => {
  const folder = makeTempDir("keep");
  mkdirSync(join(folder, "state"));
  const path = join(folder, "state", "state.db");
  const file = new SqliteStateFile({ path, scratch: folder });
  file.load();
  const known = "00010203:04050607:08090a0b:0c0d0e0f";
  const deleted = "10010203:04050607:08090a0b:0c0d0e0f";
  const settings = DEFAULT_TUNING;
  for (const [uuid, standing] of [
    [known, "known"],
    [deleted, "deleted"],
  ] as const) {
    const array = { uuid, label: "tank", standing, settings, seen: null };
    expect(file.write([{ kind: "put-array", array }])).toMatchObject({ ok: true });
  }
  // As udev has it of blkid, while the daemon has the file open.
  expect(keptArrayLabel(path, "00010203-0405-0607-0809-0a0b0c0d0e0f")).toBe("tank");
  for (const uuid of [deleted, "20010203:04050607:08090a0b:0c0d0e0f", "no uuid"]) {
    expect([uuid, keptArrayLabel(path, uuid)]).toEqual([uuid, null]);
  }
  expect(keptArrayLabel(join(folder, "none.db"), known)).toBeNull();
  const words = `--config /dev/null --state-dir ${folder}/state`;
  const told = await runCli(`keeps ${known} ${words}`);
  expect(told).toMatchObject({ exitCode: 0, stdout: "PARITYD_ARRAY=tank" });
  expect(await runCli(`keeps ${deleted} ${words}`)).toMatchObject({ exitCode: 1, stdout: "" });
  file.close();
  expect(keptArrayLabel(path, known)).toBe("tank");
  writeFileSync(path, "no database");
  expect(keptArrayLabel(path, known)).toBeNull();
});

test("config check: a runDir that no socket fits in: refused with its length, wherever it is said", async () => {
  const runDir = `/${"r".repeat(99)}`;
  const says = `a socket path holds at most 107 bytes, and ${runDir}/api.sock has 109: take another`;
  const file = fileOf(`runDir = "${runDir}"\n`);
  for (const [words, where] of [
    [file, `${file}: `],
    [`--config ${file}`, `${file}: `],
    [`--run-dir ${runDir}`, ""],
  ] as const) {
    const ran = await runCli(`config check ${words}`);
    expect(ran).toMatchObject({ exitCode: 78, stdout: "" });
    expect(ran.stderr).toBe(`parityd: ${where}runDir: ${says}`);
  }
});
